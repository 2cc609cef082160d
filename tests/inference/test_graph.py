"""The graph of a prediction: small, made without reading, the same anywhere, easily cut."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import dask
import numpy as np
import pytest
import xarray as xr
from dask.core import flatten
from zarr.storage import LocalStore, WrapperStore

from xlsbc.cube.store.marks import blank
from xlsbc.emulator import Emulator
from xlsbc.inference.engine import Engine
from xlsbc.inference.predict import predict
from xlsbc.inference.run import gather, run

TILES = 3 * 4
"""Of the 60 x 70 pixels of the land: rows end at 14, 38 and 60, columns at 14, 38, 62 and 70."""

Graph = dict[Any, Any]


@pytest.fixture(scope="module")
def place(cube: xr.Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a store that holds the land, and of an emulator."""
    folder = tmp_path_factory.mktemp("graph")
    chunks = {"latitude": 20, "longitude": 35, "forcing_time": 3}
    store = cube.chunk(chunks)
    store.to_zarr(folder / "cube.zarr", consolidated=False, zarr_format=2)
    return folder


@pytest.fixture(scope="module")
def saved(place: Path, emulator: Emulator) -> Emulator:
    """The emulator, which knows where it lies."""
    return Emulator.open(emulator.save(str(place / "emulator")))


def opened(store: Any, chunks: Any = None) -> xr.Dataset:
    return xr.open_zarr(store, chunks=chunks, consolidated=False)


def tasks(found: xr.DataArray) -> Graph:
    """Tasks that a variable of a prediction needs, by key."""
    array = found.data
    (low,) = [array.dask.cull(set(flatten(array.__dask_keys__())))]
    return dict(low)


def calls(graph: Graph, function: Any) -> list[Any]:
    return [task for task in graph.values() if getattr(task, "func", None) is function]


class Watched(WrapperStore[Any]):
    """A store that lists what was read of it."""

    def __init__(self, store: Any, reads: list[str]) -> None:
        super().__init__(store)
        self.reads = reads

    def _with_store(self, store: Any) -> Any:
        return type(self)(store, self.reads)

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        self.reads.append(key)
        return await super().get(key, prototype, byte_range)


def of_coordinates(key: str) -> bool:
    """Whether a coordinate, or what describes an array, is read."""
    array, _, name = key.rpartition("/")
    return (
        name.startswith(".z")
        or name == "zarr.json"
        or "itude" in array
        or "time" in array
        or array in ("year", "time", "lu_class", "lc_class")
    )


@pytest.mark.parametrize("chunks", [None, {}])
def test_a_prediction_of_a_store_is_built_without_reading_a_value(
    place, saved, cube, whole, chunks, no_compute
):
    reads: list[str] = []
    found = predict(
        opened(Watched(LocalStore(place / "cube.zarr"), reads), chunks),
        saved,
        period=[2001],
        precision="float32",
    )
    assert found.sizes == whole.sizes
    assert [key for key in reads if not of_coordinates(key)] == []
    with dask.config.set(scheduler="synchronous"):
        xr.testing.assert_equal(found.compute(), whole)
    assert any(key.startswith("t2m/") for key in reads)


def test_one_of_several_variables_takes_two_tasks_a_tile_and_one_alone_takes_one(place, saved):
    cube = opened(place / "cube.zarr")
    graph = tasks(predict(cube, saved, period=[2001])["lai"])
    assert len(calls(graph, run)) == TILES
    assert len(graph) == 2 * TILES + 1  # and what all share
    alone = tasks(predict(cube, saved, targets="lai", period=[2001])["lai"])
    assert len(calls(alone, run)) == TILES
    assert len(alone) == TILES + 1


def test_all_variables_share_the_runs_of_their_tiles(place, saved):
    found = predict(opened(place / "cube.zarr"), saved)
    graph = dict(found.__dask_graph__())
    assert len(calls(graph, run)) == 2 * TILES
    assert len(graph) == 2 * TILES * (1 + len(found.data_vars)) + 1


def test_with_larger_blocks_a_task_runs_several_tiles(place, saved):
    graph = tasks(predict(opened(place / "cube.zarr"), saved, period=[2001], block=2)["lai"])
    # rows of tiles 220, 221 and 222 of the lattice; columns 940, 941 and 942, 943
    assert len(calls(graph, run)) == 2 * 2


def test_a_box_asks_for_its_tiles_and_for_computed_coarse_cells_once(place, saved):
    cube = opened(place / "cube.zarr")
    found = predict(cube.assign(t2m=cube["t2m"].chunk() + 1), saved)["lai"]
    box = found.sel(time="2001-03").isel(latitude=slice(10, 20), longitude=slice(15, 30))
    graph = tasks(box)
    assert len(calls(graph, run)) == 2
    assert len(calls(graph, gather)) == 1


@pytest.fixture
def coast(place: Path, cube: xr.Dataset, tmp_path: Path) -> Path:
    """A store of land whose eastern half is sea, of which no chunk was written."""
    sea = cube.assign(elevation=cube["elevation"].where(cube["longitude"] < cube["longitude"][35]))
    chunks = {"latitude": 20, "longitude": 35}
    # zarr does not write chunks that are missing values and nothing else
    sea.chunk(chunks).to_zarr(tmp_path / "coast.zarr", consolidated=False, zarr_format=2)
    return tmp_path / "coast.zarr"


