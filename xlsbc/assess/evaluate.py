"""A prediction held against its reference, beside what simple methods reach on the same pixels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import numpy as np
import xarray as xr

from ..errors import CubeError
from . import baselines as simple
from .alignment import align, align_mask, mask_mismatches, masked_area, mismatches
from .groups import Groups, classes, months
from .metrics import (
    anomaly_scores,
    anomaly_sums,
    continuous_scores,
    continuous_sums,
    fraction_scores,
    fraction_sums,
    monthly_climatology,
)

PREDICTION = "prediction"

# Prefix in the table, and the dimension of the classes if it has any.
_TARGETS = {
    "lai": ("lai", None),
    "lu_fraction": ("lu", "lu_class"),
    "lc_fraction": ("lc", "lc_class"),
}
_SCORES = {
    "rmse": ("root mean square error", None),
    "bias": ("mean of prediction minus reference", None),
    "mae": ("mean absolute error", None),
    "r2": ("one minus error variance over reference variance", "1"),
    "anomaly_correlation": (
        "correlation of anomalies from the reference's mean of the month, pixel by pixel",
        "1",
    ),
    "bray_curtis": ("sum of absolute differences of fractions over sum of both", "1"),
    "overall_accuracy": ("share of pixels with the right dominant class", "1"),
    "miou": ("mean intersection over union of the dominant classes", "1"),
    "f1": ("mean F1 of the dominant classes", "1"),
    "quantity": ("disagreement of dominant classes in how much there is of each", "1"),
    "allocation": ("disagreement of dominant classes in where each is", "1"),
    "n": ("values compared", "1"),
}
_SCORERS = {
    "continuous": continuous_scores,
    "anomaly": anomaly_scores,
    "fraction": fraction_scores,
}
_DESCRIPTIONS = {
    PREDICTION: "what is judged",
    "class_by_month_climatology": (
        "mean LAI of the training pixels by month and by the reference's dominant land cover"
    ),
    "persistence_of_coarse_totals": (
        "by coarse cell: land use of the driver, first-year land cover of the training pixels"
    ),
    "persistence": (
        "the reference of the year before, in the same pixel: it sees the held-out pixels' past"
    ),
    "gradient_boosting": (
        "histogram gradient boosting on single pixels, with the prediction's inputs and given "
        "values, and latitude and longitude besides"
    ),
}

# Numpy-backed data are scored in such blocks, so that float64 copies stay small.
_BLOCK = {"year": 1, "time": 12}


def evaluate(
    pred: xr.Dataset,
    reference: xr.Dataset,
    *,
    where: xr.DataArray | None = None,
    train: xr.DataArray | None = None,
    baselines: Mapping[str, xr.Dataset | xr.DataArray] | None = None,
    by: Literal["class", "month"] | Groups | None = None,
) -> xr.Dataset:
    """Skill of a prediction and of the baselines.

    Parameters
    ----------
    pred
        Conformed prediction with any of ``lai`` (m2 m-2), ``lu_fraction``, ``lc_fraction`` (1). Its
        attribute ``xlsbc_given`` names what was given: that is not scored.
    reference
        Conformed cube with the same variables on the same grid; it may hold more times and years.
        Those that only the prediction has are not scored.
    where
        ``(latitude, longitude)``, True in the held-out pixels, which are scored; all by default.
    train
        ``(latitude, longitude)``, True in the training pixels, which the baselines are made from;
        all by default.
    baselines
        More products to score, by name: Datasets like ``pred``, or LAI alone.
    by
        Scores for each group instead of all values together: ``"class"``, the reference's dominant
        land use for ``lu``, land cover for ``lc`` and ``lai``; ``"month"``; or what
        :mod:`.groups` makes of regions or elevation. A target that cannot be told apart so (there
        is no month in yearly fractions) has no columns.

    Returns
    -------
    Dataset
        Along ``product`` (``"prediction"`` first) and the dimension of the groups: ``lai_rmse``,
        ``lai_bias``, ``lai_mae`` (m2 m-2), ``lai_r2``, ``lai_anomaly_correlation`` (1, against the
        reference's mean of each month over all its years), ``lu_mae``, ``lu_bray_curtis``,
        ``lu_overall_accuracy``, ``lu_miou``, ``lu_f1``, ``lu_quantity``, ``lu_allocation`` (1; see
        :func:`.metrics.fraction_scores`), the same for
        ``lc``, and the number of values compared, ``lai_n``, ``lu_n``, ``lc_n``. Area-weighted, in
        float64, over the values where the prediction, the product and the reference are finite;
        NaN with 0 values where there is none. The coordinate ``description`` says what each product
        is. Computes, reading both datasets block by block.

    Raises
    ------
    CubeError
        If grids, legends, times, masks or groups do not match, or nothing can be scored: lists
        everything.
    """
    extra = _as_datasets(baselines or {})
    pred = _shared(pred, reference)
    names = _scored(pred, reference)
    _require({PREDICTION: pred, **extra}, reference, names, {"where": where, "train": train})

    reference = _in_blocks(reference)
    products = {PREDICTION: pred, **_simple_products(reference, names, train), **extra}
    table = score(products, reference, where=where, by=by)
    described = [_DESCRIPTIONS.get(name, "given by the caller") for name in products]
    table = table.assign_coords(description=("product", described))
    return table.assign_attrs(_facts(pred, where, train))


def score(
    products: Mapping[str, xr.Dataset],
    reference: xr.Dataset,
    *,
    where: xr.DataArray | None = None,
    by: Literal["class", "month"] | Groups | None = None,
) -> xr.Dataset:
    """Skill of products alone, without the baselines that `evaluate` puts beside them.

    Parameters
    ----------
    products
        By name, conformed, each with any of ``lai`` (m2 m-2), ``lu_fraction``, ``lc_fraction``
        (1). Of the first it is scored what its attribute ``xlsbc_given`` does not name, and where
        it is finite; of the others the same.
    reference, where, by
        As in `evaluate`. Times and years that only a product has are not scored.

    Returns
    -------
    Dataset
        The columns of `evaluate` for the targets that the first product has, along ``product`` in
        the order of ``products``. Computes, reading all datasets block by block.

    Raises
    ------
    CubeError
        As `evaluate`; if there is no product.
    """
    if not products:
        raise CubeError("expected at least one product to score; found none; name one")
    products = {name: _shared(data, reference) for name, data in products.items()}
    names = _scored(next(iter(products.values())), reference)
    _require(products, reference, names, {"where": where})
    reference = _in_blocks(reference)
    products = {name: _in_blocks(data) for name, data in products.items()}
    weight = masked_area(reference, where)
    return _scores(products, reference, _grouped(reference, names, by), weight)


def _given(product: xr.Dataset) -> list[str]:
    return str(product.attrs.get("xlsbc_given", "")).split()


def _scored(product: xr.Dataset, reference: xr.Dataset) -> list[str]:
    """Targets that both have and that the product was not given."""
    given = _given(product)
    return [n for n in _TARGETS if n in product and n in reference and n not in given]


def _shared(product: xr.Dataset, reference: xr.Dataset) -> xr.Dataset:
    """The product at the times and years that the reference has as well, if there are any."""
    chosen = {}
    for dim in ("time", "year"):
        if dim in product.indexes and dim in reference.indexes:
            both = np.intersect1d(product[dim].values, reference[dim].values)
            if 0 < both.size < product.sizes[dim]:
                chosen[dim] = both
    return product.sel(chosen)


def _simple_products(
    reference: xr.Dataset, names: list[str], train: xr.DataArray | None
) -> dict[str, xr.Dataset]:
    wanted = reference[[*names, *(n for n in ("lc_fraction", "lu_total") if n in reference)]]
    products = {}
    if "lai" in names:
        climatology = simple.class_by_month_climatology(wanted, train)
        products["class_by_month_climatology"] = climatology.to_dataset()
    if {"lu_fraction", "lc_fraction"} & set(names):
        products["persistence_of_coarse_totals"] = simple.persistence_of_coarse_totals(
            wanted[[n for n in wanted if n in names or n == "lu_total"]], train=train
        )
    before = simple.persistence(wanted[names])
    if before:
        products["persistence"] = before
    return products


def _scores(
    products: Mapping[str, xr.Dataset],
    reference: xr.Dataset,
    groups: Mapping[str, Groups | None],
    weight: xr.DataArray,
) -> xr.Dataset:
    import dask

    usual = monthly_climatology(reference["lai"]) if "lai" in groups else None
    first = next(iter(products.values()))
    sums = {
        (name, product): _sums(
            data[name], first[name], reference[name], weight, groups[name], usual
        )
        for name in groups
        for product, data in products.items()
        if name in data
    }
    (sums,) = dask.compute(sums)
    columns: dict[str, xr.DataArray] = {}
    for name in groups:
        rows = [
            _row(sums[name, product]).expand_dims(product=[product])
            for product in products
            if (name, product) in sums
        ]
        table = xr.concat(rows, "product").reindex(product=list(products))
        for score in (score for score in _SCORES if score in table):
            long_name, units = _SCORES[score]
            units = units or reference[name].attrs.get("units", "1")
            column = table[score]
            column = column.fillna(0).astype("int64") if score == "n" else column
            columns[f"{_TARGETS[name][0]}_{score}"] = column.assign_attrs(
                long_name=long_name, units=units
            )
    return xr.Dataset(columns)


def _row(sums: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """Scores of one product from the sums of each kind."""
    scores = xr.Dataset()
    for kind, each in sums.items():
        scores = _SCORERS[kind](each).assign(scores)
    return scores


def _sums(
    product: xr.DataArray,
    first: xr.DataArray,
    reference: xr.DataArray,
    weight: xr.DataArray,
    by: Groups | None,
    usual: xr.DataArray | None,
) -> dict[str, xr.Dataset]:
    """Sums over the values that the first product has as well: one sample for all of them."""
    name = str(reference.name)
    first, truth = align(first, reference)
    steps = {dim: truth[dim].values for dim in ("time", "year") if dim in truth.dims}
    product, _ = align(product.rename(name).reindex(steps), truth)
    product = product.where(first.notnull())
    class_dim = _TARGETS[name][1]
    if class_dim:
        return {"fraction": fraction_sums(product, truth, weight, class_dim, by=by)}
    return {
        "continuous": continuous_sums(product, truth, weight, by=by),
        "anomaly": anomaly_sums(product, truth, weight, by=by, climatology=usual),
    }


def _grouped(
    reference: xr.Dataset, names: list[str], by: str | Groups | None
) -> dict[str, Groups | None]:
    """The groups of each target that can be told apart by them."""
    if by is None:
        return dict.fromkeys(names)
    found = {name: _groups(reference, name, by) for name in names}
    kept: dict[str, Groups | None] = {k: v for k, v in found.items() if v is not None}
    if not kept:
        wanted = by if isinstance(by, str) else f"{by.name} over {by.index.dims}"
        raise CubeError(
            f"expected by='class', 'month' or groups over dimensions of {', '.join(names)}; found "
            f"{wanted}, which none of them can be told apart by; classes of lai need lc_fraction"
        )
    return kept


def _groups(reference: xr.Dataset, name: str, by: str | Groups) -> Groups | None:
    field = reference[name]
    if isinstance(by, Groups):
        return by if set(by.index.dims) <= set(field.dims) else None
    if by == "month" and "time" in field.dims:
        return months(field["time"])
    if by != "class":
        return None
    if class_dim := _TARGETS[name][1]:
        return classes(field, class_dim)
    if "lc_fraction" not in reference:
        return None
    return classes(reference["lc_fraction"], "lc_class", field["time"])


def _require(
    products: Mapping[str, xr.Dataset],
    reference: xr.Dataset,
    names: list[str],
    masks: Mapping[str, xr.DataArray | None],
) -> None:
    problems = list(_problems(products, reference, names, masks))
    name, first = next(iter(products.items()))
    shown = f"the {name}" if name == PREDICTION else repr(name)
    if not names:
        problems.append(
            f"expected one of {', '.join(_TARGETS)} in both datasets and predicted; found "
            f"{', '.join(n for n in _TARGETS if n in first) or 'none'} in {shown}, "
            f"{', '.join(n for n in _TARGETS if n in reference) or 'none'} in the reference, "
            f"given {', '.join(_given(first)) or 'none'}; conform both"
        )
    if problems:
        raise CubeError(f"{shown} cannot be evaluated", problems)


def _problems(
    products: Mapping[str, xr.Dataset],
    reference: xr.Dataset,
    names: list[str],
    masks: Mapping[str, xr.DataArray | None],
) -> Iterator[str]:
    for name in names:
        for i, (product, data) in enumerate(products.items()):
            if name in data:
                found = mismatches(data[name], reference[name])
                yield from (
                    f"product {product!r}, {problem}" if i else problem for problem in found
                )
    for name, mask in masks.items():
        if mask is not None:
            yield from mask_mismatches(mask.rename(name), reference)


def _facts(
    pred: xr.Dataset, where: xr.DataArray | None, train: xr.DataArray | None
) -> dict[str, str | int]:
    """What the numbers rest on, as attributes of the table."""
    scored = "all pixels" if where is None else f"{int(where.sum()):,} held-out pixels"
    made = "all pixels" if train is None else f"{int(train.sum()):,} training pixels"
    facts: dict[str, str | int] = {
        "title": "Skill",
        "scored": scored,
        "baselines_made_from": made,
        "given": " ".join(_given(pred)),
        "emulator": str(pred.attrs.get("xlsbc_emulator", "")),
    }
    if where is not None and train is not None:
        facts["pixels_in_both"] = int((where & align_mask(train, where.to_dataset(name="w"))).sum())
    return facts


def _as_datasets(products: Mapping[str, xr.Dataset | xr.DataArray]) -> dict[str, xr.Dataset]:
    return {
        name: data if isinstance(data, xr.Dataset) else data.to_dataset(name="lai")
        for name, data in products.items()
    }


def _in_blocks(data: xr.Dataset) -> xr.Dataset:
    """The targets in blocks; what is in blocks already stays in them."""
    blocks = {
        name: data[name].chunk({d: n for d, n in _BLOCK.items() if d in data[name].dims})
        for name in _TARGETS
        if name in data and not data[name].chunks
    }
    return data.assign(blocks)
