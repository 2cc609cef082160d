"""What a prediction must beat: fields that a simple method would have given.

Each baseline learns from the training pixels of the reference only, computes a small table from
them (one pass, block by block) and returns fields that are as lazy as the reference is.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from ..cube.schema import is_climatology
from ..physics.consistency import year_index
from .alignment import masked_area
from .boosting import boosting, boosting_fractions
from .coarse import coarse_upsampled, persistence_of_coarse_totals

__all__ = [
    "boosting",
    "boosting_fractions",
    "class_by_month_climatology",
    "coarse_upsampled",
    "persistence",
    "persistence_of_coarse_totals",
]

_LAND = ("lu_fraction", "lc_fraction")


def class_by_month_climatology(
    reference: xr.Dataset, train: xr.DataArray | None = None
) -> xr.DataArray:
    """Mean LAI of the training pixels by dominant land cover and month.

    Parameters
    ----------
    reference
        Conformed cube with ``lai`` (m2 m-2) and, if it has it, ``lc_fraction`` (1), whose dominant
        class is taken as known everywhere, in the pixels that are judged too.
    train
        ``(latitude, longitude)``, True in the training pixels; all by default.

    Returns
    -------
    DataArray
        ``lai`` (time, latitude, longitude), m2 m-2, float32, lazy on lazy data; the mean of all
        classes where land cover is missing or was never seen in training; NaN for a month without
        any training value.
    """
    lai = reference["lai"]
    months = lai["time"].dt.month.values - 1
    maps = _maps_of_times(lai, _dominant_class(reference))
    classes = reference.sizes.get("lc_class", 0)
    table = _class_month_table(lai, maps, masked_area(reference, train), months, classes)
    fields = [
        xr.apply_ufunc(
            _rows,
            one,
            kwargs={"table": table[:, months[steps]]},
            output_core_dims=[["time"]],
            dask="parallelized",
            dask_gufunc_kwargs={"output_sizes": {"time": steps.size}},
            output_dtypes=[np.float32],
        ).transpose("time", ...)
        for steps, one in maps
    ]
    order = np.argsort(np.concatenate([steps for steps, _ in maps]))
    field = xr.concat(fields, "time").isel(time=order).assign_coords(time=lai["time"])
    return field.transpose(*lai.dims).rename("lai").assign_attrs(lai.attrs)


def persistence(reference: xr.Dataset) -> xr.Dataset:
    """Each field as it was a year before, in the same place.

    Parameters
    ----------
    reference
        Conformed cube with any of ``lu_fraction``, ``lc_fraction``, ``lai``.

    Returns
    -------
    Dataset
        Those of the fields that have a year before some year, with the reference's coordinates;
        NaN where the year before is missing; lazy on lazy data.
    """
    before = {}
    for name in _LAND:
        if name in reference:
            years = reference["year"].values
            before[name] = _shifted(reference[name], "year", years - 1)
    if "lai" in reference and not is_climatology(reference["lai"]):
        steps = pd.DatetimeIndex(reference["time"].values) - pd.DateOffset(years=1)
        before["lai"] = _shifted(reference["lai"], "time", steps.values)
    return xr.Dataset({name: field for name, field in before.items() if field is not None})


def _dominant_class(reference: xr.Dataset) -> xr.DataArray:
    """Index of the dominant class (year, latitude, longitude); -1 where land cover is missing."""
    if "lc_fraction" not in reference:
        nothing = xr.full_like(reference["lai"].isel(time=0, drop=True), -1, dtype=int)
        return nothing.expand_dims(year=[0])
    cover = reference["lc_fraction"]
    known = cover.notnull().all("lc_class")
    return cover.fillna(0).argmax("lc_class").where(known, -1).astype(int)


def _maps_of_times(
    lai: xr.DataArray, classes: xr.DataArray
) -> list[tuple[np.ndarray, xr.DataArray]]:
    """Time steps that share a map of classes, and that map; all -1 where a year has no map."""
    index = year_index(lai["time"], classes["year"])
    maps = []
    for year in np.unique(index):
        one = classes.isel(year=max(year, 0), drop=True)
        maps.append((np.flatnonzero(index == year), one if year >= 0 else xr.full_like(one, -1)))
    return maps


def _class_month_table(
    lai: xr.DataArray,
    maps: list[tuple[np.ndarray, xr.DataArray]],
    weight: xr.DataArray,
    months: np.ndarray,
    n_classes: int,
) -> np.ndarray:
    """Mean LAI ``(class + 1, month)``; the last row, which index -1 finds, is over all classes."""
    import dask

    lazy = []
    for steps, classes in maps:
        leaves = lai.isel(time=steps).astype("float64")
        used = leaves.notnull() * weight
        rows = xr.DataArray(np.arange(n_classes + 1), dims="row")
        member = ((classes == rows) | (rows == n_classes)).astype("float64")
        pixels = ("latitude", "longitude")
        lazy.append([xr.dot(member, used * f, dim=pixels) for f in (leaves.fillna(0), 1.0)])
    total, seen = np.zeros((2, n_classes + 1, 12))
    for (steps, _), (sums, weights) in zip(maps, dask.compute(*lazy), strict=True):
        # Several steps may fall in one month, so they are added one by one.
        np.add.at(total.T, months[steps], sums.transpose("time", "row").values)
        np.add.at(seen.T, months[steps], weights.transpose("time", "row").values)
    mean = total / np.where(seen > 0, seen, np.nan)
    return np.where(np.isnan(mean), mean[-1], mean).astype("float32")


def _rows(classes: np.ndarray, *, table: np.ndarray) -> np.ndarray:
    return table[classes]


def _shifted(field: xr.DataArray, dim: str, before: np.ndarray) -> xr.DataArray | None:
    """The field at the steps ``before``, labelled with the field's own; None if it has none."""
    if not np.isin(before, field[dim].values).any():
        return None
    return field.reindex({dim: before}).assign_coords({dim: field[dim]})
