"""How many threads torch takes for one window on a CPU: one.

Sums are split by thread, and so their last bits; and Dask's threads fill the cores already.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

__all__ = ["one_thread"]

LOCK = threading.Lock()


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """One torch thread for the calling thread, and nothing new for any other."""
    before = torch.get_num_threads()  # at its first question torch sets a thread up: not after us
    library = runtime()
    if library is None:
        set_here(1)
        try:
            yield
        finally:
            set_here(before)
        return
    # MKL goes by OpenMP's number until torch has given it one; 0 stands for none
    mkl = library.MKL_Set_Num_Threads_Local(1) if torch.backends.mkl.is_available() else None
    library.omp_set_num_threads(1)
    try:
        yield
    finally:
        library.omp_set_num_threads(before)
        if mkl is not None:
            library.MKL_Set_Num_Threads_Local(mkl)


@functools.cache
def runtime() -> ctypes.CDLL | None:
    """Torch's library with the OpenMP and the MKL that it uses; `None` where they do not show.

    Their settings belong to a thread. Torch's own is that and, besides, the number with which
    threads yet to come begin.
    """
    needed = ["omp_set_num_threads"]
    needed += ["MKL_Set_Num_Threads_Local"] if torch.backends.mkl.is_available() else []
    for path in (Path(torch.__file__).parent / "lib").glob("libtorch_cpu.*"):
        with contextlib.suppress(OSError):
            library = ctypes.CDLL(str(path))  # is loaded already; looks into what it depends on
            if all(hasattr(library, name) for name in needed):
                return library
    return None


def set_here(count: int) -> None:
    """Torch threads of the calling thread; what others begin with is put back at once."""
    with LOCK:
        default = elsewhere(torch.get_num_threads)  # only a new thread can tell
        torch.set_num_threads(count)
        elsewhere(lambda: torch.set_num_threads(default))


def elsewhere(call: Callable[[], Any]) -> Any:
    """Result of a call in a new thread."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(call()))
    thread.start()
    thread.join()
    return results[0]
