"""LUH2 and LUH3: yearly land-use states of 0.25 degree, the driver of land use.

Files: ``states.nc`` of LUH2 v2h (850-2015) and of the v2f scenarios (from 2015), and the
``multiple-states_input4MIPs_landState_*.nc`` of both and of LUH3 (850-2024). The twelve states are
shares of the cell; ``secma`` and ``secmb`` beside them are the age and the biomass of secondary
land. The states of a cell sum to its share of land without ice: what they leave is ice and water,
the ``icwtr`` of the static file. Cells of the sea are missing.

Quirks: ``_Fillvalue`` for ``_FillValue``; time in "years since 850-01-01", or in days in a
calendar of 365 days, from which xarray makes no dates.

References
----------
Hurtt et al. 2020, Geosci. Model Dev. 13, 5425-5464, doi:10.5194/gmd-13-5425-2020, sections 2.1
and 4: states, transitions, management, static data.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from ...errors import SourceError
from .. import schema, vocabulary
from ..legends import LU
from . import raw
from .landmap import geographic
from .opening import source_of

__all__ = ["states"]

STATES = LU.ids[:-1]
NO_SHARES = ("secma", "secmb")
TOLERANCE = 0.01
"""By which the states of a cell may exceed the cell: single precision, and the provider's sums."""
UNITS = ("1", "", "fraction", "none")
OTHER_FILES = {
    "_to_": "transitions",
    "_harv": "transitions",
    "_bioh": "transitions",
    "fertl_": "management",
    "irrig_": "management",
    "crpbf_": "management",
    "icwtr": "static data",
    "ptbio": "static data",
}
"""Parts of names of variables in the other files of the product."""

ATTRIBUTES = {
    "title": "Land-use states of the Land-Use Harmonization at 0.25 degree",
    "summary": (
        "Yearly shares of the cell in each of the 12 land-use states, and of ice and water, which "
        "is what the states leave of the cell; missing over sea."
    ),
    "source": "Land-Use Harmonization (LUH2 or LUH3), University of Maryland, input4MIPs",
    "references": "doi:10.5194/gmd-13-5425-2020",
    "license": "Creative Commons Attribution 4.0, as the files of the provider state it",
    "history": "xlsbc.cube.ingest.luh.states: states stacked, ice and water added",
}


def states(ds: xr.Dataset, *, period: tuple[int, int] | None = None) -> xr.Dataset:
    """Land-use totals of coarse cells from a file of LUH2 or LUH3 states.

    Parameters
    ----------
    ds
        As `xlsbc.cube.ingest.opening.open_source` gives it: the 12 states, over the globe or part
        of it.
    period
        First and last year wanted, both included; all that the file holds if left out.

    Returns
    -------
    xarray.Dataset
        ``lu_total`` (year, lu_class, driver_latitude, driver_longitude) at the file's own cells,
        1, summing to 1 over the classes, ``icwtr`` included; NaN over sea. Lazy.

    Raises
    ------
    SourceError
        If states are missing, as in a file of transitions, management or static data; if the file
        has no year of the period; when computed, if the states of a cell exceed the cell by more
        than 0.01, if one is below 0, or if some are missing where others are not.
    """
    problems = _problems(ds)
    if problems:
        raise SourceError("the land-use states cannot be read", problems)
    parts = [_of_period(geographic(ds, name), period, source_of(ds)) for name in STATES]
    total = xr.apply_ufunc(
        _whole,
        *(raw.numbers(part) for part in parts),
        kwargs={"source": source_of(ds)},
        output_core_dims=[["lu_class"]],
        dask="parallelized",
        output_dtypes=[np.float32],
        dask_gufunc_kwargs={"output_sizes": {"lu_class": len(LU.ids)}},
    )
    total = total.rename(latitude="driver_latitude", longitude="driver_longitude")
    total = total.assign_coords(lu_class=LU.coordinate("lu_class"))
    total = total.drop_attrs(deep=False).assign_attrs(vocabulary.attributes("lu_total"))
    cube = xr.Dataset({"lu_total": total}, attrs=_attributes(ds))
    return raw.checked(schema.conform(cube), source_of(ds), tolerance=TOLERANCE)


