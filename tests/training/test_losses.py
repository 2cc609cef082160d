from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from xlsbc.models.network import Outputs
from xlsbc.training.losses import Labels, multitask_loss

NAN = math.nan


def outputs(lu: list[float], lc: list[float], lai: list[list[float]]) -> Outputs:
    """One pixel of two uses, three covers and its leaves; or as many leaves as there are rows."""
    leaves = torch.tensor([lai], requires_grad=True)
    return Outputs(column(lu), column(lc), leaves, leaves)


def column(shares: list[float]) -> Tensor:
    return torch.tensor(shares, requires_grad=True)[None, :, None]


@pytest.fixture
def predicted() -> Outputs:
    return outputs([0.5, 0.5], [0.25, 0.25, 0.5], [[1.0], [3.0]])


def test_land_is_scored_by_the_cross_entropy_of_soft_labels(predicted):
    labels = Labels(column([0.25, 0.75]), column([0.5, 0.0, 0.5]), None)
    losses = multitask_loss(predicted, labels, given=(), lai_variance=1.0)
    assert set(losses) == {"lu", "lc"}
    assert losses["lu"].item() == pytest.approx(math.log(2))
    assert losses["lc"].item() == pytest.approx(0.5 * math.log(4) + 0.5 * math.log(2))


def test_leaves_are_scored_by_their_squared_error_in_units_of_their_variance(predicted):
    labels = Labels(None, None, torch.tensor([[[2.0], [0.0]]]))
    losses = multitask_loss(predicted, labels, given=(), lai_variance=4.0)
    assert losses["lai"].item() == pytest.approx((1 + 9) / 2 / 4)


def test_what_is_unknown_is_neither_scored_nor_learned_from():
    predicted = outputs([0.5, 0.5], [0.2, 0.3, 0.5], [[1.0, 2.0], [3.0, 4.0]])
    labels = Labels(torch.tensor([[[0.25], [NAN]]]), None, torch.tensor([[[NAN, 2.5], [NAN, NAN]]]))
    losses = multitask_loss(predicted, labels, given=(), lai_variance=1.0)
    assert set(losses) == {"lai"}
    assert losses["lai"].item() == pytest.approx(0.25)
    losses["lai"].backward()
    assert predicted.lai.grad.tolist() == [[[0.0, -1.0], [0.0, 0.0]]]


def test_fractions_that_are_given_are_not_scored(predicted):
    labels = Labels(column([0.25, 0.75]), column([0.5, 0.0, 0.5]), torch.zeros(1, 2, 1))
    for given, scored in (
        (("lu_fraction",), {"lc", "lai"}),
        (("lc_fraction", "lu_fraction"), {"lai"}),
    ):
        assert set(multitask_loss(predicted, labels, given=given, lai_variance=1.0)) == scored


def test_nothing_known_is_no_loss(predicted):
    labels = Labels(None, torch.full((1, 3, 1), NAN), torch.full((1, 2, 1), NAN))
    assert multitask_loss(predicted, labels, given=(), lai_variance=1.0) == {}


def test_a_share_of_zero_where_one_was_is_a_large_but_finite_loss():
    predicted = outputs([1.0, 0.0], [1.0, 0.0, 0.0], [[0.0]])
    labels = Labels(column([0.0, 1.0]), None, None)
    loss = multitask_loss(predicted, labels, given=(), lai_variance=1.0)["lu"].item()
    assert 10 < loss < 20
