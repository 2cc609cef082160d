"""Leaf area index of MODIS, composites of eight or four days, from the sinusoidal grid.

Files
-----
``MCD15A2.AYYYYDDD.hHHvVV.005.*.hdf`` (collection 5, ``Lai_1km``), ``MCD15A2H`` and ``MCD15A3H``
(collections 6 and 6.1, ``Lai_500m``), and the MOD15 and MYD15 of one satellite, in HDF4-EOS; or the
same layers in netCDF, numbers as stored, on projected coordinates ``y`` and ``x`` in metres.

Quirks
------
0 to 100 are leaf area in tenths; 249 to 254 are land that has no retrieval (water 254, barren 253,
snow 252, wetland 251, urban 250, unclassified 249) and only 255 is the fill value: a reader that
scales by the attributes makes leaf area 25.4 of water. A back-up algorithm, empirical in NDVI,
fills where the main one fails: below clouds, on snow, and where the sun is low.

References
----------
Myneni, R., Knyazikhin, Y., Park, T. (2021): MODIS/Terra+Aqua Leaf Area Index/FPAR 8-day L4 global
500 m SIN grid V061, doi:10.5067/MODIS/MCD15A2H.061; its file specification for the bits.
Yan, K., et al. (2016): Evaluation of MODIS LAI/FPAR product collection 6, part 1. Remote Sensing 8,
359, doi:10.3390/rs8050359: the quality of the two algorithms.
"""

from __future__ import annotations

import re
import warnings
from typing import Literal

import numpy as np
import xarray as xr

from ...errors import SourceError, SourceWarning
from .. import regrid, schema, vocabulary
from ..times import read_times
from .opening import source_of
from .raw import attribute, checked, numbers, unsigned
from .source import FETCH_AGAIN

__all__ = ["leaf_area"]

LAYERS = ("Lai_500m", "Lai_1km")
QUALITY = "FparLai_QC"
SCALE, VALID, MISSING = 0.1, (0, 100), 255

RADIUS = 6371007.181
"""Radius of the sphere of the MODIS grids, m."""

Quality = Literal["best", "main", "all"]
LAST_METHOD: dict[str, int] = {"best": 0, "main": 1, "all": 3}
"""Largest SCF_QC kept: 0 main algorithm, 1 main and saturated, 2 and 3 back-up, 4 none."""
METHOD_UNIT, METHODS = 32, 8  # SCF_QC is bits 5 to 7 of FparLai_QC

METHOD_WORDS = {
    "best": "main algorithm without saturation only",
    "main": "main algorithm only, saturated or not",
    "all": "main and back-up algorithm",
}
KEPT = (
    "mean over the part of the pixel that has a retrieval: water, barren land, snow, wetland and "
    "towns have none"
)

ATTRIBUTES = {
    "title": "Leaf area index of MODIS at 1/120 degree",
    "summary": "Leaf area index of composites of several days, by their first day",
    "references": "doi:10.5067/MODIS/MCD15A2H.061; doi:10.3390/rs8050359",
    "license": "none (NASA EOSDIS data are open); citation requested",
    "history": (
        "xlsbc.cube.ingest.modis.leaf_area: stored numbers to leaf area index, sinusoidal grid to "
        "1/120 degree by area"
    ),
}


def leaf_area(ds: xr.Dataset, *, quality: Quality = "main") -> xr.Dataset:
    """Leaf area index, (time, latitude, longitude), 1, at 1/120 degree.

    Parameters
    ----------
    ds
        A granule, or composites of a tile or a part of one, as `open_source` gives it: stored
        numbers, with the file's attributes.
    quality
        What is kept, by SCF_QC of FparLai_QC: ``"best"`` is the main algorithm where it did not
        saturate, ``"main"`` the main algorithm, ``"all"`` the back-up algorithm too. The product
        itself calls the main algorithm's retrievals good and the back-up's other. Over southern
        Britain in 2012 the back-up's are 30 % of all and nearly all there is from mid-November to
        late January, when the sun is low. In the composite from 16 November their mean is 1.9,
        that of the main algorithm's few 0.5.

    Returns
    -------
    xarray.Dataset
        ``lai``, a part of a cube, float32, lazy, on the pixels of the lattice that touch the tile;
        area-weighted means of what is known, NaN where that is less than half of a pixel. ``time``
        is the first day of the composite.

    Raises
    ------
    SourceError
        If there is no layer of leaf area or of its quality, if they were decoded on opening, have
        another scale, or are not on coordinates of the sinusoidal grid in metres: all problems at
        once. When computed, if a value is impossible.
    """
    if quality not in LAST_METHOD:
        raise ValueError(f"quality must be one of {', '.join(LAST_METHOD)}; found {quality!r}")
    name = next((name for name in LAYERS if name in ds.variables), None)
    problems = _problems(ds, name)
    if problems or name is None:
        raise SourceError("this is no leaf area index of MODIS", problems)
    lai = numbers(ds[name], valid=VALID, missing=[MISSING], scale=SCALE)
    method = unsigned(ds[QUALITY]) // METHOD_UNIT % METHODS
    known = _upright(lai.where(method <= LAST_METHOD[quality]).assign_coords(time=_starts(ds)))
    west, south, east, north = _box(known)
    if west >= east or south >= north:
        problem = f"{source_of(ds)}: expected a tile on the globe; found one that lies off it"
        raise SourceError("this is no leaf area index of MODIS", [problem])
    latitude, longitude = regrid.axes(west, south, east, north)
    fine = regrid.from_sinusoidal(known, latitude, longitude, radius=RADIUS)
    comment = f"{METHOD_WORDS[quality]} ({QUALITY}); {KEPT}{_other_date(ds)}"
    fine = fine.drop_attrs(deep=False).assign_attrs(vocabulary.attributes("lai"), comment=comment)
    product = str(attribute(ds[name], "long_name", "MODIS leaf area index"))
    said = {"source": f"NASA LP DAAC, {product} ({name})"}
    return checked(
        schema.conform(xr.Dataset({"lai": fine})).assign_attrs(ATTRIBUTES | said), source_of(ds)
    )


