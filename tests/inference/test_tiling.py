"""The lattice: every pixel once, and every place in the same tile whatever is cut around it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from xlsbc.cube.grid import Extent, Grid, goes_around
from xlsbc.cube.store.marks import blank
from xlsbc.inference.tiling import Tiling, tiling

COLUMNS = 3600
"""Around the globe, of a tenth of a degree."""

shapes = {"rows": st.integers(1, 90), "columns": st.integers(1, 90)}
places = {"row": st.integers(0, 1700), "column": st.integers(0, COLUMNS - 1)}
sizes = {"size": st.integers(1, 40), "halo": st.integers(0, 9), "block": st.integers(1, 4)}


def grid(rows: int, columns: int, row: int = 0, column: int = 0) -> Grid:
    """A grid of 0.1 degree whose first pixel is that row and column of the globe."""
    return Grid(89.95 - 0.1 * row, -179.95 + 0.1 * column, 0.1, 0.1, rows, columns)


def globe(columns: int, rows: int | None = None) -> Grid:
    """A whole globe of square pixels, from pole to pole unless it is said how many rows."""
    step = 360 / columns
    found = round(180 / step) if rows is None else rows
    return Grid(90 - step / 2, -180 + step / 2, step, step, found, columns)


def every(lattice: Tiling):
    """All tiles with the block that each is in."""
    for row, column in np.ndindex(*lattice.shape):
        block = lattice.block(row, column)
        for tile in block.tiles():
            yield block, tile


def test_a_grid_off_the_lattice_is_covered_by_tiles_cut_at_its_edges():
    lattice = tiling(grid(rows=7, columns=5, row=6, column=12), size=4, halo=2)
    assert lattice.chunks == ((2, 4, 1), (4, 1))
    found = [[lattice.block(y, x).tiles() for x in range(2)] for y in range(3)]
    assert [[[(t.rows, t.columns) for t in tiles] for tiles in row] for row in found] == [
        [[(slice(0, 2), slice(0, 4))], [(slice(0, 2), slice(4, 5))]],
        [[(slice(2, 6), slice(0, 4))], [(slice(2, 6), slice(4, 5))]],
        [[(slice(6, 7), slice(0, 4))], [(slice(6, 7), slice(4, 5))]],
    ]
    (first,), (last,) = found[0][0], found[2][1]
    assert (first.window.y, first.window.x) == (-4, -2)
    assert (first.window.height, first.window.width) == (8, 8)
    assert first.core == (slice(2, 4), slice(0, 4))
    assert (last.window.y, last.window.x) == (4, 2)
    assert last.core == (slice(0, 1), slice(0, 1))


def test_tiles_begin_anew_at_the_date_line_where_they_do_not_divide_the_globe():
    # 3600 = 514 * 7 + 2: the last tile before the line has two columns
    lattice = tiling(grid(rows=7, columns=20, column=3590), size=7, halo=1)
    tiles = [tile for _, tile in every(lattice)]
    assert [(t.columns.start, t.columns.stop) for t in tiles] == [
        (0, 1),
        (1, 8),
        (8, 10),
        (10, 17),
        (17, 20),
    ]
    assert [t.window.x for t in tiles] == [-7, 0, 7, 9, 16]
    assert [t.core[1] for t in tiles] == [
        slice(6, 7),
        slice(0, 7),
        slice(0, 2),
        slice(0, 7),
        slice(0, 3),
    ]


def test_blocks_are_chunks_and_the_first_is_cut_where_the_grid_begins():
    # tiles 2 to 8 from row 9 of the globe; blocks of three hold 0-2, 3-5, 6-8
    lattice = tiling(grid(rows=26, columns=4, row=9), size=4, halo=0, block=3)
    assert lattice.chunks == ((3, 12, 11), (4,))
    assert [len(lattice.block(y, 0).tiles()) for y in range(3)] == [1, 3, 3]


@given(**shapes, **places, **sizes)
@example(rows=5, columns=90, row=0, column=3550, size=7, halo=3, block=2)
def test_every_pixel_is_covered_once_by_the_core_of_a_window_that_holds_its_halo(
    rows, columns, row, column, size, halo, block
):
    lattice = tiling(grid(rows, columns, row, column), size, halo, block)
    assert list(map(sum, lattice.chunks)) == [rows, columns]
    covered = np.zeros((rows, columns), int)
    for whole, tile in every(lattice):
        covered[tile.rows, tile.columns] += 1
        assert tile.window.height == tile.window.width == size + 2 * halo
        seen, part = whole.window, whole.part
        for start, span, core, within, first, length in (
            (tile.window.y, tile.rows, tile.core[0], part[0], seen.y, seen.height),
            (tile.window.x, tile.columns, tile.core[1], part[1], seen.x, seen.width),
        ):
            assert core.stop - core.start == span.stop - span.start
            assert core.start + start + halo == span.start
            assert 0 <= core.start < core.stop <= size
            assert within.start <= span.start < span.stop <= within.stop
            assert first <= start
            assert start + size + 2 * halo <= first + length
    assert (covered == 1).all()


@settings(max_examples=40)
@given(**shapes, **places, **sizes)
def test_blocks_lie_on_the_grid_as_chunks_do(rows, columns, row, column, size, halo, block):
    lattice = tiling(grid(rows, columns, row, column), size, halo, block)
    edges = [np.cumsum((0, *chunks)) for chunks in lattice.chunks]
    for y, x in np.ndindex(*lattice.shape):
        found = lattice.block(y, x)
        assert found.part == (slice(*edges[0][y : y + 2]), slice(*edges[1][x : x + 2]))
        assert found.shape == (lattice.chunks[0][y], lattice.chunks[1][x])
        assert len({tile.rows.start for tile in found.tiles()}) <= block
        assert len({tile.columns.start for tile in found.tiles()}) <= block


@given(**shapes, **places, **sizes, down=st.integers(0, 50), right=st.integers(0, 50))
@example(
    rows=9, columns=90, row=0, column=3500, size=7, halo=0, block=1, down=0, right=95
)  # before the date line, and beyond
def test_a_place_lies_in_the_same_window_whatever_box_is_cut_around_it(
    rows, columns, row, column, size, halo, block, down, right
):
    def windows(at_row: int, at_column: int) -> dict[tuple[int, int], tuple[int, int]]:
        """Window by pixel, both counted on the globe."""
        found = {}
        at_column %= COLUMNS  # a conformed grid begins within -180..180
        lattice = tiling(grid(rows, columns, at_row, at_column), size, halo, block)
        for _, tile in every(lattice):
            origin = tile.window.y + at_row, (tile.window.x + at_column) % COLUMNS
            for y in range(tile.rows.start, tile.rows.stop):
                for x in range(tile.columns.start, tile.columns.stop):
                    found[y + at_row, (x + at_column) % COLUMNS] = origin
        return found

    here, there = windows(row, column), windows(row + down, column + right)
    for pixel in here.keys() & there.keys():
        assert here[pixel] == there[pixel]


@settings(max_examples=40)
@given(
    columns=st.integers(2, 200),
    size=st.integers(1, 40),
    halo=st.integers(0, 9),
    block=st.integers(1, 4),
)
def test_a_globe_of_any_size_is_covered_from_pole_to_pole(columns, size, halo, block):
    whole = globe(columns)
    assert goes_around(whole)
    lattice = tiling(whole, size, halo, block)
    assert list(map(sum, lattice.chunks)) == [whole.rows, whole.columns]
    assert [tile.columns.start % size for _, tile in every(lattice)] == [0] * sum(
        1 for _ in every(lattice)
    )


def test_a_grid_with_pixels_on_the_poles_begins_with_a_whole_tile():
    poles = Grid(90.0, -180.0, 2.0, 2.0, 91, 180)
    assert tiling(poles, 30, 0).chunks == ((30, 30, 30, 1), (30,) * 6)


@pytest.mark.parametrize(
    ("columns", "expected"), [(180, True), (179, False), (181, False), (90, False)]
)
def test_a_grid_goes_around_if_its_ends_meet(columns, expected):
    assert goes_around(Grid(1.0, -179.0, 2.0, 2.0, 2, columns)) is expected


@given(start=st.integers(-90, 90), length=st.integers(1, 90), size=st.integers(1, 40))
def test_around_the_globe_an_extent_takes_what_numpy_does_when_it_wraps(start, length, size):
    axis = np.arange(size) + 100
    found = Extent.of(start, start + length, size, around=True)
    assert (found.before, found.after) == (0, 0)
    parts = np.concatenate([axis[part] for part in found.parts])
    np.testing.assert_array_equal(parts, axis.take(range(start, start + length), mode="wrap"))
    assert all(part.start < part.stop for part in found.parts)


@given(start=st.integers(-90, 90), length=st.integers(1, 90), size=st.integers(1, 40))
def test_beyond_the_ends_of_an_axis_an_extent_is_padded(start, length, size):
    found = Extent.of(start, start + length, size, around=False)
    axis = np.arange(size) + 100.0
    padded = np.pad(axis, 200, constant_values=np.nan)[200 + start : 200 + start + length]
    got = np.pad(axis[found.parts[0]], (found.before, found.after), constant_values=np.nan)
    np.testing.assert_array_equal(got, padded)


def test_blank_chunks_are_missing_values_of_single_precision():
    found = blank((12, 3, 0))
    assert (found.dtype, found.shape) == (np.float32, (12, 3, 0))
    assert np.isnan(blank((1, 14, 2, 2))).all()
