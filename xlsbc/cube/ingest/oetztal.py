"""The Oetztal Alps at 1/120 degree, 42 x 56 pixels, with a mean year of climate.

The box of the Rhine's maps for which monthly ERA5 and ERA5-Land exist. The Rhine's elevation is
empty here: elevation and slope come from the SRTM at 3 arc-seconds.

File
----
``oetztal_era5_monthly/srtm_oetztal.tif``, and those of `xlsbc.cube.ingest.rhine` and
`xlsbc.cube.ingest.era5`.

References
----------
Farr, T. G., et al. (2007): The Shuttle Radar Topography Mission. Reviews of Geophysics 45,
RG2004, doi:10.1029/2005RG000183.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import numpy as np
import xarray as xr

from .. import schema, vocabulary
from ..conform import CLIMATOLOGY
from ..times import NOMINAL_YEAR
from . import era5, terrain
from .geotiff import open_geotiff
from .rhine import nominal_months, rhine, standard
from .source import gather

ELEVATION_FILE = "oetztal_era5_monthly/srtm_oetztal.tif"
ELEVATION_VOID = -32768  # NASA, SRTM topography documentation (SRTM_Topo.pdf)
# The box that elevation, ERA5 and ERA5-Land all cover, degrees.
WEST, SOUTH, EAST, NORTH = 10.63, 46.67, 11.10, 47.02
FORCING_LICENSE = "Copernicus (ERA5, ERA5-Land), BSD-3-Clause (their sample and SRTM)"


def oetztal(source: str | os.PathLike[str]) -> xr.Dataset:
    """The cube of the Oetztal Alps: the Rhine's maps, SRTM terrain, and the mean year of climate.

    Parameters
    ----------
    source
        Folder of the providers' files; holds ``rhine_wflow_1km/``, ``oetztal_era5_monthly/`` and
        ``co2/``.

    Returns
    -------
    xarray.Dataset
        Conformed and lazy: latitude 42 x longitude 56 at 1/120 degree; ``t2m`` and ``tp`` of
        ERA5-Land (mean of 1981-2018) on its own 0.1 degree grid; ``t2m_era5`` and ``tp_era5``
        (mean of 1979-2018), interpolated from 0.25 degree to that grid, as further forcing.

    Raises
    ------
    SourceError
        If a file is missing, damaged or holds something else: all problems at once.
    """
    maps, elevation, forcing = gather(
        "the files of the Oetztal Alps cannot be used",
        [partial(read, source) for read in (_maps, _elevation, _forcing)],
    )
    latitude, longitude = maps["latitude"], maps["longitude"]
    slope = terrain.slope(elevation).assign_attrs(units="degree")
    cube = maps.assign(
        elevation=_terrain(terrain.area_mean(elevation, latitude, longitude), "elevation"),
        slope=_terrain(terrain.area_mean(slope, latitude, longitude), "slope"),
        **forcing,
    )
    return schema.conform(cube.assign_attrs(_attributes(maps)))


def _maps(source: str | os.PathLike[str]) -> xr.Dataset:
    # The Rhine's own elevation and slope are all missing here.
    maps = rhine(source).drop_vars(["elevation", "slope"])
    return maps.sel(latitude=slice(NORTH, SOUTH), longitude=slice(WEST, EAST))


def _elevation(source: str | os.PathLike[str]) -> xr.DataArray:
    elevation = open_geotiff(Path(source) / ELEVATION_FILE)
    return elevation.where(elevation > ELEVATION_VOID).assign_attrs(units="m")


def _terrain(mean: xr.DataArray, name: str) -> xr.DataArray:
    units = vocabulary.VOCABULARY[name].units
    return standard(
        mean.assign_attrs(units=units),
        name,
        cell_methods="area: mean",
        comment="mean over the pixel of the SRTM at 3 arc-seconds, weighted by area",
    )


def _forcing(source: str | os.PathLike[str]) -> dict[str, xr.DataArray]:
    readers = [
        partial(era5.open_monthly, source, file, name)
        for files in (era5.LAND_FILES, era5.FILES)
        for name, file in files.items()
    ]
    land_t2m, land_tp, t2m, tp = map(
        era5.mean_year, gather("the monthly climate of the Oetztal Alps cannot be used", readers)
    )
    points = {dim: land_t2m[dim] for dim in ("latitude", "longitude")}
    return {
        "t2m": _land_forcing(land_t2m, "t2m"),
        "tp": _land_forcing(land_tp, "tp"),
        "t2m_era5": _further_forcing(t2m.interp(points), "t2m"),
        "tp_era5": _further_forcing(tp.interp(points), "tp"),
    }


def _land_forcing(mean: xr.DataArray, name: str) -> xr.DataArray:
    comment = f"ERA5-Land, mean of each month of {era5.LAND_PERIOD}; {NOMINAL_YEAR} is nominal"
    attrs = vocabulary.attributes(name) | _climatology(comment)
    return _on_forcing_grid(mean).assign_attrs(attrs)


def _further_forcing(mean: xr.DataArray, name: str) -> xr.DataArray:
    # No standard name: ERA5-Land holds the role of that name, and a role has one variable.
    comment = (
        f"ERA5, mean of each month of {era5.PERIOD}, bilinear from 0.25 degree to the "
        f"grid of ERA5-Land; {NOMINAL_YEAR} is nominal"
    )
    variable = vocabulary.VOCABULARY[name]
    attrs = {
        "long_name": f"{variable.long_name}, ERA5",
        "units": variable.units,
        "xlsbc_role": "forcing",
    }
    return _on_forcing_grid(mean).assign_attrs(attrs | _climatology(comment))


def _climatology(comment: str) -> dict[str, str]:
    return {"cell_methods": CLIMATOLOGY, "comment": comment}


def _on_forcing_grid(mean: xr.DataArray) -> xr.DataArray:
    names = {"month": "forcing_time", **{d: f"forcing_{d}" for d in ("latitude", "longitude")}}
    on_grid = mean.rename(names).assign_coords(forcing_time=nominal_months())
    return on_grid.astype(np.float32).drop_attrs(deep=False).chunk(-1)


def _attributes(maps: xr.Dataset) -> dict[str, str]:
    return {
        "title": "Land surface and climate of the Oetztal Alps at 1/120 degree",
        "summary": (
            "Terrain, soils, land cover as fractions of plant functional types, the mean year of "
            "leaf area index, and the mean year of temperature and precipitation."
        ),
        "source": (
            f"{maps.attrs['source']}; SRTM 3 arc-second elevation, ERA5 and ERA5-Land through "
            "OGGM/oggm-sample-data. Contains modified Copernicus Climate Change Service "
            "information"
        ),
        "license": f"{maps.attrs['license']}; {FORCING_LICENSE}",
        "references": (
            f"{maps.attrs['references']}; doi:10.1029/2005RG000183 (SRTM); doi:10.1002/qj.3803 "
            "(ERA5); doi:10.5194/essd-13-4349-2021 (ERA5-Land)"
        ),
        "history": (
            f"{maps.attrs['history']}\nxlsbc.cube.ingest.oetztal: cut to {WEST}-{EAST} E, "
            f"{SOUTH}-{NORTH} N; terrain from SRTM; mean year of ERA5-Land and ERA5"
        ),
    }
