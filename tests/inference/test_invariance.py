"""What a predicted value may depend on: the place, its context, its year and what is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from xlsbc.cube.legends import LC, LU
from xlsbc.cube.store.writer import write
from xlsbc.emulator import Emulator
from xlsbc.errors import EmulatorError
from xlsbc.inference.engine import Engine
from xlsbc.inference.predict import predict
from xlsbc.physics.consistency import check

BOTH = ("lu_fraction", "lc_fraction")


def run(cube: xr.Dataset, emulator: Emulator, **options: Any) -> xr.Dataset:
    """Prediction of 2001, computed in this thread."""
    options = {"period": [2001], "precision": "float32", **options}
    return predict(cube, emulator, **options).compute(scheduler="synchronous")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with every window that the network runs."""
    made: list[int] = []
    original = Engine.run

    def counted(self: Engine, samples: Any, names: Any) -> Any:
        made.append(len(samples))
        return original(self, samples, names)

    monkeypatch.setattr(Engine, "run", counted)
    return made


@pytest.fixture
def corner(cube: xr.Dataset) -> xr.Dataset:
    """23 x 31 pixels of the land over two by two tiles."""
    return cube.isel(latitude=slice(3, 26), longitude=slice(5, 36))


def test_one_big_tile_gives_what_many_give(cube, emulator, whole, calls):
    lattice = emulator.spec.lattice.model_copy(update={"tile": 96})
    spec = emulator.spec.model_copy(update={"lattice": lattice})
    big = run(cube, Emulator(spec, emulator.network))
    assert calls == [1]
    # the order of float32 sums in a convolution changes with the size of its window
    xr.testing.assert_allclose(big, whole, rtol=0, atol=1e-5)
    # on a constant this would prove nothing
    assert float(whole["lai"].std(["latitude", "longitude"]).min()) > 0.01


@pytest.mark.proves("determinism")
@settings(max_examples=4)
@drawn(st.data())
def test_chunks_and_scheduler_do_not_change_a_bit(cube, emulator, whole, data):
    sizes = {str(dim): data.draw(st.integers(1, n), str(dim)) for dim, n in cube.sizes.items()}
    scheduler = data.draw(st.sampled_from(["synchronous", "threads"]), "scheduler")
    # coarse and yearly blocks of one would cost more tasks than they prove
    sizes |= {dim: max(sizes[dim], 9) for dim in ("latitude", "longitude", "time", "forcing_time")}
    lazy = predict(cube.chunk(sizes), emulator, period=[2001], precision="float32")
    with dask.config.set(scheduler=scheduler, num_workers=3):
        xr.testing.assert_equal(lazy.compute(), whole)


@pytest.mark.proves("determinism")
@settings(max_examples=5)
@drawn(st.integers(0, 34), st.integers(0, 44), st.integers(22, 30), st.integers(22, 30))
def test_a_box_with_its_context_is_the_whole_to_the_bit(
    cube, emulator, whole, top, left, height, width
):
    rows, columns = slice(top, top + height), slice(left, left + width)
    found = run(cube.isel(latitude=rows, longitude=columns), emulator)
    # where the box ends with the land, nothing lies beyond for either
    halo = emulator.halo
    inner = {
        dim: slice(0 if span.start == 0 else halo, None if span.stop >= size else -halo)
        for dim, span, size in (("latitude", rows, 60), ("longitude", columns, 70))
    }
    assert found.isel(inner)["lai"].size
    part = whole.isel(latitude=rows, longitude=columns)
    xr.testing.assert_equal(found.isel(inner), part.isel(inner))


def test_a_box_may_be_cut_out_of_the_coarse_grids_too(cube, emulator, whole):
    # The land starts 10 rows into the second row of cells. Four rows of cells reach as far as
    # row 80, and pixels before row 35 need none beyond.
    cells = {"forcing_latitude": slice(0, 4), "driver_latitude": slice(0, 4)}
    found = run(cube.isel(latitude=slice(0, 35), **cells), emulator).isel(latitude=slice(0, 25))
    # the order of sums in the interpolation changes with the number of cells
    xr.testing.assert_allclose(found, whole.isel(latitude=slice(0, 25)), rtol=0, atol=1e-5)


