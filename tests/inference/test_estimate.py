"""What a prediction will cost, told before it runs."""

from __future__ import annotations

import dask
import pytest

from xlsbc.errors import CubeError
from xlsbc.inference.estimate import plan
from xlsbc.inference.predict import predict


def test_tiles_and_bytes_are_those_of_the_prediction(cube, emulator):
    found = plan(predict(cube, emulator, targets="lai"), probe=False)
    # 60 x 70 pixels from 10 pixels into tiles of 24: 3 by 4 tiles, in each of two years
    assert found.tiles == 2 * 3 * 4
    assert found.bytes_out == 4 * 24 * 60 * 70
    # windows of 44 pixels of two static inputs, and a few coarse cells for each
    assert found.bytes_in == pytest.approx(4 * 2 * 24 * 44 * 44, rel=0.2)
    assert found.seconds is None


def test_a_part_costs_a_part(cube, emulator):
    lazy = predict(cube, emulator, targets="lai")
    assert plan(lazy.isel(time=[0], latitude=[0], longitude=[0]), probe=False).tiles == 1


def test_sea_that_is_known_is_counted_and_not_run(cube, emulator):
    coast = cube.copy(deep=True)
    coast["elevation"][:, 14:] = float("nan")  # the second to fourth column of tiles
    found = plan(predict(coast, emulator, targets="lai", period=[2001]), probe=False)
    assert (found.tiles, found.sea) == (3, 9)


def test_without_a_probe_nothing_runs(cube, emulator, no_compute):
    plan(predict(cube, emulator), probe=False)


def test_two_tiles_tell_the_time(cube, emulator):
    with dask.config.set(scheduler="synchronous"):
        one = plan(predict(cube, emulator))
    assert one.workers == 1
    assert 0 < one.seconds < 60
    assert "24 tiles" in repr(one)
    assert "1 workers" in repr(one)


def test_what_is_no_prediction_is_refused(cube):
    with pytest.raises(CubeError, match="not a lazy prediction"):
        plan(cube.chunk())
