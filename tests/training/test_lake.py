"""Training from object storage, as moto serves it, and on the sparse labels that lakes hold."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import xlsbc
from tests import servers
from xlsbc import cli
from xlsbc.cube.store import storage
from xlsbc.cube.store.writer import write
from xlsbc.cube.synthetic import synthetic_cube
from xlsbc.emulator import Architecture, Emulator, Split
from xlsbc.training import fit as fitting
from xlsbc.training.checkpoints import Folder
from xlsbc.training.config import Training
from xlsbc.training.module import Fitting
from xlsbc.training.splits import held_out

pytest.importorskip("s3fs")
pytest.importorskip("moto")
pytestmark = pytest.mark.filterwarnings("ignore:the buffer around held-out pixels")

ROOT = Path(__file__).parents[2]
BUCKET = "xlsbc-training-lake"
CUBE = f"s3://{BUCKET}/cube.zarr"
CONFIG = Training(
    architecture=Architecture(width=(8, 16), climate=4, hidden=8, dropout=0.2),
    split=Split(size=12, buffer=2, validation=0.2),
    steps=7,
    batch_size=2,
    crop=16,
    checkpoint_every=2,
    validate_every=3,
    precision="32",
)
LEFT = {
    *("README.md", "emulator.json", "weights.safetensors", "training.csv", "training.png"),
    *("best/README.md", "best/emulator.json", "best/weights.safetensors"),
    *("checkpoints/step-00000006.ckpt", "checkpoints/step-00000007.ckpt"),
}

Command = Callable[..., tuple[int, str]]
Fails = Callable[[str, str], bool]


class Failing:
    """An application in front of moto's: requests that `fails`, by method and path, get 500."""

    def __init__(self, application: Any, fails: Fails) -> None:
        self.application, self.fails = application, fails

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        if not self.fails(environ["REQUEST_METHOD"], environ["PATH_INFO"]):
            return self.application(environ, start_response)
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        start_response("500 Fault", [("Content-Type", "application/xml")])
        return [b"<Error><Code>InternalError</Code><Message>on purpose</Message></Error>"]


@pytest.fixture(scope="module")
def server(world: xr.Dataset) -> Iterator[servers.Bucket]:
    """A server that holds the cube."""
    with servers.s3() as (bucket, _), pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_MAX_ATTEMPTS", "1")  # botocore waits for seconds
        fsspec.filesystem("s3").mkdir(BUCKET)
        write(world, CUBE, packed=False, progress=False)
        yield bucket


@pytest.fixture
def failing(server, monkeypatch) -> Callable[[Fails], None]:
    """A factory: from now on such requests fail; nothing waits before it tries again."""

    def make(fails: Fails) -> None:
        monkeypatch.setattr(storage, "FIRST_WAIT", 0)
        monkeypatch.setattr(server, "moto", Failing(server.moto, fails))

    return make


@pytest.fixture(scope="module")
def hashes(world, tmp_path_factory) -> tuple[str, str]:
    """Of the emulator that the same training makes from a disk, and of the best."""
    place = tmp_path_factory.mktemp("disk")
    write(world, str(place / "cube.zarr"), packed=False, progress=False)
    cube = xr.open_zarr(place / "cube.zarr")
    found = xlsbc.fit(cube, CONFIG, out=str(place / "out"), progress=False)
    return found.hash, Emulator.open(str(place / "out" / "best")).hash


@pytest.fixture
def train(monkeypatch, capsys, tmp_path) -> Command:
    """Runs ``xlsbc train`` in this process: exit status, and what it said."""

    def run(out: str, cube: str = CUBE, **changes: Any) -> tuple[int, str]:
        settings = tmp_path / "config.yaml"
        CONFIG.changed(cube=cube, out=out, **changes).write(settings)
        monkeypatch.setattr(sys, "argv", ["xlsbc", "train", str(settings)])
        monkeypatch.setattr(cli, "tune_allocator", lambda: None)  # would stay for other tests
        try:
            cli.main()
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        said = capsys.readouterr()
        return status, said.err if status else said.out

    return run


def left(out: str) -> set[str]:
    """Names of all that is under a URL."""
    fs, path = fsspec.core.url_to_fs(out)
    fs.invalidate_cache()
    return {name.removeprefix(f"{path}/") for name in fs.find(path)}


def test_from_a_bucket_into_a_bucket_the_emulator_is_that_of_a_disk(server, train, hashes):
    out = f"s3://{BUCKET}/whole"
    status, said = train(out)
    assert (status, said.splitlines()[-1]) == (0, out)
    assert left(out) == LEFT
    assert (Emulator.open(out).hash, Emulator.open(f"{out}/best").hash) == hashes
    rows = list(csv.DictReader(fsspec.open(f"{out}/training.csv", "rt").open()))
    assert [row["step"] for row in rows] == list("1234567")
    with fsspec.open(f"{out}/training.png") as picture:
        assert picture.read(4) == b"\x89PNG"


