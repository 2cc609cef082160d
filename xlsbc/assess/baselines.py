"""What a prediction must beat: fields that a simple method would have given.

Each baseline learns from the training pixels of the reference only, computes a small table from
them (one pass, block by block) and returns fields that are as lazy as the reference is.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from ..cube.grid import Grid, position
from ..cube.schema import is_climatology
from ..physics.consistency import year_index
from .alignment import align_mask
from .boosting import boosting

__all__ = [
    "boosting",
    "class_by_month_climatology",
    "persistence",
    "persistence_of_coarse_totals",
]

# Coarse cells where the cube brings none: those of LUH2 (Hurtt et al. 2020), degrees.
_COARSE_STEP = 0.25

_LAND = {"lu_fraction": "lu_class", "lc_fraction": "lc_class"}


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


def persistence_of_coarse_totals(
    reference: xr.Dataset, cube: xr.Dataset | None = None, train: xr.DataArray | None = None
) -> xr.Dataset:
    """Land use and land cover as a coarse cell knows them, spread evenly over its pixels.

    Parameters
    ----------
    reference
        Conformed cube with ``lu_fraction`` or ``lc_fraction`` (1).
    cube
        Conformed cube with ``lu_total`` (1); the reference by default.
    train
        ``(latitude, longitude)``, True in the training pixels; all by default.

    Returns
    -------
    Dataset
        ``lu_fraction``: the year's ``lu_total`` of the pixel's cell. ``lc_fraction``, and land use
        without ``lu_total``: the area-weighted mean of the training pixels of the first year with
        data in the pixel's 0.25 degree cell, for all years; a cell without training pixels takes
        the mean of its neighbours, from the nearest outward. float32, lazy on lazy data.
    """
    cube = reference if cube is None else cube
    fields = {}
    for name, dim in _LAND.items():
        if name not in reference:
            continue
        if name == "lu_fraction" and "lu_total" in cube:
            table, cells = _driver_totals(cube["lu_total"], reference)
        else:
            table, cells = _first_year_totals(reference, name, dim, masked_area(reference, train))
        fields[name] = reference[name].map_blocks(
            _spread, kwargs={"table": table, "cells": cells}, template=reference[name].astype("f4")
        )
    return xr.Dataset(fields)


def masked_area(reference: xr.Dataset, mask: xr.DataArray | None) -> xr.DataArray:
    """Cell area (m2) where the mask (latitude, longitude) is True, 0 elsewhere; all without one."""
    area = Grid.of(reference).cell_area().assign_coords(latitude=reference["latitude"])
    if mask is None:
        mask = xr.DataArray(
            np.ones((reference.sizes["latitude"], reference.sizes["longitude"]), dtype=bool),
            coords={dim: reference[dim] for dim in ("latitude", "longitude")},
        )
    return align_mask(mask, reference) * area


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


def _driver_totals(
    total: xr.DataArray, reference: xr.Dataset
) -> tuple[xr.DataArray, dict[str, xr.DataArray]]:
    """Totals of the reference's years by driver cell, and the cell of each row and column."""
    cells = {
        axis: np.rint(position(total[f"driver_{axis}"].values, reference[axis].values)).astype(int)
        for axis in ("latitude", "longitude")
    }
    table = total.reindex(year=reference["year"].values).compute()
    table = table.rename(driver_latitude="cell_latitude", driver_longitude="cell_longitude")
    return table, _labelled(cells, reference)


def _first_year_totals(
    reference: xr.Dataset, name: str, dim: str, weight: xr.DataArray
) -> tuple[xr.DataArray, dict[str, xr.DataArray]]:
    """Mean of each coarse cell in the first year with data, gaps filled from around; the cells."""
    import dask

    # Cells count from the north and the west, as pixels do.
    cells = {
        "latitude": np.floor((90 - reference["latitude"].values) / _COARSE_STEP).astype(int),
        "longitude": np.floor((reference["longitude"].values + 180) / _COARSE_STEP).astype(int),
    }
    cells = {axis: index - index.min() for axis, index in cells.items()}
    members = [
        xr.DataArray(np.eye(index.max() + 1)[index], dims=(axis, f"cell_{axis}"))
        for axis, index in cells.items()
    ]
    for year in range(reference.sizes["year"]):
        field = reference[name].isel(year=year, drop=True)
        used = field.notnull().all(dim) * weight
        sums = [xr.dot(term, *members) for term in (field.fillna(0) * used, used)]
        total, seen = dask.compute(*sums)
        if seen.values.any():
            break
    mean = (total / seen.where(seen > 0)).transpose(dim, "cell_latitude", "cell_longitude")
    return mean.copy(data=_fill_outward(mean.values)), _labelled(cells, reference)


def _labelled(cells: dict[str, np.ndarray], reference: xr.Dataset) -> dict[str, xr.DataArray]:
    return {
        axis: xr.DataArray(index, coords={axis: reference[axis].values}, dims=axis)
        for axis, index in cells.items()
    }


def _spread(
    block: xr.DataArray, *, table: xr.DataArray, cells: dict[str, xr.DataArray]
) -> xr.DataArray:
    """Every pixel of the block with the value of its cell, float32."""
    index = {f"cell_{axis}": cells[axis].sel({axis: block[axis].values}) for axis in cells}
    if "year" in table.dims:
        table = table.sel(year=block["year"].values)
    class_dim = next(dim for dim in _LAND.values() if dim in block.dims)
    field = table.sel({class_dim: block[class_dim].values}).isel(index)
    field = field.broadcast_like(block.isel({class_dim: 0}, drop=True))
    return block.copy(data=field.transpose(*block.dims).values.astype("float32"))


def _fill_outward(table: np.ndarray) -> np.ndarray:
    """``(class, row, column)`` with gaps filled by the mean of the eight around, ring by ring."""
    filled = table.copy()
    missing = np.isnan(filled).any(axis=0)
    while missing.any() and not missing.all():
        padded = np.pad(filled, ((0, 0), (1, 1), (1, 1)), constant_values=np.nan)
        around = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
        seen = np.isfinite(around).sum(axis=(-2, -1))
        mean = np.nansum(around, axis=(-2, -1)) / np.where(seen > 0, seen, np.nan)
        filled = np.where(missing, mean, filled)
        missing = np.isnan(filled).any(axis=0)
    return filled
