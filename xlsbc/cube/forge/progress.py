"""A progress bar of blocks, where the runner works in this process."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

__all__ = ["advance", "begin", "shown"]

_lock = threading.Lock()
_bar: Any = None


@contextlib.contextmanager
def shown(title: str, hidden: bool = False) -> Iterator[None]:
    """Show how many blocks of how many are written, while the context lasts."""
    global _bar
    from tqdm.auto import tqdm

    with tqdm(desc=title, unit="block", disable=hidden) as bar:
        _bar = bar
        try:
            yield
        finally:
            _bar = None


def begin(total: int) -> None:
    """Tell the number of blocks."""
    with _lock:
        if _bar is not None:
            _bar.reset(total)


def advance() -> None:
    """Tell that one block is written."""
    with _lock:
        if _bar is not None:
            _bar.update()
