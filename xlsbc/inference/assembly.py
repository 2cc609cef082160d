"""A prediction computed into memory: its tasks put their blocks where they belong in the result.

Dask holds all blocks until the last one is there and then copies them together: twice the memory,
and one thread at work. Here, where tasks run in the process that asked, a block is computed into
its place in the result, and nothing is left to copy. A place is given away once: a result whose
blocks are not all in their places, since another computation had some, is put together by Dask.

Places are there while a local scheduler of Dask runs a graph at whose end the whole is wanted. What
takes block after block (a writer, `persist`, a cluster) gets blocks of its own. Blocks that are
asked for in the same `dask.compute` are parts of the whole, as Dask's are where there is one block.
"""

from __future__ import annotations

import copy
import itertools
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

import dask.array as da
import numpy as np
from dask.array.core import slices_from_chunks
from dask.callbacks import Callback
from dask.core import flatten

__all__ = ["assembled", "place"]

Index = tuple[int, ...]


def assembled(array: da.Array) -> da.Array:
    """The Dask array itself, whose tasks ask `place` where to put their blocks.

    No class of its own: xarray computes arrays together only where they are of one type.
    """
    plain, rest = array.__dask_postcompute__()
    start = partial(Assembly, array.name, array.chunks, array.dtype, plain)

    def postcompute() -> tuple[Callable[..., Any], tuple[Any, ...]]:
        if watched():
            return plain, rest
        Callback(start=begin, finish=end).register()  # again: threads can make Dask forget it
        return start(), rest

    array.__dask_postcompute__ = postcompute  # type: ignore[method-assign]
    return array


class Assembly:
    """The result of an array that is about to be computed, and where its blocks lie in it.

    Parameters
    ----------
    name, chunks, dtype
        Of the array.
    plain
        What puts its blocks together that are elsewhere.
    """

    def __init__(
        self, name: str, chunks: tuple[Index, ...], dtype: Any, plain: Callable[..., Any]
    ) -> None:
        self.name, self.plain = name, plain
        self.shape, self.dtype = tuple(map(sum, chunks)), dtype
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

    def close(self) -> tuple[np.ndarray | None, set[Index]]:
        """What was filled, and the places not given away; from now on there are none."""
        with self.lock:
            whole, free = self.whole, self.free
            self.whole, self.free = None, set()
        return whole, free

    def __call__(self, results: Any) -> Any:
        """The result, of its blocks in nested lists."""
        whole, free = self.close()
        if whole is None:
            return self.plain(results)
        blocks = dict(zip(self.parts, flatten(results, container=list), strict=True))
        rest = [i for i, block in blocks.items() if not same(block, whole[self.parts[i]])]
        if not free.issuperset(rest) or any(type(blocks[i]) is not np.ndarray for i in rest):
            return self.plain(results)
        for index in rest:
            whole[self.parts[index]] = blocks[index]
        return whole


RUNNING: WeakValueDictionary[str, Assembly] = WeakValueDictionary()
"""Those that Dask computes at this moment in this process, by the name of their array."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=RUNNING.clear)


def place(name: str, index: Index) -> np.ndarray | None:
    """Where a block of an array belongs, to be filled whole; None if it may be anywhere."""
    assembly = RUNNING.get(name)
    return None if assembly is None else assembly.place(index)


def watched() -> bool:
    """Whether someone sees the results of tasks and may keep them, as `dask.cache` does."""
    functions = [function for _, _, _, function, _ in Callback.active if function is not None]
    modules = [str(getattr(function, "__module__", None)) for function in functions]
    return not all(module.startswith("dask.diagnostics") for module in modules)


def begin(graph: Mapping[Any, Any]) -> None:
    """Called by Dask before it runs a graph."""
    for assembly in assemblies(graph):
        RUNNING[assembly.name] = assembly


def end(graph: Mapping[Any, Any], state: Any, failed: bool) -> None:
    """Called by Dask when it has run a graph, whether or not that went well."""
    for assembly in assemblies(graph):
        assembly.close()
        if RUNNING.get(assembly.name) is assembly:
            del RUNNING[assembly.name]


def assemblies(graph: Mapping[Any, Any]) -> Iterator[Assembly]:
    """Those that a graph ends in."""
    functions = (getattr(task, "func", None) for task in graph.values())
    return (function for function in functions if isinstance(function, Assembly))


def same(block: Any, part: np.ndarray) -> bool:
    """Whether a block is this part of an array itself, not a copy."""
    if not isinstance(block, np.ndarray):
        return False
    return block.__array_interface__ == part.__array_interface__
