"""Baselines against values worked by hand, and what they must not see."""

from __future__ import annotations

import dask
import numpy as np
import pytest
import xarray as xr

from tests.assess.cubes import make_cube, make_split
from xlsbc.assess.baselines import (
    class_by_month_climatology,
    coarse_upsampled,
    persistence,
    persistence_of_coarse_totals,
)
from xlsbc.cube.grid import Grid


def mean_of_first_cell(cube, field):
    """Area-weighted mean of the north-western 30 x 30 pixels, all in training, by class."""
    values = field.values[:, :30, :30].astype("float64")
    area = np.broadcast_to(Grid.of(cube).cell_area().values[:30, None], values.shape)
    return np.average(values, weights=area, axis=(1, 2))


def forbid(*args, **kwargs):
    raise AssertionError("computed")


class TestClassByMonthClimatology:
    def test_it_is_the_area_weighted_training_mean_of_the_class_and_month(self):
        cube = make_cube()
        where, train = make_split(cube)
        field = class_by_month_climatology(cube, train)
        assert field.dims == cube["lai"].dims
        dominant = cube["lc_fraction"].values.argmax(axis=1)
        area = (Grid.of(cube).cell_area().values[:, None] * train).values
        for month in (0, 6):
            for kind in (3, 9):
                members = [
                    (cube["lai"].values[12 * y + month][m], area[m])
                    for y in (0, 1)
                    if (m := (dominant[y] == kind) & train.values).any()
                ]
                values, weights = (np.concatenate(each) for each in zip(*members, strict=True))
                expected = np.average(values.astype("float64"), weights=weights)
                found = field.values[12 + month][(dominant[1] == kind) & where.values]
                np.testing.assert_allclose(found, expected, rtol=1e-5)

    def test_it_does_not_see_the_held_out_lai(self):
        cube = make_cube()
        where, train = make_split(cube)
        changed = cube.assign(lai=cube["lai"].where(~where, 99))
        xr.testing.assert_identical(
            class_by_month_climatology(changed, train), class_by_month_climatology(cube, train)
        )

    def test_a_class_without_training_pixels_takes_the_mean_of_the_month(self):
        cube = make_cube(climatology=True, years=(2000,))
        where, train = make_split(cube)
        only_here = xr.DataArray(np.eye(14)[12], dims="lc_class").astype("float32")
        cover = cube["lc_fraction"].where(~where, only_here)
        cover = cover.where(where | (cover["lc_class"] != "water"), 0)
        field = class_by_month_climatology(cube.assign(lc_fraction=cover), train)
        area = Grid.of(cube).cell_area().values[:, None] * train.values
        expected = np.average(cube["lai"].values[4].astype("float64"), weights=area)
        np.testing.assert_allclose(field.values[4][where.values], expected, rtol=1e-5)

    def test_without_land_cover_it_is_the_mean_of_the_month(self):
        cube = make_cube()[["lai"]]
        field = class_by_month_climatology(cube)
        area = np.broadcast_to(Grid.of(cube).cell_area().values[:, None], cube["lai"].shape[1:])
        expected = np.average(
            cube["lai"].values[[2, 14]], weights=np.stack([area, area]), axis=(0, 1, 2)
        )
        np.testing.assert_allclose(field.values[[2, 14]], expected, rtol=1e-5)

    def test_missing_lai_and_missing_land_cover_are_left_out(self):
        cube = make_cube()
        cube["lai"][dict(time=3, latitude=slice(0, 30))] = np.nan
        cube["lc_fraction"][dict(year=0, latitude=slice(33, 35))] = np.nan
        field = class_by_month_climatology(cube)
        assert np.isfinite(field.values).all()
        assert np.ptp(field.values[0, 33:35]) == 0

    def test_a_month_without_any_value_is_missing(self):
        cube = make_cube()
        cube["lai"][dict(time=[3, 15])] = np.nan
        field = class_by_month_climatology(cube)
        assert np.isnan(field.values[[3, 15]]).all()
        assert np.isfinite(field.values[[2, 4]]).all()

    def test_the_field_is_lazy_and_the_same_on_dask_data(self):
        cube = make_cube()
        _, train = make_split(cube)
        field = class_by_month_climatology(cube.chunk(year=1, time=7, latitude=10), train)
        assert field.chunks is not None
        xr.testing.assert_allclose(field.compute(), class_by_month_climatology(cube, train))


