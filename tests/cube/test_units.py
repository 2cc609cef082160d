from __future__ import annotations

import dask
import numpy as np
import pytest
import xarray as xr

from xlsbc.cube.units import convert, convertible
from xlsbc.cube.vocabulary import convert as convert_of_vocabulary
from xlsbc.errors import UnitsError


def quantity(units: str | None, values: object = (1.0, np.nan, 3.0), **attrs: str) -> xr.DataArray:
    attrs = attrs if units is None else {"units": units, **attrs}
    return xr.DataArray(np.array(values), dims="x", name="q", attrs=attrs)


@pytest.mark.parametrize(
    ("units", "wanted", "one"),
    [
        ("K", "K", 1.0),
        ("degC", "K", 274.15),
        ("C", "K", 274.15),
        ("Celsius", "K", 274.15),
        ("km", "m", 1000.0),
        ("degrees", "degree", 1.0),
        ("radian", "degree", 180 / np.pi),
        ("ppm", "1", 1e-6),
        ("ppmv", "1", 1e-6),
        ("1e-6", "1", 1e-6),
        ("1.e-6", "1", 1e-6),
        ("umol mol-1", "1", 1e-6),
        ("%", "1", 0.01),
        ("percent", "1", 0.01),
        ("m2 m-2", "1", 1.0),
        ("m**2 m**-2", "1", 1.0),
        ("(0 - 1)", "1", 1.0),
        ("[-]", "1", 1.0),
        ("~", "1", 1.0),
        ("", "1", 1.0),
        (None, "1", 1.0),
        ("m**3 m**-3", "m3 m-3", 1.0),
        ("kg m**-2 s**-1", "kg m-2 s-1", 1.0),
        ("kg m-2 day-1", "kg m-2 s-1", 1 / 86400),
        ("W m**-2", "W m-2", 1.0),
        ("J m-2 day-1", "W m-2", 1 / 86400),
        ("MJ m-2 day-1", "W m-2", 1e6 / 86400),
        ("mm/day", "m s-1", 1e-3 / 86400),
        ("cm day-1", "m s-1", 1e-2 / 86400),
    ],
)
def test_a_quantity_is_converted(units, wanted, one):
    converted = convert(quantity(units), wanted)
    assert float(converted[0]) == pytest.approx(one, rel=1e-12)
    assert np.isnan(converted[1])
    assert converted.attrs["units"] == wanted


@pytest.mark.parametrize(
    ("units", "wanted", "standard_name", "one"),
    [
        ("m s-1", "kg m-2 s-1", "lwe_precipitation_rate", 1000.0),
        ("mm day-1", "kg m-2 s-1", "lwe_precipitation_rate", 1 / 86400),
        ("mm day-1", "kg m-2 s-1", "precipitation_flux", 1 / 86400),
        ("kg m-2", "m", "surface_snow_amount", 1e-3),
        ("m of water equivalent", "m", "lwe_thickness_of_surface_snow_amount", 1.0),
    ],
)
def test_a_depth_of_water_is_a_mass_of_water(units, wanted, standard_name, one):
    converted = convert(quantity(units, standard_name=standard_name), wanted)
    assert float(converted[0]) == pytest.approx(one, rel=1e-12)


def test_a_depth_of_what_is_not_said_to_be_water_is_no_mass():
    with pytest.raises(UnitsError, match="if it is of water, set attrs"):
        convert(quantity("mm day-1"), "kg m-2 s-1")


@pytest.mark.parametrize("units", ["1", "m m-1", "m/m", "%"])
def test_a_slope_as_rise_over_run_is_no_angle(units):
    # pint holds radians for numbers, and would make 57 degrees of a slope of 45.
    with pytest.raises(UnitsError, match="arctan"):
        convert(quantity(units), "degree")


@pytest.mark.parametrize(
    ("units", "wanted"), [("m", "kg m-2 s-1"), ("J m-2", "W m-2"), ("mm", "kg m-2 s-1")]
)
def test_an_amount_is_no_rate(units, wanted):
    with pytest.raises(UnitsError, match="divide by the length of the period, or name the period"):
        convert(quantity(units, standard_name="precipitation_flux"), wanted)


@pytest.mark.parametrize("units", ["mm month-1", "kg m-2 year-1"])
def test_a_rate_per_month_or_year_is_refused_for_they_differ_in_length(units):
    with pytest.raises(UnitsError, match="differ in length"):
        convert(quantity(units, standard_name="precipitation_flux"), "kg m-2 s-1")


def test_an_error_names_the_variable_the_units_found_and_those_wanted():
    with pytest.raises(UnitsError, match="'q' has units 'm', wanted 'K': another quantity"):
        convert(quantity("m"), "K")


def test_units_that_are_missing_are_asked_for():
    with pytest.raises(UnitsError, match=r"'q' has no units, wanted 'm': set attrs\['units'\]"):
        convert(quantity(None), "m")


@pytest.mark.parametrize(
    "units",
    ["bananas", "9**9**9", "m**99999", "(" * 70, "m; import os", "K + K", "x" * 1000, "\x00"],
)
def test_a_string_that_is_no_unit_is_refused_at_once(units):
    with pytest.raises(UnitsError, match="not a unit"):
        convert(quantity(units), "m")


@pytest.mark.parametrize("units", [7, ["m"], {"a": 1}, np.array([1, 2])])
def test_units_that_are_no_string_are_refused(units):
    with pytest.raises(UnitsError):
        convert(quantity(units), "m")


def test_floats_keep_their_precision():
    values = np.array([1, 2], dtype="float32")
    assert convert(quantity("km", values), "m").dtype == np.float32


def test_a_quantity_in_the_wanted_units_is_left_alone():
    given = quantity("K")
    assert convert(given, "K").variable.values is given.variable.values


def test_the_given_variable_is_not_changed():
    given = quantity("degC")
    convert(given, "K")
    assert (given.attrs["units"], float(given[0])) == ("degC", 1.0)


def test_a_conversion_of_dask_data_is_lazy_and_the_same(no_compute):
    given = quantity("degC", np.arange(7.0))
    lazy = convert(given.chunk(x=3), "K")
    assert lazy.chunks == ((3, 3, 1),)
    with dask.config.set(scheduler="synchronous"):
        xr.testing.assert_identical(lazy.compute(), convert(given, "K"))


def test_convertible_tells_without_raising():
    assert convertible(quantity("km"), "m")
    assert not convertible(quantity("kg"), "m")


def test_the_vocabulary_offers_the_same_conversion():
    assert convert_of_vocabulary is convert
