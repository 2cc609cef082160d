"""The synthetic world as Dask arrays: one task a tile, one a tile-year, shared by all variables."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from ..legends import LC, LU
from . import climate, world
from .lattice import CELL, Extent

if TYPE_CHECKING:
    from dask.array import Array
    from dask.typing import Key

    Graph = dict[Key, Any]

TILE = 240  # pixels along the side of a block that is made in one go, 8 cells

STATICS = (
    "elevation",
    "slope",
    "clay_fraction",
    "sand_fraction",
    "soil_porosity",
    "land_fraction",
    "lake_fraction",
)
FORCING = ("t2m", "tp", "ssrd", "swvl1")

Chunks = tuple[tuple[int, ...], ...]


def land_arrays(extent: Extent, years: range, seed: int, gaps: bool) -> dict[str, Array]:
    """Statics, targets and totals of an extent."""
    from dask.base import tokenize

    cells = extent.cells()
    token = tokenize(extent, years, seed, gaps)
    grounds, made = f"synthetic-ground-{token}", f"synthetic-targets-{token}"
    graph: Graph = {}
    for i, j, tile in _tiles(cells):
        graph[grounds, i, j] = (world.ground, tile.pixels(), seed)
        for t, year in enumerate(years):
            graph[made, t, i, j] = (world.targets, (grounds, i, j), year, gaps)
    fine, coarse = _chunks(cells, CELL), _chunks(cells, 1)
    yearly = (1,) * len(years)
    targets = {
        "lu_fraction": (yearly, (len(LU.ids),), *fine),
        "lc_fraction": (yearly, (len(LC.ids),), *fine),
        "lai": ((12,) * len(years), *fine),
    }
    cut = extent.within(cells.pixels())
    return {
        **{name: _field(graph, grounds, name, fine)[cut] for name in STATICS},
        **{name: _field(graph, made, name, grid)[..., *cut] for name, grid in targets.items()},
        "lu_total": _field(graph, made, "lu_total", (yearly, (len(LU.ids),), *coarse)),
    }


def forcing_arrays(cells: Extent, months: range, seed: int) -> dict[str, Array]:
    """Forcing of 0.25 degree cells."""
    from dask.base import tokenize

    made = f"synthetic-forcing-{tokenize(cells, months, seed)}"
    graph: Graph = {
        (made, 0, i, j): (world.forcing, tile, months, seed) for i, j, tile in _tiles(cells)
    }
    chunks = ((len(months),), *_chunks(cells, 1))
    return {name: _field(graph, made, name, chunks) for name in FORCING}


def co2_array(years: range) -> Array:
    """CO2, one chunk a year as the maps have it."""
    import dask.array as da

    return da.from_array(climate.co2(np.array(years)).astype(np.float32), chunks=1)


def _field(graph: Graph, made: str, name: str, chunks: Chunks) -> Array:
    """One field of what the tasks ``(made, [time,] tile row, tile column)`` make."""
    import dask.array as da
    from dask.highlevelgraph import HighLevelGraph

    layer = f"{made}-{name}"
    picks: Graph = {}
    for block in product(*(range(len(sizes)) for sizes in chunks)):
        time = block[:1] if len(block) > 2 else ()
        picks[layer, *block] = (_pick, (made, *time, *block[-2:]), name)
    layers = HighLevelGraph({made: graph, layer: picks}, {made: set(), layer: {made}})
    return da.Array(layers, layer, chunks, np.float32)


def _pick(made: world.Ground | dict[str, np.ndarray], name: str) -> np.ndarray:
    return made.statics[name] if isinstance(made, world.Ground) else made[name]


def _tiles(cells: Extent) -> list[tuple[int, int, Extent]]:
    """Boxes of cells cut along the global lattice of tiles, with their row and column."""
    rows, columns = _cuts(cells.row, cells.height), _cuts(cells.column, cells.width)
    return [
        (i, j, Extent(row, column, height, width, cells.per_degree))
        for i, (row, height) in enumerate(rows)
        for j, (column, width) in enumerate(columns)
    ]


def _chunks(cells: Extent, scale: int) -> Chunks:
    axes = (cells.row, cells.height), (cells.column, cells.width)
    return tuple(tuple(scale * size for _, size in _cuts(*axis)) for axis in axes)


def _cuts(start: int, size: int) -> Sequence[tuple[int, int]]:
    """Start and size of the pieces of an axis of cells between the edges of tiles."""
    side = TILE // CELL
    inner = range((start // side + 1) * side, start + size, side)
    edges = [start, *inner, start + size]
    return [(low, high - low) for low, high in zip(edges[:-1], edges[1:], strict=True)]
