"""A PCRaster map (CSF 2), as hydrological models keep their static fields, read without PCRaster.

A map says where its pixels lie, but not in which coordinate reference system. Coordinates that can
be longitudes and latitudes are taken for these, and a comment says so.

References
----------
Utrecht University: Cross System Format, version 2 (csf.h of the PCRaster raster format library).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from ...errors import SourceError
from .source import FETCH_AGAIN

__all__ = ["open_pcraster"]

HEADER = np.dtype(
    {
        "names": """version projection order scale cells y x rows columns width height
            angle""".split(),
        "formats": "u2 u2 u4 u2 u2 f8 f8 u4 u4 f8 f8 f8".split(),
        "offsets": [32, 38, 46, 64, 66, 92, 84, 100, 104, 108, 116, 124],
        "itemsize": 256,
    }
)
"""The fields of the 256 bytes before the pixels that matter here, little-endian."""

DESCENDING = 1  # of the field projection: y decreases from top to bottom
CELLS = {
    0x00: ("u1", 255),
    0x04: ("i1", -128),
    0x11: ("u2", 2**16 - 1),
    0x15: ("i2", -(2**15)),
    0x22: ("u4", 2**32 - 1),
    0x26: ("i4", -(2**31)),
    0x5A: ("f4", np.nan),
    0xDB: ("f8", np.nan),
}
"""Type of a stored number, and the one that means missing, by the field cells."""

COMMENT = (
    "PCRaster states no coordinate reference system; coordinates are taken for longitude and "
    "latitude in degrees"
)


def open_pcraster(local: Path) -> xr.Dataset:
    """The numbers of a PCRaster map as they are stored, in one variable ``band``.

    Parameters
    ----------
    local
        A file on this machine.

    Returns
    -------
    xarray.Dataset
        ``band``, (latitude, longitude) where the coordinates can be degrees, else (y, x) in
        whatever unit the map has; at pixel centres, lazy, with ``_FillValue``.

    Raises
    ------
    SourceError
        If the map is turned, of an unknown kind, or shorter than its header says.
    """
    # Imported here: only this reader needs them, and `import xlsbc` is to stay fast.
    import dask.array
    from dask.base import tokenize

    header, order = _header(local)
    problems = _problems(local, header)
    if problems:
        raise SourceError(f"{local.name} is no PCRaster map that can be placed", problems)
    kind, missing = CELLS[int(header["cells"])]
    dtype = np.dtype(order + kind)
    pixels = Pixels(local, dtype, (int(header["rows"]), int(header["columns"])))
    rows, columns = pixels.shape
    step = float(header["height"]) * (-1 if header["projection"] == DESCENDING else 1)
    y = float(header["y"]) + (np.arange(rows) + 0.5) * step
    x = float(header["x"]) + (np.arange(columns) + 0.5) * float(header["width"])
    dims, coords, attrs = _grid(y, x)
    stat = local.stat()
    values = dask.array.from_array(
        pixels,
        chunks="auto",
        name=f"pcraster-{tokenize(str(local), stat.st_mtime_ns, stat.st_size)}",
        asarray=False,
    )
    attrs["_FillValue"] = pixels.dtype.type(missing)
    return xr.Dataset({"band": (dims, values, attrs)}, coords)


class Pixels:
    """Pixels of a map, read where they are asked for."""

    def __init__(self, file: Path, stored: np.dtype, shape: tuple[int, int]) -> None:
        self.file, self.stored, self.shape = file, stored, shape
        self.dtype, self.ndim = stored.newbyteorder("="), 2

    def __getitem__(self, window: tuple[slice, ...]) -> np.ndarray:
        """The pixels of a window."""
        pixels = np.memmap(self.file, self.stored, "r", HEADER.itemsize, self.shape)
        return np.array(pixels[window], self.dtype)


def _header(local: Path) -> tuple[Any, str]:
    with local.open("rb") as stream:
        start = stream.read(HEADER.itemsize)
    start = start.ljust(HEADER.itemsize, b"\0")
    little = np.frombuffer(start, HEADER.newbyteorder("<"))[0]
    big = np.frombuffer(start, HEADER.newbyteorder(">"))[0]
    return (big, ">") if big["order"] == 1 else (little, "<")


def _problems(local: Path, header: Any) -> list[str]:
    if header["order"] != 1 or int(header["cells"]) not in CELLS:
        return [
            f"{local}: expected the header of a CSF 2 map; found byte order {header['order']} and "
            f"cell type {header['cells']:#x}; {FETCH_AGAIN}"
        ]
    problems = []
    if header["angle"] != 0.0:
        problems.append(
            f"{local}: expected a map that is north-up; found one turned by {header['angle']:g} "
            "radians; resample it"
        )
    size = np.dtype(CELLS[int(header["cells"])][0]).itemsize
    expected = HEADER.itemsize + int(header["rows"]) * int(header["columns"]) * size
    if (found := local.stat().st_size) < expected:
        problems.append(f"{local}: expected {expected} bytes; found {found}; {FETCH_AGAIN}")
    return problems


def _grid(y: np.ndarray, x: np.ndarray) -> tuple[tuple[str, str], dict[str, Any], dict[str, Any]]:
    if np.abs(y).max() > 90.0 or np.abs(x).max() > 360.0:
        return ("y", "x"), {"y": ("y", y), "x": ("x", x)}, {}
    north = {"standard_name": "latitude", "units": "degrees_north"}
    east = {"standard_name": "longitude", "units": "degrees_east"}
    coords = {"latitude": ("latitude", y, north), "longitude": ("longitude", x, east)}
    return ("latitude", "longitude"), coords, {"comment": COMMENT}
