"""Examples in docstrings, run as they stand."""

from __future__ import annotations

import doctest
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import xarray as xr

ROOT = Path(__file__).parents[1]
SOURCES = [path for path in sorted((ROOT / "xlsbc").rglob("*.py")) if ">>> " in path.read_text()]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_examples_print_what_they_say(path):
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert doctest.testmod(importlib.import_module(name), optionflags=options).failed == 0


@pytest.fixture(scope="module")
def folder(world, untrained, tmp_path_factory):
    """A folder with the cube and the emulator that the pages' scripts look for."""
    folder = tmp_path_factory.mktemp("user")
    world.lsbc.write(str(folder / "cube.zarr"), progress=False)
    untrained(world).save(str(folder / "emulator"))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", ["laptop", "cluster", "gpu"])  # cores do what a GPU would
def test_scripts_of_the_pages_run_as_they_stand(folder, tmp_path, name):
    for part in ("cube.zarr", "emulator"):
        (tmp_path / part).symlink_to(folder / part)
    script = ROOT / "docs" / "scale" / f"{name}.py"
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    prediction = xr.open_zarr(tmp_path / "prediction.zarr")
    assert prediction.attrs["xlsbc_complete"]
    assert float(prediction.lai.isel(time=6).mean()) > 0
