"""Sources made parts of one cube: on the 1/120 degree lattice, in one box and period.

What is on the target grid comes to the lattice by area; forcing and drivers stay on their own
coarse grids. A part is what one source gives; that the parts agree is seen where they are put
together, by the recipe ``cube``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from ..errors import SourceError
from . import regrid
from .ingest.opening import source_of
from .regrid.lattice import STEP
from .schema import conform, is_climatology
from .vocabulary import TARGET_GRID, VOCABULARY

__all__ = ["part"]

MARGIN = 1.5
"""Coarse cells around the box that are kept: a pixel at its rim lies between two of them."""

KEPT_BITS = 13
"""Bits of the mantissa that forcing and statics keep: 6e-5 of a value, 0.03 K of a temperature. The
others become zeros, of which nothing is left when compressed (Zender, C. S., 2016, Geoscientific
Model Development 9, 3199-3211, doi:10.5194/gmd-9-3199-2016)."""

YEARS_BEFORE = 1
"""Years of forcing before the period: what leaves are grown from."""


def part(
    ds: xr.Dataset,
    region: Sequence[float] | None = None,
    period: Sequence[int] | None = None,
    step: float = STEP,
) -> xr.Dataset:
    """What a source gives to a cube; lazy.

    Parameters
    ----------
    ds
        A conformed cube or a part of one, as stored or decoded.
    region
        West, south, east, north, degrees; all that the source covers if left out.
    period
        First and last year of targets, drivers and scalars; forcing begins a year earlier. All if
        left out.
    step
        Of the target grid, degrees.

    Returns
    -------
    xarray.Dataset
        Statics and targets on the pixels of the global lattice that touch the region, an area mean
        of what is known where the source has another grid; NaN where it knows less than half.
        Forcing and drivers on their own grids; a mean year of forcing in each year of the period.

    Raises
    ------
    CubeError
        If the source is no part of a cube.
    SourceError
        If it has nothing in the region or the period.
    """
    where = source_of(ds)
    cube = conform(xr.decode_cf(ds))
    if period is not None:
        cube = in_period(every_year(cube, period), period)
    made = {}
    for name, da in cube.data_vars.items():
        grid = da.dims[-2:]
        if grid == TARGET_GRID:
            da = on_lattice(da, region, step)
        elif region is not None and len(grid) == 2:
            da = around(da, region)
        made[name] = da if VOCABULARY.get(str(name), None) in TARGETS else rounded(da)
    found = xr.Dataset(made, attrs=cube.attrs)
    empty = [dim for dim, size in found.sizes.items() if size == 0]
    if empty:
        raise SourceError(
            "a source has nothing to give",
            [
                f"{where}, {dim!r}: expected steps in region {region} and period {period}; found "
                "none; correct them, or leave the source out"
                for dim in empty
            ],
        )
    found.encoding = dict(ds.encoding)
    return found


TARGETS = tuple(v for v in VOCABULARY.values() if v.role in ("target", "driver"))


def every_year(cube: xr.Dataset, period: Sequence[int]) -> xr.Dataset:
    """The cube whose mean year of forcing, if it has one, stands in each year of a period."""
    mean = [name for name, da in cube.items() if "forcing_time" in da.dims and is_climatology(da)]
    if not mean:
        return cube
    first, last = period
    months = np.arange(f"{first - YEARS_BEFORE:04d}-01", f"{last + 1:04d}-01", dtype="M8[M]")
    which = cube["forcing_time"].dt.month.values.searchsorted(months.astype(int) % 12 + 1)
    attrs = cube["forcing_time"].attrs
    repeated = cube.isel(forcing_time=which).assign_coords(
        forcing_time=("forcing_time", months.astype("M8[ns]"), attrs)
    )
    for name in mean:
        repeated[name].attrs.pop("cell_methods", None)
        repeated[name].attrs["comment"] = "the same mean year in each year"
    return repeated


def in_period(cube: xr.Dataset, period: Sequence[int]) -> xr.Dataset:
    """The steps of a period of years."""
    first, last = period
    spans = {
        "year": slice(first, last),
        "time": slice(str(first), str(last)),
        "forcing_time": slice(f"{first - YEARS_BEFORE:04d}", str(last)),
    }
    return cube.sel({dim: span for dim, span in spans.items() if dim in cube.dims})


def on_lattice(da: xr.DataArray, region: Sequence[float] | None, step: float) -> xr.DataArray:
    """A field on the pixels of the global lattice."""
    west, south, east, north = region if region is not None else extent(da)
    latitude, longitude = regrid.axes(west, south, east, north, step)
    da = eastward(da, "longitude", float(longitude[0]) - step / 2)
    attrs = {dim: da[dim].attrs for dim in TARGET_GRID}
    if is_part(da["latitude"].values, latitude, step) and is_part(
        da["longitude"].values, longitude, step
    ):
        placed = da.reindex(
            latitude=latitude, longitude=longitude, method="nearest", tolerance=step / 50
        )
    else:
        placed = regrid.conservative(da, latitude, longitude)
    for dim in TARGET_GRID:
        placed[dim].attrs = attrs[dim]
    return placed.assign_attrs(da.attrs)


def extent(da: xr.DataArray) -> tuple[float, float, float, float]:
    """Outer edges of a field."""
    latitude, longitude = da["latitude"].values, da["longitude"].values
    dy, dx = (abs(v[-1] - v[0]) / max(v.size - 1, 1) / 2 for v in (latitude, longitude))
    inside = 1e-6  # an edge on the lattice touches no pixel beyond
    return (
        float(longitude[0] - dx + inside),
        float(latitude[-1] - dy + inside),
        float(longitude[-1] + dx - inside),
        float(latitude[0] + dy - inside),
    )


def is_part(values: np.ndarray, lattice: np.ndarray, step: float) -> bool:
    """Whether an axis lies on the lattice, wherever it begins and ends."""
    if values.size < 2 or abs(abs(values[1] - values[0]) / step - 1) > 1e-3:
        return False
    offset = (values[0] - lattice[0]) / step
    return bool(abs(offset - round(offset)) < 0.02)


def around(da: xr.DataArray, region: Sequence[float]) -> xr.DataArray:
    """The coarse cells of a region and those beside them."""
    west, south, east, north = region
    east = east if east > west else east + 360
    y, x = map(str, da.dims[-2:])
    dy, dx = MARGIN * step_of(da[y].values), MARGIN * step_of(da[x].values)
    if east - west + 2 * dx < 360:
        da = eastward(da, x, west - dx)
        da = da.isel({x: np.flatnonzero(da[x].values <= east + dx)})
    latitude = da[y].values
    return da.isel({y: np.flatnonzero((latitude >= south - dy) & (latitude <= north + dy))})


def step_of(values: np.ndarray) -> float:
    """Step of an axis, degrees; of a single cell a degree."""
    return float(abs(values[-1] - values[0]) / (values.size - 1)) if values.size > 1 else 1.0


def eastward(da: xr.DataArray, dim: str, west: float) -> xr.DataArray:
    """The field from a meridian on eastward: past the date line longitudes go on beyond 180."""
    longitude = west + (da[dim].values - west) % 360
    order = np.argsort(longitude)
    if np.allclose(longitude, da[dim].values):
        return da
    moved = da.isel({dim: order}).assign_coords({dim: longitude[order]})
    moved[dim].attrs = da[dim].attrs
    return moved


def rounded(da: xr.DataArray) -> xr.DataArray:
    """Values of which `KEPT_BITS` of the mantissa are left, rounded to the nearest."""
    if da.dtype != np.float32:
        return da
    return xr.apply_ufunc(
        shorten, da, dask="parallelized", output_dtypes=[np.float32], keep_attrs=True
    )


def shorten(values: np.ndarray) -> np.ndarray:
    """Single precision values with the last bits of the mantissa zero; ties go to even."""
    dropped = 23 - KEPT_BITS
    bits = values.view(np.uint32)
    half = np.uint32((1 << (dropped - 1)) - 1)
    odd = (bits >> np.uint32(dropped)) & np.uint32(1)
    kept = (bits + half + odd) & np.uint32(0xFFFFFFFF ^ ((1 << dropped) - 1))
    return np.where(np.isfinite(values), kept.view(np.float32), values)
