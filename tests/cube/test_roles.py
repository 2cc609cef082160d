from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from xlsbc.cube.legends import LC, LU
from xlsbc.cube.schema import check_cube, roles
from xlsbc.errors import CubeError

STATES = [id for id in LU.ids if id != "icwtr"]


def field(*dims: str, **attrs: object) -> tuple[tuple[str, ...], np.ndarray, dict[str, object]]:
    sizes = {"lat": 4, "lon": 6, "flat": 2, "flon": 3, "year": 2, "lu": 13, "lc": 14}
    return dims, np.ones([sizes[d] for d in dims], "float32"), attrs


def with_classes(ds: xr.Dataset) -> xr.Dataset:
    return ds.assign_coords(
        lu=("lu", LU.coordinate("lu").values), lc=("lc", LC.coordinate("lc").values)
    )


def test_variables_are_found_by_what_they_are_and_not_by_their_names(raw):
    assert roles(raw()) == {"elevation": "dem", "t2m": "temp", "co2": "air", "lai": "greenness"}


def test_a_variable_called_like_another_one_is_still_what_it_says(raw):
    ds = raw("dem", "greenness").rename(dem="lai", greenness="elevation")
    assert roles(ds) == {"elevation": "lai", "lai": "elevation"}


def test_a_name_alone_gives_no_role(raw):
    ds = raw("dem").rename(dem="elevation").drop_attrs()
    ds["other"] = raw("dem").dem
    assert roles(ds.assign_coords(raw("dem").coords)) == {"elevation": "other"}


@pytest.mark.parametrize(
    ("standard_name", "canonical"),
    [
        ("lwe_precipitation_rate", "tp"),
        ("surface_snow_amount", "sd"),
        ("land_binary_mask", "land_fraction"),
        ("dew_point_temperature", "d2m"),
    ],
)
def test_other_standard_names_are_accepted(raw, standard_name, canonical):
    ds = raw("dem")
    ds["x"] = field("lat", "lon", standard_name=standard_name)
    assert roles(ds)[canonical] == "x"


def test_a_grib_parameter_is_known_by_its_code(raw):
    ds = raw("temp")
    ds.temp.attrs = {"standard_name": "unknown", "GRIB_paramId": 167, "units": "K"}
    assert roles(ds) == {"t2m": "temp"}


def test_a_mapping_goes_before_cf(raw):
    ds = raw("dem")
    ds["better"] = ds.dem.copy()
    assert roles(ds, {"elevation": "better"}) == {"elevation": "better"}


def test_a_mapped_variable_is_not_what_cf_says_it_is(raw):
    ds = raw("dem", "temp")
    assert roles(ds, {"canopy_height": "dem"}) == {"canopy_height": "dem", "t2m": "temp"}


@pytest.mark.proves("bad-cube")
def test_two_candidates_are_a_problem_that_names_both(raw):
    ds = raw("dem", "temp")
    ds["srtm"] = ds.dem
    message = r"static 'elevation' must be one variable; found 'dem', 'srtm'; pass mapping="
    with pytest.raises(CubeError, match=message):
        roles(ds)


@pytest.mark.proves("bad-cube")
def test_all_that_is_wrong_with_a_mapping_is_told_at_once(raw):
    ds = raw("dem", "temp")
    with pytest.raises(CubeError) as caught:
        roles(ds, {"elevatoin": "dem", "t2m": "tmep", "slope": "gone"})
    assert caught.value.problems == (
        "mapping asks for 'elevatoin', which is no canonical name; use 'elevation', or set "
        "ds['dem'].attrs['xlsbc_role'] to 'static' or 'forcing'",
        "mapping gives 'tmep' for 't2m', which the dataset does not hold; it has 'temp'",
        "mapping gives 'gone' for 'slope', which the dataset does not hold; it has dem, temp",
    )


def test_a_variable_may_name_its_own_role_and_keeps_its_name(raw):
    ds = raw("dem", "temp")
    ds["twi"] = field("lat", "lon", xlsbc_role="static")
    ds["t2m_era5"] = ds.temp.assign_attrs(xlsbc_role="forcing")
    assert roles(ds) == {"elevation": "dem", "twi": "twi", "t2m": "temp", "t2m_era5": "t2m_era5"}


def test_a_variable_without_a_cf_name_is_known_by_its_role_and_its_name(raw):
    ds = raw("dem")
    ds["soil_thickness"] = field("lat", "lon", xlsbc_role="static", units="m")
    assert roles(ds)["soil_thickness"] == "soil_thickness"


