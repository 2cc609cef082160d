"""Chunks of a Zarr array, read and decoded without Zarr's own layer, which costs more than both.

That layer passes every chunk through an event loop and threads of its own. Here the thread that
asks reads the file and decodes it. Objects of other stores are got as Zarr gets them, and asked
for again when a store fails. What is not common is left to Zarr (`direct`).

References
----------
Zarr v3 core specification and its codec sharding_indexed; Zarr v2 specification.
"""

from __future__ import annotations

import asyncio
import math
import os
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any
from uuid import uuid4

import numpy as np
import zarr
from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec
from zarr.core.buffer import default_buffer_prototype
from zarr.core.chunk_grids import RegularChunkGrid
from zarr.core.sync import sync
from zarr.storage import LocalStore

from xlsbc.cube.store.decoder import Decoder, of_v2, of_v3
from xlsbc.cube.store.recent import Recent
from xlsbc.cube.store.storage import persistently
from xlsbc.errors import StoreError

__all__ = ["Chunks", "direct"]

Place = tuple[int, ...]

ABSENT = 2**64 - 1
"""Offset and length, in a shard's index, of a chunk that is not in the shard."""

INDICES: Recent[np.ndarray] = Recent(2**24)
"""Indices of remote shards: without them a chunk takes two requests, one after the other."""


def direct(array: zarr.Array[Any]) -> Chunks | None:
    """What reads an array's chunks; None where Zarr must."""
    about: Any = array.metadata
    if about.zarr_format == 2:
        decoder = of_v2(about, array.dtype)
        return None if decoder is None else Chunks(array, decoder)
    if about.storage_transformers or not isinstance(about.chunk_grid, RegularChunkGrid):
        return None
    if not isinstance(about.codecs[0], ShardingCodec):
        decoder = of_v3(about.codecs, array.chunks, array.dtype)
        return None if decoder is None else Chunks(array, decoder)
    decoder = of_v3(about.codecs[0].codecs, array.chunks, array.dtype)
    shards = sharding(about.codecs[0], about.chunk_grid.chunk_shape)
    if decoder is None or shards is None or len(about.codecs) > 1:
        return None
    return Chunks(array, decoder, shards)


