from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
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
from xlsbc.inference.predict import predict
from xlsbc.physics.consistency import check

STATICS = ["elevation", "slope", "clay_fraction", "sand_fraction", "soil_porosity"]


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
def prediction(world: xr.Dataset, emulator: Emulator) -> xr.Dataset:
    return predict(world, emulator).compute()


def retiled(emulator: Emulator, tile: int) -> Emulator:
    lattice = emulator.spec.lattice.model_copy(update={"tile": tile})
    return Emulator(emulator.spec.model_copy(update={"lattice": lattice}), emulator.network)


def assert_same_bits(found: xr.Dataset, expected: xr.Dataset) -> None:
    xr.testing.assert_equal(found.compute(), expected)  # NaN equals NaN, nothing else is near


def test_a_region_of_many_tiles_equals_the_region_computed_whole(world, emulator, prediction):
    whole = predict(world, retiled(emulator, 240))
    assert len(whole["lai"].chunks[1]) * len(whole["lai"].chunks[2]) < 3
    # sums of a hundred float32 products, whose order depends on the size of the window
    xr.testing.assert_allclose(whole.compute(), prediction, atol=1e-5, rtol=0)
    assert float(prediction["lai"].std()) > 0.1


@pytest.mark.parametrize(
    "chunks",
    [
        {"latitude": 7, "longitude": 11, "year": 1, "forcing_time": 5, "time": 1},
        {"latitude": -1, "longitude": 5, "forcing_latitude": 1, "lu_class": 4},
    ],
)
def test_the_chunks_of_the_input_change_no_bit(world, emulator, prediction, chunks):
    chunks = {dim: n for dim, n in chunks.items() if dim in world.dims}
    assert_same_bits(predict(world.chunk(chunks), emulator), prediction)


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_the_scheduler_changes_no_bit(world, emulator, prediction, scheduler):
    with dask.config.set(scheduler=scheduler, num_workers=4):
        assert_same_bits(predict(world.chunk({"latitude": 16}), emulator), prediction)


def test_a_box_cut_out_with_its_context_has_the_same_bits_inside(world, emulator, prediction):
    halo = emulator.halo
    box = world.isel(latitude=slice(5, 33), longitude=slice(9, 50))
    inner = {"latitude": slice(halo, -halo), "longitude": slice(halo, -halo)}
    outer = {
        "latitude": slice(5 + halo, 33 - halo),
        "longitude": slice(9 + halo, 50 - halo),
    }
    assert_same_bits(predict(box, emulator).isel(inner), prediction.isel(outer))


def test_context_that_is_cut_off_matters_within_the_halo(world, emulator, prediction):
    box = predict(world.isel(longitude=slice(20, None)), emulator)["lai"].compute()
    apart = abs(box - prediction["lai"].isel(longitude=slice(20, None))).max(["time", "latitude"])
    assert float(apart[0]) > 1e-4
    assert (apart[emulator.halo :] == 0).all()


def test_nothing_is_computed_before_it_is_asked_for(world, emulator, no_compute):
    lazy = world.chunk({"latitude": 16, "longitude": 16})
    found = predict(lazy, emulator, given=("lc_fraction",))
    assert all(field.chunks for field in found.values())
    assert found.sizes == {
        **{"year": 2, "time": 24, "lu_class": 13, "lc_class": 14},
        **{"latitude": 37, "longitude": 53},
    }


def test_a_part_of_a_prediction_runs_its_own_tiles_only(world, emulator, monkeypatch):
    run = []
    original = Emulator.run
    monkeypatch.setattr(Emulator, "run", lambda self, s: run.append(1) or original(self, s))
    predict(world, emulator)["lai"].isel(time=3, latitude=20, longitude=20).compute()
    assert len(run) == 1


def test_a_tile_runs_once_for_all_its_variables(world, emulator, monkeypatch):
    run = []
    original = Emulator.run
    monkeypatch.setattr(Emulator, "run", lambda self, s: run.append(1) or original(self, s))
    found = predict(world, emulator, period=[2001]).compute()
    rows, columns = (len(c) for c in predict(world, emulator)["lai"].chunks[1:])
    assert len(run) == rows * columns
    assert len(found.data_vars) == 7


