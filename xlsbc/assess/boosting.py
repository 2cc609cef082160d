"""Gradient boosting on pixels: what a table of predictors can say without neighbours.

For LAI one model a calendar month, for class fractions one model, on the training pixels only, from
the predictors and given values that the emulator has.

References
----------
Ke, G. et al. (2017): LightGBM: a highly efficient gradient boosting decision tree. NeurIPS 30
(the algorithm that scikit-learn's ``HistGradientBoostingRegressor`` follows).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import xarray as xr

from ..errors import CubeError
from .alignment import align_mask, mask_mismatches
from .columns import Columns, role
from .steps import training_steps

__all__ = ["boosting", "boosting_fractions"]

# Trees a month, at scikit-learn's learning rate of 0.1 and with its early stopping. On the Rhine
# (land cover given, blocks held out) they reach R2 0.87; 500 gain 0.008 more in May and November.
TREES = 150

# Of fractions: trees a class, pixels and years that a leaf needs, most draws of a class from the
# same fractions. With fewer draws and smaller leaves trees learn the noise of the draws: on 4 years
# of 60 x 90 synthetic pixels, of which 5 % have labels, one draw, leaves of 20 and 60 trees are
# worse than the mean of all pixels (MAE of land use 0.076 against 0.065; these reach 0.047).
CLASS_TREES = 30
CLASS_LEAF = 40
CLASS_DRAWS = 5

_FRACTIONS = {"lu_fraction": "lu_class", "lc_fraction": "lc_class"}

Model = Callable[[np.ndarray], np.ndarray]


def boosting(
    cube: xr.Dataset,
    predictors: Sequence[str],
    where: xr.DataArray,
    train: xr.DataArray,
    *,
    given: Sequence[str] = (),
    years: Iterable[int] | None = None,
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
        ``(latitude, longitude)``, True in the training pixels; none of them held out, unless
        ``years`` leaves some out.
    given
        ``lu_fraction``, ``lc_fraction``, where the emulator is given them.
    years
        Calendar years that train; all by default. The others are predicted as well.
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
    years = None if years is None else list(years)
    _require(cube, "lai", predictors, given, _masks(where, train), years)
    lai = cube["lai"].transpose("time", "latitude", "longitude")
    pixels = [np.flatnonzero(align_mask(mask, cube).values) for mask in (train, where)]
    columns = Columns.of(cube, predictors, given, np.concatenate(pixels), lai)
    training, held_out = np.split(np.arange(columns.fixed.shape[0]), [pixels[0].size])
    field = np.full((lai.sizes["time"], lai[0].size), np.nan, dtype="float32")
    months = lai["time"].dt.month.values
    learnt = training_steps(lai, years)
    for month in np.unique(months):
        steps = np.flatnonzero((months == month) & learnt)
        truth = lai.isel(time=steps).values.reshape(steps.size, lai[0].size)[:, pixels[0]]
        model = _fit(columns, truth, steps, training, max_rows, seed=[seed, month])
        if model is None:
            continue
        for step in np.flatnonzero(months == month):
            field[step, pixels[1]] = model(columns.at(int(step), held_out))
    return lai.copy(data=field.reshape(lai.shape)).rename("lai")


def boosting_fractions(
    cube: xr.Dataset,
    predictors: Sequence[str],
    name: str,
    where: xr.DataArray,
    train: xr.DataArray,
    *,
    given: Sequence[str] = (),
    years: Iterable[int] | None = None,
    max_rows: int = 50_000,
    seed: int = 0,
) -> xr.DataArray:
    """Class fractions that gradient boosting on pixels predicts in the held-out pixels.

    One classifier for all years. The class of a row is drawn from the fractions of its pixel, a few
    times while there is room for more rows, so that the probabilities it learns are fractions. Its
    columns are those of `boosting`, with the
    forcing as the mean of the year; a single map goes with the mean of all years.

    Parameters
    ----------
    cube
        Conformed cube with the fractions (1).
    predictors, where, train, years
        As in `boosting`.
    name
        ``lu_fraction`` or ``lc_fraction``.
    given
        The other one, where the emulator is given it.
    max_rows
        Most rows (pixels, years and draws) that are trained on, chosen at random.
    seed
        Of the choice, of the draws and of scikit-learn.

    Returns
    -------
    DataArray
        ``name`` (year, class, latitude, longitude), 1, float32, in memory. Sums to 1 over the
        classes; 0 for a class that was never drawn; NaN outside ``where``, and everywhere without
        training values. Reads the cube: it computes.

    Raises
    ------
    CubeError
        As `boosting`.
    """
    years = None if years is None else list(years)
    _require(cube, name, predictors, given, _masks(where, train), years)
    fraction = cube[name].transpose("year", _FRACTIONS[name], "latitude", "longitude")
    n_years, n_classes = fraction.shape[:2]
    pixels = [np.flatnonzero(align_mask(mask, cube).values) for mask in (train, where)]
    rng = np.random.default_rng([seed, list(_FRACTIONS).index(name)])
    steps = np.flatnonzero(training_steps(fraction, years))
    known = np.zeros((steps.size, pixels[0].size), dtype=bool)
    for i, step in enumerate(steps):
        known[i] = _flat(fraction.isel(year=step))[:, pixels[0]].sum(axis=0) > 0
    field = np.full((n_years, n_classes, fraction[0, 0].size), np.nan, dtype="float32")
    if known.any():
        columns = Columns.of(cube, predictors, given, np.concatenate(pixels), fraction)
        training, held_out = np.split(np.arange(columns.fixed.shape[0]), [pixels[0].size])
        rows = _chosen(known, max_rows, rng)
        table = columns.rows(rows, steps, training)
        at_step, pixel = np.divmod(rows, training.size)
        shares = np.concatenate(
            [
                _flat(fraction.isel(year=step))[:, pixels[0][pixel[at_step == i]]]
                for i, step in enumerate(steps)
            ],
            axis=1,
        )
        draws = int(np.clip(max_rows // rows.size, 1, CLASS_DRAWS))
        model = _fit_classes(table, shares, draws, rng)
        for year in range(n_years):
            field[year][:, pixels[1]] = model(columns.at(year, held_out)).T
    return fraction.copy(data=field.reshape(fraction.shape))


def _fit(
    columns: Columns,
    truth: np.ndarray,
    steps: np.ndarray,
    training: np.ndarray,
    max_rows: int,
    seed: list[int],
) -> Model | None:
    """Prediction of one month, None without training values; ``truth`` is ``(step, pixel)``."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    rng = np.random.default_rng(seed)
    rows = _chosen(np.isfinite(truth), max_rows, rng)
    if not rows.size:
        return None
    table = columns.rows(rows, steps, training)
    # scikit-learn cannot make bins for a column without any value.
    filled = np.isfinite(table).any(axis=0)
    model = HistGradientBoostingRegressor(max_iter=TREES, random_state=int(rng.integers(2**31)))
    model.fit(table[:, filled], truth.ravel()[rows])
    return lambda other: np.maximum(model.predict(other[:, filled]), 0)


