"""Leaf area index of the Copernicus Climate Change Service, satellite-lai-fapar, every dekad.

Files
-----
``c3s_LAI_YYYYMMDDHHMMSS_GLOBE_{AVHRR-NOAAn|VGT|PROBAV|...}_Vx.y.z.nc``, netCDF-4, layers LAI,
LAI_ERR and flags on (time, lat, lon). Version 0 is that of `xlsbc.cube.ingest.cgls`.

Quirks
------
Versions 0 and 1 are leaf area index. Versions 2 to 4 come from the two-stream inversion package
(TIP), which has no clumping: their *effective* leaf area index is that of a turbid medium with the
same albedo, lower than the leaf area of a clumped canopy. The two must not be mixed in a record.
Version 2 dates a dekad by its 3rd, 13th and about 23rd, the others by its last day. The coordinates
of version 4 are those of the pixels' western and southern edges.

References
----------
Copernicus Climate Data Store, doi:10.24381/cds.7e59b01a: versions, and which of them are effective.
Pinty, B., et al. (2006): Simplifying the interaction of land surfaces with radiation for relating
remote sensing products to climate models. Journal of Geophysical Research 111, D02116,
doi:10.1029/2005JD005952: effective values of a one-dimensional canopy.
Chen, J. M., Black, T. A. (1992): Defining leaf area index for non-flat leaves. Plant, Cell and
Environment 15, 421-429, doi:10.1111/j.1365-3040.1992.tb00992.x: effective = clumping x true.
"""

from __future__ import annotations

import re

import numpy as np
import xarray as xr

from ...errors import SourceError
from .. import schema, vocabulary
from . import cgls
from .opening import source_of
from .raw import attribute, checked, numbers, unsigned
from .source import FETCH_AGAIN

__all__ = ["leaf_area"]

FIRST_EFFECTIVE = 2  # documentation of the data set in the Climate Data Store

UNUSABLE = {"obs_is_fillvalue": 0x1, "tip_untrusted": 0x40, "obs_unusable": 0x80}
"""Bits of retrieval_flag that reject a value, from the flag_masks of files of version 4.

The others describe: obs_inconsistent is set nearly everywhere.
"""

LARGEST = vocabulary.VOCABULARY["lai"].valid_max
# 65534 steps of 10/65530, the largest number of version 4, are 10.0006.
PACKING = 1e-4

ATTRIBUTES = {
    "title": "Leaf area index of the Copernicus Climate Change Service",
    "references": "doi:10.24381/cds.7e59b01a",
    "license": "Copernicus product licence, as accepted in the Climate Data Store",
}
CREDIT = "Contains modified Copernicus Climate Change Service information"


def leaf_area(
    ds: xr.Dataset, *, clumping: float | None = None, clumping_source: str = ""
) -> xr.Dataset:
    """Leaf area index, (time, latitude, longitude), 1, on the product's own grid.

    Parameters
    ----------
    ds
        A file as `open_source` gives it: stored numbers, with the file's attributes.
    clumping
        Clumping index by which effective leaf area index, of versions 2 to 4, is divided to give
        leaf area index; more than 0, at most 1.
    clumping_source
        Where that factor is from, such as a DOI; kept in the comment of the variable.

    Returns
    -------
    xarray.Dataset
        ``lai``, a part of a cube, float32, lazy; NaN where the file's fill value or range says so,
        where the retrieval is unusable, and where the division gives more than 10. ``time`` is the
        first day of the dekad.

    Raises
    ------
    SourceError
        If it is effective leaf area index and there is no factor with its source, or the other way
        round; if the version cannot be told; if there is no layer LAI, or it was decoded on
        opening, or does not say how it is packed: all problems at once. When computed, if a value
        is impossible.

    Warns
    -----
    SourceWarning
        If the name and the time coordinate are of different dekads; that of the name is taken.
    """
    if source_of(ds).rpartition("/")[2].startswith("c_gls_"):
        return cgls.leaf_area(ds)
    version = _version(ds)
    problems = [*_packing_problems(ds), *_problems(ds, version, clumping, clumping_source)]
    if problems:
        raise SourceError("this is no leaf area index that can be used as such", problems)
    times, remarks = cgls.dekad(ds)
    lai = numbers(ds["LAI"])
    if "retrieval_flag" in ds.variables:
        flags = unsigned(ds["retrieval_flag"])
        lai = lai.where((flags & _unusable(flags)) == 0)
    if clumping is not None:
        lai = lai / np.float32(clumping)
        lai = lai.where(lai <= LARGEST)
        remarks.append(
            f"effective leaf area index divided by a clumping index of {clumping:g} "
            f"({clumping_source}); missing where that is more than {LARGEST:g}"
        )
    lai, moved = _on_centres(ds, lai, version)
    part = schema.conform(xr.Dataset({"lai": cgls.placed(lai, times, [*remarks, *moved])}))
    said = {
        "summary": f"Leaf area index each dekad, version {version}",
        "source": f"C3S satellite-lai-fapar, version {version}. {CREDIT}",
        "history": "xlsbc.cube.ingest.c3s_lai.leaf_area: stored numbers to leaf area index",
    }
    return checked(part.assign_attrs(ATTRIBUTES | said), source_of(ds), PACKING)


