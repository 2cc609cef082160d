"""Several processes that write to one place (R7), workers that die (R3), and clients (R4)."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import dask
import pytest

from xlsbc.cube.store import storage
from xlsbc.cube.store.writer import verify, write
from xlsbc.errors import CubeError

from .conftest import FaultyStore, digest, ended, in_child, kill_at, run, save, started, toy

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")


@pytest.fixture
def whole(tmp_path):
    return digest(Path(save(toy(), tmp_path / "whole.zarr")))


@pytest.mark.proves("company")
def test_four_processes_write_the_same_store_at_once(tmp_path, whole):
    place = tmp_path / "a.zarr"
    children = [started(partial(save, toy(), place)) for _ in range(4)]
    assert [ended(child) for child in children] == [0, 0, 0, 0]
    assert digest(place) == whole


def save_overtaken(place: Path, k: int, **mine: Any) -> None:
    """Write, while another process writes the toy from start to end before the k-th put."""
    opened = storage.opened

    def other() -> None:
        storage.opened = opened
        save(toy(), place)

    def fault(number: int, key: str, value: Any) -> None:
        if number == k:
            (place.parent / "status").write_text(str(in_child(other)))

    store = FaultyStore(opened(str(place)), fault)
    storage.opened = lambda url, options=None: store
    save(toy(**mine), place)


@pytest.mark.proves("company")
@pytest.mark.parametrize("k", [1, 2, 14, 30, 52, 65])
def test_another_process_that_does_all_of_it_meanwhile_does_not_disturb(tmp_path, whole, k):
    place, told = tmp_path / "a.zarr", tmp_path / "told"
    assert in_child(partial(save_overtaken, place, k), told) == 0, told.read_text()
    assert (tmp_path / "status").read_text() == "0"
    assert digest(place) == whole


@pytest.mark.proves("company")
def test_a_store_of_another_plan_is_refused_with_what_differs_and_not_touched(tmp_path):
    place = tmp_path / "a.zarr"
    assert in_child(partial(kill_then_save, place)) == -9
    before = digest(place)
    other = toy(seed=1).assign_attrs(xlsbc_inputs="a c")
    with pytest.raises(CubeError, match="something at") as caught:
        save(other, place)
    assert digest(place) == before
    told = "; ".join(caught.value.problems)
    assert "attribute xlsbc_inputs is 'a b' in the store and 'a c' in the Dataset" in told
    for field in ("attribute xlsbc_emulator", "values of lai", "values of lc_fraction"):
        assert field in told
    assert len(caught.value.problems) == 4


def kill_then_save(place):
    kill_at("after", 20)
    save(toy(), place)


@pytest.mark.proves("company")
def test_of_two_plans_at_the_same_moment_the_second_is_refused_before_its_first_byte(
    tmp_path, whole
):
    # it saw an empty place; when it puts its plan, there is another
    place, told = tmp_path / "a.zarr", tmp_path / "told"
    assert in_child(partial(save_overtaken, place, 1, seed=1), told) == 1
    assert "CubeError: there is something at" in told.read_text()
    assert (tmp_path / "status").read_text() == "0"
    assert digest(place) == whole


def dying(log, year, row, column):
    """A tile that ends its worker the first time that it is computed."""
    fields = run(log, year, row, column)
    if (year, row, column) in {(0, 1, 1), (1, 2, 1)}:
        mark = f"{log}-{year}"
        if not os.path.exists(mark):
            with open(mark, "w", encoding="ascii"):
                pass
            os.kill(os.getpid(), signal.SIGKILL)
    return fields


@pytest.mark.proves("killed-cluster")
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_workers_that_are_killed_meanwhile_do_not_change_the_store(
    tmp_path, whole, capfd, record_property
):
    from distributed import Client, LocalCluster

    place, log = tmp_path / "a.zarr", tmp_path / "log"
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}
    with (
        dask.config.set({"distributed.admin.system-monitor.gil.enabled": False}),
        LocalCluster(**options) as cluster,
        Client(cluster),
    ):
        write(toy(run=dying, log=log), str(place))
        assert verify(str(place), progress=False) == 2 * 19 + 5
    assert {path.name for path in tmp_path.glob("log-*")} == {"log-0", "log-1"}
    record_property("cases", 2)
    assert digest(place) == whole
    assert "19/19" in capfd.readouterr().err


CLIENT = """
import sys
import numpy as np, dask.array as da, pandas as pd, time, xarray as xr
from distributed import Client
from xlsbc.cube.store.writer import write