def _problems(ds: xr.Dataset, name: str | None) -> list[str]:
    where = source_of(ds)
    held = ", ".join(repr(held) for held in ds.data_vars) or "no variables"
    if name is None:
        return [
            f"{where}: expected a layer {' or '.join(LAYERS)}; found only {held}; use a granule of "
            "MCD15A2, MCD15A2H, MCD15A3H or their kin"
        ]
    problems = []
    if QUALITY not in ds.variables:
        problems.append(f"{where}, variable {QUALITY!r}: expected it; found only {held}; add it")
    for layer in [held for held in (name, QUALITY) if held in ds.variables]:
        if ds[layer].dtype.kind not in "iu":
            problems.append(
                f"{where}, variable {layer!r}: expected whole numbers as stored; found "
                f"{ds[layer].dtype}, decoded on opening, so that flags are leaf area; open it with "
                "xlsbc.cube.ingest.opening.open_source, or mask_and_scale=False"
            )
    stated = float(attribute(ds[name], "scale_factor", SCALE))
    if not np.isclose(stated, SCALE):
        problems.append(
            f"{where}, variable {name!r}: expected scale_factor {SCALE}; found {stated:g}; "
            f"{FETCH_AGAIN}"
        )
    if "time" not in ds[name].dims or not isinstance(read_times(ds["time"]), np.ndarray):
        problems.append(
            f"{where}, variable {name!r}: expected a time of the composite; found "
            f"{ds[name].dims}; {FETCH_AGAIN}"
        )
    return problems + _grid_problems(ds, name)


def _grid_problems(ds: xr.Dataset, name: str) -> list[str]:
    where, problems = f"{source_of(ds)}, variable {name!r}", []
    for dim in ("y", "x"):
        if dim not in ds[name].dims or dim not in ds.variables or ds.sizes[dim] < 2:
            problems.append(
                f"{where}: expected a coordinate {dim!r} in metres; found dimensions "
                f"{ds[name].dims}; use the granule itself, or one that keeps its projection"
            )
            continue
        steps = np.abs(np.diff(ds[dim].values.astype(float)))
        # 926.6 m or its half; degrees would be a hundredth.
        if not (steps > 100).all() or np.ptp(steps) > 1e-3 * steps.max():
            problems.append(
                f"{where}: expected {dim!r} in metres, evenly spaced; found steps of "
                f"{steps.min():g} to {steps.max():g}; use the granule itself"
            )
    mapping = str(attribute(ds[name], "grid_mapping", "crs"))
    said = attribute(ds[mapping], "grid_mapping_name") if mapping in ds.variables else None
    if said not in (None, "sinusoidal"):
        problems.append(f"{where}: expected the sinusoidal projection; found {said!r}")
    return problems


def _other_date(ds: xr.Dataset) -> str:
    """A remark where the name of a granule has another date than its metadata, which are taken."""
    named = re.search(r"\.A(\d{4})(\d{3})\.", source_of(ds).rpartition("/")[2])
    starts = _starts(ds)
    if named is None or starts.size != 1:
        return ""
    date = np.datetime64(named[1], "D") + int(named[2]) - 1
    if date == starts[0].astype("datetime64[D]"):
        return ""
    text = f"its name says {date}, its metadata {starts[0]:.10}; that of the metadata was taken"
    warnings.warn(f"{source_of(ds)}, variable 'lai': {text}", SourceWarning, stacklevel=3)
    return f"; {source_of(ds).rpartition('/')[2]}: {text}"


def _starts(ds: xr.Dataset) -> np.ndarray:
    times = read_times(ds["time"])
    return np.asarray(times).astype("datetime64[D]").astype("datetime64[ns]")


def _upright(da: xr.DataArray) -> xr.DataArray:
    """The field as the product has it: rows from the north, columns from the west."""
    da = da.transpose("time", "y", "x").sortby("time")
    y, x = da["y"].values, da["x"].values
    return da.isel(y=slice(None, None, -1 if y[0] < y[-1] else 1)).isel(
        x=slice(None, None, -1 if x[0] > x[-1] else 1)
    )


def _box(da: xr.DataArray) -> tuple[float, float, float, float]:
    """West, south, east and north of the tile, degrees; what lies off the globe is cut."""
    y, x = da["y"].values, da["x"].values
    half = (y[0] - y[-1]) / (y.size - 1) / 2
    rows = np.append(y + half, y[-1] - half) / RADIUS
    width = np.maximum(np.cos(rows), 1e-9) * RADIUS
    west = np.rad2deg((x[0] - half) / width).min()
    east = np.rad2deg((x[-1] + half) / width).max()
    north, south = np.rad2deg(rows[0]), np.rad2deg(rows[-1])
    # Edges that are whole degrees but for rounding must not touch the next row or column.
    box = np.round([west, south, east, north], 9)
    low, high = (-180.0, -90.0, -180.0, -90.0), (180.0, 90.0, 180.0, 90.0)
    west, south, east, north = (float(v) for v in np.clip(box, low, high))
    return west, south, east, north
