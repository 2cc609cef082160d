"""A write that is killed anywhere is gone on with by the same call, to the same bytes (R1, R2)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import xarray as xr

from xlsbc.cube.store.writer import verify

from .conftest import digest, in_child, kill_at, save, toy

pytestmark = [
    pytest.mark.proves("killed-writer"),
    pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning"),
]

COMPUTED = 19
"""Regions of the toy that are not all sea."""


def computed(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.exists() else []


def files(place: Path) -> list[Path]:
    return [path for path in place.rglob("*") if path.is_file()]


def finished(place: Path, names: list[str]) -> int:
    """Regions of which every variable is there."""
    found = []
    for name in names:
        chunks = [p for p in files(place / name / "c") if p.suffix != ".partial"]
        parts = [path.relative_to(place / name / "c").parts for path in chunks]
        found.append({(index[0], *index[-2:]) for index in parts})
    return len(set.intersection(*found))


@pytest.mark.parametrize("when", ["before", "between temporary file and rename", "after"])
def test_killed_at_any_put_and_run_again_it_is_the_same_store(tmp_path, record_property, when):
    names = ["lai"]  # with two variables there are twice the puts; see the next test
    whole = Path(save(toy()[names], tmp_path / "whole.zarr"))
    total = len(files(whole))
    assert total > COMPUTED
    record_property("cases", total)
    for k in range(1, total + 1):
        place, log = tmp_path / f"{k}.zarr", tmp_path / f"{k}.log"
        assert in_child(partial(kill_then_save, when, k, names, place)) == -9
        left = COMPUTED - finished(place, names)
        if (when, k) != ("after", total):
            with pytest.raises(FileNotFoundError):
                xr.open_zarr(place, consolidated=False)
        save(toy(log=log)[names], place)
        assert digest(place) == digest(whole), f"put {k} of {total}"
        assert len(computed(log)) <= left


def kill_then_save(when: str, k: int, names: list[str], place: Path) -> None:
    kill_at(when, k)
    save(toy()[names], place)


@pytest.mark.parametrize("k", [29, 31, 36])
def test_a_write_killed_again_and_again_gets_on_each_time_and_ends_the_same(
    tmp_path, record_property, k
):
    names = ["lai", "lc_fraction"]
    whole = Path(save(toy(), tmp_path / "whole.zarr"))
    place, progress = tmp_path / "a.zarr", [-1]
    # the first 13 puts of each run are the plan, metadata and coordinates
    while in_child(partial(kill_then_save, "after", k, names, place)) == -9:
        progress.append(finished(place, names))
    assert progress == sorted(progress)
    assert progress[1] > 0
    assert len(progress) > 2
    record_property("cases", len(progress) - 1)
    assert digest(place) == digest(whole)
    assert verify(str(place), progress=False) == 2 * COMPUTED + 5
