"""What was written and then damaged is noticed: on reading, or by `verify` (R10, R11)."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from xlsbc.cube.store.writer import verify
from xlsbc.errors import StoreError

from .conftest import SIDE, run, save, toy

SEA = ("lai/c/0/0/0", "lc_fraction/c/0/0/0/0")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return Path(save(toy(), tmp_path_factory.mktemp("damage") / "a.zarr"))


@pytest.fixture
def store(whole, tmp_path):
    return Path(shutil.copytree(whole, tmp_path / "a.zarr"))


def chunks(store, *names):
    found = [p for name in names or ("lai", "lc_fraction") for p in (store / name / "c").rglob("*")]
    return sorted(path for path in found if path.is_file())


def checked(store):
    return verify(str(store), progress=False)


def test_a_whole_store_is_verified(store):
    assert checked(store) == len(chunks(store)) + 5  # five coordinates


@pytest.mark.proves("flipped-bit")
def test_two_hundred_flipped_bits_all_raise_on_reading(store, record_property):
    random = np.random.default_rng(0)
    files = chunks(store)
    silent = []
    for _ in range(200):
        file = files[random.integers(len(files))]
        before = file.read_bytes()
        damaged = bytearray(before)
        bit = int(random.integers(8 * len(damaged)))
        damaged[bit // 8] ^= 1 << bit % 8
        file.write_bytes(damaged)
        name, _, first, *_, row, column = file.relative_to(store).parts
        field = xr.open_zarr(store, chunks=None)[name]
        place = {"latitude": SIDE * int(row), "longitude": SIDE * int(column)}
        place[field.dims[0]] = int(first) * (3 if name == "lai" else 1)
        try:
            field.isel(place).load()
        except Exception:
            pass
        else:
            silent.append((file, bit))
        file.write_bytes(before)
    assert silent == []
    record_property("cases", 200)


@pytest.mark.proves("flipped-bit")
def test_a_flipped_bit_is_found_by_verify(store):
    file = chunks(store, "lai")[3]
    damaged = bytearray(file.read_bytes())
    damaged[-1] ^= 1
    file.write_bytes(damaged)
    with pytest.raises(StoreError, match=r"lai/c/0/1/1 is not what was written"):
        checked(store)


@pytest.mark.proves("damaged-chunk")
@pytest.mark.parametrize("size", [0, 1, 30])
def test_a_truncated_chunk_raises_on_reading_and_is_found(store, size):
    file = chunks(store, "lc_fraction")[0]
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(ValueError, match="checksum|buffer"):
        xr.open_zarr(store)["lc_fraction"].load(scheduler="synchronous")
    with pytest.raises(StoreError, match=r"lc_fraction/\S+ is not what was written \(\d+ bytes\)"):
        checked(store)


@pytest.mark.proves("damaged-chunk")
def test_swapped_chunks_which_read_well_are_found(store):
    one, other = chunks(store, "lai")[:2]
    one_was, other_was = one.read_bytes(), other.read_bytes()
    one.write_bytes(other_was)
    other.write_bytes(one_was)
    xr.open_zarr(store)["lai"].load(scheduler="synchronous")
    with pytest.raises(StoreError) as caught:
        checked(store)
    assert len(caught.value.problems) == 2


@pytest.mark.proves("damaged-chunk")
def test_a_chunk_of_another_store_is_found(store, tmp_path):
    other = Path(save(toy(run=lambda log, year, *tile: run(log, year + 7, *tile)), tmp_path / "b"))
    shutil.copy(other / "lai/c/0/1/1", store / "lai/c/0/1/1")
    with pytest.raises(StoreError, match="lai/c/0/1/1 is not"):
        checked(store)


@pytest.mark.proves("damaged-chunk")
def test_everything_that_is_wrong_is_told_at_once(store):
    for file in chunks(store)[:3]:
        file.unlink()
    (store / SEA[0]).parent.mkdir(parents=True, exist_ok=True)
    (store / SEA[0]).write_bytes(b"not sea")
    (store / "latitude/c/0").unlink()
    (store / "longitude/zarr.json").write_text("{}")
    with pytest.raises(StoreError) as caught:
        checked(store)
    problems = caught.value.problems
    assert len(problems) == 6
    assert f"{SEA[0]} is there and should be empty" in problems
    assert "latitude/c/0 is missing" in problems


@pytest.mark.proves("damaged-chunk")
@pytest.mark.parametrize("damage", ["checksums", "lost"])
def test_a_damaged_ledger_is_no_proof(store, damage):
    file = store / "xlsbc_ledger/lai/c/0/0/0"
    if damage == "lost":
        file.unlink()
    else:
        shutil.copy(store / "xlsbc_ledger/lc_fraction/c/0/0/0/0", file)
    with pytest.raises(StoreError, match="the ledger of"):
        checked(store)


def test_sea_is_not_stored_is_in_the_ledger_and_reads_as_nan(store):
    assert not any((store / key).exists() for key in SEA)
    found = xr.open_zarr(store)
    assert found["lai"][:3, :6, :6].isnull().all()
    assert found["lc_fraction"][0, :, :6, :6].isnull().all()
    assert found["lai"][:3, :6, 6:].notnull().sum() == 3 * 2 * 35


@pytest.mark.proves("damaged-chunk")
@pytest.mark.parametrize("damage", ["truncated", "flipped", "deleted"])
def test_what_was_damaged_before_a_write_goes_on_is_computed_again(whole, store, tmp_path, damage):
    (store / "zarr.json").unlink()
    file, log = store / "lai/c/1/0/1", tmp_path / "log"
    content = bytearray(file.read_bytes())
    if damage == "deleted":
        file.unlink()
    else:
        content[len(content) // 2] ^= 16
        file.write_bytes(content[:40] if damage == "truncated" else content)
    save(toy(log=log), store)
    assert log.read_text() == "1 0 1\n"
    assert file.read_bytes() == (whole / "lai/c/1/0/1").read_bytes()
    checked(store)
