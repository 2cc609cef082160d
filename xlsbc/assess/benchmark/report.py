"""The report of a benchmark: one HTML file whose every number comes from the table of its cells.

The same table gives the same bytes. What a table lacks is left out, with a sentence that says why;
bold is only what is better than everything beside it beyond the noise.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

import xarray as xr

from xlsbc.assess.benchmark.arms import SEES, Arm, Arms, has, title
from xlsbc.assess.benchmark.findings import (
    CHECKED,
    HEADLINES,
    LAWS,
    NOISE,
    TIMES,
    broken,
    compared,
    findings,
    heads_told,
    interval,
    laws,
    pairs,
    verdict,
)
from xlsbc.assess.benchmark.looks import amount_cell, arm_cells, arm_heads, count_cell, score_cell
from xlsbc.assess.benchmark.maps import curve_picture, error_picture, pictured
from xlsbc.assess.benchmark.pictures import (
    COSTS,
    broken_rules,
    cost_front,
    cost_picture,
    rule_picture,
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
    row_head,
    table,
    words,
    write,
)
from xlsbc.assess.report import TARGETS

if TYPE_CHECKING:
    import pandas as pd

BOLD = (
    f"Bold: better than every other row on as many values, {NOISE} (paired tests, Holm, 5 %). A "
    "baseline of one seed is a number that every seed is held against."
)
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
        `xlsbc.assess.views.seasonal_means` returned. Cells may lack. Only those that are drawn are
        looked up, so that the mapping may open them then.
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
    known = dict.fromkeys(arm.model for arm in arms if not arm.emulator)
    seen = "".join(note(f"What {words(n)} sees: {SEES[n]}.") for n in known if n in SEES)
    for split in arms.splits:
        html += f"<h3>{escape(f'Split {split}')}</h3>\n"
        for target in TARGETS:
            html += _skill_table(arms, split, target) + seen
            seen = ""  # once, below the first
    return html


def _skill_table(arms: Arms, split: str, target: str) -> str:
    metrics = [name for name in has(arms, f"{target}_") if name != f"{target}_n"]
    rows = arms.of_split(split, *metrics) if metrics else []
    if not rows:
        return note(f"{TARGETS[target]} was not scored of any arm with all labels.")
    heads = [*arm_heads(), head("values scored", numeric=True)]
    heads += [head(_metric(target, name), numeric=True) for name in metrics]
    bold = {name: arms.leading(rows, name) for name in metrics}
    body = [
        [
            *arm_cells(arms, arm),
            count_cell(arms, arm, target),
            *(score_cell(arms, arm, name, arm in bold[name]) for name in metrics),
        ]
        for arm in rows
    ]
    own = [k for k, arm in enumerate(rows) if arm.emulator]
    html = table(TARGETS[target], f"split {split}", heads, body, own)
    apart = [arm for arm in rows if not arms.comparable(arm, metrics[0])]
    names = "; ".join(arm.long_name if arm.emulator else arm.name for arm in apart)
    return html + note(f"Fewer values than the others, not compared: {names}.") * bool(apart)


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
        rows.append(row + [cell(laws(arms, arm)) for arm in pair])
    html = note(
        "Differences, joint (multi-task) minus the other, paired by seed, with the 95 % interval "
        f"of Student's t; what is called better is so {NOISE}. The p values of this table, unlike "
        "those in short, are not adjusted for how many comparisons there are."
    )
    html += note(heads_told(arms))
    return html + table("Joint against sequential and single", "", heads, rows)


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
    heads, columns = arm_heads()[:-1], []
    for every, labels in known:
        same = [arm for arm in rows if (arm.every, arm.labels) == (every, labels)]
        columns.append((every, labels, arms.leading(same, metric)))
        heads.append(head(same[0].label_name, numeric=True))
    body = []
    for family in families:
        row = arm_cells(arms, family)[:-1]
        for every, labels, bold in columns:
            arm = family._replace(labels=labels, every=every)
            row.append(score_cell(arms, arm, metric, arm in bold, counted=True))
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
    fronts = {name: cost_front(arms, rows, name) for name in COSTS if name in costs}
    heads = [head("no."), *arm_heads(), head(title("lai_rmse"), numeric=True)]
    heads += [head(title(name), numeric=True) for name in costs] + [head("on the front of")]
    body = [
        [
            cell(str(numbers[arm])),
            *arm_cells(arms, arm),
            score_cell(arms, arm, "lai_rmse", False),
            *(amount_cell(arms, arm, name) for name in costs),
            cell(", ".join(COSTS[name] for name in fronts if arm in fronts[name]) or "–"),
        ]
        for arm in rows
    ]
    lacking = "" if "energy" in costs else " This machine does not tell its energy."
    html = table("Cost", f"split {split}, all labels. {MEANS}{lacking}", heads, body)
    return figure(cost_picture(arms, split, numbers)) + html + note(TIMES)


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
    heads = [*arm_heads(), head("laws broken of looked at", numeric=True)]
    heads += [head(title("unusual"), numeric=True), head("which laws are broken")]
    body = [
        [
            *arm_cells(arms, arm),
            cell(laws(arms, arm), numeric=True),
            amount_cell(arms, arm, "unusual"),
            cell("; ".join(broken(arms, arm)) or "–"),
        ]
        for arm in rows
    ]
    html = table("Verdicts", f"all labels. {MEANS}", heads, body)
    html += note(CHECKED) if any(arm.model == "gradient_boosting" for arm in rows) else ""
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
    heads = arm_heads()
    for metric in metrics:
        rule = metric.partition("_")[2]
        kind = "law" if rule in LAWS else "expectation"
        heads.append(head(f"{title(f'check_{rule}')} ({kind})", numeric=True))
    body = [
        [*arm_cells(arms, arm), *(score_cell(arms, arm, metric, False) for metric in metrics)]
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


def _metric(target: str, name: str) -> str:
    """Title of a metric below the name of its target."""
    return title(name).removeprefix(f"{target.upper()} ").removeprefix(f"{TARGETS[target]} ")
