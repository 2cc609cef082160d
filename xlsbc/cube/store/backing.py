"""What lies behind a variable that xarray opened and has not read, and what is known of it unread.

What a store lists of itself tells which chunks hold nothing, what has changed, and what has been
lost, without reading a value. Of a store that lists nothing, as over HTTP, nothing is known.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import zarr
from dask.base import tokenize
from xarray.backends.zarr import ZarrArrayWrapper
from xarray.coding.variables import BoolTypeArray, NativeEndiannessArray
from xarray.core.indexing import CopyOnWriteArray, LazilyIndexedArray, MemoryCachedArray
from zarr.abc.store import RangeByteRequest
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from xlsbc.cube.store.ledger import FOLDER
from xlsbc.cube.store.listing import Listing, listing
from xlsbc.cube.store.storage import persistently, reason
from xlsbc.errors import CubeError

__all__ = ["Backing", "backing", "decoding", "identity", "stamp"]

BARE = (MemoryCachedArray, CopyOnWriteArray, LazilyIndexedArray)
"""Wrappers of xarray that change no value."""

CASTS = (NativeEndiannessArray, BoolTypeArray)
"""Wrappers of xarray that change the type of values."""


@dataclass(frozen=True, eq=False)
class Backing:
    """A Zarr array, and the part of it that a variable shows.

    Parameters
    ----------
    array
        In its store.
    part
        Slice or place along every dimension.
    present
        Which chunks, or shards, are in the store; None if it does not tell.
    stamp
        Digest of the array's place and metadata and of its chunks' sizes and times.
    """

    array: zarr.Array[Any]
    part: tuple[slice | int, ...]
    present: np.ndarray | None
    stamp: str

    @cached_property
    def axes(self) -> list[int]:
        """Axes of the array that are dimensions of the variable."""
        return [axis for axis, part in enumerate(self.part) if isinstance(part, slice)]

    @cached_property
    def edges(self) -> list[np.ndarray]:
        """By dimension of the variable, where its part of every chunk begins, and its end."""
        found = []
        for axis in self.axes:
            shown = np.arange(self.array.shape[axis])[self.part[axis]]
            new = np.flatnonzero(np.diff(shown // self.array.chunks[axis])) + 1
            found.append(np.array([0, *new, len(shown)]))
        return found

    @cached_property
    def grid(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes of a chunk and of the array, which Zarr works out at each asking."""
        return self.array.chunks, self.array.shape

    def holds(self, rows: Sequence[slice], columns: Sequence[slice]) -> np.ndarray:
        """Whether boxes of the last two dimensions meet a chunk that is in the store."""
        if self.present is None or not missing_when_absent(self.array):
            return np.ones((len(rows), len(columns)), bool)
        y, x = self.axes[-2:]
        others = [axis for axis in range(self.present.ndim) if axis not in (y, x)]
        shown = [slice(None)] * self.present.ndim
        for axis in others:
            shown[axis] = self.met(axis, slice(None))
        flat = np.asarray(self.present[tuple(shown)].any(axis=tuple(others)))
        down, across = [self.met(y, row) for row in rows], [self.met(x, c) for c in columns]
        return np.array([[flat[row, column].any() for column in across] for row in down], bool)

    def met(self, axis: int, span: slice) -> slice:
        """What is one object in the store, along an axis, as far as a span of pixels meets it."""
        size, part = stored(self.array)[axis], self.part[axis]
        if not isinstance(part, slice):
            return slice(part // size, part // size + 1)
        shown = range(self.array.shape[axis])[part][span]
        low, high = sorted((shown[0], shown[-1]))
        return slice(low // size, high // size + 1)

    def lost(self, box: tuple[slice, ...]) -> bool:
        """Whether a chunk under a box that was in the store is there no more."""
        keys = [key(self.array, at) for at in self.had(box)]
        return not all(sync(persistently(self._there, key, f"looking for {key}")) for key in keys)

    def had(self, box: tuple[slice, ...]) -> list[tuple[int, ...]]:
        """Which chunks, or shards, under a box were in the store when it was opened."""
        if self.present is None:
            return []
        spans = dict(zip(self.axes, box, strict=True))
        met = [self.met(axis, spans.get(axis, slice(None))) for axis in range(len(self.part))]
        places = itertools.product(*(range(part.start, part.stop) for part in met))
        return [at for at in places if self.present[at]]

    def place(self, box: tuple[slice, ...]) -> tuple[tuple[int, ...], tuple[slice | int, ...]]:
        """The chunk in which a box lies, by its place on the array's grid, and where in it."""
        at: list[int] = []
        inner: list[slice | int] = []
        spans = iter(box)
        for size, length, part in zip(*self.grid, self.part, strict=True):
            if not isinstance(part, slice):
                at.append(part // size)
                inner.append(part % size)
                continue
            shown = range(length)[part][next(spans)]
            i = shown[0] // size
            first, end = shown[0] - i * size, shown.stop - i * size
            at.append(i)
            inner.append(slice(first, end if end >= 0 else None, shown.step))
        return tuple(at), tuple(inner)

    async def _there(self, key: str) -> bool:
        # a byte of it: file systems answer whether it exists from lists that they keep
        first = RangeByteRequest(0, 1)
        return await self.array.store.get(key, default_buffer_prototype(), first) is not None


def backing(data: Any) -> Backing | None:
    """The Zarr array behind a variable's lazy data; None if they are not plainly a part of one."""
    wrappers, array = unwrapped(data)
    if not isinstance(array, zarr.Array):
        return None
    keys = [wrapper.key.tuple for wrapper in wrappers if hasattr(wrapper, "key")]
    if not all(isinstance(k, slice | int | np.integer) for key in keys for k in key):
        return None
    whole = (slice(None),) * array.ndim
    cuts = [key for key in keys if key != whole]
    part = cuts[0] if cuts else whole
    if len(cuts) > 1 or len(part) != array.ndim:
        return None
    found = listed(array)
    stamp = hashlib.sha256(repr((identity(data), found and sorted(found.items()))).encode())
    present = None
    if found is not None:
        grid = [-(-n // size) for n, size in zip(array.shape, stored(array), strict=True)]
        present = np.zeros(grid, bool)
        for at in np.ndindex(*grid):
            present[at] = key(array, at) in found
    return Backing(array, part, present, stamp.hexdigest())


def decoding(data: Any) -> list[Callable[[np.ndarray], np.ndarray]] | None:
    """What makes a variable's values of those in its store, one value by itself, in order.

    None where that is more than xarray's masks, scales and casts.
    """
    found: list[Callable[[np.ndarray], np.ndarray]] = []
    for wrapper in reversed(unwrapped(data)[0]):
        if hasattr(wrapper, "func"):
            found.append(wrapper.func)
        elif isinstance(wrapper, CASTS):
            found.append(partial(np.ndarray.astype, dtype=wrapper.dtype))
        elif not isinstance(wrapper, BARE):
            return None
    return found


def stamp(data: Any, behind: Backing | None) -> str:
    """Digest of a variable's lazy data that changes when they do, the same in any process."""
    return identity(data) if behind is None else behind.stamp


def identity(data: Any) -> str:
    """Digest of where a variable's lazy data lie and which part of it is shown.

    A file tells when it was written; what a store tells, see `Backing`, is not looked up.
    """
    wrappers, inner = unwrapped(data)
    how = [(repr(getattr(w, "key", "")), getattr(w, "func", None)) for w in wrappers]
    if isinstance(inner, zarr.Array):
        store = type(inner.store)
        told = (store.__str__, store.__repr__) != (object.__str__, object.__repr__)
        place = (str(inner.store) if told else store.__name__, inner.path)
        return str(tokenize(how, place, str(inner.metadata.to_dict())))
    file = getattr(getattr(inner, "datastore", None), "_filename", None)
    if isinstance(file, str) and os.path.isfile(file):
        stat = os.stat(file)
        inner = (file, stat.st_size, stat.st_mtime_ns, inner.variable_name)
    return str(tokenize(how, inner))


def unwrapped(data: Any) -> tuple[list[Any], Any]:
    """The wrappers of xarray around what a variable was opened from, and that itself."""
    wrappers = []
    while hasattr(data, "array"):
        wrappers.append(data)
        data = data.array
    return wrappers, data.get_array() if isinstance(data, ZarrArrayWrapper) else data


def stored(array: zarr.Array[Any]) -> tuple[int, ...]:
    """Sizes of what is one object in the store."""
    return tuple(array.shards or array.chunks)


def key(array: zarr.Array[Any], at: tuple[int, ...]) -> str:
    """Name of a chunk in its store."""
    return "/".join(filter(None, (array.path, array.metadata.encode_chunk_key(at))))


def listed(array: zarr.Array[Any]) -> Listing | None:
    """What of an array is in its store; None where that is not known, or cannot be all."""
    try:
        found = listing(array.store, array.path)
        if found is None:
            return of_ledger(array)
    except Exception as error:
        raise CubeError(
            f"input {array.basename!r} cannot be looked up in its store, {array.store}: "
            f"{reason(error)}; see that it is within reach, and try again"
        ) from error
    own = {2: ".zarray", 3: "zarr.json"}[array.metadata.zarr_format]
    return found if found and "/".join(filter(None, (array.path, own))) in found else None


def of_ledger(array: zarr.Array[Any]) -> Listing | None:
    """What the ledger of a store that xlsbc wrote says is in it; None where there is none.

    Over HTTP nothing can be listed, and a chunk that is lost would read as missing values.
    """
    parent, _, name = array.path.rpartition("/")
    path = "/".join(filter(None, (parent, FOLDER, name)))
    try:
        ledger = zarr.open_array(array.store, path=path, mode="r")
    except (FileNotFoundError, NotImplementedError):
        return None
    sums = np.asarray(ledger[...])
    return {key(array, at): int(sums[at]) for at in np.ndindex(*sums.shape) if sums[at]}


def missing_when_absent(array: zarr.Array[Any]) -> bool:
    """Whether chunks that are not in the store read as missing values."""
    fill = array.fill_value
    if isinstance(fill, float | np.floating) and np.isnan(fill):
        return True
    return fill is not None and array.attrs.get("_FillValue") == fill
