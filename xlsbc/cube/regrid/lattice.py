"""Where the cells of an axis begin and end, and the axes of the global lattice."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from ...errors import GridError
from ..grid import lattice_step, spacing

STEP = 1 / 120
"""Of the target grid, degrees."""

# A side of a box that misses a pixel border by less than this part of a pixel lies on it.
TOUCH = 1e-6

# A first edge this near, in half steps, to a place of the global lattice is meant to be there:
# rounding of printed or of float32 coordinates, which is 0.3 % of 300 m at 180 E.
SNAP = 5e-3


def axes(
    west: float, south: float, east: float, north: float, step: float = STEP
) -> tuple[np.ndarray, np.ndarray]:
    """Pixel centres of the global lattice whose pixels touch a box.

    Parameters
    ----------
    west, south, east, north
        Sides of the box, degrees. ``west`` beyond ``east`` is a box across the date line.
    step
        Size of a pixel, degrees; a whole number of them makes 180.

    Returns
    -------
    latitude, longitude
        float64, degrees: descending, and ascending from within -180..180 (on past 180 across the
        date line). The lattice is anchored at 90 N, 180 W.

    Raises
    ------
    GridError
        If the box is empty or beyond the poles, or if the step does not divide 180.
    """
    rows = round(180 / step) if step > 0 else 0
    problems = []
    if rows < 1 or abs(180 / step - rows) > TOUCH * rows:
        problems.append(f"expected a step that divides 180 degrees; found {step:g}")
    if not -90 <= south < north <= 90:
        problems.append(
            f"expected south < north within -90..90; found south={south:g}, north={north:g}"
        )
    if not (math.isfinite(west) and math.isfinite(east)) or west == east:
        problems.append(f"expected west and east apart; found west={west:g}, east={east:g}")
    if problems:
        raise GridError("the box has no pixels", problems)
    width = east - west if 0 < east - west <= 360 else (east - west) % 360.0 or 360.0
    west = -180.0 if width == 360 else (west + 180.0) % 360.0 - 180.0
    row = _places(90.0 - north, 90.0 - south, 180, rows)
    column = _places(west + 180.0, west + width + 180.0, 180, rows)
    # Divided, not multiplied by the step: so do all other pixel centres here, to the last bit.
    return 90 - (row + 0.5) * 180 / rows, -180 + (column + 0.5) * 180 / rows


@dataclass(frozen=True)
class Axis:
    """Cells side by side, by their edges.

    Parameters
    ----------
    start
        First edge.
    step
        Signed size of a cell.
    size
        Number of cells.
    offset
        Cells left out before the first: a part of an axis has the edges of the whole, bit by bit.
    bounds
        All edges of an axis whose cells differ in size; None for one whose do not.
    """

    start: float
    step: float
    size: int
    offset: int = 0
    bounds: np.ndarray | None = None

    @classmethod
    def of(cls, centres: np.ndarray, name: str, *, step: float = math.nan) -> Axis:
        """Axis of pixel centres: edges half way between them, the outer ones half a step out.

        Parameters
        ----------
        centres
            Ascending or descending; degrees, or metres.
        name
            For messages; ``"longitude"`` may jump by a turn, and ``"latitude"`` and
            ``"longitude"`` are put on the global lattice where they miss it by rounding only.
        step
            Size of a single cell, which has no neighbour to tell it.

        Raises
        ------
        GridError
            If the centres do not ascend or descend, or if there is one and no step.
        """
        values = np.asarray(centres, dtype=float).ravel()
        degrees = name in ("latitude", "longitude")
        steps = np.diff(values)
        if name == "longitude" and not (np.all(steps > 0) or np.all(steps < 0)):
            values = np.unwrap(values, period=360.0)
            steps = np.diff(values)
        found = f"found {values.size} from {values[:1]} to {values[-1:]}"
        if not values.size or not (np.all(steps > 0) or np.all(steps < 0)):
            raise GridError(f"{name} must ascend or descend; {found}; sort it first")
        if values.size == 1:
            if not abs(step) > 0:
                raise GridError(f"one {name} has no size; pass at least two; {found}")
            return cls(float(values[0]) - step / 2, step, 1)
        try:
            step = lattice_step(values, name) if degrees else spacing(values, name)
        except GridError:
            middle = (values[:-1] + values[1:]) / 2
            outer = values[[0, -1]] + steps[[0, -1]] * [-0.5, 0.5]
            bounds = np.concatenate([outer[:1], middle, outer[1:]])
            return cls(math.nan, math.nan, values.size, 0, bounds)
        # The mean over all centres is free of the rounding of the first.
        start = float(np.mean(values - step * np.arange(values.size))) - step / 2
        if degrees:
            place = 2 * (start + 180.0) / step
            if abs(place - round(place)) < SNAP:
                start = round(place) * step / 2 - 180.0
        return cls(start, step, values.size)

    def edges(self) -> np.ndarray:
        """Edges in the order of the cells, ``size + 1``."""
        if self.bounds is not None:
            return self.bounds
        return self.start + self.step * (self.offset + np.arange(self.size + 1))

    def smallest(self) -> float:
        """Size of the smallest cell."""
        return float(np.abs(np.diff(self.edges())).min())

    def cells(self, values: np.ndarray) -> np.ndarray:
        """Number of the cell that each value lies in, -1 outside and for NaN."""
        edges = self.edges()
        ascending = edges if edges[-1] > edges[0] else edges[::-1]
        # NaN sorts behind all edges.
        place = np.searchsorted(ascending, values, "right") - 1
        place = np.where((place >= 0) & (place < self.size), place, -1)
        return place if ascending is edges else np.where(place < 0, -1, self.size - 1 - place)

    def part(self, cells: slice) -> Axis:
        """Axis of some of the cells, side by side."""
        size = cells.stop - cells.start
        if self.bounds is not None:
            return replace(self, size=size, bounds=self.bounds[cells.start : cells.stop + 1])
        return replace(self, size=size, offset=self.offset + cells.start)


def pair(
    first: np.ndarray,
    second: np.ndarray,
    names: tuple[str, str] = ("latitude", "longitude"),
    step: float = math.nan,
) -> tuple[Axis, Axis]:
    """Axes of a grid; where one has a single cell, that is as large as those of the other.

    If both have, it is of `step`.

    Raises
    ------
    GridError
        As `Axis.of`.
    """
    if np.size(first) == np.size(second) == 1:
        return Axis.of(first, names[0], step=-step), Axis.of(second, names[1], step=step)
    if np.size(first) == 1 < np.size(second):
        other = Axis.of(second, names[1])
        return Axis.of(first, names[0], step=_median_step(other)), other
    one = Axis.of(first, names[0])
    return one, Axis.of(second, names[1], step=_median_step(one))


def _median_step(axis: Axis) -> float:
    return float(np.median(np.abs(np.diff(axis.edges()))))


def _places(first: float, last: float, degrees: int, count: int) -> np.ndarray:
    low = math.floor(first * count / degrees + TOUCH)
    return np.arange(low, math.ceil(last * count / degrees - TOUCH))
