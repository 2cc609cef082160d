"""The provider's files that a recipe takes, and those that it passes over."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from glob import has_magic
from typing import Any

import fsspec
from pangeo_forge_recipes.patterns import FilePattern, pattern_from_file_sequence

from ...errors import SourceError, SourceWarning
from .settings import settings

__all__ = ["input_pattern"]

DATA = ("*.nc", "*.nc4", "*.cdf", "*.grib*", "*.grb*", "*.tif", "*.tiff", "*.hdf", "*.h5", "*.zarr")
"""Names of files that a recipe does not pass over in silence."""

MARKS = ("zarr.json", ".zgroup", ".zmetadata")
"""Objects of which a Zarr group has one."""


def input_pattern(
    *globs: str, select: Callable[[list[str]], list[str]] | None = None
) -> FilePattern:
    """The provider's files under the input of the settings, as a pattern.

    Parameters
    ----------
    *globs
        Which names, such as ``"*.nc"``, at any depth, in whatever case they are written. An input
        that is itself a file, or a Zarr store, is taken whatever it is called; so is what an input
        with wildcards finds.
    select
        What of the sorted addresses to take, such as the newest version of each.

    Returns
    -------
    FilePattern
        Empty where the settings name no input. The order of files means nothing.

    Raises
    ------
    SourceError
        If nothing is found, or the input cannot be listed.

    Warns
    -----
    SourceWarning
        With the files that are called like data, but not like those of this recipe.
    """
    told = settings()
    files = found_input(told.input, globs) if told.input else []
    if select is not None:
        files = select(files)
    pattern = pattern_from_file_sequence(files, "file", file_type="unknown")
    return pattern.prune(told.prune) if told.prune else pattern


def found_input(root: str, globs: Iterable[str]) -> list[str]:
    """`list_input`, whose every error is one of ours."""
    try:
        return list_input(root, tuple(globs))
    except SourceError:
        raise
    except Exception as error:  # every file system has its own
        cause = (str(error) or type(error).__name__).splitlines()[0]
        problem = f"{root}: expected files; it cannot be listed ({type(error).__name__}: {cause})"
        raise SourceError("the recipe has no input", [f"{problem}; correct --input"]) from error


def list_input(root: str, globs: tuple[str, ...]) -> list[str]:
    """Addresses of the files under a folder or URL whose names fit."""
    fs, path = fsspec.core.url_to_fs(root)
    if fs.isfile(path) or any(fs.exists(f"{path}/{mark}") for mark in MARKS):
        return [root]
    left: list[str] = []
    if has_magic(path) and not fs.isdir(path):
        found = sorted(fs.glob(path))
    else:
        held = list(under(fs, path.rstrip("/")))
        found = [name for name in held if fits(name, globs)]
        left = [name for name in held if fits(name, DATA) and name not in found]
    named = " or ".join(globs)
    if not found:
        problem = f"{root}: expected files named {named}; found none; correct --input"
        raise SourceError("the recipe has no input", [problem])
    if left:
        shown = ", ".join(map(last, left[:6]))
        more = f" and {len(left) - 6} more" if len(left) > 6 else ""
        text = f"{root}: {shown}{more} are not taken; they are not called {named}"
        warnings.warn(text, SourceWarning, stacklevel=4)
    local = "file" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)
    return sorted(name if local else fs.unstrip_protocol(name) for name in found)


def under(fs: Any, folder: str) -> Iterator[str]:
    """Files under a folder, and Zarr stores, whose many objects are not listed."""
    for entry in sorted(fs.ls(folder, detail=True), key=lambda entry: str(entry["name"])):
        name = str(entry["name"]).rstrip("/")
        if entry["type"] != "directory" or ".zarr" in last(name):
            yield name
        elif name != folder:  # object stores may list a folder in itself
            yield from under(fs, name)


def fits(name: str, globs: Iterable[str]) -> bool:
    """Whether a file is called so."""
    return any(fnmatchcase(last(name).lower(), glob.lower()) for glob in globs)


def last(name: str) -> str:
    """A name without its folders."""
    return name.rpartition("/")[2]
