from __future__ import annotations

import subprocess
import sys

import pytest

from xlsbc.cube.vocabulary import ROLES, VOCABULARY, attributes
from xlsbc.errors import CubeError


@pytest.mark.parametrize(
    ("role", "names"),
    [
        (
            "static",
            "elevation slope clay_fraction silt_fraction sand_fraction soil_porosity "
            "soil_water_residual soil_thickness soil_hydraulic_conductivity soil_carbon "
            "canopy_height land_fraction lake_fraction built_fraction water_fraction "
            "low_vegetation_fraction high_vegetation_fraction",
        ),
        ("forcing", "t2m d2m tp ssrd swvl1 sd lai_lv lai_hv"),
        ("scalar", "co2"),
        ("driver", "lu_total"),
        ("target", "lu_fraction lc_fraction lai"),
    ],
)
def test_the_variables_of_each_role(role, names):
    assert [v.name for v in VOCABULARY.values() if v.role == role] == names.split()


def test_every_variable_has_a_role_and_a_sensible_range():
    assert {v.role for v in VOCABULARY.values()} == set(ROLES)
    assert all(v.valid_min < v.valid_max for v in VOCABULARY.values())


@pytest.mark.parametrize(
    ("name", "dims"),
    [
        ("slope", ("latitude", "longitude")),
        ("ssrd", ("forcing_time", "forcing_latitude", "forcing_longitude")),
        ("co2", ("year",)),
        ("lu_total", ("year", "lu_class", "driver_latitude", "driver_longitude")),
        ("lu_fraction", ("year", "lu_class", "latitude", "longitude")),
        ("lc_fraction", ("year", "lc_class", "latitude", "longitude")),
        ("lai", ("time", "latitude", "longitude")),
    ],
)
def test_time_comes_first_and_then_class_latitude_and_longitude(name, dims):
    assert VOCABULARY[name].dims == dims


def test_no_standard_name_stands_for_two_variables_but_area_fraction():
    said = [n for v in VOCABULARY.values() for n in (v.standard_name, *v.aliases) if n]
    assert {n for n in said if said.count(n) > 1} == {"area_fraction"}


def test_standard_names_are_those_of_the_cf_table():
    # CF standard name table 83.
    expected = {
        "elevation": ("surface_altitude", "m"),
        "slope": ("ground_slope_angle", "degree"),
        "tp": ("precipitation_flux", "kg m-2 s-1"),
        "ssrd": ("surface_downwelling_shortwave_flux_in_air", "W m-2"),
        "co2": ("mole_fraction_of_carbon_dioxide_in_air", "1"),
        "lai": ("leaf_area_index", "1"),
    }
    found = {n: (VOCABULARY[n].standard_name, VOCABULARY[n].units) for n in expected}
    assert found == expected


def test_the_vocabulary_cannot_be_changed():
    with pytest.raises(TypeError):
        VOCABULARY["lai"] = VOCABULARY["slope"]  # type: ignore[index]


def test_attributes_of_a_variable_are_its_cf_names_and_units():
    assert attributes("lai") == {
        "standard_name": "leaf_area_index",
        "long_name": "leaf area index",
        "units": "1",
    }


def test_a_variable_without_a_cf_name_names_its_role():
    assert attributes("soil_thickness") == {
        "xlsbc_role": "static",
        "long_name": "thickness of the soil",
        "units": "m",
    }


@pytest.mark.parametrize("prefix", ["", "forcing_", "driver_"])
def test_attributes_of_a_horizontal_coordinate_are_those_that_cf_asks_for(prefix):
    latitude, longitude = attributes(f"{prefix}latitude"), attributes(f"{prefix}longitude")
    assert (latitude["standard_name"], latitude["units"]) == ("latitude", "degrees_north")
    assert (longitude["standard_name"], longitude["units"]) == ("longitude", "degrees_east")


def test_a_time_has_no_units_of_its_own():
    # xarray writes them with the encoding, and refuses to where they are attributes.
    assert "units" not in attributes("time")


def test_attributes_that_are_changed_do_not_change_the_next_ones():
    attributes("latitude")["units"] = "m"
    assert attributes("latitude")["units"] == "degrees_north"


def test_a_name_that_is_not_in_the_vocabulary_is_refused():
    with pytest.raises(CubeError, match="'ndvi' is not in the vocabulary; it has elevation"):
        attributes("ndvi")


def test_the_words_of_the_cube_import_nothing_heavy():
    heavy = ("cf_xarray", "pint", "dask.array", "distributed", "matplotlib", "torch")
    code = (
        "import sys, xlsbc.cube.schema, xlsbc.cube.grid; "
        f"print([m for m in {heavy!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
