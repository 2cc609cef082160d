"""Gradient boosting on pixels: what a table of predictors can say about LAI without neighbours.

One histogram gradient boosting a calendar month, on the training pixels only, from the predictors
and given values that the emulator has.

References
----------
Ke, G. et al. (2017): LightGBM: a highly efficient gradient boosting decision tree. NeurIPS 30
(the algorithm that scikit-learn's ``HistGradientBoostingRegressor`` follows).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from ..cube.grid import position
from ..cube.schema import is_climatology
from ..errors import CubeError
from ..physics.consistency import year_index
from .alignment import align_mask, mask_mismatches

# Trees a month, at scikit-learn's learning rate of 0.1 and with its early stopping. On the Rhine
# (land cover given, blocks held out) they reach R2 0.87; 500 gain 0.008 more in May and November.
TREES = 150


def boosting(
    cube: xr.Dataset,
    predictors: Sequence[str],
    where: xr.DataArray,
    train: xr.DataArray,
    *,
    given: Sequence[str] = (),
    max_rows: int = 150_000,
    seed: int = 0,
) -> xr.DataArray:
    """LAI that gradient boosting on pixels predicts in the held-out pixels.

    Its columns are latitude, longitude, the static predictors, the given class fractions of the
    year, and the forcing of the nearest coarse cell: mean of the month and mean of the year;
    then, where asked for, ``co2`` of the year and the ``lu_total`` of the nearest cell.

    Parameters
    ----------
    cube
        Conformed cube with ``lai`` (m2 m-2).
    predictors
        Canonical names of static, forcing, scalar and driver variables: those of the emulator.
        A missing value is a value of its own to the trees, as scikit-learn has it.
    where
        ``(latitude, longitude)``, True in the held-out pixels.
    train
        ``(latitude, longitude)``, True in the training pixels; none of them held out.
    given
        ``lu_fraction``, ``lc_fraction``, where the emulator is given them.
    max_rows
        Most rows (pixels and times) that a month's model is trained on, drawn at random.
    seed
        Of the draw and of scikit-learn.

    Returns
    -------
    DataArray
        ``lai`` (time, latitude, longitude), m2 m-2, float32, in memory, never negative; NaN
        outside ``where`` and in months without training values. Reads the cube: it computes.

    Raises
    ------
    CubeError
        If a name is not in the cube, a mask does not fit it, or a pixel is in both masks.
    """
    _require(cube, predictors, given, where, train)
    lai = cube["lai"].transpose("time", "latitude", "longitude")
    pixels = [np.flatnonzero(align_mask(mask, cube).values) for mask in (train, where)]
    columns = _Columns.of(cube, predictors, given, np.concatenate(pixels))
    training, held_out = np.split(np.arange(columns.fixed.shape[0]), [pixels[0].size])
    field = np.full((lai.sizes["time"], lai[0].size), np.nan, dtype="float32")
    months = lai["time"].dt.month.values
    for month in np.unique(months):
        steps = np.flatnonzero(months == month)
        truth = lai.isel(time=steps).values.reshape(steps.size, -1)[:, pixels[0]]
        model = _fit(columns, truth, steps, training, max_rows, seed=[seed, month])
        if model is None:
            continue
        for step in steps:
            field[step, pixels[1]] = model(columns.at(int(step), held_out))
    return lai.copy(data=field.reshape(lai.shape)).rename("lai")


@dataclass(frozen=True)
class _Columns:
    """Predictors of some pixels, stored as coarsely as they are."""

    fixed: np.ndarray  # (pixel, column)
    mapped: list[tuple[np.ndarray, np.ndarray]]  # (year, class, pixel), the year of each time
    coarse: list[tuple[np.ndarray, np.ndarray]]  # (time, column, cell), the cell of each pixel

    @classmethod
    def of(
        cls, cube: xr.Dataset, predictors: Sequence[str], given: Sequence[str], pixels: np.ndarray
    ) -> _Columns:
        """Read them from the cube, for pixels numbered along rows of the target grid."""
        by_role = {role: [p for p in predictors if _role(cube[p]) == role] for role in _ROLES}
        row, column = np.unravel_index(pixels, (cube.sizes["latitude"], cube.sizes["longitude"]))
        fixed = [cube["latitude"].values[row], cube["longitude"].values[column]]
        fixed += [
            cube[name].transpose("latitude", "longitude").values[row, column]
            for name in by_role["static"]
        ]
        time = cube["time"]
        mapped = [
            (_class_maps(cube[name], row, column), year_index(time, cube["year"])) for name in given
        ]
        coarse = [
            (_forcing_means(cube[name], cube["lai"]), _cells(cube, cube[name], row, column))
            for name in by_role["forcing"]
        ]
        coarse += [
            (_yearly(cube[name], time), np.zeros(pixels.size, dtype=int))
            for name in by_role["scalar"]
        ]
        coarse += [
            (_yearly(cube[name], time), _cells(cube, cube[name], row, column))
            for name in by_role["driver"]
        ]
        return cls(np.stack(fixed, axis=1).astype("float32"), mapped, coarse)

    def at(self, step: int, chosen: np.ndarray) -> np.ndarray:
        """Columns ``(pixel, column)`` of the chosen pixels at one time, float32."""
        parts = [self.fixed[chosen]]
        for maps, year in self.mapped:
            known = maps[year[step]] if year[step] >= 0 else np.full_like(maps[0], np.nan)
            parts.append(known[:, chosen].T)
        parts += [values[step][:, cell[chosen]].T for values, cell in self.coarse]
        return np.concatenate(parts, axis=1, dtype="float32")


def _fit(
    columns: _Columns,
    truth: np.ndarray,
    steps: np.ndarray,
    training: np.ndarray,
    max_rows: int,
    seed: list[int],
) -> Callable[[np.ndarray], np.ndarray] | None:
    """Prediction of one month, None without training values; ``truth`` is ``(step, pixel)``."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    rows = np.flatnonzero(np.isfinite(truth))
    if not rows.size:
        return None
    rng = np.random.default_rng(seed)
    if rows.size > max_rows:
        rows = np.sort(rng.choice(rows, max_rows, replace=False))
    at_step, pixel = np.divmod(rows, training.size)
    table = np.concatenate(
        [columns.at(step, training[pixel[at_step == i]]) for i, step in enumerate(steps)]
    )
    # scikit-learn cannot make bins for a column without any value.
    filled = np.isfinite(table).any(axis=0)
    model = HistGradientBoostingRegressor(max_iter=TREES, random_state=int(rng.integers(2**31)))
    model.fit(table[:, filled], truth.ravel()[rows])
    return lambda other: np.maximum(model.predict(other[:, filled]), 0)


