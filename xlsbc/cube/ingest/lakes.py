"""Lakes: the share of each pixel that they cover, and how deep they are.

Files
-----
ERA5: lake cover ``cl`` (0 to 1) and lake depth ``dl`` (m), GRIB or netCDF, 0.25 degree.
Rasters of lake depth (Global Lake Database, 30 arc-seconds): metres, or decimetres where the file
says so; 0 or missing where there is no lake. Rasters of lake identifiers (HydroLAKES, burnt in):
above 0 in a lake, else 0, negative or missing. What a raster holds cannot be told by its numbers:
it is told by its name, or given.

References
----------
Choulga, M., et al. (2014): Estimation of the mean depth of boreal lakes for use in numerical
weather prediction and climate modelling. Tellus A 66, 21295, doi:10.3402/tellusa.v66.21295 (GLDB).
Messager, M. L., et al. (2016): Estimating the volume and age of water stored in global lakes using
a geo-statistical approach. Nature Communications 7, 13603, doi:10.1038/ncomms13603 (HydroLAKES).
"""

from __future__ import annotations

import re
from typing import Any, Literal, get_args

import numpy as np
import xarray as xr

from ...errors import SourceError
from .. import schema, vocabulary
from . import raw
from .opening import source_of
from .raster import crs_of, is_projected, on_lattice

__all__ = ["fraction"]

Content = Literal["fraction", "depth", "identifier"]

CONTENTS: dict[str, Content] = {
    r"^(cl|lake_?cover|lake_?fraction)$": "fraction",
    r"^(dl|lake_?depth|depth)$": "depth",
    r"hydrolakes|hylak|lake_?id": "identifier",
    r"gldb|lake_?depth": "depth",
    r"lake_?(cover|frac)": "fraction",
}
"""What a variable or a file holds, by its name; the first that is found."""

ERA5_DEPTH = "dl"
"""ERA5 has a depth everywhere, so that its lakes can be used where none are: it says no share."""

DEPTH = {"xlsbc_role": "static", "long_name": "mean depth of the lakes", "units": "m"}
PER_CENT = ("%", "percent", "per cent")
DEEPEST = 1700.0  # Lake Baikal, 1642 m

ATTRS = {
    "title": "Lakes at 1/120 degree",
    "summary": "Share of each pixel that lakes cover, and their mean depth where it is known.",
    "history": "xlsbc.cube.ingest.lakes.fraction: means over the pixels, by area",
}
TERMS = {
    "fraction": {
        "source": "ERA5 lake cover and depth. Contains modified Copernicus Climate Change Service "
        "information",
        "license": "Copernicus licence",
        "references": "doi:10.1002/qj.3803",
    },
    "depth": {
        "source": "Global Lake Database",
        "license": "that of the database",
        "references": "doi:10.3402/tellusa.v66.21295",
    },
    "identifier": {
        "source": "HydroLAKES",
        "license": "CC-BY-4.0",
        "references": "doi:10.1038/ncomms13603",
    },
}


