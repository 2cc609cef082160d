"""The report of a run: one HTML file with its maps, curves and tables, and nothing beside it.

Every number in it is read from the Datasets it is given. It loads no script, font or picture from
elsewhere (its own content policy forbids it), reads well in light and dark and on paper, and is
complete or absent: it is written beside its place and then moved there.
"""

from __future__ import annotations

import base64
import io
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
import xarray as xr

from xlsbc.assess.plots import Picture, class_picture, lai_picture, season_picture
from xlsbc.physics.consistency import check_html

TARGETS = {"lai": "Leaf area index", "lu": "Land use", "lc": "Land cover"}
HEADLINE_METRIC = {"lai": "rmse", "lu": "mae", "lc": "mae"}
PREDICTION = "prediction"  # the row of `scores` that is not a baseline
LOWER_IS_BETTER = ("rmse", "mae", "bray_curtis", "quantity", "allocation")
HIGHER_IS_BETTER = ("r2", "anomaly_correlation", "overall_accuracy", "miou", "f1")

OWN_ROW = ' class="own"'
STYLE = """
:root { color-scheme: light dark; --ink: #1d2530; --soft: #556070; --line: #d5dae1;
  --page: #fff; --band: #f3f5f8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --soft: #a5afbd; --line: #3a4452;
  --page: #14181e; --band: #1e242d; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem; max-width: 72rem; background: var(--page);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
h1 { line-height: 1.2; } h2 { margin-top: 3rem; border-bottom: 2px solid var(--line); }
nav ul { display: flex; flex-wrap: wrap; gap: 0 1.5rem; padding: 0; list-style: none; }
a { color: inherit; }
.headlines { padding: .75rem 1rem .75rem 2rem; background: var(--band); border-radius: 6px; }
figure { margin: 1.5rem 0; }
figure img { display: block; width: 100%; height: auto; background: #fff; border-radius: 6px; }
figcaption, .note, caption { color: var(--soft); font-size: .9em; }
.scroll { overflow-x: auto; margin: 1.25rem 0; }
table { border-collapse: collapse; min-width: 50%; }
caption { padding-bottom: .4rem; text-align: left; }
caption b { color: var(--ink); font-size: 1.1em; }
th, td { padding: .3rem .8rem; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; }
thead th { border-bottom: 2px solid var(--line); }
tbody th { font-weight: normal; }
td.number, th.number { text-align: right; white-space: nowrap; }
td { font-variant-numeric: tabular-nums; }
.xlsbc-check td { white-space: nowrap; }
.xlsbc-check td:first-child { white-space: normal; min-width: 14rem; }
th small { display: block; max-width: 24rem; color: var(--soft); }
tr.own { background: var(--band); }
.xlsbc-check caption { position: absolute; clip-path: inset(50%); } /* the heading above says it */
@media print { :root { color-scheme: light; --ink: #000; --soft: #333; --line: #bbb; --page: #fff;
    --band: #f3f5f8; }
  body { max-width: none; padding: 0; font-size: 11px; }
  nav { display: none; } .scroll { overflow: visible; } th, td { padding: .2rem .5rem; }
  figure, tr { break-inside: avoid; } h2, h3, caption { break-after: avoid; } }
"""


@dataclass(frozen=True)
class Section:
    """One cube's run, as the report shows it.

    Parameters
    ----------
    name
        Heading of the section.
    cube
        Conformed reference, lazy or not.
    prediction
        Conformed prediction on the cube's pixels or on a part of them, lazy or not.
    scores
        What `xlsbc.assess.evaluate.evaluate` returned: variables such as ``lai_rmse`` along
        ``product``, whose entry ``"prediction"`` is the emulator and whose others are baselines.
    check
        What `xlsbc.physics.consistency.check` returned: scalars with attributes ``long_name``,
        ``units`` and, where something must hold, ``limit`` and ``passed``.
    facts
        What was run, in the order to be shown: data, what was given and what predicted, seed, time,
        hashes.
    held_out
        ``(latitude, longitude)``, boolean: pixels that training did not see.
    """

    name: str
    cube: xr.Dataset
    prediction: xr.Dataset
    scores: xr.Dataset
    check: xr.Dataset
    facts: Mapping[str, str]
    held_out: xr.DataArray


