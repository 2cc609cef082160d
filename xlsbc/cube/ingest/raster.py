"""A raster in any projection, brought to the pixels of the global lattice of 1/120 degree.

A raster is what `open_source` makes of a GeoTIFF or a PCRaster map: one variable ``band`` over
(latitude, longitude) or (y, x). Tiles of one product become fragments that do not overlap: a pixel
belongs to the tile that its centre lies in.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from ...errors import SourceError
from .. import native, regrid
from ..grid import spacing
from .opening import source_of

__all__ = ["band_of", "crs_of", "is_projected", "on_lattice"]

RIM = 65  # points along a side of a projected raster by which its box in degrees is found
TOUCH = 1e-9  # degrees within which a pixel's centre lies on the border of a raster
LEAST = 0.5  # share of a pixel's area that must be known

PROJECTED_DIMS, DIMS = ("y", "x"), ("latitude", "longitude")


def band_of(ds: xr.Dataset) -> xr.DataArray:
    """The one band of a raster, (latitude, longitude) or (y, x).

    Raises
    ------
    SourceError
        If there is none, or if there are several.
    """
    if "band" not in ds or ds["band"].dims not in (DIMS, PROJECTED_DIMS):
        found = f"dimensions {ds['band'].dims}" if "band" in ds else ", ".join(map(str, ds))
        problem = (
            f"{source_of(ds)}, variable 'band': expected one map; found {found or 'no variables'}; "
            "give a GeoTIFF or a PCRaster map of one band"
        )
        raise SourceError("there is no raster in it", [problem])
    return ds["band"]


def is_projected(band: xr.DataArray) -> bool:
    """Whether the raster is on a grid in metres."""
    return band.dims == PROJECTED_DIMS


def crs_of(ds: xr.Dataset, crs: Any = None) -> Any:
    """The coordinate reference system of a projected raster: what is given, or what it says.

    Raises
    ------
    SourceError
        If neither is there.
    """
    found = crs or (ds["band"].attrs.get("crs") if "band" in ds else None)
    if found is None:
        problem = (
            f"{source_of(ds)}: expected a coordinate reference system; found none to be read; "
            "pass crs=, such as 'EPSG:32632' or '+proj=igh' (SoilGrids)"
        )
        raise SourceError("the raster cannot be placed", [problem])
    return found


def on_lattice(
    values: xr.DataArray,
    crs: Any = None,
    *,
    target: tuple[np.ndarray, np.ndarray] | None = None,
    least: float = LEAST,
) -> xr.DataArray:
    """Area means over the pixels of the lattice whose centres lie in the raster.

    Parameters
    ----------
    values
        (latitude, longitude) in degrees, or (y, x) in metres of ``crs``; NaN means missing.
    crs
        Of a projected raster, as ``pyproj.CRS`` takes it.
    target
        Latitudes and longitudes of other pixels than those.
    least
        Share of a pixel's area that must be known.

    Returns
    -------
    xarray.DataArray
        (latitude, longitude), lazy, in the unit of ``values``; NaN where too little is known.
    """
    latitude, longitude = pixels(values, crs) if target is None else target
    if not latitude.size or not longitude.size:
        found = " x ".join(f"{n} {dim}" for dim, n in values.sizes.items())
        problem = (
            f"expected a raster that covers the centre of a pixel of 1/120 degree; found {found}"
        )
        raise SourceError("the raster is too small", [f"{problem}; give a larger piece"])
    if is_projected(values):
        return regrid.from_projected(values, crs, latitude, longitude, least=least)
    return regrid.conservative(values, latitude, longitude, least=least)


def pixels(values: xr.DataArray, crs: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """Pixel centres of the lattice that lie in the box of a raster, degrees."""
    west, south, east, north = _box(values, crs)
    latitude, longitude = regrid.axes(west, south, east, north)
    # Half-open, so that tiles that touch share no pixel; TOUCH settles centres on the border.
    inside = (latitude >= south - TOUCH) & (latitude < north - TOUCH)
    between = (longitude - west + TOUCH) % 360.0 < east - west
    return latitude[inside], longitude[between]


def _box(values: xr.DataArray, crs: Any) -> tuple[float, float, float, float]:
    if not is_projected(values):
        south, north = _ends(values["latitude"])
        west, east = _ends(values["longitude"])
        return west, max(south, -90.0), min(east, west + 360.0), min(north, 90.0)
    pyproj = native.pyproj()

    sides = [np.linspace(*_ends(values[dim]), RIM) for dim in ("x", "y")]
    # All of it and not the outline only: Homolosine is interrupted, and most of its rim is nowhere.
    x, y = np.meshgrid(*sides)
    to_degrees = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    lon, lat = (np.asarray(a) for a in to_degrees.transform(x, y))
    known = np.isfinite(lon) & np.isfinite(lat)
    if not known.any():
        raise SourceError(f"no point of the raster lies on the Earth in {crs}")
    # Round its middle, so that a raster across the date line stays in one piece.
    middle = lon[RIM // 2, RIM // 2] if known[RIM // 2, RIM // 2] else 0.0
    lon = middle + (lon[known] - middle + 180.0) % 360.0 - 180.0
    west, east, south, north = lon.min(), lon.max(), lat[known].min(), lat[known].max()
    if not known.all():
        # Its ends lie between points that are somewhere and points that are nowhere.
        dx, dy = 2 * (east - west) / RIM, 2 * (north - south) / RIM
        west, east = max(west - dx, middle - 180.0), min(east + dx, middle + 180.0)
        south, north = max(south - dy, -90.0), min(north + dy, 90.0)
    return float(west), float(south), float(east), float(north)


def _ends(axis: xr.DataArray) -> tuple[float, float]:
    values = axis.to_numpy().astype(float)
    half = abs(spacing(values, str(axis.name))) / 2
    return float(values.min() - half), float(values.max() + half)
