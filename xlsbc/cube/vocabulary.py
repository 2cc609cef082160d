"""The variables of a cube: canonical names, roles, CF names, units and dims.

References
----------
CF standard name table 83; CF conventions 1.12, section 3.1 (units) and 7.4 (climatologies).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, get_args

from ..errors import CubeError
from .units import convert

__all__ = ["ROLES", "Role", "VOCABULARY", "Variable", "attributes", "convert"]

Role = Literal["static", "forcing", "scalar", "driver", "target"]
ROLES: tuple[Role, ...] = get_args(Role)

TARGET_GRID = ("latitude", "longitude")
FORCING_GRID = ("forcing_latitude", "forcing_longitude")
DRIVER_GRID = ("driver_latitude", "driver_longitude")

# Powers of two, so that decoding is exact in float32 and fractions that sum to 1 in steps sum to 1.
# 3e-5 and 2.4e-4 are below what any product of land cover or of LAI resolves.
FRACTION_STEP = 2.0**-15
LAI_STEP = 2.0**-12


@dataclass(frozen=True)
class Variable:
    """One variable of the cube.

    Parameters
    ----------
    name
        Canonical name.
    role
        What it is to an emulator.
    standard_name
        CF standard name, None where CF has none.
    units
        Canonical units.
    long_name
        Name for people.
    valid_min, valid_max
        Values outside are errors, in ``units``.
    aliases
        Other CF standard names that are read as this variable.
    dims
        Canonical dims in order.
    step
        Resolution at which it is stored as an integer, in ``units``; None: stored as float32.
    """

    name: str
    role: Role
    standard_name: str | None
    units: str
    long_name: str
    valid_min: float
    valid_max: float
    aliases: tuple[str, ...]
    dims: tuple[str, ...]
    step: float | None = None


def _static(name: str, standard: str | None, units: str, long: str, *more: Any) -> Variable:
    low, high, *aliases = more
    return Variable(name, "static", standard, units, long, low, high, tuple(aliases), TARGET_GRID)


def _forcing(name: str, standard: str | None, units: str, long: str, *more: Any) -> Variable:
    low, high, *aliases = more
    dims = ("forcing_time", *FORCING_GRID)
    return Variable(name, "forcing", standard, units, long, low, high, tuple(aliases), dims)


_VARIABLES = (
    # 500 m below the sea is below any land; the Dead Sea shore is at -430 m.
    _static("elevation", "surface_altitude", "m", "elevation", -500, 9000),
    _static("slope", "ground_slope_angle", "degree", "slope of the ground", 0, 90),
    _static("clay_fraction", "volume_fraction_of_clay_in_soil", "1", "clay in the soil", 0, 1),
    _static("silt_fraction", "volume_fraction_of_silt_in_soil", "1", "silt in the soil", 0, 1),
    _static("sand_fraction", "volume_fraction_of_sand_in_soil", "1", "sand in the soil", 0, 1),
    _static("soil_porosity", "soil_porosity", "1", "water content at saturation", 0, 1),
    _static("soil_water_residual", None, "1", "residual water content of the soil", 0, 1),
    _static("soil_thickness", None, "m", "thickness of the soil", 0, 100),
    _static(
        "soil_hydraulic_conductivity",
        "soil_hydraulic_conductivity_at_saturation",
        "m s-1",
        "hydraulic conductivity of saturated soil",
        0,
        1,
    ),
    _static("soil_carbon", "soil_carbon_content", "kg m-2", "carbon in the soil", 0, 1000),
    _static("canopy_height", "canopy_height", "m", "height of the canopy", 0, 120),
    _static("land_fraction", "land_area_fraction", "1", "share of land", 0, 1, "land_binary_mask"),
    _static("lake_fraction", None, "1", "share of lakes", 0, 1),
    _static("built_fraction", None, "1", "share of built-up land", 0, 1),
    _static("water_fraction", None, "1", "share of open water", 0, 1),
    _static("low_vegetation_fraction", None, "1", "share under low vegetation", 0, 1),
    _static("high_vegetation_fraction", None, "1", "share under high vegetation", 0, 1),
    _forcing("t2m", "air_temperature", "K", "air temperature at 2 m", 170, 340),
    _forcing("d2m", "dew_point_temperature", "K", "dew point at 2 m", 150, 320),
    _forcing(
        "tp", "precipitation_flux", "kg m-2 s-1", "precipitation", 0, 0.1, "lwe_precipitation_rate"
    ),
    _forcing(
        "ssrd",
        "surface_downwelling_shortwave_flux_in_air",
        "W m-2",
        "downward solar radiation at the surface",
        0,
        1400,
    ),
    _forcing(
        "swvl1",
        "volume_fraction_of_condensed_water_in_soil",
        "m3 m-3",
        "water in the top layer of the soil",
        0,
        1,
    ),
    _forcing(
        "sd",
        "lwe_thickness_of_surface_snow_amount",
        "m",
        "snow on the ground, as water",
        0,
        20,
        "surface_snow_amount",
    ),
    # CF's leaf_area_index is that of the pixel; these are those of a part of it.
    _forcing("lai_lv", None, "1", "leaf area index of low vegetation", 0, 10),
    _forcing("lai_hv", None, "1", "leaf area index of high vegetation", 0, 10),
    Variable(
        "co2",
        "scalar",
        "mole_fraction_of_carbon_dioxide_in_air",
        "1",
        "mole fraction of carbon dioxide in air",
        1e-4,
        1e-2,
        (),
        ("year",),
    ),
    Variable(
        "lu_total",
        "driver",
        "area_fraction",
        "1",
        "share of each land-use state in the coarse cell",
        0,
        1,
        (),
        ("year", "lu_class", *DRIVER_GRID),
    ),
    Variable(
        "lu_fraction",
        "target",
        "area_fraction",
        "1",
        "share of each land-use state",
        0,
        1,
        (),
        ("year", "lu_class", *TARGET_GRID),
        FRACTION_STEP,
    ),
    Variable(
        "lc_fraction",
        "target",
        "area_fraction",
        "1",
        "share of each land-cover class",
        0,
        1,
        (),
        ("year", "lc_class", *TARGET_GRID),
        FRACTION_STEP,
    ),
    Variable(
        "lai",
        "target",
        "leaf_area_index",
        "1",
        "leaf area index",
        0,
        10,
        (),
        ("time", *TARGET_GRID),
        LAI_STEP,
    ),
)

VOCABULARY: Mapping[str, Variable] = MappingProxyType({v.name: v for v in _VARIABLES})

_COORDINATES: dict[str, dict[str, str]] = {
    **{
        f"{prefix}latitude": {
            "standard_name": "latitude",
            "long_name": f"latitude of the {grid} grid",
            "units": "degrees_north",
            "axis": "Y",
        }
        for prefix, grid in (("", "target"), ("forcing_", "forcing"), ("driver_", "driver"))
    },
    **{
        f"{prefix}longitude": {
            "standard_name": "longitude",
            "long_name": f"longitude of the {grid} grid",
            "units": "degrees_east",
            "axis": "X",
        }
        for prefix, grid in (("", "target"), ("forcing_", "forcing"), ("driver_", "driver"))
    },
    "time": {"standard_name": "time", "long_name": "start of the step", "axis": "T"},
    "forcing_time": {
        "standard_name": "time",
        "long_name": "start of the forcing step",
        "axis": "T",
    },
    "year": {"long_name": "calendar year"},
}


def attributes(name: str) -> dict[str, str]:
    """CF attributes of a canonical variable or coordinate.

    Parameters
    ----------
    name
        A name in `VOCABULARY`, or latitude, longitude, their ``forcing_`` and ``driver_`` kin,
        time, forcing_time or year.

    Returns
    -------
    dict
        standard_name, long_name and units; ``xlsbc_role`` in place of the standard_name where
        CF has none. Times have no units: they are part of their encoding.

    Raises
    ------
    CubeError
        If the cube has no such name.
    """
    if name in _COORDINATES:
        return dict(_COORDINATES[name])
    if name not in VOCABULARY:
        raise CubeError(f"{name!r} is not in the vocabulary; it has {', '.join(VOCABULARY)}")
    variable = VOCABULARY[name]
    identity: dict[str, str] = {"xlsbc_role": variable.role}
    if variable.standard_name is not None:
        identity = {"standard_name": variable.standard_name}
    return {**identity, "long_name": variable.long_name, "units": variable.units}
