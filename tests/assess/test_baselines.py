"""Baselines against values worked by hand, and what they must not see."""

from __future__ import annotations

import dask
import numpy as np
import pytest
import xarray as xr

from xlsbc.assess.baselines import (
    boosting,
    class_by_month_climatology,
    persistence,
    persistence_of_coarse_totals,
)
from xlsbc.cube.grid import Grid
from xlsbc.cube.legends import LC, LU
from xlsbc.errors import CubeError

CLIMATOLOGY = "time: mean within years time: mean over years"


def make_cube(seed=0, *, years=(2001, 2002), shape=(37, 64), west=8.0, climatology=False):
    """A conformed cube of noise: what a baseline learned is only what the test put in."""
    rng = np.random.default_rng(seed)
    start = np.datetime64(f"{years[0]}-01", "M")
    n_times = 12 if climatology else 12 * len(years)
    time = (start + np.arange(n_times)).astype("datetime64[ns]")
    lc = rng.dirichlet(np.full(14, 0.2), size=(len(years), *shape))
    lu = rng.dirichlet(np.full(13, 0.2), size=(len(years), *shape))
    coarse = (len(years), 13, 4, 5)
    total = rng.dirichlet(np.ones(13), size=(coarse[0], *coarse[2:]))
    fine, year = ("latitude", "longitude"), ("year",)
    cells = ("driver_latitude", "driver_longitude")
    forcing = ("forcing_time", "forcing_latitude", "forcing_longitude")
    ds = xr.Dataset(
        {
            "elevation": (fine, rng.uniform(0, 3000, size=shape)),
            "slope": (fine, rng.uniform(0, 40, size=shape)),
            "t2m": (forcing, rng.normal(285, 5, size=(n_times, 4, 5))),
            "co2": (year, 370e-6 + 2e-6 * np.arange(len(years))),
            "lu_total": (("year", "lu_class", *cells), np.moveaxis(total, -1, 1)),
            "lu_fraction": (("year", "lu_class", *fine), np.moveaxis(lu, -1, 1)),
            "lc_fraction": (("year", "lc_class", *fine), np.moveaxis(lc, -1, 1)),
            "lai": (("time", *fine), rng.gamma(2.0, size=(n_times, *shape))),
        },
        {
            "latitude": 47.0 - (np.arange(shape[0]) + 0.5) / 120,
            "longitude": west + (np.arange(shape[1]) + 0.5) / 120,
            "year": list(years),
            "time": time,
            "forcing_time": time,
            **{f"{name}_latitude": 47.125 - 0.25 * np.arange(4) for name in ("driver", "forcing")},
            **{
                f"{name}_longitude": west - 0.125 + 0.25 * np.arange(5)
                for name in ("driver", "forcing")
            },
            "lu_class": LU.coordinate("lu_class")["lu_class"],
            "lc_class": LC.coordinate("lc_class")["lc_class"],
        },
    )
    for name in ("lai", "t2m"):
        ds[name].attrs["units"] = {"lai": "m2 m-2", "t2m": "K"}[name]
        if climatology:
            ds[name].attrs["cell_methods"] = CLIMATOLOGY
    return ds.astype("float32")


def make_split(cube, *, columns=20):
    """The first columns held out, the others for training, with three columns between."""
    column = xr.zeros_like(cube["elevation"], dtype=int) + xr.DataArray(
        np.arange(cube.sizes["longitude"]), dims="longitude"
    )
    return column < columns, column >= columns + 3


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


