"""Climate fields of IFS and ecLand: what their land surface takes as given.

Files
-----
``surfclim`` of ecLand offline, netCDF: ``geopot``, ``landsea``, ``CLAKE``, ``cu``, ``cvl``,
``cvh``, and ``Mlail`` and ``Mlaih`` for 12 months. Invariant fields of ERA5 and ERA5-Land, GRIB or
netCDF of the Climate Data Store: ``z``, ``lsm``, ``cl``, ``cvl``, ``cvh``; ``lai_lv`` and
``lai_hv``, which are a fixed climatology.

What a file does not say
------------------------
``Mlail`` is low and ``Mlaih`` is high vegetation in ecLand itself; its tool ``create_sites.py``
writes them the other way round, and nothing in a file tells which wrote it. The ``geopot`` of a
surfclim file is in ``m2/m``, and is m2 s-2. Fields of fixed content have a time all the same.
``z`` of a pressure level is no elevation.

References
----------
ECMWF: ERA5: data documentation, table 1: surface and single level parameters, invariants.
ECMWF: ecLand, ``src/surf/offline/driver/rdclim.F90`` (github.com/ecmwf-ifs/ecland): names and dims.
Boussetta, S., et al. (2021): ECLand: The ECMWF Land Surface Modelling System. Atmosphere 12, 723,
doi:10.3390/atmos12060723.
WMO GRIB code table 4.234: types of vegetation.
"""

from __future__ import annotations

import warnings
from collections.abc import Hashable
from typing import NamedTuple

import xarray as xr

from ...errors import SourceError, SourceWarning
from .. import vocabulary
from ..axes import Axis, read_axes
from ..units import convertible
from . import cds, raw
from .opening import source_of

__all__ = ["climate_fields"]

GRAVITY = 9.80665
"""Standard acceleration, m s-2, by which IFS makes heights geopotentials (ECMWF, IFS Documentation
CY47R3, part IV, chapter 12)."""
GEOPOTENTIAL = "m2 s-2"
WRONG_GEOPOTENTIAL = "m2/m"
"""Units of ``geopot`` in surfclim files; the numbers are m2 s-2."""
PER_CENT = ("%", "percent")
PACKING = 1e-4  # share of the range by which packed integers miss 0 and 1


class ClimateField(NamedTuple):
    """A field as files have it.

    Attributes
    ----------
    names
        In ERA5 and in surfclim files.
    code
        Of ECMWF's parameter database (codes.ecmwf.int/grib/param-db).
    monthly
        Whether it changes with the month.
    """

    names: tuple[str, ...]
    code: int
    monthly: bool = False


FIELDS = {
    "elevation": ClimateField(("z", "geopot"), 129),
    "land_fraction": ClimateField(("lsm", "landsea"), 172),
    "lake_fraction": ClimateField(("cl", "CLAKE"), 26),
    "built_fraction": ClimateField(("cur", "cu"), 229001),
    "low_vegetation_fraction": ClimateField(("cvl",), 27),
    "high_vegetation_fraction": ClimateField(("cvh",), 28),
    "lai_lv": ClimateField(("lai_lv", "Mlail"), 66, monthly=True),
    "lai_hv": ClimateField(("lai_hv", "Mlaih"), 67, monthly=True),
}
CLASSES = ("tvl", "tvh", "slt", "sotype")
"""Codes of vegetation and of soil: they are left out, as no mean of codes means anything."""
TIMES = ("time", "month")
SURFACE = ("surface", "undef", "unknown")

ATTRIBUTES = {
    "title": "Climate fields of IFS and ecLand",
    "summary": (
        "Elevation, shares of land, lakes, towns, low and high vegetation, and the leaf area index "
        "of both in a fixed mean year, on the grid of the source, which is coarse."
    ),
    "source": (
        "Climate fields of IFS (ERA5, ERA5-Land invariants) or ecLand (surfclim), ECMWF. Contains "
        "modified Copernicus Climate Change Service information"
    ),
    "references": "doi:10.1002/qj.3803 (ERA5); doi:10.3390/atmos12060723 (ecLand)",
    "license": "CC-BY-4.0 (ERA5); Apache-2.0 (ecLand's sample)",
    "history": "xlsbc.cube.ingest.ecland.climate_fields: geopotential by 9.80665, CF units",
}


