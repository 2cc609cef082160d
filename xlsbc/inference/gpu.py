"""One GPU kept busy by many threads, with windows in batches of one fixed size.

Threads put their windows in line. Whoever has the turn launches the next batch, whosever windows
those are, without waiting for the one before: the copies of one run beside the computing of the
other. When the GPU is what everyone waits for, batches are full; when it is not, it has time for
their padding.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, fields
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xlsbc.emulator.sample import Sample
from xlsbc.errors import EmulatorError
from xlsbc.models.network import Inputs

__all__ = ["BATCH", "Lane", "launcher"]

BATCH = 4
"""Windows: the results of convolutions depend, in their last bits, on how many run together."""

REPEATABLE = partial(torch.backends.cudnn.flags, enabled=True, deterministic=True, allow_tf32=False)
"""Convolutions that give the same bits again, and float32 ones that are float32."""

IN_FLIGHT = 2
"""Batches: one computes, the copies of the other are under way."""

Landing = Callable[[int], list[dict[str, Any]]]
"""Waits for a batch and returns the fields of its first so many windows."""

Launch = Callable[[list[Sample], tuple[str, ...]], Landing]
"""Puts a batch on its way and returns at once."""


@dataclass(eq=False)
class Request:
    """A window in line."""

    sample: Sample
    names: tuple[str, ...]
    flight: Flight | None = None
    result: Future[dict[str, Any]] = field(default_factory=Future)

    @property
    def kind(self) -> Any:
        """What the windows of a batch must have in common."""
        arrays = [getattr(self.sample, f.name) for f in fields(Inputs)]
        return self.names, [None if a is None else (a.shape, on_gpu(a)) for a in arrays]


@dataclass(eq=False)
class Flight:
    """A batch that was launched; anyone may land it, and everyone who waits for a window does."""

    requests: list[Request]
    landing: Landing | None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def land(self) -> None:
        """Wait for the batch, and give every request its result or the error."""
        with self.lock:
            if self.landing is None:
                return
            try:
                results = self.landing(len(self.requests))
            except Exception as error:
                for request in self.requests:
                    request.result.set_exception(error)
            else:
                for request, result in zip(self.requests, results, strict=True):
                    request.result.set_result(result)
            self.requests, self.landing = [], None  # or the results would wait for a collection


class Lane:
    """The line of windows before a GPU.

    Parameters
    ----------
    launch
        What runs a batch.

    Attributes
    ----------
    batch
        Windows run together; halved for good each time that the GPU's memory is exhausted.
    """

    def __init__(self, launch: Launch) -> None:
        self.batch = BATCH
        self._launch = launch
        self._waiting: deque[Request] = deque()
        self._flying: deque[Flight] = deque()
        self._turn = threading.Lock()

    def run(self, samples: Sequence[Sample], names: Sequence[str]) -> list[dict[str, Any]]:
        """Fields of every sample by name.

        Raises
        ------
        EmulatorError
            If the GPU's memory does not hold one window.
        """
        mine = [Request(sample, tuple(names)) for sample in samples]
        self._waiting.extend(mine)
        for request in mine:
            while request.flight is None:  # another whose turn it was may have launched it
                self._launch_next()
        for request in mine:
            assert request.flight is not None
            request.flight.land()
        return [request.result.result() for request in mine]

    def _launch_next(self) -> None:
        """Launch the batch at the head of the line, if there is one."""
        with self._turn:
            while len(self._flying) >= IN_FLIGHT:
                self._flying[0].land()
                self._flying.popleft()
            batch = self._next()
            if not batch:
                return
            try:
                landing = self._lifted(batch)
            except BaseException:
                self._waiting.extendleft(reversed(batch))  # interrupted: others may wait for them
                raise
            flight = Flight(batch, landing)
            self._flying.append(flight)
            for request in batch:
                request.flight = flight

    def _next(self) -> list[Request]:
        batch: list[Request] = []
        while self._waiting and len(batch) < self.batch:
            if batch and self._waiting[0].kind != batch[0].kind:
                break
            batch.append(self._waiting.popleft())
        return batch

    def _lifted(self, batch: list[Request]) -> Landing:
        """Launch a batch, or as many of its windows as the memory holds; the rest goes back."""
        alone = False
        while True:
            padding = [batch[-1].sample] * (self.batch - len(batch))
            try:
                return self._launch([r.sample for r in batch] + padding, batch[0].names)
            except Exception as error:
                if not out_of_memory(error):
                    return failing(error)
                problem = str(error)  # frames of the error itself hold what was allocated
            if not alone:
                for flight in self._flying:
                    flight.land()
                alone = True
            elif self.batch == 1:
                return failing(
                    EmulatorError(
                        "the GPU's memory does not hold one window of "
                        f"{batch[0].sample.static.shape[-2:]} pixels ({problem}); free it of "
                        "other work, use bfloat16, or an emulator of smaller tiles"
                    )
                )
            else:
                self.batch //= 2
                self._waiting.extendleft(reversed(batch[self.batch :]))
                del batch[self.batch :]
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


def failing(error: BaseException) -> Landing:
    """The landing of a batch that could not be launched."""

    def land(count: int) -> list[dict[str, Any]]:
        raise error

    return land


def out_of_memory(error: BaseException) -> bool:
    """Whether the GPU's memory was exhausted.

    A pool of RMM has no error of its own in torch, only a text (pytorch/pytorch#133280).
    """
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return True
    return type(error) is RuntimeError and "std::bad_alloc" in str(error)


def launcher(network: Callable[..., dict[str, Tensor]], halo: int) -> Launch:
    """What runs batches of a network on the current GPU, less their halo.

    Results of windows that lie on the GPU stay there, as CuPy arrays.
    """
    inward, outward = torch.cuda.Stream(), torch.cuda.Stream()

    def launch(samples: list[Sample], names: tuple[str, ...]) -> Landing:
        middle = torch.cuda.current_stream()
        with torch.no_grad():
            with torch.cuda.stream(inward):
                inputs = placed(samples)
            middle.wait_stream(inward)
            with REPEATABLE():
                outputs = network(inputs, names, rim=halo)
            stay = on_gpu(samples[0].static)
            results = outputs
            if not stay:
                outward.wait_stream(middle)
                with torch.cuda.stream(outward):
                    results = {name: host(value) for name, value in outputs.items()}
            done = (middle if stay else outward).record_event()

        def land(count: int, held: Any = (inputs, outputs)) -> list[dict[str, Any]]:
            # Tensors must live until the streams that they do not belong to are done with them.
            done.synchronize()
            take = as_cupy if stay else as_numpy
            return [{k: take(v[i]) for k, v in results.items()} for i in range(count)]

        return land

    return launch


def placed(samples: list[Sample]) -> Inputs:
    """Samples as one batch on the GPU, copied on the current stream without waiting."""
    arrays = {f.name: [getattr(sample, f.name) for sample in samples] for f in fields(Inputs)}
    return Inputs(**{k: batch_of(v) for k, v in arrays.items() if v[0] is not None})


def batch_of(arrays: list[Any]) -> Tensor:
    """Equal arrays as one tensor on the GPU."""
    if on_gpu(arrays[0]):
        return torch.stack([torch.from_dlpack(array) for array in arrays])
    staging = torch.empty(len(arrays), *arrays[0].shape, dtype=torch.float32, pin_memory=True)
    np.stack(arrays, out=staging.numpy())
    return staging.to("cuda", non_blocking=True)


def host(value: Tensor) -> Tensor:
    """A tensor on its way into pinned memory."""
    return torch.empty(value.shape, dtype=value.dtype, pin_memory=True).copy_(
        value, non_blocking=True
    )


def as_numpy(value: Tensor) -> np.ndarray:
    """A copy: pinned memory is scarce, and results may be kept for long."""
    return value.numpy().copy()


def as_cupy(value: Tensor) -> Any:
    """The same memory as a CuPy array."""
    return import_module("cupy").from_dlpack(value)


def on_gpu(array: Any) -> bool:
    """Whether an array lies on a GPU."""
    return hasattr(array, "__cuda_array_interface__")