class TestPersistence:
    def test_each_year_holds_the_year_before(self):
        cube = make_cube(years=(2001, 2002, 2004))
        before = persistence(cube)
        np.testing.assert_array_equal(before["lu_fraction"][1], cube["lu_fraction"][0])
        assert np.isnan(before["lc_fraction"].sel(year=[2001, 2004])).all()
        np.testing.assert_array_equal(before["lai"][12 + 5], cube["lai"][5])
        assert before["lai"]["time"].equals(cube["lai"]["time"])

    def test_one_year_or_a_climatology_has_no_year_before(self):
        assert not persistence(make_cube(years=(2000,), climatology=True)).data_vars

    def test_it_computes_nothing(self):
        cube = make_cube().chunk(year=1, time=12)
        with dask.config.set(scheduler=forbid):
            before = persistence(cube)
        np.testing.assert_array_equal(before["lu_fraction"][1], cube["lu_fraction"][0])


class TestPersistenceOfCoarseTotals:
    def test_land_use_is_that_of_the_driver_cell_in_the_same_year(self):
        cube = make_cube()
        field = persistence_of_coarse_totals(cube)["lu_fraction"]
        assert field.dims == cube["lu_fraction"].dims
        # 30 pixels a cell; the driver has one cell more to the north and to the west.
        expected = cube["lu_total"].values[:, :, [[1, 1, 2]], [[1], [3]]]
        found = field.values[:, :, [[0, 29, 30]], [[0], [60]]]
        np.testing.assert_array_equal(found, expected)

    def test_land_use_crosses_the_date_line(self):
        cube = make_cube(west=179.75)
        shifted = cube.assign_coords(
            driver_longitude=(cube["driver_longitude"].values + 180) % 360 - 180
        ).sortby("driver_longitude")
        with pytest.raises(AssertionError):
            # A driver sorted within -180..180 is not regular: conform would have refused it.
            np.testing.assert_array_equal(
                persistence_of_coarse_totals(shifted)["lu_fraction"],
                persistence_of_coarse_totals(cube)["lu_fraction"],
            )
        turned = cube.assign_coords(driver_longitude=cube["driver_longitude"] - 360)
        np.testing.assert_array_equal(
            persistence_of_coarse_totals(turned)["lu_fraction"],
            persistence_of_coarse_totals(cube)["lu_fraction"],
        )

    def test_land_cover_is_the_training_mean_of_the_cell_in_the_first_year(self):
        cube = make_cube()
        _, train = make_split(cube)
        field = persistence_of_coarse_totals(cube, train=train)["lc_fraction"]
        cell = dict(latitude=slice(0, 30), longitude=slice(0, 30))
        area = (Grid.of(cube).cell_area().values[:, None] * train.values)[:30, :30]
        values = cube["lc_fraction"].isel(cell).values[0].astype("float64")
        expected = np.average(values, weights=np.broadcast_to(area, values.shape), axis=(1, 2))
        for year in (0, 1):
            np.testing.assert_allclose(field.values[year, :, 4, 7], expected, rtol=1e-5)
            np.testing.assert_allclose(field.values[year, :, 29, 29], expected, rtol=1e-5)

    def test_a_cell_without_training_pixels_takes_its_neighbours(self):
        cube = make_cube(shape=(30, 120), years=(2001,)).drop_vars("lu_total")
        where, train = make_split(cube, columns=60)
        field = persistence_of_coarse_totals(cube, train=train)["lc_fraction"]
        # Cells 0 and 1 have no training pixels: first cell 1 is filled from 2, then 0 from 1.
        for column in (5, 35, 65):
            np.testing.assert_allclose(field[0, :, 3, column], field[0, :, 3, 70], rtol=1e-6)
        assert not np.allclose(field[0, :, 3, 65], field[0, :, 3, 95])

    def test_held_out_land_cover_is_not_seen(self):
        cube = make_cube()
        where, train = make_split(cube)
        changed = cube.assign(lc_fraction=cube["lc_fraction"].where(~where, 7))
        found = persistence_of_coarse_totals(changed, train=train)["lc_fraction"]
        expected = persistence_of_coarse_totals(cube, train=train)["lc_fraction"]
        np.testing.assert_array_equal(found, expected)

    def test_a_first_year_without_data_is_passed_over(self):
        cube = make_cube()
        cube["lc_fraction"][dict(year=0)] = np.nan
        field = persistence_of_coarse_totals(cube)["lc_fraction"]
        expected = mean_of_first_cell(cube, cube["lc_fraction"].isel(year=1))
        np.testing.assert_allclose(field[0, :, 0, 0], expected, rtol=1e-5)

    def test_land_use_without_a_driver_is_treated_like_land_cover(self):
        cube = make_cube().drop_vars("lu_total")
        field = persistence_of_coarse_totals(cube)["lu_fraction"]
        expected = mean_of_first_cell(cube, cube["lu_fraction"].isel(year=0))
        np.testing.assert_allclose(field[1, :, 0, 0], expected, rtol=1e-5)

    def test_simplexes_stay_simplexes(self):
        cube = make_cube()
        fields = persistence_of_coarse_totals(cube, train=make_split(cube)[1])
        for name, dim in (("lu_fraction", "lu_class"), ("lc_fraction", "lc_class")):
            np.testing.assert_allclose(fields[name].sum(dim), 1, atol=1e-5)

    def test_fields_are_lazy_and_the_same_on_dask_data(self):
        cube = make_cube()
        lazy = persistence_of_coarse_totals(cube.chunk(year=1, latitude=10, lc_class=5))
        assert lazy["lc_fraction"].chunks is not None
        xr.testing.assert_allclose(lazy.compute(), persistence_of_coarse_totals(cube))


