from __future__ import annotations

from typing import Any

import dask
import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from hypothesis import given as drawn
from hypothesis import strategies as st

from tests.oracles import assemble, cut, select
from xlsbc.cube.legends import LC, LU
from xlsbc.cube.vocabulary import attributes
from xlsbc.emulator import InputVariable, Lattice, Spec
from xlsbc.emulator.sample import Sample, Window
from xlsbc.errors import EmulatorError
from xlsbc.models.temporal import upsample

ROWS, COLUMNS = 4, 6
WHOLE = Window(0, 0, ROWS, COLUMNS)
ELEVATION = InputVariable(name="elevation", units="m", mean=100.0, std=50.0)
T2M = InputVariable(name="t2m", units="K", mean=280.0, std=10.0)
CO2 = InputVariable(name="co2", units="1", mean=0.0, std=1e-4)
HARMONICS = 12  # channels of the calendar


@pytest.fixture
def cube() -> xr.Dataset:
    """4 x 6 pixels of 0.1 degree under 3 x 3 cells of 0.5 degree; two years.

    Elevation is 100 times the row plus the column. The first pixel lies at 0.6 of the way from
    the first cell to the second along either axis, its neighbours at 0.8, 1, 1.2, 1.4 and 1.6.
    """
    months = pd.date_range("2000-01-01", periods=24, freq="MS")
    cells = np.add.outer(10 * np.arange(3), np.arange(3))
    heights = np.add.outer(100.0 * np.arange(ROWS), np.arange(COLUMNS))
    lc = np.zeros((2, 14, ROWS, COLUMNS), "float32")
    lc[:, LC.index("trees_bd")], lc[:, LC.index("bare")] = 0.25, 0.75
    lu = np.full((2, 13, 2, 2), 1 / 13, "float32")
    fields = {
        "elevation": (("latitude", "longitude"), heights),
        "t2m": (
            ("forcing_time", "forcing_latitude", "forcing_longitude"),
            280.0 + 100 * np.arange(24)[:, None, None] + cells,
        ),
        "co2": (("year",), np.array([370e-6, 372e-6])),
        "lu_total": (("year", "lu_class", "driver_latitude", "driver_longitude"), lu),
        "lc_fraction": (("year", "lc_class", "latitude", "longitude"), lc),
    }
    coords = {
        "latitude": 47.95 - 0.1 * np.arange(ROWS),
        "longitude": 10.05 + 0.1 * np.arange(COLUMNS),
        "forcing_latitude": [48.25, 47.75, 47.25],
        "forcing_longitude": [9.75, 10.25, 10.75],
        "driver_latitude": [48.0, 47.5],
        "driver_longitude": [10.0, 10.5],
        "forcing_time": months,
        "year": [2000, 2001],
        "lu_class": LU.coordinate("lu_class"),
        "lc_class": LC.coordinate("lc_class"),
    }
    return xr.Dataset(
        {k: (dims, v.astype("float32"), attributes(k)) for k, (dims, v) in fields.items()}, coords
    )


def spec(**changes: Any) -> Spec:
    return Spec(
        **{
            "static": (ELEVATION,),
            "forcing": (T2M,),
            "targets": ("lai",),
            "steps": tuple((month, 1) for month in range(1, 13)),
            "lattice": Lattice(dlat=0.1, dlon=0.1),
            **changes,
        }
    )


def sample(
    cube: xr.Dataset, spec: Spec, window: Window = WHOLE, year: int = 2001, given: Any = ()
) -> Sample:
    return assemble(select(cube, spec, window, year, given), spec, given)


def holes(shape: tuple[int, int], *pixels: tuple[int, int]) -> np.ndarray:
    """Everything valid but some pixels."""
    valid = np.ones(shape, bool)
    for pixel in pixels:
        valid[pixel] = False
    return valid


def test_static_inputs_are_scaled_by_their_moments_and_followed_by_what_is_valid(cube):
    found = sample(cube, spec())
    assert found.static.shape == (2, ROWS, COLUMNS)
    assert found.static.dtype == np.float32
    expected = (np.add.outer(100 * np.arange(ROWS), np.arange(COLUMNS)) - 100) / 50
    np.testing.assert_allclose(found.static[0], expected, rtol=1e-6)
    assert (found.static[1] == 1).all()
    assert found.valid.all()


