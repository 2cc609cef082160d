"""Results computed into their places: never a wrong value, and never two owners of one."""

from __future__ import annotations

import gc
import pickle
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import dask
import dask.array as da
import numpy as np
import pytest
from dask.highlevelgraph import HighLevelGraph
from dask.task_spec import Task

from xlsbc.inference import run as running
from xlsbc.inference.assembly import ASSEMBLIES, Assembled, Assembly, place
from xlsbc.inference.predict import predict

CHUNKS = ((1, 1), (2,), (3, 2), (4, 3))
SHAPE = (2, 2, 5, 7)
WHOLE = np.arange(140, dtype="float32").reshape(SHAPE)

HERE = "a place"
"""Kinds of blocks: what was put into its place, a copy of it, or one that never asked."""


GATE = threading.Event()


def block(name, index, box, kind, barrier=None):
    if barrier is not None and index[0] == 0:
        barrier.wait(10)  # for the other computation
    if kind == "gate":
        GATE.wait(10)
    found = place(name, index) if kind != "blank" else None
    if found is None:
        found = np.empty_like(WHOLE[box])
    found[:] = WHOLE[box]
    return found.copy() if kind == "copy" else found


def array(name="a", kinds=lambda index: HERE, barrier=None, fails=()):
    template = da.zeros(SHAPE, chunks=CHUNKS)
    boxes = da.core.slices_from_chunks(CHUNKS)
    tasks = {}
    for index, box in zip(np.ndindex(*template.numblocks), boxes, strict=True):
        key = (name, *index)
        run = fail if index in fails else block
        tasks[key] = Task(key, run, name, index, box, kinds(index), barrier)
    graph = HighLevelGraph.from_collections(name, tasks)
    return Assembled(graph, name, chunks=CHUNKS, dtype="float32")


def fail(*arguments):
    raise RuntimeError("as it was told")


def odd(kind):
    return lambda index: kind if sum(index) % 2 else HERE


def owners(found):
    """Whether the result is memory of its own, and not a copy that Dask made of blocks."""
    return found.base is None and found.flags.owndata


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
@pytest.mark.parametrize("kinds", [lambda i: HERE, odd("copy"), odd("blank"), lambda i: "blank"])
def test_the_result_is_that_of_dask_whatever_became_of_the_places(scheduler, kinds):
    with dask.config.set(scheduler=scheduler):
        found = array(kinds=kinds).compute()
    np.testing.assert_array_equal(found, WHOLE)
    assert found.dtype == np.float32
    assert owners(found)


def test_nothing_is_copied_where_all_blocks_are_in_their_places(monkeypatch):
    monkeypatch.setattr(da.core, "concatenate3", fail)
    np.testing.assert_array_equal(array().compute(scheduler="threads"), WHOLE)
    np.testing.assert_array_equal(array(kinds=odd("blank")).compute(scheduler="threads"), WHOLE)


def test_blocks_of_a_result_that_was_given_away_are_nobody_elses():
    whole = array()
    first = whole.compute()
    first[:] = -1
    np.testing.assert_array_equal(whole.compute(), WHOLE)
    kept = whole.persist()
    whole.compute()[:] = -1
    np.testing.assert_array_equal(kept.compute(), WHOLE)


def test_two_computations_at_once_do_not_share_a_result():
    whole = array(barrier=threading.Barrier(2))

    def compute(_):
        found = whole.compute(scheduler="synchronous")
        np.testing.assert_array_equal(found, WHOLE)
        return found

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(compute, range(2)))
    assert not np.shares_memory(*results)
    for found in results:
        np.testing.assert_array_equal(found, WHOLE)


def test_a_part_that_is_kept_meanwhile_has_no_memory_of_the_result():
    barrier = threading.Barrier(2)
    whole = array(barrier=barrier)

    def keep():
        return whole.partitions[0].persist(scheduler="synchronous")

    with ThreadPoolExecutor(1) as pool:
        later = pool.submit(keep)
        while not barrier.n_waiting:
            time.sleep(0.001)
        found = whole.compute(scheduler="synchronous")
    np.testing.assert_array_equal(found, WHOLE)
    found[:] = -1
    np.testing.assert_array_equal(later.result().compute(), WHOLE[:1])


def nested(values):
    return [[[[values(i, 0, j, k) for k in (0, 1)] for j in (0, 1)]] for i in (0, 1)]


def test_a_block_in_the_place_of_another_computation_keeps_it():
    finish, _ = array().__dask_postcompute__()
    theirs = finish.place((0, 0, 0, 0))
    theirs[:] = 5
    found = finish(nested(lambda *index: WHOLE[finish.parts[index]]))
    np.testing.assert_array_equal(found, WHOLE)
    assert not np.shares_memory(found, theirs)
    assert (theirs == 5).all()


