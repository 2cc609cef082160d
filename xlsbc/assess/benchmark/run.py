"""All cells of an experiment, each once, on the workers of a Dask cluster; then table and report.

A cell that is finished has a record, and is not run again by any later call, whatever else the
experiment was changed to. A killed call loses the cells that it was at.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import xarray as xr

from xlsbc.assess.benchmark import table as tables
from xlsbc.assess.benchmark.cell import Task
from xlsbc.assess.benchmark.config import Experiment
from xlsbc.assess.benchmark.design import Cell
from xlsbc.assess.benchmark.planning import Planned, prepared
from xlsbc.assess.benchmark.report import write_report
from xlsbc.errors import LsbcError, TrainingError
from xlsbc.training.checkpoints import fetch, write
from xlsbc.training.splits import described

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Results", "benchmark"]

REPORT = "report.html"


@dataclass(frozen=True)
class Results:
    """What came of an experiment.

    Parameters
    ----------
    table
        One row for each finished cell, see `xlsbc.assess.benchmark.table`.
    out
        URL of the folder that holds ``table.parquet``, ``table.zarr`` and ``report.html``.
    failed
        By title of the cell, why it is not finished. The same call tries it again.
    """

    table: pd.DataFrame
    out: str
    failed: dict[str, str]


def benchmark(
    experiment: Experiment,
    *,
    client: Client | None = None,
    workers: int = 1,
    progress: Callable[[str], None] = print,
) -> Results:
    """Run the cells that are not finished, and write the table and the report; computes.

    Parameters
    ----------
    experiment
        With `out`, which must be where every worker can read and write, as must its cube.
    client
        Of a Dask cluster, whose workers have one thread and run one cell at a time each; by
        default one of this machine is made.
    workers
        Of that one: how many cells run at once; as many as GPUs, where there are some.
    progress
        Is told a line for each cell.

    Raises
    ------
    LsbcError
        If the experiment cannot be run: before anything is. If no cell could be finished.
    """
    planned = prepared(experiment)
    todo = [cell for cell in planned.cells if fetch(planned.task(cell).record) is None]
    progress(f"{len(planned.cells)} cells, {len(planned.cells) - len(todo)} of them finished")
    failed: dict[str, str] = {}
    if todo:
        for i, (cell, reason) in enumerate(done(planned, todo, client, workers), 1):
            progress(f"[{i}/{len(todo)}] {cell.title}" + f": FAILED, {reason}" * bool(reason))
            if reason:
                failed[cell.title] = reason
    at_once = workers if client is None else len(client.scheduler_info()["workers"])
    return summed_up(planned, failed, at_once)


def done(
    planned: Planned, todo: Sequence[Cell], client: Client | None, workers: int
) -> Iterator[tuple[Cell, str]]:
    """Cells as they end, each with why it failed, if it did.

    Raises
    ------
    TrainingError
        If a worker would run several cells at once.
    """
    from distributed import as_completed

    from xlsbc.inference.cluster import cluster

    own = None
    if client is None:
        own = client = cluster(n_workers=workers, threads_per_worker=1, dashboard_address=":0")
    try:
        threads = {each["nthreads"] for each in client.scheduler_info()["workers"].values()}
        if threads - {1}:
            raise TrainingError(
                f"expected workers of one thread, which run one cell at a time; found {threads}; "
                "start them with --nthreads 1"
            )
        futures = {
            client.submit(alone, planned.task(cell).model_dump_json(), pure=False): cell
            for cell in todo
        }
        for future in as_completed(futures):
            if future.status == "finished":
                yield futures[future], future.result()
            else:
                yield futures[future], f"its worker is gone: {future.exception() or future.status}"
    finally:
        if own is not None:
            own.close()


def alone(document: str) -> str:
    """Run a task in a process of its own; nothing, or why it failed, logged beside the record."""
    task = Task.model_validate_json(document)
    threads = str(task.cell.threads)
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    ended = subprocess.run(
        [sys.executable, "-m", "xlsbc.assess.benchmark.cell"],
        input=document,
        env=environment,
        capture_output=True,
        text=True,
    )
    if ended.returncode:
        write(task.record.replace(".json", ".log"), ended.stderr.encode())
    if ended.returncode < 0:
        return f"the process was killed by signal {-ended.returncode}; was there memory for it?"
    if ended.returncode:
        return (ended.stderr.strip().splitlines() or ["no word"])[-1]
    return ""


class Fields(Mapping[str, xr.Dataset]):
    """Fields of cells, each read when it is asked for.

    Parameters
    ----------
    urls
        By cell.
    """

    def __init__(self, urls: Mapping[str, str]) -> None:
        self.urls = urls

    def __getitem__(self, cell: str) -> xr.Dataset:
        try:
            return xr.load_dataset(self.urls[cell], engine="zarr")
        except FileNotFoundError:  # a cell without leaves
            raise KeyError(cell) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.urls)

    def __len__(self) -> int:
        return len(self.urls)


def summed_up(planned: Planned, failed: Mapping[str, str], at_once: int) -> Results:
    """Table and report of the cells that are finished.

    Raises
    ------
    LsbcError
        If there is none.
    """
    out = planned.experiment.out
    records = []
    for cell in planned.cells:
        found = fetch(planned.task(cell).record)
        if found is not None:
            records.append({**json.loads(found), **cell.identity, "cube": cell.cube})
    if not records:
        raise LsbcError("no cell could be finished", [f"{k}: {v}" for k, v in failed.items()])
    table = tables.tidy(records)
    tables.save(table, out)
    with tempfile.TemporaryDirectory() as scratch:
        page = Path(scratch) / REPORT
        write_report(
            page,
            title=planned.experiment.title,
            table=table,
            fields=Fields({cell.key: planned.task(cell).fields for cell in planned.cells}),
            facts=facts(planned, table, failed, at_once),
            notes=planned.experiment.notes,
        )
        write(f"{out}/{REPORT}", page.read_bytes())
    return Results(table, out, dict(failed))


def facts(
    planned: Planned, table: pd.DataFrame, failed: Mapping[str, str], at_once: int
) -> dict[str, str]:
    """What was run, for the report."""
    experiment, cube = planned.experiment, planned.cube
    grid = " x ".join(str(cube.sizes[d]) for d in ("latitude", "longitude"))
    found = {
        "Data": f"{cube.attrs.get('title', 'unnamed')}; digest {table['cube'].iloc[0]}",
        "Source": str(cube.attrs.get("source", "")),
        "Grid": f"{grid} pixels",
        "Years": ", ".join(map(str, cube["year"].values)) if "year" in cube.indexes else "none",
        "Cells": f"{len(table)} of {len(planned.cells)} finished",
        "Seeds": ", ".join(map(str, experiment.seeds)),
        "Training": told(experiment.training),
        **{f"Model {name}": told(settings) for name, settings in experiment.models.items()},
        "Cells at once": f"{at_once} in the last call; torch threads of each: {experiment.threads}",
        "Digests": "of every cell and its emulators: columns cell and emulators of the table",
        "Machine": "; ".join(sorted(set(table["machine"]))),
        "Versions": "; ".join(sorted(set(table["versions"]))),
    }
    splits = {c.split_name: c.split for c in planned.cells}
    found |= {f"Held out, {name}": described(split) for name, split in splits.items()}
    if failed:
        found["Not finished"] = "; ".join(f"{k}: {v}" for k, v in failed.items())
    return found


def told(settings: Mapping[str, Any]) -> str:
    """Settings, for the report."""
    return ", ".join(f"{name} {value}" for name, value in settings.items()) or "as usual"
