from __future__ import annotations

import hypothesis
import numpy as np
import pytest
import xarray as xr
from hypothesis import strategies as st

from xlsbc.cube.axes import Axis, read_axes
from xlsbc.errors import GridError, LegendError

GLOBE = -180 + 0.25 * np.arange(1440)


def axis(values: object, name: str = "lon", **attrs: str) -> Axis:
    return read_axes(xr.Dataset(coords={name: (name, np.asarray(values), attrs)}))[name]


def applied(found: Axis, values: object) -> np.ndarray:
    values = np.asarray(values)
    return values if found.order is None else values[found.order]


@pytest.mark.parametrize(
    ("name", "attrs"),
    [
        ("rows", {"standard_name": "latitude"}),
        ("rows", {"units": "degrees_north"}),
        ("lat", {}),
        ("latitude", {}),
        ("forcing_latitude", {}),
        ("driver_latitude", {}),
    ],
)
def test_a_latitude_is_known_by_cf_or_by_being_called_so(name, attrs):
    assert axis([46.0, 45.0], name, **attrs).kind == "latitude"


@pytest.mark.parametrize("name", ["rows", "y", "level"])
def test_a_coordinate_that_says_nothing_is_no_latitude(name):
    assert axis([46.0, 45.0], name).kind == "other"


def test_bounds_of_a_latitude_do_not_make_the_grid_curvilinear():
    ds = xr.Dataset(coords={"lat": ("lat", [46.0, 45.0], {"bounds": "lat_bnds"})})
    ds = ds.assign_coords(lat_bnds=(("lat", "bnds"), np.zeros((2, 2))))
    assert read_axes(ds)["lat"].kind == "latitude"


def test_a_latitude_along_a_dimension_of_another_name_is_found():
    ds = xr.Dataset(coords={"lat": ("y", [45.0, 46.0], {"units": "degrees_north"})})
    found = read_axes(ds)["y"]
    assert (found.kind, found.name) == ("latitude", "lat")


def test_latitudes_descend():
    found = axis([45.0, 46.0, 47.0], "lat")
    np.testing.assert_array_equal(found.values, [47, 46, 45])
    np.testing.assert_array_equal(found.order, [2, 1, 0])


def test_a_conformed_axis_needs_no_reordering():
    assert axis([47.0, 46.0, 45.0], "lat").order is None
    assert axis(GLOBE).order is None
    assert axis([170.0, 180.0, 190.0]).order is None


def test_a_globe_from_0_to_360_starts_at_180_west():
    found = axis(0.25 * np.arange(1440))
    np.testing.assert_array_equal(found.values, GLOBE)
    assert found.order is not None
    assert (found.order[0], found.order[720]) == (720, 0)


def test_a_globe_of_pixels_beside_180_starts_with_the_first_of_them():
    # LUH2: centres at 0.125, and so on.
    found = axis(0.125 + 0.25 * np.arange(1440))
    np.testing.assert_allclose(found.values, GLOBE + 0.125)


@pytest.mark.parametrize(
    "given",
    [
        [176.0, 178.0, 180.0, 182.0],
        [176.0, 178.0, -180.0, -178.0],
        [-180.0, -178.0, 176.0, 178.0],
        [182.0, 180.0, 178.0, 176.0],
    ],
)
def test_a_box_over_the_date_line_goes_on_past_180(given):
    found = axis(given)
    np.testing.assert_array_equal(found.values, [176, 178, 180, 182])
    np.testing.assert_array_equal(np.mod(applied(found, given), 360), [176, 178, 180, 182])


def test_a_box_east_of_180_is_put_west():
    np.testing.assert_array_equal(axis([200.0, 201.0, 202.0]).values, [-160, -159, -158])


def test_a_box_over_greenwich_stays():
    np.testing.assert_array_equal(axis([358.0, 359.0, 0.0, 1.0]).values, [-2, -1, 0, 1])


