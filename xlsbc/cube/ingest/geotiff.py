"""A north-up GeoTIFF or Cloud-Optimized GeoTIFF of any size, read in blocks without GDAL.

Only the first image of a file is read: the others are its overviews. A block is decoded from the
tiles or strips that it touches, so that a global mosaic is never in memory as a whole.

References
----------
OGC GeoTIFF Standard 1.1 (19-008r4): the keys of annex C and the tags ``ModelTiepointTag``,
``ModelPixelScaleTag`` and ``ModelTransformationTag``.
GDAL documentation, GTiff driver: the tags ``GDAL_METADATA`` and ``GDAL_NODATA``, sparse files.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
import xarray as xr

from ...errors import SourceError
from . import raw
from .source import existing, unreadable

if TYPE_CHECKING:
    from tifffile import TiffPage

__all__ = ["open_geotiff", "open_raster"]

GDAL_METADATA = 42112  # TIFF tags, gdal.org/en/stable/drivers/raster/gtiff.html
GDAL_NODATA = 42113
PROJECTED, GEOGRAPHIC = 1, 2  # GTModelTypeGeoKey, OGC 19-008r4, annex C
PIXEL_IS_POINT = 2  # GTRasterTypeGeoKey
USER_DEFINED = 32767  # any GeoKey
UNITS = {PROJECTED: ("ProjLinearUnitsGeoKey", 9001), GEOGRAPHIC: ("GeogAngularUnitsGeoKey", 9102)}
"""Unit of the coordinates by model: metre and degree, EPSG codes."""
ESRI = "ESRI PE String = "
"""What GDAL puts before the text of a CRS that no GeoKey can say, such as Homolosine."""

BLOCK = 2048
"""Pixels along a side of a Dask chunk, about: 16 MiB of float32."""


class Placement(NamedTuple):
    """Where pixels lie: coordinate of the first pixel's corner or centre, and the steps."""

    x: float
    dx: float
    y: float
    dy: float


def open_geotiff(path: str | os.PathLike[str]) -> xr.DataArray:
    """The band of a GeoTIFF, (latitude, longitude), lazy, NaN where it holds its no-data value.

    Latitude descends and longitude ascends, at pixel centres, in degrees; values keep their unit,
    as float32. Only the header is read.

    Raises
    ------
    SourceError
        If the file is missing or unreadable, or is not one north-up band in degrees.
    """
    band = _open(existing(path), [GEOGRAPHIC], single=True)["band"]
    return raw.numbers(band).astype(np.float32).drop_attrs().rename(None)


def open_raster(local: Path) -> xr.Dataset:
    """The numbers of a GeoTIFF as they are stored, in one variable ``band``.

    Parameters
    ----------
    local
        A file on this machine.

    Returns
    -------
    xarray.Dataset
        ``band``, (latitude, longitude) in degrees where the file is geographic, (y, x) in metres
        where it is projected, with a first dimension ``sample`` if there are several bands. At
        pixel centres, lazy in blocks of whole tiles or strips. Attributes, each where the file
        says so: ``crs`` ("EPSG:32632" or WKT), ``_FillValue``, ``scale_factor``, ``add_offset``,
        ``units``, ``long_name``.

    Raises
    ------
    SourceError
        If the file is unreadable, turned, not on a grid in metres or degrees, or packed in a way
        that needs ``imagecodecs``; when computed, if tiles or strips are cut off.
    """
    return _open(existing(local), [PROJECTED, GEOGRAPHIC], single=False)


def _open(file: Path, models: list[int], *, single: bool) -> xr.Dataset:
    # Imported here: only this reader needs them, and `import xlsbc` is to stay fast.
    import dask.array
    import tifffile
    from dask.base import tokenize

    try:
        with tifffile.TiffFile(file) as tiff:
            page = tiff.pages.first
            keys = page.geotiff_tags or {}
            described = _metadata(page)
            problems = _packing_problems(file, page)
            pixels = Pixels(file, page)
    except (OSError, ValueError, IndexError, ElementTree.ParseError) as error:
        raise unreadable(file, "a GeoTIFF", error) from error
    placement = _placement(keys)
    problems += _header_problems(file, pixels.shape, keys, placement, models, single)
    if problems or placement is None:
        raise SourceError(f"{file.name} cannot be used as a raster", problems)
    stat = file.stat()
    values = dask.array.from_array(
        pixels,
        chunks=pixels.chunks,
        name=f"geotiff-{tokenize(str(file), stat.st_mtime_ns, stat.st_size)}",
        asarray=False,
    )
    dims, coords = _grid(pixels.shape[-2:], keys, placement)
    attrs = {**described, **_crs(keys)}
    lead = ("sample",) if len(pixels.shape) == 3 else ()
    return xr.Dataset({"band": (lead + dims, values, attrs)}, coords)


