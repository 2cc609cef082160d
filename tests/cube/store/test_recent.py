from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from xlsbc.cube.store.recent import Recent


def block(kilobytes: int) -> np.ndarray:
    return np.zeros(kilobytes * 1024, np.uint8)


def test_what_was_used_longest_ago_goes_first():
    kept = Recent(8 * 1024)
    for key in "abcd":
        kept.get(key, lambda: block(2))
    kept.get("a", lambda: block(2))
    kept.get("e", lambda: block(2))
    assert list(kept.arrays) == ["c", "d", "a", "e"]


def test_an_array_is_made_once_while_it_is_kept():
    kept, made = Recent(8 * 1024), []

    def make() -> np.ndarray:
        made.append(1)
        return block(1)

    assert kept.get("a", make) is kept.get("a", make)
    assert made == [1]


def test_what_would_push_out_the_rest_is_not_kept():
    kept = Recent(8 * 1024)
    assert kept.get("large", lambda: block(3)).nbytes == 3 * 1024
    assert not kept.arrays
    assert kept.keeps(2 * 1024)
    assert not kept.keeps(2 * 1024 + 1)


def test_an_error_leaves_nothing_behind():
    kept = Recent(1024)
    for _ in range(2):
        try:
            kept.get("a", lambda: 1 / 0)
        except ZeroDivisionError:
            pass
    assert not kept.arrays
    assert kept.held == 0


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), max_size=60), st.integers(0, 12))
def test_what_is_kept_is_counted_and_never_more_than_allowed(calls, most):
    kept = Recent(most * 1024)
    for key, size in calls:
        kept.get(key, lambda size=size: block(size))
        assert kept.held == sum(array.nbytes for array in kept.arrays.values()) <= kept.most


def test_threads_that_ask_meanwhile_wait_for_the_first():
    kept, made, started, go = Recent(8 * 1024), [], Event(), Event()

    def slow() -> np.ndarray:
        made.append(1)
        started.set()
        go.wait()
        return block(1)

    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(kept.get, "a", slow)
        started.wait()
        others = [pool.submit(kept.get, "a", slow) for _ in range(3)]
        go.set()
    assert made == [1]
    assert all(other.result() is first.result() for other in others)


def test_many_threads_get_the_array_of_their_key():
    kept = Recent(64 * 1024)

    def right(i: int) -> bool:
        return int(kept.get(i % 50, lambda: np.full(512, i % 50))[0]) == i % 50

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(right, range(4000)))
    assert kept.held == sum(array.nbytes for array in kept.arrays.values())
