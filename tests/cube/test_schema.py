from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from xlsbc.cube.schema import check_cube, conform, is_climatology, roles


def test_a_good_dataset_has_no_problems(raw):
    assert check_cube(raw()) == []


@pytest.mark.proves("bad-cube")
def test_a_check_lists_what_conform_would_raise(raw, no_compute):
    ds = raw("dem", "temp").chunk()
    ds.dem.attrs["units"] = "K"
    with pytest.raises(ValueError, match="cannot be read as a cube") as caught:
        conform(ds)
    assert tuple(check_cube(ds)) == caught.value.problems


@pytest.mark.parametrize("needs", [["elevation", "t2m"], ["static", "forcing"], "lai", ("co2",)])
def test_needs_that_are_met_are_no_problem(raw, needs):
    assert check_cube(raw(), needs=needs) == []


@pytest.mark.proves("bad-cube")
def test_a_missing_variable_is_told_with_what_it_may_be(raw):
    ds = raw("dem", "temp")
    del ds.dem.attrs["standard_name"]
    assert check_cube(ds, needs=["elevation", "t2m"]) == [
        "static 'elevation' not found: nothing has standard_name surface_altitude; "
        "candidates: 'dem' (pass mapping={'elevation': 'dem'})"
    ]


def test_a_candidate_has_the_dims_and_the_units_that_are_needed(raw):
    ds = raw()
    ds["hot"] = ds.dem.assign_attrs(standard_name="", units="K")
    ds["deep"] = ds.temp.assign_attrs(standard_name="", units="m")
    (problem,) = check_cube(ds, needs=["canopy_height"])
    assert problem.endswith("nothing has standard_name canopy_height; add it")


def test_the_candidate_with_the_nearest_name_comes_first(raw):
    ds = raw("greenness")
    for name in ("quality", "porosity", "shade"):
        ds[name] = ds.greenness.isel(time=0, drop=True).assign_attrs(standard_name="x", units="1")
    (problem,) = check_cube(ds, needs=["soil_porosity"])
    assert "candidates: 'porosity', " in problem


@pytest.mark.proves("bad-cube")
@pytest.mark.parametrize(
    ("need", "message"),
    [
        (
            "lu_total",
            "nothing has the classes of 'luh2' on driver_latitude x driver_longitude; add it",
        ),
        ("built_fraction", "nothing has xlsbc_role 'static' and this name; add it"),
        ("driver", "no driver variable found; give one of lu_total"),
        ("twi", "'twi' not found; give it with xlsbc_role 'static' or 'forcing'"),
    ],
)
def test_every_kind_of_need_is_told_when_it_is_not_met(raw, need, message):
    (problem,) = check_cube(raw("dem", "temp"), needs=[need])
    assert problem.endswith(message)


@pytest.mark.proves("bad-cube")
def test_missing_needs_come_with_all_other_problems(raw):
    ds = raw("dem")
    ds.dem.attrs["units"] = "K"
    found = check_cube(ds, mapping={"t2m": "gone"}, needs=["lai", "co2"])
    assert len(found) == 4


def test_the_roles_of_a_cube_are_its_own_names(raw):
    assert roles(conform(raw())) == {n: n for n in ("elevation", "t2m", "co2", "lai")}


def test_a_check_reads_no_values(raw, no_compute):
    ds = raw().chunk()
    assert check_cube(ds) == []
    assert roles(ds)["lai"] == "greenness"


@pytest.mark.parametrize(
    ("methods", "expected"),
    [
        ("time: mean within years time: mean over years", True),
        ("time: mean", False),
        (None, False),
    ],
)
def test_a_mean_year_is_known_by_its_cell_methods(methods, expected):
    attrs = {} if methods is None else {"cell_methods": methods}
    assert is_climatology(xr.DataArray(np.zeros(12), dims="time", attrs=attrs)) is expected
