"""Scores of a field against its reference, from sums that can be added.

Every score follows from a Dataset of area-weighted float64 sums (a monoid: two such Datasets are
pooled by ``+``, one is pooled over a kept dimension by ``.sum``), so it is the same however the
data are chunked, in time, in regions or over machines. The sums are lazy on Dask data.

References
----------
Everingham, M. et al. (2015): The PASCAL visual object classes challenge: a retrospective.
Int. J. Computer Vision 111, 98-136, section 3 (intersection over union of segmentations).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from xlsbc.errors import CubeError

# Coordinates of one grid differ by rounding when they were made in float32 or by another formula.
_COORDINATE_TOLERANCE = 0.01  # of a grid step

# Variance that float64 sums cannot tell from none: 1e-12 of the mean square, where the sums
# themselves carry some 1e-15 of it.
_NO_VARIANCE = 1e-12


def continuous_sums(
    prediction: xr.DataArray,
    reference: xr.DataArray,
    weight: xr.DataArray,
    dims: Sequence[str] | None = None,
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

    Returns
    -------
    Dataset
        ``n`` (pairs), ``weight`` and the weighted sums of ``error``, ``absolute``, ``squared``,
        ``reference``, ``reference_squared``; lazy on lazy data.

    Raises
    ------
    CubeError
        If the two do not share grid, calendar or legend.
    """
    prediction, reference = align(prediction, reference)
    found = prediction.astype("float64")
    truth = reference.astype("float64")
    used = found.notnull() & truth.notnull() & (weight > 0)
    error = (found - truth).where(used, 0)
    truth = truth.where(used, 0)
    weight = used * weight.fillna(0).astype("float64")
    terms = {
        "n": used,
        "weight": weight,
        "error": weight * error,
        "absolute": weight * abs(error),
        "squared": weight * error**2,
        "reference": weight * truth,
        "reference_squared": weight * truth**2,
    }
    return xr.Dataset({name: term.sum(dims) for name, term in terms.items()}).drop_attrs()


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


