"""A whole globe: what lies beside the date line is side by side, however it is cut and turned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dask
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import example, given, settings
from hypothesis import strategies as st

from xlsbc.cube.legends import LU
from xlsbc.cube.vocabulary import attributes
from xlsbc.emulator import Emulator
from xlsbc.inference.predict import predict

STEP = 3.0
COLUMNS, ROWS = 120, 60

COARSE = [f"{grid}_{dim}" for grid in ("forcing", "driver") for dim in ("latitude", "longitude")]
LONGITUDES = ["longitude", "forcing_longitude", "driver_longitude"]


def globe(
    cell: float = 15.0, dtype: str = "float64", forcing: tuple[float, float] | None = None
) -> xr.Dataset:
    """Random numbers on three degrees with coarse cells of so many, every place another.

    The weather may be known between two longitudes only.
    """
    random = np.random.default_rng(0)
    coarse = round(180 / cell), round(360 / cell)
    totals = random.exponential(size=(1, 13, *coarse))
    months = ("forcing_time", "forcing_latitude", "forcing_longitude")
    fields = {
        "elevation": (("latitude", "longitude"), random.normal(800, 400, (ROWS, COLUMNS))),
        "t2m": (months, random.normal(283, 8, (12, *coarse))),
        "lu_total": (
            ("year", "lu_class", "driver_latitude", "driver_longitude"),
            totals / totals.sum(1, keepdims=True),
        ),
        "lai": (("time", "latitude", "longitude"), 4 * random.random((12, ROWS, COLUMNS))),
    }
    time = pd.date_range("2000-01-01", periods=12, freq="MS")
    coords: dict[str, Any] = {
        "time": time,
        "forcing_time": time.to_numpy(),
        "year": [2000],
        "lu_class": LU.coordinate("lu_class"),
    }
    for grid, step in (("", STEP), ("forcing_", cell), ("driver_", cell)):
        north = 90 - step * (np.arange(round(180 / step)) + 0.5)
        east = -180 + step * (np.arange(round(360 / step)) + 0.5)
        for dim, axis in (("latitude", north), ("longitude", east)):
            about = {"units": "degrees_north" if dim == "latitude" else "degrees_east"}
            coords[grid + dim] = (grid + dim, axis.astype(dtype), {"standard_name": dim, **about})
    cube = xr.Dataset(
        {k: (d, v.astype("float32"), attributes(k)) for k, (d, v) in fields.items()}, coords
    )
    if forcing is not None:
        axis = cube["forcing_longitude"].to_numpy() % 360
        cube = cube.isel(
            forcing_longitude=np.flatnonzero((axis > forcing[0]) & (axis < forcing[1]))
        )
    return cube


def run(cube: xr.Dataset, emulator: Emulator, **options: Any) -> xr.Dataset:
    """Prediction, computed in this thread, by longitudes within -180..180."""
    lazy = predict(cube, emulator, precision="float32", **options)
    found = lazy.compute(scheduler="synchronous")
    return found.assign_coords(longitude=(found["longitude"] + 180) % 360 - 180)


def inner(found: xr.Dataset, halo: int) -> xr.Dataset:
    """What has its context to the west and the east."""
    return found.isel(longitude=slice(halo, -halo))


def assert_same_places(found: xr.Dataset, expected: xr.Dataset) -> None:
    """All values that are found are those expected at their places, to the bit."""
    assert found["lai"].size
    places = {dim: found[dim] for dim in ("latitude", "longitude")}
    there = expected.sel(places, method="nearest", tolerance=1e-3)
    for name in found.data_vars:
        np.testing.assert_array_equal(found[name], there[name])


@pytest.fixture(scope="module")
def cube() -> xr.Dataset:
    return globe()


@pytest.fixture(scope="module")
def emulators(
    wild: Callable[..., Emulator], cube: xr.Dataset
) -> Callable[[int], tuple[Emulator, xr.Dataset]]:
    """A factory of emulators of tiles of a size, and what each predicts for the globe."""
    made: dict[int, tuple[Emulator, xr.Dataset]] = {}

    def make(tile: int) -> tuple[Emulator, xr.Dataset]:
        if tile not in made:
            emulator = wild(cube, tile=tile, given=((),), position=True)
            made[tile] = emulator, run(cube, emulator)
        return made[tile]

    return make


# 120 columns are five tiles of 24, and two of 44 and a part
TILES = [24, 44]


@pytest.mark.parametrize("tile", TILES)
def test_there_is_a_value_everywhere_at_the_poles_and_beside_the_date_line(emulators, tile):
    _, whole = emulators(tile)
    assert bool(whole.to_dataarray().notnull().all())
    assert whole["lai"].sizes == {"time": 12, "latitude": ROWS, "longitude": COLUMNS}


@pytest.mark.proves("determinism")
@settings(max_examples=6)
@given(tile=st.sampled_from(TILES), columns=st.integers(1, COLUMNS - 1))
@example(tile=24, columns=24)
@example(tile=44, columns=60)  # 0..360
def test_a_globe_that_was_turned_gives_every_place_its_value(cube, emulators, tile, columns):
    emulator, whole = emulators(tile)
    turned = cube.roll(longitude=columns, forcing_longitude=columns % 24, roll_coords=True)
    assert_same_places(run(turned, emulator), whole)


@pytest.mark.parametrize("tile", TILES)
def test_longitudes_may_count_from_0_to_360(cube, emulators, tile):
    emulator, whole = emulators(tile)
    other = cube.assign_coords({n: (n, cube[n].values % 360, cube[n].attrs) for n in LONGITUDES})
    assert_same_places(run(other.sortby(LONGITUDES), emulator), whole)
    assert_same_places(run(other, emulator), whole)


@pytest.mark.proves("determinism")
@settings(max_examples=10)
@given(
    tile=st.sampled_from(TILES),
    west=st.integers(0, COLUMNS - 1),
    width=st.integers(22, COLUMNS - 1),
    block=st.integers(1, 3),
)
@example(tile=24, west=80, width=80, block=1)
@example(tile=44, west=110, width=30, block=2)
def test_a_box_across_the_date_line_is_the_globe_there(cube, emulators, tile, west, width, block):
    emulator, whole = emulators(tile)
    columns = np.arange(west, west + width) % COLUMNS
    found = run(cube.isel(longitude=columns), emulator, block=block)
    assert_same_places(inner(found, emulator.halo), whole)


@pytest.mark.parametrize("tile", TILES)
def test_a_pixel_sees_its_neighbours_across_the_date_line_and_no_further(cube, emulators, tile):
    emulator, whole = emulators(tile)
    other = cube.copy(deep=True)
    other["elevation"][30, 0] += 5000
    change = abs(run(other, emulator)["lai"] - whole["lai"]).max(["time", "latitude"]) > 0
    seen = np.flatnonzero(change)
    assert {0, 1, COLUMNS - 1} <= set(seen)
    distance = np.minimum(seen, COLUMNS - seen)
    assert distance.max() <= emulator.halo


def test_coarse_grids_may_be_cut_with_the_box(cube, emulators):
    emulator, whole = emulators(24)
    # columns 140 E to 140 W, and the cells around them and their windows
    columns, cells = np.arange(106, 134) % 120, np.arange(18, 30) % 24
    box = cube.isel(longitude=columns, forcing_longitude=cells, driver_longitude=cells)
    found = run(box, emulator)
    assert_same_places(inner(found, emulator.halo), whole)


def test_weather_of_a_part_across_the_date_line_is_met_from_both_sides(emulators):
    emulator, whole = emulators(24)
    found = run(globe(forcing=(100, 260)), emulator)
    longitude = found["longitude"] % 360
    known = (longitude > 105) & (longitude < 255)  # footprints of whole cells
    np.testing.assert_array_equal(found["lai"].notnull().all(["time", "latitude"]), known)
    near = found.isel(longitude=np.flatnonzero((longitude > 175) & (longitude < 185)))
    assert_same_places(near, whole)


def test_coordinates_of_single_precision_give_every_box_the_same_bits(emulators):
    emulator, whole = emulators(24)
    cube = globe(dtype="float32")
    assert_same_places(run(cube, emulator), whole)
    columns = np.arange(95, 145) % COLUMNS
    assert_same_places(inner(run(cube.isel(longitude=columns), emulator), emulator.halo), whole)


def test_latitudes_from_pole_to_pole_may_lie_on_the_poles(cube, emulators):
    emulator, _ = emulators(24)
    poles = cube.pad(latitude=(0, 1), mode="edge").assign_coords(
        latitude=("latitude", np.linspace(90, -90, ROWS + 1), cube["latitude"].attrs)
    )
    found = run(poles, emulator)
    assert bool(found.to_dataarray().notnull().all())


@pytest.mark.proves("determinism")
def test_chunks_and_threads_change_nothing_on_the_globe(cube, emulators):
    emulator, whole = emulators(44)
    lazy = predict(cube.chunk(latitude=17, longitude=31), emulator, precision="float32", block=2)
    with dask.config.set(scheduler="threads", num_workers=3):
        xr.testing.assert_equal(lazy.compute(), whole)
