"""Small files as the Copernicus Climate Change Service encodes its leaf area index."""

from __future__ import annotations

from pathlib import Path

import netCDF4
import numpy as np

# Stored numbers, rows from the north; 65535 is the fill value, 65534 the largest.
NUMBERS = np.array([[0, 10000, 20000], [65534, 65535, 30000]], np.uint16)
# obs_nosnow_only and obs_inconsistent, then obs_unusable, tip_untrusted, obs_is_fillvalue.
FLAGS = np.array([[0x1000, 0x1100, 0x1080], [0x1040, 0x1, 0x1200]], np.uint32)
SCALES = {1: 1e-4, 2: 1e-4, 3: 1e-4, 4: 0.00015260186}
MEANINGS = "obs_is_fillvalue tip_untrusted obs_unusable obs_inconsistent"
MASKS = np.array([0x1, 0x40, 0x80, 0x100], np.uint32)


def write(
    folder: Path,
    *,
    version: int = 1,
    dates: tuple[str, ...] = ("20130610",),
    sensor: str = "VGT",
    step: float = 1 / 112,
    north: float = 52.0,
    west: float = 5.0,
    numbers: np.ndarray = NUMBERS,
    flags: np.ndarray = FLAGS,
    name: str | None = None,
    variable: str = "LAI",
) -> list[Path]:
    """Write a file a date; ``north`` and ``west`` are the first pixel's centre.

    The coordinates of version 4 are of the western and southern edges, as in its files.
    """
    files = []
    shift = step / 2 if version == 4 else 0.0
    for date in dates:
        files.append(folder / (name or f"c3s_LAI_{date}000000_GLOBE_{sensor}_V{version}.0.1.nc"))
        with netCDF4.Dataset(files[-1], "w") as nc:
            nc.set_auto_maskandscale(False)
            nc.createDimension("time", 1)
            time = nc.createVariable("time", "f8", ("time",))
            day = np.datetime64(f"{date[:4]}-{date[4:6]}-{date[6:8]}")
            time[:] = (day - np.datetime64("1970-01-01")).astype(int)
            time.units = "days since 1970-01-01 00:00:00"
            axes = (("lat", numbers.shape[0], north, -step), ("lon", numbers.shape[1], west, step))
            for axis, size, first, along in axes:
                nc.createDimension(axis, size)
                values = nc.createVariable(axis, "f8", (axis,))
                values[:] = first - shift + along * np.arange(size)
                values.units = "degrees_north" if axis == "lat" else "degrees_east"
            _layers(nc, version, variable, numbers, flags)
            if version == 4:
                crs = nc.createVariable("crs", "S1")
                crs.GeoTransform = f"-180 {step!r} 0 80 0 {-step!r}"
    return files


def _layers(
    nc: netCDF4.Dataset, version: int, name: str, numbers: np.ndarray, flags: np.ndarray
) -> None:
    dims = ("time", "lat", "lon")
    for layer in (name, f"{name}_ERR"):
        lai = nc.createVariable(layer, "u2", dims, fill_value=np.uint16(65535), zlib=True)
        lai[:] = numbers[None]
        lai.scale_factor = np.float32(SCALES[version])
        lai.add_offset = np.float32(0)
        lai.valid_range = np.array([0, 65534], np.uint16)
        lai.units = "fraction"
        lai.standard_name = "leaf_area_index" if layer == name else ""
        lai.long_name = "Effective Leaf Area Index 1km" if version > 1 else "Leaf Area Index 1km"
    if version == 1:
        nc.createVariable("QFLAG", "u1", dims)[:] = 0
    else:
        flag = nc.createVariable("retrieval_flag", "u4", dims, zlib=True)
        flag[:] = flags[None]
        flag.scale_factor = np.float32(1)
        flag.flag_masks = MASKS
        flag.flag_meanings = MEANINGS
