from __future__ import annotations

import dataclasses
import math
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from xlsbc.emulator import Architecture, Split
from xlsbc.errors import TrainingError
from xlsbc.training.config import Training
from xlsbc.training.curves import Curves
from xlsbc.training.module import Fitting, drawn
from xlsbc.training.prepare import Prepared, prepare
from xlsbc.training.splits import TRAIN, VALIDATION

pytestmark = pytest.mark.filterwarnings("ignore:the buffer around held-out pixels")

SIZES = Architecture(width=(8, 16), climate=4, hidden=8)


def prepared(cube: xr.Dataset, **options: Any) -> Prepared:
    settings = {
        "architecture": SIZES,
        "split": Split(size=9, buffer=1, validation=0.2),
        "batch_size": 2,
        "crop": 16,
        "given": [()],
        "precision": "32",
    }
    return prepare(cube, Training.of(settings | options))


def fitting_of(task: Prepared, seed: int = 0) -> Fitting:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Fitting(task, task.steps)


@pytest.fixture(scope="module")
def task(world):
    return prepared(world)


@pytest.fixture(scope="module")
def rolled(world):
    return prepared(world, state=("lc_fraction", "lu_fraction"))


def first(task: Prepared, count: int = 1) -> list[Any]:
    stream = task.batches().batches()
    try:
        return list(islice(stream, count))
    finally:
        stream.close()


def test_the_loss_is_the_sum_of_its_terms(task):
    fitting = fitting_of(task)
    loss, terms = fitting.loss(first(task)[0])
    assert set(terms) >= {"lu", "lc", "lai"}
    assert loss.item() == pytest.approx(sum(v.item() for v in terms.values()), rel=1e-6)


def test_an_error_names_the_crop_that_makes_the_network_fail(task):
    batch = first(task)[0]
    static = batch.inputs.static.clone()
    static[0, 0, 3, 5] = math.nan
    inputs = dataclasses.replace(batch.inputs, static=static)
    batch = dataclasses.replace(batch, inputs=inputs, places=("here of 2000", "there of 2001"))
    fitting = fitting_of(task)
    fitting.network.eval()  # batch normalisation would spread it to every crop
    fitting.network.at = everywhere(fitting.network)
    with pytest.raises(TrainingError, match="in here of 2000; lower"):
        fitting.loss(batch)


def everywhere(network):
    def at(inputs, y, x):
        outputs = network(inputs)
        index = torch.arange(len(y))[:, None]
        pick = {
            f.name: getattr(outputs, f.name)[index, ..., y, x].movedim(1, -1)
            for f in dataclasses.fields(outputs)
        }
        return type(outputs)(**pick)

    return at


def test_a_gradient_that_is_not_finite_is_an_error_and_the_weights_stay(task):
    fitting = fitting_of(task)
    optimiser = fitting.configure_optimizers()
    before = {k: v.clone() for k, v in fitting.network.named_parameters()}
    fitting.loss(first(task)[0])[0].backward()
    next(fitting.network.parameters()).grad[0] = math.inf
    with pytest.raises(TrainingError, match="the gradient became inf|the gradient became nan"):
        fitting.configure_gradient_clipping(optimiser)
    for name, value in fitting.network.named_parameters():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("clip", [0.01, None])
def test_gradients_are_as_long_as_the_clip_allows(world, clip):
    task = prepared(world, clip=clip)
    fitting = fitting_of(task)
    fitting.loss(first(task)[0])[0].backward()
    grads = [p.grad for p in fitting.network.parameters() if p.grad is not None]
    before = math.sqrt(sum(float(g.square().sum()) for g in grads))
    fitting.configure_gradient_clipping(fitting.configure_optimizers())
    after = math.sqrt(sum(float(g.square().sum()) for g in grads))
    assert after == pytest.approx(clip or before, rel=1e-4)


def test_years_before_the_trained_one_hand_on_what_the_network_made_of_them(rolled):
    batch = first(rolled)[0]
    fitting = fitting_of(rolled)
    lead = dataclasses.replace(batch.inputs, state=batch.inputs.state.roll(1, 0))
    fitting.network.eval()
    with torch.no_grad():
        made = fitting.network(lead)
    seen = lead.static[:, -1:]
    expected = torch.cat([made.lc * seen, made.lu * seen], dim=1)
    found = fitting.pushed(fitting.network, dataclasses.replace(batch, lead=(lead,)))
    torch.testing.assert_close(found.state, expected, rtol=1e-5, atol=1e-6)
    assert found.static is batch.inputs.static
    assert not found.state.requires_grad


def test_two_years_before_are_taken_in_turn(rolled):
    batch = first(rolled)[0]
    fitting = fitting_of(rolled)
    fitting.network.eval()
    older = dataclasses.replace(batch.inputs, state=batch.inputs.state.roll(1, 0))
    once = fitting.pushed(fitting.network, dataclasses.replace(batch, lead=(older,)))
    twice = fitting.pushed(fitting.network, dataclasses.replace(batch, lead=(older, batch.inputs)))
    again = fitting.pushed(fitting.network, dataclasses.replace(batch, lead=(once,)))
    torch.testing.assert_close(twice.state, again.state)


def test_without_years_before_the_inputs_are_those_of_the_batch(task):
    batch = first(task)[0]
    fitting = fitting_of(task)
    assert fitting.pushed(fitting.network, batch) is batch.inputs


def test_random_numbers_of_a_step_depend_on_seed_step_and_rank():
    seeds = {drawn(s, t, r) for s in range(3) for t in range(5) for r in range(2)}
    assert len(seeds) == 30
    assert drawn(1, 2, 1) == drawn(1, 2, 1)


def test_validation_sees_no_training_pixel(task):
    for batch in islice(task.batches(VALIDATION).batches(), 3):
        assert batch.labels.lai.isfinite().any()
    parts = task.parts.box()
    assert (parts == VALIDATION).any()
    assert (parts == TRAIN).any()


def test_curves_hold_the_means_since_the_row_before():
    curves = Curves(every=2)
    for step, value in enumerate([1.0, 3.0, 5.0, 7.0], start=1):
        row = curves.add(step, 0.1, {"lai": torch.tensor(value)})
        assert (row is None) == (step % 2 == 1)
    curves.validated(4, 0.5)
    assert curves.table() == ("step,learning_rate,lai,validation\n2,0.1,2.0,\n4,0.1,6.0,0.5\n")
    assert curves.series("validation") == ([4], [0.5])


def test_curves_go_on_from_their_state_in_the_middle_of_a_row():
    def counted(curves: Curves, steps: range) -> Curves:
        for step in steps:
            curves.add(step, 0.1, {"lai" if step % 2 else "lu": torch.tensor(step / 7)})
        return curves

    whole = counted(Curves(every=3), range(1, 8))
    state = counted(Curves(every=3), range(1, 5)).state_dict()
    gone_on = Curves()
    gone_on.load_state_dict(state)
    assert counted(gone_on, range(5, 8)).table() == whole.table()


def test_the_picture_is_a_png_even_of_nothing():
    assert Curves().picture().startswith(b"\x89PNG")
    curves = Curves()
    curves.add(1, 0.1, {"lai": torch.tensor(0.0)})  # has no logarithm
    assert curves.picture().startswith(b"\x89PNG")
    assert np.isfinite(curves.rows[0]["lai"])
