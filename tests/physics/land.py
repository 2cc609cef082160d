"""Land whose every value can be told by eye, and which breaks no rule."""

from __future__ import annotations

import numpy as np
import xarray as xr

from xlsbc.cube import legends

YEARS = (2001, 2002, 2003, 2004)
ROWS, COLUMNS = 10, 15  # 2 x 3 coarse cells of 0.25 degrees
STRIPS = np.repeat([0, 1, 2, 3, 4], [5, 5, 3, 1, 1]) * np.ones((len(YEARS), ROWS, 1), int)
COVER = ("trees_bd", "grass_nat", "trees_ne", "water", "bare")
USE = ("primf", "range", "secdf", "icwtr", "primn")
SUMMER = (1 - np.cos(2 * np.pi * (np.arange(12) - 0.5) / 12)) / 2  # 0 in January, 1 in July
LEAVES = {
    "trees_bd": 0.5 + 4 * SUMMER,
    "grass_nat": 0.5 + 3 * SUMMER,
    "shrubs_bd": 0.5 + 3 * SUMMER,
    "trees_ne": 4 + 1 * SUMMER,
}
AXES = {
    "latitude": 46.25 - 0.025 - 0.05 * np.arange(ROWS),
    "longitude": 8.0 + 0.025 + 0.05 * np.arange(COLUMNS),
}


def make_land(cover=None, use=None, leaves=None, *, latitude=0.0):
    """Five strips of one class each; ``cover`` and ``use`` are ids (year, row, column)."""
    cover = np.array(COVER)[STRIPS] if cover is None else cover
    use = np.array(USE)[STRIPS] if use is None else use
    leaves = LEAVES | (leaves or {})
    axes = {**AXES, "latitude": AXES["latitude"] + latitude}
    lai = np.zeros((len(YEARS), 12, ROWS, COLUMNS))
    for id, cycle in leaves.items():
        lai += (cover == id)[:, None] * cycle[:, None, None]
    lai = lai.reshape(-1, ROWS, COLUMNS)
    pixels, times = ("latitude", "longitude"), np.arange("2001-01", "2005-01", dtype="M8[M]")
    kinds = {each.id: each.vegetation for each in legends.LC.classes}
    kind = np.vectorize(kinds.get)(cover)
    return xr.Dataset(
        {
            "lu_fraction": (("year", "lu_class", *pixels), _one_hot(use, legends.LU)),
            "lc_fraction": (("year", "lc_class", *pixels), _one_hot(cover, legends.LC)),
            "lai": (("time", *pixels), lai),
            "lai_hv": (("time", *pixels), lai),
            "lai_lv": (("time", *pixels), lai),
            "cvh": (("year", *pixels), kind == "high"),
            "cvl": (("year", *pixels), kind == "low"),
        },
        {
            "year": list(YEARS),
            "time": times.astype("M8[ns]"),
            **axes,
            "lu_class": legends.LU.coordinate("lu_class")["lu_class"],
            "lc_class": legends.LC.coordinate("lc_class")["lc_class"],
        },
    ).astype("float32")


def make_cube(land, *, warmth=5.0, swing=15.0, water=None):
    """Climate of the land, and totals that are those of its own land use."""
    month = np.tile(np.arange(12), len(YEARS))
    t2m = 273.15 + warmth + swing * (2 * SUMMER[month] - 1)
    swvl1 = np.full(month.size, 0.3) if water is None else np.asarray(water)[month]
    coarse = {
        "latitude": land["latitude"].values.reshape(2, 5).mean(1),
        "longitude": land["longitude"].values.reshape(3, 5).mean(1),
    }
    total = land["lu_fraction"].coarsen(latitude=5, longitude=5).mean()
    forcing = {f"forcing_{axis}": values for axis, values in coarse.items()}
    dims = ("forcing_time", *forcing)
    climate = {
        name: (dims, np.broadcast_to(each[:, None, None], (month.size, 2, 3)))
        for name, each in (("t2m", t2m), ("swvl1", swvl1))
    }
    cube = xr.Dataset(climate, {"forcing_time": land["time"].values, **forcing})
    total = total.rename(latitude="driver_latitude", longitude="driver_longitude")
    return cube.assign(lu_total=total)


def where_cover(id):
    """True in the columns of a class, (column,)."""
    return STRIPS[0, 0] == COVER.index(id)


def broken(result):
    """Names of the rules that a product breaks."""
    return {str(name) for name, each in result.items() if not each.attrs["passed"]}


def _one_hot(ids, legend):
    return np.stack([ids == id for id in legend.ids], axis=1)
