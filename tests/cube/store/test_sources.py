"""Boxes of an input are the same from wherever they come, or an error that says where not."""

from __future__ import annotations

import asyncio
import itertools
import pickle
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr
from dask.task_spec import Task
from hypothesis import given
from hypothesis import strategies as st
from zarr.storage import LocalStore, WrapperStore

from xlsbc.cube.store import storage
from xlsbc.cube.store.sources import READ, Chunked, Memory, Stored, source
from xlsbc.errors import CubeError

DIMS = ("time", "latitude", "longitude")
SHAPE = (5, 23, 31)
CHUNKS = (2, 7, 12)


@pytest.fixture(scope="module")
def values() -> np.ndarray:
    """Numbers that all differ, with gaps, in steps that integers can stand for."""
    field = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE) / 4
    field[:, 3:6, 4:9] = np.nan
    field[:2, :7, 12:24] = np.nan  # a whole chunk
    return field


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow each other at once."""
    monkeypatch.setattr(storage, "FIRST_WAIT", 0)


PACKED = {"dtype": "int16", "scale_factor": 0.25, "add_offset": 8.0, "_FillValue": -32768}

STORES: dict[str, dict[str, Any]] = {
    "v3": {"encoding": {"chunks": CHUNKS}},
    "v2": {"encoding": {"chunks": CHUNKS}, "zarr_format": 2},
    "sharded": {"encoding": {"chunks": CHUNKS, "shards": (4, 14, 24)}},
    "packed": {"encoding": {"chunks": CHUNKS, **PACKED}},
    "packed v2": {"encoding": {"chunks": CHUNKS, **PACKED}, "zarr_format": 2},
    "one chunk": {"encoding": {"chunks": SHAPE}},
    "zeros": {"encoding": {"chunks": CHUNKS, "fill_value": 0.0, "_FillValue": -1.0}},
}


def save(values: np.ndarray, place: Any, kind: str = "v3") -> Any:
    """A store of a kind that holds the values as "a"."""
    options = STORES[kind]
    ds = xr.Dataset({"a": (DIMS, values)})
    encoding = {"a": {"compressors": None, **options["encoding"]}}
    ds.to_zarr(
        place,
        mode="w",
        encoding=encoding,
        consolidated=False,
        zarr_format=options.get("zarr_format", 3),
    )
    return place


def opened(place: Any, chunks: Any = None) -> xr.Variable:
    return xr.open_zarr(place, chunks=chunks, consolidated=False)["a"].variable


@pytest.fixture(scope="module")
def stores(values: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A store of every kind."""
    folder = tmp_path_factory.mktemp("sources")
    return {kind: str(save(values, folder / kind.replace(" ", "-"), kind)) for kind in STORES}


def taken(found: Any, box: tuple[slice, ...]) -> np.ndarray:
    """A box as a task has it that is sent to another process."""
    graph = dict(found.array.dask) if isinstance(found, Chunked) else {}
    there = pickle.loads(pickle.dumps(found))
    graph["box"] = Task("box", there.read, found.carry(box), box)
    return dask.get(graph, "box")


@st.composite
def boxes(draw: st.DrawFn, shape: tuple[int, ...] = SHAPE) -> tuple[slice, ...]:
    """A box of at least one pixel."""
    starts = [draw(st.integers(0, size - 1)) for size in shape]
    return tuple(
        slice(start, draw(st.integers(start + 1, size)))
        for start, size in zip(starts, shape, strict=True)
    )


@st.composite
def chunkings(draw: st.DrawFn, shape: tuple[int, ...] = SHAPE) -> tuple[tuple[int, ...], ...]:
    """Chunks of any sizes."""
    found = []
    for size in shape:
        cuts = draw(st.sets(st.integers(1, size - 1), max_size=6)) if size > 1 else set()
        edges = [0, *sorted(cuts), size]
        found.append(tuple(np.diff(edges).tolist()))
    return tuple(found)


# --- the same from everywhere ---


@given(box=boxes(), kind=st.sampled_from(sorted(STORES)), cut=st.booleans())
def test_a_store_of_any_kind_gives_what_was_stored(stores, values, box, kind, cut):
    found = source("a", opened(stores[kind], {} if cut else None))
    assert isinstance(found, Stored)
    assert not found.carries
    assert found.carry(box) is None
    np.testing.assert_array_equal(taken(found, box), values[box])


