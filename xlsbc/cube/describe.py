"""A cube in words: roles, grids, period and what is missing, without computing."""

from __future__ import annotations

import html
from collections.abc import Callable

import numpy as np
import xarray as xr

from .field import Field
from .plan import Plan, make_plan
from .vocabulary import ROLES, VOCABULARY

__all__ = ["describe", "describe_html"]

Row = tuple[str, str]
LEFT = "text-align:left;vertical-align:top"


def describe(ds: xr.Dataset) -> str:
    """Roles, grids, period and what is missing of a dataset, as text.

    Reads attributes and coordinates; never computes and never fails. How much of a variable is
    missing is not known without computing, and not said.
    """
    return _safely(ds, _text)


def describe_html(ds: xr.Dataset) -> str:
    """Return `describe` as an HTML table, in the colours of the page that shows it."""
    return _safely(ds, _html)


def _safely(ds: xr.Dataset, face: Callable[[list[Row]], str]) -> str:
    try:
        rows = _rows(make_plan(ds))
    except Exception as error:  # a repr that raises hides the dataset it should help to mend
        rows = [("problem", f"cannot be described: {error}")]
    return face(rows)


def _text(rows: list[Row]) -> str:
    width = max(len(label) for label, _ in rows)
    return "\n".join(["<xlsbc cube>", *(f"  {label:<{width}}  {said}" for label, said in rows)])


def _html(rows: list[Row]) -> str:
    cells = "".join(
        "<tr>"
        f"<th style='{LEFT};padding-right:1em'>{html.escape(label)}</th>"
        f"<td style='{LEFT}'>{html.escape(said)}</td>"
        "</tr>"
        for label, said in rows
    )
    return f"<div class='xlsbc-cube'><b>xlsbc cube</b><table>{cells}</table></div>"


def _rows(plan: Plan) -> list[Row]:
    sources = plan.findings.sources
    rows = _extent(plan)
    for role in ROLES:
        mine = [name for name, source in sources.items() if source.variable.role == role]
        if mine:
            rows.append((role, "; ".join(_entry(plan, name) for name in mine)))
    absent = [name for name in VOCABULARY if name not in sources]
    if absent:
        rows.append(("missing", ", ".join(absent)))
    if plan.findings.unused:
        rows.append(("no role", ", ".join(map(str, plan.findings.unused))))
    rows += [("problem", problem.text) for problem in plan.problems]
    return rows


def _extent(plan: Plan) -> list[Row]:
    rows = []
    for label, prefix in (("grid", ""), ("forcing grid", "forcing_"), ("driver grid", "driver_")):
        dims = (f"{prefix}latitude", f"{prefix}longitude")
        if all(dim in plan.coords for dim in dims):
            rows.append((label, _grid(*(plan.coords[dim] for dim in dims))))
    periods = [
        f"{dim} {_period(plan.coords[dim])}"
        for dim in ("time", "forcing_time", "year")
        if dim in plan.coords
    ]
    if periods:
        rows.append(("period", "; ".join(periods)))
    return rows


def _grid(latitude: np.ndarray, longitude: np.ndarray) -> str:
    steps = [
        f"{abs(v[-1] - v[0]) / (v.size - 1):.5g}" if v.size > 1 else "?"
        for v in (latitude, longitude)
    ]
    step = steps[0] if steps[0] == steps[1] else " x ".join(steps)
    return (
        f"{latitude.size} x {longitude.size}, {step} degree, "
        f"latitude {latitude[0]:.5g} to {latitude[-1]:.5g}, "
        f"longitude {longitude[0]:.5g} to {longitude[-1]:.5g}"
    )


def _period(values: np.ndarray) -> str:
    first, last = (str(v)[:10] for v in (values[0], values[-1]))
    return f"{first} to {last} ({values.size})" if values.size > 1 else first


def _entry(plan: Plan, name: str) -> str:
    source = plan.findings.sources[name]
    names = " ".join(map(str, source.names))
    said = name if names == name else f"{name} ({names})"
    field = plan.fields.get(name)
    return said + _own_period(plan, field) if field is not None else f"{said}: see problem"


def _own_period(plan: Plan, field: Field) -> str:
    """Times of a variable that has fewer than the cube, and whether they are of a mean year."""
    notes = ["mean year"] if field.climatology else []
    for dim in ("time", "forcing_time", "year"):
        own = field.values.get(dim)
        if own is not None and not np.array_equal(np.unique(own), plan.coords[dim]):
            notes.append(_period(own))
    return f" [{', '.join(notes)}]" if notes else ""
