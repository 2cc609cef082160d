"""Small files as the University of Maryland writes LUH2 and LUH3: names, times, attributes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np

STATES = "primf primn secdf secdn urban c3ann c4ann c3per c4per c3nfx pastr range".split()
MISSING = np.float32(1e20)
# One row of three cells in the north: forest and crops on all of the cell; a coast with half of
# it land; the sea. South of it grass, a city, an ice cap with land of no state.
SHARES = {
    "primf": [[0.5, 0.25, MISSING], [0, 0, 0]],
    "c3ann": [[0.375, 0, MISSING], [0, 0.25, 0]],
    "c4per": [[0.125, 0, MISSING], [0, 0, 0]],
    "range": [[0, 0.25, MISSING], [1, 0, 0]],
    "urban": [[0, 0, MISSING], [0, 0.75, 0]],
}


def write(
    folder: Path,
    shares: Mapping[str, Any] = SHARES,
    *,
    years: Sequence[int] = (850, 851, 2000),
    units: str = "years since 850-01-01 0:0:0",
    name: str = "states.nc",
    north: float = 47.0,
    west: float = 10.0,
    ascending: bool = False,
    leave_out: Sequence[str] = (),
) -> Path:
    """States of each year alike, on cells of 0.25 degree; 0, and 1e20 over sea, if not given."""
    shape = np.shape(next(iter(shares.values())))
    path = folder / name
    with netCDF4.Dataset(path, "w") as nc:
        nc.setncatts(
            {
                "Conventions": "CF-1.6",
                "activity_id": "input4MIPs",
                "dataset_category": "landState",
                "frequency": "yr",
                "source": "LUH2 v2h: Land-Use Harmonization Data Set",
                "source_id": "UofMD-landState-2-1-h",
            }
        )
        _grid(nc, shape, north, west, ascending)
        nc.createDimension("time", None)
        time = nc.createVariable("time", "f8", ("time",))
        time.units, time.calendar = units, "noleap"
        time.long_name = time.standard_name = "time"
        time.axis = "T"
        start = int(units.split("since ")[1].split("-")[0])
        length = 1 if units.startswith("years") else 365
        time[:] = [(year - start) * length for year in years]
        sea = np.asarray(next(iter(shares.values())), np.float32) == MISSING
        for state in (*STATES, "secma", "secmb"):
            if state in leave_out:
                continue
            values = nc.createVariable(state, "f4", ("time", "lat", "lon"), fill_value=False)
            values.set_auto_maskandscale(False)
            values.setncattr("_Fillvalue", MISSING)  # as the files have it
            values.missing_value = MISSING
            if state in ("secma", "secmb"):
                values.long_name = f"secondary mean {'age' if state == 'secma' else 'biomass'}"
                values.units = "years" if state == "secma" else "kg C/m^2"
                field = np.where(sea, MISSING, 40.0)
            else:
                values.standard_name, values.units = "area_fraction", "1"
                values.long_name, values.cell_methods = state, "time:mean"
                field = np.asarray(shares.get(state, np.where(sea, MISSING, 0)), np.float32)
            field = field[::-1] if ascending else field
            values[:] = np.broadcast_to(field.astype(np.float32), (len(years), *shape))
    return path


def write_other(folder: Path, kind: str) -> Path:
    """Another file of the product: "transitions", "management" or "static"."""
    names = {
        "transitions": ("primf_to_c3ann", "primf_harv", "primf_bioh"),
        "management": ("fertl_c3ann", "irrig_c3ann", "crpbf_c3ann", "rndwd"),
        "static": ("icwtr", "ptbio", "fstnf", "carea"),
    }[kind]
    path = folder / f"{kind}.nc"
    with netCDF4.Dataset(path, "w") as nc:
        _grid(nc, (2, 3), 47.0, 10.0, False)
        for name in names:
            nc.createVariable(name, "f4", ("lat", "lon"))[:] = 0.5
    return path


def _grid(nc: Any, shape: tuple[int, ...], north: float, west: float, ascending: bool) -> None:
    lat = north - 0.25 * (np.arange(shape[0]) + 0.5)
    lon = west + 0.25 * (np.arange(shape[1]) + 0.5)
    nc.createDimension("bounds", 2)
    for name, values in (("lat", lat[::-1] if ascending else lat), ("lon", lon)):
        long = {"lat": "latitude", "lon": "longitude"}[name]
        nc.createDimension(name, values.size)
        axis = nc.createVariable(name, "f8", (name,))
        axis.long_name = axis.standard_name = long
        axis.units = "degrees_north" if name == "lat" else "degrees_east"
        axis.axis, axis.bounds = ("Y" if name == "lat" else "X"), f"{name}_bounds"
        axis[:] = values
        ends = nc.createVariable(f"{name}_bounds", "f8", (name, "bounds"))
        ends[:] = values[:, None] + np.array([-0.125, 0.125])
