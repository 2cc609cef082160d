"""What no file covers, in sentences: steps of an axis, steps of a variable, most of a grid."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from .footprint import Footprint

__all__ = ["coverage"]

MOSTLY = 0.5
"""Share of a grid that files of one region cover at least."""


def coverage(
    fields: Mapping[str, Sequence[str]], axes: Mapping[str, np.ndarray], parts: Sequence[Footprint]
) -> list[str]:
    """Sentences about what the files lack, from the dims of each variable and all axes."""
    notes = [gap(dim, values) for dim, values in axes.items()]
    notes += [lack(name, dim, axes[dim], parts) for name, dims in fields.items() for dim in dims]
    notes += [sparse(name, dims, axes, parts) for name, dims in fields.items()]
    return [note for note in notes if note]


def gap(dim: str, values: np.ndarray) -> str | None:
    """A sentence about steps that are missing in an axis of times or years."""
    if dim == "year":
        expected = np.arange(values[0], values[-1] + 1)
    elif values.dtype.kind == "M" and values.size > 2:
        expected = steps_between(values)
    else:
        return None
    missing = np.setdiff1d(expected, values)
    if not missing.size:
        return None
    return f"{dim!r} has gaps: {told(missing)} are in no file"


def lack(name: str, dim: str, values: np.ndarray, parts: Sequence[Footprint]) -> str | None:
    """A sentence about steps of an axis at which other variables have files, and this has none."""
    if values.dtype.kind not in "Mi":
        return None
    own = np.unique(
        np.concatenate([part.coords[dim].values for part in parts if name in part.variables])
    )
    missing = np.setdiff1d(values, own)
    return f"{name!r} is in no file at {told(missing)} of {dim!r}" if missing.size else None


def sparse(
    name: str,
    dims: Sequence[str],
    axes: Mapping[str, np.ndarray],
    parts: Sequence[Footprint],
) -> str | None:
    """A sentence about a grid of which the files cover little: they are of several regions."""
    grid = [dim for dim in dims if axes[dim].dtype.kind == "f"]
    boxes = {
        tuple((float(part.coords[d][0]), float(part.coords[d][-1]), part.sizes[d]) for d in grid)
        for part in parts
        if name in part.variables
    }
    covered = sum(math.prod(n for *_, n in box) for box in boxes)
    whole = math.prod(axes[dim].size for dim in grid)
    if len(boxes) < 2 or covered >= MOSTLY * whole:
        return None
    return f"{name!r}: {len(boxes)} boxes of files cover {covered / whole:.0%} of the whole grid"


def told(steps: np.ndarray) -> str:
    """Some of many steps in words."""
    shown = ", ".join(str(each)[:10] for each in steps[:6])
    return f"{shown} and {steps.size - 6} more" if steps.size > 6 else shown


def steps_between(values: np.ndarray) -> np.ndarray:
    """The months, dekads or days from the first to the last of some of them."""
    days = values.astype("datetime64[D]")
    months = np.arange(days[0].astype("datetime64[M]"), days[-1].astype("datetime64[M]") + 1)
    firsts = months.astype("datetime64[D]")
    if np.isin(days, firsts).all():
        expected = firsts
    elif np.isin(days, dekads := np.sort(np.concatenate([firsts, firsts + 10, firsts + 20]))).all():
        expected = dekads[(dekads >= days[0]) & (dekads <= days[-1])]
    else:
        # Composites of so many days begin anew with each year.
        step = int(np.median(np.diff(days).astype(int)))
        years = np.arange(days[0].astype("datetime64[Y]"), days[-1].astype("datetime64[Y]") + 2)
        starts = years.astype("datetime64[D]")
        expected = np.concatenate([np.arange(a, b, step) for a, b in pairwise(starts)])
        if not np.isin(days, expected).all():
            expected = np.arange(days[0], days[-1] + 1, max(step, 1))
        expected = expected[(expected >= days[0]) & (expected <= days[-1])]
    return expected.astype(values.dtype)
