"""Soils: texture and carbon of SoilGrids 2.0, and the static maps of hydrological models.

Files
-----
SoilGrids 250 m: one GeoTIFF or netCDF for each property, depth and statistic, told by its name:
``clay_0-5cm_mean.tif``. Stored as integers in units of their own (`MAPPED`), which the files do not
state; -32768 is missing. The grid is Homolosine, or degrees where the web service or a tile server
has reprojected it. Only means are read: a quantile is no property of a soil.
The top layer, 0 to 5 cm, has the cube's names; deeper ones have their depth behind
(``clay_fraction_5_15cm``). Shares of clay, silt and sand are of the mass of the fine earth.
Model statics: netCDF of CWatM (Bhima: ``thetas1_UB_1km.nc``) and wflow, by the names of variables.
CWatM writes ``[-]`` as the unit of everything; where a title has the unit, that one counts.

References
----------
Poggio, L., et al. (2021): SoilGrids 2.0: producing soil information for the globe with quantified
spatial uncertainty. SOIL 7, 217-240, doi:10.5194/soil-7-217-2021.
ISRIC, SoilGrids, frequently asked questions: the table of mapped units and conversion factors.
"""

from __future__ import annotations

import re
import warnings
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from ...errors import SourceError, SourceWarning
from .. import schema, vocabulary
from . import raw
from .opening import source_of
from .raster import band_of, is_projected, on_lattice

__all__ = ["properties"]

LAYER = re.compile(r"(?P<property>[a-z]+\d*)_(?P<top>\d+)-(?P<bottom>\d+)cm_(?P<statistic>[\w.]+?)")
TOP = ("0", "5")
MISSING = (-32768,)
HOMOLOSINE = "+proj=igh +lon_0=0 +x_0=0 +y_0=0 +datum=WGS84 +units=m +no_defs"
"""What SoilGrids is on; the keys of GeoTIFF have no code for it."""


class Mapped(NamedTuple):
    """A SoilGrids property: the cube's name, unit, name for people, stored number of one unit."""

    name: str
    units: str
    long_name: str
    factor: float


MAPPED = {
    # g kg-1: 1000 are all of the soil.
    "clay": Mapped("clay_fraction", "1", "clay in the soil", 1000.0),
    "silt": Mapped("silt_fraction", "1", "silt in the soil", 1000.0),
    "sand": Mapped("sand_fraction", "1", "sand in the soil", 1000.0),
    # t ha-1, of 0 to 30 cm.
    "ocs": Mapped("soil_carbon", "kg m-2", "carbon in the soil", 10.0),
    # dg kg-1 and hg m-3 (which ISRIC has in kg m-3 by the factor 10).
    "soc": Mapped("soil_carbon_content", "1", "carbon in the fine earth, by mass", 1e4),
    "ocd": Mapped("soil_carbon_density", "kg m-3", "carbon in the soil, by volume", 10.0),
}
BY_MASS = "share of the mass of the fine earth"


class Static(NamedTuple):
    """A variable of a hydrological model: the cube's name and the unit of its numbers."""

    name: str
    units: str


STATICS = {
    "thetas1": Static("soil_porosity", "1"),
    "thetar1": Static("soil_water_residual", "1"),
    "ksat1": Static("soil_hydraulic_conductivity", "cm day-1"),
    "thetaS": Static("soil_porosity", "1"),
    "thetaR": Static("soil_water_residual", "1"),
    "SoilThickness": Static("soil_thickness", "mm"),
    "KsatVer": Static("soil_hydraulic_conductivity", "mm day-1"),
    "KsatVer_0cm": Static("soil_hydraulic_conductivity", "mm day-1"),
    "soil_theta_s": Static("soil_porosity", "1"),
    "soil_theta_r": Static("soil_water_residual", "1"),
    "soil_thickness": Static("soil_thickness", "mm"),
    "soil_ksat_vertical": Static("soil_hydraulic_conductivity", "mm day-1"),
    "percent_clay": Static("clay_fraction", "percent"),
    "percent_silt": Static("silt_fraction", "percent"),
}
SENTINELS = (-9999.0, -999.0)

SOILGRIDS_ATTRS = {
    "title": "Soils at 1/120 degree",
    "summary": "Texture and carbon of the soil, means over the pixels of SoilGrids.",
    "source": "SoilGrids 2.0, 250 m (ISRIC - World Soil Information)",
    "license": "CC-BY-4.0",
    "references": "doi:10.5194/soil-7-217-2021",
}
STATICS_ATTRS = {
    "title": "Soils of a hydrological model",
    "summary": "Static maps of the soil on the model's own grid.",
    "source": "static maps of a hydrological model (CWatM or wflow)",
    "license": "that of the model's files",
    "references": "doi:10.5194/gmd-13-3267-2020 (CWatM); doi:10.5194/gmd-17-3199-2024 (wflow)",
}
HISTORY = "xlsbc.cube.ingest.soils.properties: values in the units of the cube"


