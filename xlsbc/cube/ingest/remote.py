"""Remote files made local: whole, once, and within a time, or an error.

Most readers of providers' formats need a file on disk, and netCDF over HTTP breaks where the
network does. What was fetched stays in the temporary folder for the next run.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import fsspec
from fsspec.asyn import AsyncFileSystem, sync

__all__ = ["fetch", "is_store"]

ATTEMPTS, FIRST_WAIT = 3, 0.2
"""How often a remote file is asked for, and how many seconds lie between."""

TIME_LIMIT, SLOWEST = 60.0, 2**18
"""Seconds that an attempt may take, and bytes a second that a longer one must bring."""

FINAL = (FileNotFoundError, PermissionError, IsADirectoryError)
"""What another attempt cannot mend."""


def is_store(url: str, **options: Any) -> bool:
    """Whether a URL is a folder, which among the provider's files is a Zarr store.

    Over HTTP there are no folders, and a store is told by its name.
    """
    fs, path = fsspec.core.url_to_fs(url, **options)
    protocols = (fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol
    if "http" in protocols:
        return ".zarr" in path.rstrip("/").rpartition("/")[2]
    return bool(fs.isdir(path))


def fetch(url: str, **options: Any) -> Path:
    """A local file with the content of a URL; the file itself where it is local.

    A remote one is fetched once for each size and time of change that its file system tells.

    Raises
    ------
    OSError
        If it is not there, or does not come whole in several attempts.
    """
    fs, path = fsspec.core.url_to_fs(url, **options)
    protocols = (fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol
    if "file" in protocols:
        if not Path(path).is_file():
            raise FileNotFoundError(path)
        return Path(path)
    local = folder() / f"{fs.ukey(path)}-{Path(path).name}"
    if not local.is_file():
        with tempfile.NamedTemporaryFile(dir=local.parent, delete=False) as partial:
            try:
                persist(fs, path, partial.name)
            except BaseException:
                Path(partial.name).unlink(missing_ok=True)
                raise
        os.replace(partial.name, local)
    return local


def folder() -> Path:
    """A folder of this user for temporary files.

    Raises
    ------
    OSError
        If another user has made it.
    """
    user = os.getuid() if hasattr(os, "getuid") else 0
    found = Path(tempfile.gettempdir()) / f"xlsbc-{user}"
    found.mkdir(mode=0o700, exist_ok=True)
    if hasattr(os, "getuid") and (found.is_symlink() or found.stat().st_uid != user):
        raise PermissionError(f"{found} is another user's; set TMPDIR to a folder of yours")
    return found


def persist(fs: Any, path: str, local: str) -> None:
    """Download a file, again if that fails."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return download(fs, path, local)
        except FINAL:
            raise
        except Exception as error:  # every file system has its own
            if attempt == ATTEMPTS:
                raise OSError(f"{type(error).__name__}: {error}") from error
            time.sleep(FIRST_WAIT * attempt)
    raise AssertionError("the last attempt returns or raises")


def download(fs: Any, path: str, local: str) -> None:
    """Copy a remote file, whole, within a time that goes with its size."""
    if isinstance(fs, AsyncFileSystem):
        size = sync(fs.loop, fs._info, path, timeout=TIME_LIMIT).get("size")
        limit = TIME_LIMIT + (size or 0) / SLOWEST
        sync(fs.loop, fs._get_file, path, local, timeout=limit)
    else:
        size = fs.info(path).get("size")
        fs.get_file(path, local)
    got = os.stat(local).st_size
    if size is not None and got != size:
        raise OSError(f"{got} of {size} bytes came")
