"""Predictors of single pixels as the columns of a table, a row for each pixel and step.

What is coarse stays coarse until the rows of one step are asked for: forcing and drivers are never
on the target grid for all times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from ..cube.grid import position
from ..cube.schema import is_climatology
from ..physics.consistency import year_index

ROLES = ("static", "forcing", "scalar", "driver")


@dataclass(frozen=True)
class Columns:
    """Predictors of some pixels, stored as coarsely as they are."""

    fixed: np.ndarray  # (pixel, column)
    mapped: list[tuple[np.ndarray, np.ndarray]]  # (year, class, pixel), the year of each step
    coarse: list[tuple[np.ndarray, np.ndarray]]  # (step, column, cell), the cell of each pixel

    @classmethod
    def of(
        cls,
        cube: xr.Dataset,
        predictors: Sequence[str],
        given: Sequence[str],
        pixels: np.ndarray,
        target: xr.DataArray,
    ) -> Columns:
        """Read them from the cube: it computes.

        Parameters
        ----------
        cube
            Conformed.
        predictors
            Names of variables that have a `role`.
        given
            Names of class fractions.
        pixels
            Numbers of the pixels along rows of the target grid.
        target
            Field whose times, or years, are the steps.
        """
        by_role = {name: [p for p in predictors if role(cube[p]) == name] for name in ROLES}
        row, column = np.unravel_index(pixels, (cube.sizes["latitude"], cube.sizes["longitude"]))
        fixed = [cube["latitude"].values[row], cube["longitude"].values[column]]
        fixed += [
            cube[name].transpose("latitude", "longitude").values[row, column]
            for name in by_role["static"]
        ]
        steps = target["time"] if "time" in target.dims else target["year"]
        years = steps.dt.year.values if steps.name == "time" else steps.values
        mapped = [(_class_maps(cube[name], row, column), _maps(steps, cube)) for name in given]
        coarse = [
            (_forcing_means(cube[name], target), _cells(cube, cube[name], row, column))
            for name in by_role["forcing"]
        ]
        coarse += [
            (_yearly(cube[name], years), np.zeros(pixels.size, dtype=int))
            for name in by_role["scalar"]
        ]
        coarse += [
            (_yearly(cube[name], years), _cells(cube, cube[name], row, column))
            for name in by_role["driver"]
        ]
        return cls(np.stack(fixed, axis=1).astype("float32"), mapped, coarse)

    def at(self, step: int, chosen: np.ndarray) -> np.ndarray:
        """Columns ``(pixel, column)`` of the chosen pixels at one step, float32."""
        parts = [self.fixed[chosen]]
        for maps, year in self.mapped:
            known = maps[year[step]] if year[step] >= 0 else np.full_like(maps[0], np.nan)
            parts.append(known[:, chosen].T)
        parts += [values[step][:, cell[chosen]].T for values, cell in self.coarse]
        return np.concatenate(parts, axis=1, dtype="float32")

    def rows(self, numbers: np.ndarray, steps: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """Columns of the rows with these ascending numbers, counted along (step, chosen pixel)."""
        at_step, pixel = np.divmod(numbers, chosen.size)
        return np.concatenate(
            [self.at(int(step), chosen[pixel[at_step == i]]) for i, step in enumerate(steps)]
        )


def role(variable: xr.DataArray) -> str | None:
    """Role by dimensions: names of a user's own statics and forcings are in no vocabulary."""
    dims = set(variable.dims)
    roles = {
        "static": {"latitude", "longitude"},
        "forcing": {"forcing_time", "forcing_latitude", "forcing_longitude"},
        "scalar": {"year"},
        "driver": {"year", "lu_class", "driver_latitude", "driver_longitude"},
    }
    return next((name for name in ROLES if roles[name] == dims), None)


def _maps(steps: xr.DataArray, cube: xr.Dataset) -> np.ndarray:
    """Position of the year's map at each step, -1 where there is none."""
    if steps.name == "time":
        return year_index(steps, cube["year"])
    return cube.indexes["year"].get_indexer(steps.values)


def _class_maps(fraction: xr.DataArray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """``(year, class, pixel)``."""
    fraction = fraction.transpose("year", ..., "latitude", "longitude")
    return np.stack([fraction.isel(year=i).values[:, row, column] for i in range(len(fraction))])


def _forcing_means(forcing: xr.DataArray, target: xr.DataArray) -> np.ndarray:
    """``(step, column, cell)``: mean of the month and of the year of each time, or of each year."""
    forcing = forcing.transpose("forcing_time", "forcing_latitude", "forcing_longitude")
    values = forcing.values.reshape(forcing.sizes["forcing_time"], -1)
    had = forcing["forcing_time"].dt
    if "time" not in target.dims:
        # A single map holds at all times, so it goes with the mean of all of them.
        years = 0 if is_climatology(forcing) or target.sizes["year"] == 1 else 1
        wanted_years = years * target["year"].values
        return _group_means(values, years * had.year.values, wanted_years)[:, None]
    wanted = target["time"].dt
    # A climatology of either has no years of its own: months are matched by name.
    years = 0 if is_climatology(forcing) or is_climatology(target) else 1
    month, year = (
        _group_means(values, *(key(each) for each in (had, wanted)))
        for key in (
            lambda t: years * 12 * t.year.values + t.month.values,
            lambda t: years * t.year.values,
        )
    )
    return np.stack([month, year], axis=1)


def _group_means(values: np.ndarray, keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Mean over the rows with each wanted key; NaN where there is none or all are missing."""
    groups, group = np.unique(wanted, return_inverse=True)
    means = np.full((groups.size, values.shape[1]), np.nan)
    for i, key in enumerate(groups):
        rows = values[keys == key].astype("float64")
        seen = np.isfinite(rows).sum(axis=0)
        means[i] = np.nansum(rows, axis=0) / np.where(seen > 0, seen, np.nan)
    return means[group]


def _yearly(variable: xr.DataArray, years: np.ndarray) -> np.ndarray:
    """``(step, column, cell)`` of a yearly variable; NaN for a step whose year it lacks."""
    columns = [dim for dim in variable.dims if dim in ("year", "lu_class")]
    values = variable.transpose(*columns, ...).reindex(year=years).values
    return values.reshape(years.size, variable.sizes.get("lu_class", 1), -1)


def _cells(
    cube: xr.Dataset, coarse: xr.DataArray, row: np.ndarray, column: np.ndarray
) -> np.ndarray:
    """Number of the coarse cell nearest to each pixel, counted along coarse rows."""
    grid = str(coarse.dims[-1]).removesuffix("longitude")
    index = [
        np.rint(position(cube[f"{grid}{axis}"].values, cube[axis].values)).astype(int)
        for axis in ("latitude", "longitude")
    ]
    return index[0][row] * cube.sizes[f"{grid}longitude"] + index[1][column]
