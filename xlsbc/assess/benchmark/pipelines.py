"""Three ways to learn the same targets: together, in a chain of separate networks, or alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import xarray as xr

from xlsbc.assess.benchmark.config import Learning
from xlsbc.errors import TrainingError
from xlsbc.training.config import Training
from xlsbc.training.outline import TARGETS

__all__ = ["Stage", "stages"]


@dataclass(frozen=True)
class Stage:
    """One emulator of a pipeline.

    Parameters
    ----------
    targets
        That it learns and predicts.
    given
        What it takes from the stage before, as plain input.
    """

    targets: tuple[str, ...]
    given: tuple[str, ...] = ()

    def training(self, config: Training) -> Training:
        """Its settings. Of separate networks, one is not held to what another says."""
        if not self.given:
            return config
        return config.changed(given=(self.given,), coupled=False)

    def cube(self, cube: xr.Dataset, made: xr.Dataset | None) -> xr.Dataset:
        """The cube as it sees it: inputs, its targets, and what the stage before made.

        It is trained on what it will be given in use, which is there at every pixel however few
        labels there are.
        """
        others = [n for n in TARGETS if n in cube and n not in self.targets]
        cube = cube.drop_vars(others)
        if made is None:
            return cube
        return cube.assign({name: made[name] for name in self.given})


def stages(cube: xr.Dataset, learning: Learning) -> tuple[Stage, ...]:
    """The emulators of a way to learn the targets of a cube, in the order in which they run.

    Raises
    ------
    TrainingError
        If there is one target: it can only be learned alone.
    """
    targets = tuple(name for name in TARGETS if name in cube)
    if learning == "multi-task":
        return (Stage(targets),)
    if len(targets) < 2:
        raise TrainingError(
            f"learning {learning!r} needs two targets to be learned apart; found "
            f"{', '.join(targets) or 'none'} in the cube; leave it out of the sweeps"
        )
    if learning == "single":
        return tuple(Stage((name,)) for name in targets)
    chain: Sequence[tuple[str, ...]] = [(), *((name,) for name in targets)]
    return tuple(Stage((name,), before) for name, before in zip(targets, chain, strict=False))
