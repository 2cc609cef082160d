"""A GRIB file as one Dataset: messages of several variables, levels and step types side by side.

cfgrib makes the index and the coordinates, in memory: nothing is written beside the file. What it
would do silently is refused here: a file that is cut off ends early in cfgrib, and of two fields
of the same variable and time the last one wins.

References
----------
WMO Manual on Codes (WMO-No. 306), volume I.2, FM 92 GRIB: section 0 and section 8 (``7777``) of
editions 1 and 2.
ecCodes 2.50, ``grib_io.c``: the lengths of GRIB 1 messages of 8 MiB and more.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO

import numpy as np
import xarray as xr

from .. import native

__all__ = ["open_grib"]

TIME = "valid_time"
# Fields are alike if all of these are; cfgrib makes one variable of them.
ALIKE = (
    "paramId dataType stream typeOfLevel stepType stepUnits md5GridSection edition centre subCentre"
).split()
FINAL = "0001"
"""Experiment version of ERA5; its preliminary months (ERA5T) have 0005."""
LARGEST_CHUNK = 2**22
"""Values in a chunk: 16 MiB of float32, or one field where that is more."""

END = b"7777"
LARGE = 0x800000
"""Bit of the length of a GRIB 1 message: the rest of it counts units of 120 bytes."""

# ecCodes is not thread-safe in all of its builds.
_ECCODES = Lock()


def open_grib(local: Path) -> xr.Dataset:
    """All fields of a GRIB file, lazy, float32, NaN where a bitmap says missing.

    Parameters
    ----------
    local
        A file of GRIB 1 or 2 messages, on one grid.

    Returns
    -------
    xarray.Dataset
        (valid_time, latitude, longitude) for each variable, with levels or ensemble members
        between where there are several. Variables with other times than the first have a time
        dimension of their own (``valid_time_2``): monthly means of ERA5 are stamped 00:00, or
        06:00 where they were accumulated. Times are seconds since 1970; attributes are cfgrib's,
        with ``GRIB_level`` and ``GRIB_stream``.

    Raises
    ------
    ValueError
        If a message is cut off or there is something else between messages; if there are several
        grids, or two fields of one variable for the same time.
    """
    # Imported here: only this reader needs them, and `import xlsbc` is to stay fast.
    cfgrib = native.cfgrib()

    count = sum(1 for _ in messages(local))
    stream = cfgrib.FileStream(os.fspath(local), errors="raise")
    keys = [*cfgrib.compute_index_keys((TIME,)), "expver", "stream"]
    index = cfgrib.FieldsetIndex.from_fieldset(stream, keys, cfgrib.COMPUTED_KEYS)
    found = sum(len(ids) for _, ids in index.iter_index())
    if found < count:
        raise ValueError(f"expected {count} messages; found {found} that can be read")
    if len(index["md5GridSection"]) > 1:
        grids = len(index["md5GridSection"])
        raise ValueError(f"expected fields on one grid; found {grids} grids; split the file")
    variables: dict[str, xr.DataArray] = {}
    for part in _parts(index):
        da = _variable(part, local)
        variables[_free_name(da, variables)] = da
    attrs = {k: v for k, v in da.attrs.items() if k in ("GRIB_edition", "GRIB_centre")}
    return xr.Dataset(_with_own_times(variables), attrs=attrs)


def messages(local: Path) -> Iterator[tuple[int, int]]:
    """Offset and length in bytes of each message of a GRIB file; reads no data.

    Raises
    ------
    ValueError
        If a message does not end where it says, or other bytes than padding lie between two.
    """
    size = local.stat().st_size
    with local.open("rb") as stream:
        offset = 0
        while offset < size:
            stream.seek(offset)
            start = stream.read(16)
            if not start.startswith(b"GRIB"):
                offset = _after_padding(stream, offset, size)
                continue
            length = _length(stream, offset, start)
            stream.seek(offset + length - len(END))
            if length < len(start) or stream.read(len(END)) != END:
                raise ValueError(
                    f"the message at byte {offset} does not end after its {length} bytes; the "
                    f"file of {size} bytes is cut off or damaged"
                )
            yield offset, length
            offset += length


def _after_padding(stream: BinaryIO, offset: int, size: int) -> int:
    """Offset of the next message: MARS fills up to multiples of 120 bytes with zeros."""
    stream.seek(offset)
    while offset < size:
        block = stream.read(4096)
        rest = block.lstrip(b"\0")
        offset += len(block) - len(rest)
        if rest:
            if not rest.startswith(b"GRIB"[: len(rest)]):
                raise ValueError(f"expected a GRIB message at byte {offset}; found {rest[:8]!r}")
            if len(rest) < 4 and offset + len(rest) == size:
                raise ValueError(f"the message at byte {offset} is cut off")
            return offset
    return offset


def _length(stream: BinaryIO, offset: int, start: bytes) -> int:
    edition = start[7] if len(start) > 7 else 0
    if edition == 2 and len(start) == 16:
        return int.from_bytes(start[8:16])
    if edition != 1:
        raise ValueError(f"the message at byte {offset} is of GRIB edition {edition}, or cut off")
    length = int.from_bytes(start[4:7])
    if not length & LARGE:
        return length
    # Sections 1 to 3 lie before section 4, whose own length says what to take off.
    position, flags = offset + 8, None
    for section in (1, 2, 3, 4):
        if section in (2, 3) and flags is not None and not flags & (0x80 >> (section - 2)):
            continue
        stream.seek(position)
        head = stream.read(8)
        flags = head[7] if section == 1 and len(head) == 8 else flags
        own = int.from_bytes(head[:3])
        position += own
    return (length & ~LARGE) * 120 - own + 4 if own < 120 else length


def _parts(index: Any) -> Iterator[Any]:
    """The index of each variable: of fields that differ in time, level and member alone."""
    places = [index.index_keys.index(key) for key in ALIKE]
    groups: dict[tuple[Any, ...], None] = {}
    for values, _ in index.iter_index():
        groups[tuple(values[place] for place in places)] = None
    for group in groups:
        part = index.subindex(dict(zip(ALIKE, group, strict=True)))
        version = part.index_keys.index("expver")
        _refuse_repeated(part, version)
        # The last of two fields wins in cfgrib: let it be the final one.
        part.field_ids_index.sort(key=lambda item: item[0][version] == FINAL)
        yield part


def _refuse_repeated(part: Any, version: int) -> None:
    keys = ("number", TIME, "level:float")
    places = [part.index_keys.index(key) for key in keys if key in part.index_keys]
    seen = set()
    for values, ids in part.iter_index():
        what = (*(values[place] for place in places), values[version])
        if what in seen or len(ids) > 1:
            when = np.datetime64(int(values[part.index_keys.index(TIME)]), "s")
            raise ValueError(
                f"expected one field a time; found two of paramId {part.getone('paramId')} for "
                f"{when}; leave one out"
            )
        seen.add(what)


def _variable(part: Any, local: Path) -> xr.DataArray:
    cfgrib = native.cfgrib()

    field = cfgrib.open_from_index(
        part, read_keys=("stream",), time_dims=(TIME,), squeeze=False, errors="raise"
    )
    name, stored = next(
        (name, variable)
        for name, variable in field.variables.items()
        if not isinstance(variable.data, np.ndarray)
    )
    space = stored.data.geo_ndim
    header = stored.dimensions[:-space]
    offsets = np.full(stored.data.shape[:-space], -1, np.int64)
    for place, ids in stored.data.field_id_index.items():
        if not isinstance(ids[0], int):
            raise ValueError("expected one field a message; found several; split it with grib_copy")
        offsets[place] = ids[0]
    attrs = {k: v for k, v in stored.attributes.items() if k != "coordinates"}
    level = str(attrs.get("GRIB_typeOfLevel"))
    if level in field.variables and field.variables[level].data.size == 1:
        attrs["GRIB_level"] = float(field.variables[level].data.ravel()[0])
    kept = [i for i, dim in enumerate(header) if dim == TIME or offsets.shape[i] > 1]
    offsets = offsets.reshape([offsets.shape[i] for i in kept])
    dims = (*(header[i] for i in kept), *stored.dimensions[-space:])
    coords = {
        key: (variable.dimensions, variable.data, variable.attributes)
        for key, variable in field.variables.items()
        if key != name and set(variable.dimensions) <= set(dims)
    }
    attrs |= {f"GRIB_{key}": part.getone(key) for key in ("edition", "centre")}
    data = _lazy(offsets, local, stored.data.shape[-space:], dims.index(TIME))
    return xr.DataArray(data, coords, dims, name=str(name), attrs=attrs)


def _lazy(offsets: np.ndarray, local: Path, shape: tuple[int, ...], time: int) -> Any:
    import dask.array

    fields = max(1, LARGEST_CHUNK // int(np.prod(shape)))
    chunks = tuple(fields if axis == time else 1 for axis in range(offsets.ndim))
    stat = local.stat()
    return dask.array.map_blocks(
        _read,
        dask.array.from_array(offsets, chunks),
        path=os.fspath(local),
        shape=shape,
        written=(stat.st_size, stat.st_mtime_ns),
        new_axis=list(range(offsets.ndim, offsets.ndim + len(shape))),
        chunks=(*dask.array.core.normalize_chunks(chunks, offsets.shape), *((n,) for n in shape)),
        dtype=np.float32,
        meta=np.empty((0,) * (offsets.ndim + len(shape)), np.float32),
    )


def _read(
    offsets: np.ndarray, path: str, shape: tuple[int, ...], written: tuple[int, int]
) -> np.ndarray:
    """Fields at their offsets in a file; NaN where there is none. `written` tells files apart."""
    cfgrib = native.cfgrib()

    fields = np.full((*offsets.shape, *shape), np.nan, np.float32)
    stream = cfgrib.FileStream(path, errors="raise")
    for place in np.ndindex(offsets.shape):
        if offsets[place] < 0:
            continue
        with _ECCODES:
            message = stream[int(offsets[place])]
            values = cfgrib.dataset.get_values_in_order(message, shape)
            missing = message["missingValue"]
        values = np.where(values == missing, np.nan, values)
        fields[place] = values.reshape(shape)
    return fields


def _free_name(da: xr.DataArray, taken: dict[str, xr.DataArray]) -> str:
    """Name of a variable; where it is taken, with the kind of its level or of its step."""
    name = str(da.name) if da.name != "unknown" else f"param{da.attrs['GRIB_paramId']}"
    kinds = (da.attrs.get("GRIB_typeOfLevel"), da.attrs.get("GRIB_stepType"))
    for candidate in (name, *(f"{name}_{kind}" for kind in kinds)):
        if candidate not in taken:
            return candidate
    raise ValueError(f"expected one variable {name!r} a level type; found several; split the file")


def _with_own_times(variables: dict[str, xr.DataArray]) -> dict[str, xr.DataArray]:
    """The variables, with a time dimension for each set of times."""
    sets: dict[bytes, str] = {}
    renamed = {}
    for name, da in variables.items():
        times = da[TIME].values.tobytes()
        dim = sets.setdefault(times, TIME if not sets else f"{TIME}_{len(sets) + 1}")
        renamed[name] = da.rename({TIME: dim}) if dim != TIME else da
    return renamed
