"""A target grid block by block, each from the window of the source that it needs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import dask.array
import numpy as np
import xarray as xr
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph
from dask.task_spec import Task, TaskRef

from ...errors import GridError
from .lattice import Axis
from .overlap import Weights, zone

# Target pixels along the side of a block, and source cells along the side of its window.
SIDE = 1200
REACH = 4096

# An area that misses what is asked for by no more than this share of a pixel is there.
ROUNDING = 1e-9


class Window(NamedTuple):
    """Part of the source that a block needs, and by how many turns east of it the block lies."""

    rows: slice
    columns: slice
    turns: int = 0


class Scheme(Protocol):
    """How source cells and target pixels share area. It goes into every task: keep it small."""

    @property
    def latitude(self) -> Axis:
        """Rows of the target."""
        ...

    @property
    def longitude(self) -> Axis:
        """Columns of the target."""
        ...

    @property
    def side(self) -> int:
        """Target pixels along the side of a block."""
        ...

    def windows(self, rows: slice, columns: slice) -> list[Window]:
        """What of the source a block of the target needs."""
        ...

    def weights(self, rows: slice, columns: slice, window: Window) -> Weights:
        """Areas that the block shares with one of its windows, as `pixel_area` counts."""
        ...


# (scheme, rows, columns, windows, their source values (n, y, x)) to (n, ..., row, column)
Compute = Callable[[Any, slice, slice, list[Window], list[np.ndarray]], np.ndarray]


def regrid(
    da: xr.DataArray,
    dims: tuple[Hashable, Hashable],
    scheme: Scheme,
    compute: Compute,
    latitude: np.ndarray,
    longitude: np.ndarray,
    *,
    dtype: np.dtype[Any],
    new: xr.DataArray | None = None,
    attrs: dict[str, Any] | None = None,
) -> xr.DataArray:
    """A field on the target grid: lazy in Dask blocks where `da` is, else in memory.

    Parameters
    ----------
    da
        Any dims; `dims` are the two that go.
    compute
        What each block is; a module's function or a partial of one.
    new
        Coordinate of a dim that `compute` adds, before rows and columns.
    attrs
        Of the result, if not those of `da`.
    """
    da = da.transpose(..., *dims)
    shape = (scheme.latitude.size, scheme.longitude.size)
    make = _lazily if isinstance(da.data, dask.array.Array) else _now
    between = () if new is None else (new.size,)
    data = make(da.data, shape, between, scheme, compute, dtype)
    coords = {n: c for n, c in da.coords.items() if not set(dims) & set(c.dims)}
    names: tuple[Hashable, ...] = da.dims[:-2]
    if new is not None:
        names, coords[new.dims[0]] = (*names, new.dims[0]), new.coords[new.dims[0]]
    place = {
        "latitude": ("latitude", np.asarray(latitude, float), NORTH),
        "longitude": ("longitude", np.asarray(longitude, float), EAST),
    }
    attrs = da.attrs if attrs is None else attrs
    out = xr.DataArray(data, coords, (*names, "latitude", "longitude"), da.name, attrs)
    return out.assign_coords(place)


NORTH = {"standard_name": "latitude", "units": "degrees_north"}
EAST = {"standard_name": "longitude", "units": "degrees_east"}


def centres(da: xr.DataArray, dims: tuple[Hashable, Hashable]) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of the two dims that a field is regridded along.

    Raises
    ------
    GridError
        If they are not there, or not along a dim of their own.
    """
    if any(d not in da.dims or d not in da.coords for d in dims):
        found = {n: c.dims for n, c in da.coords.items()}
        raise GridError(
            f"expected dims (..., {dims[0]}, {dims[1]}) with coordinates; found dims {da.dims} "
            f"and coordinates {found}; rename them"
        )
    return da[dims[0]].to_numpy(), da[dims[1]].to_numpy()


def mean(
    scheme: Scheme,
    rows: slice,
    columns: slice,
    windows: list[Window],
    values: list[np.ndarray],
    *,
    least: float,
    dtype: np.dtype[Any],
) -> np.ndarray:
    """Mean of what is known of each pixel, (n, row, column)."""
    area = pixel_area(scheme.latitude.part(rows), scheme.longitude.part(columns))
    weights = [scheme.weights(rows, columns, window) for window in windows]
    out = np.full((len(values[0]), *area.shape), np.nan, dtype)
    for i in range(len(out)):
        total, known = np.zeros_like(area), np.zeros_like(area)
        for weight, window_values in zip(weights, values, strict=True):
            field = window_values[i]
            absent = np.isnan(field) if field.dtype.kind == "f" else np.zeros(field.shape, bool)
            total += weight.sums(np.where(absent, 0, field))
            known += weight.sums(~absent)
        enough = covered(known, area, least)
        np.divide(total, known, out=out[i], where=enough, casting="same_kind")
    return out


def covered(known: np.ndarray, area: np.ndarray, least: float) -> np.ndarray:
    """Where enough of a pixel is known, and not nothing."""
    return known > np.maximum(least - ROUNDING, ROUNDING) * area


def pixel_area(latitude: Axis, longitude: Axis) -> np.ndarray:
    """Area of each pixel on the unit sphere, cut at the poles, longitudes in degrees."""
    edges = np.clip(latitude.edges(), -90.0, 90.0)
    return np.outer(np.abs(zone(edges[:-1], edges[1:])), np.abs(np.diff(longitude.edges())))