def write_report(path: str | os.PathLike[str], *, title: str, sections: Sequence[Section]) -> None:
    """Write the sections as one self-contained HTML file; `path` is replaced whole or not at all.

    Computes what the maps and curves show: thinned to the size of the picture, a few time steps.

    Parameters
    ----------
    path
        A local file name; its folder must exist.
    title
        Heading of the page.
    sections
        One for each cube, in the order to be shown.
    """
    place = Path(path)
    page = _page(title, sections).encode("utf-8")
    partial = place.with_name(f".{place.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(page)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(place)
    finally:
        partial.unlink(missing_ok=True)


def headlines(scores: xr.Dataset) -> list[str]:
    """A sentence a target: the prediction's error beside the best baseline's.

    Parameters
    ----------
    scores
        See `Section`. A target without a score of its own, given rather than predicted, has none.
    """
    sentences = []
    for target, metric in HEADLINE_METRIC.items():
        if (name := f"{target}_{metric}") not in scores:
            continue
        values = dict(zip(_products(scores), scores[name].values.astype(float), strict=True))
        own = values.pop(PREDICTION, math.nan)
        rivals = {product: value for product, value in values.items() if math.isfinite(value)}
        if not math.isfinite(own):
            continue
        text = f"{TARGETS[target]}: {_metric_name(metric)} {_number(own)}"
        if rivals:
            best = min(rivals, key=lambda product: rivals[product])
            text += f"; best baseline, {_words(best)}: {_number(rivals[best])}"
            text += f" (ratio {own / rivals[best]:.2f})" if rivals[best] > 0 else ""
        sentences.append(f"{text}.")
    return sentences


def _page(title: str, sections: Sequence[Section]) -> str:
    links = "".join(
        f'<li><a href="#section-{k}">{escape(section.name)}</a></li>'
        for k, section in enumerate(sections, 1)
    )
    body = "".join(_section(k, section) for k, section in enumerate(sections, 1))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<header><h1>{escape(title)}</h1>\n"
        + (f'<nav aria-label="Sections"><ul>{links}</ul></nav>\n' if len(sections) > 1 else "")
        + f"</header>\n<main>\n{body}</main>\n</body>\n</html>\n"
    )


def _section(number: int, section: Section) -> str:
    cube, prediction, held_out = section.cube, section.prediction, section.held_out
    said = "".join(f"<li>{escape(text)}</li>" for text in headlines(section.scores))
    return (
        f'<section id="section-{number}" aria-labelledby="heading-{number}">\n'
        f'<h2 id="heading-{number}">{escape(section.name)}</h2>\n'
        + (f'<ul class="headlines">{said}</ul>\n' if said else "")
        + _facts_table(section.facts)
        + "<h3>Skill</h3>\n"
        + _score_tables(section.scores)
        + "<h3>Physical consistency</h3>\n"
        + f'<div class="scroll">{check_html(section.check)}</div>\n'
        + "<h3>Land use and land cover</h3>\n"
        + _figure(class_picture("lu_fraction", cube, prediction, held_out))
        + _figure(class_picture("lc_fraction", cube, prediction, held_out))
        + "<h3>Leaf area index</h3>\n"
        + _figure(lai_picture(cube, prediction, held_out))
        + _figure(season_picture(cube, prediction, held_out))
        + "</section>\n"
    )


def _figure(picture: Picture) -> str:
    if picture.figure is None:
        return f'<p class="note">{escape(picture.caption)}</p>\n'
    buffer = io.BytesIO()
    picture.figure.savefig(buffer, format="png", facecolor="white", metadata={"Software": None})
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return (
        f'<figure><img src="data:image/png;base64,{data}" alt="{escape(picture.alt)}">'
        f"<figcaption>{escape(picture.caption)}</figcaption></figure>\n"
    )


def _facts_table(facts: Mapping[str, str]) -> str:
    rows = [
        [f'<th scope="row">{escape(k)}</th>', f"<td>{escape(v)}</td>"] for k, v in facts.items()
    ]
    return _table("What was run", "", [], rows) if rows else ""


