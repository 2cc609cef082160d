"""A recipe that is killed anywhere and run again gives the same store (R1)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import xarray as xr

pytest.importorskip("apache_beam", reason="recipes need Apache Beam: pip install 'xlsbc[recipes]'")

from tests.cube.forge.conftest import build, decode, weather, year  # noqa: E402

from .conftest import digest, in_child, kill_at  # noqa: E402

pytestmark = [
    pytest.mark.proves("killed-recipe"),
    pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning"),
]


def fragments(*years: int) -> list[xr.Dataset]:
    return [decode(weather(year(each))) for each in years]


def files(place: Path) -> int:
    return sum(path.is_file() for path in place.rglob("*"))


def kill_then_build(when: str, k: int, years: tuple[int, ...], place: Path) -> None:
    kill_at(when, k)
    build(fragments(*years), place, append_dim="forcing_time")


@pytest.mark.parametrize("when", ["before", "between temporary file and rename", "after"])
def test_killed_at_any_put_and_run_again_it_is_the_same_store(tmp_path, record_property, when):
    whole = Path(build(fragments(2000), tmp_path / "whole.zarr"))
    total = files(whole)
    record_property("cases", total)
    for k in range(1, total + 1):
        place = tmp_path / f"{k}.zarr"
        assert in_child(partial(kill_then_build, when, k, (2000,), place)) == -9
        if (when, k) != ("after", total):
            with pytest.raises(FileNotFoundError):
                xr.open_zarr(place, consolidated=False)
        build(fragments(2000), place)
        assert digest(place) == digest(whole), f"put {k} of {total}"


def test_killed_while_it_appends_the_store_stays_what_it_was_until_it_is_more(
    tmp_path, record_property
):
    old = build(fragments(2000), tmp_path / "old.zarr")
    before = xr.open_zarr(old).load()
    whole = Path(build(fragments(2000), tmp_path / "whole.zarr"))
    build(fragments(2000, 2001), whole, append_dim="forcing_time")
    after = xr.open_zarr(whole).load()
    k, alive = 0, -9
    while alive == -9:
        k += 1
        place = tmp_path / f"{k}.zarr"
        build(fragments(2000), place)
        alive = in_child(
            partial(kill_then_build, "before", k, (2000, 2001), place), tmp_path / "log"
        )
        left = xr.open_zarr(place).load()
        assert left.identical(after if alive == 0 else before), f"put {k}"
        build(fragments(2000, 2001), place, append_dim="forcing_time")
        assert digest(place) == digest(whole), f"put {k}"
    assert (alive, k > 10) == (0, True), (tmp_path / "log").read_text()
    record_property("cases", k - 1)


RUN = """
import sys
import apache_beam as beam
import xarray as xr
from xlsbc.cube.forge import *
from xlsbc.cube.schema import conform

def decode(ds):
    return conform(xr.decode_cf(ds))

pattern = pattern_from_file_sequence(sys.argv[2:], "file", file_type="unknown")
with beam.Pipeline(runner="DirectRunner", argv=[]) as pipeline:
    pipeline | (
        beam.Create(pattern.items())
        | OpenURLWithFSSpec()
        | OpenWithXarray(file_type=pattern.file_type)
        | Conform(decode)
        | StoreToZarr(
            store_name=sys.argv[1].rpartition("/")[2],
            target_root=sys.argv[1].rpartition("/")[0],
            combine_dims=pattern.combine_dim_keys,
            target_chunks={"forcing_time": 5, "forcing_latitude": 2},
        )
    )
"""


@pytest.mark.slow
def test_a_run_of_beam_that_is_killed_is_run_again(tmp_path):
    paths = []
    for number in range(2000, 2006):
        paths.append(str(tmp_path / f"{number}.nc"))
        weather(year(number)).to_netcdf(paths[-1])

    def start(place: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", RUN, str(place), *paths]
        return subprocess.Popen(command, cwd=Path(__file__).parents[2])

    (tmp_path / "whole").mkdir()
    assert start(tmp_path / "whole" / "a.zarr").wait() == 0
    process = start(tmp_path / "a.zarr")
    while not list((tmp_path / "a.zarr").glob("t2m/c/*/*/*")):
        time.sleep(0.005)
        assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert start(tmp_path / "a.zarr").wait() == 0
    assert digest(tmp_path / "a.zarr") == digest(tmp_path / "whole" / "a.zarr")
