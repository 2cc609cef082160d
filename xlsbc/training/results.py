"""What a training leaves behind: the emulator's directory, with the curves beside it."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem

from xlsbc.emulator.artefact import CARD_FILE, SPEC_FILE, WEIGHTS_FILE, Emulator
from xlsbc.training.checkpoints import write
from xlsbc.training.curves import Curves

__all__ = ["TABLE_FILE", "PICTURE_FILE", "publish"]

TABLE_FILE = "training.csv"
PICTURE_FILE = "training.png"


def publish(emulator: Emulator, url: str, curves: Curves | None = None) -> None:
    """Save an emulator and its curves so that a kill leaves the emulator before or this one.

    On a local disk all files are written beside the directory and moved into it, the
    specification last; elsewhere every file is one request, in the same order. Weights and a
    specification that do not belong together have no valid digest: they cannot be opened.
    """
    fs, path = fsspec.core.url_to_fs(url)
    if curves is not None:
        write(f"{url}/{TABLE_FILE}", curves.table().encode())
        write(f"{url}/{PICTURE_FILE}", curves.picture())
    if not isinstance(fs, LocalFileSystem):
        with tempfile.TemporaryDirectory() as here:
            emulator.save(here)
            for name in (WEIGHTS_FILE, CARD_FILE, SPEC_FILE):
                write(f"{url}/{name}", (Path(here) / name).read_bytes())
        return
    target = Path(path)
    target.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        emulator.save(str(beside))
        for name in (CARD_FILE, WEIGHTS_FILE, SPEC_FILE):
            (beside / name).replace(target / name)
    finally:
        shutil.rmtree(beside)
