"""Fine maps of land classes, or of their shares, as class fractions at 1/120 degree; lazy.

What the land cover and the land use products have in common: where a map lies, which years it
shows, and which codes it may hold. A map of codes becomes shares of classes, never a mean or the
nearest of codes; the map as a whole is never decoded, only the window that a block asks for.
"""

from __future__ import annotations

import re
import warnings
from pathlib import PurePosixPath

import numpy as np
import xarray as xr

from ...errors import SourceError, SourceWarning
from .. import regrid, vocabulary
from ..axes import Axis, read_axes, read_scalar_time
from ..legends import NO_DATA, legend
from ..regrid.lattice import pair
from . import raw
from .opening import source_of

__all__ = ["class_codes", "class_shares", "geographic", "pixels", "remark_on_year", "years"]

KINDS = {"latitude": "latitude", "longitude": "longitude", "time": "year", "year": "year"}
# Classes multiply a chunk by 13 or 14: one of many years would become gigabytes.
LARGEST_CHUNK = 2**20
YEAR = re.compile(r"(?<!\d)((?:18|19|20|21)\d\d)(?!\d)")


def class_shares(ds: xr.Dataset, name: str, crosswalk: str, target: str) -> xr.DataArray:
    """Class fractions of a map of class codes.

    Parameters
    ----------
    ds
        As `open_source` gives it.
    name
        The variable: (time, latitude, longitude) or (latitude, longitude), codes as stored.
    crosswalk
        As in `xlsbc.cube.legends.crosswalk`.
    target
        "lc_fraction" or "lu_fraction".

    Returns
    -------
    xarray.DataArray
        (year, class, latitude, longitude) at 1/120 degree, 1, NaN where less than half of a pixel
        is known. Lazy.

    Raises
    ------
    SourceError
        If the map is not on latitudes and longitudes or has no year; when computed, if it holds
        codes that are not of its legend.
    """
    codes = class_codes(geographic(ds, name), crosswalk.partition("-")[0], source_of(ds))
    dim = vocabulary.VOCABULARY[target].dims[1]
    shares = regrid.class_fractions(codes, crosswalk, dim, *pixels(codes))
    remark = remark_on_year(ds, name, codes["year"].values)
    attrs = vocabulary.attributes(target) | ({"comment": remark} if remark else {})
    return shares.drop_attrs(deep=False).assign_attrs(attrs).rename(target)


def geographic(ds: xr.Dataset, name: str) -> xr.DataArray:
    """One variable over (year, latitude, longitude), from 90 N and 180 W on; numbers as stored.

    Raises
    ------
    SourceError
        If it has other dims, or if its years cannot be told.
    """
    da = ds[name]
    read = read_axes(ds[[name]])
    axes = {a.kind: a for dim in da.dims if (a := read[dim]).kind in KINDS}
    wanted = [axes.get(kind) for kind in ("latitude", "longitude")]
    problems = [p.text for dim in da.dims for p in read[dim].problems]
    if None in wanted:
        found = ", ".join(map(str, da.dims))
        problems.append(f"expected latitude and longitude; found dims {found}; reproject the map")
    named = {axis.dim: KINDS[kind] for kind, axis in axes.items()}
    stray = [dim for dim in da.dims if da.sizes[dim] > 1 and dim not in named]
    problems += [f"expected a map a year; found dim {dim!r}; select one of it" for dim in stray]
    if problems:
        where = f"{source_of(ds)}, variable {name!r}"
        raise SourceError(f"{name!r} is no map", [f"{where}: {p}" for p in problems])
    numbers = years(ds, name)
    for axis in axes.values():
        da = _in_order(da, axis)
    da = da.isel({dim: 0 for dim in da.dims if dim not in named}).drop_vars(list(da.coords))
    da = da.rename(named)
    da = da if "year" in da.dims else da.expand_dims(year=numbers.size)
    da = da.transpose("year", "latitude", "longitude")
    if da.chunks is not None and np.prod(da.data.chunksize) > LARGEST_CHUNK:
        da = da.chunk(year=1)
    at = {str(a.kind): a.values for a in wanted if a is not None}
    return da.assign_coords({"year": numbers, **at})


def years(ds: xr.Dataset, name: str) -> np.ndarray:
    """Calendar years of a variable: of its times, else of the file's coverage or its name.

    Raises
    ------
    SourceError
        If nothing says the years, or if there are several maps a year.
    """
    da, where = ds[name], f"{source_of(ds)}, variable {name!r}"
    axis = next((a for a in read_axes(ds[[name]]).values() if a.kind in ("time", "year")), None)
    if axis is not None and axis.problems:
        raise SourceError("the times cannot be read", [f"{where}: {p.text}" for p in axis.problems])
    times = read_scalar_time(da) if axis is None else axis.values
    if times is None:
        coverage = str(ds.attrs.get("time_coverage_start", ""))[:4]
        stem = PurePosixPath(source_of(ds)).name
        said = {int(y) for y in YEAR.findall(coverage) or YEAR.findall(stem)}
        if len(said) != 1:
            found = sorted(said) or "none"
            problem = f"{where}: expected one year in the file's name; found {found}; rename it"
            raise SourceError("the year of a map cannot be told", [problem])
        return np.array(sorted(said))
    if times.dtype.kind == "M":
        times = times.astype("datetime64[Y]").astype(np.int64) + 1970
    repeated = np.unique(times[1:][np.diff(times) == 0])
    if repeated.size:
        problem = f"{where}: expected one map a year; found several in {repeated.tolist()}; select"
        raise SourceError("a year has several maps", [problem])
    return times.astype(np.int64)


