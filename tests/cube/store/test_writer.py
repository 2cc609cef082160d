from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import fsspec
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr

from xlsbc.cube.legends import LC
from xlsbc.cube.store.writer import verify, write
from xlsbc.errors import CubeError, StoreError


@pytest.fixture
def product() -> xr.Dataset:
    """Land cover, LAI and a count on 5 x 7 pixels, no two values alike, some missing.

    LAI and land cover are whole numbers of the steps in which they are stored.
    """
    lai = np.arange(3 * 5 * 7, dtype="float32").reshape(3, 5, 7) / 16
    lai[1, 2, 3] = np.nan
    lc = np.random.default_rng(0).permutation(490).reshape(1, 14, 5, 7).astype("float32") / 2**15
    return xr.Dataset(
        {
            "lai": (("time", "latitude", "longitude"), lai, {"units": "1", "long_name": "leaves"}),
            "lc_fraction": (("year", "lc_class", "latitude", "longitude"), lc),
            "count": (("latitude", "longitude"), np.arange(35).reshape(5, 7)),
            "covered": (("latitude", "longitude"), lai[0] > 1),
        },
        {
            "time": pd.date_range("2001-01-01", periods=3, freq="MS"),
            "year": [2001],
            "latitude": 47 - np.arange(5) / 120,
            "longitude": 7 + np.arange(7) / 120,
            "lc_class": LC.coordinate("lc_class"),
        },
        {"title": "five by seven", "xlsbc_emulator": "0" * 64},
    )


@pytest.fixture
def failing(product: xr.Dataset) -> xr.Dataset:
    """The product, whose last block cannot be computed."""

    def fail(block: np.ndarray, block_info: Any = None) -> np.ndarray:
        if block_info and block_info[0]["chunk-location"] == (2, 0, 0):
            raise RuntimeError("the last block failed")
        return block

    blocks = da.from_array(product["lai"].to_numpy(), chunks=(1, 5, 7))
    return product.assign(lai=(product["lai"].dims, blocks.map_blocks(fail, dtype="float32")))


def opened(url: str) -> xr.Dataset:
    return xr.open_zarr(url)  # as users do: a warning would be an error


def saved(ds: xr.Dataset, url: Any, **options: Any) -> str:
    return write(ds, str(url), progress=False, **options)


def content(ds: xr.Dataset) -> xr.Dataset:
    """What was read, less what the store says of itself; packed variables come as float64."""
    attrs = dict(ds.attrs)
    assert attrs.pop("xlsbc_complete") is True
    assert attrs.pop("xlsbc_shards") > 0
    assert len(attrs.pop("xlsbc_manifest")) == 64
    packed = {k: v.astype("float32") for k, v in ds.items() if "scale_factor" in v.encoding}
    return ds.assign(packed).drop_attrs(deep=False).assign_attrs(attrs)


def contents(place: Path) -> dict[str, bytes]:
    return {str(p.relative_to(place)): p.read_bytes() for p in place.rglob("*") if p.is_file()}


def test_what_is_written_is_read_back_identical(product, tmp_path):
    url = saved(product, tmp_path / "a.zarr")
    found = opened(url).load()
    assert found["covered"].dtype == bool
    assert list(found.data_vars) == list(product.data_vars)
    xr.testing.assert_identical(content(found), product)


def test_unpacked_it_is_read_back_identical_to_the_last_bit(product, tmp_path):
    exact = product.assign(lai=product["lai"] * np.float32(np.pi))
    found = opened(saved(exact, tmp_path / "a.zarr", packed=False)).load()
    assert found["lai"].dtype == np.float32
    xr.testing.assert_identical(content(found), exact)


def test_the_place_is_returned(product, tmp_path):
    assert saved(product, f"{tmp_path}/a.zarr/") == f"{tmp_path}/a.zarr"


def test_a_store_is_zarr_3(product, tmp_path):
    saved(product, tmp_path / "a.zarr")
    assert zarr.open_group(tmp_path / "a.zarr", mode="r").metadata.zarr_format == 3


@pytest.mark.parametrize("size", [(1, 2, 7), (3, (1, 3, 1), (2, 4, 1)), (2, 5, (6, 1))])
def test_blocks_of_any_size_are_read_back_identical(product, tmp_path, size):
    # tiles of a box off the lattice have a first block smaller than the next
    lazy = product.assign(
        lai=product["lai"].chunk(dict(zip(product["lai"].dims, size, strict=True)))
    )
    found = opened(saved(lazy, tmp_path / "a.zarr")).load()
    xr.testing.assert_identical(content(found), product)