def test_the_same_prediction_has_the_same_name_and_another_another(world, emulator, untrained):
    key = predict(world, emulator)["lai"].data.name
    assert predict(world.copy(deep=True), emulator)["lai"].data.name == key
    others = [
        predict(world, untrained(world, seed=5)),
        predict(world.assign(elevation=world["elevation"] + 1), emulator),
        predict(world, emulator, given=("lc_fraction",)),
        predict(world, retiled(emulator, 32)),
    ]
    assert len({key, *(other["lai"].data.name for other in others)}) == 5


def test_a_pixel_that_misses_an_input_is_missing_in_all_outputs_and_no_other_is(
    world, emulator, prediction
):
    assert prediction.to_dataarray().notnull().all()
    holes = {"elevation": (20, 30), "slope": (0, 0), "clay_fraction": (36, 52)}
    holed = world.assign({name: world[name].copy(deep=True) for name in holes})
    expected = np.zeros((37, 53), bool)
    for name, pixel in holes.items():
        holed[name][pixel] = np.nan
        expected[pixel] = True
    found = predict(holed, emulator, period=[2001]).compute()
    for field in found.values():
        np.testing.assert_array_equal(field.isnull(), np.broadcast_to(expected, field.shape))
    near, far = {"latitude": 20, "longitude": 31}, {"latitude": 18, "longitude": 15}
    whole = prediction["lai"].sel(time="2001")
    assert (found["lai"].isel(near) != whole.isel(near)).any()  # it saw that something is missing
    assert (found["lai"].isel(far) == whole.isel(far)).all()


def test_an_optional_input_may_be_missing(world, untrained):
    emulator = untrained(world, optional=("elevation", "slope"))
    holed = world.assign(elevation=world["elevation"].where(world["longitude"] > 8.3))
    found = predict(holed, emulator, period=[2001]).compute()
    assert found.to_dataarray().notnull().all()


def test_beyond_the_forcing_there_is_no_prediction(world, emulator):
    west = world.isel(forcing_longitude=slice(0, 2))  # its last cell ends at 8.25 E
    found = predict(west, emulator, period=[2001])["lai"].isel(time=6).compute()
    beyond = world["longitude"] > 8.25
    np.testing.assert_array_equal(found.isnull(), beyond.broadcast_like(found))


def test_a_sea_costs_nothing_and_is_missing(world, emulator, monkeypatch):
    def refuse(*args: Any) -> None:
        raise AssertionError("the network ran")

    monkeypatch.setattr(Emulator, "run", refuse)
    sea = world.assign({name: world[name] * np.nan for name in STATICS})
    found = predict(sea, emulator).compute()
    assert found.to_dataarray().isnull().all()
    assert found["lai"].dtype == np.float32


def test_given_cover_comes_back_to_the_last_bit_and_the_rest_is_consistent_with_it(
    world, emulator, prediction
):
    cover = prediction["lc_fraction"]
    found = predict(world.assign(lc_fraction=cover), emulator, given=("lc_fraction",)).compute()
    assert abs(found["lc_fraction"] - cover).max() < 1e-7  # divided by a sum of 1
    assert abs(found["lu_fraction"] - prediction["lu_fraction"]).max() > 0.01
    assert check(found).attrs["passed"]
    assert found.attrs["xlsbc_given"] == "lc_fraction"


def test_given_use_comes_back_and_the_rest_is_consistent_with_it(world, emulator, prediction):
    use = prediction["lu_fraction"]
    found = predict(world.assign(lu_fraction=use), emulator, given="lu_fraction").compute()
    assert abs(found["lu_fraction"] - use).max() < 1e-7
    assert check(found).attrs["passed"]


def test_use_and_cover_may_both_be_given(world, untrained, prediction):
    emulator = untrained(world, given=[("lu_fraction", "lc_fraction")])
    cube = world.assign({n: prediction[n] for n in ("lu_fraction", "lc_fraction")})
    found = predict(cube, emulator).compute()
    assert abs(found["lc_fraction"] - prediction["lc_fraction"]).max() < 1e-7
    assert abs(found["lu_fraction"] - prediction["lu_fraction"]).mean() < 1e-3
    assert check(found).attrs["passed"]
    assert found.attrs["xlsbc_given"] == "lu_fraction lc_fraction"