@pytest.mark.proves("determinism")
def test_a_year_is_the_same_alone_and_among_others(corner, emulator):
    together, alone = run(corner, emulator, period=None), run(corner, emulator)
    assert together["year"].values.tolist() == [2000, 2001]
    xr.testing.assert_identical(together["lc_fraction"].sel(year=[2001]), alone["lc_fraction"])
    xr.testing.assert_identical(together["lai"].sel(time="2001"), alone["lai"])
    assert not np.array_equal(together["lai"].sel(time="2000"), alone["lai"])


def test_only_the_tiles_of_a_box_run(cube, emulator, whole, calls):
    lazy = predict(cube, emulator, precision="float32")
    box = {"latitude": slice(15, 40), "longitude": slice(36, 38)}  # tiles end before 14, 38, 62
    found = lazy["lai"].sel(time="2001").isel(box).compute(scheduler="synchronous")
    assert len(calls) == 2
    np.testing.assert_array_equal(found, whole["lai"].isel(box))


def test_tiles_that_are_all_sea_do_not_run(corner, emulator, calls):
    coast = corner.copy(deep=True)
    coast["elevation"][:, 9:] = np.nan  # columns 5 to 13 of the land are the rest of its tile
    found = run(coast, emulator)["lai"].notnull()
    assert len(calls) == 2  # one above the other; two more lie in the sea
    assert bool(found[..., :9].all())
    assert not bool(found[..., 9:].any())


def test_a_prediction_off_the_lattice_is_written_as_it_is(corner, emulator, tmp_path):
    lazy = predict(corner, emulator, period=[2001], precision="float32")
    url = write(lazy, str(tmp_path / "a.zarr"), packed=False, progress=False)
    xr.testing.assert_equal(xr.open_zarr(url).load(), run(corner, emulator))


# --- where it lies and how it comes ---


def moved(cube: xr.Dataset, degrees: float, wrap: Callable[[Any], Any] = lambda x: x) -> xr.Dataset:
    """The cube at other longitudes."""
    names = ("longitude", "forcing_longitude", "driver_longitude")
    return cube.assign_coords(
        {n: (n, wrap(cube[n].to_numpy() + degrees), cube[n].attrs) for n in names}
    )


DATE_LINE = (43162 - 22570) / 120
"""Degrees east to 38 pixels before the date line, a whole number of 24-pixel tiles."""


