"""Write a cube or a prediction to Zarr v3: resumable, checksummed, packed, and complete last.

An interrupted write is gone on with by the same call. Nothing opens under the URL before all of it
is there, and nothing can be lost or damaged later that `verify` would not find.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import dask
import xarray as xr
from dask.task_spec import Task
from dask.typing import Key

from xlsbc.cube.store.layout import Layout, layout
from xlsbc.cube.store.ledger import (
    PLAN,
    ROOT,
    Plan,
    as_json,
    check_objects,
    ledger,
    manifest,
    read_ledger,
    read_plan,
    refuse,
)
from xlsbc.cube.store.place import move, objects_at, settle
from xlsbc.cube.store.regions import (
    Receipts,
    Region,
    Sources,
    regions,
    reread_tasks,
    store_tasks,
)
from xlsbc.cube.store.storage import Objects
from xlsbc.errors import StoreError

__all__ = ["verify", "write"]

CHECKED_AT_ONCE = 64
"""Objects that one task of `verify` reads."""


def write(
    ds: xr.Dataset,
    url: Any,
    *,
    resume: bool = True,
    overwrite: bool = False,
    packed: bool = True,
    progress: bool = True,
) -> str:
    """Compute a Dataset into a Zarr v3 store and return where it is.

    Runs on Dask's scheduler of the moment, a distributed client included. Nothing can be opened
    at `url` before all is written. An interrupted write leaves the regions that are finished; the
    same call goes on from there, and several processes may make it at once.

    Parameters
    ----------
    ds
        A cube or prediction, lazy or not. Its chunks become the stored ones; sides longer than
        512 pixels become shards, where they can be halved, or cut into other equal parts.
    url
        Any fsspec URL; or an Icechunk repository, where every year is a commit, by itself or as
        ``icechunk+s3://bucket/prefix``; or a writable session of one, which is left to commit.
    resume
        Whether to go on with what the same write left: finished regions are read again, and
        computed again only where they are damaged. A store that is complete is left as it is.
    overwrite
        Whether another store, or anything else at `url`, may be replaced. A local one stays until
        the new one is whole; elsewhere it is deleted first.
    packed
        Whether fractions and leaf area become 16-bit integers in the steps of the vocabulary.
        xarray reads them with NaN, as float64 of which each is a float32; fractions still sum to
        exactly 1.
    progress
        Whether to show a progress bar.

    Raises
    ------
    CubeError
        If something else is at `url`, with every field in which the plan of an unfinished store
        is another; if a value does not fit its packing; or if there is nothing to write.
    StoreError
        If the store cannot be read or written, after several attempts, with the regions.
    """
    wanted = objects_at(url)
    laid_out = layout(ds, packed)
    plan = Plan.of(ds, laid_out)
    objects = settle(wanted, plan, resume, overwrite)
    if objects is not None:
        with resumable(wanted.url):
            begin(objects, plan, laid_out)
            receipts = fill(objects, laid_out, Sources.of(ds, laid_out), progress)
            finish(objects, plan, laid_out, receipts)
            move(objects, wanted)
    return wanted.url


def verify(url: Any, *, progress: bool = True) -> int:
    """Number of objects of a complete store, each of which is as it was written.

    Finds what reading cannot: a chunk that is missing, or that is another chunk, as well as one
    that was damaged.

    Raises
    ------
    StoreError
        If there is no complete store at `url`, or with every object that is not as it was.
    """
    objects = objects_at(url)
    root, expected = read_ledger(objects)
    graph: dict[Key, Any] = {
        ("xlsbc-verify", i): Task(("xlsbc-verify", i), check_objects, objects, some)
        for i, some in enumerate(batches(expected, CHECKED_AT_ONCE))
    }
    problems = [problem for found in run(graph, list(graph), progress) for problem in found]
    problems += differing_metadata(objects, root)
    if problems:
        raise StoreError(
            f"{len(problems)} objects of {objects.url} are not as written; write it again",
            sorted(problems),
        )
    return sum(map(bool, expected.values()))


def differing_metadata(objects: Objects, root: dict[str, Any]) -> list[str]:
    """Arrays whose own metadata are not those that the group has of them."""
    inside = root["consolidated_metadata"]["metadata"]
    found = objects.read(f"{name}/{ROOT}" for name in inside)
    return [
        f"{key} is missing or not what was written"
        for (key, content), expected in zip(found.items(), inside.values(), strict=True)
        if not same_document(content, expected)
    ]


def same_document(content: bytes | None, expected: dict[str, Any]) -> bool:
    """Whether an object holds this JSON."""
    try:
        return json.loads(content or b"") == expected
    except ValueError:
        return False


def batches(receipts: Receipts, size: int) -> Iterator[Receipts]:
    """Parts of so many objects."""
    keys = sorted(receipts)
    for start in range(0, len(keys), size):
        yield {key: receipts[key] for key in keys[start : start + size]}


def begin(objects: Objects, plan: Plan, layout: Layout) -> None:
    """Put the plan, then metadata and coordinates.

    Raises
    ------
    CubeError
        If another plan was faster.
    """
    objects.create(PLAN, plan.document)
    hold(objects, plan)
    objects.put(layout.documents)
    objects.keep("metadata")


def hold(objects: Objects, plan: Plan) -> None:
    """Refuse to go on in a store of another plan."""
    found = read_plan(objects)
    if found is None or plan.differences(found):
        raise refuse(objects.url, plan.differences(found or Plan({})))


def fill(objects: Objects, layout: Layout, sources: Sources, progress: bool) -> Receipts:
    """Write every region that is not there in full; checksums of all objects."""
    wanted, receipts = regions(layout, sources)
    there: set[str] = set()
    for name in layout.arrays:
        there |= objects.keys(f"{name}/")
    done: list[Region] = []
    todo: list[Region] = []
    whole: list[Region] = []
    for region in wanted:
        keys = {layout.arrays[name].key(index) for name, index in region.chunks}
        (done if keys <= there else todo).append(region)
    again = run(*reread_tasks(done, layout, objects), progress)
    for region, found in zip(done, again, strict=True):
        if found is None:
            todo.append(region)
        else:
            receipts |= found
            whole.append(region)
    for in_memory, part in parts(todo, sources, objects.by_unit):
        tasks = store_tasks(part, layout, sources, objects, whole)
        # What is in memory is not sent to the workers of a cluster.
        for found, written in run(*tasks, progress, here=in_memory):
            receipts |= found
            objects.take(written)
        objects.keep(f"{len(part)} regions")
        whole += part
    return receipts


def parts(
    todo: Iterable[Region], sources: Sources, by_unit: bool
) -> Iterator[tuple[bool, list[Region]]]:
    """Regions that are written together, and whether they are in memory."""
    together: dict[tuple[bool, int], list[Region]] = defaultdict(list)
    for region in todo:
        computed = region.chunks[0][0] not in sources.memory
        together[computed, region.unit if by_unit else 0].append(region)
    for (computed, _), part in sorted(together.items(), key=lambda item: item[0]):
        yield not computed, part


def finish(objects: Objects, plan: Plan, layout: Layout, receipts: Receipts) -> None:
    """Put the ledger, clear away what killed writers left, and make the store readable."""
    receipts = receipts | layout.receipts
    objects.put(ledger(receipts))
    # Another writer whose half-written file goes here writes it again.
    objects.drop(key for key in sorted(objects.keys()) if key.endswith(".partial"))
    hold(objects, plan)
    attributes = {**layout.root["attributes"], **manifest(receipts)}
    objects.put({ROOT: as_json({**layout.root, "attributes": attributes})})
    objects.keep("complete")


def run(
    graph: dict[Key, Any], keys: list[Key], progress: bool, here: bool = False
) -> Iterator[Any]:
    """Results of a graph's keys, by the scheduler of the moment, or `here` in this process."""
    if not keys:
        return iter(())
    get = dask.base.get_scheduler() or dask.threaded.get
    client = getattr(get, "__self__", None)
    if client is None or here:
        get = dask.threaded.get if client is not None else get
        with bar(progress):
            return iter(get(graph, keys))
    futures = client.get(graph, keys, sync=False)
    try:
        show(futures, progress)
        return iter(client.gather(futures))
    except BaseException:
        client.cancel(futures)
        raise


def show(futures: list[Any], progress: bool) -> None:
    """Wait for futures, with a progress bar; an error ends the waiting."""
    from distributed import as_completed
    from tqdm.auto import tqdm

    for future in tqdm(as_completed(futures), total=len(futures), disable=not progress):
        if future.status == "error":
            future.result()


@contextlib.contextmanager
def bar(show: bool) -> Iterator[None]:
    """A progress bar of local schedulers."""
    from dask.diagnostics import ProgressBar

    if not show:
        yield
        return
    with ProgressBar(dt=0.1):
        yield


@contextlib.contextmanager
def resumable(url: str) -> Iterator[None]:
    """Say with any error, an interrupt included, that the store can be gone on with."""
    with terminable():
        try:
            yield
        except BaseException as error:
            note = f"{url} is not complete; what is finished stays: write the same again to go on"
            error.add_note(note)
            if isinstance(error, SystemExit):
                print(note, file=sys.stderr)  # no traceback that would show it
            raise


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM end the process by SystemExit, as an interrupt does, unless it is handled."""
    mine = threading.current_thread() is threading.main_thread()
    if not mine or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def end(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