def _fit_classes(
    table: np.ndarray, shares: np.ndarray, draws: int, rng: np.random.Generator
) -> Model:
    """Shares ``(row, class)``, learnt from those ``(class, row)`` of the rows of a table."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    drawn = np.concatenate([_drawn(shares, rng) for _ in range(draws)])
    seen = np.unique(drawn)
    if seen.size == 1:
        return lambda other: np.tile(np.eye(len(shares))[seen], (len(other), 1))
    filled = np.isfinite(table).any(axis=0)
    model = HistGradientBoostingClassifier(
        max_iter=CLASS_TREES,
        min_samples_leaf=CLASS_LEAF * draws,
        early_stopping=False,  # which would need two rows of every class
        random_state=int(rng.integers(2**31)),
    )
    model.fit(np.tile(table[:, filled], (draws, 1)), drawn)

    def predict(other: np.ndarray) -> np.ndarray:
        every = np.zeros((len(other), len(shares)))
        every[:, seen] = model.predict_proba(other[:, filled])
        return every

    return predict


def _flat(field: xr.DataArray) -> np.ndarray:
    """``(class, pixel)``."""
    return field.values.reshape(field.shape[0], -1)


def _chosen(known: np.ndarray, max_rows: int, rng: np.random.Generator) -> np.ndarray:
    """Numbers, ascending, of the known values, of so many at most."""
    rows = np.flatnonzero(known)
    if rows.size > max_rows:
        rows = np.sort(rng.choice(rows, max_rows, replace=False))
    return rows


def _drawn(shares: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A class for each row of shares ``(class, row)``, as likely as its share."""
    edges = np.cumsum(shares, axis=0, dtype="float64")
    return (edges <= rng.random(edges.shape[1]) * edges[-1]).sum(axis=0)


def _masks(where: xr.DataArray, train: xr.DataArray) -> dict[str, xr.DataArray]:
    return {"where": where.rename("where"), "train": train.rename("train")}


def _require(
    cube: xr.Dataset,
    target: str,
    predictors: Sequence[str],
    given: Sequence[str],
    masks: dict[str, xr.DataArray],
    years: list[int] | None,
) -> None:
    problems = []
    if target not in ("lai", *_FRACTIONS) or target not in cube:
        problems.append(f"expected target {target!r}; not found; add it to the cube")
    problems += [
        f"expected predictor {name!r} with the dimensions of a static, forcing, scalar or driver; "
        f"found {cube[name].dims if name in cube else 'no such variable'}; conform the cube"
        for name in predictors
        if name not in cube or role(cube[name]) is None
    ]
    problems += [
        f"expected given {name!r} to be lu_fraction or lc_fraction of the cube and not the target; "
        f"found {'the target' if name == target else 'no such variable'}; leave it out"
        for name in given
        if name not in cube or name not in _FRACTIONS or name == target
    ]
    where, train = masks["where"], masks["train"]
    unfit = [problem for mask in masks.values() for problem in mask_mismatches(mask, cube)]
    if not unfit and target in cube and training_steps(cube[target], years).all():
        both = int((align_mask(where, cube) & align_mask(train, cube)).sum())
        if both:
            unfit = [f"expected no pixel both held out and in training; found {both}; split again"]
    if problems or unfit:
        raise CubeError("boosting cannot be trained on this cube", problems + unfit)
