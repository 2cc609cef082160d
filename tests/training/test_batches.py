from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from hypothesis import given as drawn
from hypothesis import strategies as st

from xlsbc.cube.legends import LC
from xlsbc.cube.vocabulary import attributes
from xlsbc.emulator import InputVariable, Lattice, Spec
from xlsbc.errors import TrainingError
from xlsbc.models.temporal import sample, upsample
from xlsbc.training import batches as module
from xlsbc.training.batches import Batch, Batches, super_windows
from xlsbc.training.splits import BUFFER, HELD_OUT, TRAIN

ROWS, COLUMNS = 37, 53
YEARS = (2000, 2001)


@pytest.fixture
def cube() -> xr.Dataset:
    """37 x 53 pixels of 0.1 degree and two years; every number says where and when it belongs.

    Elevation is the number of the pixel, the leaf area index too, with 10,000 more for each month;
    the forcing, on cells of 0.7 degree, is its longitude, and land cover is one-hot by column.
    """
    number = np.arange(ROWS * COLUMNS, dtype="float32").reshape(ROWS, COLUMNS)
    months = np.arange(24, dtype="float32")[:, None, None]
    one_hot = np.zeros((2, 14, ROWS, COLUMNS), "float32")
    one_hot[:, np.arange(COLUMNS) % 14, :, np.arange(COLUMNS)] = 1
    east = 10.0 + 0.7 * np.arange(-1, 9)
    fields = {
        "elevation": (("latitude", "longitude"), number),
        "t2m": (
            ("forcing_time", "forcing_latitude", "forcing_longitude"),
            np.broadcast_to(east, (24, 7, 10)).astype("float32"),
        ),
        "lc_fraction": (("year", "lc_class", "latitude", "longitude"), one_hot),
        "lai": (("time", "latitude", "longitude"), 1e4 * months + number),
    }
    time = pd.date_range("2000-01-01", periods=24, freq="MS")
    coords = {
        "latitude": 47.95 - 0.1 * np.arange(ROWS),
        "longitude": 10.05 + 0.1 * np.arange(COLUMNS),
        "forcing_latitude": 48.5 - 0.7 * np.arange(7),
        "forcing_longitude": east,
        "forcing_time": time,
        "time": time,
        "year": list(YEARS),
        "lc_class": LC.coordinate("lc_class"),
    }
    return xr.Dataset({k: (dims, v, attributes(k)) for k, (dims, v) in fields.items()}, coords)


@pytest.fixture
def split(cube: xr.Dataset) -> xr.DataArray:
    """A held-out block with a buffer in the middle, and another in a corner."""
    parts = xr.zeros_like(cube["elevation"], dtype="int8")
    parts[10:20, 15:30] = BUFFER
    parts[12:18, 17:28] = HELD_OUT
    parts[30:, 45:] = HELD_OUT
    return parts


def spec(**changes: Any) -> Spec:
    return Spec(
        **{
            "static": (InputVariable(name="elevation", units="m"),),
            "forcing": (InputVariable(name="t2m", units="K"),),
            "targets": ("lc_fraction", "lai"),
            "given": ((), ("lc_fraction",)),
            "steps": tuple((month, 1) for month in range(1, 13)),
            "lattice": Lattice(dlat=0.1, dlon=0.1),
            **changes,
        }
    )


def filled(cube: xr.Dataset, split: xr.DataArray, **changes: Any) -> Batches:
    options: dict[str, Any] = {"crop": 12, "size": 6, "pixels": 40, "margin": 2, "seed": 1}
    made = Batches(cube, changes.pop("spec", spec()), split, **(options | changes))
    for _ in made.fill():
        pass
    return made


