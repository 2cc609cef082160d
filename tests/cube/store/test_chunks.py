"""Chunks read without Zarr are bit for bit those that Zarr reads, or an error that names them."""

from __future__ import annotations

import asyncio
import itertools
import pickle
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st
from zarr.codecs import (
    BloscCodec,
    BytesCodec,
    Crc32cCodec,
    GzipCodec,
    ShardingCodec,
    TransposeCodec,
    ZstdCodec,
)
from zarr.storage import FsspecStore, LocalStore, MemoryStore, WrapperStore

from xlsbc.cube.store import storage
from xlsbc.cube.store.chunks import Chunks, direct
from xlsbc.cube.store.decoder import announced
from xlsbc.cube.store.sources import READ, Stored, source
from xlsbc.errors import CubeError, StoreError

SHAPE, CHUNKS = (5, 9, 14), (2, 4, 5)
PLACES = list(itertools.product(range(3), range(3), range(3)))
GAP = (slice(2, 4), slice(4, 8), slice(5, 10))
"""Where the chunk (1, 1, 1) is, which is not stored."""


def numbers(dtype: str, fill: Any = 0) -> np.ndarray:
    """Values that all differ as far as the type lets them, and a chunk of nothing."""
    values = np.arange(1, 1 + np.prod(SHAPE)).reshape(SHAPE).astype(dtype)
    values[GAP] = fill
    return values


def inner(location: str, *codecs: Any, index: Any = None) -> ShardingCodec:
    index = index or [BytesCodec(), Crc32cCodec()]
    return ShardingCodec(
        chunk_shape=CHUNKS, codecs=codecs, index_codecs=index, index_location=location
    )


FAST = BloscCodec(cname="lz4", shuffle="bitshuffle", typesize=4)
SHARDS = (4, 8, 10)
V2 = {"zarr_format": 2}
FORMS: dict[str, dict[str, Any]] = {
    "zstd": {"compressors": ZstdCodec()},
    "zstd with a checksum": {"compressors": ZstdCodec(level=5, checksum=True)},
    "blosc and crc32c": {"compressors": [FAST, Crc32cCodec()]},
    "gzip": {"compressors": GzipCodec()},
    "crc32c alone": {"compressors": Crc32cCodec()},
    "as it is": {"compressors": None},
    "two compressors": {"compressors": [FAST, ZstdCodec()]},
    "big-endian": {"serializer": BytesCodec(endian="big")},
    "transposed": {"filters": TransposeCodec(order=(2, 0, 1))},
    "shards": {"shards": SHARDS},
    "shards, index first": {"chunks": SHARDS, "serializer": inner("start", BytesCodec())},
    "shards, blosc": {"chunks": SHARDS, "serializer": inner("end", BytesCodec(), FAST)},
    "shards, crc32c": {
        "chunks": SHARDS,
        "serializer": inner("end", BytesCodec(), ZstdCodec(), Crc32cCodec(), index=[BytesCodec()]),
    },
    "shards, transposed": {
        "chunks": SHARDS,
        "serializer": inner("start", TransposeCodec(order=(1, 2, 0)), BytesCodec(endian="big")),
    },
    "v2 zstd": {**V2, "compressors": numcodecs.Zstd()},
    "v2 blosc": {**V2, "compressors": numcodecs.Blosc("zstd", 3, 1)},
    "v2 zlib": {**V2, "compressors": numcodecs.Zlib()},
    "v2 lz4": {**V2, "compressors": numcodecs.LZ4()},
    "v2 gzip": {**V2, "compressors": numcodecs.GZip()},
    "v2 as it is": {**V2, "compressors": None},
    "v2 F": {**V2, "order": "F"},
    "v2 folders": {**V2, "chunk_key_encoding": {"name": "v2", "separator": "/"}},
    "v2 without a fill value": {**V2, "fill_value": None},
}
# a codec in a serializer has no compressor after it
for form in FORMS.values():
    if "chunks" in form:
        form["compressors"] = None


def array(store: Any, form: str = "zstd", dtype: str = "float32", **options: Any) -> Any:
    """An array "a" of a form, with one chunk that is not stored."""
    options = {"chunks": CHUNKS, "fill_value": 0, **FORMS[form], **options}
    made = zarr.create_array(store, name="a", shape=SHAPE, dtype=dtype, **options)
    made[...] = numbers(dtype, options["fill_value"] or 0)
    return made


