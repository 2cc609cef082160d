"""Layers of SoilGrids 2.0: int16, -32768 missing, no units, no scale, in Homolosine or degrees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from . import cog

# gdalinfo of clay_0-5cm_mean.vrt: 250 m pixels; GeoTIFF has no code for the projection.
HOMOLOSINE = (
    'ESRI PE String = PROJCS["Interrupted_Goode_Homolosine",GEOGCS["GCS_WGS_1984",'
    'DATUM["D_WGS_1984",SPHEROID["WGS_1984",6378137.0,298.257223563]],PRIMEM["Greenwich",0.0],'
    'UNIT["Degree",0.0174532925199433]],PROJECTION["Goode_Homolosine"],'
    'PARAMETER["False_Easting",0.0],PARAMETER["False_Northing",0.0],'
    'PARAMETER["Central_Meridian",0.0],PARAMETER["Option",1.0],UNIT["Meter",1.0]]'
)
DEGREES = 1 / 480  # what the web coverage service gives for 250 m


def write(
    folder: Path,
    layers: dict[str, Any] | None = None,
    *,
    projected: bool = False,
    west: float = 10.0,
    north: float = 47.0,
    missing: bool = True,
    **options: Any,
) -> list[Path]:
    """Files of the named layers, whose values are (y, x) or one number everywhere.

    By default 48 x 64 pixels of which the first is missing; `west` and `north` are in metres
    where `projected`.
    """
    paths = []
    for name, values in (layers or {"clay_0-5cm_mean": 215}).items():
        field = np.array(np.broadcast_to(values, np.shape(values) or (48, 64)), np.int16)
        if missing:
            field[0, 0] = -32768
        where = (
            {"projected": True, "epsg": None, "citation": HOMOLOSINE, "step": 250.0}
            if projected
            else {"step": DEGREES}
        )
        path = cog.write(
            folder,
            f"{name}.tif",
            field,
            west=west,
            north=north,
            nodata="-32768",
            **{**where, **options},
        )
        paths.append(path)
    return paths
