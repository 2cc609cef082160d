"""A granule of the Earth Observing System in HDF4: its gridded layers as stored, lazy.

MODIS land products up to collection 6.1 come so: one tile of the sinusoidal grid, one date. The
grid stands in a text, ``StructMetadata.0``, as the outer corners of the tile; no coordinate is
stored. ``PixelRegistration=HDFE_CENTER`` in it says what a pixel's value is for, not what the
corners are: the corners are a whole number of pixels apart.

References
----------
HDF-EOS Library User's Guide, volume 1 (170-EMD-001), section 6 (grid data).
MODIS Land Team, MODIS grids: sinusoidal projection, sphere of radius 6371007.181 m.
"""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from ...errors import SourceError
from .source import FETCH_AGAIN, unreadable

__all__ = ["open_hdf4"]

SINUSOIDAL = "GCTP_SNSOID"

TYPES = {
    4: "S1",
    5: "float32",
    6: "float64",
    20: "int8",
    21: "uint8",
    22: "int16",
    23: "uint16",
    24: "int32",
    25: "uint32",
}
"""Number types by their code in a file (HDF4 reference manual, hntdefs.h: DFNT_*)."""

_LOCK = threading.Lock()  # the C library keeps global state: no two threads may be inside it


class Grid(NamedTuple):
    """A grid of a granule: its name, and the outer edges of its pixels in metres."""

    name: str
    columns: int
    rows: int
    west: float
    north: float
    east: float
    south: float
    radius: float


class Layer(NamedTuple):
    """A gridded layer of a granule, as its header has it."""

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype
    attrs: dict[str, Any]


def open_hdf4(local: Path) -> xr.Dataset:
    """The gridded layers of an HDF4-EOS granule, (time, ..., y, x), numbers as stored, lazy.

    Parameters
    ----------
    local
        A local file of one date on one sinusoidal grid.

    Returns
    -------
    xarray.Dataset
        One Dask chunk a layer; reads from any thread or process. ``y`` descends and ``x`` ascends,
        m, pixel centres of the sinusoidal projection; ``time`` is the first day of the granule's
        range, datetime64[ns], length 1. Attributes are the file's, those of the granule included.

    Raises
    ------
    SourceError
        If the file has no sinusoidal grid, several that differ, or no date, or pyhdf is not
        installed; and, when computed, if a layer cannot be read.
    """
    try:
        from pyhdf.error import HDF4Error
    except ImportError as error:
        problem = f"{local}: expected pyhdf to read HDF4 with; found none; install xlsbc[recipes]"
        raise SourceError(f"{local.name} cannot be read", [problem]) from error
    try:
        with _LOCK:
            attrs, layers = _header(local)
    except HDF4Error as error:
        raise unreadable(local, "an HDF4 file", error) from error
    grid = _grid(local, attrs)
    time = _start(local, attrs)
    variables = {name: _variable(local, name, layer) for name, layer in layers.items()}
    wrong = [
        f"{local}, variable {name!r}: expected {grid.rows} x {grid.columns} pixels as the grid "
        f"{grid.name!r}; found {layer.shape[-2:]}; {FETCH_AGAIN}"
        for name, layer in layers.items()
        if layer.shape[-2:] != (grid.rows, grid.columns)
    ]
    if wrong or not layers:
        nothing = f"{local}: expected layers of the grid {grid.name!r}; found none; {FETCH_AGAIN}"
        raise SourceError(f"{local.name} does not hold its grid", wrong or [nothing])
    return xr.Dataset(variables, {"time": [time], **_coordinates(grid)}, attrs)


def _header(local: Path) -> tuple[dict[str, Any], dict[str, Layer]]:
    from pyhdf.SD import SD, SDC

    granule = SD(str(local), SDC.READ)
    try:
        attrs = {name: _plain(value) for name, value in granule.attributes().items()}
        found = granule.datasets()
        layers = {
            name: Layer(
                tuple(_dim(dim) for dim in dims),
                tuple(shape),
                np.dtype(TYPES[code]),
                _layer_attrs(granule, name),
            )
            for name, (dims, shape, code, _) in found.items()
            if tuple(_dim(dim) for dim in dims[-2:]) == ("y", "x") and code in TYPES
        }
    finally:
        granule.end()
    return attrs, layers


def _layer_attrs(granule: Any, name: str) -> dict[str, Any]:
    layer = granule.select(name)
    try:
        return {key: _plain(value) for key, value in layer.attributes().items()}
    finally:
        layer.endaccess()


def _plain(value: Any) -> Any:
    """An attribute as netCDF has it: no padding by zero bytes, arrays for lists."""
    if isinstance(value, str):
        return value.rstrip("\0 \n")
    return np.asarray(value) if isinstance(value, list) else value


def _dim(name: str) -> str:
    # "YDim:MOD_Grid_MOD15A2" is the dimension YDim of the grid of that name.
    return {"YDim": "y", "XDim": "x"}.get(name.split(":")[0], name.split(":")[0])


