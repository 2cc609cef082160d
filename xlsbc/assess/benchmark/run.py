"""All cells of an experiment, each once, on the workers of a Dask cluster; then table and report.

A cell that is finished has a record, and is not run again by any later call, whatever else the
experiment was changed to. A killed call loses the cells that it was at.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
import xarray as xr

from xlsbc.assess.benchmark import table as tables
from xlsbc.assess.benchmark.cell import Task
from xlsbc.assess.benchmark.config import Cell, Entry, Experiment
from xlsbc.assess.benchmark.pipelines import stages
from xlsbc.assess.benchmark.report import write_report
from xlsbc.cube.catalog import open_catalog
from xlsbc.cube.schema import conform
from xlsbc.cube.store.ledger import read_ledger
from xlsbc.cube.store.reading import open_cube
from xlsbc.cube.store.storage import Objects, local_path
from xlsbc.cube.store.writer import write
from xlsbc.emulator.artefact import build
from xlsbc.emulator.cost import cost
from xlsbc.emulator.spec import Split
from xlsbc.errors import LsbcError, StoreError, TrainingError
from xlsbc.training.checkpoints import fetch
from xlsbc.training.outline import outline
from xlsbc.training.prepare import BUFFER, crop_size
from xlsbc.training.splits import described, resolved, suggest

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Results", "benchmark", "plan"]

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


@dataclass(frozen=True)
class Planned:
    """An experiment whose cube and cells are known."""

    experiment: Experiment
    cube: xr.Dataset
    url: str
    cells: list[Cell]

    def task(self, cell: Cell) -> Task:
        """A cell with where it reads and writes."""
        return Task(cell=cell, cube=self.url, out=self.experiment.out)


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
        Of a Dask cluster, which runs as many cells at once as it has workers; by default one of
        this machine is made.
    workers
        Of that one: how many cells run at once; as many as GPUs, where there are some.
    progress
        Is told a line for each cell.

    Raises
    ------
    LsbcError
        If the experiment cannot be run: before anything is.
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
    return summed_up(planned, failed)


def plan(experiment: Experiment) -> str:
    """What an experiment would run, as text: cells, and parameters and operations of its models.

    Reads the cube's coordinates alone, and trains nothing.

    Raises
    ------
    LsbcError
        If the experiment cannot be run.
    """
    cube, _ = cube_of(experiment, copy=False)
    splits = {name: settled(split, cube) for name, split in experiment.splits.items()}
    cells = experiment.cells("", splits)
    lines, seen = [], set()
    lines.append(f"{'model':<24}{'adaptation':<12}{'parameters':>14}{'trained':>14}{'FLOPs':>12}")
    for cell in cells:
        config = cell.training
        arm = (cell.model, config.architecture.adaptation.method) if config else None
        if config is None or arm is None or arm in seen:
            continue
        seen.add(arm)
        crop = crop_size(cube, config.architecture, config.crop)
        patches = config.architecture.kind.patches
        spec = outline(
            cube,
            split=cell.split,
            architecture=config.architecture,
            window=crop if patches else None,
            given=config.given,
            optional=config.optional,
            position=config.position,
            state=config.state,
        )
        with torch.device("meta"):
            found = cost(spec, build(spec))
        flops = found.yearly + len(spec.steps) * found.stepwise
        lines.append(
            f"{arm[0]:<24}{arm[1]:<12}{found.parameters:>14,}{found.trained:>14,}{flops:>12,.0f}"
        )
    kinds = Counter(cell.learning or "baseline" for cell in cells)
    networks = sum(len(stages(cube, c.learning)) for c in cells if c.learning)
    lines += ["", *(f"{kind:<24}{count:>6} cells" for kind, count in kinds.items())]
    lines.append(f"{'in all':<24}{len(cells):>6} cells, {networks} trainings")
    return "\n".join(lines)


def prepared(experiment: Experiment) -> Planned:
    """The experiment's cube, where every cell can read it, and its cells."""
    if not experiment.out:
        raise TrainingError("the experiment lacks out, the URL of a folder for its results")
    place = local_path(experiment.out)
    out = experiment.out.rstrip("/") if place is None else str(place.resolve())
    experiment = experiment.model_copy(update={"out": out})
    cube, url = cube_of(experiment, copy=True)
    splits = {name: settled(split, cube) for name, split in experiment.splits.items()}
    cells = experiment.cells(fingerprint(url), splits)
    for learning in {cell.learning for cell in cells if cell.learning}:
        stages(cube, learning)
    return Planned(experiment, cube, url, cells)


