"""Leaf area index of the Copernicus Global Land Service, 1 km and 300 m, every dekad.

Files
-----
``c_gls_LAI[-RTn]_YYYYMMDDHHMM_GLOBE_{VGT|PROBAV}_Vx.y.z.nc`` (1 km, version 2, 1999 to June 2020)
and ``c_gls_LAI300[-RTn]_..._{PROBAV|OLCI}_Vx.y.z.nc`` (300 m, from 2014), netCDF-4, layers LAI,
RMSE, NOBS, QFLAG, LENGTH_BEFORE and LENGTH_AFTER on (lat, lon) or (time, lat, lon).

Quirks
------
The coordinates are of pixel centres: the first pixel is centred on 80 N, 180 W, so the grid is
half a pixel off the lattice of whole degrees. The date is the last day of the dekad. The same dekad
comes up to seven times, as RT0 to RT6, each with more observations after its date. SPOT-VGT ends
in 2013 and PROBA-V begins in 2014, with a step in the record that is not corrected here.

References
----------
Verger, A., Baret, F., Weiss, M. (2014): Near real-time vegetation monitoring at global scale. IEEE
Journal of Selected Topics in Applied Earth Observations and Remote Sensing 7, 3473-3481,
doi:10.1109/JSTARS.2014.2328632.
Copernicus Global Land Operations: Product User Manual, Leaf Area Index, collection 1 km, version 2;
technical characteristics at land.copernicus.eu/global.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

from ...errors import SourceError, SourceWarning
from .. import schema, vocabulary
from ..times import read_times
from .opening import source_of
from .raw import attribute, checked, numbers, unsigned
from .source import FETCH_AGAIN

__all__ = ["dekad", "latest", "leaf_area", "placed", "stored"]

SCALE = 1 / 30  # PV = DN / 30: 210 is 7 (product user manual, table of layers)
VALID = (0, 210)
MISSING = 255
FILLED = 0b100
"""Bit 3 of QFLAG, the first being 1: no observation near the date, filled from other years."""

FINAL = 99
"""Rank of a file without -RTn in its name: the last consolidation leaves it out."""

NAME = re.compile(
    r"c_gls_(?P<layer>[A-Z]+?)(?P<metres>\d*)(?:-RT(?P<rank>\d))?(?:-[A-Z]+)?_(?P<date>\d{8})\d{4}"
    r"_(?P<area>\w+?)_(?P<sensor>[A-Z0-9]+)_V(?P<version>\d+(?:\.\d+)*)"
)
DATE = re.compile(r"_(\d{4})(0[1-9]|1[0-2])([0-2]\d|3[01])\d{4,6}(?=[_.]|$)")

ATTRIBUTES = {
    "title": "Leaf area index of the Copernicus Global Land Service",
    "summary": "Leaf area index each dekad, estimated from SPOT-VGT, PROBA-V or Sentinel-3 OLCI",
    "source": (
        "Copernicus Global Land Service, LAI. Generated using European Union's Copernicus Land "
        "Monitoring Service information"
    ),
    "references": "doi:10.1109/JSTARS.2014.2328632",
    "license": "Copernicus Land Monitoring Service data policy (free, full and open)",
    "history": "xlsbc.cube.ingest.cgls.leaf_area: digital numbers to leaf area index",
}


class File(NamedTuple):
    """What the name of a file says."""

    url: str
    product: str
    date: str
    area: str
    sensor: str
    rank: int
    version: tuple[int, ...]


def leaf_area(ds: xr.Dataset, *, filled: bool = True) -> xr.Dataset:
    """Leaf area index, (time, latitude, longitude), 1, on the product's own grid.

    Parameters
    ----------
    ds
        A file as `open_source` gives it: digital numbers, with the file's attributes.
    filled
        Keep what has no observation near its date and was filled from other years (bit 3 of QFLAG).

    Returns
    -------
    xarray.Dataset
        ``lai``, a part of a cube, float32, lazy; NaN where the digital number is above 210: 255 is
        missing, what is between them are flags. ``time`` is the first day of the dekad.

    Raises
    ------
    SourceError
        If there is no layer LAI (FAPAR and FCOVER are scaled otherwise), if its numbers were
        decoded on opening, if its scale is another one, or if the dekad cannot be told; all
        problems at once. When computed, if a value is impossible.

    Warns
    -----
    SourceWarning
        If the name and the time coordinate are of different dekads; that of the name is taken.
    """
    problems = _problems(ds, filled)
    if problems:
        raise SourceError("this is no leaf area index of Copernicus Global Land", problems)
    times, comment = dekad(ds)
    lai = numbers(ds["LAI"], valid=VALID, missing=[MISSING], scale=SCALE)
    if not filled:
        lai = lai.where((unsigned(ds["QFLAG"]) & FILLED) == 0)
        comment.append("values filled from other years are left out (bit 3 of QFLAG)")
    part = schema.conform(xr.Dataset({"lai": placed(lai, times, comment)}))
    return checked(part.assign_attrs(ATTRIBUTES), source_of(ds))


def latest(urls: list[str]) -> list[str]:
    """Of the consolidations of each dekad the newest, sorted by date.

    A file without -RTn is the final one; of two of the same rank the one of the newer version of
    the processing is kept.

    Parameters
    ----------
    urls
        Paths or URLs with the provider's names.

    Raises
    ------
    SourceError
        If a name is not the provider's, is of another variable, if there is more than one product,
        major version or area, or if a dekad has several sensors: all problems at once.
    """
    problems: list[str] = []
    files = [file for url in urls if (file := _read_name(url, problems)) is not None]
    kinds = sorted({f"{file.product} ({file.area})" for file in files})
    if len(kinds) > 1:
        problems.append(
            f"expected one product and one area; found {', '.join(kinds)}; give each its folder"
        )
    newest: dict[str, File] = {}
    for file in sorted(files, key=lambda file: (file.date, file.rank, file.version)):
        former = newest.get(file.date)
        if former is not None and former.sensor != file.sensor:
            problems.append(
                f"{former.url} and {file.url}: expected one sensor for the dekad {file.date}; "
                f"found {former.sensor} and {file.sensor}; keep one of them"
            )
        newest[file.date] = file
    if problems:
        raise SourceError("the newest files of the dekads cannot be told", problems)
    return [file.url for file in newest.values()]


def stored(ds: xr.Dataset, name: str) -> list[str]:
    """What keeps a layer from being read as digital numbers: it is absent, or decoded already."""
    where = f"{source_of(ds)}, variable {name!r}"
    if name not in ds.variables:
        held = ", ".join(repr(held) for held in ds.data_vars) or "no variables"
        return [f"{where}: expected it; found only {held}; use a file of leaf area"]
    if ds[name].dtype.kind not in "iu":
        return [
            f"{where}: expected whole numbers as stored; found {ds[name].dtype}, decoded on "
            "opening, so that flags are data; open it with xlsbc.cube.ingest.opening.open_source, "
            "or mask_and_scale=False"
        ]
    if ds[name].dtype == np.int8 and str(attribute(ds[name], "_Unsigned", "")).lower() != "true":
        return [
            f"{where}: expected bytes without a sign, or _Unsigned = 'true'; found int8, in which "
            f"numbers above 127 are below 0; {FETCH_AGAIN}"
        ]
    return []


def dekad(ds: xr.Dataset) -> tuple[np.ndarray, list[str]]:
    """First days of the dekads of a file, datetime64[ns], and remarks on them.

    By the provider's documentation the date of a file is that in its name. Files that hold several
    dekads, or have another name, are read by their coordinate ``time``.

    Raises
    ------
    SourceError
        If there is neither, or two times lie in the same dekad.

    Warns
    -----
    SourceWarning
        If name and coordinate are of different dekads.
    """
    where = source_of(ds)
    times = _coordinate(ds)
    named = DATE.search(where.rpartition("/")[2])
    said = None if times is None else _start(times)
    if said is not None and np.unique(said).size < said.size:
        problem = f"{where}, variable 'time': expected one time a dekad; found several; drop some"
        raise SourceError("a dekad is there more than once", [problem])
    if named is None or (said is not None and said.size > 1):
        if said is not None:
            return said, []
        problem = (
            f"{where}: expected a date in the name or a coordinate 'time'; found neither; give the "
            "file its provider's name"
        )
        raise SourceError("the dekad cannot be told", [problem])
    first = np.datetime64(f"{named[1]}-{named[2]}-01", "D")
    start = _start(np.array([first + int(named[3]) - 1]))
    if said is None or said[0] == start[0]:
        return start, []
    text = (
        f"{where}: its name says the dekad from {start[0]:.10}, its coordinate 'time' the one from "
        f"{said[0]:.10}; that of the name was taken"
    )
    warnings.warn(text, SourceWarning, stacklevel=3)
    return start, [text]


def placed(lai: xr.DataArray, times: np.ndarray, comment: Sequence[str]) -> xr.DataArray:
    """The field as variable lai at its dekads, without the file's attributes, ready to conform."""
    lai = lai.drop_vars("time", errors="ignore")
    lai = lai if "time" in lai.dims else lai.expand_dims("time")
    said = {"comment": "; ".join(comment)} if comment else {}
    return (
        lai.drop_attrs(deep=False)
        .assign_coords(time=times)
        .assign_attrs(vocabulary.attributes("lai") | said)
    )


