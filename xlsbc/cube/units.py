"""Units: what a file says, what a cube holds, and the line between them.

References
----------
CF conventions 1.12, section 3.1; pint with the UDUNITS spellings of cf_xarray.
"""

from __future__ import annotations

import functools
import re
from typing import Any

import xarray as xr

from ..errors import UnitsError

__all__ = ["conversion", "convert", "convertible"]

# Density by which CF defines liquid water equivalents (standard name table, lwe_*), kg m-3.
WATER_DENSITY = 1000.0
# The quantities that CF gives both as mass of water and as depth of liquid water.
WATER = (
    "precipitation_flux",
    "lwe_precipitation_rate",
    "surface_snow_amount",
    "lwe_thickness_of_surface_snow_amount",
)


def convert(da: xr.DataArray, units: str) -> xr.DataArray:
    """Return the same quantity in other units.

    Parameters
    ----------
    da
        With attribute ``units``; without it, dimensionless if ``units`` is dimensionless too.
        Understood beside CF units: ``m**2 s**-2``, ``(0 - 1)``, ``%``, ``ppm``, ``degC``, and
        depths of water in place of masses where the standard_name says that it is water.
    units
        CF units wanted.

    Returns
    -------
    xarray.DataArray
        Same dims, ``attrs["units"] = units``; NaN stays NaN. Lazy where ``da`` is.

    Raises
    ------
    UnitsError
        If the units are missing, unknown or of another quantity.
    """
    scale, offset = conversion(da, units)
    out = da if (scale, offset) == (1.0, 0.0) else da * scale + offset
    return out.assign_attrs({**da.attrs, "units": units})


def conversion(da: xr.DataArray, units: str) -> tuple[float, float]:
    """Scale and offset that `convert` applies; reads attributes only.

    Raises
    ------
    UnitsError
        As `convert`.
    """
    found = da.attrs.get("units")
    standard_name = str(da.attrs.get("standard_name"))
    name = repr(da.name) if da.name is not None else "the variable"
    try:
        return _conversion(found if found is None else str(found), units, standard_name)
    except UnitsError as error:
        shown = "no units" if found is None else f"units {str(found)[:80]!r}"
        raise UnitsError(f"{name} has {shown}, wanted {units!r}: {error}") from error


def convertible(da: xr.DataArray, units: str) -> bool:
    """Whether a variable says units that `convert` can bring to these."""
    try:
        conversion(da, units)
    except UnitsError:
        return False
    return True


# Strings that data providers write where CF has another one. ERA5: "(0 - 1)", "~", "Numeric",
# "m of water equivalent"; hydrological models: "-", "[-]".
_SPELLINGS = {
    **dict.fromkeys(("", "-", "[-]", "~", "(0 - 1)", "0 - 1", "0-1", "none", "unitless"), "1"),
    **dict.fromkeys(("fraction", "proportion", "numeric", "dimensionless"), "1"),
    "ppmv": "ppm",
    "m of water equivalent": "m",
}
_NUMBER = re.compile(r"([-+]?\d+\.?\d*(?:[eE][-+]?\d+)?)(?:\s+(.*))?")
# pint evaluates powers: a hostile 9**9**9 would never return.
_POWER_TOWER = re.compile(r"(?:^|[^A-Za-z_)\d])\d[\d.]*\s*(?:\*\*|\^)|(?:\*\*|\^)\s*[-+]?\d{2}")
_CALENDAR = re.compile(r"\b(month|year)\b")


@functools.lru_cache(maxsize=1024)
def _conversion(found: str | None, wanted: str, standard_name: str) -> tuple[float, float]:
    if found == wanted or _SPELLINGS.get(str(found)) == wanted:
        return 1.0, 0.0
    if found is None and wanted != "1":
        raise UnitsError(f"set attrs['units'] to what the numbers are in, such as {wanted!r}")
    factor, source = _parse("1" if found is None else found)
    _, target = _parse(wanted)
    # pint counts angles as numbers: a slope of 1 m m-1 would come out as 57 degrees, not 45.
    if source.is_compatible_with(target) and _is_angle(source) != _is_angle(target):
        raise UnitsError(
            "a ratio is no angle; rise over run becomes one by np.rad2deg(np.arctan(slope))"
        )
    if _CALENDAR.search(str(source)):
        raise UnitsError("months and years differ in length; divide by the days of each")
    if standard_name in WATER and not source.is_compatible_with(target):
        factor, source = _through_water(factor, source, target)
    if not source.is_compatible_with(target):
        raise UnitsError(_mismatch(source, target))
    offset = _to(0.0, source, target)
    scale = (_to(1e6, source, target) - offset) / 1e6 * factor
    # Fifteen figures: 274.15 - 273.15 is not quite 1 in binary.
    return float(f"{scale:.15g}"), float(f"{offset:.15g}")


def _parse(text: str) -> tuple[float, Any]:
    """Number and pint unit of a CF units string such as ``1e-6 mol mol-1``."""
    from cf_xarray.units import units as registry

    text = _SPELLINGS.get(text.strip().lower(), text.strip())
    number = _NUMBER.fullmatch(text)
    factor, rest = (float(number[1]), number[2] or "") if number else (1.0, text)
    if len(rest) > 80 or _POWER_TOWER.search(rest):
        raise UnitsError(f"{text[:80]!r} is not a unit")
    try:
        return factor, registry.parse_units(rest)
    except Exception as error:  # whatever a tokenizer may raise on any string a file holds
        raise UnitsError(f"{text!r} is not a unit that UDUNITS or pint knows") from error


def _to(value: float, source: Any, target: Any) -> float:
    from cf_xarray.units import units as registry

    return float(registry.Quantity(value, source).to(target).magnitude)


def _is_angle(unit: Any) -> bool:
    return "radian" in str((1 * unit).to_root_units().units)


def _through_water(factor: float, source: Any, target: Any) -> tuple[float, Any]:
    """Depth of liquid water as mass per area, or the other way round."""
    _, density = _parse("kg m-3")
    if (source * density).is_compatible_with(target):
        return factor * WATER_DENSITY, source * density
    if (source / density).is_compatible_with(target):
        return factor / WATER_DENSITY, source / density
    return factor, source


def _mismatch(source: Any, target: Any) -> str:
    _, density = _parse("kg m-3")
    _, second = _parse("s")
    if any((s / second).is_compatible_with(target) for s in (source, source * density)):
        return (
            "an amount is not a rate; divide by the length of the period, or name the period in "
            "the units (ERA5 monthly means are 'm day-1' and 'J m-2 day-1')"
        )
    if (source * density).is_compatible_with(target):
        return "a depth is not a mass; if it is of water, set attrs['standard_name'] to say so"
    return "another quantity; correct attrs['units'], or pass another variable"
