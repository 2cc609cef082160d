"""Which coarse cells the pixels of a window lie among, and where among them.

The cells of a window depend on where it lies and never on how much of a coarse grid is at hand: a
box that was cut out of a cube meets as many, and so the same last bits, as the cube itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xlsbc.cube.grid import TOLERANCE, lattice_step

__all__ = ["Axis", "Cells", "among", "needed", "on_lattice"]

RESOLVED = 2.0**-20
"""Part of a coarse cell to which places in it are rounded, so that a box cut out of a cube, whose
coordinates differ in their last bit, has the same ones."""

EDGE = 1e-6
"""Part of a coarse cell by which a pixel may lie outside the cells for the sake of rounding."""

SINGLE = 2.0**-15
"""Degrees by which float32 may miss a longitude."""


@dataclass(frozen=True)
class Axis:
    """A regular coarse axis, latitudes or longitudes of cell centres, degrees.

    Parameters
    ----------
    first, step
        First centre, and from one to the next; of either sign.
    size
        Number of cells.
    """

    first: float
    step: float
    size: int

    @classmethod
    def of(cls, centres: np.ndarray) -> Axis:
        """Axis of regular coordinates; one alone is a cell as wide as the world."""
        if len(centres) == 1:
            return cls(float(centres[0]), np.inf, 1)
        step = lattice_step(np.asarray(centres, float), "a coarse axis")
        return cls(on_lattice(float(centres[0]), step), step, len(centres))

    @property
    def around(self) -> bool:
        """Whether it goes around the globe, so that its last cell is beside its first."""
        return abs(abs(self.step) * self.size - 360.0) < abs(self.step) / 2

    def index(self, start: int, stop: int) -> np.ndarray:
        """Cells ``start .. stop`` as places on the axis; those beyond an end repeat it."""
        cells = np.arange(start, stop)
        return cells % self.size if self.around else np.clip(cells, 0, self.size - 1)


@dataclass(frozen=True)
class Cells:
    """Cells ``start .. stop`` of an axis, and where pixels lie among them.

    Parameters
    ----------
    start, stop
        Counted from the first cell of the axis; may lie beyond its ends.
    position
        ``(pixel,)``: fractional index counted from `start`; NaN outside the cells of the axis.
    """

    start: int
    stop: int
    position: np.ndarray


def among(axis: Axis, pixels: np.ndarray) -> Cells:
    """Cells that linear interpolation to a window's pixels needs.

    Parameters
    ----------
    axis
        Coarse axis.
    pixels
        Coordinates of adjacent pixels, degrees; longitudes may differ from the axis by turns.
    """
    if np.isinf(axis.step):
        return Cells(0, 1, np.zeros(len(pixels)))
    place = places(axis, pixels, (pixels[0] + pixels[-1]) / 2)
    inside = axis.around | ((place >= -0.5 - EDGE) & (place <= axis.size - 0.5 + EDGE))
    start, stop = int(np.floor(place.min())), int(np.floor(place.max())) + 2
    return Cells(start, stop, np.where(inside, place - start, np.nan))


def needed(axis: Axis, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Places on the axis of all cells that `among` finds for any of many windows, ascending.

    Parameters
    ----------
    axis
        Coarse axis.
    first, last
        Coordinates of the first and the last pixel of every window, degrees.
    """
    if np.isinf(axis.step):
        return np.zeros(1, int)
    ends = places(axis, np.stack([first, last]), (first + last) / 2)
    starts, stops = np.floor(ends.min(0)).astype(int), np.floor(ends.max(0)).astype(int) + 2
    return np.unique(
        np.concatenate([axis.index(*span) for span in zip(starts, stops, strict=True)])
    )


def on_lattice(first: float, step: float) -> float:
    """A coordinate less the rounding by which that of a box differs from that of the globe.

    Nearly all grids lie at multiples of half their step; others stay where they are.
    """
    half = step / 2
    near = round(first / half) * half
    return near if abs(near - first) <= min(SINGLE, TOLERANCE * abs(step)) else first


def places(axis: Axis, pixels: np.ndarray, middle: np.ndarray) -> np.ndarray:
    """Fractional indices on the axis, which a window turns to as its middle is nearest to.

    Latitudes are never more than half a turn away, so that they stay as they are.
    """
    centre = axis.first + axis.step * (axis.size - 1) / 2
    turned = pixels + 360.0 * np.round((centre - middle) / 360.0)
    return np.round((turned - axis.first) / axis.step / RESOLVED) * RESOLVED
