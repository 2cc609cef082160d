"""Results computed into their places: never a wrong value, and never two owners of one."""

from __future__ import annotations

import functools
import gc
import io
import os
import pickle
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from dask.callbacks import Callback
from dask.diagnostics import Profiler, ProgressBar
from dask.highlevelgraph import HighLevelGraph
from dask.task_spec import Task

from xlsbc.inference import run as running
from xlsbc.inference.assembly import RUNNING, Assembly, assembled, place
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
    return assembled(da.Array(graph, name, chunks=CHUNKS, dtype="float32"))


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


def interrupt(*arguments):
    raise KeyboardInterrupt


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
@pytest.mark.parametrize("how", [fail, interrupt])
def test_after_an_error_there_are_no_places(monkeypatch, scheduler, how):
    """Its traceback may live for long, and the graph in it: a notebook keeps the last one."""
    monkeypatch.setattr(sys.modules[__name__], "fail", how)
    broken = array(fails={(1, 0, 1, 1)})
    with pytest.raises((RuntimeError, KeyboardInterrupt)) as kept:
        broken.compute(scheduler=scheduler)
    assert not RUNNING
    monkeypatch.setattr(Assembly, "place", fail)  # of the same name, with nothing to assemble
    blocks = array().persist(scheduler=scheduler)
    target = np.zeros(SHAPE, "float32")
    da.store(array(), target, scheduler=scheduler)
    monkeypatch.undo()
    whole = array().compute(scheduler=scheduler)
    for found in (whole, target, blocks.compute()):
        np.testing.assert_array_equal(found, WHOLE)
    assert owners(whole)
    assert kept.value is not None


def test_what_takes_block_after_block_gets_blocks_of_their_own(monkeypatch):
    monkeypatch.setattr(Assembly, "place", fail)
    target = np.zeros(SHAPE, "float32")
    da.store(array(), target)
    np.testing.assert_array_equal(target, WHOLE)
    kept = array().persist()
    assert all(owners(kept.blocks[i].compute()) for i in np.ndindex(*kept.numblocks))
    assert array().sum().compute() == WHOLE.sum()


def test_nothing_is_kept_when_a_computation_is_over():
    delayed = dask.delayed(np.sum)(array())  # its graph holds the assembly
    assert [delayed.compute() for _ in range(2)] == [WHOLE.sum()] * 2
    held = [task.func for task in dict(delayed.dask).values() if isinstance(task.func, Assembly)]
    assert [assembly.whole for assembly in held] == [None]
    found = array().compute()
    assert not RUNNING
    assert sys.getrefcount(found) == 2


def test_a_callback_of_the_user_is_called_as_ever():
    seen = []
    with Callback(posttask=lambda key, *rest: seen.append(key)):
        array().compute()
    assert len(seen) == 9  # eight blocks, and the end
    before = len(seen)
    array().compute()
    assert len(seen) == before


def test_threads_that_make_dask_forget_callbacks_lose_no_places(monkeypatch):
    monkeypatch.setattr(Callback, "active", set())
    monkeypatch.setattr(da.core, "concatenate3", fail)
    np.testing.assert_array_equal(array().compute(), WHOLE)


def test_an_array_that_was_changed_in_place_is_another():
    whole = array()
    whole[:, :, 0] = -1
    expected = WHOLE.copy()
    expected[:, :, 0] = -1
    np.testing.assert_array_equal(whole.compute(), expected)
    np.testing.assert_array_equal(array().compute(), WHOLE)


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


@pytest.mark.parametrize("kind", [lambda f: f, functools.partial])
def test_who_keeps_results_of_tasks_keeps_blocks_of_their_own(kind):
    kept = {}
    with Callback(posttask=kind(lambda key, value, *rest: kept.update({key: value}))):
        array().compute()[:] = -1
    del kept[max(kept, key=str)]  # the end, which is the caller's
    boxes = zip(np.ndindex(2, 1, 2, 2), da.core.slices_from_chunks(CHUNKS), strict=True)
    for index, box in boxes:
        np.testing.assert_array_equal(kept["a", *index], WHOLE[box])


def test_a_progress_bar_costs_no_copy(monkeypatch):
    monkeypatch.setattr(da.core, "concatenate3", fail)
    with ProgressBar(out=io.StringIO()), Profiler():
        np.testing.assert_array_equal(array().compute(), WHOLE)


def test_a_mask_is_kept():
    whole = array(kinds=odd("blank"))
    whole[0, 0, :3, 4:] = np.ma.masked
    found = whole.compute()
    assert isinstance(found, np.ma.MaskedArray)
    assert found.mask.sum() == 9


def test_a_bar_that_breaks_leaves_no_dead_result_behind():
    def broken(*arguments):
        raise BrokenPipeError

    for number in range(8):  # Dask calls those that finish in the order of a set
        with pytest.raises(BrokenPipeError), Callback(finish=broken):
            array(f"a{number}").compute()
    gc.collect()
    assert not RUNNING


def test_children_of_a_fork_have_no_results_under_way(monkeypatch):
    assembly, _ = array().__dask_postcompute__()
    monkeypatch.setitem(RUNNING, "a", assembly)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        os._exit(3 if place("a", (0, 0, 0, 0)) is None else 4)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    assert place("a", (0, 0, 0, 0)) is not None


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


EVERYDAY = {
    "a year": lambda p, e: p.isel(year=[0]),
    "months of a year": lambda p, e: p.sel(time="2001"),
    "a mean": lambda p, e: p.mean("year"),
    "a new variable": lambda p, e: p.assign(double=p.lai * 2, cover=p.cvh + p.cvl),
    "merged with the cube": lambda p, e: xr.merge([p[["cvh"]], e]),
    "a function of both": lambda p, e: xr.apply_ufunc(
        np.add, p.lai, e.elevation, dask="parallelized", output_dtypes=["f4"]
    ).to_dataset(name="sum"),
    "where": lambda p, e: xr.where(e.elevation > 300, p.cvh, 0).to_dataset(name="high"),
    "variables in one": lambda p, e: (
        p.assign(z=p.cvh * 2)[["cvh", "z"]].to_dataarray().to_dataset(name="all")
    ),
    "concatenated": lambda p, e: xr.concat([p[["cvh"]], p[["cvh"]] * 2], "k"),
    "other chunks": lambda p, e: p.assign(e=e.elevation).unify_chunks(),
    "mapped": lambda p, e: p.drop_dims("time").assign(t=p.cvh * 2).map_blocks(lambda d: d),
    "on other points": lambda p, e: p[["cvh"]].interp(latitude=p.latitude.values[:5]),
}


@pytest.mark.parametrize("name", EVERYDAY)
def test_everyday_work_on_a_prediction_goes_as_on_any_dataset(cube, emulator, name):
    prediction = predict(cube, emulator)
    plain = prediction.copy(data={n: without_places(v.data) for n, v in prediction.items()})
    elevation = cube[["elevation"]].chunk(latitude=20)
    found, expected = (EVERYDAY[name](p, elevation) for p in (prediction, plain))
    xr.testing.assert_identical(found.compute(), expected.compute())


def test_a_part_of_a_prediction_is_saved_as_netcdf(cube, emulator, tmp_path):
    part = predict(cube, emulator).isel(year=[0])
    part.to_netcdf(tmp_path / "part.nc")
    with xr.open_dataset(tmp_path / "part.nc") as found:
        xr.testing.assert_equal(found, part.compute())


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
