"""Where emulators err, and in which season: maps and curves of a few arms, from their fields."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xlsbc.assess.benchmark.arms import LEARNING, Arm, Arms
from xlsbc.assess.benchmark.looks import COLORS, GREY, SMALL
from xlsbc.assess.plots import (
    DPI,
    LAI_LABEL,
    PANELS,
    WIDTH,
    Picture,
    limit,
    map_grid,
    outline,
    outline_words,
    show,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAPS, CURVES = 4, 4
ERROR_COLORS = "YlOrBr"  # keeps its order under the common colour vision deficiencies
MAP_SIDE = 200  # pixels: noise does not compress, and four maps must not fill the page's megabyte
STYLES: tuple[dict[str, Any], ...] = (
    {"color": COLORS[0], "linestyle": "-", "marker": "s", "markersize": 4},
    {"color": COLORS[5], "linestyle": "--", "marker": "^", "markersize": 4},
    {"color": COLORS[3], "linestyle": ":", "marker": "D", "markersize": 4},
    {"color": COLORS[1], "linestyle": (0, (5, 1, 1, 1)), "marker": "v", "markersize": 4},
)
BASELINE: dict[str, Any] = {"color": GREY, "linestyle": "-."}
REFERENCE: dict[str, Any] = {
    "color": "black",
    "linestyle": "none",
    "marker": "o",
    "markerfacecolor": "none",
}


def pictured(arms: Arms, split: str, fields: Mapping[str, xr.Dataset]) -> dict[Arm, xr.Dataset]:
    """Fields of some arms of a split with all labels, each of its first seed that has any.

    The best emulator of each way to learn and the best baseline that sees no held-out truth, then
    the next best emulators up to `MAPS`. Only these fields are looked up.
    """
    table = arms.table[[cell in fields for cell in arms.table["cell"]]]
    table = table.sort_values("seed", kind="stable")
    cells: dict[Arm, str] = {}
    for cell, *arm in table[["cell", *Arm._fields]].itertuples(index=False):
        cells.setdefault(Arm(*arm), cell)
    rows = [arm for arm in arms.of_split(split, "lai_rmse") if arm in cells]
    rows.sort(key=lambda arm: arms.mean(arm, "lai_rmse"))
    first = [next((a for a in rows if a.emulator and a.learning == way), None) for way in LEARNING]
    first.append(next((a for a in rows if a.fair), None))
    chosen = [arm for arm in first if arm]
    wanted = dict.fromkeys([*chosen, *(arm for arm in rows if arm.emulator)])
    return {arm: fields[cells[arm]] for arm in list(wanted)[: max(MAPS, len(chosen))]}


def error_picture(drawn: Mapping[Arm, xr.Dataset]) -> Picture:
    """Maps of the error of LAI on one scale, held-out areas outlined."""
    errors = {arm: _thinned(each) for arm, each in drawn.items() if "error" in each}
    if not errors:
        return Picture("Errors are not mapped: no cell on this split with all labels has fields.")
    like = next(iter(errors.values()))["held_out"]
    figure, axes = map_grid(like, rows=1, columns=len(errors), right=1.0)
    _heighten(figure, 0.3)  # titles have up to three lines
    top = limit(np.concatenate([each["error"].values.ravel() for each in errors.values()]), 0.25)
    for axis, (arm, each) in zip(axes[0], errors.items(), strict=True):
        image = show(axis, each["error"], cmap=ERROR_COLORS, vmin=0, vmax=top)
        outline(axis, each["held_out"])
        axis.set_title(textwrap.fill(arm.long_name, 30), fontsize=SMALL)
        axis.tick_params(labelsize=SMALL)
        axis.locator_params(nbins=3)
    box = axes[0][-1].get_position()
    place = figure.add_axes((box.x1 + 0.012, box.y0, 0.012, box.height))
    figure.colorbar(image, cax=place, extend="max").set_label(f"RMSE, {LAI_LABEL}")
    return Picture(
        "Root mean square error of leaf area index over the scored times, pixel by pixel, of one "
        f"seed (n = 1, no spread). {outline_words(like)}",
        f"Maps of the error of leaf area index: {'; '.join(arm.long_name for arm in errors)}.",
        figure,
    )


def curve_picture(drawn: Mapping[Arm, xr.Dataset]) -> Picture:
    """Leaf area through the year by land cover class, reference and up to `CURVES` arms."""
    from matplotlib.figure import Figure

    known = {a: d for a, d in drawn.items() if {"reference", "prediction", "share"} <= set(d)}
    curves = dict(list(known.items())[:CURVES])
    classes = _classes(list(curves.values()))
    if not classes:
        return Picture("Seasonal curves are not drawn: no cell here has them.")
    columns = min(3, len(classes))
    rows = math.ceil(len(classes) / columns)
    figure = Figure((WIDTH, 0.9 + 2.3 * rows), dpi=DPI, layout="constrained")
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axis in list(axes.flat)[len(classes) :]:
        axis.set_axis_off()
    for axis, name in zip(axes.flat, classes, strict=False):
        _draw_class(axis, curves, name)
    axes[0, 0].set_ylim(bottom=0)  # shared, and after all lines: an axis once limited stays so
    for row in axes:
        row[0].set_ylabel(LAI_LABEL)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=2, fontsize=SMALL, frameon=False)
    return Picture(
        "Mean leaf area index by calendar month on held-out pixels, by the class that dominates "
        "the reference's land cover; in brackets the class's share of the values. Of one seed "
        "(n = 1, no spread).",
        f"Curves of leaf area index through the year, reference and "
        f"{'; '.join(arm.long_name for arm in curves)}, for {len(classes)} classes.",
        figure,
    )


def _draw_class(axis: Axes, curves: Mapping[Arm, xr.Dataset], name: str) -> None:
    for k, (arm, each) in enumerate(curves.items()):
        if name not in each["lc_class"].values:
            continue
        panel = each.sel(lc_class=name)
        if not axis.get_title():
            axis.plot(panel["month"], panel["reference"], label="reference", **REFERENCE)
            heading = f"{panel['title'].item()} ({float(panel['share']):.0%})"
            axis.set_title(textwrap.fill(heading, 46), fontsize=10)
        style = STYLES[k] if arm.emulator else BASELINE
        axis.plot(panel["month"], panel["prediction"], label=arm.long_name, **style)
    axis.set_xticks(range(1, 13), "JFMAMJJASOND")
    axis.set_xlim(0.5, 12.5)
    axis.grid(alpha=0.3)
    axis.tick_params(labelsize=SMALL)


def _classes(curves: Sequence[xr.Dataset]) -> list[str]:
    """The classes that cover most of the first, up to `PANELS`."""
    if not curves:
        return []
    share = curves[0]["share"].fillna(0).values
    order = [k for k in np.argsort(-share, kind="stable")[:PANELS] if share[k] > 0]
    return [str(curves[0]["lc_class"].values[k]) for k in order]


def _heighten(figure: Figure, inches: float) -> None:
    """Room above the panels, which stay as they are."""
    old, place = figure.get_figheight(), figure.subplotpars
    ratio = old / (old + inches)
    figure.set_figheight(old + inches)
    figure.subplots_adjust(bottom=place.bottom * ratio, top=place.top * ratio)


def _thinned(each: xr.Dataset) -> xr.Dataset:
    pixels = each[["error", "held_out"]]
    every = slice(None, None, max(1, math.ceil(max(pixels["error"].shape) / MAP_SIDE)))
    return pixels.isel(latitude=every, longitude=every).transpose("latitude", "longitude").load()