def test_a_store_that_was_read_can_be_written_again(product, tmp_path):
    first = opened(saved(product.chunk(latitude=2), tmp_path / "a.zarr"))
    again = opened(saved(first.chunk(latitude=3), tmp_path / "b.zarr")).load()
    xr.testing.assert_identical(content(again), content(first.load()))


def test_writing_leaves_the_dataset_as_it_was(product, tmp_path):
    first = opened(saved(product, tmp_path / "a.zarr"))
    before = dict(first["lai"].encoding)
    saved(first, tmp_path / "b.zarr")
    assert first.attrs["xlsbc_complete"] is True
    assert first["lai"].encoding == before


@pytest.mark.proves("flipped-bit")
@pytest.mark.parametrize("lazy", [False, True])
def test_a_flipped_byte_in_any_chunk_is_noticed(product, tmp_path, record_property, lazy):
    cases = 0
    saved(product.chunk(latitude=3) if lazy else product, tmp_path / "a.zarr")
    for name in product.variables:
        files = [p for p in (tmp_path / "a.zarr" / str(name) / "c").rglob("*") if p.is_file()]
        assert files
        for file in files:
            whole = file.read_bytes()
            damaged = bytearray(whole)
            damaged[len(whole) // 2] ^= 0x10
            file.write_bytes(damaged)
            with pytest.raises(ValueError, match="(?i)checksum"):
                zarr.open_group(tmp_path / "a.zarr", mode="r")[name][...]
            file.write_bytes(whole)
            cases += 1
    record_property("cases", cases)


def test_something_that_is_there_is_refused_and_not_touched(product, tmp_path):
    place = tmp_path / "a.zarr"
    saved(product, place)
    before = contents(place)
    with pytest.raises(CubeError, match="there is something at .*a.zarr; pass overwrite=True"):
        saved(product.assign(lai=product["lai"] + 1), place)
    assert contents(place) == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]


def test_a_file_of_another_kind_is_refused_too(product, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(CubeError, match="there is something at"):
        saved(product, tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_store_may_be_replaced_on_purpose(product, tmp_path):
    place = tmp_path / "a.zarr"
    saved(product, place)
    saved(product[["count"]], place, overwrite=True)
    found = opened(str(place))
    assert set(found.data_vars) == {"count"}
    assert not (place / "lai").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]


def test_the_same_again_leaves_a_complete_store_as_it_is(product, tmp_path):
    place = tmp_path / "a.zarr"
    saved(product.chunk(latitude=2), place)
    times = {p: p.stat().st_mtime_ns for p in place.rglob("*")}
    with dask.config.set(scheduler=refused):
        saved(product.chunk(latitude=2), place)
    assert {p: p.stat().st_mtime_ns for p in place.rglob("*")} == times


def refused(*args: Any, **kwargs: Any) -> None:
    raise AssertionError("something was computed")


def test_without_resume_a_store_of_the_same_is_refused_and_with_overwrite_made_anew(
    product, tmp_path
):
    place = tmp_path / "a.zarr"
    saved(product, place)
    with pytest.raises(CubeError, match="resume=False asks to begin again"):
        saved(product, place, resume=False)
    before = contents(place)
    (place / "lai" / "c" / "0" / "0" / "0").unlink()
    saved(product, place, resume=False, overwrite=True)
    assert contents(place) == before


def test_a_compute_that_fails_leaves_nothing_that_opens(failing, tmp_path):
    with pytest.raises(RuntimeError, match="the last block failed"):
        saved(failing, tmp_path / "a.zarr")
    for consolidated in (None, False):
        with pytest.raises(FileNotFoundError):
            xr.open_zarr(tmp_path / "a.zarr", consolidated=consolidated)
    with pytest.raises(StoreError, match="expected a complete store"):
        verify(str(tmp_path / "a.zarr"))


def test_a_compute_that_fails_leaves_the_store_that_was_to_be_replaced(product, failing, tmp_path):
    place = tmp_path / "a.zarr"
    saved(product, place)
    before = contents(place)
    with pytest.raises(RuntimeError, match="the last block failed"):
        saved(failing, place, overwrite=True)
    assert contents(place) == before
    saved(product[["count"]], place, overwrite=True)
    assert set(opened(str(place)).data_vars) == {"count"}
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]


