"""What can be asked of a prediction, and what is refused; test_invariance.py has its values."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from shutil import which
from typing import Any

import dask
import numpy as np
import pytest
import torch
import xarray as xr

from xlsbc.cube.conform import conform
from xlsbc.cube.legends import LC, LU
from xlsbc.emulator import Emulator
from xlsbc.errors import CubeError, EmulatorError
from xlsbc.inference.engine import Engine
from xlsbc.inference.predict import predict

STATICS = ["elevation", "slope", "clay_fraction", "sand_fraction", "soil_porosity"]
ROWS, COLUMNS = 23, 29


@pytest.fixture(scope="module")
def corner(world: xr.Dataset) -> xr.Dataset:
    """23 x 29 pixels of the world over two by three tiles."""
    return world.isel(latitude=slice(9, 9 + ROWS), longitude=slice(15, 15 + COLUMNS))


@pytest.fixture(scope="module")
def emulator(world: xr.Dataset, untrained: Callable[..., Emulator]) -> Emulator:
    """An emulator whose random weights are so large that places and times differ."""
    made = untrained(world)
    torch.manual_seed(0)
    for parameter in made.network.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return made


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """What is computed here is so where no test says otherwise."""
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.fixture(scope="module")
def prediction(corner: xr.Dataset, emulator: Emulator) -> xr.Dataset:
    return predict(corner, emulator).compute()


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with every window that the network runs."""
    made: list[int] = []
    original = Engine.run

    def counted(self: Engine, samples: Any, names: Any) -> Any:
        made.extend(1 for _ in samples)
        return original(self, samples, names)

    monkeypatch.setattr(Engine, "run", counted)
    return made


def assert_same_bits(found: xr.Dataset, expected: xr.Dataset) -> None:
    xr.testing.assert_equal(found.compute(), expected)  # NaN equals NaN, nothing else is near


def test_nothing_is_computed_before_it_is_asked_for(corner, emulator, no_compute):
    lazy = corner.chunk({"latitude": 16, "longitude": 16})
    found = predict(lazy, emulator, given=("lc_fraction",))
    assert all(field.chunks for field in found.values())
    assert found.sizes == {
        **{"year": 2, "time": 24, "lu_class": 13, "lc_class": 14},
        **{"latitude": ROWS, "longitude": COLUMNS},
    }


def test_a_part_of_a_prediction_runs_its_own_tile_only(corner, emulator, runs):
    predict(corner, emulator)["lai"].isel(time=3, latitude=20, longitude=20).compute()
    assert len(runs) == 1


def test_a_tile_runs_once_for_all_its_variables(corner, emulator, runs):
    found = predict(corner, emulator, period=[2001]).compute()
    assert len(found.data_vars) == 7
    assert len(runs) == 2 * 3


def test_the_same_prediction_has_the_same_name_and_another_another(corner, emulator, untrained):
    def name(cube: xr.Dataset, emulator: Emulator, **options: Any) -> str:
        return predict(cube, emulator, period=[2001], **options)["lai"].data.name

    key = name(corner, emulator)
    assert name(corner.copy(deep=True), emulator) == key
    others = {
        name(corner, untrained(corner, seed=5)),
        name(corner.assign(elevation=corner["elevation"] + 1), emulator),
        name(corner, emulator, given=("lc_fraction",)),
    }
    assert len(others - {key}) == 3


def test_a_pixel_that_misses_an_input_is_missing_in_all_outputs_and_no_other_is(
    corner, emulator, prediction
):
    assert prediction.to_dataarray().notnull().all()
    holes = {"elevation": (11, 15), "slope": (0, 0), "clay_fraction": (ROWS - 1, 2)}
    holed = corner.assign({name: corner[name].copy(deep=True) for name in holes})
    expected = np.zeros((ROWS, COLUMNS), bool)
    for name, pixel in holes.items():
        holed[name][pixel] = np.nan
        expected[pixel] = True
    found = predict(holed, emulator, period=[2001]).compute()
    for field in found.values():
        np.testing.assert_array_equal(field.isnull(), np.broadcast_to(expected, field.shape))
    whole = prediction["lai"].sel(time="2001")
    changed = (found["lai"] != whole).any("time").to_numpy()
    assert changed[11, 16]  # it saw that something is missing beside it
    assert not changed[:, 26:].any()  # further away than the halo, 10 pixels


