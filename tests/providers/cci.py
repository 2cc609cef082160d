"""Small files as ESA CCI and C3S write land cover: names, types and attributes are theirs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np

STEP = 1 / 360
CLASSES = (
    "0 10 11 12 20 30 40 50 60 61 62 70 71 72 80 81 82 90 100 110 120 121 122 130 140 150 151 152"
    " 153 160 170 180 190 200 201 202 210 220"
)
FLAGS = np.array(CLASSES.split(), np.uint8)
MEANINGS = (
    "no_data cropland_rainfed cropland_rainfed_herbaceous_cover "
    "cropland_rainfed_tree_or_shrub_cover cropland_irrigated mosaic_cropland "
    "mosaic_natural_vegetation tree_broadleaved_evergreen_closed_to_open "
    "tree_broadleaved_deciduous_closed_to_open tree_broadleaved_deciduous_closed "
    "tree_broadleaved_deciduous_open tree_needleleaved_evergreen_closed_to_open "
    "tree_needleleaved_evergreen_closed tree_needleleaved_evergreen_open "
    "tree_needleleaved_deciduous_closed_to_open tree_needleleaved_deciduous_closed "
    "tree_needleleaved_deciduous_open tree_mixed mosaic_tree_and_shrub mosaic_herbaceous "
    "shrubland shrubland_evergreen shrubland_deciduous grassland lichens_and_mosses "
    "sparse_vegetation sparse_tree sparse_shrub sparse_herbaceous "
    "tree_cover_flooded_fresh_or_brakish_water tree_cover_flooded_saline_water "
    "shrub_or_herbaceous_cover_flooded urban bare_areas bare_areas_consolidated "
    "bare_areas_unconsolidated water snow_and_ice"
)
# 2 x 3 pixels of 1/120 degree: grass, water and half grass, half ice; no data, mostly no data
# (missing), one third no data and the rest cropland and bare ground.
CODES = np.array(
    [
        [130, 130, 130, 210, 210, 210, 130, 130, 130],
        [130, 130, 130, 210, 210, 210, 130, 220, 220],
        [130, 130, 130, 210, 210, 210, 220, 220, 220],
        [0, 0, 0, 0, 0, 0, 0, 10, 200],
        [0, 0, 0, 0, 50, 0, 0, 10, 200],
        [0, 0, 0, 0, 50, 0, 0, 10, 200],
    ],
    np.uint8,
)
TYPES = (
    "BARE BUILT GRASS-MAN GRASS-NAT SHRUBS-BD SHRUBS-BE SHRUBS-ND SHRUBS-NE TREES-BD TREES-BE "
    "TREES-ND TREES-NE WATER WATER_INLAND WATER_OCEAN SNOWICE LAND"
).split()


def write(
    folder: Path,
    codes: np.ndarray = CODES,
    *,
    years: tuple[int, ...] = (2015,),
    signed: bool = True,
    north: float = 47.0,
    west: float = 10.0,
    ascending: bool = False,
    dated: bool = True,
    axes: tuple[str, str] = ("lat", "lon"),
) -> list[Path]:
    """A land cover map a year, (time, lat, lon), bytes as C3S stores them."""
    paths = []
    for year in years:
        version = "v2.0.7cds" if year < 2016 else "v2.1.1"
        maker = "ESACCI" if year < 2016 else "C3S"
        name = f"{maker}-LC-L4-LCCS-Map-300m-P1Y-{year}-{version}.nc"
        values = codes.astype(np.uint8)
        with netCDF4.Dataset(folder / name, "w") as nc:
            nc.setncatts(
                {
                    "title": "Land Cover Map of ESA CCI brokered by CDS",
                    "product_version": version.removeprefix("v"),
                    "time_coverage_start": f"{year}0101",
                    "Conventions": "CF-1.6",
                }
            )
            dims = _grid(nc, values.shape, north, west, ascending, year if dated else None, axes)
            # time first, rows and columns in the order of the array that is written
            kind = "i1" if signed else "u1"
            map_ = nc.createVariable("lccs_class", kind, dims, zlib=True, fill_value=0)
            map_.set_auto_maskandscale(False)
            map_.standard_name = "land_cover_lccs"
            map_.long_name = "Land cover class defined in LCCS"
            map_.flag_values = FLAGS.astype(kind) if signed else FLAGS
            map_.flag_meanings = MEANINGS
            map_.valid_min, map_.valid_max = np.array([1, 220], "u1").astype(kind)
            map_.ancillary_variables = (
                "processed_flag current_pixel_state observation_count change_count"
            )
            if signed:
                map_.setncattr("_Unsigned", "true")
            stored = values[::-1] if ascending else values
            map_[:] = (stored.T if axes == ("lon", "lat") else stored).astype(kind)
            changes = nc.createVariable("change_count", "i1", dims)
            changes.long_name = "number of class changes"
            changes[:] = 1
        paths.append(folder / name)
    return paths


def write_types(
    folder: Path,
    shares: Mapping[str, Any],
    *,
    year: int = 2010,
    shape: tuple[int, int] = (6, 6),
    leave_out: tuple[str, ...] = (),
    north: float = 47.0,
    west: float = 10.0,
) -> Path:
    """The plant functional types of a year, whole per cents of pixels of 300 m; 0 if not given."""
    path = folder / f"ESACCI-LC-L4-PFT-Map-300m-P1Y-{year}-v2.0.8.nc"
    with netCDF4.Dataset(path, "w") as nc:
        nc.product_version = "2.0.8"
        dims = _grid(nc, shape, north, west, False, year, ("lat", "lon"))
        for name in TYPES:
            if name in leave_out:
                continue
            values = nc.createVariable(name, "u1", dims, zlib=True, fill_value=False)
            values.long_name = name.lower()
            values.description = f"Percentage cover of {name.lower()} in the 300 m pixel."
            values[:] = np.broadcast_to(shares.get(name, 0), shape)
    return path


def _grid(
    nc: Any,
    shape: tuple[int, int],
    north: float,
    west: float,
    ascending: bool,
    year: int | None,
    axes: tuple[str, str],
) -> tuple[str, ...]:
    rows, columns = shape
    lat = north - STEP * (np.arange(rows) + 0.5)
    lon = west + STEP * (np.arange(columns) + 0.5)
    lat = lat[::-1] if ascending else lat
    nc.createDimension("bounds", 2)
    for name, values, units in (("lat", lat, "degrees_north"), ("lon", lon, "degrees_east")):
        nc.createDimension(name, values.size)
        axis = nc.createVariable(name, "f8", (name,))
        axis.standard_name = {"lat": "latitude", "lon": "longitude"}[name]
        axis.long_name, axis.units, axis.bounds = axis.standard_name, units, f"{name}_bounds"
        axis[:] = values
        ends = nc.createVariable(f"{name}_bounds", "f8", (name, "bounds"))
        ends[:] = values[:, None] + STEP / 2 * np.array([-1.0, 1.0])
    nc.createVariable("crs", "i4").i2m = "0.002777777777778,0.0,0.0,-0.002777777777778,-180.0,90.0"
    if year is None:
        return axes
    nc.createDimension("time", 1)
    time = nc.createVariable("time", "f8", ("time",))
    time.standard_name, time.units = "time", "days since 1970-01-01 00:00:00"
    time.calendar = "gregorian"
    time[:] = np.datetime64(f"{year}-01-01", "D").astype(int)
    return ("time", *axes)