def fraction_sums(
    prediction: xr.DataArray,
    reference: xr.DataArray,
    weight: xr.DataArray,
    class_dim: str,
    dims: Sequence[str] | None = None,
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

    Returns
    -------
    Dataset
        ``n`` (pixels), ``weight``, ``absolute`` (weighted, mean over classes) and ``confusion``
        (reference_class, predicted_class): weight by dominant class, where the first class of the
        legend wins a tie; lazy on lazy data.

    Raises
    ------
    CubeError
        If the two do not share grid, calendar or legend.
    """
    prediction, reference = align(prediction, reference)
    used = (prediction.notnull() & reference.notnull()).all(class_dim) & (weight > 0)
    found = prediction.where(used, 0).astype("float64")
    truth = reference.where(used, 0).astype("float64")
    weight = used * weight.fillna(0).astype("float64")
    over = list(used.dims if dims is None else dims)
    return xr.Dataset(
        {
            "n": used.sum(over),
            "weight": weight.sum(over),
            "absolute": (weight * abs(found - truth).mean(class_dim)).sum(over),
            "confusion": xr.dot(
                _dominant(truth, class_dim, "reference_class") * weight,
                _dominant(found, class_dim, "predicted_class"),
                dim=over,
            ),
        }
    ).drop_attrs()


def fraction_scores(sums: xr.Dataset) -> xr.Dataset:
    """``mae``, ``overall_accuracy``, ``miou`` (1) and the number of pixels ``n``.

    ``mae`` is the mean over pixels and classes of ``|prediction - reference|``; the others compare
    dominant classes. ``miou`` is the mean intersection over union of the classes that dominate
    somewhere in the reference. All but ``n`` are NaN where there is no pixel.
    """
    weight = sums["weight"].where(sums["n"] > 0)
    confusion = sums["confusion"]
    each = xr.DataArray(np.arange(confusion.sizes["reference_class"]), dims="class")
    hits = confusion.isel(reference_class=each, predicted_class=each)
    observed = confusion.sum("predicted_class").isel(reference_class=each)
    predicted = confusion.sum("reference_class").isel(predicted_class=each)
    union = observed + predicted - hits
    return xr.Dataset(
        {
            "mae": sums["absolute"] / weight,
            "overall_accuracy": hits.sum("class") / weight,
            "miou": (hits / union.where(observed > 0)).mean("class"),
            "n": sums["n"],
        }
    )


def align(prediction: xr.DataArray, reference: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    """The two on the same coordinates: the reference's grid, the prediction's times and years.

    Raises
    ------
    CubeError
        Listing everything that :func:`mismatches` finds.
    """
    problems = mismatches(prediction, reference)
    if problems:
        raise CubeError("the prediction cannot be held against the reference", problems)
    shared = [dim for dim in prediction.dims if dim in prediction.coords]
    steps = [dim for dim in shared if prediction[dim].dtype.kind in "Miu"]
    classes = [dim for dim in shared if _is_text(prediction[dim])]
    reference = reference.sel({dim: prediction[dim].values for dim in steps})
    prediction = prediction.sel({dim: reference[dim].values for dim in classes})
    # Equal within a rounding: one set of numbers, or arithmetic would drop what differs.
    prediction = prediction.assign_coords({dim: reference[dim] for dim in shared})
    return prediction, reference.transpose(*prediction.dims)


def mismatches(prediction: xr.DataArray, reference: xr.DataArray) -> list[str]:
    """Everything that keeps the two from being compared; computes nothing.

    The prediction may have its classes in another order and fewer times or years.
    """
    name = prediction.name or reference.name or "the prediction"
    if set(prediction.dims) != set(reference.dims):
        return [
            f"{name!r}: expected dimensions {reference.dims}; found {prediction.dims}; "
            "conform both datasets"
        ]
    return [
        f"{name!r}: {problem}"
        for dim in reference.dims
        if (problem := _mismatch(prediction, reference, str(dim)))
    ]


def align_mask(mask: xr.DataArray, reference: xr.Dataset) -> xr.DataArray:
    """A mask of pixels (latitude, longitude) on the reference's own coordinates.

    Raises
    ------
    CubeError
        Listing everything that :func:`mask_mismatches` finds.
    """
    problems = mask_mismatches(mask, reference)
    if problems:
        raise CubeError("the mask does not fit the reference", problems)
    axes = {dim: reference[dim] for dim in ("latitude", "longitude")}
    return mask.transpose(*axes).assign_coords(axes)


def mask_mismatches(mask: xr.DataArray, reference: xr.Dataset) -> list[str]:
    """Everything that keeps a boolean mask from being laid on the reference; computes nothing."""
    axes = ("latitude", "longitude")
    name = mask.name or "mask"
    if set(mask.dims) != set(axes) or mask.dtype != bool:
        return [
            f"{name!r}: expected booleans over {axes}; found {mask.dtype} over {mask.dims}; "
            "make it with a comparison of a field on the target grid"
        ]
    grid = xr.DataArray(
        np.empty([reference.sizes[axis] for axis in axes], dtype=bool),
        coords={axis: reference[axis] for axis in axes},
    )
    return mismatches(mask.rename(name), grid)


def _mismatch(prediction: xr.DataArray, reference: xr.DataArray, dim: str) -> str | None:
    if dim not in prediction.coords or dim not in reference.coords:
        sizes = prediction.sizes[dim], reference.sizes[dim]
        same = sizes[0] == sizes[1]
        return None if same else f"expected {sizes[1]} along {dim}; found {sizes[0]}; cut one"
    found, expected = prediction[dim], reference[dim]
    if _is_text(expected):
        return _class_mismatch(found, expected)
    if found.dtype.kind != expected.dtype.kind:
        return (
            f"expected {dim} as {expected.dtype}; found {found.dtype}; convert one of the calendars"
        )
    if expected.dtype.kind in "Miu":
        missing = np.setdiff1d(found.values, expected.values)
        if missing.size:
            return (
                f"expected every {dim} in the reference; found {_few(missing)} only in the "
                f"prediction; select the shared ones first"
            )
        return None
    return _axis_mismatch(found, expected)


def _axis_mismatch(found: xr.DataArray, expected: xr.DataArray) -> str | None:
    step = np.abs(np.diff(expected.values)).min() if expected.size > 1 else 1.0
    same = found.size == expected.size and np.allclose(
        found.values, expected.values, rtol=0, atol=_COORDINATE_TOLERANCE * step
    )
    return (
        None
        if same
        else (
            f"expected {expected.name} {_span(expected)}; found {_span(found)}; "
            "cut or regrid one to the other's grid"
        )
    )


def _class_mismatch(found: xr.DataArray, expected: xr.DataArray) -> str | None:
    legends = [each.attrs.get("legend") for each in (found, expected)]
    ids = [{str(value) for value in each.values} for each in (found, expected)]
    if ids[0] == ids[1] and (None in legends or legends[0] == legends[1]):
        return None
    return (
        f"expected legend {legends[1]!r} with {len(ids[1])} classes; found {legends[0]!r}, "
        f"which lacks {_few(sorted(ids[1] - ids[0]))} and adds {_few(sorted(ids[0] - ids[1]))}; "
        "apply a crosswalk to one of them"
    )


def _dominant(fraction: xr.DataArray, class_dim: str, name: str) -> xr.DataArray:
    """One-hot of the largest class along a new dimension ``name``."""
    labels = xr.DataArray(np.arange(fraction.sizes[class_dim]), dims=name)
    return (fraction.argmax(class_dim) == labels).astype("float64")


def _is_text(coordinate: xr.DataArray) -> bool:
    return coordinate.dtype.kind in "OUST" and isinstance(coordinate.values.flat[0], str)


def _few(values: Sequence[object] | np.ndarray) -> str:
    shown = ", ".join(str(value) for value in values[:3])
    return (shown or "none") + (f" and {len(values) - 3} more" if len(values) > 3 else "")


def _span(axis: xr.DataArray) -> str:
    return f"{axis.size} from {axis.values[0]:g} to {axis.values[-1]:g}"