@given(box=boxes(), chunks=chunkings())
def test_chunks_of_any_sizes_give_what_they_compute(values, box, chunks):
    found = source("a", xr.Variable(DIMS, da.from_array(values, chunks) + 1))
    assert isinstance(found, Chunked)
    assert found.shape == SHAPE
    np.testing.assert_array_equal(taken(found, box), values[box] + 1)


def test_chunks_of_nothing_are_passed_over(values):
    lazy = da.concatenate(
        [da.from_array(values[:, :3]), da.from_array(values[:, 3:3]), da.from_array(values[:, 3:])],
        axis=1,
    )
    found = source("a", xr.Variable(DIMS, lazy))
    box = slice(0, 2), slice(1, 9), slice(3, 4)
    np.testing.assert_array_equal(taken(found, box), values[box])


@given(box=boxes())
def test_memory_gives_a_view(values, box):
    found = source("a", xr.Variable(DIMS, values))
    assert isinstance(found, Memory)
    assert np.shares_memory(found.carry(box), values)
    np.testing.assert_array_equal(taken(found, box), values[box])


steps = st.sampled_from([1, -1, 2, -3])


@given(
    data=st.data(),
    cuts=boxes(),
    turns=st.tuples(steps, steps, steps),
    kind=st.sampled_from(sorted(STORES)),
)
def test_a_part_of_a_store_that_is_cut_out_or_turned_round_is_read_as_it_is(
    stores, values, data, cuts, turns, kind
):
    turned = tuple(slice(None, None, step) for step in turns)
    found = source("a", opened(stores[kind])[cuts][turned])
    assert isinstance(found, Stored)
    expected = values[cuts][turned]
    box = data.draw(boxes(expected.shape))
    np.testing.assert_array_equal(taken(found, box), expected[box])


@given(box=boxes(SHAPE[1:]), at=st.integers(0, 4), kind=st.sampled_from(sorted(STORES)))
def test_one_time_of_a_store_is_read_as_it_is(stores, values, box, at, kind):
    found = source("a", opened(stores[kind])[at])
    assert found.backing is not None
    np.testing.assert_array_equal(taken(found, box), values[at][box])


@pytest.mark.parametrize("pick", [np.array([3, 1, 2]), slice(None)])
def test_what_is_picked_or_transposed_is_read_as_it_is(stores, values, pick):
    variable = opened(stores["v3"])[pick].transpose("longitude", ...)
    found = source("a", variable)
    box = slice(3, 30), slice(1, 3), slice(0, 20)
    np.testing.assert_array_equal(taken(found, box), values[pick].transpose(2, 0, 1)[box])


@pytest.mark.parametrize("chunks", [None, {}])
def test_a_netcdf_file_is_read_where_the_task_runs(values, tmp_path, chunks):
    xr.Dataset({"a": (DIMS, values)}).to_netcdf(tmp_path / "a.nc")
    with xr.open_dataset(tmp_path / "a.nc", chunks=chunks) as ds:
        found = source("a", ds["a"].variable)
        assert isinstance(found, Stored)
        box = slice(1, 3), slice(2, 9), slice(0, 20)
        np.testing.assert_array_equal(taken(found, box), values[box])
        assert found.holds([slice(0, 3)], [slice(0, 3)]).all()


def test_what_was_loaded_is_in_memory(stores, values):
    variable = opened(stores["v3"]).load()
    assert isinstance(source("a", variable), Memory)


def test_what_is_computed_from_a_store_is_chunks(stores, values):
    found = source("a", opened(stores["v3"], {}) * 2)
    assert isinstance(found, Chunked)
    box = slice(1, 3), slice(2, 9), slice(0, 20)
    np.testing.assert_array_equal(taken(found, box), values[box] * 2)


