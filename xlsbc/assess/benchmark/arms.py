"""What is compared: cells that differ in nothing but their seed, as mean and spread."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from xlsbc.assess.benchmark.columns import finite
from xlsbc.assess.benchmark.config import RANDOM
from xlsbc.assess.benchmark.table import METRICS, leaders, summarise
from xlsbc.assess.page import number, words
from xlsbc.assess.report import TARGETS

if TYPE_CHECKING:
    import pandas as pd

BACKBONES = {"unet": "U-Net", "vit": "ViT", "prithvi": "Prithvi", "terramind": "TerraMind"}
ADAPTATIONS = {
    "scratch": "from scratch",
    "full": "full fine-tuning",
    "lora": "LoRA",
    "adapter": "adapters",
    "frozen": "frozen",
}
JOINT = "multi-task"
LEARNING = {
    JOINT: "joint (multi-task)",
    "sequential": "sequential",
    "sequential-coupled": "sequential, coupled",
    "single": "single",
}
SEES = {
    "persistence": "the truth of the year before in the very pixels that are scored",
    "class_by_month_climatology": "the true dominant land cover of the scored pixels",
    "coarse_upsampled": "coarse totals, and means of training pixels",
    "gradient_boosting": "the inputs at a pixel and its place, no neighbours",
}
TOLD = {
    "persistence": "sees held-out truth",
    "class_by_month_climatology": "sees held-out truth",
}
"""Baselines that no emulator is measured by: they are told what is to be predicted."""


class Score(NamedTuple):
    """A metric over the seeds of an arm; the spread, a standard deviation, is NaN for one seed."""

    mean: float
    spread: float
    n: int

    @property
    def text(self) -> str:
        """Mean and, of several seeds, the spread."""
        if self.n < 2:
            return number(self.mean)
        if 0 < self.spread < 5e-4:  # three decimals would read as none
            return f"{number(self.mean)} ± {self.spread:.1g}"
        return f"{round(self.mean, 3) + 0.0:,.3f} ± {self.spread:,.3f}"


class Arm(NamedTuple):
    """What a mean over seeds is taken within: the columns `.table.ARM`, in their order."""

    kind: str
    model: str
    backbone: str
    variant: str
    adaptation: str
    weights: str
    learning: str
    labels: float
    every: int
    split: str

    @property
    def emulator(self) -> bool:
        """Whether it is no baseline."""
        return self.kind == "emulator"

    @property
    def fair(self) -> bool:
        """Whether it is a baseline that sees no truth of the pixels that are scored."""
        return not self.emulator and self.model not in TOLD

    @property
    def full(self) -> bool:
        """Whether training knew all labels."""
        return self.labels == 1 and self.every == 1

    @property
    def model_name(self) -> str:
        """Model and what it began with, for people; how it was adapted stands beside it."""
        return ", ".join(filter(None, [self._model, self.weights]))

    @property
    def name(self) -> str:
        """Model, adaptation, and what it began with, for people."""
        # a network that never had weights can only be trained from scratch
        adaptation = ADAPTATIONS.get(self.adaptation, self.adaptation) if self.weights else ""
        return ", ".join(filter(None, [self._model, adaptation, self.weights]))

    @property
    def long_name(self) -> str:
        """With how the targets were learned, or what a baseline is told."""
        told = "" if self.emulator else TOLD.get(self.model, "")
        return ", ".join(filter(None, [self.name, self.way, told]))

    @property
    def way(self) -> str:
        """How the targets were learned, for people, in a word or two."""
        return JOINT if self.learning == JOINT else LEARNING.get(self.learning, self.learning)

    @property
    def label_name(self) -> str:
        """Which labels training knew."""
        share = f"{100 * self.labels:.3g} %"
        if self.every == 1:
            return share
        return f"{share}, " * (self.labels < 1) + f"1 of {self.every} steps"

    @property
    def _model(self) -> str:
        if not self.emulator:
            return words(self.model)
        built = f"{BACKBONES.get(self.backbone, self.backbone)} {self.variant}".strip()
        return built if self.model in (self.backbone, built) else f"{self.model} ({built})"

    @property
    def rank(self) -> tuple[Any, ...]:
        """To be sorted by: emulators first, adaptations and ways to learn in the usual order."""
        return (
            not self.emulator,
            _place(BACKBONES, self.backbone),
            self.model,
            self.variant,
            _place(ADAPTATIONS, self.adaptation),
            self.weights,
            _place(LEARNING, self.learning),
            -self.labels,
            self.every,
            self.split,
        )


@dataclass(frozen=True)
class Arms:
    """All arms of a table of cells.

    Parameters
    ----------
    table
        One row a cell, as `.table.tidy` makes it.
    scores
        Of every metric that is finite in any seed, by arm; arms in the order of `Arm.rank`.
    """

    table: pd.DataFrame
    scores: Mapping[Arm, Mapping[str, Score]]

    @classmethod
    def of(cls, table: pd.DataFrame) -> Arms:
        """The arms of a table."""
        metrics = [name for name in table if name in METRICS]
        summary = summarise(table, metrics)
        scores = {}
        for index, row in zip(summary.index, summary.to_dict("records"), strict=True):
            found = {
                name: Score(
                    float(row[name, "mean"]), float(row[name, "spread"]), int(row[name, "n"])
                )
                for name in metrics
                if row[name, "n"]
            }
            scores[Arm(*index)] = found
        return cls(table, dict(sorted(scores.items(), key=lambda item: item[0].rank)))

    def __iter__(self) -> Iterator[Arm]:
        return iter(self.scores)

    @property
    def splits(self) -> list[str]:
        """Names of the splits, the one with most emulators first."""
        arms = [arm for arm in self if arm.emulator] or [*self]
        count = {arm.split: sum(a.split == arm.split for a in arms) for arm in arms}
        return sorted(count, key=lambda split: (-count[split], split))

    def of_split(self, split: str, *metrics: str, full: bool = True) -> list[Arm]:
        """Arms of a split that have any of the metrics, by default those that knew all labels."""
        return [
            arm
            for arm in self
            if arm.split == split
            and (arm.full or not full)
            and (not metrics or any(name in self.scores[arm] for name in metrics))
        ]

    def score(self, arm: Arm, metric: str) -> Score | None:
        """A metric of an arm; None if there is none."""
        return self.scores[arm].get(metric)

    def mean(self, arm: Arm, metric: str) -> float:
        """Of a metric over the seeds; NaN if there is none."""
        score = self.scores[arm].get(metric)
        return score.mean if score else float("nan")

    def cells(self, arm: Arm) -> pd.DataFrame:
        """Rows of the table that are of an arm."""
        return self.table[[row == arm for row in self._rows]]

    def counts(self, arm: Arm, target: str) -> list[int]:
        """How many values of a target its cells were scored on, each number once, ascending."""
        return sorted(self._counts.get((arm, target), ()))

    def comparable(self, arm: Arm, metric: str) -> bool:
        """Whether it was scored on as many values as most emulators of its split.

        Other metrics than those of skill are compared always, as are targets without counts.
        """
        target = metric.partition("_")[0]
        usual = self._usual.get((arm.split, target))
        return usual is None or self.counts(arm, target) == [usual]

    def best(self, arms: Iterable[Arm], metric: str) -> Arm | None:
        """The arm with the lowest mean of those that can be compared; None if there is none."""
        known = [a for a in arms if metric in self.scores[a] and self.comparable(a, metric)]
        return min(known, key=lambda arm: self.mean(arm, metric), default=None)

    def leading(self, arms: Iterable[Arm], metric: str) -> set[Arm]:
        """Of the arms that can be compared that better than all others beyond the noise, if any."""
        wanted = {arm for arm in arms if self.comparable(arm, metric)}
        of = [arm in wanted for arm in self._rows]
        if metric not in self.table or not any(of):
            return set()
        told = leaders(self.table[of], metric)
        return {Arm(*index) for index, leads in told.items() if leads}

    def random(self) -> list[Arm]:
        """Foundation backbones that never saw their pretrained weights."""
        return [arm for arm in self if arm.weights == RANDOM]

    @cached_property
    def _rows(self) -> list[Arm]:
        """The arm of every row of the table."""
        return [Arm(*row) for row in self.table[list(Arm._fields)].itertuples(index=False)]

    @cached_property
    def _counts(self) -> dict[tuple[Arm, str], set[int]]:
        found: dict[tuple[Arm, str], set[int]] = {}
        for target in TARGETS:
            for arm, count in zip(self._rows, finite(self.table, f"{target}_n"), strict=True):
                if count > 0:
                    found.setdefault((arm, target), set()).add(int(count))
        return found

    @cached_property
    def _usual(self) -> dict[tuple[str, str], int]:
        """How many values most emulators of a split have of a target; of several, the most."""
        votes: dict[tuple[str, str], Counter[int]] = {}
        for (arm, target), counts in self._counts.items():
            if arm.emulator:
                votes.setdefault((arm.split, target), Counter()).update(counts)
        return {key: max((of[n], n) for n in of)[1] for key, of in votes.items()}


def has(arms: Arms, prefix: str) -> list[str]:
    """Names of the metrics with a prefix that any arm has, in the order of the vocabulary."""
    found = {name for scores in arms.scores.values() for name in scores}
    return [name for name in METRICS if name.startswith(prefix) and name in found]


def title(metric: str) -> str:
    """Title of a metric with its units."""
    known = units(metric)
    return f"{METRICS[metric].title}, {known}" if known else METRICS[metric].title


def units(metric: str) -> str:
    """Units of a metric with their exponents raised; nothing where they are 1."""
    known = METRICS[metric].units
    return "" if known == "1" else known.replace("m2 m-2", "m² m⁻²").replace("s-1", "s⁻¹")


def _place(order: Mapping[str, str], name: str) -> int:
    return list(order).index(name) if name in order else len(order)
