"""What a worker does: read a block's window, run the emulator on its tiles, check what came out.

Everything that blocks share is one `Job` in the graph; a task carries where its block lies, what
its sources told it to carry, and the coarse fields around it (`Coarse`), which blocks share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from xlsbc.cube.grid import Grid
from xlsbc.cube.store.packing import packing_of
from xlsbc.cube.store.recent import Recent
from xlsbc.cube.store.sources import Box, Source, boxes
from xlsbc.emulator.cells import Axis, Cells, among, needed
from xlsbc.emulator.sample import Fields, Window, namespace, sample_of
from xlsbc.emulator.spec import Spec
from xlsbc.errors import TileError
from xlsbc.inference import assembly
from xlsbc.inference.engine import Reference, engine
from xlsbc.inference.outputs import OUTPUTS
from xlsbc.inference.tiling import Block, Tile, Tiling

__all__ = ["OWN", "Coarse", "Job", "Year", "gather", "run"]

COARSE: Recent[Coarse] = Recent(128 * 2**20)
"""Coarse fields that tasks of this process gathered last: neighbours need the same."""

OWN = "own "
"""Before the name of a variable that is the prediction's own, of the year before."""

SUM = 1e-5
"""By how much fractions may miss 1: float32 rounding of fourteen shares is a hundredth of it."""


@dataclass(frozen=True)
class Year:
    """A year of a prediction.

    Parameters
    ----------
    number
        Calendar year.
    index
        Which of the prediction's years it is.
    place
        Index on the cube's ``year`` axis; None if no input has one.
    before
        That of the year before, of which the cube gives the state; None if the prediction does.
    steps
        Steps of forcing that it needs.
    pooling, calendar
        As in `xlsbc.emulator.sample.Fields`.
    """

    number: int
    index: int
    place: int | None
    before: int | None
    steps: np.ndarray
    pooling: np.ndarray
    calendar: np.ndarray


@dataclass(frozen=True, eq=False)
class Job:
    """All that the tasks of a prediction share.

    Parameters
    ----------
    reference
        The emulator.
    spec
        Its specification.
    shapes
        Variables to return, with the lengths of a year's dims before latitude and longitude.
    given
        Fractions to take from the cube.
    grid, tiling
        Target grid and its lattice.
    years
        Of the prediction.
    axes
        Rows and columns of the coarse grids "forcing" and "driver", where they are inputs.
    sources
        Inputs by name; `OWN` before the names of those that are the prediction's own.
    largest
        Largest leaf area index of any class, 1.
    precision, compile
        How the emulator computes.
    token
        Of the prediction.
    """

    reference: Reference
    spec: Spec
    shapes: Mapping[str, tuple[int, ...]]
    given: tuple[str, ...]
    grid: Grid
    tiling: Tiling
    years: tuple[Year, ...]
    axes: Mapping[str, tuple[Axis, Axis]]
    sources: Mapping[str, Source]
    largest: float
    precision: str = "float32"
    compile: bool = False
    token: str = ""

    def fine(self, year: Year) -> dict[str, tuple[str, int | None]]:
        """Inputs on the target grid: by label their source, and the place on its year axis."""
        static = {v.name: (v.name, None) for v in self.spec.static if v.name in self.sources}
        given = {f"given_{name}": (name, year.place) for name in self.given}
        if year.before is None:
            state = {f"state_{n}": (OWN + n, year.index - 1) for n in self.spec.state}
        else:
            state = {f"state_{n}": (n, year.before) for n in self.spec.state}
        return {**static, **given, **state}

    def key(self, name: str) -> str:
        """Name of a variable's Dask array."""
        return f"lsbc-{name}-{self.token}"

    def chunk(self, name: str, year: Year, at: tuple[int, int]) -> tuple[int, ...]:
        """Which chunk of a variable a year and block are; classes are not cut."""
        return (year.index, *(0,) * (len(self.shapes[name]) - 1), *at)

    def fine_boxes(self, source: str, place: int | None, window: Window) -> list[Box]:
        """Boxes of an input on the target grid that lie under a window."""
        rows, columns = window.extents(self.grid)
        if place is None:
            return boxes(rows.parts, columns.parts)
        classes = slice(0, self.sources[source].shape[1])
        return boxes([slice(place, place + 1)], [classes], rows.parts, columns.parts)

    def coarse_boxes(self, year: Year, blocks: tuple[range, range]) -> dict[str, list[Box]]:
        """Boxes of all inputs on coarse grids, and of numbers, that adjacent blocks need."""
        found = {}
        if self.spec.forcing:
            steps = slice(int(year.steps.min()), int(year.steps.max()) + 1)
            spans = [adjacent(index) for index in self.around("forcing", blocks)]
            found = {v.name: boxes([steps], *spans) for v in self.spec.forcing}
        if self.spec.scalars or self.spec.driver:
            assert year.place is not None
        now = slice(year.place, (year.place or 0) + 1)
        found |= {v.name: boxes([now]) for v in self.spec.scalars}
        if self.spec.driver:
            spans = [adjacent(index) for index in self.around("driver", blocks)]
            classes = [slice(0, self.sources["lu_total"].shape[1])]
            found["lu_total"] = boxes([now], classes, *spans)
        return found

    def cells(self, grid: str, window: Window) -> list[tuple[Axis, Cells]]:
        """Rows and columns of a coarse grid around a window."""
        pixels = window.axes(self.grid)
        return [(axis, among(axis, at)) for axis, at in zip(self.axes[grid], pixels, strict=True)]

    def around(self, grid: str, blocks: tuple[range, range]) -> list[np.ndarray]:
        """Rows and columns of a coarse grid that the tiles of adjacent blocks need, as places.

        Each tile by itself: beside the date line one finds its cells a turn away from the next.
        """
        whole = self.tiling.blocks(*blocks)
        found = []
        for axis, pixels, tiles in zip(
            self.axes[grid], whole.window.axes(self.grid), (whole.rows, whole.columns), strict=True
        ):
            first = np.array([tile.start - tiles[0].start for tile in tiles])
            last = first + whole.size + 2 * whole.halo - 1
            found.append(needed(axis, pixels[first], pixels[last]))
        return found