def test_logarithms_are_scaled_and_what_has_none_is_missing(cube):
    variable = InputVariable(name="elevation", units="m", transform="log", mean=1.0, std=2.0)
    cube["elevation"][1, 2] = -3
    found = sample(cube, spec(static=(variable,)))
    assert found.static[0, 3, 5] == pytest.approx((np.log(305) - 1) / 2)
    np.testing.assert_array_equal(found.valid, holes((ROWS, COLUMNS), (0, 0), (1, 2)))


def test_a_pixel_that_misses_a_required_input_is_not_valid_and_its_channels_are_zero(cube):
    cube["elevation"][1, 2] = np.nan
    found = sample(cube, spec())
    np.testing.assert_array_equal(found.valid, holes((ROWS, COLUMNS), (1, 2)))
    np.testing.assert_array_equal(found.static[1], found.valid)
    assert found.static[0, 1, 2] == 0
    assert np.isfinite(found.static).all()


def test_a_pixel_that_misses_an_optional_input_is_valid_and_a_channel_says_so(cube):
    cube["elevation"][1, 2] = np.nan
    optional = ELEVATION.model_copy(update={"optional": True})
    found = sample(cube, spec(static=(optional,)))
    assert found.static.shape[0] == 3  # value, where it is, where all required ones are
    assert found.valid.all()
    np.testing.assert_array_equal(found.static[1], holes((ROWS, COLUMNS), (1, 2)))
    assert found.static[0, 1, 2] == 0


def test_a_window_beyond_the_edge_is_missing_there_and_the_same_elsewhere(cube):
    whole = sample(cube, spec())
    found = sample(cube, spec(), Window(-2, -1, ROWS + 3, COLUMNS + 4))
    inner = np.s_[..., 2 : 2 + ROWS, 1 : 1 + COLUMNS]
    valid = np.zeros((ROWS + 3, COLUMNS + 4), bool)
    valid[inner] = True
    np.testing.assert_array_equal(found.valid, valid)
    np.testing.assert_array_equal(found.static[inner], whole.static)
    np.testing.assert_array_equal(found.static[:, ~valid], 0)


def test_coordinates_run_on_beyond_the_edge(cube):
    part = cut(cube[["elevation"]], Window(-1, 4, 2, 4))
    np.testing.assert_allclose(part["latitude"], [48.05, 47.95])
    np.testing.assert_allclose(part["longitude"], [10.45, 10.55, 10.65, 10.75])
    assert part["elevation"].isnull().values.tolist() == [[True] * 4, [False, False, True, True]]


def test_forcing_at_pixels_is_the_linear_interpolation_that_xarray_makes(cube):
    random = np.random.default_rng(0)
    cube["t2m"] = cube["t2m"].copy(data=random.normal(280, 10, cube["t2m"].shape))
    found = sample(cube, spec(), Window(1, 1, 3, 5))
    weather = upsample(
        *(torch.from_numpy(a)[None] for a in (found.forcing, found.row, found.column))
    )
    there = {"forcing_latitude": cube["latitude"][1:], "forcing_longitude": cube["longitude"][1:]}
    expected = (cube["t2m"][1:].interp(there).transpose("forcing_time", ...) - 280) / 10
    np.testing.assert_allclose(weather[0, :, 0], expected, atol=1e-5)


def test_forcing_is_followed_by_the_calendar_and_the_scalars_of_the_year(cube):
    found = sample(cube, spec(scalars=(CO2,)))
    assert found.forcing.shape == (23, 1 + HARMONICS + 1, 3, 3)
    # 16 February 2000, the middle of the first step: 45.5 of 366 days into the year
    angle = 2 * np.pi * 45.5 / 366
    np.testing.assert_allclose(found.forcing[0, 1, 2, 2], np.sin(angle), atol=1e-6)
    np.testing.assert_allclose(found.forcing[0, 7, 0, 0], np.cos(angle), atol=1e-6)
    np.testing.assert_allclose(found.forcing[:, -1], 3.72, rtol=1e-5)


def test_only_the_cells_around_a_window_are_read(cube):
    part = select(cube, spec(), Window(2, 3, 2, 3), 2001)
    # rows at 1.0 and 1.2 of the cells, columns at 1.2 to 1.6
    assert part["t2m"].shape == (23, 2, 2)
    np.testing.assert_allclose(part["forcing_row"], [0, 0.2], atol=1e-6)
    np.testing.assert_allclose(part["forcing_column"], [0.2, 0.4, 0.6], atol=1e-6)


