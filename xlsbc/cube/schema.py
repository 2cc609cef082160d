"""The cube's schema: what a dataset must hold to be one, and how any dataset is made one.

The public face of this package's schema; the work is done in `roles` (which variable is what),
`plan` (what it takes), `conform` (doing it) and `describe` (telling).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher

import xarray as xr

from ..errors import CubeError
from .axes import CLASS_DIMS
from .conform import conform
from .describe import describe, describe_html
from .field import is_climatology
from .plan import Plan, make_plan
from .roles import Findings
from .units import convertible
from .vocabulary import ROLES, VOCABULARY, Variable

__all__ = ["check_cube", "conform", "describe", "describe_html", "is_climatology", "roles"]


def roles(ds: xr.Dataset, mapping: Mapping[str, str] | None = None) -> dict[str, str]:
    """Names of a dataset's variables by the canonical names of what they are.

    Parameters
    ----------
    ds
        Any dataset; only attributes and coordinates are read.
    mapping
        Names of variables by canonical name, where CF does not tell or tells several.

    Returns
    -------
    dict
        In the order of the vocabulary. Variables that name their own role by the attribute
        ``xlsbc_role`` stand under their own names; separate land-use states under lu_total, their
        names with spaces between. Both can be passed as ``mapping`` again.

    Raises
    ------
    CubeError
        If two variables could be the same one, or ``mapping`` cannot be followed.
    """
    plan = make_plan(ds, mapping)
    problems = [p.text for p in plan.findings.problems]
    if problems:
        raise CubeError("the roles of the variables cannot be told", problems)
    return {
        name: " ".join(map(str, source.names)) for name, source in plan.findings.sources.items()
    }


def check_cube(
    ds: xr.Dataset, mapping: Mapping[str, str] | None = None, needs: Sequence[str] = ()
) -> list[str]:
    """Every reason why a dataset is not the cube that is needed; an empty list if it is.

    Parameters
    ----------
    ds
        Any dataset; only attributes and coordinates are read, nothing is computed.
    mapping
        As in `conform`.
    needs
        Canonical names, or names of roles of which at least one variable is needed.

    Returns
    -------
    list of str
        One sentence each: expected; found; what to do.
    """
    if isinstance(needs, str):
        needs = (needs,)
    plan = make_plan(ds, mapping)
    found = {name: source.variable.role for name, source in plan.findings.sources.items()}
    absent = [n for n in needs if n not in found and n not in found.values()]
    return [p.text for p in plan.problems] + [_missing(ds, plan, name) for name in absent]


def _missing(ds: xr.Dataset, plan: Plan, name: str) -> str:
    variable = VOCABULARY.get(name)
    if variable is None:
        of_role = [v.name for v in VOCABULARY.values() if v.role == name]
        if name in ROLES:
            return f"no {name} variable found; give one of {', '.join(of_role)}"
        return f"{name!r} not found; give it with xlsbc_role 'static' or 'forcing'"
    if variable.standard_name is None:
        sign = f"has xlsbc_role {variable.role!r} and this name"
    elif variable.standard_name == "area_fraction":
        legend, grid = CLASS_DIMS[variable.dims[1]], " x ".join(variable.dims[2:])
        sign = f"has the classes of {legend!r} on {grid}"
    else:
        sign = f"has standard_name {variable.standard_name}"
    return f"{variable.role} {name!r} not found: nothing {sign}; {_advice(ds, plan, variable)}"


def _advice(ds: xr.Dataset, plan: Plan, variable: Variable) -> str:
    """Variables without a role whose dims and units would do, the likeliest by name first."""
    fits = [str(n) for n in plan.findings.unused if _could_be(ds[n], plan.findings, variable)]
    if not fits:
        return "add it"
    wanted = f"{variable.name} {variable.standard_name}"
    fits.sort(key=lambda n: -SequenceMatcher(None, n.lower(), wanted).ratio())
    shown = ", ".join(repr(n) for n in fits[:5])
    return f"candidates: {shown} (pass mapping={{{variable.name!r}: {fits[0]!r}}})"


def _could_be(da: xr.DataArray, findings: Findings, variable: Variable) -> bool:
    kinds = {findings.axes[dim].kind for dim in da.dims if da.sizes[dim] > 1}
    found = {"time" if kind in ("month", "year") else kind for kind in kinds}
    wanted = {dim.split("_")[-1].replace("year", "time") for dim in variable.dims}
    maps = ({"class"},) if variable.name.startswith(("lu_", "lc_")) else ()
    right_dims = found == wanted or any(found | classes == wanted for classes in maps)
    # Without units it may be the one all the same: the next error asks for them.
    right_units = "units" not in da.attrs or convertible(da, variable.units)
    return da.dtype.kind in "fiub" and right_dims and right_units
