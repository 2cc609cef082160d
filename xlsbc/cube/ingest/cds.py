"""Axes as the Climate Data Store writes them: dates as integers, two versions, degrees of 32 bits.

References
----------
ECMWF: Climate Data Store, "GRIB to netCDF conversion" (confluence.ecmwf.int): the layouts of before
and after September 2024. ECMWF: ERA5: data documentation, "Data format": ``expver``.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from ...errors import CubeError, SourceError
from .. import schema
from ..axes import read_axes
from ..times import read_times

__all__ = ["at_starts", "conformed", "decimal", "final", "parameter", "read_times_and_degrees"]


LONGEST_STEP = 32
"""Days, above any month: bounds that are further from their times are those of something else."""
ABSOLUTE = "day as %Y%m%d"
"""Units of the times that CDO calls absolute: 20200101.25 is 06:00 of that day."""


def parameter(da: xr.DataArray) -> int:
    """Number of a variable in ECMWF's parameter database; -1 where the file tells none."""
    return int(np.ravel(da.attrs.get("GRIB_paramId", -1))[0])


def final(da: xr.DataArray) -> xr.DataArray:
    """ERA5 (``expver`` 1) completed by its preliminary months (5), without that dimension; lazy.

    Each is missing where the other is not.
    """
    if "expver" not in da.dims:
        return da
    versions = da["expver"].values if "expver" in da.coords else np.arange(da.sizes["expver"])
    order = np.argsort(versions.astype(int))
    merged = da.isel(expver=int(order[0]), drop=True)
    for version in order[1:]:
        merged = merged.fillna(da.isel(expver=int(version), drop=True))
    return merged.assign_attrs(da.attrs)


def at_starts(part: xr.Dataset, ds: xr.Dataset) -> xr.Dataset:
    """The dataset with each time at the start of its bounds, where the file has bounds.

    A mean that is stamped at its end, the first of the next month, would be a month late.
    """
    for dim in part.dims:
        name = str(part[dim].attrs.get("bounds", "")) if dim in part.coords else ""
        if name not in ds.variables or ds[name].dims[:1] != (dim,) or ds[name].ndim != 2:
            continue
        # Bounds have the units of their coordinate, unless they say others.
        attrs = part[dim].attrs | ds[name].attrs
        first = xr.DataArray(ds[name].values[:, 0], dims=(dim,), name=dim, attrs=attrs)
        starts, stamps = read_times(first), read_times(part[dim])
        if not isinstance(starts, np.ndarray) or not isinstance(stamps, np.ndarray):
            continue
        behind = (stamps - starts) / np.timedelta64(1, "D")
        if ((behind >= 0) & (behind <= LONGEST_STEP)).all():
            part = part.assign_coords({dim: (dim, starts.astype("datetime64[ns]"))})
    return part


def read_times_and_degrees(part: xr.Dataset, where: str) -> xr.Dataset:
    """The dataset with ascending datetime64[ns] times, and with the degrees that its file means.

    Raises
    ------
    SourceError
        If an axis is said to be of times or of degrees, and is not.
    """
    for dim in part.dims:
        if dim in part.coords and _are_dates(days := _whole_days(part[dim])):
            dates = [f"{d // 10000}-{d // 100 % 100:02}-{d % 100:02}" for d in days]
            part = part.assign_coords({dim: np.array(dates, "datetime64[ns]")})
    if empty := [str(dim) for dim, size in part.sizes.items() if size == 0]:
        problems = [f"{where}: expected values along {dim!r}; found none" for dim in empty]
        raise SourceError("the file is empty", [f"{p}; fetch the file again" for p in problems])
    axes = read_axes(part)
    problems = [f"{where}: {problem.text}" for axis in axes.values() for problem in axis.problems]
    if problems:
        raise SourceError("an axis of the file cannot be used", problems)
    for dim, axis in axes.items():
        if axis.kind == "time" and axis.values is not None:
            part = part if axis.order is None else part.isel({dim: axis.order})
            part = part.assign_coords({dim: axis.values.astype("datetime64[ns]")})
        elif axis.kind in ("latitude", "longitude") and axis.name == dim:
            part = part.assign_coords({dim: (dim, decimal(part[dim].values), part[dim].attrs)})
    return part


def decimal(degrees: np.ndarray) -> np.ndarray:
    """Degrees as people write them, float64: 10.6 is stored as float32 and read as 10.600000381."""
    short = degrees.astype(np.float32)
    if (short == degrees).all():
        return np.array([float(str(value)) for value in short])
    return degrees.astype(np.float64).round(6)


def conformed(part: xr.Dataset, where: str) -> xr.Dataset:
    """The cube of variables that have their canonical names.

    Raises
    ------
    SourceError
        With what stands against it, and the file.
    """
    try:
        return schema.conform(part, {str(name): str(name) for name in part.data_vars})
    except CubeError as error:
        problems = [f"{where}: {problem}" for problem in error.problems or (error.summary,)]
        raise SourceError("the file cannot be read as part of a cube", problems) from error


def _whole_days(axis: xr.DataArray) -> np.ndarray:
    """Numbers such as 20200101, whose part of a day is left out where the units tell of one."""
    values = axis.values
    if values.dtype.kind == "f" and str(axis.attrs.get("units", "")).startswith(ABSOLUTE):
        return np.floor(values).astype(np.int64)
    return values if values.dtype.kind in "iu" else np.array([], np.int64)


def _are_dates(values: np.ndarray) -> bool:
    """Whether integers are dates such as 20200101."""
    month, day = values // 100 % 100, values % 100
    inside = (values >= 16780101) & (values < 22620101) & (month >= 1) & (month <= 12)
    return bool(values.size and (inside & (day >= 1) & (day <= 31)).all())
