"""Seasons by hand, in the north and in the south, and against a loop over months."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from xlsbc.assess.metrics import continuous_scores
from xlsbc.assess.phenology import MEASURES, phenology_sums, seasons, trough_month
from xlsbc.errors import CubeError

# LAI of January to December; the threshold is 3 in each.
NORTH = [1.0, 1.1, 1.2, 2.0, 4.0, 5.0, 4.0, 3.5, 2.5, 1.5, 1.2, 1.1]
SOUTH = [5.0, 4.0, 3.0, 2.0, 1.5, 1.2, 1.0, 1.1, 1.3, 1.5, 2.0, 4.0]
TWICE = [1.0, 3.2, 5.0, 3.2, 1.4, 1.2, 2.0, 4.4, 4.0, 2.0, 1.5, 1.3]
FLAT = [2.0, 2.05, 2.1, 2.15, 2.15, 2.1, 2.1, 2.1, 2.1, 2.1, 2.1, 2.05]
BARE = [0.0, 0.0, 0.0, 0.0, 0.3, 0.3, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]


def make_lai(*cycles, n_years=3, start="2001-01"):
    """``(time, x)``: a mean year a pixel, over and over."""
    time = np.datetime64(start, "M") + np.arange(12 * n_years)
    month = time.astype(int) % 12
    values = np.array(cycles)[:, month].T
    return xr.DataArray(values, {"time": time.astype("datetime64[ns]")}, ("time", "x"))


def make_random(seed, n_years=4, pixels=40):
    """Noisy cycles of any phase, from a May on, with a few gaps."""
    rng = np.random.default_rng(seed)
    n = 12 * n_years + 5
    time = np.datetime64("2000-05", "M") + np.arange(n)
    phase, height = rng.uniform(0, 2 * np.pi, pixels), rng.uniform(0, 3, pixels)
    values = 2 + height * np.sin(np.arange(n)[:, None] * np.pi / 6 + phase)
    values = np.maximum(values + rng.normal(0, 0.5, size=(n, pixels)), 0)
    values[rng.uniform(size=values.shape) < 0.005] = np.nan
    return xr.DataArray(values, {"time": time.astype("datetime64[ns]")}, ("time", "x"))


def row(found, year, season=1):
    one = found.sel(year=year, season=season).isel(x=0)
    return [float(one[name]) for name in MEASURES]


def test_a_northern_season_by_hand():
    found = seasons(make_lai(NORTH))
    # Halfway from the middle of April (105) to that of May (135.5); the middle of June; halfway
    # from August (227.5) to September (258).
    assert row(found, 2002) == pytest.approx([120.25, 166, 242.75, 122.5, 4])
    assert found["start"].dims == ("season", "year", "x")
    assert np.isnan(row(found, 2002, 2)).all()


def test_a_southern_season_goes_across_the_new_year():
    found = seasons(make_lai(SOUTH))
    # Halfway from the middle of November (-46) to that of December (-15.5); mid January; mid March.
    assert row(found, 2002) == pytest.approx([-30.75, 15.5, 74.5, 105.25, 4])
    # The growing year that the record begins in lacks its first months.
    assert np.isnan(row(found, 2001)).all()
    assert np.isfinite(row(found, 2003)).all()


def test_two_seasons_in_a_year():
    found = seasons(make_lai(TWICE))
    january, march, april = 15.5, 74.5, 105.0
    level = 3.0
    start = january + (level - 1.0) / (3.2 - 1.0) * (45 - january)
    end = april + (3.2 - level) / (3.2 - 1.4) * (135.5 - april)
    assert row(found, 2002) == pytest.approx([start, march, end, end - start, 4])
    start, end = 196.5 + 1 / 2.4 * 31, (258 + 288.5) / 2
    assert row(found, 2002, 2) == pytest.approx([start, 227.5, end, end - start, 3.4])


def test_flat_and_bare_pixels_have_no_dates_but_an_amplitude():
    for cycle in (FLAT, BARE):
        found = row(seasons(make_lai(cycle)), 2002)
        assert np.isnan(found[:4]).all()
        assert found[4] == pytest.approx(max(cycle) - min(cycle))
    assert np.isnan(seasons(make_lai(NORTH) * np.nan)["amplitude"]).all()


def test_a_single_year_goes_around():
    alone = seasons(make_lai(SOUTH, n_years=1))
    assert alone.sizes["year"] == 1
    assert row(alone, 2001) == pytest.approx(row(seasons(make_lai(SOUTH)), 2002))
    turned = seasons(make_lai(NORTH, n_years=1, start="2001-09"))
    assert row(turned, 2001) == pytest.approx(row(seasons(make_lai(NORTH)), 2002))


def test_a_missing_month_spoils_its_growing_year_only():
    lai = make_lai(NORTH)
    lai[14] = np.nan
    found = seasons(lai)["peak"].sel(season=1).isel(x=0)
    assert np.isfinite(found).values.tolist() == [True, False, True]


def loop(lai, trough):
    """Start, peak and end of the highest season of each year, month by month."""
    months = lai["time"].values.astype("M8[M]").astype(int)
    known = {m: v for m, v in zip(months, lai.values, strict=True) if np.isfinite(v)}
    found = []
    for year in range(months[0] // 12, months[-1] // 12 + 1):
        begin = 12 * year + int(trough) - 1 - (12 if trough > 6 else 0)
        core = [known.get(m, np.nan) for m in range(begin, begin + 12)]
        least, top = min(core), max(core)
        dates = [np.nan] * 3
        if np.isfinite(core).all() and np.mean(core) >= 0.1 and top - least >= 0.2:
            level, peak = (least + top) / 2, begin + core.index(top)
            dates = [crossing(known, peak, level, -1, begin), middle(peak)]
            dates.append(crossing(known, peak, level, +1, begin))
        new_year = np.datetime64(year, "Y").astype("M8[D]").astype(int)
        found.append(np.array(dates) - new_year)
    return np.array(found)


def middle(month):
    return np.array([month, month + 1]).astype("M8[M]").astype("M8[D]").astype(float).mean()


def crossing(known, month, level, step, begin):
    while known.get(month + step, -1.0) >= level and begin - 6 <= month + step < begin + 18:
        month += step
    outer = month + step
    if outer not in known or not begin - 6 <= outer < begin + 18:
        return np.nan
    share = (level - known[outer]) / (known[month] - known[outer])
    return middle(outer) + share * (middle(month) - middle(outer))


def test_dates_agree_with_a_loop_over_months():
    lai = make_random(1)
    trough = trough_month(lai)
    found = seasons(lai).sel(season=1)
    for x in range(lai.sizes["x"]):
        expected = loop(lai[:, x], trough[x])
        for k, name in enumerate(("start", "peak", "end")):
            np.testing.assert_allclose(found[name].isel(x=x), expected[:, k], atol=1e-9)
    assert int(found["start"].notnull().sum()) > 80


def test_scores_of_phenology_by_hand():
    reference = make_lai(NORTH, SOUTH, TWICE, BARE)
    higher = 2 * reference  # the same dates, twice the amplitude
    weight = xr.DataArray([1.0, 3.0, 5.0, 7.0], dims="x")
    found = continuous_scores(phenology_sums(higher, reference, weight))
    assert found["measure"].values.tolist() == list(MEASURES)
    # 3 years in the north and 2 in the south; two seasons are left out, the bare have no dates.
    assert found["n"].values.tolist() == [5, 5, 5, 5, 8]
    np.testing.assert_allclose(found["rmse"][:4], 0, atol=1e-9)
    north, south, bare = 3 * 1.0, 2 * 3.0, 3 * 7.0
    expected = (4 * (north + south) + 0.3 * bare) / (north + south + bare)
    assert float(found["bias"][4]) == pytest.approx(expected)


def test_a_prediction_that_is_a_month_late_is_late_by_a_month():
    reference = make_lai(NORTH, n_years=4)
    late = make_lai(np.roll(NORTH, 1), n_years=4)
    weight = xr.DataArray([1.0], dims="x")
    bias = continuous_scores(phenology_sums(late, reference, weight))["bias"]
    assert bias.values[:4] == pytest.approx([30.5, 30.5, 30.5, 0], abs=1)


@pytest.mark.parametrize("seed", range(3))
def test_chunks_change_nothing(seed):
    rng = np.random.default_rng(seed)
    prediction, reference = make_random(2), make_random(3)
    weight = xr.DataArray(np.linspace(2, 1, 40), dims="x")
    expected = phenology_sums(prediction, reference, weight)
    cut = [
        data.chunk({dim: int(rng.integers(n // 3, n + 1)) for dim, n in data.sizes.items()})
        for data in (prediction, reference)
    ]
    found = phenology_sums(*cut, weight)
    assert found["error"].chunks is not None
    xr.testing.assert_allclose(found.compute(), expected, rtol=1e-12, atol=1e-9)


def test_months_that_are_not_consecutive_are_an_error():
    with pytest.raises(CubeError, match="consecutive months"):
        seasons(make_lai(NORTH).isel(time=slice(None, None, 2)))
