"""A prediction of numpy alone, stores that fail on purpose, and processes that are killed."""

from __future__ import annotations

import hashlib
import itertools
import os
import pathlib
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from dask._task_spec import Task, TaskRef
from dask.highlevelgraph import HighLevelGraph
from zarr.core.buffer import Buffer
from zarr.storage import LocalStore, WrapperStore, _local

from xlsbc.cube.legends import LC
from xlsbc.cube.store import storage
from xlsbc.cube.store.marks import blank
from xlsbc.cube.store.writer import write

SIDE = 6


def run(log: str | None, year: int, row: int, column: int) -> dict[str, np.ndarray]:
    """Fields of a tile and year; leaves a line in a file, so that computes can be counted."""
    if log is not None:
        with open(log, "a", encoding="ascii") as file:
            file.write(f"{year} {row} {column}\n")
    random = np.random.default_rng((year, row, column))
    lc = random.exponential(size=(1, 14, SIDE, SIDE))
    fields = {
        "lai": random.uniform(0, 6, (3, SIDE, SIDE)).astype("float32"),
        "lc_fraction": (lc / lc.sum(1, keepdims=True)).astype("float32"),
    }
    for values in fields.values():
        values[..., 0, 0] = np.nan
    return fields


def pick(fields: dict[str, np.ndarray], name: str) -> np.ndarray:
    return fields[name]


SHAPES = {"lai": (3,), "lc_fraction": (1, 14)}
DIMS = {"lai": ("time",), "lc_fraction": ("year", "lc_class")}


def toy(
    rows: int = 4,
    columns: int = 3,
    years: int = 2,
    log: Path | None = None,
    seed: int = 0,
    run: Callable[..., dict[str, np.ndarray]] = run,
) -> xr.Dataset:
    """A lazy prediction in the form of `predict`; of its 24 regions every fifth is all sea."""
    tiles = list(np.ndindex(years, rows, columns))
    sea = set(tiles[seed::5])
    runs: dict[Any, Any] = {}
    picks: dict[str, dict[Any, Any]] = {name: {} for name in SHAPES}
    for year, row, column in tiles:
        name = ("run", seed, year, row, column)
        if (year, row, column) not in sea:
            runs[name] = Task(name, run, log and str(log), year, row, column)
        for field, shape in SHAPES.items():
            middle = (0,) * (len(shape) - 1)
            key = (f"{field}-{seed}", year, *middle, row, column)
            whole = (*shape, SIDE, SIDE)
            picks[field][key] = (
                Task(key, blank, whole)
                if (year, row, column) in sea
                else Task(key, pick, TaskRef(name), field)
            )
    fields = {}
    for field, shape in SHAPES.items():
        name = f"{field}-{seed}"
        layers = {f"runs-{seed}": runs, name: picks[field]}
        graph = HighLevelGraph(layers, {f"runs-{seed}": set(), name: {f"runs-{seed}"}})
        first, rest = shape[0], shape[1:]
        chunks = ((first,) * years, *((n,) for n in rest), (SIDE,) * rows, (SIDE,) * columns)
        data = da.Array(graph, name, chunks, dtype="float32")
        fields[field] = ((*DIMS[field], "latitude", "longitude"), data)
    return xr.Dataset(
        fields,
        {
            "time": pd.date_range("2001-01-01", periods=3 * years, freq="MS"),
            "year": 2001 + np.arange(years),
            "latitude": 47 - np.arange(SIDE * rows) / 120,
            "longitude": 7 + np.arange(SIDE * columns) / 120,
            "lc_class": LC.coordinate("lc_class"),
        },
        {"title": "toy", "xlsbc_emulator": f"{seed:064d}", "xlsbc_inputs": "a b"},
    )


class FaultyStore(WrapperStore[Any]):
    """A store whose puts call `fault` first with their number, key and content.

    A fault that returns True has put the object itself.
    """

    def __init__(self, store: Any, fault: Callable[..., bool | None]) -> None:
        super().__init__(store)
        self.fault = fault
        self.numbers = itertools.count(1)

    def _with_store(self, store: Any) -> FaultyStore:
        return FaultyStore(store, self.fault)

    async def set(self, key: str, value: Buffer) -> None:
        if not self.fault(next(self.numbers), key, value):
            await super().set(key, value)

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        if not self.fault(next(self.numbers), key, value):
            await super().set_if_not_exists(key, value)


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[FaultyStore]]:
    """A factory: from now on every store of this process has such a fault. Nothing waits."""

    def make(fault: Callable[..., bool | None]) -> list[FaultyStore]:
        stores: list[FaultyStore] = []

        def opened(url: str, options: Any = None) -> FaultyStore:
            store = FaultyStore(LocalStore(str(storage.local_path(url))), fault)
            stores.append(store)
            return store

        monkeypatch.setattr(storage, "opened", opened)
        monkeypatch.setattr(storage, "FIRST_WAIT", 0)
        return stores

    return make


def started(act: Callable[[], Any], told: Path | None = None) -> int:
    """A forked process that does something and ends as the interpreter would.

    What it says of the end goes into a file.
    """
    child = os.fork()
    if child:
        return child
    status = 1
    with open(told or os.devnull, "w", encoding="utf-8") as sys.stderr:
        try:
            act()
            status = 0
        except SystemExit as error:
            status = int(error.code or 0)
        except BaseException as error:
            traceback.print_exc()
            status = 130 if isinstance(error, KeyboardInterrupt) else 1
        finally:
            sys.stderr.flush()
            os._exit(status)


def ended(child: int) -> int:
    """Status of a forked process; negative: the signal that ended it."""
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def in_child(act: Callable[[], Any], told: Path | None = None) -> int:
    """Status of a forked process that did something."""
    return ended(started(act, told))


def save(ds: xr.Dataset, url: Any, **options: Any) -> str:
    """Write in this thread, one region after the other."""
    with dask.config.set(scheduler="synchronous"):
        return write(ds, str(url), progress=False, **options)


def digest(place: Path) -> str:
    """Digest of names and contents of all files; of folders too, so that nothing is left over."""
    whole = hashlib.sha256()
    for path in sorted(place.rglob("*")):
        whole.update(str(path.relative_to(place)).encode())
        if path.is_file():
            whole.update(path.read_bytes())
    return whole.hexdigest()


def kill_at(place: str, k: int) -> None:
    """Patch this process, a child: SIGKILL at its k-th put, before, within or after it."""
    numbers = itertools.count(1)

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*args: Any) -> Any:
            mine = next(numbers) == k
            if mine and place == "between temporary file and rename":
                os.kill(os.getpid(), signal.SIGKILL)
            result = function(*args)
            if mine:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return counting

    def fault(number: int, key: str, value: Buffer) -> None:
        if next(numbers) == k:
            os.kill(os.getpid(), signal.SIGKILL)

    if place == "before":
        storage.opened = lambda url, options=None: FaultyStore(
            LocalStore(str(storage.local_path(url))), fault
        )
    else:
        # zarr's own ways of giving a temporary file its name
        pathlib.Path.replace = counted(pathlib.Path.replace)  # type: ignore[method-assign]
        _local._safe_move = counted(_local._safe_move)
