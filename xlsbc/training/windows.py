"""Super-windows: the parts of a cube that are read at once, and from which many crops are cut.

They are whole chunks of the store, so that no byte is decoded twice in an epoch, and they lie
otherwise in the next: shifted by half of their side in latitude, in longitude, in both. A pixel at
the rim of one, where a crop would lack its context, is inside another of the four. xbatcher's
`BatchGenerator` enumerates them on axes that are widened first, since it drops what does not fill a
window: the ragged edges of the cube.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import xarray as xr
from xbatcher import BatchGenerator

from xlsbc.cube.grid import Grid, goes_around
from xlsbc.emulator.sample import Window

__all__ = ["Span", "Windows", "windows_of"]

SIDE = 512
"""Pixels a side that a super-window should have: with fewer a crop too often meets a rim."""

SELDOM = 32
"""Of how many super-windows that cut chunks one is read in an epoch."""

WITHOUT_CHUNKS = 256
"""Pixels a side of what is in memory and has no chunks."""


@dataclass(frozen=True)
class Span:
    """A super-window along one axis.

    Parameters
    ----------
    start, stop
        Its pixels, with those beyond the cube that crops at an edge of it reach.
    first, last
        Which segments of the axis it holds.
    """

    start: int
    stop: int
    first: int
    last: int


@dataclass(frozen=True)
class Line:
    """How an axis is cut.

    Parameters
    ----------
    size
        Pixels of the axis.
    side
        Of a super-window, pixels.
    shift
        By how many it is moved in every other layout; 0 where one holds the whole axis.
    phase
        Where the first boundary between super-windows is.
    reach
        Pixels beyond an end of the axis that are seen: missing, or those across the date line.
    crop
        Least length of a super-window.
    around
        Whether the end of the axis is beside its beginning.
    chunk
        Pixels of a chunk.
    """

    size: int
    side: int
    shift: int
    phase: int
    reach: int
    crop: int
    around: bool
    chunk: int

    def origin(self, shifted: bool) -> int:
        """First pixel of the first super-window, on the axis or before it."""
        first = (self.phase + (self.shift if shifted else 0)) % self.side
        return first - self.side if first > 0 else first

    def widened(self, shifted: bool) -> np.ndarray:
        """Pixels of the axis and those that make its ends whole super-windows."""
        origin = self.origin(shifted)
        return np.arange(origin, origin + -(-(self.size - origin) // self.side) * self.side)

    @cached_property
    def segments(self) -> np.ndarray:
        """Bounds of the parts that are in one super-window whatever the layout."""
        origins = [self.origin(shifted) for shifted in (False, True)]
        inner = [p for o in origins for p in range(o, self.size, self.side) if p > 0]
        return np.array(sorted({0, *inner, self.size}))

    def span(self, start: int) -> Span:
        """The super-window that begins at a pixel, less what no crop of the axis reaches."""
        low, high = max(start, 0), min(start + self.side, self.size)
        first, last = np.searchsorted(self.segments, (low, high))
        start = low - (self.reach if low == 0 else 0)
        stop = high + (self.reach if high == self.size else 0)
        if stop - start < self.crop:
            start = stop - self.crop if self.around else max(stop - self.crop, -self.reach)
            stop = max(stop, start + self.crop)
        return Span(start, stop, int(first), int(last))


@dataclass(frozen=True)
class Windows:
    """All super-windows of a grid, in four layouts.

    Parameters
    ----------
    rows, columns
        How the axes are cut.
    """

    rows: Line
    columns: Line

    def layout(self, number: int) -> list[tuple[Span, Span]]:
        """Super-windows of a layout: 0 unshifted, 1 shifted in both axes, 2 in rows, 3 in columns.

        Those of one layout hold every pixel of the grid, each once but for what lies beyond it.
        """
        lines = {
            "latitude": (self.rows, number % 4 in (1, 2)),
            "longitude": (self.columns, number % 4 in (1, 3)),
        }
        axes = {dim: (dim, line.widened(shifted)) for dim, (line, shifted) in lines.items()}
        shape = tuple(len(pixels) for _, pixels in axes.values())
        pixels = xr.Dataset({"pixel": (tuple(axes), np.broadcast_to(True, shape))}, axes)
        sides = {dim: line.side for dim, (line, _) in lines.items()}
        found = BatchGenerator(pixels, input_dims=sides, preload_batch=False)
        return [
            (self.rows.span(int(w["latitude"][0])), self.columns.span(int(w["longitude"][0])))
            for w in found
        ]

    @cached_property
    def aligned(self) -> bool:
        """Whether shifted super-windows are whole chunks too."""
        return all(line.shift % line.chunk == 0 for line in (self.rows, self.columns))

    @property
    def visits(self) -> float:
        """How often an epoch meets a pixel."""
        return 1.0 if self.aligned or not self.cut else 1.0 + 3.0 / SELDOM

    @property
    def cut(self) -> bool:
        """Whether there is more than one super-window."""
        return bool(self.rows.shift or self.columns.shift)

    def epoch(self, number: int) -> list[tuple[int, int]]:
        """Super-windows of an epoch, by layout and place in it.

        One layout after the other where all are whole chunks. Where a chunk is as large as a
        super-window, those that are shifted read four chunks each: every epoch has the unshifted
        ones and a few of the others, in turn.
        """
        if not self.cut:
            return [(0, place) for place in range(len(self.layouts[0]))]
        if self.aligned:
            return [(number % 4, place) for place in range(len(self.layouts[number % 4]))]
        found = [(0, place) for place in range(len(self.layouts[0]))]
        for layout in (1, 2, 3):
            places = range(
                (number + layout * SELDOM // 3) % SELDOM, len(self.layouts[layout]), SELDOM
            )
            found += [(layout, place) for place in places]
        return found

    @cached_property
    def layouts(self) -> list[list[tuple[Span, Span]]]:
        """All super-windows, by layout."""
        return [self.layout(number) for number in range(4 if self.cut else 1)]


def windows_of(grid: Grid, crop: int, edges: tuple[np.ndarray, np.ndarray] | None) -> Windows:
    """Super-windows of a grid.

    Parameters
    ----------
    grid
        Target grid.
    crop
        Side of a crop, pixels.
    edges
        Where chunks of rows and of columns begin in the store, and their ends; None of what is in
        memory.
    """
    around = goes_around(grid)
    rows, columns = edges or (None, None)
    return Windows(line(grid.rows, crop, rows, False), line(grid.columns, crop, columns, around))


def line(size: int, crop: int, edges: Sequence[int] | np.ndarray | None, around: bool) -> Line:
    """How an axis is cut: at chunks, into super-windows of about `SIDE` pixels."""
    if edges is None or len(edges) < 2:
        edges = [0, WITHOUT_CHUNKS]
    chunk = int(np.diff(edges).max())
    count = max(round(SIDE / chunk), -(-2 * crop // chunk), 1)
    side = count * chunk
    shift = count // 2 * chunk or side // 2
    if side >= size and not around:
        side, shift = size, 0
    phase = int(edges[1]) % chunk if side < size else 0
    return Line(size, side, shift, phase, crop // 2, crop, around, chunk)


def window_of(rows: Span, columns: Span) -> Window:
    """Pixels of a super-window."""
    return Window(rows.start, columns.start, rows.stop - rows.start, columns.stop - columns.start)
