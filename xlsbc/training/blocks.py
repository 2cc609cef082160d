"""Blocks of the global lattice and boxes of pixels, drawn and asked which pixels are near them.

Blocks are drawn zone by zone, so that every climate has its share by area. The draw depends on the
lattice and the extent alone, and never on which pixels of a block a cube holds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from xlsbc.cube.grid import TOLERANCE, Grid
from xlsbc.emulator.spec import Split

__all__ = ["Box", "Extent", "Lattice", "Marked", "draw", "holds_any", "pixels_of", "runs"]

Extent = tuple[int, int, int, int]
"""First row and column of blocks, and number of either."""

Box = tuple[int, int, int, int]
"""First row, row after the last, first column and number of columns, pixels of the lattice."""

ZONE: Final = 30.0
"""Degrees of latitude of a zone: six, of which the outer ones are the polar climates."""


@dataclass(frozen=True)
class Lattice:
    """Blocks of the globe, counted from 90 N, 180 W; columns go on around it.

    Parameters
    ----------
    size
        Side of a block, pixels.
    turn
        Pixels around the globe; the last block before 180 E is cut where `size` is no part of it.
    dlat
        Height of a pixel, degrees.
    """

    size: int
    turn: int
    dlat: float

    @classmethod
    def of(cls, grid: Grid, size: int) -> Lattice:
        """Blocks of that size on the lattice that a grid is a part of."""
        return cls(size, round(360.0 / grid.dlon), grid.dlat)

    @property
    def around(self) -> int:
        """Blocks around the globe."""
        return -(-self.turn // self.size)

    def column(self, x: np.ndarray) -> np.ndarray:
        """Column of the block of pixels, which goes on past the date line as they do."""
        return x // self.turn * self.around + x % self.turn // self.size

    def extent(self, grid: Grid) -> Extent:
        """First row and column of the blocks that a grid covers, and number of either."""
        row, column = grid.origin_index
        top, bottom = row // self.size, (row + grid.rows - 1) // self.size
        column %= self.turn
        left, right = self.column(np.array([column, column + grid.columns - 1])).tolist()
        return top, left, bottom - top + 1, min(right - left + 1, self.around)

    def areas(self, extent: Extent) -> np.ndarray:
        """Area of the blocks of an extent, ``(row, column)``, in units that cancel."""
        top, left, rows, columns = extent
        edges = (top + np.arange(rows + 1)) * self.size * self.dlat
        band = -np.diff(np.cos(np.deg2rad(np.minimum(edges, 180.0))))
        start = (left + np.arange(columns)) % self.around * self.size
        return np.outer(band, np.minimum(self.size, self.turn - start))

    def zones(self, extent: Extent) -> np.ndarray:
        """Zone of the blocks of an extent, ``(row, column)``, 0 at the north pole."""
        top, _, rows, columns = extent
        middle = (top + np.arange(rows) + 0.5) * self.size * self.dlat
        zone = np.minimum(middle // ZONE, 180.0 // ZONE - 1).astype(int)
        return np.repeat(zone[:, None], columns, axis=1)


@dataclass(frozen=True, eq=False)
class Marked:
    """Blocks and boxes that are marked, to be asked which pixels are near one.

    Parameters
    ----------
    lattice
        Of the blocks.
    corner
        First row and column of the blocks.
    sums
        ``(row + 1, column + 1)``, how many blocks above and left of a corner are marked: a window
        touches one where the sums at its corners differ, so that no window is ever looked through.
    boxes
        Pixels that are marked as well.
    """

    lattice: Lattice
    corner: tuple[int, int]
    sums: np.ndarray
    boxes: tuple[Box, ...] = ()

    @classmethod
    def of(
        cls,
        lattice: Lattice,
        corner: tuple[int, int],
        blocks: np.ndarray,
        boxes: Iterable[Box] = (),
    ) -> Marked:
        """From blocks ``(row, column)``, True where marked."""
        sums = np.pad(blocks.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
        return cls(lattice, corner, sums, tuple(boxes))

    def rows(self, y: np.ndarray, margin: int) -> np.ndarray:
        """What a pixel's row says of its surroundings: ``(2 + box, y)``, for `near`."""
        ends = np.stack([y - margin, y + margin + self.lattice.size]) // self.lattice.size
        within = [(y >= top - margin) & (y < bottom + margin) for top, bottom, _, _ in self.boxes]
        return np.stack([*(ends - self.corner[0]).clip(0, len(self.sums) - 1), *within])

    def columns(self, x: np.ndarray, margin: int) -> np.ndarray:
        """What its column says: ``(3 + box, x)``; the third entry is what lies past the seam."""
        turn, around = self.lattice.turn, self.lattice.around
        first, last = self.lattice.column(x - margin), self.lattice.column(x + margin)
        start = (first - self.corner[1]) % around
        stop = start + last - first + 1
        ends = np.stack([start, stop, stop - around]).clip(0, self.sums.shape[1] - 1)
        within = [(x - left + margin) % turn < wide + 2 * margin for _, _, left, wide in self.boxes]
        return np.stack([*ends, *within])

    def near(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Whether something marked is within the margin, ``(y, x)``."""
        start, stop, past = columns[:3]
        strip = self.sums[:, stop] - self.sums[:, start] + self.sums[:, past]
        found = strip[rows[1]] > strip[rows[0]]
        for y, x in zip(rows[2:], columns[3:], strict=True):
            found |= np.outer(y, x).astype(bool)
        return found


def draw(split: Split, lattice: Lattice, extent: Extent) -> tuple[np.ndarray, np.ndarray]:
    """Blocks of an extent that are held out, and those for validation, ``(row, column)``."""
    area = lattice.areas(extent)
    order = np.random.default_rng(split.seed).permutation(area.size)
    area_of, zone_of = area.ravel()[order], lattice.zones(extent).ravel()[order]
    held, validation = (np.zeros(area.size, dtype=bool) for _ in range(2))
    for zone in np.unique(zone_of):
        blocks, areas = order[zone_of == zone], area_of[zone_of == zone]
        first = amount(areas, split.fraction)
        held[blocks[:first]] = True
        validation[blocks[first : amount(areas, split.fraction + split.validation)]] = True
    if split.fraction > 0 and not held.any():
        held[order[0]] = True
    validation &= ~held
    if split.validation > 0 and not validation.any():
        validation[order[~held[order]][:1]] = True
    return held.reshape(area.shape), validation.reshape(area.shape)


def amount(areas: np.ndarray, fraction: float) -> int:
    """How many of the first blocks are that fraction: of their number, within one of the area."""
    total = np.append(0.0, areas.cumsum())
    near = np.flatnonzero(np.abs(total - fraction * total[-1]) <= areas.max())
    return int(np.clip(round(areas.size * fraction), near[0], near[-1]))


def pixels_of(grid: Grid, region: tuple[float, float, float, float]) -> Box | None:
    """Pixels whose centres a region holds, on the grid or beyond it; None if there are none."""
    west, south, east, north = region
    row, column = grid.origin_index
    top = row + int(np.ceil((grid.north - north) / grid.dlat - TOLERANCE))
    bottom = row + int(np.floor((grid.north - south) / grid.dlat + TOLERANCE)) + 1
    left = column + int(np.ceil((west - grid.west) / grid.dlon - TOLERANCE))
    east += 360.0 * (east < west)
    width = column + int(np.floor((east - grid.west) / grid.dlon + TOLERANCE)) + 1 - left
    return (top, bottom, left, width) if top < bottom and width > 0 else None


def holds_any(grid: Grid, lattice: Lattice, box: Box) -> bool:
    """Whether a grid has a pixel of a box."""
    top, bottom, left, width = box
    row, column = grid.origin_index
    x = column + np.arange(grid.columns)
    return (
        top < row + grid.rows and bottom > row and bool(((x - left) % lattice.turn < width).any())
    )


def runs(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Starts and lengths of the runs of equal columns."""
    changes = (keys[:, 1:] != keys[:, :-1]).any(axis=0)
    starts = np.flatnonzero(np.append(True, changes))[: keys.shape[1]]
    return starts, np.diff(np.append(starts, keys.shape[1]))
