"""What a network gave is checked tile by tile (R18), and what is read in tasks fails by name (R8)."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from hypothesis import example, given, settings
from hypothesis import strategies as st
from zarr.storage import LocalStore, WrapperStore

from xlsbc.emulator import Emulator
from xlsbc.errors import CubeError, TileError
from xlsbc.inference import storage
from xlsbc.inference.engine import Engine
from xlsbc.inference.predict import predict

ROWS, COLUMNS = (0, 14, 38, 60), (0, 14, 38, 62, 70)
"""Where tiles of 24 pixels begin and end on the land."""

NORTH, WEST = 90 - 5290 / 120, 22570 / 120 - 180
"""Edges of the land."""

Change = Callable[[np.ndarray], None]


@pytest.fixture(scope="module")
def lazy(cube: xr.Dataset, emulator: Emulator) -> xr.Dataset:
    return predict(cube, emulator, period=[2001], precision="float32")


@contextmanager
def changed(name: str, pixel: tuple[int, int], value: float) -> Iterator[None]:
    """A network that gives a value at a pixel of its tile, in one class or step."""
    original = Engine.run

    def wrong(self: Engine, samples: Any, names: Any) -> Any:
        found = original(self, samples, names)
        found[0][name][(*(0,) * (found[0][name].ndim - 2), *pixel)] = value
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Engine, "run", wrong)
        yield


def compute(found: xr.Dataset) -> xr.Dataset:
    return found.compute(scheduler="synchronous")


WRONG = {
    "lu_fraction": [np.nan, np.inf, -0.01, 1.01, "more"],
    "lc_fraction": [np.nan, -np.inf, -0.01, 1.01, "more"],
    "cvh": [np.nan, 1.01, -0.01],
    "lai": [np.nan, np.inf, -0.01, 100.0],
    "lai_lv": [np.nan, 100.0],
}
CASES = [(name, value) for name, values in WRONG.items() for value in values]


@settings(max_examples=40)
@given(
    case=st.sampled_from(CASES),
    place=st.tuples(st.integers(0, 2), st.integers(0, 3)),
    data=st.data(),
)
def test_a_value_that_cannot_be_names_its_variable_year_and_tile(lazy, whole, case, place, data):
    (name, value), (y, x) = case, place
    box = {
        "latitude": slice(*ROWS[y : y + 2]),
        "longitude": slice(*COLUMNS[x : x + 2]),
    }
    row = data.draw(st.integers(box["latitude"].start, box["latitude"].stop - 1), "row")
    column = data.draw(st.integers(box["longitude"].start, box["longitude"].stop - 1), "column")
    pixel = (row + 10) % 24, (column + 10) % 24  # of the tile, which begins off the land
    if value == "more":  # in bounds, and no share of a sum
        here = whole[name][0, 0, row, column].item()
        value = here + 0.01 if here < 0.5 else here - 0.01
        expected = "expected shares that sum to 1; found sums"
    else:
        most = "7|10|1" if name.startswith("lai") else "1"
        expected = rf"expected finite values within 0\.\.({most}); found 1 others of"
    with changed(name, pixel, value), pytest.raises(TileError) as caught:
        compute(lazy.isel(box))
    text = str(caught.value)
    assert re.search(expected, text), text
    told = re.match(rf"{name} of 2001, tile (\S+) to (\S+) N, (\S+) to (\S+) E: ", text)
    assert told, text
    edges = NORTH - np.array(ROWS) / 120, WEST + np.array(COLUMNS) / 120
    north_to_east = edges[0][y + 1], edges[0][y], edges[1][x], edges[1][x + 1]
    np.testing.assert_allclose([float(t) for t in told.groups()], north_to_east, atol=0.006)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), str(again)) == (TileError, text)


def test_other_tiles_are_intact(lazy, whole):
    with changed("lai", (12, 12), np.nan):
        with pytest.raises(TileError):
            compute(lazy["cvh"].isel(latitude=slice(14, 38), longitude=slice(14, 38)))
        # the pixel of this tile is not on the land
        west = {"latitude": slice(0, 14), "longitude": slice(62, 70)}
        for name in ("lai", "cvh"):
            with pytest.raises(TileError) if False else dask.config.set({}):
                pass
    box = {"latitude": slice(14, 38), "longitude": slice(38, 62)}
    xr.testing.assert_equal(compute(lazy.isel(box)), whole.isel(box))
    assert west


def test_what_the_network_gives_where_an_input_is_missing_does_not_matter(cube, emulator, whole):
    hole = cube.assign(elevation=cube["elevation"].copy(deep=True))
    hole["elevation"][20, 20] = np.nan
    found = predict(hole, emulator, period=[2001], precision="float32")
    box = {"latitude": slice(14, 38), "longitude": slice(14, 38)}
    with changed("lai", ((20 + 10) % 24, (20 + 10) % 24), np.inf):
        lai = compute(found["lai"].isel(box))
    assert np.isnan(lai[:, 6, 6]).all()
    assert int(lai.isnull().sum()) == 12
