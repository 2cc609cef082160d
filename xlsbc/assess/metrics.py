"""Scores of a field against its reference, from sums that can be added.

Every score follows from a Dataset of area-weighted float64 sums (a monoid: two such Datasets are
pooled by ``+``, one is pooled over a kept dimension by ``.sum``), so it is the same however the
data are chunked, in time, in regions or over machines. The sums are lazy on Dask data, and can be
kept by :mod:`.groups`: class, region, month, elevation.

References
----------
Everingham, M. et al. (2015): The PASCAL visual object classes challenge: a retrospective.
Int. J. Computer Vision 111, 98-136, section 3 (intersection over union of segmentations).
Wilks, D. S. (2011): Statistical methods in the atmospheric sciences, 3rd ed., section 8.6.4
(anomaly correlation).
Bray, J. R. and Curtis, J. T. (1957): An ordination of the upland forest communities of southern
Wisconsin. Ecological Monographs 27, 325-349.
Pontius, R. G. and Millones, M. (2011): Death to Kappa. Int. J. Remote Sensing 32, 4407-4429,
equations 2 to 7 (quantity and allocation disagreement).
Pontius, R. G. and Cheuk, M. L. (2006): A generalized cross-tabulation matrix to compare
soft-classified maps at multiple resolutions. Int. J. Geographical Information Science 20, 1-30.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from xlsbc.errors import CubeError

from .alignment import align, lay
from .groups import By, dominant, laid, tally, total

# Variance that float64 sums cannot tell from none: 1e-12 of the mean square, where the sums
# themselves carry some 1e-15 of it.
_NO_VARIANCE = 1e-12


def continuous_sums(
    prediction: xr.DataArray,
    reference: xr.DataArray,
    weight: xr.DataArray,
    dims: Sequence[str] | None = None,
    by: By = None,
) -> xr.Dataset:
    """Sums behind the scores of a continuous variable.

    Parameters
    ----------
    prediction, reference
        Same dimensions and coordinates. Pairs with a NaN are left out.
    weight
        Broadcasts against them; 0 leaves a pixel out. Cell area (m2) times a mask, say.
    dims
        Dimensions to sum over; all by default.
    by
        Groups to keep apart.

    Returns
    -------
    Dataset
        ``n`` (pairs), ``weight`` and the weighted sums of ``error``, ``absolute``, ``squared``,
        ``reference``, ``reference_squared``; lazy on lazy data.

    Raises
    ------
    CubeError
        If the two do not share grid, calendar or legend, or weight or groups do not fit them.
    """
    prediction, reference = align(prediction, reference)
    found = prediction.astype("float64")
    truth = reference.astype("float64")
    used, weight = used_pairs(found.notnull() & truth.notnull(), weight)
    error = (found - truth).where(used, 0)
    truth = truth.where(used, 0)
    terms = {
        "n": used,
        "weight": weight,
        "error": weight * error,
        "absolute": weight * abs(error),
        "squared": weight * error**2,
        "reference": weight * truth,
        "reference_squared": weight * truth**2,
    }
    return total(terms, dims, by)


def continuous_scores(sums: xr.Dataset) -> xr.Dataset:
    """``rmse``, ``bias``, ``mae`` in the variable's units, ``r2`` (1) and the pairs ``n``.

    R2 is ``1 - SSE / SST`` with area weights over all pairs. All but ``n`` are NaN where there is
    no pair, R2 also where the reference does not vary.
    """
    weight = sums["weight"].where(sums["n"] > 0)
    variance = sums["reference_squared"] / weight - (sums["reference"] / weight) ** 2
    varies = variance > _NO_VARIANCE * sums["reference_squared"] / weight
    return xr.Dataset(
        {
            "rmse": np.sqrt(sums["squared"] / weight),
            "bias": sums["error"] / weight,
            "mae": sums["absolute"] / weight,
            "r2": 1 - sums["squared"] / weight / variance.where(varies),
            "n": sums["n"],
        }
    )


def monthly_climatology(reference: xr.DataArray) -> xr.DataArray:
    """Mean over years of each calendar month ``(month, ...)``, float64, lazy on lazy data.

    Parameters
    ----------
    reference
        With ``time``; NaN is left out, and a mean of nothing is NaN.
    """
    which = reference["time"].dt.month.values
    means = []
    for month in np.unique(which):
        part = reference.isel(time=np.flatnonzero(which == month)).astype("float64")
        seen = part.notnull().sum("time")
        means.append((part.sum("time") / seen.where(seen > 0)).expand_dims(month=[int(month)]))
    return xr.concat(means, "month")


def anomaly_sums(
    prediction: xr.DataArray,
    reference: xr.DataArray,
    weight: xr.DataArray,
    dims: Sequence[str] | None = None,
    by: By = None,
    *,
    climatology: xr.DataArray | None = None,
) -> xr.Dataset:
    """Sums behind the anomaly correlation.

    Parameters
    ----------
    prediction, reference, weight, dims, by
        As in :func:`continuous_sums`, with ``time``.
    climatology
        ``(month, ...)`` with a coordinate ``month``, 1 to 12, in the units of the two. By default
        :func:`monthly_climatology` of the reference, in each pixel, over all years that it has,
        also those that the prediction lacks.

    Returns
    -------
    Dataset
        ``n`` (pairs), ``weight`` and the weighted sums of ``covariance``, ``prediction_variance``,
        ``reference_variance`` (products of anomalies) and ``reference_squared``; lazy on lazy data.
        Pairs without a climatology are left out.

    Raises
    ------
    CubeError
        If the two do not share grid or calendar, or the climatology does not fit them.
    """
    usual = monthly_climatology(reference) if climatology is None else climatology
    prediction, reference = align(prediction, reference)
    if "month" not in usual.coords:
        raise CubeError(
            f"expected a climatology with the coordinate month; found {list(usual.coords)}; "
            "number its months from 1"
        )
    month = prediction["time"].dt.month.values - 1
    usual = usual.reindex(month=range(1, 13)).isel(month=month).rename(month="time")
    usual = lay(usual.assign_coords(time=prediction["time"].values), prediction)
    found = prediction.astype("float64") - usual
    truth = reference.astype("float64") - usual
    used, weight = used_pairs(found.notnull() & truth.notnull(), weight)
    found, truth = found.where(used, 0), truth.where(used, 0)
    terms = {
        "n": used,
        "weight": weight,
        "covariance": weight * found * truth,
        "prediction_variance": weight * found**2,
        "reference_variance": weight * truth**2,
        "reference_squared": weight * reference.where(used, 0).astype("float64") ** 2,
    }
    return total(terms, dims, by)


def anomaly_scores(sums: xr.Dataset) -> xr.Dataset:
    """``anomaly_correlation`` (1), uncentred, and the pairs ``n``.

    NaN where there is no pair, and where either has no anomalies: in a mean year, or one year held
    against its own climatology.
    """
    least = _NO_VARIANCE * sums["reference_squared"]
    found, truth = sums["prediction_variance"], sums["reference_variance"]
    varies = (found > least) & (truth > least)
    # Two roots: the product of the two could underflow where their roots do not.
    correlation = sums["covariance"] / np.sqrt(found.where(varies)) / np.sqrt(truth)
    return xr.Dataset({"anomaly_correlation": correlation, "n": sums["n"]})


def fraction_sums(
    prediction: xr.DataArray,
    reference: xr.DataArray,
    weight: xr.DataArray,
    class_dim: str,
    dims: Sequence[str] | None = None,
    by: By = None,
) -> xr.Dataset:
    """Sums behind the scores of class fractions.

    Parameters
    ----------
    prediction, reference
        Fractions (1) with ``class_dim`` and otherwise the same dimensions and coordinates. A pixel
        with a NaN in any class of either is left out.
    weight
        As in :func:`continuous_sums`, without ``class_dim``.
    class_dim
        The dimension of the classes.
    dims
        Dimensions to sum over; all but ``class_dim`` by default.
    by
        Groups to keep apart.

    Returns
    -------
    Dataset
        ``n`` (pixels), ``weight``, ``absolute`` (weighted, mean over classes), ``predicted_area``
        and ``reference_area`` (class): weight times fraction, ``class_n`` (reference_class): pixels
        and ``confusion`` (reference_class, predicted_class): weight, both by dominant class, where
        the first class of the legend wins a tie; lazy on lazy data.

    Raises
    ------
    CubeError
        If the two do not share grid, calendar or legend, or weight or groups do not fit them.
    """
    prediction, reference = align(prediction, reference)
    valid = (prediction.notnull() & reference.notnull()).all(class_dim)
    used, weight = used_pairs(valid, weight)
    found = prediction.where(used, 0).astype("float64")
    truth = reference.where(used, 0).astype("float64")
    over = [str(dim) for dim in (used.dims if dims is None else dims)]
    terms = {
        "n": used,
        "weight": weight,
        "absolute": weight * abs(found - truth).mean(class_dim),
    }
    areas = {"predicted_area": weight * found, "reference_area": weight * truth}
    areas = {name: area.rename({class_dim: "class"}) for name, area in areas.items()}
    groups = laid(by, used)
    observed, guessed = (
        dominant(each, class_dim, name)
        for each, name in ((truth, "reference_class"), (found, "predicted_class"))
    )
    counts = tally({"class_n": used}, [*groups, observed], over)
    matrix = tally({"confusion": weight}, [*groups, observed, guessed], over)
    sums = total(terms, over, by).assign(total(areas, over, by))
    return sums.assign(counts).assign(matrix).drop_attrs()


def fraction_scores(sums: xr.Dataset) -> xr.Dataset:
    """Scores of fractions and of the classes that dominate, all 1, and the number of pixels ``n``.

    ``mae`` is the mean over pixels and classes of ``|prediction - reference|``, ``bray_curtis`` the
    sum of those over the sum of both. ``fraction_quantity`` and ``fraction_allocation`` are
    disagreement by the composite operator: all of it is half the sum of ``|prediction -
    reference|``, that of quantity half the sum over classes of the difference in area.

    The others compare dominant classes: ``overall_accuracy``; ``miou`` and ``f1``, means of the
    classes that dominate somewhere in the reference; ``quantity`` and ``allocation`` disagreement,
    which add up to ``1 - overall_accuracy``. All but ``n`` are NaN where there is no pixel.
    """
    weight = sums["weight"].where(sums["n"] > 0)
    hits, observed, predicted = _margins(sums["confusion"])
    quantity = 0.5 * abs(predicted - observed).sum("class") / weight
    soft = 0.5 * abs(sums["predicted_area"] - sums["reference_area"]).sum("class") / weight
    absolute = sums["absolute"] * sums.sizes["class"]  # sum over classes
    both = (sums["predicted_area"] + sums["reference_area"]).sum("class")
    accuracy = hits.sum("class") / weight
    each = class_scores(sums)
    return xr.Dataset(
        {
            "mae": sums["absolute"] / weight,
            "bray_curtis": absolute / both.where(both > 0),
            "fraction_quantity": soft,
            # never less than nothing but for rounding
            "fraction_allocation": (0.5 * absolute / weight - soft).clip(min=0),
            "overall_accuracy": accuracy,
            "miou": each["iou"].mean("class"),
            "f1": each["f1"].mean("class"),
            "quantity": quantity,
            "allocation": (1 - accuracy - quantity).clip(min=0),
            "n": sums["n"],
        }
    )


def class_scores(sums: xr.Dataset) -> xr.Dataset:
    """Scores of each class, all 1, and the number of pixels ``n`` that it dominates.

    ``f1``, ``iou``, ``recall`` (producer's accuracy) and ``precision`` (user's accuracy) compare
    dominant classes; ``quantity`` and ``allocation`` are a class's disagreement, half of whose
    sum over classes is that of all; ``bias`` is the mean error of its fraction.
    NaN for a class that dominates nowhere in the reference (``bias``: where there is no pixel),
    ``precision`` also for one that is never predicted.
    """
    weight = sums["weight"].where(sums["n"] > 0)
    hits, observed, predicted = _margins(sums["confusion"])
    present = observed.where(observed > 0)
    known = present.notnull()
    common = present.where(present < predicted, predicted)
    scores = {
        "f1": 2 * hits / (present + predicted),
        "iou": hits / (present + predicted - hits),
        "recall": hits / present,
        "precision": (hits / predicted.where(predicted > 0)).where(known),
        "quantity": (abs(predicted - present) / weight).where(known),
        "allocation": (2 * (common - hits) / weight).where(known),
        "bias": (sums["predicted_area"] - sums["reference_area"]) / weight,
        "n": sums["class_n"].rename(reference_class="class"),
    }
    return xr.Dataset(scores)


def used_pairs(valid: xr.DataArray, weight: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    """Where there is a value of a positive weight, and the weight there, 0 elsewhere, float64.

    Raises
    ------
    CubeError
        If the weight does not fit.
    """
    weight = lay(weight.rename("weight"), valid)
    used = valid & (weight > 0)
    return used, used * weight.fillna(0).astype("float64")


def _margins(confusion: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
    """Weight by class of what agrees, of the reference and of the prediction."""
    each = xr.DataArray(np.arange(confusion.sizes["reference_class"]), dims="class")
    hits = confusion.isel(reference_class=each, predicted_class=each)
    observed = confusion.sum("predicted_class").rename(reference_class="class")
    return hits, observed, confusion.sum("reference_class").rename(predicted_class="class")
