"""Three ways to learn the same targets: together, in a chain of separate networks, or alone."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import xarray as xr

from xlsbc.assess.benchmark.design import Learning
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
        What it takes from the stage before.
    coupled
        Whether its heads hold what they make to what it is given, or have it as plain input.
    """

    targets: tuple[str, ...]
    given: tuple[str, ...] = ()
    coupled: bool = True

    def training(self, config: Training) -> Training:
        """Its settings."""
        return config.changed(given=(self.given,), coupled=self.coupled)

    def cube(self, cube: xr.Dataset, made: xr.Dataset | None) -> xr.Dataset:
        """The cube as it sees it: inputs, its targets, and what the stage before made.

        That is there at every pixel, however few labels there are. Where both were trained it is
        nearer to the truth than elsewhere, as in any chain that is not fitted crosswise.
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
    coupled = learning == "sequential-coupled"
    rest = (Stage((b,), (a,), coupled) for a, b in pairwise(targets))
    return (Stage(targets[:1]), *rest)