@hypothesis.given(
    first=st.integers(0, 719),
    count=st.integers(2, 719),
    flipped=st.booleans(),
    style=st.sampled_from(["0..360", "-180..180"]),
    turn=st.integers(0, 718),
)
def test_longitudes_come_out_the_same_however_they_were_written(first, count, flipped, style, turn):
    truth = -180 + 0.5 * (first + np.arange(count))
    given = np.mod(truth, 360) if style == "0..360" else np.mod(truth + 180, 360) - 180
    given = np.roll(given, turn % count)
    given = given[::-1] if flipped else given
    found = axis(given)
    assert not found.problems
    np.testing.assert_array_equal(found.values, truth)
    np.testing.assert_array_equal(np.mod(applied(found, given), 360), np.mod(truth, 360))


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("lat", [47.0, 46.0, 44.5], "must be evenly spaced"),
        ("lat", [47.0, 46.0, 46.0], "holds 46.0 more than once"),
        ("lon", [0.0, 180.0, 360.0], "holds 0.0 more than once"),
        ("lat", [500.0, 501.0], "within -90..90; found 500..501; swap it with the other axis"),
        ("lat", [100.0, 101.0], "swap it with the other axis"),
        ("lon", [5e5, 6e5], "reproject to latitude and longitude"),
        ("lat", [np.nan, 46.0], "finite numbers of degrees"),
        ("lat", ["a", "b"], "finite numbers of degrees"),
    ],
)
def test_what_is_wrong_with_degrees_is_told_as_a_problem_of_the_grid(name, values, message):
    (problem,) = axis(values, name).problems
    assert message in problem.text
    assert problem.error is GridError


@pytest.mark.parametrize(
    "attrs",
    [
        {"standard_name": "projection_x_coordinate", "units": "m"},
        {"standard_name": "grid_longitude", "units": "degrees"},
        {"units": "km"},
    ],
)
def test_a_projected_axis_says_to_reproject(attrs):
    found = axis([1.0, 2.0], "x", **attrs)
    assert found.kind == "projected"
    assert "reproject to latitude and longitude first" in found.problems[0].text


def test_a_height_in_metres_is_not_projected():
    assert axis([2.0, 10.0], "height", units="m", positive="up").kind == "other"


def test_a_curvilinear_grid_says_to_reproject():
    ds = xr.Dataset(coords={"lat": (("y", "x"), np.zeros((2, 3)), {"units": "degrees_north"})})
    assert {a.kind for a in read_axes(ds).values()} == {"projected"}


def test_class_ids_are_put_in_the_order_of_the_legend():
    ids = ["icwtr", "c3ann", "primf", "primn", "secdf", "secdn", "pastr", "range", "urban"]
    ids += ["c3per", "c4ann", "c4per", "c3nfx"]
    found = axis(ids, "state")
    assert (found.kind, found.legend) == ("class", "luh2")
    assert applied(found, ids)[[0, 7, 12]].tolist() == ["primf", "c3ann", "icwtr"]


def test_land_use_may_leave_out_ice_and_water():
    states = "primf primn secdf secdn pastr range urban c3ann c3per c4ann c4per c3nfx".split()
    assert not axis(states, "state").problems


def test_unknown_absent_and_repeated_classes_are_all_told():
    problems = axis(["trees_be", "trees_be", "moss", "water"], "cover").problems
    assert {p.error for p in problems} == {LegendError}
    text = " ".join(p.text for p in problems)
    assert "classes that legend 'cci_pft' lacks: moss" in text
    assert "more than once: trees_be" in text
    assert "lacks classes of legend 'cci_pft': trees_bd, trees_ne" in text


def test_ids_of_no_legend_are_told_with_the_legends():
    (problem,) = axis(["forest", "field"], "cover").problems
    assert "luh2: primf" in problem.text
    assert problem.text.endswith("found forest, field")


@pytest.mark.parametrize("attrs", [{"standard_name": ["latitude"]}, {"units": 7}, {"axis": None}])
def test_attributes_of_odd_types_do_no_harm(attrs):
    assert axis([1.0, 2.0], "rows", **attrs).kind == "other"
