"""ESA CCI and C3S land cover: class maps of 300 m, and maps of plant functional types.

Land cover (ESA CCI v2.0.7, brokered as v2.0.7cds for 1992-2015; C3S v2.1.1 from 2016 on): one
netCDF a year, ``lccs_class`` on 64800 x 129600 pixels of 1/360 degree. The codes go up to 220 in
bytes that are signed in the files (``_Unsigned = "true"``, 210 reads as -46, the flag values too).

Plant functional types (v2.0.8, 1992-2020): one netCDF a year, 17 variables in whole per cent of a
pixel of 300 m. Fourteen are the types; ``WATER`` is the sum of ``WATER_INLAND`` and
``WATER_OCEAN``, and ``LAND`` is what is not ocean: neither counts again.

Changes in the class maps are found at 1 km and then drawn at 300 m, and some countries change
class as a whole from one year to the next: the years are not filtered here.

References
----------
Land Cover CCI Product User Guide version 2.0 (UCL-Geomatics, 2017), and C3S Product User Guide and
Specification, ICDR Land Cover 2016-2020 (2021): codes, grid, versions.
Poulter et al. 2015, doi:10.5194/gmd-8-2315-2015: from classes to types.
Harper et al. 2023, doi:10.5194/essd-15-1465-2023: the maps of types.
"""

from __future__ import annotations

import warnings

import numpy as np
import xarray as xr

from ...errors import SourceError, SourceWarning
from .. import legends, regrid, schema, vocabulary
from . import raw
from .landmap import class_shares, geographic, pixels, remark_on_year
from .opening import source_of

__all__ = ["land_cover", "plant_functional_types"]

CROSSWALK = "cci_lccs-cci_pft"
CLASSES = "lccs_class"
TYPES = {
    "trees_be": "TREES-BE",
    "trees_bd": "TREES-BD",
    "trees_ne": "TREES-NE",
    "trees_nd": "TREES-ND",
    "shrubs_be": "SHRUBS-BE",
    "shrubs_bd": "SHRUBS-BD",
    "shrubs_ne": "SHRUBS-NE",
    "shrubs_nd": "SHRUBS-ND",
    "grass_nat": "GRASS-NAT",
    "grass_man": "GRASS-MAN",
    "bare": "BARE",
    "built": "BUILT",
    "water": "WATER",
    "snowice": "SNOWICE",
}
"""Variable of each type in the files (Harper et al. 2023, table 3)."""
WATERS = ("WATER_INLAND", "WATER_OCEAN")
# Whole per cents: each of the 14 may be off by half, so that a right sum lies in 93..107.
ROUNDING = 0.5 * len(TYPES)

CREDIT = "Contains modified Copernicus Climate Change Service information"
LAND_COVER = {
    "title": "Land cover at 1/120 degree as shares of plant functional types",
    "summary": (
        "Shares of the 14 plant functional types of ESA CCI in each pixel of 1/120 degree, from "
        "land cover classes of 300 m; years are not filtered for implausible transitions."
    ),
    "source": (
        "Land cover classification gridded maps, ESA Climate Change Initiative v2.0.7 (1992-2015) "
        f"and Copernicus Climate Change Service v2.1.1 (from 2016). {CREDIT}; © ESA Climate Change "
        "Initiative - Land Cover led by UCLouvain (2017)"
    ),
    "references": "doi:10.24381/cds.006f2c9a; doi:10.5194/gmd-8-2315-2015 (classes to types)",
    "license": "ESA CCI licence; VITO licence (from 2016); licence to use Copernicus products",
    "history": "xlsbc.cube.ingest.cci.land_cover: class codes as shares of types at 1/120 degree",
}
FUNCTIONAL_TYPES = {
    "title": "Plant functional types of ESA CCI at 1/120 degree",
    "summary": (
        "Shares of 14 plant functional types in each pixel of 1/120 degree, means over area of "
        "the per cents of pixels of 300 m, divided by their sum."
    ),
    "source": (
        "ESA Land Cover Climate Change Initiative: Global Plant Functional Types (PFT) Dataset, "
        "v2.0.8. © ESA Climate Change Initiative - Land Cover led by UCLouvain"
    ),
    "references": "doi:10.5285/26a0f46c95ee4c29b5c650b129aab788; doi:10.5194/essd-15-1465-2023",
    "license": "ESA CCI Land Cover terms: any use, with credit",
    "history": "xlsbc.cube.ingest.cci.plant_functional_types: per cents as shares at 1/120 degree",
}
FAR_OFF = (
    "pixels of 300 m whose types sum to less than 93 or more than 107 per cent are missing; the "
    "others were divided by their sum"
)