def test_values_in_memory_are_known_and_those_to_be_computed_are_not(values):
    rows, columns = [slice(0, 3), slice(3, 6)], [slice(0, 4), slice(4, 9)]
    field = values[0]
    expected = [[bool(np.isfinite(field[y, x]).any()) for x in columns] for y in rows]
    assert expected == [[True, True], [True, False]]
    assert source("a", xr.Variable(DIMS[1:], field)).holds(rows, columns).tolist() == expected
    lazy = source("a", xr.Variable(DIMS[1:], da.from_array(field, 5) + 0))
    assert lazy.holds(rows, columns).all()


# --- what is sent, read and kept ---


def test_a_pickled_source_carries_no_values(values):
    large = np.tile(values, (1, 10, 10))
    for array in (large, da.from_array(large, (1, 50, 50)) + 1):
        assert len(pickle.dumps(source("a", xr.Variable(DIMS, array)))) < 2000


def test_a_box_in_memory_is_sent_alone(values):
    found = source("a", xr.Variable(DIMS, np.tile(values, (1, 100, 1))))
    assert len(pickle.dumps(found.carry((slice(0, 1), slice(0, 5), slice(0, 5))))) < 1000


class Store(WrapperStore[Any]):
    """A store whose gets of chunks call `fault` with the key and what is there."""

    def __init__(self, store: Any, fault: Callable[[str, Any], Any]) -> None:
        super().__init__(store)
        self.fault = fault

    def _with_store(self, store: Any) -> Any:
        return type(self)(store, self.fault)

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        found = await super().get(key, prototype, byte_range)
        return self.fault(key, found) if key.startswith("a/c/") else found


def test_each_chunk_is_read_once_whoever_asks(stores, values):
    reads: Counter[str] = Counter()

    def counted(key: str, found: Any) -> Any:
        reads[key] += 1
        return found

    found = source("a", opened(Store(LocalStore(stores["v3"]), counted)))
    assert not reads
    for box in itertools.product(
        [slice(0, 5)], [slice(0, 9), slice(6, 23)], [slice(0, 20), slice(9, 31)]
    ):
        np.testing.assert_array_equal(found.read(None, box), values[box])
    assert len(reads) == 3 * 4 * 3
    assert set(reads.values()) == {1}


def test_a_part_that_begins_within_a_chunk_reads_each_once_too(stores, values):
    reads: Counter[str] = Counter()

    def counted(key: str, found: Any) -> Any:
        reads[key] += 1
        return found

    part = (slice(1, 5), slice(5, 23), slice(None, None, -1))
    found = source("a", opened(Store(LocalStore(stores["v3"]), counted))[part])
    box = slice(0, 4), slice(0, 18), slice(0, 31)
    np.testing.assert_array_equal(found.read(None, box), values[part][box])
    assert set(reads.values()) == {1}


def test_of_a_chunk_too_large_to_be_kept_the_box_alone_is_held(stores, values, monkeypatch):
    monkeypatch.setattr(READ, "most", 1000)
    found = source("a", opened(stores["one chunk"]))
    box = slice(1, 3), slice(2, 9), slice(0, 20)
    np.testing.assert_array_equal(found.read(None, box), values[box])
    assert found.own not in {own for own, _ in READ.arrays}


def test_what_is_read_can_be_written_over(stores, values):
    found = source("a", opened(stores["v3"]))
    box = slice(0, 2), slice(0, 7), slice(0, 12)  # a chunk
    found.read(None, box)[:] = 5
    np.testing.assert_array_equal(found.read(None, box), values[box])


def test_a_chunk_that_changed_is_read_anew_by_what_is_opened_anew(values):
    # a store that does not tell when it was written
    store = save(values, zarr.storage.MemoryStore())
    box = slice(0, 1), slice(0, 2), slice(0, 2)
    source("a", opened(store)).read(None, box)
    zarr.open_group(store)["a"][0, 0, 0] = 77
    assert source("a", opened(store)).read(None, box)[0, 0, 0] == 77


# --- what changes has another token, what does not the same ---


@pytest.mark.parametrize("chunks", [None, {}, {"latitude": 14}])
@pytest.mark.parametrize("scale", [1, 2])
def test_a_store_that_changed_has_another_token_also_behind_a_graph(
    values, tmp_path, chunks, scale
):
    place = save(values, tmp_path / "a.zarr")

    def token() -> str:
        variable = opened(place, chunks)
        return source(
            "a", variable * scale if scale != 1 and chunks is not None else variable
        ).token

    before = token()
    assert token() == before
    zarr.open_group(place)["a"][0, 0, 0] = 77
    assert token() != before


