"""Cells around pixels, against linear interpolation by NumPy on an axis of many turns."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from xlsbc.emulator.cells import Axis, among, needed, on_lattice

TURNS = 360.0 * np.arange(-4, 5)


def centres(size: int, step: float, west: float) -> np.ndarray:
    """Of so many cells from a western edge on."""
    return west + step * (np.arange(size) + 0.5)


def interpolated(cells: np.ndarray, pixels: np.ndarray, field: np.ndarray) -> np.ndarray:
    """A field at pixels as the cells around them give it."""
    axis = Axis.of(cells)
    found = among(axis, pixels)
    part = field[axis.index(found.start, found.stop)]
    assert np.nanmin(found.position, initial=0) >= 0
    assert np.nanmax(found.position, initial=0) <= len(part) - 1
    known = np.isfinite(found.position)
    value = np.interp(np.where(known, found.position, 0), np.arange(len(part)), part)
    return np.where(known, value, np.nan)


globes = st.sampled_from([0.25, 0.75, 1.0, 2.5, 10.0, 24.0, 45.0, 120.0, 180.0])
windows = {
    "start": st.floats(-200, 560, allow_nan=False),
    "step": st.floats(0.001, 3.0),
    "count": st.integers(1, 120),
}


@given(
    size=globes, west=st.sampled_from([-180.0, 0.0, -179.5, 20.0]), flipped=st.booleans(), **windows
)
@example(size=0.25, west=0.0, flipped=False, start=-1.0, step=1 / 120, count=240)
@example(size=0.25, west=-180.0, flipped=True, start=179.0, step=1 / 120, count=240)
@example(size=10.0, west=-180.0, flipped=False, start=-179.5, step=3.0, count=120)
def test_around_the_globe_pixels_lie_between_the_last_cell_and_the_first(
    size, west, flipped, start, step, count
):
    cells = centres(round(360 / size), size, west)
    random = np.random.default_rng(0).normal(size=len(cells))
    pixels = start + step * np.arange(count)
    unrolled = np.add.outer(TURNS, cells).ravel()
    expected = np.interp(pixels, unrolled, np.tile(random, len(TURNS)))
    if flipped:
        cells, random = cells[::-1], random[::-1]
    # places are rounded to a millionth of a cell
    np.testing.assert_allclose(interpolated(cells, pixels, random), expected, rtol=0, atol=1e-5)


@given(
    size=st.sampled_from([0.25, 1.0, 10.0]),
    west=st.floats(-180, 180),
    number=st.integers(2, 30),
    flipped=st.booleans(),
    turns=st.integers(-1, 1),
    start=st.floats(-30, 60),
    step=st.floats(0.001, 0.5),
    count=st.integers(1, 80),
)
def test_on_a_part_of_the_globe_cells_are_continued_to_their_edges_and_no_further(
    size, west, number, flipped, turns, start, step, count
):
    west = round(west / size) * size
    cells = centres(number, size, west)
    random = np.random.default_rng(0).normal(size=number)
    pixels = west + start + step * np.arange(count)
    # a window far off is nearer on the way round
    assume(abs(pixels.mean() - cells.mean()) < 179)
    edges = np.abs(pixels[:, None] - [west, west + number * size]).min(1)
    inside = (pixels > west) & (pixels < west + number * size)
    expected = np.where(inside, np.interp(pixels, cells, random), np.nan)
    if flipped:
        cells, random = cells[::-1], random[::-1]
    found = interpolated(cells, pixels + 360.0 * turns, random)
    clear = edges > 1e-5 * size
    np.testing.assert_allclose(found[clear], expected[clear], rtol=0, atol=1e-5)


def test_pixels_on_the_edge_of_the_cells_lie_in_them():
    cells = centres(3, 1.0, 7.0)
    np.testing.assert_array_equal(interpolated(cells, np.array([7.0, 10.0]), cells), [7.5, 9.5])


def test_cells_on_the_poles_reach_beyond_them():
    poles = np.linspace(90, -90, 721)
    pixels = np.array([90 - 1 / 240, 0.125, -90 + 1 / 240])
    np.testing.assert_allclose(interpolated(poles, pixels, poles), pixels, atol=1e-6)


def test_one_cell_alone_is_as_wide_as_the_world():
    pixels = np.array([-170.0, 3.0, 200.0])
    np.testing.assert_array_equal(interpolated(np.array([7.0]), pixels, np.array([5.0])), [5, 5, 5])


@given(
    dtype=st.sampled_from(["float64", "float32"]),
    size=st.sampled_from([0.1, 0.25, 0.28125, 1.0]),
    low=st.integers(0, 100),
    beyond=st.integers(1, 30),
    pixel=st.integers(0, 3000),
    count=st.integers(2, 260),
)
def test_a_box_of_the_coarse_grid_gives_the_same_bits_as_all_of_it(
    dtype, size, low, beyond, pixel, count
):
    whole = centres(round(360 / size), size, -180.0).astype(dtype)
    pixels = -180 + (pixel + np.arange(count) + 0.5) / 120
    found = among(Axis.of(whole), pixels)
    assume(found.start >= low)
    box = whole[found.start - low : found.stop + beyond]
    part = among(Axis.of(box), pixels)
    assert (part.start, part.stop) == (low, low + found.stop - found.start)
    np.testing.assert_array_equal(part.position, found.position)


@given(
    start=st.integers(0, 40_000), count=st.integers(2, 260), turn=st.sampled_from([-360, 0, 360])
)
def test_pixels_a_turn_away_have_the_same_bits(start, count, turn):
    axis = Axis.of(centres(1440, 0.25, -180.0))
    pixels = -180 + (start + np.arange(count) + 0.5) / 120
    here, there = among(axis, pixels), among(axis, pixels + turn)
    np.testing.assert_array_equal(here.position, there.position)
    spans = [axis.index(found.start, found.stop) for found in (here, there)]
    np.testing.assert_array_equal(*spans)


@given(
    size=st.sampled_from([0.25, 10.0, 45.0]),
    west=st.integers(-180, 180),
    number=st.integers(1, 1440),
    start=st.floats(-200, 200),
    side=st.floats(0.1, 60),
    count=st.integers(1, 20),
)
@example(size=10.0, west=100, number=10, start=-180, side=30, count=12)  # on both sides of the line
def test_many_windows_need_the_cells_of_each(size, west, number, start, side, count):
    axis = Axis.of(centres(min(number, round(360 / size)), size, west))
    first = start + side * np.arange(count)
    last = first + 1.2 * side
    expected = set()
    for ends in zip(first, last, strict=True):
        found = among(axis, np.linspace(*ends, 7))
        expected |= set(axis.index(found.start, found.stop).tolist())
    assert needed(axis, first, last).tolist() == sorted(expected)


@pytest.mark.parametrize(
    ("first", "step", "expected"),
    [
        (float(np.float32(-179.9 + 1 / 240)), 1 / 120, -179.9 + 1 / 240),
        (float(np.float32(89.95)), -0.1, 89.95),
        (90.0, -0.25, 90.0),
        (7.3, 1.0, 7.3),  # on no lattice
    ],
)
def test_single_precision_does_not_move_a_cell_off_its_place(first, step, expected):
    assert on_lattice(first, step) == pytest.approx(expected, abs=1e-12)