@dataclass(frozen=True, eq=False)
class Coarse:
    """Fields of a year on coarse cells around adjacent blocks.

    Parameters
    ----------
    fields
        ``(step or class, row, column)`` by name; numbers without dims.
    places
        Which rows and columns of the grids "forcing" and "driver" they are, ascending.
    """

    fields: Mapping[str, np.ndarray]
    places: Mapping[str, list[np.ndarray]]

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return sum(field.nbytes for field in self.fields.values())

    def cut(self, name: str, grid: str, cells: list[tuple[Axis, Cells]]) -> np.ndarray:
        """A field on some of the cells; those beyond an end of an axis repeat it."""
        rows, columns = (
            np.searchsorted(known, axis.index(found.start, found.stop))
            for known, (axis, found) in zip(self.places[grid], cells, strict=True)
        )
        return self.fields[name].take(rows, axis=-2).take(columns, axis=-1)


def gather(job: Job, carried: Sequence[Any], year: int, blocks: tuple[range, range]) -> Coarse:
    """Coarse fields around many blocks, read once for all of them.

    Parameters
    ----------
    job
        Of the prediction.
    carried
        Of every input and box, what its source gave the task; nothing if none had to.
    year
        Index of the year.
    blocks
        Rows and columns of blocks.
    """
    now = job.years[year]
    fields: dict[str, np.ndarray] = {}
    parts = job.coarse_boxes(now, blocks)
    for name, held in zip(parts, carried or [()] * len(parts), strict=True):
        values = [on_host(value) for value in read(job, name, held, parts[name])]
        value = values[0] if len(values) == 1 else np.concatenate(values, axis=-1)
        if name == "lu_total" or value.ndim == 1:
            fields[name] = value[0]
        else:
            fields[name] = value[now.steps - now.steps.min()]
    return Coarse(fields, {grid: job.around(grid, blocks) for grid in job.axes})


