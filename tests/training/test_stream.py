from __future__ import annotations

import gc
import random
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from itertools import islice
from typing import Any

import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from xlsbc.training.stream import Kept, Lot, Planned, Stream, order

OWN = ("xlsbc-read", "xlsbc-batch")

Epoch = Callable[[int], Sequence[Lot[str]]]


class Box:
    """A piece of 100 bytes."""

    nbytes = 100

    def __init__(self, key: str) -> None:
        self.key = key


def lots(*draws: int, names: str = "abcdefghijklmnopqrstuvwxyz") -> Epoch:
    """The same pieces in every epoch, by how many samples each gives."""
    return lambda epoch: [Lot(name, count) for name, count in zip(names, draws, strict=False)]


MIXED = lots(4, 2, 7, 1, 3)


def planned(epoch: Epoch, count: int, **options: Any) -> list[Planned[str]]:
    options = {"size": 3, "held": 2, "seed": 0, **options}
    return list(islice(order(epoch, **options), count))


def stream(
    epoch: Epoch = MIXED,
    read: Callable[[str], Box] = Box,
    plan: dict[str, Any] | None = None,
    **options: Any,
) -> Stream[str, Box, tuple[int, str]]:
    """Batches that say their number and of which pieces they are."""
    drawn_by = {"size": 3, "held": 2, "seed": 0, **(plan or {})}
    return Stream(
        lambda: order(epoch, **drawn_by),
        read,
        lambda planned, boxes: (planned.number, "".join(box.key for box in boxes)),
        **options,
    )


def recorded() -> tuple[list[str], Callable[[str], Box]]:
    """What was read, and what reads."""
    read: list[str] = []

    def reading(key: str) -> Box:
        read.append(key)
        return Box(key)

    return read, reading


def own_threads() -> list[str]:
    """Names of the threads of streams."""
    return [t.name for t in threading.enumerate() if t.name.startswith(OWN)]


def stays(plan: Sequence[Planned[str]]) -> Iterator[tuple[str, int]]:
    """Pieces with the number of samples that they gave from when they came until they left."""
    given: Counter[str] = Counter()
    for batch in plan:
        given.update(batch.keys)
        for key in batch.leaves:
            yield key, given.pop(key)


def test_a_seed_repeats_the_order_and_another_makes_another():
    assert planned(MIXED, 50) == planned(MIXED, 50)
    assert planned(MIXED, 50) != planned(MIXED, 50, seed=1)


def test_a_piece_gives_its_share_from_when_it_comes_until_it_leaves():
    shares = {"a": 4, "b": 2, "c": 7, "d": 1, "e": 3}

    def epoch(number: int) -> list[Lot[str]]:  # a piece may be there for two epochs at once
        return [Lot(f"{key}{number}", count) for key, count in shares.items()]

    found = list(stays(planned(epoch, 200)))
    assert len(found) > 100
    assert all(count == shares[key[0]] for key, count in found)


