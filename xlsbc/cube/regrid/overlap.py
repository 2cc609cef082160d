"""Which cells of two axes overlap, by how much, and sums over a field by such shares."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from scipy import sparse

# Neighbours of grids that line up overlap by rounding: below this part of a cell it is nothing.
SLIVER = 1e-9

# Source values that are summed at once: what keeps the float64 copies of a window small.
AT_ONCE = 2**20


class Overlap(NamedTuple):
    """Every overlap of a target with a source cell, by target and then along the source.

    Parameters
    ----------
    target, source
        Numbers of the two cells.
    low, high
        Ends of what they share.
    """

    target: np.ndarray
    source: np.ndarray
    low: np.ndarray
    high: np.ndarray


class Weights(Protocol):
    """What of its area each target pixel of a block shares with each source cell of a window."""

    def sums(self, field: np.ndarray) -> np.ndarray:
        """Sum of value times shared area, (y, x) to (row, column), float64."""
        ...


class Separable:
    """Weights that are a product of one over rows and one over columns.

    Parameters
    ----------
    rows, columns
        CSR matrices (target, source).
    """

    def __init__(self, rows: sparse.csr_matrix, columns: sparse.csr_matrix) -> None:
        self.rows, self.columns = rows, columns

    def sums(self, field: np.ndarray) -> np.ndarray:
        """Sum of value times shared area, (y, x) to (row, column), float64."""
        out = np.zeros((self.rows.shape[0], self.columns.shape[0]))
        # Each target row is summed alone, so that strips do not change a bit.
        for strip in strips(self.rows.indptr, field.shape[1]):
            first, last = self.rows.indptr[[strip.start, strip.stop]]
            taken = self.rows.indices[first:last]
            if not taken.size:
                continue
            y = taken.min()
            part = field[y : taken.max() + 1].astype(np.float64, copy=False)
            pointer = self.rows.indptr[strip.start : strip.stop + 1] - first
            shape = (strip.stop - strip.start, part.shape[0])
            rows = sparse.csr_matrix((self.rows.data[first:last], taken - y, pointer), shape=shape)
            out[strip] = (self.columns @ np.ascontiguousarray((rows @ part).T)).T
        return out


class Matrix:
    """Weights of any kind.

    Parameters
    ----------
    matrix
        CSR (row and column of the target, y and x of the source), each pair as one number.
    shape
        Rows and columns of the target.
    """

    def __init__(self, matrix: sparse.csr_matrix, shape: tuple[int, int]) -> None:
        self.matrix, self.shape = matrix, shape

    def sums(self, field: np.ndarray) -> np.ndarray:
        """Sum of value times shared area, (y, x) to (row, column), float64."""
        return (self.matrix @ field.ravel().astype(np.float64, copy=False)).reshape(self.shape)


def overlap(low: np.ndarray, high: np.ndarray, edges: np.ndarray) -> Overlap:
    """Overlaps of intervals with the cells between edges.

    Parameters
    ----------
    low, high
        Ends of each target interval.
    edges
        Of the source cells, ascending or descending.
    """
    count = edges.size - 1
    ascending = edges[-1] >= edges[0]
    edges = edges if ascending else edges[::-1]
    first = np.clip(np.searchsorted(edges, low, "right") - 1, 0, count)
    last = np.clip(np.searchsorted(edges, high, "left"), 0, count)
    runs = np.maximum(last - first, 0)
    target = np.repeat(np.arange(low.size), runs)
    source = np.arange(target.size) + np.repeat(first - (np.cumsum(runs) - runs), runs)
    ends = np.maximum(low[target], edges[source]), np.minimum(high[target], edges[source + 1])
    smaller = np.minimum((high - low)[target], edges[source + 1] - edges[source])
    keep = ends[1] - ends[0] > SLIVER * smaller
    source = source if ascending else count - 1 - source
    return Overlap(target[keep], source[keep], ends[0][keep], ends[1][keep])


def window(low: float, high: float, edges: np.ndarray) -> slice | None:
    """Source cells that an interval overlaps; None where there are none."""
    source = overlap(np.array([low]), np.array([high]), edges).source
    return slice(int(source.min()), int(source.max()) + 1) if source.size else None


def intervals(edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper end of each cell, whichever way the edges run."""
    return np.minimum(edges[:-1], edges[1:]), np.maximum(edges[:-1], edges[1:])


def zone(south: np.ndarray, north: np.ndarray) -> np.ndarray:
    """Area between two parallels on the unit sphere, for one unit of longitude.

    It goes with the difference of the sines, written so that it keeps its digits at the poles.
    """
    middle, half = np.deg2rad((south + north) / 2), np.deg2rad((north - south) / 2)
    return 2 * np.cos(middle) * np.sin(half)


def strips(pointer: np.ndarray, width: int) -> list[slice]:
    """Runs of target rows that each need few enough source values at once."""
    out, first = [], 0
    while first < pointer.size - 1:
        room = pointer[first] + max(AT_ONCE // max(width, 1), 1)
        last = max(int(np.searchsorted(pointer, room, "right")) - 1, first + 1)
        out.append(slice(first, last))
        first = last
    return out
