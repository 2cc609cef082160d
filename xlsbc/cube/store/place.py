"""Where a store comes to lie: where nothing is, where the same write was, or in another's place."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xlsbc.cube.store.icechunk import SCHEME, Commits, is_repository, repository_at
from xlsbc.cube.store.ledger import ROOT, Plan, read_plan, refuse
from xlsbc.cube.store.storage import Objects, local_path
from xlsbc.errors import CubeError

__all__ = ["move", "objects_at", "settle"]


MARKS = ("zarr.json", ".zgroup", ".zarray", ".zmetadata")
"""Objects of which every Zarr store has one."""


def objects_at(url: Any, options: Mapping[str, Any] | None = None) -> Objects:
    """The objects under a URL, or in an Icechunk repository or session."""
    if isinstance(url, str) and url.startswith(SCHEME):
        url = repository_at(url)
    return Commits(url) if is_repository(url) else Objects(str(url).rstrip("/"), options)


def settle(objects: Objects, plan: Plan, resume: bool, overwrite: bool) -> Objects | None:
    """Where to write, None where all is written; refuses what must not be touched.

    What is replaced is deleted first, but for a local store: the new one is written beside it.
    """
    local = None if isinstance(objects, Commits) else local_path(objects.url)
    if not is_free(objects, local):
        found = None if local and local.is_file() else read_plan(objects)
        differences = ["it is not of xlsbc"] if found is None else plan.differences(found)
        if not differences and resume:
            return objects if objects.get(ROOT) is None else None
        if not overwrite:
            raise refuse(objects.url, differences or ["resume=False asks to begin again"])
        if found is None and not is_store(objects, local):
            raise CubeError(
                f"{objects.url} holds something that is no store; delete it, or name another place"
            )
        if not local:
            objects.clear()
    return beside(local, objects, plan, resume) if local and overwrite else objects


def is_store(objects: Objects, local: Path | None) -> bool:
    """Whether there is a file, or a folder that Zarr has made, which may be replaced."""
    if local is not None and local.is_file():
        return True
    return any(content is not None for content in objects.read(MARKS).values())


def beside(place: Path, objects: Objects, plan: Plan, resume: bool) -> Objects | None:
    """Where to write what is to replace something, None if that is done.

    Also where nothing is: an earlier call may have been stopped just before it moved a new store.
    """
    new = Objects(str(ending(place, "new")))
    if Path(new.url).exists():
        left = read_plan(new)
        if left is None or plan.differences(left) or not resume:
            shutil.rmtree(new.url)
        elif new.get(ROOT) is not None:
            move(new, objects)
            return None
    return new if place.exists() or Path(new.url).exists() else objects


def is_free(objects: Objects, local: Path | None) -> bool:
    """Whether nothing is there, or only what a writer killed at its first object left."""
    if local is None:
        return objects.is_empty()
    if not local.is_dir():
        return not local.exists()
    return all(each.is_dir() or each.suffix == ".partial" for each in local.rglob("*"))


def move(new: Objects, objects: Objects) -> None:
    """Move a store that was written beside its place there, and delete what was there."""
    place = local_path(objects.url)
    if place is None or new.url == objects.url:
        return
    old = ending(place, "old")
    if place.exists():
        remove(old)
        place.rename(old)
    Path(new.url).rename(place)
    remove(old)


def ending(place: Path, word: str) -> Path:
    """A place beside another."""
    return place.with_name(f"{place.name}.{word}")


def remove(place: Path) -> None:
    """Delete a folder or a file, if there is one."""
    if place.is_dir():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)
