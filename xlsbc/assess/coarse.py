"""What a coarse cell knows, spread evenly over its pixels.

Means of the training pixels are computed in one pass, block by block; the fields are as lazy as
the reference is.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from ..cube.grid import position
from .alignment import masked_area
from .steps import nearest

# Coarse cells where the cube brings none: those of LUH2 (Hurtt et al. 2020), degrees.
_COARSE_STEP = 0.25

_LAND = {"lu_fraction": "lu_class", "lc_fraction": "lc_class"}


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


def coarse_upsampled(
    reference: xr.Dataset, cube: xr.Dataset | None = None, train: xr.DataArray | None = None
) -> xr.Dataset:
    """Every field as a coarse product tells it: one value for all pixels of a coarse cell.

    Parameters
    ----------
    reference
        Conformed cube with any of ``lu_fraction``, ``lc_fraction`` (1), ``lai`` (m2 m-2).
    cube
        Conformed cube with ``lu_total`` (1); the reference by default.
    train
        ``(latitude, longitude)``, True in the training pixels; all by default.

    Returns
    -------
    Dataset
        Area-weighted means of the training pixels in the pixel's 0.25 degree cell: of fractions
        in the nearest year with data, of ``lai`` in the calendar month, over all years, and NaN
        for a month without any. A cell without training pixels takes the mean of its neighbours,
        from the nearest outward. ``lu_fraction`` is the ``lu_total`` of the pixel's cell instead,
        in the nearest year that has it, if there is one. float32, lazy on lazy data; the means are
        computed.
    """
    cube = reference if cube is None else cube
    weight, fields = masked_area(reference, train), {}
    for name in (*_LAND, "lai"):
        if name not in reference:
            continue
        if name == "lu_fraction" and "lu_total" in cube:
            table, cells = _driver_totals(cube["lu_total"], reference)
        else:
            table, cells = _cell_means(reference[name], weight)
        fields[name] = reference[name].map_blocks(
            _spread,
            kwargs={"table": _nearest_year(table), "cells": cells},
            template=reference[name].astype("f4"),
        )
    return xr.Dataset(fields)


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
    cells = _cells(reference[name])
    for year in range(reference.sizes["year"]):
        total, seen = _cell_sums(reference[name].isel(year=year, drop=True), weight, cells)
        if seen.values.any():
            break
    mean = (total / seen.where(seen > 0)).transpose(dim, "cell_latitude", "cell_longitude")
    return mean.copy(data=_fill_outward(mean.values)), _labelled(cells, reference)


def _cell_means(
    field: xr.DataArray, weight: xr.DataArray
) -> tuple[xr.DataArray, dict[str, xr.DataArray]]:
    """Mean of each coarse cell by year, or by month, gaps filled from around; the cells."""
    cells = _cells(field)
    step = "year" if "year" in field.dims else "time"
    blocks = field if field.chunks else field.chunk({step: 12})  # float64 copies stay small
    total, seen = _cell_sums(blocks, weight, cells)
    if step == "time":
        step = "month"
        total, seen = (each.groupby("time.month").sum() for each in (total, seen))
    mean = (total / seen.where(seen > 0)).transpose(step, ..., "cell_latitude", "cell_longitude")
    tables = mean.values.reshape(len(mean), -1, *mean.shape[-2:])
    filled = np.stack([_fill_outward(table) for table in tables])
    return mean.copy(data=filled.reshape(mean.shape)), _labelled(cells, field)


def _cells(field: xr.DataArray) -> dict[str, np.ndarray]:
    """Number of the coarse cell of each row and column, from the north and the west as pixels."""
    cells = {
        "latitude": np.floor((90 - field["latitude"].values) / _COARSE_STEP).astype(int),
        "longitude": np.floor((field["longitude"].values + 180) / _COARSE_STEP).astype(int),
    }
    return {axis: index - index.min() for axis, index in cells.items()}


def _cell_sums(
    field: xr.DataArray, weight: xr.DataArray, cells: dict[str, np.ndarray]
) -> tuple[xr.DataArray, xr.DataArray]:
    """Weighted sums over the pixels of each cell, and of their weights; in memory."""
    import dask

    members = [
        xr.DataArray(np.eye(index.max() + 1)[index], dims=(axis, f"cell_{axis}"))
        for axis, index in cells.items()
    ]
    known = field.notnull()
    used = known.all([dim for dim in _LAND.values() if dim in field.dims]) * weight
    return dask.compute(*(xr.dot(term, *members) for term in (field.fillna(0) * used, used)))


def _nearest_year(table: xr.DataArray) -> xr.DataArray:
    """The table with years that it does not know anything of as the nearest that it does."""
    if "year" not in table.dims:
        return table
    known = table.notnull().any([dim for dim in table.dims if dim != "year"]).values
    if not known.any():
        return table
    years = table["year"]
    return table.isel(year=nearest(known, years.values)).assign_coords(year=years)


def _labelled(
    cells: dict[str, np.ndarray], reference: xr.Dataset | xr.DataArray
) -> dict[str, xr.DataArray]:
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
    if "month" in table.dims:
        table = table.sel(month=block["time"].dt.month, drop=True)
    classes = [dim for dim in _LAND.values() if dim in block.dims]
    field = table.sel({dim: block[dim].values for dim in classes}).isel(index)
    field = field.broadcast_like(block.isel(dict.fromkeys(classes, 0), drop=True))
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
