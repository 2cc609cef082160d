"""What a run of a recipe is told: where its input is, and where its output goes.

Recipe modules are plain Python that anyone's runner executes, so the settings come from the
environment: ``XLSBC_INPUT`` and the others below. ``xlsbc recipe run`` sets them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from ...errors import SourceError

__all__ = ["Settings", "cube_options", "settings"]

PREFIX = "XLSBC_"


@dataclass(frozen=True)
class Settings:
    """What the environment says of a run.

    Parameters
    ----------
    input
        Folder or URL of the provider's files.
    output
        URL of the store; in place of a runner's target folder and the store's name.
    prune
        Number of files to take, from the first.
    overwrite
        Whether another store may be replaced.
    append
        Whether to add to the store what it lacks.
    region
        West, south, east, north, degrees.
    period
        First and last year.
    """

    input: str | None = None
    output: str | None = None
    prune: int | None = None
    overwrite: bool = False
    append: bool = False
    region: Sequence[float] | None = None
    period: Sequence[int] | None = None

    def environment(self) -> dict[str, str]:
        """The environment variables that say the same."""
        held = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            f"{PREFIX}{name.upper()}": value if isinstance(value, str) else json.dumps(value)
            for name, value in held.items()
            if value
        }


def settings() -> Settings:
    """The settings of the environment.

    Raises
    ------
    SourceError
        With every variable that cannot be read.
    """
    found: dict[str, Any] = {}
    problems = []
    for name, (read, expected) in READERS.items():
        variable = f"{PREFIX}{name.upper()}"
        text = os.environ.get(variable)
        if not text:
            continue
        try:
            found[name] = read(text)
        except (ValueError, TypeError, KeyError):
            problems.append(f"{variable}: expected {expected}; found {text!r}; correct it")
    if problems:
        raise SourceError("the settings of the recipe cannot be read", problems)
    return Settings(**found)


def cube_options() -> dict[str, Any]:
    """Arguments of `xlsbc.cube.assemble.part` that the settings name."""
    told = settings()
    return {"region": told.region, "period": told.period}


def _numbers(kind: type, count: int) -> Any:
    def read(text: str) -> tuple[Any, ...]:
        values = tuple(map(kind, json.loads(text)))
        if len(values) != count:
            raise ValueError(text)
        return values

    return read


def _flag(text: str) -> bool:
    return bool({"1": True, "true": True, "0": False, "false": False}[text.lower()])


READERS: dict[str, Any] = {
    "input": (str, "a folder or a URL"),
    "output": (str, "a URL"),
    "prune": (int, "a number of files"),
    "overwrite": (_flag, "true or false"),
    "append": (_flag, "true or false"),
    "region": (_numbers(float, 4), "[west, south, east, north] in degrees"),
    "period": (_numbers(int, 2), "[first, last] year"),
}