def slow(block, seconds):
    time.sleep(seconds)
    return block

if __name__ == "__main__":
    place, address, seconds = sys.argv[1:]
    numbers = np.arange(4 * 24 * 24, dtype="float32").reshape(4, 24, 24) / 4096
    lai = da.from_array(numbers, chunks=(1, 6, 6)).map_blocks(
        slow, float(seconds), name="lai", dtype="float32"
    )
    times = pd.date_range("2001-01-01", periods=4, freq="MS")
    ds = xr.Dataset({"lai": (("time", "latitude", "longitude"), lai)}, {"time": times})
    with Client(address):
        write(ds, place, progress=False)
"""


@pytest.fixture
def client(tmp_path):
    """Starts a client that writes to a place through the scheduler at an address."""
    script = tmp_path / "client.py"
    script.write_text(CLIENT)
    all_of_them: list[subprocess.Popen[str]] = []

    def start(place: Path, address: str, seconds: float) -> subprocess.Popen[str]:
        command = [sys.executable, str(script), str(place), address, str(seconds)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        all_of_them.append(process)
        return process

    yield start
    for process in all_of_them:
        process.kill()
        process.communicate()


def wait_for_chunks(place: Path, process: subprocess.Popen[str]) -> None:
    while len(list(place.glob("lai/c/*/*/*"))) < 5:
        time.sleep(0.02)
        assert process.poll() is None


@pytest.mark.proves("killed-cluster")
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_client_that_dies_on_a_live_cluster_is_followed_by_another(tmp_path, client):
    from distributed import LocalCluster

    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}
    with (
        dask.config.set({"distributed.admin.system-monitor.gil.enabled": False}),
        LocalCluster(**options) as cluster,
    ):
        address = cluster.scheduler_address
        assert client(tmp_path / "whole.zarr", address, 0).wait() == 0
        place = tmp_path / "a.zarr"
        first = client(place, address, 0.2)
        wait_for_chunks(place, first)
        first.kill()
        first.wait()
        assert not (place / "zarr.json").exists()
        assert client(place, address, 0).wait() == 0
    assert digest(place) == digest(tmp_path / "whole.zarr")
    assert verify(str(place), progress=False) > 64


@contextlib.contextmanager
def cluster_of_processes(file: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A scheduler, whose address comes to be in a file, and two workers, as a user starts them."""

    def start(kind: str, *options: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", "--no-dashboard"]
        return subprocess.Popen(
            [*command, "--scheduler-file", str(file), *options], stderr=subprocess.DEVNULL
        )

    scheduler = start("scheduler", "--port", "0")
    workers = [start("worker", "--nthreads", "1", "--death-timeout", "5") for _ in range(2)]
    try:
        while not file.exists():
            time.sleep(0.05)
            assert scheduler.poll() is None
        yield scheduler
    finally:
        for process in (scheduler, *workers):
            process.terminate()
        for process in (scheduler, *workers):
            process.wait(30)


@pytest.mark.proves("killed-cluster")
@pytest.mark.slow
def test_when_the_scheduler_dies_the_client_says_so_and_another_goes_on(tmp_path, client):
    place, files = tmp_path / "a.zarr", [tmp_path / "first.json", tmp_path / "second.json"]
    with cluster_of_processes(files[0]) as scheduler:
        first = client(place, json.loads(files[0].read_text())["address"], 0.2)
        wait_for_chunks(place, first)
        scheduler.kill()
        _, told = first.communicate(timeout=60)
    assert first.returncode == 1
    assert f"{place} is not complete; what is finished stays" in told
    assert not (place / "zarr.json").exists()
    with cluster_of_processes(files[1]):
        address = json.loads(files[1].read_text())["address"]
        for goal in (place, tmp_path / "whole.zarr"):
            again = client(goal, address, 0)
            assert again.wait(60) == 0, again.stderr.read()
    assert digest(place) == digest(tmp_path / "whole.zarr")
    assert verify(str(place), progress=False) > 64
