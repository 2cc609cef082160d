"""A rule, and how the field of its violations becomes one number with a verdict.

Pixels are counted row by row, in integers, before rows are weighted by area: a share is the same
to the last bit however the product is chunked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import xarray as xr

from .product import row_weight


class Found(NamedTuple):
    """What was found of a rule.

    Parameters
    ----------
    value
        The number that is held against the limit; NaN if nothing was looked at.
    share
        Area-weighted share of what was looked at that breaks the rule, likewise.
    looked_at, size
        Values that were looked at, values in all.
    """

    value: float
    share: float
    looked_at: int
    size: int


@dataclass(frozen=True)
class Rule:
    """A rule about a product.

    Parameters
    ----------
    name, long_name
        In the result, and for people.
    violations
        Fields of violations, none of them negative: 0 where the rule holds, NaN where it cannot be
        told or does not apply. No field if the product lacks what the rule is about.
    how
        "count" and "share" (of the area) of the violations above ``tolerance``, their "max" or
        their area-weighted "mean".
    limit
        Largest number with which the rule holds.
    tolerance
        Violation that is none.
    rounding
        By how much a violation moves for a unit's rounding of what it takes, by variable.
    law
        Whether it must hold; else it is what land is expected to do.
    """

    name: str
    long_name: str
    violations: Callable[[xr.Dataset], list[xr.DataArray]]
    how: Literal["count", "max", "share", "mean"]
    limit: float
    tolerance: float = 0.0
    rounding: Mapping[str, float] = field(default_factory=dict)
    law: bool = True

    def as_stored(self, product: xr.Dataset) -> Rule:
        """The rule that allows for the steps in which a product was read from a store."""
        slack = sum(times * rounding(product, name) for name, times in self.rounding.items())
        if self.how in ("count", "share"):
            return replace(self, tolerance=self.tolerance + slack)
        return replace(self, limit=self.limit + slack)

    def reduce(self, fields: Sequence[xr.DataArray]) -> Any:
        """What :meth:`found` needs of each field, lazily: sums of rows, their weight, the size."""
        allowed = self.tolerance if self.how in ("count", "share") else self.limit
        reduced = []
        for each in fields:
            terms = {"looked_at": _rows(each.notnull()), "broken": _rows(each > allowed)}
            if self.how == "mean":
                terms["sum"] = _rows(each.fillna(0))
            if self.how == "max" and each.size:
                # Violations are never negative, so 0 stands for a skipped pixel.
                terms["max"] = each.fillna(0).max().data
            reduced.append((terms, row_weight(each).values, each.size))
        return reduced

    def found(self, reduced: Any) -> Found:
        """The numbers, from what :meth:`reduce` gave, computed."""

        def total(term: str) -> float:
            return sum(float((terms[term] * weight).sum()) for terms, weight, _ in reduced)

        area = total("looked_at")
        looked_at = sum(int(terms["looked_at"].sum()) for terms, _, _ in reduced)
        size = sum(each for _, _, each in reduced)
        if not looked_at or not area:
            return Found(math.nan, math.nan, looked_at, size)
        share = total("broken") / area
        if self.how == "count":
            value = float(sum(int(terms["broken"].sum()) for terms, _, _ in reduced))
        elif self.how == "max":
            value = max(float(terms.get("max", 0)) for terms, _, _ in reduced)
        else:
            value = share if self.how == "share" else total("sum") / area
        return Found(value, share, looked_at, size)

    def verdict(self, reduced: Any) -> xr.DataArray:
        """Scalar with its limit and verdict, from what :meth:`reduce` gave, computed."""
        found = self.found(reduced)
        return xr.DataArray(
            found.value,
            attrs={
                "long_name": self.long_name,
                "units": "1",
                "limit": self.limit,
                "passed": found.value <= self.limit,
                "law": self.law,
                "share": found.share,
                "looked_at": found.looked_at,
                "skipped": found.size - found.looked_at,
            },
        )


def rounding(product: xr.Dataset, name: str) -> float:
    """Largest error of a variable by its steps in a store, of all classes together; 0 if none.

    xarray keeps the step as `scale_factor` of the encoding. A cover is a sum of stored classes.
    """
    if name not in product:
        return 0.0
    step = float(product[name].encoding.get("scale_factor", 0))
    if name == "lu_fraction":
        return step * product.sizes["lu_class"]
    return step if name.startswith("lai") else step * product.sizes.get("lc_class", 1)


def _rows(each: xr.DataArray) -> Any:
    """Sums over all but the latitude."""
    return each.sum([dim for dim in each.dims if dim != "latitude"]).data
