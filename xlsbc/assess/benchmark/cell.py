"""One cell: trained, predicted, scored and held to physics, in a process of its own.

Nothing of another cell is then in its memory or its time, and one that dies takes no other along.
The process is ``python -m xlsbc.assess.benchmark.cell``, which reads a `Task` on its standard
input; it prints nothing, and leaves a record that is there whole or not at all.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import sys
import tempfile
import time
import warnings
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import dask
import numpy as np
import torch
import xarray as xr

from xlsbc.assess.benchmark.design import Cell
from xlsbc.assess.benchmark.energy import Meter
from xlsbc.assess.benchmark.labels import thinned
from xlsbc.assess.benchmark.pipelines import Stage, stages
from xlsbc.assess.benchmark.rivals import rival
from xlsbc.assess.change import change_scores, change_sums
from xlsbc.assess.evaluate import score
from xlsbc.assess.views import matched, seasonal_means
from xlsbc.cube.grid import Grid
from xlsbc.cube.schema import conform
from xlsbc.cube.store.reading import open_cube
from xlsbc.cube.store.writer import write as write_store
from xlsbc.emulator.artefact import Emulator
from xlsbc.emulator.cost import cost
from xlsbc.emulator.spec import Document
from xlsbc.inference.allocator import tune_allocator
from xlsbc.inference.predict import predict
from xlsbc.physics.consistency import check
from xlsbc.training.checkpoints import write
from xlsbc.training.fit import fit
from xlsbc.training.splits import TRAIN, Parts, held_out, of_years, split_map, years_of

__all__ = ["Task", "run"]

PICTURE = 160
"""Pixels along the longer side of the map of errors that is kept."""

CLASS_DIMS = {"lu_fraction": "lu_class", "lc_fraction": "lc_class"}


class Task(Document):
    """A cell, where its cube is, and where its record goes.

    Parameters
    ----------
    cell
        See there.
    cube
        URL.
    out
        URL of the folder of the results.
    """

    cell: Cell
    cube: str
    out: str

    @property
    def record(self) -> str:
        """URL of what is known of the cell once it is finished."""
        return f"{self.out}/cells/{self.cell.key}.json"

    @property
    def fields(self) -> str:
        """URL of its fields for pictures."""
        return f"{self.out}/fields/{self.cell.key}.zarr"


def run(task: Task) -> dict[str, Any]:
    """Run a cell and leave its record; computes.

    Raises
    ------
    LsbcError
        If a training or a prediction cannot be done.
    """
    cell = task.cell
    torch.set_num_threads(cell.threads)
    dask.config.set(num_workers=cell.threads)
    cube = conform(open_cube(task.cube))
    labels = thinned(cube, cell.labels, cell.seed)
    with tempfile.TemporaryDirectory() as scratch:
        made, about = (rivalled if cell.training is None else learned)(cell, cube, labels, scratch)
        record = {**about, **judged(cell, cube, made), **machine()}
        where = held_out(cube, cell.split)[0]
        if "lai" in made:
            fields = pictured(cell, cube, made, where)
            write_store(fields, task.fields, overwrite=True, progress=False)
    write(task.record, json.dumps(record, indent=1).encode())  # last: it says that all is there
    return record


def learned(
    cell: Cell, cube: xr.Dataset, labels: xr.Dataset, scratch: str
) -> tuple[xr.Dataset, dict[str, Any]]:
    """What the emulators of a pipeline predict, and what they cost."""
    assert cell.training is not None
    config = cell.training.changed(split=cell.split)
    found: dict[str, xr.DataArray] = {}
    spent = {"training_seconds": 0.0, "predicting_seconds": 0.0, "energy": 0.0}
    costs, hashes = [], []
    before = None
    pipeline = stages(cube, cell.learning or "multi-task")
    for i, stage in enumerate(pipeline):
        start, meter = time.perf_counter(), Meter()
        emulator = fit(stage.cube(labels, before), stage.training(config), progress=False)
        spent["training_seconds"] += time.perf_counter() - start
        spent["energy"] += meter.joules()
        costs.append(cost(emulator.spec, emulator.network))
        hashes.append(emulator.hash[:16])
        start = time.perf_counter()
        before = predicted(stage, stage.cube(cube, before), emulator, f"{scratch}/{i}.zarr")
        spent["predicting_seconds"] += time.perf_counter() - start
        found |= {str(name): field for name, field in before.data_vars.items()}
    made = xr.Dataset(found, attrs={"xlsbc_emulator": " ".join(hashes)})
    steps = len(emulator.spec.steps)
    pixels = cube.sizes["latitude"] * cube.sizes["longitude"] * years_in(made)
    return made, {
        "parameters": sum(each.parameters for each in costs),
        "trained_parameters": sum(each.trained for each in costs),
        # leaves are the last to be made, if they are
        "flops": sum(c.yearly for c in costs) + ("lai" in made) * steps * costs[-1].stepwise,
        "training_seconds": spent["training_seconds"],
        "peak_memory": peak_memory(),
        "pixels_per_second": pixels / spent["predicting_seconds"],
        "energy": number(spent["energy"]),
        "emulators": " ".join(hashes),
    }


def predicted(stage: Stage, cube: xr.Dataset, emulator: Emulator, url: str) -> xr.Dataset:
    """What an emulator makes of a cube, as it is delivered: written, and opened again."""
    names = None if len(stage.targets) > 1 else list(stage.targets)
    if stage.targets == ("lc_fraction",):
        names = ["lc_fraction", "cvh", "cvl"]
    made = predict(cube, emulator, given=stage.given, targets=names)
    write_store(made, url, progress=False)
    return open_cube(url)


def rivalled(
    cell: Cell, cube: xr.Dataset, labels: xr.Dataset, scratch: str
) -> tuple[xr.Dataset, dict[str, Any]]:
    """What a baseline predicts, and what it took."""
    where, _ = held_out(cube, cell.split)
    train = split_map(cube, cell.split) == TRAIN
    years, _ = Parts.of(cube, cell.split).years(years_of(cube))
    start, meter = time.perf_counter(), Meter()
    made = rival(
        cell.model, cube, labels, where, train, years=years or None, seed=cell.seed
    ).compute()
    learns = cell.model == "gradient_boosting"
    return made, {
        "training_seconds": time.perf_counter() - start if learns else None,
        "energy": number(meter.joules()) if learns else None,
        "peak_memory": peak_memory() if learns else None,
    }


def judged(cell: Cell, cube: xr.Dataset, made: xr.Dataset) -> dict[str, Any]:
    """Skill where it was held out, and consistency everywhere."""
    where, years = held_out(cube, cell.split)
    name = "prediction" if cell.training else cell.model
    skill = score({name: of_years(made, years)}, cube, where=where).sel(product=name)
    found: dict[str, Any] = {str(k): number(v) for k, v in skill.data_vars.items()}
    found |= merit(cell, cube, made, where)
    rules = check(made, reference=cube, cube=cube)
    for rule, value in rules.data_vars.items():
        found[f"check_{rule}"] = number(value)
        found[f"share_{rule}"] = number(value.attrs["share"])
    passed = {str(k): (v.attrs["law"], v.attrs["passed"]) for k, v in rules.data_vars.items()}
    failed = [law for law, holds in passed.values() if not holds]
    found |= {"laws_broken": sum(failed), "unusual": len(failed) - sum(failed)}
    return {**found, "passed": bool(rules.attrs["passed"])}


def merit(cell: Cell, cube: xr.Dataset, made: xr.Dataset, where: xr.DataArray) -> dict[str, Any]:
    """Figure of merit of the change since the last year before those that are scored.

    Of products that do not see the maps between; persistence does.
    """
    found: dict[str, Any] = {}
    if cell.model == "persistence":
        return found
    weight = Grid.of(cube).cell_area().assign_coords(latitude=cube["latitude"]) * where
    for name, dim in CLASS_DIMS.items():
        if name not in cube or name not in made or cube.sizes["year"] < 2:
            continue
        years = cube["year"].values
        scored = [y for y in cell.split.years if y in years] or years[1:]
        base = max(years[years < min(scored)], default=None)
        both = np.intersect1d(made["year"].values, scored)
        if base is None or not both.size:
            continue
        sums = change_sums(
            made[name].sel(year=both),
            cube[name].sel(year=both),
            cube[name].sel(year=base, drop=True),
            weight,
            dim,
        )
        scores = change_scores(sums.compute())
        found[f"{name[:2]}_figure_of_merit"] = number(scores["figure_of_merit"])
    return found


def pictured(cell: Cell, cube: xr.Dataset, made: xr.Dataset, where: xr.DataArray) -> xr.Dataset:
    """A thinned map of errors, and the seasons of every class."""
    _, years = held_out(cube, cell.split)
    truth, guess = (of_years(data[["lai"]], years)["lai"] for data in (cube, made))
    times = np.intersect1d(truth["time"], guess["time"])
    truth, guess = (field.sel(time=times) for field in (truth, guess))
    truth, guess, counted = matched(truth, guess, where, limit=PICTURE)
    error = ((guess - truth) ** 2).mean("time") ** 0.5
    fields = {
        "error": error.assign_attrs(units=cube["lai"].attrs["units"]),
        "held_out": counted,
    }
    seasons = seasonal_means(of_years(cube, years), of_years(made, years), where, limit=2 * PICTURE)
    text = {n: seasons[n].astype(np.dtypes.StringDType()) for n in ("title", "lc_class")}
    seasons = seasons.assign(text)
    found = xr.merge([xr.Dataset(fields), seasons], join="exact", compat="no_conflicts").compute()
    return found.drop_vars([n for n in found.coords if n not in found.dims])


def years_in(made: xr.Dataset) -> int:
    """How many years a prediction has."""
    if "year" in made.indexes:
        return int(made.sizes["year"])
    return int(np.unique(made["time"].dt.year).size)


def machine() -> dict[str, Any]:
    """What the numbers of time and memory are of."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return {
        "machine": f"{gpu}{', ' * bool(gpu)}{os.cpu_count()} CPU cores, {platform.machine()}",
        "versions": f"xlsbc {version('xlsbc')}, torch {torch.__version__}",
    }


def peak_memory() -> int:
    """Most bytes that this process has had: on the GPU if it was used, else resident."""
    if torch.cuda.is_available() and (used := torch.cuda.max_memory_allocated()):
        return int(used)
    with suppress(OSError):  # what getrusage tells on Linux, the process before exec had too
        (line,) = (s for s in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in s)
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def number(value: Any) -> float | None:
    """A float, or None for one that JSON has no word for."""
    found = float(value)
    return found if np.isfinite(found) else None


def main() -> None:
    """Run the task on the standard input."""
    tune_allocator()
    warnings.filterwarnings("ignore", "the buffer around held-out pixels")  # told by the caller
    run(Task.model_validate_json(sys.stdin.read()))


if __name__ == "__main__":
    main()