def remark_on_year(ds: xr.Dataset, name: str, years: np.ndarray) -> str:
    """A sentence where the name of a file says another year than its times, else nothing.

    Warns
    -----
    SourceWarning
        With that sentence: the file was renamed, or its time is that of another file.
    """
    stem = PurePosixPath(source_of(ds)).name
    named = {int(year) for year in YEAR.findall(stem)}
    if years.size != 1 or len(named) != 1 or int(years[0]) in named:
        return ""
    text = f"{stem} holds a time of {int(years[0])}, which was taken, not {named.pop()} of its name"
    warnings.warn(f"{source_of(ds)}, variable {name!r}: {text}", SourceWarning, stacklevel=3)
    return text


def pixels(da: xr.DataArray | xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Centres of the pixels of 1/120 degree that a map touches: latitudes, longitudes."""
    rows, columns = (a.edges() for a in pair(da["latitude"].values, da["longitude"].values))
    # One row has no direction of its own, so that its edges may ascend.
    west, east = float(columns.min()), float(columns.max())
    south, north = max(float(rows.min()), -90.0), min(float(rows.max()), 90.0)
    # 36042 columns of 0.00998837 degree go a little further than once round the globe.
    return regrid.axes(west, south, min(east, west + 360.0), north)


def class_codes(da: xr.DataArray, legend_name: str, source: str) -> xr.DataArray:
    """Class codes as unsigned bytes, no data where the file's fill value is; lazy.

    Raises
    ------
    SourceError
        When computed: the file, and every code that the legend does not have, with its count.
    """
    classes = legend(legend_name)
    no_data = next(c.code for c in classes.classes if c.id == NO_DATA)
    fills = [raw.attribute(da, key) for key in ("_FillValue", "missing_value")]
    fills = [int(f) % 256 for fill in fills if fill is not None for f in np.ravel(fill)]
    lookup = np.full(256, no_data, np.uint8)
    lookup[list(classes.codes)] = classes.codes
    known = np.zeros(256, bool)
    known[[*classes.codes, *fills]] = True
    what = f"{source}, variable {da.name!r}: expected codes of legend {legend_name!r}"
    return xr.apply_ufunc(
        _code,
        da,
        kwargs={"lookup": lookup, "known": known, "no_data": no_data, "what": what},
        dask="parallelized",
        output_dtypes=[np.uint8],
    )


def _code(
    values: np.ndarray, lookup: np.ndarray, known: np.ndarray, no_data: int, what: str
) -> np.ndarray:
    if values.dtype.itemsize > 1:
        numbers = (
            np.where(np.isnan(values), no_data, values) if values.dtype.kind == "f" else values
        )
        # A byte that a reader took as signed, and kept so in a wider type: -46 is 210.
        numbers = np.where((numbers < 0) & (numbers >= -128), numbers + 256, numbers)
        whole = (numbers == np.floor(numbers)) & (numbers >= 0) & (numbers <= 255)
        if not whole.all():
            _refuse(numbers[~whole], what)
        values = numbers.astype(np.uint8)
    codes = values.view(np.uint8)
    if not known[codes].all():
        _refuse(codes[~known[codes]], what)
    return lookup[codes]


def _refuse(codes: np.ndarray, what: str) -> None:
    found, counts = np.unique(codes, return_counts=True)
    listed = [f"code {c:g} in {n} pixels" for c, n in zip(found[:12], counts[:12], strict=True)]
    more = f" and {found.size - 12} more" if found.size > 12 else ""
    problem = f"{what}; found {', '.join(listed)}{more}; fetch the product that is read here"
    raise SourceError("the map holds codes that its legend lacks", [problem])


def _in_order(da: xr.DataArray, axis: Axis) -> xr.DataArray:
    if axis.order is None:
        return da
    places = np.arange(axis.size)
    if np.array_equal(axis.order, places[::-1]):
        return da.isel({axis.dim: slice(None, None, -1)})
    if np.array_equal(axis.order, np.roll(places, -axis.order[0])):
        # Two slices: picking by index would shuffle every chunk of the map.
        return da.roll({axis.dim: -int(axis.order[0])})
    return da.isel({axis.dim: axis.order})