def _version(ds: xr.Dataset) -> int | None:
    """Major version, by the name of the file or its attributes; None if neither tells."""
    name = re.search(r"_V(\d)(?=[._]|$)", source_of(ds).rpartition("/")[2])
    if name:
        return int(name[1])
    for key in ("product_version", "version", "identifier", "id", "title"):
        said = re.search(r"(?:^|[\s_:])[Vv]?(\d)\.\d", str(ds.attrs.get(key, "")))
        if said:
            return int(said[1])
    return None


def _problems(
    ds: xr.Dataset, version: int | None, clumping: float | None, clumping_source: str
) -> list[str]:
    where = f"{source_of(ds)}, variable 'LAI'"
    said = str(attribute(ds["LAI"], "long_name", "")) if "LAI" in ds.variables else ""
    effective = "effective" in said.lower() or (version or 0) >= FIRST_EFFECTIVE
    if version is None and not effective:
        return [
            f"{where}: expected a version in the name of the file; found none, and versions from "
            "2 on are not leaf area; give the file its provider's name"
        ]
    if effective and clumping is None:
        return [
            f"{where}: expected leaf area index (versions 0 and 1); found effective leaf area index"
            f" ({said or f'version {version}'}), which is lower where leaves are clumped; use "
            "version 1 or the recipe cgls_lai, or pass clumping= and clumping_source="
        ]
    if clumping is None:
        return []
    problems = []
    if not effective:
        problems.append(f"{where}: expected no clumping index, as version {version} is true LAI")
    if not 0.0 < clumping <= 1.0:
        problems.append(f"{where}: expected a clumping index in 0..1; found {clumping:g}")
    if not clumping_source.strip():
        problems.append(f"{where}: expected the source of the clumping index; found none; name it")
    return problems


def _packing_problems(ds: xr.Dataset) -> list[str]:
    problems = cgls.stored(ds, "LAI")
    if "retrieval_flag" in ds.variables:
        problems += cgls.stored(ds, "retrieval_flag")
    if problems:
        return problems
    lai = ds["LAI"]
    if lai.dtype == np.int16 and str(attribute(lai, "_Unsigned", "")).lower() != "true":
        return [
            f"{source_of(ds)}, variable 'LAI': expected 16 bits without a sign, or _Unsigned = "
            "'true'; found int16, in which numbers above 32767 are below 0; "
            f"{FETCH_AGAIN}"
        ]
    needed = {
        "scale_factor": ("scale_factor",),
        "_FillValue or valid_range": ("_FillValue", "missing_value", "valid_range", "valid_max"),
    }
    return [
        f"{source_of(ds)}, variable 'LAI': expected {what}; found none; {FETCH_AGAIN}"
        for what, names in needed.items()
        if all(attribute(ds["LAI"], name) is None for name in names)
    ]


def _unusable(flags: xr.DataArray) -> int:
    """The bits that reject a value, as the file has them, else as version 4 has them."""
    meanings = str(attribute(flags, "flag_meanings", "")).split()
    masks = np.ravel(attribute(flags, "flag_masks", [])).tolist()
    stated = dict(zip(meanings, masks, strict=False))
    bits = 0
    for name, bit in UNUSABLE.items():
        bits |= int(stated.get(name, bit))
    return bits


def _on_centres(
    ds: xr.Dataset, lai: xr.DataArray, version: int | None
) -> tuple[xr.DataArray, list[str]]:
    """The field on pixel centres, where the file's GeoTransform tells that it is on edges."""
    text = attribute(ds["crs"], "GeoTransform") if "crs" in ds.variables else None
    if text is None:
        return lai, []
    west, width, _, north, _, height = (float(number) for number in str(text).split())
    # The western edge; the southern one in version 4, else the northern, as GDAL counts.
    half = {"lon": width / 2, "lat": -height / 2 if version == 4 else height / 2}
    moved = []
    for name, origin, step in (("lon", west, width), ("lat", north, height)):
        if name not in lai.indexes:
            continue
        place = (float(lai[name][0]) - origin) / step
        if abs(place - round(place)) < 0.25:  # a centre would be half a pixel off
            lai = lai.assign_coords({name: (name, lai[name].values + half[name], lai[name].attrs)})
            moved.append(name)
    text = f"{' and '.join(moved)} moved from pixel edges to centres, as GeoTransform has them"
    return lai, [text] if moved else []
