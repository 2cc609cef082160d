"""What the numbers of a benchmark say, in sentences that cannot say more than the numbers do."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeVar

import numpy as np

from xlsbc.assess.benchmark.arms import JOINT, LEARNING, Arm, Arms, units
from xlsbc.assess.benchmark.columns import finite
from xlsbc.assess.benchmark.paired import SEEDS, holm
from xlsbc.assess.benchmark.table import METRICS, Comparison, compare
from xlsbc.assess.page import words
from xlsbc.physics.consistency import RULES

HEADLINES = ("lai_rmse", "lu_mae", "lc_mae")
SIGNIFICANT = 0.05
NOISE = "beyond the noise of seeds, on these held-out pixels"
APART = {
    "sequential": "the sequential chain",
    "sequential-coupled": "the coupled chain",
    "single": "single networks",
}
ADJUSTED = (
    "Whichever of joint and apart is called better above is so beyond the noise of seeds, on these "
    "held-out pixels; the p values of these sentences are adjusted for all of them together (Holm)."
)
TIMES = (
    "Times are of cells that ran beside others; how many at once stands in What was run. "
    "Pixel-years a second are of predicting and writing, a chain's with its intermediate stores; "
    "the seconds of gradient boosting include its prediction. Parameters of chains and singles "
    "count every network, with heads that are not trained."
)
CHECKED = "Gradient boosting is checked in held-out pixels only, all others everywhere."
LAWS = {rule.name: rule.long_name for rule in RULES if rule.law}


K = TypeVar("K")


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
    found = _adjusted(
        {(p, m): one for p in told for m in HEADLINES if (one := compared(arms, p, m)) is not None}
    )
    tested = any(math.isfinite(one.p) for one in found.values())
    return [
        *_best(arms, split),
        *(f"{_skill(pair, found)} {_laws(arms, pair)}" for pair in told),
        *([ADJUSTED] if tested else []),
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


def heads_told(arms: Arms) -> str:
    """What of joint against apart is due to heads, and what chains suffer from."""
    coupled = any(arm.learning == "sequential-coupled" for arm in arms)
    apart = (
        "The coupled chain (sequential, coupled) tells the two effects apart."
        if coupled
        else "A coupled chain would tell the two effects apart; none was run."
    )
    return (
        "Which laws a model cannot break follows from its heads, not from learning together: "
        "coupled heads cannot break those of land use, cover and leaves, plain ones can. "
        f"{apart} A chain's networks learn from what the one before makes of its own training "
        "pixels, which is nearer to the truth than what it makes elsewhere: a known handicap of "
        "chains."
    )


def interval(found: Comparison, metric: str, *, adjusted: bool = False) -> str:
    """A difference with its interval, in units."""
    text = f"{found.difference:+.2g} {units(metric)}".rstrip()
    if found.n < 2:
        return f"{text} (one seed)"
    p = "adjusted " * adjusted + _p(found.p)
    return f"{text} (95 %: {found.low:+.2g} to {found.high:+.2g}; {p})"


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
    if arms.mean(arm, "laws_broken") == 0:
        return []  # what is on some area may be within the law's tolerance
    shares = {title: arms.mean(arm, f"share_{name}") for name, title in LAWS.items()}
    return [
        f"{_lower(title)}, on {_percent(share)} of the area"
        for title, share in shares.items()
        if share > 0
    ]


def laws(arms: Arms, arm: Arm) -> str:
    """How many laws an arm breaks of how many were looked at, as means over seeds."""
    score = arms.score(arm, "laws_broken")
    if score is None:
        return "–"
    looked = sum(np.isfinite(finite(arms.cells(arm), f"check_{name}")) for name in LAWS)
    text = _count(score.mean)
    if score.n > 1 and score.spread > 0:
        text += f" ± {score.spread:.2g}"
    return f"{text} of {_count(float(np.mean(looked)))}" if np.any(looked) else text


def _best(arms: Arms, split: str) -> Iterator[str]:
    rows = [arm for arm in arms.of_split(split, "lai_rmse") if arm.emulator or arm.fair]
    rows = [arm for arm in rows if arms.comparable(arm, "lai_rmse")]
    best = arms.best([arm for arm in rows if arm.emulator], "lai_rmse")
    baseline = arms.best([arm for arm in rows if arm.fair], "lai_rmse")
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
        text += "; of a baseline that sees no held-out truth, "
        text += f"{least.text} ({baseline.name}{ratio})"
    leader = next(iter(arms.leading(rows, "lai_rmse")), baseline)
    if len(rows) < 2:
        yield f"{text}. It stands alone."
    elif score.n < SEEDS:
        yield f"{text}. With fewer than {SEEDS} seeds nobody can be called better."
    elif leader is not None and leader.emulator:
        yield f"{text}. {leader.long_name} is better than every other {NOISE}."
    elif baseline is not None:
        emulators = [arm for arm in rows if arm.emulator]
        yield f"{text}. {_against(arms, emulators, best, baseline)}"
    else:
        yield f"{text}. Nothing here is better than every other {NOISE}."


def _against(arms: Arms, emulators: Sequence[Arm], best: Arm, baseline: Arm) -> str:
    """How the best baseline does against the emulators, none of which leads."""
    held = {
        arm: compare(arms.table, "lai_rmse", arm._asdict(), baseline._asdict()) for arm in emulators
    }
    found = _adjusted({arm: one for arm, one in held.items() if one is not None})
    # a test of fewer seeds has hardly any spread to go by
    apart = {a: one for a, one in found.items() if one.n >= SEEDS and one.p < SIGNIFICANT}
    worse = [arm for arm, one in apart.items() if one.difference > 0]
    better = [arm for arm, one in apart.items() if one.difference < 0]
    start = f"{baseline.name}, {arms.scores[baseline]['lai_rmse'].text}, is"
    if len(worse) == len(emulators):
        return f"{start} better than every emulator {NOISE}."
    nothing = f"Nothing here is better than every other {NOISE}"
    if not apart:
        return f"{nothing}: {baseline.name} is neither better nor worse than any emulator."
    sides = [
        f"{side} than {len(of)} of {len(emulators)} emulators{_named(of, best)}"
        for side, of in (("better", worse), ("worse", better))
        if of
    ]
    if best not in apart:
        sides.append(f"not told apart from {best.long_name}")
    return f"{nothing}; {start} {' and '.join(sides)}."


def _named(of: Sequence[Arm], best: Arm) -> str:
    if len(of) <= 2:
        return f" ({'; '.join(arm.long_name for arm in of)})"
    return f" ({best.long_name} among them)" if best in of else ""


def _adjusted(found: Mapping[K, Comparison]) -> dict[K, Comparison]:
    """Comparisons whose p values are Holm's, of all that have one together."""
    tested = [key for key, one in found.items() if math.isfinite(one.p)]
    p = holm(np.array([found[key].p for key in tested], float)).tolist()
    told = dict(zip(tested, p, strict=True))
    return {key: replace(one, p=told.get(key, math.nan)) for key, one in found.items()}


