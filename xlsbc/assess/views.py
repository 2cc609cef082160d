"""What a report shows of a cube and a prediction: matched pixels, thinned, as small arrays.

Thinning takes every n-th pixel before anything is read: a picture of a continent costs what a
picture of a valley costs.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import xarray as xr

from xlsbc.cube import legends
from xlsbc.physics.consistency import year_index

MONTHS = (1, 4, 7, 10)  # one map a season
DEFAULT_LEGENDS = {"lu_class": "luh2", "lc_class": "cci_pft"}


def matched(
    reference: xr.DataArray, prediction: xr.DataArray, held_out: xr.DataArray, *, limit: int
) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
    """Reference, prediction and held-out mask on the prediction's pixels, thinned; lazy.

    Parameters
    ----------
    reference, prediction
        ``(..., latitude, longitude)``, conformed; the reference is NaN where it does not reach.
    held_out
        ``(latitude, longitude)``, boolean. Pixels that it lacks are not held out.
    limit
        Longest side of what comes back, in pixels.
    """
    longest = max(prediction.sizes["latitude"], prediction.sizes["longitude"])
    every = slice(None, None, max(1, math.ceil(longest / limit)))
    prediction = prediction.isel(latitude=every, longitude=every)
    return (
        _on_pixels_of(prediction, reference).transpose(..., "latitude", "longitude"),
        prediction.transpose(..., "latitude", "longitude"),
        _on_pixels_of(prediction, held_out, False).transpose("latitude", "longitude"),
    )


def legend_of(fraction: xr.DataArray, dim: str) -> legends.Legend:
    """The legend that the class coordinate names, else the default of that dimension."""
    return legends.legend(str(fraction[dim].attrs.get("legend", DEFAULT_LEGENDS[dim])))


def dominant(fraction: xr.DataArray, dim: str) -> xr.DataArray:
    """Index in its legend of the class that covers most, -1 where every class is missing; lazy.

    Parameters
    ----------
    fraction
        ``dim`` and any others, 1; NaN is missing. The classes may stand in any order.
    dim
        ``"lu_class"`` or ``"lc_class"``.
    """
    legend = legend_of(fraction, dim)
    order = np.array([legend.index(str(name)) for name in fraction[dim].values])
    place = fraction.fillna(-1.0).argmax(dim)
    index = xr.apply_ufunc(
        order.__getitem__, place, dask="parallelized", output_dtypes=[order.dtype]
    )
    return index.where(fraction.notnull().any(dim), -1)


def drawn_steps(times: np.ndarray) -> np.ndarray:
    """The first step of each of `MONTHS` in the latest of the fullest years, else its first steps.

    Parameters
    ----------
    times
        datetime64, ascending.
    """
    if not times.size:
        return times
    years, counts = np.unique(times.astype("datetime64[Y]"), return_counts=True)
    steps = times[times.astype("datetime64[Y]") == years[counts == counts.max()][-1]]
    found = [steps[_month(steps) == month][0] for month in MONTHS if (_month(steps) == month).any()]
    return np.array(found) if found else steps[: len(MONTHS)]


def seasonal_means(
    cube: xr.Dataset, prediction: xr.Dataset, held_out: xr.DataArray, *, limit: int
) -> xr.Dataset:
    """Mean LAI by dominant land cover class and calendar month, where both hold a value. Computes.

    Parameters
    ----------
    cube, prediction
        Conformed; LAI is read one calendar year at a time. The class is the reference's, of the
        year of each step (a single map serves all times); without land cover in the cube there is
        one class, ``"all"``. Classes that bear no leaves are left out.
    held_out
        ``(latitude, longitude)``, boolean: the pixels that count; all count where none is held out.
    limit
        Longest side of the thinned grid, in pixels.

    Returns
    -------
    Dataset
        ``reference`` and ``prediction`` (lc_class, month), m2 m-2, area-weighted, NaN where nothing
        counts; ``share`` (lc_class), 1, of the weight counted; ``title`` (lc_class), for people.
    """
    reference, predicted, counted = matched(cube["lai"], prediction["lai"], held_out, limit=limit)
    times = np.intersect1d(reference["time"], predicted["time"])
    ids, titles, codes = _leafy_classes(cube, predicted)
    mask = counted.values if counted.values.any() else np.ones(counted.shape, bool)
    # pixels of one regular grid: their areas differ by the cosine of the latitude alone
    area = np.cos(np.deg2rad(reference["latitude"].values))[:, None] * mask
    sums = np.zeros((3, len(ids), 12))  # weight, weighted reference, weighted prediction
    for year in np.unique(times.astype("datetime64[Y]")):
        steps = times[times.astype("datetime64[Y]") == year]
        truth, guess = (
            field.sel(time=steps).transpose("time", ...).values.astype("float64")
            for field in (reference, predicted)
        )
        which = year_index(predicted["time"].sel(time=steps[:1]), codes["year"])[0]
        code = codes.values[which] if which >= 0 else np.full(mask.shape, -1)
        for month, first, second in zip(_month(steps), truth, guess, strict=True):
            seen = mask & (code >= 0) & np.isfinite(first) & np.isfinite(second)
            for k, values in enumerate((area, area * first, area * second)):
                sums[k, :, month - 1] += np.bincount(code[seen], values[seen], len(ids))
    weight = np.where(sums[0] > 0, sums[0], np.nan)
    share = sums[0].sum(axis=1) / max(sums[0].sum(), np.finfo(float).tiny)
    return xr.Dataset(
        {
            "reference": (("lc_class", "month"), sums[1] / weight),
            "prediction": (("lc_class", "month"), sums[2] / weight),
            "share": ("lc_class", share),
            "title": ("lc_class", np.array(titles, dtype=object)),
        },
        {"lc_class": np.array(ids, dtype=object), "month": range(1, 13)},
    )


def _on_pixels_of(like: xr.DataArray, field: xr.DataArray, fill: Any = np.nan) -> xr.DataArray:
    pixels = {dim: like[dim] for dim in ("latitude", "longitude")}
    # the nearest: one grid made in float32 and in float64 differs by rounding
    return field.reindex(pixels, fill_value=fill, method="nearest", tolerance=1e-4)


def _leafy_classes(
    cube: xr.Dataset, like: xr.DataArray
) -> tuple[list[str], list[str], xr.DataArray]:
    """Ids and names of the classes with leaves; which of them is where, -1 elsewhere, by year."""
    if "lc_fraction" not in cube:
        shape = (1, like.sizes["latitude"], like.sizes["longitude"])
        nowhere = xr.DataArray(
            np.zeros(shape, int), {"year": [0]}, ("year", "latitude", "longitude")
        )
        return ["all"], ["all pixels"], nowhere
    fraction = _on_pixels_of(like, cube["lc_fraction"])
    codes = dominant(fraction, "lc_class").transpose("year", "latitude", "longitude").compute()
    classes = legend_of(fraction, "lc_class").classes
    leafy = [k for k, land in enumerate(classes) if land.lai_max > 0]
    place = np.full(len(classes) + 1, -1)  # the extra one is what -1, missing, points at
    place[leafy] = np.arange(len(leafy))
    return (
        [classes[k].id for k in leafy],
        [classes[k].long_name for k in leafy],
        codes.copy(data=place[codes.values]),
    )


def _month(times: np.ndarray) -> np.ndarray:
    return times.astype("datetime64[M]").astype(int) % 12 + 1