def test_only_what_the_emulator_takes_is_read(cube):
    part = select(cube, spec(), WHOLE, 2001)
    assert set(part.data_vars) == {
        *("elevation", "t2m", "pooling", "calendar", "forcing_row", "forcing_column")
    }


def test_a_missing_cell_is_missing_where_interpolation_needs_it(cube):
    cube["t2m"][20, 0, 0] = np.nan  # needed by what lies before 1 along both axes
    expected = holes((ROWS, COLUMNS), *((r, c) for r in (0, 1) for c in (0, 1)))
    np.testing.assert_array_equal(sample(cube, spec()).valid, expected)


def test_a_missing_cell_between_two_others_is_missing_all_around(cube):
    cube["t2m"][20, 1, 2] = np.nan  # rows 0 to 3 are less than a cell away; columns after 1 are
    expected = holes((ROWS, COLUMNS), *((r, c) for r in range(4) for c in (3, 4, 5)))
    np.testing.assert_array_equal(sample(cube, spec()).valid, expected)


def test_weather_missing_in_a_month_that_no_step_remembers_does_no_harm(cube):
    cube["t2m"][0] = np.nan
    assert sample(cube, spec(), year=2001).valid.all()
    assert not sample(cube, spec(), year=2000).valid.any()


def test_pixels_outside_the_forcings_cells_are_not_valid(cube):
    west = cube.isel(forcing_longitude=slice(2))  # its last cell ends at 10.5 E
    expected = holes((ROWS, COLUMNS), *((r, 5) for r in range(ROWS)))
    np.testing.assert_array_equal(sample(west, spec()).valid, expected)


def test_pixels_outside_the_drivers_cells_are_not_valid(cube):
    north = cube.isel(driver_latitude=slice(1), driver_longitude=slice(1))
    assert sample(north, spec(driver=True)).valid.all()  # one cell alone has no edges
    west = cube.isel(driver_longitude=slice(1)).assign_coords(driver_latitude=[48.4, 47.9])
    valid = sample(west, spec(driver=True)).valid  # the last cell ends at 47.65 N
    np.testing.assert_array_equal(valid.all(axis=1), [True, True, True, True])
    high = west.assign_coords(driver_latitude=[48.5, 48.0])  # and here at 47.75 N
    valid = sample(high, spec(driver=True)).valid
    np.testing.assert_array_equal(valid.all(axis=1), [True, True, True, False])


def test_driver_totals_come_with_their_places(cube):
    found = sample(cube, spec(driver=True))
    # pixels beyond the last cell's centre are among it and its repetition
    assert found.driver.shape == (13, 2, 3)
    np.testing.assert_allclose(found.driver_row, [0.1, 0.3, 0.5, 0.7], atol=1e-6)
    np.testing.assert_allclose(found.driver_column, [0.1, 0.3, 0.5, 0.7, 0.9, 1.1], atol=1e-6)


def test_a_missing_driver_cell_is_missing_where_interpolation_needs_it(cube):
    cube["lu_total"][1, 3, 1, 1] = np.nan
    assert not sample(cube, spec(driver=True)).valid.any()
    assert sample(cube, spec(driver=True), year=2000).valid.all()


@pytest.mark.parametrize("forcing", [(T2M,), ()], ids=["with forcing", "without"])
def test_where_the_scalar_of_a_year_is_missing_nothing_is_valid(cube, forcing):
    cube["co2"][1] = np.nan
    history = 12 if forcing else 1
    taken = spec(forcing=forcing, scalars=(CO2,), history=history)
    assert not sample(cube, taken, year=2001).valid.any()
    assert sample(cube, taken, year=2000).valid.all()


def test_given_fractions_come_along_and_a_pixel_without_them_is_not_valid(cube):
    cube["lc_fraction"][1, 4, 2, 3] = np.nan
    found = sample(cube, spec(), given=("lc_fraction",))
    np.testing.assert_array_equal(found.valid, holes((ROWS, COLUMNS), (2, 3)))
    assert found.lc.shape == (14, ROWS, COLUMNS)
    assert found.lc[LC.index("bare"), 0, 0] == np.float32(0.75)
    assert found.lu is None
    assert np.isfinite(found.lc).all()


def test_given_fractions_that_miss_one_by_rounding_are_made_to_sum_to_one(cube):
    cube["lc_fraction"][1] *= np.float32(1.0005)
    found = sample(cube, spec(), given=("lc_fraction",))
    np.testing.assert_allclose(found.lc.astype(float).sum(0), 1, atol=1e-7)


