"""A rehearsal of a training: two batches and one step, and what that says of the whole."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from itertools import islice

import torch
import xarray as xr

from xlsbc.training.batches import Batch, Batches
from xlsbc.training.config import Training
from xlsbc.training.fit import installed
from xlsbc.training.prepare import Prepared, prepare

__all__ = ["rehearse"]

MIB = 2**20


def rehearse(cube: xr.Dataset, config: Training) -> str:
    """Shapes, memory, samples a second, labels and the time of an epoch, as text; computes.

    Parameters
    ----------
    cube, config
        As `xlsbc.fit` takes them. The cube is surveyed, two batches are read and one step is
        done; nothing is written.

    Raises
    ------
    CubeError, TrainingError
        As `xlsbc.fit`.
    """
    installed()
    begin = time.perf_counter()
    task = prepare(cube, config)
    surveyed = time.perf_counter() - begin
    source = task.batches(world=config.devices)
    begin = time.perf_counter()
    first, second = islice(source.batches(), 2)
    reading = (time.perf_counter() - begin) / source.filled  # the pool was filled for them
    parameters, step = stepped(task, first, second)
    lines = [
        *shapes(second),
        *memory(source, parameters),
        f"reading        {config.batch_size / reading:.1f} samples/s",
        f"network        {config.batch_size / step:.1f} samples/s",
        *labels(task),
        *times(source, task, surveyed, max(reading, step)),
    ]
    return "\n".join(lines)


def stepped(task: Prepared, first: Batch, second: Batch) -> tuple[str, float]:
    """Parameters of the network, in words, and seconds of a step that is not the first."""
    from xlsbc.training.module import Fitting

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with torch.random.fork_rng():
        torch.manual_seed(task.config.seed)
        fitting = Fitting(task, task.steps).to(device)
        optimiser = fitting.configure_optimizers()
        seconds = 0.0
        for batch in (first, second):  # the first pays for what is set up once
            begin = time.perf_counter()
            loss, _ = fitting.loss(batch.to(device))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            fitting.configure_gradient_clipping(optimiser)
            if batch is first:
                optimiser.step()
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds = time.perf_counter() - begin
    sizes = [(p.numel(), p.requires_grad) for p in fitting.network.parameters()]
    every, trained = sum(n for n, _ in sizes), sum(n for n, trains in sizes if trains)
    return f"{every:,}" + f", {trained:,} of them trained" * (trained < every), seconds


def shapes(batch: Batch) -> Iterator[str]:
    """Every array of a batch."""
    yield "shapes"
    for kind, owner in (("input", batch.inputs), ("label", batch.labels)):
        for name, value in vars(owner).items():
            if value is not None:
                yield f"  {f'{kind} {name}':<22}{' x '.join(map(str, value.shape))}"
    if batch.lead:
        yield f"  and the inputs of {len(batch.lead)} years before"


def memory(source: Batches, parameters: str) -> Iterator[str]:
    """What takes memory."""
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    yield f"memory         {peak / MIB:.0f} MiB at most so far"
    yield f"loader         {source.nbytes / MIB:.0f} MiB when full"
    yield f"parameters     {parameters}"
    if torch.cuda.is_available():
        yield f"GPU memory     {torch.cuda.max_memory_allocated() / MIB:.0f} MiB at most"


def labels(task: Prepared) -> Iterator[str]:
    """Share of training pixels and steps that have each target."""
    for name, share in task.survey.present.items():
        yield f"labels         {name} {share:.2%}"


def times(source: Batches, task: Prepared, surveyed: float, step: float) -> Iterator[str]:
    """How long an epoch and the whole training will take."""
    epoch = source.per_epoch
    yield f"survey         {surveyed:.1f} s"
    yield f"epoch          {epoch} steps, about {epoch * step:.0f} s"
    if task.config.minutes is None:
        yield f"training       {task.steps} steps, about {task.steps * step:.0f} s"