def test_an_optional_input_may_be_missing(corner, untrained):
    emulator = untrained(corner, optional=("elevation", "slope"))
    holed = corner.assign(elevation=corner["elevation"].where(corner["longitude"] > 8.3))
    found = predict(holed, emulator, period=[2001]).compute()
    assert found.to_dataarray().notnull().all()


def test_beyond_the_forcing_there_is_no_prediction(corner, emulator):
    west = corner.isel(forcing_longitude=slice(0, 2))  # its last cell ends at 8.25 E
    found = predict(west, emulator, period=[2001])["lai"].isel(time=6).compute()
    beyond = corner["longitude"] > 8.25
    assert beyond.any()
    assert not beyond.all()
    np.testing.assert_array_equal(found.isnull(), beyond.broadcast_like(found))


def test_a_sea_costs_nothing_and_is_missing(corner, emulator, runs):
    sea = corner.assign({name: corner[name] * np.nan for name in STATICS})
    found = predict(sea, emulator).compute()
    assert runs == []
    assert found.to_dataarray().isnull().all()
    assert {field.dtype for field in found.values()} == {np.dtype("float32")}


def test_where_a_given_fraction_is_missing_the_prediction_is(corner, emulator):
    gap = (corner["year"] == 2001) & (corner["longitude"] > 8.3) & (corner["latitude"] < 45.8)
    cover = corner["lc_fraction"].where(~gap)
    found = predict(corner.assign(lc_fraction=cover), emulator, given=("lc_fraction",)).compute()
    missing = found["lu_fraction"].isnull().any("lu_class")
    assert missing.any()
    np.testing.assert_array_equal(missing, cover.isnull().any("lc_class"))


def test_a_prediction_is_a_cube_with_cf_attributes(corner, emulator, prediction):
    assert prediction["lai"].attrs["standard_name"] == "leaf_area_index"
    assert prediction["lu_fraction"].dims == ("year", "lu_class", "latitude", "longitude")
    assert tuple(prediction["lu_class"].to_numpy()) == LU.ids
    assert tuple(prediction["lc_class"].to_numpy()) == LC.ids
    assert prediction["lu_class"].attrs["legend"] == "luh2"
    for dim in ("latitude", "longitude", "time", "year"):
        xr.testing.assert_identical(prediction[dim].variable, corner[dim].variable)
    assert prediction.attrs["Conventions"] == "CF-1.12"
    assert prediction.attrs["xlsbc_emulator"] == emulator.hash
    assert prediction.attrs["xlsbc_given"] == ""
    xr.testing.assert_equal(conform(prediction)["lai"], prediction["lai"])


def test_targets_and_period_can_be_chosen_in_any_order(corner, emulator, prediction):
    found = predict(corner, emulator, targets=("lai_hv", "cvh"), period=(2001, 2000, 2001))
    assert list(found.data_vars) == ["lai_hv", "cvh"]
    assert "lu_class" not in found.dims
    assert_same_bits(found, prediction[["lai_hv", "cvh"]])
    one = predict(corner, emulator, targets="lai", period=[2001])
    assert_same_bits(one, prediction[["lai"]].sel(time="2001"))


def test_one_name_is_a_list_of_one(corner, emulator):
    one = predict(corner, emulator, given="lc_fraction", targets="lai", period=[2001])
    assert list(one.data_vars) == ["lai"]
    assert one.attrs["xlsbc_given"] == "lc_fraction"


def test_an_emulator_is_taken_by_its_url(corner, emulator, prediction, tmp_path):
    url = emulator.save(str(tmp_path / "emulator"))
    found = corner.lsbc.predict(url, period=[2001])
    assert_same_bits(found, prediction.sel(year=[2001], time="2001"))


@pytest.mark.proves("bad-cube")
def test_every_reason_why_a_cube_does_not_fit_is_named_at_once(corner, emulator):
    coarse = corner.drop_vars(["t2m", "lu_total", "clay_fraction"]).isel(latitude=slice(0, 22, 3))
    with pytest.raises(EmulatorError, match="cannot be used on this cube") as caught:
        predict(coarse, emulator, given=("lu_fraction", "snow"), targets=("lai", "albedo"))
    expected = [
        r"input 'clay_fraction' \(volume_fraction_of_clay_in_soil\) is not in the cube",
        r"input 't2m' \(air_temperature\) is not in the cube",
        "input 'lu_total'",
        r"given=\('lu_fraction', 'snow'\) was not learned; .* \('lu_fraction',\) or",
        "'snow' is given but not in the cube",
        "dlat of the grid is 0.025 degrees, the emulator's 0.00833",
        r"\['albedo'\] is not what the emulator gives",
    ]
    assert len(caught.value.problems) == len(expected)
    for problem, pattern in zip(caught.value.problems, expected, strict=True):
        assert re.match(pattern, problem), problem


