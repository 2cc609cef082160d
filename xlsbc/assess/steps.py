"""Times and years of a target: those that train, those with labels, and what to say at the rest.

A product that is to be compared covers all steps, also those that training left without a label.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
import xarray as xr

from ..cube.schema import is_climatology

_DAY = np.timedelta64(1, "D")


def training_steps(target: xr.DataArray, years: Iterable[int] | None) -> np.ndarray:
    """True at the times or years of a target that train.

    Parameters
    ----------
    target
        Along ``time`` or ``year``. A climatology, which has no years, trains in all its months.
    years
        Calendar years that train; None for all.
    """
    steps = target["time"].dt.year if "time" in target.dims else target["year"]
    if years is None or is_climatology(target):
        return np.ones(steps.size, dtype=bool)
    return np.isin(steps.values, list(years))


def bridged(lai: xr.DataArray, months: np.ndarray) -> xr.DataArray:
    """LAI linear in time over the calendar months that it has no values in.

    Parameters
    ----------
    lai
        ``(time, ...)``, m2 m-2; datetime64, ascending. A pixel that is missing in a month with
        values stays so, and is missing in the bridge from it.
    months
        Calendar months, 1 to 12, that have values. Where the record does not reach the next one,
        the year repeats: a gap over December and January is bridged from November to February,
        and a single month holds all year.

    Returns
    -------
    DataArray
        Of the same shape, float32, lazy on lazy data; all missing if there is no such month.
    """
    times = pd.DatetimeIndex(lai["time"].values)
    known = np.isin(times.month, months)
    if known.all() or not known.any():
        return lai
    source, days = _repeated(times, known)
    wanted = (times - times[0]) / _DAY
    after = np.clip(np.searchsorted(days, wanted), 0, days.size - 1)
    before = np.clip(np.searchsorted(days, wanted, side="right") - 1, 0, days.size - 1)
    span = days[after] - days[before]
    share = np.where(span > 0, (wanted - days[before]) / np.where(span > 0, span, 1), 0)
    towards = xr.DataArray(share.astype("float32"), dims="time")
    first, last = (
        lai.isel(time=source[each]).assign_coords(time=lai["time"]) for each in (before, after)
    )
    filled = first + towards * (last - first)
    return filled.transpose(*lai.dims).rename(lai.name).assign_attrs(lai.attrs)


def nearest(known: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Position of the known step nearest to each; of two as near, the earlier.

    Parameters
    ----------
    known
        ``(step,)``, boolean, True somewhere.
    steps
        ``(step,)``, years, ascending.
    """
    found = np.flatnonzero(known)
    return found[np.abs(steps[:, None] - steps[found]).argmin(axis=1)]


def _repeated(times: pd.DatetimeIndex, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions of known steps, and days since the first time at which they stand, ascending.

    They stand a year earlier and later too, where the record has no such month of its own.
    """
    index = np.flatnonzero(known)
    own = times.year * 12 + times.month
    copies = []
    for years in (0, -1, 1):
        new = np.full(index.size, True) if years == 0 else ~np.isin(own[index] + 12 * years, own)
        moved = times[index[new]] + pd.DateOffset(years=years)
        copies.append((index[new], np.asarray((moved - times[0]) / _DAY)))
    source, days = (np.concatenate(each) for each in zip(*copies, strict=True))
    order = np.argsort(days, kind="stable")
    return source[order], days[order]
