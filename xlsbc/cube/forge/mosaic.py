"""Fragments fitted together by their coordinates: what each covers, and what all of them make.

The order of files does not matter, nor how they are cut: a fragment lies where its coordinates say.
Grids that disagree and fragments that hold the same are errors; gaps are told.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import xarray as xr

from ...errors import SourceError
from ..grid import TOLERANCE

__all__ = ["Footprint", "Mosaic", "footprint", "mosaic"]

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


MOSTLY = 0.5
"""Share of a grid that files of one region cover at least."""


@dataclass(frozen=True)
class Footprint:
    """What a fragment covers, without its values.

    Parameters
    ----------
    source
        File that it comes from.
    stamp
        Of the file's content: size and time of change, as its file system tells them.
    accessed
        Date of the file, ISO 8601; None where its file system tells none.
    variables
        Dims, dtype and attributes by name.
    coords
        Coordinates, in memory.
    attrs
        Of the Dataset.
    """

    source: str
    stamp: str
    accessed: str | None
    variables: dict[str, tuple[tuple[str, ...], str, dict[str, Any]]]
    coords: xr.Dataset = field(repr=False)
    attrs: dict[Hashable, Any]

    @property
    def sizes(self) -> dict[str, int]:
        """Length along each dimension that a variable has."""
        held = {dim for dims, _, _ in self.variables.values() for dim in dims}
        return {str(d): n for d, n in self.coords.sizes.items() if d in held}


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


def footprint(ds: xr.Dataset, stamp: str, accessed: str | None) -> Footprint:
    """What a fragment covers; computes coordinates only.

    Raises
    ------
    SourceError
        If a dimension has no coordinate, by which it could be placed.
    """
    where = str(ds.encoding.get("source", "a fragment"))
    bare = [d for d in ds.dims if d not in ds.coords]
    if bare:
        raise SourceError(
            "a fragment cannot be placed",
            [f"{where}: expected a coordinate {d!r}; found none; add it" for d in bare],
        )
    variables = {
        str(name): (tuple(map(str, da.dims)), da.dtype.str, dict(da.attrs))
        for name, da in ds.data_vars.items()
    }
    coords = ds.coords.to_dataset().compute().drop_encoding()
    return Footprint(where, stamp, accessed, variables, coords, dict(ds.attrs))


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
    notes = [note for dim in axes if (note := gap(dim, axes[dim]))]
    notes += [
        note
        for name, (held, _, _) in fields.items()
        for dim in held
        if (note := lack(name, dim, axes[dim], parts))
    ]
    notes += [
        note for name, (held, _, _) in fields.items() if (note := sparse(name, held, axes, parts))
    ]
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


def gap(dim: str, values: np.ndarray) -> str | None:
    """A sentence about steps that are missing in an axis of times or years."""
    if dim == "year":
        expected = np.arange(values[0], values[-1] + 1)
    elif values.dtype.kind == "M" and values.size > 2:
        expected = steps_between(values)
    else:
        return None
    missing = np.setdiff1d(expected, values)
    if not missing.size:
        return None
    return f"{dim!r} has gaps: {told(missing)} are in no file"


def lack(name: str, dim: str, values: np.ndarray, parts: Sequence[Footprint]) -> str | None:
    """A sentence about steps of an axis at which other variables have files, and this has none."""
    if values.dtype.kind not in "Mi":
        return None
    own = np.unique(
        np.concatenate([part.coords[dim].values for part in parts if name in part.variables])
    )
    missing = np.setdiff1d(values, own)
    return f"{name!r} is in no file at {told(missing)} of {dim!r}" if missing.size else None


def sparse(
    name: str,
    dims: Sequence[str],
    axes: Mapping[str, np.ndarray],
    parts: Sequence[Footprint],
) -> str | None:
    """A sentence about a grid of which the files cover little: they are of several regions."""
    grid = [dim for dim in dims if axes[dim].dtype.kind == "f"]
    boxes = {
        tuple((float(part.coords[d][0]), float(part.coords[d][-1]), part.sizes[d]) for d in grid)
        for part in parts
        if name in part.variables
    }
    covered = sum(math.prod(n for *_, n in box) for box in boxes)
    whole = math.prod(axes[dim].size for dim in grid)
    if len(boxes) < 2 or covered >= MOSTLY * whole:
        return None
    return f"{name!r}: {len(boxes)} boxes of files cover {covered / whole:.0%} of the whole grid"


def told(steps: np.ndarray) -> str:
    """Some of many steps in words."""
    shown = ", ".join(str(each)[:10] for each in steps[:6])
    return f"{shown} and {steps.size - 6} more" if steps.size > 6 else shown


def steps_between(values: np.ndarray) -> np.ndarray:
    """The months, dekads or days from the first to the last of some of them."""
    days = values.astype("datetime64[D]")
    months = np.arange(days[0].astype("datetime64[M]"), days[-1].astype("datetime64[M]") + 1)
    firsts = months.astype("datetime64[D]")
    if np.isin(days, firsts).all():
        expected = firsts
    elif np.isin(days, dekads := np.sort(np.concatenate([firsts, firsts + 10, firsts + 20]))).all():
        expected = dekads[(dekads >= days[0]) & (dekads <= days[-1])]
    else:
        # Composites of so many days begin anew with each year.
        step = int(np.median(np.diff(days).astype(int)))
        years = np.arange(days[0].astype("datetime64[Y]"), days[-1].astype("datetime64[Y]") + 2)
        starts = years.astype("datetime64[D]")
        expected = np.concatenate([np.arange(a, b, step) for a, b in pairwise(starts)])
        if not np.isin(days, expected).all():
            expected = np.arange(days[0], days[-1] + 1, max(step, 1))
        expected = expected[(expected >= days[0]) & (expected <= days[-1])]
    return expected.astype(values.dtype)


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