def make_learnable(**kwargs):
    """LAI that follows from elevation, one class and the month's temperature of the cell."""
    cube = make_cube(**kwargs)
    rows = np.clip(np.arange(37) // 30 + 1, 0, 3)
    columns = np.clip(np.arange(64) // 30 + 1, 0, 4)
    warmth = cube["t2m"].values[:, rows][:, :, columns] - 280
    cover = np.repeat(cube["lc_fraction"].sel(lc_class="trees_ne").values, 12, axis=0)
    lai = 3 - cube["elevation"].values / 1500 + 2 * cover + 0.1 * warmth
    return cube.assign(lai=cube["lai"].copy(data=np.maximum(lai, 0).astype("float32")))


@pytest.fixture
def fitted(monkeypatch):
    """Tables that scikit-learn was fitted on."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    tables = []
    fit = HistGradientBoostingRegressor.fit

    def record(model, table, target):
        tables.append(table)
        return fit(model, table, target)

    monkeypatch.setattr(HistGradientBoostingRegressor, "fit", record)
    return tables


class TestBoosting:
    predictors = ("elevation", "slope", "t2m", "co2", "lu_total")

    @pytest.fixture(autouse=True)
    def few_trees(self, monkeypatch):
        monkeypatch.setattr("xlsbc.assess.boosting.TREES", 25)

    def boost(self, cube, *, predictors=predictors, given=("lc_fraction",), **kwargs):
        where, train = make_split(cube)
        return boosting(cube, predictors, where, train, given=given, **kwargs)

    def test_it_recovers_a_rule_in_the_held_out_pixels(self):
        cube = make_learnable(years=(2000,), climatology=True)
        where, _ = make_split(cube)
        found = self.boost(cube).values[:, where.values]
        truth = cube["lai"].values[:, where.values]
        assert 1 - ((found - truth) ** 2).sum() / ((truth - truth.mean()) ** 2).sum() > 0.9

    def test_it_cannot_see_lai_outside_the_training_pixels(self):
        cube = make_learnable(years=(2000,), climatology=True)
        _, train = make_split(cube)
        changed = cube.assign(lai=cube["lai"].where(train, 5))
        xr.testing.assert_identical(self.boost(changed), self.boost(cube))

    def test_it_cannot_see_land_that_was_not_given(self):
        cube = make_learnable(years=(2000,), climatology=True)
        changed = cube.assign(
            lc_fraction=cube["lc_fraction"].roll(longitude=9, roll_coords=False),
            lu_fraction=cube["lu_fraction"].roll(longitude=9, roll_coords=False),
        )
        assert not np.allclose(self.boost(changed), self.boost(cube), equal_nan=True)
        xr.testing.assert_identical(self.boost(changed, given=()), self.boost(cube, given=()))

    def test_it_is_missing_outside_the_held_out_pixels(self):
        cube = make_learnable(years=(2000,), climatology=True)
        where, _ = make_split(cube)
        field = self.boost(cube)
        assert field.dims == cube["lai"].dims
        assert field.dtype == np.float32
        np.testing.assert_array_equal(np.isfinite(field.values[3]), where.values)

    def test_each_month_has_a_model_of_its_own(self):
        cube = make_learnable(years=(2001, 2002))
        where, _ = make_split(cube)
        changed = cube.copy(deep=True)
        changed["lai"][dict(time=[4, 16])] = 1.0
        before, after = self.boost(cube), self.boost(changed)
        same = np.delete(np.arange(24), [4, 16])
        np.testing.assert_array_equal(after.values[same], before.values[same])
        np.testing.assert_allclose(after.values[4][where.values], 1.0, rtol=1e-5)

    def test_rows_are_drawn_by_the_seed_up_to_the_maximum(self, fitted):
        cube = make_learnable(years=(2001, 2002))
        first, again, other = (self.boost(cube, max_rows=301, seed=s) for s in (1, 1, 2))
        # latitude, longitude, 2 statics, 14 classes, month and year of t2m, co2, 13 land uses
        assert {table.shape for table in fitted} == {(301, 4 + 14 + 2 + 1 + 13)}
        assert len(fitted) == 3 * 12
        xr.testing.assert_identical(first, again)
        assert not first.equals(other)

    def test_a_climatology_takes_twelve_models(self, fitted):
        self.boost(make_cube(years=(2000,), climatology=True))
        assert len(fitted) == 12

    def test_missing_predictors_and_targets_are_no_obstacle(self):
        cube = make_learnable(years=(2000,), climatology=True)
        cube["elevation"][dict(latitude=slice(0, 9))] = np.nan
        cube["slope"][:] = np.nan
        cube["lai"][dict(time=7)] = np.nan
        cube["lai"][dict(time=2, latitude=slice(0, 5))] = np.nan
        where, _ = make_split(cube)
        field = self.boost(cube)
        assert np.isnan(field.values[7]).all()
        assert np.isfinite(field.values[2][where.values]).all()

    def test_columns_are_place_then_mean_forcing_of_month_and_year_of_the_nearest_cell(
        self, fitted
    ):
        cube = make_cube(years=(2001, 2002))
        self.boost(cube, predictors=["t2m"], given=())
        _, train = make_split(cube)
        row, column = np.nonzero(train.values)
        june = fitted[5]
        assert june.shape == (2 * row.size, 4)
        second = june[row.size :]  # June of the second year
        cell = row // 30 + 1, column // 30 + 1
        np.testing.assert_allclose(second[:, 0], cube["latitude"].values[row], rtol=1e-6)
        np.testing.assert_allclose(second[:, 1], cube["longitude"].values[column], rtol=1e-6)
        np.testing.assert_allclose(second[:, 2], cube["t2m"].values[17][cell], rtol=1e-6)
        annual = cube["t2m"].values[12:24].astype("float64").mean(axis=0)
        np.testing.assert_allclose(second[:, 3], annual[cell], rtol=1e-6)

    def test_forcing_of_years_serves_a_climatology_by_the_name_of_the_month(self, fitted):
        years = make_cube(years=(1990, 1991))["t2m"]
        cube = make_cube(years=(2000,), climatology=True).drop_dims("forcing_time")
        self.boost(cube.assign(t2m=years), predictors=["t2m"], given=())
        expected = years.values[[6, 18]].astype("float64").mean(axis=0)
        assert set(fitted[6][:, 2]) <= set(expected.astype("float32").ravel())

    def test_all_that_is_wrong_is_listed(self):
        cube = make_cube()
        where, _ = make_split(cube)
        with pytest.raises(CubeError) as error:
            boosting(cube, ("elevation", "t2mm"), where, where, given=("lai",))
        text = str(error.value)
        assert "'t2mm'" in text
        assert "given 'lai'" in text
        assert f"found {int(where.sum())}" in text
