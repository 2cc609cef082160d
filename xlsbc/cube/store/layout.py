"""What a Dataset becomes in a store: its arrays, their chunks and codecs, all metadata.

xarray writes metadata and coordinates, into memory; the large variables are only laid out.
"""

from __future__ import annotations

import itertools
import json
import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.storage import MemoryStore

from xlsbc.cube import legends
from xlsbc.cube.store.packing import CLASSES, Packing, packing_of
from xlsbc.cube.store.storage import checksum
from xlsbc.errors import CubeError, LegendError

__all__ = ["Array", "CODEC", "Codec", "FAST_CODEC", "Layout", "OWN", "decoded", "encoded", "layout"]

CODEC = (BloscCodec(cname="zstd", clevel=1, shuffle="shuffle"), Crc32cCodec())
"""Without a checksum one flipped bit in five of six reads back as a wrong number, in silence.
Of a tile's integers this makes 0.7 of the bytes that zstd alone makes, in a third of the time,
which is the network's."""

LARGEST_CHUNK = 2**24
"""Values in a chunk of an array that is in memory: 64 MiB of float32."""

LARGEST_READ, SMALLEST_READ = 512, 128
"""Pixels along a side of what a reader must decode: larger chunks are shards of such."""

OWN = ("xlsbc_complete", "xlsbc_shards", "xlsbc_manifest")
"""Attributes of a store, not of what is in it."""

