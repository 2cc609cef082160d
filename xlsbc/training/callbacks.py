"""What happens between the steps of a fit: a bar, validation, checkpoints."""

from __future__ import annotations

import io
import logging
import os
import time
import warnings
from typing import Any, cast

import lightning
import torch
from lightning.pytorch.plugins.io import CheckpointIO
from tqdm.auto import tqdm

from xlsbc.training.batches import Batch
from xlsbc.training.checkpoints import Folder, read, write
from xlsbc.training.module import Fitting
from xlsbc.training.results import publish

__all__ = ["Bar", "Checkpoints", "Files", "Validation", "hush"]

SHOWN = 0.2
"""Seconds between two looks at the losses: each makes the device wait."""

LOUD = ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero")


def hush() -> None:
    """Keep Lightning from telling users of hardware and loops that they did not ask for."""
    for name in LOUD:
        logging.getLogger(name).setLevel(logging.ERROR)


class Files(CheckpointIO):
    """Checkpoints that are whole or not there, read without pickle."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Write a checkpoint."""
        content = io.BytesIO()
        torch.save(checkpoint, content)
        write(str(path), content.getvalue())

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Content of a checkpoint, with weights only whatever is asked for."""
        return read(str(path), map_location or "cpu")

    def remove_checkpoint(self, path: Any) -> None:
        """Remove a file of Lightning's own, with which a process hands over its weights."""
        os.unlink(path)


class AfterStep(lightning.Callback):
    """Something that is done after a step."""

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Do it."""
        self.after(trainer, cast(Fitting, pl_module), batch.step + 1)

    def after(self, trainer: lightning.Trainer, fitting: Fitting, steps: int) -> None:
        """Do it, after so many steps."""


class Bar(AfterStep):
    """Samples a second, time left, and losses."""

    def __init__(self) -> None:
        self.bar: tqdm | None = None
        self._shown = 0.0

    def after(self, trainer: lightning.Trainer, fitting: Fitting, steps: int) -> None:
        """Advance; begin where the training goes on."""
        if not trainer.is_global_zero:
            return
        size = fitting.config.batch_size * trainer.world_size
        if self.bar is None:
            before = (steps - 1) * size
            self.bar = tqdm(total=fitting.total * size, initial=before, desc="fit", unit="sample")
        self.bar.total = fitting.total * size
        now = time.monotonic()
        if now - self._shown > SHOWN and fitting.latest is not None:
            losses = {name: f"{float(v):.3f}" for name, v in fitting.latest[1].items()}
            self.bar.set_postfix(losses, refresh=False)
            self._shown = now
        self.bar.update(size)

    def teardown(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str
    ) -> None:
        """Leave the last line standing."""
        self.close()

    def on_exception(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        exception: BaseException,
    ) -> None:
        """Leave what is said of it a line of its own."""
        self.close()

    def close(self) -> None:
        """End the line."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None  # processes are sent copies


class Validation(AfterStep):
    """Judges the averaged network now and then, saves the best, stops what gets no better.

    Parameters
    ----------
    best
        URL of the best emulator; none is saved without.
    """

    def __init__(self, best: str | None) -> None:
        self.best = best

    def after(self, trainer: lightning.Trainer, fitting: Fitting, steps: int) -> None:
        """Validate if it is due."""
        config = fitting.config
        if config.validate_every is None or steps % config.validate_every:
            return
        loss = fitting.validate()
        better = fitting.judged(loss, steps)
        if trainer.logger is not None:
            trainer.logger.log_metrics({"validation": loss}, steps)
        if better and self.best is not None and trainer.is_global_zero:
            emulator = fitting.task.emulator(fitting.state_dict(), steps, fitting.smooth, loss)
            publish(emulator, self.best)
        trainer.should_stop = fitting.stopped


class Checkpoints(AfterStep):
    """Saves the training so that it can go on from there; comes last of all callbacks.

    Parameters
    ----------
    folder
        Where.
    """

    def __init__(self, folder: Folder) -> None:
        self.folder = folder

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        hush()  # in a process of its own, which Lightning greets at length
        warnings.filterwarnings("ignore", module="lightning")

    def after(self, trainer: lightning.Trainer, fitting: Fitting, steps: int) -> None:
        """Save if it is due, and at the end."""
        last = steps >= fitting.total or trainer.should_stop
        if last or steps % fitting.config.checkpoint_every == 0:
            trainer.save_checkpoint(self.folder.at(steps))
            if trainer.is_global_zero:
                self.folder.prune()
