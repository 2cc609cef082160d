"""What a process keeps of what it read last."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, Protocol, TypeVar

__all__ = ["Recent"]


class Sized(Protocol):
    """What takes memory."""

    @property
    def nbytes(self) -> int:
        """How much, bytes."""


Kept = TypeVar("Kept", bound=Sized)


class Recent(Generic[Kept]):
    """Arrays, or what else takes memory, by key; the least recently used goes first.

    For many threads.

    Parameters
    ----------
    most
        Bytes that may be kept.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.held = 0
        self.arrays: OrderedDict[Hashable, Kept] = OrderedDict()
        self.making: dict[Hashable, Future[Kept]] = {}
        self.lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Kept]) -> Kept:
        """The array of a key, made if it is not kept; by one thread, others wait for it."""
        with self.lock:
            if key in self.arrays:
                self.arrays.move_to_end(key)
                return self.arrays[key]
            waits = self.making.get(key)
            future = waits or self.making.setdefault(key, Future())
        if waits:
            return future.result()
        try:
            made = make()
        except BaseException as error:
            with self.lock:
                del self.making[key]  # the next to ask tries again
            future.set_exception(error)
            raise
        with self.lock:
            del self.making[key]
            if self.keeps(made.nbytes):
                self.arrays[key] = made
                self.held += made.nbytes
            while self.held > self.most:
                self.held -= self.arrays.popitem(last=False)[1].nbytes
        future.set_result(made)
        return made

    def forget(self) -> None:
        """Drop all."""
        with self.lock:
            self.arrays.clear()
            self.held = 0

    def keeps(self, size: int) -> bool:
        """Whether an array of so many bytes is kept at all."""
        return size <= self.most // 4
