"""Checkpoints of a training in a folder: whole or not there, the last two, read without pickle.

Each is a checkpoint of Lightning, a zip archive. Its checksums are compared before it is loaded,
which `torch.load` does not do: a flipped bit would be another weight.
"""

from __future__ import annotations

import io
import json
import os
import warnings
import zipfile
from collections.abc import Mapping
from fnmatch import fnmatch
from typing import Any
from uuid import uuid4

import fsspec
import torch

from xlsbc.cube.store.storage import Objects, local_path, reason
from xlsbc.errors import StoreError, TrainingError

__all__ = ["Folder", "fetch", "probe", "read", "same", "write"]

KEPT = 2
PARTIAL = ".partial"
OWN = "xlsbc"
"""Key of what a checkpoint holds besides what Lightning put there."""


class Folder:
    """Where the checkpoints of one training are.

    Parameters
    ----------
    url
        Directory, any fsspec URL.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._path = local_path(self.url)

    def at(self, step: int) -> str:
        """URL of the checkpoint after so many steps."""
        return f"{self.url}/step-{step:08d}.ckpt"

    def names(self) -> list[str]:
        """URLs of its checkpoints, oldest first."""
        if self._path is None:
            found = Objects(self.url).keys()
        else:
            found = {path.name for path in self._path.glob("*")}
        return [f"{self.url}/{name}" for name in sorted(found) if fnmatch(name, "step-*.ckpt")]

    def prune(self) -> None:
        """Remove all but the last two and what a killed process left half written."""
        for url in self.names()[:-KEPT]:
            remove(url)
        if self._path is not None:
            for left in self._path.glob(f"*{PARTIAL}"):
                left.unlink()

    def newest(self) -> tuple[str, dict[str, Any]] | None:
        """URL and content of the last checkpoint that is whole; None where there is none at all.

        Raises
        ------
        TrainingError
            If there are some and all are damaged.
        """
        names = self.names()
        problems = []
        for url in reversed(names):
            try:
                return url, read(url)
            except TrainingError as error:
                problems.append(str(error))
                warnings.warn(f"{error}; going on from the one before", stacklevel=2)
        if names:
            raise TrainingError(
                f"no checkpoint in {self.url} can be read; remove them to start again", problems
            )
        return None


def write(url: str, content: bytes) -> None:
    """A file that is there whole or, if the process is killed, as it was before.

    Raises
    ------
    StoreError
        If it cannot be written, in an object store after several attempts.
    """
    target = local_path(url)
    if target is None:
        folder, name = parted(url)
        Objects(folder).put({name: content})  # one object, one request
        fs, path = fsspec.core.url_to_fs(url)
        fs.invalidate_cache(path)  # it may have listed the directory before, and knows no other
        return
    partial = target.with_name(target.name + PARTIAL)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    except OSError as error:
        raise StoreError(
            f"cannot write {url}: {reason(error)}; see that there is space and permission"
        ) from error


def fetch(url: str) -> bytes | None:
    """Content of a file; None if there is none.

    Raises
    ------
    StoreError
        If an object store fails, after several attempts.
    """
    path = local_path(url)
    if path is not None:
        return path.read_bytes() if path.is_file() else None
    folder, name = parted(url)
    return Objects(folder).get(name)


def remove(url: str) -> None:
    """Remove a file."""
    path = local_path(url)
    if path is not None:
        path.unlink()
        return
    folder, name = parted(url)
    Objects(folder).drop([name])


def parted(url: str) -> tuple[str, str]:
    """Directory and name of a file."""
    folder, _, name = url.rpartition("/")
    return folder, name


def probe(url: str) -> None:
    """Refuse a directory in which no file can be written, by writing one; it is not there after.

    Raises
    ------
    TrainingError
        If it cannot be written.
    """
    folder, path = url.rstrip("/"), local_path(url)
    if path is not None:  # of which no directory is left behind either
        folder = str(next(each for each in (path, *path.parents) if each.exists()))
    name = f"{folder}/probe-{uuid4().hex}"  # of this process alone
    try:
        write(name, b"probe")
        remove(name)
    except StoreError as error:
        raise TrainingError(
            f"nothing can be saved in {url}: {error}; give a place that can be written"
        ) from error


def read(url: str, device: Any = "cpu") -> dict[str, Any]:
    """Content of a checkpoint.

    Raises
    ------
    TrainingError
        If it is damaged, or no checkpoint of a training.
    """
    found = fetch(url)
    if found is None:
        raise TrainingError(f"expected a checkpoint at {url}; there is none; restore it")
    content = io.BytesIO(found)
    try:
        with zipfile.ZipFile(content) as archive:
            damaged = archive.testzip()
        if damaged is None:
            content.seek(0)
            return dict(torch.load(content, map_location=device, weights_only=True))
    except Exception as error:  # a damaged archive can raise anything
        raise TrainingError(f"the checkpoint {url} is damaged: {error}") from error
    raise TrainingError(f"the checkpoint {url} is damaged in {damaged}")


def same(checkpoint: Mapping[str, Any], identity: Mapping[str, Any], url: str) -> None:
    """Refuse to go on from the checkpoint of another training.

    Raises
    ------
    TrainingError
        With every setting, and everything of the cube, that differs.
    """
    if OWN not in checkpoint:
        raise TrainingError(f"{url} is no checkpoint of an emulator's training")
    before = flat(json.loads(checkpoint[OWN]["identity"]))
    now = flat(json.loads(json.dumps(identity)))
    problems = [
        f"{name} was {short(before.get(name))} and is {short(now.get(name))}"
        for name in dict.fromkeys((*before, *now))
        if before.get(name) != now.get(name)
        and not name.startswith("emulator.architecture.")  # told once, as the setting
    ]
    if problems:
        raise TrainingError(
            f"{url} is of another training; go on as it began, or choose another folder", problems
        )


def flat(document: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Values of a document by their path, ``architecture.adaptation.rank``."""
    found: dict[str, Any] = {}
    for name, value in document.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{above}{name}.")
        else:
            found[above + name] = value
    return found


def short(value: Any) -> str:
    """A value as a message shows it."""
    text = json.dumps(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
