"""Small files as HILDA+ has them: netCDF of all years, and a GeoTIFF a year."""

from __future__ import annotations

from pathlib import Path

import netCDF4
import numpy as np
import tifffile

STEP = 0.00998837
# 5 x 7 pixels, a little more than 6 x 8 of 1/120 degree: forest in the west, cropland in the
# middle, sea in the east, no data in the south.
CODES = np.array([[44, 44, 44, 22, 22, 0, 0]] * 4 + [[99] * 7], np.int8)


def write(
    folder: Path,
    codes: np.ndarray = CODES,
    *,
    years: tuple[int, ...] = (2000, 2001),
    kind: str = "netcdf",
    north: float = 47.0,
    west: float = 10.0,
    step: float = STEP,
) -> list[Path]:
    """The states of each year alike, as "netcdf" of all years or "geotiff" of each."""
    if kind == "geotiff":
        return [_geotiff(folder, codes, year, north, west, step) for year in years]
    path = folder / "hildaplus_vGLOB-1.0-f_states.nc"
    with netCDF4.Dataset(path, "w") as nc:
        nc.title = "HILDA+ Global Land Use Change"
        for name, values in (
            ("time", np.array(years)),
            ("latitude", north - step * (np.arange(codes.shape[0]) + 0.5)),
            ("longitude", west + step * (np.arange(codes.shape[1]) + 0.5)),
        ):
            nc.createDimension(name, values.size)
            axis = nc.createVariable(name, "i4" if name == "time" else "f8", (name,))
            axis[:] = values
            if name != "time":
                axis.units = "degrees_north" if name == "latitude" else "degrees_east"
        states = nc.createVariable(
            "LULC_states", "i1", ("time", "latitude", "longitude"), zlib=True, fill_value=False
        )
        states.long_name = "land use/cover states"
        states[:] = np.broadcast_to(codes, (len(years), *codes.shape))
    return [path]


def _geotiff(
    folder: Path, codes: np.ndarray, year: int, north: float, west: float, step: float
) -> Path:
    path = folder / f"hilda_plus_{year}_states_GLOB-v1-0_wgs84-nn.tif"
    keys = (1, 1, 0, 3, 1024, 0, 1, 2, 1025, 0, 1, 1, 2048, 0, 1, 4326)
    tags = [
        (33550, "d", 3, (step, step, 0.0), True),
        (33922, "d", 6, (0.0, 0.0, 0.0, west, north, 0.0), True),
        (34735, "H", 16, keys, True),
    ]
    tifffile.imwrite(path, codes.astype(np.uint8), extratags=tags, photometric="minisblack")
    return path