def _variable(local: Path, name: str, layer: Layer) -> xr.Variable:
    import dask.array
    from dask.base import tokenize
    from dask.delayed import delayed

    stat = local.stat()
    # A file that is fetched again under the same name is another one.
    key = f"hdf4-{name}-{tokenize(str(local), stat.st_size, stat.st_mtime_ns, name)}"
    stored = delayed(_read, pure=True)(local, name, dask_key_name=key)
    lazy = dask.array.from_delayed(stored, layer.shape, layer.dtype, name=f"{key}-array")
    return xr.Variable(("time", *layer.dims), lazy[None], layer.attrs)


def _read(local: Path, name: str) -> np.ndarray:
    from pyhdf.error import HDF4Error
    from pyhdf.SD import SD, SDC

    try:
        with _LOCK:
            granule = SD(str(local), SDC.READ)
            try:
                return np.asarray(granule.select(name).get())
            finally:
                granule.end()
    except HDF4Error as error:
        raise unreadable(local, f"a complete layer {name!r}", error) from error


def _grid(local: Path, attrs: dict[str, Any]) -> Grid:
    text = _metadata(attrs, "StructMetadata")
    grids = [
        _read_grid(block) for block in re.findall(r"GROUP=GRID_\d+.*?END_GROUP=GRID_", text, re.S)
    ]
    shapes = {grid[1:] for grid in grids if grid is not None}
    if None not in grids and len(shapes) == 1:
        return next(grid for grid in grids if grid is not None)
    found = f"{len(grids)} grids" if grids else "none"
    found += ", not all of them sinusoidal" if None in grids else ""
    found += ", which differ" if len(shapes) > 1 else ""
    problem = (
        f"{local}: expected one sinusoidal grid in StructMetadata.0; found {found}; use a tile"
    )
    raise SourceError(f"{local.name} is no tile of the sinusoidal grid", [problem])


def _read_grid(block: str) -> Grid | None:
    """A grid from its block of the metadata; None if it is not a sinusoidal one."""
    number = r"\s*=\s*\(?\s*([-+.\deE]+)"
    name = re.search(r'GridName\s*=\s*"([^"]*)"', block)
    sizes = [re.search(key + number, block) for key in ("XDim", "YDim", "ProjParams")]
    corners = [
        re.search(key + number + r"\s*,\s*([-+.\deE]+)", block)
        for key in ("UpperLeftPointMtrs", "LowerRightMtrs")
    ]
    found = [match for match in (*sizes, *corners) if match is not None]
    if name is None or SINUSOIDAL not in block or len(found) < len(sizes) + len(corners):
        return None
    columns, rows, radius, upper_left, lower_right = found
    return Grid(
        name[1],
        int(columns[1]),
        int(rows[1]),
        west=float(upper_left[1]),
        north=float(upper_left[2]),
        east=float(lower_right[1]),
        south=float(lower_right[2]),
        radius=float(radius[1]),
    )


def _metadata(attrs: dict[str, Any], name: str) -> str:
    """A text that HDF-EOS cuts into attributes of 32 kB, ``name.0``, ``name.1``, ..."""
    parts = [key for key in attrs if re.fullmatch(rf"{name}\.\d+", key, re.IGNORECASE)]
    return "".join(str(attrs[key]) for key in sorted(parts, key=lambda k: int(k.split(".")[-1])))


def _start(local: Path, attrs: dict[str, Any]) -> np.datetime64:
    core = _metadata(attrs, "CoreMetadata")
    said = re.search(r'=\s*RANGEBEGINNINGDATE\b.*?VALUE\s*=\s*"(\d{4}-\d\d-\d\d)', core, re.S)
    if said:
        return np.datetime64(said[1], "ns")
    named = re.search(r"\.A(\d{4})(\d{3})\.", local.name)
    if named:
        first = np.datetime64(named[1], "D")
        return (first + int(named[2]) - 1).astype("datetime64[ns]")
    problem = (
        f"{local}: expected RANGEBEGINNINGDATE in CoreMetadata.0, or AYYYYDDD in the name; found "
        "neither; give the file its provider's name"
    )
    raise SourceError(f"{local.name} has no date", [problem])


def _coordinates(grid: Grid) -> dict[str, Any]:
    height, width = (grid.north - grid.south) / grid.rows, (grid.east - grid.west) / grid.columns
    y = grid.north - (np.arange(grid.rows) + 0.5) * height
    x = grid.west + (np.arange(grid.columns) + 0.5) * width
    crs = {"grid_mapping_name": "sinusoidal", "earth_radius": grid.radius}
    return {
        "y": ("y", y, {"standard_name": "projection_y_coordinate", "units": "m"}),
        "x": ("x", x, {"standard_name": "projection_x_coordinate", "units": "m"}),
        "crs": ((), np.int32(0), crs | {"longitude_of_projection_origin": 0.0}),
    }
