from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from xlsbc.cube.grid import Grid
from xlsbc.inference.tiling import tiles

shapes = {"rows": st.integers(1, 90), "columns": st.integers(1, 90)}
places = {"row": st.integers(0, 1700), "column": st.integers(0, 3500)}
sizes = {"size": st.integers(1, 40), "halo": st.integers(0, 9)}


def grid(rows: int, columns: int, row: int = 0, column: int = 0) -> Grid:
    """A grid of 0.1 degree whose first pixel is that row and column of the globe."""
    return Grid(89.95 - 0.1 * row, -179.95 + 0.1 * column, 0.1, 0.1, rows, columns)


def test_a_grid_off_the_lattice_is_covered_by_tiles_cut_at_its_edges():
    lattice = tiles(grid(rows=7, columns=5, row=6, column=12), size=4, halo=2)
    assert [[(t.rows, t.columns) for t in row] for row in lattice] == [
        [(slice(0, 2), slice(0, 4)), (slice(0, 2), slice(4, 5))],
        [(slice(2, 6), slice(0, 4)), (slice(2, 6), slice(4, 5))],
        [(slice(6, 7), slice(0, 4)), (slice(6, 7), slice(4, 5))],
    ]
    first, last = lattice[0][0], lattice[2][1]
    assert (first.window.y, first.window.x) == (-4, -2)
    assert (first.window.height, first.window.width) == (8, 8)
    assert first.core == (slice(2, 4), slice(0, 4))
    assert (last.window.y, last.window.x) == (4, 2)
    assert last.core == (slice(0, 1), slice(0, 1))


@given(**shapes, **places, **sizes)
def test_every_pixel_is_covered_once_by_the_core_of_a_window_that_holds_its_halo(
    rows, columns, row, column, size, halo
):
    covered = np.zeros((rows, columns), int)
    for tile in (t for line in tiles(grid(rows, columns, row, column), size, halo) for t in line):
        covered[tile.rows, tile.columns] += 1
        assert tile.window.height == tile.window.width == size + 2 * halo
        for start, part, core in (
            (tile.window.y, tile.rows, tile.core[0]),
            (tile.window.x, tile.columns, tile.core[1]),
        ):
            assert core.stop - core.start == part.stop - part.start
            assert core.start + start + halo == part.start
            assert 0 <= core.start < core.stop <= size
    assert (covered == 1).all()


@given(**shapes, **places, **sizes, down=st.integers(0, 50), right=st.integers(0, 50))
def test_a_place_lies_in_the_same_window_whatever_box_is_cut_around_it(
    rows, columns, row, column, size, halo, down, right
):
    def windows(at_row: int, at_column: int) -> dict[tuple[int, int], tuple[int, int]]:
        """Window by pixel, both counted on the globe."""
        found = {}
        lattice = tiles(grid(rows, columns, at_row, at_column), size, halo)
        for tile in (t for line in lattice for t in line):
            origin = tile.window.y + at_row, tile.window.x + at_column
            for y in range(tile.rows.start, tile.rows.stop):
                for x in range(tile.columns.start, tile.columns.stop):
                    found[y + at_row, x + at_column] = origin
        return found

    here, there = windows(row, column), windows(row + down, column + right)
    for pixel in here.keys() & there.keys():
        assert here[pixel] == there[pixel]
