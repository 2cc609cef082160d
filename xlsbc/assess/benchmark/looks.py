"""How arms look in the figures of a benchmark, the same in all of them.

Colour tells the model, the marker model and adaptation, and line style, hatching and filling how
the targets were learned: no figure rests on colour alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from xlsbc.assess.benchmark.arms import Arm, Arms
from xlsbc.assess.plots import WIDTH

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SMALL = 9  # point
DPI = 110  # a page of seven figures is to stay below 1.5 MB

# Okabe and Ito (2008), Color Universal Design; neighbours differ in lightness as well.
COLORS = ("#0072B2", "#E69F00", "#000000", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
MARKERS = "osD^vP*X<>ph"
LINES = {"multi-task": "-", "sequential": "--", "single": ":"}
HATCHES = {"multi-task": "", "sequential": "////", "single": "...."}
FILLS = {"multi-task": "full", "sequential": "none", "single": "left"}
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
        return {**self.point(arm), "linestyle": LINES.get(arm.learning, "-.")}

    def point(self, arm: Arm) -> dict[str, Any]:
        """Keywords of ``plot`` for a marker without a line."""
        if not arm.emulator:
            return {"color": GREY, "marker": "_", "markersize": 14, "linestyle": "none"}
        return {
            "color": self.colors[arm.model],
            "marker": self.markers[arm.name],
            "fillstyle": FILLS.get(arm.learning, "bottom"),
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


def _columns(arms: Sequence[Arm]) -> int:
    longest = max((len(arm.long_name) for arm in arms), default=1)
    return max(1, min(4, 150 // (longest + 9), len(arms)))