class Pixels:
    """Pixels of the first image of a TIFF, decoded where they are asked for."""

    def __init__(self, file: Path, page: TiffPage) -> None:
        separate, depth, rows, columns, contiguous = page.shaped
        if depth != 1 or page.dtype is None:
            raise ValueError(f"{depth} layers of {page.bitspersample} bits are no map")
        bands = separate * contiguous
        self.file = file
        self.dtype = page.dtype
        self.shape = (rows, columns) if bands == 1 else (bands, rows, columns)
        self.ndim = len(self.shape)
        height, width = (
            (page.tilelength, page.tilewidth)
            if page.is_tiled
            else (min(page.rowsperstrip, rows), columns)
        )
        wide = min(columns, width * max(1, BLOCK // width))
        tall = min(rows, height * max(1, BLOCK**2 // (wide * height * bands)))
        self.chunks = (bands, tall, wide)[-self.ndim :]

    def __getitem__(self, window: tuple[slice, ...]) -> np.ndarray:
        """The pixels of a window of contiguous slices."""
        import tifffile

        *lead, y, x = (range(*s.indices(n)) for s, n in zip(window, self.shape, strict=True))
        try:
            with tifffile.TiffFile(self.file) as tiff:
                values = _window(tiff.pages.first, y, x)
        except Exception as error:  # every codec has its own
            raise unreadable(self.file, "a complete GeoTIFF", error) from error
        return values[lead[0].start : lead[0].stop] if lead else values[0]


def _window(page: TiffPage, y: range, x: range) -> np.ndarray:
    """Rows and columns of an image from its segments, (band, y, x)."""
    separate, _, rows, columns, contiguous = page.shaped
    out = np.full((separate, len(y), len(x), contiguous), page.nodata, page.dtype)
    height, width = (
        (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, columns)
    )
    down, across = math.ceil(rows / height), math.ceil(columns / width)
    stream = page.parent.filehandle
    for band in range(separate):
        for i in range(y.start // height, math.ceil(y.stop / height)):
            for j in range(x.start // width, math.ceil(x.stop / width)):
                index = (band * down + i) * across + j
                size = page.databytecounts[index]
                if size == 0:
                    continue  # sparse: GDAL leaves out tiles without data
                stream.seek(page.dataoffsets[index])
                data = stream.read(size)
                if len(data) < size:
                    raise ValueError(f"{size - len(data)} bytes of a tile or strip are missing")
                segment: Any = page.decode(data, index, jpegtables=page.jpegtables)[0]
                _paste(out[band], segment[0], i * height - y.start, j * width - x.start)
    return np.moveaxis(out, 3, 1).reshape(-1, len(y), len(x))


def _paste(out: np.ndarray, segment: np.ndarray, row: int, column: int) -> None:
    """Put the part of a segment that lies in a window where it belongs."""
    top, left = max(row, 0), max(column, 0)
    bottom = min(row + segment.shape[0], out.shape[0])
    right = min(column + segment.shape[1], out.shape[1])
    out[top:bottom, left:right] = segment[top - row : bottom - row, left - column : right - column]


def _packing_problems(file: Path, page: TiffPage) -> list[str]:
    from tifffile import TIFF

    needed = [(page.compression, TIFF.DECOMPRESSORS), (page.predictor, TIFF.UNPREDICTORS)]
    absent = [
        getattr(how, "name", str(how)) for how, known in needed if how != 1 and not _has(known, how)
    ]
    return [
        f"{file}: expected pixels that are stored plain or deflated; found {name}; install "
        "imagecodecs, which reads LZW, Zstandard, LERC and the predictor of floats"
        for name in absent
    ]


def _has(codecs: Any, how: int) -> bool:
    try:
        codecs[how](b"")
    except (KeyError, ImportError):
        return False
    except Exception:  # nothing cannot be decoded: the codec is there and has tried
        return True
    return True


def _metadata(page: TiffPage) -> dict[str, Any]:
    """CF attributes for what GDAL says of the numbers."""
    attrs: dict[str, Any] = {}
    nodata = page.tags.get(GDAL_NODATA)
    if nodata is not None and page.dtype is not None:
        fill = _as_stored(str(nodata.value).strip("\0 "), page.dtype)
        # A byte has no -9999: GDAL ignores such a tag too.
        attrs |= {"GDAL_NODATA": str(nodata.value)} if fill is None else {"_FillValue": fill}
    metadata = page.tags.get(GDAL_METADATA)
    items: Any = ()
    if metadata is not None:
        items = ElementTree.fromstring(str(metadata.value).strip("\0 "))
    said: dict[str, set[str]] = {}
    for item in items:
        said.setdefault(item.get("role", ""), set()).add((item.text or "").strip())
    names = {"scale": "scale_factor", "offset": "add_offset", "unittype": "units"}
    for role, name in (names | {"description": "long_name"}).items():
        values = said.get(role, set())
        if len(values) > 1 and name != "long_name":
            raise ValueError(f"its bands differ in {role}: {', '.join(sorted(values))}")
        if len(values) == 1:
            text = values.pop()
            attrs[name] = float(text) if role in ("scale", "offset") else text
    return attrs


def _as_stored(text: str, dtype: np.dtype) -> np.generic | None:
    value = float(text)
    if dtype.kind == "f":
        return dtype.type(value)
    held = np.iinfo(dtype)
    whole = value.is_integer() and held.min <= value <= held.max
    return dtype.type(int(value)) if whole else None


def _placement(keys: dict[str, Any]) -> Placement | None:
    matrix = keys.get("ModelTransformation")
    if matrix is not None:
        (dx, turn, _, x), (skew, dy, _, y) = np.asarray(matrix, float).reshape(4, 4)[:2]
        return Placement(x, dx, y, dy) if turn == skew == 0.0 else None
    tie, scale = keys.get("ModelTiepoint", ()), keys.get("ModelPixelScale", ())
    if len(tie) != 6 or len(scale) != 3:
        return None
    column, row, _, x, y, _ = tie
    return Placement(x - column * scale[0], scale[0], y + row * scale[1], -scale[1])


def _grid(
    shape: tuple[int, ...], keys: dict[str, Any], placement: Placement
) -> tuple[tuple[str, str], dict[str, Any]]:
    # The tie point is a pixel's corner, or its centre where the raster is of points.
    half = 0.0 if keys.get("GTRasterTypeGeoKey") == PIXEL_IS_POINT else 0.5
    y = placement.y + (np.arange(shape[0]) + half) * placement.dy
    x = placement.x + (np.arange(shape[1]) + half) * placement.dx
    if keys["GTModelTypeGeoKey"] == GEOGRAPHIC:
        north = {"standard_name": "latitude", "units": "degrees_north"}
        east = {"standard_name": "longitude", "units": "degrees_east"}
        coords = {"latitude": ("latitude", y, north), "longitude": ("longitude", x, east)}
        return ("latitude", "longitude"), coords
    attrs = {n: {"standard_name": f"projection_{n}_coordinate", "units": "m"} for n in "yx"}
    return ("y", "x"), {"y": ("y", y, attrs["y"]), "x": ("x", x, attrs["x"])}


def _crs(keys: dict[str, Any]) -> dict[str, str]:
    projected = keys["GTModelTypeGeoKey"] == PROJECTED
    code = keys.get("ProjectedCSTypeGeoKey" if projected else "GeographicTypeGeoKey")
    if code is not None and code != USER_DEFINED:
        return {"crs": f"EPSG:{int(code)}"}
    for key in ("PCSCitationGeoKey", "GTCitationGeoKey", "GeogCitationGeoKey"):
        text = str(keys.get(key, ""))
        if text.startswith(ESRI):
            return {"crs": text.removeprefix(ESRI).rstrip("|")}
    return {}


def _header_problems(
    file: Path,
    shape: tuple[int, ...],
    keys: dict[str, Any],
    placement: Placement | None,
    models: list[int],
    single: bool,
) -> list[str]:
    problems = []
    if single and len(shape) != 2:
        problems.append(f"{file}: expected one band; found an image of shape {shape}")
    model = keys.get("GTModelTypeGeoKey")
    if model not in models:
        wanted = "geographic (2)" if models == [GEOGRAPHIC] else "projected (1) or geographic (2)"
        problems.append(
            f"{file}, GTModelTypeGeoKey: expected {wanted}; found "
            f"{'none' if model is None else int(model)}; "
            "reproject the file to longitude and latitude in degrees"
        )
    key, unit = UNITS.get(model or 0, ("", 0))
    if keys.get(key, unit) != unit:
        problems.append(
            f"{file}, {key}: expected EPSG unit {unit}; found {int(keys[key])}; reproject the file"
        )
    if placement is not None:
        return problems
    if "ModelTransformation" in keys:
        found = np.asarray(keys["ModelTransformation"]).tolist()
        problems.append(
            f"{file}, ModelTransformation: expected rows along parallels; found an image that is "
            f"turned, {found}; reproject the file north-up"
        )
        return problems
    for key, length in (("ModelPixelScale", 3), ("ModelTiepoint", 6)):
        if len(keys.get(key, ())) != length:
            problems.append(
                f"{file}, {key}: expected {length} numbers; found {keys.get(key, 'none')}; "
                "write the file north-up with a tie point and a pixel scale"
            )
    return problems
