"""The recipes that come with xlsbc, each a Pangeo Forge feedstock: listed, shown, run.

References
----------
pangeo-forge-runner 0.10.2, ``meta_yaml.py``: what ``meta.yaml`` must hold.
"""

from __future__ import annotations

import os
import re
import runpy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import LsbcError, SourceError

__all__ = ["Feedstock", "feedstock", "feedstocks", "run"]


class Entry(BaseModel):
    """One recipe of a feedstock: its name, and where its object is."""

    model_config = ConfigDict(strict=True, extra="forbid")
    id: str
    object: str = Field(pattern=r"^\w+:\w+$")


class Provider(BaseModel):
    """Who made, licenses or hosts the data."""

    model_config = ConfigDict(strict=True, extra="forbid")
    name: str
    description: str = ""
    roles: list[str] = []
    url: str = ""


class Provenance(BaseModel):
    """Where the data come from, and on which terms."""

    model_config = ConfigDict(strict=True, extra="forbid")
    providers: list[Provider]
    license: str


class Feedstock(BaseModel):
    """What ``meta.yaml`` says of a recipe, and the folder that it is in."""

    model_config = ConfigDict(strict=True, extra="forbid")
    title: str
    description: str
    recipes: list[Entry] = Field(min_length=1)
    provenance: Provenance
    maintainers: list[dict[str, str]]
    pangeo_forge_version: str = ""
    folder: Path = Path()

    @property
    def name(self) -> str:
        """Name of the recipe: that of its folder."""
        return self.folder.name


def folder() -> Path:
    """The folder of all recipes: inside the installed package, or beside it in a checkout."""
    package = Path(str(resources.files("xlsbc")))
    inside = package / "recipes"
    return inside if inside.is_dir() else package.parent / "recipes"


def feedstocks() -> list[Feedstock]:
    """All recipes, by name."""
    return [feedstock(path.parent.name) for path in sorted(folder().glob("*/meta.yaml"))]


def feedstock(name: str) -> Feedstock:
    """What is said of a recipe; nothing of it is executed.

    Raises
    ------
    SourceError
        If there is none of this name, with those that there are; or if ``meta.yaml`` lacks
        something, with all that it lacks.
    """
    place = folder() / name
    if not re.fullmatch(r"\w+", name) or not (place / "meta.yaml").is_file():
        held = ", ".join(path.parent.name for path in sorted(folder().glob("*/meta.yaml")))
        raise SourceError(f"there is no recipe {name!r}", [f"name one of {held or 'none'}"])
    try:
        said = yaml.safe_load((place / "meta.yaml").read_text(encoding="utf-8"))
        return Feedstock(**said, folder=place)
    except ValidationError as error:
        problems = [
            f"{name}/meta.yaml, {'.'.join(map(str, each['loc']))}: {each['msg']}"
            for each in error.errors()
        ]
        raise SourceError(
            f"the recipe {name!r} is not described as it should be", problems
        ) from error


def run(
    name: str,
    input: str,
    output: str,
    *,
    runner: str = "DirectRunner",
    prune: int | None = None,
    append: bool = False,
    overwrite: bool = False,
    region: Sequence[float] | None = None,
    period: Sequence[int] | None = None,
    progress: bool = True,
) -> str:
    """Run a recipe on a Beam runner, and return where the store is.

    Parameters
    ----------
    name
        Of the recipe.
    input
        Folder or URL of the provider's files, on any file system that fsspec knows; wildcards
        choose among them.
    output
        URL of the store.
    runner
        Name of a Beam runner, such as ``DirectRunner`` or ``FlinkRunner``; ``DaskRunner`` runs on
        the Dask client of the moment.
    prune
        Number of files to take, to try a recipe.
    append
        Whether to add to the store what it lacks at its end.
    overwrite
        Whether another store at `output` may be replaced.
    region, period
        Of recipes that take one, such as ``cube``: west, south, east, north in degrees; first and
        last year.
    progress
        Whether to show a progress bar, where the runner works in this process.

    Raises
    ------
    SourceError
        With what is wrong with the input: files and variables are named. Whatever an interrupted
        or failed run leaves does not open as a store, and the same run goes over it.
    """
    from .forge import progress as bar
    from .forge.settings import Settings

    found = feedstock(name)
    refuse_options(found, {"region": region, "period": period}, prune)
    told = Settings(input, output, prune, overwrite, append, region, period)
    with environment(told.environment()):
        for entry in found.recipes:
            module, _, variable = entry.object.partition(":")
            recipe = runpy.run_path(str(found.folder / f"{module}.py"))[variable]
            with bar.shown(entry.id, not progress):
                execute(recipe, runner)
    return output


def refuse_options(found: Feedstock, options: dict[str, Any], prune: int | None) -> None:
    """Raise where an option would have no effect.

    Raises
    ------
    SourceError
        With every one of them.
    """
    problems = []
    code = "".join(path.read_text(encoding="utf-8") for path in found.folder.glob("*.py"))
    for option, value in options.items():
        takes = "cube_options()," in code or f'cube_options()["{option}"]' in code
        if value is not None and not (takes or "cube_options())" in code):
            problems.append(f"{option}: the recipe {found.name!r} takes none; leave it out")
    if prune is not None and prune < 1:
        problems.append(f"prune: expected a number of files from 1 on; found {prune}")
    if problems:
        raise SourceError("the recipe cannot be run so", problems)


def execute(recipe: Any, runner: str) -> None:
    """Run a recipe's transforms on a Beam runner, and wait.

    Raises
    ------
    SourceError
        In place of what the runner makes of an error of ours: with the same problems.
    """
    import apache_beam as beam

    try:
        pipeline = beam.Pipeline(runner=RUNNERS.get(runner, runner), argv=[])
    except (ValueError, ImportError, AttributeError) as error:
        raise SourceError(f"there is no runner {runner!r}", [str(error)]) from error
    pipeline | recipe
    try:
        pipeline.run().wait_until_finish()
    except Exception as error:  # runners wrap what a worker raised, each in its own way
        raise unwrapped(error) from error


RUNNERS = {"DaskRunner": "apache_beam.runners.dask.dask_runner.DaskRunner"}
"""Runners that Beam does not know by their short names."""

WHERE = re.compile(r" \[while running '.*?'\]")
"""What Beam's direct runner adds to an error's text."""

OURS = re.compile(r"xlsbc\.errors\.\w+: (.*)")
"""An error of ours as the last line of a traceback that another runner hands on as text."""


def unwrapped(error: Exception) -> BaseException:
    """The error of ours in what a runner raised, else that itself."""
    if isinstance(error, LsbcError):
        return type(error)(WHERE.sub("", error.summary), error.problems)
    if "KeyboardInterrupt" in str(error):
        return KeyboardInterrupt()
    told = OURS.findall(WHERE.sub("", str(error)))
    if told:
        return SourceError(told[-1])
    if isinstance(error, OSError | ImportError):
        what = WHERE.sub("", str(error)).splitlines() or [""]
        return SourceError(
            "the recipe cannot read or write",
            [f"{type(error).__name__}: {what[0]}; see that input and output are within reach"],
        )
    return error


@contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    """Environment variables that last as long as the context; others of xlsbc are put aside."""
    kept = {k: v for k, v in os.environ.items() if k in variables or k in KNOWN}
    for name in kept:
        del os.environ[name]
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            os.environ.pop(name, None)
        os.environ.update(kept)


KNOWN = frozenset(
    f"XLSBC_{name}" for name in "INPUT OUTPUT PRUNE OVERWRITE APPEND REGION PERIOD".split()
)
