"""Means over pixels from the sinusoidal grid of MODIS.

Its rows are bands between parallels; within one, x goes with longitude and the cosine of latitude.

References
----------
Snyder, J. P. (1987): Map projections, a working manual. USGS Professional Paper 1395, eq. 30-1 and
30-2. NASA (2019): MODIS land products, grid of 36 x 18 tiles on a sphere of 6371007.181 m.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import xarray as xr
from scipy import sparse

from .blocks import Window, centres, mean, regrid, result_type, side
from .lattice import STEP, Axis, pair
from .overlap import Matrix, intervals, overlap, window, zone

# Source cells along the side of a window: the weights of each row of them are its own.
REACH = 1500


def from_sinusoidal(
    da: xr.DataArray,
    latitude: np.ndarray,
    longitude: np.ndarray,
    *,
    least: float = 0.5,
    radius: float = 6371007.181,
) -> xr.DataArray:
    """Mean of what is known over each pixel, from a field on a sinusoidal grid.

    A target pixel is cut at the edges of the source rows; in each of these bands the source cells
    are intervals of longitude, by the cosine of the middle of the band. Areas are those of the
    cells; their slant is not: at the rims of a band of 500 m they lie up to 1 % of a cell aside
    for each degree from the meridian of 0, on one rim to the east and on the other to the west.

    Parameters
    ----------
    da
        (..., y, x), any unit; ``y`` and ``x`` are pixel centres in m of the projection about the
        meridian of 0. NaN means missing.
    latitude, longitude
        Pixel centres of the target, degrees, one-dimensional; longitudes may run past 180.
    least
        Share of a pixel's area that must be known, 0 to 1; of 0, any part will do.
    radius
        Of the sphere, m.

    Returns
    -------
    xarray.DataArray
        (..., latitude, longitude), as of `conservative`.

    Raises
    ------
    GridError
        If an axis does not ascend or descend, or has no size.
    """
    dtype = result_type(da)
    source = pair(*centres(da, ("y", "x")), ("y", "x"))
    target = pair(np.asarray(latitude), np.asarray(longitude), step=STEP)
    metres = np.deg2rad(radius)
    finest = [axis.smallest() / metres for axis in source]
    scheme = Sinusoidal(*source, *target, radius, side(finest, target, REACH))
    compute = partial(mean, least=least, dtype=dtype)
    return regrid(da, ("y", "x"), scheme, compute, latitude, longitude, dtype=dtype)


@dataclass(frozen=True)
class Sinusoidal:
    """How sinusoidal cells and pixels between parallels and meridians share area.

    Parameters
    ----------
    y, x
        Axes of the source, m.
    latitude, longitude
        Axes of the target, degrees.
    radius
        Of the sphere, m.
    side
        Target pixels along the side of a block.
    """

    y: Axis
    x: Axis
    latitude: Axis
    longitude: Axis
    radius: float
    side: int

    def windows(self, rows: slice, columns: slice) -> list[Window]:
        """What of the source a block of the target needs: one for each turn that it touches."""
        parallels = np.clip(self.latitude.part(rows).edges(), -90.0, 90.0)
        south, north = float(parallels.min()), float(parallels.max())
        y = window(south, north, self._parallels)
        if y is None:
            return []
        widest = 0.0 if south <= 0.0 <= north else min(abs(south), abs(north))
        scales = self._scale(np.array([widest, max(abs(south), abs(north))]))
        meridians = self.longitude.part(columns).edges()
        found = []
        first, last = (meridians.min() + 180) // 360, (meridians.max() + 180) // 360
        for turns in range(int(first), int(last) + 1):
            ends = self._within(meridians, turns)[[0, -1]]
            reach = np.outer(scales, ends)
            x = window(float(reach.min()), float(reach.max()), self.x.edges())
            if x is not None:
                found.append(Window(y, x, turns))
        return found

    def weights(self, rows: slice, columns: slice, window: Window) -> Matrix:
        """Areas that the block shares with one of its windows."""
        parallels = np.clip(self.latitude.part(rows).edges(), -90.0, 90.0)
        y = overlap(
            *intervals(parallels), self._parallels[window.rows.start : window.rows.stop + 1]
        )
        scale = self._scale((y.low + y.high) / 2)[:, None]
        west, east = intervals(self._within(self.longitude.part(columns).edges(), window.turns))
        x = overlap(
            (scale * west).ravel(), (scale * east).ravel(), self.x.part(window.columns).edges()
        )
        band, column = np.divmod(x.target, west.size)
        weight = (zone(y.low, y.high) / scale[:, 0])[band] * (x.high - x.low)
        height, width = (cells.stop - cells.start for cells in window[:2])
        shape = (rows.stop - rows.start, west.size)
        target = y.target[band] * west.size + column
        source = y.source[band] * width + x.source
        size = (shape[0] * shape[1], height * width)
        return Matrix(sparse.csr_matrix((weight, (target, source)), shape=size), shape)

    @property
    def _parallels(self) -> np.ndarray:
        return np.clip(np.rad2deg(self.y.edges() / self.radius), -90.0, 90.0)

    def _scale(self, latitude: np.ndarray) -> np.ndarray:
        """Metres of x for each degree of longitude."""
        return self.radius * np.deg2rad(np.cos(np.deg2rad(latitude)))

    def _within(self, meridians: np.ndarray, turns: int) -> np.ndarray:
        """Meridians less some turns, cut at the date line: there is no earth beyond it."""
        return np.clip(meridians - 360.0 * turns, -180.0, 180.0)
