from __future__ import annotations

import re

import hypothesis
import numpy as np
import pytest
import xarray as xr
from hypothesis import strategies as st

from xlsbc.cube.schema import check_cube, conform, describe, describe_html
from xlsbc.errors import CubeError


def row(text: str, label: str) -> str:
    found = re.search(rf"^  {label}  +(.*)$", text, flags=re.MULTILINE)
    assert found, text
    return found[1]


def test_the_grids_and_the_period_are_told(raw):
    text = describe(raw())
    assert row(text, "grid") == "4 x 6, 0.25 degree, latitude 46.75 to 46, longitude 10 to 11.25"
    assert row(text, "forcing grid").startswith("2 x 3, 1 degree")
    assert row(text, "period") == (
        "time 2001-01-01 to 2001-03-01 (3); forcing_time 2000-01-01 to 2001-12-01 (24); "
        "year 2000 to 2001 (2)"
    )


def test_each_role_is_told_with_the_names_in_the_dataset(raw):
    text = describe(raw())
    assert row(text, "static") == "elevation (dem)"
    assert row(text, "target") == "lai (greenness)"


def test_what_is_missing_and_what_has_no_role_is_told(raw):
    ds = raw("dem").assign(odd=("x", [1.0]))
    text = describe(ds)
    assert row(text, "missing").startswith("slope, clay_fraction")
    assert "elevation" not in row(text, "missing")
    assert row(text, "no role") == "odd"


def test_a_mean_year_is_told(raw):
    ds = raw("greenness").isel(time=[0] * 12).assign_coords(time=np.arange(1, 13))
    assert row(describe(conform(ds)), "target") == "lai [mean year]"


def test_a_variable_with_fewer_times_than_the_cube_says_which(raw):
    ds = raw("temp")
    dew = ds.temp.isel(ftime=slice(6, 18)).rename(ftime="stime")
    dew.attrs["standard_name"] = "dew_point_temperature"
    assert row(describe(ds.assign(dew=dew)), "forcing") == (
        "t2m (temp); d2m (dew) [2000-07-01 to 2001-06-01 (12)]"
    )


def test_problems_are_told_and_the_rest_as_well(raw):
    ds = raw("dem", "temp")
    ds.dem.attrs["units"] = "K"
    text = describe(ds)
    assert row(text, "static") == "elevation (dem): see problem"
    assert row(text, "forcing") == "t2m (temp)"
    assert "'dem' has units 'K'" in row(text, "problem")


def test_nothing_is_computed(raw, no_compute):
    assert "elevation" in describe(raw().chunk())
    assert "elevation" in describe_html(raw().chunk())


def test_the_html_says_what_the_text_says_and_escapes_it(raw):
    ds = raw("dem").rename(dem="<script>")
    page = describe_html(ds)
    assert "elevation (&lt;script&gt;)" in page
    assert "<script>" not in page


def test_the_html_has_no_colours_of_its_own(raw):
    assert "color" not in describe_html(raw())


@pytest.mark.proves("bad-cube")
@pytest.mark.parametrize("ds", [xr.Dataset(), xr.Dataset({"a": 1}), 7, None])
def test_anything_can_be_described(ds):
    assert describe(ds).startswith("<xlsbc cube>")
    assert describe_html(ds).startswith("<div")


NAMES = st.sampled_from(["lat", "lon", "time", "year", "lc_class", "x", "surface_altitude", "m"])
ODD = st.one_of(
    st.none(),
    st.integers(-300, 300),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(
        [
            "latitude",
            "longitude",
            "degrees_north",
            "degrees_east",
            "surface_altitude",
            "area_fraction",
            "leaf_area_index",
            "air_temperature",
            "land_cover_lccs",
            "days since 2000-01-01",
            "years since 850-01-01",
            "K",
            "static",
            "forcing",
            "cci_pft",
            "T",
            "Y",
            "m",
            "1",
        ]
    ),
    st.lists(st.integers(-5, 5), max_size=3),
)
KEYS = st.sampled_from(
    "standard_name units axis xlsbc_role legend flag_values flag_meanings calendar bounds "
    "GRIB_paramId cell_methods long_name _FillValue scale_factor positive".split()
)
ATTRS = st.dictionaries(KEYS, ODD, max_size=4)
VALUES = st.one_of(
    st.just([3.0, 2.0, 1.0]),
    st.just([1, 2, 3]),
    st.just([1.0, np.nan, np.inf]),
    st.just(["a", "b", "c"]),
    st.just(["primf", "primn", "water"]),
    st.just([b"a", b"b", b"c"]),
    st.just(np.array(["2000-01-01", "NaT", "2001-01-01"], "M8[ns]")),
    st.just(np.array([1, 2, 3], "m8[D]")),
    st.just(np.array([None, 1, "x"], dtype=object)),
    st.just([True, False, True]),
)


@st.composite
def datasets(draw: st.DrawFn) -> xr.Dataset:
    """Any few variables and coordinates of length 3, with any attributes."""
    dims = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    ds = xr.Dataset()
    for name in draw(st.lists(st.sampled_from(["a", "b", "urban", "primf", "lai"]), unique=True)):
        used = draw(st.permutations(dims))[: draw(st.integers(0, len(dims)))]
        ds[name] = (used, np.ones([3] * len(used)), draw(ATTRS))
    for dim in dims:
        if draw(st.booleans()):
            ds = ds.assign_coords({dim: (dim, draw(VALUES), draw(ATTRS))})
    return ds


@pytest.mark.proves("bad-cube")
@hypothesis.settings(max_examples=150)
@hypothesis.given(ds=datasets())
def test_any_dataset_is_described_and_conforms_or_raises_a_cube_error(ds):
    assert "cannot be described" not in describe(ds)
    problems = check_cube(ds)
    if problems:
        with pytest.raises(CubeError) as caught:
            conform(ds)
        assert list(caught.value.problems) == problems
    else:
        cube = conform(ds)
        xr.testing.assert_identical(conform(cube), cube)