def test_every_piece_comes_once_in_an_epoch():
    arrivals = "".join("".join(p.arrives) for p in planned(MIXED, 100))
    epochs = [arrivals[i : i + 5] for i in range(0, len(arrivals) // 5 * 5, 5)]
    assert len(epochs) > 10
    assert all(sorted(epoch) == list("abcde") for epoch in epochs)
    assert len(set(epochs)) > 5


def test_epochs_may_be_of_other_pieces():
    def epoch(number: int) -> list[Lot[str]]:
        return [Lot(f"{number}{name}", 2) for name in "abc"]

    arrivals = [key for p in planned(epoch, 30) for key in p.arrives]
    assert [int(key[:-1]) for key in arrivals[:12]] == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3


@drawn(
    draws=st.lists(st.integers(1, 9), min_size=1, max_size=8),
    held=st.integers(1, 5),
    size=st.integers(1, 7),
)
def test_samples_are_of_pieces_in_the_pool_which_is_never_larger_than_it_may_be(draws, held, size):
    pool: Counter[str] = Counter()
    for batch in planned(lots(*draws), 40, held=held, size=size):
        before = pool.total()
        pool.update(batch.arrives)
        assert set(batch.keys) <= set(+pool)
        assert len(batch.keys) == size
        pool.subtract(batch.leaves)
        assert min(pool.values()) >= 0
        assert pool.total() <= held
        assert before + len(batch.arrives) <= held + len(batch.leaves)


def test_ranks_take_other_pieces_that_together_are_all():
    epoch = lots(4, 2, 7, 1, 3, 2, 2)
    ranks = [
        [k for p in planned(epoch, 60, rank=rank, world=3) for k in p.arrives] for rank in range(3)
    ]
    for number in range(5):
        of_epoch = [
            keys[number * n : (number + 1) * n] for keys, n in zip(ranks, (3, 2, 2), strict=True)
        ]
        assert sorted(sum(of_epoch, [])) == list("abcdefg")


def test_ranks_that_are_more_than_the_pieces_take_all_in_orders_of_their_own():
    plans = [planned(lots(5, 5), 20, rank=rank, world=3) for rank in range(3)]
    for plan in plans:
        assert {key for batch in plan for key in batch.keys} == {"a", "b"}
    assert plans[0] != plans[1] != plans[2]


def test_a_batch_is_of_one_kind_and_of_pieces_that_can_give_it():
    kinds = {"a": (True, False), "b": (False, True), "c": (True, True)}
    found: set[int] = set()
    for batch in planned(lambda _: [Lot(k, 5, kinds[k]) for k in kinds], 100):
        assert 1 <= len(batch.keys) <= 3
        assert all(kinds[key][batch.kind] for key in batch.keys)
        found.add(batch.kind)
    assert found == {0, 1}


def test_a_kind_that_every_piece_can_give_is_drawn_as_often_as_another():
    batches = planned(lambda _: [Lot(k, 5, (True, True, True)) for k in "abc"], 600)
    counts = Counter(batch.kind for batch in batches)
    assert all(150 < counts[kind] < 250 for kind in range(3))  # 200, standard deviation 11.5


def test_pieces_that_can_give_nothing_are_an_error():
    with pytest.raises(ValueError, match="no piece of the pool can give a sample of any kind"):
        planned(lambda _: [Lot("a", 1, (False, False))], 1)


@drawn(start=st.integers(0, 120), held=st.integers(1, 4), size=st.integers(1, 5))
@settings(max_examples=40)
def test_batches_from_a_number_on_are_those_after_it(start, held, size):
    plan = {"held": held, "size": size}
    batches = stream(plan=plan).batches(start)
    expected = planned(MIXED, start + 6, held=held, size=size)[start:]
    assert list(islice(batches, 6)) == [(p.number, "".join(p.keys)) for p in expected]
    batches.close()


class Deferred:
    """Reads that end in an order of their own: the last of some that wait goes first."""

    def __init__(self, seed: int, threads: int) -> None:
        self.random, self.threads = random.Random(seed), threads
        self.turn = threading.Condition()
        self.waiting: list[str] = []

    def __call__(self, key: str) -> Box:
        with self.turn:
            own = f"{key} {self.random.random()}"
            self.waiting.append(own)
            while own in self.waiting:
                if len(self.waiting) == self.threads:
                    self.waiting.remove(self.random.choice(self.waiting))
                    self.turn.notify_all()
                elif not self.turn.wait(0.01):  # fewer are being read than there are threads
                    self.waiting[:] = []
                    self.turn.notify_all()
        return Box(key)


@pytest.mark.parametrize("threads", [1, 2, 8])
@pytest.mark.parametrize("seed", [1, 2])
def test_batches_do_not_depend_on_threads_or_on_what_is_read_first(threads, seed):
    expected = [(p.number, "".join(p.keys)) for p in planned(MIXED, 60)]
    slow = stream(read=Deferred(seed, threads), threads=threads, ahead=threads + 1)
    batches = slow.batches()
    assert list(islice(batches, 60)) == expected
    batches.close()


@pytest.mark.parametrize("ahead", [0, 1, 5])
@pytest.mark.parametrize("held", [1, 4])
@pytest.mark.parametrize(
    "draws", [(1,) * 9, (30,) * 9, (4, 2, 7, 1, 3)], ids=["few", "many", "mixed"]
)
def test_no_more_pieces_are_in_memory_than_pool_and_batches_that_wait_need(draws, held, ahead):
    size, depth = 3, 2
    alive: weakref.WeakSet[Box] = weakref.WeakSet()
    most = 0

    def read(key: str) -> Box:
        nonlocal most
        box = Box(key)
        alive.add(box)
        most = max(most, len(alive))
        return box

    plan = {"held": held, "size": size}
    batches = stream(lots(*draws), read, plan, ahead=ahead, depth=depth).batches()
    per_batch = max(len(p.arrives) for p in planned(lots(*draws), 80, **plan)[1:])
    gc.disable()  # what is counted is freed at once, or not at all
    try:
        for _ in islice(batches, 80):
            pass
    finally:
        gc.enable()
    assert most <= held + per_batch + max(ahead, per_batch)
    batches.close()


def test_pieces_that_left_are_not_read_again_while_there_is_memory_for_them():
    read, reading = recorded()
    kept = stream(read=reading, spare=500)
    batches = kept.batches()
    for _ in islice(batches, 60):
        pass
    assert sorted(read) == list("abcde")
    batches.close()
    again = kept.batches(40)
    assert next(again) == stream_at(40)
    again.close()
    assert len(read) <= 10  # what the first generator held when it was closed


def stream_at(number: int) -> tuple[int, str]:
    """What a stream without anything else gives as batch of a number."""
    batches = stream().batches(number)
    found = next(batches)
    batches.close()
    return found


def test_without_memory_to_spare_pieces_are_read_again_in_every_epoch():
    read, reading = recorded()
    batches = stream(read=reading).batches()
    for _ in islice(batches, 80):  # ten epochs that have been read to their end, two in the pool
        pass
    batches.close()
    assert min(Counter(read).values()) >= 5


def test_what_is_kept_is_never_more_than_may_be_and_the_oldest_goes_first():
    kept: Kept[str, Box] = Kept(250)
    for key in "abcb":
        future: Future[Box] = Future()
        future.set_result(Box(key))
        kept.put(key, future)
    assert kept.held == 200
    assert kept.take("a") is None
    assert [kept.take(key) is not None for key in "bc"] == [True, True]
    assert kept.held == 0


@pytest.mark.parametrize("where", ["read", "make"])
def test_what_goes_wrong_reaches_the_consumer_once_and_ends_the_threads(where):
    def read(key: str) -> Box:
        if where == "read" and key == "d":
            raise OSError("no such piece")
        return Box(key)

    def make(planned: Planned[str], boxes: Sequence[Box]) -> int:
        if where == "make" and planned.number == 3:
            raise OSError("no such batch")
        return planned.number

    broken: Stream[str, Box, int] = Stream(
        lambda: order(MIXED, size=3, held=2, seed=0), read, make, threads=4
    )
    batches = broken.batches()
    with pytest.raises(OSError, match="no such"):
        list(batches)
    assert list(batches) == []
    assert own_threads() == []


def test_a_read_that_fails_ends_a_maker_that_waits_for_others():
    inside, go = threading.Event(), threading.Event()

    def read(key: str) -> Box:
        if key == "a":
            inside.set()
            go.wait(30)
        return Box(key)

    batches = stream(lots(9, 9, 9), read, {"held": 3}, threads=1).batches()
    closer = threading.Thread(target=lambda: (inside.wait(30), go.set()))
    closer.start()
    next(batches)
    batches.close()
    closer.join(30)
    assert own_threads() == []


def test_closing_the_generator_ends_all_threads():
    batches = stream(threads=8).batches()
    next(batches)
    assert any(name.startswith("xlsbc-batch") for name in own_threads())
    batches.close()
    assert own_threads() == []


def test_dropping_the_generator_ends_all_threads():
    batches = stream(threads=3).batches()
    next(batches)
    del batches
    gc.collect()
    assert own_threads() == []


@pytest.mark.parametrize("draws", [1, 2, 40])
def test_pieces_of_the_next_batch_are_read_while_one_is_used(draws):
    """A consumer that takes its time does not find that nothing was done meanwhile."""
    made = threading.Semaphore(0)

    def make(planned: Planned[str], boxes: Sequence[Box]) -> int:
        made.release()
        return planned.number

    eager: Stream[str, Box, int] = Stream(
        lambda: order(lots(*(draws,) * 26), size=4, held=2, seed=0), Box, make
    )
    batches = eager.batches()
    assert next(batches) == 0
    assert made.acquire(timeout=30)
    assert made.acquire(timeout=5), "the second batch is not made before it is asked for"
    batches.close()
