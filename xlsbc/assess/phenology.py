"""When leaves come, peak and go, and how much there is between: from monthly LAI.

A year here is a growing year: the twelve months from the trough of the pixel's mean seasonal cycle.
So a summer that lasts from October to March, as in the south, is one season. It is called after
the calendar year that its middle falls in, and days count from 1 January of that year: a southern
season may start on day -60 and end on day 100.

A season begins and ends where LAI, linear between the middles of months, crosses the growing year's
minimum plus half of its amplitude. A dip below that between two peaks makes two seasons of one.

References
----------
White, M. A., Thornton, P. E. and Running, S. W. (1997): A continental phenology model for
monitoring vegetation responses to interannual climatic variability. Global Biogeochemical Cycles
11, 217-234 (start and end at half of the amplitude).
Forkel, M. et al. (2015): Codominant water control on global interannual variability and trends in
land surface phenology and greenness. Global Change Biology 21, 3414-3435 (what is left out: sparse
vegetation, flat cycles, two seasons).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import xarray as xr

from ..errors import CubeError
from .alignment import align, lay
from .groups import By
from .metrics import continuous_sums, monthly_climatology

MEASURES = ("start", "peak", "end", "length", "amplitude")

SHARE = 0.5  # of the amplitude, 1: White et al. (1997)

# Below these a cycle has no dates, m2 m-2: mean of a growing year (Forkel et al. 2015 leave out
# sparse vegetation), and amplitude, of the size of a product's noise.
LEAST_MEAN = 0.1
LEAST_AMPLITUDE = 0.2

_PAD = 6  # months before and after a growing year in which its season may begin and end


def seasons(lai: xr.DataArray, trough: xr.DataArray | None = None) -> xr.Dataset:
    """Start, peak, end, length and amplitude of each season.

    Parameters
    ----------
    lai
        ``(time, ...)``, m2 m-2, consecutive months. A single year, or a climatology, goes around:
        January follows its December. A growing year with a missing month has no season.
    trough
        ``(...)``, month 1 to 12 in which growing years begin; :func:`trough_month` of ``lai`` by
        default. Seasons can be compared if it is the same for both.

    Returns
    -------
    Dataset
        ``start``, ``peak``, ``end`` (day, 0 as 1 January of ``year`` begins), ``length`` (day),
        ``amplitude`` (m2 m-2), along ``year`` and ``season``: 1 is that of the highest peak,
        2 that of the next one, NaN where there is none. Dates are NaN where the growing year's mean
        is below 0.1 or its amplitude below 0.2 m2 m-2, start or end also where they are beyond the
        record. float64, lazy on lazy data, which is then read in blocks of all times.

    Raises
    ------
    CubeError
        If the months are not consecutive.
    """
    _require_months(lai)
    trough = trough_month(lai) if trough is None else lay(trough.rename("trough"), lai)
    months = lai["time"].values.astype("datetime64[M]")
    cyclic = months.size == 12
    years = np.unique(months.astype("datetime64[Y]"))[: 1 if cyclic else None]
    # float64 for what is between months; the times of a pixel in one block
    whole = lai.astype("float64").chunk(time=-1) if lai.chunks else lai.astype("float64")
    whole, trough = xr.unify_chunks(whole, trough.astype("float64"))
    found = xr.apply_ufunc(
        partial(
            _measures, first=int((months[0] - years[0]).astype(int)), cyclic=cyclic, years=years
        ),
        whole,
        trough,
        input_core_dims=[["time"], []],
        output_core_dims=[["measure", "year", "season"]],
        dask="parallelized",
        dask_gufunc_kwargs={
            "output_sizes": {"measure": len(MEASURES), "year": years.size, "season": 2}
        },
        output_dtypes=["float64"],
    )
    found = found.assign_coords(year=years.astype(int) + 1970, season=[1, 2])
    fields = {name: found.isel(measure=k) for k, name in enumerate(MEASURES)}
    units = {name: "m2 m-2" if name == "amplitude" else "day" for name in MEASURES}
    rest = [dim for dim in lai.dims if dim != "time"]
    return xr.Dataset(
        {
            name: field.transpose("season", "year", *rest).assign_attrs(units=units[name])
            for name, field in fields.items()
        }
    )


def trough_month(lai: xr.DataArray) -> xr.DataArray:
    """Month of the least LAI of the mean seasonal cycle, 1 to 12, the first of equals.

    Parameters
    ----------
    lai
        ``(time, ...)``; months that are always missing do not count. NaN where all are. Lazy on
        lazy data.
    """
    cycle = monthly_climatology(lai).reindex(month=range(1, 13))
    cycle = cycle.chunk(month=-1) if cycle.chunks else cycle
    month = cycle.fillna(np.inf).argmin("month") + 1
    return month.where(cycle.notnull().any("month")).drop_attrs()


def phenology_sums(
    prediction: xr.DataArray,
    reference: xr.DataArray,
    weight: xr.DataArray,
    dims: Sequence[str] | None = None,
    by: By = None,
) -> xr.Dataset:
    """Sums behind the scores of phenology, for :func:`.metrics.continuous_scores`.

    Parameters
    ----------
    prediction, reference
        Monthly LAI ``(time, ...)``, m2 m-2, as in :func:`seasons`. Growing years are those of the
        reference's mean cycle, over all years that it has, for both.
    weight, dims, by
        As in :func:`.metrics.continuous_sums`, over ``year`` in the place of ``time``.

    Returns
    -------
    Dataset
        What :func:`.metrics.continuous_sums` returns, along ``measure``: start, peak, end, length
        (day) and amplitude (m2 m-2) of the highest season. Growing years with two seasons in the
        reference are left out, since which of them is the higher may be chance; ``n`` says how many
        years of pixels each measure has. Lazy on lazy data.

    Raises
    ------
    CubeError
        If the two do not share grid or calendar, or are not of consecutive months.
    """
    _require_months(reference)
    trough = trough_month(reference)
    prediction, reference = align(prediction, reference)
    found, truth = (seasons(each, trough) for each in (prediction, reference))
    single = truth["peak"].sel(season=2, drop=True).isnull()
    sums = [
        continuous_sums(
            found[name].sel(season=1, drop=True),
            truth[name].sel(season=1, drop=True).where(single),
            weight,
            dims,
            by,
        )
        for name in MEASURES
    ]
    return xr.concat(sums, xr.Variable("measure", np.array(MEASURES, dtype=object)))


def _require_months(lai: xr.DataArray) -> None:
    months = lai["time"].values.astype("datetime64[M]")
    if not months.size or (np.diff(months).astype(int) != 1).any():
        raise CubeError(
            f"expected LAI of consecutive months; found {months.size} steps from "
            f"{months[:1]} to {months[-1:]}; take monthly means first, NaN where one is missing"
        )


def _measures(
    lai: np.ndarray, trough: np.ndarray, *, first: int, cyclic: bool, years: np.ndarray
) -> np.ndarray:
    """Measures ``(..., measure, year, season)`` of LAI ``(..., time)``.

    It begins in month ``first``, counted from 0 from the New Year of the first calendar year.
    """
    # Begun in the first half of a year, a growing year has its middle in it; later, in the next.
    begin = np.where(trough <= 6, trough - 1, trough - 13)
    absent = np.isnan(begin)
    begin = np.where(absent, 0, begin).astype(int)
    place = begin[..., None, None] + 12 * np.arange(years.size)[:, None]
    place = place + np.arange(-_PAD, 12 + _PAD)  # (..., year, step)
    inside = place - first
    inside = inside % 12 if cyclic else inside
    known = (inside >= 0) & (inside < lai.shape[-1]) & ~absent[..., None, None]
    values = np.take_along_axis(lai[..., None, :], np.where(known, inside, 0), axis=-1)
    values = np.where(known, values, np.nan)
    return _of_growing_years(values, _middle(place, years))


def _middle(place: np.ndarray, years: np.ndarray) -> np.ndarray:
    """Day of the middle of each month, from 1 January of the year of its row."""
    month = years[0].astype("datetime64[M]") + place
    edges = [each.astype("datetime64[D]").astype(float) for each in (month, month + 1)]
    new_year = years.astype("datetime64[D]").astype(float)[:, None]
    return (edges[0] + edges[1]) / 2 - new_year


def _of_growing_years(values: np.ndarray, day: np.ndarray) -> np.ndarray:
    """Measures ``(..., measure, year, season)`` of padded growing years ``(..., year, step)``."""
    core = values[..., _PAD : _PAD + 12]
    complete = np.isfinite(core).all(axis=-1)
    core = np.where(complete[..., None], core, 0)
    least = core.min(axis=-1)
    amplitude = core.max(axis=-1) - least
    dated = complete & (core.mean(axis=-1) >= LEAST_MEAN) & (amplitude >= LEAST_AMPLITUDE)
    level = least + SHARE * amplitude
    top = np.where(values >= level[..., None], values, -np.inf)
    top[..., :_PAD] = top[..., _PAD + 12 :] = -np.inf
    first = _season(values, day, level, top)
    # The tail of a neighbouring year's season is no season of this one: its peak lies outside.
    second = _season(values, day, level, np.where(first.step | ~_is_summit(values), -np.inf, top))
    measures = [
        [start, peak, end, end - start, height - least]
        for start, peak, end, height in (first.measures, second.measures)
    ]
    dates = np.where(dated[..., None], np.moveaxis(np.array(measures), 0, -1), np.nan)
    # A flat year has no dates, but it has an amplitude.
    dates[-1, ..., 0] = np.where(complete, amplitude, np.nan)
    return np.moveaxis(dates, 0, -3)


class _Season(NamedTuple):
    measures: np.ndarray  # start, peak, end (day) and height (m2 m-2), NaN where there is none
    step: np.ndarray  # whether a step is within


def _season(values: np.ndarray, day: np.ndarray, level: np.ndarray, top: np.ndarray) -> _Season:
    """The season around the highest of ``top`` (-inf where no peak may be)."""
    peak = top.argmax(axis=-1)
    start, before = _crossing(values, day, level, peak, -1)
    end, after = _crossing(values, day, level, peak, +1)
    there = np.isfinite(_at(top, peak))
    measures = np.where(there, [start, _at(day, peak), end, _at(values, peak)], np.nan)
    step = np.arange(values.shape[-1])
    return _Season(measures, (step > before[..., None]) & (step < after[..., None]))


def _crossing(
    values: np.ndarray, day: np.ndarray, level: np.ndarray, peak: np.ndarray, way: int
) -> tuple[np.ndarray, np.ndarray]:
    """Day at which LAI crosses the level before (-1) or after (+1) the peak; the step beyond it.

    NaN where the record ends, or has a gap, before LAI falls below the level.
    """
    last = values.shape[-1] - 1
    inner = peak
    for _ in range(last):
        outer = (inner + way).clip(0, last)
        inner = np.where(_at(values, outer) >= level, outer, inner)
    outer = (inner + way).clip(0, last)
    low, high = _at(values, outer), _at(values, inner)
    falls = (low < level) & (level <= high)
    share = (level - low) / np.where(falls, high - low, 1)
    crossing = _at(day, outer) + share * (_at(day, inner) - _at(day, outer))
    return np.where(falls, crossing, np.nan), inner + way


def _is_summit(values: np.ndarray) -> np.ndarray:
    """Whether no neighbour is higher; a missing one is not."""
    padded = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(1, 1)], constant_values=np.nan)
    return ~(padded[..., :-2] > values) & ~(padded[..., 2:] > values)


def _at(field: np.ndarray, place: np.ndarray) -> np.ndarray:
    return np.take_along_axis(field, place[..., None], axis=-1)[..., 0]
