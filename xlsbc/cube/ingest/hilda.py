"""HILDA+: yearly land use and cover of 1 km, 1899 or 1960 to 2019 and later.

Files: netCDF with ``LULC_states`` (time, latitude, longitude), the time in calendar years, or a
GeoTIFF a year with the year in its name (``hilda_plus_2009_states_GLOB-v1-0_wgs84-nn.tif``). Grid
of 0.00998837 degree, EPSG:4326. The files in the Eckert IV projection and those of transitions
(codes of four digits), changes and forest management are others.

The classes become land-use states of LUH2 by ``tables/hilda-luh2.csv``, whose comments say what
is assumed: HILDA+ knows neither primary from secondary land, nor pasture from rangeland, nor crops.
Releases with forest types (named ``-f``, and 2.x) have codes 40 to 45 for forest, version 2.1 also
23 and 24 for tree crops and agroforestry; without forest types 44 is all forest.

References
----------
Winkler et al. 2021, Nature Communications 12, 2501, doi:10.1038/s41467-021-22702-2.
Winkler et al. 2020, PANGAEA, doi:10.1594/PANGAEA.921846: data, and the codes in its readme.
"""

from __future__ import annotations

import xarray as xr

from ...errors import SourceError
from .. import schema
from .landmap import class_shares
from .opening import source_of

__all__ = ["land_use"]

CROSSWALK = "hilda-luh2"
NAMES = ("LULC_states", "band")
"""Variable of the classes in netCDF, and what `open_source` calls that of a GeoTIFF."""

ATTRIBUTES = {
    "title": "Land use of HILDA+ at 1/120 degree as shares of LUH2 states",
    "summary": (
        "Shares of the land-use states of LUH2 in each pixel of 1/120 degree, from classes of "
        "1 km. Primary and secondary land, and pasture and rangeland, have half each of what "
        "HILDA+ does not tell apart; all annual crops are c3ann."
    ),
    "source": "HILDA+ Global Land Use Change, Karlsruhe Institute of Technology (IMK-IFU)",
    "references": "doi:10.1594/PANGAEA.921846; doi:10.1038/s41467-021-22702-2",
    "license": "CC-BY-4.0",
    "history": "xlsbc.cube.ingest.hilda.land_use: classes as shares of states at 1/120 degree",
}


def land_use(ds: xr.Dataset) -> xr.Dataset:
    """Shares of LUH2 land-use states from maps of HILDA+ classes.

    Parameters
    ----------
    ds
        As `xlsbc.cube.ingest.opening.open_source` gives it: the netCDF of all years, or the
        GeoTIFF of one.

    Returns
    -------
    xarray.Dataset
        ``lu_fraction`` (year, lu_class, latitude, longitude) at 1/120 degree, 1, summing to 1
        over the states; NaN where half of a pixel or more is no data (code 99). Sea is ``icwtr``.
        Lazy: a block reads its own window of the map.

    Raises
    ------
    SourceError
        If there is no map of states or its year cannot be told; when computed, if it holds a code
        that is no class, as maps of transitions do.
    """
    name = next((name for name in NAMES if name in ds.data_vars), None)
    if name is None:
        held = ", ".join(map(str, list(ds.data_vars)[:12])) or "no variables"
        problem = f"{source_of(ds)}: expected variable 'LULC_states' or a GeoTIFF; found {held}"
        raise SourceError("the land use cannot be read", [f"{problem}; give the file of states"])
    shares = class_shares(ds, name, CROSSWALK, "lu_fraction")
    return schema.conform(shares.to_dataset().assign_attrs(ATTRIBUTES))
