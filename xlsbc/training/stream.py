"""The stream: batches of random samples, read ahead by threads, from a pool that is bounded.

Reading at random what lies in chunks decodes a whole chunk for every sample. Instead a pool of
pieces is held in memory, each the source of many samples; samples are drawn from any of them, and a
piece that has given its share is replaced by one that has not been seen in this epoch. The order is
planned without reading and is a function of the seed alone: it can begin at any batch, threads
cannot change it, and ranks share out the pieces of an epoch without talking to each other.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count, islice
from typing import Generic, Protocol, TypeVar

import numpy as np

__all__ = ["Lot", "Planned", "Stream", "order"]

FAR = 64
"""Batches that are planned ahead at most."""


class Sized(Protocol):
    """What takes memory."""

    @property
    def nbytes(self) -> int:
        """How much, bytes."""


Key = TypeVar("Key", bound=Hashable)
Piece = TypeVar("Piece", bound=Sized)
Made = TypeVar("Made")


@dataclass(frozen=True)
class Lot(Generic[Key]):
    """A piece of an epoch.

    Parameters
    ----------
    key
        By which it is read.
    draws
        Samples that it gives in an epoch.
    kinds
        Which kinds of samples it can give.
    """

    key: Key
    draws: int
    kinds: tuple[bool, ...] = (True,)


@dataclass(frozen=True)
class Planned(Generic[Key]):
    """A batch before anything is read.

    Parameters
    ----------
    number
        Of the batch, from 0.
    kind
        Of its samples.
    keys
        Of the pieces of which the samples come, one a sample.
    arrives, leaves
        Pieces that are in the pool from this batch on, and those that are not after it.
    """

    number: int
    kind: int
    keys: tuple[Key, ...]
    arrives: tuple[Key, ...]
    leaves: tuple[Key, ...]


def order(
    epoch: Callable[[int], Sequence[Lot[Key]]],
    *,
    size: int,
    held: int,
    seed: int,
    rank: int = 0,
    world: int = 1,
) -> Iterator[Planned[Key]]:
    """Endless batches, each drawn from a pool of pieces.

    Parameters
    ----------
    epoch
        The pieces of an epoch, by its number.
    size
        Samples in a batch.
    held
        Pieces in the pool.
    seed
        Of all draws.
    rank, world
        Which of how many processes: each takes other pieces of an epoch, unless there are fewer
        pieces than processes.
    """
    epochs = count()
    waiting: list[Lot[Key]] = []
    pool: list[Lot[Key]] = []
    left: list[int] = []
    for number in count():
        random = np.random.default_rng((seed, 1, rank, number))
        arrives: list[Key] = []
        leaves: list[Key] = []
        keys: list[Key] = []
        kind = -1
        while len(keys) < size:
            while len(pool) < held:
                if not waiting:
                    waiting = shuffled(epoch, next(epochs), seed, rank, world)
                pool.append(waiting.pop())
                left.append(pool[-1].draws)
                arrives.append(pool[-1].key)
            if kind < 0:
                kind = possible(pool, int(random.integers(len(pool[0].kinds))))
            fit = [i for i, lot in enumerate(pool) if lot.kinds[kind]]
            if not fit:  # the last piece of this kind has left: others wait for the next batch
                break
            chosen = fit[int(random.integers(len(fit)))]
            keys.append(pool[chosen].key)
            left[chosen] -= 1
            if not left[chosen]:
                leaves.append(pool[chosen].key)
                pool[chosen], left[chosen] = pool[-1], left[-1]
                del pool[-1], left[-1]
        yield Planned(number, kind, tuple(keys), tuple(arrives), tuple(leaves))


def shuffled(
    epoch: Callable[[int], Sequence[Lot[Key]]], number: int, seed: int, rank: int, world: int
) -> list[Lot[Key]]:
    """Pieces of an epoch that a rank takes, in random order."""
    lots = epoch(number)
    places = np.random.default_rng((seed, 0, number)).permutation(len(lots))
    mine = places[rank::world] if len(lots) >= world else places
    return [lots[i] for i in mine]


def possible(pool: Sequence[Lot[Key]], kind: int) -> int:
    """The kind, or the next one that a piece of the pool can give."""
    kinds = len(pool[0].kinds)
    for step in range(kinds):
        if any(lot.kinds[(kind + step) % kinds] for lot in pool):
            return (kind + step) % kinds
    raise ValueError("no piece of the pool can give a sample of any kind")


class Stream(Generic[Key, Piece, Made]):
    """Batches made of what threads read ahead.

    Parameters
    ----------
    plan
        Begins the order of batches anew, see `order`.
    read
        A piece by its key; called by `threads` threads.
    make
        A batch of what is planned and the pieces of its samples.
    spare
        Bytes of pieces that may be kept after they left the pool, until they are needed again.
    threads
        That read.
    ahead
        Pieces that are read before they are drawn from.
    depth
        Batches that are made before they are asked for.
    """

    def __init__(
        self,
        plan: Callable[[], Iterator[Planned[Key]]],
        read: Callable[[Key], Piece],
        make: Callable[[Planned[Key], Sequence[Piece]], Made],
        *,
        spare: int = 0,
        threads: int = 2,
        ahead: int = 3,
        depth: int = 3,
    ) -> None:
        self.plan, self.read, self.make = plan, read, make
        self.threads, self.ahead, self.depth = threads, ahead, depth
        self.kept: Kept[Key, Piece] = Kept(spare)

    def batches(self, start: int = 0) -> Iterator[Made]:
        """Batches from number `start` on, endless; the threads end with the generator."""
        plan = self.plan()
        alive: Counter[Key] = Counter()
        for planned in islice(plan, start):
            alive.update(planned.arrives)
            alive.subtract(planned.leaves)
        alive = +alive
        readers = ThreadPoolExecutor(self.threads, "xlsbc-read")
        maker = ThreadPoolExecutor(1, "xlsbc-batch")
        pieces: dict[Key, Future[Piece]] = {}

        def need(key: Key) -> None:
            if key not in pieces:
                pieces[key] = self.kept.take(key) or readers.submit(self.read, key)

        for key in alive:
            need(key)
        coming: deque[Planned[Key]] = deque()
        made: deque[tuple[Planned[Key], Future[Made]]] = deque()
        fresh = 0  # pieces that batches bring that are planned and not used yet
        try:
            while True:
                # the next batch in any case: where labels are sparse each brings many pieces
                while len(coming) + len(made) < 2 or (fresh < self.ahead and len(coming) < FAR):
                    coming.append(next(plan))
                    fresh += len(coming[-1].arrives)
                    alive.update(coming[-1].arrives)
                    for key in coming[-1].arrives:
                        need(key)
                while coming and len(made) < self.depth:
                    planned = coming.popleft()
                    parts = [pieces[key] for key in planned.keys]
                    made.append((planned, maker.submit(self._make, planned, parts)))
                planned, batch = made.popleft()
                result = batch.result()
                fresh -= len(planned.arrives)
                for key in planned.leaves:
                    alive[key] -= 1
                    if not alive[key]:
                        del alive[key]
                        self.kept.put(key, pieces.pop(key))
                yield result
        finally:
            readers.shutdown(wait=True, cancel_futures=True)
            maker.shutdown(wait=True, cancel_futures=True)

    def _make(self, planned: Planned[Key], parts: Sequence[Future[Piece]]) -> Made:
        return self.make(planned, [part.result() for part in parts])


class Kept(Generic[Key, Piece]):
    """Pieces that left the pool, as many as there is memory for; the oldest go first."""

    def __init__(self, most: int) -> None:
        self.most, self.held = most, 0
        self.pieces: OrderedDict[Key, Future[Piece]] = OrderedDict()
        self.lock = threading.Lock()

    def take(self, key: Key) -> Future[Piece] | None:
        """A piece, which is kept no more; None if it is not here."""
        with self.lock:
            return self._pop(key)

    def put(self, key: Key, piece: Future[Piece]) -> None:
        """Keep a piece that has been read."""
        with self.lock:
            self._pop(key)  # another generator of the stream may have had it too
            self.pieces[key] = piece
            self.held += piece.result().nbytes
            while self.held > self.most:
                self._pop(next(iter(self.pieces)))

    def _pop(self, key: Key) -> Future[Piece] | None:
        found = self.pieces.pop(key, None)
        self.held -= found.result().nbytes if found else 0
        return found
