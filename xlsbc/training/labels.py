"""Where a cube has labels that can train, and how many crops hold them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from xlsbc.emulator.spec import Spec
from xlsbc.training.reader import Known
from xlsbc.training.windows import Span, Windows

__all__ = ["cut", "labelled"]


def labelled(known: Known, spec: Spec, chosen: np.ndarray) -> np.ndarray:
    """Pixels that can train, ``(kind, y, x)``: by combination of what is given.

    All required inputs are there, what is given is known, and so is anything that is not.
    """
    there = {name: values.any(0) for name, values in finite(known.targets).items()}
    usable = np.zeros((len(spec.given), *chosen.shape), bool)
    for kind, given in zip(usable, spec.given, strict=True):
        for name, pixels in there.items():
            if name not in given:
                kind |= pixels
        for name in given:
            kind &= there[name]
    return usable & chosen & known.sample.valid


def finite(targets: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Where targets are known; shares are in all classes or in none."""
    return {
        name: np.isfinite(values if name == "lai" else values[:1])
        for name, values in targets.items()
    }


def cut(
    usable: np.ndarray, windows: Windows, spans: tuple[Span, Span], crop: int
) -> Iterator[tuple[int, tuple[int, int], int, int]]:
    """By kind and segment: how many crops hold the pixels that can train, and how many are they."""
    rows = windows.rows.segments[spans[0].first : spans[0].last + 1]
    columns = windows.columns.segments[spans[1].first : spans[1].last + 1]
    for i, (low, high) in enumerate(pairwise(rows - rows[0])):
        for j, (left, right) in enumerate(pairwise(columns - columns[0])):
            part = usable[:, low:high, left:right]
            down, across = (np.arange(0, length, crop) for length in part.shape[1:])
            held = np.logical_or.reduceat(np.logical_or.reduceat(part, down, 1), across, 2)
            for kind in np.flatnonzero(held.any((1, 2))).tolist():
                at = spans[0].first + i, spans[1].first + j
                yield kind, at, int(held[kind].sum()), int(part[kind].sum())
