from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from xlsbc.inference import threads
from xlsbc.inference.threads import one_thread

LIBRARY = threads.runtime()


@pytest.fixture(params=["library", "torch"], autouse=True)
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through torch's libraries, and as where they do not show."""
    if request.param == "torch":
        monkeypatch.setattr(threads, "runtime", lambda: None)


def in_new_thread(call: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result()


@pytest.fixture
def set_threads() -> Iterator[Callable[[int], None]]:
    """Sets torch's threads, for the time of a test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_one_thread_is_for_a_time_and_for_one_thread_only(set_threads, count):
    set_threads(count)
    with one_thread():
        assert torch.get_num_threads() == 1
        assert in_new_thread(torch.get_num_threads) == count
    assert torch.get_num_threads() == count
    assert in_new_thread(torch.get_num_threads) == count


def test_one_thread_leaves_a_thread_with_its_own_number(set_threads):
    set_threads(2)

    def own() -> tuple[int, int]:
        torch.set_num_threads(3)
        set_in_main = in_new_thread(torch.get_num_threads)
        with one_thread():
            pass
        return torch.get_num_threads(), set_in_main

    assert in_new_thread(own) == (3, 3)
    assert torch.get_num_threads() == 2


def test_one_thread_is_left_after_an_error(set_threads):
    set_threads(2)
    with pytest.raises(KeyError), one_thread():
        raise KeyError
    assert torch.get_num_threads() == 2


@pytest.mark.skipif(
    LIBRARY is None or not torch.backends.mkl.is_available(),
    reason="needs torch that shows its MKL",
)
def test_mkl_too_has_one_thread_for_a_time(set_threads):
    def of_mkl() -> int:
        count = LIBRARY.MKL_Set_Num_Threads_Local(1)  # says what it was
        LIBRARY.MKL_Set_Num_Threads_Local(count)
        return count

    set_threads(2)
    with one_thread():
        assert of_mkl() == 1
    assert of_mkl() == 2
