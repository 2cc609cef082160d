"""Means over pixels from a grid in any map projection."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from scipy import sparse

from .. import native
from .blocks import Window, centres, mean, regrid, result_type
from .lattice import STEP, Axis, pair
from .overlap import AT_ONCE, Matrix, intervals

# Points along a side of a block, by which its window of the source is found.
RIM = 33

# Parts of a target pixel that a sub-pixel must not exceed, in either direction.
PARTS = 8

# Cosine of latitude from which on pixels count as no narrower, 84 degrees: towards the pole the
# number of parts would go to infinity.
NARROWEST = 0.1

# Source cells along the side of a window: the weights of each of them are held at once.
REACH = 2048
LARGEST_SIDE = 512


def from_projected(
    da: xr.DataArray, crs: Any, latitude: np.ndarray, longitude: np.ndarray, *, least: float = 0.5
) -> xr.DataArray:
    """Mean of what is known over each pixel, from a field in any map projection.

    Each source cell is cut into equal parts, none larger than an eighth of a target pixel in
    either direction, and each part counts where its centre lies. A part's area is that of its cell
    on the sphere, from its corners, whatever the projection does to areas. So the mean of a pixel
    is off by what lies in parts along its rim, and the share that is known by a few per cent:
    `least` of 1 would leave out whole pixels; 0.8 does not. Beyond 84 degrees of latitude parts
    grow no smaller, pixels do: there, means are rougher, and narrow pixels may stay missing.

    Parameters
    ----------
    da
        (..., y, x), any unit; ``y`` and ``x`` are pixel centres, evenly spaced, in the unit of
        the projection. NaN means missing.
    crs
        What ``pyproj.CRS`` takes: an EPSG code, WKT, a PROJ string.
    latitude, longitude
        Pixel centres of the target, degrees, one-dimensional; longitudes may run past 180.
    least
        Share of a pixel's area that must be known, 0 to 1; of 0, any part will do.

    Returns
    -------
    xarray.DataArray
        (..., latitude, longitude), as of `conservative`, in smaller blocks.

    Raises
    ------
    ImportError
        If pyproj is not there.
    GridError
        If an axis does not ascend or descend, or has no size.
    """
    dtype = result_type(da)
    source = pair(*centres(da, ("y", "x")), ("y", "x"))
    target = pair(np.asarray(latitude), np.asarray(longitude), step=STEP)
    scheme = Projected.between(source, target, native.pyproj().CRS.from_user_input(crs).to_wkt())
    compute = partial(mean, least=least, dtype=dtype)
    return regrid(da, ("y", "x"), scheme, compute, latitude, longitude, dtype=dtype)


@dataclass(frozen=True)
class Projected:
    """How cells of a projection and pixels between parallels and meridians share area.

    Parameters
    ----------
    y, x
        Axes of the source, in the unit of the projection.
    latitude, longitude
        Axes of the target, degrees.
    crs
        WKT of the projection.
    side
        Target pixels along the side of a block.
    """

    y: Axis
    x: Axis
    latitude: Axis
    longitude: Axis
    crs: str
    side: int = LARGEST_SIDE

    @classmethod
    def between(cls, source: tuple[Axis, Axis], target: tuple[Axis, Axis], crs: str) -> Projected:
        """With blocks as large as the resolution of the source allows."""
        scheme = cls(*source, *target, crs)
        middle = [slice(axis.size // 2, axis.size // 2 + 1) for axis in source]
        cell = scheme._cell(Window(middle[0], middle[1]))
        pixel = max(np.deg2rad(np.abs(np.diff(axis.edges())).max()) for axis in target)
        side = int(np.clip(REACH * cell / pixel, 1, LARGEST_SIDE)) if cell > 0 else LARGEST_SIDE
        return cls(*source, *target, crs, side)

    def windows(self, rows: slice, columns: slice) -> list[Window]:
        """What of the source a block of the target needs, by the places of points all over it."""
        parallels = np.clip(self.latitude.part(rows).edges()[[0, -1]], -90.0, 90.0)
        meridians = self.longitude.part(columns).edges()[[0, -1]]
        x, y = _from_degrees(self.crs).transform(
            *np.meshgrid(_between(meridians), _between(parallels))
        )
        there = np.isfinite(x) & np.isfinite(y)
        if not there.any():
            return []
        cells = [_around(a, v[there]) for a, v in zip((self.y, self.x), (y, x), strict=True)]
        return [Window(cells[0], cells[1])] if all(c.start < c.stop for c in cells) else []

    def weights(self, rows: slice, columns: slice, window: Window) -> Matrix:
        """Areas that the block shares with its window."""
        latitude, longitude = self.latitude.part(rows), self.longitude.part(columns)
        cell, pixel = self._cell(window), _pixel(latitude, longitude)
        parts = max(math.ceil(PARTS * cell / pixel), 1) if cell > 0 else 1
        facet = max(int(pixel / cell), 1) if cell > 0 else 1
        height, width = (cells.stop - cells.start for cells in window[:2])
        at_once = max(AT_ONCE // (width * parts**2) // facet, 1) * facet
        found = []
        for first in range(0, height, at_once):
            some = slice(
                window.rows.start + first, window.rows.start + min(first + at_once, height)
            )
            where, area = self._parts(Window(some, window.columns), parts, facet)
            target = _pixels(where, latitude, longitude)
            source = np.add.outer(
                (first + np.arange(where.shape[0]) // parts) * width,
                np.arange(where.shape[1]) // parts,
            )
            inside = (target >= 0) & np.isfinite(area)
            triple = target[inside], source[inside], area[inside]
            found.append(_together(*triple, height * width) if parts > 1 else triple)
        target, source, area = (np.concatenate(a) for a in zip(*found, strict=True))
        shape = (latitude.size, longitude.size)
        size = (shape[0] * shape[1], height * width)
        return Matrix(sparse.csr_matrix((area, (target, source)), shape=size), shape)

    def _parts(self, cells: Window, parts: int, facet: int) -> tuple[np.ndarray, np.ndarray]:
        """Centres of the parts of some cells (y, x, 3) on the unit sphere, and their areas.

        The projection is computed at the corners of facets, of one cell or of some that make no
        more than a pixel together; within them it is taken as bilinear.
        """
        y, x = self.y.part(cells.rows), self.x.part(cells.columns)
        below, above, v = _lerp(y.size, parts, facet)
        left, right, u = _lerp(x.size, parts, facet)
        rows, columns = np.union1d(below, above), np.union1d(left, right)
        corners = self._on_sphere(y.edges()[rows], x.edges()[columns])
        diagonals = corners[1:, 1:] - corners[:-1, :-1], corners[1:, :-1] - corners[:-1, 1:]
        area = np.linalg.norm(np.cross(*diagonals), axis=-1) / 2
        area /= np.outer(np.diff(rows), np.diff(columns)) * parts**2
        below, above = np.searchsorted(rows, below), np.searchsorted(rows, above)
        left, right = np.searchsorted(columns, left), np.searchsorted(columns, right)
        along = corners[:, left] * (1 - u)[:, None] + corners[:, right] * u[:, None]
        where = along[below] * (1 - v)[:, None, None] + along[above] * v[:, None, None]
        # As `pixel_area` counts: longitudes in degrees.
        return where, np.rad2deg(area[below][:, left])

    def _on_sphere(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Points of the unit sphere, (y, x, 3); NaN where there is no earth."""
        degrees = _from_degrees(self.crs).transform(*np.meshgrid(x, y), direction="INVERSE")
        longitude, latitude = np.deg2rad(np.where(np.isfinite(degrees), degrees, np.nan))
        level = np.cos(latitude)
        return np.stack(
            [level * np.cos(longitude), level * np.sin(longitude), np.sin(latitude)], axis=-1
        )

    def _cell(self, window: Window) -> float:
        """Largest side of a window's cells, by some of them, rad; 0 where there is no earth."""
        y, x = self.y.part(window.rows), self.x.part(window.columns)
        sizes = [0.0]
        for i in np.unique(np.linspace(0, y.size - 1, RIM).astype(int)):
            some = np.unique(np.linspace(0, x.size - 1, RIM).astype(int))
            near = self._on_sphere(y.edges()[[i, i + 1]], x.edges()[some])
            far = self._on_sphere(y.edges()[[i]], x.edges()[some + 1])
            chords = np.stack([near[1] - near[0], far[0] - near[0]])
            lengths = np.linalg.norm(chords, axis=-1)
            sizes += lengths[np.isfinite(lengths)].tolist()
        return max(sizes)


