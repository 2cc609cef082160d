"""Small files as the Copernicus Global Land Service encodes its leaf area index."""

from __future__ import annotations

from pathlib import Path

import netCDF4
import numpy as np

STEP = 1 / 112
# Digital numbers of a dekad: rows from the north. 90 is LAI 3, 210 is 7, 251 and 254 are flags.
NUMBERS = np.array([[0, 30, 90], [210, 251, 254], [15, 255, 1], [120, 60, 45]], np.uint8)
QFLAG = np.array([[0, 4, 0], [0, 0, 0], [12, 1, 65535], [0, 0, 0]], np.uint16)


def write(
    folder: Path,
    *,
    dates: tuple[str, ...] = ("20130610",),
    ranks: tuple[int | None, ...] = (None,),
    layer: str = "LAI",
    sensor: str = "VGT",
    version: str = "V2.0.1",
    numbers: np.ndarray = NUMBERS,
    qflag: np.ndarray | None = None,
    north: float = 52.0,
    west: float = 5.0,
    stamp: str | None = None,
    dims: tuple[str, ...] = ("lat", "lon"),
    name: str | None = None,
    scale: float = 1 / 30,
) -> list[Path]:
    """Write a file for each date and rank; ``north`` and ``west`` are the first pixel's centre.

    ``stamp`` is the date of the time coordinate, that of the name if None, no coordinate if "".
    """
    if qflag is None:
        qflag = QFLAG if numbers.shape == QFLAG.shape else np.zeros(numbers.shape, np.uint16)
    files = []
    for date in dates:
        for rank in ranks:
            consolidation = "" if rank is None else f"-RT{rank}"
            file = name or f"c_gls_{layer}{consolidation}_{date}0000_GLOBE_{sensor}_{version}.nc"
            files.append(folder / file)
            with netCDF4.Dataset(files[-1], "w") as nc:
                nc.set_auto_maskandscale(False)
                _grid(nc, numbers.shape, north, west)
                if stamp != "":
                    _time(nc, stamp or date)
                _layers(nc, layer, numbers, qflag, dims, scale)
                nc.setncatts(
                    {
                        "Conventions": "CF-1.6",
                        "title": f"10-daily Leaf Area Index 1km: GLOBE {date}0000",
                        "product_version": version,
                        "institution": "VITO NV",
                        "sensor": sensor,
                    }
                )
    return files


def _grid(nc: netCDF4.Dataset, shape: tuple[int, ...], north: float, west: float) -> None:
    rows, columns = shape[-2:]
    for axis, size, first, step in (("lat", rows, north, -STEP), ("lon", columns, west, STEP)):
        nc.createDimension(axis, size)
        values = nc.createVariable(axis, "f8", (axis,))
        values[:] = first + step * np.arange(size)
        values.units = "degrees_north" if axis == "lat" else "degrees_east"
        values.standard_name = "latitude" if axis == "lat" else "longitude"
        values.axis = "Y" if axis == "lat" else "X"
    crs = nc.createVariable("crs", "S1")
    crs.grid_mapping_name = "latitude_longitude"
    crs.GeoTransform = "-180.0044642857 0.0089285714 0 80.0044642857 0 -0.0089285714"


def _time(nc: netCDF4.Dataset, stamp: str) -> None:
    nc.createDimension("time", 1)
    time = nc.createVariable("time", "f8", ("time",))
    day = np.datetime64(f"{stamp[:4]}-{stamp[4:6]}-{stamp[6:8]}")
    time[:] = (day - np.datetime64("1970-01-01")).astype(int)
    time.units = "days since 1970-01-01 00:00:00"
    time.standard_name = "time"


def _layers(
    nc: netCDF4.Dataset,
    layer: str,
    numbers: np.ndarray,
    qflag: np.ndarray,
    dims: tuple[str, ...],
    scale: float,
) -> None:
    """The layers on given dims; the numbers are (lat, lon)."""
    for name, values, fill in (
        (layer, numbers, np.uint8(255)),
        ("RMSE", numbers // 10, np.uint8(255)),
        ("NOBS", numbers * 0 + 7, np.uint8(255)),
        ("QFLAG", qflag, np.uint16(65535)),
        ("LENGTH_BEFORE", numbers * 0 + 15, np.uint8(255)),
        ("LENGTH_AFTER", numbers * 0 + 15, np.uint8(255)),
    ):
        order = [("lat", "lon").index(dim) for dim in dims if dim != "time"]
        variable = nc.createVariable(name, values.dtype, dims, fill_value=fill, zlib=True)
        variable[:] = values.transpose(order).reshape(variable.shape)
        variable.grid_mapping = "crs"
        variable.long_name = f"{name} 1km"
        if name in (layer, "RMSE"):
            variable.scale_factor = np.float32(scale)
            variable.add_offset = np.float32(0)
            variable.valid_range = np.array([0, 210], np.uint8)
            variable.units = ""
            variable.standard_name = "leaf_area_index" if name == layer else ""
