"""GeoTIFFs and Cloud-Optimized GeoTIFFs as GDAL writes them, small."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

PIXEL_SCALE, TIEPOINT, TRANSFORMATION = 33550, 33922, 34264
KEYS, ASCII, METADATA, NODATA = 34735, 34737, 42112, 42113
TILE = (16, 16)


def write(
    folder: Path,
    name: str,
    values: np.ndarray,
    *,
    west: float,
    north: float,
    step: float,
    epsg: int | None = 4326,
    citation: str | None = None,
    projected: bool = False,
    nodata: str | None = None,
    metadata: Mapping[str, Sequence[str]] | None = None,
    matrix: Sequence[float] | None = None,
    points: bool = False,
    units: int | None = None,
    tile: tuple[int, int] | None = TILE,
    overviews: bool = True,
    **options: Any,
) -> Path:
    """One north-up file; `values` is (y, x) or (y, x, sample), and `metadata` roles by name.

    ``epsg=None`` gives a user-defined CRS, with a citation if there is one, as GDAL does for
    Homolosine. The COG layout: tiles, deflated, with the predictor that GDAL takes, and overviews
    behind the image.
    """
    values = np.asarray(values)
    keys: list[tuple[int, int, int, int]] = [
        (1024, 0, 1, 1 if projected else 2),
        (1025, 0, 1, 2 if points else 1),
    ]
    text = ""
    if citation is not None:
        text = citation + "|"
        keys.append((3073 if projected else 2049, ASCII, len(text), 0))
    code = 32767 if epsg is None else epsg
    keys.append((3072 if projected else 2048, 0, 1, code))
    if units is not None:
        keys.append((3076 if projected else 2054, 0, 1, units))
    directory = (1, 1, 0, len(keys), *(n for key in sorted(keys) for n in key))
    tags: list[tuple[Any, ...]] = [(KEYS, "H", len(directory), directory, True)]
    if text:
        tags.append((ASCII, "s", 0, text, True))
    if matrix is not None:
        tags.append((TRANSFORMATION, "d", 16, tuple(map(float, matrix)), True))
    else:
        tags.append((PIXEL_SCALE, "d", 3, (float(step), float(step), 0.0), True))
        tags.append((TIEPOINT, "d", 6, (0.0, 0.0, 0.0, float(west), float(north), 0.0), True))
    if nodata is not None:
        tags.append((NODATA, "s", 0, nodata, True))
    if metadata is not None:
        items = "".join(
            f'  <Item name="{role.upper()}" sample="{i}" role="{role}">{said}</Item>\n'
            for role, texts in metadata.items()
            for i, said in enumerate(texts)
        )
        tags.append((METADATA, "s", 0, f"<GDALMetadata>\n{items}</GDALMetadata>", True))
    predictor = options.pop("predictor", 2 if values.dtype.kind in "iu" else None)
    layout = {"compression": "zlib", "tile": tile, "predictor": predictor, **options}
    layout = {key: value for key, value in layout.items() if value is not None}
    layout.setdefault("photometric", "minisblack")
    path = folder / name
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(values, extratags=tags, **layout)
        if overviews:
            tiff.write(values[::2, ::2], subfiletype=1, **layout)
    return path
