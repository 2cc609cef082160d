"""What each dimension of a dataset is, read from its coordinate by CF.

A coordinate is known by standard_name, units and axis; a bare one that is called like a latitude
or a longitude is believed. Nothing here looks at data variables.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
import xarray as xr

from ..errors import CubeError, GridError, LegendError
from .grid import spacing
from .legends import legend
from .times import read_months, read_times, read_years

__all__ = ["CLASS_DIMS", "Axis", "Problem", "listed", "read_axes", "read_scalar_time"]

Kind = Literal[
    "latitude", "longitude", "time", "month", "year", "class", "expver", "projected", "other"
]
REPROJECT = "reproject to latitude and longitude first, such as by ds.rio.reproject('EPSG:4326')"
CLASS_DIMS = {"lu_class": "luh2", "lc_class": "cci_pft"}


class Problem(NamedTuple):
    """One reason why a dataset is not a cube, and the error that says so if it is the only kind."""

    text: str
    error: type[CubeError] = CubeError


@dataclass(frozen=True, eq=False)
class Axis:
    """One dimension: its meaning and its values in canonical order.

    Parameters
    ----------
    dim
        Name in the dataset.
    kind
        What it is.
    size
        Length.
    values
        Degrees, datetime64[s], months 1..12, years or class ids, in canonical order; None where
        they could not be read.
    order
        Positions in the dataset in canonical order; None if that is how they are.
    legend
        Of a class axis.
    problems
        What is wrong with it; it matters only if a variable of the cube uses the dimension.
    name
        Coordinate that it was read from; None if none says what it is.
    """

    dim: Hashable
    kind: Kind
    size: int
    values: np.ndarray | None = None
    order: np.ndarray | None = None
    legend: str | None = None
    problems: tuple[Problem, ...] = ()
    name: Hashable = None


def read_axes(ds: xr.Dataset) -> dict[Hashable, Axis]:
    """Axes of a dataset by dimension; loads 1-D coordinates at most."""
    names = _horizontal(ds.coords)
    curved = {
        dim
        for name in names["latitude"] | names["longitude"]
        if ds.coords[name].ndim > 1
        for dim in ds.coords[name].dims
    }
    axes = {}
    for dim, size in ds.sizes.items():
        if dim in curved:
            axes[dim] = Axis(dim, "projected", size, problems=(_projected(dim, "curvilinear"),))
        else:
            axes[dim] = _read_axis(ds, dim, names) or Axis(dim, "other", size)
    return axes


def read_scalar_time(da: xr.DataArray) -> np.ndarray | None:
    """Time of a variable that has a scalar time coordinate in place of a dimension."""
    scalars = [(name, c) for name, c in da.coords.items() if c.ndim == 0]
    # GRIB has both the time of the analysis and the time that the field is valid at.
    scalars.sort(key=lambda item: item[0] != "valid_time")
    for name, coordinate in scalars:
        expanded = coordinate.reset_coords(drop=True).expand_dims("step")
        times = read_times(expanded)
        if times is None and (years := read_years(name, expanded)) is not None:
            times = (years - 1970).astype("datetime64[Y]").astype("datetime64[s]")
        if isinstance(times, np.ndarray):
            return times
    return None


def _read_axis(ds: xr.Dataset, dim: Hashable, names: Mapping[str, set[Hashable]]) -> Axis | None:
    along = [name for name, c in ds.coords.items() if c.dims == (dim,)]
    along.sort(key=lambda name: name != dim)
    for name in along:
        coordinate = ds.coords[name].reset_coords(drop=True)
        if name in names["latitude"]:
            axis: Axis | None = _latitude(dim, coordinate)
        elif name in names["longitude"]:
            axis = _longitude(dim, coordinate)
        else:
            axis = _projection(dim, coordinate) or _temporal(dim, name, coordinate)
            axis = axis or _classes(dim, name, coordinate)
        if axis is not None:
            return replace(axis, name=name)
    return None


def _horizontal(coords: Mapping[Hashable, xr.DataArray]) -> dict[str, set[Hashable]]:
    """Names of all coordinates that are latitudes and longitudes."""
    import cf_xarray  # noqa: F401

    # cf_xarray needs names and attributes only; stand-ins keep it away from data and odd types.
    bounds = {str(c.attrs.get("bounds", c.encoding.get("bounds"))) for c in coords.values()}
    attrs = {
        name: {k: v for k, v in c.attrs.items() if isinstance(k, str) and isinstance(v, str)}
        for name, c in coords.items()
        if isinstance(name, str) and name not in bounds and not name.endswith(("_bnds", "_bounds"))
    }
    labelled = {n: a for n, a in attrs.items() if a.keys() & {"standard_name", "units", "axis"}}
    bare = {n: a for n, a in attrs.items() if n not in labelled}
    found = _stand_ins(labelled).cf.coordinates
    guessed = _stand_ins(bare).cf.guess_coord_axis().cf.coordinates
    ours = {
        kind: [n for n in bare if n in (f"forcing_{kind}", f"driver_{kind}")]
        for kind in ("latitude", "longitude")
    }
    return {
        kind: {*found.get(kind, ()), *guessed.get(kind, ()), *ours[kind]}
        for kind in ("latitude", "longitude")
    }


def _stand_ins(attrs: Mapping[str, dict[str, str]]) -> xr.Dataset:
    return xr.Dataset(coords={name: xr.Variable((), 0.0, a) for name, a in attrs.items()})


def _latitude(dim: Hashable, coordinate: xr.DataArray) -> Axis:
    values = coordinate.to_numpy()
    problem = _out_of_range(coordinate, 90.0)
    if problem is not None:
        return Axis(dim, "latitude", values.size, problems=(problem,))
    values = values.astype(float)
    order = None if _ascends(-values) else np.argsort(-values, kind="stable")
    values = values if order is None else values[order]
    return Axis(dim, "latitude", values.size, values, order, problems=_uneven(coordinate, values))


def _longitude(dim: Hashable, coordinate: xr.DataArray) -> Axis:
    values = coordinate.to_numpy()
    problem = _out_of_range(coordinate, 540.0)
    if problem is not None:
        return Axis(dim, "longitude", values.size, problems=(problem,))
    values = values.astype(float)
    step = np.ptp(values) / max(values.size - 1, 1)
    last = 180.0 if np.ptp(values) + step > 360.0 - step / 2 else 360.0 + values[0]
    in_range = _ascends(values) and -180.0 <= values[0] < 180.0 and values[-1] < last
    if in_range and not _uneven(coordinate, values):
        return Axis(dim, "longitude", values.size, values)
    # 0..360, descending, turned, or the two ends of a box that crosses the date line.
    order = _round_the_globe(values)
    values = _unwrap(values[order])
    keep = None if np.array_equal(order, np.arange(order.size)) else order
    return Axis(dim, "longitude", values.size, values, keep, problems=_uneven(coordinate, values))


def _round_the_globe(values: np.ndarray) -> np.ndarray:
    """Order of longitudes that starts after the widest gap on the circle."""
    turned = np.mod(values + 180.0, 360.0)
    order = np.argsort(turned, kind="stable")
    gaps = np.diff(turned[order], prepend=turned[order][-1] - 360.0)
    # Globally all gaps are alike: start at 180 W, not where rounding makes one gap the widest.
    start = int(np.argmax(gaps)) if gaps.max() > 1.5 * np.median(gaps) else 0
    return np.roll(order, -start)


def _unwrap(values: np.ndarray) -> np.ndarray:
    """Longitudes made to ascend, the first within -180..180."""
    first = np.mod(values[0] + 180.0, 360.0) - 180.0
    turned = values + 360.0 * np.round((first - values) / 360.0)
    # The first must not be taken for one before itself for the sake of a rounding error.
    return turned + 360.0 * np.ceil((first - turned) / 360.0 - 1e-9)


def _uneven(coordinate: xr.DataArray, values: np.ndarray) -> tuple[Problem, ...]:
    repeated = values[1:][np.diff(values) == 0]
    if repeated.size:
        text = (
            f"{coordinate.name!r} holds {listed(repeated)} more than once; drop the repeated ones"
        )
        return (Problem(text, GridError),)
    try:
        spacing(values, repr(coordinate.name))
    except GridError as error:
        return (Problem(str(error), GridError),)
    return ()


def _out_of_range(coordinate: xr.DataArray, bound: float) -> Problem | None:
    values, name = coordinate.to_numpy(), coordinate.name
    if values.dtype.kind not in "fiu" or not values.size or not np.isfinite(values).all():
        return Problem(f"{name!r} must hold finite numbers of degrees", GridError)
    if np.abs(values).max() > bound:
        text = (
            f"{name!r} must be degrees within {-bound:g}..{bound:g}; found {values.min():g}.."
            f"{values.max():g}; swap it with the other axis if they are mixed up, or {REPROJECT}"
        )
        return Problem(text, GridError)
    return None


def _projection(dim: Hashable, coordinate: xr.DataArray) -> Axis | None:
    standard_name = str(coordinate.attrs.get("standard_name", ""))
    units = str(coordinate.attrs.get("units", ""))
    rotated = standard_name in ("grid_latitude", "grid_longitude")
    if standard_name.startswith("projection_") or rotated or units in ("m", "km", "metre", "meter"):
        what = "rotated" if rotated else "projected"
        size = coordinate.size
        # A height in metres is no projection; only horizontal axes are.
        if coordinate.attrs.get("axis") == "Z" or "positive" in coordinate.attrs:
            return None
        return Axis(dim, "projected", size, problems=(_projected(dim, what),))
    return None


def _projected(dim: Hashable, what: str) -> Problem:
    return Problem(f"dimension {dim!r} belongs to a {what} grid; {REPROJECT}", GridError)


def _temporal(dim: Hashable, name: Hashable, coordinate: xr.DataArray) -> Axis | None:
    times = read_times(coordinate)
    if isinstance(times, str):
        return Axis(dim, "time", coordinate.size, problems=(Problem(times),))
    if times is not None:
        return _sorted(dim, "time", times)
    months = read_months(name, coordinate)
    if months is not None:
        return _sorted(dim, "month", months)
    years = read_years(name, coordinate)
    return None if years is None else _sorted(dim, "year", years)


def _sorted(dim: Hashable, kind: Kind, values: np.ndarray) -> Axis:
    order = None if _ascends(values) else np.argsort(values, kind="stable")
    return Axis(dim, kind, values.size, values if order is None else values[order], order)


def _classes(dim: Hashable, name: Hashable, coordinate: xr.DataArray) -> Axis | None:
    if name == "expver":
        return Axis(dim, "expver", coordinate.size)
    if coordinate.dtype.kind not in "OSTU":
        return None
    raw = coordinate.to_numpy().tolist()
    ids = [v.decode(errors="replace") if isinstance(v, bytes) else str(v) for v in raw]
    said = str(coordinate.attrs.get("legend", ""))
    which = said if said in CLASS_DIMS.values() else _closest_legend(ids)
    if which is None:
        known = "; ".join(f"{n}: {', '.join(legend(n).ids)}" for n in CLASS_DIMS.values())
        text = f"{name!r} must hold the class ids of a legend ({known}); found {listed(ids)}"
        return Axis(dim, "class", len(ids), problems=(Problem(text, LegendError),))
    wanted = list(legend(which).ids)
    problems = _class_problems(name, which, ids, wanted)
    if problems:
        return Axis(dim, "class", len(ids), legend=which, problems=problems)
    present = [id for id in wanted if id in ids]
    order = None if ids == present else np.array([ids.index(id) for id in present])
    return Axis(dim, "class", len(ids), np.array(present, dtype=object), order, which)


def _class_problems(
    name: Hashable, which: str, ids: list[str], wanted: list[str]
) -> tuple[Problem, ...]:
    # LUH2 keeps ice and water apart: a cube may leave them out, and they are what the states leave.
    optional = {"icwtr"}
    unknown = [id for id in ids if id not in wanted]
    repeated = sorted({id for id in ids if ids.count(id) > 1})
    absent = [id for id in wanted if id not in ids and id not in optional]
    texts = []
    if unknown:
        texts.append(f"{name!r} has classes that legend {which!r} lacks: {listed(unknown)}")
    if repeated:
        texts.append(f"{name!r} has classes more than once: {listed(repeated)}")
    if absent:
        texts.append(
            f"{name!r} lacks classes of legend {which!r}: {listed(absent)}; add them, 0 if absent"
        )
    return tuple(Problem(text, LegendError) for text in texts)


def _closest_legend(ids: list[str]) -> str | None:
    shared = {n: len(set(ids) & set(legend(n).ids)) for n in CLASS_DIMS.values()}
    best = max(shared, key=lambda n: shared[n])
    return best if shared[best] else None


def _ascends(values: np.ndarray) -> bool:
    return bool((values[1:] >= values[:-1]).all())


def listed(values: object) -> str:
    """Values for a message, the first dozen of them."""
    shown = [str(v) for v in np.asarray(values).tolist()]
    return ", ".join(shown[:12]) + (f" and {len(shown) - 12} more" if len(shown) > 12 else "")
