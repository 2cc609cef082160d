"""A training that is killed ends in the same weights (R20); one that cannot go on tells where."""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from xlsbc.cube.store import storage
from xlsbc.cube.store.reading import open_cube
from xlsbc.cube.store.writer import write
from xlsbc.emulator import Architecture, Emulator, Split
from xlsbc.errors import CubeError, LegendError, StoreError, TrainingError
from xlsbc.training import fit as fitting
from xlsbc.training.checkpoints import Folder
from xlsbc.training.config import Training
from xlsbc.training.fit import ensemble, fit
from xlsbc.training.module import Fitting

SCRIPT = """
import os, signal, sys
from pathlib import Path
import xarray as xr
from xlsbc.training.config import Training
from xlsbc.training.fit import fit
from xlsbc.training.module import Fitting

where, k, log = sys.argv[1], int(sys.argv[2]), sys.argv[3]
start, replace = Fitting.on_train_batch_start, Path.replace

def kill():
    os.kill(os.getpid(), signal.SIGKILL)

def starting(self, batch, index):
    if batch.step == k:
        kill()
    with open(log, "a") as file:
        file.write(f"{batch.step} {batch.given} {batch.places} {batch.y.sum()} {batch.x.sum()}\\n")
    start(self, batch, index)

def replacing(self, target):
    if f"step-{-k:08d}" in str(target):
        kill()  # between the temporary file and its name
    return replace(self, target)

Fitting.on_train_batch_start = starting
Path.replace = replacing
cube = xr.open_zarr(f"{where}/cube.zarr")
fit(cube, Training.read(f"{where}/config.yaml"), out=sys.argv[4], progress=False)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory, world):
    """A folder of a cube, a configuration, and what an uninterrupted training made of them."""
    folder = tmp_path_factory.mktemp("training")
    write(world, str(folder / "cube.zarr"), packed=False, progress=False)
    Training(
        architecture=Architecture(width=(8, 16), climate=4, hidden=8, dropout=0.2),
        split=Split(size=12, buffer=2, validation=0.2),
        steps=11,
        batch_size=2,
        crop=16,
        checkpoint_every=2,
        validate_every=3,
        precision="32",
    ).write(folder / "config.yaml")
    (folder / "run.py").write_text(SCRIPT)
    assert run(folder, -99, "whole") == 0
    return folder


def run(folder: Path, k: int, name: str) -> int:
    """Exit status of a training that is killed at step `k`; negative, at a checkpoint of -k."""
    args = [str(folder), str(k), str(folder / f"{name}.log"), str(folder / name)]
    command = [sys.executable, str(folder / "run.py"), *args]
    return subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}).returncode


def last(folder: Path) -> dict[str, Any]:
    found = Folder(str(folder / "checkpoints")).newest()
    assert found is not None
    return found[1]


def bits(value: Any) -> Any:
    """A checkpoint as what Python compares; NaN equals itself."""
    if isinstance(value, torch.Tensor):
        return value.numpy().tobytes()
    if isinstance(value, dict):
        return {key: bits(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [bits(inner) for inner in value]
    return repr(value)


RANDOM = np.random.default_rng(20)
POINTS = [int(RANDOM.integers(1, 11)), -2 * int(RANDOM.integers(1, 6))]
"""Before a step, and within the writing of a checkpoint."""


@pytest.mark.proves("killed-training")
@pytest.mark.slow
@pytest.mark.parametrize("k", POINTS)
def test_killed_and_run_again_it_has_the_same_weights_optimiser_and_order(place, k):
    name = f"killed-{k}"
    assert run(place, k, name) == -signal.SIGKILL
    assert not (place / name / "emulator.json").exists()
    assert run(place, -99, name) == 0
    whole, found = last(place / "whole"), last(place / name)
    assert bits(found) == bits(whole)
    assert Emulator.open(str(place / name)).hash == Emulator.open(str(place / "whole")).hash
    best = [Emulator.open(str(place / n / "best")).hash for n in ("whole", name)]
    assert best[0] == best[1]
    lines = (place / "whole.log").read_text().splitlines()
    assert len(set(lines)) == len(lines) == 11
    again = (place / f"{name}.log").read_text().splitlines()
    assert again[-len(lines) :][-1] == lines[-1]
    assert {line.split()[0]: line for line in again} == {line.split()[0]: line for line in lines}
    assert set(again) == set(lines)  # what was done twice was the same


QUICK = Training(
    architecture=Architecture(width=(8, 16), climate=4, hidden=8),
    split=Split(size=12, buffer=2),
    steps=4,
    batch_size=2,
    crop=16,
    checkpoint_every=2,
    precision="32",
)
PLACE = r"training stopped at 4\d\.\d+ to 4\d\.\d+ degrees north, \d.* east, of 200[01]"

narrow = pytest.mark.filterwarnings("ignore:the buffer around held-out pixels")


def quick(cube: xr.Dataset, **changes: Any) -> Emulator:
    return fit(cube, QUICK, progress=False, **changes)


@pytest.fixture(scope="module")
def chunked(world, tmp_path_factory) -> Path:
    """A cube of four windows, so that one can go while another trains."""
    place = tmp_path_factory.mktemp("chunked") / "cube.zarr"
    parts = world.chunk({"latitude": 20, "longitude": 27, "time": 12, "year": 1})
    write(parts, str(place), packed=False, progress=False)
    return place


@pytest.fixture
def store(chunked, tmp_path, monkeypatch) -> Path:
    """A copy to harm; windows are read again in every epoch, and nothing waits."""
    monkeypatch.setattr("xlsbc.training.windows.SIDE", 16)
    monkeypatch.setattr(storage, "FIRST_WAIT", 0)
    return Path(shutil.copytree(chunked, tmp_path / "cube.zarr"))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


@pytest.mark.proves("damaged-chunk")
@narrow
@pytest.mark.parametrize("harm", [flip, cut])
@pytest.mark.parametrize("name", ["lai/c/1/1/0", "lu_fraction/c/0/0/0/1", "elevation/c/1/1"])
def test_a_damaged_chunk_stops_the_training_and_is_named_with_its_place(store, name, harm):
    cube = open_cube(str(store))
    harm(store / name)
    variable = name.split("/")[0]
    said = rf"{PLACE}.*input '{variable}' cannot be read at .*latitude.*{name} is damaged"
    with pytest.raises(TrainingError, match=said):
        quick(cube)


@pytest.fixture
def at_step(monkeypatch) -> Callable[[int, Callable[[], object]], None]:
    """A factory: something happens before a step."""

    def make(number: int, act: Callable[[], object]) -> None:
        original = Fitting.on_train_batch_start

        def starting(self: Fitting, batch: Any, index: int) -> None:
            if batch.step == number:
                act()
            original(self, batch, index)

        monkeypatch.setattr(Fitting, "on_train_batch_start", starting)

    return make


def gone(folder: Path) -> None:
    for path in folder.rglob("c"):
        if path.is_dir():
            shutil.rmtree(path)


@pytest.mark.proves("lost-chunk")
@narrow
@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ("lai", "input 'lai' was in its store when it was opened and is there no more at time"),
        ("", "input '.*' was in its store when it was opened and is there no more at"),
    ],
)
def test_what_vanishes_in_the_middle_stops_the_training_and_keeps_the_checkpoint(
    store, at_step, tmp_path, lost, said
):
    at_step(3, lambda: gone(store / lost))
    out = tmp_path / "out"
    options = {"steps": 400, "memory": "3800KiB", "threads": 1}
    with pytest.raises(TrainingError, match=rf"{PLACE}.*{said}.*last good checkpoint is") as caught:
        quick(open_cube(str(store)), out=str(out), **options)
    kept = Folder(str(out / "checkpoints")).newest()
    assert kept is not None
    assert str(caught.value).endswith(kept[0])
    assert all(v.isfinite().all() for v in kept[1]["state_dict"].values())
    assert not (out / "emulator.json").exists()


def with_value(cube: xr.Dataset, name: str, value: float) -> xr.Dataset:
    """A cube with a value in one place of a variable, at all its times."""
    field = cube[name].copy(deep=True)
    field.values[(..., *(field.sizes[dim] // 2 for dim in field.dims[-2:]))] = value
    return cube.assign({name: field})


@pytest.mark.proves("bad-cube")
@narrow
@pytest.mark.parametrize("name", ["t2m", "lu_total", "lu_fraction", "elevation", "lai", "co2"])
def test_an_infinite_value_is_refused_with_its_variable_and_place(world, name):
    said = rf"'{name}' must be finite, .* values are infinite at .* to"
    with pytest.raises((TrainingError, CubeError), match=said):
        quick(with_value(world, name, math.inf), steps=20, given=[()])


@pytest.mark.proves("bad-cube")
@narrow
def test_shares_that_do_not_sum_to_one_stop_the_training_at_a_place(world):
    wrong = world.assign(lu_fraction=world["lu_fraction"] * 0.9)
    with pytest.raises(
        TrainingError, match=rf"{PLACE}.*lu_fraction must be shares.*sums from 0\.9"
    ):
        quick(wrong)


@pytest.mark.proves("bad-cube")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda cube: cube.assign_coords(lu_class=[f"class{i}" for i in range(13)]),
            r"'lu_class' must hold the class ids of a legend .* found class0, class1",
        ),
        (
            lambda cube: cube.isel(lu_class=slice(0, 5)),
            r"'lu_class' lacks classes of legend 'luh2': range, urban",
        ),
    ],
)
def test_a_target_of_another_legend_is_refused_with_its_classes(world, change, said):
    with pytest.raises(LegendError, match=said):
        quick(change(world))


@pytest.mark.proves("bad-cube")
def test_a_target_of_the_other_targets_legend_is_refused(world):
    other = world["lc_fraction"].rename(lc_class="lu_class")
    with pytest.raises(CubeError, match="must be one variable; found"):
        quick(world.drop_vars("lu_fraction").assign(lu_fraction=other))


@pytest.mark.parametrize(
    ("split", "said"),
    [
        (Split(size=12, buffer=40, fraction=0.9), "leaves nothing to train on; use smaller blocks"),
        (Split(fraction=0.0, years=(2000, 2001)), "holding out all 2 years .* name fewer"),
        (Split(fraction=0.0, regions=((100, 0, 110, 10),)), "region .* found none; move it"),
    ],
)
def test_a_split_that_leaves_nothing_is_refused(world, split, said):
    with pytest.raises(TrainingError, match=said):
        quick(world, split=split)


def test_the_only_year_is_not_held_out(world):
    only = world.sel(year=[2001], time="2001")
    with pytest.raises(TrainingError, match="holding out all 1 years of the cube"):
        quick(only, split=Split(fraction=0.0, years=(2001,)))


@narrow
def test_memory_that_holds_no_window_is_refused_with_what_is_needed(world):
    with pytest.raises(TrainingError, match=r"memory of 1 MiB .* give at least \d+ MiB"):
        quick(world, memory="1MiB")


@pytest.mark.parametrize("kind", ["out", "folder"])
def test_a_place_that_cannot_be_written_is_told_before_the_cube_is_read(
    world, tmp_path, monkeypatch, kind
):
    monkeypatch.setattr(fitting, "prepare", None)
    (tmp_path / "file").write_text("no directory")
    place = str(tmp_path / "file" / "emulator")
    for run in (fit, ensemble):
        with pytest.raises(TrainingError, match=f"nothing can be saved in {place}.* give a place"):
            run(world, QUICK, progress=False, **{kind: place})
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.proves("full-disk")
@narrow
def test_a_disk_that_fills_up_is_one_error_that_names_the_last_good_checkpoint(
    world, tmp_path, monkeypatch
):
    original = Path.replace

    def full(self: Path, target: Path) -> Path:
        if "step-00000004" in str(target):
            raise OSError(28, "No space left on device")
        return original(self, target)

    monkeypatch.setattr(Path, "replace", full)
    said = r"cannot write .*step-00000004\.ckpt.*No space.*last good checkpoint is .*step-00000002"
    with pytest.raises(StoreError, match=said):
        quick(world, folder=tmp_path)


@narrow
def test_an_emulator_of_another_training_is_not_replaced(world, tmp_path):
    out = tmp_path / "emulator"
    before = quick(world, out=str(out))
    shutil.rmtree(out / "checkpoints")
    with pytest.raises(TrainingError, match=r"expected no emulator at .* give another out"):
        quick(world, out=str(out), seed=1)
    assert Emulator.open(str(out)).hash == before.hash


@narrow
def test_what_fit_returns_is_where_it_was_saved(world, tmp_path):
    # Dask workers open it from there
    assert quick(world, out=str(tmp_path / "emulator")).url == str(tmp_path / "emulator")
