"""Gradient boosting on pixels: what it may see, what its columns are, and what it finds."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from tests.assess.cubes import make_cube, make_learnable, make_split
from xlsbc.assess.boosting import boosting, boosting_fractions
from xlsbc.errors import CubeError


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
        monkeypatch.setattr("xlsbc.assess.boosting.TREES", 6)

    def boost(self, cube, *, predictors=predictors, given=("lc_fraction",), **kwargs):
        where, train = make_split(cube)
        return boosting(cube, predictors, where, train, given=given, **kwargs)

    def test_it_recovers_a_rule_in_the_held_out_pixels(self, monkeypatch):
        monkeypatch.setattr("xlsbc.assess.boosting.TREES", 25)
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

    def test_only_the_years_that_train_are_learnt_and_all_are_predicted(self):
        cube = make_learnable(years=(2001, 2002))
        everywhere = xr.ones_like(cube["elevation"], dtype=bool)
        cube["lai"][dict(time=slice(0, 12))] = 2.0
        cube["lai"][dict(time=slice(12, None))] = 7.0
        field = boosting(cube, ["elevation"], everywhere, everywhere, years=[2001])
        np.testing.assert_allclose(field, 2.0, rtol=1e-5)

    def test_years_that_hold_out_nothing_do_not_excuse_a_pixel_in_both_masks(self):
        cube = make_cube()
        where, _ = make_split(cube)
        with pytest.raises(CubeError, match="no pixel both held out and in training"):
            boosting(cube, ["elevation"], where, where, years=[2001, 2002])


def make_regions(years=(2001, 2002)):
    """Land use that elevation tells: 0.7 and 0.3 of two classes, the other way round above."""
    cube = make_cube(years=years)
    shares = np.zeros((len(years), 13, *cube["elevation"].shape), dtype="float32")
    low = cube["elevation"].values < 1500
    shares[:, 2], shares[:, 5] = np.where(low, 0.7, 0.3), np.where(low, 0.3, 0.7)
    return cube.assign(lu_fraction=cube["lu_fraction"].copy(data=shares))


class TestBoostingFractions:
    predictors = ("elevation", "t2m", "co2", "lu_total")

    def boost(self, cube, name="lu_fraction", *, predictors=predictors, **kwargs):
        where, train = make_split(cube)
        return boosting_fractions(cube, predictors, name, where, train, **kwargs)

    @pytest.fixture(autouse=True)
    def few_trees(self, monkeypatch):
        monkeypatch.setattr("xlsbc.assess.boosting.CLASS_TREES", 8)

    @pytest.fixture
    def tables(self, monkeypatch):
        """Tables and classes that scikit-learn was fitted on."""
        from sklearn.ensemble import HistGradientBoostingClassifier

        seen = []
        fit = HistGradientBoostingClassifier.fit

        def record(model, table, target):
            seen.append((table, target))
            return fit(model, table, target)

        monkeypatch.setattr(HistGradientBoostingClassifier, "fit", record)
        return seen

    def test_probabilities_are_the_fractions_and_unseen_classes_have_none(self, monkeypatch):
        cube = make_regions()
        where, _ = make_split(cube)
        monkeypatch.setattr("xlsbc.assess.boosting.CLASS_TREES", 30)
        found = self.boost(cube, predictors=["elevation"]).values[..., where.values]
        truth = cube["lu_fraction"].values[..., where.values]
        assert np.abs(found - truth).mean(axis=(0, 2))[[2, 5]].max() < 0.05
        assert (np.delete(found, [2, 5], axis=1) == 0).all()

    def test_they_sum_to_one_in_the_held_out_pixels_and_are_missing_elsewhere(self):
        cube = make_cube()
        where, _ = make_split(cube)
        field = self.boost(cube, "lc_fraction", max_rows=600)
        assert field.dims == ("year", "lc_class", "latitude", "longitude")
        assert field.dtype == np.float32
        total = field.sum("lc_class", skipna=False).values
        np.testing.assert_allclose(total[:, where.values], 1, atol=1e-6)
        assert np.isnan(total[:, ~where.values]).all()

    def test_it_cannot_see_fractions_outside_the_training_pixels_and_years(self):
        cube = make_regions()
        _, train = make_split(cube)
        swapped = cube["lu_fraction"].roll(lu_class=1, roll_coords=False)
        known = train & (cube["year"] == 2001)
        changed = cube.assign(lu_fraction=cube["lu_fraction"].where(known, swapped))
        fields = [self.boost(each, years=[2001]) for each in (cube, changed)]
        xr.testing.assert_identical(*fields)

    def test_columns_are_place_forcing_of_the_year_and_yearly_inputs(self, tables):
        cube = make_cube()
        self.boost(cube, given=["lc_fraction"], max_rows=2 * 37 * 41)
        (table, _), (_, train) = tables[0], make_split(cube)
        row, column = np.nonzero(train.values)
        second = table[row.size :]  # the second year
        cell = row // 30 + 1, column // 30 + 1
        # latitude, longitude, elevation, 14 classes, t2m of the year, co2, 13 land uses
        assert table.shape == (2 * row.size, 3 + 14 + 1 + 1 + 13)
        np.testing.assert_allclose(second[:, 1], cube["longitude"].values[column], rtol=1e-6)
        cover = cube["lc_fraction"].values[1][:, row, column]
        np.testing.assert_allclose(second[:, 3:17], cover.T, rtol=1e-6)
        warmth = cube["t2m"].values[12:].astype("float64").mean(axis=0)
        np.testing.assert_allclose(second[:, 17], warmth[cell], rtol=1e-6)
        assert set(second[:, 18]) == {cube["co2"].values[1]}
        total = cube["lu_total"].values[1][:, *cell]
        np.testing.assert_allclose(second[:, 19:], total.T, rtol=1e-6)

    def test_a_single_map_goes_with_the_mean_of_all_forcing(self, tables):
        forcing = make_cube(years=(1990, 1991))["t2m"]
        cube = make_cube(years=(2000,)).drop_dims("forcing_time").assign(t2m=forcing)
        self.boost(cube, predictors=["t2m"])
        expected = forcing.values.astype("float64").mean(axis=0).astype("float32")
        assert set(tables[0][0][:, 2]) <= set(expected.ravel())

    def test_missing_pixels_are_left_out_and_rows_are_drawn_by_the_seed(self, tables):
        cube = make_cube()
        cube["lu_fraction"][dict(latitude=slice(0, 30))] = np.nan
        first, again, other = (self.boost(cube, max_rows=301, seed=s) for s in (1, 1, 2))
        assert {table.shape[0] for table, _ in tables} == {301}
        assert all((table[:, 0] < cube["latitude"].values[29]).all() for table, _ in tables)
        xr.testing.assert_identical(first, again)
        assert not first.equals(other)

    def test_fractions_are_drawn_from_again_while_there_is_room(self, tables):
        cube = make_regions(years=(2001,))
        _, train = make_split(cube)
        rows = int(train.sum())
        for room, draws in ((rows, 1), (3 * rows + 1, 3), (50 * rows, 5)):
            self.boost(cube, predictors=["elevation"], max_rows=room)
            assert tables[-1][0].shape == (draws * rows, 3)
            low = cube["elevation"].values[train.values] < 1500
            share = (tables[-1][1][np.tile(low, draws)] == 2).mean()
            # 758 rows of 0.7: a standard error of 0.017.
            assert share == pytest.approx(0.7, abs=0.05)

    def test_one_class_alone_has_all(self):
        cube = make_cube(years=(2001,))
        only = xr.DataArray(np.eye(13, dtype="float32")[4], dims="lu_class")
        cube["lu_fraction"][:] = only.broadcast_like(cube["lu_fraction"])
        where, _ = make_split(cube)
        field = self.boost(cube)
        assert (field.values[0, 4][where.values] == 1).all()
        assert field.sum().item() == where.sum()

    def test_without_any_label_all_is_missing(self):
        cube = make_cube()
        cube["lu_fraction"][:] = np.nan
        assert self.boost(cube).isnull().all()

    def test_all_that_is_wrong_is_listed(self):
        cube = make_cube()
        where, _ = make_split(cube)
        with pytest.raises(CubeError) as error:
            boosting_fractions(cube, ["t2mm"], "lu", where, where * 1, given=["lai"])
        text = str(error.value)
        for part in ("target 'lu'", "'t2mm'", "given 'lai'", "'train': expected booleans"):
            assert part in text
        with pytest.raises(CubeError, match="'lc_fraction'.*not the target; found the target"):
            self.boost(cube, "lc_fraction", given=["lc_fraction"])
