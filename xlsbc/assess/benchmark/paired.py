"""Whether one arm of a benchmark is better than another beyond the noise of its seeds.

Cells of one seed learn from the same labels: arms are compared seed by seed, which takes out what a
seed does to all of them.

References
----------
Student (1908): The probable error of a mean. Biometrika 6, 1-25 (the t-test of paired differences).
Holm, S. (1979): A simple sequentially rejective multiple test procedure. Scandinavian Journal of
Statistics 6, 65-70, section 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from xlsbc.assess.benchmark.columns import ARM, METRICS, finite, in_order, require_metrics
from xlsbc.errors import CubeError

__all__ = ["Comparison", "compare", "holm", "leaders", "student"]

LEVEL = 0.05
"""Chance that an arm is called the leader where all are alike."""

SEEDS = 3
"""Of which an arm must have that many to lead: two have hardly any spread to tell."""

_CHOSEN = {"model": ("kind", "backbone", "variant", "weights"), "adaptation": ("weights",)}
"""What follows from a name of the configuration, and so may differ where the name does."""

_NO_BASELINE = ("kind", "backbone", "variant", "adaptation", "weights", "learning")
"""What a baseline has not, or not in common with an emulator."""


@dataclass(frozen=True)
class Comparison:
    """One arm held against another, seed by seed.

    Parameters
    ----------
    difference
        Mean of the one minus the other.
    low, high
        Ends of its 95 % interval by Student's t; NaN for one seed.
    p
        Of no difference, two-sided; NaN for one seed.
    n
        Seeds in common.
    units
        Of the difference and its interval.
    """

    difference: float
    low: float
    high: float
    p: float
    n: int
    units: str = "1"


class Student(NamedTuple):
    """Of each row of differences, what `Comparison` has of one."""

    difference: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray
    n: np.ndarray


def compare(
    table: pd.DataFrame, metric: str, one: Mapping[str, object], other: Mapping[str, object]
) -> Comparison | None:
    """How much larger a metric is in one arm than in another, over the seeds of both.

    Parameters
    ----------
    table
        Of :func:`.table.tidy`.
    metric
        Column of `METRICS`; seeds where it is not finite in both are left out.
    one, other
        Values of columns of `ARM`. In what neither names, both must be alike, so that nothing but
        what is named is compared; only what follows from the name of a model or of an adaptation,
        such as its backbone, may differ, and what baselines do not have. A baseline that ran with
        one seed is a number, which every seed is held against.

    Returns
    -------
    Comparison
        None if no cell is of the one arm or the other, or they have no seed in common.

    Raises
    ------
    CubeError
        If the metric or a column is none; if a mapping leaves several arms, with the columns that
        tell them apart; or if an arm has several cells of a seed.
    """
    _require_arms(metric, one, other)
    table = in_order(table)
    sides = [_matching(table, named) for named in (one, other)]
    shared = _shared(sides, {*one, *other})
    sides = [_alike(side, of, shared) for side, of in zip(sides, sides[::-1], strict=True)]
    if not all(map(len, sides)):
        return None
    problems = [
        *_ambiguities(sides[0], one),
        *_ambiguities(sides[1], other),
        *_repetitions(pd.concat(sides).drop_duplicates("cell")),
    ]
    if problems:
        raise CubeError("the arms cannot be compared", problems)
    seeds = np.unique(np.concatenate([side["seed"].to_numpy("int64") for side in sides]))
    first, second = (_Runs.of(side, metric, seeds) for side in sides)
    if first.once[0] == second.once[0]:
        found = student(first.values - second.values)
    else:
        found = student(first.held() - second.held())
    if not found.n[0]:
        return None
    difference, low, high, p, n = (each[0].item() for each in found)
    return Comparison(difference, low, high, p, n, METRICS[metric].units)


def leaders(table: pd.DataFrame, metric: str) -> pd.Series:
    """Which arm is better than every other of the table beyond the noise: one, or none.

    Parameters
    ----------
    table
        Of :func:`.table.tidy`, or the rows of one among which a leader is looked for. Arms without
        any finite value of the metric are none of the others.
    metric
        Column of `METRICS`; where it is better nearest to zero, without its sign.

    Returns
    -------
    Series
        Boolean, by arm as :func:`.table.summarise` has them. True only if the arm has at least
        three seeds, and t-tests of its differences from each of the others, paired by seed,
        all tell that it is better at 5 % after Holm's adjustment. A baseline that ran with one
        seed is a number, which every seed is held against; it leads if it is better so than every
        arm that has seeds, at least three each, and is the better number of such baselines:
        between two numbers no test decides.

    Raises
    ------
    CubeError
        If the metric is none, or an arm has several cells of a seed.
    """
    require_metrics([metric])
    table = in_order(table)
    if problems := _repetitions(table):
        raise CubeError("no leader can be told", problems)
    runs = _Runs.of(table, metric, np.unique(table["seed"].to_numpy("int64")))
    values, better = runs.held(), METRICS[metric].better
    values = np.abs(values) if better == "zero" else -values if better == "higher" else values
    known = np.isfinite(values).any(1)
    enough = np.isfinite(runs.values).sum(1) >= SEEDS
    able = known & (enough | runs.once) if better else np.zeros(len(known), bool)
    leads = np.zeros(len(known), bool)
    for arm in np.flatnonzero(able):
        others = known & (np.arange(len(known)) != arm)
        if runs.once[arm]:
            others &= ~runs.once
            numbers = values[known & runs.once, 0]  # its own is one of them
            first = enough[others].all() and (numbers <= values[arm, 0]).sum() == 1
        else:
            first = True
        found = student(values[others] - values[arm])
        ahead = (found.difference > 0) & (holm(found.p) < LEVEL)
        leads[arm] = first and ahead.size > 0 and ahead.all()
    return pd.Series(leads, runs.arms, name=metric)


def student(differences: np.ndarray) -> Student:
    """Mean, 95 % interval and two-sided p of paired differences.

    Parameters
    ----------
    differences
        ``(pair, seed)``, float64, any units; NaN where the two have no seed in common.

    Returns
    -------
    Student
        Each ``(pair,)``. One difference has no interval and no p. Differences that are all the
        same have an interval of no width, and p 0, or 1 if they are 0.
    """
    from scipy.special import stdtr, stdtrit

    known = np.isfinite(differences)
    n = known.sum(1)
    # A power of two, so that nothing is rounded, of a size at which no square vanishes.
    largest = np.where(known, np.abs(differences), 0).max(1, initial=0)
    size = np.ldexp(1.0, np.frexp(largest)[1] - 1)
    scaled = np.where(known, differences, 0) / size[:, None]
    mean = scaled.sum(1) / np.maximum(n, 1)
    away = np.where(known, scaled - mean[:, None], 0)
    error = np.sqrt((away**2).sum(1) / np.maximum(n * (n - 1), 1))
    highest = np.where(known, scaled, -np.inf).max(1, initial=-np.inf)
    same = highest == np.where(known, scaled, np.inf).min(1, initial=np.inf)
    # The mean of equal numbers is rounded, which is no spread.
    mean, error = np.where(same, highest, mean), np.where(same, 0, error)
    freedom = np.maximum(n - 1, 1)
    t = np.abs(mean) / np.where(error > 0, error, 1)
    p = np.where(error > 0, 2 * stdtr(freedom, -t), np.where(mean == 0, 1.0, 0.0))
    half = stdtrit(freedom, 1 - LEVEL / 2) * error
    low, high, p = (np.where(n > 1, each, np.nan) for each in (mean - half, mean + half, p))
    mean = np.where(n > 0, mean, np.nan)
    return Student(mean * size, low * size, high * size, p, n)


def holm(p: np.ndarray) -> np.ndarray:
    """Probabilities adjusted for there being several; a missing one is 1."""
    p = np.where(np.isnan(p), 1, p)
    order = np.argsort(p, kind="stable")
    steps = p[order] * np.arange(p.size, 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted


def _require_arms(metric: str, one: Mapping[str, object], other: Mapping[str, object]) -> None:
    require_metrics([metric])
    if unknown := sorted({*one, *other} - set(ARM)):
        raise CubeError(
            f"expected columns that say what was run; found {', '.join(map(repr, unknown))}; "
            f"choose from {', '.join(ARM)}"
        )


def _matching(table: pd.DataFrame, named: Mapping[str, object]) -> pd.DataFrame:
    for name, value in named.items():
        table = table[np.array([each == value for each in table[name]], bool)]
    return table


def _shared(sides: list[pd.DataFrame], named: set[str]) -> list[str]:
    """Columns in which both sides must be alike."""
    free = named | {name for each in named & set(_CHOSEN) for name in _CHOSEN[each]}
    if any((side["kind"] == "baseline").all() for side in sides):
        free |= set(_NO_BASELINE)
    return [name for name in ARM if name not in free]


def _alike(side: pd.DataFrame, other: pd.DataFrame, shared: list[str]) -> pd.DataFrame:
    """Rows of a side that are like any of the other."""
    if not shared:
        return side
    wanted = set(other[shared].itertuples(index=False, name=None))
    alike = [row in wanted for row in side[shared].itertuples(index=False, name=None)]
    return side[np.array(alike, bool)]


def _ambiguities(side: pd.DataFrame, named: Mapping[str, object]) -> list[str]:
    """Why the cells of a side are of several arms."""
    several = {name: side[name].unique().tolist() for name in ARM if side[name].nunique() > 1}
    if not several:
        return []
    found = ", ".join(f"{name} ({', '.join(map(str, of))})" for name, of in several.items())
    return [
        f"expected cells of one arm with {_told(named)}; found several, which differ in {found}; "
        "name these columns too"
    ]


def _repetitions(table: pd.DataFrame) -> list[str]:
    """Cells of which there is another of the same arm and seed."""
    columns = [*ARM, "seed"]
    again = table[table.duplicated(columns, keep=False)]
    return [
        f"expected one cell of every arm and seed; found {', '.join(cells)} of {_told(arm)}; "
        "give the models that differ names of their own"
        for arm, cells in (
            (dict(zip(columns, key, strict=True)), rows["cell"])
            for key, rows in again.groupby(columns, sort=True)
        )
    ]


def _told(named: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value!r}" for name, value in named.items() if value != "")


class _Runs(NamedTuple):
    """A metric by arm and seed.

    Parameters
    ----------
    arms
        Index with the columns of `ARM`, sorted.
    once
        ``(arm,)``, whether it is a baseline that ran with one seed: what it finds hangs on none.
    values
        ``(arm, seed)``, NaN where there is none.
    """

    arms: pd.MultiIndex
    once: np.ndarray
    values: np.ndarray

    @classmethod
    def of(cls, table: pd.DataFrame, metric: str, seeds: np.ndarray) -> _Runs:
        """Those of a table without repetitions; `seeds` are all that it has, ascending."""
        grouped = table.groupby(list(ARM), sort=True)
        cells = grouped.size()
        values = np.full((len(cells), seeds.size), np.nan)
        place = np.searchsorted(seeds, table["seed"].to_numpy("int64"))
        values[grouped.ngroup().to_numpy(), place] = finite(table, metric)
        baseline = cells.index.get_level_values("kind") == "baseline"
        return cls(cells.index, np.asarray(baseline) & (cells.to_numpy() == 1), values)

    def held(self) -> np.ndarray:
        """The values, those of a baseline that ran with one seed at every seed."""
        only = np.where(np.isfinite(self.values), self.values, -np.inf).max(1, initial=-np.inf)
        only = np.where(self.once & np.isfinite(only), only, np.nan)[:, None]
        return np.where(np.isfinite(only), only, self.values)
