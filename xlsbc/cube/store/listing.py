"""What a store lists of itself: its objects' names, and what changes when their content does.

Nothing is read, but of what is in memory: a store there does not tell when it was written.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from zarr.abc.store import Store
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import FsspecStore, LocalStore, MemoryStore, WrapperStore, ZipStore

from xlsbc.cube.store.storage import checksum, persistently

__all__ = ["Listing", "listing"]

Listing = dict[str, Any]

T = TypeVar("T")

CHANGES = (
    "ETag",
    "etag",
    "md5Hash",
    "mtime",
    "LastModified",
    "last_modified",
    "updated",
    "created",
)
"""By which of these a file system tells that an object is another one; the best first."""

WITHOUT_LISTS = {"http", "https"}
"""Protocols whose lists, where there are any, are pages for people and may be incomplete."""


def listing(store: Store, path: str) -> Listing | None:
    """What is in a store under a path; None if the store does not tell.

    Raises
    ------
    OSError
        Or another error of the store, if it should tell and fails several times.
    """
    while isinstance(store, WrapperStore):
        store = store._store
    if isinstance(store, LocalStore):
        return local(store, path)
    if isinstance(store, FsspecStore):
        return remote(store, path)
    return plain(store, path)


def local(store: LocalStore, path: str) -> Listing | None:
    """Files, by size and time."""
    root = f"{store.root}{os.sep}"
    try:
        files = [(file, file.stat()) for file in walk(os.path.join(store.root, path))]
    except (FileNotFoundError, PermissionError):
        return None
    return {
        file.path.removeprefix(root).replace(os.sep, "/"): (stat.st_size, stat.st_mtime_ns)
        for file, stat in files
    }


def walk(folder: str) -> list[os.DirEntry[str]]:
    """Files in and under a folder, less those that are being written."""
    with os.scandir(folder) as listed:
        held = list(listed)
    return [
        file
        for entry in held
        for file in (walk(entry.path) if entry.is_dir() else [entry])
        if not file.name.endswith(".partial")
    ]


def remote(store: FsspecStore, path: str) -> Listing | None:
    """Objects of a file system, by size and by what it tells of changes."""
    protocols = store.fs.protocol
    if not WITHOUT_LISTS.isdisjoint([protocols] if isinstance(protocols, str) else protocols):
        return None

    async def find(folder: str) -> dict[str, dict[str, Any]]:
        store.fs.invalidate_cache()  # others write here too
        return dict(await store.fs._find(folder, detail=True))

    found = asked(find, "/".join(filter(None, (store.path.rstrip("/"), path))))
    if found is None:
        return None
    base = len(store.path.strip("/"))
    return {
        name.strip("/")[base:].lstrip("/"): (
            about.get("size"),
            str(next((about[sign] for sign in CHANGES if about.get(sign)), "")),
        )
        for name, about in found.items()
    }


def plain(store: Store, path: str) -> Listing | None:
    """Objects of any other store, by what it tells of changes to all of it."""

    async def names(prefix: str) -> list[str]:
        return [name async for name in store.list_prefix(prefix)]

    async def content(name: str) -> bytes:
        held = await store.get(name, default_buffer_prototype())
        return b"" if held is None else held.to_bytes()

    found = asked(names, f"{path}/" if path else "")
    if found is None:
        return None
    if isinstance(store, MemoryStore):
        return {name: checksum(sync(content(name))) for name in found}
    change: Any = None
    if isinstance(store, ZipStore):
        change = os.stat(store.path).st_mtime_ns
    elif session := getattr(store, "session", None):  # of Icechunk
        change = session.snapshot_id
    return dict.fromkeys(found, change)


def asked(act: Callable[[str], Awaitable[T]], where: str) -> T | None:
    """What a store answers; None if it cannot, or will not to us."""

    async def attempt(where: str) -> T | None:
        try:
            return await act(where)
        except (FileNotFoundError, NotImplementedError, PermissionError):
            return None

    return sync(persistently(attempt, where, f"listing {where}"))
