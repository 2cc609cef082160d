from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from tests.oracles import assemble, cut, select
from xlsbc.cube.vocabulary import attributes
from xlsbc.emulator import InputVariable, Lattice, Spec
from xlsbc.emulator.sample import Window
from xlsbc.emulator.steps import steps_of
from xlsbc.errors import TrainingError
from xlsbc.training.reader import Known, Place, Reader

ROWS, COLUMNS = 23, 36
ELEVATION = InputVariable(name="elevation", units="m", mean=500.0, std=300.0)
CONDUCTIVITY = InputVariable(
    name="soil_hydraulic_conductivity",
    units="m s-1",
    transform="log",
    mean=-12.0,
    std=2.0,
    optional=True,
)
T2M = InputVariable(name="t2m", units="K", mean=280.0, std=10.0)
CO2 = InputVariable(name="co2", units="1", mean=3.7e-4, std=1e-6)
LATITUDE = InputVariable(name="latitude", units="degrees_north", mean=40.0, std=10.0)
LONGITUDE = InputVariable(name="longitude", units="degrees_east", mean=10.0, std=100.0)

SPECS: dict[str, dict[str, Any]] = {
    "weather": {},
    "all": {"scalars": (CO2,), "driver": True, "state": ("lu_fraction", "lc_fraction")},
    "short memory": {"history": 3, "static": (LATITUDE, CONDUCTIVITY, LONGITUDE)},
    "no weather": {"forcing": (), "history": 1, "scalars": (CO2,)},
    "no statics": {"static": (), "driver": True},
}

WINDOWS = {
    "inside": Window(5, 7, 11, 13),
    "all": Window(0, 0, ROWS, COLUMNS),
    "north west": Window(-3, -4, 10, 12),
    "south east": Window(17, 30, 9, 10),
    "around": Window(-2, -3, ROWS + 5, COLUMNS + 7),
    "one pixel": Window(22, 35, 1, 1),
}


def shares(random: np.random.Generator, years: int, classes: int) -> np.ndarray:
    values = random.dirichlet(np.ones(classes), (years, ROWS, COLUMNS)).transpose(0, 3, 1, 2)
    values[:, :, random.random((ROWS, COLUMNS)) < 0.1] = np.nan
    return values.astype("float32")


def built(daily: bool = False, turn: bool = False) -> xr.Dataset:
    """23 x 36 pixels under 10 x 13 cells, four years of weather, three of maps, gaps in all.

    A pixel is a tenth of a degree wide, or ten where they go around the globe.
    """
    random = np.random.default_rng(7)
    step = 10.0 if turn else 0.1
    west = -175.0 if turn else 10.05
    north, dlat = (85.0, 5.0) if turn else (47.95, 0.1)
    time = pd.date_range("2000-01-01", "2003-12-31", freq="D" if daily else "MS")
    months = pd.date_range("2000-01-01", "2003-06-01", freq="MS").delete([4, 17])
    cells = {
        "forcing_latitude": north + 2 * dlat - 3 * dlat * np.arange(10),
        "forcing_longitude": -180.0 + 24.0 * np.arange(15)
        if turn
        else west - 0.2 + 0.35 * np.arange(13),
        "driver_latitude": north + dlat - 4 * dlat * np.arange(8),
        "driver_longitude": -170.0 + 40.0 * np.arange(9) if turn else west + 0.45 * np.arange(9),
    }
    weather = random.normal(280, 10, (len(time), 10, len(cells["forcing_longitude"])))
    weather[40, 3, 4] = np.nan
    elevation = random.normal(500, 300, (ROWS, COLUMNS))
    elevation[random.random(elevation.shape) < 0.1] = np.nan
    conductivity = np.exp(random.normal(-12, 2, (ROWS, COLUMNS)))
    conductivity[random.random(elevation.shape) < 0.2] = 0
    lai = random.uniform(0, 6, (len(months), ROWS, COLUMNS))
    lai[random.random(lai.shape) < 0.2] = np.nan
    total = random.dirichlet(np.ones(13), (3, 8, 9)).transpose(0, 3, 1, 2)
    fields = {
        "elevation": (("latitude", "longitude"), elevation),
        "soil_hydraulic_conductivity": (("latitude", "longitude"), conductivity),
        "t2m": (("forcing_time", "forcing_latitude", "forcing_longitude"), weather),
        "co2": (("year",), np.array([3.69e-4, 3.71e-4, 3.73e-4])),
        "lu_total": (("year", "lu_class", "driver_latitude", "driver_longitude"), total),
        "lu_fraction": (("year", "lu_class", "latitude", "longitude"), shares(random, 3, 13)),
        "lc_fraction": (("year", "lc_class", "latitude", "longitude"), shares(random, 3, 14)),
        "lai": (("time", "latitude", "longitude"), lai),
    }
    coords = {
        "latitude": north - dlat * np.arange(ROWS),
        "longitude": west + step * np.arange(COLUMNS),
        **cells,
        "forcing_time": time,
        "time": months,
        "year": [2000, 2001, 2002],
    }
    return xr.Dataset(
        {k: (dims, v.astype("float32"), attributes(k)) for k, (dims, v) in fields.items()}, coords
    )


