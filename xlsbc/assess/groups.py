"""Groups that sums are kept by: dominant class, region, month, elevation band.

A value belongs to one group or to none. Sums by group are as exact and as lazy as sums of all, and
the sums of the groups add up to those of the values that belong to any.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
import xarray as xr

from ..errors import CubeError
from ..physics.consistency import year_index
from .alignment import lay


@dataclass(frozen=True)
class Groups:
    """Which group each value belongs to.

    Parameters
    ----------
    index
        Integers over some of the dimensions of what is summed: position in ``labels``, -1 where a
        value belongs to none. May be lazy.
    labels
        1-D, a name for each group along a dimension that is called after what they are.
    """

    index: xr.DataArray
    labels: xr.DataArray

    @property
    def name(self) -> str:
        """The dimension that sums by these groups get."""
        return str(self.labels.dims[0])


By = Groups | Sequence[Groups] | None


def classes(fraction: xr.DataArray, class_dim: str, time: xr.DataArray | None = None) -> Groups:
    """The class that covers most; lazy on lazy data.

    Parameters
    ----------
    fraction
        Fractions (1) of the reference. The first class of the legend wins a tie; a pixel with a NaN
        in any class belongs to none.
    class_dim
        The dimension of the classes.
    time
        With it, ``fraction`` has ``year``, and the groups are those of each time: of its year, or
        of the only year that there is.
    """
    known = fraction.notnull().all(class_dim)
    index = fraction.fillna(0).argmax(class_dim).where(known, -1).astype("int64")
    if time is not None:
        place = year_index(time, fraction["year"])
        here = xr.DataArray(place >= 0, {"time": time.values}, dims="time")
        index = index.isel(year=np.maximum(place, 0)).rename(year="time")
        index = index.assign_coords(time=time.values).where(here, -1)
    return Groups(index.rename(class_dim), _labels(fraction, class_dim))


def dominant(fraction: xr.DataArray, class_dim: str, name: str) -> Groups:
    """Groups ``name`` of the largest class, of fractions without NaN, numbered as they stand."""
    labels = np.arange(fraction.sizes[class_dim])
    return Groups(fraction.argmax(class_dim), xr.DataArray(labels, dims=name))


def regions(regions: xr.DataArray, names: Mapping[int, str] | None = None) -> Groups:
    """A mask of booleans, or a map of region numbers.

    Parameters
    ----------
    regions
        ``(latitude, longitude)``: True in the one region, or integers; reads a lazy map.
    names
        Name of each number; numbers without a name belong to no region. By default every number
        that occurs is a region.

    Raises
    ------
    CubeError
        If the map is neither of booleans nor of integers.
    """
    values = np.asarray(regions.values)
    if values.dtype.kind not in "biu":
        raise CubeError(
            f"expected regions as booleans or integers; found {values.dtype}; "
            "number the regions, and the pixels outside of them -1"
        )
    if values.dtype == bool:
        names = names or {1: "inside"}
    keys = np.array(sorted(names) if names else np.unique(values[values >= 0]), dtype="int64")
    place = np.searchsorted(keys, values.astype("int64")).clip(max=max(keys.size - 1, 0))
    found = keys[place] == values if keys.size else np.zeros(values.shape, bool)
    labels = [names[int(key)] for key in keys] if names else keys
    index = regions.copy(data=np.where(found, place, -1))
    return Groups(index.rename("region"), _named("region", labels))


def months(time: xr.DataArray) -> Groups:
    """The calendar month, 1 to 12, of each time."""
    index = xr.DataArray(time.dt.month.values - 1, {"time": time.values}, dims="time", name="month")
    return Groups(index, _named("month", np.arange(1, 13)))


def bands(elevation: xr.DataArray, edges: Sequence[float]) -> Groups:
    """Bands of elevation; lazy on lazy data.

    Parameters
    ----------
    elevation
        ``(latitude, longitude)``, m; NaN belongs to none.
    edges
        m, ascending. A band holds its lower edge and not its upper one.

    Raises
    ------
    CubeError
        If the edges do not ascend or are fewer than two.
    """
    steps = np.asarray(edges, dtype="float64")
    if steps.size < 2 or not (np.diff(steps) > 0).all():
        raise CubeError(
            f"expected two or more ascending edges of elevation in m; found {list(edges)}; "
            "sort them"
        )
    inside = (elevation >= steps[0]) & (elevation < steps[-1])
    index = sum((elevation >= edge).astype("int64") for edge in steps[1:-1])
    index = xr.zeros_like(inside, dtype="int64") + index
    labels = [f"{low:g} to {high:g} m" for low, high in pairwise(steps)]
    return Groups(index.where(inside, -1).rename("elevation"), _named("elevation", labels))


def total(
    terms: Mapping[str, xr.DataArray], dims: Sequence[str] | None = None, by: By = None
) -> xr.Dataset:
    """Sums of terms over dimensions, by group; lazy on lazy data.

    Parameters
    ----------
    terms
        Of the same dimensions, without NaN. Booleans are counted.
    dims
        Dimensions to sum over; all by default.
    by
        Groups to keep apart, of which every one adds its dimension.

    Raises
    ------
    CubeError
        If the groups do not fit the terms.
    """
    return tally(terms, laid(by, next(iter(terms.values()))), dims).drop_attrs()


def laid(by: By, data: xr.DataArray) -> list[Groups]:
    """The groups on the coordinates of the data.

    Raises
    ------
    CubeError
        If they do not fit the data.
    """
    chosen = [by] if isinstance(by, Groups) else by or ()
    return [Groups(lay(each.index, data), each.labels) for each in chosen]


def tally(
    terms: Mapping[str, xr.DataArray], groups: Sequence[Groups], dims: Sequence[str] | None = None
) -> xr.Dataset:
    """Sums of terms by any number of groups, each along its dimension; lazy on lazy data.

    Parameters
    ----------
    terms
        Of the same dimensions and coordinates, without NaN. Booleans are counted.
    groups
        On the coordinates of the terms.
    dims
        Dimensions to sum over; all by default.
    """
    some = next(iter(terms.values()))
    kept = [str(dim) for dim in some.dims if dims is not None and dim not in dims]
    over = [str(dim) for dim in some.dims if dim not in kept]
    sizes = tuple(each.labels.size for each in groups)
    fields = [term.transpose(*kept, *over) for term in terms.values()]
    code, *arrays = _in_step(_code(groups) if groups else None, fields)
    found = _sum_blocks(code, arrays, len(kept), prod(sizes))
    coords = {dim: some[dim] for dim in kept if dim in some.coords}
    coords |= {each.name: each.labels for each in groups if each.name in each.labels.coords}
    names = [*kept, *(each.name for each in groups)]
    sums = {}
    for k, (name, term) in enumerate(terms.items()):
        part = found[k].reshape(found.shape[1:-1] + sizes)
        sums[name] = xr.DataArray(part.astype("i8" if term.dtype == bool else "f8"), coords, names)
    return xr.Dataset(sums)


def _code(groups: Sequence[Groups]) -> xr.DataArray:
    """One number for each combination of groups, -1 where a value lacks one of them."""
    code = groups[0].index
    for each in groups[1:]:
        known = (code >= 0) & (each.index >= 0)
        code = (code * each.labels.size + each.index).where(known, -1)
    return code.astype("int64")


def _in_step(code: xr.DataArray | None, fields: Sequence[xr.DataArray]) -> list[Any]:
    """Arrays of the same dimensions and, if one is lazy, in the same blocks."""
    given = [*fields] if code is None else [code, *fields]
    if any(each.chunks for each in given):
        # Labels of a month or a pixel are cut into blocks before they are spread out: a whole
        # array of labels as large as the data would be hashed and shipped.
        given = [each if each.chunks else each.chunk() for each in given]
    if code is not None:
        given[0] = given[0].broadcast_like(fields[0]).transpose(*fields[0].dims)
    arrays = [each.data for each in xr.unify_chunks(*given)]
    return [None, *arrays] if code is None else arrays


def _sum_blocks(code: Any, fields: Sequence[Any], kept: int, size: int) -> Any:
    """Sums ``(field, kept dimensions, code)``: those of every block, added."""
    some = fields[0]
    if isinstance(some, np.ndarray):
        found = _sum_block(code, *fields, kept=kept, size=size)
    else:
        import dask.array

        chunks = some.chunks[:kept] + tuple((1,) * n for n in some.numblocks[kept:])
        # All fields at once: what they share is computed once, and the graph stays small.
        found = dask.array.map_blocks(
            _sum_block,
            code,
            *fields,
            kept=kept,
            size=size,
            dtype="float64",
            chunks=((len(fields),), *chunks, (size,)),
            new_axis=(0, some.ndim + 1),
            meta=np.empty((0,) * (some.ndim + 2)),
        )
    return found.sum(tuple(range(kept + 1, some.ndim + 1)))


def _sum_block(code: np.ndarray | None, *fields: np.ndarray, kept: int, size: int) -> np.ndarray:
    """One block's sums by code, with a length of 1 along every dimension that was summed over."""
    outer, over = fields[0].shape[:kept], fields[0].ndim - kept
    shape = (*outer, *(1,) * over, size)
    if code is None:
        sums = [field.sum(tuple(range(kept, kept + over)), dtype="float64") for field in fields]
    else:
        place = code + size * np.arange(prod(outer)).reshape(outer + (1,) * over)
        used = code >= 0
        sums = [np.bincount(place[used], field[used], size * prod(outer)) for field in fields]
    return np.array([each.reshape(shape) for each in sums])


def _labels(fraction: xr.DataArray, dim: str) -> xr.DataArray:
    """The names of the classes, or their numbers where they have none."""
    return (
        fraction[dim].drop_attrs()
        if dim in fraction.coords
        else _named(dim, range(fraction.sizes[dim]))
    )


def _named(dim: str, values: Sequence[object] | np.ndarray | range) -> xr.DataArray:
    kept = values if isinstance(values, np.ndarray | range) else np.array(values, dtype=object)
    return xr.DataArray(kept, {dim: kept}, dims=dim)
