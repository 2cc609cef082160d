"""Emulators with memory: a year goes on from what was predicted for the year before."""

from __future__ import annotations

from pathlib import Path

import dask
import numpy as np
import pytest
import xarray as xr

from xlsbc.cube.store.writer import write
from xlsbc.errors import EmulatorError
from xlsbc.inference.predict import predict
from xlsbc.inference.run import as_stored

STATE = ("lu_fraction", "lc_fraction")


def run(cube, emulator, **options):
    lazy = predict(cube, emulator, **{"precision": "float32", **options})
    return lazy.compute(scheduler="synchronous")


@pytest.fixture(scope="module")
def history(land) -> xr.Dataset:
    """The random land with four years, of which only the first has maps of land use and cover."""
    cube = land()
    years = [2000, 2001, 2002, 2003]
    yearly = [n for n, f in cube.data_vars.items() if "year" in f.dims]
    maps = {n: cube[n].isel(year=[0, 1, 0, 1]).assign_coords(year=years) for n in yearly}
    for name in STATE:
        maps[name] = maps[name].where(maps[name]["year"] < 2001)
    weather = cube[["t2m", "tp"]]
    later = weather.assign_coords(
        forcing_time=(weather["forcing_time"] + np.timedelta64(731, "D")).to_numpy()
    )
    forcing = xr.concat([weather, later], "forcing_time")
    rest = cube.drop_dims(["year", "forcing_time", "time"])
    times = np.arange("2000-01", "2004-01", dtype="M8[M]").astype("M8[ns]")
    forcing = forcing.assign_coords(forcing_time=times)
    lai = cube["lai"].isel(time=[*range(24), *range(24)]).assign_coords(time=times)
    return xr.merge([rest, xr.Dataset(maps), forcing, lai.to_dataset()]).assign_attrs(cube.attrs)


@pytest.fixture(scope="module")
def emulator(wild, history):
    return wild(history, state=STATE, given=((),))


@pytest.fixture(scope="module")
def rolled(history, emulator) -> xr.Dataset:
    return run(history, emulator)


def test_years_without_maps_are_predicted_from_the_first_that_has_them(rolled):
    assert rolled["year"].values.tolist() == [2001, 2002, 2003]
    assert bool(rolled.to_dataarray().notnull().all())


def test_a_year_goes_on_from_what_is_stored_of_the_year_before(history, emulator, rolled):
    before = rolled[list(STATE)].sel(year=[2001])
    maps = {
        name: xr.concat(
            [
                history[name].sel(year=[2000]),
                before[name].copy(data=as_stored(name, before[name].to_numpy()[0])[None]),
                history[name].sel(year=[2002, 2003]),
            ],
            "year",
        ).transpose(*history[name].dims)
        for name in STATE
    }
    alone = run(history.assign(maps), emulator, period=[2002])
    # shares that passed through the cube are normalised as those of the prediction are
    xr.testing.assert_equal(alone["lai"], rolled["lai"].sel(time="2002"))
    xr.testing.assert_equal(alone["lu_fraction"], rolled["lu_fraction"].sel(year=[2002]))


def test_the_state_matters(history, emulator, rolled):
    bare = history.copy()
    for name in STATE:
        swapped = history[name].isel({history[name].dims[1]: slice(None, None, -1)})
        bare[name] = history[name].copy(data=swapped.to_numpy())
    found = run(bare, emulator)
    change = abs(found["lai"] - rolled["lai"]).groupby("time.year").max(...)
    assert float(change.sel(year=2001)) > 1e-3
    assert float(change.sel(year=2003)) > 0  # handed on twice


@pytest.mark.proves("determinism")
def test_chunks_scheduler_and_blocks_do_not_change_a_bit(history, emulator, rolled):
    lazy = predict(
        history.chunk({"latitude": 17, "longitude": 23}), emulator, precision="float32", block=2
    )
    with dask.config.set(scheduler="threads", num_workers=3):
        xr.testing.assert_equal(lazy.compute(), rolled)


def test_leaves_alone_can_be_asked_for(history, emulator, rolled):
    found = run(history, emulator, targets=("lai",))
    assert list(found) == ["lai"]
    xr.testing.assert_equal(found["lai"], rolled["lai"])


def test_sea_stays_sea_through_the_years(history, emulator):
    coast = history.assign(elevation=history["elevation"].where(history["longitude"] < 8.4))
    found = run(coast, emulator)["lai"].notnull()
    expected = (history["longitude"] < 8.4).broadcast_like(found).transpose(*found.dims)
    np.testing.assert_array_equal(found, expected)


def test_a_period_must_start_after_a_year_of_the_cube(history, emulator, wild):
    still = history.drop_vars(["co2", "lu_total"]).sel(year=[2000, 2001])
    other = wild(still, state=STATE, given=((),))
    with pytest.raises(EmulatorError, match=r"years \[2003\] go on from the year before"):
        predict(still.sel(year=[2000]), other, period=[2001, 2003])
    with pytest.raises(EmulatorError, match=r"'lc_fraction', the state of the year before"):
        predict(history.drop_vars("lc_fraction"), emulator)


def test_an_emulator_trained_with_state_predicts_on(history):
    from xlsbc import fit
    from xlsbc.emulator import Architecture

    known = history.copy()
    for name in STATE:
        known[name] = history[name].fillna(history[name].sel(year=2000, drop=True))
    emulator = fit(
        known,
        architecture=Architecture(width=(8, 16), climate=4, hidden=8),
        state=STATE,
        given=[()],
        steps=3,
        crop=32,
        batch_size=2,
        progress=False,
    )
    assert emulator.spec.state == STATE
    found = predict(history, emulator, period=[2001, 2002])["lai"].isel(latitude=0).compute()
    assert bool(found.notnull().all())


@pytest.mark.proves("failed-tile")
def test_a_rollout_that_was_stopped_goes_on_from_what_is_stored(
    history, emulator, tmp_path, monkeypatch
):
    from xlsbc.errors import TileError
    from xlsbc.inference.engine import Engine

    def product():
        return predict(history, emulator, precision="float32")

    windows = []
    original = Engine.run

    def counted(self, samples, names, stop=False):
        windows.append(len(samples))
        if stop and len(windows) > 28:  # of 36
            raise TileError("the second year breaks off")
        return original(self, samples, names)

    stopped = tmp_path / "stopped.zarr"
    with dask.config.set(scheduler="synchronous"):
        monkeypatch.setattr(Engine, "run", counted)
        whole = write(product(), str(tmp_path / "whole.zarr"), progress=False)
        assert len(windows) == 36
        windows.clear()
        monkeypatch.setattr(Engine, "run", lambda *a: counted(*a, stop=True))
        with pytest.raises(TileError):
            write(product(), str(stopped), progress=False)
        windows.clear()
        monkeypatch.setattr(Engine, "run", counted)
        write(product(), str(stopped), progress=False)
    assert len(windows) < 25  # finished years are read; all of them computed again would be 33
    for path in Path(whole).rglob("*"):
        if path.is_file():
            assert (stopped / path.relative_to(whole)).read_bytes() == path.read_bytes(), path
