"""The lattice of tiles: anchored to the globe, never to a region, a chunk or a scheduler.

Tiles are squares of pixels counted from 90 N, 180 W of the target grid, so that a place is always
computed in the same window, whatever box was cut around it. A window is a tile and its halo; it
goes on across the date line where the grid does, and beyond a grid's edge there is nothing. Tiles
are grouped into blocks, the chunks of a prediction, which are anchored likewise.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

from xlsbc.cube.grid import Grid
from xlsbc.emulator.sample import Window

__all__ = ["Block", "Interval", "Tile", "Tiling", "tiling"]


@dataclass(frozen=True)
class Interval:
    """A tile along one axis.

    Parameters
    ----------
    number
        Which tile of the lattice it is, counted from its first.
    start
        First pixel of the whole tile on the grid's axis; may lie before the axis.
    part
        Its pixels on the axis.
    """

    number: int
    start: int
    part: slice


@dataclass(frozen=True)
class Tile:
    """A square of the lattice as far as it lies on a grid.

    Parameters
    ----------
    window
        Pixels that the network sees, rows and columns of the grid; may reach beyond it.
    rows, columns
        Pixels of the grid that the tile covers.
    core
        The same pixels, as rows and columns of the window less its halo.
    """

    window: Window
    rows: slice
    columns: slice
    core: tuple[slice, slice]


@dataclass(frozen=True)
class Block:
    """Tiles that one task computes, rows by columns of the lattice.

    Parameters
    ----------
    rows, columns
        Tiles along either axis.
    size, halo
        Of a tile, pixels.
    """

    rows: tuple[Interval, ...]
    columns: tuple[Interval, ...]
    size: int
    halo: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the grid that it covers."""
        rows, columns = self.part
        return rows.stop - rows.start, columns.stop - columns.start

    @property
    def part(self) -> tuple[slice, slice]:
        """Pixels of the grid that it covers."""
        return covered(self.rows), covered(self.columns)

    @property
    def window(self) -> Window:
        """Pixels that its tiles see together."""
        top, left = self.rows[0].start - self.halo, self.columns[0].start - self.halo
        height = self.rows[-1].start + self.size + self.halo - top
        return Window(top, left, height, self.columns[-1].start + self.size + self.halo - left)

    def tiles(self) -> list[Tile]:
        """Its tiles, from north to south and west to east."""
        side = self.size + 2 * self.halo
        return [
            Tile(
                Window(row.start - self.halo, column.start - self.halo, side, side),
                row.part,
                column.part,
                (within(row), within(column)),
            )
            for row in self.rows
            for column in self.columns
        ]


@dataclass(frozen=True)
class Tiling:
    """The lattice on a grid: intervals along its axes, grouped into blocks.

    Parameters
    ----------
    rows, columns
        Blocks along either axis, each a group of adjacent intervals.
    size, halo
        Of a tile, pixels.
    """

    rows: tuple[tuple[Interval, ...], ...]
    columns: tuple[tuple[Interval, ...], ...]
    size: int
    halo: int

    @property
    def shape(self) -> tuple[int, int]:
        """Blocks from north to south and from west to east."""
        return len(self.rows), len(self.columns)

    @property
    def chunks(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Rows and columns of every block: the chunks of a prediction."""
        return tuple(map(length, self.rows)), tuple(map(length, self.columns))

    def block(self, row: int, column: int) -> Block:
        """One block."""
        return Block(self.rows[row], self.columns[column], self.size, self.halo)

    def blocks(self, rows: range, columns: range) -> Block:
        """Adjacent blocks as one."""
        return Block(
            tuple(interval for row in rows for interval in self.rows[row]),
            tuple(interval for column in columns for interval in self.columns[column]),
            self.size,
            self.halo,
        )


def tiling(grid: Grid, size: int, halo: int, block: int = 1) -> Tiling:
    """The lattice on a grid.

    Parameters
    ----------
    grid
        Target grid.
    size
        Side of a tile, pixels.
    halo
        Context around it, pixels.
    block
        Tiles along either side of a block.
    """
    row, column = grid.origin_index
    around = round(360 / grid.dlon)
    return Tiling(
        grouped(intervals(row, grid.rows, size), block),
        grouped(intervals(column, grid.columns, size, around), block),
        size,
        halo,
    )


def intervals(origin: int, length: int, size: int, around: int | None = None) -> list[Interval]:
    """Tiles along an axis of `length` pixels, of which the first is pixel `origin` of the lattice.

    An axis that goes around the globe in `around` pixels begins anew at the date line: where its
    tiles do not divide it, the last one before the line is cut.
    """
    found, at = [], origin
    while at < origin + length:
        line = at // around * around if around else 0  # the date line before
        start = line + (at - line) // size * size
        stop = min(start + size, line + around) if around else start + size
        part = slice(at - origin, min(stop - origin, length))
        per_turn = -(-around // size) if around else 0
        number = (line // around * per_turn if around else 0) + (start - line) // size
        found.append(Interval(number, start - origin, part))
        at = stop
    return found


def grouped(found: list[Interval], block: int) -> tuple[tuple[Interval, ...], ...]:
    """Intervals of which the lattice makes one block each; a block's tiles lie side by side."""
    groups = groupby(found, key=lambda interval: interval.number // block)
    return tuple(tuple(group) for _, group in groups)


def covered(intervals: tuple[Interval, ...]) -> slice:
    """Pixels of the axis that adjacent tiles cover."""
    return slice(intervals[0].part.start, intervals[-1].part.stop)


def length(intervals: tuple[Interval, ...]) -> int:
    """Number of pixels of the axis that adjacent tiles cover."""
    part = covered(intervals)
    return part.stop - part.start


def within(interval: Interval) -> slice:
    """Part of a tile that lies on the axis."""
    return slice(interval.part.start - interval.start, interval.part.stop - interval.start)
