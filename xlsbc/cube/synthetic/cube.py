"""The synthetic world as a conformed data cube."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from ...errors import CubeError
from ..legends import LC, LU
from ..vocabulary import VOCABULARY, attributes
from .lattice import CELL, COLUMNS, PIXELS_PER_DEGREE, ROWS, Extent
from .lazy import co2_array, forcing_arrays, land_arrays

THREADS = 4  # a tile-year takes about 0.2 GB while it is made

FIRST_YEAR, LAST_YEAR = 1700, 2250  # what datetime64[ns] can hold

REGION = (8.0, 45.0, 11.0, 47.0)
YEARS = (2000, 2011)

GLOBAL_ATTRS = {
    "Conventions": "CF-1.12",
    "title": "Synthetic land-surface boundary conditions",
    "summary": "Terrain, soils, monthly climate, CO2, land use, land cover and leaf area index of "
    "a world that does not exist, made by known rules.",
    "source": "xlsbc.cube.synthetic",
    "license": "CC0-1.0",
    "references": "https://doi.org/10.5194/egusphere-egu26-9688",
}
COMMENTS = {
    "land_fraction": "lakes are land",
    "lake_fraction": "share of the whole pixel",
    "swvl1": "of a loam; over sea too",
    "lu_total": "mean over the pixels of the cell that are not sea",
}
MEANS = {
    **dict.fromkeys(("t2m", "tp", "ssrd", "swvl1"), "forcing_time: mean"),
    "co2": "year: mean",
    "lai": "time: mean",
}


def synthetic_cube(
    *,
    region: Sequence[float] = REGION,
    years: Sequence[int] = YEARS,
    seed: int = 0,
    gaps: bool = True,
    chunks: Mapping[str, int] | int | str | None = None,
) -> xr.Dataset:
    """Conformed cube of a synthetic world.

    A place has the same values in every region and every period that holds it, bit for bit.

    Parameters
    ----------
    region
        ``(west, south, east, north)``, degrees; edges go to the nearest of the 1/120 degree grid.
        A region whose east is not east of its west crosses the date line, and its longitudes run
        on past 180.
    years
        First and last year, both included.
    seed
        Which world.
    gaps
        Leave out leaf area under clouds (10 to 20 %) and blocks of the maps of some years.
    chunks
        None makes the cube in memory. Else it is lazy, in chunks as `xarray.Dataset.chunk` takes
        them; ``{}`` keeps those in which it is made: tiles of 240 pixels and one year.

    Returns
    -------
    xarray.Dataset
        float32, NaN where missing; sea has no values but ``land_fraction`` 0.
        Statics ``(latitude, longitude)``; ``t2m, tp, ssrd, swvl1 (forcing_time,
        forcing_latitude, forcing_longitude)``, monthly on 0.25 degree cells with one more cell
        around the region and one year more before it, which the leaves remember; ``co2 (year)``;
        ``lu_total (year, lu_class, driver_latitude, driver_longitude)``, 0.25 degree, exact means
        of whole cells, those that the region cuts included; ``lu_fraction (year, lu_class,
        latitude, longitude)``; ``lc_fraction``, likewise; ``lai (time, latitude, longitude)``,
        monthly.

    Raises
    ------
    CubeError
        If region, years or seed make no sense: every reason.

    Examples
    --------
    >>> cube = synthetic_cube(region=(8.0, 45.5, 8.25, 45.75), years=(2000, 2001))
    >>> dict(cube.lai.sizes)
    {'time': 24, 'latitude': 30, 'longitude': 30}
    """
    _check(region, years, seed)
    extent = _extent(region)
    first, last = (int(year) for year in years)
    period = range(first, last + 1)
    arrays = {
        **land_arrays(extent, period, seed, gaps),
        **forcing_arrays(_forcing_cells(extent), range(12 * (first - 1), 12 * (last + 1)), seed),
        "co2": co2_array(period),
    }
    fields = {name: (VOCABULARY[name].dims, array) for name, array in arrays.items()}
    cube = xr.Dataset(fields, coords=_coordinates(extent, first, last), attrs=GLOBAL_ATTRS)
    for name, variable in cube.variables.items():
        variable.attrs.update(_attributes(str(name)))
    cube.attrs["history"] = (
        f"xlsbc.cube.synthetic.synthetic_cube(region={tuple(map(float, region))}, "
        f"years=({first}, {last}), seed={seed}, gaps={gaps})"
    )
    if chunks is None:
        return cube.compute(scheduler="threads", num_workers=THREADS)
    return cube.chunk(chunks) if chunks != {} else cube


def _check(region: Sequence[float], years: Sequence[int], seed: int) -> None:
    problems = _region_problems(region)
    if (
        len(years) != 2
        or not all(isinstance(year, int | np.integer) for year in years)
        or not FIRST_YEAR <= years[0] <= years[1] <= LAST_YEAR
    ):
        problems.append(
            f"years must be (first, last), whole and within {FIRST_YEAR}..{LAST_YEAR}; "
            f"found {years!r}"
        )
    if not isinstance(seed, int | np.integer) or seed < 0:
        problems.append(f"seed must be a whole number from 0 on; found {seed!r}")
    if problems:
        raise CubeError("there is no such synthetic cube", problems)


def _region_problems(region: Sequence[float]) -> list[str]:
    try:
        west, south, east, north = (float(edge) for edge in region)
    except (TypeError, ValueError):
        return [f"region must be four numbers (west, south, east, north); found {region!r}"]
    problems = []
    if not -90 <= south < north <= 90:
        problems.append(
            f"south must be below north and both within -90..90; found south {south:g}, "
            f"north {north:g}"
        )
    if not (-180 <= west <= 360 and -180 <= east <= 360 and 0 < abs(east - west) <= 360):
        problems.append(
            f"west and east must differ and be within -180..360; found west {west:g}, east {east:g}"
        )
    return problems


def _extent(region: Sequence[float]) -> Extent:
    """Pixels of a region, at least one; columns start on the globe and may run past its end."""
    west, south, east, north = region
    row = min(round((90 - north) * PIXELS_PER_DEGREE), ROWS - 1)
    column = round((west + 180) * PIXELS_PER_DEGREE)
    width = round((east - west) * PIXELS_PER_DEGREE)
    return Extent(
        row,
        column % COLUMNS,
        max(round((90 - south) * PIXELS_PER_DEGREE) - row, 1),
        width if 0 < width <= COLUMNS else max(width % COLUMNS, 1),
    )


def _forcing_cells(extent: Extent) -> Extent:
    """Cells of the region and one more around it, where the globe has one."""
    cells = extent.cells()
    rows, columns = (n // CELL for n in (ROWS, COLUMNS))
    top, bottom = max(cells.row - 1, 0), min(cells.row + cells.height + 1, rows)
    # West of 180 W there is nothing to write a longitude for, and around the globe no more cells.
    left = max(cells.column - 1, 0) if cells.width < columns else cells.column
    right = min(cells.column + cells.width + 1, left + columns)
    return Extent(top, left, bottom - top, right - left, cells.per_degree)


def _coordinates(extent: Extent, first: int, last: int) -> dict[str, Any]:
    cells, forcing = extent.cells(), _forcing_cells(extent)
    months = [
        np.arange(f"{start:04d}-01", f"{last + 1:04d}-01", dtype="datetime64[M]")
        for start in (first, first - 1)
    ]
    return {
        "latitude": extent.latitude,
        "longitude": extent.longitude,
        "forcing_latitude": forcing.latitude,
        "forcing_longitude": forcing.longitude,
        "driver_latitude": cells.latitude,
        "driver_longitude": cells.longitude,
        "time": months[0].astype("datetime64[ns]"),
        "forcing_time": months[1].astype("datetime64[ns]"),
        "year": np.arange(first, last + 1),
        "lu_class": LU.coordinate("lu_class"),
        "lc_class": LC.coordinate("lc_class"),
    }


def _attributes(name: str) -> dict[str, str]:
    if name in ("lu_class", "lc_class"):
        return {}  # the legend wrote them
    more = {"comment": COMMENTS.get(name), "cell_methods": MEANS.get(name)}
    return attributes(name) | {key: value for key, value in more.items() if value}
