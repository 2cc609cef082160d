"""Scores of predictions that say how sure they are: an ensemble, or a mean and its spread.

Sums that can be added, as in :mod:`.metrics`.

References
----------
Gneiting, T. and Raftery, A. E. (2007): Strictly proper scoring rules, prediction, and estimation.
J. American Statistical Association 102, 359-378, equations 20 and 21 (CRPS).
Gneiting, T. et al. (2005): Calibrated probabilistic forecasting using ensemble model output
statistics and minimum CRPS estimation. Monthly Weather Review 133, 1098-1118, equation 5 (CRPS of
a normal distribution).
Ferro, C. A. T. (2014): Fair scores for ensemble forecasts. Quarterly J. Royal Meteorological
Society 140, 1917-1923 (fair CRPS).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from xlsbc.errors import CubeError

from .alignment import align
from .groups import By, total
from .metrics import used_pairs

MEMBER = "realization"


def ensemble_crps_sums(
    ensemble: xr.DataArray,
    reference: xr.DataArray,
    weight: xr.DataArray,
    dims: Sequence[str] | None = None,
    by: By = None,
    *,
    member: str = MEMBER,
) -> xr.Dataset:
    """Sums behind the continuous ranked probability score of an ensemble.

    Parameters
    ----------
    ensemble
        ``member`` and the dimensions of the reference, in its units. A value is left out where any
        member is NaN.
    reference, weight, dims, by
        As in :func:`.metrics.continuous_sums`.
    member
        The dimension of the members.

    Returns
    -------
    Dataset
        ``n`` (values), ``weight`` and the weighted sums of ``crps``, of the distribution of these
        members, and ``crps_fair``, which expects of few members what it would of many drawn alike;
        that is NaN of a single member. Lazy on lazy data.

    Raises
    ------
    CubeError
        If there are no members, or the two do not share grid or calendar.
    """
    members, truth = _with_members(ensemble, reference, member)
    size = members.sizes[member]
    used, weight = used_pairs(members.notnull().all(member) & truth.notnull(), weight)
    members, truth = members.where(used, 0), truth.where(used, 0)
    error = abs(members - truth).mean(member)
    gaps = _mean_gap(members, member)
    fair = error - gaps / (2 * (size - 1)) * size if size > 1 else error * np.nan
    terms = {
        "n": used,
        "weight": weight,
        "crps": weight * (error - gaps / 2),
        "crps_fair": weight * fair,
    }
    return total({k: v.transpose(*used.dims) for k, v in terms.items()}, dims, by)


def gaussian_crps_sums(
    mean: xr.DataArray,
    spread: xr.DataArray,
    reference: xr.DataArray,
    weight: xr.DataArray,
    dims: Sequence[str] | None = None,
    by: By = None,
) -> xr.Dataset:
    """Sums behind the continuous ranked probability score of a normal distribution.

    Parameters
    ----------
    mean, spread
        Mean and standard deviation, in the units of the reference. A value with a NaN or a negative
        spread is left out; without spread the score is the absolute error.
    reference, weight, dims, by
        As in :func:`.metrics.continuous_sums`.

    Returns
    -------
    Dataset
        ``n`` (values), ``weight`` and the weighted sum of ``crps``; lazy on lazy data.

    Raises
    ------
    CubeError
        If the three do not share grid or calendar.
    """
    mean, truth = align(mean, reference)
    spread, _ = align(spread, reference)
    valid = mean.notnull() & (spread >= 0) & truth.notnull()
    used, weight = used_pairs(valid, weight)
    error = (truth.astype("float64") - mean).where(used, 0)
    scale = spread.astype("float64").where(used & (spread > 0), 1)
    crps = _gaussian_crps(error / scale) * scale
    crps = crps.where(spread > 0, abs(error))
    return total({"n": used, "weight": weight, "crps": weight * crps}, dims, by)


def crps_scores(sums: xr.Dataset) -> xr.Dataset:
    """``crps``, and ``crps_fair`` of an ensemble, in the variable's units, and the values ``n``.

    NaN where there is no value.
    """
    weight = sums["weight"].where(sums["n"] > 0)
    scores = {name: sums[name] / weight for name in ("crps", "crps_fair") if name in sums}
    return xr.Dataset({**scores, "n": sums["n"]})


def coverage_sums(
    lower: xr.DataArray,
    upper: xr.DataArray,
    reference: xr.DataArray,
    weight: xr.DataArray,
    dims: Sequence[str] | None = None,
    by: By = None,
) -> xr.Dataset:
    """Sums behind the coverage and the width of an interval.

    Parameters
    ----------
    lower, upper
        Bounds, which belong to the interval, in the units of the reference. A value with a NaN, or
        whose bounds are the wrong way round, is left out.
    reference, weight, dims, by
        As in :func:`.metrics.continuous_sums`.

    Returns
    -------
    Dataset
        ``n`` (values), ``weight`` and the weighted sums of ``inside`` and ``width``; lazy on lazy
        data.

    Raises
    ------
    CubeError
        If the three do not share grid or calendar.
    """
    lower, truth = align(lower, reference)
    upper, _ = align(upper, reference)
    used, weight = used_pairs((lower <= upper) & truth.notnull(), weight)
    width = (upper.astype("float64") - lower.astype("float64")).where(used, 0)
    inside = (truth >= lower) & (truth <= upper)
    terms = {"n": used, "weight": weight, "inside": weight * inside, "width": weight * width}
    return total(terms, dims, by)


def coverage_scores(sums: xr.Dataset) -> xr.Dataset:
    """``coverage`` (1), ``width`` in the variable's units, and the values ``n``.

    Coverage is the share of values inside, to be held against the level of the interval. NaN where
    there is no value.
    """
    weight = sums["weight"].where(sums["n"] > 0)
    return xr.Dataset(
        {
            "coverage": sums["inside"] / weight,
            "width": sums["width"] / weight,
            "n": sums["n"],
        }
    )


def gaussian_interval(
    mean: xr.DataArray, spread: xr.DataArray, level: float
) -> tuple[xr.DataArray, xr.DataArray]:
    """Bounds of the central interval of a normal distribution that holds ``level`` (1) of it."""
    from scipy.special import ndtri

    reach = float(ndtri(0.5 + _level(level) / 2)) * spread.astype("float64")
    return mean - reach, mean + reach


def ensemble_interval(
    ensemble: xr.DataArray, level: float, *, member: str = MEMBER
) -> tuple[xr.DataArray, xr.DataArray]:
    """Bounds between which ``level`` (1) of the members lie, interpolated between members.

    NaN where any member is; lazy on lazy data. A few members cannot hold much: those of ``m`` drawn
    as the truth is hold it with a chance of ``(m - 1) / (m + 1)`` at the most.
    """
    half = _level(level) / 2
    members = _whole(ensemble.astype("float64"), member)
    bounds = members.quantile([0.5 - half, 0.5 + half], member, skipna=False)
    lower, upper = (bounds.isel(quantile=k, drop=True) for k in (0, 1))
    return lower, upper


def _with_members(
    ensemble: xr.DataArray, reference: xr.DataArray, member: str
) -> tuple[xr.DataArray, xr.DataArray]:
    """The two in float64 on the same coordinates, all members of a value in one block."""
    if not ensemble.sizes.get(member):
        raise CubeError(
            f"expected members along {member!r}; found dimensions {dict(ensemble.sizes)}; "
            "concatenate the members, or name their dimension"
        )
    one = ensemble.isel({member: 0}, drop=True)
    _, truth = align(one, reference)
    members, _ = align(ensemble, reference.expand_dims({member: ensemble[member]}))
    return _whole(members.astype("float64"), member), truth.astype("float64")


def _whole(ensemble: xr.DataArray, member: str) -> xr.DataArray:
    return ensemble.chunk({member: -1}) if ensemble.chunks else ensemble


def _mean_gap(members: xr.DataArray, member: str) -> xr.DataArray:
    """Mean of ``|x - y|`` over all pairs of members, a member with itself among them."""
    return xr.apply_ufunc(
        _mean_gap_of_last,
        members,
        input_core_dims=[[member]],
        dask="parallelized",
        output_dtypes=["float64"],
    )


def _mean_gap_of_last(members: np.ndarray) -> np.ndarray:
    # In order, the k-th of m is the larger of a pair k times and the smaller m - 1 - k times.
    size = members.shape[-1]
    factor = 2 * np.arange(size) - size + 1
    return 2 * (np.sort(members, axis=-1) @ factor.astype("float64")) / size**2


def _gaussian_crps(z: xr.DataArray) -> xr.DataArray:
    """CRPS of the standard normal distribution where the truth is ``z``."""
    from scipy.special import ndtr

    below = xr.apply_ufunc(ndtr, z, dask="parallelized", output_dtypes=["float64"])
    density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    return z * (2 * below - 1) + 2 * density - 1 / np.sqrt(np.pi)


def _level(level: float) -> float:
    if not 0 < level < 1:
        raise CubeError(f"expected a level between 0 and 1; found {level}; 0.9 holds 90 %")
    return level