def _skill(pair: Pair, found: Mapping[tuple[Pair, str], Comparison]) -> str:
    said = []
    for metric in HEADLINES:
        if (one := found.get((pair, metric))) is not None:
            told = f"{METRICS[metric].title} {interval(one, metric, adjusted=True)}"
            told += f", {verdict(one, metric, pair.other)}" * (one.n > 1)
            said.append(told)
    if any(one.n < 2 for (of, _), one in found.items() if of == pair):
        said.append("one seed tells nothing about noise")
    joint, apart = (LEARNING[arm.learning] for arm in pair)
    start = f"{pair.joint.name}, {joint} minus {apart}, split {pair.joint.split}, all labels"
    return f"{start}: {'; '.join(said) if said else 'no score in common'}."


def _laws(arms: Arms, pair: Pair) -> str:
    if not all("laws_broken" in arms.scores[arm] for arm in pair):
        return "Consistency was not checked on both."
    verb = "breaks" if pair.other.startswith("the") else "break"
    said = [
        f"{who} {laws(arms, arm)} "
        f"{'law' if laws(arms, arm) == '1' else 'laws'}{_listed(broken(arms, arm))}"
        for who, arm in (("Joint breaks", pair.joint), (f"{pair.other} {verb}", pair.apart))
    ]
    return f"{', '.join(said)}."


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


def _count(value: float) -> str:
    return f"{value:.3g}"


def _listed(items: list[str]) -> str:
    rest = [f"and {len(items) - 2} more"] if len(items) > 2 else []
    return f" ({'; '.join(items[:2] + rest)})" if items else ""


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _p(value: float) -> str:
    return "p < 0.001" if value < 1e-3 else f"p = {value:.2g}"


def _lower(title: str) -> str:
    return words(title[:1].lower() + title[1:])