def side(finest: Sequence[float], target: tuple[Axis, Axis], reach: int = REACH) -> int:
    """Target pixels along a block, by the smallest height and width of source cells, degrees.

    So that its window of the source has no more than `reach` cells along a side.
    """
    coarsest = [np.abs(np.diff(axis.edges())).max() for axis in target]
    ratio = max(c / f for c, f in zip(coarsest, finest, strict=True))
    return int(np.clip(reach / ratio, 1, SIDE))


def result_type(da: xr.DataArray) -> np.dtype[Any]:
    """Type of a mean: float64 of float64, else float32."""
    return np.dtype(np.float64 if da.dtype == np.float64 else np.float32)


def _now(
    data: Any,
    shape: tuple[int, int],
    between: tuple[int, ...],
    scheme: Scheme,
    compute: Compute,
    dtype: np.dtype[Any],
) -> np.ndarray:
    source = np.asarray(data)
    stack = _stack(source)
    out = np.full((len(stack), *between, *shape), np.nan, dtype)
    for (_, rows), (_, columns) in _blocks(shape, scheme.side):
        windows = scheme.windows(rows, columns)
        if windows and len(stack):
            values = [stack[:, w.rows, w.columns] for w in windows]
            out[..., rows, columns] = compute(scheme, rows, columns, windows, values)
    return out.reshape(*source.shape[:-2], *between, *shape)


def _lazily(
    data: dask.array.Array,
    shape: tuple[int, int],
    between: tuple[int, ...],
    scheme: Scheme,
    compute: Compute,
    dtype: np.dtype[Any],
) -> dask.array.Array:
    name = f"xlsbc-regrid-{tokenize(data, shape, between, scheme, compute, dtype)}"
    ends = [np.cumsum((0, *chunks)) for chunks in data.chunks[-2:]]
    leading = list(itertools.product(*(range(len(c)) for c in data.chunks[:-2])))
    lengths = {at: tuple(c[i] for c, i in zip(data.chunks, at, strict=False)) for at in leading}
    middle = (0,) * len(between)
    graph: dict[Any, Any] = {}
    sources: list[Any] = [data]
    for (i, rows), (j, columns) in _blocks(shape, scheme.side):
        windows = scheme.windows(rows, columns)
        size = (*between, rows.stop - rows.start, columns.stop - columns.start)
        pieces = [p for k, w in enumerate(windows) for p in _pieces(k, w, ends)]
        places = [place for _, place in pieces]
        for at in leading:
            key = (name, *at, *middle, i, j)
            if not pieces:
                graph[key] = Task(key, np.full, (*lengths[at], *size), np.nan, dtype)
                continue
            needed = [TaskRef((data.name, *at, *number)) for number, _ in pieces]
            block = (scheme, compute, rows, columns, windows, places)
            graph[key] = Task(key, _block, *block, *needed)
    blocks = [range(0, n, scheme.side) for n in shape]
    chunks = tuple(
        tuple(min(scheme.side, n - first) for first in firsts)
        for firsts, n in zip(blocks, shape, strict=True)
    )
    return dask.array.Array(
        HighLevelGraph.from_collections(name, graph, dependencies=sources),
        name,
        (*data.chunks[:-2], *((n,) for n in between), *chunks),
        dtype=dtype,
    )


def _blocks(shape: tuple[int, int], side: int) -> Iterator[Any]:
    """Pairs of ((number, rows), (number, columns)) of each block."""
    cuts = ([slice(a, min(a + side, n)) for a in range(0, n, side)] for n in shape)
    return itertools.product(*(list(enumerate(cut)) for cut in cuts))


def _pieces(number: int, window: Window, ends: list[np.ndarray]) -> Iterator[Any]:
    """Chunks that a window lies in: their numbers, (window, its shape, place there, in chunk)."""
    cuts = []
    for cells, end in zip(window[:2], ends, strict=True):
        first = int(np.searchsorted(end, cells.start, "right")) - 1
        last = int(np.searchsorted(end, cells.stop, "left"))
        cuts.append([(n, *_cut(cells, int(end[n]), int(end[n + 1]))) for n in range(first, last)])
    shape = tuple(cells.stop - cells.start for cells in window[:2])
    for (m, there_y, here_y), (n, there_x, here_x) in itertools.product(*cuts):
        yield (m, n), (number, shape, (there_y, there_x), (here_y, here_x))


def _cut(cells: slice, first: int, last: int) -> tuple[slice, slice]:
    """Cells that lie in a chunk: where they are in the window, and where in the chunk."""
    low, high = max(cells.start, first), min(cells.stop, last)
    return slice(low - cells.start, high - cells.start), slice(low - first, high - first)


def _block(
    scheme: Scheme,
    compute: Compute,
    rows: slice,
    columns: slice,
    windows: list[Window],
    places: list[Any],
    *chunks: np.ndarray,
) -> np.ndarray:
    leading = chunks[0].shape[:-2]
    held: dict[int, np.ndarray] = {}
    for (number, shape, there, here), chunk in zip(places, chunks, strict=True):
        if number not in held:
            held[number] = np.empty((*leading, *shape), chunk.dtype)
        held[number][..., *there] = chunk[..., *here]
    values = [_stack(held[k]) for k in range(len(windows))]
    out = compute(scheme, rows, columns, windows, values)
    return out.reshape(*leading, *out.shape[1:])


def _stack(values: np.ndarray) -> np.ndarray:
    """Array of three dims: all leading ones in one."""
    return values.reshape(math.prod(values.shape[:-2]), *values.shape[-2:])
