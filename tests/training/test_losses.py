from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError
from sklearn.metrics import log_loss
from torch import Tensor
from torch.nn import functional

from xlsbc.models.network import Inputs, Outputs
from xlsbc.training.batches import Batch
from xlsbc.training.losses import Labels, Loss, Scales, Weighting, multitask_loss, nothing

NAN = math.nan


def outputs(
    lu: list[float] | Tensor, lc: list[float] | Tensor, lai: list[list[float]] | Tensor
) -> Outputs:
    """One pixel of two uses, three covers and its leaves, or tensors of any sizes; leaf tensors."""
    lu, lc = (each if isinstance(each, Tensor) else column(each) for each in (lu, lc))
    leaves = lai if isinstance(lai, Tensor) else torch.tensor([lai])
    return Outputs(*(v.detach().clone().requires_grad_() for v in (lu, lc, leaves, leaves)))


def column(shares: list[float]) -> Tensor:
    return torch.tensor(shares)[None, :, None]


def batch_of(labels: Labels, given: tuple[str, ...] = (), **fields: object) -> Batch:
    """Labels in a batch of equal areas without coarse totals, unless given."""
    known = next(v for v in (labels.lu, labels.lc, labels.lai) if v is not None)
    pixels = (known.shape[0], known.shape[2])
    nowhere = torch.zeros(pixels, dtype=torch.long)
    inputs = Inputs(*(torch.zeros(1) for _ in range(5)))
    values = {"inputs": inputs, "y": nowhere, "x": nowhere, "area": torch.ones(pixels)} | fields
    return Batch(labels=labels, given=given, **values)


def terms(
    predicted: Outputs,
    labels: Labels,
    given: tuple[str, ...] = (),
    loss: Loss = Loss(),  # noqa: B008
    scales: Scales = Scales(),  # noqa: B008
    **fields: object,
) -> dict[str, Tensor]:
    return multitask_loss(predicted, batch_of(labels, given, **fields), loss, scales)


def random_shares(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).softmax(1)


@pytest.fixture
def predicted() -> Outputs:
    return outputs([0.5, 0.5], [0.25, 0.25, 0.5], [[1.0], [3.0]])


@pytest.fixture
def area() -> Tensor:
    """Of three crops of five pixels."""
    return torch.linspace(0.2, 1.8, 15).reshape(3, 5)


def test_land_is_scored_by_the_cross_entropy_of_soft_labels(predicted):
    labels = Labels(column([0.25, 0.75]), column([0.5, 0.0, 0.5]), None)
    losses = terms(predicted, labels)
    assert set(losses) == {"lu", "lc"}
    assert losses["lu"].item() == pytest.approx(math.log(2))
    assert losses["lc"].item() == pytest.approx(0.5 * math.log(4) + 0.5 * math.log(2))


def test_the_cross_entropy_is_that_of_torch():
    predicted = outputs(random_shares(0, 3, 4, 5), random_shares(1, 3, 7, 5), torch.zeros(3, 2, 5))
    labels = Labels(random_shares(2, 3, 4, 5), random_shares(3, 3, 7, 5), None)
    losses = terms(predicted, labels)
    for name in ("lu", "lc"):
        logits = getattr(predicted, name).log()
        expected = functional.cross_entropy(logits, getattr(labels, name))
        assert losses[name].item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("weighted", [True, False])
def test_pixels_count_by_their_area_if_they_are_to(area, weighted):
    share, truth = random_shares(0, 3, 4, 5), random_shares(1, 3, 4, 5).argmax(1)
    labels = Labels(functional.one_hot(truth, 4).movedim(-1, 1).float(), None, None)
    predicted = outputs(share, share, torch.zeros(3, 2, 5))
    found = terms(predicted, labels, loss=Loss(area_weighted=weighted), area=area)["lu"]
    probability = share.movedim(1, -1).reshape(-1, 4).double().numpy()
    expected = log_loss(
        truth.flatten().numpy(),
        probability / probability.sum(1, keepdims=True),
        sample_weight=area.flatten().numpy() if weighted else None,
        labels=range(4),
    )
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_areas_of_unknown_pixels_do_not_count():
    predicted = outputs([0.5, 0.5], [1.0, 0.0, 0.0], [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]])
    labels = Labels(None, None, torch.tensor([[[2.0, NAN, 1.0], [4.0, 3.0, NAN]]]))
    found = terms(predicted, labels, area=torch.tensor([[1.0, 2.0, 4.0]]))
    assert found["lai"].item() == pytest.approx((1 * 1 + 1 * 9 + 2 * 4) / (1 + 4 + 1 + 2))