def test_values_in_memory_are_their_token(values):
    def token(array: Any) -> str:
        return source("a", xr.Variable(DIMS, array)).token

    changed = values.copy()
    changed[0, 0, 0] += 1
    assert token(values) == token(values.copy())
    assert token(values) != token(changed)
    assert token(da.from_array(values, 5)) == token(da.from_array(values, 5))
    assert token(da.from_array(values, 5)) != token(da.from_array(changed, 5))


# --- what goes wrong ---

BOX = (slice(0, 5), slice(0, 23), slice(0, 31))


def broken(stores: dict[str, str], fault: Callable[[str, Any], Any], kind: str = "v3") -> Any:
    """The source of a store with a fault."""
    return source("a", opened(Store(LocalStore(stores[kind]), fault)))


@pytest.mark.proves("store-faults-read")
def test_a_store_that_fails_is_asked_again(stores, values, impatient, caplog):
    asked: Counter[str] = Counter()

    def fault(key: str, found: Any) -> Any:
        asked[key] += 1
        if asked[key] < 3:
            raise OSError("500 Internal Server Error")
        return found

    np.testing.assert_array_equal(broken(stores, fault).read(None, BOX), values)
    assert set(asked.values()) == {3}
    assert "reading input 'a' failed and is tried again: OSError: 500" in caplog.text


@pytest.mark.proves("errors-travel")
@pytest.mark.proves("store-faults-read")
def test_a_store_that_goes_on_failing_is_one_error_that_names_the_input_and_the_place(
    stores, impatient, caplog
):
    asked: Counter[str] = Counter()

    def fault(key: str, found: Any) -> Any:
        asked[key] += 1
        if key == "a/c/1/0/2":
            raise OSError("500 Internal Server Error")
        return found

    message = (
        "input 'a' cannot be read at time 2 to 4, latitude 0 to 7, longitude 24 to 31: "
        "OSError: 500 Internal Server Error; see"
    )
    with pytest.raises(CubeError, match=message) as caught:
        broken(stores, fault).read(None, BOX)
    assert asked["a/c/1/0/2"] == storage.ATTEMPTS
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), str(again)) == (CubeError, str(caught.value))


@pytest.mark.proves("store-faults-read")
def test_a_store_that_never_answers_is_given_up(stores, impatient, monkeypatch):
    monkeypatch.setattr(storage, "TIME_LIMIT", 0.2)

    class Silent(Store):
        async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
            if key.startswith("a/c/"):
                await asyncio.sleep(3600)
            return await super().get(key, prototype, byte_range)

    found = source("a", opened(Silent(LocalStore(stores["v3"]), lambda key, there: there)))
    with pytest.raises(CubeError, match=r"input 'a' cannot be read .* no answer within 0.2 s"):
        found.read(None, BOX)


@pytest.fixture
def checked(values: np.ndarray, tmp_path: Path) -> Path:
    """A store whose chunks are compressed with a checksum."""
    codec = zarr.codecs.ZstdCodec(checksum=True)
    encoding = {"a": {"chunks": CHUNKS, "compressors": [codec]}}
    place = tmp_path / "checked.zarr"
    xr.Dataset({"a": (DIMS, values)}).to_zarr(place, encoding=encoding, consolidated=False)
    return place


def flipped(content: bytes) -> bytes:
    return content[:-9] + bytes([content[-9] ^ 16]) + content[-8:]


def truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


def emptied(content: bytes) -> bytes:
    return b""


def page(content: bytes) -> bytes:
    return b"<html>please log in</html>"


@pytest.mark.proves("damaged-chunk")
@pytest.mark.parametrize("damage", [flipped, truncated, emptied, page])
def test_a_damaged_chunk_is_an_error_that_names_the_input(checked, impatient, damage):
    file = checked / "a/c/2/1/0"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(
        CubeError, match="input 'a' cannot be read at time 4 to 5, latitude 7 to 14"
    ):
        source("a", opened(checked)).read(None, BOX)


