from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st

from xlsbc.cube.grid import Grid
from xlsbc.emulator.sample import Window
from xlsbc.training import windows as module
from xlsbc.training.windows import Span, Windows, window_of, windows_of

LAYOUTS = range(4)


def grid(rows: int, columns: int) -> Grid:
    """A grid of 0.1 degree somewhere."""
    return Grid(40.0, 10.0, 0.1, 0.1, rows, columns)


def globe(rows: int, columns: int) -> Grid:
    """As many columns as there are around the globe."""
    return Grid(40.0, -180.0 + 180.0 / columns, 0.1, 360.0 / columns, rows, columns)


def edges(size: int, chunk: int, first: int) -> np.ndarray:
    """Where chunks begin of a box whose first one is cut, and the end."""
    return np.array([0, *range(min(first, size) or chunk, size, chunk), size])


def held(windows: Windows, layout: int) -> np.ndarray:
    """In how many windows of a layout each pixel lies, by segments."""
    rows, columns = windows.rows, windows.columns
    found = np.zeros((rows.size, columns.size), int)
    for down, across in windows.layout(layout):
        low, high = rows.segments[[down.first, down.last]]
        left, right = columns.segments[[across.first, across.last]]
        found[low:high, left:right] += 1
    return found


def spans(windows: Windows, axis: int) -> set[Span]:
    """Super-windows along an axis, of all layouts."""
    return {pair[axis] for layout in LAYOUTS for pair in windows.layout(layout)}


CASES = {
    "rows": st.integers(1, 150),
    "columns": st.integers(2, 150),
    "crop": st.integers(1, 24),
    "chunk": st.integers(1, 80),
    "first": st.integers(0, 79),
    "around": st.booleans(),
    "lazy": st.booleans(),
}


def made(
    rows: int, columns: int, crop: int, chunk: int, first: int, around: bool, lazy: bool
) -> Windows:
    """Windows with a side of 32 pixels, so that small grids have many."""
    cuts = [edges(size, chunk, first % chunk) for size in (rows, columns)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SIDE", 32)
        patch.setattr(module, "WITHOUT_CHUNKS", 16)
        target = (globe if around else grid)(rows, columns)
        return windows_of(target, crop, (cuts[0], cuts[1]) if lazy else None)


@drawn(**CASES)
def test_windows_of_a_layout_hold_every_pixel_once(**case):
    windows = made(**case)
    for layout in LAYOUTS:
        assert (held(windows, layout) == 1).all()


@drawn(**CASES)
def test_a_window_is_no_shorter_than_a_crop_and_sees_all_that_it_holds(**case):
    windows = made(**case)
    for axis, line in enumerate((windows.rows, windows.columns)):
        for span in spans(windows, axis):
            low, high = line.segments[[span.first, span.last]]
            assert span.stop - span.start >= case["crop"]
            assert span.start <= low < high <= span.stop


@drawn(**CASES)
def test_every_pixel_has_its_context_in_some_layout(**case):
    windows = made(**case)
    margin = min(12, case["crop"] // 8)
    found = np.zeros((windows.rows.size, windows.columns.size), bool)
    for layout in LAYOUTS:
        for down, across in windows.layout(layout):
            inner = []
            for span, line in ((down, windows.rows), (across, windows.columns)):
                pixels = np.arange(span.start + margin, span.stop - margin)
                if line.around:
                    pixels %= line.size
                inner.append(pixels[(pixels >= 0) & (pixels < line.size)])
            found[np.ix_(*inner)] = True
    assert found.all()


@drawn(**CASES)
def test_nothing_is_seen_beyond_a_pole_or_coast_of_the_cube_that_no_crop_reaches(**case):
    windows = made(**case)
    reach = max(case["crop"] // 2, case["crop"] - windows.rows.size)
    for span in spans(windows, 0):
        assert -reach <= span.start
        assert span.stop <= windows.rows.size + reach


@pytest.mark.parametrize("first", [0, 1, 77])
@pytest.mark.parametrize("size", [700, 1000, 2049])
def test_windows_begin_where_chunks_begin(size, first):
    cuts = edges(size, 100, first)
    windows = windows_of(grid(size, size), 96, (cuts, cuts))
    for axis in (0, 1):
        line = (windows.rows, windows.columns)[axis]
        assert line.side % 100 == 0
        assert abs(line.side - 512) <= 100
        assert set(line.segments.tolist()) <= set(cuts.tolist())


def test_a_chunk_larger_than_a_window_should_be_is_one_window_shifted_by_its_half():
    cuts = np.array([0, 1000, 2000, 2500])
    windows = windows_of(grid(2500, 2500), 96, (cuts, cuts))
    assert windows.rows.segments.tolist() == [0, 500, 1000, 1500, 2000, 2500]


def test_a_small_grid_is_one_window_with_half_a_crop_around_it():
    windows = windows_of(grid(37, 53), 12, None)
    assert windows.epoch(3) == [(0, 0)]
    assert windows.layout(0) == [(Span(-6, 43, 0, 1), Span(-6, 59, 0, 1))]


def test_a_grid_smaller_than_a_crop_is_one_window_of_a_crop():
    windows = windows_of(grid(5, 7), 16, None)
    assert [window_of(*pair) for pair in windows.layout(0)] == [Window(-8, -8, 21, 23)]


def test_four_layouts_of_a_large_grid_differ_and_the_fifth_is_the_first():
    cuts = edges(1500, 128, 0)
    windows = windows_of(grid(1500, 1500), 96, (cuts, cuts))
    layouts = [tuple(windows.layout(number)) for number in range(5)]
    assert [windows.epoch(number)[0][0] for number in range(6)] == [0, 1, 2, 3, 0, 1]
    assert len(set(layouts[:4])) == 4
    assert layouts[4] == layouts[0]


def test_around_the_globe_windows_see_across_the_date_line():
    cuts = (edges(600, 100, 0), edges(1440, 100, 0))
    windows = windows_of(globe(600, 1440), 96, cuts)
    first, *_, last = sorted(spans(windows, 1), key=lambda span: span.start)
    assert first.start == -48
    assert last.stop == 1488


def test_super_windows_that_cut_chunks_come_seldom_and_all_come():
    edges = np.arange(0, 4801, 480)
    windows = windows_of(Grid(50.0, 5.0, 0.01, 0.01, 4800, 4800), 96, (edges, edges))
    epochs = [windows.epoch(number) for number in range(32)]
    counts = Counter(found for epoch in epochs for found in epoch)
    assert len(counts) == 100 + 121 + 110 + 110
    assert all(count == (32 if layout == 0 else 1) for (layout, _), count in counts.items())
    assert max(map(len, epochs)) - min(map(len, epochs)) <= 3
    for spans in windows.layouts[0]:
        assert all(max(span.start, 0) % 480 == 0 for span in spans)
