"""Fragments fitted together by their coordinates: what each covers, and what all of them make.

The order of files does not matter, nor how they are cut: a fragment lies where its coordinates say.
Grids that disagree and fragments that hold the same are errors; gaps are told.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from ...errors import SourceError
from ..grid import TOLERANCE
from .coverage import coverage
from .footprint import Footprint

__all__ = ["Mosaic", "mosaic"]

Place = np.ndarray
"""Numbers of a fragment's steps along an axis of the mosaic."""

JOINED = {
    "title": "; ",
    "summary": " ",
    "source": "; ",
    "license": "; ",
    "references": "; ",
    "history": "\n",
    "comment": "\n",
}
"""Attributes of which the mosaic has what any fragment has, each once, and what stands between."""


@dataclass(frozen=True)
class Mosaic:
    """What the fragments make together.

    Parameters
    ----------
    template
        The Dataset, whose large variables are hollow: lazy, and never to be computed.
    axes
        Coordinate along each dimension that has one.
    cut
        Dimensions of each variable along which no single fragment has all.
    notes
        What its user should know of it: gaps.
    """

    template: xr.Dataset
    axes: dict[str, np.ndarray]
    cut: dict[str, tuple[str, ...]]
    notes: tuple[str, ...]

    def place(self, coords: Mapping[Hashable, Any], dim: str) -> Place:
        """Where the steps of a fragment lie along a dimension."""
        if dim not in self.axes or dim not in coords:
            return np.arange(self.template.sizes[dim])
        return positions(np.asarray(coords[dim]), self.axes[dim])


def mosaic(footprints: Iterable[Footprint], chunks: Mapping[str, int]) -> Mosaic:
    """What fragments make together, computed from their footprints alone.

    Parameters
    ----------
    footprints
        In any order.
    chunks
        Lengths of stored chunks; a dimension that is not named is one chunk.

    Raises
    ------
    SourceError
        If there is none, or with every pair of files whose grids, classes, variables or units
        disagree.
    """
    parts = sorted(footprints, key=lambda part: part.source)
    if not parts:
        raise SourceError(
            "there is nothing to build from: no file was found",
            ["expected files under the input; name their folder or URL with --input"],
        )
    problems: list[str] = []
    dims = sorted({dim for part in parts for dim in part.sizes})
    axes = {dim: axis(dim, [p for p in parts if dim in p.sizes], problems) for dim in dims}
    fields = {name: variable(name, parts, problems) for name in names(parts)}
    if problems:
        raise SourceError("the files do not fit together", list(dict.fromkeys(problems)))
    cut = {
        name: tuple(dim for dim in held if is_cut(name, dim, axes[dim].size, parts))
        for name, (held, _, _) in fields.items()
    }
    covers = {name: held for name, (held, _, _) in fields.items()}
    notes = coverage(covers, axes, parts)
    template = hollow(fields, axes, parts, chunks)
    template.attrs = together([part.attrs for part in parts])
    return Mosaic(template, axes, cut, tuple(notes))


def names(parts: Sequence[Footprint]) -> list[str]:
    """Names of all variables."""
    return list(dict.fromkeys(name for part in parts for name in part.variables))


def axis(dim: str, parts: Sequence[Footprint], problems: list[str]) -> np.ndarray:
    """All steps of the fragments along a dimension, in order."""
    values = [np.asarray(part.coords[dim]) for part in parts]
    first = values[0]
    if all(v.shape == first.shape and np.array_equal(v, first) for v in values):
        return first
    if first.dtype.kind in "OUST":
        other = next(i for i, v in enumerate(values) if not np.array_equal(v, first))
        problems.append(
            f"{parts[other].source}, {dim!r}: expected the {first.size} classes of "
            f"{parts[0].source}; found others; build them into different stores"
        )
        return first
    if first.dtype.kind in "Miu":
        return np.unique(np.concatenate(values))
    return regular(dim, values, parts, problems)


