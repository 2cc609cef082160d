"""CRPS and coverage against integrals, loops and the normal distribution."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy.integrate import quad
from scipy.stats import norm

from xlsbc.assess.probabilistic import (
    coverage_scores,
    coverage_sums,
    crps_scores,
    ensemble_crps_sums,
    ensemble_interval,
    gaussian_crps_sums,
    gaussian_interval,
)
from xlsbc.errors import CubeError

SHAPE = (3, 4, 5)
DIMS = ("time", "latitude", "longitude")


def make_field(seed, scale=1.0, *, gaps=0.1, shape=SHAPE):
    rng = np.random.default_rng(seed)
    values = rng.gamma(2.0, scale, size=shape)
    values[rng.uniform(size=shape) < gaps] = np.nan
    time = (np.datetime64("2001-01", "M") + np.arange(shape[0])).astype("datetime64[ns]")
    coords = {"time": time, "latitude": np.arange(4.0), "longitude": np.arange(5.0)}
    return xr.DataArray(values.astype("f4"), coords, DIMS)


def make_ensemble(size, seed=7):
    return xr.concat([make_field(seed + k, gaps=0.02) for k in range(size)], "realization")


WEIGHT = xr.DataArray(
    np.linspace(2.0, 0.0, 20).reshape(4, 5),
    {"latitude": np.arange(4.0), "longitude": np.arange(5.0)},
    DIMS[1:],
)


def test_crps_of_an_ensemble_agrees_with_loops_over_its_pairs():
    ensemble, truth = make_ensemble(5), make_field(2)
    found = crps_scores(ensemble_crps_sums(ensemble.transpose(..., "realization"), truth, WEIGHT))
    plain, fair, weights = [], [], []
    for t, y, x in np.ndindex(SHAPE):
        members, r = ensemble.values[:, t, y, x].astype("f8"), float(truth[t, y, x])
        if np.isfinite(members).all() and np.isfinite(r) and WEIGHT[y, x] > 0:
            error = np.mean([abs(m - r) for m in members])
            gaps = sum(abs(a - b) for a in members for b in members)
            plain.append(error - gaps / 2 / 25)
            fair.append(error - gaps / 2 / 20)
            weights.append(float(WEIGHT[y, x]))
    assert float(found["crps"]) == pytest.approx(np.average(plain, weights=weights), rel=1e-9)
    assert float(found["crps_fair"]) == pytest.approx(np.average(fair, weights=weights), rel=1e-9)
    assert int(found["n"]) == len(plain)


def test_crps_of_an_ensemble_is_the_integral_of_its_distribution():
    members, truth = np.array([0.5, 3.0, 1.0, 2.5]), 1.7
    axes = {"realization": range(4)}
    ensemble = xr.DataArray(members[:, None], axes, ("realization", "x"))
    found = crps_scores(
        ensemble_crps_sums(ensemble, xr.DataArray([truth], dims="x"), xr.DataArray([1.0], dims="x"))
    )

    def gap(z):
        return (np.mean(members <= z) - (truth <= z)) ** 2

    expected = quad(gap, 0, 4, points=[*members, truth])[0]
    assert float(found["crps"]) == pytest.approx(expected, abs=1e-9)


def test_one_member_is_scored_by_its_error_and_has_no_fair_score():
    ensemble, truth = make_ensemble(1), make_field(2)
    found = crps_scores(ensemble_crps_sums(ensemble, truth, WEIGHT))
    error = abs(ensemble[0].astype("f8") - truth)
    assert float(found["crps"]) == pytest.approx(float(error.weighted(WEIGHT).mean()), rel=1e-9)
    assert np.isnan(found["crps_fair"])


def square(z, tail, m, s):
    return tail(z, m, s) ** 2


def test_crps_of_a_normal_distribution_is_its_integral():
    mean, spread, truth = make_field(1, gaps=0.4), make_field(2, 0.5), make_field(3)
    spread[0, 0, 0] = 0.0
    spread[1] = -spread[1]
    found = crps_scores(gaussian_crps_sums(mean, spread, truth, WEIGHT))
    total, weight, n = 0.0, 0.0, 0
    for t, y, x in np.ndindex(SHAPE):
        m, s, r, w = (float(a[t, y, x]) for a in (mean, spread, truth, WEIGHT.expand_dims(time=3)))
        if not np.isfinite(m + s + r) or s < 0 or w == 0:
            continue
        if s == 0:
            crps = abs(m - r)
        else:
            low, high = min(m - 9 * s, r), max(m + 9 * s, r)
            crps = quad(square, low, r, (norm.cdf, m, s))[0]
            crps += quad(square, r, high, (norm.sf, m, s))[0]
        total, weight, n = total + w * crps, weight + w, n + 1
    assert float(found["crps"]) == pytest.approx(total / weight, rel=1e-6)
    assert int(found["n"]) == n


def test_coverage_by_hand():
    lower = xr.DataArray([0.0, 0.0, 0.0, 2.0, 0.0], dims="x")
    upper = xr.DataArray([1.0, 1.0, 1.0, 1.0, np.nan], dims="x")
    truth = xr.DataArray([1.0, 1.5, 0.2, 1.5, 0.5], dims="x")
    weight = xr.DataArray([1.0, 2.0, 4.0, 8.0, 16.0], dims="x")
    found = coverage_scores(coverage_sums(lower, upper, truth, weight))
    # The bounds belong to the interval; the fourth has them the wrong way round.
    assert float(found["coverage"]) == pytest.approx(5 / 7)
    assert float(found["width"]) == pytest.approx(1)
    assert int(found["n"]) == 3


def test_a_calibrated_interval_covers_its_level():
    rng = np.random.default_rng(0)
    truth = xr.DataArray(rng.normal(2.0, 0.5, 20000), dims="x")
    bounds = gaussian_interval(xr.full_like(truth, 2.0), xr.full_like(truth, 0.5), 0.9)
    found = coverage_scores(coverage_sums(*bounds, truth, xr.ones_like(truth)))
    assert float(found["coverage"]) == pytest.approx(0.9, abs=3 * np.sqrt(0.09 / 20000))
    assert float(found["width"]) == pytest.approx(2 * 1.6448536 * 0.5)
    members = xr.DataArray(np.arange(11.0)[:, None], dims=("realization", "x"))
    lower, upper = ensemble_interval(members, 0.8)
    assert (float(lower[0]), float(upper[0])) == pytest.approx((1, 9))


@pytest.mark.parametrize("seed", range(3))
def test_chunks_change_nothing(seed):
    rng = np.random.default_rng(seed)

    def cut(data):
        return data.chunk({dim: int(rng.integers(1, n + 1)) for dim, n in data.sizes.items()})

    ensemble, truth, spread = make_ensemble(4), make_field(2), make_field(3)
    mean = ensemble.mean("realization")
    pairs = [
        (ensemble_crps_sums, (ensemble, truth)),
        (gaussian_crps_sums, (mean, spread, truth)),
        (coverage_sums, (*ensemble_interval(ensemble, 0.5), truth)),
    ]
    for sums, fields in pairs:
        found = sums(*(cut(each) for each in fields), WEIGHT, ("latitude", "longitude"))
        assert found["n"].chunks is not None
        expected = sums(*fields, WEIGHT, ("latitude", "longitude"))
        xr.testing.assert_allclose(found.compute(), expected, rtol=1e-12)
    lower, _ = ensemble_interval(cut(ensemble), 0.5)
    xr.testing.assert_allclose(lower.compute(), ensemble_interval(ensemble, 0.5)[0])


def test_a_missing_reference_has_no_score_and_no_values():
    ensemble, truth = make_ensemble(3), make_field(2) * np.nan
    found = crps_scores(ensemble_crps_sums(ensemble, truth, WEIGHT))
    assert np.isnan(found["crps"])
    assert np.isnan(found["crps_fair"])
    assert int(found["n"]) == 0
    found = coverage_scores(coverage_sums(ensemble[0], ensemble[0], truth, WEIGHT))
    assert np.isnan(found["coverage"])


def test_bad_input_says_what_to_do():
    ensemble, truth = make_ensemble(3), make_field(2)
    with pytest.raises(CubeError, match="expected members along 'member'"):
        ensemble_crps_sums(ensemble, truth, WEIGHT, member="member")
    with pytest.raises(CubeError, match="expected latitude 3"):
        ensemble_crps_sums(ensemble, truth.isel(latitude=slice(1, None)), WEIGHT)
    with pytest.raises(CubeError, match="level between 0 and 1; found 90"):
        ensemble_interval(ensemble, 90)