def fraction(ds: xr.Dataset, *, content: Content | None = None, crs: Any = None) -> xr.Dataset:
    """Share of lakes, and their depth where the file has it, on the lattice of 1/120 degree.

    Parameters
    ----------
    ds
        A file as `open_source` gives it: ERA5 fields, or a raster.
    content
        What a raster holds: the share of lakes, their depth, or numbers of lakes; by the name of
        its variable or file if left out.
    crs
        Of a projected raster that does not say it.

    Returns
    -------
    xarray.Dataset
        Conformed and lazy: ``lake_fraction`` (latitude, longitude), 1, and ``lake_depth``, m, the
        mean over the lakes in the pixel, NaN without lakes. Where a depth or an identifier is
        missing there is no lake; where a share is missing, nothing is known.

    Raises
    ------
    SourceError
        If it cannot be told what the file holds; when computed, if a share is not one.
    """
    if content is not None and content not in get_args(Content):
        raise SourceError(f"content must be one of {', '.join(get_args(Content))}; not {content!r}")
    found = {name: _content(ds, name, content) for name in ds.data_vars}
    name_of = {what: str(name) for name, what in found.items() if what}
    fields = {what: _map(ds, name, crs) for what, name in name_of.items()}
    if not fields:
        held = ", ".join(map(str, ds.data_vars)) or "no variables"
        problem = (
            f"{source_of(ds)}: expected lake cover, depth or identifiers; found {held}, which says "
            "none of them; pass content="
        )
        raise SourceError("it cannot be told what is known of lakes here", [problem])
    parts: dict[str, xr.DataArray] = {}
    for what, (values, system) in fields.items():
        if what == "fraction":
            parts["lake_fraction"] = on_lattice(values, system)
            continue
        lake = values.where(values > 0)
        if what == "depth":
            # A pixel's depth is the mean over what lake there is, however little.
            parts["lake_depth"] = on_lattice(_within(lake, ds), system, least=0.0)
            if name_of[what] == ERA5_DEPTH:
                continue
        parts.setdefault("lake_fraction", on_lattice((values > 0).astype(np.float32), system))
    cube = xr.Dataset({name: da.drop_attrs() for name, da in parts.items()})
    for name in parts:
        attrs = vocabulary.attributes(name) if name in vocabulary.VOCABULARY else DEPTH
        cube[name] = cube[name].assign_attrs(attrs, cell_methods="area: mean")
    terms = TERMS["fraction" if ERA5_DEPTH in name_of.values() else next(iter(fields))]
    return raw.checked(schema.conform(cube.assign_attrs(ATTRS | terms)), source_of(ds), 1e-4)


def _content(ds: xr.Dataset, name: Any, given: Content | None) -> Content | None:
    if given is not None and len(ds.data_vars) == 1:
        return given
    names = [str(name)]
    if name == "band":
        file = source_of(ds).rpartition("/")[2].rpartition(".")[0]
        names = [str(ds[name].attrs.get("long_name", "")), file]
    told = (
        what
        for text in names
        for pattern, what in CONTENTS.items()
        if re.search(pattern, text, re.IGNORECASE)
    )
    return next(told, None)


def _map(ds: xr.Dataset, name: str, crs: Any) -> tuple[xr.DataArray, Any]:
    """A map and its coordinate reference system; values in 1 or m."""
    da = raw.numbers(ds[name])
    # ERA5's constant fields have a time that means nothing.
    da = da.squeeze([d for d in da.dims if da.sizes[d] == 1 and d not in _HORIZONTAL], drop=True)
    da = da.rename({old: new for old, new in _SHORT.items() if old in da.dims})
    said = str(da.attrs.get("units", ""))
    if said in ("dm", "decimetre", "decimeter", "decimeters", "decimetres"):
        da = da / np.float32(10.0)
    if said in PER_CENT:
        da = raw.from_per_cent(da, f"{source_of(ds)}, variable {name!r}")
    return da, crs_of(ds, crs) if is_projected(da) else None


_HORIZONTAL = ("latitude", "longitude", "lat", "lon", "y", "x")
_SHORT = {"lat": "latitude", "lon": "longitude"}


def _within(depth: xr.DataArray, ds: xr.Dataset) -> xr.DataArray:
    return xr.apply_ufunc(
        _possible,
        depth,
        kwargs={"file": source_of(ds)},
        dask="parallelized",
        output_dtypes=[depth.dtype],
    )


def _possible(depth: np.ndarray, file: str) -> np.ndarray:
    deepest = float(np.fmax.reduce(depth, axis=None, initial=0.0))
    if deepest > DEEPEST:
        problem = (
            f"{file}: expected depths of lakes up to {DEEPEST:g} m; found {deepest:g}; they are in "
            "another unit, such as decimetres: say so in units"
        )
        raise SourceError("values contradict their units", [problem])
    return depth
