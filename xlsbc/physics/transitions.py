"""What may become what from one year to the next, and how often it does.

Fractions do not tell which class became which. What must have gone a forbidden way is the least
mass that any distribution over transitions puts there (:func:`.margins.impossible_mass`, with the
two years in place of use and cover). How often a transition occurs is told by dominant classes.

References
----------
Hurtt, G. C., et al. (2020): Harmonization of global land use change and management for the period
850-2100 (LUH2). Geosci. Model Dev. 13, 5425-5464, section 2: primary land is land that was never
used, so no transition leads to it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from .margins import impossible_mass
from .product import dominant, in_blocks, legend_of, named, row_weight
from .rule import Found, Rule
from .tally import tally

TREES = ("trees_be", "trees_bd", "trees_ne", "trees_nd")
FORBIDDEN: Mapping[str, Mapping[str, tuple[str, ...] | None]] = {
    # Nothing becomes primary land, not even other primary land.
    "luh2": {"primf": None, "primn": None},
    # Chosen here: no trees in a year on what bore no plant.
    "cci_pft": dict.fromkeys(TREES, ("bare", "built", "snowice")),
}
"""By legend and class after: the classes before of which it cannot be made within a year; None: all
others."""

FORBIDDEN_LIMIT = 5e-3
"""Mean share of a pixel and year that may go a forbidden way, 1; chosen here."""

EXCESS = 2.0
"""How many times as often as in the reference a transition may occur; chosen here."""

EXCESS_LIMIT = 1e-3
"""Share of the area and years that may change beyond that, 1; chosen here."""

_LAND = {"lu": ("lu_fraction", "lu_class"), "lc": ("lc_fraction", "lc_class")}
_WORDS = {"lu": "land use", "lc": "land cover"}


def frequencies(truth: xr.Dataset) -> xr.Dataset:
    """How often the dominant classes of a truth become each other from year to year.

    Parameters
    ----------
    truth
        Product with ``lu_fraction`` or ``lc_fraction`` (1) of at least two years in a row; a pixel
        is left out where a class of either year is missing. It is read once.

    Returns
    -------
    Dataset
        ``lu_transitions`` (lu_before, lu_after) and ``lc_transitions``: share of the area and
        years, 1, area-weighted; sums to 1. Without those that have no two years in a row.
    """
    import dask

    truth = in_blocks(named(truth)[0])
    counts = {}
    for short, (name, dim) in _LAND.items():
        pair = _pair(truth, name)
        if pair is not None:
            ids = [str(each) for each in truth[dim].values]
            before, after = (dominant(each, dim) for each in pair)
            counts[short] = (_tallied(before, after, len(ids), weighted=True), ids)
    (found,) = dask.compute({short: lazy for short, (lazy, _) in counts.items()})
    tables = {}
    for short, area in found.items():
        dims = (f"{short}_before", f"{short}_after")
        names = np.array(counts[short][1], dtype=np.dtypes.StringDType())
        share = area / area.sum() if area.sum() > 0 else np.full(area.shape, np.nan)
        tables[f"{short}_transitions"] = xr.DataArray(share, dict.fromkeys(dims, names), dims)
    return xr.Dataset(tables)


def rules(norms: xr.Dataset) -> tuple[Rule, ...]:
    """What is expected of a product where the truth's :func:`frequencies` are known."""
    return tuple(
        _Frequency(
            f"frequent_transitions_{short}",
            f"Area and years of {_WORDS[short]} that change more than twice as often as reference",
            partial(_both_years, short=short, ids=norms[f"{short}_before"].values),
            "share",
            EXCESS_LIMIT,
            law=False,
            rates=_rates(norms[f"{short}_transitions"].values),
        )
        for short in _LAND
        if f"{short}_transitions" in norms
    )


