"""Lakes as ERA5, the Global Lake Database and burnt-in HydroLAKES hold them."""

from __future__ import annotations

from pathlib import Path

import netCDF4
import numpy as np

from . import cog

SCALE, OFFSET = 1.5259488e-05, 0.5  # 0 to 1 over the range of int16, as the CDS packed


def write(folder: Path, **options: object) -> list[Path]:
    """All three of them: ``era5_lakes.nc``, ``gldb_lake_depth.tif``, ``hydrolakes.tif``."""
    depth, numbers = np.zeros((40, 60), np.int16), np.zeros((40, 60), np.int32)
    depth[:5, :10] = 235  # decimetres, a whole pixel of 1/120 degree at 1/1200
    numbers[:5, :20] = 1_234_567
    where = {"west": 10.0, "north": 47.0, "step": 1 / 1200}
    return [
        write_era5(folder / "era5_lakes.nc"),
        cog.write(
            folder,
            "gldb_lake_depth.tif",
            depth,
            metadata={"unittype": ["decimeters"]},
            nodata="0",
            **where,
        ),
        cog.write(folder, "hydrolakes.tif", numbers, nodata="0", **where),
    ]


def write_era5(path: Path, cover: float = 0.25, depth: float = 30.0) -> Path:
    """ERA5 invariants of the old CDS: packed, 0..360, one time, latitude descending.

    ``cl`` is `cover` in the first cell (10 E, 47 N) and 0 in the others; ``dl`` is `depth`.
    """
    with netCDF4.Dataset(path, "w", format="NETCDF3_64BIT_OFFSET") as nc:
        for dim, size in (("longitude", 3), ("latitude", 2), ("time", 1)):
            nc.createDimension(dim, size)
        axes = {
            "longitude": ("f4", [10.0, 10.25, 10.5], "degrees_east"),
            "latitude": ("f4", [47.0, 46.75], "degrees_north"),
            "time": ("i4", [0], "hours since 1900-01-01 00:00:00.0"),
        }
        for name, (kind, values, units) in axes.items():
            axis = nc.createVariable(name, kind, (name,))
            axis.units = units
            axis[:] = values
        for name, long_name, units in (("cl", "Lake cover", "(0 - 1)"), ("dl", "Lake depth", "m")):
            packed = nc.createVariable(
                name, "i2", ("time", "latitude", "longitude"), fill_value=-32767
            )
            packed.set_auto_maskandscale(False)
            packed.missing_value = np.int16(-32767)
            packed.scale_factor = SCALE if name == "cl" else 0.01
            packed.add_offset = OFFSET if name == "cl" else 100.0
            packed.units, packed.long_name = units, long_name
            values = np.full((1, 2, 3), depth if name == "dl" else 0.0)
            values[0, 0, 0] = depth if name == "dl" else cover
            packed[:] = np.round((values - packed.add_offset) / packed.scale_factor)
    return path
