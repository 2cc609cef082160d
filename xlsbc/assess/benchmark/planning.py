"""What an experiment comes to before anything is run: its cube, its splits and its cells."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import fsspec
import torch
import xarray as xr

from xlsbc.assess.benchmark.cell import Task
from xlsbc.assess.benchmark.config import Entry, Experiment
from xlsbc.assess.benchmark.design import Cell
from xlsbc.assess.benchmark.pipelines import stages
from xlsbc.cube.catalog import open_catalog
from xlsbc.cube.schema import conform
from xlsbc.cube.store.ledger import read_ledger
from xlsbc.cube.store.reading import open_cube
from xlsbc.cube.store.storage import Objects, local_path
from xlsbc.cube.store.writer import write
from xlsbc.emulator.artefact import build
from xlsbc.emulator.cost import cost
from xlsbc.emulator.spec import Split
from xlsbc.errors import StoreError, TrainingError
from xlsbc.training.config import Training
from xlsbc.training.outline import outline
from xlsbc.training.prepare import BUFFER, crop_size
from xlsbc.training.splits import resolved, suggest

__all__ = ["Planned", "fingerprint", "plan", "prepared"]


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
    lines: dict[tuple[str, str], tuple[Training, Split]] = {}
    for cell in cells:
        if cell.training is not None:
            method = cell.training.architecture.adaptation.method
            lines.setdefault((cell.model, method), (cell.training, cell.split))
    kinds = Counter(cell.learning or "baseline" for cell in cells)
    networks = sum(len(stages(cube, c.learning)) for c in cells if c.learning)
    return "\n".join(
        [
            f"{'model':<24}{'adaptation':<12}{'parameters':>14}{'trained':>14}{'FLOPs':>12}",
            *(f"{model:<24}{how:<12}{costs(cube, *of)}" for (model, how), of in lines.items()),
            "",
            *(f"{kind:<24}{count:>6} cells" for kind, count in kinds.items()),
            f"{'in all':<24}{len(cells):>6} cells, {networks} trainings",
        ]
    )


def costs(cube: xr.Dataset, config: Training, split: Split) -> str:
    """Parameters, those that train, and operations a pixel and year of an emulator of a cube."""
    crop = crop_size(cube, config.architecture, config.crop)
    spec = outline(
        cube,
        split=split,
        architecture=config.architecture,
        window=crop if config.architecture.kind.patches else None,
        given=config.given,
        optional=config.optional,
        position=config.position,
    )
    with torch.device("meta"):
        found = cost(spec, build(spec))
    flops = found.yearly + ("lai" in spec.targets) * len(spec.steps) * found.stepwise
    return f"{found.parameters:>14,}{found.trained:>14,}{flops:>12,.0f}"


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
    """Digest of a cube: of its content if its store has a ledger, else of its objects' stamps."""
    objects = Objects(url)
    try:
        root, receipts = read_ledger(objects)
        documents = root["consolidated_metadata"]["metadata"]
        content: Any = [sorted(receipts.items()), documents]
    except StoreError:
        fs, path = fsspec.core.url_to_fs(url)
        content = sorted(
            [name.removeprefix(path), known["size"], str(next(filter(None, stamps(known)), ""))]
            for name, known in fs.find(path, detail=True).items()
        )
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def stamps(known: Mapping[str, Any]) -> Iterator[Any]:
    """What stores of several kinds say of when an object was written."""
    return (known.get(name) for name in ("ETag", "etag", "md5Hash", "mtime", "created"))
