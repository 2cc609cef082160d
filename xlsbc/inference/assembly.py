"""A prediction computed into memory: its tasks put their blocks where they belong in the result.

Dask holds all blocks until the last one is there and then copies them together: twice the memory,
and one thread at work. Here, where tasks run in the process that asked, a block is computed into
its place in the result, and nothing is left to copy. A place is given away once: a result whose
blocks are not all in their places, since another computation had some, is put together by Dask.
"""

from __future__ import annotations

import copy
import itertools
import sys
import threading
from collections.abc import Callable
from typing import Any
from weakref import WeakValueDictionary

import dask.array as da
import numpy as np
from dask.array.core import slices_from_chunks
from dask.core import flatten

__all__ = ["Assembled", "place"]

Index = tuple[int, ...]


class Assembled(da.Array):
    """A Dask array whose tasks ask `place` where to put their blocks."""

    def __dask_postcompute__(self) -> tuple[Callable[..., Any], tuple[()]]:
        plain, rest = super().__dask_postcompute__()
        if rest or "dask.cache" in sys.modules:  # which keeps blocks when the result is gone
            return plain, rest
        assembly = Assembly(self.chunks, self.dtype, plain)
        ASSEMBLIES[self.name] = assembly
        return assembly, ()


class Assembly:
    """The result of an array that is about to be computed, and where its blocks lie in it.

    Parameters
    ----------
    chunks, dtype
        Of the array.
    plain
        What puts its blocks together that are elsewhere.
    """

    def __init__(self, chunks: tuple[Index, ...], dtype: Any, plain: Callable[..., Any]) -> None:
        self.shape, self.dtype, self.plain = tuple(map(sum, chunks)), dtype, plain
        numbers = itertools.product(*(range(len(sizes)) for sizes in chunks))
        self.parts = dict(zip(numbers, slices_from_chunks(chunks), strict=True))
        self.free = set(self.parts)
        self.whole: np.ndarray | None = None
        self.lock = threading.Lock()

    def __reduce__(self) -> Any:
        return copy.copy, (self.plain,)  # no other process can write here

    def place(self, index: Index) -> np.ndarray | None:
        """Where a block belongs; None if it was asked for before."""
        with self.lock:
            if index not in self.free:
                return None
            self.free.remove(index)
            if self.whole is None:
                self.whole = np.empty(self.shape, self.dtype)
            return self.whole[self.parts[index]]

    def __call__(self, results: Any) -> Any:
        """The result, of its blocks in nested lists."""
        blocks = dict(zip(self.parts, flatten(results, container=list), strict=True))
        with self.lock:
            whole, free = self.whole, self.free
            self.free = set()  # what is given to the caller is given to nobody else
        if whole is None:
            return self.plain(results)
        rest = [i for i, block in blocks.items() if not same(block, whole[self.parts[i]])]
        if not free.issuperset(rest):
            return self.plain(results)
        for index in rest:
            whole[self.parts[index]] = blocks[index]
        return whole


ASSEMBLIES: WeakValueDictionary[str, Assembly] = WeakValueDictionary()
"""Those of this process, by the name of their array; they live while Dask computes them."""


def place(name: str, index: Index) -> np.ndarray | None:
    """Where a block of an array belongs, to be filled whole; None if it may be anywhere."""
    assembly = ASSEMBLIES.get(name)
    return None if assembly is None or in_worker() else assembly.place(index)


def in_worker() -> bool:
    """Whether a worker of a cluster runs this thread: it keeps blocks for others."""
    module = sys.modules.get("distributed.worker")
    return module is not None and hasattr(module.thread_state, "execution_state")


def same(block: Any, part: np.ndarray) -> bool:
    """Whether a block is this part of an array itself, not a copy."""
    if not isinstance(block, np.ndarray):
        return False
    return block.__array_interface__ == part.__array_interface__