@functools.lru_cache(maxsize=16)
def _from_degrees(crs: str) -> Any:
    return native.pyproj().Transformer.from_crs("OGC:CRS84", crs, always_xy=True)


def _around(axis: Axis, values: np.ndarray) -> slice:
    """Cells about values, some more on either side: between points the rim of a block is bent."""
    lowest, highest = float(values.min()), float(values.max())
    edges = axis.edges()
    spare = 2 * np.abs(np.diff(edges)).max() + (highest - lowest) / RIM
    low, high = intervals(edges)
    cells = np.flatnonzero((high > lowest - spare) & (low < highest + spare))
    return slice(int(cells[0]), int(cells[-1]) + 1) if cells.size else slice(0, 0)


def _between(ends: np.ndarray) -> np.ndarray:
    return np.linspace(ends[0], ends[1], RIM)


def _pixel(latitude: Axis, longitude: Axis) -> float:
    """Smallest side of the pixels, rad."""
    edges = np.clip(latitude.edges(), -90.0, 90.0)
    middle = np.deg2rad((edges[:-1] + edges[1:]) / 2)
    width = np.abs(np.diff(longitude.edges())).min() * max(np.cos(middle).min(), NARROWEST)
    return float(np.deg2rad(min(np.abs(np.diff(edges)).min(), width)))


def _lerp(cells: int, parts: int, facet: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Edges below and above each part of the cells, a facet apart, and its place between."""
    centre = (np.arange(cells * parts) + 0.5) / parts
    below = (centre // facet).astype(int) * facet
    above = np.minimum(below + facet, cells)
    return below, above, (centre - below) / (above - below)


def _pixels(where: np.ndarray, latitude: Axis, longitude: Axis) -> np.ndarray:
    """Number of the pixel that each point lies in, -1 outside."""
    x, y, z = np.moveaxis(where, -1, 0)
    west = longitude.edges().min()
    meridian = west + np.mod(np.rad2deg(np.arctan2(y, x)) - west, 360.0)
    row = latitude.cells(np.rad2deg(np.arctan2(z, np.hypot(x, y))))
    column = longitude.cells(meridian)
    return np.where((row >= 0) & (column >= 0), row * longitude.size + column, -1)


def _together(
    target: np.ndarray, source: np.ndarray, area: np.ndarray, sources: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Areas of all parts of one cell that lie in one pixel as one."""
    pairs, place = np.unique(target * sources + source, return_inverse=True)
    return pairs // sources, pairs % sources, np.bincount(place, area, pairs.size)
