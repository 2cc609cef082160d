"""Stored numbers to values: every expected number here is worked by hand."""

from __future__ import annotations

import dask
import numpy as np
import pytest
import xarray as xr

from xlsbc.cube.ingest import raw
from xlsbc.errors import SourceError

NAN = np.nan


def stored(values: list[float], dtype: str, **attrs: object) -> xr.DataArray:
    return xr.DataArray(np.array(values, dtype), dims="x", attrs=attrs).chunk(2)


def test_a_signed_byte_that_is_said_to_have_no_sign_has_none():
    da = stored([-46, 10, -1], "i1", _Unsigned="true", _FillValue=np.int8(-1))
    da.attrs["flag_values"] = np.array([-46, 10], "i1")
    plain = raw.unsigned(da)

    assert plain.dtype == np.uint8
    assert plain.values.tolist() == [210, 10, 255]
    assert plain.attrs["flag_values"].tolist() == [210, 10]
    np.testing.assert_array_equal(raw.numbers(da), [210, 10, NAN])


def test_a_byte_with_a_sign_keeps_it():
    assert raw.unsigned(stored([-46], "i1")).values.tolist() == [-46]


def test_numbers_are_scaled_after_the_missing_are_taken_out():
    da = stored(
        [0, 100, 250, 255], "u1", scale_factor=0.1, add_offset=1.0, _FillValue=np.uint8(255)
    )

    np.testing.assert_allclose(raw.numbers(da), [1, 11, 26, NAN], rtol=1e-6)
    np.testing.assert_allclose(raw.numbers(da, valid=(0, 100)), [1, 11, NAN, NAN], rtol=1e-6)
    np.testing.assert_allclose(raw.numbers(da, missing=[0]), [NAN, 11, 26, NAN], rtol=1e-6)
    np.testing.assert_allclose(raw.numbers(da, scale=1, offset=0), [0, 100, 250, NAN])


def test_what_the_file_says_is_valid_is_taken_if_nothing_else_is_said():
    np.testing.assert_array_equal(
        raw.numbers(stored([-1, 5, 11], "i2", valid_range=np.array([0, 10], "i2"))), [NAN, 5, NAN]
    )
    np.testing.assert_array_equal(raw.numbers(stored([-1, 5], "i2", valid_min=0)), [NAN, 5])


def test_attributes_count_in_whatever_case_they_are_written():
    da = stored([1e20, 0.5], "f4", _fillvalue=1e20)

    np.testing.assert_array_equal(raw.numbers(da), [NAN, 0.5])


def test_a_fill_of_double_precision_matches_single_precision_numbers():
    # float32(1e20) is 100000002004087734272
    np.testing.assert_array_equal(
        raw.numbers(stored([1e20, 2], "f4", missing_value=np.float64(1e20))), [NAN, 2]
    )


def test_a_fill_that_the_type_cannot_hold_is_no_error():
    np.testing.assert_array_equal(raw.numbers(stored([0, 9], "u1", _FillValue=-9999)), [0, 9])


def test_what_described_the_stored_numbers_is_gone_and_the_rest_is_kept():
    da = stored([1], "i2", scale_factor=2.0, valid_max=5, units="K", Missing_Value=-1)

    assert raw.numbers(da).attrs == {"units": "K"}


def test_nothing_is_computed():
    def forbid(*args: object, **kwargs: object) -> None:
        raise AssertionError("computed")

    with dask.config.set(scheduler=forbid):
        da = raw.numbers(stored([1, 2, 3], "i2", scale_factor=0.5, _FillValue=3))
        raw.checked(xr.Dataset({"t2m": da}))
    assert da.chunks == ((2, 1),)


def test_values_that_contradict_their_units_raise_when_they_are_computed():
    celsius = xr.Dataset({"t2m": stored([7.5, 21.0, NAN], "f4", units="K")})
    celsius.encoding["source"] = "may.nc"
    field = raw.checked(celsius)

    with pytest.raises(
        SourceError, match=r"may\.nc, variable 't2m': expected 170 to 340 K; found 7\.5"
    ):
        field.compute()


def test_what_packing_leaves_beside_a_bound_is_set_to_it():
    rain = xr.Dataset({"tp": stored([-1e-6, 2e-5], "f4")})

    with pytest.raises(SourceError):
        raw.checked(rain).compute()
    np.testing.assert_array_equal(raw.checked(rain, tolerance=1e-4).tp, np.array([0, 2e-5], "f4"))


def test_missing_values_contradict_nothing():
    empty = xr.Dataset({"t2m": stored([NAN, NAN], "f4")})

    assert raw.checked(empty).compute().t2m.isnull().all()


def test_a_range_in_the_units_of_the_values_is_no_range_of_the_stored_numbers():
    da = xr.DataArray(
        np.array([0, 5000, 9000], np.int16),
        dims="x",
        attrs={"scale_factor": 0.01, "add_offset": 250.0, "valid_range": np.array([240.0, 330.0])},
    )
    # NUG, valid_range: of the type of the scale and wider than the stored numbers, it is unpacked.
    np.testing.assert_allclose(raw.numbers(da), [250.0, 300.0, np.nan])


@pytest.mark.parametrize("fill", [np.nan, "none", 0.5, 1e20])
def test_a_missing_value_that_no_stored_integer_can_be_takes_none_away(fill):
    da = xr.DataArray(np.array([0, 1], np.int16), dims="x", attrs={"missing_value": fill})
    np.testing.assert_array_equal(raw.numbers(da), [0.0, 1.0])


def test_a_fill_value_of_32_bits_is_found_among_numbers_of_64():
    da = xr.DataArray([1.0, 1e20], dims="x", attrs={"missing_value": np.float32(1e20)})
    np.testing.assert_array_equal(raw.numbers(da), [1.0, np.nan])


def test_shares_that_are_said_to_be_per_cents_are_refused_when_computed():
    said = xr.DataArray([0.2, 0.9], dims="x").chunk()
    np.testing.assert_allclose(raw.from_per_cent(said * 100, ""), [0.2, 0.9])
    with pytest.raises(SourceError, match="a.nc, variable 'cl'.*found 0.9 at most"):
        raw.from_per_cent(said, "a.nc, variable 'cl'").compute()