def run(
    job: Job,
    coarse: Coarse | tuple[range, range],
    near: Sequence[Any],
    carried: Sequence[Any],
    year: int,
    at: tuple[int, int],
    only: str | None = None,
) -> Any:
    """Fields of a block and year by name, with a year axis where they have one; NaN is missing.

    Parameters
    ----------
    job
        Of the prediction.
    coarse
        Coarse fields around the block, or around which blocks to gather them.
    near, carried
        Of every coarse input, and of every one on the target grid, what its source gave the task;
        nothing if none had to.
    year
        Index of the year.
    at
        Which block.
    only
        A variable of which the field itself is wanted.

    Raises
    ------
    TileError
        If what the network gave is not finite, not shares, or out of bounds at a valid pixel.
    """
    now, block = job.years[year], job.tiling.block(*at)
    if not isinstance(coarse, Coarse):
        make = partial(gather, job, near, year, coarse)
        coarse = make() if near else COARSE.get((job.token, year, *coarse), make)
    inputs = job.fine(now)
    fine = {
        label: fetch(job, *inputs[label], held, block.window)
        for label, held in zip(inputs, carried or [()] * len(inputs), strict=True)
    }
    samples = [
        sample_of(fields_of(job, now, tile.window, block.window, fine, coarse), job.spec)
        for tile in block.tiles()
    ]
    valid = [
        inner(sample.valid, block.halo)[tile.core]
        for sample, tile in zip(samples, block.tiles(), strict=True)
    ]
    alive = [i for i, here in enumerate(valid) if here.any()]  # all sea does not run the network
    xp = namespace(list(fine.values()))
    alone = len(alive) == 1 and valid[alive[0]].shape == block.shape and bool(valid[alive[0]].all())
    whole = room(job, now, at, xp, alone=alone)
    if not alive:
        return whole[only] if only else whole
    ready = engine(job.reference, job.precision, compile=job.compile)
    results = ready.run([samples[i] for i in alive], tuple(job.shapes))
    for i, fields in zip(alive, results, strict=True):
        tile = block.tiles()[i]
        for name, value in fields.items():
            part = value[(..., *tile.core)]
            if problem := flaw(name, part, valid[i], job.largest):
                raise TileError(
                    f"{name} of {now.number}, {whereabouts(job.grid, tile)}: {problem}; nothing "
                    "was stored there: check the inputs around it, and the emulator"
                )
            if alone:  # nothing to put together and nothing missing: most tiles of a continent
                part = part.reshape(*job.shapes[name], *block.shape)
                if whole[name] is not None:
                    whole[name][:] = part
                else:
                    whole[name] = part
            else:
                here = whole[name][(..., *within(tile, block))]
                here[:] = xp.where(valid[i], part, xp.float32(np.nan))
    return whole[only] if only else whole


def room(job: Job, year: Year, at: tuple[int, int], xp: Any, *, alone: bool) -> dict[str, Any]:
    """Arrays for the variables of a block: their places in a result that is computed here, or new.

    Missing throughout; but where one tile fills them, they hold anything, and none is new.
    """
    found: dict[str, Any] = {}
    for name, lengths in job.shapes.items():
        here: Any = None
        if xp is np:
            here = assembly.place(job.key(name), job.chunk(name, year, at))
        if here is None and not alone:
            here = xp.empty((*lengths, *job.tiling.block(*at).shape), np.float32)
        if not alone:
            here.fill(np.nan)
        found[name] = here
    return found


def read(job: Job, name: str, carried: Sequence[Any], parts: Sequence[Box]) -> list[Any]:
    """Boxes of an input in memory."""
    held = carried or [None] * len(parts)
    return [job.sources[name].read(part, box) for part, box in zip(held, parts, strict=True)]


def fetch(job: Job, name: str, place: int | None, carried: Sequence[Any], window: Window) -> Any:
    """An input on the target grid under a window; NaN beyond the grid."""
    values = read(job, name, carried, job.fine_boxes(name, place, window))
    xp = namespace(values)
    value = values[0] if len(values) == 1 else xp.concatenate(values, axis=-1)
    value = value if place is None else value[0]
    if name.startswith(OWN):
        value = as_stored(name.removeprefix(OWN), value)
    rows, columns = window.extents(job.grid)
    pads = [(0, 0)] * (value.ndim - 2)
    pads += [(rows.before, rows.after), (columns.before, columns.after)]
    if not any(map(sum, pads)):
        return value
    return xp.pad(value, pads, constant_values=np.nan)


