"""What a prediction will cost, before it runs: its tasks counted, two of its tiles timed."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import dask
import xarray as xr
from dask._task_spec import Task, convert_legacy_graph
from dask.core import flatten
from dask.highlevelgraph import HighLevelGraph
from dask.typing import Key
from dask.utils import ensure_dict

from xlsbc.cube.store.marks import blank
from xlsbc.errors import CubeError
from xlsbc.inference.engine import engine
from xlsbc.inference.run import Job, gather, run

__all__ = ["Estimate", "plan"]

Graph = dict[Key, Any]


@dataclass(frozen=True)
class Estimate:
    """What a prediction will cost.

    Parameters
    ----------
    tiles
        Times that a window goes through the network: tiles by years.
    sea
        Chunks of which is known that nothing is there.
    tasks
        Of Dask, for all that was asked for.
    bytes_in, bytes_out
        To be read, decoded, and returned, as float32.
    workers
        Threads of the present scheduler that compute.
    seconds
        Time for all of it, from two tiles; None if none was timed.
    """

    tiles: int
    sea: int
    tasks: int
    bytes_in: int
    bytes_out: int
    workers: int
    seconds: float | None

    def __repr__(self) -> str:
        took = "not timed" if self.seconds is None else f"about {duration(self.seconds)}"
        return (
            f"<xlsbc.Estimate: {self.tiles:,} tiles in {self.tasks:,} tasks ({self.sea:,} chunks "
            f"of sea cost nothing); reads {size(self.bytes_in)}, returns {size(self.bytes_out)}; "
            f"{took} on {self.workers} workers>"
        )


def plan(prediction: xr.Dataset, *, probe: bool = True) -> Estimate:
    """What it will cost to compute a prediction, or a part of one.

    Parameters
    ----------
    prediction
        What `predict` returned, sliced or not.
    probe
        Whether to run two tiles here, to tell the time; the rest of the answer computes nothing.
        On a cluster of other machines the time is a guess.

    Raises
    ------
    CubeError
        If the Dataset is not a lazy prediction.
    """
    lazy = [v.data for v in prediction.variables.values() if v.chunks is not None]
    keys = {key for array in lazy for key in flatten(array.__dask_keys__())}
    graph = low_level([array.dask for array in lazy], keys)
    runs = sorted((k for k, t in graph.items() if is_call(t, run)), key=str)
    jobs = {job.reference.hash: job for job in map(value, graph.values()) if isinstance(job, Job)}
    if not jobs:
        raise CubeError("not a lazy prediction: nothing in it comes from ds.lsbc.predict")
    (job,) = jobs.values()
    places = [place(graph[key]) for key in runs]
    tiles = [len(job.tiling.block(*at).tiles()) for _, at in places]
    sea = sum(is_call(task, blank) for task in graph.values())
    seconds = None
    workers = threads()
    if probe and runs:
        first = [key for key, (year, _) in zip(runs, places, strict=True) if year == places[0][0]]
        some = [first[len(first) // 3], first[2 * len(first) // 3]]
        engine(job.reference, job.precision, compile=job.compile)  # loaded, and not timed
        each = [timed(graph, key) for key in some]
        seconds = sum(each) / len(each) * len(runs) / workers
    return Estimate(
        sum(tiles),
        sea,
        len(graph),
        sum(map(window_bytes, [job] * len(runs), places)) + coarse_bytes(job, graph),
        sum(array.nbytes for array in lazy),
        workers,
        seconds,
    )


def low_level(graphs: list[Any], keys: set[Key]) -> Graph:
    """All tasks that keys need."""
    culled = HighLevelGraph.merge(*graphs).cull(keys)
    return dict(convert_legacy_graph(ensure_dict(culled)))


def is_call(task: Any, function: Any) -> bool:
    """Whether a task calls a function."""
    return getattr(task, "func", None) is function


def value(node: Any) -> Any:
    """Value of a node that is data."""
    return getattr(node, "value", None)


def place(task: Task) -> tuple[int, tuple[int, int]]:
    """Year and block that a task runs."""
    year, at = task.args[-2:]
    return year, at


def window_bytes(job: Job, where: tuple[int, tuple[int, int]]) -> int:
    """What a block reads on the target grid."""
    year, at = where
    window = job.tiling.block(*at).window
    layers = 0
    for name, of_year in job.fine(job.years[year]).values():
        layers += 1 if of_year is None else job.sources[name].shape[1]
    return 4 * layers * window.height * window.width


def coarse_bytes(job: Job, graph: Graph) -> int:
    """What is read on coarse grids."""
    gathered = {task.args[-2:] for task in graph.values() if is_call(task, gather)}
    for task in graph.values():
        if is_call(task, run) and isinstance(task.args[1], tuple):
            gathered.add((task.args[-2], task.args[1]))
    parts = [job.coarse_boxes(job.years[year], blocks).values() for year, blocks in gathered]
    boxes = [box for found in parts for some in found for box in some]
    return 4 * sum(math.prod(part.stop - part.start for part in box) for box in boxes)


def timed(graph: Graph, key: Key) -> float:
    """Seconds that a task takes when what it shares with others is there."""
    task = graph[key]
    needs = list(task.dependencies)
    ready = dict(zip(needs, dask.get(graph, needs), strict=True))
    begin = time.perf_counter()
    task(ready)
    return time.perf_counter() - begin


def threads() -> int:
    """Threads of the scheduler of the moment."""
    get = dask.base.get_scheduler() or dask.threaded.get
    client = getattr(get, "__self__", None)
    if client is not None:
        return max(sum(client.nthreads().values()), 1)
    if get is dask.local.get_sync:
        return 1
    return int(dask.config.get("num_workers", None) or dask.system.CPU_COUNT)


def size(count: int) -> str:
    """Bytes for people."""
    return dask.utils.format_bytes(count)


def duration(seconds: float) -> str:
    """Time for people."""
    return dask.utils.format_time(seconds)