@pytest.mark.proves("bad-cube")
@pytest.mark.parametrize(
    ("name", "role", "message"),
    [
        ("twi", "statik", "'twi' has xlsbc_role 'statik'; expected 'static' or 'forcing'"),
        ("twi", "target", "'twi' has xlsbc_role 'target'; expected 'static' or 'forcing'"),
        ("slope", "forcing", "'slope' has xlsbc_role 'forcing'; expected 'static', as 'slope' has"),
    ],
)
def test_a_role_that_there_is_not_is_told(raw, name, role, message):
    ds = raw("dem")
    ds[name] = field("lat", "lon", xlsbc_role=role)
    with pytest.raises(CubeError, match=message):
        roles(ds)


def test_fractions_are_told_apart_by_their_classes_and_grids(raw):
    ds = raw("dem", "temp")
    ds["a"] = field("year", "lc", "lat", "lon", standard_name="area_fraction")
    ds["b"] = field("year", "lu", "lat", "lon", standard_name="area_fraction")
    ds["c"] = field("year", "lu", "flat", "flon", standard_name="area_fraction")
    found = roles(with_classes(ds))
    assert {n: found[n] for n in ("lc_fraction", "lu_fraction", "lu_total")} == {
        "lc_fraction": "a",
        "lu_fraction": "b",
        "lu_total": "c",
    }


def test_land_use_alone_is_the_target(raw):
    ds = with_classes(raw("dem")).drop_vars("dem")
    ds["b"] = field("year", "lu", "lat", "lon")
    assert roles(ds) == {"lu_fraction": "b"}


def test_an_uncertainty_over_classes_is_no_fraction(raw):
    ds = with_classes(raw("dem"))
    ds["a"] = field("lc", "lat", "lon", standard_name="area_fraction")
    ds["b"] = field("lc", "lat", "lon", standard_name="area_fraction standard_error")
    assert roles(ds)["lc_fraction"] == "a"


def test_the_states_of_luh2_are_one_driver_and_secma_and_secmb_are_none_of_it(raw):
    ds = raw("dem", "temp")
    for name in [*STATES, "secma", "secmb"]:
        ds[name] = field("year", "flat", "flon", standard_name="area_fraction")
    found = roles(ds)
    assert found["lu_total"].split() == STATES
    assert roles(ds, {"lu_total": found["lu_total"]})["lu_total"] == found["lu_total"]


def test_a_map_of_towns_called_urban_is_not_luh2(raw):
    ds = raw("dem")
    ds["urban"] = field("lat", "lon")
    assert roles(ds) == {"elevation": "dem"}


@pytest.mark.parametrize(
    "attrs",
    [
        {"standard_name": "land_cover_lccs"},
        {"legend": "globcover"},
        {"flag_meanings": "water grassland urban", "flag_values": [210, 130, 190]},
        {"standard_name": "land_cover", "flag_values": [10, 11, 210]},
    ],
)
def test_a_map_of_classes_is_known_by_its_legend(raw, attrs):
    ds = raw("dem")
    ds["lccs_class"] = field("year", "lat", "lon", **attrs)
    assert roles(ds)["lc_fraction"] == "lccs_class"


def test_quality_flags_are_no_map_of_classes(raw):
    ds = raw("dem")
    ds["qa"] = field(
        "lat",
        "lon",
        standard_name="quality_flag",
        flag_meanings="clear cloud water",
        flag_values=[0, 1, 2],
    )
    assert roles(ds) == {"elevation": "dem"}


@pytest.mark.proves("bad-cube")
def test_a_map_whose_legend_cannot_be_told_asks_for_it(raw):
    ds = raw("dem")
    # 20 and 30 are codes of two legends, and mean other things in each.
    ds["m"] = field("year", "lat", "lon", standard_name="land_cover", flag_values=[20, 30, 999])
    (problem,) = check_cube(ds.assign_coords(year=[2000, 2001]))
    assert "its legend cannot be told: found flag_values [20, 30, 999], of which [999]" in problem
    assert "set attrs['legend'] to one of cci_lccs, globcover" in problem


def test_leaf_area_of_part_of_a_pixel_is_not_that_of_the_pixel(raw):
    ds = raw("greenness")
    ds["lai_hv"] = ds.greenness.assign_attrs(cell_methods="area: mean where trees")
    ds["greenness"].attrs["cell_methods"] = "area: mean where land time: mean"
    assert roles(ds) == {"lai": "greenness"}


@pytest.mark.proves("bad-cube")
@pytest.mark.parametrize("odd", [["a"], 3, None, {"a": 1}, np.array([1, 2])])
@pytest.mark.parametrize(
    "key",
    ["standard_name", "GRIB_paramId", "flag_values", "flag_meanings", "cell_methods", "legend"],
)
def test_attributes_of_odd_types_do_no_harm(raw, key, odd):
    ds = raw("dem", "temp")
    ds.temp.attrs[key] = odd
    assert roles(ds)["elevation"] == "dem"
