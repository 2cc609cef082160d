"""The Rhine at 1/120 degree (~1 km), 682 x 997 pixels: soils, terrain, land cover and LAI.

File
----
``rhine_wflow_1km/rhine_staticmaps_lai_1km.nc``: the static maps of the Rhine example of the
hydrological model wflow_sediment, with a monthly climatology of leaf area index.

The maps state no years: land cover and LAI are put in the nominal year 2000. Elevation and slope
exist inside the basin only. LAI of December and January is higher than that of February in almost
every class, as winter retrievals from satellites often are; it is kept as it comes.

References
----------
openstreams/wflow, examples/wflow_rhine_sediment, github.com/openstreams/wflow.
ESA GlobCover project, led by MEDIAS-France and UCLouvain: the legend of the land cover.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import xarray as xr

from ...errors import SourceError
from .. import legends, schema, vocabulary
from ..conform import CLIMATOLOGY
from ..times import NOMINAL_YEAR
from . import raw
from .co2 import ANNUAL_LICENSE, co2_annual
from .opening import open_source, source_of
from .source import FETCH_AGAIN, Layer, expect, gather

__all__ = ["maps", "rhine"]

FILE = "rhine_wflow_1km/rhine_staticmaps_lai_1km.nc"
LICENSE = "GPL-3.0"
# Two by two chunks of whole seasons: the file's own chunks in space, 8 MB as float32.
CHUNKS = {"month": -1, "lat": 341, "lon": 499}

MAP = ("lat", "lon")
STATICS = {
    "elevation": Layer("dem", "m", MAP),
    "slope": Layer("slope", "m m-1", MAP),
    "clay_fraction": Layer("percent_clay", "percent", MAP),
    "silt_fraction": Layer("percent_silt", "percent", MAP),
    "soil_porosity": Layer("thetaS", "m3 m-3", MAP),
    "soil_water_residual": Layer("thetaR", "m3 m-3", MAP),
    "soil_thickness": Layer("SoilThickness", "mm", MAP),
    "soil_hydraulic_conductivity": Layer("KsatVer_0cm", "mm day-1", MAP),
    "canopy_height": Layer("canopy_height", "m", MAP),
    "built_fraction": Layer("PathFrac", "1", MAP),
    "water_fraction": Layer("WaterFrac", "1", MAP),
}
LAI = Layer("LAI", "m2 m-2", ("month", *MAP))
COVER = Layer("landuse", "1", MAP)

LAI_COMMENT = (
    "December and January look too high: on average above February in almost every land cover "
    "class, as winter retrievals often are. Kept as the source has them. The source states "
    f"neither product nor years; {NOMINAL_YEAR} is nominal."
)


ATTRIBUTES = {
    "title": "Land surface of the Rhine at 1/120 degree",
    "summary": (
        "Terrain, soils, land cover as fractions of plant functional types, and the mean year "
        "of leaf area index. Elevation and slope exist inside the basin only."
    ),
    "source": (
        "openstreams/wflow, examples/wflow_rhine_sediment (static maps and LAI climatology; "
        "land cover in the legend of ESA GlobCover, credit ESA and UCLouvain)"
    ),
    "license": LICENSE,
    "references": (
        "github.com/openstreams/wflow; doi:10.5194/gmd-8-2315-2015 (classes to plant "
        "functional types)"
    ),
    "history": "xlsbc.cube.ingest.rhine.maps: values in CF units",
}


def maps(ds: xr.Dataset) -> xr.Dataset:
    """Statics, land cover and the mean year of leaf area index of the Rhine.

    Parameters
    ----------
    ds
        ``rhine_staticmaps_lai_1km.nc`` as `open_source` gives it.

    Returns
    -------
    xarray.Dataset
        Conformed and lazy: latitude 682 x longitude 997 at 1/120 degree, ``time`` 12 months and
        ``year`` of the nominal year 2000. NaN where the source is missing: elevation and slope
        outside the basin.

    Raises
    ------
    SourceError
        If a layer is missing, or has other units or dimensions: all of them; if the months are not
        1 to 12; when computed, if values contradict their units.
    """
    layers = [*STATICS.values(), LAI, COVER]
    expect(ds, layers, source_of(ds))
    held = ds[[layer.variable for layer in layers]].chunk(CHUNKS)
    held = held.rename(lat="latitude", lon="longitude")
    cube = xr.Dataset(
        {name: static(raw.numbers(held[layer.variable]), name) for name, layer in STATICS.items()}
    )
    cube["lc_fraction"] = land_cover(raw.numbers(held[COVER.variable]))
    # In double precision, so that n / 360 is rounded once.
    lai = raw.numbers(held[LAI.variable].astype(np.float64))
    cube["lai"] = leaf_area_index(lai, "month", source_of(ds), LAI_COMMENT)
    return raw.checked(schema.conform(cube.assign_attrs(ATTRIBUTES)), source_of(ds))


def rhine(source: str | os.PathLike[str]) -> xr.Dataset:
    """The cube of the Rhine: `maps` of the file in a folder, and CO2; lazy.

    Parameters
    ----------
    source
        Folder of the providers' files; holds ``rhine_wflow_1km/`` and ``co2/``.

    Returns
    -------
    xarray.Dataset
        Conformed, as `maps`.

    Raises
    ------
    SourceError
        If a file is missing, damaged or holds something else: all problems at once.
    """
    cube, co2 = gather(
        "the files of the Rhine cannot be used",
        [lambda: maps(open_source(Path(source) / FILE)), partial(co2_annual, source)],
    )
    cube = cube.assign(co2=co2.sel(year=[NOMINAL_YEAR]))
    return schema.conform(cube.assign_attrs(with_co2(ATTRIBUTES, "rhine", FILE)))


def with_co2(attributes: Mapping[str, str], module: str, files: str) -> dict[str, str]:
    """Attributes of maps of a module as they are with CO2 beside them."""
    return {
        **attributes,
        "source": f"{attributes['source']}; NOAA Global Monitoring Laboratory (CO2)",
        "license": f"{attributes['license']} (maps); {ANNUAL_LICENSE} (CO2)",
        "references": f"{attributes['references']}; doi:10.15138/9N0H-ZH07 (CO2)",
        "history": f"xlsbc.cube.ingest.{module}: read from {files}; values in CF units",
    }


def nominal_months() -> np.ndarray:
    """Starts of the 12 months of the nominal year, datetime64[ns]."""
    start = np.datetime64(str(NOMINAL_YEAR), "M")
    return np.arange(start, start + 12).astype("datetime64[ns]")


def standard(da: xr.DataArray, name: str, **attrs: str) -> xr.DataArray:
    """A field in the vocabulary's unit, float32, with its attributes and no others."""
    converted = vocabulary.convert(da, vocabulary.VOCABULARY[name].units).astype(np.float32)
    return converted.drop_attrs().assign_attrs(vocabulary.attributes(name) | attrs).rename(name)


