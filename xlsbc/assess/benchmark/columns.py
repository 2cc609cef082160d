"""The columns of the benchmark's table: what was run, what came of it, and on what it rests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import xarray as xr

from xlsbc.errors import CubeError
from xlsbc.physics import envelope, seasons, totals, transitions
from xlsbc.physics.consistency import RULES
from xlsbc.physics.rule import Rule

__all__ = ["ARM", "METRICS", "NEEDED", "TYPES", "Metric", "finite", "in_order", "require_metrics"]

ARM = (
    "kind",
    "model",
    "backbone",
    "variant",
    "adaptation",
    "weights",
    "learning",
    "labels",
    "every",
    "split",
)
"""Columns that say what was run. Cells that differ in none of them differ in their seed."""

Better = Literal["lower", "higher", "zero"]


@dataclass(frozen=True)
class Metric:
    """What a column of numbers says.

    Parameters
    ----------
    title, units
        For people; units as UDUNITS writes them.
    better
        Which values are: "zero" where those nearest to it are, None where none is.
    group
        Which of the benchmark's three questions it answers.
    type
        Of its values: float, int or bool.
    """

    title: str
    units: str
    better: Better | None
    group: Literal["skill", "consistency", "cost"]
    type: type = float


def _skill() -> dict[str, Metric]:
    found = {
        "lai_rmse": Metric("LAI RMSE", "m2 m-2", "lower", "skill"),
        "lai_mae": Metric("LAI MAE", "m2 m-2", "lower", "skill"),
        "lai_bias": Metric("LAI bias", "m2 m-2", "zero", "skill"),
        "lai_r2": Metric("LAI R²", "1", "higher", "skill"),
        "lai_anomaly_correlation": Metric("LAI anomaly correlation", "1", "higher", "skill"),
        "lai_n": Metric("LAI values compared", "1", None, "skill", int),
    }
    scores: dict[str, tuple[str, Better]] = {
        "mae": ("MAE", "lower"),
        "bray_curtis": ("Bray-Curtis dissimilarity", "lower"),
        "overall_accuracy": ("overall accuracy", "higher"),
        "miou": ("mean IoU", "higher"),
        "f1": ("mean F1", "higher"),
        "quantity": ("quantity disagreement", "lower"),
        "allocation": ("allocation disagreement", "lower"),
        "figure_of_merit": ("figure of merit of change", "higher"),
    }
    for short, target in (("lu", "Land use"), ("lc", "Land cover")):
        for name, (title, better) in scores.items():
            found[f"{short}_{name}"] = Metric(f"{target} {title}", "1", better, "skill")
        found[f"{short}_n"] = Metric(f"{target} values compared", "1", None, "skill", int)
    return found


def _rules() -> tuple[Rule, ...]:
    """Every rule that a product can be held against, also those made for a truth or a climate."""
    # Only names and titles are read of them: one value does for the truth and for the climate.
    pairs = {f"{k}_transitions": ((f"{k}_before", f"{k}_after"), [[1.0]]) for k in ("lu", "lc")}
    norms = xr.Dataset({"lai_low": 0.0, **pairs})
    climate = xr.DataArray(
        np.zeros((1, 1, 1)),
        {"forcing_time": np.array(["2001-01"], "datetime64[ns]")},
        ("forcing_time", "forcing_latitude", "forcing_longitude"),
    )
    cube = xr.Dataset({"lu_total": 0.0, "t2m": climate, "swvl1": climate})
    held = (*envelope.rules(norms), *transitions.rules(norms))
    return (*RULES, *held, *seasons.forced(cube), *totals.rules(cube))


def _consistency(rules: Sequence[Rule]) -> dict[str, Metric]:
    values = {
        f"check_{rule.name}": Metric(rule.long_name, "1", "lower", "consistency") for rule in rules
    }
    shares = {
        f"share_{rule.name}": Metric(
            f"Share of the area that breaks: {rule.long_name}", "1", "lower", "consistency"
        )
        for rule in rules
    }
    verdicts = {
        "laws_broken": Metric("Laws broken", "1", "lower", "consistency", int),
        "unusual": Metric("Expectations not met", "1", "lower", "consistency", int),
        "passed": Metric("All laws hold", "1", "higher", "consistency", bool),
    }
    return {**values, **shares, **verdicts}


_COST = {
    "parameters": Metric("Parameters", "1", "lower", "cost", int),
    "trained_parameters": Metric("Parameters trained", "1", "lower", "cost", int),
    "flops": Metric("Floating-point operations a pixel and year", "1", "lower", "cost"),
    "training_seconds": Metric("Training time", "s", "lower", "cost"),
    "peak_memory": Metric("Peak memory", "byte", "lower", "cost"),
    "pixels_per_second": Metric("Pixel-years predicted a second", "s-1", "higher", "cost"),
    "energy": Metric("Energy", "J", "lower", "cost"),
}

METRICS: dict[str, Metric] = {**_skill(), **_consistency(_rules()), **_COST}
"""Every column of numbers that a table may have, in its order."""

_NUMBERS: dict[str, type] = {"labels": float, "every": int, "seed": int}

NEEDED = ("cell", "kind", "model", "split", *_NUMBERS)
"""Without which there is no row."""

TYPES: dict[str, type] = {
    **{name: _NUMBERS.get(name, str) for name in ("cell", *ARM, "seed")},
    **{name: metric.type for name, metric in METRICS.items()},
    **dict.fromkeys(("emulators", "cube", "versions", "machine"), str),
}
"""Of the values of every column, in the table's order."""


def in_order(table: pd.DataFrame) -> pd.DataFrame:
    """The rows sorted by arm and seed: sums over seeds do not depend on how they stood."""
    return table.sort_values([*ARM, "seed", "cell"], kind="stable", ignore_index=True)


def finite(table: pd.DataFrame, metric: str) -> np.ndarray:
    """A metric as float64, NaN where it is missing or infinite, or no cell has it."""
    if metric not in table:
        return np.full(len(table), np.nan)
    values = table[metric].to_numpy("float64", na_value=np.nan)
    return np.where(np.isfinite(values), values, np.nan)


def require_metrics(names: Iterable[str]) -> None:
    """Refuse what is no metric.

    Raises
    ------
    CubeError
        With all such names.
    """
    if unknown := [name for name in names if name not in METRICS]:
        raise CubeError(
            f"expected metrics of the benchmark; found {', '.join(map(repr, unknown))}; "
            f"choose from {', '.join(METRICS)}"
        )
