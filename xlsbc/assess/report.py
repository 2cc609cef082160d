"""The report of a run: one HTML file with its maps, curves and tables, and nothing beside it.

Every number in it is read from the Datasets it is given; :mod:`.page` makes the file.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

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
    words,
    write,
)
from xlsbc.assess.plots import class_picture, lai_picture, season_picture
from xlsbc.physics.consistency import check_html

TARGETS = {"lai": "Leaf area index", "lu": "Land use", "lc": "Land cover"}
HEADLINE_METRIC = {"lai": "rmse", "lu": "mae", "lc": "mae"}
PREDICTION = "prediction"  # the row of `scores` that is not a baseline
LOWER_IS_BETTER = ("rmse", "mae", "bray_curtis", "quantity", "allocation")
HIGHER_IS_BETTER = ("r2", "anomaly_correlation", "overall_accuracy", "miou", "f1")


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
    write(path, document(title, [(each.name, _section(each)) for each in sections]))


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
        text = f"{TARGETS[target]}: {_metric_name(metric)} {number(own)}"
        if rivals:
            best = min(rivals, key=lambda product: rivals[product])
            text += f"; best baseline, {words(best)}: {number(rivals[best])}"
            text += f" (ratio {own / rivals[best]:.2f})" if rivals[best] > 0 else ""
        sentences.append(f"{text}.")
    return sentences


def _section(section: Section) -> str:
    cube, prediction, held_out = section.cube, section.prediction, section.held_out
    return (
        headline_list(headlines(section.scores))
        + facts_table(section.facts)
        + "<h3>Skill</h3>\n"
        + _score_tables(section.scores)
        + "<h3>Physical consistency</h3>\n"
        + f'<div class="scroll">{check_html(section.check)}</div>\n'
        + "<h3>Land use and land cover</h3>\n"
        + figure(class_picture("lu_fraction", cube, prediction, held_out))
        + figure(class_picture("lc_fraction", cube, prediction, held_out))
        + "<h3>Leaf area index</h3>\n"
        + figure(lai_picture(cube, prediction, held_out))
        + figure(season_picture(cube, prediction, held_out))
    )


def _score_tables(scores: xr.Dataset) -> str:
    """A table a target, baselines below the prediction, the best value of each column in bold."""
    scope = [
        f"{label} {scores.attrs[name]}"
        for name, label in (("scored", "Scored on"), ("baselines_made_from", "baselines made from"))
        if name in scores.attrs
    ]
    tables = [_score_table(target, title, scores) for target, title in TARGETS.items()]
    return note(f"{'; '.join(scope)}.") * bool(scope) + "".join(tables)


def _score_table(target: str, title: str, scores: xr.Dataset) -> str:
    names = [str(name) for name in scores.data_vars if str(name).startswith(f"{target}_")]
    values = {name: scores[name].values.astype(float) for name in names}
    products = _products(scores)
    judged = [column for name, column in values.items() if name != f"{target}_n"]
    shown = [k for k in range(len(products)) if any(math.isfinite(column[k]) for column in judged)]
    if not shown:
        return note(f"{title} was not evaluated.")
    best = {name: _best(name.removeprefix(f"{target}_"), values[name]) for name in names}
    heads = [head("product")] + [
        head(_column_name(target, name, scores), numeric=True) for name in names
    ]
    rows = [
        [row_head(words(products[k]), _description(scores, k))]
        + [_score_cell(scores[name].values[k], k == best[name]) for name in names]
        for k in shown
    ]
    own = [row for row, k in enumerate(shown) if products[k] == PREDICTION]
    return table(title, "Best of each column in bold.", heads, rows, own)


def _description(scores: xr.Dataset, product: int) -> str:
    if "description" not in scores.coords:
        return ""
    return str(scores["description"].values[product])


def _score_cell(value: np.number, best: bool) -> str:
    count = np.issubdtype(type(value), np.integer)
    text = f"{value:,d}" if count else number(float(value))
    return cell(text, numeric=True, bold=best)


def _best(metric: str, values: np.ndarray) -> int:
    """Which product is best by a metric, -1 where that cannot be said."""
    finite = np.isfinite(values)
    if finite.sum() < 2 or metric not in (*LOWER_IS_BETTER, *HIGHER_IS_BETTER, "bias"):
        return -1
    if metric in HIGHER_IS_BETTER:
        return int(np.argmax(np.where(finite, values, -np.inf)))
    return int(np.argmin(np.where(finite, np.abs(values), np.inf)))


def _products(scores: xr.Dataset) -> list[str]:
    return [str(product) for product in scores["product"].values]


def _column_name(target: str, name: str, scores: xr.Dataset) -> str:
    units = str(scores[name].attrs.get("units", "1"))
    metric = _metric_name(name.removeprefix(f"{target}_"))
    return metric if units == "1" else f"{metric}, {units}"


def _metric_name(metric: str) -> str:
    known = {"rmse": "RMSE", "mae": "MAE", "r2": "R²", "n": "values", "miou": "mIoU", "f1": "F1"}
    known |= {"bray_curtis": "Bray-Curtis"}
    return known.get(metric, words(metric))
