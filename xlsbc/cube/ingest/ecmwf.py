"""ECMWF's parameters of the climate at the surface: names, units, and the period of an amount.

``m`` of rain and ``J m-2`` of sun are amounts of a period that no attribute names. It follows from
the step of the file, and the step from its times, and from stream and step type where GRIB was.

References
----------
ECMWF parameter database, codes.ecmwf.int/grib/param-db. ECMWF: ERA5: data documentation, "Monthly
means" and "Accumulations"; ERA5-Land: data documentation, "Accumulations" (confluence.ecmwf.int).
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Literal, NamedTuple

import numpy as np
import xarray as xr

from .. import vocabulary
from ..axes import read_axes
from ..units import convertible
from . import cds

__all__ = [
    "PARAMETERS",
    "Parameter",
    "Step",
    "days_between",
    "has_unnamed_period",
    "in_units",
    "is_of_land",
    "names_in",
    "problems_of",
    "times_of",
]


class Parameter(NamedTuple):
    """A variable of the forcing as ECMWF has it.

    Attributes
    ----------
    names
        In netCDF of the Climate Data Store, in ARCO-ERA5 and in CMOR; mean rates last.
    codes
        Of ECMWF's parameter database (codes.ecmwf.int/grib/param-db).
    amount
        Whether it is an amount of a period where its units are no rate.
    """

    names: tuple[str, ...]
    codes: tuple[int, ...]
    amount: bool = False


PARAMETERS = {
    "t2m": Parameter(("t2m", "2t", "2m_temperature", "tas"), (167,)),
    "d2m": Parameter(("d2m", "2d", "2m_dewpoint_temperature", "tdps"), (168,)),
    "tp": Parameter(
        ("tp", "total_precipitation", "pr", "mtpr", "avg_tprate"), (228, 228228, 235055), True
    ),
    "ssrd": Parameter(
        ("ssrd", "surface_solar_radiation_downwards", "rsds", "msdwswrf", "avg_sdswrf"),
        (169, 235035),
        True,
    ),
    "swvl1": Parameter(("swvl1", "volumetric_soil_water_layer_1"), (39,)),
    "sd": Parameter(("sd", "snow_depth", "snow_depth_water_equivalent"), (141,)),
}

Step = Literal["month", "day", "hour"]
STEPS: dict[Step, tuple[float, float]] = {"month": (28, 31), "day": (1, 1), "hour": (1 / 24, 0.25)}
"""Shortest and longest typical days between two stamps."""
OF_A_MONTH = frozenset("avgua avgad avgfc avgas avgia avg moda edmo".split())
"""Step types and streams of monthly means in GRIB (ecCodes, grib1/5.table; MARS, stream). Not mnth:
monthly means by hour of day."""
PERIODS: dict[Step, str] = {"month": "day", "day": "", "hour": "hour"}
"""Period of an amount, by the step of the file."""
LAND_STEP = 0.1  # degree, grid of ERA5-Land


def names_in(ds: xr.Dataset) -> dict[str, str]:
    """Names in a file by canonical name; of an amount and a rate of the same, the amount."""
    names = {}
    for canonical, parameter in PARAMETERS.items():
        by_name = [name for name in parameter.names if name in ds.data_vars]
        by_code = [str(n) for n, da in ds.data_vars.items() if cds.parameter(da) in parameter.codes]
        if by_name + by_code:
            names[canonical] = (by_name + by_code)[0]
    return names


def times_of(da: xr.DataArray) -> tuple[Hashable, np.ndarray] | None:
    """The one time dimension of a field and its datetime64 values; None without, or with two."""
    found = [dim for dim in da.dims if dim in da.coords and da[dim].dtype.kind == "M"]
    return (found[0], da[found[0]].values) if len(found) == 1 else None


def days_between(times: np.ndarray) -> float | None:
    """Median of the days between times; None for a single one."""
    return float(np.median(np.diff(times)) / np.timedelta64(1, "D")) if times.size > 1 else None


def problems_of(da: xr.DataArray, step: Step, where: str) -> list[str]:
    """Why a field of that step cannot be taken for it: its times, its kind in GRIB, its units."""
    timed = times_of(da)
    if timed is None:
        return [f"{where}: expected one axis of times; found dimensions {da.dims}"]
    times = timed[1]
    days, kinds = days_between(times), _kinds(da)
    problems = []
    shortest, longest = STEPS[step]
    if days is not None and not shortest - 1e-6 <= days <= longest + 1e-6:
        problems.append(
            f"{where}: expected a step of a{'n' if step == 'hour' else ''} {step}; found "
            f"{_told(days)} between times; use {_reader_of(days)}"
        )
    elif kinds and (kinds[0] in OF_A_MONTH) != (step == "month"):
        problems.append(f"{where}: expected a step of a {step}; found GRIB of {' '.join(kinds)}")
    elif step == "month" and not _of_months(da, times):
        problems.append(
            f"{where}: expected monthly means, stamped at the start of the month; found "
            f"{times[0].astype('datetime64[m]')}, as hourly data and monthly means by hour of day "
            "have; fetch monthly means"
        )
    return problems + _unit_problems(da, step, days, where)


def has_unnamed_period(da: xr.DataArray) -> bool:
    """Whether nothing in the file but a single time says of what period an amount is."""
    timed = times_of(da)
    single = timed is not None and timed[1].size == 1
    return single and not _kinds(da) and not _fits(da, str(da.attrs["units"]))


def _kinds(da: xr.DataArray) -> list[str]:
    """Stream and type of step, as far as the file tells them."""
    told = (da.attrs.get("GRIB_stream"), da.attrs.get("GRIB_stepType"))
    return [str(kind) for kind in told if kind not in (None, "undef", "unknown")]


def _of_months(da: xr.DataArray, times: np.ndarray) -> bool:
    """Whether stamps can be those of monthly means: the 1st at 00:00, amounts also 06:00.

    CMOR has the middle of the month.
    """
    first = times.astype("datetime64[M]")
    if times.size > 1 and (times.astype("datetime64[D]") != first).any():
        return True
    hours = (times - first) / np.timedelta64(1, "h")
    late = (0, 6) if PARAMETERS[str(da.name)].amount else (0,)
    return bool(np.isin(hours, late).all())


def _told(days: float) -> str:
    return f"{days * 24:g} h" if days < 1 else f"{days:g} d"


def _reader_of(days: float) -> str:
    if days < 1:
        return "the recipe era5_hourly"
    return "the recipe era5_daily" if days < 27 else "the recipe era5"


def _unit_problems(da: xr.DataArray, step: Step, days: float | None, where: str) -> list[str]:
    name, units = str(da.name), da.attrs.get("units")
    variable, amount = vocabulary.VOCABULARY[name], PARAMETERS[name].amount
    if units is None:
        return [f"{where}: expected units, such as {variable.units!r}; found none"]
    if _fits(da, str(units)):
        return []
    if not (amount and _fits(da, f"{units} day-1")):
        return [f"{where}: expected units of {variable.long_name}; found {units!r}"]
    if step == "day":
        return [
            f"{where}: expected a rate, such as {variable.units!r}; found {units!r}, of no period "
            "that is named; say it in the units, such as 'm day-1'"
        ]
    if step == "hour" and days is not None and abs(days * 24 - 1) > 1e-6:
        return [f"{where}: expected amounts of every hour; found one every {_told(days)}"]
    if step == "hour" and is_of_land(da):
        return [
            f"{where}: expected amounts of an hour each; found the grid of ERA5-Land, whose hourly "
            "amounts grow from 00 UTC on; use its monthly means"
        ]
    return []


def _fits(da: xr.DataArray, units: str) -> bool:
    variable = vocabulary.VOCABULARY[str(da.name)]
    attrs = {"units": units, "standard_name": variable.standard_name}
    return convertible(xr.DataArray(0.0, attrs=attrs), variable.units)


def is_of_land(da: xr.DataArray) -> bool:
    """Whether a field is on the grid of ERA5-Land."""
    steps = [
        np.abs(np.diff(da[axis.name].values))
        for axis in read_axes(da.to_dataset(name="field")).values()
        if axis.kind == "latitude" and axis.name is not None
    ]
    return any(step.size and abs(np.median(step) - LAND_STEP) < 1e-3 for step in steps)


def in_units(da: xr.DataArray, step: Step) -> xr.DataArray:
    """The field with the units that its numbers are in, period included, and no other claim."""
    name, units = str(da.name), str(da.attrs["units"])
    if not _fits(da, units):
        units = f"{units} {PERIODS[step]}-1"
    attrs = {**vocabulary.attributes(name), "units": units, "cell_methods": "time: mean"}
    return da.drop_attrs(deep=False).assign_attrs(attrs)
