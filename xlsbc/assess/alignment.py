"""Whether two fields can be held against each other, and the two on one set of coordinates.

Arithmetic between labelled arrays drops silently what their coordinates do not share. So every
score starts here: grids, calendars and legends must be the same, up to the rounding of float32 and
the order of classes, or everything that differs is listed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from xlsbc.cube.grid import Grid
from xlsbc.errors import CubeError

# Coordinates of one grid differ by rounding when they were made in float32 or by another formula.
_COORDINATE_TOLERANCE = 0.01  # of a grid step


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


def lay(field: xr.DataArray, data: xr.DataArray) -> xr.DataArray:
    """A field of some of the dimensions of ``data``, on its coordinates; lazy on lazy data.

    Parameters
    ----------
    field
        A weight, a mask or labels; more times and years than ``data`` has are left out.
    data
        What it is laid on.

    Raises
    ------
    CubeError
        Listing everything that :func:`mismatches` finds.
    """
    shared = [str(dim) for dim in data.dims if dim in field.dims]
    named = field.rename(field.name or "field")
    part = data.isel({dim: 0 for dim in data.dims if dim not in shared}, drop=True)
    problems = mismatches(part.rename(named.name), named)
    if problems:
        raise CubeError(f"{named.name!r} does not fit the data", problems)
    labelled = [dim for dim in shared if dim in data.coords and dim in field.coords]
    steps = [dim for dim in labelled if data[dim].dtype.kind in "MiuOUST"]
    field = field.sel({dim: data[dim].values for dim in steps}).transpose(*shared)
    return field.assign_coords({dim: data[dim] for dim in shared if dim in data.coords})


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


def masked_area(reference: xr.Dataset, mask: xr.DataArray | None) -> xr.DataArray:
    """Cell area (m2) where the mask (latitude, longitude) is True, 0 elsewhere; all without one.

    Raises
    ------
    CubeError
        As `align_mask`.
    """
    area = Grid.of(reference).cell_area().assign_coords(latitude=reference["latitude"])
    if mask is None:
        mask = xr.DataArray(
            np.ones((reference.sizes["latitude"], reference.sizes["longitude"]), dtype=bool),
            coords={dim: reference[dim] for dim in ("latitude", "longitude")},
        )
    return align_mask(mask, reference) * area


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


def _is_text(coordinate: xr.DataArray) -> bool:
    return coordinate.dtype.kind in "OUST" and isinstance(coordinate.values.flat[0], str)


def _few(values: Sequence[object] | np.ndarray) -> str:
    shown = ", ".join(str(value) for value in values[:3])
    return (shown or "none") + (f" and {len(values) - 3} more" if len(values) > 3 else "")


def _span(axis: xr.DataArray) -> str:
    return f"{axis.size} from {axis.values[0]:g} to {axis.values[-1]:g}"
