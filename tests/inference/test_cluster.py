from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import dask
import pytest
import torch
from distributed import Client, LocalCluster

import xlsbc
from xlsbc.inference import cluster as module
from xlsbc.inference.cluster import WorkerSetup, cluster

QUIET = {"dashboard_address": ":0"}  # 8787 may be taken


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


def threads_and_product() -> tuple[int, int, float]:
    """A torch task: its process, its torch threads, and a number."""
    import torch

    return os.getpid(), torch.get_num_threads(), float((torch.ones(64, 64) @ torch.ones(64)).sum())


def profiled() -> str:
    return dask.config.get("distributed.worker.profile.interval")


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.usefixtures("no_gpu")
def test_torch_has_one_thread_in_every_worker_and_all_is_closed_in_the_end():
    with xlsbc.cluster(n_workers=2, threads_per_worker=2, **QUIET) as client:
        workers = client.cluster
        tasks = [
            client.submit(threads_and_product, workers=[address], pure=False)
            for address in client.scheduler_info()["workers"]
            for _ in range(4)
        ]
        found = client.gather(tasks)
        assert {threads for _, threads, _ in found} == {1}
        assert {product for *_, product in found} == {64.0 * 64.0}
        assert set(client.run(profiled).values()) == {"200ms"}
        assert profiled() == "10ms"
        pids = {pid for pid, *_ in found}
        assert len(pids) == 2
        assert os.getpid() not in pids
        assert all(alive(pid) for pid in pids)
    assert client.status == "closed"
    assert workers.status.name == "closed"
    assert not any(alive(pid) for pid in pids)


@pytest.fixture
def tuned(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What was set in this process by the set-up of workers."""
    calls: list[Any] = []
    monkeypatch.setattr(module, "tune_allocator", lambda: calls.append("allocator"))
    monkeypatch.setattr(torch, "set_num_threads", calls.append)
    return calls


@pytest.mark.usefixtures("no_gpu")
def test_workers_in_this_process_leave_it_as_it_is(tuned):
    with cluster(processes=False, n_workers=1, threads_per_worker=1, **QUIET) as client:
        assert client.submit(threads_and_product).result()[0] == os.getpid()
    assert tuned == []


def test_a_worker_in_another_process_is_set_up(tuned, monkeypatch):
    setup = WorkerSetup()
    monkeypatch.setattr(module, "PROCESS", "of a worker")
    setup.setup(None)
    assert tuned == ["allocator", 1]


@pytest.mark.usefixtures("tuned")
def test_the_set_up_registers_with_any_client_and_any_number_of_times():
    options = {"processes": False, "n_workers": 1, "threads_per_worker": 1, **QUIET}
    with LocalCluster(**options) as workers, Client(workers) as client:
        for _ in range(2):
            client.register_plugin(WorkerSetup())
        names = client.run(lambda dask_worker: [n for n in dask_worker.plugins if n == "xlsbc"])
    assert list(names.values()) == [["xlsbc"]]


class Recorded(LocalCluster):
    """Stands for any cluster; notes its options and runs one thread of this process."""

    options: dict[str, Any]

    def __init__(self, **options: Any) -> None:
        type(self).options = options
        super().__init__(processes=False, n_workers=1, threads_per_worker=1, **QUIET)


def machine(monkeypatch: pytest.MonkeyPatch, *, cores: int, gpus: int, installed: set[str]) -> None:
    """Another machine, whose clusters are `Recorded`."""
    dask_cuda = ModuleType("dask_cuda")
    dask_cuda.LocalCUDACluster = type("LocalCUDACluster", (Recorded,), {})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "dask_cuda", dask_cuda)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(module, "LocalCluster", type("Local", (Recorded,), {}))
    monkeypatch.setattr(module, "CPU_COUNT", cores)
    monkeypatch.setattr(module, "find_spec", lambda name: name if name in installed else None)


@pytest.mark.parametrize(
    ("cores", "options", "workers", "threads"),
    [
        (1, {}, 1, 1),
        (2, {}, 1, 2),
        (4, {}, 1, 4),
        (8, {}, 2, 4),
        (12, {}, 3, 4),
        (6, {}, 2, 3),
        (16, {"threads_per_worker": 8}, 2, 8),
        (16, {"n_workers": 8}, 8, 2),
        (2, {"n_workers": 4}, 4, 1),
        (2, {"n_workers": 3, "threads_per_worker": 5}, 3, 5),
    ],
)
def test_processes_and_their_threads_fill_the_cores(monkeypatch, cores, options, workers, threads):
    machine(monkeypatch, cores=cores, gpus=0, installed=set())
    with cluster(**options):
        found = module.LocalCluster.options
    assert found == {"n_workers": workers, "threads_per_worker": threads}


def test_gpus_get_a_worker_each_and_torch_and_cupy_one_memory_pool(monkeypatch):
    everything = {"dask_cuda", "rmm", "torch", "cupy"}
    machine(monkeypatch, cores=64, gpus=2, installed=everything)
    with cluster(device_memory_limit=0.7, rmm_pool_size="10GB"):
        found = sys.modules["dask_cuda"].LocalCUDACluster.options
    assert found == {
        "threads_per_worker": 12,
        "rmm_pool_size": "10GB",
        "rmm_allocator_external_lib_list": ["torch", "cupy"],
        "device_memory_limit": 0.7,
    }


def test_without_rmm_gpus_are_used_all_the_same(monkeypatch):
    machine(monkeypatch, cores=8, gpus=1, installed={"dask_cuda"})
    with cluster():
        assert sys.modules["dask_cuda"].LocalCUDACluster.options == {"threads_per_worker": 8}


def test_without_dask_cuda_one_process_uses_one_gpu_and_says_so(monkeypatch):
    machine(monkeypatch, cores=8, gpus=2, installed=set())
    with pytest.warns(UserWarning, match=r"one of 2 GPUs.*install xlsbc\[gpu\]"), cluster():
        found = module.LocalCluster.options
    assert found == {"n_workers": 1, "threads_per_worker": 8}