def climate_fields(ds: xr.Dataset, *, swapped: bool = False) -> xr.Dataset:
    """Climate fields as statics and forcing, on the grid of the file.

    Parameters
    ----------
    ds
        As `open_source` gives it: surfclim netCDF, or invariant fields of ERA5.
    swapped
        Whether the file was made by ecLand's ``create_sites.py``, which writes the leaf area index
        of low vegetation as that of high, and the other way round.

    Returns
    -------
    xarray.Dataset
        Those that the file has of elevation (m), land_fraction, lake_fraction, built_fraction,
        low_vegetation_fraction and high_vegetation_fraction (1), (latitude, longitude); lai_lv and
        lai_hv (1, m2 of leaf per m2 under that vegetation), (forcing_time, forcing_latitude,
        forcing_longitude), a mean year where the file has months of no year. NaN where missing;
        lazy. Class codes (tvl, tvh, soil type) are left out.

    Raises
    ------
    SourceError
        If the file has none of them, no values of latitude and longitude, other units, or
        geopotential of pressure levels; when computed, if values contradict their units.

    Warns
    -----
    SourceWarning
        If the units of the geopotential are those that surfclim files have by mistake.
    """
    where = source_of(ds)
    names = _names(ds)
    _refuse(where, ds, names)
    if swapped and {"lai_lv", "lai_hv"} <= names.keys():
        names |= {"lai_lv": names["lai_hv"], "lai_hv": names["lai_lv"]}
    fields = {name: cds.final(raw.numbers(ds[found])) for name, found in names.items()}
    part = cds.read_times_and_degrees(xr.Dataset(fields), where)
    axes = read_axes(part)
    problems: list[str] = []
    comments: list[str] = []
    made = {}
    for name, da in part.data_vars.items():
        what = f"{where}, variable {names[str(name)]!r}"
        problems += _level_problems(da, axes, what)
        made[name] = _in_units(_at_one_time(da, axes, comments), what, problems, comments)
    if problems:
        raise SourceError("the file does not hold the climate fields that are expected", problems)
    if left := [name for name in CLASSES if name in ds.data_vars]:
        comments.append(f"left out, as codes have no mean: {', '.join(left)}")
    if swapped:
        comments.append("Mlail and Mlaih of the file taken for each other, as asked")
    attrs = ATTRIBUTES | ({"comment": "; ".join(comments)} if comments else {})
    return raw.checked(cds.conformed(xr.Dataset(made, attrs=attrs), where), where, PACKING)


def _names(ds: xr.Dataset) -> dict[str, str]:
    """Names in the file by canonical name."""
    names = {}
    for canonical, field in FIELDS.items():
        held = [name for name in field.names if name in ds.data_vars]
        held += [str(n) for n, da in ds.data_vars.items() if cds.parameter(da) == field.code]
        if held:
            names[canonical] = held[0]
    return names


def _refuse(where: str, ds: xr.Dataset, names: dict[str, str]) -> None:
    problems = []
    if not names:
        held = ", ".join(map(repr, ds.data_vars)) or "no variables"
        wanted = ", ".join(name for field in FIELDS.values() for name in field.names)
        problems.append(f"{where}: expected climate fields ({wanted}); found {held}")
    kinds = {axis.kind for axis in read_axes(ds).values()}
    if absent := [kind for kind in ("latitude", "longitude") if kind not in kinds]:
        problems.append(
            f"{where}: expected values of {' and '.join(absent)}; found dimensions "
            f"{', '.join(map(str, ds.dims))} without; assign them (a site's surfclim file has them)"
        )
    if problems:
        raise SourceError("the file cannot be placed, or holds no climate fields", problems)


def _level_problems(da: xr.DataArray, axes: dict[Hashable, Axis], what: str) -> list[str]:
    """Geopotential of a level of pressure looks like that of the ground, and is none."""
    known = ("latitude", "longitude", *TIMES, "expver")
    odd = [d for d in da.dims if axes[d].kind not in known and d != "number"]
    kind = str(da.attrs.get("GRIB_typeOfLevel", "surface"))
    if not odd and kind in SURFACE:
        return []
    found = f"dimensions {', '.join(map(str, da.dims))}" if odd else f"level type {kind!r}"
    return [f"{what}: expected a field of the surface; found {found}; fetch single levels"]


def _at_one_time(da: xr.DataArray, axes: dict[Hashable, Axis], comments: list[str]) -> xr.DataArray:
    """A field without time, if it has but one content; the time of such a field means nothing."""
    if FIELDS[str(da.name)].monthly:
        return da
    for dim in [d for d in da.dims if axes[d].kind in TIMES]:
        if da.sizes[dim] > 1:
            comments.append(
                f"{da.name}: the first of {da.sizes[dim]} times of a field that is fixed"
            )
        da = da.isel({dim: 0}, drop=True)
    return da


def _in_units(
    da: xr.DataArray, what: str, problems: list[str], comments: list[str]
) -> xr.DataArray:
    name, units = str(da.name), da.attrs.get("units")
    variable = vocabulary.VOCABULARY[name]
    attrs = vocabulary.attributes(name)
    if name == "elevation":
        if units == WRONG_GEOPOTENTIAL:
            comments.append(f"geopotential said to be in {units!r}, taken for {GEOPOTENTIAL}")
            warnings.warn(f"{what}: {comments[-1]}", SourceWarning, stacklevel=3)
        elif units is None or not convertible(xr.DataArray(0.0, attrs=da.attrs), GEOPOTENTIAL):
            problems.append(
                f"{what}: expected a geopotential in {GEOPOTENTIAL}; found {units!r}; correct it"
            )
        return (da / GRAVITY).drop_attrs(deep=False).assign_attrs(attrs)
    if not convertible(xr.DataArray(0.0, attrs={"units": units or ""}), variable.units):
        problems.append(f"{what}: expected units {variable.units!r}; found {units!r}; correct it")
    attrs["units"] = units or variable.units
    if attrs["units"] in PER_CENT:
        attrs["units"], da = "1", raw.from_per_cent(da, what)
    return da.drop_attrs(deep=False).assign_attrs(attrs)