def test_given_fractions_that_are_no_shares_are_an_error_that_says_how_far_they_are(cube):
    cube["lc_fraction"][1, 0, 0, :2] = 0.5
    cube["lc_fraction"][1, 1, 1, 1] = -0.2
    with pytest.raises(
        EmulatorError, match=r"^lc_fraction.* 3 pixels .*sums from 0\.55 to 1\.5, .*share -0\.2"
    ):
        sample(cube, spec(), given=("lc_fraction",))


def test_places_are_inputs_where_the_emulator_takes_them(cube):
    variables = (
        InputVariable(name="latitude", units="degrees_north", mean=47.0, std=0.5),
        InputVariable(name="longitude", units="degrees_east", mean=10.0, std=0.1),
    )
    found = sample(cube, spec(static=variables), Window(1, 1, 2, 3))
    np.testing.assert_allclose(found.static[0], [[1.7] * 3, [1.5] * 3], rtol=1e-5)
    np.testing.assert_allclose(found.static[1], [[1.5, 2.5, 3.5]] * 2, rtol=1e-5)


def test_a_cube_of_weather_alone_is_enough(cube):
    found = sample(cube[["t2m"]].assign_coords(cube.coords), spec(static=()))
    assert found.static.shape == (1, ROWS, COLUMNS)
    assert found.valid.all()


def test_a_cube_of_statics_alone_is_enough(cube):
    taken = spec(forcing=(), history=1)
    found = sample(cube[["elevation"]], taken)
    assert found.forcing.shape == (12, HARMONICS, 1, 1)
    np.testing.assert_array_equal(found.pooling, np.eye(12))
    assert found.valid.all()


def test_one_row_of_pixels_is_a_grid(cube):
    row = cube.isel(latitude=slice(1, 2))
    found = sample(row, spec(), Window(-1, 0, 3, COLUMNS))
    np.testing.assert_array_equal(found.valid.all(axis=1), [False, True, False])
    np.testing.assert_allclose(found.row[1], 0.8, atol=1e-6)


def test_selecting_computes_nothing_and_assembling_a_lazy_part_is_the_same(cube):
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("something was computed")

    taken = spec(scalars=(CO2,), driver=True)
    lazy = cube.chunk({"latitude": 3, "longitude": 2, "forcing_time": 5, "year": 1})
    with dask.config.set(scheduler=refuse):
        part = select(lazy, taken, Window(-1, 2, 4, 6), 2001, ("lc_fraction",))
    expected = sample(cube, taken, Window(-1, 2, 4, 6), given=("lc_fraction",))
    found = assemble(part, taken, ("lc_fraction",))
    for name in ("static", "forcing", "row", "column", "driver", "lc", "valid", "pooling"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


@drawn(
    top=st.integers(0, 20), left=st.integers(0, 20), ratio=st.sampled_from([1, 3, 7, 12, 16, 30])
)
def test_a_box_cut_out_of_a_cube_has_the_same_bits_as_the_cube_there(top, left, ratio):
    step = 1 / 120
    latitude, longitude = 47 - step * np.arange(40), 8.0 + step * np.arange(45)
    cells = ratio * step
    coarse = np.arange(-1, max(45 // ratio, 1) + 2)
    random = np.random.default_rng(ratio)
    cube = xr.Dataset(
        {
            "elevation": (("latitude", "longitude"), random.normal(size=(40, 45))),
            "t2m": (
                ("forcing_time", "forcing_latitude", "forcing_longitude"),
                random.normal(280, 10, size=(12, len(coarse), len(coarse))),
            ),
        },
        {
            "latitude": latitude,
            "longitude": longitude,
            "forcing_latitude": 47 + step / 2 - cells * (coarse + 0.5),
            "forcing_longitude": 8 - step / 2 + cells * (coarse + 0.5),
            "forcing_time": pd.date_range("2000-01-01", periods=12, freq="MS"),
        },
    )
    box = cube.isel(latitude=slice(top, top + 20), longitude=slice(left, left + 24))
    window = Window(6, 4, 8, 9)
    same = Window(window.y + top, window.x + left, 8, 9)
    found, expected = (sample(ds, spec(), w, year=2000) for ds, w in ((box, window), (cube, same)))
    for name in ("static", "forcing", "row", "column", "valid"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
