"""The line before a GPU, with a launcher that needs none."""

from __future__ import annotations

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from xlsbc.emulator.sample import Sample
from xlsbc.errors import EmulatorError
from xlsbc.inference.gpu import BATCH, IN_FLIGHT, Landing, Lane

NAMES = ("lai",)
OUT_OF_MEMORY = torch.cuda.OutOfMemoryError("CUDA out of memory")


def window(number: int, size: int = 4) -> Sample:
    """A window that says which it is."""
    line = np.zeros(size, np.float32)
    return Sample(
        static=np.full((1, size, size), number, np.float32),
        forcing=np.zeros((1, 1, 1, 1), np.float32),
        pooling=np.ones((1, 1), np.float32),
        row=line,
        column=line,
        valid=np.ones((size, size), bool),
    )


class Gpu:
    """Launches batches at once, and gives every window its number back.

    Parameters
    ----------
    holds
        Windows in flight that its memory holds.
    error
        What it raises if they are more.
    """

    def __init__(self, holds: int = 100, error: Exception = OUT_OF_MEMORY) -> None:
        self.holds, self.error = holds, error
        self.tried: list[list[int]] = []
        self.log: list[str] = []
        self.in_flight = 0
        self.most = 0

    def __call__(self, samples: list[Sample], names: tuple[str, ...]) -> Landing:
        numbers = [int(sample.static.flat[0]) for sample in samples]
        self.tried.append(numbers)
        if self.in_flight + len(samples) > self.holds:
            self.log.append("full")
            raise self.error
        self.log.append("launch")
        self.in_flight += len(samples)
        self.most = max(self.most, self.in_flight)

        def land(count: int) -> list[dict[str, Any]]:
            self.in_flight -= len(samples)
            self.log.append("land")
            return [{name: np.array(number) for name in names} for number in numbers[:count]]

        return land


def numbers(results: list[dict[str, Any]]) -> list[int]:
    return [int(result["lai"]) for result in results]


def test_batches_are_of_one_size_and_the_last_window_fills_the_last():
    gpu = Gpu()
    assert numbers(Lane(gpu).run([window(i) for i in range(6)], NAMES)) == list(range(6))
    assert gpu.tried == [[0, 1, 2, 3], [4, 5, 5, 5]]


def test_a_window_alone_runs_in_a_batch_of_the_same_size():
    gpu = Gpu()
    assert numbers(Lane(gpu).run([window(7)], NAMES)) == [7]
    assert gpu.tried == [[7] * BATCH]


def test_a_batch_is_launched_before_the_one_ahead_of_it_has_landed():
    gpu = Gpu()
    Lane(gpu).run([window(i) for i in range(4 * BATCH)], NAMES)
    expected = ["launch"] * IN_FLIGHT + ["land", "launch"] * (4 - IN_FLIGHT) + ["land"] * IN_FLIGHT
    assert gpu.log == expected
    assert gpu.most == IN_FLIGHT * BATCH


def test_windows_of_different_shapes_or_for_different_fields_do_not_share_a_batch():
    gpu = Gpu()
    lane = Lane(gpu)
    assert numbers(lane.run([window(0), window(1), window(2, size=6)], NAMES)) == [0, 1, 2]
    assert gpu.tried == [[0, 1, 1, 1], [2, 2, 2, 2]]
    (result,) = lane.run([window(3)], ("lai", "cvh"))
    assert result.keys() == {"lai", "cvh"}


RMM = RuntimeError("std::bad_alloc: out_of_memory: CUDA error at: cuda_memory_resource.hpp:60")


@pytest.mark.parametrize("error", [OUT_OF_MEMORY, RMM], ids=["torch", "rmm"])
@pytest.mark.parametrize(("holds", "size"), [(7, 4), (3, 2), (1, 1)])
def test_batches_shrink_until_the_memory_holds_them_and_stay_so(holds, size, error):
    gpu = Gpu(holds, error)
    lane = Lane(gpu)
    assert numbers(lane.run([window(i) for i in range(11)], NAMES)) == list(range(11))
    assert lane.batch == size
    before = len(gpu.tried)
    assert numbers(lane.run([window(11)], NAMES)) == [11]
    assert gpu.tried[before:] == [[11] * size]


def test_a_batch_for_which_another_leaves_no_room_waits_and_keeps_its_size():
    gpu = Gpu(holds=BATCH)
    lane = Lane(gpu)
    lane.run([window(i) for i in range(2 * BATCH)], NAMES)
    assert gpu.log == ["launch", "full", "land", "launch", "land"]
    assert lane.batch == BATCH


def test_a_window_that_the_memory_does_not_hold_is_a_clear_error():
    lane = Lane(Gpu(holds=0))
    with pytest.raises(EmulatorError, match=r"not hold one window of \(4, 4\) pixels \(CUDA out"):
        lane.run([window(0), window(1)], NAMES)


def test_another_error_reaches_who_asked_and_nobody_else():
    def broken(samples: list[Sample], names: tuple[str, ...]) -> Landing:
        if samples[0].static.flat[0] == 1:
            raise KeyError("no such weight")
        return gpu(samples, names)

    gpu = Gpu()
    lane = Lane(broken)
    with pytest.raises(KeyError, match="no such weight"):
        lane.run([window(1)], NAMES)
    assert numbers(lane.run([window(2)], NAMES)) == [2]
    assert gpu.tried == [[2] * BATCH]


def test_an_error_on_the_way_back_reaches_who_asked():
    def lost(samples: list[Sample], names: tuple[str, ...]) -> Landing:
        def land(count: int) -> list[dict[str, Any]]:
            raise RuntimeError("an illegal memory access was encountered")

        return land

    with pytest.raises(RuntimeError, match="illegal memory access"):
        Lane(lost).run([window(0)], NAMES)


def test_windows_of_all_threads_share_batches():
    many = 4 * BATCH + 1
    gpu, arrived, everyone = Gpu(), [], threading.Event()

    class Line(list):  # type: ignore[type-arg]
        """The windows of a call; it is read to its end when they are put in line."""

        def __iter__(self) -> Any:
            yield from super().__iter__()
            arrived.append(self)
            if len(arrived) == many:
                everyone.set()

    def launch(samples: list[Sample], names: tuple[str, ...]) -> Landing:
        if not gpu.tried:
            assert everyone.wait(timeout=30)
        return gpu(samples, names)

    lane = Lane(launch)
    with ThreadPoolExecutor(many) as pool:
        results = pool.map(lambda i: numbers(lane.run(Line([window(i)]), NAMES)), range(many))
        assert list(results) == [[i] for i in range(many)]
    assert len(gpu.tried) < many
    assert {len(batch) for batch in gpu.tried} == {BATCH}


def test_results_are_not_kept_by_the_line():
    lane = Lane(Gpu())
    gc.disable()
    try:
        kept = [weakref.ref(result["lai"]) for result in lane.run([window(0)], NAMES)]
        lane.run([window(i) for i in range(IN_FLIGHT * BATCH)], NAMES)
        assert [one() for one in kept] == [None]
    finally:
        gc.enable()
