"""The laws within one product: what leaves, covers and fractions owe to each other.

Each function gives the fields of violations of a rule, see :class:`~xlsbc.physics.rule.Rule`.

References
----------
ECMWF (2023): IFS documentation CY48R1, part IV, section 8.2 (vegetation cover and LAI).
"""

from __future__ import annotations

from functools import partial

import numpy as np
import xarray as xr

from ..cube import legends
from ..cube.vocabulary import VOCABULARY
from ..errors import LegendError
from .margins import impossible_mass
from .product import SPLIT, TARGETS, classes_of, legend_of, weighted_sum, years
from .rule import Rule

# A float32 simplex of some 14 numbers sums to 1 within 14 roundings of 6e-8.
SIMPLEX_LIMIT = 1e-6
MASS_LIMIT = 1e-6
# LAI reaches 8, where float32 resolves 5e-7, and the closure has two products and a sum.
CLOSURE_LIMIT = 1e-5

LAI_MAX = VOCABULARY["lai"].valid_max


def compatible_pairs(product: xr.Dataset) -> np.ndarray | None:
    """Which pairs of the product's classes can be, ``(lu_class, lc_class)``; None without table."""
    lu, lc = (legend_of(product, dim) for dim in ("lu_class", "lc_class"))
    try:
        possible = legends.compatible(lu, lc)
    except LegendError:
        return None
    rows, columns = (
        [legend.index(str(each)) for each in product[dim].values]
        for legend, dim in ((lu, "lu_class"), (lc, "lc_class"))
    )
    return possible[np.ix_(rows, columns)]


def incompatible(product: xr.Dataset) -> list[xr.DataArray]:
    """Share of a pixel in impossible pairs of use and cover, whatever stands on what."""
    if not {"lu_fraction", "lc_fraction"} <= set(product):
        return []
    possible = compatible_pairs(product)
    if possible is None:
        return []
    mass = xr.apply_ufunc(
        impossible_mass,
        product["lu_fraction"],
        product["lc_fraction"],
        kwargs={"compatible": possible},
        input_core_dims=[["lu_class"], ["lc_class"]],
        join="inner",  # years that only one of the two has cannot be compared
        dask="parallelized",
        output_dtypes=[np.float64],
    )
    return [mass]


def lai_above_bound(product: xr.Dataset) -> list[xr.DataArray]:
    """Excess over what the classes can bear: the pixel's own mix of them where it is known."""
    highest = highest_lai(product)
    fields = []
    if {"lai", "lc_fraction"} <= set(product):
        most = [each.lai_max for each in classes_of(product)]
        for year in years(product):
            bound = weighted_sum(year["lc_fraction"], "lc_class", most)
            fields.append(year["lai"].astype("float64") - bound)
        del highest["lai"]
    fields += [
        product[name].astype("float64") - bound
        for name, bound in highest.items()
        if name in product
    ]
    return [field.clip(min=0) for field in fields]


def highest_lai(product: xr.Dataset) -> dict[str, float]:
    """Largest LAI that any class of the legend bears, in the pixel and by stature, m2 m-2."""
    classes = classes_of(product)
    most = {"lai": max(each.lai_max for each in classes)}
    for name, kind in (("lai_hv", "high"), ("lai_lv", "low")):
        most[name] = max((each.lai_max for each in classes if each.vegetation == kind), default=0.0)
    return most


def _simplex_error(product: xr.Dataset, name: str, dim: str) -> list[xr.DataArray]:
    if name not in product:
        return []
    return [abs(weighted_sum(product[name], dim, [1] * product.sizes[dim]) - 1)]


def _negative(product: xr.Dataset) -> list[xr.DataArray]:
    return [(-product[name]).clip(min=0) for name in (*TARGETS, *SPLIT) if name in product]


def _leaves_without_bearer(product: xr.Dataset) -> list[xr.DataArray]:
    if not {"lai", "lc_fraction"} <= set(product):
        return []
    bears = [each.lai_max > 0 for each in classes_of(product)]
    fields = []
    for year in years(product):
        bearer = weighted_sum(year["lc_fraction"], "lc_class", bears)
        # The product keeps a missing LAI missing.
        leaves = year["lai"].clip(min=0) * (bearer <= 0)
        fields.append(leaves.where(bearer.notnull()))
    return fields


def _lai_closure(product: xr.Dataset) -> list[xr.DataArray]:
    if not {"lai", "lai_lv", "lai_hv", "cvl", "cvh"} <= set(product):
        return []
    return [
        abs(_part(year, "cvl", "lai_lv") + _part(year, "cvh", "lai_hv") - year["lai"])
        for year in years(product)
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
            weighted_sum(
                product["lc_fraction"],
                "lc_class",
                [each.vegetation == kind for each in classes_of(product)],
            )
            - product[name]
        )
        for name, kind in (("cvl", "low"), ("cvh", "high"))
    ]


RULES = (
    Rule(
        "leaves_without_bearer",
        "Pixel-times with leaves where no class bears leaves",
        _leaves_without_bearer,
        "count",
        0,
        rounding={"lai": 1, "lc_fraction": LAI_MAX},
    ),
    Rule(
        "incompatible_mass",
        "Largest share of a pixel in impossible pairs of use and cover",
        incompatible,
        "max",
        MASS_LIMIT,
        rounding={"lu_fraction": 1, "lc_fraction": 1},
    ),
    Rule(
        "incompatible_pixels",
        "Pixels with a share in impossible pairs of use and cover",
        incompatible,
        "count",
        0,
        MASS_LIMIT,
        rounding={"lu_fraction": 1, "lc_fraction": 1},
    ),
    Rule(
        "simplex_error_lu",
        "Largest distance of a sum of land-use fractions from 1",
        partial(_simplex_error, name="lu_fraction", dim="lu_class"),
        "max",
        SIMPLEX_LIMIT,
    ),
    Rule(
        "simplex_error_lc",
        "Largest distance of a sum of land-cover fractions from 1",
        partial(_simplex_error, name="lc_fraction", dim="lc_class"),
        "max",
        SIMPLEX_LIMIT,
    ),
    Rule("negative", "Values below zero", _negative, "count", 0),
    Rule(
        "lai_above_bound",
        "Pixel-times with more leaves than their classes can bear",
        lai_above_bound,
        "count",
        0,
        CLOSURE_LIMIT,
        rounding={"lai": 1, "lai_hv": 1, "lai_lv": 1, "lc_fraction": LAI_MAX},
    ),
    Rule(
        "lai_closure",
        "Largest distance of cvl lai_lv + cvh lai_hv from lai",
        _lai_closure,
        "max",
        CLOSURE_LIMIT,
        rounding={"lai": 1, "lai_hv": 1, "lai_lv": 1, "cvh": LAI_MAX, "cvl": LAI_MAX},
    ),
    Rule(
        "cover_closure",
        "Largest distance of cvl and cvh from the land cover they sum",
        _cover_closure,
        "max",
        CLOSURE_LIMIT,
    ),
)
