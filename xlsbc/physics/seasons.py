"""Seasons of the leaf area: their sign, their size, and what drives them.

All of it is read from the mean seasonal cycle of the product, month by month over its years, in
pixels where one kind of vegetation or one kind of climate decides. The climates are those of
Köppen; a climate's moisture is that of the soil, since it is what roots see.

References
----------
Peel, M. C., et al. (2007): Updated world map of the Köppen-Geiger climate classification. Hydrol.
Earth Syst. Sci. 11, 1633-1644, table 1: hottest and coldest month of A and D.
Jolly, W. M., et al. (2005): A generalized, bioclimatic index to predict foliar phenology in
response to climate. Global Change Biol. 11, 619-632: temperature and moisture limit leaves.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import numpy as np
import xarray as xr

from ..cube.grid import position
from .product import classes_of, weighted_sum
from .rule import Rule

FREEZING = 273.15
HOTTEST = 10.0  # degC, of the hottest month of climates C and D
COLDEST = 0.0  # degC, of the coldest month of climate D, at most
TROPICAL = 18.0  # degC, of the coldest month of climate A, at least
DRY_SEASON = 0.5  # water of the driest month over that of the wettest, at most; chosen here
LAG = 2  # months by which leaves may follow the water; chosen here

POLEWARD = 40.0
"""Latitude from which on deciduous trees are bare in winter, degrees; chosen here."""

DECIDUOUS = ("trees_bd", "trees_nd")
EVERGREEN = ("trees_be", "trees_ne")
MAJORITY = 0.5  # share of the pixel under deciduous trees
PURE = 0.9  # share of the pixel under evergreen trees: a little grass has seasons of its own

EVERGREEN_RANGE = 0.5
"""Part of its largest leaf area that an evergreen pixel may lose in a year, 1; chosen here."""

WRONG = 0.05
"""Share of the area concerned that may be otherwise, 1; chosen here."""

_SLIGHT = 0.1  # m2 m-2: the season of a leaf area that changes by less has no sign
_MONTHS = 6  # of the year that must be known for a correlation


def forced(cube: xr.Dataset) -> tuple[Rule, ...]:
    """What is expected of a product where the climate is known.

    Parameters
    ----------
    cube
        Conformed, with ``t2m`` (K) and, for the moisture, ``swvl1`` (m3 m-3). Their months are
        computed.
    """
    if "t2m" not in cube:
        return ()
    months = {name: _months(cube[name]) for name in ("t2m", "swvl1") if name in cube}
    rules = [
        Rule(
            "season_against_temperature",
            "Area with cold winters whose leaves go against temperature",
            partial(_against_climate, months=months, cause="t2m"),
            "share",
            WRONG,
            law=False,
        )
    ]
    if "swvl1" in months:
        rules.append(
            Rule(
                "season_against_moisture",
                "Area of the tropics with a dry season whose leaves go against the soil's water",
                partial(_against_climate, months=months, cause="swvl1"),
                "share",
                WRONG,
                law=False,
            )
        )
    return tuple(rules)


def leaves_in_winter(product: xr.Dataset) -> list[xr.DataArray]:
    """How much more leaf deciduous trees have in the winter half than in the summer half."""
    share = _share_of(product, DECIDUOUS)
    if share is None or "latitude" not in product["lai"].coords:
        return []
    cycle = _cycle(product["lai"])
    latitude = cycle["latitude"]
    warm = cycle["month"].isin(range(4, 10))  # April to September
    north, south = (cycle.where(half).mean("month") for half in (warm, ~warm))
    excess = (south - north) * np.sign(latitude)
    concerned = (share >= MAJORITY) & (abs(latitude) >= POLEWARD)
    return [excess.clip(min=0).where(concerned & excess.notnull())]


def evergreen_range(product: xr.Dataset) -> list[xr.DataArray]:
    """Part of its largest leaf area that an evergreen pixel loses in the year, beyond the bound."""
    share = _share_of(product, EVERGREEN)
    if share is None:
        return []
    cycle = _cycle(product["lai"])
    most = cycle.max("month")
    lost = (most - cycle.min("month")) / most.where(most > _SLIGHT)
    return [(lost - EVERGREEN_RANGE).clip(min=0).where(share >= PURE)]


def _share_of(product: xr.Dataset, ids: tuple[str, ...]) -> xr.DataArray | None:
    """Mean share of the classes over the years; None where they, or the leaves, are not known."""
    if not {"lai", "lc_fraction"} <= set(product) or "time" not in product.indexes:
        return None
    members = [each.id in ids for each in classes_of(product)]
    if not any(members):
        return None
    share = weighted_sum(product["lc_fraction"], "lc_class", members)
    return share.mean("year") if "year" in share.dims else share


def _cycle(lai: xr.DataArray) -> xr.DataArray:
    """Mean of each month over the years, ``(month, ...)``, float64; NaN where it has none."""
    month = lai["time"].dt.month.values
    present = np.unique(month)
    means = [lai.isel(time=month == m).astype("float64").mean("time") for m in present]
    return xr.concat(means, xr.DataArray(present, dims="month", name="month"))


def _months(field: xr.DataArray) -> xr.DataArray:
    """Mean of each month, ``(month 1..12, latitude, longitude)`` of the forcing, computed."""
    means = field.astype("float64").groupby("forcing_time.month").mean()
    means = means.reindex(month=np.arange(1, 13))
    return means.transpose("month", "forcing_latitude", "forcing_longitude").compute()


def _against_climate(
    product: xr.Dataset, months: dict[str, xr.DataArray], cause: Literal["t2m", "swvl1"]
) -> list[xr.DataArray]:
    if "lai" not in product or not {"time", "latitude", "longitude"} <= set(product["lai"].coords):
        return []
    cycle = _cycle(product["lai"]).reindex(month=np.arange(1, 13))
    if cycle.chunks:
        cycle = cycle.chunk(month=-1)
    cells = [_cells(months["t2m"], cycle, axis) for axis in ("latitude", "longitude")]
    against = xr.apply_ufunc(
        _disagreement,
        cycle,
        *cells,
        kwargs={"months": {k: v.values for k, v in months.items()}, "cause": cause},
        input_core_dims=[["month"], [], []],
        dask="parallelized",
        output_dtypes=[np.float64],
    )
    return [against]


def _cells(table: xr.DataArray, cycle: xr.DataArray, axis: str) -> xr.DataArray:
    """Index of the forcing cell of each row or column; -1 outside of the forcing."""
    coarse, fine = table[f"forcing_{axis}"].values.astype(float), cycle[axis].values.astype(float)
    cells = np.rint(position(coarse, fine)).astype(int)
    away = abs(coarse[cells] - fine)
    away = np.minimum(away, 360 - away)
    step = abs(coarse[1] - coarse[0]) if coarse.size > 1 else np.inf
    return xr.DataArray(np.where(away <= 0.51 * step, cells, -1), dims=axis)


def _disagreement(
    cycle: np.ndarray,
    row: np.ndarray,
    column: np.ndarray,
    months: dict[str, np.ndarray],
    cause: str,
) -> np.ndarray:
    """Minus the correlation of leaves and their cause where it is one, else 0; NaN elsewhere.

    ``cycle``: ``(..., 12)``; ``row``, ``column``: broadcast to its other dims.
    """
    row, column = np.broadcast_arrays(row, column)
    weather = {k: np.moveaxis(each[:, row, column], 0, -1) for k, each in months.items()}
    celsius = weather["t2m"] - FREEZING
    hot, cold = celsius.max(-1), celsius.min(-1)
    if cause == "t2m":
        concerned = (hot > HOTTEST) & (cold <= COLDEST)
        agreement = _correlation(cycle, weather["t2m"])
    else:
        water = weather["swvl1"]
        dry = water.min(-1) <= DRY_SEASON * water.max(-1)
        concerned = (cold >= TROPICAL) & dry
        lagged = [_correlation(cycle, np.roll(water, lag, -1)) for lag in range(LAG + 1)]
        agreement = np.maximum.reduce(lagged)
    concerned = concerned & (row >= 0) & (column >= 0)
    return np.where(concerned, np.maximum(-agreement, 0), np.nan)


def _correlation(leaves: np.ndarray, weather: np.ndarray) -> np.ndarray:
    """Pearson's over the last axis and its known months; NaN of too few, or of slight seasons."""
    known = np.isfinite(leaves) & np.isfinite(weather)
    n = known.sum(-1)
    count = np.where(n >= _MONTHS, n, np.nan)
    x, y = (np.where(known, each, 0.0) for each in (leaves, weather))
    x, y = (np.where(known, each - (each.sum(-1) / count)[..., None], 0.0) for each in (x, y))
    scale = np.sqrt((x**2).sum(-1) * (y**2).sum(-1))
    # A range of less than that is no season.
    clear = (x.max(-1) - x.min(-1) > _SLIGHT) & (scale > 0)
    return np.where(clear, (x * y).sum(-1) / np.where(clear, scale, 1), np.nan)


RULES = (
    Rule(
        "leaves_in_winter",
        "Area of deciduous trees beyond 40 degrees with more leaves in winter than in summer",
        leaves_in_winter,
        "share",
        WRONG,
        _SLIGHT,
        law=False,
    ),
    Rule(
        "evergreen_range",
        "Area of evergreen trees that lose more than half of their leaves in the year",
        evergreen_range,
        "share",
        WRONG,
        law=False,
    ),
)
