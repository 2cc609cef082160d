"""A single-band GeoTIFF on a geographic grid, read without GDAL.

References
----------
OGC GeoTIFF Standard 1.1 (19-008r4): the keys of annex C and the tags
``ModelTiepointTag`` and ``ModelPixelScaleTag``.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from ...errors import SourceError
from .source import existing, unreadable

GDAL_NODATA = 42113  # TIFF tag, gdal.org/en/stable/drivers/raster/gtiff.html
GEOGRAPHIC = 2  # GTModelTypeGeoKey, OGC 19-008r4, annex C
PIXEL_IS_POINT = 2  # GTRasterTypeGeoKey, OGC 19-008r4, annex C


def open_geotiff(path: str | os.PathLike[str]) -> xr.DataArray:
    """The band of a GeoTIFF, (latitude, longitude), lazy, NaN where it holds its no-data value.

    Latitude descends and longitude ascends, at pixel centres, in degrees; values keep their unit,
    as float32. Only the header is read.

    Raises
    ------
    SourceError
        If the file is missing or unreadable, or is not one north-up band in degrees.
    """
    # Imported here: only this reader needs it, and `import xlsbc` is to stay fast.
    import dask.array
    import tifffile
    from dask.delayed import delayed

    file = existing(path)
    try:
        with tifffile.TiffFile(file) as tiff:
            page = tiff.pages.first
            shape, tags, nodata = page.shape, page.geotiff_tags or {}, page.tags.get(GDAL_NODATA)
    except (OSError, ValueError, IndexError) as error:
        raise unreadable(file, "a GeoTIFF", error) from error
    problems = _header_problems(file, shape, tags)
    if problems:
        raise SourceError(f"{file.name} is no band on a geographic grid", problems)
    missing = math.nan if nodata is None else float(str(nodata.value).strip("\0 "))
    pixels = delayed(_pixels)(file, missing)
    latitude, longitude = _centres(shape, tags)
    return xr.DataArray(
        dask.array.from_delayed(pixels, shape, np.float32),
        coords={"latitude": latitude, "longitude": longitude},
        dims=("latitude", "longitude"),
    )


def _pixels(file: Path, missing: float) -> np.ndarray:
    import tifffile

    try:
        values = tifffile.imread(file, key=0).astype(np.float32)
    except (OSError, ValueError) as error:
        raise unreadable(file, "a complete GeoTIFF", error) from error
    return np.where(values == np.float32(missing), np.float32(np.nan), values)


def _header_problems(file: Path, shape: tuple[int, ...], tags: dict[str, Any]) -> list[str]:
    problems = []
    if len(shape) != 2:
        problems.append(f"{file}: expected one band; found an image of shape {shape}")
    if tags.get("GTModelTypeGeoKey") != GEOGRAPHIC:
        found = tags.get("GTModelTypeGeoKey", "none")
        problems.append(
            f"{file}, GTModelTypeGeoKey: expected geographic (2); found {found}; "
            "reproject the file to longitude and latitude in degrees"
        )
    for key, length in (("ModelPixelScale", 3), ("ModelTiepoint", 6)):
        if len(tags.get(key, ())) != length:
            problems.append(
                f"{file}, {key}: expected {length} numbers; found {tags.get(key, 'none')}; "
                "write the file north-up with a tie point and a pixel scale"
            )
    return problems


def _centres(shape: tuple[int, ...], tags: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    column, row, _, longitude, latitude, _ = tags["ModelTiepoint"]
    width, height, _ = tags["ModelPixelScale"]
    # The tie point is a pixel's corner, or its centre where the raster is of points.
    half = 0.0 if tags.get("GTRasterTypeGeoKey") == PIXEL_IS_POINT else 0.5
    return (
        latitude - (np.arange(shape[0]) - row + half) * height,
        longitude + (np.arange(shape[1]) - column + half) * width,
    )
