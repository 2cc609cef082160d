from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from xlsbc.emulator import InputVariable, Lattice, Spec
from xlsbc.emulator.steps import calendar, steps_of, weather_steps, years

MONTHS = tuple((month, 1) for month in range(1, 13))
DEKADS = tuple((month, day) for month in range(1, 13) for day in (1, 11, 21))


def spec(**changes: Any) -> Spec:
    """A year of months, each remembering eleven, with monthly or other forcing."""
    return Spec(
        **{
            "targets": ("lai",),
            "forcing": (InputVariable(name="t2m", units="K"),),
            "steps": MONTHS,
            "history": 12,
            "lattice": Lattice(dlat=0.1, dlon=0.1),
            **changes,
        }
    )


def cube(forcing: Any = None, year: Any = None, time: Any = None) -> xr.Dataset:
    """Coordinates are all that is read."""
    coords = {"forcing_time": forcing, "year": year, "time": time}
    return xr.Dataset(coords={k: v for k, v in coords.items() if v is not None})


def every(frequency: str, start: str, end: str) -> pd.DatetimeIndex:
    return pd.date_range(start, end, freq=frequency)


def dekads(first: int, last: int) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(
        [f"{y}-{m:02d}-{d:02d}" for y in range(first, last + 1) for m, d in DEKADS]
    )


CO2 = {"scalars": (InputVariable(name="co2", units="1"),)}


def test_years_are_those_that_forcing_covers_whole():
    assert years(cube(every("MS", "2001-03", "2004-11")), spec()) == [2002, 2003]


def test_a_yearly_input_must_be_there_too():
    forcing = every("MS", "2001-01", "2004-12")
    assert years(cube(forcing, year=[2003, 2005]), spec(**CO2)) == [2003]
    assert years(cube(forcing, year=[2003, 2005]), spec(driver=True)) == [2003]
    assert years(cube(forcing, year=[2003, 2005]), spec(), ("lc_fraction",)) == [2003]
    assert years(cube(forcing, year=[2003, 2005]), spec()) == [2001, 2002, 2003, 2004]


def test_a_year_with_a_missing_month_is_left_out_and_so_is_the_one_that_remembers_it():
    forcing = every("MS", "2001-01", "2005-12").drop(pd.Timestamp("2003-06-01"))
    assert years(cube(forcing), spec()) == [2001, 2002, 2005]
    assert years(cube(forcing), spec(history=1)) == [2001, 2002, 2004, 2005]


@pytest.mark.parametrize(("missing", "expected"), [(2, [2001]), (8, [])])
def test_a_month_may_miss_two_days_but_not_eight(missing, expected):
    days = every("D", "2001-01-01", "2001-12-31")
    days = days.drop(every("D", "2001-07-10", "2001-07-31")[:missing])
    assert years(cube(days), spec()) == expected


def test_dekads_of_forcing_cover_the_months_that_they_make_up():
    assert years(cube(dekads(2001, 2002)), spec()) == [2001, 2002]


def test_without_forcing_the_years_are_those_of_maps_then_those_of_leaves_then_none():
    times = every("MS", "2001-01", "2002-12")
    still = spec(forcing=(), history=1)
    assert years(cube(year=[1999, 2000], time=times), still) == [1999, 2000]
    assert years(cube(time=times), still) == [2001, 2002]
    assert years(cube(), still) == []


def test_a_forcing_that_the_emulator_does_not_take_says_nothing_of_years():
    times = every("MS", "2001-01", "2001-12")
    assert years(cube(every("MS", "1990-01", "1990-06"), time=times), spec(forcing=())) == [2001]


def test_months_of_forcing_are_read_one_by_one_from_eleven_before_the_year():
    used, pooling, middle = weather_steps(cube(every("MS", "2001-01", "2003-12")), spec(), 2002)
    assert used.tolist() == list(range(1, 24))  # February 2001 to December 2002
    np.testing.assert_array_equal(pooling, np.eye(23))
    assert middle[0] == pd.Timestamp("2001-02-15")


@pytest.mark.parametrize(
    "forcing",
    [
        pytest.param(every("MS", "2000-01", "2002-12"), id="the first year of a record"),
        pytest.param(every("MS", "2000-01", "2000-12"), id="a climatology"),
        pytest.param(every("MS", "1999-07", "2002-12"), id="a record from the middle of a year"),
    ],
)
def test_the_year_before_the_first_is_the_first_again(forcing):
    used, pooling, _ = weather_steps(cube(forcing), spec(), 2000)
    months = pd.DatetimeIndex(forcing[used])
    assert list(zip(months.year, months.month, strict=True)) == [(2000, m) for m in range(1, 13)]
    before = np.eye(12)[1:]  # February to December
    np.testing.assert_array_equal(pooling, np.concatenate([before, np.eye(12)]))


