"""The leaf area that a training truth has, by land-cover class and month, and what leaves it.

The envelope is read from histograms, whose counts add: it is the same however the truth is
chunked, and a truth of any size is read once.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import xarray as xr

from .jumps import steps
from .product import at_times, dominant, in_blocks, named
from .rule import Rule
from .rules import LAI_MAX
from .tally import tally

LOWEST, HIGHEST = 0.01, 0.99
"""Quantiles of the truth between which a product is expected."""

BIN = 1 / 32
"""Width of a bin, m2 m-2: well below the 15 % that GCOS (2022) asks of an LAI of 1."""

FEWEST = 100
"""Values of a class and month without which nothing is said of its 1st and 99th percentile."""

OUTSIDE = 0.05
"""Share of the area that may lie outside, 1; the truth itself has 0.02."""

_BINS = round(LAI_MAX / BIN)


def envelope(truth: xr.Dataset) -> xr.Dataset:
    """Range of the leaf area of a truth, and of its steps, by dominant land cover and month.

    Parameters
    ----------
    truth
        Product with ``lai`` (m2 m-2) and ``lc_fraction`` (1); NaN is left out. It is read once.

    Returns
    -------
    Dataset
        ``(lc_class, month)``: ``lai_low`` and ``lai_high`` (m2 m-2), 1st and 99th percentile,
        outward to a multiple of 1/32; ``lai_step`` (m2 m-2), 99th percentile of the change since
        the month before; ``lai_n`` (1), values. NaN from less than 100 values. Empty without LAI
        or land cover.
    """
    import dask

    truth = in_blocks(named(truth)[0])
    if not {"lai", "lc_fraction"} <= set(truth) or "time" not in truth.indexes:
        return xr.Dataset()
    classes = dominant(truth["lc_fraction"], "lc_class")
    n = truth.sizes["lc_class"]
    size = n * 12 * _BINS
    values, changes = (
        tally(_codes(field, classes), size) for field in (truth["lai"], steps(truth["lai"]))
    )
    counted = [np.reshape(each, (n, 12, _BINS)) for each in dask.compute(values, changes)]
    low = _quantile(counted[0], LOWEST)
    tables = {
        "lai_low": low,
        "lai_high": _quantile(counted[0], HIGHEST) + BIN,
        "lai_step": _quantile(counted[1], HIGHEST) + BIN,
        "lai_n": counted[0].sum(2),
    }
    coords = {"lc_class": truth["lc_class"].variable, "month": np.arange(1, 13)}
    return xr.Dataset({k: (("lc_class", "month"), v) for k, v in tables.items()}, coords)


def rules(norms: xr.Dataset) -> tuple[Rule, ...]:
    """What is expected of a product where the truth's envelope is known."""
    if "lai_low" not in norms:
        return ()
    return (
        Rule(
            "lai_outside_envelope",
            "Area with a leaf area that the reference has not for class and month",
            partial(_outside, norms=norms),
            "share",
            OUTSIDE,
            rounding={"lai": 1},
            law=False,
        ),
        Rule(
            "lai_steps_outside",
            "Area with a monthly change that the reference has not for class and month",
            partial(_too_far, norms=norms),
            "share",
            OUTSIDE,
            rounding={"lai": 2},
            law=False,
        ),
    )


def _codes(field: xr.DataArray, classes: xr.DataArray) -> xr.DataArray:
    """Class, month and bin of each value as one integer; -1 where one of them is missing."""
    row = at_times(classes, field["time"]) * 12 + _month(field)
    place = (field / BIN).clip(0, _BINS - 1).fillna(0).astype("int64")
    known = field.notnull() & (row >= 0)
    codes = (row * _BINS + place).where(known, -1)
    return codes.transpose(*field.dims).astype("int64")


def _month(field: xr.DataArray) -> xr.DataArray:
    return xr.DataArray(field["time"].dt.month.values - 1, dims="time")


def _quantile(counts: np.ndarray, share: float) -> np.ndarray:
    """Lower edge of the bin in which the quantile lies, ``(class, month)``."""
    below = counts.cumsum(2)
    n = below[..., -1]
    edge = (below >= np.maximum(share * n, 1)[..., None]).argmax(2) * BIN
    return np.where(n >= FEWEST, edge, np.nan)


def _outside(product: xr.Dataset, norms: xr.Dataset) -> list[xr.DataArray]:
    if not {"lai", "lc_fraction"} <= set(product) or "time" not in product.indexes:
        return []
    lai = product["lai"].astype("float64")
    low, high = (_looked_up(product, lai, norms[name]) for name in ("lai_low", "lai_high"))
    return [(low - lai).clip(min=0) + (lai - high).clip(min=0)]


def _too_far(product: xr.Dataset, norms: xr.Dataset) -> list[xr.DataArray]:
    if not {"lai", "lc_fraction"} <= set(product) or product.indexes["time"].size < 2:
        return []
    change = steps(product["lai"])
    return [(change - _looked_up(product, change, norms["lai_step"])).clip(min=0)]


def _looked_up(product: xr.Dataset, field: xr.DataArray, table: xr.DataArray) -> xr.DataArray:
    """The table's value for the class and month of each value; NaN for a class it lacks."""
    place = {str(each): i for i, each in enumerate(table["lc_class"].values)}
    order = [place.get(str(each), -1) for each in product["lc_class"].values]
    rows = np.vstack([table.transpose("lc_class", "month").values, np.full(12, np.nan)])[order]
    rows = np.vstack([rows, np.full(12, np.nan)])  # for -1, a missing class
    classes = dominant(product["lc_fraction"], "lc_class")
    return xr.apply_ufunc(
        lambda each, month: rows[each, month],
        at_times(classes, field["time"]),
        _month(field),
        dask="parallelized",
        output_dtypes=[np.float64],
    )
