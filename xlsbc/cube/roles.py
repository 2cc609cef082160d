"""Which variable of a dataset is which variable of a cube.

Roles are found by standard_name, by the code of a GRIB parameter, by the legend of a class
coordinate or of a map's flags, or by the attribute ``xlsbc_role``: not by what a variable is
called. The one exception are the land-use states of LUH2, which have no other mark than their
names.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import xarray as xr

from .axes import CLASS_DIMS, Axis, Problem, read_axes
from .flags import map_legend, says_legend
from .legends import LU
from .vocabulary import FORCING_GRID, ROLES, TARGET_GRID, VOCABULARY, Role, Variable

__all__ = ["Findings", "Source", "find_roles"]

# ECMWF parameter database; new CDS files have standard_name "unknown" beside it.
GRIB_PARAMETERS = {167: "t2m", 168: "d2m", 228: "tp", 169: "ssrd", 39: "swvl1", 141: "sd"}
MAP_NAMES = ("land_cover_lccs", "land_cover", "area_type")
# States that a file must have; icwtr is what they leave (Hurtt et al. 2020, section 2).
STATES = tuple(id for id in LU.ids if id != "icwtr")
# A mean over part of the pixel ("area: mean where trees") is not the pixel's; land is all of it.
PART_OF_PIXEL = re.compile(r"\bwhere\s+(?!land\b)")

_BY_STANDARD_NAME = {
    name: v.name
    for v in VOCABULARY.values()
    for name in (v.standard_name, *v.aliases)
    if name is not None and name != "area_fraction"
}


@dataclass(frozen=True)
class Source:
    """Where one variable of the cube comes from.

    Parameters
    ----------
    variable
        Its entry in the vocabulary, or one made for a variable that names its own role.
    names
        Variables of the dataset: one, or one for each land-use state.
    how
        "plain" values, a "map" of class codes, or separate "states".
    legend
        Of the codes of a map.
    """

    variable: Variable
    names: tuple[Hashable, ...]
    how: Literal["plain", "map", "states"] = "plain"
    legend: str | None = None


@dataclass(frozen=True)
class Findings:
    """What was found in a dataset, and what could not be told.

    Parameters
    ----------
    axes
        By dimension.
    sources
        By canonical name.
    problems
        Ambiguities, and requests that cannot be met.
    unused
        Variables without a role.
    """

    axes: dict[Hashable, Axis]
    sources: dict[str, Source]
    problems: tuple[Problem, ...]
    unused: tuple[Hashable, ...]


def find_roles(ds: xr.Dataset, mapping: Mapping[str, str] | None = None) -> Findings:
    """Roles of the variables of a dataset; reads attributes and coordinates only."""
    axes = read_axes(ds)
    problems: list[Problem] = []
    explicit = _explicit(ds, mapping or {}, axes, problems)
    taken = {name for source in explicit.values() for name in source.names}
    free = {name: da for name, da in ds.data_vars.items() if name not in taken}
    claims = [c for n, da in free.items() if (c := _claim(n, da, axes, problems)) is not None]
    states = _states(free, axes)
    if states is not None and not {"lu_total", "lu_fraction"} <= explicit.keys():
        claims.append(states)
    claims = _tell_land_use_apart(ds, explicit.values(), claims, axes)
    sources = {**explicit, **_unique(claims, explicit, problems)}
    used = {name for source in sources.values() for name in source.names}
    claimed = {name for claim in claims for name in claim.names}
    unused = tuple(name for name in ds.data_vars if name not in used | claimed)
    return Findings(axes, _in_order(sources), tuple(problems), unused)


def _explicit(
    ds: xr.Dataset, mapping: Mapping[str, str], axes: dict[Hashable, Axis], problems: list[Problem]
) -> dict[str, Source]:
    sources = {}
    for canonical, name in mapping.items():
        name = str(name)
        names = (name,) if name in ds.variables else tuple(name.split())
        absent = [n for n in names if n not in ds.variables]
        if canonical not in VOCABULARY:
            near = _near(canonical, VOCABULARY) or ", ".join(VOCABULARY)
            problems.append(
                Problem(
                    f"mapping asks for {canonical!r}, which is no canonical name; use {near}, or "
                    f"set ds[{name!r}].attrs['xlsbc_role'] to 'static' or 'forcing'"
                )
            )
        if absent or not names:
            known = [str(n) for n in ds.data_vars]
            near = _near(name, known) or ", ".join(known[:12]) or "no variables"
            problems.append(
                Problem(
                    f"mapping gives {name!r} for {canonical!r}, which the dataset does not hold; "
                    f"it has {near}"
                )
            )
        elif canonical in VOCABULARY:
            sources[canonical] = _explicit_source(ds, VOCABULARY[canonical], names, axes, problems)
    return sources


def _explicit_source(
    ds: xr.Dataset,
    variable: Variable,
    names: tuple[Hashable, ...],
    axes: dict[Hashable, Axis],
    problems: list[Problem],
) -> Source:
    if len(names) > 1:
        return Source(variable, names, "states")
    da = ds[names[0]]
    if not variable.name.startswith(("lc_", "lu_")) or _class_legend(da, axes):
        return Source(variable, names)
    return Source(variable, names, "map", map_legend(names[0], da, problems))


def _claim(
    name: Hashable, da: xr.DataArray, axes: dict[Hashable, Axis], problems: list[Problem]
) -> Source | None:
    """The role that one variable says it has."""
    if "xlsbc_role" in da.attrs:
        return _claim_by_attribute(name, da, problems)
    standard_name = str(da.attrs.get("standard_name", ""))
    classes = _class_legend(da, axes)
    if classes is not None and standard_name in ("", "area_fraction"):
        canonical = "lu_fraction" if classes == "luh2" else "lc_fraction"
        return Source(VOCABULARY[canonical], (name,))
    if standard_name == "area_fraction":
        problems += _unknown_land_classes(da, axes)
    if standard_name in MAP_NAMES or says_legend(da):
        which = map_legend(name, da, problems)
        canonical = "lu_fraction" if which == "luh2" else "lc_fraction"
        return Source(VOCABULARY[canonical], (name,), "map", which)
    if PART_OF_PIXEL.search(str(da.attrs.get("cell_methods", ""))):
        return None
    found = _BY_STANDARD_NAME.get(standard_name) or _grib_parameter(da)
    return Source(VOCABULARY[found], (name,)) if found else None


def _claim_by_attribute(name: Hashable, da: xr.DataArray, problems: list[Problem]) -> Source | None:
    role = str(da.attrs["xlsbc_role"])
    known = VOCABULARY.get(str(name))
    if known is not None and role == known.role:
        return Source(known, (name,))
    if role not in ("static", "forcing") or known is not None:
        expected = f"{known.role!r}, as {name!r} has" if known else "'static' or 'forcing'"
        problems.append(
            Problem(f"{name!r} has xlsbc_role {role!r}; expected {expected}; correct or delete it")
        )
        return None
    return Source(
        _own_variable(str(name), "static" if role == "static" else "forcing", da), (name,)
    )


def _own_variable(name: str, role: Role, da: xr.DataArray) -> Variable:
    dims = TARGET_GRID if role == "static" else ("forcing_time", *FORCING_GRID)
    standard_name, units = da.attrs.get("standard_name"), da.attrs.get("units")
    return Variable(
        name,
        role,
        None if standard_name is None else str(standard_name),
        "" if units is None else str(units),
        str(da.attrs.get("long_name", name)),
        -np.inf,
        np.inf,
        (),
        dims,
    )


def _states(free: Mapping[Hashable, xr.DataArray], axes: dict[Hashable, Axis]) -> Source | None:
    """The land-use states of a LUH2 file; secma and secmb are there too, but are none."""
    horizontal = {"latitude", "longitude"}
    held = [
        id
        for id in LU.ids
        if id in free and horizontal <= {axes[d].kind for d in free[id].dims if d in axes}
    ]
    # One variable called "urban" is a town map; most of the twelve together are LUH2.
    if len(set(held) & set(STATES)) < len(STATES) / 2:
        return None
    return Source(VOCABULARY["lu_total"], tuple(held), "states")


def _tell_land_use_apart(
    ds: xr.Dataset, explicit: Iterable[Source], claims: list[Source], axes: dict[Hashable, Axis]
) -> list[Source]:
    """Land use on the target grid is a target, on any other grid it is the driver."""
    sure = [*explicit, *(c for c in claims if c.variable.name != "lu_fraction")]
    grids = [_grid(ds[c.names[0]], axes) for c in sure if c.variable.dims[-2:] == TARGET_GRID]
    target = next((grid for grid in grids if len(grid) == 2), None)
    told = []
    for claim in claims:
        if claim.variable.name in ("lu_fraction", "lu_total") and claim.how != "map":
            grid = _grid(ds[claim.names[0]], axes)
            elsewhere = grid != target if target else claim.how == "states" or _is_driver(grid)
            name = "lu_total" if elsewhere else "lu_fraction"
            claim = replace(claim, variable=VOCABULARY[name])
        told.append(claim)
    return told


def _grid(da: xr.DataArray, axes: dict[Hashable, Axis]) -> tuple[Hashable, ...]:
    kinds = ("latitude", "longitude", "projected")
    return tuple(sorted((d for d in da.dims if d in axes and axes[d].kind in kinds), key=str))


def _is_driver(grid: tuple[Hashable, ...]) -> bool:
    return all(str(dim).startswith("driver_") for dim in grid)


def _unique(
    claims: list[Source], explicit: Mapping[str, Source], problems: list[Problem]
) -> dict[str, Source]:
    by_name: dict[str, list[Source]] = {}
    for claim in claims:
        by_name.setdefault(claim.variable.name, []).append(claim)
    sources = {}
    for name, candidates in by_name.items():
        if name in explicit:
            continue
        if len(candidates) > 1:
            shown = [" ".join(map(str, c.names)) for c in candidates]
            listed = ", ".join(repr(s) for s in shown)
            problems.append(
                Problem(
                    f"{candidates[0].variable.role} {name!r} must be one variable; found "
                    f"{listed}; pass mapping={{{name!r}: {shown[0]!r}}} or another of them"
                )
            )
        else:
            sources[name] = candidates[0]
    return sources


def _class_legend(da: xr.DataArray, axes: dict[Hashable, Axis]) -> str | None:
    classes = [axes[d] for d in da.dims if d in axes and axes[d].kind == "class"]
    return classes[0].legend if classes else None


def _unknown_land_classes(da: xr.DataArray, axes: dict[Hashable, Axis]) -> list[Problem]:
    """What is wrong with classes that are said to be of land use or cover, by dim or legend.

    Fractions of other things, say of soil types, are no business of a cube.
    """
    land = [d for d in da.dims if d in CLASS_DIMS or (d in da.coords and "legend" in da[d].attrs)]
    return [p for d in land if d in axes and axes[d].kind == "class" for p in axes[d].problems]


def _grib_parameter(da: xr.DataArray) -> str | None:
    try:
        return GRIB_PARAMETERS.get(int(da.attrs.get("GRIB_paramId", -1)))
    except (TypeError, ValueError):
        return None


def _in_order(sources: Mapping[str, Source]) -> dict[str, Source]:
    place = {name: i for i, name in enumerate(VOCABULARY)}

    def key(name: str) -> tuple[int, int, str]:
        role = ROLES.index(sources[name].variable.role)
        return role, place.get(name, len(place)), name

    return {name: sources[name] for name in sorted(sources, key=key)}


def _near(word: str, known: Mapping[str, object] | list[str]) -> str:
    return ", ".join(repr(n) for n in difflib.get_close_matches(word, list(known), n=3))