@dataclass(frozen=True, eq=False)
class _Frequency(Rule):
    """A rule about how often, not where: fields are the classes before and after."""

    # Share of each class before that becomes each class after; NaN for classes never seen.
    rates: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))

    def reduce(self, fields: Sequence[xr.DataArray]) -> Any:
        """Values and area by class before and after, lazily."""
        before, after = fields
        counted = _tallied(before, after, len(self.rates))
        return counted, _tallied(before, after, len(self.rates), weighted=True), before.size

    def found(self, reduced: Any) -> Found:
        """Share that changes beyond what is usual; from classes without a rate nothing is said."""
        counted, area, size = reduced
        judged = np.isfinite(self.rates).all(1)
        beyond = area - area.sum(1, keepdims=True) * EXCESS * np.nan_to_num(self.rates)
        np.fill_diagonal(beyond, 0)
        looked_at, whole = int(counted[judged].sum()), float(area[judged].sum())
        share = float(beyond[judged].clip(0).sum()) / whole if whole > 0 else math.nan
        return Found(share, share, looked_at, size)


def _both_years(product: xr.Dataset, short: str, ids: np.ndarray) -> list[xr.DataArray]:
    """Dominant classes of each year and of the next, in the reference's order; -1 if unknown."""
    name, dim = _LAND[short]
    pair = _pair(product, name)
    if pair is None or set(map(str, ids)) != {str(each) for each in product[dim].values}:
        return []
    place = {str(each): i for i, each in enumerate(product[dim].values)}
    order = [place[str(each)] for each in ids]
    return [dominant(each.isel({dim: order}), dim) for each in pair]


def _rates(share: np.ndarray) -> np.ndarray:
    total = share.sum(1, keepdims=True)
    return share / np.where(total > 0, total, np.nan)


def _tallied(before: xr.DataArray, after: xr.DataArray, n: int, weighted: bool = False) -> Any:
    """Values, or their area, by class before and after, ``(n, n)``, lazy."""
    codes = (before * n + after).where((before >= 0) & (after >= 0), -1).astype("int64")
    return tally(codes, n * n, row_weight(codes) if weighted else None).reshape(n, n)


def _forbidden(product: xr.Dataset, short: str) -> list[xr.DataArray]:
    name, dim = _LAND[short]
    pair = _pair(product, name)
    if pair is None:
        return []
    allowed = _allowed(product, dim)
    if allowed.all():
        return []
    mass = xr.apply_ufunc(
        impossible_mass,
        pair[0].rename({dim: "class_before"}),
        pair[1].rename({dim: "class_after"}),
        kwargs={"compatible": allowed},
        input_core_dims=[["class_before"], ["class_after"]],
        dask="parallelized",
        output_dtypes=[np.float64],
    )
    return [mass]


def _allowed(product: xr.Dataset, dim: str) -> np.ndarray:
    """Which class may become which, ``(before, after)``."""
    forbidden = FORBIDDEN.get(legend_of(product, dim).name, {})
    ids = [str(each) for each in product[dim].values]
    allowed = np.ones((len(ids), len(ids)), dtype=bool)
    for i, before in enumerate(ids):
        for j, after in enumerate(ids):
            if after in forbidden and before != after:
                sources = forbidden[after]
                allowed[i, j] = sources is not None and before not in sources
    return allowed


def _pair(product: xr.Dataset, name: str) -> tuple[xr.DataArray, xr.DataArray] | None:
    """The fractions of all years that have a next one, and of those, on the later year."""
    if name not in product or not {"year"} <= set(product[name].dims) & set(product.coords):
        return None
    field = product[name]
    next_to = np.flatnonzero(np.diff(field["year"].values) == 1)
    if not next_to.size:
        return None
    after = field.isel(year=next_to + 1)
    return field.isel(year=next_to).assign_coords(year=after["year"]), after


RULES = tuple(
    Rule(
        f"forbidden_transitions_{short}",
        f"Mean share of {_WORDS[short]} that goes a way in a year that it cannot",
        partial(_forbidden, short=short),
        "mean",
        FORBIDDEN_LIMIT,
        law=False,
    )
    for short in _LAND
)