def _problems(ds: xr.Dataset, filled: bool) -> list[str]:
    problems = stored(ds, "LAI")
    if "LAI" in ds.variables:
        scale = float(attribute(ds["LAI"], "scale_factor", SCALE))
        offset = float(attribute(ds["LAI"], "add_offset", 0.0))
        if not np.isclose(scale, SCALE, rtol=1e-3) or offset != 0.0:
            problems.append(
                f"{source_of(ds)}, variable 'LAI': expected scale_factor 1/30 and add_offset 0; "
                f"found {scale:g} and {offset:g}; {FETCH_AGAIN}, or read it with the recipe of its "
                "product"
            )
    return problems if filled else [*problems, *stored(ds, "QFLAG")]


def _coordinate(ds: xr.Dataset) -> np.ndarray | None:
    """Times of the coordinate; None where there is none that can be read."""
    if "time" not in ds.variables:
        return None
    stamps = np.ravel(ds["time"].values)
    times = read_times(xr.DataArray(stamps, dims="time", name="time", attrs=ds["time"].attrs))
    return times if isinstance(times, np.ndarray) else None


def _start(times: np.ndarray) -> np.ndarray:
    months = times.astype("datetime64[M]").astype("datetime64[D]")
    day = (times.astype("datetime64[D]") - months).astype(int)
    return (months + 10 * np.minimum(day // 10, 2)).astype("datetime64[ns]")


def _read_name(url: str, problems: list[str]) -> File | None:
    found = NAME.match(url.rpartition("/")[2])
    if found is None:
        problems.append(
            f"{url}: expected c_gls_LAI[-RTn]_YYYYMMDDHHMM_AREA_SENSOR_Vx.y.z.nc; found another "
            "name; give the file its provider's name"
        )
        return None
    if found["layer"] != "LAI":
        problems.append(f"{url}: expected LAI; found {found['layer']}; take it out of the folder")
        return None
    version = tuple(int(part) for part in found["version"].split("."))
    rank = FINAL if found["rank"] is None else int(found["rank"])
    product = f"{found['layer']}{found['metres']} V{version[0]}"
    return File(url, product, found["date"], found["area"], found["sensor"], rank, version)