def properties(ds: xr.Dataset, *, layer: str | None = None, crs: Any = None) -> xr.Dataset:
    """Static fields of the soil.

    Parameters
    ----------
    ds
        A layer of SoilGrids or static maps of a model, as `open_source` gives them.
    layer
        Which layer of SoilGrids it is, such as ``"clay_0-5cm_mean"``; by the file's name if left
        out.
    crs
        Of a projected raster that does not say it; Homolosine if left out.

    Returns
    -------
    xarray.Dataset
        Conformed and lazy, (latitude, longitude). A layer of SoilGrids: on the lattice of 1/120
        degree, NaN where less than half of a pixel is known. Model statics: on their own grid.

    Raises
    ------
    SourceError
        If it cannot be told what it is; when computed, if values cannot be in the unit that it
        should be in.

    Warns
    -----
    SourceWarning
        If a unit was taken from a title, because the file's attribute says another.
    """
    if "band" in ds:
        cube = _soilgrids(ds, band_of(ds), _layer(ds, layer), crs)
    elif layer is not None or LAYER.match(_file_name(ds)):
        cube = _soilgrids(ds, _only_map(ds), _layer(ds, layer), crs)
    else:
        cube = _statics(ds)
    return raw.checked(schema.conform(cube), source_of(ds), tolerance=1e-6)


def _soilgrids(ds: xr.Dataset, band: xr.DataArray, found: re.Match[str], crs: Any) -> xr.Dataset:
    mapped = MAPPED[found["property"]]
    depth = (found["top"], found["bottom"])
    name = mapped.name if depth == TOP or found["property"] == "ocs" else _deeper(mapped, depth)
    # The file has no scale: ISRIC documents it. One that has it has been converted already.
    if {"scale_factor", "add_offset"} & set(band.attrs):
        problem = (
            f"{source_of(ds)}, variable {band.name!r}: expected numbers as ISRIC stores them; "
            "found a scale_factor; give the file as it was published"
        )
        raise SourceError("the unit of the soil map cannot be told", [problem])
    values = raw.numbers(band, missing=MISSING) / np.float32(mapped.factor)
    if is_projected(band):
        crs = crs or band.attrs.get("crs", HOMOLOSINE)
    field = on_lattice(values.drop_attrs(), crs).assign_attrs(
        _identity(name, mapped),
        cell_methods="area: mean",
        comment=f"{'-'.join(depth)} cm of depth"
        + (f"; {BY_MASS}" if mapped.factor == 1000.0 else ""),
    )
    return xr.Dataset({name: field}, attrs={**SOILGRIDS_ATTRS, "history": HISTORY})


def _deeper(mapped: Mapped, depth: tuple[str, str]) -> str:
    return f"{mapped.name}_{depth[0]}_{depth[1]}cm"


def _identity(name: str, mapped: Mapped) -> dict[str, str]:
    if name in vocabulary.VOCABULARY:
        return vocabulary.attributes(name)
    return {"xlsbc_role": "static", "long_name": mapped.long_name, "units": mapped.units}


def _layer(ds: xr.Dataset, layer: str | None) -> re.Match[str]:
    """What a layer of SoilGrids is, by its name."""
    stem = layer or re.sub(r"\.\w+$", "", _file_name(ds))
    found = LAYER.fullmatch(stem)
    if found is None or found["property"] not in MAPPED or found["statistic"] != "mean":
        problem = (
            f"{source_of(ds)}: expected the mean of {', '.join(MAPPED)}, named such as "
            f"clay_0-5cm_mean; found {stem!r}; pass layer=, or leave the file out"
        )
        raise SourceError("the soil map cannot be told by its name", [problem])
    return found


def _only_map(ds: xr.Dataset) -> xr.DataArray:
    maps = [da for da in ds.data_vars.values() if da.ndim == 2 and da.dtype.kind in "iuf"]
    if len(maps) != 1:
        problem = (
            f"{source_of(ds)}: expected one map; found {', '.join(map(str, ds)) or 'none'}; "
            "give one file for each layer"
        )
        raise SourceError("the soil map cannot be told", [problem])
    names = {"lat": "latitude", "lon": "longitude", "Y": "y", "X": "x"}
    return maps[0].rename({old: new for old, new in names.items() if old in maps[0].dims})


def _statics(ds: xr.Dataset) -> xr.Dataset:
    known = {name: STATICS[str(name)] for name in ds.data_vars if str(name) in STATICS}
    if not known:
        problem = (
            f"{source_of(ds)}: expected a layer of SoilGrids, or one of {', '.join(STATICS)}; "
            f"found {', '.join(map(str, ds)) or 'no variables'}"
        )
        raise SourceError("there are no soils in it", [problem])
    fields = {static.name: _static(ds, str(name), static) for name, static in known.items()}
    attrs = {**STATICS_ATTRS, "history": HISTORY}
    return xr.Dataset(fields, attrs=attrs)


def _static(ds: xr.Dataset, name: str, static: Static) -> xr.DataArray:
    da = raw.numbers(ds[name], missing=SENTINELS)
    said = str(raw.attribute(da, "units", raw.attribute(da, "unit", static.units)))
    comment = {}
    if static.units != "1" and said in ("[-]", "-", "1"):
        # CWatM: "vanGenuchten_saturated_conductivity [cm_day-1]" in the title of the file.
        text = f"units {said!r} of {name!r} read as {static.units}, as the model's files have it"
        warnings.warn(f"{source_of(ds)}: {text}", SourceWarning, stacklevel=2)
        comment, said = {"comment": text}, static.units
    attrs = vocabulary.attributes(static.name) | {"units": said} | comment
    return da.drop_attrs(deep=False).assign_attrs(attrs)


def _file_name(ds: xr.Dataset) -> str:
    return source_of(ds).rpartition("/")[2]
