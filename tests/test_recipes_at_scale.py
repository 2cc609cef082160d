"""The recipes of docs/scale.md, run as they stand, each where it was made for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import xarray as xr

from xlsbc.cube.store.writer import write
from xlsbc.inference.predict import predict

RECIPES = Path(__file__).parents[1] / "docs" / "scale"
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


@pytest.fixture(scope="module")
def expected(world, untrained, tmp_path_factory) -> tuple[Path, xr.Dataset]:
    """A folder with a cube and an emulator, and what is predicted from them."""
    folder = tmp_path_factory.mktemp("recipes")
    cube = world.isel(latitude=slice(9, 32), longitude=slice(15, 44))
    write(cube, str(folder / "cube.zarr"), packed=False, progress=False)
    emulator = untrained(cube)
    emulator.save(str(folder / "emulator"))
    return folder, predict(cube, emulator).compute(scheduler="synchronous")


@pytest.mark.parametrize("name", ["laptop", "cluster", pytest.param("gpu", marks=needs_gpu)])
def test_a_recipe_runs_as_it_stands_and_gives_the_same_prediction(name, expected):
    folder, prediction = expected
    command = [sys.executable, str(RECIPES / f"{name}.py")]
    environment = {**os.environ, "PYTHONPATH": str(RECIPES.parents[1])}
    again = [subprocess.run(command, cwd=folder, env=environment) for _ in range(2)]
    assert [each.returncode for each in again] == [0, 0]  # the second finds nothing left to do
    found = xr.open_zarr(folder / "prediction.zarr").load()
    if name == "gpu":
        tolerance = 0.05  # bfloat16 of another device
    else:
        tolerance = 2.0**-12  # what is stored is rounded
    for variable, field in prediction.items():
        assert float(abs(found[variable] - field).max()) <= tolerance