def region(at: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(i * n, (i + 1) * n) for i, n in zip(at, CHUNKS, strict=True))


def reader(of: Any) -> Chunks:
    found = direct(of)
    assert found is not None
    return found


def assert_same(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert found.tobytes() == expected.tobytes()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow each other at once."""
    monkeypatch.setattr(storage, "FIRST_WAIT", 0)


# --- as Zarr reads it ---


@pytest.mark.parametrize("kind", ["files", "memory", "wrapped"])
@pytest.mark.parametrize("form", FORMS)
def test_chunks_of_any_form_in_any_store_are_those_that_zarr_reads(form, kind, tmp_path):
    stores = {"files": LocalStore, "memory": lambda _: MemoryStore()}
    stores["wrapped"] = lambda path: WrapperStore(LocalStore(path))
    made = array(stores[kind](tmp_path), form)
    found = reader(made)
    for at in PLACES:
        assert_same(found.read(at), made[region(at)])
    assert_same(found.read((2, 2, 2)), numbers("float32")[4:, 8:, 10:])


@pytest.mark.parametrize(
    "dtype", ["bool", "i1", "uint8", "<i2", ">i2", "uint32", "int64", "float16", ">f4", "f8", "c8"]
)
@pytest.mark.parametrize("form", ["zstd", "blosc and crc32c", "big-endian", "shards", "v2 zstd"])
def test_numbers_of_any_type_are_those_that_zarr_reads(form, dtype, tmp_path):
    made = array(tmp_path, form, dtype)
    for at in ((0, 0, 0), (1, 1, 1), (2, 2, 2)):
        assert_same(reader(made).read(at), made[region(at)])


@pytest.mark.parametrize("form", ["zstd", "shards", "v2 zstd"])
@pytest.mark.parametrize("fill", [-9999.0, np.nan, np.inf])
def test_what_is_not_stored_is_the_fill_value(form, fill, tmp_path):
    made = array(tmp_path, form, fill_value=fill)
    assert_same(reader(made).read((1, 1, 1)), np.full(CHUNKS, fill, "float32"))
    assert not list(tmp_path.rglob("c/1/1/1")) or form == "shards"


@pytest.mark.parametrize("kind", [LocalStore, lambda path: WrapperStore(LocalStore(path))])
def test_no_object_is_told_from_a_chunk_that_its_shard_lacks(kind, tmp_path):
    for form, lacking in (("zstd", None), ("shards", 0.0)):
        found = reader(array(kind(tmp_path / form), form)).find((1, 1, 1))
        assert (found if found is None else found.max()) == lacking
    whole = tmp_path / "shards/a/c/0/0/0"
    whole.unlink()
    made = zarr.open_array(kind(tmp_path / "shards"), path="a")
    assert reader(made).find((1, 1, 1)) is None


def test_a_chunk_is_decoded_where_it_is_wanted(tmp_path):
    for form in ("zstd", "blosc and crc32c"):
        made = array(tmp_path / form, form)
        into = np.zeros(CHUNKS, np.float32)
        assert reader(made).find((0, 0, 0), into) is into
        assert_same(into, made[region((0, 0, 0))])


@pytest.mark.parametrize(
    "into",
    [
        np.zeros(CHUNKS, np.float64),
        np.zeros(CHUNKS, np.float32, order="F"),
        np.zeros((2, 4, 4), np.float32),
        np.zeros((2, 4, 10), np.float32)[..., ::2],
    ],
)
def test_what_cannot_take_a_chunk_as_it_is_stays_as_it_was(into, tmp_path):
    made = array(tmp_path)
    assert_same(np.asarray(reader(made).find((0, 0, 0), into)), made[region((0, 0, 0))])
    assert not into.any()


def test_it_is_sent_to_another_process(tmp_path):
    made = array(tmp_path, "shards")
    found = reader(made)
    found.read((0, 0, 0))
    assert_same(pickle.loads(pickle.dumps(found)).read((2, 0, 1)), made[region((2, 0, 1))])


@pytest.mark.parametrize("size", [0, 1, 254, 255, 256, 257, 65791, 65792, 200_000])
def test_the_size_that_a_frame_announces_is_that_of_its_content(size):
    content = np.resize(np.arange(251, dtype=np.uint8), size)
    for codec in (numcodecs.Zstd(), numcodecs.Zstd(checksum=True), numcodecs.Blosc("lz4")):
        encoded = codec.encode(content)
        # of the smallest, whose head is their all, nothing need be known
        assert announced(codec, encoded) in ({size} if len(encoded) >= 18 else {size, None})


# --- what is left to Zarr ---


@pytest.mark.filterwarnings("ignore:Combining a `sharding_indexed` codec")
@pytest.mark.parametrize(
    "options",
    [
        {"dtype": "str"},
        {"dtype": "S4", "zarr_format": 2},
        {"dtype": [("a", "i4"), ("b", "f4")], "zarr_format": 2},
        {"dtype": "datetime64[s]"},
        {"dtype": "f4", "zarr_format": 2, "filters": numcodecs.Delta("f4")},
        {"dtype": "f4", "zarr_format": 2, "compressors": numcodecs.BZ2()},
        {"dtype": "f4", "serializer": inner("end", BytesCodec()), "compressors": ZstdCodec()},
    ],
)
def test_what_is_not_numbers_in_common_codecs_is_left_to_zarr(options):
    made = zarr.create_array(MemoryStore(), shape=(4, 8, 10), chunks=(4, 8, 10), **options)
    assert direct(made) is None


# --- damage ---


def damaged(file: Path, how: str) -> None:
    content = file.read_bytes()
    half = len(content) // 2
    file.write_bytes(
        {
            "flipped": content[:half] + bytes([content[half] ^ 16]) + content[half + 1 :],
            "truncated": content[:half],
            "emptied": b"",
            "a page": b"<html>please log in</html>",
        }[how]
    )


@pytest.mark.proves("damaged-chunk")
@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("how", ["flipped", "truncated", "emptied", "a page"])
@pytest.mark.parametrize("form", ["zstd with a checksum", "blosc and crc32c", "crc32c alone"])
def test_a_damaged_chunk_is_an_error_that_names_it(form, how, wrap, tmp_path, impatient):
    store = WrapperStore(LocalStore(tmp_path)) if wrap else LocalStore(tmp_path)
    made = array(store, form)
    damaged(tmp_path / "a/c/0/1/2", how)
    into = np.zeros((2, 4, 4), np.float32)
    with pytest.raises(StoreError, match=r"a/c/0/1/2 is damaged: .*restore it"):
        reader(made).find((0, 1, 2), into)


@pytest.mark.proves("damaged-chunk")
@pytest.mark.parametrize("how", ["truncated", "emptied", "a page"])
@pytest.mark.parametrize("form", sorted(FORMS))
def test_of_any_form_no_part_of_a_chunk_is_taken_for_it(form, how, tmp_path, impatient):
    made = array(tmp_path, form)
    (file,) = {f for p in ("a/c/0/0/0", "a/0.0.0", "a/0/0/0") if (f := tmp_path / p).is_file()}
    damaged(file, how)
    of_object = itertools.product(range(2), range(2), range(2))  # where it is a shard
    places = of_object if form.startswith("shards") else [(0, 0, 0)]
    with pytest.raises(StoreError, match=r"0.0.0 is damaged"):
        list(map(reader(made).read, places))


@pytest.mark.proves("flipped-bit")
@pytest.mark.parametrize("location", ["start", "end"])
def test_a_damaged_index_of_a_shard_is_an_error(location, tmp_path, impatient):
    made = array(tmp_path, "as it is", chunks=SHARDS, serializer=inner(location, BytesCodec()))
    file = tmp_path / "a/c/0/0/0"
    content = bytearray(file.read_bytes())
    content[9 if location == "start" else -9] ^= 1
    file.write_bytes(content)
    with pytest.raises(StoreError, match="the index of a/c/0/0/0 is damaged"):
        reader(made).read((0, 0, 0))


@pytest.mark.proves("damaged-chunk")
@pytest.mark.parametrize("form", ["zstd", "v2 blosc", "as it is", "v2 lz4"])
@pytest.mark.parametrize("count", [39, 41, 80])
def test_a_chunk_of_another_size_is_an_error_and_nothing_of_what_was_there(
    form, count, tmp_path, impatient
):
    made = array(tmp_path, form)
    values = np.ones(count, np.float32)
    codec = {"zstd": numcodecs.Zstd(), "v2 blosc": numcodecs.Blosc(), "v2 lz4": numcodecs.LZ4()}
    content = codec[form].encode(values) if form in codec else values.tobytes()
    file = tmp_path / ("a/0.0.0" if form.startswith("v2") else "a/c/0/0/0")
    file.write_bytes(bytes(content))
    with pytest.raises(StoreError, match=f"expected 160 bytes decoded, found {4 * count}"):
        reader(made).find((0, 0, 0), np.zeros(CHUNKS, np.float32))


# --- what is asked of a store ---


class Asked(WrapperStore[Any]):
    """A store that remembers what was got of chunks, and how much."""

    def __init__(self, store: Any) -> None:
        super().__init__(store)
        self.gets: list[tuple[str, int]] = []

    def _with_store(self, store: Any) -> Any:
        return self

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        found = await super().get(key, prototype, byte_range)
        if key.startswith("a/c/"):
            self.gets.append((key, len(found)))
        return found


@pytest.mark.parametrize("location", ["start", "end"])
def test_of_a_shard_its_index_and_the_chunks_asked_for_are_got_once(location, tmp_path):
    codec = inner(location, BytesCodec())
    array(tmp_path, "as it is", chunks=SHARDS, serializer=codec)
    store = Asked(LocalStore(tmp_path))
    found = reader(zarr.open_array(store, path="a", mode="r"))
    found.read((0, 0, 0))
    found.read((1, 0, 1))
    found.read((1, 1, 1))  # the shard says that it is not there
    index, chunk = 8 * 16 + 4, 4 * 2 * 4 * 5
    assert store.gets == [("a/c/0/0/0", size) for size in (index, chunk, chunk)]


# --- behind a variable ---

PACKED = {"dtype": "int16", "scale_factor": 0.25, "add_offset": 8.0, "_FillValue": -32768}
ENCODINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "f4": ("float32", {}),
    "f4 filled": ("float32", {"_FillValue": -9999.0, "fill_value": -9999.0}),
    "f8": ("float64", {}),
    "big-endian": (">f4", {}),
    "i8": ("int64", {}),
    "bool": ("bool", {}),
    "packed": ("float64", PACKED),
    "packed as f4": ("float32", {**PACKED, "scale_factor": np.float32(0.25)}),
    "packed unsigned": (
        "float32",
        {"dtype": "uint16", "scale_factor": 0.5, "_FillValue": 65535, "fill_value": 65535},
    ),
    "unsigned by name": ("float32", {"dtype": "i1", "_Unsigned": "true", "_FillValue": -1}),
}
KINDS = {"v3": {}, "sharded": {"shards": SHARDS}, "v2": {}}


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], str]:
    """Of every encoding in every kind of store."""
    folder, found = tmp_path_factory.mktemp("chunks"), {}
    for (name, (dtype, encoding)), kind in itertools.product(ENCODINGS.items(), KINDS):
        values = (np.arange(np.prod(SHAPE)).reshape(SHAPE) % 100).astype(dtype)
        if np.dtype(dtype).kind == "f":
            values[:, 2:5, 3:8] = np.nan
            values[GAP] = np.nan
        place = str(folder / f"{name}-{kind}".replace(" ", "-"))
        given = {"a": {"chunks": CHUNKS, **KINDS[kind], **encoding}}
        if kind == "v2":
            given["a"].pop("fill_value", None)
        ds = xr.Dataset({"a": (("time", "y", "x"), values)})
        ds.to_zarr(place, encoding=given, consolidated=False, zarr_format=2 if kind == "v2" else 3)
        found[name, kind] = place
    return found


@st.composite
def boxes(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[slice, ...]:
    starts = [draw(st.integers(0, size - 1)) for size in shape]
    return tuple(
        slice(start, draw(st.integers(start + 1, size)))
        for start, size in zip(starts, shape, strict=True)
    )


steps = st.sampled_from([1, 1, -1, 2, -3])


@given(
    data=st.data(),
    name=st.sampled_from(sorted(ENCODINGS)),
    kind=st.sampled_from(sorted(KINDS)),
    turns=st.tuples(steps, steps, steps),
    time=st.sampled_from([None, 0, 1, -1]),
)
def test_what_is_behind_any_encoding_is_bit_for_bit_what_xarray_reads(
    stores, data, name, kind, turns, time
):
    opened = xr.open_zarr(stores[name, kind], chunks=None, consolidated=False)["a"].variable
    part = opened[tuple(slice(None, None, step) for step in turns)]
    part = part if time is None else part[time]
    found = source("a", part)
    assert isinstance(found, Stored)
    assert found.chunks is not None
    box = data.draw(boxes(part.shape))
    assert_same(found.read(None, box), part[box].to_numpy())


def test_one_pixel_and_no_pixel_are_read(stores):
    opened = xr.open_zarr(stores["packed", "v3"], chunks=None, consolidated=False)["a"].variable
    found = source("a", opened[2, 1, 13])
    assert_same(np.asarray(found.read(None, ())), opened[2, 1, 13].to_numpy())
    assert source("a", opened).read(None, (slice(0, 2), slice(3, 3), slice(0, 5))).shape == (
        2,
        0,
        5,
    )


def test_a_box_of_whole_chunks_is_not_kept_since_no_halo_is_shared(stores):
    opened = xr.open_zarr(stores["f4", "v3"], chunks=None, consolidated=False)["a"].variable
    found = source("a", opened)
    found.read(None, (slice(0, 4), slice(4, 9), slice(0, 5)))
    assert found.own not in {own for own, _ in READ.arrays}
    found.read(None, (slice(0, 4), slice(4, 9), slice(0, 6)))
    assert found.own in {own for own, _ in READ.arrays}


@pytest.mark.proves("damaged-chunk")
def test_a_damaged_chunk_behind_a_variable_is_an_error_that_names_both(tmp_path, impatient):
    ds = xr.Dataset({"a": (("time", "y", "x"), numbers("float32"))})
    ds.to_zarr(tmp_path, encoding={"a": {"chunks": CHUNKS}}, consolidated=False)
    opened = xr.open_zarr(tmp_path, chunks=None, consolidated=False)["a"].variable
    damaged(tmp_path / "a/c/0/1/2", "truncated")
    with pytest.raises(
        CubeError,
        match=r"'a' cannot be read at time 0 to 2, y 4 to 8, x 10 to 14: .* a/c/0/1/2 is damaged",
    ):
        source("a", opened).read(None, (slice(0, 2), slice(4, 8), slice(0, 14)))


class Together(WrapperStore[Any]):
    """A store that answers when so many chunks are asked for at once."""

    waits = 6

    def __init__(self, store: Any) -> None:
        super().__init__(store)
        self.waiting = 0
        self.enough = asyncio.Event()

    def _with_store(self, store: Any) -> Any:
        return self

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        if key.startswith("a/c/"):
            self.waiting += 1
            if self.waiting >= self.waits:
                self.enough.set()
            await self.enough.wait()
        return await super().get(key, prototype, byte_range)


@pytest.mark.parametrize("known", [True, False])
def test_chunks_of_a_remote_store_are_asked_for_side_by_side(known, monkeypatch, tmp_path):
    monkeypatch.setattr(storage, "TIME_LIMIT", 20)  # one after the other they would wait for ever
    url, values = f"memory:/{tmp_path}", numbers("float32")
    ds = xr.Dataset({"a": (("time", "y", "x"), values)})
    ds.to_zarr(url, encoding={"a": {"chunks": CHUNKS}}, consolidated=False)
    opened = xr.open_zarr(Together(FsspecStore.from_url(url)), chunks=None, consolidated=False)
    found = source("a", opened["a"].variable)
    assert found.chunks is not None
    if not known:
        object.__setattr__(found, "chunks", None)
    box = slice(0, 4), slice(0, 9), slice(0, 14)
    np.testing.assert_array_equal(found.read(None, box), values[box])