def test_leaves_are_scored_by_their_squared_error_in_units_of_their_variance(predicted):
    labels = Labels(None, None, torch.tensor([[[2.0], [0.0]]]))
    losses = terms(predicted, labels, scales=Scales(lai_variance=4.0))
    assert losses["lai"].item() == pytest.approx((1 + 9) / 2 / 4)


def test_outliers_of_leaf_area_count_linearly_on_request():
    lai, label = torch.tensor([[[0.0, 1.0, 6.0]]]), torch.tensor([[[0.5, 4.0, NAN]]])
    predicted = outputs([1.0], [1.0], lai)
    loss = Loss(likelihood="huber", huber_delta=0.75)
    found = terms(predicted, Labels(None, None, label), loss=loss, scales=Scales(lai_variance=4.0))
    expected = functional.huber_loss(lai[..., :2] / 2, label[..., :2] / 2, delta=0.75)
    assert found["lai"].item() == pytest.approx(2 * expected.item())


def test_both_likelihoods_agree_on_small_errors(predicted):
    labels = Labels(None, None, torch.tensor([[[1.25], [2.5]]]))
    found = [
        terms(predicted, labels, loss=Loss(likelihood=name), scales=Scales(lai_variance=2.0))
        for name in ("gaussian", "huber")
    ]
    assert found[0]["lai"].item() == pytest.approx(found[1]["lai"].item())


def test_what_is_unknown_is_neither_scored_nor_learned_from():
    predicted = outputs([0.5, 0.5], [0.2, 0.3, 0.5], [[1.0, 2.0], [3.0, 4.0]])
    labels = Labels(torch.tensor([[[0.25], [NAN]]]), None, torch.tensor([[[NAN, 2.5], [NAN, NAN]]]))
    losses = terms(predicted, labels, area=torch.ones(1, 2))
    assert set(losses) == {"lai"}
    assert losses["lai"].item() == pytest.approx(0.25)
    losses["lai"].backward()
    assert predicted.lai.grad.tolist() == [[[0.0, -1.0], [0.0, 0.0]]]


@pytest.mark.parametrize("likelihood", ["gaussian", "huber"])
@pytest.mark.parametrize("unknown", [NAN, math.inf])
def test_one_known_pixel_alone_is_learned_from(likelihood, unknown):
    lu, lc, lai = (torch.full((3, n, 5), unknown) for n in (2, 3, 4))
    lu[1, :, 3], lc[1, :, 3], lai[1, :, 3] = 0.5, torch.tensor([1.0, 0, 0]), 2.0
    share = torch.tensor([0.0, 0.4, 0.6])[None, :, None].expand(3, 3, 5)  # one is exactly 0
    predicted = outputs(random_shares(0, 3, 2, 5), share, torch.zeros(3, 4, 5))
    loss = Loss(likelihood=likelihood, changes=1.0, class_balanced=True)
    scales = Scales(lu_share=np.array([0.5, 0.5]), lc_share=np.array([0.0, 0.0, 1.0]))
    losses = terms(predicted, Labels(lu, lc, lai), loss=loss, scales=scales)
    assert set(losses) == {"lu", "lc", "lai", "changes"}
    torch.stack(list(losses.values())).sum().backward()
    learned = torch.zeros(3, 5, dtype=torch.bool)
    learned[1, 3] = True
    for field in (predicted.lu, predicted.lc, predicted.lai):
        assert field.grad.isfinite().all()
        assert (field.grad[~learned[:, None].expand_as(field)] == 0).all()
    assert (predicted.lu.grad[1, :, 3] < 0).all()
    assert (predicted.lai.grad[1, :, 3] < 0).all()


def test_fractions_that_are_given_are_not_scored(predicted):
    labels = Labels(column([0.25, 0.75]), column([0.5, 0.0, 0.5]), torch.zeros(1, 2, 1))
    for given, scored in (
        (("lu_fraction",), {"lc", "lai"}),
        (("lc_fraction", "lu_fraction"), {"lai"}),
    ):
        assert set(terms(predicted, labels, given)) == scored


