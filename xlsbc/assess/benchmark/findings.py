"""What the numbers of a benchmark say, in sentences that cannot say more than the numbers do."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from xlsbc.assess.benchmark.arms import LEARNING, Arm, Arms, units
from xlsbc.assess.benchmark.paired import SEEDS
from xlsbc.assess.benchmark.table import METRICS, Comparison, compare
from xlsbc.assess.page import number, words
from xlsbc.physics.consistency import RULES

HEADLINES = ("lai_rmse", "lu_mae", "lc_mae")
SIGNIFICANT = 0.05
JOINT = "multi-task"
APART = {"sequential": "the sequential chain", "single": "single networks"}
LAWS = {rule.name: rule.long_name for rule in RULES if rule.law}


class Pair(NamedTuple):
    """An emulator of all targets, and the same model that learned them apart."""

    joint: Arm
    apart: Arm

    @property
    def other(self) -> str:
        """How it learned them, for people."""
        return APART.get(self.apart.learning, self.apart.learning)


def findings(arms: Arms) -> list[str]:
    """The headlines: who is best, whether learning together pays, and what was not measured.

    They are of all labels, on the split with most emulators; `pairs` has every other comparison.
    """
    split = arms.splits[0] if arms.splits else ""
    told = [pair for pair in pairs(arms) if pair.joint.full and pair.joint.split == split]
    return [
        *_best(arms, split),
        *(f"{_skill(arms, pair)} {_laws(arms, pair)}" for pair in told),
        *_unpretrained(arms),
    ]


def pairs(arms: Arms) -> list[Pair]:
    """All pairs of a table that differ in how the targets were learned and in nothing else."""
    joint = [arm for arm in arms if arm.learning == JOINT]
    others = [(arm, arm._replace(learning=way)) for arm in joint for way in APART]
    return [Pair(arm, other) for arm, other in others if other in arms.scores]


def compared(arms: Arms, pair: Pair, metric: str) -> Comparison | None:
    """The joint emulator's metric minus the other's, over common seeds; None if there is none."""
    if not all(metric in arms.scores[arm] for arm in pair):
        return None
    found = compare(arms.table, metric, pair.joint._asdict(), pair.apart._asdict())
    return found if found is not None and math.isfinite(found.difference) else None


def interval(found: Comparison, metric: str) -> str:
    """A difference with its interval, in units."""
    text = f"{found.difference:+.2g} {units(metric)}".rstrip()
    if found.n < 2:
        return f"{text} (one seed)"
    return f"{text} (95 %: {found.low:+.2g} to {found.high:+.2g}; {_p(found.p)})"


def verdict(found: Comparison, metric: str, other: str) -> str:
    """What a difference says; `other` is what the joint emulator is held against."""
    if found.n < 2:
        return "one seed tells nothing about noise"
    if not found.p < SIGNIFICANT:
        return f"no difference beyond the noise of {found.n} seeds"
    joint_is_lower = found.difference < 0
    better = joint_is_lower == (METRICS[metric].better == "lower")
    verb = "is" if other.startswith("the") else "are"
    return "joint is better" if better else f"{other} {verb} better"


def broken(arms: Arms, arm: Arm) -> list[str]:
    """Titles of the laws that an arm breaks on some area, with the share of it."""
    shares = {title: arms.mean(arm, f"share_{name}") for name, title in LAWS.items()}
    return [
        f"{_lower(title)}, on {_percent(share)} of the area"
        for title, share in shares.items()
        if share > 0
    ]


def _best(arms: Arms, split: str) -> Iterator[str]:
    rows = arms.of_split(split, "lai_rmse")
    best = arms.best([arm for arm in rows if arm.emulator], "lai_rmse")
    baseline = arms.best([arm for arm in rows if not arm.emulator], "lai_rmse")
    if best is None:
        yield "No emulator that learned from all labels was scored on leaf area index."
        return
    score = arms.scores[best]["lai_rmse"]
    seeds = f"{score.n} seeds" if score.n > 1 else "one seed"
    text = (
        f"Leaf area index, split {split}, all labels: the lowest mean RMSE of an emulator is "
        f"{score.text} {units('lai_rmse')} ({best.long_name}; {seeds})"
    )
    if baseline is not None:
        least = arms.scores[baseline]["lai_rmse"]
        ratio = f", ratio {score.mean / least.mean:.2f}" if least.mean > 0 else ""
        text += f"; of a baseline, {least.text} ({baseline.name}{ratio})"
    if len(rows) < 2:
        yield f"{text}. It stands alone."
    elif score.n < SEEDS:
        yield f"{text}. With fewer than {SEEDS} seeds nobody can be called better."
    elif leading := arms.leading(rows, "lai_rmse"):
        yield f"{text}. Beyond the noise, {leading.pop().long_name} is better than every other."
    else:
        yield f"{text}. Nothing here is better than every other beyond the noise."


def _skill(arms: Arms, pair: Pair) -> str:
    said = []
    for metric in HEADLINES:
        if (found := compared(arms, pair, metric)) is not None:
            told = f"{interval(found, metric)}, {verdict(found, metric, pair.other)}"
            said.append(f"{METRICS[metric].title} {told}")
    joint, apart = (LEARNING[arm.learning] for arm in pair)
    start = f"{pair.joint.name}, {joint} minus {apart}, split {pair.joint.split}, all labels"
    return f"{start}: {'; '.join(said) if said else 'no score in common'}."


def _laws(arms: Arms, pair: Pair) -> str:
    counts = [arms.mean(arm, "laws_broken") for arm in pair]
    if not all(math.isfinite(count) for count in counts):
        return "Consistency was not checked on both."
    verb = "breaks" if pair.other.startswith("the") else "break"
    text = f"Joint breaks {_laws_text(counts[0])}"
    text += _listed(broken(arms, pair.joint)) if counts[0] else ""
    text += f", {pair.other} {verb} {_laws_text(counts[1])}"
    return text + (_listed(broken(arms, pair.apart)) if counts[1] else "") + "."


def _unpretrained(arms: Arms) -> Iterator[str]:
    foundation = [arm for arm in arms if arm.weights]
    if not (random := arms.random()):
        return
    if len(random) == len(foundation):
        yield (
            "The foundation backbones here are random-initialised: they did not see their "
            "pretrained weights, so nothing on this page measures pretraining."
        )
    else:
        yield (
            "What is called random-initialised is a foundation backbone that did not see its "
            "pretrained weights: its rows measure nothing of pretraining."
        )


def _laws_text(count: float) -> str:
    return f"{number(count).removesuffix('.000')} {'law' if count == 1 else 'laws'}"


def _listed(items: list[str]) -> str:
    rest = [f"and {len(items) - 2} more"] if len(items) > 2 else []
    return f" ({'; '.join(items[:2] + rest)})" if items else ""


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"


def _p(value: float) -> str:
    return "p < 0.001" if value < 1e-3 else f"p = {value:.2g}"


def _lower(title: str) -> str:
    return words(title[:1].lower() + title[1:])