@pytest.fixture(scope="module")
def cube() -> xr.Dataset:
    return built()


@pytest.fixture(scope="module")
def store(cube: xr.Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cube on disk, in chunks that fit neither each other nor a year."""
    return written(cube, tmp_path_factory.mktemp("store") / "cube.zarr")


def written(cube: xr.Dataset, path: Path) -> Path:
    chunks = {"latitude": 7, "longitude": 9, "time": 5, "forcing_time": 50, "year": 2}
    sizes = {
        name: {"chunks": tuple(min(chunks.get(str(d), 4), cube.sizes[d]) for d in field.dims)}
        for name, field in cube.data_vars.items()
    }
    cube.drop_encoding().to_zarr(path, encoding=sizes, zarr_format=2)
    return path


def spec(**changes: Any) -> Spec:
    return Spec(
        **{
            "static": (ELEVATION, CONDUCTIVITY),
            "forcing": (T2M,),
            "targets": ("lu_fraction", "lc_fraction", "lai"),
            "steps": tuple((month, 1) for month in range(1, 13)),
            "lattice": Lattice(dlat=0.1, dlon=0.1),
            **changes,
        }
    )


def labels(cube: xr.Dataset, spec: Spec, window: Window, year: int) -> dict[str, np.ndarray]:
    """Targets as xarray picks them."""
    found = {}
    for name in spec.targets:
        part = cut(cube[[name]], window)[name]
        at = {"time": steps_of(spec, year)[0]} if name == "lai" else {"year": [year]}
        values = part.reindex(at).to_numpy()
        if name != "lai":
            values = values[0].astype("float64")
            values /= values.sum(0)
        found[name] = values.astype("float32")
    return found


def assert_known(found: Known, cube: xr.Dataset, spec: Spec, window: Window, year: int) -> None:
    """The same as the oracle's, to the last bit."""
    expected = assemble(select(cube, spec, window, year), spec)
    for field in dataclasses.fields(expected):
        values, known = getattr(expected, field.name), getattr(found.sample, field.name)
        np.testing.assert_array_equal(known, values, err_msg=field.name, strict=True)
    for name, values in labels(cube, spec, window, year).items():
        np.testing.assert_array_equal(found.targets[name], values, err_msg=name, strict=True)


@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
@pytest.mark.parametrize("changes", SPECS.values(), ids=SPECS)
def test_what_is_read_is_what_xarray_selects(cube, changes, window):
    taken = spec(**changes)
    years = (2001, 2002) if taken.state else (2000, 2001, 2002)
    found = Reader(cube, taken).read(Place(window, years))
    for known, year in zip(found, years, strict=True):
        assert_known(known, cube, taken, window, year)


def test_some_of_what_is_read_is_missing_and_some_is_not(cube):
    known = Reader(cube, spec()).read(Place(WINDOWS["around"], (2001,)))[0]
    assert 0.3 < known.sample.valid.mean() < 0.8
    assert all(0.05 < np.isnan(values).mean() < 0.7 for values in known.targets.values())


def test_a_year_without_maps_has_leaves_and_weather_alone(cube):
    known = Reader(cube, spec()).read(Place(WINDOWS["inside"], (2003,)))[0]
    assert_known(known, cube, spec(), WINDOWS["inside"], 2003)
    assert np.isnan(known.targets["lu_fraction"]).all()
    assert np.isfinite(known.targets["lai"][:6]).any()
    assert np.isnan(known.targets["lai"][6:]).all()


def test_daily_weather_is_read_as_xarray_selects_it():
    cube = built(daily=True)
    for year in (2000, 2001):
        known = Reader(cube, spec()).read(Place(WINDOWS["south east"], (year,)))[0]
        assert_known(known, cube, spec(), WINDOWS["south east"], year)


@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
@pytest.mark.parametrize("how", ["stored", "stored in chunks", "computed", "cut out of a store"])
def test_a_lazy_cube_is_read_as_one_in_memory(cube, store, how, window):
    options: Any = {"chunks": {} if "in chunks" in how else None}
    lazy = xr.open_zarr(store, consolidated=False, **options)
    if how == "computed":
        lazy = (cube.chunk({"latitude": 8, "longitude": 5, "time": 7, "year": 1}) * 2 / 2).map(
            lambda field: field.assign_attrs(cube[field.name].attrs)
        )
    if how.startswith("cut"):
        box = {"latitude": slice(3, 21), "longitude": slice(2, 33)}
        lazy, cube = lazy.isel(box), cube.isel(box)
    taken = spec(**SPECS["all"])
    known = Reader(lazy, taken).read(Place(window, (2002,)))[0]
    assert_known(known, cube, taken, window, 2002)


@pytest.mark.parametrize("left", [-40, -36, -10, -1, 0, 29, 36])
@pytest.mark.parametrize("width", [9, 30, 36])
def test_around_the_globe_a_window_goes_on_across_the_date_line(left, width):
    cube, window = built(turn=True), Window(4, left, 12, width)
    rolled = cube.roll(longitude=-left).assign_coords(  # so that the window begins it
        longitude=cube["longitude"] + 10.0 * left
    )
    taken = spec(**SPECS["all"], lattice=Lattice(dlat=5.0, dlon=10.0))
    known = Reader(cube, taken).read(Place(window, (2001,)))[0]
    assert_known(known, rolled, taken, Window(4, 0, 12, width), 2001)
    assert known.sample.valid.any()


def test_the_years_before_lead_to_a_year_as_far_as_they_are_there(cube):
    taken = spec(**SPECS["all"])
    window = WINDOWS["north west"]
    first, second = Reader(cube, taken, lead=2).read(Place(window, (2001, 2002)))
    assert first.lead == ()  # its state would be of 1999
    assert len(second.lead) == 1
    assert_known(Known(second.lead[0], {}), cube, spec(**SPECS["all"], targets=()), window, 2001)


def test_years_before_a_gap_do_not_lead_to_a_year_after_it(cube):
    apart = cube[["elevation", "lc_fraction"]].isel(year=[0, 1, 2, 2])
    apart = apart.assign_coords(year=[1996, 1997, 2002, 2003])
    taken = spec(
        static=(ELEVATION,), forcing=(), history=1, state=("lc_fraction",), targets=("lc_fraction",)
    )
    (known,) = Reader(apart, taken, lead=8).read(Place(WINDOWS["inside"], (2003,)))
    assert known.lead == ()


def test_what_does_not_change_is_in_memory_once(cube):
    taken = spec(static=(ELEVATION, CONDUCTIVITY), forcing=(), history=1)
    one, two = Reader(cube, taken).read(Place(WINDOWS["inside"], (2000, 2001)))
    assert one.sample.static is two.sample.static


def test_edges_are_those_of_the_chunks_of_what_is_largest(store, cube):
    found = Reader(xr.open_zarr(store, consolidated=False, chunks=None), spec()).edges
    assert found is not None
    assert found[0].tolist() == [0, 7, 14, 21, 23]
    assert found[1].tolist() == [0, 9, 18, 27, 36]
    assert Reader(cube, spec()).edges is None


def test_a_cube_cut_out_of_a_store_begins_with_what_is_left_of_a_chunk(store):
    lazy = xr.open_zarr(store, consolidated=False, chunks=None)
    found = Reader(lazy.isel(latitude=slice(3, None), longitude=slice(10, 30)), spec()).edges
    assert found is not None
    assert [axis.tolist() for axis in found] == [[0, 4, 11, 18, 20], [0, 8, 17, 20]]


@pytest.mark.proves("lost-chunk")
def test_a_chunk_that_is_lost_is_an_error_that_names_variable_place_and_years(cube, tmp_path):
    path = written(cube, tmp_path / "lost.zarr")
    reader = Reader(xr.open_zarr(path, consolidated=False, chunks=None), spec())
    (path / "lc_fraction" / "0.0.1.1").unlink()
    place = Place(Window(8, 10, 4, 5), (2000, 2001))
    with pytest.raises(TrainingError) as error:
        reader.read(place)
    text = str(error.value)
    assert "'lc_fraction'" in text
    assert "47.15 to 46.85 degrees north, 11.05 to 11.45 east, of 2000 and 2001" in text


@pytest.mark.proves("lost-chunk")
def test_a_store_that_is_gone_is_an_error_that_names_the_place(cube, tmp_path):
    path = written(cube, tmp_path / "gone.zarr")
    reader = Reader(xr.open_zarr(path, consolidated=False, chunks=None), spec())
    shutil.rmtree(path)
    with pytest.raises(TrainingError, match=r"47.15 to .* of 2000: input 'elevation'"):
        reader.read(Place(Window(8, 10, 4, 5), (2000,)))


def test_what_dask_fails_to_compute_is_an_error_that_names_the_place(cube):
    def fail(block: np.ndarray) -> np.ndarray:
        raise OSError("disk full of holes")

    lazy = cube.chunk({"latitude": 8})
    broken = lazy["lai"].data.map_blocks(fail, dtype="float32", meta=np.empty((0, 0, 0), "f4"))
    lazy["lai"] = (lazy["lai"].dims, broken, lazy["lai"].attrs)
    with pytest.raises(TrainingError, match=r"47.15 to .* of 2000: .*'lai'.*full of holes"):
        Reader(lazy, spec()).read(Place(Window(8, 10, 4, 5), (2000,)))


def test_fractions_that_are_no_shares_are_an_error_that_names_the_place(cube):
    broken = cube.copy(deep=True)
    broken["lu_fraction"][1] *= 2
    with pytest.raises(TrainingError, match=r"47.15 to 46.85 .* of 2001: lu_fraction must be sh"):
        Reader(broken, spec()).read(Place(Window(8, 10, 4, 5), (2001,)))
