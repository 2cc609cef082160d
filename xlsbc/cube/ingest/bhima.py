"""The Upper Bhima (India) of the hydrological model CWatM: land use, built-up land, terrain, soil.

Files, all on 320 x 370 pixels of 1/120 degree: ``fractionLandcover_UB_1km.nc``, six shares of land
use a year, 1960-2010; ``UBB_built-up_res_2015.nc``, built-up land in quarters of a pixel; and
``tanslope``, ``elvstd``, ``thetas1`` and ``ksat1`` ``_UB_1km.nc``.

All but the built-up land is constant in blocks of 10 x 10 pixels, 5 arc-minutes: it was cut from
coarse data. The shares are therefore given as those of coarse cells; the maps of terrain and soil
are what they are, and say so. Units are "[-]" for each, which is wrong for ``elvstd`` (m) and
``ksat1`` (cm day-1, as its title says). Grass holds -0.001 in places, what rounding to three
decimals left of 1 minus the others. ``dem_India_1km_extract.map`` is fine terrain on the same
pixels; the slope that comes with the model is not of it.

References
----------
iiasa/CWatM-Bhima-30sec, github.com/iiasa/CWatM-Bhima-30sec: the files.
Burek et al. 2020, Geosci. Model Dev. 13, 3267-3298, doi:10.5194/gmd-13-3267-2020, section 2: the
six classes of the model; its grassland holds all land that is in no other class, rainfed crops too.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import xarray as xr

from ...errors import SourceError, SourceWarning
from .. import schema, vocabulary
from ..legends import LU
from . import raw, terrain
from .landmap import geographic, pixels
from .opening import source_of

__all__ = ["built_up", "elevation", "fields", "land_use", "statics"]

CLASSES = {
    "fracforest": "secdf",
    "fracgrassland": "range",
    "fracirrNonPaddy": "c3ann",
    "fracirrPaddy": "c3ann",
    "fracsealed": "urban",
    "fracwater": "icwtr",
}
"""State of LUH2 that each class is taken for: forests of a settled basin are secondary, the rest
of the land (which CWatM calls grassland) rangeland, irrigated land C3 annual crops, rice or not.
"""
BLOCK = 10
CELLS = 12  # blocks in a degree
TOLERANCE = 0.01  # the files are rounded to 0.001, and six numbers are summed

STATICS = {
    "tanslope": ("slope", "1"),
    "elvstd": ("elevation_deviation", "m"),
    "thetas1": ("soil_porosity", "1"),
    "ksat1": ("soil_hydraulic_conductivity", "cm day-1"),
}
"""Canonical name of each map, and the unit that its numbers are in whatever the file says."""
NO_UNIT = ("", "-", "[-]", "1")
YEAR_OF_BUILT_UP = 2015

BLOCKS = "constant in blocks of 10 x 10 pixels (5 arc-minutes): finer detail is not in the source"
COMMON = {
    "source": "iiasa/CWatM-Bhima-30sec, International Institute for Applied Systems Analysis",
    "references": "github.com/iiasa/CWatM-Bhima-30sec; doi:10.5194/gmd-13-3267-2020",
    "license": "GPL-3.0",
}


def fields(ds: xr.Dataset) -> xr.Dataset:
    """`land_use`, `built_up`, `elevation` or `statics`, whichever a file holds.

    Raises
    ------
    SourceError
        If it holds none of them.
    """
    kinds = (
        (CLASSES, land_use),
        (["urban_frac"], built_up),
        (["band"], elevation),
        (STATICS, statics),
    )
    for names, read in kinds:
        if any(name in ds for name in names):
            return read(ds)
    held = ", ".join(map(repr, list(ds.data_vars)[:12])) or "no variables"
    expected = ", ".join(repr(name) for names, _ in kinds for name in names)
    problem = f"{source_of(ds)}: expected any of {expected}; found {held}; leave it out"
    raise SourceError("a file is none of the Upper Bhima", [problem])


def land_use(ds: xr.Dataset) -> xr.Dataset:
    """Land-use totals of cells of 5 arc-minutes in the Upper Bhima, as LUH2 states.

    Parameters
    ----------
    ds
        ``fractionLandcover_UB_1km.nc`` as `open_source` gives it.

    Returns
    -------
    xarray.Dataset
        ``lu_total`` (year, lu_class, driver_latitude, driver_longitude) at 1/12 degree, 1, summing
        to 1; NaN where the file is missing. States that CWatM does not know are 0. Lazy.

    Raises
    ------
    SourceError
        If a class is missing or the pixels do not fill whole cells; when computed, if shares are
        below -0.01 or do not sum to 1 within 0.01.
    """
    _need(ds, list(CLASSES))
    parts = [raw.numbers(geographic(ds, name)) for name in CLASSES]
    _in_whole_cells(parts[0], source_of(ds))
    total = xr.apply_ufunc(
        _states,
        *(part.coarsen(latitude=BLOCK, longitude=BLOCK).mean() for part in parts),
        kwargs={"source": source_of(ds)},
        output_core_dims=[["lu_class"]],
        dask="parallelized",
        output_dtypes=[np.float32],
        dask_gufunc_kwargs={"output_sizes": {"lu_class": len(LU.ids)}},
    )
    total = total.rename(latitude="driver_latitude", longitude="driver_longitude")
    total = total.assign_coords(lu_class=LU.coordinate("lu_class"))
    comment = "from the six classes of CWatM; land outside forests, irrigation and towns is range"
    attrs = vocabulary.attributes("lu_total") | {"comment": comment}
    cube = xr.Dataset({"lu_total": total.drop_attrs(deep=False).assign_attrs(attrs)})
    return _finished(ds, cube, "land_use", "Land-use totals of the Upper Bhima at 1/12 degree")


def built_up(ds: xr.Dataset) -> xr.Dataset:
    """Share of built-up land in 2015 in the Upper Bhima at 1/120 degree.

    Parameters
    ----------
    ds
        ``UBB_built-up_res_2015.nc`` as `open_source` gives it.

    Returns
    -------
    xarray.Dataset
        ``built_fraction`` (latitude, longitude), 1, in quarters. Lazy.

    Raises
    ------
    SourceError
        If there is no such map; when computed, if a share is outside 0..1.
    """
    _need(ds, ["urban_frac"])
    attrs = vocabulary.attributes("built_fraction") | {"comment": f"of {YEAR_OF_BUILT_UP}"}
    # A static map: it has no year, whatever is in the name of its file.
    built = raw.numbers(ds["urban_frac"]).drop_attrs(deep=False).assign_attrs(attrs)
    cube = xr.Dataset({"built_fraction": built})
    return _finished(ds, cube, "built_up", "Built-up land of the Upper Bhima in 2015")


def elevation(ds: xr.Dataset) -> xr.Dataset:
    """Elevation of the Upper Bhima at 1/120 degree.

    Parameters
    ----------
    ds
        ``dem_India_1km_extract.map`` as `open_source` gives it.

    Returns
    -------
    xarray.Dataset
        ``elevation`` (latitude, longitude), m, NaN where missing. Lazy. Its slope is left out: that
        of `statics` is the model's.

    Raises
    ------
    SourceError
        As `xlsbc.cube.ingest.terrain.elevation`.
    """
    heights = terrain.elevation(ds)[["elevation"]].drop_attrs(deep=False)
    return _finished(ds, heights, "elevation", "Elevation of the Upper Bhima at 1/120 degree")


def statics(ds: xr.Dataset) -> xr.Dataset:
    """Terrain and soil of the Upper Bhima, whichever of its four maps a file holds.

    Parameters
    ----------
    ds
        ``tanslope``, ``elvstd``, ``thetas1`` or ``ksat1`` as `open_source` gives it.

    Returns
    -------
    xarray.Dataset
        Of ``slope`` (degree), ``elevation_deviation`` (m, xlsbc_role static),
        ``soil_porosity`` (1) and ``soil_hydraulic_conductivity`` (m s-1) those that the file has,
        (latitude, longitude), NaN where it is missing. Lazy.

    Raises
    ------
    SourceError
        If the file holds none of them, or says another unit than none or the right one; when
        computed, if values are impossible.

    Warns
    -----
    SourceWarning
        Where "[-]" was read as the unit that the numbers are in; the variable's comment says so.
    """
    held = [name for name in STATICS if name in ds.data_vars]
    if not held:
        _need(ds, ["tanslope, elvstd, thetas1 or ksat1"])
    cube = xr.Dataset({STATICS[name][0]: _static(ds, name) for name in held})
    return _finished(ds, cube, "statics", "Terrain and soil of the Upper Bhima at 1/120 degree")


def _static(ds: xr.Dataset, name: str) -> xr.DataArray:
    canonical, units = STATICS[name]
    where, said = f"{source_of(ds)}, variable {name!r}", str(ds[name].attrs.get("units", ""))
    if said not in (*NO_UNIT, units):
        problem = f"{where}: expected units '[-]' or {units!r}; found {said!r}; check the file"
        raise SourceError("the units of a map are unknown", [problem])
    values, comment = raw.numbers(ds[name]).drop_attrs(), BLOCKS
    if said != units and units != "1":
        text = f"its units {said!r} are wrong: read as {units}"
        warnings.warn(f"{where}: {text}", SourceWarning, stacklevel=4)
        comment = f"{text}; {BLOCKS}"
    if name == "tanslope":
        # From rise over run to the angle that ground_slope_angle is.
        values, units = xr.ufuncs.rad2deg(xr.ufuncs.arctan(values)), "degree"
    if canonical in vocabulary.VOCABULARY:
        named = values.assign_attrs(standard_name=None, units=units)
        wanted = vocabulary.VOCABULARY[canonical].units
        converted = vocabulary.convert(named, wanted).drop_attrs()
        return converted.assign_attrs(vocabulary.attributes(canonical), comment=comment)
    return values.assign_attrs(
        xlsbc_role="static",
        long_name="standard deviation of elevation within 5 arc-minutes",
        units=units,
        comment=comment,
    )


def _states(*parts: np.ndarray, source: str) -> np.ndarray:
    stack = np.stack(parts, axis=-1)
    total = stack.sum(axis=-1, keepdims=True)
    low = np.fmin.reduce(stack, axis=None, initial=0.0)
    off = np.fmax.reduce(np.abs(total - 1.0), axis=None, initial=0.0)
    if low < -TOLERANCE or off > TOLERANCE:
        found = f"shares down to {low:g} and sums off by up to {off:g}"
        problem = f"{source}: expected shares that sum to 1; found {found}; fetch the file again"
        raise SourceError("the land use of a cell is impossible", [problem])
    stack = np.clip(stack, 0.0, None)
    stack = stack / stack.sum(axis=-1, keepdims=True)
    states = np.where(np.isnan(total), np.float32(np.nan), np.zeros(len(LU.ids), np.float32))
    for i, state in enumerate(CLASSES.values()):
        states[..., LU.index(state)] += stack[..., i]
    return states.astype(np.float32)


def _in_whole_cells(da: xr.DataArray, source: str) -> None:
    problems = []
    for dim in ("latitude", "longitude"):
        step = 1 / (BLOCK * CELLS)
        edge = float(da[dim].values[0]) + (step / 2 if dim == "latitude" else -step / 2)
        spacing = abs(float(da[dim].values[-1] - da[dim].values[0])) / max(da.sizes[dim] - 1, 1)
        if (
            da.sizes[dim] % BLOCK
            or abs(edge * CELLS - round(edge * CELLS)) > 0.05
            or abs(spacing - step) > 1e-4 * step
        ):
            found = f"{da.sizes[dim]} from {edge:.6g} in steps of {spacing:.6g}"
            problems.append(
                f"{source}, {dim}: expected whole cells of 5 arc-minutes in pixels of 1/120 "
                f"degree; found {found}; cut the file along cells"
            )
    if problems:
        raise SourceError("the land use is not on its grid", problems)


def _need(ds: xr.Dataset, names: Sequence[str]) -> None:
    held = ", ".join(map(str, list(ds.data_vars)[:12])) or "no variables"
    problems = [
        f"{source_of(ds)}: expected variable {name!r}; found {held}; give the file of that name"
        for name in names
        if name not in ds.data_vars
    ]
    if problems:
        raise SourceError("the maps of the Upper Bhima cannot be read", problems)


def _finished(ds: xr.Dataset, cube: xr.Dataset, function: str, title: str) -> xr.Dataset:
    history = f"xlsbc.cube.ingest.bhima.{function}: in CF units and canonical order"
    attrs = {"title": title, "summary": f"{title}, from the model CWatM.", "history": history}
    conformed = schema.conform(cube.assign_attrs(COMMON | attrs))
    if "latitude" in conformed.dims:
        # Single precision in one of the files: the same pixels must have the same coordinates.
        latitude, longitude = pixels(conformed)
        conformed["latitude"] = conformed["latitude"].copy(data=latitude)
        conformed["longitude"] = conformed["longitude"].copy(data=longitude)
    return raw.checked(conformed, source_of(ds), tolerance=1e-5)