@pytest.mark.parametrize("chunks", [None, {}])
def test_tiles_of_which_the_store_holds_nothing_run_nothing(
    coast, saved, whole, chunks, monkeypatch
):
    made: list[int] = []
    original = Engine.run

    def counted(self: Engine, samples: Any, names: Any) -> Any:
        made.append(len(samples))
        return original(self, samples, names)

    monkeypatch.setattr(Engine, "run", counted)
    found = predict(opened(coast, chunks), saved, period=[2001], precision="float32")
    graph = tasks(found["lai"])
    assert len(calls(graph, run)) == 3 * 2
    assert len(calls(graph, blank)) == 3 * 2
    computed = found.compute(scheduler="synchronous")
    assert len(made) == 3 * 2
    assert bool(computed["lai"][..., 35:].isnull().all())
    west = {"longitude": slice(0, 35 - saved.halo)}
    xr.testing.assert_equal(computed.isel(west), whole.isel(west))


def test_a_sea_without_a_chunk_is_missing_in_every_variable(place, saved, cube, tmp_path):
    sea = cube.assign(elevation=cube["elevation"] * np.nan)
    sea.to_zarr(tmp_path / "sea.zarr", consolidated=False, zarr_format=2)
    found = predict(opened(tmp_path / "sea.zarr"), saved)
    graph = dict(found.__dask_graph__())
    assert calls(graph, run) == calls(graph, gather) == []
    computed = found.compute(scheduler="synchronous")
    assert all(bool(field.isnull().all()) for field in computed.values())
    assert {field.dtype for field in computed.values()} == {np.dtype("float32")}


# --- small ---


def test_a_pickled_graph_of_a_hundred_tiles_holds_neither_values_nor_weights(
    saved, wild, land, tmp_path
):
    large = land(rows=230, columns=230)
    large.to_zarr(tmp_path / "large.zarr", consolidated=False, zarr_format=2)
    emulator = wild(large)
    emulator = Emulator.open(emulator.save(str(tmp_path / "emulator")))
    found = predict(opened(tmp_path / "large.zarr"), emulator, period=[2001])
    graph = tasks(found["lai"])
    assert len(calls(graph, run)) >= 100
    assert len(pickle.dumps(graph)) < 100_000
    sent = cloudpickle.dumps(graph)
    for parameter in emulator.network.parameters():
        if parameter.numel() > 4:
            assert parameter.detach().numpy().tobytes() not in sent
    for field in large.data_vars.values():
        assert field.to_numpy().ravel()[:16].tobytes() not in sent


def test_of_arrays_in_memory_a_task_carries_its_window(cube, saved):
    found = predict(cube, saved, period=[2001])
    side, coarse = 24 + 2 * saved.halo, 2 * 24 + 13  # layers of weather, and totals
    for task in calls(tasks(found["lai"]), run):
        # two inputs on the target grid, and at most 4 by 4 cells
        assert len(pickle.dumps(task)) < 4 * side**2 * 2 + 4 * 16 * coarse + 5000


# --- the same anywhere ---

PRINT = """
import hashlib, sys
import xarray as xr
from xlsbc.inference.predict import predict
for chunks in (None, {}, {"latitude": 40}):
    cube = xr.open_zarr(sys.argv[1], chunks=chunks, consolidated=False)
    found = predict(cube, sys.argv[2], precision="float32", block=2)
    keys = sorted(map(str, found.__dask_graph__().keys()))
    print(hashlib.sha256(repr(keys).encode()).hexdigest(), found.attrs["xlsbc_inputs"])
print("cupy" in sys.modules)
"""


def test_another_process_builds_the_same_keys(place, saved):
    def printed() -> str:
        arguments = [sys.executable, "-W", "ignore", "-c", PRINT, place / "cube.zarr", saved.url]
        return subprocess.run(arguments, check=True, capture_output=True, text=True).stdout

    first = printed()
    assert first == printed()
    assert first.endswith("False\n")  # nothing of a GPU


def test_a_changed_chunk_changes_the_keys(place, saved, cube, tmp_path):
    import zarr

    cube.to_zarr(tmp_path / "cube.zarr", consolidated=False, zarr_format=2)

    def name() -> str:
        return predict(opened(tmp_path / "cube.zarr", {}), saved)["lai"].data.name

    before = name()
    assert name() == before
    zarr.open_group(tmp_path / "cube.zarr")["t2m"][0, 0, 0] = 250
    assert name() != before


@pytest.mark.proves("determinism")
@pytest.mark.parametrize(
    ("scheduler", "block"),
    [
        ("synchronous", 2),
        ("synchronous", 3),
        ("threads", 1),
        ("threads", 2),
        pytest.param("processes", 2, marks=pytest.mark.slow),
        pytest.param("distributed", 1, marks=pytest.mark.slow),
        pytest.param("distributed", 3, marks=pytest.mark.slow),
    ],
)
def test_schedulers_and_blocks_do_not_change_a_bit(place, saved, whole, scheduler, block, request):
    found = predict(
        opened(place / "cube.zarr"), saved, period=[2001], precision="float32", block=block
    )
    if scheduler == "distributed":
        request.getfixturevalue("client")
        xr.testing.assert_equal(found.compute(), whole)
    else:
        xr.testing.assert_equal(found.compute(scheduler=scheduler, num_workers=2), whole)


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """Two processes."""
    from distributed import Client, LocalCluster

    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}
    with LocalCluster(**options) as cluster, Client(cluster) as made:
        yield made
