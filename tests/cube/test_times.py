from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from xlsbc.cube.times import read_months, read_times, read_years, start_of_step


def coordinate(values: object, **attrs: str) -> xr.DataArray:
    return xr.DataArray(np.asarray(values), dims="t", name="time", attrs=attrs)


def stamps(*texts: str) -> np.ndarray:
    return np.array(texts, dtype="datetime64[s]")


def days(found: np.ndarray | str | None) -> list[str]:
    assert isinstance(found, np.ndarray)
    return [str(day)[:10] for day in found]


@pytest.mark.parametrize(
    ("values", "units", "calendar", "expected"),
    [
        # LUH2, LUH3 and the CMIP5 CO2 files of CWatM.
        ([0, 1, 1165], "years since 850-01-01", "noleap", ["0850", "0851", "2015"]),
        ([0.0, 365.0, 425225.0], "days since 850-01-01", "noleap", ["0850", "0851", "2015"]),
        ([105, 106], "Years since 1660-01-01", "standard", ["1765", "1766"]),
        ([0, 13], "months since 1999-12-01", "standard", ["1999", "2001"]),
        ([0, 31], "days since 2001-01-01", "proleptic_gregorian", ["2001", "2001"]),
    ],
)
def test_numbers_since_a_date_are_read(values, units, calendar, expected):
    found = read_times(coordinate(values, units=units, calendar=calendar))
    assert [text[:4] for text in days(found)] == expected


def test_months_since_a_date_are_months_of_the_calendar():
    found = read_times(coordinate([0, 1, 2, 13], units="months since 2000-01-01"))
    assert days(found) == ["2000-01-01", "2000-02-01", "2000-03-01", "2001-02-01"]


def test_cftime_dates_are_read():
    dates = xr.date_range("1850-02-01", periods=3, freq="MS", calendar="noleap", use_cftime=True)
    found = read_times(coordinate(dates.values))
    assert days(found) == ["1850-02-01", "1850-03-01", "1850-04-01"]


def test_a_date_that_does_not_exist_is_told_with_its_calendar():
    dates = xr.date_range("2000-02-30", periods=2, calendar="360_day", use_cftime=True)
    assert "'360_day'" in str(read_times(coordinate(dates.values)))


def test_units_that_cannot_be_read_are_told():
    found = read_times(coordinate([1, 2], units="moons since the flood"))
    assert "'moons since the flood' that cannot be read" in str(found)


def test_a_missing_time_is_told():
    assert "1 missing times" in str(read_times(coordinate(np.array(["2000", "NaT"], "M8[ns]"))))


@pytest.mark.parametrize("values", [[1, 2], [1.5, 2.5], ["a", "b"]])
def test_what_is_no_time_is_none(values):
    assert read_times(coordinate(values)) is None


@pytest.mark.parametrize("name", ["month", "time"])
def test_twelve_whole_numbers_are_months(name):
    np.testing.assert_array_equal(read_months(name, coordinate(range(12, 0, -1))), range(12, 0, -1))


def test_a_few_months_are_months_only_if_they_are_called_so():
    np.testing.assert_array_equal(read_months("month", coordinate([6, 7])), [6, 7])
    assert read_months("time", coordinate([6, 7])) is None
    assert read_months("band", coordinate(range(1, 13))) is None


@pytest.mark.parametrize("values", [[0, 1], [1.5, 2], [12, 13], [np.nan, 1]])
def test_what_is_no_month_is_none(values):
    assert read_months("month", coordinate(values)) is None


def test_whole_numbers_of_four_figures_are_years_if_they_are_called_so():
    np.testing.assert_array_equal(read_years("year", coordinate([2000.0, 850])), [2000, 850])
    assert read_years("level", coordinate([500, 850])) is None
    assert read_years("year", coordinate([1.0, 2.0])) is None
    assert read_years("year", coordinate([2000.5])) is None


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        # CMIP stamps the middle of the month, pandas 'ME' its end, ERA5 accumulations 06:00.
        (
            ["2001-01-16T12", "2001-02-15", "2001-03-16T12"],
            ["2001-01-01", "2001-02-01", "2001-03-01"],
        ),
        (["2001-01-31", "2001-02-28", "2001-03-31"], ["2001-01-01", "2001-02-01", "2001-03-01"]),
        (["2001-01-01T06", "2001-02-01T06"], ["2001-01-01", "2001-02-01"]),
        # CGLS stamps the last day of the dekad.
        (["2001-01-10", "2001-01-20", "2001-01-31"], ["2001-01-01", "2001-01-11", "2001-01-21"]),
        (["2001-02-01", "2001-02-11", "2001-02-21"], ["2001-02-01", "2001-02-11", "2001-02-21"]),
        # MODIS has a short step at the end of the year; ESMValTool days are stamped 11:30.
        (["2001-12-19", "2001-12-27", "2002-01-01"], ["2001-12-19", "2001-12-27", "2002-01-01"]),
        (["2001-01-01T11:30", "2001-01-02T11:30"], ["2001-01-01", "2001-01-02"]),
        (["2001-07-01", "2002-07-01"], ["2001-07-01", "2002-07-01"]),
        (["2001-07-16T12"], ["2001-07-16"]),
    ],
)
def test_a_stamp_anywhere_in_a_step_becomes_its_start(given, expected):
    found = start_of_step(stamps(*given))
    assert days(found) == expected
    assert isinstance(found, np.ndarray)
    assert found.dtype == "datetime64[ns]"


def test_starts_of_steps_stay_as_they_are():
    for text in (
        ["2001-01-01", "2001-02-01", "2001-04-01"],
        ["2001-01-01", "2001-01-11", "2001-01-21", "2001-02-01"],
        ["2001-01-01", "2001-01-09", "2001-01-17"],
    ):
        assert days(start_of_step(stamps(*text))) == text


def test_repeated_times_are_told():
    found = start_of_step(stamps("2001-01-01", "2001-02-01", "2001-02-01"))
    assert str(found).startswith("1 times are there more than once (2001-02-01T00:00:00)")


def test_steps_finer_than_a_day_are_told():
    hourly = np.arange("2001-01-01", "2001-01-03", dtype="datetime64[h]").astype("M8[s]")
    assert "found 2001-01-01T00:00:00 and 2001-01-01T01:00:00" in str(start_of_step(hourly))


def test_two_stamps_for_one_month_are_told():
    # Two ERA5 files merged: instantaneous fields at 00:00, accumulations at 06:00.
    found = start_of_step(
        stamps("2001-01-01T00", "2001-01-01T06", "2001-02-01T00", "2001-02-01T06")
    )
    assert "give variables of the same step the same stamps" in str(found)


def test_times_beyond_nanoseconds_are_told():
    assert "1678..2261" in str(start_of_step(stamps("0850-01-01", "2001-01-01")))