def at(field: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Channels of a field at the pixels of a batch, ``(batch, channel, pixel)``."""
    every = torch.arange(len(batch.y))[:, None]
    return field[every, :, batch.y, batch.x].transpose(1, 2)


def pooled(batch: Batch) -> torch.Tensor:
    """The weather of leaf-area steps, ``(batch, step, 1, coarse_y, coarse_x)``."""
    return torch.einsum("bts,bscyx->btcyx", batch.inputs.pooling, batch.inputs.forcing[:, :, :1])


def taken(batches: Iterator[Batch], count: int) -> Iterator[Batch]:
    return islice(iter(batches), count)


def visited(batches: Batches, count: int) -> np.ndarray:
    """How often each pixel of the cube served."""
    numbers = [at(batch.inputs.static, batch)[:, 0].flatten() for batch in taken(batches, count)]
    drawn = torch.cat(numbers).long().numpy()
    return np.bincount(drawn, minlength=ROWS * COLUMNS).reshape(ROWS, COLUMNS)


def test_labels_and_inputs_of_a_pixel_belong_together(cube, split):
    for batch in taken(filled(cube, split), 20):
        number = at(batch.inputs.static, batch)[:, 0]
        months = (batch.labels.lai - number[:, None]) / 1e4
        first = months[:, :1]
        assert set(first.unique().tolist()) <= {0, 12}
        torch.testing.assert_close(months, first + torch.arange(12)[:, None], atol=1e-3, rtol=0)
        column = number.long() % COLUMNS
        torch.testing.assert_close(batch.labels.lc.argmax(1), column % 14)


def test_a_pixel_lies_among_the_coarse_cells_where_its_longitude_says(cube, split):
    for batch in taken(filled(cube, split), 10):
        places = batch.inputs.row.gather(1, batch.y), batch.inputs.column.gather(1, batch.x)
        weather = sample(pooled(batch), *places)
        number = at(batch.inputs.static, batch)[:, 0]
        longitude = 10.05 + 0.1 * (number % COLUMNS)
        expected = longitude[:, None, None].expand_as(weather)
        torch.testing.assert_close(weather, expected, atol=1e-3, rtol=0)


def test_every_training_pixel_is_visited_and_no_other(cube, split):
    counts = visited(filled(cube, split), 400)
    np.testing.assert_array_equal(counts > 0, split == TRAIN)


def test_pixels_serve_alike_but_for_the_rim_of_the_cube_and_of_what_is_held_out(cube, split):
    counts = visited(filled(cube, split), 400)
    inner = counts[3:8, 3:-3]  # more than a margin away from either
    assert inner.min() > 0.3 * inner.mean()


@pytest.fixture
def read(monkeypatch) -> list[Any]:
    """Windows and years in the order in which they are read; windows are of 40 pixels."""
    order: list[Any] = []
    original = Batches._read

    def counting(self, window, year):
        order.append((window, year))
        return original(self, window, year)

    monkeypatch.setattr(module, "SUPER_WINDOW", 40)
    monkeypatch.setattr(Batches, "_read", counting)
    return order


def test_a_pool_that_holds_one_window_comes_around_to_all_again_and_again(cube, split, read):
    batches = filled(cube, split, memory=1)
    for _ in taken(batches, 35):
        assert len(batches.pool) == 1
    count = len(batches.places)
    assert count == 8  # two by two windows in two years
    assert len(read) > 2 * count
    assert set(read[:count]) == set(read[count : 2 * count]) == set(batches.places)


def test_a_pool_that_holds_all_reads_every_window_and_year_once(cube, split, read):
    batches = Batches(cube, spec(), split, crop=12, size=2, pixels=4, margin=2)
    shares = list(batches.fill())
    assert len(read) == len(set(read)) == len(batches.places)
    assert shares == sorted(shares)
    assert shares[-1] == 1
    for _ in taken(batches, 50):
        pass
    assert len(read) == len(batches.places)


def test_pixels_on_the_rim_of_a_crop_are_seen_but_not_trained_on(cube, split):
    for batch in taken(filled(cube, split, margin=4), 20):
        assert batch.inputs.static.shape[-2:] == (12, 12)
        for place in (batch.y, batch.x):
            assert 4 <= place.min() <= place.max() < 8


def test_a_pixel_on_the_edge_of_the_cube_has_missing_land_beside_it(cube, split):
    everywhere = xr.zeros_like(split)
    for batch in taken(filled(cube, everywhere), 40):
        numbers = at(batch.inputs.static, batch)[:, 0]
        for b, p in zip(*np.nonzero((numbers < COLUMNS).numpy()), strict=True):
            above = batch.inputs.static[b, :, batch.y[b, p] - 1, batch.x[b, p]]
            assert above.tolist() == [0, 0]


def test_crops_are_mirrored_east_to_west_half_of_the_time(cube, split):
    steps = []
    for batch in taken(filled(cube, split), 40):
        numbers = batch.inputs.static[:, 0]
        inside = (numbers[:, 6, 5] > 0) & (numbers[:, 6, 6] > 0)
        steps += (numbers[:, 6, 6] - numbers[:, 6, 5])[inside].tolist()
    assert set(steps) == {1, -1}
    assert 0.35 < np.mean(np.array(steps) > 0) < 0.65


def test_given_fractions_are_in_the_inputs_and_the_rest_of_the_time_are_not(cube, split):
    seen = set()
    for batch in taken(filled(cube, split), 20):
        seen.add(batch.given)
        if batch.given:
            torch.testing.assert_close(at(batch.inputs.lc, batch), batch.labels.lc)
        else:
            assert batch.inputs.lc is None
        assert batch.inputs.lu is None
    assert seen == {(), ("lc_fraction",)}


def test_where_a_given_fraction_is_missing_nothing_is_learned_and_the_input_says_so(cube, split):
    cube["lc_fraction"][:, 3, :, 40:] = np.nan
    batches = filled(cube, split, spec=spec(given=(("lc_fraction",),)))
    for batch in taken(batches, 30):
        column = at(batch.inputs.static, batch)[:, 0].long() % COLUMNS
        assert column.max() < 40
        number, valid = batch.inputs.static[:, 0].long(), batch.inputs.static[:, -1]
        assert (valid[(number > 0) & (number % COLUMNS >= 40)] == 0).all()
        assert (valid[(number > 0) & (number % COLUMNS < 40)] == 1).all()
        assert batch.inputs.lc.isfinite().all()


def test_labels_that_are_unknown_are_nan_and_pixels_without_any_are_not_drawn(cube, split):
    cube["lai"][:, :, :20] = np.nan
    cube["lc_fraction"][:, :, :, :30] = np.nan
    both = False
    for batch in taken(filled(cube, split, spec=spec(given=((),))), 30):
        column = at(batch.inputs.static, batch)[:, 0].long() % COLUMNS
        assert column.min() >= 20
        without_cover = batch.labels.lc.isnan().all(1)
        torch.testing.assert_close(without_cover, column < 30)
        assert batch.labels.lai.isfinite().all()
        both |= bool(without_cover.any() and not without_cover.all())
    assert both


def test_one_labelled_pixel_in_a_large_cube_is_found(cube, split):
    lonely = cube.drop_vars(["lc_fraction", "lc_class"])
    lai = lonely["lai"].where(lonely["elevation"] == 100)
    sparse = lonely.assign(lai=lai)
    batches = filled(sparse, split, spec=spec(targets=("lai",), given=((),)), crop=6, margin=0)
    assert visited(batches, 60).ravel().nonzero()[0].tolist() == [100]


@pytest.mark.parametrize("lost", ["lai", "elevation", "split"])
def test_no_pixel_with_label_and_input_that_may_train_is_an_error(cube, split, lost):
    only_lai = cube.drop_vars(["lc_fraction", "lc_class"])
    if lost == "split":
        split = split + HELD_OUT
    else:
        only_lai[lost] = only_lai[lost] * np.nan
    with pytest.raises(TrainingError, match="no training pixel has a label and all required inp"):
        filled(only_lai, split, spec=spec(targets=("lai",), given=((),)))


def test_a_combination_that_nothing_can_be_given_for_is_an_error_that_names_it(cube, split):
    cube["lc_fraction"][:] = np.nan
    with pytest.raises(TrainingError, match=r"no labelled pixel for given=\('lc_fraction',\)"):
        next(iter(filled(cube, split, spec=spec(given=(("lc_fraction",),)))))


def test_a_seed_repeats_the_batches_and_another_makes_others(cube, split):
    first, again, other = (
        torch.cat([batch.labels.lai.flatten() for batch in taken(filled(cube, split, seed=s), 3)])
        for s in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_lazy_and_computed_cubes_give_the_same_batches(cube, split):
    lazy = cube.chunk({"latitude": 10, "longitude": 17, "time": 5, "forcing_time": 7})
    for one, two in zip(taken(filled(cube, split), 3), taken(filled(lazy, split), 3), strict=True):
        assert torch.equal(one.inputs.static, two.inputs.static)
        assert torch.equal(one.labels.lai, two.labels.lai)


def test_crops_with_fewer_coarse_cells_are_padded_with_cells_that_nothing_refers_to(
    cube, split, monkeypatch
):
    monkeypatch.setattr(module, "SUPER_WINDOW", 20)
    batches = filled(cube, split)
    shapes = {piece.inputs.forcing.shape[-2:] for piece in batches.pool}
    assert len(shapes) > 1
    for batch in taken(batches, 20):
        weather = upsample(pooled(batch), batch.inputs.row, batch.inputs.column)
        numbers = batch.inputs.static[:, 0]
        inside = (numbers > 0)[:, None, None].expand_as(weather)
        longitude = (10.05 + 0.1 * (numbers % COLUMNS))[:, None, None].expand_as(weather)
        torch.testing.assert_close(weather[inside], longitude[inside], atol=1e-3, rtol=0)
        rows = batch.inputs.pooling.sum(-1)
        torch.testing.assert_close(rows, torch.ones_like(rows))


@drawn(rows=st.integers(1, 70), columns=st.integers(2, 70), crop=st.integers(1, 24))
def test_every_crop_of_a_cube_and_of_the_rim_around_it_lies_in_some_window(rows, columns, crop):
    cube = xr.Dataset(
        coords={
            "latitude": 40 - 0.1 * np.arange(rows),
            "longitude": 10 + 0.1 * np.arange(columns),
        }
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SUPER_WINDOW", 32)
        windows = super_windows(cube, crop)
    for axis, length in (("y", rows), ("x", columns)):
        size = "height" if axis == "y" else "width"
        spans = {(getattr(w, axis), getattr(w, axis) + getattr(w, size)) for w in windows}
        for start in range(-(crop // 2), length - crop // 2 + 1):
            assert any(low <= start and start + crop <= high for low, high in spans)


def test_a_cube_smaller_than_a_crop_is_one_window_with_nothing_around_it(cube, split):
    small, part = (ds.isel(latitude=slice(5), longitude=slice(7)) for ds in (cube, split))
    batches = filled(small, part, crop=16, margin=2)
    assert len(batches.places) == len(YEARS)
    batch = next(iter(batches))
    assert batch.inputs.static.shape[-2:] == (16, 16)
    assert (batch.inputs.static[:, -1].sum((1, 2)) <= 5 * 7).all()


def test_every_field_of_a_batch_is_of_one_batch(cube, split):
    batch = next(iter(filled(cube, split)))
    fields = {f.name: getattr(batch.inputs, f.name) for f in dataclasses.fields(batch.inputs)}
    assert {len(v) for v in fields.values() if v is not None} == {6}
    assert batch.y.shape == batch.x.shape == (6, 40)
    assert batch.labels.lai.shape == (6, 12, 40)
    assert batch.labels.lu is None