class TestCoarseUpsampled:
    def test_leaves_are_the_training_mean_of_the_cell_and_month_over_all_years(self):
        cube = make_cube()
        _, train = make_split(cube)
        field = coarse_upsampled(cube, train=train)["lai"]
        assert field.dims == cube["lai"].dims
        area = (Grid.of(cube).cell_area().values[:, None] * train.values)[:30, :30]
        values = cube["lai"].values[[4, 16], :30, :30].astype("float64")
        expected = np.average(values, weights=np.stack([area, area]))
        np.testing.assert_allclose(field.values[[4, 16], :30, :30], expected, rtol=1e-5)
        assert abs(field.values[4, 3, 40] - expected) > 1e-3  # another cell

    def test_land_is_the_training_mean_of_the_cell_in_the_nearest_year_with_data(self):
        cube = make_cube(years=(2001, 2002, 2003)).drop_vars("lu_total")
        cube["lc_fraction"][dict(year=0)] = np.nan
        field = coarse_upsampled(cube)["lc_fraction"].values[:, :, 4, 7]
        for year, source in ((0, 1), (1, 1), (2, 2)):
            expected = mean_of_first_cell(cube, cube["lc_fraction"].isel(year=source))
            np.testing.assert_allclose(field[year], expected, rtol=1e-5)

    def test_land_use_is_that_of_the_driver_in_the_nearest_year_that_it_has(self):
        cube = make_cube(years=(2001, 2002))
        expected = cube["lu_total"].sel(year=2001, driver_latitude=47.125 - 0.25)
        drivers = cube["lu_total"].where(cube["year"] == 2001)
        field = coarse_upsampled(cube.assign(lu_total=drivers))["lu_fraction"]
        for year in (0, 1):
            np.testing.assert_array_equal(field[year, :, 0, 0], expected[:, 1])

    def test_held_out_values_are_not_seen(self):
        cube = make_cube().drop_vars("lu_total")
        where, train = make_split(cube)
        changed = cube.assign({n: cube[n].where(~where, 7) for n in ("lai", "lu_fraction")})
        xr.testing.assert_identical(
            coarse_upsampled(changed, train=train), coarse_upsampled(cube, train=train)
        )

    def test_a_month_without_any_value_is_missing_and_a_gap_is_filled_from_around(self):
        cube = make_cube(years=(2001,))
        cube["lai"][dict(time=3)] = np.nan
        cube["lai"][dict(time=5, longitude=slice(0, 30))] = np.nan
        field = coarse_upsampled(cube)["lai"]
        assert field[3].isnull().all()
        for row in (3, 35):  # the cells to the east, of both rows of cells, are around both
            np.testing.assert_allclose(field[5, row, 0], field[5, [3, 35], 40].mean(), rtol=1e-6)
        assert np.delete(np.isfinite(field.values), 3, axis=0).all()

    def test_fields_are_lazy_and_the_same_on_dask_data(self):
        cube = make_cube()
        lazy = coarse_upsampled(cube.chunk(year=1, time=7, latitude=10, lc_class=5))
        assert all(field.chunks for field in lazy.values())
        xr.testing.assert_allclose(lazy.compute(), coarse_upsampled(cube))