@pytest.mark.proves("bad-cube")
def test_an_input_in_other_units_than_it_was_learned_in_is_refused(corner, untrained):
    litter = corner["elevation"].copy()
    litter.attrs = {"xlsbc_role": "static", "units": "kg m-2", "long_name": "litter"}
    emulator = untrained(corner.assign(litter=litter))
    with pytest.raises(EmulatorError, match="'litter' was learned in 'kg m-2' and is in 'g m-2'"):
        predict(corner.assign(litter=litter.assign_attrs(units="g m-2")), emulator)


@pytest.mark.proves("bad-cube")
@pytest.mark.parametrize(
    ("period", "match"),
    [
        ([1999, 2000], r"years \[1999\] lack inputs; the cube has \[2000, 2001\]"),
        ([], "period names no year"),
    ],
)
def test_years_that_lack_inputs_are_refused(corner, emulator, period, match):
    with pytest.raises(EmulatorError, match=match):
        predict(corner, emulator, period=period)


def test_a_year_without_a_map_of_what_is_given_is_not_predicted(corner, untrained):
    still = corner.drop_vars(["co2", "lu_total"])
    emulator = untrained(still)
    one_map = still.sel(year=[2001])
    assert predict(one_map, emulator)["year"].values.tolist() == [1999, 2000, 2001]
    assert predict(one_map, emulator, given=("lc_fraction",))["year"].values.tolist() == [2001]


def test_without_anything_that_has_a_year_any_can_be_asked_for(corner, untrained):
    emulator = untrained(corner[[*STATICS, "lai"]])
    statics = corner[STATICS]
    with pytest.raises(EmulatorError, match=r"the cube has no year; pass period="):
        predict(statics, emulator)
    found = predict(statics, emulator, period=[2030])
    assert found["time"].dt.year.values.tolist() == [2030] * 12
    assert found["lai"].isel(time=6).compute().notnull().all()


@pytest.mark.proves("bad-cube")
def test_what_is_no_cube_is_a_cube_error(emulator):
    with pytest.raises(CubeError):
        predict(xr.Dataset({"dem": ("station", [1.0, 2.0])}), emulator)


@pytest.mark.proves("bad-cube")
def test_given_fractions_that_are_no_shares_are_refused_when_they_are_read(corner, emulator):
    wrong = corner.assign(lc_fraction=corner["lc_fraction"] * 2)
    found = predict(wrong, emulator, given=("lc_fraction",), period=[2001])
    with pytest.raises(EmulatorError, match="lc_fraction must be shares that sum to 1"):
        found["lai"].compute()


@pytest.mark.proves("determinism")
@pytest.mark.slow
def test_a_distributed_cluster_of_processes_changes_no_bit(corner, emulator):
    from distributed import Client, LocalCluster

    lazy = predict(corner.chunk({"latitude": 20, "longitude": 30}), emulator, period=[2001])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as a worker has by default: convolutions split sums by thread
    try:
        expected = lazy.compute(scheduler="synchronous")
    finally:
        torch.set_num_threads(threads)
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster),
        dask.config.set(scheduler=None),
    ):
        assert_same_bits(lazy, expected)


@pytest.mark.slow
@pytest.mark.skipif(which("g++") is None, reason="needs a C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_a_compiled_network_gives_the_same_but_for_the_last_bits(corner, emulator):
    expected = predict(corner, emulator, precision="float32")
    compiled = predict(corner, emulator, precision="float32", compile=True)
    assert compiled.xlsbc_precision == "float32, compiled"
    counts = torch._dynamo.utils.counters["stats"]
    before = counts["unique_graphs"]
    found = compiled.compute(scheduler="threads")
    assert counts["unique_graphs"] == before + 1
    for targets in (["lai"], ["cvh", "lu_fraction"]):  # one backbone, whatever is asked of it
        part = predict(corner, emulator, targets=targets, precision="float32", compile=True)
        xr.testing.assert_identical(part.compute(), found[targets])
    assert counts["unique_graphs"] == before + 1
    torch._dynamo.reset()
    for name, field in expected.compute().data_vars.items():
        np.testing.assert_allclose(found[name], field, rtol=1e-3, atol=1e-4, err_msg=name)
