"""What must hold inside a land-surface product, measured on any product in the cube's names.

Leaves need a class that bears them; land use and land cover must be margins of one distribution
without impossible pairs (:mod:`.margins`); fractions are simplexes; and the split that
IFS/ecLand need must close, ``cvl * lai_lv + cvh * lai_hv = lai``.

Each rule is a field of violations (0 where it holds, NaN where an input is missing) and a way to
reduce it; :func:`check` builds all of them lazily and reads the product once.

References
----------
ECMWF (2023): IFS documentation CY48R1, part IV, section 8.2 (vegetation cover and LAI).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from html import escape
from operator import add
from typing import Literal

import numpy as np
import xarray as xr

from ..cube import legends
from ..cube.vocabulary import VOCABULARY
from ..errors import CubeError, LegendError
from .margins import impossible_mass

# A float32 simplex of some 14 numbers sums to 1 within 14 roundings of 6e-8.
SIMPLEX_LIMIT = 1e-6
MASS_LIMIT = 1e-6
# LAI reaches 8, where float32 resolves 5e-7, and the closure has two products and a sum.
CLOSURE_LIMIT = 1e-5

LAI_MAX = VOCABULARY["lai"].valid_max

CHECKED = ("lu_fraction", "lc_fraction", "lai", "lai_lv", "lai_hv", "cvl", "cvh")

# Numpy-backed products are read in such blocks, so that float64 copies stay small.
_BLOCK = {"year": 1, "time": 12}


def check(product: xr.Dataset) -> xr.Dataset:
    """Physical consistency of a product, one scalar a rule.

    Parameters
    ----------
    product
        Conformed Dataset with any of ``lu_fraction``, ``lc_fraction`` (1), ``lai``, ``lai_lv``,
        ``lai_hv`` (m2 m-2), ``cvl``, ``cvh`` (1). It is read once, block by block.
        A pixel (of a year or a time) where an input of a rule is NaN is skipped and counted.

    Returns
    -------
    Dataset
        float64 scalars, one for each rule whose inputs are there; NaN where nothing could be
        looked at. Attributes of each: ``long_name``, ``units``, ``limit``, ``looked_at`` and
        ``skipped`` (counts) and ``passed`` (False if nothing was looked at). The Dataset's
        ``passed`` holds if all do. Land cover of a time is that of its year; a single map of
        land cover serves all times.

    Raises
    ------
    CubeError
        If the product has nothing that could be checked.
    """
    import dask

    product = _in_blocks(product[[name for name in CHECKED if name in product]])
    if not product.data_vars:
        raise CubeError(
            "expected a product with land use, land cover or LAI; nothing in it can be checked",
            [f"none of {', '.join(CHECKED)} found; conform the product first"],
        )
    fields = {find: find(product) for find in dict.fromkeys(rule.violations for rule in RULES)}
    rules = [rule.as_stored(product) for rule in RULES if fields[rule.violations]]
    (reduced,) = dask.compute({rule.name: rule.reduce(fields[rule.violations]) for rule in rules})
    result = xr.Dataset({rule.name: rule.verdict(*reduced[rule.name]) for rule in rules})
    result.attrs["title"] = "Physical consistency"
    result.attrs["passed"] = all(scalar.attrs["passed"] for scalar in result.values())
    return result


def check_html(result: xr.Dataset) -> str:
    """HTML table of what :func:`check` found; computes nothing."""
    head = "".join(
        f"<th>{title}</th>"
        for title in ("Rule", "Found", "Limit", "Units", "Looked at", "Skipped", "Verdict")
    )
    rows = "".join(_html_row(scalar) for scalar in result.values())
    return (
        f'<table class="xlsbc-check"><caption>{escape(result.attrs["title"])}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    )


def year_index(time: xr.DataArray, year: xr.DataArray) -> np.ndarray:
    """Position in ``year`` of the map that holds at each ``time``; -1 where there is none.

    A single map holds at all times: land-cover maps are often made once.
    """
    if year.size == 1:
        return np.zeros(time.size, dtype=int)
    positions = {int(value): i for i, value in enumerate(year.values)}
    return np.array([positions.get(int(value), -1) for value in time.dt.year.values], dtype=int)


@dataclass(frozen=True)
class _Rule:
    """A rule: fields of violations (none if an input lacks), how they are reduced, the limit."""

    name: str
    long_name: str
    violations: Callable[[xr.Dataset], list[xr.DataArray]]
    how: Literal["count", "max"]
    limit: float
    tolerance: float = 0.0
    # By how much it moves for a unit's rounding of what it takes.
    rounding: Mapping[str, float] = field(default_factory=dict)

    def as_stored(self, product: xr.Dataset) -> _Rule:
        """The rule that allows for the steps in which a product was read from a store."""
        slack = sum(times * _rounding(product, name) for name, times in self.rounding.items())
        if self.how == "count":
            return replace(self, tolerance=self.tolerance + slack)
        return replace(self, limit=self.limit + slack)

    def reduce(self, fields: Sequence[xr.DataArray]) -> tuple[xr.DataArray, ...]:
        """Lazy value, number of values looked at, number of values in all."""
        looked_at = reduce(add, (field.notnull().sum() for field in fields))
        size = xr.DataArray(sum(field.size for field in fields))
        if self.how == "count":
            value = reduce(add, ((field > self.tolerance).sum() for field in fields))
        else:
            # Violations are never negative, so 0 stands for a skipped pixel (and for no pixel).
            worst = [field.fillna(0).max() for field in fields if field.size]
            value = reduce(_larger, worst, xr.DataArray(0.0))
        return value, looked_at, size

    def verdict(
        self, value: xr.DataArray, looked_at: xr.DataArray, size: xr.DataArray
    ) -> xr.DataArray:
        """Scalar with its limit and verdict, from what :meth:`reduce` gave, computed."""
        found = float(value) if int(looked_at) else float("nan")
        return xr.DataArray(
            found,
            attrs={
                "long_name": self.long_name,
                "units": "1",
                "limit": self.limit,
                "passed": found <= self.limit,
                "looked_at": int(looked_at),
                "skipped": int(size) - int(looked_at),
            },
        )


def _simplex_error(product: xr.Dataset, name: str, dim: str) -> list[xr.DataArray]:
    if name not in product:
        return []
    return [abs(_weighted_sum(product[name], dim, [1] * product.sizes[dim]) - 1)]


def _incompatible(product: xr.Dataset) -> list[xr.DataArray]:
    if not {"lu_fraction", "lc_fraction"} <= set(product):
        return []
    lu, lc = (_legend(product, dim) for dim in ("lu_class", "lc_class"))
    try:
        possible = legends.compatible(lu, lc)
    except LegendError:
        return []  # no table for these two legends
    rows, columns = (
        [legend.index(str(each)) for each in product[dim].values]
        for legend, dim in ((lu, "lu_class"), (lc, "lc_class"))
    )
    mass = xr.apply_ufunc(
        impossible_mass,
        product["lu_fraction"],
        product["lc_fraction"],
        kwargs={"compatible": possible[np.ix_(rows, columns)]},
        input_core_dims=[["lu_class"], ["lc_class"]],
        join="inner",  # years that only one of the two has cannot be compared
        dask="parallelized",
        output_dtypes=[np.float64],
    )
    return [mass]


def _negative(product: xr.Dataset) -> list[xr.DataArray]:
    return [(-each).clip(min=0) for each in product.values()]


def _leaves_without_bearer(product: xr.Dataset) -> list[xr.DataArray]:
    if not {"lai", "lc_fraction"} <= set(product):
        return []
    bears = [each.lai_max > 0 for each in _classes(product)]
    fields = []
    for year in _years(product):
        bearer = _weighted_sum(year["lc_fraction"], "lc_class", bears)
        # The product keeps a missing LAI missing.
        leaves = year["lai"].clip(min=0) * (bearer <= 0)
        fields.append(leaves.where(bearer.notnull()))
    return fields


def _lai_above_bound(product: xr.Dataset) -> list[xr.DataArray]:
    """Excess over what the classes can bear: the pixel's own mix of them where it is known."""
    classes = _classes(product)
    highest = {
        "lai": max(each.lai_max for each in classes),
        "lai_hv": max(each.lai_max for each in classes if each.vegetation == "high"),
        "lai_lv": max(each.lai_max for each in classes if each.vegetation == "low"),
    }
    fields = []
    if {"lai", "lc_fraction"} <= set(product):
        most = [each.lai_max for each in classes]
        for year in _years(product):
            bound = _weighted_sum(year["lc_fraction"], "lc_class", most)
            fields.append(year["lai"].astype("float64") - bound)
        del highest["lai"]
    fields += [
        product[name].astype("float64") - bound
        for name, bound in highest.items()
        if name in product
    ]
    return [field.clip(min=0) for field in fields]


