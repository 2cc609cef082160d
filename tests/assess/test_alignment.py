"""What can be held against what, and on which coordinates."""

from __future__ import annotations

import numpy as np
import pytest

from tests.assess.fields import make_fractions, make_lai, make_weight
from xlsbc.assess.alignment import align, align_mask, lay, mismatches
from xlsbc.assess.metrics import continuous_scores, continuous_sums
from xlsbc.errors import CubeError


def test_every_mismatch_is_listed_at_once():
    truth = make_lai(1)
    prediction = truth.assign_coords(
        time=truth["time"] + np.timedelta64(3650, "D"), latitude=truth["latitude"] - 0.5 / 120
    ).isel(longitude=slice(0, 4))
    with pytest.raises(CubeError, match=r"\(1\).*time.*\(2\).*latitude.*\(3\).*longitude 9") as e:
        continuous_sums(prediction, truth, make_weight())
    assert len(e.value.problems) == 3


def test_another_legend_is_a_mismatch():
    truth = make_fractions(1)
    other = truth["lc_class"].copy(data=[f"class_{i}" for i in range(6)]).assign_attrs(legend="x")
    problems = mismatches(truth.assign_coords(lc_class=other), truth)
    assert len(problems) == 1
    assert "expected legend 'cci_pft' with 6 classes; found 'x'" in problems[0]


def test_other_dimensions_are_a_mismatch():
    truth = make_lai(1)
    assert "expected dimensions" in mismatches(truth.isel(time=0), truth)[0]


def test_classes_in_another_order_and_fewer_times_are_aligned():
    truth = make_fractions(1)
    turned = truth.isel(lc_class=[3, 1, 0, 2, 5, 4], year=[2, 0])
    found, expected = align(turned, truth)
    assert expected["year"].values.tolist() == [2003, 2001]
    np.testing.assert_array_equal(found.values, expected.values)
    assert found["lc_class"].values.tolist() == truth["lc_class"].values.tolist()


def test_coordinates_that_differ_by_rounding_are_the_same_grid():
    truth = make_lai(1, gaps=0)
    rounded = truth.assign_coords(latitude=truth["latitude"].astype("float32").astype("float64"))
    assert not np.array_equal(rounded["latitude"], truth["latitude"])
    found = continuous_scores(continuous_sums(rounded, truth, make_weight()))
    assert int(found["n"]) == 7 * 5 * 7
    assert float(found["rmse"]) == 0


def test_a_mask_must_be_boolean_and_on_the_grid():
    grid = make_lai(1).to_dataset()
    mask = grid["lai"].isel(time=0, drop=True) > 1
    assert align_mask(mask.transpose(), grid).dims == ("latitude", "longitude")
    with pytest.raises(CubeError, match="expected booleans"):
        align_mask(mask.astype(int), grid)
    with pytest.raises(CubeError, match="expected longitude 9"):
        align_mask(mask.isel(longitude=slice(1, None)), grid)


def test_a_map_of_rounded_coordinates_is_laid_on_those_of_the_data():
    data = make_lai(1)
    field = make_weight().transpose().assign_coords(latitude=data["latitude"].astype("f4"))
    laid = lay(field, data)
    assert laid.dims == ("latitude", "longitude")
    assert laid["latitude"].identical(data["latitude"])
    np.testing.assert_array_equal(laid.values, make_weight().values)


def test_a_field_of_another_dimension_cannot_be_laid():
    with pytest.raises(CubeError, match="'depth' does not fit the data.*expected dimensions"):
        lay(make_weight().expand_dims(layer=2).rename("depth"), make_lai(1))
