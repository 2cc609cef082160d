"""What is known of a store unread: where it holds nothing, what has changed and what is lost."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.core.sync import sync
from zarr.storage import LocalStore, MemoryStore, WrapperStore, ZipStore

from xlsbc.cube.store import storage
from xlsbc.cube.store.backing import Backing, backing, identity, stamp
from xlsbc.errors import CubeError

ROWS, COLUMNS = 25, 34
CHUNKS = (10, 8)
LAND = {(0, 0), (1, 2), (2, 4)}
"""Chunks that hold values; the last one is cut by both ends of the array."""


def field(fill: float = np.nan) -> np.ndarray:
    """Values in the chunks of `LAND` and nothing elsewhere."""
    values = np.full((ROWS, COLUMNS), fill, np.float32)
    whole = np.random.default_rng(0).normal(800, 400, values.shape)
    for y, x in LAND:
        part = slice(10 * y, 10 * y + 10), slice(8 * x, 8 * x + 8)
        values[part] = whole[part]
    return values


def write(store: Any, values: np.ndarray, fill: Any = np.nan, **options: Any) -> None:
    """An array "a" in a group."""
    group = zarr.open_group(place(store), mode="w", zarr_format=options.pop("zarr_format", 3))
    names = ("latitude", "longitude")[-values.ndim :]
    named = group.metadata.zarr_format == 3
    array = group.create_array(
        "a",
        shape=values.shape,
        dtype=values.dtype,
        fill_value=fill,
        dimension_names=names if named else None,
        **{"chunks": CHUNKS, **options},
    )
    if not named:
        array.attrs["_ARRAY_DIMENSIONS"] = list(names)
    array[...] = values


def place(store: Any) -> Any:
    """Where to write: a file system makes no folders by itself."""
    return store.removeprefix("file://") if isinstance(store, str) else store


def opened(store: Any, **options: Any) -> xr.Variable:
    """The array "a", not read."""
    ds = xr.open_zarr(store, **{"chunks": None, "consolidated": False, **options})
    return ds["a"].variable


def behind(store: Any, **options: Any) -> Backing:
    found = backing(opened(store, **options)._data)
    assert found is not None
    return found


def local(tmp_path: Path) -> Any:
    return str(tmp_path / "a.zarr")


def by_url(tmp_path: Path) -> Any:
    return f"file://{tmp_path}/a.zarr"


def in_memory_files(tmp_path: Path) -> Any:
    return f"memory:/{tmp_path}/a.zarr"


def in_memory(tmp_path: Path) -> Any:
    return MemoryStore()


def wrapped(tmp_path: Path) -> Any:
    return WrapperStore(LocalStore(tmp_path / "a.zarr"))


@pytest.fixture(params=[local, by_url, in_memory_files, in_memory, wrapped])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A store of any kind, empty."""
    return request.param(tmp_path)


FORMS = [
    pytest.param({}, id="v3"),
    pytest.param({"shards": (10, 8), "chunks": (5, 4)}, id="sharded"),
    pytest.param({"zarr_format": 2}, id="v2"),
    pytest.param(
        {"zarr_format": 2, "chunk_key_encoding": {"name": "v2", "separator": "/"}}, id="v2/"
    ),
]


# --- where it holds nothing ---


def blocks(size: int, span: int) -> list[slice]:
    return [slice(i, min(i + span, size)) for i in range(0, size, span)]


@pytest.mark.parametrize("form", FORMS)
def test_boxes_hold_something_where_they_meet_a_chunk_that_is_there(store, form):
    write(store, field(), **form)
    rows, columns = blocks(ROWS, 7), blocks(COLUMNS, 9)
    found = behind(store).holds(rows, columns)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            meets = any(
                row.start < 10 * y + 10
                and row.stop > 10 * y
                and column.start < 8 * x + 8
                and column.stop > 8 * x
                for y, x in LAND
            )
            assert found[i, j] == meets