def test_nothing_known_is_no_loss(predicted):
    labels = Labels(None, torch.full((1, 3, 1), NAN), torch.full((1, 2, 1), NAN))
    assert terms(predicted, labels, loss=Loss(changes=1.0)) == {}


def test_a_share_of_zero_where_one_was_is_a_large_but_finite_loss():
    predicted = outputs([1.0, 0.0], [1.0, 0.0, 0.0], [[0.0]])
    labels = Labels(column([0.0, 1.0]), None, None)
    loss = terms(predicted, labels)["lu"].item()
    assert 10 < loss < 20


def test_pixels_of_rare_classes_count_by_the_root_of_their_rarity():
    # Shares 0.64 and 0.36 have roots 0.8 and 0.6, whose sum is the mean of the bare weights.
    weights = torch.tensor([1 / 0.8, 1 / 0.6]) / 1.4
    share, truth = random_shares(0, 1, 2, 7), torch.tensor([[0, 1, 1, 0, 0, 1, 0]])
    labels = Labels(functional.one_hot(truth, 2).movedim(-1, 1).float(), None, None)
    found = terms(
        outputs(share, share, torch.zeros(1, 1, 7)),
        labels,
        loss=Loss(class_balanced=True),
        scales=Scales(lu_share=np.array([0.64, 0.36])),
    )
    expected = functional.cross_entropy(share.log(), truth, weights, reduction="sum") / 7
    assert found["lu"].item() == pytest.approx(expected.item(), rel=1e-6)


def test_balanced_pixels_weigh_one_on_average():
    target = random_shares(0, 3, 5, 11)
    mean = target.mean((0, 2)).numpy()
    even = torch.full_like(target, 1 / 5)
    found = terms(
        outputs(even, even, torch.zeros(3, 1, 11)),
        Labels(target, None, None),
        loss=Loss(class_balanced=True),
        scales=Scales(lu_share=mean),
    )
    assert found["lu"].item() == pytest.approx(math.log(5), rel=1e-6)


def test_balance_does_not_move_the_best_shares_of_a_mixed_pixel():
    truth = [0.7, 0.2, 0.1]
    predicted = outputs(truth, truth, [[0.0]])
    loss, scales = Loss(class_balanced=True), Scales(lu_share=np.array([0.9, 0.09, 0.01]))
    terms(predicted, Labels(column(truth), None, None), loss=loss, scales=scales)["lu"].backward()
    slope = predicted.lu.grad.flatten()  # the same along all classes: none gains from another
    assert slope.tolist() == pytest.approx([slope[0].item()] * 3, rel=1e-5)


def test_a_class_that_was_never_seen_weighs_as_one_of_a_thousandth():
    predicted, share = outputs([0.5, 0.5], [1.0, 0, 0], [[0.0]]), np.array([1.0, 0.0])
    found = terms(
        predicted,
        Labels(column([0.0, 1.0]), None, None),
        loss=Loss(class_balanced=True),
        scales=Scales(lu_share=share),
    )
    assert found["lu"].item() == pytest.approx(math.sqrt(1000) * math.log(2), rel=1e-5)


def test_changes_of_leaf_area_are_scored_between_steps_that_are_known(area):
    rng = np.random.default_rng(0)
    lai, label = rng.random((2, 3, 7, 5), np.float32)
    label[rng.random(label.shape) < 0.3] = np.nan
    predicted = outputs(torch.ones(3, 2, 5), torch.ones(3, 2, 5), torch.from_numpy(lai))
    found = terms(
        predicted,
        Labels(None, None, torch.from_numpy(label)),
        loss=Loss(changes=0.5),
        scales=Scales(lai_change=0.3),
        area=area,
    )
    error = (np.diff(lai, axis=1) - np.diff(label, axis=1)) ** 2 / 0.3
    weight = np.broadcast_to(area.numpy()[:, None], error.shape) * np.isfinite(error)
    expected = np.average(np.nan_to_num(error), weights=weight)
    assert found["changes"].item() == pytest.approx(expected, rel=1e-5)


