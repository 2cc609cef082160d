"""The global pixel lattice of the synthetic world and noise that lives on it.

Every random number is a hash of a place on the lattice (and of a seed and a name), never a draw
from a stream: a region cut out of the world therefore holds the same values as the world.

References
----------
Steele, Lea & Flood, 2014, Fast splittable pseudorandom number generators, OOPSLA '14 (SplitMix64,
the finaliser used as a hash), doi:10.1145/2660193.2660195.
Perlin, 2002, Improving noise, SIGGRAPH '02 (the quintic fade curve), doi:10.1145/566654.566636.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

PIXELS_PER_DEGREE = 120  # the 1/120 degree target grid, about 1 km
CELL = 30  # target pixels along the side of a 0.25 degree (ERA5, LUH2) cell
ROWS, COLUMNS = 180 * PIXELS_PER_DEGREE, 360 * PIXELS_PER_DEGREE

_GOLDEN, _MIX_A, _MIX_B, _COLUMN = (
    0x9E3779B97F4A7C15,
    0xBF58476D1CE4E5B9,
    0x94D049BB133111EB,
    0xC2B2AE3D27D4EB4F,
)


@dataclass(frozen=True)
class Extent:
    """A box of lattice points, counted from 90 N and 180 W; columns may run past the date line.

    ``per_degree`` says which lattice: 120 for pixels, 4 for the 0.25 degree cells.
    """

    row: int
    column: int
    height: int
    width: int
    per_degree: int = PIXELS_PER_DEGREE

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and columns."""
        return self.height, self.width

    @property
    def rows(self) -> np.ndarray:
        """Global row numbers, int64."""
        return np.arange(self.row, self.row + self.height)

    @property
    def columns(self) -> np.ndarray:
        """Global column numbers, int64; not wrapped at the date line."""
        return np.arange(self.column, self.column + self.width)

    @property
    def latitude(self) -> np.ndarray:
        """Latitudes of the centres, degrees north, float64, descending."""
        return 90 - (self.rows + 0.5) / self.per_degree

    @property
    def longitude(self) -> np.ndarray:
        """Longitudes of the centres, degrees east, float64, ascending."""
        return (self.columns + 0.5) / self.per_degree - 180

    def padded(self, margin: int) -> Extent:
        """Box grown by ``margin`` points on each side."""
        return Extent(
            self.row - margin,
            self.column - margin,
            self.height + 2 * margin,
            self.width + 2 * margin,
            self.per_degree,
        )

    def cells(self) -> Extent:
        """Cells of 0.25 degree that a box of pixels touches."""
        first_row, first_column = self.row // CELL, self.column // CELL
        return Extent(
            first_row,
            first_column,
            -(-(self.row + self.height) // CELL) - first_row,
            -(-(self.column + self.width) // CELL) - first_column,
            PIXELS_PER_DEGREE // CELL,
        )

    def pixels(self) -> Extent:
        """Pixels inside a box of 0.25 degree cells."""
        return Extent(self.row * CELL, self.column * CELL, self.height * CELL, self.width * CELL)

    def within(self, other: Extent) -> tuple[slice, slice]:
        """Slices that cut this box out of an array over ``other``."""
        row, column = self.row - other.row, self.column - other.column
        return slice(row, row + self.height), slice(column, column + self.width)


def key(seed: int, *names: str | int) -> int:
    """Key of 64 bits for the noise called ``names`` in the world ``seed``."""
    state = (seed * _GOLDEN + 1) % 2**64
    for name in names:
        number = name if isinstance(name, int) else zlib.crc32(name.encode())
        state = ((state ^ (number % 2**64)) * _MIX_A + _GOLDEN) % 2**64
        state ^= state >> 31
    return state


def hashed(rows: np.ndarray, columns: np.ndarray, key: int) -> np.ndarray:
    """One uint64 for each pair of a row and a column: ``(len(rows), len(columns))``."""
    # Unsigned arithmetic wraps, which is what a hash wants; arrays (not scalars) wrap silently.
    state = rows.astype(np.uint64)[:, None] * np.array([_GOLDEN], np.uint64)
    state = state + columns.astype(np.uint64)[None, :] * np.array([_COLUMN], np.uint64)
    state += np.array([key % 2**64], np.uint64)
    state ^= state >> np.uint64(30)
    state *= np.uint64(_MIX_A)
    state ^= state >> np.uint64(27)
    state *= np.uint64(_MIX_B)
    state ^= state >> np.uint64(31)
    return state


def uniform_noise(extent: Extent, key: int) -> np.ndarray:
    """Independent uniform numbers in [0, 1) for every lattice point, float32."""
    bits = hashed(extent.rows, extent.columns % (360 * extent.per_degree), key)
    return (bits >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)


def white_noise(extent: Extent, key: int) -> np.ndarray:
    """Independent numbers of mean 0 and variance 1 for every lattice point, float32.

    The sum of four 16-bit uniform numbers (Irwin-Hall), so nothing beyond 3.5 occurs.
    """
    bits = hashed(extent.rows, extent.columns % (360 * extent.per_degree), key)
    total = np.zeros(extent.shape, np.float32)
    for shift in (0, 16, 32, 48):
        total += ((bits >> np.uint64(shift)) & np.uint64(0xFFFF)).astype(np.float32)
    return (total / np.float32(65536) - np.float32(2)) * np.float32(np.sqrt(3))


def smooth_noise(extent: Extent, spacing: int, key: int) -> np.ndarray:
    """Gradient noise in [-1, 1], standard deviation about 0.35, float32.

    Parameters
    ----------
    extent
        Where.
    spacing
        Lattice points between the nodes that hold the random gradients; it must divide the number
        of columns around the globe, so that the noise closes at the date line.
    key
        Which noise, see `key`.
    """
    columns_around = 360 * extent.per_degree
    # Nodes of different noises are set apart, or all would vanish at the same places.
    row, y, row_weight = _nodes(extent.rows + key % spacing, spacing)
    column, x, column_weight = _nodes(extent.columns + (key >> 32) % spacing, spacing)
    rows, columns = np.arange(row[0], row[-1] + 2), np.arange(column[0], column[-1] + 2)
    bits = hashed(rows, columns % (columns_around // spacing), key)
    angle = (bits >> np.uint64(40)).astype(np.float32) * np.float32(2 * np.pi * 2.0**-24)
    gradient = np.cos(angle), np.sin(angle)
    row, column = row - rows[0], column - columns[0]

    def slope_from(down: int, right: int) -> np.ndarray:
        at = np.ix_(row + down, column + right)
        return gradient[0][at] * (y - down)[:, None] + gradient[1][at] * (x - right)[None, :]

    upper = slope_from(0, 0)
    upper += (slope_from(0, 1) - upper) * column_weight[None, :]
    lower = slope_from(1, 0)
    lower += (slope_from(1, 1) - lower) * column_weight[None, :]
    return (upper + (lower - upper) * row_weight[:, None]) * np.float32(np.sqrt(2))


def layered_noise(
    extent: Extent, spacings: Sequence[int], key: int, persistence: float = 0.5
) -> np.ndarray:
    """Sum of `smooth_noise` over ``spacings``, each ``persistence`` times the one before it."""
    total = np.zeros(extent.shape, np.float32)
    for level, spacing in enumerate(spacings):
        total += np.float32(persistence**level) * smooth_noise(extent, spacing, key + level)
    return total


def step(value: np.ndarray, middle: float, width: float) -> np.ndarray:
    """Logistic step from 0 to 1; a quarter and three quarters are 1.1 ``width`` from ``middle``."""
    return 0.5 + 0.5 * np.tanh((value - middle) / (2 * width))


def _nodes(points: np.ndarray, spacing: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Node before each point, distance from it in [0, 1), and that distance faded."""
    fraction = ((points % spacing + 0.5) / spacing).astype(np.float32)
    return points // spacing, fraction, fraction**3 * (fraction * (fraction * 6 - 15) + 10)