def test_a_replacement_that_was_not_moved_to_its_place_is_moved_by_the_same_again(
    product, tmp_path
):
    saved(product, tmp_path / "a.zarr.new")
    saved(product[["count"]], tmp_path / "a.zarr.old")
    with dask.config.set(scheduler=refused):
        saved(product, tmp_path / "a.zarr", overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]
    xr.testing.assert_identical(content(opened(str(tmp_path / "a.zarr")).load()), product)


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[str]:
    """A URL prefix in memory, of this test alone."""
    yield f"memory://{tmp_path.name}"
    # key by key: threads of a write that failed may still be finishing their chunk
    files = fsspec.filesystem("memory").store
    for name in [name for name in files if name.startswith(f"/{tmp_path.name}/")]:
        files.pop(name, None)


def test_a_store_need_not_be_local(product, memory):
    url = saved(product, f"{memory}/a.zarr")
    xr.testing.assert_identical(content(opened(url).load()), product)
    assert verify(url, progress=False) == opened(url).attrs["xlsbc_shards"]
    with pytest.raises(CubeError, match="there is something at"):
        saved(product[["lai"]], url)
    saved(product[["count"]], url, overwrite=True)
    assert set(opened(url).data_vars) == {"count"}


@pytest.mark.parametrize("claimed", [False, True])
def test_half_a_store_elsewhere_is_none_and_can_be_gone_on_with(failing, memory, claimed):
    # a cube that was read from a whole store says so in its attributes
    source = failing.assign_attrs(xlsbc_complete=True) if claimed else failing
    with pytest.raises(RuntimeError, match="the last block failed"):
        saved(source, f"{memory}/b.zarr")
    with pytest.raises(FileNotFoundError):
        zarr.open_group(f"{memory}/b.zarr", mode="r")
    with pytest.raises(RuntimeError, match="the last block failed"):
        saved(failing, f"{memory}/b.zarr")


def test_nothing_to_write_is_an_error(tmp_path):
    with pytest.raises(CubeError, match="nothing to write"):
        saved(xr.Dataset(coords={"year": [2001]}), tmp_path / "a.zarr")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shown", [True, False])
def test_a_progress_bar_is_shown_on_request(product, tmp_path, capsys, shown):
    write(product.chunk(time=1), str(tmp_path / "a.zarr"), progress=shown)
    assert ("Completed" in capsys.readouterr().out) == shown


def test_large_arrays_in_memory_are_cut_into_chunks_of_whole_pixels(monkeypatch, product, tmp_path):
    monkeypatch.setattr("xlsbc.cube.store.layout.LARGEST_CHUNK", 100)
    url = saved(product, tmp_path / "a.zarr")
    group = zarr.open_group(url, mode="r")
    assert group["lai"].chunks == (2, 5, 7)
    assert group["lc_fraction"].chunks == (1, 14, 1, 7)
    assert group["count"].chunks == (5, 7)
    xr.testing.assert_identical(content(opened(url).load()), product)


@pytest.mark.parametrize(
    ("side", "read"), [(512, 512), (1024, 512), (768, 384), (1500, 500), (1021, 1021), (514, 257)]
)
def test_large_chunks_are_shards_of_equal_parts(tmp_path, side, read):
    random = np.random.default_rng(0)
    field = random.random((side, side), dtype="float32")
    lazy = xr.Dataset({"a": (("y", "x"), da.from_array(field, chunks=(side, side)))})
    url = saved(lazy, tmp_path / "a.zarr")
    array = zarr.open_group(url, mode="r")["a"]
    assert (array.shards or array.chunks) == (side, side)
    assert array.chunks == (read, read)
    np.testing.assert_array_equal(array[...], field)
    assert verify(url, progress=False) == 1


def test_a_tile_is_one_task(tmp_path):
    fields = da.ones((40, 60), chunks=10).map_blocks(np.sin)
    ds = xr.Dataset({"a": (("y", "x"), fields), "b": (("y", "x"), fields + 1)})
    counted: list[int] = []

    def count(graph: Any, keys: Any, **options: Any) -> Any:
        counted.append(len(graph))
        return dask.get(graph, keys)

    with dask.config.set(scheduler=count):
        saved(ds, tmp_path / "a.zarr")
    assert counted == [24 + 1]  # and what they all share


@pytest.mark.proves("determinism")
@pytest.mark.parametrize("scheduler", ["synchronous", "threads", "processes"])
def test_every_scheduler_writes_the_same_bytes(product, tmp_path, scheduler):
    lazy = product.chunk(latitude=(1, 3, 1), longitude=(2, 4, 1), time=2)
    saved(lazy, tmp_path / "a.zarr")
    with dask.config.set(scheduler=scheduler, num_workers=2):
        saved(lazy, tmp_path / "b.zarr")
    assert contents(tmp_path / "a.zarr") == contents(tmp_path / "b.zarr")