def test_a_month_is_the_mean_of_its_dekads_by_their_days():
    used, pooling, _ = weather_steps(cube(dekads(2001, 2001)), spec(history=1), 2001)
    assert used.tolist() == list(range(36))
    february = np.zeros(36)
    february[3:6] = 10 / 28, 10 / 28, 8 / 28
    np.testing.assert_allclose(pooling[1], february, atol=1e-12)


@pytest.mark.parametrize(("year", "days"), [(2003, 28), (2004, 29)])
def test_a_month_is_the_mean_of_its_days(year, days):
    daily = every("D", f"{year}-01-01", f"{year}-12-31")
    _, pooling, _ = weather_steps(cube(daily), spec(history=1), year)
    february = np.zeros(len(daily))
    february[31 : 31 + days] = 1 / days
    np.testing.assert_allclose(pooling[1], february, atol=1e-12)


def test_eight_days_across_the_end_of_a_month_are_weighed_by_their_days_in_either():
    steps = ((1, 25), (2, 2), (2, 10))
    months = cube(every("MS", "2001-01", "2001-12"))
    _, pooling, _ = weather_steps(months, spec(steps=steps, history=1), 2001)
    np.testing.assert_allclose(pooling[0], [7 / 8, 1 / 8], atol=1e-12)


def test_a_missing_day_weighs_nothing_and_its_neighbours_no_more_than_others():
    days = every("D", "2001-01-01", "2001-12-31").drop(pd.Timestamp("2001-02-10"))
    _, pooling, _ = weather_steps(cube(days), spec(history=1), 2001)
    # the day before the gap may last a tenth longer
    np.testing.assert_allclose(pooling[1, 31:58], 1 / 27, atol=0.1 / 27)


@pytest.mark.parametrize(
    "forcing",
    [
        every("MS", "2000-01", "2003-12"),
        every("D", "2000-01-01", "2003-12-31"),
        dekads(2000, 2003),
    ],
    ids=["months", "days", "dekads"],
)
def test_every_step_and_all_it_remembers_is_a_mean_over_forcing(forcing):
    for year in (2000, 2001, 2003):
        used, pooling, _ = weather_steps(cube(forcing), spec(steps=DEKADS, history=36), year)
        assert pooling.shape == (35 + 36, len(used))
        np.testing.assert_allclose(pooling.sum(axis=1), 1)
        assert (pooling.sum(axis=0) > 0).all()


def test_without_forcing_steps_stand_for_themselves():
    used, pooling, middle = weather_steps(
        cube(time=every("MS", "2001-01", "2001-12")), spec(forcing=(), history=1), 2001
    )
    assert used.tolist() == list(range(12))
    np.testing.assert_array_equal(pooling, np.eye(12))
    assert middle[6] == pd.Timestamp("2001-07-16T12")


def test_months_end_where_the_next_begins_and_a_season_does_not_last_until_the_next_year():
    _, ends = steps_of(spec(), 2003)
    assert ends[[1, 11]].astype("M8[D]").astype(str).tolist() == ["2003-03-01", "2004-01-01"]
    starts, ends = steps_of(spec(steps=((6, 1), (7, 1), (8, 1))), 2003)
    assert (ends - starts).astype("m8[D]").astype(int).tolist() == [30, 31, 31]


def test_dekads_last_eight_to_eleven_days():
    starts, ends = steps_of(spec(steps=DEKADS), 2003)
    days = (ends - starts).astype("m8[D]").astype(int)
    assert days.sum() == 365
    assert (days[5], days[8], days[35]) == (8, 11, 11)


def test_the_calendar_turns_once_a_year_and_harmonics_as_often_as_their_order():
    found = calendar(pd.DatetimeIndex(["2001-01-01", "2001-07-02T12", "2001-04-02T06"]))
    sines, cosines = found[:, :6], found[:, 6:]
    np.testing.assert_allclose(sines[:2], 0, atol=1e-12)
    np.testing.assert_allclose(cosines[0], 1)
    np.testing.assert_allclose(cosines[1], [-1, 1, -1, 1, -1, 1])
    np.testing.assert_allclose(sines[2], [1, 0, -1, 0, 1, 0], atol=1e-12)


def test_the_calendar_of_a_leap_year_has_one_more_day():
    phases = calendar(pd.DatetimeIndex(["2004-07-02"]))
    assert phases[0, 6] == pytest.approx(-1)  # 183 of 366 days
