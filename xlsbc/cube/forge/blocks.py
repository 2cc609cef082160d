"""Blocks of stored chunks: what a fragment gives to each, and how one is written.

A block is what one task writes, the stored chunks of one variable at one number along each
dimension that is cut into fragments. No two blocks touch the same object.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dask
import numpy as np
import xarray as xr

from ...errors import LsbcError, SourceError
from ..ingest.source import FETCH_AGAIN
from ..store.layout import Array, Index, decoded, encoded
from ..store.regions import Receipts
from ..store.storage import Objects, checksum
from .mosaic import Mosaic, Place

__all__ = ["Block", "Piece", "blocks", "split", "write"]

LARGEST_PART = 2**27
"""Bytes that are computed at a time: 128 MiB, but never less than one chunk."""

MOST_COMMON = 0.05
"""Share of the known values of a fragment that another may hold as well: pixels on a seam of two
tiles may get a value from both."""

Block = tuple[str, Index]
"""Name of a variable, and the block's number along each of its dimensions that is cut."""


@dataclass(frozen=True)
class Piece:
    """What one fragment gives to one block.

    Parameters
    ----------
    source
        File that it comes from.
    places
        Where its steps lie in the whole variable, along each dimension.
    values
        The values, lazy.
    """

    source: str
    places: tuple[Place, ...]
    values: Any = field(repr=False)


@dataclass(frozen=True)
class Written:
    """What writing a block came to.

    Parameters
    ----------
    receipts
        Checksums of the objects.
    known
        Whether a file gave any value of a variable, by variable and file.
    """

    receipts: Receipts
    known: dict[tuple[str, str], bool]


def blocks(
    mosaic: Mosaic, arrays: Mapping[str, Array], before: Mapping[str, Array]
) -> Iterator[Block]:
    """Every block of every variable; of those that are there before, the blocks that grow."""
    for name, array in arrays.items():
        ranges = []
        for axis, (dim, count) in enumerate(zip(array.dims, array.grid, strict=True)):
            if dim not in mosaic.cut[name]:
                continue
            first = 0
            if name in before and before[name].shape[axis] < array.shape[axis]:
                first = before[name].shape[axis] // array.chunks[axis]
            ranges.append(range(first, count))
        if name in before or not before:
            yield from ((name, index) for index in itertools.product(*ranges))


