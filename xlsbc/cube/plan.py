"""What it takes to make a cube of a dataset, and all that stands against it.

A plan is made from attributes and coordinates: no data variable is touched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from ..errors import CubeError, GridError
from .axes import Problem, listed
from .field import Field, plan_field
from .grid import TOLERANCE
from .roles import Findings, find_roles

__all__ = ["Plan", "make_plan"]


@dataclass(frozen=True, eq=False)
class Plan:
    """A cube to be: its variables, its coordinates, and what stands against it.

    Parameters
    ----------
    findings
        Roles.
    fields
        By canonical name; those with problems are left out.
    coords
        By canonical dim.
    problems
        Everything found, each once.
    """

    findings: Findings
    fields: dict[str, Field]
    coords: dict[str, np.ndarray]
    problems: tuple[Problem, ...]


def make_plan(ds: xr.Dataset, mapping: Mapping[str, str] | None = None) -> Plan:
    """Plan of the cube that a dataset holds; computes nothing.

    Raises
    ------
    CubeError
        If it is not a dataset at all.
    """
    if not isinstance(ds, xr.Dataset):
        raise CubeError(
            f"a cube must be an xarray.Dataset; found {type(ds).__name__}; "
            "use .to_dataset(name=...) on a DataArray"
        )
    findings = find_roles(ds, mapping)
    problems = list(findings.problems)
    if not findings.sources and not problems:
        problems.append(
            Problem(
                f"no variable has a role; found {listed(list(ds.data_vars)) or 'no variables'}; "
                "set their standard_name, or pass mapping={canonical name: name}"
            )
        )
    fields = {}
    for name, source in findings.sources.items():
        field = plan_field(ds, source, findings.axes, problems)
        if field is not None:
            fields[name] = field
    coords = {
        **_grids(fields, problems),
        **_steps(fields, problems),
        **_years(fields, problems),
    }
    return Plan(findings, fields, coords, tuple(dict.fromkeys(problems)))


def _grids(fields: Mapping[str, Field], problems: list[Problem]) -> dict[str, np.ndarray]:
    coords: dict[str, np.ndarray] = {}
    for grid in ("", "forcing_", "driver_"):
        dims = (f"{grid}latitude", f"{grid}longitude")
        members = [(n, f) for n, f in fields.items() if f.source.variable.dims[-2:] == dims]
        if not members:
            continue
        first, reference = members[0]
        coords |= {dim: reference.values[dim] for dim in dims}
        for name, field in members[1:]:
            if not all(_same(reference.values[dim], field.values[dim]) for dim in dims):
                problems.append(
                    Problem(
                        f"{name!r} ({_extent(field, dims)}) is not on the {grid or 'target_'}grid "
                        f"of {first!r} ({_extent(reference, dims)}); regrid one of them",
                        GridError,
                    )
                )
    return coords


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    step = abs(one[-1] - one[0]) / max(one.size - 1, 1) or 1.0
    return one.shape == other.shape and bool(np.abs(one - other).max() <= TOLERANCE * step)


def _extent(field: Field, dims: Sequence[str]) -> str:
    latitude, longitude = (field.values[dim] for dim in dims)
    return f"{latitude.size} x {longitude.size} from {latitude[0]:.6g} N, {longitude[0]:.6g} E"


def _steps(fields: Mapping[str, Field], problems: list[Problem]) -> dict[str, np.ndarray]:
    coords: dict[str, np.ndarray] = {}
    for dim in ("time", "forcing_time"):
        members = {n: f for n, f in fields.items() if dim in f.values}
        if members:
            coords[dim] = np.unique(np.concatenate([f.values[dim] for f in members.values()]))
        days = {n: _typical_days(f.values[dim]) for n, f in members.items()}
        if days and max(days.values()) > 1.5 * min(days.values()):
            shown = ", ".join(f"{n!r} {d:g}" for n, d in days.items())
            problems.append(
                Problem(
                    f"steps on {dim} must be alike; found days between steps: {shown}; resample"
                )
            )
        mean_years = [n for n, f in members.items() if f.climatology]
        if mean_years and len(mean_years) < len(members):
            problems.append(
                Problem(
                    f"{dim} holds mean years ({listed(mean_years)}) and time series "
                    f"({listed([n for n in members if n not in mean_years])}); make them alike"
                )
            )
    return coords


def _typical_days(times: np.ndarray) -> float:
    if times.size < 2:
        return 31.0
    return float(np.median(np.diff(times)) / np.timedelta64(1, "D"))


def _years(fields: Mapping[str, Field], problems: list[Problem]) -> dict[str, np.ndarray]:
    """Years of the cube: CO2 records are long, and must not stretch everything else."""
    by_name = {n: f.values["year"] for n, f in fields.items() if "year" in f.values}
    maps = [years for name, years in by_name.items() if name != "co2"]
    if maps or by_name:
        return {"year": np.unique(np.concatenate(maps or list(by_name.values())))}
    if "co2" not in fields:
        return {}
    # One number for all years: those of the time axes.
    axes = [f.values[d] for f in fields.values() for d in ("time", "forcing_time") if d in f.values]
    if axes:
        years = np.concatenate(axes).astype("datetime64[Y]").astype(np.int64) + 1970
        return {"year": np.unique(years)}
    text = "scalar 'co2' is one number, and nothing says for which years; "
    problems.append(Problem(text + "use .expand_dims(year=[2000])"))
    return {}
