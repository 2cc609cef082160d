"""Figures of a benchmark: skill against labels, cost and split, and which rules are broken where.

What an arm looks like is told by :mod:`.looks`.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from xlsbc.assess.benchmark.arms import LEARNING, Arm, Arms, has, title
from xlsbc.assess.benchmark.findings import HEADLINES, LAWS
from xlsbc.assess.benchmark.looks import (
    DPI,
    GREY,
    HATCHES,
    SMALL,
    Looks,
    logarithmic,
    panels,
    si,
)
from xlsbc.assess.benchmark.table import METRICS
from xlsbc.assess.plots import WIDTH, Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 12  # arms in a figure; the tables have all
PANELS = 9
COSTS = {
    "flops": "operations",
    "trained_parameters": "trained parameters",
    "training_seconds": "training time",
}

FAIR = "the baselines that see no held-out truth"
SPREAD = "Bars show one standard deviation over seeds, none for one seed"


def sparse_picture(arms: Arms, split: str) -> Picture:
    """Skill against the share of labels that training knew; a panel a target, a line an arm."""
    shown = _measured(arms, arms.of_split(split, *HEADLINES, full=False))
    families = {_family(arm): [a for a in shown if _family(a) == _family(arm)] for arm in shown}
    families = {k: group for k, group in families.items() if len({a.label_name for a in group}) > 1}
    emulators = [k for k in families if k.emulator]
    if not emulators:
        return Picture(f"Split {split}: no model learned from more than one share of labels.")
    drawn, left_out = _most(emulators)
    drawn += [k for k in families if not k.emulator]
    looks, places = Looks(arms), _label_places(families)
    metrics = [name for name in HEADLINES if any(name in arms.scores[arm] for arm in shown)]
    figure, axes = panels(len(metrics), drawn)
    for axis, metric in zip(axes, metrics, strict=True):
        axis.set_xscale("log")
        for k, family in enumerate(drawn):
            shift = 1.03 ** (k - (len(drawn) - 1) / 2)  # so that error bars stand side by side
            spots = {arm: places[arm.label_name] * shift for arm in families[family]}
            _sparse_line(axis, arms, spots, metric, looks.line(family))
        axis.set_xticks([*places.values()], [textwrap.fill(name, 7) for name in places])
        axis.minorticks_off()
        if max(places.values()) > 1:
            axis.axvline(1.6, color="#bbbbbb", linewidth=0.8)
        axis.set_xlabel("labels known to training")
        axis.set_ylabel(title(metric))
    looks.legend(figure, drawn, looks.line)
    apart = " Right of the line, without an order: labels thinned in time."
    return Picture(
        f"Skill on held-out pixels of split {split} against the share of labels. {SPREAD} "
        f"({_seeds(arms, shown)}). Grey: {FAIR}.{apart * (max(places.values()) > 1)}"
        f"{_rest(left_out)}",
        f"{len(metrics)} panels with a line for each of {_names(drawn)}: "
        f"{', '.join(METRICS[name].title for name in metrics)} against the share of labels.",
        figure,
    )


def cost_picture(arms: Arms, split: str, numbers: Mapping[Arm, int]) -> Picture:
    """LAI RMSE against three costs, with the Pareto front; `numbers` are those of the table."""
    rows = [arm for arm in arms.of_split(split, "lai_rmse") if arm.emulator]
    costs = [name for name in COSTS if any(name in arms.scores[arm] for arm in rows)]
    if not costs:
        return Picture("Skill against cost is not drawn: no emulator has both.")
    looks = Looks(arms)
    baseline = arms.best([a for a in arms.of_split(split) if a.fair], "lai_rmse")
    figure, axes = panels(len(costs), rows, sharey=True)
    for axis, metric in zip(axes, costs, strict=True):
        points = _points(arms, rows, metric)
        for arm, (x, y) in points.items():
            spread = _spread(arms, arm, "lai_rmse")
            axis.errorbar(x, y, yerr=spread, capsize=2, **looks.point(arm))
        front = pareto(points)
        axis.step(*zip(*(points[a] for a in front), strict=True), where="post", color=GREY, lw=1)
        for arm in front:
            axis.annotate(
                str(numbers[arm]), points[arm], (5, 5), textcoords="offset points", fontsize=SMALL
            )
        if baseline is not None:
            axis.axhline(arms.mean(baseline, "lai_rmse"), color=GREY, linestyle="--", lw=1)
        logarithmic(axis, lambda x, _: si(x))
        axis.set_xlabel(title(metric))
    axes[0].set_ylabel(title("lai_rmse"))
    looks.legend(figure, rows, looks.point)
    best = "" if baseline is None else f" Dashed: {baseline.name}, the best of {FAIR}."
    return Picture(
        f"Means over seeds ({_seeds(arms, rows)}), split {split}, all labels; left and below is "
        f"better. {SPREAD}. Grey steps: the Pareto front of the means, noise not regarded; its "
        f"numbers are those of the table below.{best}",
        f"Scatter of LAI RMSE against {', '.join(METRICS[name].title for name in costs)} for "
        f"{_names(rows)}.",
        figure,
    )


def split_picture(arms: Arms) -> Picture:
    """Skill by split, for arms that were run on several; a panel a target."""
    rows = [arm for arm in arms if arm.full and any(m in arms.scores[arm] for m in HEADLINES)]
    shown = _measured(arms, rows)
    families = {arm._replace(split=""): [] for arm in shown}  # type: dict[Arm, list[Arm]]
    for arm in shown:
        families[arm._replace(split="")].append(arm)
    families = {k: group for k, group in families.items() if len(group) > 1}
    if not any(k.emulator for k in families):
        return Picture("Generalisation is not drawn: no model was run on more than one split.")
    drawn, left_out = _most([k for k in families if k.emulator])
    drawn += [k for k in families if not k.emulator]
    splits = [s for s in arms.splits if any(a.split == s for g in families.values() for a in g)]
    looks = Looks(arms)
    metrics = [name for name in HEADLINES if any(name in arms.scores[arm] for arm in shown)]
    figure, axes = panels(len(metrics), drawn)
    place = {name: k for k, name in enumerate(k for k in drawn if k.emulator)}
    width = 0.7 / max(1, len(place) - 1)
    for axis, metric in zip(axes, metrics, strict=True):
        for family in drawn:
            for arm in families[family]:
                if (score := arms.score(arm, metric)) is None:
                    continue
                x = float(splits.index(arm.split))
                if not arm.emulator:
                    axis.plot([x - 0.42, x + 0.42], [score.mean] * 2, **looks.line(family))
                    continue
                x += width * (place[family] - (len(place) - 1) / 2)
                spread = _spread(arms, arm, metric)
                axis.errorbar(x, score.mean, yerr=spread, capsize=2, **looks.point(family))
        axis.set_xticks(range(len(splits)), [textwrap.fill(name, 12) for name in splits])
        axis.set_xlim(-0.5, len(splits) - 0.5)
        axis.set_ylabel(title(metric))
        for x in range(1, len(splits)):
            axis.axvline(x - 0.5, color="#dddddd", linewidth=0.8)
    looks.legend(figure, drawn, lambda a: looks.point(a) if a.emulator else looks.line(a))
    return Picture(
        f"Skill by what was held out, all labels. {SPREAD} ({_seeds(arms, shown)}). Grey lines: "
        f"{FAIR}.{_rest(left_out)}",
        f"{len(metrics)} panels of dots by split ({', '.join(splits)}) for {_names(drawn)}.",
        figure,
    )


def rule_picture(arms: Arms, split: str) -> Picture:
    """Share of the area that breaks a rule, for each rule that any arm breaks; a bar an arm."""
    from matplotlib.patches import Patch

    rows = arms.of_split(split, *has(arms, "share_"))
    rules = broken_rules(arms, rows)
    if not rows or not rules:
        why = "no rule is broken anywhere" if rows else "no arm was checked"
        return Picture(f"Split {split}: no bars of consistency are drawn, {why}.")
    emulators = [arm for arm in rows if arm.emulator]
    both = [arm for arm in emulators if sum(a.name == arm.name for a in emulators) > 1]
    drawn, left_out = _most(both or emulators)
    drawn += [arm for arm in rows if not arm.emulator]
    drawn.sort(key=lambda arm: arm.rank)
    looks, shown = Looks(arms), rules[:PANELS]
    figure, axes = _rule_panels(len(shown), len(drawn))
    for axis, rule in zip(axes.flat, shown, strict=False):
        for k, arm in enumerate(drawn):
            score = arms.score(arm, f"share_{rule}")
            if score is not None:
                spread = _spread(arms, arm, f"share_{rule}")
                axis.barh(
                    k,
                    100 * score.mean,
                    xerr=None if spread is None else 100 * spread,
                    facecolor=looks.colors.get(arm.model, "#bbbbbb"),
                    hatch=HATCHES.get(arm.learning, ""),
                    edgecolor="white" if HATCHES.get(arm.learning) else "none",
                    linewidth=0,
                    error_kw={"ecolor": "black", "elinewidth": 1, "capsize": 2},
                )
        kind = "law" if rule in LAWS else "expectation"
        heading = f"{METRICS[f'check_{rule}'].title} ({kind})"
        axis.set_title(textwrap.fill(heading, 40), fontsize=SMALL)
        axis.set_xlim(left=0)
        axis.locator_params(axis="x", nbins=5)
    for axis in list(axes.flat)[len(shown) :]:
        axis.set_axis_off()
    axes[0, 0].set_yticks(range(len(drawn)), [textwrap.fill(a.long_name, 38) for a in drawn])
    axes[0, 0].invert_yaxis()
    figure.supxlabel("share of the area that breaks it, %", fontsize=10)
    ways = [way for way in LEARNING if any(arm.learning == way for arm in drawn)]
    figure.legend(
        handles=[
            Patch(facecolor=GREY, edgecolor="white", hatch=HATCHES[way], label=LEARNING[way])
            for way in ways
        ],
        loc="outside upper center",
        ncols=4,
        fontsize=SMALL,
        frameon=False,
    )
    more = f" {len(rules) - PANELS} more rules are in the table." * (len(rules) > PANELS)
    return Picture(
        f"Share of the area that breaks a law or an expectation, split {split}, all labels. "
        f"{SPREAD} ({_seeds(arms, drawn)}). No bar: it holds, or was not looked at.{more}"
        f"{_rest(left_out)}",
        f"Bars of the share of the area that breaks each of {len(shown)} rules, for "
        f"{_names(drawn)}.",
        figure,
    )


def broken_rules(arms: Arms, rows: Sequence[Arm]) -> list[str]:
    """Names of the rules that any of the arms breaks anywhere: laws first, then by area."""
    names = [name.removeprefix("share_") for name in has(arms, "share_")]
    worst = {
        name: max((s.mean for a in rows if (s := arms.score(a, f"share_{name}"))), default=0.0)
        for name in names
    }
    return sorted((n for n in names if worst[n] > 0), key=lambda n: (n not in LAWS, -worst[n], n))


def pareto(points: Mapping[Arm, tuple[float, float]]) -> list[Arm]:
    """Arms that none beats in both numbers, ascending in the first; lower is better in both."""
    front: list[Arm] = []
    for arm in sorted(points, key=lambda a: points[a]):
        if not front or points[arm][1] < points[front[-1]][1]:
            front.append(arm)
    return front


def cost_front(arms: Arms, rows: Sequence[Arm], metric: str) -> list[Arm]:
    """Of the emulators among rows, those that none beats in a cost and LAI RMSE both."""
    return pareto(_points(arms, [arm for arm in rows if arm.emulator], metric))


def _points(arms: Arms, rows: Sequence[Arm], metric: str) -> dict[Arm, tuple[float, float]]:
    points = {arm: (arms.mean(arm, metric), arms.mean(arm, "lai_rmse")) for arm in rows}
    return {arm: point for arm, point in points.items() if math.isfinite(sum(point))}


def _label_places(families: Mapping[Arm, Sequence[Arm]]) -> dict[str, float]:
    """Where labels stand on the axis: at their share, or right of 1 if thinned in time."""
    found = {arm for group in families.values() for arm in group}
    places = {a.label_name: a.labels for a in sorted(found, key=lambda a: a.labels) if a.every == 1}
    thinned = sorted({(a.every, -a.labels, a.label_name) for a in found if a.every > 1})
    return places | {name: 3.0 ** (k + 1) for k, (*_, name) in enumerate(thinned)}


def _sparse_line(
    axis: Axes, arms: Arms, spots: Mapping[Arm, float], metric: str, style: dict[str, Any]
) -> None:
    """Means joined along the share of labels; those of labels thinned in time stand alone."""
    known = {arm: x for arm, x in spots.items() if arm.every == 1 and metric in arms.scores[arm]}
    line = sorted(known, key=lambda arm: arm.labels)
    if line:
        bars = [_spread(arms, arm, metric) for arm in line]
        drawn = [math.nan if bar is None else bar for bar in bars]
        axis.errorbar(
            [spots[arm] for arm in line],
            [arms.mean(arm, metric) for arm in line],
            yerr=drawn if any(bars) else None,
            capsize=2,
            **style,
        )
    for arm, x in spots.items():
        if arm.every > 1 and (score := arms.score(arm, metric)):
            if arm.emulator:
                alone = {**style, "linestyle": "none"}
                axis.errorbar(x, score.mean, yerr=_spread(arms, arm, metric), capsize=2, **alone)
            else:
                axis.plot([x / 1.4, x * 1.4], [score.mean] * 2, **style)


def _rule_panels(count: int, bars: int) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    columns = min(3, count)
    rows = math.ceil(count / columns)
    height = 0.9 + rows * (0.75 + 0.33 * bars)
    figure = Figure((WIDTH, height), dpi=DPI, layout="constrained")
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axis in axes.flat:
        axis.grid(axis="x", alpha=0.3)
        axis.set_axisbelow(True)
        axis.tick_params(labelsize=SMALL)
    return figure, axes


def _measured(arms: Arms, rows: Sequence[Arm]) -> list[Arm]:
    """The emulators, and the baselines that they are measured by."""
    alike = [arm for arm in rows if all(arms.comparable(arm, name) for name in HEADLINES)]
    return [arm for arm in rows if arm.emulator or (arm.fair and arm in alike)]


def _family(arm: Arm) -> Arm:
    """The arm, whatever labels it knew."""
    return arm._replace(labels=1.0, every=1)


def _most(arms: Sequence[Arm]) -> tuple[list[Arm], int]:
    """The first `MOST`, those that learn together before others, and how many are left out."""
    ways = [*LEARNING, ""]
    ordered = sorted(arms, key=lambda a: ways.index(a.learning) if a.learning in ways else 9)
    return sorted(ordered[:MOST], key=lambda arm: arm.rank), max(0, len(arms) - MOST)


def _spread(arms: Arms, arm: Arm, metric: str) -> float | None:
    score = arms.score(arm, metric)
    return score.spread if score and math.isfinite(score.spread) else None


def _seeds(arms: Arms, rows: Sequence[Arm]) -> str:
    counts = sorted({s.n for a in rows if a.emulator for s in arms.scores[a].values()} or {1})
    if counts[-1] == 1:
        return "n = 1 seed"
    return f"n = {' to '.join(map(str, dict.fromkeys((counts[0], counts[-1]))))} seeds"


def _names(arms: Sequence[Arm]) -> str:
    return "; ".join(arm.long_name for arm in arms)


def _rest(count: int) -> str:
    return f" {count} more arms stand in the tables alone." * bool(count)
