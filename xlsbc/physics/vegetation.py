r"""Leaves against the ground they cover: Beer and Lambert's law.

Light passes leaves of leaf area :math:`L` as :math:`\exp(-k L)`, so that they cover

.. math:: F = \sum_c f_c\,(1 - \exp(-k_c L_c))

of a pixel with class fractions :math:`f_c`. Where a product has the green cover *F* itself, the two
are compared at every step. Where it has fractions and leaves only, the ground under vegetation that
leaves at their yearly peak do not cover tells how far the two are apart.

References
----------
van Oorschot, F., et al. (2023): Interannual land cover and vegetation variability based on remote
sensing data in the HTESSEL land surface model. Earth Syst. Dynam. 14, 1239-1259,
doi:10.5194/esd-14-1239-2023: the law, and k = 0.5 where no type is known; k by IFS type as fitted
on Copernicus LAI and FCOVER of 1999-2013 at 1 km by its code,
github.com/fvanoorschot/lai_fcover_fitting.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr

from ..cube import legends
from ..errors import LegendError
from .product import classes_of, legend_of, years
from .rule import Rule

# By code of the type in GRIB code table 4.234, 1.
EXTINCTION = {
    1: 0.458, 2: 0.457, 3: 0.351, 4: 0.381, 5: 0.396, 6: 0.390,
    9: 0.375, 13: 0.419, 16: 0.438, 17: 0.448,
}  # fmt: skip
EXTINCTION_DEFAULT = 0.5

COVER_LIMIT = 0.1
"""Mean residual of green cover, 1; chosen here: twice the largest error of a fit, 0.053."""

PEAK_LIMIT = 0.5
"""Mean of the vegetated ground left bare at the peak of the year, 1; chosen here."""

_LEAST = 0.1  # vegetated share of a pixel below which its leaves say little about it


def extinction(product: xr.Dataset) -> np.ndarray | None:
    """Extinction of each land-cover class, ``(lc_class,)``, 1: the mean of its IFS types.

    0 for a class without vegetation; None for a legend of which no table tells the types.
    """
    legend = legend_of(product, "lc_class")
    try:
        shares = legends.crosswalk(f"{legend.name}-ifs")
    except LegendError:
        return None
    k = [EXTINCTION.get(code, EXTINCTION_DEFAULT) for code in legends.legend("ifs").codes]
    by_class = dict(zip(legend.ids, np.nan_to_num(shares.to_numpy() @ np.array(k)), strict=True))
    return np.array(
        [by_class[c.id] if c.vegetation != "none" else 0.0 for c in classes_of(product)]
    )


def cover_residual(product: xr.Dataset) -> list[xr.DataArray]:
    """Distance of ``fcover`` from what the leaves cover, 1, at every step."""
    if not {"fcover", "lai", "lc_fraction"} <= set(product):
        return []
    k = extinction(product)
    if k is None:
        return []
    return [abs(_apply(_covered, year, year["lai"], k) - year["fcover"]) for year in years(product)]


def bare_at_peak(product: xr.Dataset) -> list[xr.DataArray]:
    """Share of the vegetated ground that the largest leaf area of each year leaves bare, 1."""
    if {"lai", "lc_fraction"} <= set(product):
        k = extinction(product)
        if k is None:
            return []
        return [_apply(_bare, year, year["lai"].max("time"), k) for year in years(product)]
    if {"cvl", "cvh", "lai_lv", "lai_hv"} <= set(product):
        return [_bare_parts(year) for year in years(product)]
    return []


def _apply(
    function: Callable[..., np.ndarray], year: xr.Dataset, lai: xr.DataArray, k: np.ndarray
) -> xr.DataArray:
    return xr.apply_ufunc(
        function,
        year["lc_fraction"],
        lai,
        kwargs={"k": k},
        input_core_dims=[["lc_class"], []],
        dask="parallelized",
        output_dtypes=[np.float64],
    )


def _covered(cover: np.ndarray, lai: np.ndarray, k: np.ndarray) -> np.ndarray:
    """Share of the pixel that leaves cover; 0 without vegetation."""
    bare, vegetated = _let_through(cover, lai, k)
    return np.where(vegetated == 0, 0 * lai, vegetated - bare)


def _bare(cover: np.ndarray, lai: np.ndarray, k: np.ndarray) -> np.ndarray:
    """Share of the vegetated ground that leaves do not cover; NaN where there is little of it."""
    bare, vegetated = _let_through(cover, lai, k)
    return bare / np.where(vegetated >= _LEAST, vegetated, np.nan)


def _let_through(
    cover: np.ndarray, lai: np.ndarray, k: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Vegetated ground under the sky, and vegetated ground, as shares of the pixel, float64.

    ``cover``: ``(..., class)``. Class by class the leaf area is not known: every vegetated class
    has their mean.
    """
    # A NaN in a class without vegetation makes the rest unknown too.
    vegetated = (cover.astype("float64") * (k > 0)).sum(-1)
    within = lai / np.where(vegetated > 0, vegetated, np.nan)
    bare = np.zeros(np.broadcast_shapes(lai.shape, vegetated.shape))
    for i in np.flatnonzero(k > 0):
        bare += cover[..., i] * np.exp(-k[i] * within)
    return bare, vegetated


def _bare_parts(year: xr.Dataset) -> xr.DataArray:
    """As above from high and low vegetation, with k of its type where the product tells it."""
    bare, vegetated = xr.DataArray(0.0), xr.DataArray(0.0)
    for part in "lh":
        share = year[f"cv{part}"].astype("float64")
        leaf = year[f"lai_{part}v"].astype("float64").max("time")
        k = _of_type(year[f"tv{part}"]) if f"tv{part}" in year else EXTINCTION_DEFAULT
        bare = bare + (share * np.exp(-k * leaf)).where(share != 0, 0)
        vegetated = vegetated + share
    return bare / vegetated.where(vegetated >= _LEAST)


def _of_type(types: xr.DataArray) -> xr.DataArray:
    k = np.full(256, EXTINCTION_DEFAULT)
    k[list(EXTINCTION)] = list(EXTINCTION.values())
    codes = types.fillna(0).clip(0, 255).astype(int)
    return xr.apply_ufunc(lambda each: k[each], codes, dask="parallelized", output_dtypes=[float])


RULES = (
    Rule(
        "fcover_residual",
        "Mean distance of green cover from what the leaves cover (Beer-Lambert)",
        cover_residual,
        "mean",
        COVER_LIMIT,
        law=False,
    ),
    Rule(
        "bare_at_peak",
        "Mean share of vegetated ground that leaves at their peak do not cover (Beer-Lambert)",
        bare_at_peak,
        "mean",
        PEAK_LIMIT,
        law=False,
    ),
)