def fields_of(
    job: Job, year: Year, tile: Window, block: Window, fine: Mapping[str, Any], coarse: Coarse
) -> Fields:
    """Fields of a tile's window, from those of its block's."""
    top, left = tile.y - block.y, tile.x - block.x
    box = (..., slice(top, top + tile.height), slice(left, left + tile.width))
    shape = (tile.height, tile.width)
    latitude, longitude = tile.axes(job.grid)
    axes = {"latitude": latitude[:, None], "longitude": longitude}
    cells = {grid: job.cells(grid, tile) for grid in job.axes}
    spec = job.spec
    return Fields(
        shape=shape,
        pooling=year.pooling,
        calendar=year.calendar,
        fine={
            v.name: np.broadcast_to(axes[v.name], shape) if v.name in axes else fine[v.name][box]
            for v in spec.static
        },
        forcing={v.name: coarse.cut(v.name, "forcing", cells["forcing"]) for v in spec.forcing},
        scalars={v.name: float(coarse.fields[v.name]) for v in spec.scalars},
        driver=coarse.cut("lu_total", "driver", cells["driver"]) if spec.driver else None,
        given={name: fine[f"given_{name}"][box] for name in job.given},
        state={name: fine[f"state_{name}"][box] for name in spec.state},
        places={
            g: (rows.position, columns.position) for g, ((_, rows), (_, columns)) in cells.items()
        },
        latitude=latitude,
        longitude=longitude,
        year=year.number,
    )


def on_host(array: Any) -> np.ndarray:
    """The array in the host's memory: coarse fields are small, and scaled there."""
    return array.get() if namespace([array]) is not np else array


def adjacent(index: np.ndarray) -> list[slice]:
    """Slices of an axis that together are some of its places, which ascend."""
    breaks = np.flatnonzero(np.diff(index) > 1) + 1
    return [slice(int(run[0]), int(run[-1]) + 1) for run in np.split(index, breaks)]


def flaw(name: str, value: Any, valid: Any, largest: float) -> str | None:
    """What is wrong with a variable of a tile where its inputs are valid; None if nothing is."""
    low, high = 0.0, largest if name.startswith("lai") else 1.0
    margin = SUM * max(high, 1)
    total = value.sum(axis=0) if name.endswith("_fraction") else None
    if not valid.all():
        value = value[..., valid]
        total = None if total is None else total[valid]
    least, most = float(value.min()), float(value.max())  # NaN passes through both
    if not (least >= low - margin and most <= high + margin):
        bad = value[~((value >= low - margin) & (value <= high + margin))]
        return (
            f"expected finite values within {low:g}..{high:g}; found {bad.size} of {value.size} "
            f"others, the first {float(bad[0]):g}"
        )
    if total is not None and float(abs(total - 1).max()) > SUM:
        return (
            f"expected shares that sum to 1; found sums {float(total.min())}..{float(total.max())}"
        )
    return None


def whereabouts(grid: Grid, tile: Tile) -> str:
    """A tile's place, for people."""
    north = grid.north - grid.dlat * (tile.rows.start - 0.5)
    west = grid.west + grid.dlon * (tile.columns.start - 0.5)
    south = north - grid.dlat * (tile.rows.stop - tile.rows.start)
    east = west + grid.dlon * (tile.columns.stop - tile.columns.start)
    return f"tile {south:.4g} to {north:.4g} N, {west:.5g} to {east:.5g} E"


def as_stored(name: str, value: Any) -> Any:
    """Fractions ``(class, y, x)`` as they come back from a store.

    A year goes on from what is stored of the year before, also where it is not stored yet, so that
    a run that was stopped between years goes on to the bits of one that was not.
    """
    packing = packing_of(name, OUTPUTS[name].dims[1:], np.dtype(np.float32))
    if packing is None:
        return value
    return namespace([value]).asarray(packing.unpack(packing.pack(on_host(value))))


def inner(field: Any, halo: int) -> Any:
    """A window's field less its halo."""
    kept = slice(halo, -halo or None)
    return field[..., kept, kept]


def within(tile: Tile, block: Block) -> tuple[slice, slice]:
    """The tile's pixels on the grid, as rows and columns of its block's."""
    top, left = (part.start for part in block.part)
    return (
        slice(tile.rows.start - top, tile.rows.stop - top),
        slice(tile.columns.start - left, tile.columns.stop - left),
    )