def sharding(codec: ShardingCodec, shape: Place) -> Shards | None:
    """How chunks lie in shards of a shape; None if their index has codecs not known."""
    grid = tuple(whole // part for whole, part in zip(shape, codec.chunk_shape, strict=True))
    index = of_v3(codec.index_codecs, (*grid, 2), np.dtype("u8"))
    kinds = [type(c) for c in codec.index_codecs]
    if index is None or not set(kinds) <= {BytesCodec, Crc32cCodec}:
        return None
    size = 16 * math.prod(grid) + 4 * kinds.count(Crc32cCodec)
    return Shards(grid, index, size, codec.index_location.value == "start")


@dataclass(frozen=True)
class Shards:
    """How chunks lie in shards.

    Parameters
    ----------
    grid
        Chunks of a shard, along every axis.
    index
        Decodes its index.
    size
        Bytes of the index.
    first
        Whether it is where the shard begins, and not where it ends.
    """

    grid: Place
    index: Decoder
    size: int
    first: bool

    def span(self, index: np.ndarray, at: Place) -> tuple[int, int] | None:
        """First byte of a chunk and the end; None if the shard does not hold it."""
        inner = tuple(i % n for i, n in zip(at, self.grid, strict=True))
        offset, length = index[inner].tolist()
        return None if offset == length == ABSENT else (offset, offset + length)


@dataclass(frozen=True, eq=False)
class Chunks:
    """Chunks of an array, by their place on the grid of what is decoded at once.

    Parameters
    ----------
    array
        In its store.
    decoder
        Of a chunk.
    shards
        In which chunks lie; None where each is an object.
    """

    array: zarr.Array[Any]
    decoder: Decoder
    shards: Shards | None = None
    own: str = field(init=False, default_factory=lambda: uuid4().hex)

    @cached_property
    def folder(self) -> str | None:
        """Of the files of the store; None where it is more than files, or is wrapped."""
        store = self.array.store
        return str(store.root) if type(store) is LocalStore else None

    @cached_property
    def whole(self) -> ByteRequest | None:
        """How a whole object is asked for.

        s3fs asks for the size of an object before it gets it, but not where a range is named.
        """
        fs = getattr(self.array.store, "fs", None)
        return OffsetByteRequest(0) if "s3" in getattr(fs, "protocol", ()) else None

    @cached_property
    def extent(self) -> Place:
        """Shape of the array, which Zarr works out at each asking."""
        return self.array.shape

    @cached_property
    def prefix(self) -> str:
        """What names of objects begin with."""
        return f"{self.array.path}/" if self.array.path else ""

    def read(self, at: Place) -> np.ndarray:
        """The values of a chunk, cut to the array; perhaps read-only.

        Raises
        ------
        StoreError
            If the chunk is damaged; or another error of the store.
        """
        found = self.find(at)
        return self.blank(at) if found is None else found

    def find(
        self, at: Place, into: np.ndarray | None = None, why: str | None = None
    ) -> np.ndarray | None:
        """The values of a chunk, `into` itself where they could be decoded there.

        None where the store has no such object; the log says of another attempt `why` it is made.
        """
        key = self.key(at)
        why = why or f"reading {key}"
        if self.folder is None:
            return self.of_object(key, at, into, why)

        async def again(key: str) -> np.ndarray | None:
            return await asyncio.to_thread(self.of_file, key, at, into)

        try:
            return self.of_file(key, at, into)
        except Exception:
            return sync(persistently(again, key, why))

    def of_file(self, key: str, at: Place, into: np.ndarray | None) -> np.ndarray | None:
        """As `find`, from a file, once."""
        try:
            file = open(f"{self.folder}/{key}", "rb", buffering=0)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None
        with file:
            if self.shards is None:
                return self.values(file.readall(), key, at, into)
            size = os.fstat(file.fileno()).st_size
            file.seek(0 if self.shards.first else max(0, size - self.shards.size))
            span = self.shards.span(self.decoded(file.read(self.shards.size), key), at)
            if span is None:
                return self.blank(at)
            if span[1] > size:
                raise StoreError(
                    f"{key} is damaged: expected a chunk in its bytes {span[0]} to {span[1]}, "
                    f"found {size} bytes; restore it"
                )
            file.seek(span[0])
            return self.values(file.read(span[1] - span[0]), key, at, into)

    def of_object(
        self, key: str, at: Place, into: np.ndarray | None, why: str
    ) -> np.ndarray | None:
        """As `find`, from a store of any kind."""
        part: ByteRequest | None = None
        if self.shards is not None:
            try:
                index = INDICES.get((self.own, key), partial(self.index_of_object, key, why))
            except FileNotFoundError:
                return None
            span = self.shards.span(index, at)
            if span is None:
                return self.blank(at)
            part = RangeByteRequest(*span)

        async def attempt(key: str) -> np.ndarray | None:
            content = await self.content(key, part)
            if content is None:
                return None
            return await asyncio.to_thread(self.values, content, key, at, into)

        return sync(persistently(attempt, key, why))

    def index_of_object(self, key: str, why: str) -> np.ndarray:
        """The index of a shard in a store of any kind.

        Raises
        ------
        FileNotFoundError
            If there is no such shard.
        """
        assert self.shards is not None
        size = self.shards.size
        part = RangeByteRequest(0, size) if self.shards.first else SuffixByteRequest(size)

        async def attempt(key: str) -> np.ndarray | None:
            content = await self.content(key, part)
            return None if content is None else self.decoded(content, key)

        found = sync(persistently(attempt, key, why))
        if found is None:
            raise FileNotFoundError(key)
        return found

    async def content(self, key: str, part: ByteRequest | None) -> Any:
        """Bytes of an object; None if there is none."""
        found = await self.array.store.get(key, default_buffer_prototype(), part or self.whole)
        return None if found is None else found.as_numpy_array()

    def decoded(self, content: Any, key: str) -> np.ndarray:
        """Offset and length of every chunk of a shard."""
        assert self.shards is not None
        return self.shards.index.decode(content, f"the index of {key}")

    def values(self, content: Any, key: str, at: Place, into: np.ndarray | None) -> np.ndarray:
        """A chunk's bytes decoded."""
        found, shape = self.decoder.decode(content, key, into), self.shape(at)
        return found if shape == found.shape else found[tuple(map(slice, shape))]

    def blank(self, at: Place) -> np.ndarray:
        """A chunk of which nothing is stored."""
        fill = self.array.fill_value
        return np.full(self.shape(at), 0 if fill is None else fill, self.decoder.dtype)

    def shape(self, at: Place) -> Place:
        """Of a chunk, as far as it is within the array."""
        both = zip(self.decoder.shape, self.extent, at, strict=True)
        return tuple(min(size, whole - i * size) for size, whole, i in both)

    def key(self, at: Place) -> str:
        """Name of the object that holds a chunk."""
        if self.shards is not None:
            at = tuple(i // n for i, n in zip(at, self.shards.grid, strict=True))
        name: str = self.array.metadata.encode_chunk_key(at)
        return f"{self.prefix}{name}"