def test_where_a_given_fraction_is_missing_the_prediction_is(world, emulator):
    gap = (world["year"] == 2001) & (world["longitude"] > 8.3) & (world["latitude"] < 45.8)
    cover = world["lc_fraction"].where(~gap)
    found = predict(world.assign(lc_fraction=cover), emulator, given=("lc_fraction",)).compute()
    missing = found["lu_fraction"].isnull().any("lu_class")
    np.testing.assert_array_equal(missing, gap.transpose(*missing.dims))


def test_any_prediction_is_physically_consistent(prediction):
    found = check(prediction)
    assert found.attrs["passed"]
    assert all(rule.attrs["looked_at"] > 0 for rule in found.values())


def test_leaves_of_tall_and_low_vegetation_are_means_over_their_cover(prediction):
    year = prediction.sel(time="2001", year=2001)
    high = [LC.index(c.id) for c in LC.classes if c.vegetation == "high"]
    expected = year["lc_fraction"].isel(lc_class=high).sum("lc_class")
    xr.testing.assert_allclose(year["cvh"], expected, atol=1e-6)
    closed = year["cvh"] * year["lai_hv"] + year["cvl"] * year["lai_lv"]
    np.testing.assert_allclose(closed.transpose("time", ...), year["lai"], atol=1e-5)


def test_a_prediction_is_a_cube_with_cf_attributes(world, emulator, prediction):
    assert prediction["lai"].attrs["standard_name"] == "leaf_area_index"
    assert prediction["lai"].attrs["units"] == "1"
    assert prediction["lu_fraction"].dims == ("year", "lu_class", "latitude", "longitude")
    assert tuple(prediction["lc_class"].to_numpy()) == LC.ids
    assert prediction["lu_class"].attrs["legend"] == "luh2"
    for dim in ("latitude", "longitude", "time", "year"):
        xr.testing.assert_identical(prediction[dim].variable, world[dim].variable)
    assert prediction.attrs["Conventions"] == "CF-1.12"
    assert prediction.attrs["xlsbc_emulator"] == emulator.hash
    assert prediction.attrs["xlsbc_given"] == ""
    xr.testing.assert_equal(conform(prediction)["lai"], prediction["lai"])


def test_targets_and_period_can_be_chosen_in_any_order(world, emulator, prediction):
    found = predict(world, emulator, targets=("lai_hv", "cvh"), period=(2001, 2000, 2001))
    assert list(found.data_vars) == ["lai_hv", "cvh"]
    assert "lu_class" not in found.dims
    assert_same_bits(found, prediction[["lai_hv", "cvh"]])
    one = predict(world, emulator, targets="lai", period=[2001])
    assert_same_bits(one, prediction[["lai"]].sel(time="2001"))


def test_an_emulator_is_taken_by_its_url(world, emulator, prediction, tmp_path):
    url = emulator.save(str(tmp_path / "emulator"))
    assert_same_bits(world.lsbc.predict(url), prediction)


def test_latitudes_that_ascend_and_other_names_give_the_same(world, emulator, prediction):
    other = world.isel(latitude=slice(None, None, -1), forcing_latitude=slice(None, None, -1))
    other = other.rename(latitude="lat", longitude="lon", elevation="dem", t2m="temperature")
    assert_same_bits(predict(other, emulator), prediction)


def test_a_region_across_the_date_line_is_one_region(emulator):
    from xlsbc.cube.synthetic import synthetic_cube

    region = (179.9, 67.6, -179.85, 67.8)  # Chukotka
    cube = synthetic_cube(region=region, years=(2000, 2001))
    assert float(cube["longitude"].max()) > 180
    found = predict(cube, emulator, period=[2001]).compute()
    xr.testing.assert_equal(found["longitude"], cube["longitude"])
    land = cube["elevation"].notnull()
    assert found["lai"].notnull().any()
    assert not (found["lai"].notnull() & ~land).any()
    if land.all():
        east = found["lai"].sel(longitude=slice(180, None))
        jump = abs(east.isel(longitude=0) - found["lai"].sel(longitude=slice(None, 180))[..., -1])
        assert float(jump.max()) < 1


