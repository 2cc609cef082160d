"""Land use of coarse cells against the totals that drove it."""

from __future__ import annotations

from functools import partial

import numpy as np
import xarray as xr

from ..cube.grid import position, spacing
from .product import row_weight
from .rule import Rule

TOTAL_LIMIT = 0.01
"""Mean share of a cell that has the wrong use, 1; chosen here: some 8 pixels of a cell of 0.25."""

COVERED = 0.9
"""Part of the cell's area that must be known in pixels, 1: a region's rim has others."""


def rules(cube: xr.Dataset) -> tuple[Rule, ...]:
    """What is expected of a product where ``lu_total`` (1) of a conformed cube is known."""
    if "lu_total" not in cube:
        return ()
    return (
        Rule(
            "coarse_total_residual",
            "Mean share of a coarse cell whose use is not that of its total",
            partial(residual, total=cube["lu_total"]),
            "mean",
            TOTAL_LIMIT,
            law=False,
        ),
    )


def residual(product: xr.Dataset, total: xr.DataArray) -> list[xr.DataArray]:
    """Half the sum over uses of what the cell's mean misses its total by, ``(year, y, x)``, 1.

    The mean is over the cell's known pixels, weighted by area; NaN for a cell of which less than
    nine tenths are known, and for a total that is missing.
    """
    if "lu_fraction" not in product or "year" not in product["lu_fraction"].dims:
        return []
    use = product["lu_fraction"]
    years = np.intersect1d(use["year"].values, total["year"].values)
    ids = [str(each) for each in use["lu_class"].values]
    order = {str(each): i for i, each in enumerate(total["lu_class"].values)}
    if not years.size or set(ids) != set(order):
        return []
    use, total = use.sel(year=years), total.sel(year=years).astype("float64")
    rows, columns = (_members(total, use, axis) for axis in ("latitude", "longitude"))
    wanted = total.isel(
        lu_class=[order[each] for each in ids],
        driver_latitude=rows["cell"].values,
        driver_longitude=columns["cell"].values,
    ).rename(driver_latitude="cell_latitude", driver_longitude="cell_longitude")
    members = [rows["member"], columns["member"]]
    known = use.notnull().all("lu_class") * row_weight(use)
    area = xr.dot(known, *members)
    mean = xr.dot(use.fillna(0).astype("float64") * known, *members) / area.where(area > 0)
    away = abs(mean.drop_vars("lu_class") - wanted.drop_vars("lu_class"))
    away = (away.sum("lu_class", skipna=False) / 2).rename(
        cell_latitude="latitude", cell_longitude="longitude"
    )
    area = area.rename(cell_latitude="latitude", cell_longitude="longitude")
    whole = rows.attrs["pixels"] * columns.attrs["pixels"] * row_weight(away)
    return [away.where(area >= COVERED * whole)]


def _members(total: xr.DataArray, use: xr.DataArray, axis: str) -> xr.Dataset:
    """Which row or column lies in which cell, of the cells that have any, and their positions."""
    coarse = total[f"driver_{axis}"].values.astype(float)
    fine = use[axis].values.astype(float)
    steps = abs(spacing(coarse, axis)), abs(spacing(fine, axis))
    cells = np.rint(position(coarse, fine)).astype(int)
    away = abs(coarse[cells] - fine)
    # A single cell has no size, so that all pixels lie in it.
    inside = np.minimum(away, 360 - away) <= np.nan_to_num(0.5 * steps[0], nan=np.inf)
    present = np.unique(cells[inside])
    member = (cells[:, None] == present) & inside[:, None]
    dim = f"cell_{axis}"
    return xr.Dataset(
        {"member": ((axis, dim), member.astype("float64")), "cell": (dim, present)},
        {axis: use[axis], dim: coarse[present]},
        {"pixels": np.nan_to_num(steps[0] / steps[1], nan=fine.size)},
    )