def land_cover(ds: xr.Dataset) -> xr.Dataset:
    """Shares of plant functional types from a map of ESA CCI or C3S land cover classes.

    Parameters
    ----------
    ds
        As `xlsbc.cube.ingest.opening.open_source` gives it: ``lccs_class``, the globe or a cut of
        it, of one year or several.

    Returns
    -------
    xarray.Dataset
        ``lc_fraction`` (year, lc_class, latitude, longitude) at 1/120 degree, 1, summing to 1
        over the types; NaN where half of a pixel or more is no data (code 0). Lazy: a block reads
        its own window of the map.

    Raises
    ------
    SourceError
        If there is no such map; when computed, if it holds a code that is no class.
    """
    _need(ds, [CLASSES], "a map of land cover classes")
    shares = class_shares(ds, CLASSES, CROSSWALK, "lc_fraction")
    return schema.conform(shares.to_dataset().assign_attrs(LAND_COVER))


def plant_functional_types(ds: xr.Dataset) -> xr.Dataset:
    """Shares of plant functional types from the maps of ESA CCI PFT v2.0.8.

    Parameters
    ----------
    ds
        As `xlsbc.cube.ingest.opening.open_source` gives it: a variable for each type, in per cent
        of a pixel of 300 m. Water may come as a sum, or as inland water and ocean.

    Returns
    -------
    xarray.Dataset
        ``lc_fraction`` (year, lc_class, latitude, longitude) at 1/120 degree, 1, summing to 1;
        NaN where half of a pixel or more is missing. Pixels of 300 m whose types are not 100 per
        cent within the rounding of 14 whole numbers are missing, with a SourceWarning when
        computed. Lazy.

    Raises
    ------
    SourceError
        If types are missing; when computed, if most pixels of a block are far from 100 per cent,
        as where the numbers are no per cents.
    """
    ds = _with_water(ds)
    _need(ds, list(TYPES.values()), "the plant functional types")
    parts = [raw.numbers(geographic(ds, name)) for name in TYPES.values()]
    shares = xr.apply_ufunc(
        _shares,
        *parts,
        kwargs={"source": source_of(ds)},
        output_core_dims=[["lc_class"]],
        dask="parallelized",
        output_dtypes=[np.float32],
        dask_gufunc_kwargs={"output_sizes": {"lc_class": len(TYPES)}},
    ).transpose("year", "lc_class", "latitude", "longitude")
    mean = regrid.conservative(shares, *pixels(shares))
    mean = mean.assign_coords(lc_class=legends.LC.coordinate("lc_class"))
    # The attributes are those of one type; drop them for those of all.
    mean = mean.drop_attrs(deep=False)
    remarks = [FAR_OFF, remark_on_year(ds, TYPES["bare"], shares["year"].values)]
    comment = "; ".join(filter(None, remarks))
    mean = mean.assign_attrs(vocabulary.attributes("lc_fraction"), comment=comment)
    cube = xr.Dataset({"lc_fraction": mean}, attrs=FUNCTIONAL_TYPES)
    return raw.checked(schema.conform(cube), source_of(ds), tolerance=1e-5)


def _need(ds: xr.Dataset, names: list[str], what: str) -> None:
    absent = [name for name in names if name not in ds.data_vars]
    if absent:
        held = ", ".join(map(str, list(ds.data_vars)[:20])) or "no variables"
        raise SourceError(
            f"{what} cannot be read",
            [
                f"{source_of(ds)}: expected variable {name!r}; found {held}; "
                "fetch the product that is read here"
                for name in absent
            ],
        )


def _with_water(ds: xr.Dataset) -> xr.Dataset:
    if "WATER" in ds or not set(WATERS) <= set(ds.data_vars):
        return ds
    inland, ocean = (raw.numbers(ds[name]) for name in WATERS)
    # assign keeps ds.encoding, which holds the address of the file.
    return ds.assign(WATER=inland + ocean)


def _shares(*parts: np.ndarray, source: str) -> np.ndarray:
    stack = np.stack(parts, axis=-1)
    total = stack.sum(axis=-1, keepdims=True)
    known = np.isfinite(total)
    below = (stack < 0).any(axis=-1, keepdims=True)
    off = known & (below | (np.abs(total - 100.0) > ROUNDING))
    if off.any():
        worst = total[off][np.argmax(np.abs(total[off] - 100.0))]
        found = f"{off.sum()} of {known.sum()} pixels off, the worst with {worst:g}"
        problem = f"{source}: expected types that sum to 100 per cent; found {found}"
        if 2 * off.sum() > known.sum():
            raise SourceError("the types are no per cents", [f"{problem}; fetch the file again"])
        warnings.warn(f"{problem}; they are missing", SourceWarning, stacklevel=2)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(off, np.float32(np.nan), stack / total)
