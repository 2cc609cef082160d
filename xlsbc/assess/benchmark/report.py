"""The report of a benchmark: one HTML file whose every number comes from the table of its cells.

The same table gives the same bytes. What a table lacks is left out, with a sentence that says why;
bold is only what is better than everything beside it beyond the noise.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

import xarray as xr

from xlsbc.assess.benchmark.arms import ADAPTATIONS, Arm, Arms, has, title
from xlsbc.assess.benchmark.findings import (
    HEADLINES,
    LAWS,
    broken,
    compared,
    findings,
    interval,
    pairs,
    verdict,
)
from xlsbc.assess.benchmark.maps import curve_picture, error_picture, pictured
from xlsbc.assess.benchmark.pictures import (
    COSTS,
    broken_rules,
    cost_picture,
    pareto,
    rule_picture,
    si,
    sparse_picture,
    split_picture,
)
from xlsbc.assess.benchmark.table import METRICS
from xlsbc.assess.page import (
    cell,
    document,
    facts_table,
    figure,
    head,
    headline_list,
    note,
    number,
    row_head,
    table,
    write,
)
from xlsbc.assess.report import TARGETS

if TYPE_CHECKING:
    import pandas as pd

BOLD = "Bold: better than every other row beyond the noise (paired tests, Holm, 5 %)."
# Titles of metrics and models are long, and tables wide.
STYLE = """body { max-width: 86rem; } figure img { max-width: 72rem; } table { font-size: .82em; }
th, td { padding: .3rem .5rem; }
th.number { white-space: normal; min-width: 5rem; }
tbody th { min-width: 11rem; }
@page { size: A4 landscape; margin: 12mm; }
@media print { figure img { width: auto; max-width: 100%; max-height: 140mm; }
  table { font-size: 9px; } th, td { padding: .15rem .3rem; }
  th.number { min-width: 0; } tbody th { min-width: 8rem; } }
