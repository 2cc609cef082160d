"""A surfclim file of ecLand offline, as its preparation tools write it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import netCDF4
import numpy as np

MISSING = 1.00000002004088e20


def write(
    folder: Path,
    *,
    geopotential_units: str = "m2/m",
    bare: bool = False,
    file: str = "surfclim_XX_2022-2022.nc",
) -> list[Path]:
    """Two rows by three columns; `bare` leaves out the values of lat and lon.

    geopot is 980.665 (10 i + j) m2 s-2, cvl is 0.6 and cvh 0.3, Mlail is a quarter of the number of
    the month and Mlaih half of it; the last cell of everything is missing.
    """
    i, j = np.indices((2, 3))
    month = np.arange(1, 13)[:, None, None] + 0 * i
    fields: dict[str, tuple[str, Any]] = {
        "geopot": (geopotential_units, 980.665 * (10 * i + j)),
        "landsea": ("-", 1.0 - 0.1 * i),
        "CLAKE": ("-", 0.05 * j),
        "cu": ("-", 0.01 + 0 * i),
        "cvl": ("-", 0.6 + 0 * i),
        "cvh": ("-", 0.3 + 0 * i),
        "tvl": ("-", 1.0 + i),
        "tvh": ("-", 19.0 + 0 * i),
        "sotype": ("-", 3.0 + 0 * i),
        "Mlail": ("-", month / 4),
        "Mlaih": ("-", month / 2),
    }
    path = folder / file
    with netCDF4.Dataset(path, "w") as nc:
        for dim, size in (("lat", 2), ("lon", 3), ("month", 12)):
            nc.createDimension(dim, size)
        if not bare:
            for dim, units, degrees in (
                ("lat", "degrees_north", [51.75, 52.0]),
                ("lon", "degrees_east", [4.75, 5.0, 5.25]),
            ):
                axis = nc.createVariable(dim, "f8", (dim,))
                axis.units, axis[:] = units, degrees
        months = nc.createVariable("month", "i4", ("month",))
        months.units, months.long_name, months[:] = "-", "months", np.arange(1, 13)
        for name, (units, values) in fields.items():
            dims = ("month", "lat", "lon") if values.ndim == 3 else ("lat", "lon")
            da = nc.createVariable(name, "f8", dims)
            da.units, da.missing_value = units, MISSING
            numbers = np.array(values, float)
            numbers[..., -1, -1] = MISSING
            da[:] = numbers
    return [path]
