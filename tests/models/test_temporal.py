from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from scipy.interpolate import RegularGridInterpolator

from xlsbc.models.temporal import TemporalEncoder, sample, upsample

HISTORY, STEPS = 4, 6
ALL = HISTORY - 1 + STEPS


@pytest.fixture
def encoder() -> TemporalEncoder:
    torch.manual_seed(3)
    return TemporalEncoder(channels_in=5, channels_out=3, history=HISTORY).eval()


def changed_steps(encoder: TemporalEncoder, step: int) -> list[int]:
    """Leaf-area steps whose state changes when one forcing step does."""
    forcing = torch.randn(1, ALL, 5, 2, 3)
    other = forcing.clone()
    other[:, step] += 1
    pooling = torch.eye(ALL)[None]
    with torch.inference_mode():
        difference = (encoder(forcing, pooling) - encoder(other, pooling)).abs()
    return np.flatnonzero(difference.amax((0, 2, 3, 4)).numpy()).tolist()


@pytest.mark.parametrize("step", range(ALL))
def test_weather_bears_on_its_own_step_and_the_history_after_it_and_on_no_step_before(
    encoder, step
):
    own = step - (HISTORY - 1)  # the first leaf-area step comes after its history
    expected = [s for s in range(own, own + HISTORY) if 0 <= s < STEPS]
    assert changed_steps(encoder, step) == expected


@pytest.mark.parametrize("step", range(ALL))
def test_without_memory_weather_bears_on_its_own_step_alone(encoder, step):
    torch.nn.init.zeros_(encoder.memory.weight)
    own = step - (HISTORY - 1)
    assert changed_steps(encoder, step) == ([own] if own >= 0 else [])


def test_the_state_lies_on_the_coarse_grid(encoder):
    state = encoder(torch.randn(2, ALL, 5, 3, 4), torch.eye(ALL).expand(2, -1, -1))
    assert state.shape == (2, STEPS, 3, 3, 4)


def test_days_pooled_to_steps_are_worth_the_step_that_they_make_up(encoder):
    steps = torch.randn(1, ALL, 5, 1, 2)
    lengths = torch.tensor([31, 28, 31, 30, 31, 30, 31, 31, 30])
    days = steps.repeat_interleave(lengths, dim=1)
    member = torch.arange(ALL).repeat_interleave(lengths)
    pooling = (member == torch.arange(ALL)[:, None]) / lengths[:, None]
    torch.testing.assert_close(
        encoder(days, pooling[None]), encoder(steps, torch.eye(ALL)[None]), atol=1e-5, rtol=1e-5
    )


def test_the_mean_of_what_days_do_is_not_what_their_mean_does(encoder):
    days = torch.randn(1, 2 * ALL, 5, 1, 1)
    pooling = torch.eye(ALL).repeat_interleave(2, dim=1)[None] / 2
    means = (days[:, ::2] + days[:, 1::2]) / 2
    difference = encoder(days, pooling) - encoder(means, torch.eye(ALL)[None])
    assert difference.abs().max() > 1e-3


def test_a_forcing_step_that_no_pooling_weight_refers_to_changes_nothing(encoder):
    forcing = torch.randn(1, ALL, 5, 2, 2)
    padded = torch.cat((forcing, torch.full((1, 3, 5, 2, 2), 1e3)), dim=1)
    pooling = torch.eye(ALL)
    wider = torch.cat((pooling, torch.zeros(ALL, 3)), dim=1)
    torch.testing.assert_close(
        encoder(padded, wider[None]), encoder(forcing, pooling[None]), atol=1e-4, rtol=1e-4
    )


def test_coarse_cells_do_not_see_each_other(encoder):
    forcing = torch.randn(1, ALL, 5, 2, 3)
    other = forcing.clone()
    other[..., 1, 2] += 1
    pooling = torch.eye(ALL)[None]
    difference = (encoder(forcing, pooling) - encoder(other, pooling)).abs().amax((0, 1, 2))
    assert (difference > 0).tolist() == [[False, False, False], [False, False, True]]


def grid(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A coarse field of 4 x 5 cells, and where 7 rows and 3 columns of pixels lie in it."""
    random = np.random.default_rng(seed)
    rows = np.array([0.0, 0.2, 1.0, 1.75, 2.5, 2.99, 3.0])
    return random.normal(size=(4, 5)), rows, np.array([0.1, 2.0, 3.9])


def test_upsampling_is_what_scipy_and_xarray_call_linear_interpolation():
    field, rows, columns = grid()
    found = upsample(*(torch.from_numpy(a)[None] for a in (field, rows, columns)))[0].numpy()
    mesh = np.stack(np.meshgrid(rows, columns, indexing="ij"), -1)
    scipy = RegularGridInterpolator((np.arange(4), np.arange(5)), field)(mesh)
    np.testing.assert_allclose(found, scipy, atol=1e-12)
    array = xr.DataArray(field, {"y": np.arange(4), "x": np.arange(5)}, ("y", "x"))
    np.testing.assert_allclose(found, array.interp(y=rows, x=columns), atol=1e-12)


def test_upsampling_keeps_every_dimension_before_the_grid_and_every_batch_its_own_pixels():
    random = np.random.default_rng(1)
    field = torch.from_numpy(random.normal(size=(2, 3, 6, 4, 5)))
    rows = torch.from_numpy(random.uniform(0, 3, (2, 7)))
    columns = torch.from_numpy(random.uniform(0, 4, (2, 9)))
    found = upsample(field, rows, columns)
    assert found.shape == (2, 3, 6, 7, 9)
    one = upsample(field[1:, 2, 4], rows[1:], columns[1:])
    torch.testing.assert_close(found[1, 2, 4], one[0], atol=1e-12, rtol=0)


def test_sampling_scattered_pixels_is_upsampling_and_picking_them():
    random = np.random.default_rng(2)
    field = torch.from_numpy(random.normal(size=(2, 3, 6, 4, 5)))
    rows = torch.from_numpy(random.uniform(0, 3, (2, 8)))
    columns = torch.from_numpy(random.uniform(0, 4, (2, 8)))
    whole = upsample(field, rows, columns).diagonal(dim1=-2, dim2=-1)
    torch.testing.assert_close(sample(field, rows, columns), whole, atol=1e-12, rtol=0)


def test_one_coarse_cell_is_the_same_everywhere():
    field = torch.full((1, 2, 1, 1), 7.0)
    assert (upsample(field, torch.zeros(1, 3), torch.zeros(1, 4)) == 7).all()