def static(layer: xr.DataArray, name: str) -> xr.DataArray:
    """A static field in the vocabulary's unit; a slope is given as rise over run."""
    if name == "slope":
        # To the angle that ground_slope_angle is.
        layer = xr.ufuncs.rad2deg(xr.ufuncs.arctan(layer)).assign_attrs(units="degree")
    return standard(layer, name)


def land_cover(codes: xr.DataArray) -> xr.DataArray:
    """GlobCover codes as fractions of plant functional types in the nominal year."""
    fractions = legends.apply_crosswalk(codes, "globcover-cci_pft", "lc_class")
    fractions = fractions.expand_dims(year=[NOMINAL_YEAR]).astype(np.float32)
    return fractions.drop_attrs(deep=False).assign_attrs(
        vocabulary.attributes("lc_fraction"),
        comment=f"GlobCover classes as plant functional types; {NOMINAL_YEAR} is nominal",
    )


def leaf_area_index(lai: xr.DataArray, dim: str, where: str, comment: str) -> xr.DataArray:
    """Leaf area index of the months of the nominal year, which are the numbers 1 to 12 in `dim`.

    Raises
    ------
    SourceError
        If they are others, or in another order.
    """
    months = lai[dim].values
    if not np.array_equal(months, np.arange(1, 13)):
        problem = (
            f"{where}, coordinate {dim!r}: expected the months 1 to 12; found "
            f"{months.tolist()}; {FETCH_AGAIN}"
        )
        raise SourceError("the months of the leaf area index cannot be told", [problem])
    # Out first: a dimension keeps the attributes of its coordinate.
    lai = lai.drop_vars(dim).rename({dim: "time"} if dim != "time" else {})
    lai = lai.assign_coords(time=nominal_months())
    return standard(lai, "lai", cell_methods=CLIMATOLOGY, comment=comment)