def split(
    ds: xr.Dataset, mosaic: Mosaic, arrays: Mapping[str, Array]
) -> Iterator[tuple[Block, Piece]]:
    """The pieces of a fragment, by block; computes nothing."""
    source = str(ds.encoding.get("source", "a fragment"))
    for name, da in ds.data_vars.items():
        array = arrays[str(name)]
        places = [mosaic.place(ds.coords, dim) for dim in array.dims]
        numbers = []
        for dim, place, size in zip(array.dims, places, array.chunks, strict=True):
            cut = dim in mosaic.cut[str(name)]
            numbers.append(place // size if cut else np.zeros_like(place))
        for index in itertools.product(*(np.unique(n).tolist() for n in numbers)):
            chosen = [np.flatnonzero(n == i) for n, i in zip(numbers, index, strict=True)]
            data = da.variable.isel(
                {d: as_slice(c) for d, c in zip(array.dims, chosen, strict=True)}
            ).data
            if dask.is_dask_collection(data):
                (data,) = dask.optimize(data)  # leaves out the rest of the fragment
            number = tuple(
                i for i, dim in zip(index, array.dims, strict=True) if dim in mosaic.cut[str(name)]
            )
            inside = tuple(p[c] for p, c in zip(places, chosen, strict=True))
            yield (str(name), number), Piece(source, inside, data)


def as_slice(index: np.ndarray) -> slice | np.ndarray:
    """A slice where the numbers follow one another."""
    if index.size and np.array_equal(index, np.arange(index[0], index[0] + index.size)):
        return slice(int(index[0]), int(index[0]) + index.size)
    return index


def write(
    block: Block,
    pieces: Iterable[Piece],
    mosaic: Mosaic,
    array: Array,
    objects: Objects,
    before: Array | None = None,
) -> Written:
    """Compute a block part by part, and put its chunks.

    `before` is the variable as the store has it already: its values stay.

    Raises
    ------
    SourceError
        If two fragments hold the same.
    StoreError
        If a chunk cannot be written.
    """
    name, number = block
    ordered = sorted(pieces, key=lambda piece: piece.source)
    receipts: Receipts = {}
    known = {(name, piece.source): False for piece in ordered}
    for part in parts(chunk_ranges(array, mosaic.cut[name], number), array):
        region = tuple(
            slice(r.start * size, min(r.stop * size, n))
            for r, size, n in zip(part, array.chunks, array.shape, strict=True)
        )
        whole = gathered(ordered, region, array, known, before, objects)
        contents, labels = {}, {}
        for index in itertools.product(*part):
            values = cut_out(array, index, region, whole)
            if array.packing is not None:
                values = array.packing.pack(values, [p.start for p in array.part(index)])
            contents[array.key(index)] = encoded(array, values)
            labels[array.key(index)] = array.label(index)
        objects.put(contents, labels)
        receipts |= {key: checksum(content) for key, content in contents.items()}
    return Written(receipts, known)


def missing(array: Array) -> Any:
    """What stands where no fragment has a value."""
    return np.nan if array.dtype.kind == "f" else 0


def chunk_ranges(array: Array, cut: Sequence[str], number: Index) -> list[range]:
    """Chunks of a block along each dimension."""
    rest = iter(number)
    return [
        range(i, i + 1) if dim in cut and (i := next(rest)) >= 0 else range(count)
        for dim, count in zip(array.dims, array.grid, strict=True)
    ]


def parts(ranges: Sequence[range], array: Array) -> Iterator[tuple[range, ...]]:
    """A block's chunks in parts that can be computed at a time, the last dimension first."""
    size = math.prod(array.chunks) * array.dtype.itemsize
    lengths = [1] * len(ranges)
    for axis in reversed(range(len(ranges))):
        lengths[axis] = max(1, min(len(ranges[axis]), LARGEST_PART // size))
        size *= lengths[axis]
    steps = [
        [r[i : i + length] for i in range(0, len(r), length)]
        for r, length in zip(ranges, lengths, strict=True)
    ]
    return itertools.product(*steps)


def gathered(
    pieces: Sequence[Piece],
    region: tuple[slice, ...],
    array: Array,
    known: dict[tuple[str, str], bool],
    before: Array | None,
    objects: Objects,
) -> np.ndarray:
    """All values of a region, from what a store has of it and from the pieces."""
    shape = tuple(r.stop - r.start for r in region)
    whole: np.ndarray | None = None
    if before is not None:
        whole = np.full(shape, missing(array), array.dtype)
        fill_from(before, objects, region, whole)
    for piece in pieces:
        inside = [(p >= r.start) & (p < r.stop) for p, r in zip(piece.places, region, strict=True)]
        if not all(each.any() for each in inside):
            continue
        values = computed(piece, inside, array.name).astype(array.dtype, copy=False)
        any_value = array.dtype.kind != "f" or bool((values == values).any())
        known[array.name, piece.source] |= any_value
        if whole is None and values.shape == shape and is_in_order(piece, inside):
            whole = values  # all of it: most often there is one piece
            continue
        if whole is None:
            whole = np.full(shape, missing(array), array.dtype)
        elif not whole.flags.writeable:
            whole = whole.copy()
        lay(piece, inside, region, values, whole, array, known)
    return np.full(shape, missing(array), array.dtype) if whole is None else whole


def computed(piece: Piece, inside: Sequence[np.ndarray], name: str) -> np.ndarray:
    """The values of a piece in a region.

    Raises
    ------
    SourceError
        If the file cannot be read there.
    """
    data = piece.values
    for axis, chosen in enumerate(inside):
        if not chosen.all():
            data = data[(slice(None),) * axis + (as_slice(np.flatnonzero(chosen)),)]
    try:
        return np.asarray(data.compute(scheduler="threads") if hasattr(data, "compute") else data)
    except LsbcError:
        raise
    except Exception as error:  # every reader has its own
        cause = (str(error) or type(error).__name__).splitlines()[0]
        raise SourceError(
            f"{piece.source} cannot be read",
            [f"{piece.source}, variable {name!r}: expected values; found {cause}; {FETCH_AGAIN}"],
        ) from error


def is_in_order(piece: Piece, inside: Sequence[np.ndarray]) -> bool:
    """Whether the steps of a piece follow one another along each dimension."""
    return all(
        isinstance(as_slice(place[chosen]), slice)
        for place, chosen in zip(piece.places, inside, strict=True)
    )


def lay(
    piece: Piece,
    inside: Sequence[np.ndarray],
    region: tuple[slice, ...],
    values: np.ndarray,
    whole: np.ndarray,
    array: Array,
    known: Mapping[tuple[str, str], bool],
) -> None:
    """Put a piece's values where nothing is yet.

    Raises
    ------
    SourceError
        If much of it is there already, with other values.
    """
    at: Any = np.ix_(
        *(p[i] - r.start for p, i, r in zip(piece.places, inside, region, strict=True))
    )
    if array.dtype.kind != "f":
        whole[at] = values
        return
    there = whole[at]
    new, old = ~np.isnan(values), ~np.isnan(there)
    both = np.count_nonzero(new & old & (values != there))
    if both > MOST_COMMON * min(np.count_nonzero(new), np.count_nonzero(old)):
        others = [source for (_, source), any_value in known.items() if any_value]
        others = [source for source in others if source != piece.source]
        raise SourceError(
            "two files hold the same",
            [
                f"{piece.source}, variable {array.name!r}: {both} of its values are others in "
                f"{' or '.join(others) or 'the store'}; leave one of the files out"
            ],
        )
    whole[at] = np.where(old, there, values)


def cut_out(array: Array, index: Index, region: tuple[slice, ...], whole: np.ndarray) -> np.ndarray:
    """The values of one stored chunk; one at the rim is filled up."""
    part = array.part(index)
    values = whole[
        tuple(slice(p.start - r.start, p.stop - r.start) for p, r in zip(part, region, strict=True))
    ]
    if values.shape == array.chunks:
        return np.ascontiguousarray(values)
    full = np.full(array.chunks, missing(array), array.dtype)
    full[tuple(slice(0, n) for n in values.shape)] = values
    return full


def fill_from(
    before: Array, objects: Objects, region: tuple[slice, ...], whole: np.ndarray
) -> None:
    """Put what a store has of a region already."""
    if any(r.start >= n for r, n in zip(region, before.shape, strict=True)):
        return
    held = [
        range(r.start // size, -(-min(r.stop, n) // size))
        for r, size, n in zip(region, before.chunks, before.shape, strict=True)
    ]
    keys = {index: before.key(index) for index in itertools.product(*held)}
    contents = objects.read(keys.values())
    for index, key in keys.items():
        content = contents[key]
        if content is None:
            raise SourceError(f"{before.label(index)} is missing in the store; build it anew")
        values = decoded(before, content)
        values = before.packing.unpack(values) if before.packing else values
        part = before.part(index)
        at = tuple(
            slice(p.start - r.start, p.stop - r.start) for p, r in zip(part, region, strict=True)
        )
        whole[at] = values[tuple(slice(0, p.stop - p.start) for p in part)]
