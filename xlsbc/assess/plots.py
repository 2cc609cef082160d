"""Maps and seasonal curves of a prediction beside its reference: matplotlib figures and words.

Figures are objects, never pyplot's: nothing global is touched and no window system is needed. Only
the steps and pixels that are drawn are computed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xlsbc.assess.views import dominant, drawn_steps, legend_of, matched, seasonal_means
from xlsbc.cube.schema import is_climatology

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAP_PIXELS = 700  # longest side of a map: about one drawn pixel per screen pixel of a panel
CURVE_PIXELS = 350  # longest side of the grid that seasonal curves average over
PANELS = 6  # seasonal curves: the classes that cover most
LEGEND_COLUMNS = 4
DPI = 130
WIDTH = 11.0  # inch
LAI_LABEL = "LAI, m² m⁻²"

# YlGn and PuOr keep their order under the common colour vision deficiencies (colorbrewer2.org).
LEAF_COLORS, DIFFERENCE_COLORS, MISSING_COLOR = "YlGn", "PuOr", "#c9ccd1"
# Okabe and Ito (2008), Color Universal Design: blue against black; line style differs as well.
STYLES: dict[str, dict[str, Any]] = {
    "reference": {"color": "black", "marker": "o", "markersize": 7, "markerfacecolor": "none"},
    "prediction": {"color": "#0072B2", "linestyle": "--", "marker": "s", "markersize": 3},
}

CLASS_FIELDS = {"lu_fraction": ("Land use", "lu_class"), "lc_fraction": ("Land cover", "lc_class")}


@dataclass(frozen=True)
class Picture:
    """A figure with its words; where `figure` is None, `caption` says why there is none."""

    caption: str
    alt: str = ""
    figure: Figure | None = None


def class_picture(
    name: str, cube: xr.Dataset, prediction: xr.Dataset, held_out: xr.DataArray
) -> Picture:
    """Maps of the dominant class, reference beside prediction, in the last year that both hold.

    Parameters
    ----------
    name
        ``"lu_fraction"`` or ``"lc_fraction"``.
    cube
        Conformed reference.
    prediction
        Conformed prediction on the same pixels, or on a part of them.
    held_out
        ``(latitude, longitude)``, boolean: the blocks to outline.
    """
    title, dim = CLASS_FIELDS[name]
    if lacking := _lacking(name, cube, prediction):
        return Picture(f"{title} is not drawn: {lacking}.")
    reference, predicted, mask = matched(cube[name], prediction[name], held_out, limit=MAP_PIXELS)
    years = np.intersect1d(reference["year"], predicted["year"])
    if not years.size:
        return Picture(f"{title} is not drawn: reference and prediction share no year.")
    year = int(years[-1])
    codes = [dominant(field.sel(year=year), dim).compute() for field in (reference, predicted)]
    classes = legend_of(cube[name], dim).classes
    shown = [classes[k] for k in np.unique(np.stack([c.values for c in codes])) if k >= 0]
    footer = 0.2 + 0.22 * math.ceil((len(shown) + 1) / LEGEND_COLUMNS)
    figure, axes = map_grid(mask, rows=1, columns=2, footer=footer)
    for axis, field, label in zip(axes[0], codes, ("reference", "prediction"), strict=True):
        _draw_classes(axis, field, [land.color for land in classes])
        outline(axis, mask)
        axis.set_title(f"{label}, {year}")
    _class_legend(figure, [(land.long_name, land.color) for land in shown])
    given = name in str(prediction.attrs.get("xlsbc_given", "")).split()
    right = "what was given to the emulator" if given else "the prediction"
    names = ", ".join(land.long_name for land in shown)
    return Picture(
        f"Dominant {title.lower()} class in {year}: left the reference, right {right}. "
        f"{outline_words(mask)}",
        f"Two maps of the dominant {title.lower()} class in {year}, reference and prediction, "
        f"showing {len(shown)} classes: {names}.",
        figure,
    )


def lai_picture(cube: xr.Dataset, prediction: xr.Dataset, held_out: xr.DataArray) -> Picture:
    """Maps of LAI in one month of each season: reference, prediction, and their difference.

    Parameters
    ----------
    cube, prediction
        Conformed.
    held_out
        ``(latitude, longitude)``, boolean: the blocks to outline.
    """
    if lacking := _lacking("lai", cube, prediction):
        return Picture(f"Leaf area index is not drawn: {lacking}.")
    reference, predicted, mask = matched(cube["lai"], prediction["lai"], held_out, limit=MAP_PIXELS)
    steps = drawn_steps(np.intersect1d(reference["time"], predicted["time"]))
    if not steps.size:
        return Picture("Leaf area index is not drawn: reference and prediction share no time.")
    truth, guess = (field.sel(time=steps).compute() for field in (reference, predicted))
    error = guess - truth
    names = _step_names(steps, is_climatology(cube["lai"]))
    figure, axes = map_grid(mask, rows=3, columns=len(steps), right=1.0)
    top = limit(np.concatenate([truth.values, guess.values]), 0.5)
    bound = limit(np.abs(error.values), 0.25)
    _draw_row(axes[0], truth, LEAF_COLORS, (0, top), "max")
    _draw_row(axes[1], guess, LEAF_COLORS, (0, top), "max")
    _draw_row(axes[2], error, DIFFERENCE_COLORS, (-bound, bound), "both")
    for row, label in zip(axes, ("reference", "prediction", "prediction - reference"), strict=True):
        row[0].set_ylabel(label)
    for axis in axes.flat:
        outline(axis, mask)
    for axis, text in zip(axes[0], names, strict=True):
        axis.set_title(text)
    finite = np.isfinite(error.values)
    mean = f"{error.values[finite].mean():+.2f} m2 m-2" if finite.any() else "unknown"
    return Picture(
        "Leaf area index: reference, prediction, and prediction minus reference (purple: too many "
        f"leaves, orange: too few). {outline_words(mask)}",
        f"Maps of leaf area index for {', '.join(names)}: reference, prediction and prediction "
        f"minus reference; the mean difference over the drawn pixels is {mean}.",
        figure,
    )


def season_picture(cube: xr.Dataset, prediction: xr.Dataset, held_out: xr.DataArray) -> Picture:
    """Curves of LAI through the year on held-out pixels, a panel per dominant land cover class.

    Parameters
    ----------
    cube, prediction
        Conformed.
    held_out
        ``(latitude, longitude)``, boolean: the pixels that count; all count where none is held out.
    """
    from matplotlib.figure import Figure

    if lacking := _lacking("lai", cube, prediction):
        return Picture(f"Seasonal curves are not drawn: {lacking}.")
    curves = seasonal_means(cube, prediction, held_out, limit=CURVE_PIXELS)
    curves = curves.isel(lc_class=np.argsort(-curves["share"].values, kind="stable")[:PANELS])
    curves = curves.isel(lc_class=np.flatnonzero(curves["share"].values > 0))
    count = curves.sizes["lc_class"]
    where = "held-out pixels" if held_out.values.any() else "all pixels (none was held out)"
    if not count:
        return Picture(f"Seasonal curves are not drawn: LAI on {where} is missing on either side.")
    columns = min(3, count)
    rows = math.ceil(count / columns)
    figure = Figure((WIDTH, 0.5 + 2.3 * rows), dpi=DPI, layout="constrained")
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for k, axis in enumerate(axes.flat):
        if k < count:
            _draw_season(axis, curves.isel(lc_class=k))
        else:
            axis.set_axis_off()
    axes[0, 0].set_ylim(bottom=0)  # shared, and after all lines: an axis once limited stays so
    for row in axes:
        row[0].set_ylabel(LAI_LABEL)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper left", ncols=2)
    gap = float(np.nanmax(np.abs(curves["prediction"] - curves["reference"])))
    return Picture(
        f"Mean leaf area index by calendar month on {where}, by the class that dominates the "
        "reference's land cover; in brackets the class's share of the values that both hold.",
        f"Curves of leaf area index through the year, reference and prediction, a panel each for "
        f"{', '.join(curves['title'].values)}. They differ by at most {gap:.2f} m2 m-2.",
        figure,
    )


def _lacking(name: str, cube: xr.Dataset, prediction: xr.Dataset) -> str:
    """Which side lacks the variable; empty if neither does."""
    sides = [s for s, ds in (("cube", cube), ("prediction", prediction)) if name not in ds]
    return f"the {' and the '.join(sides)} {'have' if len(sides) > 1 else 'has'} none" * bool(sides)


def map_grid(
    like: xr.DataArray, *, rows: int, columns: int, right: float = 0.15, footer: float = 0.0
) -> tuple[Figure, Any]:
    """A figure with panels in the shape of the region; margins in inches.

    Laid out by hand: matplotlib's own engines lose track of panels whose shape is fixed.
    """
    from matplotlib.figure import Figure

    left, top, bottom, gap = 0.9, 0.4, 0.35 + footer, 0.15
    west, east, south, north = _extent(like)
    stretch = 1 / max(0.05, math.cos(math.radians((south + north) / 2)))
    width = (WIDTH - left - right - gap * (columns - 1)) / columns
    height = min(max(width * stretch * (north - south) / (east - west), 0.8), 8.0)
    total = top + rows * height + gap * (rows - 1) + bottom
    figure = Figure((WIDTH, total), dpi=DPI)
    figure.subplots_adjust(
        left / WIDTH, bottom / total, 1 - right / WIDTH, 1 - top / total, gap / width, gap / height
    )
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axis in axes.flat:
        axis.set_facecolor(MISSING_COLOR)
        axis.set_aspect(stretch)
        axis.locator_params(nbins=4)
        axis.tick_params(labelsize=8)
        axis.xaxis.set_major_formatter(lambda x, _: _degrees((x + 180) % 360 - 180, "WE"))
        axis.yaxis.set_major_formatter(lambda y, _: _degrees(y, "SN"))
    return figure, axes


def _draw_classes(axis: Axes, codes: xr.DataArray, colors: Sequence[str]) -> None:
    from matplotlib.colors import ListedColormap

    limits = {"vmin": -0.5, "vmax": len(colors) - 0.5}
    show(axis, codes.where(codes >= 0), cmap=ListedColormap(list(colors)), **limits)


def _draw_row(
    row: Sequence[Axes], values: xr.DataArray, colors: str, limits: tuple[float, float], extend: str
) -> None:
    """One map a time step, and the colour bar that they share."""
    low, high = limits
    for k, axis in enumerate(row):
        image = show(axis, values.isel(time=k), cmap=colors, vmin=low, vmax=high)
    figure, box = row[-1].figure, row[-1].get_position()
    place = figure.add_axes((box.x1 + 0.012, box.y0, 0.012, box.height))
    figure.colorbar(image, cax=place, extend=extend).set_label(LAI_LABEL)


def _draw_season(axis: Axes, panel: xr.Dataset) -> None:
    for label, style in STYLES.items():
        axis.plot(panel["month"], panel[label], label=label, **style)
    axis.set_title(f"{panel['title'].item()} ({panel['share'].item():.0%})", fontsize=10)
    axis.set_xticks(range(1, 13), "JFMAMJJASOND")
    axis.set_xlim(0.5, 12.5)
    axis.grid(alpha=0.3)


def show(axis: Axes, values: xr.DataArray, **style: Any) -> Any:
    """The image of a map ``(latitude, longitude)``, NaN left blank."""
    return axis.imshow(
        np.ma.masked_invalid(values.values),
        extent=_extent(values),
        interpolation="nearest",
        aspect=axis.get_aspect(),
        **style,
    )


def outline(axis: Axes, mask: xr.DataArray) -> None:
    """A black line with a white rim, to be seen on any colour, around held-out pixels."""
    from matplotlib.collections import LineCollection

    west, east, south, north = _extent(mask)
    x = np.linspace(west, east, mask.sizes["longitude"] + 1)
    y = np.linspace(north, south, mask.sizes["latitude"] + 1)
    held = np.pad(mask.values, 1)
    row, column = np.nonzero(held[1:-1, 1:] != held[1:-1, :-1])
    upright = np.stack([x[column], y[row], x[column], y[row + 1]], axis=1)
    row, column = np.nonzero(held[1:, 1:-1] != held[:-1, 1:-1])
    level = np.stack([x[column], y[row], x[column + 1], y[row]], axis=1)
    lines = list(np.concatenate([upright, level]).reshape(-1, 2, 2))
    for color, width in (("white", 2.2), ("black", 1.0)):
        border = LineCollection(lines, colors=color, linewidths=width, capstyle="projecting")
        axis.add_collection(border, autolim=False)


def outline_words(mask: xr.DataArray) -> str:
    """A caption's words for what `outline` draws."""
    return (
        f"Outlined: held-out blocks, {mask.values.mean():.0%} of the map. Grey: no data."
        if mask.values.any()
        else "No block was held out. Grey: no data."
    )