def test_one_step_has_no_changes(predicted):
    one = outputs([1.0], [1.0], [[2.0]])
    found = terms(one, Labels(None, None, torch.ones(1, 1, 1)), loss=Loss(changes=1.0))
    assert set(found) == {"lai"}


def coarse(seed: int = 0) -> tuple[Outputs, dict[str, object]]:
    """Two crops of 12 x 10 pixels, 150 of them sampled, in 3 x 2 cells that fit none evenly."""
    rng = np.random.default_rng(seed)
    driver = torch.from_numpy(rng.dirichlet(np.ones(4), (2, 3, 2)).astype(np.float32))
    inputs = Inputs(
        *(torch.zeros(1) for _ in range(5)),
        driver=driver.movedim(-1, 1),
        driver_row=torch.stack([torch.linspace(a, a + 2.0, 12) for a in (0.43, 0.27)]),
        driver_column=torch.stack([torch.linspace(a, a + 0.9, 10) for a in (0.45, 0.19)]),
    )
    y, x = (torch.from_numpy(rng.integers(n, size=(2, 150))) for n in (12, 10))
    lu = random_shares(seed, 2, 4, 150)
    area = torch.from_numpy(rng.uniform(0.5, 1.5, (2, 150)).astype(np.float32))
    fields = {"inputs": inputs, "y": y, "x": x, "area": area}
    return outputs(lu, lu, torch.zeros(2, 1, 150)), fields


def by_groups(predicted: Outputs, fields: dict[str, object]) -> float:
    """Mean over cells of the squared distance of predicted land use to their totals, by pandas."""
    inputs, area = fields["inputs"], fields["area"].numpy().astype(float)
    rows = []
    for b, (y, x) in enumerate(zip(fields["y"], fields["x"], strict=True)):
        row = np.rint(inputs.driver_row[b].numpy()[y]).astype(int)
        col = np.rint(inputs.driver_column[b].numpy()[x]).astype(int)
        shares = pd.DataFrame(predicted.lu[b].detach().numpy().T * area[b][:, None])
        rows.append(shares.assign(area=area[b], count=1, b=b, row=row, col=col))
    cells = pd.concat(rows).groupby(["b", "row", "col"]).sum()
    distances = []
    for (b, row, col), cell in cells.iterrows():
        total = inputs.driver[b, :, row, col].numpy()
        if cell["count"] >= 8 and total.sum() >= 0.5:
            distances.append(((cell[range(4)].to_numpy() / cell["area"] - total) ** 2).sum())
    assert 1 < len(distances) < len(cells)  # some cells are left out
    return float(np.mean(distances))


@pytest.mark.parametrize("weighted", [True, False])
def test_means_over_coarse_cells_are_compared_with_their_totals(weighted):
    predicted, fields = coarse()
    unlabelled = Labels(torch.full((2, 4, 150), NAN), None, None)
    loss = Loss(totals=0.1, area_weighted=weighted)
    found = terms(predicted, unlabelled, loss=loss, **fields)
    assert set(found) == {"totals"}
    assert found["totals"].item() == pytest.approx(by_groups(predicted, fields), rel=1e-5)
    found["totals"].backward()
    assert predicted.lu.grad.isfinite().all()
    assert predicted.lu.grad.any()


@pytest.mark.parametrize("lacking", [0.0, 0.1, NAN])
def test_cells_without_totals_are_left_out(lacking):
    predicted, fields = coarse(3)
    fields["inputs"].driver[0, :, 1, 1] = lacking
    found = terms(
        predicted, Labels(None, None, torch.zeros(2, 1, 150)), loss=Loss(totals=1), **fields
    )
    assert found["totals"].item() == pytest.approx(by_groups(predicted, fields), rel=1e-5)
    found["totals"].backward()
    assert predicted.lu.grad.isfinite().all()


def test_totals_are_not_scored_where_land_use_is_given_or_pixels_are_few():
    predicted, fields = coarse()
    labels, loss = Labels(None, None, torch.zeros(2, 1, 150)), Loss(totals=1)
    assert set(terms(predicted, labels, ("lu_fraction",), loss, **fields)) == {"lai"}
    assert set(terms(predicted, labels, (), Loss(), **fields)) == {"lai"}
    few = {name: fields[name][:, :7] for name in ("y", "x", "area")} | {"inputs": fields["inputs"]}
    some = outputs(*(getattr(predicted, name)[..., :7] for name in ("lu", "lc", "lai")))
    assert set(terms(some, Labels(None, None, labels.lai[..., :7]), (), loss, **few)) == {"lai"}


