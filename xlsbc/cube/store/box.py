"""Boxes of arrays, pixel by pixel along every dimension, and the chunks in which they lie."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np

__all__ = ["Box", "Cut", "cuts", "length", "met", "shifted", "where"]

Box = tuple[slice, ...]


class Cut(NamedTuple):
    """What of a box lies in one chunk, along one dimension.

    Parameters
    ----------
    at
        Place of the chunk.
    chunk, part
        The pixels of it, and those in the box.
    target, origin
        The latter counted from where the box begins, and from where the chunk does.
    """

    at: int
    chunk: slice
    part: slice
    target: slice
    origin: slice


def cuts(part: slice, edges: np.ndarray) -> list[Cut]:
    """What of a box lies in each chunk that it meets, along one dimension."""
    found = []
    for at in met((part,), [edges])[0]:
        begin, end = int(edges[at]), int(edges[at + 1])
        own = slice(max(part.start, begin), min(part.stop, end))
        target, origin = shifted(own, part.start), shifted(own, begin)
        found.append(Cut(at, slice(begin, end), own, target, origin))
    return found


def met(box: Box, edges: Sequence[np.ndarray]) -> list[range]:
    """Chunks that a box meets, by dimension."""
    spans = []
    for part, edge in zip(box, edges, strict=True):
        first = bisect_right(edge, part.start) - 1
        last = max(bisect_left(edge, part.stop), first + 1)
        spans.append(range(first, min(last, len(edge) - 1)))
    return spans


def shifted(part: slice, by: int) -> slice:
    """The slice counted from another origin."""
    return slice(part.start - by, part.stop - by)


def length(part: slice) -> int:
    """Number of pixels."""
    return int(part.stop - part.start)


def where(dims: Sequence[Hashable], box: Box) -> str:
    """A box, for people."""
    return ", ".join(f"{dim} {p.start} to {p.stop}" for dim, p in zip(dims, box, strict=True))
