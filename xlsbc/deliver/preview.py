"""A small picture of a product, of a few of its pixels."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import xarray as xr

from xlsbc.assess.views import dominant, legend_of

__all__ = ["preview"]

LONGEST = 480
"""Pixels along the longer side that are drawn; of a larger product every n-th is read."""

CLASSES = {"lc_fraction": "lc_class", "lu_fraction": "lu_class"}


def preview(ds: xr.Dataset) -> bytes | None:
    """PNG of one step of a product, thinned before it is read; None if it has no map. Computes.

    Parameters
    ----------
    ds
        Lazy. Drawn is ``lai`` at the middle of its last year; else the class of most area in the
        last year of ``lc_fraction`` or ``lu_fraction``; else the first variable that is a map.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = chosen(ds)
    if drawn is None:
        return None
    field, style, when = drawn
    values = np.ma.masked_invalid(field.transpose("latitude", "longitude").to_numpy().astype(float))
    height, width = values.shape
    figure = Figure(figsize=(6, min(max(6 * height / width, 2), 8) + 0.4), dpi=96)
    FigureCanvasAgg(figure)
    axis = figure.add_subplot()
    image = axis.imshow(values, extent=extent(field), interpolation="nearest", **style)
    if "cmap" not in style or isinstance(style["cmap"], str):
        figure.colorbar(image, ax=axis, shrink=0.8).set_label(label(field))
    axis.set_title(f"{field.name} {when}".strip(), fontsize=10)
    axis.set_aspect("auto")
    png = io.BytesIO()
    figure.savefig(png, format="png", bbox_inches="tight")
    return png.getvalue()


def chosen(ds: xr.Dataset) -> tuple[xr.DataArray, dict[str, Any], str] | None:
    """A thinned map, how it is drawn, and of when it is."""
    maps = {
        str(name): field
        for name, field in ds.data_vars.items()
        if {"latitude", "longitude"} <= set(field.dims) and field.size
    }
    if "lai" in maps and "time" in maps["lai"].dims:
        lai = maps["lai"]
        step = max(lai.sizes["time"] - 6, 0)
        return thinned(lai).isel(time=step), {"cmap": "YlGn", "vmin": 0}, when(lai, "time", step)
    for name, dim in CLASSES.items():
        if name in maps and dim in maps[name].dims and "year" in maps[name].dims:
            return (*classes(maps[name], dim), when(maps[name], "year", -1))
    if not maps:
        return None
    field = thinned(next(iter(maps.values())))
    rest = {dim: -1 for dim in field.dims if dim not in ("latitude", "longitude")}
    return field.isel(rest), {"cmap": "viridis"}, ""


def classes(fraction: xr.DataArray, dim: str) -> tuple[xr.DataArray, dict[str, Any]]:
    """The class of most area at each pixel, and its colours."""
    from matplotlib.colors import ListedColormap

    colors = [land.color for land in legend_of(fraction, dim).classes]
    code = dominant(thinned(fraction).isel(year=-1), dim)
    style = {"cmap": ListedColormap(colors), "vmin": -0.5, "vmax": len(colors) - 0.5}
    return code.where(code >= 0).rename(fraction.name), style


def thinned(field: xr.DataArray) -> xr.DataArray:
    """Every n-th pixel either way."""
    longest = max(field.sizes["latitude"], field.sizes["longitude"])
    every = slice(None, None, max(1, math.ceil(longest / LONGEST)))
    return field.isel(latitude=every, longitude=every)


def extent(field: xr.DataArray) -> tuple[float, float, float, float]:
    """First and last coordinates, as ``imshow`` takes them."""
    west, *_, east = np.repeat(field["longitude"].to_numpy(), 2).tolist()
    north, *_, south = np.repeat(field["latitude"].to_numpy(), 2).tolist()
    return west, east if east != west else west + 1, south if south != north else north - 1, north


def when(field: xr.DataArray, dim: str, step: int) -> str:
    """A step's year or month, for people."""
    value = field[dim].to_numpy()[step]
    return str(value.astype("datetime64[M]") if dim == "time" else value)


def label(field: xr.DataArray) -> str:
    """Name and unit."""
    return f"{field.attrs.get('long_name', field.name)} ({field.attrs.get('units', '1')})"
