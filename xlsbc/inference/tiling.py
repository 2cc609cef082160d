"""The lattice of tiles: anchored to the globe, never to a region, a chunk or a scheduler.

Tiles are squares of pixels counted from 90 N, 180 W of the target grid, so that a place is always
computed in the same window, whatever box was cut around it. A window is a tile and its halo.
"""

from __future__ import annotations

from dataclasses import dataclass

from xlsbc.cube.grid import Grid
from xlsbc.emulator.sample import Window

__all__ = ["Tile", "tiles"]


@dataclass(frozen=True)
class Tile:
    """A square of the lattice as far as it lies on a grid.

    Parameters
    ----------
    window
        Pixels that the network sees, rows and columns of the grid; may reach beyond it.
    rows, columns
        Pixels of the grid that the tile covers.
    halo
        Rim of the window that is thrown away.
    """

    window: Window
    rows: slice
    columns: slice
    halo: int

    @property
    def core(self) -> tuple[slice, slice]:
        """The tile's pixels on the grid, as rows and columns of the window less its halo."""
        top = self.rows.start - self.window.y - self.halo
        left = self.columns.start - self.window.x - self.halo
        height = self.rows.stop - self.rows.start
        width = self.columns.stop - self.columns.start
        return slice(top, top + height), slice(left, left + width)


def tiles(grid: Grid, size: int, halo: int) -> list[list[Tile]]:
    """Tiles that cover a grid, as rows of tiles from north to south and west to east.

    Parameters
    ----------
    grid
        Target grid.
    size
        Side of a tile, pixels.
    halo
        Context around it, pixels.
    """
    row, column = grid.origin_index
    return [
        [
            Tile(Window(y - halo, x - halo, size + 2 * halo, size + 2 * halo), rows, columns, halo)
            for x, columns in spans(column, grid.columns, size)
        ]
        for y, rows in spans(row, grid.rows, size)
    ]


def spans(origin: int, length: int, size: int) -> list[tuple[int, slice]]:
    """First pixel of every lattice interval that meets an axis, and its part on the axis."""
    first = origin // size * size - origin  # the lattice interval under the first pixel
    return [
        (start, slice(max(start, 0), min(start + size, length)))
        for start in range(first, length, size)
    ]