cuts = st.tuples(st.integers(0, 12), st.integers(13, 25), st.sampled_from([1, -1, 2, -3]))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("backing") / "a.zarr")
    write(path, field())
    return opened(path)


@settings(max_examples=60)
@given(rows=cuts, columns=cuts, span=st.integers(1, 9))
def test_of_a_part_that_is_cut_out_or_turned_round_no_value_is_overlooked(
    whole, rows, columns, span
):
    part = {
        "latitude": slice(*rows[:2]) if rows[2] > 0 else slice(None),
        "longitude": slice(*columns[:2]) if columns[2] > 0 else slice(None),
    }
    shown = whole.isel(part).isel(
        latitude=slice(None, None, rows[2]), longitude=slice(None, None, columns[2])
    )
    found = backing(shown._data)
    assert found is not None
    down, across = blocks(shown.shape[0], span), blocks(shown.shape[1], span)
    known = found.holds(down, across)
    values = shown.to_numpy()
    for i, row in enumerate(down):
        for j, column in enumerate(across):
            # a chunk is there as soon as a box meets it, which may be where it is cut off
            assert known[i, j] or np.isnan(values[row, column]).all()
    assert [len(edges) - 1 for edges in found.edges] == [
        len(set(np.arange(size)[cut] // chunk))
        for size, cut, chunk in zip((ROWS, COLUMNS), found.part, CHUNKS, strict=True)
    ]


def test_one_time_of_many_is_known_by_itself(tmp_path):
    values = np.stack([field(), np.full((ROWS, COLUMNS), np.nan, np.float32)])
    xr.Dataset({"a": (("time", "latitude", "longitude"), values)}).to_zarr(
        tmp_path / "a.zarr", encoding={"a": {"chunks": (1, *CHUNKS)}}, consolidated=False
    )
    variable = opened(tmp_path / "a.zarr")
    everywhere = [slice(0, ROWS)], [slice(0, COLUMNS)]
    assert [backing(variable[i]._data).holds(*everywhere).item() for i in (0, 1)] == [True, False]
    corner = [slice(0, 9)], [slice(0, 9), slice(25, 34)]
    assert backing(variable[0]._data).holds(*corner).tolist() == [[True, False]]
    assert backing(variable._data).holds(*corner).tolist() == [[True, False]]


@pytest.mark.parametrize("fill", [0.0, -9999.0])
@pytest.mark.parametrize("form", FORMS)
def test_where_chunks_that_are_not_there_are_a_number_everything_holds_it(tmp_path, fill, form):
    write(local(tmp_path), field(fill), fill, **form)
    assert behind(local(tmp_path)).holds(blocks(ROWS, 5), blocks(COLUMNS, 5)).all()


def test_packed_integers_that_are_not_there_are_missing(tmp_path):
    # as this project writes them: the fill value of the array is what stands for missing
    encoding = {"dtype": "uint16", "scale_factor": 0.5, "_FillValue": 65535, "fill_value": 65535}
    values = np.rint(field())
    ds = xr.Dataset({"a": (("latitude", "longitude"), np.where(values < 0, 0, values))})
    ds.to_zarr(local(tmp_path), encoding={"a": {**encoding, "chunks": CHUNKS}}, consolidated=False)
    found = behind(local(tmp_path)).holds([slice(0, 10)], [slice(0, 8), slice(16, 24)])
    assert found.tolist() == [[True, False]]


def memory(kind: type[MemoryStore] = MemoryStore) -> MemoryStore:
    """A store of a kind in memory that holds the field."""
    held: dict[str, Any] = {}
    write(MemoryStore(held), field())
    return kind(held)


class Mute(MemoryStore):
    """Lists nothing."""

    def list_prefix(self, prefix: str) -> Any:
        raise NotImplementedError


class Forgetful(MemoryStore):
    """Does not list what it should."""

    def list_prefix(self, prefix: str) -> Any:
        return super().list_prefix(prefix + "c/0")


class Broken(MemoryStore):
    """Fails when it is asked for a list."""

    def list_prefix(self, prefix: str) -> Any:
        raise OSError("no answer")


@pytest.mark.parametrize("kind", [Mute, Forgetful])
def test_of_a_store_that_cannot_be_listed_anything_may_be_there(kind):
    found = behind(memory(kind))
    assert found.present is None
    assert found.holds(blocks(ROWS, 5), blocks(COLUMNS, 5)).all()
    assert not found.lost((slice(0, 10), slice(0, 8)))


def test_pages_of_a_web_server_are_no_list(tmp_path):
    write(local(tmp_path), field())
    handler = partial(Quiet, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        found = behind(f"http://127.0.0.1:{server.server_port}/a.zarr")
        server.shutdown()
    assert found.present is None


def test_over_http_the_ledger_of_a_store_of_ours_tells_what_is_there(tmp_path):
    from xlsbc.cube.store.writer import write as store

    ds = xr.Dataset({"a": (("latitude", "longitude"), np.arange(80.0, dtype="f4").reshape(10, 8))})
    store(ds.chunk(latitude=5, longitude=4), str(tmp_path / "a.zarr"), progress=False)
    (tmp_path / "a.zarr" / "a" / "c" / "1" / "0").unlink()
    handler = partial(Quiet, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        found = behind(f"http://127.0.0.1:{server.server_port}/a.zarr")
        assert found.present.tolist() == [[True, True], [True, True]]
        assert not found.lost((slice(0, 5), slice(0, 8)))
        assert found.lost((slice(5, 10), slice(0, 4)))
        server.shutdown()


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder, with pages that list it, and says nothing."""

    def log_message(self, *args: Any) -> None:
        pass


@pytest.mark.proves("store-faults-read")
def test_a_store_whose_listing_fails_is_an_error_that_names_the_input(monkeypatch):
    monkeypatch.setattr(storage, "FIRST_WAIT", 0)
    with pytest.raises(CubeError, match="input 'a' cannot be looked up .* OSError: no answer"):
        behind(memory(Broken))


# --- what has changed ---


def test_what_has_not_changed_has_the_same_stamp(store):
    write(store, field())
    assert behind(store).stamp == behind(store).stamp
    assert behind(store).stamp == stamp(opened(store)._data, behind(store))


def change_a_chunk(store: Any) -> None:
    zarr.open_group(place(store))["a"][3, 4] = 5.0


def fill_a_chunk(store: Any) -> None:
    zarr.open_group(place(store))["a"][22, 1] = 5.0


def empty_a_chunk(store: Any) -> None:
    zarr.open_group(place(store))["a"][:10, :8] = np.nan


def change_the_attributes(store: Any) -> None:
    zarr.open_group(place(store))["a"].attrs["scale_factor"] = 0.1


@pytest.mark.parametrize(
    "change", [change_a_chunk, fill_a_chunk, empty_a_chunk, change_the_attributes]
)
@pytest.mark.parametrize("form", FORMS)
def test_what_has_changed_has_another_stamp(store, form, change):
    # without compression a change of a value is not one of size
    write(store, field(), compressors=None, **form)
    before = behind(store).stamp
    change(store)
    assert behind(store).stamp != before


def test_a_neighbour_is_no_matter(store):
    write(store, field())
    before = behind(store).stamp
    zarr.open_group(place(store)).create_group("ab").attrs["b"] = 1
    assert behind(store).stamp == before


def test_another_part_has_another_stamp(whole):
    parts = [whole, whole[1:], whole[::-1], whole[:, 3:], whole[3], whole[4]]
    assert len({stamp(part._data, backing(part._data)) for part in parts}) == 6


def test_a_zip_that_was_written_anew_has_another_stamp(tmp_path):
    def write_zip(values: np.ndarray, place: Path) -> None:
        with ZipStore(place, mode="w") as store:
            array = zarr.create_array(
                store,
                name="a",
                shape=values.shape,
                dtype="f4",
                chunks=CHUNKS,
                fill_value=np.nan,
                dimension_names=("latitude", "longitude"),
            )
            array[...] = values

    write_zip(field(), tmp_path / "a.zip")
    with ZipStore(tmp_path / "a.zip", mode="r") as store:
        before = behind(store)
        assert before.present.sum() == len(LAND)
    write_zip(field() + 1, tmp_path / "a.zip")
    with ZipStore(tmp_path / "a.zip", mode="r") as store:
        assert behind(store).stamp != before.stamp


PRINT = """
import sys
import xarray as xr
from xlsbc.cube.store.backing import backing, stamp
variable = xr.open_dataset(sys.argv[1], chunks=None)["a"][2:].variable
print(stamp(variable._data, backing(variable._data)))
"""


@pytest.mark.parametrize("name", ["a.zarr", "a.nc"])
def test_another_process_finds_the_same_stamp_until_the_file_changes(tmp_path, name):
    place = str(tmp_path / name)

    def save(values: np.ndarray) -> None:
        ds = xr.Dataset({"a": (("latitude", "longitude"), values)})
        packed = {"dtype": "int16", "scale_factor": 0.5, "add_offset": 1.0, "_FillValue": -1}
        if name.endswith("nc"):
            ds.to_netcdf(place, encoding={"a": packed})
        else:
            ds.to_zarr(place, mode="w", encoding={"a": packed}, zarr_format=2)

    def printed() -> str:
        arguments = [sys.executable, "-W", "ignore", "-c", PRINT, place]
        return subprocess.run(arguments, check=True, capture_output=True, text=True).stdout

    save(field())
    first = printed()
    assert printed() == first
    save(field() + 1)
    assert printed() != first


# --- what is lost ---


def delete(store: Any, name: str) -> None:
    target = store if not isinstance(store, str) else zarr.open_group(place(store)).store
    sync(target.delete(name))


@pytest.mark.parametrize("form", FORMS[:3])
def test_a_chunk_that_was_there_is_lost_when_it_is_there_no_more(store, form):
    write(store, field(), **form)
    found = behind(store)
    northwest, sea = (slice(0, 10), slice(0, 8)), (slice(10, 20), slice(0, 8))
    assert not found.lost(northwest)
    assert not found.lost(sea)
    delete(store, "a/0.0" if form.get("zarr_format") == 2 else "a/c/0/0")
    assert found.lost(northwest)
    assert found.lost((slice(3, 4), slice(7, 12)))
    assert not found.lost(sea)
    assert not found.lost((slice(10, 20), slice(16, 24)))


# --- what is not plainly a part of an array ---


def test_what_is_picked_or_turned_over_is_read_without_knowledge(whole):
    assert backing(whole[[3, 1, 2]]._data) is None
    assert backing(whole.T._data) is None
    assert backing(np.zeros(3)) is None
    assert identity(whole.T._data) != identity(whole._data)
    assert identity(whole[[3, 1]]._data) != identity(whole[[3, 2]]._data)


def test_a_commit_to_icechunk_is_another_stamp(tmp_path):
    icechunk = pytest.importorskip("icechunk")
    repository = icechunk.Repository.create(icechunk.local_filesystem_storage(str(tmp_path)))

    def commit(value: float) -> None:
        session = repository.writable_session("main")
        write(session.store, field() + value)
        session.commit(f"add {value}")

    def now() -> Backing:
        return behind(repository.readonly_session("main").store)

    commit(0)
    first = now()
    assert first.present is not None
    assert first.present.sum() == len(LAND)
    assert not first.lost((slice(0, 10), slice(0, 8)))
    assert now().stamp == first.stamp
    commit(1)
    assert now().stamp != first.stamp
