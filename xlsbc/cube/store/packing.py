"""Fractions and leaf area as 16-bit integers: a third of the bytes, and sums that stay exact.

A step is a power of two, so that every stored number is a float32 of itself, and a sum of fractions
that is 1 in steps is 1 in float32 too, whatever the order of the sum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from xlsbc.cube.vocabulary import VOCABULARY
from xlsbc.errors import CubeError

__all__ = ["MISSING", "Packing", "packing_of"]

MISSING = np.iinfo(np.uint16).max
"""What stands for NaN."""

KIN = {
    "cvh": "lc_fraction",
    "cvl": "lc_fraction",
    "lai_hv": "lai",
    "lai_lv": "lai",
}
"""What follows from a variable of the vocabulary is stored in its steps."""

CLASSES = ("lu_class", "lc_class")


@dataclass(frozen=True)
class Packing:
    """How a variable becomes integers.

    Parameters
    ----------
    name
        Of the variable.
    step
        What 1 stands for.
    dims
        Of the variable; along a dimension of classes the sum is kept.
    """

    name: str
    step: float
    dims: tuple[str, ...]

    @property
    def encoding(self) -> dict[str, object]:
        """Encoding by which xarray reads the integers as float32 with NaN."""
        return {
            "dtype": "uint16",
            "scale_factor": self.step,
            "_FillValue": MISSING,
            "fill_value": MISSING,
        }

    def pack(self, values: np.ndarray, origin: Sequence[int] | None = None) -> np.ndarray:
        """uint16 of a block that starts at `origin`, `MISSING` where it is NaN.

        Each is the nearest step. Along classes it is the nearest step of the *running sum* that
        is kept: so each class is within one step, a sum of neighbours is within one step too,
        what is 0 stays 0, and what sums to 1 does so exactly.

        Raises
        ------
        CubeError
            If a value is negative or too large for 16 bits, with its place.
        """
        axes = [axis for axis, dim in enumerate(self.dims) if dim in CLASSES]
        steps = values / values.dtype.type(self.step)  # exact: a step is a power of two
        missing = np.isnan(steps)
        steps[missing] = 0
        if steps.size and (steps.min() < -0.5 or steps.max() > MISSING - 1):
            raise CubeError(self._out_of_range(values, steps, origin or (0,) * values.ndim))
        if axes:
            accumulate(np.moveaxis(steps, axes[0], 0))
        packed = np.rint(steps, out=steps).astype(np.uint16)
        packed[missing] = MISSING
        return packed

    def unpack(self, packed: np.ndarray) -> np.ndarray:
        """float32 of what `pack` made, NaN where it is `MISSING`."""
        values = packed * np.float32(self.step)
        values[packed == MISSING] = np.nan
        return values

    def _out_of_range(self, values: np.ndarray, steps: np.ndarray, origin: Sequence[int]) -> str:
        bad = (steps < -0.5) | (steps > MISSING - 1)
        place = np.unravel_index(int(bad.argmax()), bad.shape)
        where = ", ".join(
            f"{dim} {first + int(i)}"
            for dim, first, i in zip(self.dims, origin, place, strict=True)
        )
        return (
            f"{self.name!r} cannot be stored in steps of {self.step:g}: expected 0 to "
            f"{(MISSING - 1) * self.step:g}, found {values[place]:g} at {where}; "
            "correct it, or pass packed=False"
        )


def accumulate(steps: np.ndarray) -> None:
    """Replace each part by what it adds to the running sum of all, rounded; in place."""
    total = np.zeros(steps.shape[1:])
    before = np.zeros(steps.shape[1:])
    for part in steps:
        # A rounding error below zero must not take a step off the sum.
        total += np.maximum(part, 0)
        here = np.rint(total)
        part[...] = here - before
        before = here


def packing_of(name: str, dims: Sequence[str], dtype: np.dtype) -> Packing | None:
    """How a variable is packed, None if it is stored as it is."""
    known = VOCABULARY.get(KIN.get(name, name))
    if known is None or known.step is None or dtype.kind != "f":
        return None
    return Packing(name, known.step, tuple(dims))


def covers(packed: dict[str, np.ndarray], classes: Mapping[str, Sequence[int]], axis: int) -> None:
    """Make stored vegetation covers the sums of the stored classes, which they are by definition.

    Rounded by themselves they would be off by steps.
    """
    lc = packed["lc_fraction"]
    missing = (lc == MISSING).any(axis)
    for name, members in classes.items():
        total = lc.take(members, axis).astype(np.uint32).sum(axis)
        packed[name] = np.where(missing, MISSING, total).astype(np.uint16)
