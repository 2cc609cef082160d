"""Where the windows of an input come from: memory, a store, or the chunks of a Dask array.

A source tells a graph what a task must carry to have a box of the input (`carry`), and gives the
task that box (`read`): a view of an array in memory, nothing at all of one in a store, which is
read where the task runs, references to the chunks of a Dask array. Nothing is read before.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Protocol
from uuid import uuid4

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize
from dask.task_spec import List, TaskRef
from xarray.core.indexing import ExplicitlyIndexed
from zarr.core.sync import sync

from xlsbc.cube.store.backing import Backing, backing, stamp
from xlsbc.cube.store.recent import Recent
from xlsbc.cube.store.storage import persistently, reason
from xlsbc.errors import CubeError

__all__ = ["Source", "boxes", "source"]

Box = tuple[slice, ...]

READ: Recent[np.ndarray] = Recent(96 * 2**20)
"""Decoded chunks of stores that tasks of this process read last: neighbours share their halos."""


class Source(Protocol):
    """An input and where it is."""

    @property
    def token(self) -> str:
        """Changes when the input does."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the whole input."""

    @property
    def carries(self) -> bool:
        """Whether a task must carry anything to have a box."""

    def carry(self, box: Box) -> Any:
        """What a task must carry to have a box, as an argument of a Dask task."""

    def read(self, carried: Any, box: Box) -> Any:
        """The box in memory, of NumPy or CuPy, from what the task carried."""

    def holds(self, rows: Sequence[slice], columns: Sequence[slice]) -> np.ndarray:
        """Whether boxes ``(rows, columns)`` can hold a value, as far as is known unread."""


def source(name: str, variable: xr.Variable) -> Source:
    """Source of a variable, whatever its array is."""
    if isinstance(variable._data, da.Array):
        array = variable._data
        opened = originals(array)
        if set(array.dask.layers) != {f"original-{array.name}", array.name} or not opened:
            stamps = [stamp(data, backing(data)) for data in opened]
            token = tokenize(array.name, stamps) if stamps else array.name
            return Chunked(token, array.name, array.chunks, array)
        # a variable of an open store that is only cut into chunks
        variable = xr.Variable(variable.dims, opened[0], fastpath=True)
    if variable._in_memory:
        return Memory(variable.data, variable.shape)
    return Stored(name, variable)


def originals(array: da.Array) -> list[ExplicitlyIndexed]:
    """What a Dask array is made of that xarray opened and has not read."""
    layers = [layer for name, layer in array.dask.layers.items() if name.startswith("original-")]
    nodes = [getattr(node, "value", node) for layer in layers for node in dict(layer).values()]
    inner = [getattr(node, "array", None) for node in nodes]  # less what lets Dask index it
    return [found for found in inner if isinstance(found, ExplicitlyIndexed)]


@dataclass(frozen=True, eq=False)
class Memory:
    """An array in memory."""

    array: Any
    shape: tuple[int, ...]
    carries = True

    @property
    def token(self) -> str:
        return str(tokenize(self.array))

    def carry(self, box: Box) -> Any:
        return self.array[box]

    def read(self, carried: Any, box: Box) -> Any:
        return carried

    def holds(self, rows: Sequence[slice], columns: Sequence[slice]) -> np.ndarray:
        known = np.isfinite(self.array)
        found = [[bool(known[..., row, column].any()) for column in columns] for row in rows]
        return np.array(found, dtype=bool)

    def __reduce__(self) -> tuple[Any, ...]:
        return Memory, (None, self.shape)  # a task carries what it needs


@dataclass(frozen=True, eq=False)
class Chunked:
    """Chunks that a graph computes, those of a Dask array or of the graph itself.

    Parameters
    ----------
    token
        Changes when the input does.
    name, chunks
        As of a Dask array.
    array
        The array; None if its tasks are part of the graph already.
    """

    token: str
    name: str
    chunks: tuple[tuple[int, ...], ...]
    array: da.Array | None = None
    carries = True

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(map(sum, self.chunks))

    def carry(self, box: Box) -> Any:
        """Chunks that a box meets, nested by dimension, and where it lies in them."""
        spans = met(box, self.edges)
        first = [edges[span.start] for edges, span in zip(self.edges, spans, strict=True)]
        inner = tuple(shifted(part, int(edge)) for part, edge in zip(box, first, strict=True))
        return List(self.refs(spans, ()), inner)

    @cached_property
    def edges(self) -> list[np.ndarray]:
        """First pixel of every chunk and the end, by dimension."""
        return [np.cumsum((0, *sizes)) for sizes in self.chunks]

    def refs(self, spans: list[range], at: tuple[int, ...]) -> Any:
        """References to chunks, as lists in lists."""
        if not spans:
            return TaskRef((self.name, *at))
        return List(*(self.refs(spans[1:], (*at, i)) for i in spans[0]))

    def read(self, carried: Any, box: Box) -> Any:
        chunks, inner = carried
        return joined(chunks, len(inner))[inner]

    def holds(self, rows: Sequence[slice], columns: Sequence[slice]) -> np.ndarray:
        return np.ones((len(rows), len(columns)), bool)

    def __reduce__(self) -> tuple[Any, ...]:
        return Chunked, (self.token, self.name, self.chunks)  # a task carries what it needs