def _class_legend(figure: Figure, entries: Sequence[tuple[str, str]]) -> None:
    from matplotlib.patches import Patch

    figure.legend(
        handles=[
            Patch(facecolor=color, edgecolor="#444", linewidth=0.5, label=name)
            for name, color in (*entries, ("no data", MISSING_COLOR))
        ],
        loc="lower center",
        ncols=LEGEND_COLUMNS,
        fontsize=9,
        frameon=False,
    )


def _step(field: xr.DataArray, dim: str) -> float:
    """Signed spacing; a single row or column is given a pixel of 1/120 degree to be seen by."""
    values = field[dim].values
    return float(values[1] - values[0]) if values.size > 1 else 1 / 120


def _extent(field: xr.DataArray) -> tuple[float, float, float, float]:
    """West, east, south and north edge of a field whose latitude descends."""
    latitude, longitude = field["latitude"].values, field["longitude"].values
    high, wide = abs(_step(field, "latitude")) / 2, _step(field, "longitude") / 2
    return longitude[0] - wide, longitude[-1] + wide, latitude[-1] - high, latitude[0] + high


def _step_names(steps: np.ndarray, climatology: bool) -> list[str]:
    import pandas as pd

    form = "%B, climatology" if climatology else "%B %Y"
    return [pd.Timestamp(step).strftime(form) for step in steps]


def _degrees(value: float, letters: str) -> str:
    return f"{abs(value):g}°{letters[int(value > 0)] if value else ''}"


def limit(values: np.ndarray, unit: float) -> float:
    """The 99th percentile, so that one outlier blinds no map, rounded up to whole units."""
    finite = values[np.isfinite(values)]
    high = float(np.percentile(finite, 99)) if finite.size else unit
    return max(unit, math.ceil(high / unit) * unit)
