"""Steps without labels, against values worked by hand."""

from __future__ import annotations

import dask
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from xlsbc.assess.steps import bridged, nearest, training_steps


def make_lai(values, start="2001-01-01"):
    time = pd.date_range(start, periods=len(values), freq="MS")
    pair = np.stack([values, 10 - np.asarray(values)], axis=1)  # two pixels
    return xr.DataArray(
        pair.astype("float32"), dims=("time", "pixel"), coords={"time": time}, name="lai"
    )


def test_a_gap_is_linear_in_days_between_the_months_around_it():
    lai = make_lai([1.0, np.nan, np.nan, 4.0, *[5.0] * 8])
    found = bridged(lai, np.array([1, *range(4, 13)]))
    # 1 January to 1 April is 90 days; 1 February is day 31, 1 March day 59.
    np.testing.assert_allclose(found[:4, 0], [1, 1 + 3 * 31 / 90, 1 + 3 * 59 / 90, 4], rtol=1e-6)
    np.testing.assert_allclose(found[:4, 1], 10 - found[:4, 0], rtol=1e-6)
    np.testing.assert_array_equal(found[4:], lai[4:])


def test_a_gap_over_the_turn_of_the_year_is_bridged_at_both_ends_of_the_record():
    values = np.full(24, 3.0)
    values[[0, 11, 12, 23]] = np.nan
    values[[10, 13]], values[[1, 22]] = (1.0, 2.0), (6.2, 7.2)
    found = bridged(make_lai(values), np.arange(2, 12))[:, 0]
    # November to February is 92 days; December is day 30, January day 61. The first January has
    # the February and the November of its own year around it, as the last December has.
    np.testing.assert_allclose(found[[11, 12]], [1 + 30 / 92, 1 + 61 / 92], rtol=1e-6)
    assert found[0] == pytest.approx(1.0 + 5.2 * 61 / 92, rel=1e-6)
    assert found[23] == pytest.approx(7.2 + (2.0 - 7.2) * 30 / 92, rel=1e-6)


def test_a_single_month_holds_all_year():
    values = np.full(12, np.nan)
    values[6] = 2.5
    np.testing.assert_array_equal(bridged(make_lai(values), np.array([7]))[:, 0], np.full(12, 2.5))


def test_years_apart_do_not_reach_each_other():
    first, second = np.full(12, 1.0), np.full(12, 9.0)
    first[[10, 11]] = second[[10, 11]] = np.nan
    lai = xr.concat([make_lai(first), make_lai(second, "2004-01-01")], "time")
    found = bridged(lai, np.arange(1, 11))[:, 0]
    np.testing.assert_array_equal(found, [*[1.0] * 12, *[9.0] * 12])


def test_pixels_that_are_missing_stay_so():
    lai = make_lai([1.0, np.nan, *[2.0] * 10])
    lai[:, 1] = np.nan
    found = bridged(lai, np.array([1, *range(3, 13)]))
    assert found[:, 1].isnull().all()
    assert found[:, 0].notnull().all()


def test_nothing_changes_without_a_gap_and_without_a_value():
    lai = make_lai(np.arange(12.0))
    assert bridged(lai, np.arange(1, 13)).identical(lai)
    assert bridged(lai * np.nan, np.array([])).isnull().all()


def test_a_lazy_field_stays_lazy_and_has_the_same_values():
    lai = make_lai([1.0, np.nan, np.nan, 4.0, *[5.0] * 8])
    months = np.array([1, *range(4, 13)])

    def forbid(*args, **kwargs):
        raise AssertionError("computed")

    with dask.config.set(scheduler=forbid):
        lazy = bridged(lai.chunk(time=5), months)
    xr.testing.assert_identical(lazy.compute(), bridged(lai, months))


def test_the_nearest_known_year_is_the_earlier_of_two():
    years = np.array([2001, 2002, 2003, 2006, 2007])
    known = np.array([True, False, True, False, True])
    assert years[nearest(known, years)].tolist() == [2001, 2001, 2003, 2007, 2007]


def test_steps_of_other_years_do_not_train_but_a_climatology_has_no_years():
    lai = make_lai(np.arange(36.0), "2001-01-01")
    assert np.flatnonzero(training_steps(lai, [2002])).tolist() == list(range(12, 24))
    assert training_steps(lai, None).all()
    assert training_steps(lai.assign_attrs(cell_methods="time: mean over years"), [1999]).all()
    maps = xr.DataArray(np.zeros(3), dims="year", coords={"year": [2001, 2002, 2003]})
    assert training_steps(maps, iter([2003, 2001])).tolist() == [True, False, True]