ALONE = """
import os, signal, sys
from xlsbc import cli
from xlsbc.training.module import Fitting

start = Fitting.on_train_batch_start
killed = len(sys.argv) > 2 and int(sys.argv[2])

def starting(self, batch, index):
    if batch.step == killed:
        os.kill(os.getpid(), signal.SIGKILL)
    start(self, batch, index)

if killed:
    Fitting.on_train_batch_start = starting
sys.argv = ["xlsbc", "train", sys.argv[1]]
cli.main()
"""


def alone(settings: Path, *killed: str) -> subprocess.CompletedProcess[str]:
    """``xlsbc train`` in a process of its own, with one thread: the last bits depend on it."""
    return subprocess.run(
        [sys.executable, "-c", ALONE, str(settings), *killed],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_killed_on_a_bucket_the_same_command_goes_on_to_the_same_emulator(server, tmp_path):
    whole, out = (f"s3://{BUCKET}/{name}" for name in ("undisturbed", "killed"))
    for name, place in (("whole", whole), ("killed", out)):
        CONFIG.changed(cube=CUBE, out=place).write(tmp_path / f"{name}.yaml")
    done = alone(tmp_path / "whole.yaml")
    assert done.returncode == 0, done.stderr
    done = alone(tmp_path / "killed.yaml", "5")
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert {name for name in left(out) if not name.startswith("best/")} == {
        "checkpoints/step-00000002.ckpt",
        "checkpoints/step-00000004.ckpt",
    }
    done = alone(tmp_path / "killed.yaml")
    assert done.returncode == 0, done.stderr
    assert left(out) == LEFT
    for best in ("", "/best"):
        assert Emulator.open(out + best).hash == Emulator.open(whole + best).hash


def test_on_a_bucket_another_cube_is_refused_and_nothing_changes(server, train, world):
    out, other = f"s3://{BUCKET}/refused", f"s3://{BUCKET}/other.zarr"
    assert train(out, steps=2, validate_every=None)[0] == 0
    before = {name: fsspec.open(f"{out}/{name}").open().read() for name in left(out)}
    write(world.assign(elevation=world["elevation"] + 1), other, packed=False, progress=False)
    status, said = train(out, cube=other, steps=2, validate_every=None)
    assert status == 2
    assert "step-00000002.ckpt is of another training" in said
    assert "emulator.static was" in said
    assert {name: fsspec.open(f"{out}/{name}").open().read() for name in left(out)} == before


def test_an_object_that_fails_once_does_not_change_the_emulator(server, train, failing, hashes):
    asked: set[tuple[str, str]] = set()

    def once(method: str, path: str) -> bool:
        chunk = "/c/" in path and not any(
            axis in path for axis in ("time/", "tude/", "ss/", "year/")
        )
        ours = (method == "GET" and chunk) or (method == "PUT" and "/once/" in path)
        first = ours and (method, path) not in asked
        asked.add((method, path))
        return first

    failing(once)
    out = f"s3://{BUCKET}/once"
    status, said = train(out)
    assert status == 0, said
    assert ("PUT", f"/{BUCKET}/once/checkpoints/step-00000004.ckpt") in asked
    assert ("GET", f"/{BUCKET}/cube.zarr/lai/c/0/0/0") in asked
    assert Emulator.open(out).hash == hashes[0]


def test_a_bucket_that_fails_for_ever_stops_the_training_at_a_place(
    server, train, failing, world, monkeypatch
):
    monkeypatch.setattr("xlsbc.training.windows.SIDE", 16)  # several windows, read again
    chunked = f"s3://{BUCKET}/chunked.zarr"
    parts = world.chunk({"latitude": 20, "longitude": 27, "time": 12, "year": 1})
    write(parts, chunked, packed=False, progress=False)
    broken: list[bool] = []
    original = Fitting.on_train_batch_start

    def starting(self: Fitting, batch: Any, index: int) -> None:
        if batch.step == 3:
            broken.append(True)
        original(self, batch, index)

    monkeypatch.setattr(Fitting, "on_train_batch_start", starting)
    failing(lambda method, path: bool(broken) and "chunked.zarr/lai/c/" in path)
    out = f"s3://{BUCKET}/stopped"
    status, said = train(
        out, cube=chunked, steps=400, memory="3800KiB", threads=1, validate_every=None
    )
    assert status == 2
    last = said.strip().splitlines()[-1]
    assert last.startswith("TrainingError: training stopped at 4")
    assert "degrees north" in last
    assert "input 'lai' cannot be read at time" in last
    assert "OSError" in last
    kept = Folder(f"{out}/checkpoints").newest()
    assert kept is not None
    assert last.endswith(f"the last good checkpoint is {kept[0]}")
    assert kept[1]["global_step"] >= 2


def test_a_bucket_that_is_not_there_is_told_before_the_cube_is_read(server, train, monkeypatch):
    monkeypatch.setattr(fitting, "prepare", None)
    monkeypatch.setattr(storage, "FIRST_WAIT", 0)
    status, said = train("s3://xlsbc-no-such-bucket/out")
    assert status == 2
    assert "TrainingError: nothing can be saved in s3://xlsbc-no-such-bucket/out" in said


def without(cube: xr.Dataset, *prefixes: str) -> xr.Dataset:
    return cube.drop_vars([n for n in (*cube.data_vars, *cube.coords) if n.startswith(prefixes)])


def leaves_alone(cube: xr.Dataset) -> xr.Dataset:
    return without(cube, "lu_", "lc_", "driver")


def land_use_in_one_year_of_three(cube: xr.Dataset) -> xr.Dataset:
    region = (8.1, 45.6, 8.1 + 53 / 120, 45.6 + 37 / 120)
    longer = synthetic_cube(region=region, years=(2000, 2002))
    return longer.assign(lu_fraction=longer["lu_fraction"].where(longer["year"] == 2001))


def two_per_cent(cube: xr.Dataset) -> xr.Dataset:
    random = np.random.default_rng(0).random(cube["elevation"].shape)
    known = xr.DataArray(random < 0.02, dims=("latitude", "longitude"))
    return cube.assign({n: cube[n].where(known) for n in ("lai", "lu_fraction", "lc_fraction")})


def climatology(cube: xr.Dataset) -> xr.Dataset:
    lai = cube["lai"].groupby("time.month").mean().rename(month="time")
    lai["time"] = pd.date_range("2000-01-01", periods=12, freq="MS")
    lai.attrs = cube["lai"].attrs | {
        "cell_methods": "time: mean within years time: mean over years"
    }
    return cube[["elevation", "slope", "clay_fraction"]].assign(lai=lai)


def whole(cube: xr.Dataset) -> xr.Dataset:
    return cube


@pytest.mark.parametrize(
    ("make", "given"),
    [
        (leaves_alone, None),
        (land_use_in_one_year_of_three, None),
        (two_per_cent, None),
        (whole, ("lc_fraction",)),
        (climatology, None),
    ],
)
def test_sparse_labels_are_learned_and_scored_without_a_setting(world, tmp_path, make, given):
    cube = make(world)
    out = str(tmp_path / "emulator")
    emulator = xlsbc.fit(
        cube,
        CONFIG,
        split=Split(size=12, buffer=2),
        validate_every=None,
        given=given and (given,),
        steps=30,
        batch_size=4,
        learning_rate=1e-2,
        out=out,
        progress=False,
    )
    rows = list(csv.DictReader((tmp_path / "emulator" / "training.csv").read_text().splitlines()))
    targets = {n.removesuffix("_fraction") for n in emulator.spec.targets if n not in (given or ())}
    losses = {n: [float(row[n]) for row in rows if row.get(n)] for n in targets}
    for name, values in losses.items():
        assert np.mean(values[-5:]) < np.mean(values[:5]), name
    prediction = cube.lsbc.predict(out, given=given).compute()
    where, _ = held_out(cube, emulator.spec.split)
    scores = prediction.lsbc.evaluate(cube, where=where).sel(product="prediction")
    for name in targets:
        assert int(scores[f"{name}_n"]) > 0
        assert np.isfinite(scores[f"{name}_mae"]), name


LAUNCHED = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


@pytest.mark.slow
def test_two_processes_that_torchrun_started_leave_one_emulator(world, tmp_path):
    write(world, str(tmp_path / "cube.zarr"), packed=False, progress=False)
    out, settings = tmp_path / "out", tmp_path / "config.yaml"
    config = CONFIG.changed(cube=str(tmp_path / "cube.zarr"), out=str(out), devices=2)
    config.write(settings)
    done = subprocess.run(
        [sys.executable, *LAUNCHED, "-m", "xlsbc", "train", str(settings)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert left(str(out)) == LEFT
    found = repr(Emulator.open(str(out)))
    assert done.stdout.count(found) == 1  # told once


@pytest.fixture
def launched(monkeypatch) -> None:
    """As in the second process of srun's two."""
    for name, value in (("NUM_TASKS", "2"), ("NUM_NODES", "2")):
        monkeypatch.setenv(f"SLURM_STEP_{name}", value)
    monkeypatch.setenv("SLURM_PROCID", "1")


def test_what_srun_started_is_found_and_a_job_without_srun_is_one_process(launched, monkeypatch):
    assert fitting.Launch.found() == (2, 2, 1)
    monkeypatch.delenv("SLURM_STEP_NUM_TASKS")
    monkeypatch.setenv("SLURM_NTASKS", "2")
    assert fitting.Launch.found() == (1, 1, 0)


def test_settings_that_do_not_fit_the_launched_processes_are_all_named(world, launched):
    with pytest.raises(xlsbc.LsbcError, match="cannot train together") as caught:
        xlsbc.fit(world, CONFIG, progress=False)
    assert [problem.split()[0] for problem in caught.value.problems] == ["devices", "out"]
