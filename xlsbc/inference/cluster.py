"""A Dask cluster that suits this machine and this work, and how its workers are set up."""

from __future__ import annotations

import uuid
import warnings
from importlib.util import find_spec
from typing import Any

import dask
import torch
from dask.system import CPU_COUNT
from distributed import Client, LocalCluster, Worker, WorkerPlugin

from xlsbc.inference.allocator import tune_allocator
from xlsbc.inference.gpu import BATCH, IN_FLIGHT

__all__ = ["WorkerSetup", "cluster"]

THREADS = 4
"""Most threads of a process. Two did 1.9 times the work of one, as two processes do, with one copy
of torch and of what was read; but what surrounds the network holds Python's lock."""

GPU_THREADS = (IN_FLIGHT + 1) * BATCH
"""Threads of a GPU's process: windows for the batches in flight and for one in the making."""

POOL = 0.5
"""Share of a GPU's memory that the pool shared by torch and CuPy starts with; it grows."""

PROFILE = "200ms"
"""Between looks of a worker's profiler at what its threads do. At Dask's own 10 ms, each under
Python's lock, tiles on two processes of one thread took 4 % longer."""

PROCESS = uuid.uuid4().hex
"""Tells this process from all others."""


class WorkerSetup(WorkerPlugin):
    """What a worker process of any cluster needs: ``client.register_plugin(WorkerSetup())``.

    Its allocator keeps large blocks (`xlsbc.inference.allocator`), and torch begins with one
    thread, since Dask's threads fill the cores. A worker that lives in the client's own process
    is left as it is.
    """

    name = "xlsbc"
    idempotent = True

    def __init__(self) -> None:
        self.process = PROCESS

    def setup(self, worker: Worker) -> None:
        """Set up the process of a worker."""
        if self.process != PROCESS:
            tune_allocator()
            torch.set_num_threads(1)


class ClusterClient(Client):
    """A client that closes its cluster with itself."""

    def close(self, *args: Any, **kwargs: Any) -> Any:
        """Close the client and then the cluster."""
        closed = super().close(*args, **kwargs)
        if self.cluster is not None:
            self.cluster.close()
        return closed


def cluster(**options: Any) -> Client:
    """Client of a new Dask cluster on this machine: one worker a GPU, or its cores.

    Use it in a ``with`` statement, or close it; the cluster is closed with it. On a cluster of
    another kind (SLURM, Kubernetes, the cloud) use that cluster's own client instead, and
    register `WorkerSetup` with it.

    Parameters
    ----------
    **options
        Of ``dask_cuda.LocalCUDACluster`` if there are GPUs and dask-cuda, else of
        ``distributed.LocalCluster``; they replace what is chosen here.

    Returns
    -------
    distributed.Client
        Which is the scheduler of Dask from now on.
    """
    gpus = torch.cuda.device_count()
    kind, chosen = LocalCluster, cores(options)
    if gpus and find_spec("dask_cuda"):
        from dask_cuda import LocalCUDACluster

        kind, chosen = LocalCUDACluster, {"threads_per_worker": gpu_threads(gpus), **memory_pool()}
    elif gpus:
        if gpus > 1:
            warnings.warn(
                f"one of {gpus} GPUs will be used; install xlsbc[gpu] for one worker on each",
                stacklevel=2,
            )
        chosen = {"n_workers": 1, "threads_per_worker": gpu_threads(1)}
    with dask.config.set({"distributed.worker.profile.interval": PROFILE}):
        client = ClusterClient(kind(**{**chosen, **options}))
    client.register_plugin(WorkerSetup())
    return client


def cores(options: dict[str, Any]) -> dict[str, int]:
    """Processes and their threads, which together are the cores of this machine."""
    processes = options.get("n_workers") or -(-CPU_COUNT // THREADS)
    threads = options.get("threads_per_worker") or max(1, CPU_COUNT // processes)
    return {"n_workers": max(1, CPU_COUNT // threads), "threads_per_worker": threads}


def gpu_threads(gpus: int) -> int:
    """Threads of a GPU's process."""
    return max(BATCH, min(GPU_THREADS, CPU_COUNT // gpus))


def memory_pool() -> dict[str, Any]:
    """Options of one memory pool for torch and CuPy, if RMM, which makes it, is installed."""
    if not find_spec("rmm"):
        return {}
    users = [name for name in ("torch", "cupy") if find_spec(name)]
    return {"rmm_pool_size": POOL, "rmm_allocator_external_lib_list": users}