def _lai_closure(product: xr.Dataset) -> list[xr.DataArray]:
    if not {"lai", "lai_lv", "lai_hv", "cvl", "cvh"} <= set(product):
        return []
    return [
        abs(_part(year, "cvl", "lai_lv") + _part(year, "cvh", "lai_hv") - year["lai"])
        for year in _years(product)
    ]


def _part(year: xr.Dataset, cover: str, leaf: str) -> xr.DataArray:
    share = year[cover].astype("float64")
    # Where a vegetation is absent its LAI may be anything, NaN included.
    return (year[leaf] * share).where(share != 0, 0)


def _cover_closure(product: xr.Dataset) -> list[xr.DataArray]:
    if not {"cvl", "cvh"} <= set(product):
        return []
    if "lc_fraction" not in product:
        return [(product["cvl"].astype("float64") + product["cvh"] - 1).clip(min=0)]
    return [
        abs(
            _weighted_sum(
                product["lc_fraction"],
                "lc_class",
                [each.vegetation == kind for each in _classes(product)],
            )
            - product[name]
        )
        for name, kind in (("cvl", "low"), ("cvh", "high"))
    ]


RULES = (
    _Rule(
        "leaves_without_bearer",
        "Pixel-times with leaves where no class bears leaves",
        _leaves_without_bearer,
        "count",
        0,
        rounding={"lai": 1, "lc_fraction": LAI_MAX},
    ),
    _Rule(
        "incompatible_mass",
        "Largest share of a pixel in impossible pairs of use and cover",
        _incompatible,
        "max",
        MASS_LIMIT,
        rounding={"lu_fraction": 1, "lc_fraction": 1},
    ),
    _Rule(
        "incompatible_pixels",
        "Pixels with a share in impossible pairs of use and cover",
        _incompatible,
        "count",
        0,
        MASS_LIMIT,
        rounding={"lu_fraction": 1, "lc_fraction": 1},
    ),
    _Rule(
        "simplex_error_lu",
        "Largest distance of a sum of land-use fractions from 1",
        partial(_simplex_error, name="lu_fraction", dim="lu_class"),
        "max",
        SIMPLEX_LIMIT,
    ),
    _Rule(
        "simplex_error_lc",
        "Largest distance of a sum of land-cover fractions from 1",
        partial(_simplex_error, name="lc_fraction", dim="lc_class"),
        "max",
        SIMPLEX_LIMIT,
    ),
    _Rule("negative", "Values below zero", _negative, "count", 0),
    _Rule(
        "lai_above_bound",
        "Pixel-times with more leaves than their classes can bear",
        _lai_above_bound,
        "count",
        0,
        CLOSURE_LIMIT,
        rounding={"lai": 1, "lai_hv": 1, "lai_lv": 1, "lc_fraction": LAI_MAX},
    ),
    _Rule(
        "lai_closure",
        "Largest distance of cvl lai_lv + cvh lai_hv from lai",
        _lai_closure,
        "max",
        CLOSURE_LIMIT,
        rounding={"lai": 1, "lai_hv": 1, "lai_lv": 1, "cvh": LAI_MAX, "cvl": LAI_MAX},
    ),
    _Rule(
        "cover_closure",
        "Largest distance of cvl and cvh from the land cover they sum",
        _cover_closure,
        "max",
        CLOSURE_LIMIT,
    ),
)


