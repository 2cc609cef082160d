"""A training that is killed anywhere and run again ends in the same weights (R20)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from xlsbc.cube.store.writer import write
from xlsbc.emulator import Architecture, Emulator, Split
from xlsbc.training.checkpoints import Folder
from xlsbc.training.config import Training

SCRIPT = """
import os, signal, sys
import xarray as xr
from xlsbc.training import checkpoints
from xlsbc.training.config import Training
from xlsbc.training.fit import fit
from xlsbc.training.module import Fitting

where, k, log = sys.argv[1], int(sys.argv[2]), sys.argv[3]
start, replace = Fitting.on_train_batch_start, checkpoints.Path.replace

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
checkpoints.Path.replace = replacing
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