_ROLES = ("static", "forcing", "scalar", "driver")


def _role(variable: xr.DataArray) -> str | None:
    """Role by dimensions: names of a user's own statics and forcings are in no vocabulary."""
    dims = set(variable.dims)
    roles = {
        "static": {"latitude", "longitude"},
        "forcing": {"forcing_time", "forcing_latitude", "forcing_longitude"},
        "scalar": {"year"},
        "driver": {"year", "lu_class", "driver_latitude", "driver_longitude"},
    }
    return next((role for role in _ROLES if roles[role] == dims), None)


def _require(
    cube: xr.Dataset,
    predictors: Sequence[str],
    given: Sequence[str],
    where: xr.DataArray,
    train: xr.DataArray,
) -> None:
    problems = [] if "lai" in cube else ["expected target 'lai'; not found; add it to the cube"]
    problems += [
        f"expected predictor {name!r} with the dimensions of a static, forcing, scalar or driver; "
        f"found {cube[name].dims if name in cube else 'no such variable'}; conform the cube"
        for name in predictors
        if name not in cube or _role(cube[name]) is None
    ]
    problems += [
        f"expected given {name!r} to be lu_fraction or lc_fraction of the cube; "
        "found no such variable; leave it out"
        for name in given
        if name not in cube or name not in ("lu_fraction", "lc_fraction")
    ]
    unfit = [*mask_mismatches(where, cube), *mask_mismatches(train, cube)]
    if not unfit and (both := int((align_mask(where, cube) & align_mask(train, cube)).sum())):
        unfit = [f"expected no pixel both held out and in training; found {both}; split again"]
    if problems or unfit:
        raise CubeError("boosting cannot be trained on this cube", problems + unfit)


def _class_maps(fraction: xr.DataArray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """``(year, class, pixel)``."""
    fraction = fraction.transpose("year", ..., "latitude", "longitude")
    return np.stack([fraction.isel(year=i).values[:, row, column] for i in range(len(fraction))])


def _forcing_means(forcing: xr.DataArray, lai: xr.DataArray) -> np.ndarray:
    """``(time, 2, cell)``: mean of the month and of the year that each time of LAI falls in."""
    forcing = forcing.transpose("forcing_time", "forcing_latitude", "forcing_longitude")
    values = forcing.values.reshape(forcing.sizes["forcing_time"], -1)
    had, wanted = forcing["forcing_time"].dt, lai["time"].dt
    # A climatology of either has no years of its own: months are matched by name.
    years = 0 if is_climatology(forcing) or is_climatology(lai) else 1
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


def _yearly(variable: xr.DataArray, time: xr.DataArray) -> np.ndarray:
    """``(time, column, cell)`` of a yearly variable; NaN for a time whose year it lacks."""
    columns = [dim for dim in variable.dims if dim in ("year", "lu_class")]
    values = variable.transpose(*columns, ...).reindex(year=time.dt.year.values).values
    return values.reshape(time.size, variable.sizes.get("lu_class", 1), -1)


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