@dataclass(frozen=True, eq=False)
class Stored:
    """A variable in a store, read where a task runs.

    Parameters
    ----------
    name
        Of the variable.
    variable
        Lazily indexed by xarray.
    """

    name: str
    variable: xr.Variable
    backing: Backing | None = field(init=False)
    token: str = field(init=False)
    own: str = field(init=False, default_factory=lambda: uuid4().hex)
    carries = False

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.variable.shape)

    def __post_init__(self) -> None:
        behind = backing(self.variable._data)
        object.__setattr__(self, "backing", behind)
        object.__setattr__(self, "token", stamp(self.variable._data, behind))

    def carry(self, box: Box) -> Any:
        return None

    def read(self, carried: Any, box: Box) -> np.ndarray:
        """The box, from chunks that were read last where they hold it."""
        if self.backing is None:
            return self.load(box)
        edges = self.backing.edges
        found = np.empty([part.stop - part.start for part in box], self.variable.dtype)
        for at in itertools.product(*met(box, edges)):
            whole = [slice(int(e[i]), int(e[i + 1])) for i, e in zip(at, edges, strict=True)]
            part = [
                slice(max(a.start, b.start), min(a.stop, b.stop))
                for a, b in zip(box, whole, strict=True)
            ]
            size = self.variable.dtype.itemsize * math.prod(map(length, whole))
            if READ.keeps(size):
                chunk = tuple(whole)
                # not by the token: some stores do not tell that a chunk has changed
                values = READ.get((self.own, at), partial(self.load, chunk))
            else:
                chunk = tuple(part)
                values = self.load(chunk)
            target = tuple(shifted(p, b.start) for p, b in zip(part, box, strict=True))
            origin = tuple(shifted(p, c.start) for p, c in zip(part, chunk, strict=True))
            found[target] = values[origin]
        return found

    def load(self, box: Box) -> np.ndarray:
        """The box, read, no more than one chunk; several times where the store fails.

        A chunk that was there and is no more is an error, and neither missing values nor zeros.
        """

        async def attempt(name: str) -> np.ndarray:
            loaded = await self.variable[box].load_async()
            return np.asarray(loaded.data)

        try:
            if self.backing is None:  # may not know how to be read so
                return self.variable[box].to_numpy()
            values = sync(persistently(attempt, self.name, f"reading input {self.name!r}"))
            gone = uniform(values) and self.backing.lost(box)
        except Exception as error:
            raise CubeError(
                f"input {self.name!r} cannot be read at {where(self.variable.dims, box)}: "
                f"{reason(error)}; see that its store is whole and within reach, and try again"
            ) from error
        if gone:
            raise CubeError(
                f"input {self.name!r} was in its store when it was opened and is there no more at "
                f"{where(self.variable.dims, box)}; restore it, or open the cube again"
            )
        return values

    def holds(self, rows: Sequence[slice], columns: Sequence[slice]) -> np.ndarray:
        if self.backing is None:
            return np.ones((len(rows), len(columns)), bool)
        return self.backing.holds(rows, columns)


def boxes(*extents: Sequence[slice]) -> list[Box]:
    """Boxes of which a window consists, in order, from the slices along each dimension."""
    return list(itertools.product(*extents))


def joined(chunks: Any, ndim: int) -> Any:
    """Nested lists of chunks as one array."""
    if not isinstance(chunks, list):
        return chunks
    parts = [joined(chunk, ndim - 1) for chunk in chunks]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=parts[0].ndim - ndim)


def met(box: Box, edges: Sequence[np.ndarray]) -> list[range]:
    """Chunks that a box meets, by dimension."""
    spans = []
    for part, edge in zip(box, edges, strict=True):
        first = int(np.searchsorted(edge, part.start, side="right")) - 1
        last = max(int(np.searchsorted(edge, part.stop, side="left")), first + 1)
        spans.append(range(first, min(last, len(edge) - 1)))
    return spans


def shifted(part: slice, by: int) -> slice:
    """The slice counted from another origin."""
    return slice(part.start - by, part.stop - by)


def length(part: slice) -> int:
    """Number of pixels."""
    return int(part.stop - part.start)


def uniform(values: np.ndarray) -> bool:
    """Whether all values are one, or all missing, as those of a chunk are that is not there."""
    first = values.flat[0]
    return bool((np.isnan(values) if np.isnan(first) else values == first).all())


def where(dims: Sequence[Hashable], box: Box) -> str:
    """A box, for people."""
    return ", ".join(f"{dim} {p.start} to {p.stop}" for dim, p in zip(dims, box, strict=True))
