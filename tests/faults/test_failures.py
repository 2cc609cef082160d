"""Disks and stores that refuse, interrupts, and tiles that cannot be computed (R5, R6, R9)."""

from __future__ import annotations

import errno
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import dask
import numpy as np
import pytest
import xarray as xr

from xlsbc.cube.store import storage
from xlsbc.cube.store.writer import write
from xlsbc.errors import CubeError, StoreError

from .conftest import FaultyStore, digest, in_child, run, save, toy

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")


@pytest.fixture
def whole(tmp_path):
    return digest(Path(save(toy(), tmp_path / "whole.zarr")))


def raising(code, at):
    """A fault: an operating system's error at some puts of chunks."""

    def fault(number, key, value):
        if number in at:
            raise OSError(code, os.strerror(code), key)

    return fault


@pytest.mark.proves("full-disk")
@pytest.mark.parametrize("k", [1, 5, 20, 50])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES])
def test_a_full_or_forbidden_disk_is_one_error_at_once_and_resumable(
    tmp_path, whole, faulty, monkeypatch, code, k
):
    place, log = tmp_path / "a.zarr", tmp_path / "log"
    faulty(raising(code, range(k, 1000)))
    with pytest.raises(StoreError, match=os.strerror(code)) as caught:
        save(toy(), place)
    assert str(place) in str(caught.value)
    assert "write the same again" in "".join(caught.value.__notes__)
    monkeypatch.undo()
    save(toy(log=log), place)
    assert digest(place) == whole


@pytest.mark.proves("full-disk")
def test_the_error_names_variable_and_region(tmp_path, faulty):
    faulty(lambda n, key, value: fail(errno.ENOSPC) if key == "lai/c/1/2/0" else None)
    with pytest.raises(StoreError) as caught:
        save(toy(), tmp_path / "a.zarr")
    (problem,) = caught.value.problems
    assert problem.startswith("lai at time 3 to 6, latitude 12 to 18, longitude 0 to 6: OSError")
    assert "No space left on device" in problem


def fail(code):
    raise OSError(code, os.strerror(code))


@pytest.mark.proves("store-faults-write")
def test_a_passing_fault_is_tried_again_and_told_once(tmp_path, whole, faulty, caplog):
    place = tmp_path / "a.zarr"
    faulty(raising(errno.EIO, {3, 4, 30, 31, 32, 50}))
    save(toy(), place)
    assert digest(place) == whole
    told = [record for record in caplog.records if "tried again" in record.message]
    assert len(told) == len({record.args[0] for record in told}) > 2  # once an object


@pytest.mark.proves("store-faults-write")
def test_a_lasting_fault_ends_after_four_attempts(tmp_path, faulty):
    keys = []

    def fault(number, key, value):
        if key.startswith("lai/c/"):
            keys.append(key)
            fail(errno.EIO)

    faulty(fault)
    with pytest.raises(StoreError, match="Input/output error"):
        save(toy(), tmp_path / "a.zarr")
    assert keys == keys[:1] * 4


@pytest.mark.proves("store-faults-write")
@pytest.mark.parametrize("lost", ["response", "request"])
def test_a_lost_response_or_request_of_any_put_does_not_change_the_store(
    tmp_path, whole, monkeypatch, lost
):
    # every put is stored and fails, or fails without, at its first attempt
    seen = set()

    class Losing(FaultyStore):
        async def set(self, key, value):
            first = key not in seen
            seen.add(key)
            if not first or lost == "response":
                await self._store.set(key, value)
            if first:
                raise ConnectionResetError("the connection was reset")

        async def set_if_not_exists(self, key, value):
            first = key not in seen
            seen.add(key)
            if not first or lost == "response":
                await self._store.set_if_not_exists(key, value)
            if first:
                raise ConnectionResetError("the connection was reset")

    opened = storage.opened
    monkeypatch.setattr(storage, "opened", lambda url, options=None: Losing(opened(url), None))
    monkeypatch.setattr(storage, "FIRST_WAIT", 0)
    place = tmp_path / "a.zarr"
    save(toy(), place)
    assert digest(place) == whole


@pytest.mark.proves("store-faults-write")
def test_a_store_that_never_answers_is_an_error_within_the_limit(tmp_path, monkeypatch):
    import asyncio

    class Silent(FaultyStore):
        async def set(self, key, value):
            await asyncio.Event().wait()

    opened = storage.opened
    monkeypatch.setattr(
        storage, "opened", lambda url, options=None: Silent(opened(url), lambda *_: None)
    )
    monkeypatch.setattr(storage, "TIME_LIMIT", 0.05)
    with pytest.raises(StoreError, match=r"no answer within 0\.05 s"):
        save(toy(), tmp_path / "a.zarr")


@pytest.mark.proves("interrupted")
@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_ends_with_its_status_says_how_to_go_on_and_loses_nothing(
    tmp_path, whole, number, status, scheduler
):
    place, log, told = tmp_path / "a.zarr", tmp_path / "log", tmp_path / "told"
    assert in_child(partial(interrupted, place, number, scheduler), told) == status
    assert "write the same again to go on" in told.read_text()
    done = len([path for path in (place / "lai" / "c").rglob("*") if path.is_file()])
    assert done >= 10
    save(toy(log=log), place)
    assert digest(place) == whole
    assert len(log.read_text().splitlines()) <= 19 - done + 1


def interrupted(place, number, scheduler):
    def interrupt(n, key, value):
        if n == 40:
            os.kill(os.getpid(), number)

    opened = storage.opened
    store = FaultyStore(opened(str(place)), interrupt)
    storage.opened = lambda url, options=None: store
    # a pool of its own: the threads of Dask's do not live on in a forked process
    with ThreadPoolExecutor(2) as pool, dask.config.set(scheduler=scheduler, pool=pool):
        write(toy(), str(place), progress=False)


@pytest.mark.proves("failed-tile")
def test_an_error_in_a_tile_is_that_error_and_keeps_the_finished_ones(tmp_path, whole):
    def broken(log, year, row, column):
        if (year, row) == (1, 2):
            raise FloatingPointError("NaN in tile 2 of 2002")
        return run(log, year, row, column)

    place, log = tmp_path / "a.zarr", tmp_path / "log"
    with pytest.raises(FloatingPointError, match="NaN in tile 2 of 2002") as caught:
        save(toy(run=broken), place)
    assert "write the same again to go on" in "".join(caught.value.__notes__)
    with pytest.raises(FileNotFoundError):
        xr.open_zarr(place, consolidated=False)
    save(toy(log=log), place)
    assert digest(place) == whole
    assert 0 < len(log.read_text().splitlines()) < 19


@pytest.mark.proves("failed-tile")
def test_a_value_that_does_not_fit_its_integer_is_refused_with_its_place(tmp_path):
    def broken(log, year, row, column):
        fields = run(log, year, row, column)
        if (year, row, column) == (1, 2, 1):
            fields["lai"][1, 3, 2] = 99
        return fields

    with pytest.raises(CubeError, match="99 at time 4, latitude 15, longitude 8"):
        save(toy(run=broken), tmp_path / "a.zarr")
    with dask.config.set(scheduler="synchronous"):
        exact = save(toy(run=broken), tmp_path / "b.zarr", packed=False)
    found = xr.open_zarr(exact)["lai"]
    assert found.dtype == np.float32
    assert float(found[4, 15, 8]) == 99
