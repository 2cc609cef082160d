"""Regular latitude-longitude grids: where a pixel is and how large it is.

A conformed grid has its latitudes descending and its longitudes ascending, within -180..180 or on
past 180 where it crosses the date line.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import xarray as xr

from ..errors import GridError

__all__ = [
    "EARTH_RADIUS",
    "Extent",
    "Grid",
    "goes_around",
    "lattice_step",
    "position",
    "spacing",
]

EARTH_RADIUS = 6_371_229.0
"""Radius of the sphere that IFS computes on, m (GRIB2 code table 3.2, value 6)."""

# Part of a step by which a coordinate may miss its place: float32 at 1/120 degree misses by 0.2 %,
# four printed decimals by 0.6 %, a global Gaussian grid by 1.1 % or more.
TOLERANCE = 0.01


@dataclass(frozen=True)
class Grid:
    """A regular latitude-longitude grid, by pixel centres.

    Parameters
    ----------
    north, west
        Centre of the first pixel, degrees.
    dlat, dlon
        Steps, degrees, both positive.
    rows, columns
        Number of pixels.
    """

    north: float
    west: float
    dlat: float
    dlon: float
    rows: int
    columns: int

    @classmethod
    def of(cls, ds: xr.Dataset | xr.DataArray) -> Grid:
        """Target grid of a conformed cube.

        Raises
        ------
        GridError
            If there are no 1-D coordinates latitude and longitude, if one is irregular or runs
            the wrong way, or if there is one pixel only, which has no size.
        """
        missing = [name for name in ("latitude", "longitude") if name not in ds.indexes]
        if missing:
            raise GridError(
                f"no coordinate {' and '.join(missing)}; found dims "
                f"{', '.join(map(str, ds.sizes)) or 'none'}; conform the cube first"
            )
        latitude = ds["latitude"].to_numpy().astype(float)
        longitude = ds["longitude"].to_numpy().astype(float)
        dlat, dlon = lattice_step(latitude, "latitude"), lattice_step(longitude, "longitude")
        if dlat > 0 or dlon < 0:
            raise GridError("latitude must descend and longitude ascend; conform the cube first")
        if math.isnan(dlat) and math.isnan(dlon):
            raise GridError("a grid of one pixel has no resolution; pass at least two pixels")
        dlat = -dlon if math.isnan(dlat) else dlat
        dlon = -dlat if math.isnan(dlon) else dlon
        return cls(
            float(latitude[0]), float(longitude[0]), -dlat, dlon, latitude.size, longitude.size
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.rows, self.columns

    @property
    def resolution(self) -> tuple[float, float]:
        """Steps in latitude and longitude, degrees, both positive."""
        return self.dlat, self.dlon

    @property
    def latitude(self) -> np.ndarray:
        """Latitudes of the rows, degrees, float64, descending."""
        return self.north - self.dlat * np.arange(self.rows)

    @property
    def longitude(self) -> np.ndarray:
        """Longitudes of the columns, degrees, float64, ascending."""
        return self.west + self.dlon * np.arange(self.columns)

    @property
    def origin_index(self) -> tuple[int, int]:
        """Row and column of the first pixel on the global lattice anchored at 90 N, 180 W."""
        row = (90.0 - self.north) / self.dlat - 0.5
        column = (self.west + 180.0) / self.dlon - 0.5
        return _nearest(row), _nearest(column)

    def cell_area(self) -> xr.DataArray:
        """Area of a pixel in each row, m2.

        Returns
        -------
        xarray.DataArray
            ``(latitude,)``, float64: the exact zonal band of the sphere, cut at the poles.
        """
        centre = self.latitude
        upper = np.sin(np.deg2rad(np.minimum(centre + self.dlat / 2, 90.0)))
        lower = np.sin(np.deg2rad(np.maximum(centre - self.dlat / 2, -90.0)))
        return xr.DataArray(
            EARTH_RADIUS**2 * np.deg2rad(self.dlon) * (upper - lower),
            dims="latitude",
            coords={"latitude": centre},
            name="cell_area",
            attrs={"standard_name": "cell_area", "long_name": "area of a pixel", "units": "m2"},
        )


@dataclass(frozen=True)
class Extent:
    """Where a span of pixels, which may reach beyond an axis, is found on it.

    Parameters
    ----------
    parts
        Slices of the axis, in order; two where the span crosses the seam of a globe.
    before, after
        Pixels of the span that lie before and after the axis.
    """

    parts: tuple[slice, ...]
    before: int
    after: int

    @classmethod
    def of(cls, start: int, stop: int, size: int, *, around: bool) -> Extent:
        """Extent of pixels ``start .. stop`` on an axis of so many, which may go around."""
        if around:
            parts = []
            while start < stop:
                first = start % size
                last = min(size, first + stop - start)
                parts.append(slice(first, last))
                start += last - first
            return cls(tuple(parts), 0, 0)
        low, high = (min(max(edge, 0), size) for edge in (start, stop))
        before = min(max(-start, 0), stop - start)
        return cls((slice(low, high),), before, stop - start - before - (high - low))


def goes_around(grid: Grid) -> bool:
    """Whether a grid's last column is beside its first."""
    return abs(grid.columns * grid.dlon - 360.0) < grid.dlon / 2


