"""Where the windows of an input come from: memory, a store, or the chunks of a Dask array.

A source tells a graph what a task must carry to have a box of the input (`carry`), and gives the
task that box (`read`): a view of an array in memory, nothing at all of one in a store, which is
read where the task runs, references to the chunks of a Dask array. Nothing is read before.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from typing import Any, Protocol
from uuid import uuid4

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize
from dask.task_spec import List, TaskRef
from xarray.core.indexing import ExplicitlyIndexed
from zarr.core.sync import sync
from zarr.storage import LocalStore, MemoryStore, WrapperStore, ZipStore

from xlsbc.cube.store.backing import Backing, backing, decoding, stamp
from xlsbc.cube.store.box import Box, Cut, cuts, length, met, shifted, where
from xlsbc.cube.store.chunks import Chunks, direct
from xlsbc.cube.store.recent import Recent
from xlsbc.cube.store.storage import persistently, reason
from xlsbc.cube.store.unpacking import Unpacking, unpacking
from xlsbc.errors import CubeError

__all__ = ["Box", "Source", "boxes", "source"]

READ: Recent[np.ndarray] = Recent(64 * 2**20)
"""Decoded chunks of stores that tasks of this process read last: neighbours share their halos."""

AT_ONCE = 32
"""Chunks of remote stores that tasks of this process wait for: such a store answers late and much
at a time."""


@cache
def waiting() -> ThreadPoolExecutor:
    """Threads that wait for remote stores, and decode what they get."""
    return ThreadPoolExecutor(AT_ONCE, "xlsbc-remote")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=waiting.cache_clear)  # which has none of the threads


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
    dtype = variable.dtype
    if isinstance(variable._data, da.Array):
        array = variable._data
        opened = originals(array)
        if not only_cast(array) or not opened:
            stamps = [stamp(data, backing(data)) for data in opened]
            token = tokenize(array.name, stamps) if stamps else array.name
            return Chunked(token, array.name, array.chunks, array)
        # a variable of an open store that is only cut into chunks
        variable = xr.Variable(variable.dims, opened[0], fastpath=True)
    if variable._in_memory:
        return Memory(variable.data, variable.shape)
    return Stored(name, variable, dtype)


def only_cast(array: da.Array) -> bool:
    """Whether a Dask array is what was opened, cut into chunks, and of another type at most.

    Packed numbers are float64 when xarray has decoded them, and a conformed cube is float32.
    """
    layers = array.dask.layers
    cast = array.name if array.name.startswith("astype-") else None
    inner = array.name if cast is None else next(iter(array.dask.dependencies[cast]), "")
    return set(layers) == {f"original-{inner}", inner} | ({cast} if cast else set())


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
    dtype
        To which its values are cast.
    """

    name: str
    variable: xr.Variable
    dtype: np.dtype[Any]
    backing: Backing | None = field(init=False)
    chunks: Chunks | None = field(init=False)
    decoding: Sequence[Callable[[np.ndarray], np.ndarray]] = field(init=False)
    unpacking: Unpacking | None = field(init=False)
    token: str = field(init=False)
    own: str = field(init=False, default_factory=lambda: uuid4().hex)
    carries = False

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.variable.shape)

    def __post_init__(self) -> None:
        behind = backing(self.variable._data)
        known = None if behind is None else decoding(self.variable._data)
        chunks = None if behind is None or known is None else direct(behind.array)
        object.__setattr__(self, "backing", behind)
        object.__setattr__(self, "chunks", chunks)
        object.__setattr__(self, "decoding", known or ())
        packed = unpacking(known or (), behind.array.dtype, self.dtype) if behind else None
        object.__setattr__(self, "unpacking", packed)
        token = stamp(self.variable._data, behind)
        if self.dtype != self.variable.dtype:
            token = str(tokenize(token, self.dtype))
        object.__setattr__(self, "token", token)

    @cached_property
    def remote(self) -> bool:
        """Whether the store answers late, and many at once."""
        assert self.backing is not None
        store = self.backing.array.store
        while isinstance(store, WrapperStore):
            store = store._store
        return not isinstance(store, LocalStore | MemoryStore | ZipStore)

    def carry(self, box: Box) -> Any:
        return None

    def read(self, carried: Any, box: Box) -> np.ndarray:
        """The box, from chunks that were read last where they hold it."""
        if self.backing is None:
            return self.load(box)
        found = np.empty([part.stop - part.start for part in box], self.dtype)
        if not found.size:
            return found
        along = [cuts(part, edges) for part, edges in zip(box, self.backing.edges, strict=True)]
        # a box of whole chunks has no halo that another shares
        whole = all(cut.part == cut.chunk for axis in along for cut in axis)
        pieces = list(itertools.product(*along))
        fill = partial(self.fill, found, straight=whole)
        side_by_side = self.remote and len(pieces) > 1
        list(waiting().map(fill, pieces) if side_by_side else map(fill, pieces))
        return found

    def fill(self, found: np.ndarray, piece: tuple[Cut, ...], *, straight: bool) -> None:
        """Put into a box what of it lies in one chunk; `straight` from there, and not kept."""
        target: np.ndarray = found[(*(cut.target for cut in piece), ...)]  # type: ignore[arg-type]
        chunk = tuple(cut.chunk for cut in piece)
        size = self.dtype.itemsize * math.prod(map(length, chunk))
        if straight or not READ.keeps(size):
            values = self.load(tuple(cut.part for cut in piece), target)
        else:
            at = tuple(cut.at for cut in piece)
            # not by the token: some stores do not tell that a chunk has changed
            kept = READ.get((self.own, at), partial(self.load, chunk))
            values = kept[tuple(cut.origin for cut in piece)]
        if values is not target:
            target[...] = values

    def load(self, box: Box, into: np.ndarray | None = None) -> np.ndarray:
        """The box, read, no more than one chunk; several times where the store fails.

        It is `into` itself where it could be read there. A chunk that was there and is no more is
        an error, and neither missing values nor zeros.
        """
        try:
            if self.backing is None:  # may not know how to be read so
                return self.variable[box].to_numpy().astype(self.dtype, copy=False)
            values = self.directly(box, into) if self.chunks else self.by_zarr(box)
        except Exception as error:
            raise CubeError(
                f"input {self.name!r} cannot be read at {where(self.variable.dims, box)}: "
                f"{reason(error)}; see that its store is whole and within reach, and try again"
            ) from error
        if values is None:
            raise CubeError(
                f"input {self.name!r} was in its store when it was opened and is there no more at "
                f"{where(self.variable.dims, box)}; restore it, or open the cube again"
            )
        return values.astype(self.dtype, copy=False)

    def directly(self, box: Box, into: np.ndarray | None) -> np.ndarray | None:
        """The box, decoded here; None if it was in the store and is there no more."""
        assert self.backing is not None
        assert self.chunks is not None
        at, inner = self.backing.place(box)
        as_stored = not self.decoding and self.dtype == self.variable.dtype
        bare = as_stored and all(isinstance(i, slice) and i.step == 1 for i in inner)
        chunk = self.chunks.find(at, into if bare else None, f"reading input {self.name!r}")
        if chunk is into is not None:
            return into
        if chunk is None:
            if self.backing.had(box):
                return None
            chunk = self.chunks.blank(at)
        values = chunk[(*inner, ...)]
        if self.unpacking is not None:
            return self.unpacking.unpack(values, into)
        for function in self.decoding:
            values = function(values)
        # or what is kept would be the whole chunk
        return values.copy() if values.size < chunk.size and not self.decoding else values

    def by_zarr(self, box: Box) -> np.ndarray | None:
        """The same through xarray and Zarr."""
        assert self.backing is not None

        async def attempt(name: str) -> np.ndarray:
            loaded = await self.variable[box].load_async()
            return np.asarray(loaded.data)

        values = sync(persistently(attempt, self.name, f"reading input {self.name!r}"))
        return None if uniform(values) and self.backing.lost(box) else values

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


def uniform(values: np.ndarray) -> bool:
    """Whether all values are one, or all missing, as those of a chunk are that is not there."""
    first = values.flat[0]
    return bool((np.isnan(values) if np.isnan(first) else values == first).all())
