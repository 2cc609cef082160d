"""How a training went: losses and learning rate by step, as a table and as a picture."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["Curves"]

ROWS = 1000
"""Rows that the table has about, however long the training is."""


class Curves:
    """Losses of a training, each a mean over the steps since the row before.

    Parameters
    ----------
    every
        Steps of a row.
    """

    def __init__(self, every: int = 1) -> None:
        self.every = every
        self.rows: list[dict[str, float]] = []
        self._sums: dict[str, Tensor] = {}  # on the device: reading them would make it wait
        self._counts: dict[str, int] = {}

    def add(self, step: int, rate: float, terms: Mapping[str, Tensor]) -> dict[str, float] | None:
        """Count a step in; the row that it completes, if it does."""
        for name, value in terms.items():
            held = self._sums.get(name)
            self._sums[name] = value if held is None else held + value
            self._counts[name] = self._counts.get(name, 0) + 1
        if step % self.every:
            return None
        means = {name: float(value) / self._counts[name] for name, value in self._sums.items()}
        self._sums, self._counts = {}, {}
        self.rows.append({"step": step, "learning_rate": rate, **means})
        return self.rows[-1]

    def validated(self, step: int, loss: float) -> None:
        """Count a validation in."""
        if not self.rows or self.rows[-1]["step"] != step:
            self.rows.append({"step": step})
        self.rows[-1]["validation"] = loss

    def series(self, name: str) -> tuple[list[float], list[float]]:
        """Steps and values of a column where it has any."""
        found = [(row["step"], row[name]) for row in self.rows if name in row]
        return [step for step, _ in found], [value for _, value in found]

    @property
    def columns(self) -> list[str]:
        """Names of what was recorded, in the order in which it came."""
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def table(self) -> str:
        """Comma-separated values; empty where nothing was recorded."""
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns or ["step"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        return text.getvalue()

    def picture(self) -> bytes:
        """Portable network graphic of losses above and the learning rate below."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, 6), layout="constrained")  # no window, no global state
        FigureCanvasAgg(figure)
        losses, rates = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        positive = True
        for name in self.columns:
            if name in ("step", "learning_rate"):
                continue
            steps, values = self.series(name)
            positive &= min(values, default=1.0) > 0
            losses.plot(steps, values, ".-" if name == "validation" else "-", label=name)
        if positive and losses.lines:
            losses.set_yscale("log")
        if losses.lines:
            losses.legend()
        losses.set_ylabel("loss")
        rates.plot(*self.series("learning_rate"), color="0.4")
        rates.set_ylabel("learning rate")
        rates.set_xlabel("step")
        drawn = io.BytesIO()
        figure.savefig(drawn, format="png", dpi=100)
        return drawn.getvalue()

    def state_dict(self) -> dict[str, Any]:
        """All of it, of what `torch.load` takes with weights only."""
        columns = {name: [row.get(name, math.nan) for row in self.rows] for name in self.columns}
        sums = {name: value.cpu() for name, value in self._sums.items()}
        return {"every": self.every, "rows": columns, "sums": sums, "counts": dict(self._counts)}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device | str = "cpu") -> None:
        """Go on from there."""
        self.every = state["every"]
        columns = state["rows"]
        self.rows = [
            {n: v for n, v in zip(columns, values, strict=True) if not math.isnan(v)}
            for values in zip(*columns.values(), strict=True)
        ]
        self._sums = {name: value.to(device) for name, value in state["sums"].items()}
        self._counts = dict(state["counts"])