def spacing(values: np.ndarray, name: str) -> float:
    """Signed step of a regular coordinate, degrees; NaN for a single value.

    Raises
    ------
    GridError
        If the values are not evenly spaced; says where.
    """
    if values.size < 2:
        return math.nan
    step = float((values[-1] - values[0]) / (values.size - 1))
    off = np.abs(values - (values[0] + step * np.arange(values.size)))
    # `not <=` and no `>`: NaN in a coordinate must not pass.
    if step == 0 or not off.max() <= TOLERANCE * abs(step):
        steps = np.diff(values)
        where = int(np.argmax(np.abs(steps - np.median(steps))))
        raise GridError(
            f"{name} must be evenly spaced; found steps from {steps.min():.6g} to "
            f"{steps.max():.6g} degrees, the oddest after {values[where]:.6g}; "
            "regrid to a regular grid first"
        )
    return step


def position(coarse: np.ndarray, fine: np.ndarray) -> np.ndarray:
    """Fractional index of fine coordinates in a regular coarse axis.

    Parameters
    ----------
    coarse
        Regular coordinates, degrees, ascending or descending.
    fine
        Any coordinates, degrees; longitudes may differ by whole turns.

    Returns
    -------
    numpy.ndarray
        float64, shape of ``fine``, within 0..len(coarse) - 1: outside the axis its end is taken.
    """
    first, last = float(coarse[0]), float(coarse[-1])
    if coarse.size == 1:
        return np.zeros(np.shape(fine))
    # Latitudes are never more than half a turn from the middle, so that they stay as they are.
    turns = np.round(((first + last) / 2 - np.asarray(fine, dtype=float)) / 360.0)
    step = (last - first) / (coarse.size - 1)
    return np.clip((fine + 360.0 * turns - first) / step, 0.0, coarse.size - 1.0)


def lattice_step(values: np.ndarray, name: str) -> float:
    """Step of a coordinate, as the simplest fraction of a degree that its precision allows.

    A few float32 pixels give 1/120 degree to four figures only, too few to count from 180 W.
    """
    step = spacing(values, name)
    if math.isnan(step):
        return step
    line = values[0] + step * np.arange(values.size)
    error = 1e-9 + 2 * np.abs(values - line).max()
    single = values.astype(np.float32)
    if (single == values).all():
        error += np.spacing(np.abs(single).max())
    for parts in range(1, 1001):
        fraction = round(step * parts) / parts
        if abs(fraction - step) * (values.size - 1) <= error and fraction != 0:
            return fraction
    return step


def _nearest(index: float) -> int:
    # Grids with pixels on the poles sit half way between lattice rows: all go the same way.
    return math.floor(index + 0.5 + TOLERANCE)