@pytest.mark.proves("lost-chunk")
@pytest.mark.parametrize("kind", sorted(set(STORES) - {"one chunk"}))
@pytest.mark.parametrize("part", [(), (slice(1, 5), slice(5, 23), slice(None, None, -1))])
@pytest.mark.parametrize("most", [2**28, 100])
def test_a_chunk_deleted_after_opening_is_an_error_and_no_silent_gap(
    values, tmp_path, monkeypatch, kind, part, most
):
    monkeypatch.setattr(READ, "most", most)
    place = save(values, tmp_path / "a.zarr", kind)
    found = source("a", opened(place)[part])
    name = "2.1.1" if "v2" in kind else "c/1/0/1" if kind == "sharded" else "c/2/1/1"
    (place / "a" / name).unlink()
    box = tuple(slice(0, size) for size in found.shape)
    with pytest.raises(CubeError, match="input 'a' was in its store when it was opened and is"):
        found.read(None, box)


def test_a_chunk_that_never_was_is_missing_values(values, stores):
    found = source("a", opened(stores["v3"]))
    assert np.isnan(found.read(None, (slice(0, 2), slice(0, 7), slice(12, 24)))).all()


@pytest.mark.proves("lost-chunk")
def test_a_file_that_is_gone_is_an_error_that_names_the_input(values, tmp_path):
    xr.Dataset({"a": (DIMS, values)}).to_netcdf(tmp_path / "a.nc")
    with xr.open_dataset(tmp_path / "a.nc", chunks=None) as ds:
        found = pickle.dumps(source("a", ds["a"].variable))
    (tmp_path / "a.nc").unlink()
    with pytest.raises(CubeError, match="input 'a' cannot be read at time 0 to 5, .*FileNotFound"):
        pickle.loads(found).read(None, BOX)


# --- object stores ---


@pytest.fixture(scope="module")
def bucket() -> Iterator[tuple[str, dict[str, Any]]]:
    """URL of a bucket of a server on this machine, and what it takes to reach it."""
    server = pytest.importorskip("moto.server", reason="moto[server] is not installed")
    s3fs = pytest.importorskip("s3fs")
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    running.start()
    try:  # a server that nobody stops keeps the process from ending
        host, port = running.get_host_and_port()
        options = {"key": "a", "secret": "b", "endpoint_url": f"http://{host}:{port}"}
        s3fs.S3FileSystem(**options).mkdir("sources")  # moto has one memory a process
        yield "s3://sources", {"storage_options": options}
    finally:
        running.stop()


def test_an_object_store_gives_what_was_stored_and_tells_what_changed(values, bucket):
    url, options = f"{bucket[0]}/a.zarr", bucket[1]
    xr.Dataset({"a": (DIMS, values)}).to_zarr(
        url, encoding={"a": {"chunks": CHUNKS, "compressors": None}}, consolidated=False, **options
    )

    def again() -> Any:
        ds = xr.open_zarr(url, chunks=None, consolidated=False, **options)
        return source("a", ds["a"].variable)

    first = again()
    np.testing.assert_array_equal(taken(first, BOX), values)
    rows, columns = [slice(0, 7), slice(7, 14)], [slice(12, 24), slice(24, 31)]
    assert first.backing.present.sum() == 3 * 4 * 3 - 1
    assert first.holds(rows, columns).all()
    assert again().token == first.token
    zarr.open_group(url, **options)["a"][0, 0, 0] = 77
    assert again().token != first.token


@pytest.mark.proves("lost-chunk")
def test_an_object_deleted_after_opening_is_an_error(values, bucket):
    url, options = f"{bucket[0]}/b.zarr", bucket[1]
    xr.Dataset({"a": (DIMS, values)}).to_zarr(url, consolidated=False, **options)
    found = source("a", xr.open_zarr(url, chunks=None, consolidated=False, **options)["a"].variable)
    # by somebody else, so that no list that this process keeps knows of it
    s3fs = pytest.importorskip("s3fs")
    other = s3fs.S3FileSystem(**options["storage_options"], skip_instance_cache=True)
    other.rm_file(url.removeprefix("s3://") + "/a/c/0/0/0")
    with pytest.raises(CubeError, match="is there no more"):
        found.read(None, BOX)
