"""What a network gave is checked by tile (R18), and what is read in tasks fails by name (R8)."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.storage import LocalStore, WrapperStore

from xlsbc.cube.legends import LC
from xlsbc.cube.store import storage
from xlsbc.cube.store.sources import READ
from xlsbc.cube.store.writer import write
from xlsbc.emulator import Emulator
from xlsbc.errors import CubeError, LsbcError, TileError
from xlsbc.inference.engine import Engine
from xlsbc.inference.predict import predict
from xlsbc.inference.run import COARSE

ROWS, COLUMNS = (0, 14, 38, 60), (0, 14, 38, 62, 70)
"""Where tiles of 24 pixels begin and end on the land."""

NORTH, WEST = 90 - 5290 / 120, 22570 / 120 - 180
"""Edges of the land."""


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


@pytest.mark.proves("errors-travel")
@pytest.mark.proves("failed-tile")
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
        most = max(c.lai_max for c in LC.classes) if name.startswith("lai") else 1
        expected = rf"within 0..{most:g}; found 1 of \d+ others, the first {value:g}; nothing was"
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


def test_what_the_network_gives_where_an_input_is_missing_does_not_matter(cube, emulator, whole):
    hole = cube.assign(elevation=cube["elevation"].copy(deep=True))
    hole["elevation"][20, 20] = np.nan
    found = predict(hole, emulator, period=[2001], precision="float32")
    box = {"latitude": slice(14, 38), "longitude": slice(14, 38)}
    with changed("lai", ((20 + 10) % 24, (20 + 10) % 24), np.inf):
        lai = compute(found["lai"].isel(box))
    assert np.isnan(lai[:, 6, 6]).all()
    assert int(lai.isnull().sum()) == 12


@pytest.mark.proves("failed-tile")
def test_a_tile_that_cannot_be_is_not_stored_and_the_rest_is_done_later(lazy, tmp_path):
    expected = write(lazy, str(tmp_path / "whole.zarr"), progress=False)
    url = str(tmp_path / "a.zarr")
    with (
        changed("lai", (12, 12), np.nan),
        pytest.raises(LsbcError, match=r"lai of 2001, tile \S+ to"),
    ):
        write(lazy, url, progress=False)
    xr.testing.assert_identical(
        xr.open_zarr(write(lazy, url, progress=False)).load(), xr.open_zarr(expected).load()
    )


# --- inputs that are read in tasks ---

INPUTS = ["elevation", "clay_fraction", "t2m", "tp", "co2", "lu_total", "lc_fraction"]


class Failing(WrapperStore[Any]):
    """A store of which one array fails so many times, each time another chunk is asked for."""

    def __init__(self, store: Any, name: str, times: int, count: dict[str, int]) -> None:
        super().__init__(store)
        self.name, self.times, self.count = name, times, count

    def _with_store(self, store: Any) -> Any:
        return type(self)(store, self.name, self.times, self.count)

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        if key.startswith(f"{self.name}/") and "/.z" not in key:
            self.count[key] = self.count.get(key, 0) + 1
            if self.count[key] <= self.times:
                raise OSError("503 Slow Down")
        return await super().get(key, prototype, byte_range)


@pytest.fixture(scope="module")
def place(cube: xr.Dataset, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A store that holds the land."""
    place = tmp_path_factory.mktemp("run") / "cube.zarr"
    chunks = {"latitude": 20, "longitude": 35}
    cube.chunk(chunks).to_zarr(place, consolidated=False, zarr_format=2)
    return place


@pytest.mark.proves("store-faults-read")
@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("chunks", [None, {}])
def test_an_input_that_fails_for_a_while_changes_nothing_and_for_ever_is_named(
    place, emulator, cube, monkeypatch, name, chunks
):
    monkeypatch.setattr(storage, "FIRST_WAIT", 0)
    given = ("lc_fraction",)
    expected = compute(predict(cube, emulator, given=given, period=[2001], precision="float32"))
    count: dict[str, int] = {}

    def found(times: int) -> xr.Dataset:
        store = Failing(LocalStore(place), name, times, count)
        ds = xr.open_zarr(store, chunks=chunks, consolidated=False)
        return predict(ds, emulator, given=given, period=[2001], precision="float32")

    COARSE.forget()
    passing = found(storage.ATTEMPTS - 1)
    assert not count
    xr.testing.assert_equal(compute(passing), expected)
    assert set(count.values()) == {storage.ATTEMPTS}
    count.clear()
    COARSE.forget()
    READ.forget()
    with pytest.raises(CubeError, match=rf"input '{name}' cannot be read at .*503 Slow Down"):
        compute(found(10**6))
    assert max(count.values()) == storage.ATTEMPTS
