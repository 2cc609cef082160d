from __future__ import annotations

import dask.array
import numpy as np
import pytest
import xarray as xr

from xlsbc.assess.views import dominant, drawn_steps, matched, seasonal_means
from xlsbc.cube import legends


def months(first: str, count: int) -> np.ndarray:
    return np.datetime64(first, "M") + np.arange(count)


def test_dominant_class_is_the_index_in_the_legend_whatever_the_order_in_the_data():
    fraction = xr.DataArray(
        [[0.2, 0.7, np.nan], [0.5, 0.2, np.nan], [0.3, 0.1, np.nan]],
        {"lc_class": ["water", "grass_man", "trees_be"]},
        ("lc_class", "longitude"),
    )
    water, grass, missing = 12, 9, -1
    assert dominant(fraction, "lc_class").values.tolist() == [grass, water, missing]


def test_dominant_class_stays_lazy_and_equals_the_one_in_memory(three_strips):
    cube, _, _ = three_strips()
    lazy = dominant(cube["lu_fraction"].chunk(latitude=2, longitude=4), "lu_class")
    assert isinstance(lazy.data, dask.array.Array)
    xr.testing.assert_equal(lazy.compute(), dominant(cube["lu_fraction"], "lu_class"))


def test_thinning_takes_whole_steps_until_no_side_is_longer_than_the_limit(three_strips):
    cube, prediction, held_out = three_strips(rows=11)
    reference, predicted, mask = matched(cube["lai"], prediction["lai"], held_out, limit=4)
    # 11 rows by steps of 3: 0, 3, 6, 9; 9 columns: 0, 3, 6
    assert reference.shape[1:] == predicted.shape[1:] == mask.shape == (4, 3)
    np.testing.assert_array_equal(predicted["latitude"], cube["latitude"][::3])
    assert mask.values.tolist() == [
        [False] * 3,
        [True, True, False],
        [False] * 3,
        [False] * 3,
    ]


def test_a_prediction_of_a_part_is_held_against_that_part(three_strips):
    cube, prediction, held_out = three_strips()
    part = prediction["lai"].isel(latitude=slice(3, 6), longitude=slice(2, 8))
    reference, predicted, mask = matched(cube["lai"], part, held_out, limit=700)
    xr.testing.assert_equal(
        reference, cube["lai"].isel(latitude=slice(3, 6), longitude=slice(2, 8))
    )
    xr.testing.assert_equal(predicted, part)
    np.testing.assert_array_equal(mask, held_out[3:6, 2:8])


def test_the_same_grid_in_float32_is_the_same_grid(three_strips):
    cube, prediction, held_out = three_strips()
    rounded = prediction["lai"].assign_coords(
        {dim: cube[dim].astype("float32") for dim in ("latitude", "longitude")}
    )
    reference, _, mask = matched(cube["lai"], rounded, held_out, limit=700)
    np.testing.assert_array_equal(reference.values, cube["lai"].values)
    np.testing.assert_array_equal(mask.values, held_out.values)


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (months("2000-01", 36), ["2002-01", "2002-04", "2002-07", "2002-10"]),
        (months("2000-01", 17), ["2000-01", "2000-04", "2000-07", "2000-10"]),
        (months("2000-06", 3), ["2000-07"]),
        (months("2000-02", 2), ["2000-02", "2000-03"]),
        (months("2000-01", 0), []),
    ],
    ids=["the last year", "the last full year", "a summer", "no such month", "nothing"],
)
def test_drawn_steps_are_one_a_season_of_the_last_of_the_fullest_years(times, expected):
    steps = drawn_steps(times.astype("datetime64[ns]"))
    assert [str(step)[:7] for step in steps] == expected


def test_of_several_steps_in_a_month_the_first_is_drawn():
    dekads = np.array(["2001-01-01", "2001-01-11", "2001-01-21"], dtype="datetime64[ns]")
    assert [str(step)[:10] for step in drawn_steps(dekads)] == ["2001-01-01"]


def test_seasonal_means_are_those_of_the_held_out_pixels_by_class_and_month(three_strips):
    cube, prediction, held_out = three_strips()
    curves = seasonal_means(cube, prediction, held_out, limit=700)
    forest, fields = curves.sel(lc_class="trees_bd"), curves.sel(lc_class="grass_man")
    np.testing.assert_allclose(forest["reference"], 0.2 * np.arange(1, 13), rtol=1e-6)
    np.testing.assert_allclose(forest["prediction"][1:], 0.2 * np.arange(2, 13) + 0.5, rtol=1e-6)
    np.testing.assert_allclose(fields["reference"], 0.1 * np.arange(1, 13), rtol=1e-6)
    np.testing.assert_allclose(fields["prediction"][5], 0.6 - 0.25, rtol=1e-6)
    # three of the five held-out columns are forest
    assert forest["share"].item() == pytest.approx(0.6)
    assert fields["share"].item() == pytest.approx(0.4)
    assert np.isnan(curves["reference"].sel(lc_class="trees_ne")).all()
    assert "water" not in curves["lc_class"]


def test_seasonal_means_weigh_pixels_by_their_area_and_skip_what_either_side_misses(three_strips):
    cube, prediction, held_out = three_strips(rows=3)
    held_out[:] = False
    held_out[1:, :1] = True
    # two rows at 60 and 0 degrees north: areas as 1 to 2
    far = {"latitude": [80.0, 60.0, 0.0]}
    cube, prediction, held_out = (a.assign_coords(far) for a in (cube, prediction, held_out))
    cube["lai"][:, 1, 0], cube["lai"][:, 2, 0] = 3.0, 6.0
    prediction["lai"][6, 2, 0] = np.nan
    curves = seasonal_means(cube, prediction, held_out, limit=700).sel(lc_class="trees_bd")
    assert curves["reference"][0].item() == pytest.approx((1 * 3 + 2 * 6) / 3)
    july = curves["reference"][6].item()  # 2001 has one row left, 2002 has both
    assert july == pytest.approx((1 * 3 + 1 * 3 + 2 * 6) / 4)


def test_each_step_takes_the_class_of_its_own_year(three_strips):
    cube, prediction, held_out = three_strips()
    bare = legends.LC.index("bare")
    cube["lc_fraction"][1] = 0.0
    cube["lc_fraction"][1, bare] = 1.0
    cube["lai"][12:] = 7.0
    curves = seasonal_means(cube, prediction, held_out, limit=700)
    assert curves["reference"].sel(lc_class="trees_bd", month=1).item() == pytest.approx(0.2)


def test_without_land_cover_there_is_one_curve_for_all_pixels(three_strips):
    cube, prediction, held_out = three_strips()
    curves = seasonal_means(cube.drop_vars("lc_fraction"), prediction, held_out, limit=700)
    assert curves["lc_class"].values.tolist() == ["all"]
    assert curves["reference"].sel(month=10).item() == pytest.approx((3 * 2.0 + 2 * 1.0) / 5)


def test_where_nothing_is_held_out_all_pixels_count(three_strips):
    cube, prediction, held_out = three_strips()
    curves = seasonal_means(cube, prediction, held_out & False, limit=700)
    assert curves["share"].sel(lc_class="trees_bd").item() == pytest.approx(0.5)
