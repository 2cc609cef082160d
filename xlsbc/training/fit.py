"""Fit an emulator to a cube."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import tempfile
from collections.abc import Mapping
from os import PathLike
from typing import Any

import torch
import xarray as xr

from xlsbc.emulator.artefact import SPEC_FILE, Emulator
from xlsbc.errors import StoreError, TrainingError
from xlsbc.training.checkpoints import OWN, Folder, fetch, probe, same
from xlsbc.training.config import Training
from xlsbc.training.curves import Curves
from xlsbc.training.prepare import Prepared, prepare
from xlsbc.training.results import publish
from xlsbc.training.trainer import Launch, quiet, trainer_of

__all__ = ["ensemble", "fit"]

CHECKPOINTS = "checkpoints"
BEST = "best"


def fit(
    cube: xr.Dataset,
    config: Training | str | PathLike[str] | None = None,
    *,
    progress: bool = True,
    folder: str | PathLike[str] | None = None,
    **changes: Any,
) -> Emulator:
    """Emulator of the targets that a cube holds, from the inputs that it holds; computes.

    Parameters
    ----------
    cube
        A cube that `conform` accepts. Targets may be missing anywhere; a cube without land use,
        without forcing or with one year trains what it has.
    config
        Settings, or the YAML file that holds them.
    progress
        Whether to show a progress bar: samples a second, time left, losses.
    folder
        Where checkpoints go, any fsspec URL; by default into ``config.out``, and without that
        nowhere. The same call with the same folder goes on where one that was stopped left off,
        and ends in the same weights.
    changes
        Settings by name, each in place of that of `config`; see
        `xlsbc.training.config.Training`, e.g. ``steps=2000, split=Split(years=(2003,))``.

    Returns
    -------
    Emulator
        Of the last step. With validation the best is saved in ``config.out`` under ``best``.

    Raises
    ------
    CubeError
        If the cube is not a cube.
    TrainingError
        If a setting is not valid, there is nothing to learn, nothing to learn it from, no such
        split, the checkpoints are of another training, or the loss stops being finite.

    References
    ----------
    Loshchilov and Hutter, 2019, ICLR (AdamW); Polyak and Juditsky, 1992, SIAM J. Control Optim.
    30(4) (averaged weights).
    """
    config = settings(config, changes)
    if config.members > 1:
        raise TrainingError(
            f"expected one emulator to fit; found {config.members} members; call ensemble"
        )
    installed()
    accept(config, folder)
    progress = progress and Launch.found().rank == 0
    return run(prepare(cube, config, progress=progress), folder, progress=progress)


def ensemble(
    cube: xr.Dataset,
    config: Training | str | PathLike[str] | None = None,
    *,
    progress: bool = True,
    folder: str | PathLike[str] | None = None,
    **changes: Any,
) -> list[Emulator]:
    """Emulators that differ by their seeds alone: what is held out is the same; computes.

    Parameters
    ----------
    cube, config, progress, folder, changes
        As in `fit`. Member `i` has the seed of the configuration and `i`, and directories
        ``member-i``.

    Raises
    ------
    CubeError, TrainingError
        As `fit`.
    """
    config = settings(config, changes)
    installed()
    members = []
    for i in range(config.members):
        own = config.changed(
            seed=config.seed + i,
            out=f"{config.out.rstrip('/')}/member-{i}" if config.out else "",
            members=1,
        )
        place = None if folder is None else f"{str(folder).rstrip('/')}/member-{i}"
        members.append((own, place))
        accept(own, place)
    progress = progress and Launch.found().rank == 0
    first = prepare(cube, config, progress=progress)
    emulators = []
    for own, place in members:
        task = dataclasses.replace(first, config=own)
        emulators.append(run(task, place, progress=progress))
    return emulators


def settings(config: Training | str | PathLike[str] | None, changes: Mapping[str, Any]) -> Training:
    """Settings with some of them changed."""
    if isinstance(config, str | PathLike):
        config = Training.read(config)
    return (config or Training()).changed(**changes)


def installed() -> None:
    """Refuse to begin without Lightning, which only training needs."""
    try:
        import lightning  # noqa: F401
    except ImportError as error:
        raise TrainingError(
            'expected Lightning to train with; it is not installed; pip install "xlsbc[train]"'
        ) from error


def accept(config: Training, folder: str | PathLike[str] | None) -> None:
    """Refuse places that cannot take what a training leaves, before it takes hours.

    Raises
    ------
    TrainingError
        If nothing can be written there, or if there is an emulator of another training.
    """
    launch = Launch.found()
    out = config.out.rstrip("/")
    if launch.processes > 1:
        launch.check(config, bool(out or folder))
    checkpoints = str(folder or (f"{out}/{CHECKPOINTS}" if out else ""))
    for place in filter(None, dict.fromkeys((checkpoints, out))):
        probe(place)
    document = f"{out}/{SPEC_FILE}"
    if out and not Folder(checkpoints).names() and fetch(document) is not None:
        raise TrainingError(
            f"expected no emulator at {out}, or that it has the checkpoints of its training; "
            f"found {document} and none in {checkpoints}; give another out, or remove it"
        )


def run(task: Prepared, folder: str | PathLike[str] | None, *, progress: bool) -> Emulator:
    """Train, or go on, to the end; the emulator, saved if it has a place."""
    out = task.config.out.rstrip("/")
    if folder is None and out:
        folder = f"{out}/{CHECKPOINTS}"
    with contextlib.ExitStack() as stack:
        place = Folder(str(folder or stack.enter_context(tempfile.TemporaryDirectory())))
        if Launch.found().rank == 0:
            place.prune()
        found = place.newest()
        if found is not None:
            same(found[1], task.identity, found[0])
        if found is None or not finished(found[1]):
            best = f"{out}/{BEST}" if out else None
            try:
                train(task, place, found, best, progress=progress)
            except (StoreError, TrainingError) as error:
                if folder is None or not (kept := place.names()):
                    raise
                told = f"{error.summary}; the last good checkpoint is {kept[-1]}"
                raise type(error)(told, error.problems) from error
            found = place.newest()
        if task.pretrained is not None:
            gc.collect()  # Lightning's cycles keep a network, and what it began with, in memory
        assert found is not None  # the last step is always saved
        checkpoint = found[1]
    own = checkpoint[OWN]
    curves = Curves()
    curves.load_state_dict(own["curves"])
    emulator = task.emulator(checkpoint["state_dict"], checkpoint["global_step"], own["smooth"])
    if out and Launch.found().rank == 0:
        publish(emulator, out, curves)
        return Emulator.open(out)  # which Dask workers open there, too
    return emulator


def finished(checkpoint: Mapping[str, Any]) -> bool:
    """Whether a checkpoint is of the end of a training."""
    own = checkpoint[OWN]
    return bool(own["stopped"] or checkpoint["global_step"] >= own["total"])


def train(
    task: Prepared,
    folder: Folder,
    found: tuple[str, Mapping[str, Any]] | None,
    best: str | None,
    *,
    progress: bool,
) -> None:
    """Train from the beginning or from a checkpoint until the last step is in the folder.

    Raises
    ------
    TrainingError
        If a step cannot be taken, or a process ends.
    """
    from xlsbc.training.module import Fitting

    steps = found[1][OWN]["total"] if found is not None else task.steps
    with torch.random.fork_rng(), quiet():
        torch.manual_seed(task.config.seed)
        fitting = Fitting(task, steps)
        trainer = trainer_of(task, folder, best, steps, progress=progress)
        try:
            trainer.fit(fitting, ckpt_path=found[0] if found is not None else None)
        except torch.multiprocessing.ProcessRaisedException as error:
            last = str(error).strip().rpartition("\n")[2]
            raise TrainingError(f"a process of the training failed: {last}") from error
        finally:
            fitting.close()
