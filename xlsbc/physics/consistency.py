"""Whether a land-surface product holds together, measured on any product that follows CF.

Laws must hold: leaves need a class that bears them; land use and land cover must be margins of one
distribution without impossible pairs (:mod:`.margins`); fractions are simplexes; and the split that
IFS/ecLand need must close, ``cvl * lai_lv + cvh * lai_hv = lai``. Expectations are what land does:
leaves out in summer, no forest in a year, no more change than there is.

Each rule is a field of violations (0 where it holds, NaN where an input is missing) and a way to
reduce it; :func:`check` builds all of them lazily and reads the product once.
"""

from __future__ import annotations

from html import escape

import xarray as xr

from ..errors import CubeError
from . import envelope, jumps, rules, seasons, totals, transitions, vegetation
from .product import CHECKED, in_blocks, named, year_index
from .rule import Rule
from .rules import CLOSURE_LIMIT, LAI_MAX, MASS_LIMIT, SIMPLEX_LIMIT

__all__ = [
    "CHECKED",
    "CLOSURE_LIMIT",
    "LAI_MAX",
    "MASS_LIMIT",
    "SIMPLEX_LIMIT",
    "check",
    "check_html",
    "norms",
    "year_index",
]

RULES = (
    *rules.RULES,
    *jumps.RULES,
    *vegetation.RULES,
    *seasons.RULES,
    *transitions.RULES,
)


def check(
    product: xr.Dataset,
    *,
    reference: xr.Dataset | None = None,
    cube: xr.Dataset | None = None,
) -> xr.Dataset:
    """Physical consistency of a product, one scalar a rule.

    Parameters
    ----------
    product
        Dataset with any of ``lu_fraction``, ``lc_fraction`` (1), ``lai``, ``lai_lv``, ``lai_hv``
        (m2 m-2), ``cvl``, ``cvh``, ``fcover`` (1), or what CF tells to be one of the first three,
        a map of class codes too. It is read once, block by block. A pixel (of a year or a time)
        where an input of a rule is NaN, or to which the rule does not apply, is skipped and
        counted.
    reference
        A truth, such as the one trained on, or its :func:`norms`: leaf areas and changes are held
        against those that it has. It need not share the product's grid or years.
    cube
        Conformed cube with the climate (``t2m`` in K, ``swvl1`` in m3 m-3) and the totals
        (``lu_total``, 1) that drive the product: seasons and land use are held against them.

    Returns
    -------
    Dataset
        float64 scalars, one for each law whose inputs are there, NaN where nothing could be
        looked at, and for each expectation that concerns a pixel. Attributes of each:
        ``long_name``, ``units``, ``limit``, ``share`` (area-weighted share of what was looked at
        that breaks the rule), ``looked_at`` and ``skipped`` (counts), ``law`` (False: an
        expectation) and ``passed`` (False if nothing was looked at). The
        Dataset's ``passed`` holds if all laws do. Land cover of a time is that of its year; a
        single map of land cover serves all times. ``not_read`` says why variables were left out,
        if any were.

    Raises
    ------
    CubeError
        If the product has nothing that could be checked.
    """
    import dask

    found, problems = named(product)
    if not found.data_vars:
        raise CubeError(
            "expected a product with land use, land cover or LAI; nothing in it can be checked",
            [f"none of {', '.join(CHECKED)} found; conform the product first", *problems],
        )
    found = in_blocks(found)
    wanted = _rules(reference, cube)
    fields = {find: find(found) for find in dict.fromkeys(rule.violations for rule in wanted)}
    held = [rule.as_stored(found) for rule in wanted if fields[rule.violations]]
    (reduced,) = dask.compute({rule.name: rule.reduce(fields[rule.violations]) for rule in held})
    verdicts = {rule.name: rule.verdict(reduced[rule.name]) for rule in held}
    # Nothing is expected where no pixel is concerned: of the winter of the tropics, say.
    result = xr.Dataset({k: v for k, v in verdicts.items() if v.law or v.looked_at})
    result.attrs["title"] = "Physical consistency"
    result.attrs["passed"] = all(each.attrs["passed"] for each in result.values() if each.law)
    if problems:
        result.attrs["not_read"] = "; ".join(problems)
    return result


def norms(reference: xr.Dataset) -> xr.Dataset:
    """What :func:`check` needs of a reference, a few kB, to be held against many products.

    Parameters
    ----------
    reference
        Product with ``lai`` (m2 m-2) and ``lc_fraction``, or ``lu_fraction`` (1). It is computed.

    Returns
    -------
    Dataset
        Of :func:`.envelope.envelope` and :func:`.transitions.frequencies`.
    """
    return xr.merge([envelope.envelope(reference), transitions.frequencies(reference)])


def check_html(result: xr.Dataset) -> str:
    """HTML table of what :func:`check` found; computes nothing."""
    head = "".join(
        f"<th>{title}</th>"
        for title in (
            "Rule", "Found", "Limit", "Units", "Area that breaks it", "Looked at", "Skipped",
            "Verdict",
        )
    )  # fmt: skip
    rows = "".join(_html_row(scalar) for scalar in result.values())
    return (
        f'<table class="xlsbc-check"><caption>{escape(result.attrs["title"])}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    )


def _rules(reference: xr.Dataset | None, cube: xr.Dataset | None) -> list[Rule]:
    wanted: list[Rule] = list(RULES)
    if reference is not None:
        known = {"lai_low", "lu_transitions", "lc_transitions"} & set(reference)
        table = reference if known else norms(reference)
        wanted += [*envelope.rules(table), *transitions.rules(table)]
    if cube is not None:
        wanted += [*seasons.forced(cube), *totals.rules(cube)]
    return wanted


def _html_row(scalar: xr.DataArray) -> str:
    attrs = scalar.attrs
    broken = "broken" if attrs["law"] else "unusual"
    cells = (
        escape(attrs["long_name"]),
        f"{float(scalar):.3g}",
        f"{attrs['limit']:g}",
        escape(attrs["units"]),
        f"{attrs['share']:.2%}",
        f"{attrs['looked_at']:,}",
        f"{attrs['skipped']:,}",
        "holds" if attrs["passed"] else broken if attrs["looked_at"] else "not tested",
    )
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
