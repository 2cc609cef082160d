"""What can go wrong, in the words of the domain.

Every error lists all problems it knows of, each as *what was expected; what was found; what to do*,
and is also the builtin error that a caller who knows nothing of xlsbc would catch.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "CubeError",
    "EmulatorError",
    "GridError",
    "LegendError",
    "LsbcError",
    "SourceError",
    "SourceWarning",
    "StoreError",
    "TileError",
    "TrainingError",
    "UnitsError",
]


TOLD = 40
"""Problems in the text of an error: the weights of another network differ in hundreds of names."""


class LsbcError(Exception):
    """Any error that xlsbc raises on purpose.

    Parameters
    ----------
    summary
        What could not be done.
    problems
        Every reason found, one sentence each; numbered in the text when there are any, which tells
        the first `TOLD` of them.
    """

    def __init__(self, summary: str, problems: Sequence[str] = ()) -> None:
        # Both go into `args`: that is what pickle calls the class with on a Dask worker's way home.
        super().__init__(summary, tuple(problems))
        self.summary = summary
        self.problems = tuple(problems)

    def __str__(self) -> str:
        if not self.problems:
            return self.summary
        told = enumerate(self.problems[:TOLD], start=1)
        numbered = [f"({i}) {p.rstrip('.')}" for i, p in told]
        if more := len(self.problems) - len(numbered):
            numbered.append(f"and {more} more, all of them in .problems")
        return f"{self.summary}: {'; '.join(numbered)}."


class CubeError(LsbcError, ValueError):
    """A dataset is not a cube, or not the cube that was needed."""


class UnitsError(CubeError):
    """A unit is missing, not understood, or of another quantity."""


class LegendError(CubeError):
    """A class code, class name or legend is unknown."""


class GridError(CubeError):
    """A grid is not a regular latitude-longitude grid."""


class SourceError(LsbcError, ValueError):
    """A provider's file is missing or is not what it should be."""


class SourceWarning(UserWarning):
    """A provider's file can be used, but holds something that its user should know of."""


class StoreError(LsbcError, OSError):
    """A store cannot be written or read, or does not hold what was written into it."""


class EmulatorError(LsbcError, ValueError):
    """An emulator cannot be read, or does not fit what it is asked for."""


class TileError(LsbcError, RuntimeError):
    """A network gave what cannot be: values not finite, out of bounds, or no shares."""


class TrainingError(LsbcError, RuntimeError):
    """Training cannot start or cannot go on."""
