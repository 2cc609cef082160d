"""Lazy prediction: a graph of independent blocks of tiles, each read, run and checked by one task.

A graph holds one `Job`, one `run` a block and year, and one `pick` for each of several variables;
where Dask computes coarse fields, one `gather` of them for every few hundred tiles. It grows with
the number of tiles only, and building it reads nothing but what stores list of themselves.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph
from dask.task_spec import DataNode, List, Task, TaskRef

from xlsbc.cube.grid import Grid
from xlsbc.cube.schema import conform
from xlsbc.cube.store.backing import identity
from xlsbc.cube.store.marks import blank, pick
from xlsbc.cube.store.sources import Box, Chunked, Memory, source
from xlsbc.cube.vocabulary import attributes
from xlsbc.emulator.artefact import Emulator
from xlsbc.emulator.cells import Axis
from xlsbc.emulator.spec import listed
from xlsbc.emulator.steps import calendar, steps_of, weather_steps, years
from xlsbc.inference.assembly import assembled
from xlsbc.inference.engine import Precision, Reference, resolve
from xlsbc.inference.outputs import OUTPUTS, lengths, outputs_of
from xlsbc.inference.requirements import check_fit
from xlsbc.inference.run import OWN, Job, Year, gather, run
from xlsbc.inference.tiling import tiling

__all__ = ["predict"]

LARGEST = 32 * 2**20
"""Bytes of coarse fields that are gathered together: daily fields for smaller neighbourhoods."""

NEIGHBOURHOOD = 4800
"""Pixels, 40 degrees at 1 km, over which blocks share what was read of the coarse fields: 20 MB of
monthly ERA5, where each block alone would decode whole maps of a store that has one a month."""


def predict(
    cube: xr.Dataset,
    emulator: Emulator | str,
    *,
    given: Sequence[str] | None = None,
    targets: Sequence[str] | None = None,
    period: Iterable[int] | None = None,
    precision: Precision = "auto",
    block: int = 1,
    compile: bool = False,
) -> xr.Dataset:
    """Land use, land cover and leaf area index at every pixel and step of a cube; lazy.

    Parameters
    ----------
    cube
        With the emulator's inputs, in any form that `conform` accepts. Pixels that miss an input
        which the emulator requires are NaN in the result, as are those outside its forcing.
    emulator
        One in memory, or the URL of one.
    given
        Fractions to take from the cube instead of predicting them, e.g. ``("lc_fraction",)``:
        the rest is generated consistent with them. By default nothing, if the emulator learned
        to do so, else what it always takes.
    targets
        Variables to return, of lu_fraction, lc_fraction, cvh, cvl, lai, lai_hv, lai_lv; by default
        all that the emulator learned and what follows from them.
    period
        Calendar years; by default all whose inputs are in the cube.
    precision
        Of the backbone; the heads compute in float32 always. "auto" is bfloat16 where this machine
        computes in it, else float32; `docs/scale.md` says by how much they differ.
    block
        Tiles along either side of a Dask chunk. More of them make fewer and larger tasks, for GPUs
        and for whole continents; the values are the same.
    compile
        Whether ``torch.compile`` works on the backbone first, which every worker waits for: it may
        pay on GPUs over thousands of tiles, and changes the last bits.

    Returns
    -------
    xarray.Dataset
        ``lu_fraction (year, lu_class, latitude, longitude)``, ``lc_fraction (year, lc_class, …)``,
        ``cvh`` and ``cvl (year, …)``, ``lai``, ``lai_hv`` and ``lai_lv (time, latitude,
        longitude)``; float32, 1; NaN where missing. Attributes ``xlsbc_emulator`` (hash) and
        ``xlsbc_given``. A place has the same value in any box that holds it and its context of
        ``emulator.context`` pixels.

    Raises
    ------
    CubeError
        If the cube is not a cube.
    EmulatorError
        With every reason why the emulator cannot be used on the cube.
    """
    emulator = Emulator.open(str(emulator)) if not isinstance(emulator, Emulator) else emulator
    cube = conform(chunked(cube))
    chosen = emulator.spec.given[0] if given is None else listed(given)
    names = outputs_of(emulator, chosen) if targets is None else listed(targets)
    wanted = period if period is None else sorted({int(year) for year in period})
    check_fit(cube, emulator, chosen, names, wanted)
    wanted = years(cube, emulator.spec, chosen, rolling=True) if wanted is None else wanted
    job = job_of(cube, emulator, chosen, names, wanted, block)
    job = replace(job, precision=resolve(precision), compile=compile)
    inputs = tokenize(job.grid, dict(job.axes), {k: v.token for k, v in job.sources.items()})
    about = provenance(emulator, job, cube, inputs)
    arrays = lazily(job, names, tokenize(about, job.shapes, job.years, job.tiling))
    variables = {
        name: ((*OUTPUTS[name].dims, "latitude", "longitude"), array, OUTPUTS[name].attrs)
        for name, array in arrays.items()
    }
    return xr.Dataset(variables, coordinates(cube, emulator, names, wanted), about)


def chunked(cube: xr.Dataset) -> xr.Dataset:
    """The cube with variables that are in a store cut into its chunks: nothing loads them whole."""

    def cut(variable: xr.Variable) -> xr.Variable:
        if variable._in_memory or variable.chunks is not None:
            return variable
        sizes = variable.encoding.get("preferred_chunks", {})
        cut = {dim: sizes.get(dim, -1) for dim in variable.dims}
        return variable.chunk(cut, name=f"input-{tokenize(identity(variable._data), cut)}")

    return cube.assign({name: cut(field.variable) for name, field in cube.data_vars.items()})


def job_of(
    cube: xr.Dataset,
    emulator: Emulator,
    given: tuple[str, ...],
    names: tuple[str, ...],
    period: Sequence[int],
    block: int,
) -> Job:
    """What the tasks of a prediction share."""
    spec, grid = emulator.spec, Grid.of(cube)
    places = {int(y): i for i, y in enumerate(cube.indexes.get("year", []))}
    parts = []
    for i, year in enumerate(period):
        steps, pooling, middle = weather_steps(cube, spec, year)
        rolls = i > 0 and period[i - 1] == year - 1
        before = None if rolls or not spec.state else places[year - 1]
        parts.append(Year(year, i, places.get(year), before, steps, pooling, calendar(middle)))
    inputs = [v.name for v in spec.inputs if v.name not in ("latitude", "longitude")]
    inputs += ["lu_total"] * spec.driver
    axes = {
        name: (Axis.of(cube[f"{name}_latitude"].data), Axis.of(cube[f"{name}_longitude"].data))
        for name, needed in (("forcing", spec.forcing), ("driver", spec.driver))
        if needed
    }
    unasked = [name for name in spec.state if name not in names]
    return Job(
        Reference.of(emulator),
        spec,
        {name: lengths(emulator, name) for name in (*names, *unasked)},
        given,
        grid,
        tiling(grid, spec.lattice.tile, emulator.halo, block),
        tuple(parts),
        axes,
        {name: source(name, cube[name].variable) for name in (*inputs, *given, *spec.state)},
        max(c.lai_max for c in emulator.lc.classes),
    )


def lazily(job: Job, names: Sequence[str], token: str) -> dict[str, da.Array]:
    """The variables of a prediction as Dask arrays.

    Of one variable alone the chunks are the blocks' tasks themselves: half as many.
    """
    rows, columns = job.tiling.shape
    alive = occupied(job)
    shared, runs = f"lsbc-job-{token}", f"lsbc-run-{token}"
    only = names[0] if len(job.shapes) == 1 else None
    job = replace(job, token=token)
    key = job.key(only) if only else runs
    computes, around = neighbourhood(job)
    states = {name: f"lsbc-state-{name}-{token}" for name in job.spec.state}
    own = {OWN + name: Chunked(key, key, chunks_of(job, name)) for name, key in states.items()}
    job = replace(job, sources={**job.sources, **own})
    tasks: dict[Any, Any] = {shared: DataNode(shared, job)}
    nearby: dict[Any, Any] = {}
    for year in job.years:
        carries = any(job.sources[name].carries for name, _ in job.fine(year).values())
        for y, x in np.argwhere(alive).tolist():
            place = (year.index, y // around, x // around)
            if place not in nearby:
                part = (
                    range(y // around * around, min((y // around + 1) * around, rows)),
                    range(x // around * around, min((x // around + 1) * around, columns)),
                )
                near = carry(job, job.coarse_boxes(year, part).items())
                nearby[place] = part, near
                if computes:
                    first = (f"lsbc-coarse-{token}", *place)
                    tasks[first] = Task(first, gather, TaskRef(shared), near, year.index, part)
                    nearby[place] = TaskRef(first), ()
            carried = carry_fine(job, year, y, x) if carries else ()
            numbers = job.chunk(only, year, (y, x)) if only else (year.index, y, x)
            at = (key, *numbers)
            tasks[at] = Task(
                at, run, TaskRef(shared), *nearby[place], carried, year.index, (y, x), only=only
            )
        if any(later.index == year.index + 1 and later.before is None for later in job.years):
            for name, state in states.items():
                tasks |= picks(job, name, state, runs, alive, year)
                tasks |= blanks(job, name, state, alive, year)
    needs = [
        s.array for s in job.sources.values() if isinstance(s, Chunked) and s.array is not None
    ]
    if only:
        for year in job.years:
            tasks |= blanks(job, only, key, alive, year)
    graph = HighLevelGraph.from_collections(key, tasks, dependencies=needs)  # type: ignore[arg-type]
    if only:
        return {only: array_of(job, only, graph)}
    return {name: variable(job, name, token, alive, graph) for name in names}


def neighbourhood(job: Job) -> tuple[bool, int]:
    """Whether coarse fields are gathered by tasks of their own, and for how many blocks a side.

    By tasks where Dask computes them. What is in memory a block takes by itself; what is in stores
    is gathered by the first block of a neighbourhood that a process runs, and kept for the others.
    No task is then shared, and Dask runs blocks in their order, not at random: neighbours find
    what they need decoded.
    """
    names = [v.name for v in (*job.spec.forcing, *job.spec.scalars)]
    kinds = {type(job.sources[n]) for n in names + ["lu_total"] * job.spec.driver}
    if kinds <= {Memory}:
        return False, 1
    tiles = max(NEIGHBOURHOOD // job.tiling.size, 1)
    layers = len(job.spec.forcing) * max((len(year.steps) for year in job.years), default=1)
    side = tiles * job.tiling.size
    cells = [side * job.grid.dlat / abs(axis.step) for axis in job.axes.get("forcing", ())]
    size = 4 * layers * math.prod(cells)
    if size > LARGEST:
        tiles = max(int(tiles * math.sqrt(LARGEST / size)), 1)
    return Chunked in kinds, tiles


def occupied(job: Job) -> np.ndarray:
    """Which blocks can hold a valid pixel, as far as is known without reading a store."""
    rows = [job.tiling.block(y, 0).part[0] for y in range(job.tiling.shape[0])]
    columns = [job.tiling.block(0, x).part[1] for x in range(job.tiling.shape[1])]
    alive = np.ones(job.tiling.shape, bool)
    for v in job.spec.static:
        if not v.optional and v.name in job.sources:
            alive &= job.sources[v.name].holds(rows, columns)
    return alive


def carry_fine(job: Job, year: Year, y: int, x: int) -> Any:
    """What the task of a block carries of the inputs on the target grid."""
    window = job.tiling.block(y, x).window
    parts = [(n, job.fine_boxes(n, place, window)) for n, place in job.fine(year).values()]
    return carry(job, parts)


def carry(job: Job, parts: Iterable[tuple[str, list[Box]]]) -> Any:
    """What a task carries to have boxes of inputs, in their order."""
    parts = list(parts)
    if not any(job.sources[name].carries for name, _ in parts):
        return ()
    return List(*(List(*map(job.sources[name].carry, found)) for name, found in parts))


def variable(job: Job, name: str, token: str, alive: np.ndarray, graph: HighLevelGraph) -> da.Array:
    """One of several variables of all blocks."""
    key, runs = job.key(name), f"lsbc-run-{token}"
    layer: dict[Any, Any] = {}
    for year in job.years:
        layer |= picks(job, name, key, runs, alive, year) | blanks(job, name, key, alive, year)
    layers = {**graph.layers, key: layer}
    whole = HighLevelGraph(layers, {**graph.dependencies, key: {runs}})
    return array_of(job, name, whole)


def array_of(job: Job, name: str, graph: HighLevelGraph) -> da.Array:
    """The array of a variable, whose blocks are in a graph."""
    chunks = chunks_of(job, name)
    return assembled(da.Array(graph, job.key(name), chunks=chunks, dtype=np.float32))


def picks(
    job: Job, name: str, key: str, runs: str, alive: np.ndarray, year: Year
) -> dict[Any, Task]:
    """Tasks of the chunks of a variable and year where something may be."""
    found = {}
    for y, x in np.argwhere(alive).tolist():
        at = (key, *job.chunk(name, year, (y, x)))
        found[at] = Task(at, pick, TaskRef((runs, year.index, y, x)), name)
    return found


def blanks(job: Job, name: str, key: str, alive: np.ndarray, year: Year) -> dict[Any, Task]:
    """Tasks of the chunks of a variable and year where nothing can be: they run nothing."""
    heights, widths = job.tiling.chunks
    found = {}
    for y, x in np.argwhere(~alive).tolist():
        at = (key, *job.chunk(name, year, (y, x)))
        found[at] = Task(at, blank, (*job.shapes[name], heights[y], widths[x]))
    return found


def chunks_of(job: Job, name: str) -> tuple[tuple[int, ...], ...]:
    """Chunks of a variable: years by blocks."""
    first, *inner = job.shapes[name]
    return ((first,) * len(job.years), *((n,) for n in inner), *job.tiling.chunks)


def coordinates(
    cube: xr.Dataset, emulator: Emulator, names: tuple[str, ...], period: list[int]
) -> dict[str, Any]:
    """Coordinates of a prediction, with their CF attributes."""
    dims = {dim for name in names for dim in OUTPUTS[name].dims}
    found: dict[str, Any] = {dim: cube[dim] for dim in ("latitude", "longitude")}
    if "year" in dims:
        found["year"] = ("year", np.array(period, dtype=np.int64), attributes("year"))
    if "time" in dims:
        times = np.concatenate([steps_of(emulator.spec, year)[0] for year in period])
        found["time"] = ("time", times, attributes("time"))
    for dim, legend in (("lu_class", emulator.lu), ("lc_class", emulator.lc)):
        if dim in dims:
            found[dim] = legend.coordinate(dim)[dim]
    return found


def provenance(emulator: Emulator, job: Job, cube: xr.Dataset, inputs: str) -> dict[str, str]:
    """Attributes of a prediction."""
    lattice = emulator.spec.lattice
    return {
        "Conventions": "CF-1.12",
        "title": "land-surface boundary conditions predicted by xlsbc",
        "source": f"xlsbc emulator {job.reference.hash}, {emulator.headline}",
        "history": f"predicted from: {cube.attrs.get('title', 'an untitled cube')}",
        "license": str(cube.attrs.get("license", emulator.spec.license)),
        "references": "doi:10.5194/egusphere-egu26-9688",
        "xlsbc_emulator": job.reference.hash,
        "xlsbc_given": " ".join(job.given),
        "xlsbc_precision": job.precision + (", compiled" if job.compile else ""),
        "xlsbc_lattice": (
            f"tiles of {lattice.tile} pixels with a halo of {emulator.halo}, "
            f"{lattice.dlat:.9g} x {lattice.dlon:.9g} degrees, from 90 N 180 W"
        ),
        "xlsbc_inputs": inputs,
    }
