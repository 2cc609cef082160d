"""The graph of a write: one task a region, which gathers, packs and stores whole chunks.

A region is what lies under one another in all variables on a grid: the chunks of the same year,
rows and columns. No two tasks ever touch the same object.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import dask.array as da
import numpy as np
import xarray as xr
from dask._task_spec import convert_legacy_graph
from dask.array.optimization import optimize
from dask.highlevelgraph import HighLevelGraph
from dask.task_spec import DataNode, GraphNode, Task, TaskRef
from dask.typing import Key
from dask.utils import ensure_dict

from xlsbc.cube.store.layout import Array, Index, Layout, decoded, encoded
from xlsbc.cube.store.marks import blank, pick
from xlsbc.cube.store.packing import covers
from xlsbc.cube.store.storage import Objects, checksum
from xlsbc.errors import StoreError

__all__ = ["Receipts", "Region", "Sources", "regions", "reread_tasks", "store_tasks"]

STRIP = 8
"""Regions from west to east in a row: inputs that rows of so many share can be kept decoded."""

Receipts = dict[str, int]
"""Checksums of objects by key."""

Graph = dict[Key, GraphNode]


@dataclass(frozen=True)
class Region:
    """Stored chunks that one task writes: variable and chunk of each."""

    chunks: tuple[tuple[str, Index], ...]

    @property
    def unit(self) -> int:
        """First number of its chunks, the year of a prediction."""
        return self.chunks[0][1][0]


@dataclass(frozen=True)
class Sources:
    """Where the values come from: Dask chunks by variable, or arrays in memory.

    Parameters
    ----------
    graph
        Low-level graph of all Dask variables.
    names
        Name of the Dask array of each lazy variable: its chunks' keys start so.
    memory
        Values of the other variables.
    empty
        Keys of the Dask chunks that hold nothing, known without computing them.
    """

    graph: Graph
    names: dict[str, str]
    memory: dict[str, np.ndarray]
    empty: frozenset[Key]

    @staticmethod
    def of(ds: xr.Dataset, layout: Layout) -> Sources:
        """The sources of a Dataset; computes nothing."""
        fields = {name: ds[name].variable for name in layout.arrays}
        lazy = {name: v.data for name, v in fields.items() if v.chunks is not None}
        graph = low_level(lazy.values())
        keys = {key for data in lazy.values() for key in da.core.flatten(data.__dask_keys__())}
        empty = (key for key in keys if getattr(graph.get(key), "func", None) is blank)
        return Sources(
            graph,
            {name: data.name for name, data in lazy.items()},
            {name: v.values for name, v in fields.items() if name not in lazy},
            frozenset(empty),
        )

    def pieces(self, array: Array, index: Index) -> list[tuple[Index, Any]]:
        """Chunks that a stored chunk consists of, less those that hold nothing."""
        if array.name in self.memory:
            return [(index, self.memory[array.name][array.part(index)])]
        keys: dict[Index, Key] = {
            block: (self.names[array.name], *block) for block in array.sources(index)
        }
        return [(block, TaskRef(key)) for block, key in keys.items() if key not in self.empty]


def low_level(arrays: Iterable[da.Array]) -> Graph:
    """One optimised graph of several Dask arrays."""
    arrays = list(arrays)
    if not arrays:
        return {}
    merged = HighLevelGraph.merge(*(array.dask for array in arrays))
    keys = [key for array in arrays for key in da.core.flatten(array.__dask_keys__())]
    graph = ensure_dict(optimize(merged, keys))
    return convert_legacy_graph(graph)


def regions(layout: Layout, sources: Sources) -> tuple[list[Region], Receipts]:
    """All regions that have something in them, and the objects that are known to be empty."""
    groups: dict[Hashable, list[tuple[str, Index]]] = defaultdict(list)
    empty: Receipts = {}
    for array in layout.arrays.values():
        lazy = array.name in sources.names
        place = (lazy, array.dims[-2:], array.chunks[-2:], array.shape[-2:])
        for index in array.indices():
            if lazy and not sources.pieces(array, index):
                empty[array.key(index)] = 0
            else:
                first = index[0] if len(index) > 2 else 0
                groups[place, first, index[-2:]].append((array.name, index))
    found = [Region(tuple(chunks)) for _, chunks in sorted(groups.items(), key=walk)]
    return found, empty


def walk(group: tuple[Any, list[tuple[str, Index]]]) -> tuple[int, ...]:
    """Order of regions: year by year, and in each in strips from north to south."""
    (_, first, index), _ = group
    return (first, *(i // STRIP for i in index[-1:]), *index)


def store_tasks(
    todo: Collection[Region],
    layout: Layout,
    sources: Sources,
    objects: Objects,
    done: Collection[Region] = (),
) -> tuple[Graph, list[Key]]:
    """Graph and keys of the tasks that write regions, with what they need and nothing else.

    What serves one region alone is computed inside its task: of an aligned prediction there is
    one task a tile. What goes on from a finished region reads it, and does not compute it again.
    """
    shelf = DataNode(f"xlsbc-shelf-{uuid4().hex}", Shelf(layout.arrays, layout.covers, objects))
    stores: Graph = {}
    for number, region in enumerate(todo):
        pieces = [sources.pieces(layout.arrays[name], index) for name, index in region.chunks]
        blocks = tuple(tuple(block for block, _ in each) for each in pieces)
        key = (f"xlsbc-store-{shelf.key}", f"{number:09d}")  # Dask's order, by text, is ours
        values = [piece for each in pieces for _, piece in each]
        stores[key] = Task(key, store, TaskRef(shelf.key), region, blocks, *values)
    onward = readings(done, layout, sources, shelf.key) if done else {}
    upstream = needed(sources.graph | onward, stores.values())
    graph = fused(stores, upstream)
    graph[shelf.key] = shelf
    return graph, list(stores)


def readings(done: Collection[Region], layout: Layout, sources: Sources, shelf: Key) -> Graph:
    """Tasks that read what is stored of a year in place of those that compute it for the next.

    The next year takes the same fields of the same run as the store does; see `Job.fine`.
    """
    fields: dict[tuple[Key, str], list[Key]] = defaultdict(list)
    for key, task in sources.graph.items():
        if isinstance(task, Task) and task.func is pick:
            fields[task.args[0].key, task.args[1]].append(key)
    finished = {chunk for region in done for chunk in region.chunks}
    arrays = {name: layout.arrays[variable] for variable, name in sources.names.items()}
    found: Graph = {}
    for keys in fields.values():
        for key in keys:
            array, at = arrays.get(str(key[0])), key[1:]  # type: ignore[index]
            if array and all((array.name, index) in finished for index in array.stored(at)):  # type: ignore[arg-type]
                others = [k for k in keys if k != key]
                found |= {k: Task(k, read_back, TaskRef(shelf), array.name, at) for k in others}
    return found


def flat(chunk: tuple[str, Index]) -> tuple[Key, ...]:
    """Name and numbers of a chunk in one tuple, as the key of a task must be."""
    return (chunk[0], *chunk[1])


def needed(graph: Graph, tasks: Iterable[GraphNode]) -> Graph:
    """The part of a graph that tasks depend on."""
    found: Graph = {}
    work = [key for task in tasks for key in task.dependencies]
    while work:
        key = work.pop()
        if key not in found and key in graph:
            found[key] = graph[key]
            work.extend(graph[key].dependencies)
    return found


def fused(stores: Graph, upstream: Graph) -> Graph:
    """The graph with tasks that serve one store task alone made a part of it.

    First the pieces; then, as long as all of them together need one task, and are all that needs
    it, that one. More would take parallelism away.
    """
    users: dict[Key, int] = defaultdict(int)
    for task in (*stores.values(), *upstream.values()):
        for key in task.dependencies:
            users[key] += 1
    graph = dict(upstream)
    for key, task in stores.items():
        parts = [task]
        candidates = [k for k in task.dependencies if k in upstream and users[k] == 1]
        while candidates:
            parts += [graph.pop(k) for k in candidates]
            inside = {part.key for part in parts}
            outside = {k for part in parts for k in part.dependencies} - inside
            outside &= upstream.keys()
            uses = sum(len(part.dependencies & outside) for part in parts)
            alone = len(outside) == 1 and users[next(iter(outside))] == uses
            candidates = list(outside) if alone else []
        graph[key] = GraphNode.fuse(*parts, key=key) if len(parts) > 1 else task
    return graph


@dataclass(frozen=True)
class Shelf:
    """What every task of a write needs to know; travels once to a worker."""

    arrays: Mapping[str, Array]
    covers: Mapping[str, tuple[int, ...]]
    objects: Objects


def store(
    shelf: Shelf, region: Region, blocks: tuple[tuple[Index, ...], ...], *pieces: np.ndarray
) -> tuple[Receipts, Any]:
    """Write the chunks of a region; their checksums, and what `Objects.take` must know."""
    rest = iter(pieces)
    packed: dict[str, np.ndarray] = {}
    for (name, index), mine in zip(region.chunks, blocks, strict=True):
        array = shelf.arrays[name]
        whole = gathered(array, index, {block: next(rest) for block in mine})
        if array.packing is None:
            packed[name] = whole
        else:
            origin = [part.start for part in array.part(index)]
            packed[name] = array.packing.pack(whole, origin)
    together = {name: shelf.covers[name] for name in shelf.covers if name in packed}
    if "lc_fraction" in packed and together:
        covers(packed, together, shelf.arrays["lc_fraction"].dims.index("lc_class"))
    labels, contents = {}, {}
    for name, index in region.chunks:
        array = shelf.arrays[name]
        labels[array.key(index)] = array.label(index)
        contents[array.key(index)] = encoded(array, packed.pop(name))
    written = shelf.objects.put(contents, labels)
    return {key: checksum(content) for key, content in contents.items()}, written


def gathered(array: Array, index: Index, pieces: Mapping[Index, np.ndarray]) -> np.ndarray:
    """Values of a whole stored chunk; NaN, or 0, where there are none."""
    if len(pieces) == 1:
        ((block, only),) = pieces.items()
        of = array.overlap(index, block)[1]
        if only[of].shape == array.chunks:
            return np.asarray(only[of])
    missing = np.nan if array.dtype.kind == "f" else 0
    whole = np.full(array.chunks, missing, array.dtype)
    for block, piece in pieces.items():
        within, of = array.overlap(index, block)
        whole[within] = piece[of]
    return whole


def read_back(shelf: Shelf, name: str, block: Index) -> np.ndarray:
    """A Dask chunk from the stored chunks that hold it."""
    array = shelf.arrays[name]
    whole = np.empty([sizes[i] for sizes, i in zip(array.blocks, block, strict=True)], array.dtype)
    keys = {index: array.key(index) for index in array.stored(block)}
    contents = shelf.objects.read(keys.values())
    for index, key in keys.items():
        content = contents[key]
        if content is None:
            raise StoreError(f"{array.label(index)} was stored and is there no more; write again")
        values = decoded(array, content)
        within, of = array.overlap(index, block)
        whole[of] = (array.packing.unpack(values) if array.packing else values)[within]
    return whole


def reread_tasks(
    done: Collection[Region], layout: Layout, objects: Objects
) -> tuple[Graph, list[Key]]:
    """Graph and keys of the tasks that read finished regions again."""
    shelf = DataNode(f"xlsbc-shelf-{uuid4().hex}", Shelf(layout.arrays, {}, objects))
    graph: Graph = {shelf.key: shelf}
    keys: list[Key] = []
    for region in done:
        key = (f"xlsbc-reread-{shelf.key}", *flat(region.chunks[0]))
        graph[key] = Task(key, reread, TaskRef(shelf.key), region)
        keys.append(key)
    return graph, keys


def reread(shelf: Shelf, region: Region) -> Receipts | None:
    """Checksums of a region's objects, None if one is damaged or gone."""
    arrays = {shelf.arrays[name].key(index): shelf.arrays[name] for name, index in region.chunks}
    receipts: Receipts = {}
    for key, content in shelf.objects.read(arrays).items():
        if content is None or not sound(arrays[key], content):
            return None
        receipts[key] = checksum(content)
    return receipts


def sound(array: Array, content: bytes) -> bool:
    """Whether an object can be decoded into a chunk; its codec has a checksum."""
    try:
        return decoded(array, content).shape == array.chunks
    except Exception:  # every codec has its own
        return False