"""
MEANS = "Mean ± standard deviation over seeds; – where there is none."


def write_report(
    path: str | os.PathLike[str],
    *,
    title: str,
    table: pd.DataFrame,
    fields: Mapping[str, xr.Dataset],
    facts: Mapping[str, str],
    notes: Sequence[str] = (),
) -> None:
    """Write a benchmark as one self-contained HTML file; `path` is replaced whole or not at all.

    Computes of the fields what is drawn.

    Parameters
    ----------
    path
        A local file name; its folder must exist.
    title
        Heading of the page.
    table
        One row a cell, as `.table.tidy` makes it.
    fields
        By cell: ``error`` (latitude, longitude), root mean square error of LAI in m2 m-2, NaN where
        unknown; ``held_out`` (latitude, longitude), boolean; and what
        `xlsbc.assess.views.seasonal_means` returned. Cells may lack.
    facts
        What was run, in the order to be shown: data, hashes, seeds, machine, what failed.
    notes
        Sentences for the reader, below the headlines.
    """
    arms = Arms.of(table)
    sections = [
        ("In short", headline_list(findings(arms)) + "".join(note(text) for text in notes)),
        ("What was run", _run(arms, facts)),
        ("Skill", _skill(arms)),
        ("Learning together or apart", _together(arms)),
        ("Skill against labels", _sparse(arms)),
        ("Skill against cost", _cost(arms)),
        ("Generalisation", figure(split_picture(arms))),
        ("Physical consistency", _consistency(arms)),
        ("Where and when", _fields(arms, fields)),
    ]
    write(path, document(title, sections, style=STYLE))


def _run(arms: Arms, facts: Mapping[str, str]) -> str:
    count = arms.table["kind"].value_counts()
    kinds = (("emulator", "of emulators"), ("baseline", "of baselines"))
    cells = ", ".join(f"{count.get(kind, 0)} {name}" for kind, name in kinds)
    return facts_table(facts, "") + note(
        f"The table holds {len(arms.table)} finished cells: {cells}."
    )


def _skill(arms: Arms) -> str:
    html = note(f"Models that learned from all labels. {MEANS} {BOLD} Baselines stand below.")
    for split in arms.splits:
        html += f"<h3>{escape(f'Split {split}')}</h3>\n"
        html += "".join(_skill_table(arms, split, target) for target in TARGETS)
    return html


def _skill_table(arms: Arms, split: str, target: str) -> str:
    metrics = [name for name in has(arms, f"{target}_") if name != f"{target}_n"]
    rows = arms.of_split(split, *metrics) if metrics else []
    if not rows:
        return note(f"{TARGETS[target]} was not scored of any arm with all labels.")
    counts = sorted({arms.mean(a, f"{target}_n") for a in rows} - {0.0})
    counts = [count for count in counts if math.isfinite(count)]
    spans = " to ".join(f"{count:,.0f}" for count in dict.fromkeys(counts[:1] + counts[-1:]))
    heads = [*_arm_heads(), *(head(_metric(target, name), numeric=True) for name in metrics)]
    bold = {name: arms.leading(rows, name) for name in metrics}
    body = [
        [*_arm_cells(arms, arm), *(_score(arms, arm, name, arm in bold[name]) for name in metrics)]
        for arm in rows
    ]
    own = [k for k, arm in enumerate(rows) if arm.emulator]
    return table(
        TARGETS[target], f"split {split}; {spans} values a cell" if spans else "", heads, body, own
    )


def _together(arms: Arms) -> str:
    found = pairs(arms)
    if not found:
        return note("Left out: no model learned all targets jointly and apart as well.")
    metrics = [name for name in HEADLINES if any(compared(arms, pair, name) for pair in found)]
    heads = [head(name) for name in ("model", "against", "split", "labels")]
    heads += [head(title(name)) for name in metrics]
    heads += [head("laws broken, joint"), head("laws broken, the other")]
    rows = []
    for pair in found:
        row = [row_head(pair.joint.name), cell(pair.other), cell(pair.joint.split)]
        row.append(cell(pair.joint.label_name))
        for name in metrics:
            told = compared(arms, pair, name)
            said = f"{interval(told, name)}: {verdict(told, name, pair.other)}" if told else "–"
            row.append(cell(said))
        rows.append(row + [cell(_laws(arms, arm)) for arm in pair])
    return note(
        "Differences, joint (multi-task) minus the other, paired by seed, with the 95 % interval "
        "of Student's t. The p values are not adjusted for how many comparisons there are."
    ) + table("Joint against sequential and single", "", heads, rows)


def _sparse(arms: Arms) -> str:
    html = note(f"{MEANS} {BOLD}")
    for split in arms.splits:
        picture = sparse_picture(arms, split)
        html += figure(picture)
        if picture.figure is not None:
            html += "".join(_sparse_table(arms, split, metric) for metric in HEADLINES)
    return html


def _sparse_table(arms: Arms, split: str, metric: str) -> str:
    found = arms.of_split(split, metric, full=False)
    count = Counter(arm._replace(labels=1.0, every=1) for arm in found)
    families = [family for family in count if count[family] > 1]
    rows = [arm for arm in found if arm._replace(labels=1.0, every=1) in families]
    if not rows:
        return ""
    known = sorted({(arm.every, arm.labels) for arm in rows})
    heads, columns = _arm_heads()[:-1], []
    for every, labels in known:
        same = [arm for arm in rows if (arm.every, arm.labels) == (every, labels)]
        columns.append((every, labels, arms.leading(same, metric)))
        heads.append(head(same[0].label_name, numeric=True))
    body = []
    for family in families:
        row = _arm_cells(arms, family)[:-1]
        for every, labels, bold in columns:
            arm = family._replace(labels=labels, every=every)
            row.append(_score(arms, arm, metric, arm in bold, counted=True))
        body.append(row)
    own = [k for k, family in enumerate(families) if family.emulator]
    text = f"by the labels that training knew, split {split}; in brackets the seeds"
    return table(title(metric), text, heads, body, own)


def _cost(arms: Arms) -> str:
    costs = [name for name, metric in METRICS.items() if metric.group == "cost"]
    split = arms.splits[0] if arms.splits else ""
    rows = arms.of_split(split, *costs)
    costs = [name for name in costs if any(name in arms.scores[arm] for arm in rows)]
    if not rows:
        return note("Left out: no cell with all labels has a cost.")
    numbers = {arm: k for k, arm in enumerate(rows, 1)}
    fronts = {name: _front(arms, rows, name) for name in COSTS if name in costs}
    heads = [head("no."), *_arm_heads(), head(title("lai_rmse"), numeric=True)]
    heads += [head(title(name), numeric=True) for name in costs] + [head("on the front of")]
    body = [
        [
            cell(str(numbers[arm])),
            *_arm_cells(arms, arm),
            _score(arms, arm, "lai_rmse", False),
            *(_amount(arms, arm, name) for name in costs),
            cell(", ".join(COSTS[name] for name in fronts if arm in fronts[name]) or "–"),
        ]
        for arm in rows
    ]
    lacking = "" if "energy" in costs else " This machine does not tell its energy."
    return figure(cost_picture(arms, split, numbers)) + table(
        "Cost", f"split {split}, all labels. {MEANS}{lacking}", heads, body
    )


def _front(arms: Arms, rows: Sequence[Arm], metric: str) -> list[Arm]:
    points = {a: (arms.mean(a, metric), arms.mean(a, "lai_rmse")) for a in rows if a.emulator}
    return pareto({a: point for a, point in points.items() if math.isfinite(sum(point))})


def _amount(arms: Arms, arm: Arm, metric: str) -> str:
    if (score := arms.score(arm, metric)) is None:
        return cell("–", numeric=True)
    varies = math.isfinite(score.spread) and score.spread > 0
    return cell(si(score.mean) + (f" ± {si(score.spread)}" if varies else ""), numeric=True)


def _consistency(arms: Arms) -> str:
    html = ""
    for split in arms.splits:
        rows = arms.of_split(split, "laws_broken", *has(arms, "share_"), *has(arms, "check_"))
        if not rows:
            html += note(f"Split {split}: no arm with all labels was checked.")
            continue
        html += f"<h3>{escape(f'Split {split}')}</h3>\n"
        html += figure(rule_picture(arms, split)) if split == arms.splits[0] else ""
        html += _rule_tables(arms, rows)
    return html


def _rule_tables(arms: Arms, rows: Sequence[Arm]) -> str:
    """Verdicts by arm, what was found of the rules that any breaks, and which hold everywhere."""
    counts = [n for n in ("laws_broken", "unusual", "passed") if n in has(arms, n)]
    heads = [*_arm_heads(), *(head(title(name), numeric=True) for name in counts)]
    heads += [head("laws broken")] if LAWS else []
    body = [
        [
            *_arm_cells(arms, arm),
            *(_amount(arms, arm, name) for name in counts),
            cell("; ".join(broken(arms, arm)) or "–"),
        ]
        for arm in rows
    ]
    html = table("Verdicts", f"all labels. {MEANS}", heads, body)
    rules = broken_rules(arms, rows)
    for prefix, name, text in (
        ("share_", "Share of the area that breaks a rule", "of 1"),
        (
            "check_",
            "What was found",
            "a count, a largest value, a mean or a share, whichever the rule is held to",
        ),
    ):
        html += _rule_table(arms, rows, [f"{prefix}{rule}" for rule in rules], name, text)
    held = [n.removeprefix("share_") for n in has(arms, "share_")]
    held = [
        title(f"check_{n}")
        for n in held
        if n not in rules and any(f"share_{n}" in arms.scores[a] for a in rows)
    ]
    return html + (note(f"Broken nowhere: {'; '.join(held)}.") if held else "")


def _rule_table(
    arms: Arms, rows: Sequence[Arm], metrics: Sequence[str], name: str, text: str
) -> str:
    if not metrics:
        return ""
    heads = _arm_heads()
    for metric in metrics:
        rule = metric.partition("_")[2]
        kind = "law" if rule in LAWS else "expectation"
        heads.append(head(f"{title(f'check_{rule}')} ({kind})", numeric=True))
    body = [
        [*_arm_cells(arms, arm), *(_score(arms, arm, metric, False) for metric in metrics)]
        for arm in rows
        if any(metric in arms.scores[arm] for metric in metrics)
    ]
    return table(name, f"{text}. {MEANS}", heads, body)


def _fields(arms: Arms, fields: Mapping[str, xr.Dataset]) -> str:
    if not arms.splits:
        return ""
    split = arms.splits[0]
    drawn = pictured(arms, split, fields)
    return (
        note(f"Split {split}, all labels.")
        + figure(error_picture(drawn))
        + figure(curve_picture(drawn))
    )


def _arm_heads() -> list[str]:
    return [
        head("model"),
        head("adaptation"),
        head("learning"),
        head("seeds", numeric=True),
    ]


def _arm_cells(arms: Arms, arm: Arm) -> list[str]:
    seeds = max((score.n for score in arms.scores.get(arm, {}).values()), default=0)
    return [
        row_head(arm.model_name),
        cell(ADAPTATIONS.get(arm.adaptation, arm.adaptation) or "baseline"),
        cell(arm.learning),
        cell(str(seeds), numeric=True),
    ]


def _score(arms: Arms, arm: Arm, metric: str, bold: bool, *, counted: bool = False) -> str:
    score = arms.scores.get(arm, {}).get(metric)
    if score is None:
        return cell("–", numeric=True)
    seeds = max(each.n for each in arms.scores[arm].values())
    fewer = f" ({score.n})" if counted or score.n < seeds else ""
    return cell(score.text + fewer, numeric=True, bold=bold)


def _metric(target: str, name: str) -> str:
    """Title of a metric below the name of its target."""
    return title(name).removeprefix(f"{target.upper()} ").removeprefix(f"{TARGETS[target]} ")


def _laws(arms: Arms, arm: Arm) -> str:
    score = arms.score(arm, "laws_broken")
    return number(score.mean).removesuffix(".000") if score else "–"