FAST_CODEC = (BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle"), Crc32cCodec())
"""Of fields that are read again and again, such as those to train on: decodes three times as fast,
and of numbers whose last bits are zeros it makes no more bytes."""

Codec = tuple[BloscCodec, Crc32cCodec]

Index = tuple[int, ...]


@dataclass(frozen=True)
class Array:
    """A variable that is stored in regular chunks, each one object.

    Parameters
    ----------
    name, dims, shape
        Of the variable.
    chunks
        Shape of what one object holds.
    blocks
        Lengths of the Dask chunks along each dimension; tiles at a rim are cut, also the first,
        so that they are not the stored chunks.
    dtype
        Of the values before packing.
    packing
        How they become integers.
    document
        Zarr metadata of an array of one such chunk.
    """

    name: str
    dims: tuple[str, ...]
    shape: Index
    chunks: Index
    blocks: tuple[Index, ...]
    dtype: np.dtype
    packing: Packing | None
    document: bytes = b""

    @property
    def grid(self) -> Index:
        """Number of chunks along each dimension."""
        return tuple(math.ceil(n / size) for n, size in zip(self.shape, self.chunks, strict=True))

    def indices(self) -> Iterator[Index]:
        """Every chunk."""
        return itertools.product(*map(range, self.grid))

    def key(self, index: Index) -> str:
        """Key of a chunk's object."""
        return f"{self.name}/c/{'/'.join(map(str, index))}"

    def part(self, index: Index) -> tuple[slice, ...]:
        """Where a chunk lies in the variable."""
        return tuple(
            slice(i * size, min((i + 1) * size, n))
            for i, size, n in zip(index, self.chunks, self.shape, strict=True)
        )

    def label(self, index: Index) -> str:
        """A chunk in words."""
        spans = zip(self.dims, self.part(index), strict=True)
        return f"{self.name} at " + ", ".join(f"{d} {s.start} to {s.stop}" for d, s in spans)

    @cached_property
    def bounds(self) -> tuple[np.ndarray, ...]:
        """First element of each Dask chunk along each dimension, and the end."""
        return tuple(np.concatenate([[0], np.cumsum(sizes)]) for sizes in self.blocks)

    def sources(self, index: Index) -> Iterator[Index]:
        """Dask chunks that a stored chunk needs."""
        ranges = []
        for part, bounds in zip(self.part(index), self.bounds, strict=True):
            first = int(np.searchsorted(bounds, part.start, "right")) - 1
            ranges.append(range(first, int(np.searchsorted(bounds, part.stop, "left"))))
        return itertools.product(*ranges)

    def stored(self, block: Index) -> Iterator[Index]:
        """Stored chunks that hold a part of a Dask chunk."""
        ranges = []
        for bounds, size, i in zip(self.bounds, self.chunks, block, strict=True):
            ranges.append(range(int(bounds[i]) // size, -(-int(bounds[i + 1]) // size)))
        return itertools.product(*ranges)

    def overlap(self, index: Index, block: Index) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """Where a Dask chunk lies in a stored chunk, and which part of it does."""
        within, of = [], []
        for part, bounds, i in zip(self.part(index), self.bounds, block, strict=True):
            start, stop = max(part.start, bounds[i]), min(part.stop, bounds[i + 1])
            within.append(slice(int(start - part.start), int(stop - part.start)))
            of.append(slice(int(start - bounds[i]), int(stop - bounds[i])))
        return tuple(within), tuple(of)


@dataclass(frozen=True)
class Layout:
    """All that is stored of a Dataset, but for the values of its large variables.

    Parameters
    ----------
    root
        Zarr metadata of the group, with those of all arrays in it.
    documents
        Objects that are known before anything is computed, metadata and coordinates, by key.
    arrays
        Variables whose chunks are computed, by name.
    covers
        Vegetation covers that are sums of land-cover classes, with the classes' numbers.
    """

    root: dict[str, Any]
    documents: dict[str, bytes] = field(repr=False)
    arrays: dict[str, Array]
    covers: dict[str, tuple[int, ...]]

    @property
    def receipts(self) -> dict[str, int]:
        """Checksums of the chunks that are known already, by key."""
        chunks = {k: v for k, v in self.documents.items() if not k.endswith("zarr.json")}
        return {key: checksum(content) for key, content in chunks.items()}


def layout(
    ds: xr.Dataset,
    packed: bool = True,
    codec: Codec = CODEC,
    pieces: Mapping[str, int] | None = None,
) -> Layout:
    """The store that a Dataset becomes; computes nothing but small variables that are no numbers.

    Small variables are one chunk each, but along the dimensions of `pieces`.

    Raises
    ------
    CubeError
        If there is nothing to store.
    """
    if not ds.data_vars:
        raise CubeError("nothing to write: the Dataset has no variable")
    ds = ds.drop_encoding().assign_attrs()
    for name in OWN:
        ds.attrs.pop(name, None)
    arrays = {str(k): array_of(str(k), v.variable, packed) for k, v in ds.items() if is_large(v)}
    # one chunk, however large: the values are not looked at
    hollow = {
        name: (array.dims, hollow_like(array), ds[name].attrs) for name, array in arrays.items()
    }
    rest = {name: v.compute() for name, v in ds.variables.items() if name not in arrays}
    objects: dict[str, Buffer] = {}
    memory = MemoryStore(objects)
    ds.assign({**rest, **hollow}).to_zarr(
        memory,
        zarr_format=3,
        consolidated=False,
        compute=False,
        write_empty_chunks=True,
        encoding={
            **{name: encoding_of(array, codec) for name, array in arrays.items()},
            **plain_encoding(rest, codec, pieces or {}),
        },
    )
    with warnings.catch_warnings():
        # zarr says that its form may change; xarray warns on every opening of a store without
        warnings.filterwarnings("ignore", "Consolidated metadata is currently not part")
        zarr.consolidate_metadata(memory)
    documents = {key: content.to_bytes() for key, content in sorted(objects.items())}
    root = json.loads(documents.pop("zarr.json"))
    root["attributes"] = {**root.get("attributes", {}), "xlsbc_complete": True}
    metadata = root["consolidated_metadata"]["metadata"]
    # in the Dataset's order, which is that in which a reader shows them
    root["consolidated_metadata"]["metadata"] = {str(k): metadata[str(k)] for k in ds.variables}
    arrays = {
        name: replace(array, document=of_one_chunk(documents[f"{name}/zarr.json"], array))
        for name, array in arrays.items()
    }
    return Layout(root, documents, arrays, covers_of(ds, arrays))


def is_large(variable: xr.DataArray) -> bool:
    """Whether a variable is stored chunk by chunk: numbers, in one dimension at least."""
    return variable.dtype.kind in "fiub" and variable.ndim > 0 and variable.size > 0


def array_of(name: str, variable: xr.Variable, packed: bool) -> Array:
    """How a variable is laid out."""
    dims = tuple(map(str, variable.dims))
    chunks = chunks_of(variable)
    blocks = variable.chunks
    if blocks is None:
        blocks = tuple(
            (*(size,) * (n // size), *((n % size,) if n % size else ()))
            for n, size in zip(variable.shape, chunks, strict=True)
        )
    packing = packing_of(name, dims, variable.dtype) if packed else None
    return Array(name, dims, variable.shape, chunks, blocks, variable.dtype, packing)


def chunks_of(variable: xr.Variable) -> Index:
    """Chunks of a lazy variable, the largest where they differ; of another, whole planes.

    All classes are in one chunk: packing keeps their sum.
    """
    whole = [dim in CLASSES for dim in variable.dims]
    if variable.chunks is not None:
        sizes = zip(variable.shape, variable.chunks, whole, strict=True)
        return tuple(n if all_of_it else max(blocks) for n, blocks, all_of_it in sizes)
    shape = list(variable.shape)
    for axis in range(len(shape)):
        others = math.prod(shape) // shape[axis]
        if not whole[axis]:
            shape[axis] = max(1, min(shape[axis], LARGEST_CHUNK // others))
    return tuple(shape)


def encoding_of(array: Array, codec: Codec) -> dict[str, Any]:
    """Chunks, shards, codecs and packing of a large variable."""
    inner = (*array.chunks[:-2], *map(readable, array.chunks[-2:]))
    encoding: dict[str, Any] = {"compressors": codec, "chunks": inner}
    if inner != array.chunks:
        encoding["shards"] = array.chunks
    if array.packing is not None:
        encoding |= array.packing.encoding
    elif array.dtype.kind == "f":
        encoding["fill_value"] = np.nan  # what an empty chunk is read as
    return encoding


def plain_encoding(
    variables: Mapping[Any, xr.Variable], codec: Codec, pieces: Mapping[str, int]
) -> dict[Any, dict[str, Any]]:
    """One chunk and a checksum for what is small."""
    encoding: dict[Any, dict[str, Any]] = {}
    for name, variable in variables.items():
        chunks = tuple(pieces.get(str(dim), size) for dim, size in variable.sizes.items())
        encoding[name] = {"compressors": codec, **({"chunks": chunks} if variable.size else {})}
    return encoding


def readable(side: int) -> int:
    """The largest equal part of a chunk's side that is not too large to read."""
    for parts in range(1, side // SMALLEST_READ + 1):
        if side % parts == 0 and side // parts <= LARGEST_READ:
            return side // parts
    return side


def hollow_like(array: Array) -> Any:
    """A lazy array of one chunk that nobody computes."""
    import dask.array as da

    return da.zeros(array.shape, dtype=array.dtype, chunks=array.shape)


def of_one_chunk(document: bytes, array: Array) -> bytes:
    """Zarr metadata of an array that has just one of the chunks of another."""
    metadata = json.loads(document)
    metadata["shape"] = list(array.chunks)
    metadata["attributes"] = {}
    return json.dumps(metadata).encode()


def covers_of(ds: xr.Dataset, arrays: Mapping[str, Array]) -> dict[str, tuple[int, ...]]:
    """Which classes make up the covers of high and low vegetation, where all are stored packed."""
    lc = arrays.get("lc_fraction")
    if lc is None or lc.packing is None or "lc_class" not in ds.coords:
        return {}
    try:
        legend = legends.legend(ds["lc_class"].attrs.get("legend", legends.LC.name))
        classes = [legend.classes[legend.index(str(each))] for each in ds["lc_class"].values]
    except LegendError:
        return {}
    return {
        name: tuple(i for i, each in enumerate(classes) if each.vegetation == stature)
        for name, stature in (("cvh", "high"), ("cvl", "low"))
        if name in arrays
        and arrays[name].dims == tuple(dim for dim in lc.dims if dim != "lc_class")
        and arrays[name].chunks
        == tuple(n for n, dim in zip(lc.chunks, lc.dims, strict=True) if dim != "lc_class")
    }


def encoded(array: Array, values: np.ndarray) -> bytes:
    """The object of one whole chunk; the same bytes for the same values."""
    objects: dict[str, Buffer] = {}
    of_chunk(array, objects)[...] = values
    (content,) = (value for key, value in objects.items() if key != "zarr.json")
    return content.to_bytes()


def decoded(array: Array, content: bytes) -> np.ndarray:
    """The values of one whole chunk.

    Raises
    ------
    Exception
        Of the codec's own kind if the object is damaged.
    """
    key = "/".join(["c", *("0" for _ in array.chunks)])
    objects = {key: default_buffer_prototype().buffer.from_bytes(content)}
    return np.asarray(of_chunk(array, objects)[...])


def of_chunk(array: Array, objects: dict[str, Buffer]) -> zarr.Array[Any]:
    """An array in memory of one chunk, empty ones stored like others."""
    objects["zarr.json"] = default_buffer_prototype().buffer.from_bytes(array.document)
    opened = zarr.open_array(MemoryStore(objects), mode="r+")
    return opened.with_config({"write_empty_chunks": True})