def _rounding(product: xr.Dataset, name: str) -> float:
    """Largest error of a variable by its steps in a store, of all classes together; 0 if none.

    xarray keeps the step as `scale_factor` of the encoding. A cover is a sum of stored classes.
    """
    step = float(product[name].encoding.get("scale_factor", 0)) if name in product else 0.0
    if name == "lu_fraction":
        return step * product.sizes["lu_class"]
    return step if name.startswith("lai") else step * product.sizes.get("lc_class", 1)


def _larger(one: xr.DataArray, other: xr.DataArray) -> xr.DataArray:
    return xr.where(one > other, one, other)


def _weighted_sum(fraction: xr.DataArray, dim: str, weights: Sequence[float]) -> xr.DataArray:
    """Sum over the classes in float64; NaN where any class is."""
    return xr.dot(
        fraction.astype("float64"), xr.DataArray(np.asarray(weights, "float64"), dims=dim), dim=dim
    )


def _years(product: xr.Dataset) -> Iterator[xr.Dataset]:
    """The product by its maps of a year, with the times that each holds for; NaN without a map."""
    if "year" not in product.dims:
        yield product
        return
    index = year_index(product["time"], product["year"])
    for i in np.unique(index):
        part = product.isel(time=index == i).isel(year=max(i, 0), drop=True)
        yearly = [name for name, each in product.items() if "year" in each.dims and i < 0]
        yield part.assign({name: xr.full_like(part[name], np.nan) for name in yearly})


def _legend(product: xr.Dataset, dim: str) -> legends.Legend:
    default = {"lu_class": legends.LU, "lc_class": legends.LC}[dim]
    if dim not in product.coords:
        return default
    return legends.legend(product[dim].attrs.get("legend", default.name))


def _classes(product: xr.Dataset) -> list[legends.LandClass]:
    """Land-cover classes in the product's own order; the whole legend if it has no land cover."""
    legend = _legend(product, "lc_class")
    if "lc_class" not in product.coords:
        return list(legend.classes)
    return [legend.classes[legend.index(str(each))] for each in product["lc_class"].values]


def _in_blocks(product: xr.Dataset) -> xr.Dataset:
    """Everything in blocks that hold all classes of a pixel."""
    blocks = {}
    for name, each in product.items():
        chunks = {"lu_class": -1, "lc_class": -1} if each.chunks else _BLOCK
        blocks[name] = each.chunk({dim: n for dim, n in chunks.items() if dim in each.dims})
    return product.assign(blocks)


def _html_row(scalar: xr.DataArray) -> str:
    attrs = scalar.attrs
    cells = (
        escape(attrs["long_name"]),
        f"{float(scalar):.3g}",
        f"{attrs['limit']:g}",
        escape(attrs["units"]),
        f"{attrs['looked_at']:,}",
        f"{attrs['skipped']:,}",
        "holds" if attrs["passed"] else "broken" if attrs["looked_at"] else "not tested",
    )
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
