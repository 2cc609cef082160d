"""Means over the pixels of a grid from cells between parallels and meridians.

The area that two cells share is the product of what they share in longitude and in the sine of
latitude, exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import xarray as xr
from scipy import sparse

from .blocks import Window, centres, mean, regrid, result_type, side
from .lattice import STEP, Axis, pair
from .overlap import Overlap, Separable, intervals, overlap, window, zone


def conservative(
    da: xr.DataArray, latitude: np.ndarray, longitude: np.ndarray, *, least: float = 0.5
) -> xr.DataArray:
    """Mean of what is known over each pixel of another grid, weighted by area on the sphere.

    Parameters
    ----------
    da
        (..., latitude, longitude), any unit, on any rectilinear grid in degrees: either way round,
        0..360 or -180..180, even steps or not. Cells end half way between their centres, the
        outer ones half a step out, and at the poles. NaN means missing.
    latitude, longitude
        Pixel centres of the target, degrees, one-dimensional; longitudes may run past 180.
    least
        Share of a pixel's area that must be known, 0 to 1; of 0, any part will do.

    Returns
    -------
    xarray.DataArray
        (..., latitude, longitude), unit and attributes of `da`; float64 of float64, else float32.
        NaN where less than `least` of the pixel is known, so also outside the source. Dask data
        stay lazy: one task for each block of at most 1200 x 1200 pixels and each chunk of the
        other dims; it reads the chunks that its window lies in. The values do not depend on the
        chunks.

    Raises
    ------
    GridError
        If an axis does not ascend or descend, or has no size.
    """
    dtype = result_type(da)
    return regrid(
        da,
        ("latitude", "longitude"),
        Rectilinear.between(da, latitude, longitude),
        partial(mean, least=least, dtype=dtype),
        latitude,
        longitude,
        dtype=dtype,
    )


@dataclass(frozen=True)
class Rectilinear:
    """How cells between parallels and meridians share area.

    Parameters
    ----------
    y, x
        Axes of the source.
    latitude, longitude
        Axes of the target.
    side
        Target pixels along the side of a block.
    """

    y: Axis
    x: Axis
    latitude: Axis
    longitude: Axis
    side: int

    @classmethod
    def between(cls, da: xr.DataArray, latitude: np.ndarray, longitude: np.ndarray) -> Rectilinear:
        """From the grid of a field to another.

        Raises
        ------
        GridError
            As `conservative`.
        """
        source = pair(*centres(da, ("latitude", "longitude")))
        target = pair(np.asarray(latitude), np.asarray(longitude), step=STEP)
        return cls(*source, *target, side([axis.smallest() for axis in source], target))

    def windows(self, rows: slice, columns: slice) -> list[Window]:
        """What of the source a block of the target needs: twice where it crosses the seam."""
        south, north = _ends(_parallels(self.latitude.part(rows)))
        west, east = _ends(self.longitude.part(columns).edges())
        y = window(south, north, self._parallels)
        if y is None:
            return []
        low, high = _ends(self._meridians)
        found = []
        for turns in range(int(np.ceil((west - high) / 360)), int((east - low) // 360) + 1):
            x = window(west - 360 * turns, east - 360 * turns, self._meridians)
            if x is not None:
                found.append(Window(y, x, turns))
        return found

    def overlaps(self, rows: slice, columns: slice, window: Window) -> tuple[Overlap, Overlap]:
        """Overlaps of a block with one of its windows, along rows and along columns, degrees."""
        y = overlap(
            *intervals(_parallels(self.latitude.part(rows))),
            self._parallels[window.rows.start : window.rows.stop + 1],
        )
        west, east = intervals(self.longitude.part(columns).edges() - 360.0 * window.turns)
        edges = self._meridians[window.columns.start : window.columns.stop + 1]
        return y, overlap(west, east, edges)

    def weights(self, rows: slice, columns: slice, window: Window) -> Separable:
        """Areas that the block shares with one of its windows."""
        y, x = self.overlaps(rows, columns, window)
        return Separable(
            _matrix(y, zone(y.low, y.high), rows, window.rows),
            _matrix(x, x.high - x.low, columns, window.columns),
        )

    @property
    def _parallels(self) -> np.ndarray:
        return _parallels(self.y)

    @property
    def _meridians(self) -> np.ndarray:
        edges = self.x.edges()
        # A grid that repeats its first column as its last one has no cell beyond a full turn.
        return np.clip(edges, None, edges.min() + 360.0)


def _parallels(axis: Axis) -> np.ndarray:
    return np.clip(axis.edges(), -90.0, 90.0)


def _ends(edges: np.ndarray) -> tuple[float, float]:
    return float(edges.min()), float(edges.max())


def _matrix(pairs: Overlap, weight: np.ndarray, target: slice, source: slice) -> sparse.csr_matrix:
    shape = (target.stop - target.start, source.stop - source.start)
    return sparse.csr_matrix((weight, (pairs.target, pairs.source)), shape=shape)