def test_fixed_weights_multiply_the_terms():
    loss = Loss(lu=2.0, lc=0.0, lai=0.5, totals=3.0, changes=0.25)
    found = {
        n: torch.tensor(v)
        for n, v in zip(("lu", "lc", "lai", "totals"), (1, 7, 4, 0.5), strict=True)
    }
    assert Weighting(loss).total(found).item() == pytest.approx(2 * 1 + 0.5 * 4 + 3 * 0.5)
    assert list(Weighting(loss).parameters()) == []


def test_learned_weights_follow_the_uncertainty_of_each_target():
    weighting = Weighting(Loss(weights="uncertainty", totals=0.5))
    with torch.no_grad():
        weighting.log_variance.copy_(torch.tensor([0.3, -0.7, 1.1]))
    found = {"lu": torch.tensor(1.2), "lai": torch.tensor(2.5), "totals": torch.tensor(0.4)}
    total = weighting.total(found)
    expected = math.exp(-0.3) * 1.2 + 0.15 + math.exp(-1.1) * 2.5 / 2 + 0.55 + 0.5 * 0.4
    assert total.item() == pytest.approx(expected)
    total.backward()
    slopes = [0.5 - math.exp(-0.3) * 1.2, 0.0, 0.5 - math.exp(-1.1) * 2.5 / 2]
    assert weighting.log_variance.grad.tolist() == pytest.approx(slopes)


def test_learned_variances_settle_at_the_size_of_the_losses():
    weighting = Weighting(Loss(weights="uncertainty"))
    optimiser = torch.optim.LBFGS(weighting.parameters(), max_iter=100)
    found = {"lu": torch.tensor(0.25), "lc": torch.tensor(1.5), "lai": torch.tensor(3.0)}

    def closure() -> Tensor:
        optimiser.zero_grad()
        total = weighting.total(found)
        total.backward()
        return total

    optimiser.step(closure)
    # By hand: exp(-s) L + s/2 is least at exp(s) = 2 L, exp(-s) L/2 + s/2 at exp(s) = L.
    assert weighting.log_variance.exp().tolist() == pytest.approx([0.5, 3.0, 3.0], rel=1e-3)


def test_learned_weights_start_at_a_variance_of_one():
    found = {"lu": torch.tensor(1.0), "lc": torch.tensor(2.0), "lai": torch.tensor(4.0)}
    assert Weighting(Loss(weights="uncertainty")).total(found).item() == 1 + 2 + 4 / 2


@pytest.mark.parametrize("weights", ["fixed", "uncertainty"])
def test_a_batch_without_labels_can_be_passed_back(predicted, weights):
    predicted.lu.data[:] = NAN  # what was not scored does not matter
    weighting = Weighting(Loss(weights=weights))
    total = weighting.total({}, nothing(predicted))
    assert total.item() == 0
    total.backward()
    hanging = [predicted.lu, predicted.lc, predicted.lai, predicted.leaves]
    for tensor in (*hanging, *weighting.parameters()):
        assert (tensor.grad == 0).all()


def test_a_target_without_weight_can_be_passed_back(predicted):
    labels = Labels(None, None, torch.zeros(1, 2, 1))
    Weighting(Loss(lai=0.0)).total(terms(predicted, labels)).backward()
    assert (predicted.lai.grad == 0).all()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"lu": -1.0}, "greater than or equal to 0"),
        ({"lai": math.inf}, "finite"),
        ({"huber_delta": 0.0}, "greater than 0"),
        ({"likelihood": "laplace"}, "'gaussian' or 'huber'"),
        ({"temporal": 1.0}, "Extra inputs"),
        ({"lu": 0.0, "lc": 0.0, "lai": 0.0}, "expected a weight above 0"),
    ],
)
def test_a_loss_that_cannot_be_minimised_is_refused(wrong, said):
    with pytest.raises(ValidationError, match=said):
        Loss(**wrong)


@pytest.mark.slow
def test_losses_need_no_lightning():
    code = "import sys, xlsbc.training.losses; assert 'lightning' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
