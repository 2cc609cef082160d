"""What a fine elevation model says about a coarser pixel: its mean height and its mean slope.

The slope is that of the ground at the resolution of the model, then averaged. The other way round,
the slope of mean heights, would be that of no ground, and always less.

Files
-----
Rasters in degrees or in a projection: Copernicus DEM, SRTM (whose tiles may say nothing of -32768,
their void), MERIT DEM, GMTED2010, PCRaster maps. Metres where the file has no unit.

At the rim of a tile a row of the fine pixels has no slope, for want of a neighbour. Pixels of the
lattice there have the mean of the others, if these are half of them or more; where the model is
about as coarse as the lattice they are missing. Give a mosaic of the tiles to have them all: a
Dataset with one ``band``, such as ``xr.combine_by_coords`` makes.

References
----------
Horn, B. K. P. (1981): Hill shading and the reflectance map. Proceedings of the IEEE 69 (1),
14-47, doi:10.1109/PROC.1981.11918: the slope from the eight neighbours.
Farr, T. G., et al. (2007): The Shuttle Radar Topography Mission. Reviews of Geophysics 45,
RG2004, doi:10.1029/2005RG000183.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import xarray as xr

from .. import regrid, schema, vocabulary
from ..grid import EARTH_RADIUS
from . import raw
from .opening import source_of
from .raster import band_of, crs_of, is_projected, on_lattice

__all__ = ["area_mean", "elevation", "slope"]

VOIDS = (-32768,)  # NASA, SRTM topography documentation (SRTM_Topo.pdf)
# Any part of a pixel that is missing makes it missing; but for rounding.
WHOLE = 1.0

TERMS = {
    r"copernicus_dsm|cop-?dem": {
        "source": "Copernicus DEM (ESA, Airbus). (c) DLR e.V. 2010-2014 and (c) Airbus Defence and "
        "Space GmbH 2014-2018 provided under COPERNICUS by the European Union and ESA; all rights "
        "reserved",
        "license": "Copernicus DEM licence",
        "references": "doi:10.5270/ESA-c5d3d65",
    },
    r"merit": {
        "source": "MERIT DEM (University of Tokyo)",
        "license": "CC-BY-NC-4.0 OR ODbL-1.0",
        "references": "doi:10.1002/2017GL072874",
    },
    r"gmted": {
        "source": "GMTED2010 (USGS, NGA)",
        "license": "public domain",
        "references": "doi:10.3133/ofr20111073",
    },
    r"srtm|^[ns]\d\d[ew]\d\d\d": {
        "source": "Shuttle Radar Topography Mission (NASA, USGS)",
        "license": "public domain",
        "references": "doi:10.1029/2005RG000183",
    },
}
"""Terms by what the name of a file says; the first that is found."""
UNKNOWN_TERMS = {
    "source": "an elevation model",
    "license": "that of the elevation model",
    "references": "doi:10.1109/PROC.1981.11918",
}


def elevation(ds: xr.Dataset, *, crs: Any = None) -> xr.Dataset:
    """Mean elevation and mean slope of the pixels of the lattice of 1/120 degree.

    Parameters
    ----------
    ds
        A raster, as `open_source` gives it, or a mosaic of several.
    crs
        Of a projected raster that does not say it, as ``pyproj.CRS`` takes it.

    Returns
    -------
    xarray.Dataset
        Conformed and lazy: ``elevation`` (latitude, longitude), m, and ``slope``, degree, of the
        pixels whose centres lie in the raster; NaN where less than half of a pixel is known.

    Raises
    ------
    SourceError
        If it holds no raster, or one that cannot be placed; when computed, if heights cannot be
        those of the Earth in the unit that the file says.
    """
    band = band_of(ds)
    heights = raw.numbers(band, missing=VOIDS)
    metres = vocabulary.convert(heights.assign_attrs(units=_units(band)), "m").astype(np.float32)
    crs = crs_of(ds, crs) if is_projected(band) else None
    angle = slope(metres)
    cube = xr.Dataset(
        {
            name: on_lattice(field.drop_attrs(), crs).assign_attrs(
                vocabulary.attributes(name),
                cell_methods="area: mean",
                comment="mean over the pixel of the elevation model's own pixels, by area",
            )
            for name, field in (("elevation", metres), ("slope", angle))
        }
    )
    return raw.checked(schema.conform(cube.assign_attrs(_attributes(ds))), source_of(ds))


def slope(elevation: xr.DataArray) -> xr.DataArray:
    """Slope angle of the ground, degree, by Horn's differences over the eight neighbours.

    Parameters
    ----------
    elevation
        m, on a regular grid: (latitude, longitude) in degrees, or (y, x) in metres. Lazy data stay
        lazy. In metres of a projection the slope is off by the error of its scale: 0.1 % at most
        in UTM.

    Returns
    -------
    xarray.DataArray
        Same dims, degree, float32; NaN at the rim, and where the pixel or one of its eight
        neighbours is missing.
    """
    rows, columns = elevation.dims[-2:]
    dy, dx = (_step(elevation[dim]) for dim in (rows, columns))
    run = np.ones(elevation.sizes[rows])
    if not is_projected(elevation):
        dy, dx = EARTH_RADIUS * np.deg2rad(dy), EARTH_RADIUS * np.deg2rad(dx)
        run = np.cos(np.deg2rad(elevation[rows].values.astype(float)))
    if elevation.chunks is None:
        return elevation.copy(data=_horn(elevation.values, run[:, None] * dx, dy))
    import dask.array

    z = elevation.data
    # As an array: a block has to know on which parallels its rows lie.
    across = dask.array.from_array(run * dx, z.chunks[-2])[:, None]
    across = dask.array.broadcast_to(across, z.shape[-2:], z.chunks[-2:])
    angle = dask.array.map_overlap(
        _horn, z, across, dy=dy, depth=1, boundary=np.nan, dtype=np.float32, meta=_NOTHING
    )
    return elevation.copy(data=angle)


_NOTHING = np.empty((0, 0), np.float32)


def area_mean(fine: xr.DataArray, latitude: xr.DataArray, longitude: xr.DataArray) -> xr.DataArray:
    """Mean of a fine field over each pixel of a coarser grid, all of which must be known.

    Parameters
    ----------
    fine
        (latitude, longitude) on a regular grid in degrees. Lazy data stay lazy.
    latitude, longitude
        Pixel centres of the coarser grid, regular, degrees, one-dimensional.

    Returns
    -------
    xarray.DataArray
        (latitude, longitude), float32, in the unit of `fine`; NaN in each pixel of which any part
        lies outside `fine` or on a missing pixel.
    """
    mean = regrid.conservative(fine, latitude.values, longitude.values, least=WHOLE)
    mean = mean.astype(np.float32).rename(fine.name)
    return mean.assign_coords(latitude=latitude, longitude=longitude)


def _units(band: xr.DataArray) -> str:
    said = str(raw.attribute(band, "units", "")).strip().lower()
    return {"": "m", "metre": "m", "meter": "m", "metres": "m", "meters": "m"}.get(said, said)


def _step(axis: xr.DataArray) -> float:
    values = axis.to_numpy().astype(float)
    return float(values[-1] - values[0]) / (values.size - 1)


def _horn(z: np.ndarray, across: np.ndarray, dy: float) -> np.ndarray:
    """Slopes of a field from the metres between columns, of each row, and between rows."""
    z = z.astype(np.float64)
    west, east = _smooth(z[..., :, :-2], axis=-2), _smooth(z[..., :, 2:], axis=-2)
    north, south = _smooth(z[..., :-2, :], axis=-1), _smooth(z[..., 2:, :], axis=-1)
    # Two pixels apart, on the parallel of the middle row and on the meridian.
    eastward = (east - west) / (2 * across[1:-1, : east.shape[-1]])
    gradient = np.hypot(eastward, (north - south) / (2 * dy))
    angle = np.full(z.shape, np.nan, np.float32)
    # The stencil skips the middle pixel: without it there is no ground to be steep.
    angle[..., 1:-1, 1:-1] = np.rad2deg(np.arctan(gradient)) + 0 * z[..., 1:-1, 1:-1]
    return angle


def _smooth(z: np.ndarray, axis: int) -> np.ndarray:
    z = np.moveaxis(z, axis, 0)
    return np.moveaxis((z[:-2] + 2 * z[1:-1] + z[2:]) / 4, 0, axis)


def _attributes(ds: xr.Dataset) -> dict[str, str]:
    name = source_of(ds).rpartition("/")[2].lower()
    terms = next((t for what, t in TERMS.items() if re.search(what, name)), UNKNOWN_TERMS)
    return {
        "title": "Elevation and slope at 1/120 degree",
        "summary": "Means over the pixels of the elevation, and of the slope of the fine grid.",
        **terms,
        "history": "xlsbc.cube.ingest.terrain.elevation: slope by Horn (1981), then area means",
    }