@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda x: x, id="past 180"),
        pytest.param(lambda x: x % 360, id="0..360"),
        pytest.param(lambda x: (x + 180) % 360 - 180, id="-180..180"),
    ],
)
def test_land_across_the_date_line_is_like_any_other(cube, emulator, whole, wrap):
    found = run(moved(cube, DATE_LINE, wrap), emulator)
    ends = [180 - 37.5 / 120, 180 + 31.5 / 120]
    np.testing.assert_allclose(found["longitude"][[0, -1]], ends, atol=1e-9)
    for name, field in whole.items():
        # places among the coarse cells are rounded, see RESOLVED
        np.testing.assert_allclose(found[name], field, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shift", [0.0, -100.0])
def test_latitudes_that_ascend_and_longitudes_to_360_change_nothing(corner, emulator, shift):
    place = moved(corner, shift)
    backward = [f"{grid}latitude" for grid in ("", "forcing_", "driver_")]
    other = moved(place, 0, lambda x: x % 360).isel(dict.fromkeys(backward, slice(None, None, -1)))
    found, expected = run(other, emulator), run(place, emulator)
    for name, field in expected.items():
        # a whole turn costs the last bits of a longitude
        np.testing.assert_allclose(found[name], field, rtol=0, atol=1e-5)
    np.testing.assert_allclose(found["longitude"], place["longitude"], atol=1e-9)
    np.testing.assert_array_equal(found["latitude"], place["latitude"])


def test_other_names_units_and_orders_of_dims_change_nothing(corner, emulator):
    other = corner.rename(elevation="dem").transpose(..., "longitude", "latitude")
    other["dem"] = (corner["elevation"] / 1000).assign_attrs(
        standard_name="surface_altitude", units="km"
    )
    # metres over 1000 and back are a float32 rounding apart
    xr.testing.assert_allclose(run(other, emulator), run(corner, emulator), rtol=0, atol=1e-4)


# --- consistent, whatever is given ---


def broken(product: xr.Dataset) -> list[str]:
    """Rules that do not hold."""
    return [str(name) for name, rule in check(product).items() if not rule.attrs["passed"]]


@pytest.mark.parametrize("given", [(), ("lu_fraction",), ("lc_fraction",), BOTH])
def test_any_network_is_consistent_and_returns_what_it_was_given(corner, wild, given):
    found = run(corner, wild(corner, seed=1), given=given)
    assert broken(found) == []
    assert {"leaves_without_bearer", "incompatible_mass", "lai_closure"} <= set(check(found))
    for name in given:
        # float32 fractions sum to 1 within some roundings; beside given cover, a given use is
        # fitted to it step by step
        near = 0.01 if given == BOTH and name == "lu_fraction" else 1e-6
        np.testing.assert_allclose(found[name], corner[name].sel(year=[2001]), rtol=0, atol=near)
    assert found.attrs["xlsbc_given"] == " ".join(given)


def test_impossible_fractions_given_together_give_a_possible_prediction(corner, emulator):
    impossible = corner.copy(deep=True)  # crops that are evergreen trees
    for name, legend, id in (("lu_fraction", LU, "c3ann"), ("lc_fraction", LC, "trees_be")):
        impossible[name][:] = 0
        impossible[name][:, legend.index(id)] = 1
    assert "incompatible_mass" in broken(impossible[list(BOTH)])
    found = run(impossible, emulator, given=BOTH)
    assert broken(found) == []
    assert bool(found["lai"].notnull().all())


def test_on_bare_ground_that_is_given_there_are_no_leaves(corner, emulator):
    bare = corner.copy(deep=True)
    bare["lc_fraction"][:] = 0
    bare["lc_fraction"][:, LC.index("bare")] = 1
    found = run(bare, emulator, given=("lc_fraction",))
    for name in ("lai", "lai_hv", "lai_lv", "cvh", "cvl"):
        np.testing.assert_array_equal(found[name], 0)


def test_high_vegetation_is_trees_and_low_is_shrubs_and_grass(corner, emulator):
    found = run(corner, emulator, given=("lc_fraction",))
    given = corner["lc_fraction"].sel(year=[2001])
    for name, kinds in (("cvh", ("trees",)), ("cvl", ("shrubs", "grass"))):
        mine = [id for id in LC.ids if id.startswith(kinds)]
        expected = given.sel(lc_class=mine).sum("lc_class")
        np.testing.assert_allclose(found[name], expected, rtol=0, atol=1e-6)


def test_standard_names_and_units_are_those_of_the_cf_table(whole):
    fraction, leaves = ("area_fraction", "1"), ("leaf_area_index", "1")
    assert {n: (f.attrs["standard_name"], f.attrs["units"]) for n, f in whole.items()} == {
        **dict.fromkeys(["lu_fraction", "lc_fraction", "cvh", "cvl"], fraction),
        **dict.fromkeys(["lai", "lai_hv", "lai_lv"], leaves),
    }
    assert whole["latitude"].attrs["units"] == "degrees_north"
    assert whole["longitude"].attrs["units"] == "degrees_east"


def test_an_emulator_that_always_takes_land_cover_takes_it_unasked(corner, wild):
    emulator = wild(corner, given=(("lc_fraction",),))
    assert predict(corner, emulator).attrs["xlsbc_given"] == "lc_fraction"
    with pytest.raises(EmulatorError, match=r"given=\(\) was not learned"):
        predict(corner, emulator, given=())


def test_an_emulator_that_does_not_exist_is_refused(corner, tmp_path):
    with pytest.raises(EmulatorError, match="no emulator at"):
        predict(corner, str(tmp_path / "nothing"))