def cube_of(experiment: Experiment, *, copy: bool) -> tuple[xr.Dataset, str]:
    """The conformed cube and its URL; an entry of a catalog is copied beside the results first."""
    if isinstance(experiment.cube, Entry):
        entry = experiment.cube
        source = open_catalog(entry.catalog)[entry.entry](**listed(entry.options))
        if not copy:
            return conform(source.to_dask()), ""
        url = f"{experiment.out}/cube.zarr"
        write(conform(source.to_dask()), url, packed=False, progress=False)
    else:
        place = local_path(experiment.cube)
        url = experiment.cube if place is None else str(place.resolve())
    return conform(open_cube(url)), url


def listed(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a catalog's entry, which has lists where a document has tuples."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in options.items()}


def settled(split: str | Split, cube: xr.Dataset) -> Split:
    """A split with its extent; the suggested one has a buffer as wide as the U-Net's halo."""
    if isinstance(split, str):
        split = suggest(cube, halo=BUFFER)
    return resolved(split, cube)


def fingerprint(url: str) -> str:
    """Digest of a cube: of its content if its store has a ledger, else of what Zarr says of it."""
    objects = Objects(url)
    try:
        root, receipts = read_ledger(objects)
        documents = root["consolidated_metadata"]["metadata"]
        content: Any = [sorted(receipts.items()), documents]
    except StoreError:
        cube = open_cube(url)
        content = [url, repr(cube), {str(k): repr(v.attrs) for k, v in cube.variables.items()}]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def done(
    planned: Planned, todo: Sequence[Cell], client: Client | None, workers: int
) -> Iterator[tuple[Cell, str]]:
    """Cells as they end, each with why it failed, if it did."""
    from distributed import as_completed

    from xlsbc.inference.cluster import cluster

    own = None
    if client is None:
        own = client = cluster(n_workers=workers, threads_per_worker=1, dashboard_address=":0")
    try:
        futures = {}
        for cell in todo:
            task = planned.task(cell)
            future = client.submit(
                alone, task.model_dump_json(), cell.threads, pure=False, resources=None
            )
            futures[future] = cell
        for future in as_completed(futures):
            error = future.exception() if future.status == "error" else None
            yield futures[future], str(error) if error is not None else future.result()
    finally:
        if own is not None:
            own.close()


def alone(task: str, threads: int) -> str:
    """Run a cell in a process of its own; nothing, or why it failed."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    ended = subprocess.run(
        [sys.executable, "-m", "xlsbc.assess.benchmark.cell"],
        input=task,
        env=environment,
        capture_output=True,
        text=True,
    )
    if ended.returncode < 0:
        return f"the process was killed by signal {-ended.returncode}; was there memory for it?"
    if ended.returncode:
        return (ended.stderr.strip().splitlines() or ["no word"])[-1]
    return ""


def summed_up(planned: Planned, failed: Mapping[str, str]) -> Results:
    """Table and report of the cells that are finished.

    Raises
    ------
    LsbcError
        If there is none.
    """
    out = planned.experiment.out
    records, fields = [], {}
    for cell in planned.cells:
        found = fetch(planned.task(cell).record)
        if found is None:
            continue
        records.append({**json.loads(found), **cell.identity, "cube": cell.cube})
        try:
            fields[cell.key] = xr.load_dataset(planned.task(cell).fields, engine="zarr")
        except FileNotFoundError:  # a cell without leaves
            continue
    if not records:
        raise LsbcError("no cell could be finished", [f"{k}: {v}" for k, v in failed.items()])
    table = tables.tidy(records)
    tables.save(table, out)
    place = local_path(out)
    if place is not None:
        write_report(
            place / REPORT,
            title=planned.experiment.title,
            table=table,
            fields=fields,
            facts=facts(planned, table, failed),
            notes=planned.experiment.notes,
        )
    return Results(table, out, dict(failed))


def facts(planned: Planned, table: pd.DataFrame, failed: Mapping[str, str]) -> dict[str, str]:
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
        "Training": ", ".join(f"{k} {v}" for k, v in experiment.training.items()) or "as usual",
        "Threads a cell": str(experiment.threads),
        "Machine": "; ".join(sorted(set(table["machine"]))),
        "Versions": "; ".join(sorted(set(table["versions"]))),
    }
    splits = {c.split_name: c.split for c in planned.cells}
    found |= {f"Held out, {name}": described(split) for name, split in splits.items()}
    if failed:
        found["Not finished"] = "; ".join(f"{k}: {v}" for k, v in failed.items())
    return found
