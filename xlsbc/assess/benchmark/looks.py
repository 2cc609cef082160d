"""How arms look in the figures and tables of a benchmark, the same in all of them.

Colour tells the model, the marker model and adaptation, and line style, hatching and filling how
the targets were learned: no figure rests on colour alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from xlsbc.assess.benchmark.arms import ADAPTATIONS, TOLD, Arm, Arms
from xlsbc.assess.page import cell, head, row_head
from xlsbc.assess.plots import WIDTH

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SMALL = 9  # point
DPI = 110  # a page of seven figures is to stay below 1.5 MB

# Okabe and Ito (2008), Color Universal Design; neighbours differ in lightness as well.
COLORS = ("#0072B2", "#E69F00", "#000000", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
MARKERS = "osD^vP*X<>ph"
LINES = {"multi-task": "-", "sequential": "--", "sequential-coupled": "-.", "single": ":"}
HATCHES = {"multi-task": "", "sequential": "////", "sequential-coupled": "xxxx", "single": "...."}
FILLS = {
    "multi-task": "full",
    "sequential": "none",
    "sequential-coupled": "bottom",
    "single": "left",
}
GREY = "#777777"
BASELINE_LINES: tuple[Any, ...] = ("-", "--", ":", "-.", (0, (1, 3)), (0, (7, 3)))


class Looks:
    """How each arm of a table is drawn."""

    def __init__(self, arms: Arms) -> None:
        emulators = [arm for arm in arms if arm.emulator]
        models = list(dict.fromkeys(arm.model for arm in emulators))
        names = list(dict.fromkeys(arm.name for arm in emulators))
        baselines = list(dict.fromkeys(arm.name for arm in arms if not arm.emulator))
        self.colors = {name: COLORS[k % len(COLORS)] for k, name in enumerate(models)}
        self.markers = {name: MARKERS[k % len(MARKERS)] for k, name in enumerate(names)}
        self.dashes = {
            name: BASELINE_LINES[k % len(BASELINE_LINES)] for k, name in enumerate(baselines)
        }

    def line(self, arm: Arm) -> dict[str, Any]:
        """Keywords of ``plot`` and ``errorbar``."""
        if not arm.emulator:
            return {"color": GREY, "linestyle": self.dashes[arm.name], "linewidth": 1.4}
        return {**self.point(arm), "linestyle": LINES.get(arm.learning, (0, (6, 1)))}

    def point(self, arm: Arm) -> dict[str, Any]:
        """Keywords of ``plot`` for a marker without a line."""
        if not arm.emulator:
            return {"color": GREY, "marker": "_", "markersize": 14, "linestyle": "none"}
        return {
            "color": self.colors[arm.model],
            "marker": self.markers[arm.name],
            "fillstyle": FILLS.get(arm.learning, "right"),
            "markersize": 7,
            "linestyle": "none",
        }

    def legend(self, figure: Figure, arms: Sequence[Arm], style: Callable[[Arm], Any]) -> None:
        """A legend below the figure, one entry an arm."""
        from matplotlib.lines import Line2D

        handles = [Line2D([], [], label=arm.long_name, **style(arm)) for arm in arms]
        figure.legend(
            handles=handles,
            loc="outside lower center",
            ncols=_columns(arms),
            fontsize=SMALL,
            frameon=False,
            handlelength=3.2,
        )


def panels(
    count: int, entries: Sequence[Arm], *, sharey: bool = False
) -> tuple[Figure, Sequence[Axes]]:
    """A row of panels with room for a legend of so many entries below."""
    from matplotlib.figure import Figure

    rows = math.ceil(len(entries) / _columns(entries))
    figure = Figure((WIDTH, 3.8 + 0.19 * rows), dpi=DPI, layout="constrained")
    axes = figure.subplots(1, count, squeeze=False, sharey=sharey)[0]
    for axis in axes:
        axis.grid(alpha=0.3)
        axis.tick_params(labelsize=SMALL)
    return figure, axes


def logarithmic(axis: Axes, label: Callable[[float, Any], str]) -> None:
    """A logarithmic x axis that has labels however little it spans."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axis.set_xscale("log")
    low, high = axis.get_xlim()
    if high < 8 * low:
        middle = math.sqrt(low * high)
        low, high = middle / 3, middle * 3
        axis.set_xlim(low, high)
    near = (1.0, 2.0, 5.0) if high < 200 * low else (1.0,)
    axis.xaxis.set_major_locator(LogLocator(subs=near, numticks=8))
    axis.xaxis.set_major_formatter(FuncFormatter(label))
    axis.xaxis.set_minor_locator(NullLocator())


def arm_heads() -> list[str]:
    """Headings of what a row of a table is of."""
    return [head("model"), head("adaptation"), head("learning"), head("seeds", numeric=True)]


def arm_cells(arms: Arms, arm: Arm) -> list[str]:
    """What a row of a table is of."""
    kind = ADAPTATIONS.get(arm.adaptation, arm.adaptation)
    if not arm.emulator:
        kind = ", ".join(filter(None, ["baseline", TOLD.get(arm.model, "")]))
    return [
        row_head(arm.model_name),
        cell(kind),
        cell(arm.way),
        cell(str(_seeds(arms, arm)), numeric=True),
    ]


def score_cell(arms: Arms, arm: Arm, metric: str, bold: bool, *, counted: bool = False) -> str:
    """Mean and spread, in brackets the seeds if they are wanted, or fewer than the arm has."""
    score = arms.scores.get(arm, {}).get(metric)
    if score is None:
        return cell("–", numeric=True)
    fewer = f" ({score.n})" if counted or score.n < _seeds(arms, arm) else ""
    return cell(score.text + fewer, numeric=True, bold=bold)


def count_cell(arms: Arms, arm: Arm, target: str) -> str:
    """How many values of a target were scored; of seeds that differ, the least and the most."""
    found = arms.counts(arm, target)
    ends = dict.fromkeys([*found[:1], *found[-1:]])
    return cell(" to ".join(f"{count:,}" for count in ends) or "–", numeric=True)


def amount_cell(arms: Arms, arm: Arm, metric: str) -> str:
    """Mean and, where it varies, spread, with prefixes of the SI."""
    if (score := arms.score(arm, metric)) is None:
        return cell("–", numeric=True)
    varies = math.isfinite(score.spread) and score.spread > 0
    return cell(si(score.mean) + (f" ± {si(score.spread)}" if varies else ""), numeric=True)


def si(value: float) -> str:
    """Three digits with a prefix of the SI."""
    if not math.isfinite(value):
        return "–"
    for factor, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor * 0.9995:
            return f"{value / factor:.3g} {prefix}"
    return f"{value:.3g}"


def _seeds(arms: Arms, arm: Arm) -> int:
    return max((score.n for score in arms.scores.get(arm, {}).values()), default=0)


def _columns(arms: Sequence[Arm]) -> int:
    longest = max((len(arm.long_name) for arm in arms), default=1)
    return max(1, min(4, 150 // (longest + 9), len(arms)))
