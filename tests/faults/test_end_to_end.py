"""A prediction by a network, stopped and gone on with.

Stopped by a full disk, not killed: torch's threads do not live on in a forked process.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
import xarray as xr

from xlsbc.cube.store.writer import verify
from xlsbc.errors import StoreError
from xlsbc.inference.predict import predict
from xlsbc.physics.consistency import check

from .conftest import digest, save


@pytest.fixture(scope="module")
def prediction(world, untrained) -> xr.Dataset:
    """Tiles of which those at every rim are cut, of the year 2001."""
    return predict(world, untrained(world), period=[2001], precision="float32")


@pytest.fixture(scope="module")
def whole(prediction, tmp_path_factory) -> Path:
    return Path(save(prediction, tmp_path_factory.mktemp("whole") / "a.zarr"))


@pytest.mark.proves("full-disk")
@pytest.mark.parametrize("k", [1, 30, 60, 90])
def test_a_prediction_that_was_stopped_is_the_same_after_all(
    prediction, whole, tmp_path, faulty, monkeypatch, k
):
    def full(number: int, key: str, value: Any) -> None:
        if number >= k:
            raise OSError(errno.ENOSPC, "the disk is full")

    faulty(full)
    with pytest.raises(StoreError, match="the disk is full"):
        save(prediction, tmp_path / "a.zarr")
    monkeypatch.undo()
    save(prediction, tmp_path / "a.zarr")
    assert digest(tmp_path / "a.zarr") == digest(whole)


def test_a_stored_prediction_is_verified_and_consistent(whole):
    verify(str(whole), progress=False)
    assert check(xr.open_zarr(whole)).attrs["passed"]