def _score_tables(scores: xr.Dataset) -> str:
    """A table a target, baselines below the prediction, the best value of each column in bold."""
    scope = [
        f"{label} {scores.attrs[name]}"
        for name, label in (("scored", "Scored on"), ("baselines_made_from", "baselines made from"))
        if name in scores.attrs
    ]
    tables = [_score_table(target, title, scores) for target, title in TARGETS.items()]
    return _note(f"{'; '.join(scope)}.") * bool(scope) + "".join(tables)


def _score_table(target: str, title: str, scores: xr.Dataset) -> str:
    names = [str(name) for name in scores.data_vars if str(name).startswith(f"{target}_")]
    values = {name: scores[name].values.astype(float) for name in names}
    products = _products(scores)
    judged = [column for name, column in values.items() if name != f"{target}_n"]
    shown = [k for k in range(len(products)) if any(math.isfinite(column[k]) for column in judged)]
    if not shown:
        return _note(f"{title} was not evaluated.")
    best = {name: _best(name.removeprefix(f"{target}_"), values[name]) for name in names}
    heads = ['<th scope="col">product</th>'] + [
        f'<th scope="col" class="number">{escape(_column_name(target, name, scores))}</th>'
        for name in names
    ]
    rows = [
        [f'<th scope="row">{escape(_words(products[k]))}{_description(scores, k)}</th>']
        + [_score_cell(scores[name].values[k], k == best[name]) for name in names]
        for k in shown
    ]
    own = [row for row, k in enumerate(shown) if products[k] == PREDICTION]
    return _table(title, "Best of each column in bold.", heads, rows, own)


def _description(scores: xr.Dataset, product: int) -> str:
    if "description" not in scores.coords:
        return ""
    return f"<small>{escape(str(scores['description'].values[product]))}</small>"


def _score_cell(value: np.number, best: bool) -> str:
    count = np.issubdtype(type(value), np.integer)
    text = f"{value:,d}" if count else _number(float(value))
    return f'<td class="number">{f"<strong>{text}</strong>" if best else text}</td>'


def _best(metric: str, values: np.ndarray) -> int:
    """Which product is best by a metric, -1 where that cannot be said."""
    finite = np.isfinite(values)
    if finite.sum() < 2 or metric not in (*LOWER_IS_BETTER, *HIGHER_IS_BETTER, "bias"):
        return -1
    if metric in HIGHER_IS_BETTER:
        return int(np.argmax(np.where(finite, values, -np.inf)))
    return int(np.argmin(np.where(finite, np.abs(values), np.inf)))


def _table(
    title: str,
    note: str,
    heads: Sequence[str],
    rows: Iterable[Sequence[str]],
    emphasised: Sequence[int] = (),
) -> str:
    caption = f"<caption><b>{escape(title)}</b> {escape(note)}</caption>" if title else ""
    head = f"<thead><tr>{''.join(heads)}</tr></thead>" if heads else ""
    body = "".join(
        f"<tr{OWN_ROW if k in emphasised else ''}>{''.join(row)}</tr>\n"
        for k, row in enumerate(rows)
    )
    return f'<div class="scroll"><table>{caption}{head}<tbody>\n{body}</tbody></table></div>\n'


def _note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>\n'


def _products(scores: xr.Dataset) -> list[str]:
    return [str(product) for product in scores["product"].values]


def _column_name(target: str, name: str, scores: xr.Dataset) -> str:
    units = str(scores[name].attrs.get("units", "1"))
    metric = _metric_name(name.removeprefix(f"{target}_"))
    return metric if units == "1" else f"{metric}, {units}"


def _metric_name(metric: str) -> str:
    known = {"rmse": "RMSE", "mae": "MAE", "r2": "R²", "n": "values", "miou": "mIoU", "f1": "F1"}
    known |= {"bray_curtis": "Bray-Curtis"}
    return known.get(metric, _words(metric))


def _words(name: str) -> str:
    return name.replace("_", " ")


def _number(value: float) -> str:
    """Three decimals, but where three would read as nothing."""
    if not math.isfinite(value):
        return "–"
    return f"{value:.1e}" if 0 < abs(value) < 1e-3 else f"{value:,.3f}"
