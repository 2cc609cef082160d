"""Which weather bears on which leaf-area step: the years and steps of a cube, and their history."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from xlsbc.emulator.spec import Spec

__all__ = ["HARMONICS", "calendar", "steps_of", "weather_steps", "years"]

HARMONICS = 6
"""Sines and cosines of the year: six resolve twelve months."""

COVERED = 0.9
"""Share of its days for which a leaf-area step must have forcing."""

SLACK = 1.1
"""Steps may be so much longer than they usually are: dekads have 8 to 11 days."""


def years(
    cube: xr.Dataset, spec: Spec, given: tuple[str, ...] = (), *, rolling: bool = False
) -> list[int]:
    """Years of a cube for which an emulator's inputs are there, from coordinates alone.

    Parameters
    ----------
    cube
        Conformed.
    spec
        Which inputs, and how far back a step remembers.
    given
        Fractions to take along as conditions.
    rolling
        Whether the state of a year may be what was predicted for the year before.

    Returns
    -------
    list of int
        Years of which every leaf-area step and every year that it remembers has forcing, and
        that are on the ``year`` axis if a yearly input is needed, as is the year before where the
        emulator takes its state. A cube without forcing, or an
        emulator without, has the years of ``year``, else of ``time``.
    """
    candidates: set[int] | None = None
    if spec.forcing:
        whole = years_of_forcing(cube, spec)
        first = min(whole, default=0)
        candidates = {y for y in whole if all(max(b, first) in whole for b in back_from(spec, y))}
    yearly = spec.scalars or spec.driver or given
    if "year" in cube.indexes and (candidates is None or yearly):
        listed = set(cube["year"].to_numpy().tolist())
        candidates = listed if candidates is None else candidates & listed
    if candidates is None:
        candidates = set(cube.indexes["time"].year) if "time" in cube.indexes else set()
    if spec.state:
        known = set(cube["year"].to_numpy().tolist()) if "year" in cube.indexes else set()
        for year in sorted(candidates):
            if year - 1 not in known:
                candidates.discard(year)
            elif rolling:
                known.add(year)
    return sorted(int(y) for y in candidates)


def weather_steps(
    cube: xr.Dataset, spec: Spec, year: int
) -> tuple[np.ndarray, np.ndarray, pd.DatetimeIndex]:
    """Forcing steps that a year needs, how they make up leaf-area steps, and their middles.

    A year is read with the steps before it that it remembers. Steps before the record's start
    repeat its first year, as land-surface models are spun up; a climatology, whose one year
    stands for all, repeats itself by the same rule. Without forcing the leaf-area steps stand for
    themselves.
    """
    first = min(years_of_forcing(cube, spec), default=year) if spec.forcing else year
    starts, ends = steps_with_history(spec, year, first)
    if not spec.forcing:
        return np.arange(len(starts)), np.eye(len(starts)), middles(starts, ends)
    forcing_starts, forcing_ends = periods(cube["forcing_time"].to_numpy())
    days = overlap(starts, ends, forcing_starts, forcing_ends)
    used = np.flatnonzero(days.sum(axis=0))
    pooling = days[:, used] / days.sum(axis=1, keepdims=True)
    return used, pooling, middles(forcing_starts[used], forcing_ends[used])


def calendar(times: pd.DatetimeIndex) -> np.ndarray:
    """Sines and cosines of the time of year, ``(time, 2 * HARMONICS)``, 1."""
    length = np.where(times.is_leap_year, 366.0, 365.0)
    phase = 2 * np.pi * (times.day_of_year - 1 + times.hour / 24) / length
    orders = np.arange(1, HARMONICS + 1)
    angle = np.asarray(phase)[:, None] * orders
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=1)


def steps_of(spec: Spec, year: int) -> tuple[np.ndarray, np.ndarray]:
    """Starts and ends of the leaf-area steps of a year, datetime64[ns]."""
    dates = [f"{year:04d}-{month:02d}-{day:02d}" for month, day in spec.steps]
    after = f"{year + 1:04d}" + dates[0][4:]
    starts, ends = periods(np.array([*dates, after], dtype="datetime64[ns]"))
    return starts[:-1], ends[:-1]


def periods(starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Starts and ends of the steps of a time axis, datetime64[ns].

    Steps a month or more apart last a month. Others last until the next one, if it comes when it
    usually does: a gap in daily data is no long day.
    """
    starts = starts.astype("datetime64[ns]")
    apart = np.diff(starts).astype("timedelta64[m]").astype(np.float64)
    if len(starts) == 1 or apart.min() >= 27 * 1440:
        month = starts.astype("datetime64[M]")
        ends = (month + 1).astype("datetime64[ns]") + (starts - month.astype("datetime64[ns]"))
    else:
        ends = starts + np.timedelta64(round(SLACK * float(np.median(apart))), "m")
    return starts, np.minimum(ends, np.append(starts[1:], ends[-1]))


def middles(starts: np.ndarray, ends: np.ndarray) -> pd.DatetimeIndex:
    """Middles of periods."""
    return pd.DatetimeIndex(starts + (ends - starts) / 2)


def steps_with_history(spec: Spec, year: int, first: int) -> tuple[np.ndarray, np.ndarray]:
    """Steps of a year preceded by those that it remembers; none before the year `first`."""
    starts, ends = zip(*(steps_of(spec, max(y, first)) for y in back_from(spec, year)), strict=True)
    keep = spec.history - 1 + len(spec.steps)
    return np.concatenate(starts)[-keep:], np.concatenate(ends)[-keep:]


def back_from(spec: Spec, year: int) -> range:
    """As many years up to `year` as its steps remember."""
    before = -(-(spec.history - 1) // len(spec.steps))
    return range(year - before, year + 1)


def years_of_forcing(cube: xr.Dataset, spec: Spec) -> set[int]:
    """Years of which every leaf-area step has forcing."""
    times = cube["forcing_time"].to_numpy()
    covering = periods(times)
    first, last = times[[0, -1]].astype("datetime64[Y]").astype(int) + 1970
    whole = set()
    for year in range(first, last + 1):
        starts, ends = steps_of(spec, year)
        length = (ends - starts) / np.timedelta64(1, "D")
        if (overlap(starts, ends, *covering).sum(axis=1) >= COVERED * length).all():
            whole.add(year)
    return whole


def overlap(
    starts: np.ndarray, ends: np.ndarray, other_starts: np.ndarray, other_ends: np.ndarray
) -> np.ndarray:
    """Days that periods share with other periods, ``(period, other)``, float64."""
    begin = np.maximum(starts[:, None], other_starts)
    end = np.minimum(ends[:, None], other_ends)
    return np.clip((end - begin) / np.timedelta64(1, "D"), 0, None)
