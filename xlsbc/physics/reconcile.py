"""The consistent fields that are nearest to a product.

What is nearest, in this order:

* Fractions that are no simplex: its Euclidean projection.
* Use and cover with a share in impossible pairs: the cover stays, since it is what can be seen, and
  the use becomes that of least Kullback-Leibler divergence among those that the cover bears, by
  iterative proportional fitting of possible pairs to both, the cover's last.
* ``cvl`` and ``cvh``: the sums of the cover's classes; without a cover, the nearest two that leave
  room for each other.
* LAI: clipped to 0 and to what the pixel's mixture of classes can bear.
* ``lai_lv`` and ``lai_hv``: both scaled so that they close; what one of them cannot bear goes to
  the other.

References
----------
Duchi, J., et al. (2008): Efficient projections onto the l1-ball for learning in high dimensions.
Proc. ICML, 272-279, figure 1 (projection onto the simplex).
Csiszar, I. (1975): I-divergence geometry of probability distributions and minimization problems.
Ann. Probability 3, 146-158 (what iterative proportional fitting tends to).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from ..errors import CubeError
from .margins import impossible_mass
from .product import CHECKED, SPLIT, at_times, classes_of, named, weighted_sum
from .rules import CLOSURE_LIMIT, RULES, compatible_pairs, highest_lai

_ITERATIONS = 200  # of the fitting, in the few pixels that need it
_TRACE = 1e-9  # share that a use has in the fitting at least: the cover may need one that has none
_SLAB = 4096  # pixels fitted at once: 4096 x 13 x 14 x 8 bytes = 6 MB


def reconcile(product: xr.Dataset) -> xr.Dataset:
    """The nearest product that breaks no law of :func:`~xlsbc.physics.consistency.check`.

    Parameters
    ----------
    product
        As for `check`. NaN stays NaN, and a pixel with a NaN in one class of a fraction keeps the
        others, negative ones as 0.

    Returns
    -------
    Dataset
        The product, with ``lu_fraction``, ``lc_fraction``, ``lai``, ``lai_lv``, ``lai_hv``, ``cvl``
        and ``cvh`` changed where a law is broken by more than rounding, and to the bit as they were
        elsewhere. Lazy where the product is. Where one of them had another name or other dims, only
        what is checked, under canonical names. Expectations, which are no laws, are left alone.

    Raises
    ------
    CubeError
        If the product has nothing that could be checked.
    """
    found, problems = named(product)
    if not found.data_vars:
        raise CubeError(
            "expected a product with land use, land cover or LAI; nothing in it can be reconciled",
            [f"none of {', '.join(CHECKED)} found; conform the product first", *problems],
        )
    limits = {
        rule.name: max(rule.as_stored(found).limit, rule.as_stored(found).tolerance)
        for rule in RULES
    }
    work = found.copy()
    for name, dim in (("lu_fraction", "lu_class"), ("lc_fraction", "lc_class")):
        if name in work:
            limit = limits["simplex_error_" + dim[:2]]
            work[name] = _apply(_onto_simplex, [work[name]], [dim], limit=limit)
    if {"lu_fraction", "lc_fraction"} <= set(work):
        work["lu_fraction"] = _use_of_cover(work, limits["incompatible_mass"])
    if {"cvl", "cvh"} <= set(work):
        work = work.assign(_covers(work))
    if "lai" in work:
        work["lai"] = _bounded_lai(work, limits["lai_above_bound"])
    work = work.assign(_split(work, limits["lai_closure"]))
    if all(name in product and product[name].dims == work[name].dims for name in work):
        return product.assign({name: work[name] for name in work})
    return work.assign_attrs(product.attrs)


def _onto_simplex(fraction: np.ndarray, limit: float) -> np.ndarray:
    """Rows ``(..., class)`` projected onto the simplex where they are not on it."""
    rows = fraction.astype("float64")
    off = (abs(rows.sum(-1) - 1) > limit) | (rows < 0).any(-1)
    if not off.any():
        return fraction
    # What the known classes of a row with a gap sum to cannot be told.
    fraction = np.where(rows < 0, 0, fraction)
    off &= ~np.isnan(rows).any(-1)
    wrong = rows[off]
    ordered = -np.sort(-wrong, axis=-1)
    excess = ordered.cumsum(-1) - 1
    place = np.arange(1, wrong.shape[-1] + 1)
    last = (ordered - excess / place > 0).sum(-1, keepdims=True)
    shift = np.take_along_axis(excess, last - 1, -1) / last
    projected = fraction.copy()
    projected[off] = np.maximum(wrong - shift, 0)
    return projected


def _use_of_cover(work: xr.Dataset, limit: float) -> xr.DataArray:
    possible = compatible_pairs(work)
    use, cover = work["lu_fraction"], work["lc_fraction"]
    if possible is None or not possible.any(0).all():
        return use
    if "year" in use.dims and "year" in cover.dims:
        cover = cover.reindex(year=use["year"])  # a year without cover keeps its use
    return _apply(_fitted, [use, cover], ["lu_class", "lc_class"], possible=possible, limit=limit)


def _fitted(use: np.ndarray, cover: np.ndarray, possible: np.ndarray, limit: float) -> np.ndarray:
    """Use ``(..., lu)`` brought to what the cover ``(..., lc)`` bears where it is not."""
    cover = np.broadcast_to(cover, (*use.shape[:-1], cover.shape[-1]))
    off = impossible_mass(use, cover, possible) > limit
    if not off.any():
        return use
    fitted = use.copy()
    lu, lc = use[off].astype("float64"), cover[off].astype("float64")
    slabs = [slice(i, i + _SLAB) for i in range(0, len(lu), _SLAB)]
    fitted[off] = np.concatenate([_fit(lu[slab], lc[slab], possible) for slab in slabs])
    return fitted


def _fit(lu: np.ndarray, lc: np.ndarray, possible: np.ndarray) -> np.ndarray:
    lu = np.maximum(lu, _TRACE)
    lc = lc / lc.sum(1, keepdims=True)
    joint = possible * lu[:, :, None]
    joint = joint * (lc / joint.sum(1))[:, None]
    for _ in range(_ITERATIONS):
        rows = joint.sum(2)
        joint = joint * np.divide(lu, rows, out=np.zeros_like(lu), where=rows > 0)[:, :, None]
        columns = joint.sum(1)
        joint = joint * np.divide(lc, columns, out=np.zeros_like(lc), where=columns > 0)[:, None]
    return joint.sum(2) / joint.sum((1, 2))[:, None]


def _covers(work: xr.Dataset) -> dict[str, xr.DataArray]:
    """``cvl`` and ``cvh`` as the cover has them, and with room for each other where it is not."""
    covers = {}
    for name, other, kind in (("cvl", "cvh", "low"), ("cvh", "cvl", "high")):
        covers[name] = _apply(_room, [work[name], work[other]], limit=CLOSURE_LIMIT)
        if "lc_fraction" in work:
            members = [each.vegetation == kind for each in classes_of(work)]
            share = weighted_sum(work["lc_fraction"], "lc_class", members)
            covers[name] = _apply(_replaced, [work[name], share, covers[name]], limit=CLOSURE_LIMIT)
    return covers


def _room(one: np.ndarray, other: np.ndarray, limit: float) -> np.ndarray:
    """The first of the nearest two covers that are not negative and leave room for each other."""
    first, second = np.maximum(one, 0).astype("float64"), np.maximum(other, 0).astype("float64")
    over = first + second - 1
    # Half of what is too much is taken from each, unless one of them has less than that.
    nearer = np.clip(first - over / 2, 0, 1)
    return _where(over > limit, nearer, np.maximum(one, 0))


def _replaced(
    value: np.ndarray, wanted: np.ndarray, otherwise: np.ndarray, limit: float
) -> np.ndarray:
    wrong = (abs(wanted - value.astype("float64")) > limit) | (value < 0)
    return np.where(np.isnan(wanted), otherwise, _where(wrong, wanted, value))


def _bounded_lai(work: xr.Dataset, limit: float) -> xr.DataArray:
    """LAI within what the cover can bear, else what high and low vegetation can, else any class."""
    most = highest_lai(work)
    bound = xr.DataArray(most["lai"])
    if set(SPLIT) <= set(work):
        split = work["cvl"].astype("float64") * most["lai_lv"] + work["cvh"] * most["lai_hv"]
        bound = at_times(split, work["lai"]["time"]).fillna(bound)
    if "lc_fraction" in work:
        bounds = [each.lai_max for each in classes_of(work)]
        mixed = weighted_sum(work["lc_fraction"], "lc_class", bounds)
        bound = at_times(mixed, work["lai"]["time"]).fillna(bound)
    return _apply(_clipped, [work["lai"], bound], limit=limit)


def _clipped(lai: np.ndarray, bound: np.ndarray, limit: float) -> np.ndarray:
    bound = np.broadcast_to(bound, lai.shape)
    # Where nothing bears leaves there are none, be they as few as rounding.
    above = (lai - bound > limit) | ((bound <= 0) & (lai > 0))
    return _where(above, np.maximum(bound, 0), np.where(lai < 0, 0, lai))


def _split(work: xr.Dataset, limit: float) -> dict[str, xr.DataArray]:
    """``lai_lv`` and ``lai_hv`` within their bounds, and closing where the product can tell."""
    most = highest_lai(work)
    parts = {
        name: _apply(_clipped, [work[name], xr.DataArray(most[name])], limit=limit)
        for name in ("lai_lv", "lai_hv")
        if name in work
    }
    if not {"lai", *SPLIT} <= set(work):
        return parts
    covers = {name: at_times(work[name], work["lai"]["time"]) for name in ("cvl", "cvh")}
    ends = (most["lai_lv"], most["lai_hv"])
    low, high = ((parts["lai_lv"], covers["cvl"]), (parts["lai_hv"], covers["cvh"]))
    return {
        "lai_lv": _apply(_closing, [*low, *high, work["lai"]], limit=limit, ends=ends),
        "lai_hv": _apply(_closing, [*high, *low, work["lai"]], limit=limit, ends=ends[::-1]),
    }


def _closing(
    leaf: np.ndarray,
    cover: np.ndarray,
    other_leaf: np.ndarray,
    other_cover: np.ndarray,
    lai: np.ndarray,
    limit: float,
    ends: tuple[float, float],
) -> np.ndarray:
    """Leaf area of the one part such that both close: scaled, and then within both bounds."""
    leaf, cover, other_leaf, other_cover, lai = np.broadcast_arrays(
        leaf, cover, other_leaf, other_cover, lai
    )
    share, rest = cover.astype("float64"), other_cover.astype("float64")
    mine, others = (
        np.where(c > 0, x.astype("float64"), 0) * c for x, c in ((leaf, share), (other_leaf, rest))
    )
    total = mine + others
    open_ = (abs(total - lai) > limit) & (share > 0)
    if not open_.any():
        return leaf
    scale = np.divide(lai, total, out=np.zeros(total.shape), where=total > 0)
    # Without any leaf to scale, both parts have the same.
    even = np.divide(lai, share + rest, out=np.zeros(total.shape), where=share + rest > 0)
    wanted = np.where(total > 0, scale * np.where(share > 0, leaf, 0), even)
    least = np.divide(lai - rest * ends[1], share, out=np.zeros(total.shape), where=share > 0)
    wanted = np.minimum(np.maximum(wanted, least), ends[0])
    return _where(open_, np.maximum(wanted, 0), leaf)


def _where(condition: np.ndarray, new: np.ndarray, old: np.ndarray) -> np.ndarray:
    return np.where(condition, new.astype(old.dtype), old)


def _apply(
    function: Callable[..., np.ndarray],
    fields: list[xr.DataArray],
    core: list[str] | None = None,
    **options: Any,
) -> xr.DataArray:
    """A function of fields, block by block, that gives the first of them its new values."""
    first = fields[0]
    dims = [[dim] for dim in core] if core else [[] for _ in fields]
    lazy = [
        each.chunk({d: -1 for d in own}) if each.chunks and own else each
        for each, own in zip(fields, dims, strict=True)
    ]
    result = xr.apply_ufunc(
        function,
        *lazy,
        kwargs=options,
        input_core_dims=dims,
        output_core_dims=[dims[0]],
        dask="parallelized",
        output_dtypes=[first.dtype],
        join="left",
    )
    return _like(result.transpose(*first.dims), first)


def _like(result: xr.DataArray, first: xr.DataArray) -> xr.DataArray:
    """The result with the attributes, encoding and blocks of what it was made of."""
    if first.chunks and result.chunks:
        result = result.chunk(dict(zip(first.dims, first.chunks, strict=True)))
    result.attrs, result.encoding = dict(first.attrs), dict(first.encoding)
    return result