def test_threads_of_a_scheduler_run_one_window_at_a_time(world, emulator, monkeypatch):
    running, most = [], []
    original = Emulator.run

    def watched(self, samples):
        running.append(threading.get_ident())
        most.append(len(running))
        outputs = original(self, samples)
        running.remove(threading.get_ident())
        return outputs

    monkeypatch.setattr(Emulator, "run", watched)
    with dask.config.set(scheduler="threads", num_workers=4):
        predict(world, emulator).compute()
    assert max(most) == 1


def test_every_reason_why_a_cube_does_not_fit_is_named_at_once(world, emulator):
    coarse = world.drop_vars(["t2m", "lu_total", "clay_fraction"]).isel(latitude=slice(0, 37, 3))
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


def test_an_input_in_other_units_than_it_was_learned_in_is_refused(world, untrained):
    own = {"xlsbc_role": "static", "units": "kg m-2", "long_name": "litter"}
    litter = xr.zeros_like(world["elevation"]).assign_attrs(own) + world["elevation"]
    litter.attrs = own
    emulator = untrained(world.assign(litter=litter))
    with pytest.raises(EmulatorError, match="'litter' was learned in 'kg m-2' and is in 'g m-2'"):
        predict(world.assign(litter=litter.assign_attrs(units="g m-2")), emulator)


@pytest.mark.parametrize(
    ("period", "match"),
    [
        ([1999, 2000], r"years \[1999\] lack inputs; the cube has \[2000, 2001\]"),
        ([], "period names no year"),
    ],
)
def test_years_that_lack_inputs_are_refused(world, emulator, period, match):
    with pytest.raises(EmulatorError, match=match):
        predict(world, emulator, period=period)


def test_a_year_without_a_map_of_what_is_given_is_not_predicted(world, untrained):
    emulator = untrained(world.drop_vars(["co2", "lu_total"]))
    one_map = world.drop_vars(["co2", "lu_total"]).sel(year=[2001])
    assert predict(one_map, emulator)["year"].values.tolist() == [1999, 2000, 2001]
    assert predict(one_map, emulator, given=("lc_fraction",))["year"].values.tolist() == [2001]


def test_without_anything_that_has_a_year_any_can_be_asked_for(world, untrained):
    still = world[[*STATICS, "lai"]]
    emulator = untrained(still)
    statics = world[STATICS]
    with pytest.raises(EmulatorError, match=r"the cube has no year; pass period="):
        predict(statics, emulator)
    found = predict(statics, emulator, period=[2030])
    assert found["time"].dt.year.values.tolist() == [2030] * 12
    assert found["lai"].isel(time=6).compute().notnull().all()


def test_what_is_no_cube_is_a_cube_error(emulator):
    with pytest.raises(CubeError):
        predict(xr.Dataset({"dem": ("station", [1.0, 2.0])}), emulator)


def test_given_fractions_that_are_no_shares_are_refused_when_they_are_read(world, emulator):
    wrong = world.assign(lc_fraction=world["lc_fraction"] * 2)
    found = predict(wrong, emulator, given=("lc_fraction",))
    with pytest.raises(EmulatorError, match="lc_fraction must be shares that sum to 1"):
        found["lai"].compute()


def test_use_and_cover_have_the_classes_of_their_legends(prediction):
    assert prediction.sizes["lu_class"] == len(LU.classes)
    assert prediction.sizes["lc_class"] == len(LC.classes)


@pytest.mark.slow
def test_a_distributed_cluster_of_processes_changes_no_bit(world, emulator, prediction):
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster),
        dask.config.set(scheduler=None),
    ):
        lazy = world.chunk({"latitude": 20, "longitude": 30})
        found = predict(lazy, emulator, period=[2001])
        assert_same_bits(found, prediction.sel(year=[2001], time="2001"))