def _problems(ds: xr.Dataset) -> list[str]:
    absent = [name for name in STATES if name not in ds.data_vars]
    if not absent:
        return [
            f"{source_of(ds)}, variable {name!r}: expected shares of the cell, in units '1'; found "
            f"{said!r}; correct the units, or divide by 100 what is in per cent"
            for name in STATES
            if (said := str(raw.attribute(ds[name], "units", "1")).strip()) not in UNITS
        ]
    names = list(map(str, ds.data_vars))
    other = {kind for part, kind in OTHER_FILES.items() if any(part in name for name in names)}
    held = ", ".join(names[:12]) or "no variables"
    if len(absent) == len(STATES) and other:
        what = f"{' and '.join(sorted(other))} ({held})"
        return [f"{source_of(ds)}: expected states; found {what}; give the file of the states"]
    return [
        f"{source_of(ds)}: expected state {name!r}; found {held}; fetch the whole file of states"
        for name in absent
    ]


def _of_period(da: xr.DataArray, period: tuple[int, int] | None, source: str) -> xr.DataArray:
    if period is None:
        return da
    first, last = period
    held = da["year"].values
    chosen = np.flatnonzero((held >= first) & (held <= last))
    if not chosen.size:
        problem = f"{source}: expected years of {first}-{last}; found {held[0]}-{held[-1]}"
        raise SourceError("the period is not in the file", [f"{problem}; choose others"])
    # A slice: an array of places would cut the lazy chunks of eleven hundred years one by one.
    return da.isel(year=slice(int(chosen[0]), int(chosen[-1]) + 1))


def _whole(*parts: np.ndarray, source: str) -> np.ndarray:
    """States and the ice and water that they leave, over a last axis."""
    stack = np.stack(parts, axis=-1).astype(np.float32)
    known = np.isfinite(stack)
    total = stack.sum(axis=-1, keepdims=True, dtype=np.float64)
    problems = []
    partly = known.any(axis=-1) & ~known.all(axis=-1)
    if partly.any():
        found = f"{partly.sum()} cells with some states and not others"
        problems.append(f"{source}: expected all states of a cell; found {found}; fetch it again")
    if np.fmax.reduce(total, axis=None, initial=0.0) > 1.0 + TOLERANCE:
        found = f"{(total > 1.0 + TOLERANCE).sum()} cells above, up to {np.nanmax(total):g}"
        problems.append(
            f"{source}: expected states that sum to 1 at most; found {found}; "
            "the file holds no shares of the cell, or is damaged"
        )
    if np.fmin.reduce(stack, axis=None, initial=0.0) < -TOLERANCE:
        found = f"{np.nanmin(stack):g}"
        problems.append(f"{source}: expected states of 0 or more; found {found}; fetch it again")
    if problems:
        raise SourceError("the land-use states of a cell are impossible", problems)
    stack = np.clip(stack, 0.0, None)
    over = np.clip(stack.sum(axis=-1, keepdims=True, dtype=np.float64), 1.0, None)
    shares = (stack / over).astype(np.float32)
    rest = np.clip(1.0 - shares.sum(axis=-1, keepdims=True, dtype=np.float64), 0.0, None)
    return np.concatenate([shares, rest.astype(np.float32)], axis=-1)


def _attributes(ds: xr.Dataset) -> dict[str, str]:
    said = [str(ds.attrs[key]) for key in ("source", "source_id", "title") if key in ds.attrs]
    license = str(ds.attrs.get("license", ATTRIBUTES["license"]))
    source = f"{ATTRIBUTES['source']}; the file says: {said[0]}" if said else ATTRIBUTES["source"]
    return ATTRIBUTES | {"source": source, "license": license}