def test_what_was_given_to_the_caller_is_given_to_nobody_else():
    finish, _ = array().__dask_postcompute__()
    first = finish.place((0, 0, 0, 0))
    first[:] = WHOLE[finish.parts[0, 0, 0, 0]]
    blocks = nested(lambda *index: WHOLE[finish.parts[index]] if any(index) else first)
    found = finish(blocks)
    np.testing.assert_array_equal(found, WHOLE)
    assert np.shares_memory(found, first)
    assert all(finish.place(index) is None for index in finish.parts)


def test_after_an_error_the_next_computation_begins_anew():
    broken = array(fails={(1, 0, 1, 1)})
    with pytest.raises(RuntimeError, match="as it was told") as kept:
        broken.compute(scheduler="synchronous")
    whole = array().compute(scheduler="synchronous")  # the same name; the traceback is alive
    np.testing.assert_array_equal(whole, WHOLE)
    assert kept.value is not None


def test_nothing_is_kept_when_a_computation_is_over():
    array().compute()
    gc.collect()
    assert not ASSEMBLIES


def test_several_arrays_are_computed_together():
    first, second = array("a"), array("b", kinds=odd("copy"))
    found = dask.compute(first, second, first.sum(), first[0])
    for whole in found[:2]:
        np.testing.assert_array_equal(whole, WHOLE)
    assert found[2] == WHOLE.sum()
    np.testing.assert_array_equal(found[3], WHOLE[0])
    assert not np.shares_memory(found[0], found[3])


def test_other_processes_put_blocks_together_as_dask_does():
    whole = array()
    finish, rest = whole.__dask_postcompute__()
    assert pickle.loads(pickle.dumps(finish)) is da.core.finalize
    assert rest == ()
    with dask.config.set(scheduler="processes", num_workers=1):
        np.testing.assert_array_equal(whole.compute(), WHOLE)
    assert type(pickle.loads(pickle.dumps(whole))) is da.Array


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_worker_in_this_process_keeps_its_blocks_to_itself(monkeypatch):
    from distributed import Client

    monkeypatch.setattr(Assembly, "place", fail)
    with Client(processes=False, n_workers=1, threads_per_worker=2, dashboard_address=":0") as c:
        np.testing.assert_array_equal(array("b").compute(), WHOLE)
        GATE.clear()
        whole = array(kinds=lambda index: "gate")
        result, kept = c.compute(whole), c.persist(whole)  # the same tasks serve both
        GATE.set()
        found = result.result()
        found[:] = -1
        np.testing.assert_array_equal(kept.compute(), WHOLE)


def test_where_dask_keeps_results_of_tasks_there_are_no_places(monkeypatch):
    monkeypatch.setitem(sys.modules, "dask.cache", dask)
    finish, _ = array().__dask_postcompute__()
    assert finish is da.core.finalize


@pytest.mark.parametrize("part", [slice(None), slice(5, 43)])
def test_a_prediction_is_computed_into_its_place(cube, emulator, monkeypatch, part):
    cube = cube.isel(latitude=part, longitude=part)
    cube = cube.assign(elevation=cube.elevation.where(cube.elevation > 300))
    prediction = predict(cube, emulator)
    expected = {n: without_places(v.data).compute() for n, v in prediction.data_vars.items()}
    monkeypatch.setattr(da.core, "concatenate3", fail)
    found = prediction.compute()
    for name, value in expected.items():
        assert found[name].data.tobytes() == value.tobytes(), name
        assert owners(found[name].data)
    alone = predict(cube, emulator, targets=["lai"]).compute().lai
    assert alone.data.tobytes() == expected["lai"].tobytes()


def test_what_lies_on_a_gpu_has_no_place_in_memory(cube, emulator, monkeypatch):
    other = SimpleNamespace(**vars(np))  # as CuPy: the same functions, another module
    monkeypatch.setattr(running, "namespace", lambda arrays: other)
    monkeypatch.setattr(running, "on_host", lambda array: array)
    monkeypatch.setattr(Assembly, "place", fail)
    part = cube.isel(latitude=slice(0, 30), longitude=slice(0, 30))
    lazy = predict(part, emulator, targets=["lai"])
    expected = without_places(lazy.lai.data).compute()
    np.testing.assert_array_equal(lazy.lai.compute(), expected)


def without_places(array):
    return da.Array(array.dask, array.name, array.chunks, array.dtype)
