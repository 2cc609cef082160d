"""The Piave at 1/60 degree (~1.9 km), 53 x 58 pixels: soils, terrain, land cover, LAI, weather.

Files
-----
``piave_wflow/staticmaps.nc``: the static maps of the Piave example of hydromt_wflow, with a mean
year of leaf area index (MODIS MCD15A3H, 2003-2017) whose ``time`` is 1 to 12 and has no units.
``piave_wflow/inmaps_2010-01-01_2010-03-31.nc``: 90 days of precipitation, potential evaporation
and temperature from ERA5, on the same grid, whose dimensions are y and x there.

All else than the basin is missing (46 % of the pixels), by -9999, -999 or NaN, and 230 in the land
cover. What has a unit has it in an attribute ``unit``; the others are those of the model's manual.

References
----------
Deltares/hydromt_wflow, examples/wflow_piave_subbasin, github.com/Deltares/hydromt_wflow.
Wflow.jl, model documentation, parameters of the SBM soil model (units).
ESA GlobCover project, led by MEDIAS-France and UCLouvain: the legend of the land cover.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr

from ...errors import SourceError
from .. import schema, times, vocabulary
from ..times import NOMINAL_YEAR
from . import raw
from .co2 import co2_annual
from .opening import open_source, source_of
from .rhine import land_cover, leaf_area_index, standard, static, with_co2
from .source import FETCH_AGAIN, gather

__all__ = ["fields", "maps", "piave", "weather"]

FOLDER = "piave_wflow"
STATICS_FILE = f"{FOLDER}/staticmaps.nc"
FORCING_FILE = f"{FOLDER}/inmaps_2010-01-01_2010-03-31.nc"
LICENSE = "GPL-3.0-or-later"
# Each variable has its own as _FillValue; tables of parameters bring in the other one.
SENTINELS = (-9999.0, -999.0)
ROUNDING = 1e-6  # of shares that were averaged in single precision

MAP = ("latitude", "longitude")
DAYS = ("time", "y", "x")


class Layer(NamedTuple):
    """A variable of a file: its name, what it says of its unit, the unit, and its dimensions."""

    variable: str
    stated: str | None
    units: str
    dims: tuple[str, ...] = MAP


STATICS = {
    "elevation": Layer("land_elevation", "m", "m"),
    "slope": Layer("land_slope", "m.m-1", "m m-1"),
    "soil_porosity": Layer("soil_theta_s", None, "1"),
    "soil_water_residual": Layer("soil_theta_r", None, "1"),
    "soil_thickness": Layer("soil_thickness", None, "mm"),
    "soil_hydraulic_conductivity": Layer("soil_ksat_vertical", None, "mm day-1"),
    "built_fraction": Layer("soil_compacted_fraction", None, "1"),
    "water_fraction": Layer("land_water_fraction", None, "1"),
}
LAI = Layer("vegetation_leaf_area_index", None, "1", ("time", *MAP))
COVER = Layer("meta_landuse", None, "1")
FORCING = {
    "t2m": Layer("temp", "degree C.", "degC", DAYS),
    "tp": Layer("precip", "mm", "kg m-2 day-1", DAYS),
    "pet": Layer("pet", "mm", "kg m-2 day-1", DAYS),
}
POTENTIAL_EVAPORATION = {
    "long_name": "potential evaporation",
    "standard_name": "water_potential_evaporation_flux",
    "units": "kg m-2 s-1",
    "xlsbc_role": "forcing",
}


COMMON = {
    "source": (
        "Deltares/hydromt_wflow, examples/wflow_piave_subbasin (static maps, LAI of MODIS "
        "MCD15A3H V006, soils of SoilGrids; land cover in the legend of ESA GlobCover, credit "
        "ESA and UCLouvain; weather from ERA5: contains modified Copernicus Climate Change "
        "Service information)"
    ),
    "license": LICENSE,
    "references": (
        "github.com/Deltares/hydromt_wflow; doi:10.5067/MODIS/MCD15A3H.006 (LAI); "
        "doi:10.5194/gmd-8-2315-2015 (classes to plant functional types); doi:10.1002/qj.3803 "
        "(ERA5)"
    ),
}


def fields(ds: xr.Dataset) -> xr.Dataset:
    """`maps` or `weather`, whichever a file holds.

    Raises
    ------
    SourceError
        If it holds neither.
    """
    for layers, read in ((FORCING, weather), (STATICS, maps)):
        if any(layer.variable in ds for layer in layers.values()):
            return read(ds)
    held = ", ".join(map(repr, list(ds.data_vars)[:12])) or "no variables"
    problem = (
        f"{source_of(ds)}: expected staticmaps.nc or the weather of inmaps_*.nc; found {held}; "
        "leave it out"
    )
    raise SourceError("a file is none of the Piave", [problem])


def maps(ds: xr.Dataset) -> xr.Dataset:
    """Statics, land cover and the mean year of leaf area index of the Piave.

    Parameters
    ----------
    ds
        ``staticmaps.nc`` as `open_source` gives it.

    Returns
    -------
    xarray.Dataset
        Conformed and lazy: latitude 53 x longitude 58 at 1/60 degree, ``time`` 12 months and
        ``year`` of the nominal year 2000. NaN outside the basin.

    Raises
    ------
    SourceError
        If a layer is missing, or has another unit or other dimensions: all of them; if the months
        are not 1 to 12; when computed, if values contradict their units.
    """
    held = _layers(ds, {**STATICS, "lai": LAI, "cover": COVER})
    cube = xr.Dataset({name: static(held[name], name) for name in STATICS})
    cube["lc_fraction"] = land_cover(held["cover"])
    comment = f"mean year of MODIS MCD15A3H V006, 2003-2017; {NOMINAL_YEAR} is nominal"
    cube["lai"] = leaf_area_index(held["lai"], "time", source_of(ds), comment)
    summary = (
        "Terrain, soils, land cover as fractions of plant functional types, and the mean year of "
        "leaf area index. All of it inside the basin only."
    )
    return _finished(ds, cube, "maps", "Land surface of the Piave at 1/60 degree", summary)


def weather(ds: xr.Dataset) -> xr.Dataset:
    """Daily temperature, precipitation and potential evaporation of the Piave.

    Parameters
    ----------
    ds
        ``inmaps_*.nc`` as `open_source` gives it.

    Returns
    -------
    xarray.Dataset
        Conformed and lazy: ``t2m`` (K), ``tp`` and ``pet`` (kg m-2 s-1), means of the day that
        begins at ``forcing_time``, (forcing_time, forcing_latitude, forcing_longitude) at 1/60
        degree. NaN outside the basin.

    Raises
    ------
    SourceError
        As `maps`.
    """
    held = _layers(ds, FORCING)
    days = times.read_times(held["time"])
    names = {"time": "forcing_time", "y": "forcing_latitude", "x": "forcing_longitude"}
    on_grid = held.rename(names).assign_coords(forcing_time=days)
    pet = vocabulary.convert(on_grid["pet"], POTENTIAL_EVAPORATION["units"]).astype(np.float32)
    how = {"comment": "from ERA5, brought to this grid by hydromt_wflow"}
    cube = xr.Dataset(
        {
            "t2m": standard(on_grid["t2m"], "t2m", cell_methods="time: mean", **how),
            "tp": standard(on_grid["tp"], "tp", cell_methods="time: mean", **how),
            "pet": pet.drop_attrs().assign_attrs(POTENTIAL_EVAPORATION | how),
        }
    )
    summary = "Daily means of the weather, inside the basin only."
    return _finished(ds, cube, "weather", "Weather of the Piave at 1/60 degree", summary)


def piave(source: str | os.PathLike[str]) -> xr.Dataset:
    """The cube of the Piave: `maps` and `weather` of the files in a folder, and CO2; lazy.

    Parameters
    ----------
    source
        Folder of the providers' files; holds ``piave_wflow/`` and ``co2/``.

    Returns
    -------
    xarray.Dataset
        Conformed, as `maps` and `weather`; the days are those of January to March 2010.

    Raises
    ------
    SourceError
        If a file is missing, damaged or holds something else: all problems at once.
    """
    surface, days, co2 = gather(
        "the files of the Piave cannot be used",
        [
            lambda: maps(open_source(Path(source) / STATICS_FILE)),
            lambda: weather(open_source(Path(source) / FORCING_FILE)),
            partial(co2_annual, source),
        ],
    )
    cube = surface.assign(days.data_vars).assign(co2=co2.sel(year=[NOMINAL_YEAR]))
    own = {
        "title": "Land surface and weather of the Piave at 1/60 degree",
        "summary": (
            "Terrain, soils, land cover as fractions of plant functional types, the mean year of "
            "leaf area index, and 90 days of weather. All of it inside the basin only."
        ),
    }
    attrs = with_co2(COMMON | own, "piave", f"{STATICS_FILE} and {FORCING_FILE}")
    return schema.conform(cube.assign_attrs(attrs))


def _layers(ds: xr.Dataset, layers: Mapping[str, Layer]) -> xr.Dataset:
    """The layers under our names, in their units, NaN where missing."""
    problems = [p for layer in layers.values() for p in _layer_problems(ds, layer)]
    if problems:
        name = Path(source_of(ds)).name
        raise SourceError(f"{name} does not hold what is expected of it", problems)
    found = {
        name: raw.numbers(ds[layer.variable], missing=SENTINELS).assign_attrs(units=layer.units)
        for name, layer in layers.items()
    }
    return xr.Dataset(found)


def _layer_problems(ds: xr.Dataset, layer: Layer) -> list[str]:
    where = f"{source_of(ds)}, variable {layer.variable!r}"
    if layer.variable not in ds:
        held = ", ".join(repr(name) for name in ds.data_vars)
        return [f"{where}: expected it; found only {held}; {FETCH_AGAIN}"]
    da = ds[layer.variable]
    problems = []
    if da.dims != layer.dims:
        problems.append(
            f"{where}: expected dimensions {layer.dims}; found {da.dims}; {FETCH_AGAIN}"
        )
    said = raw.attribute(da, "unit")
    if said != layer.stated:
        problems.append(f"{where}: expected unit {layer.stated!r}; found {said!r}; {FETCH_AGAIN}")
    return problems


def _finished(
    ds: xr.Dataset, cube: xr.Dataset, function: str, title: str, summary: str
) -> xr.Dataset:
    history = f"xlsbc.cube.ingest.piave.{function}: values in CF units"
    attrs = COMMON | {"title": title, "summary": summary, "history": history}
    return raw.checked(schema.conform(cube.assign_attrs(attrs)), source_of(ds), ROUNDING)
