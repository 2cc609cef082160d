"""What a fine elevation model says about a coarser pixel: its mean height and its mean slope.

References
----------
Horn, B. K. P. (1981): Hill shading and the reflectance map. Proceedings of the IEEE 69 (1),
14-47, doi:10.1109/PROC.1981.11918: the slope from the eight neighbours.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from ..grid import EARTH_RADIUS

# A pixel counts as covered when all but rounding of its area is.
COVERED = 1.0 - 1e-9


def slope(elevation: xr.DataArray) -> xr.DataArray:
    """Slope angle of the ground, degree, by Horn's differences over the eight neighbours.

    Parameters
    ----------
    elevation
        (latitude, longitude), m, on a regular grid in degrees. Lazy data stay lazy.

    Returns
    -------
    xarray.DataArray
        (latitude, longitude), degree, float32; NaN at the rim, and where the pixel or one of its
        eight neighbours is missing.
    """
    latitude = np.deg2rad(elevation["latitude"].values)
    longitude = np.deg2rad(elevation["longitude"].values)
    return xr.apply_ufunc(
        _horn,
        elevation,
        input_core_dims=[["latitude", "longitude"]],
        output_core_dims=[["latitude", "longitude"]],
        kwargs={"latitude": latitude, "longitude": longitude},
        dask="parallelized",
        output_dtypes=[np.float32],
    )


def area_mean(fine: xr.DataArray, latitude: xr.DataArray, longitude: xr.DataArray) -> xr.DataArray:
    """Mean of a fine field over each pixel of a coarser grid, weighted by area on the sphere.

    Pixels of the two grids need not line up: a fine pixel counts by the area it shares.

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
    rows = _overlap(_sine_edges(latitude.values), _sine_edges(fine["latitude"].values))
    columns = _overlap(_edges(longitude.values), _edges(fine["longitude"].values))
    mean = xr.apply_ufunc(
        _weighted_mean,
        fine,
        input_core_dims=[["latitude", "longitude"]],
        output_core_dims=[["latitude", "longitude"]],
        exclude_dims={"latitude", "longitude"},
        kwargs={"rows": rows, "columns": columns},
        dask="parallelized",
        output_dtypes=[np.float32],
        dask_gufunc_kwargs={
            "output_sizes": {"latitude": latitude.size, "longitude": longitude.size}
        },
    )
    return mean.assign_coords(latitude=latitude, longitude=longitude)


def _horn(z: np.ndarray, latitude: np.ndarray, longitude: np.ndarray) -> np.ndarray:
    z = z.astype(np.float64)
    west, east = _smooth(z[..., :, :-2], axis=-2), _smooth(z[..., :, 2:], axis=-2)
    north, south = _smooth(z[..., :-2, :], axis=-1), _smooth(z[..., 2:, :], axis=-1)
    # Two pixels apart, on the parallel of the middle row and on the meridian.
    east_west = EARTH_RADIUS * np.cos(latitude[1:-1, None]) * (longitude[2:] - longitude[:-2])
    south_north = EARTH_RADIUS * (latitude[:-2] - latitude[2:])[:, None]
    gradient = np.hypot((east - west) / east_west, (north - south) / south_north)
    angle = np.full(z.shape, np.nan, np.float32)
    # The stencil skips the middle pixel: without it there is no ground to be steep.
    angle[..., 1:-1, 1:-1] = np.rad2deg(np.arctan(gradient)) + 0 * z[..., 1:-1, 1:-1]
    return angle


def _smooth(z: np.ndarray, axis: int) -> np.ndarray:
    z = np.moveaxis(z, axis, 0)
    return np.moveaxis((z[:-2] + 2 * z[1:-1] + z[2:]) / 4, 0, axis)


def _weighted_mean(fine: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    known = np.isfinite(fine)
    covered = rows @ known @ columns.T
    total = rows @ np.where(known, fine, 0.0) @ columns.T
    return np.where(covered >= COVERED, total, np.nan).astype(np.float32)


def _overlap(coarse: np.ndarray, fine: np.ndarray) -> np.ndarray:
    """Share of each coarse interval that each fine one covers, (coarse, fine), from ends."""
    low = np.maximum(coarse[:, 0, None], fine[None, :, 0])
    high = np.minimum(coarse[:, 1, None], fine[None, :, 1])
    return np.clip(high - low, 0.0, None) / (coarse[:, 1] - coarse[:, 0])[:, None]


def _edges(centres: np.ndarray) -> np.ndarray:
    half = abs(float(centres[-1] - centres[0])) / (centres.size - 1) / 2
    return np.stack([centres - half, centres + half], axis=1)


def _sine_edges(latitude: np.ndarray) -> np.ndarray:
    # Area between two parallels goes with the difference of their sines.
    return np.sin(np.deg2rad(_edges(latitude)))
