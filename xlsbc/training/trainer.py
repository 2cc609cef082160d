"""Lightning's trainer for a fit: on which processes it runs, and what it must not do."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from xlsbc.errors import TrainingError
from xlsbc.training.checkpoints import Folder
from xlsbc.training.config import Training
from xlsbc.training.prepare import Prepared

if TYPE_CHECKING:
    import lightning

__all__ = ["Launch", "quiet", "trainer_of"]


def trainer_of(
    task: Prepared, folder: Folder, best: str | None, steps: int, *, progress: bool
) -> lightning.Trainer:
    """Lightning's trainer, with nothing of its own that shows or is left behind."""
    import lightning
    from lightning.pytorch.plugins.environments import LightningEnvironment

    from xlsbc.training import callbacks

    devices, launch = task.config.devices, Launch.found()
    if devices > 1 and launch.processes == 1 and hasattr(sys, "ps1"):
        raise TrainingError(
            f"{devices} devices need processes that an interactive session cannot start; run "
            "`xlsbc train`, or a script"
        )
    own = launch.processes == 1
    after = [callbacks.Bar()] if progress else []
    return lightning.Trainer(
        accelerator="gpu" if torch.cuda.is_available() else "cpu",
        devices=devices // launch.nodes,
        num_nodes=launch.nodes,
        strategy="auto" if devices == 1 else "ddp_spawn" if own else "ddp",
        precision="32-true",  # the network chooses what to run in bfloat16
        max_steps=steps,
        max_epochs=-1,
        logger=logger_of(task.config, folder),
        callbacks=[*after, callbacks.Validation(best), callbacks.Checkpoints(folder)],
        plugins=[callbacks.Files(), *([LightningEnvironment()] if own else [])],
        default_root_dir=folder.url,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
    )


class Launch(NamedTuple):
    """Processes of this training that torchrun or SLURM's srun has started; 1 if neither has."""

    processes: int = 1
    nodes: int = 1
    rank: int = 0

    @classmethod
    def found(cls) -> Launch:
        """What the environment tells; a SLURM job without srun is one process of any number."""
        tell = os.environ.get
        if torch.distributed.is_available() and torch.distributed.is_torchelastic_launched():
            world = int(tell("WORLD_SIZE", 1))
            return cls(world, world // int(tell("LOCAL_WORLD_SIZE", world)), int(tell("RANK", 0)))
        if (tasks := int(tell("SLURM_STEP_NUM_TASKS", 1))) > 1:
            return cls(tasks, int(tell("SLURM_STEP_NUM_NODES", 1)), int(tell("SLURM_PROCID", 0)))
        return cls()

    def check(self, config: Training, placed: bool) -> None:
        """Refuse settings that do not fit the launch, or no place where all find checkpoints."""
        problems = []
        if config.devices != self.processes:
            problems.append(
                f"devices must be the {self.processes} processes; found {config.devices}; set it"
            )
        if not placed:
            problems.append("out must say where checkpoints are, which all processes read; set it")
        if problems:
            raise TrainingError("the launched processes cannot train together", problems)


def logger_of(config: Training, folder: Folder) -> Any:
    """The logger asked for, in a directory beside the checkpoints."""
    from lightning.pytorch import loggers

    kinds = {"csv": loggers.CSVLogger, "tensorboard": loggers.TensorBoardLogger}
    if config.logger is None:
        return False
    above = folder.url.rpartition("/")[0] or "."
    try:
        return kinds[config.logger](above, name="logs", version="")
    except ModuleNotFoundError as error:
        raise TrainingError(
            f"expected what the logger {config.logger!r} needs; {error}; pip install it, or log "
            "to csv"
        ) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Lightning without its greetings, and with the interrupt that Python has.

    Lightning answers it with the end of the process, and with none to any later one.
    """
    import logging

    from xlsbc.training import callbacks

    levels = {name: logging.getLogger(name).level for name in callbacks.LOUD}
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT) if main else None
    callbacks.hush()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            yield
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        if main:
            signal.signal(signal.SIGINT, handler)