def regular(
    dim: str, values: Sequence[np.ndarray], parts: Sequence[Footprint], problems: list[str]
) -> np.ndarray:
    """Coordinates of a regular axis of which each fragment has a part."""
    steps = [(v[-1] - v[0]) / (v.size - 1) for v in values if v.size > 1]
    if not steps:
        return np.unique(np.concatenate(values))
    step = float(steps[0])
    origin = float(values[0][0])
    count = 1
    for part, mine in zip(parts, values, strict=True):
        own = (mine[-1] - mine[0]) / (mine.size - 1) if mine.size > 1 else step
        index = (mine - origin) / step
        if abs(own / step - 1) > TOLERANCE / mine.size or misses(index):
            problems.append(
                f"{part.source}, {dim!r}: expected the grid of {parts[0].source}, every "
                f"{abs(step):.7g} from {origin:.7g}; found every {abs(own):.7g} from "
                f"{float(mine[0]):.7g}; regrid one of them, or build different stores"
            )
            return values[0]
        count = max(count, int(np.rint(index).max()) + 1)
    least = min(int(np.rint((mine[0] - origin) / step)) for mine in values)
    whole = origin + step * np.arange(least, count)
    for mine in reversed(values):
        whole[np.rint((mine - origin) / step).astype(int) - least] = mine
    return whole


def misses(index: np.ndarray) -> bool:
    """Whether positions are not whole numbers."""
    return bool((np.abs(index - np.rint(index)) > 2 * TOLERANCE).any())


def positions(values: np.ndarray, axis: np.ndarray) -> Place:
    """Where values lie in an axis that holds them."""
    if axis.dtype.kind == "f" and axis.size > 1:
        step = (axis[-1] - axis[0]) / (axis.size - 1)
        return np.rint((values - axis[0]) / step).astype(int)
    if axis.dtype.kind in "Miuf":
        return np.searchsorted(axis, values)
    return np.arange(axis.size)


def variable(
    name: str, parts: Sequence[Footprint], problems: list[str]
) -> tuple[tuple[str, ...], str, dict[str, Any]]:
    """Dims, dtype and attributes of a variable; what not all fragments say of it is left out."""
    holding = [part for part in parts if name in part.variables]
    dims, dtype, attrs = holding[0].variables[name]
    for part in holding[1:]:
        own_dims, own_dtype, own = part.variables[name]
        if own_dims != dims or own.get("units") != attrs.get("units"):
            problems.append(
                f"{part.source}, variable {name!r}: expected dims {dims} and units "
                f"{attrs.get('units')!r} as in {holding[0].source}; found {own_dims} and "
                f"{own.get('units')!r}; build different stores"
            )
        dtype = np.promote_types(dtype, own_dtype).str
    return dims, dtype, together([part.variables[name][2] for part in holding])


def together(attributes: Sequence[Mapping[Any, Any]]) -> dict[Any, Any]:
    """Attributes that all agree on, and all that is said of provenance."""
    merged: dict[Any, Any] = {}
    for attrs in attributes:
        for key, value in attrs.items():
            merged.setdefault(key, value)
    for key in list(merged):
        told = [attrs[key] for attrs in attributes if key in attrs]
        if key in JOINED:
            merged[key] = once(map(str, told), JOINED[key])
        elif any(not same(value, merged[key]) for value in told):
            del merged[key]
    return merged


def once(texts: Iterable[str], separator: str) -> str:
    """Texts one after another, without those that another before holds already."""
    whole = ""
    for text in texts:
        if f"{separator}{text}{separator}" not in f"{separator}{whole}{separator}":
            whole = f"{whole}{separator}{text}" if whole else text
    return whole


def same(one: Any, other: Any) -> bool:
    """Whether two attributes are equal, arrays included."""
    return bool(np.array_equal(np.asarray(one), np.asarray(other)))


def is_cut(name: str, dim: str, size: int, parts: Sequence[Footprint]) -> bool:
    """Whether a fragment that holds a variable has only a part of a dimension."""
    return any(name in part.variables and part.sizes[dim] != size for part in parts)


def hollow(
    fields: Mapping[str, tuple[tuple[str, ...], str, dict[str, Any]]],
    axes: Mapping[str, np.ndarray],
    parts: Sequence[Footprint],
    chunks: Mapping[str, int],
) -> xr.Dataset:
    """The Dataset without values: large variables are lazy and of one number."""
    import dask.array as da

    made = {}
    for name, (dims, dtype, attrs) in fields.items():
        shape = tuple(axes[dim].size for dim in dims)
        lengths = tuple(min(chunks.get(d, n), n) for d, n in zip(dims, shape, strict=True))
        made[name] = (dims, da.zeros(shape, dtype=dtype, chunks=lengths), attrs)
    coords: dict[str, Any] = {}
    for part in parts:
        for key, coordinate in part.coords.coords.items():
            if key in coords:
                continue
            if key in axes:
                coords[str(key)] = (str(key), axes[str(key)], dict(coordinate.attrs))
            elif all(axes[str(d)].size == coordinate.sizes[d] for d in coordinate.dims):
                coords[str(key)] = coordinate.variable
    return xr.Dataset(made, coords)
