"""How the bytes of a chunk become its values, by the codecs of Zarr that the field's stores have.

References
----------
Zarr v3 core specification and its codecs bytes, transpose, blosc, zstd, gzip and crc32c; Zarr v2
specification. Zstandard's frame header: RFC 8878, section 3.1.1.1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numcodecs
import numpy as np
from numcodecs.checksum32 import CRC32C
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, TransposeCodec, ZstdCodec

from xlsbc.cube.store.storage import reason
from xlsbc.errors import StoreError

__all__ = ["Decoder", "of_v2", "of_v3"]

UNDO: dict[type, Any] = {
    ZstdCodec: numcodecs.Zstd(),
    BloscCodec: numcodecs.Blosc(),
    GzipCodec: numcodecs.GZip(),
    Crc32cCodec: CRC32C(location="end"),
}
"""What decodes what a codec of Zarr v3 has encoded, whatever its options were."""

COMPRESSORS = (numcodecs.Zstd, numcodecs.Blosc, numcodecs.LZ4, numcodecs.Zlib, numcodecs.GZip)
"""Of Zarr v2."""

NUMBERS = "biufc"
"""Kinds of NumPy's dtypes."""

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True)
class Decoder:
    """Decodes chunks of one array.

    Parameters
    ----------
    shape
        Of a whole chunk.
    stored, dtype
        Of its values as they are in the store, and as they are given.
    axes
        In which order its axes are in the store, if in another.
    codecs
        Of numcodecs, that which was applied last first.
    """

    shape: tuple[int, ...]
    stored: np.dtype[Any]
    dtype: np.dtype[Any]
    axes: tuple[int, ...] | None
    codecs: tuple[Any, ...]

    @cached_property
    def size(self) -> int:
        """Bytes of a chunk's values."""
        return self.stored.itemsize * math.prod(self.shape)

    def decode(self, content: Any, what: str, into: np.ndarray | None = None) -> np.ndarray:
        """A chunk's values, perhaps read-only; `into` itself where they could be decoded there.

        Raises
        ------
        StoreError
            If they cannot be decoded, or are not as many as there should be.
        """
        if into is not None and not self.fits(into):
            into = None
        try:
            found = content
            for codec in self.codecs[:-1]:
                found = codec.decode(found)
            for codec in self.codecs[-1:]:
                if into is not None and announced(codec, found) == self.size:
                    codec.decode(found, out=into)
                    return into
                found = codec.decode(found)
            values = np.frombuffer(found, np.uint8)
        except Exception as error:  # every codec has its own
            raise StoreError(
                f"{what} is damaged: {reason(error)} ({len(content)} bytes); restore it"
            ) from error
        if values.nbytes != self.size:
            raise StoreError(
                f"{what} is damaged: expected {self.size} bytes decoded, found {values.nbytes}; "
                "restore it"
            )
        return self.arranged(values.view(self.stored)).astype(self.dtype, copy=False)

    def fits(self, into: np.ndarray) -> bool:
        """Whether the bytes of a chunk are those of an array."""
        same = self.stored == self.dtype == into.dtype and self.shape == into.shape
        return same and self.axes is None and into.flags.c_contiguous

    def arranged(self, values: np.ndarray) -> np.ndarray:
        """Values in the order of the array's axes."""
        if self.axes is None:
            return values.reshape(self.shape)
        there = values.reshape([self.shape[axis] for axis in self.axes])
        return there.transpose(np.argsort(self.axes))


def of_v3(codecs: Sequence[Any], shape: Sequence[int], dtype: np.dtype[Any]) -> Decoder | None:
    """What undoes a chain of codecs; None if one of them, or the dtype, is not known."""
    rest = list(codecs)
    axes = rest.pop(0).order if isinstance(rest[0], TransposeCodec) else None
    serial, *others = rest
    known = isinstance(serial, BytesCodec) and {type(codec) for codec in others} <= set(UNDO)
    if not known or dtype.kind not in NUMBERS:
        return None
    stored = dtype if serial.endian is None else dtype.newbyteorder(serial.endian.value)
    undo = tuple(UNDO[type(codec)] for codec in reversed(others))
    return Decoder(tuple(shape), stored, dtype, axes, undo)


def of_v2(about: Any, dtype: np.dtype[Any]) -> Decoder | None:
    """What decodes chunks as an array's metadata say; None if they say something not known."""
    compressor = about.compressor
    known = compressor is None or isinstance(compressor, COMPRESSORS)
    if about.filters or not known or dtype.kind not in NUMBERS:
        return None
    axes = None if about.order == "C" else tuple(range(len(about.chunks)))[::-1]
    return Decoder(about.chunks, dtype, dtype, axes, () if compressor is None else (compressor,))


def announced(codec: Any, content: Any) -> int | None:
    """Bytes that will be decoded, as their header says; None where none says it.

    What decodes into an array that is too large leaves the rest as it was, in silence.
    """
    head = bytes(memoryview(content)[:18])
    if isinstance(codec, numcodecs.Blosc):
        return int.from_bytes(head[4:8], "little")
    if not isinstance(codec, numcodecs.Zstd) or head[:4] != ZSTD_MAGIC or len(head) < 18:
        return None
    single = head[4] >> 5 & 1  # one segment: no byte that tells of a window
    width = (single, 2, 4, 8)[head[4] >> 6]
    begin = 6 - single + (0, 1, 2, 4)[head[4] & 3]
    told = int.from_bytes(head[begin : begin + width], "little")
    return told + 256 * (width == 2) if width else None
