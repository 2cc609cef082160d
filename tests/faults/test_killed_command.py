"""`xlsbc predict`, a network's prediction, killed and given again (R1), on disk and on S3.

In processes of their own: torch's threads do not live on in a forked one.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import xarray as xr

from tests import servers
from xlsbc.cube.store.writer import verify

from .conftest import digest

pytestmark = pytest.mark.proves("killed-command")

ROOT = Path(__file__).parents[2]

KILLED = """
import sys
from tests.faults.conftest import kill_at
from xlsbc.cli import main
kill_at(sys.argv[1], int(sys.argv[2]))
sys.argv[1:] = sys.argv[3:]
main()
"""

VARIABLES = 7

MOMENTS = ["before", "between temporary file and rename", "after"]


@pytest.fixture(scope="module")
def command(world, untrained, tmp_path_factory) -> list[str]:
    """The command less its last word, where the prediction is to lie."""
    folder = tmp_path_factory.mktemp("inputs")
    cube = world.drop_vars(["lai", "lu_fraction", "lc_fraction"])
    cube.lsbc.write(str(folder / "cube.zarr"), packed=False, progress=False)
    untrained(world).save(folder / "emulator")
    return ["predict", str(folder / "cube.zarr"), str(folder / "emulator")]


@pytest.fixture(scope="module")
def whole(command, tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("whole") / "a.zarr"
    run(["-m", "xlsbc", *command, str(place)])
    verify(str(place), progress=False)
    return place


def run(arguments: list[str], status: int = 0) -> None:
    """Run a Python to its end, of which the status is known."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == status, done.stderr


def chunks(place: Path) -> dict[Path, int]:
    """Stored chunks, and when each was written."""
    return {
        path: path.stat().st_mtime_ns
        for path in place.rglob("c/**/*")
        if path.is_file() and path.suffix != ".partial"
    }


def region(chunk: Path) -> tuple[str, ...] | None:
    """Year, row and column of a chunk of a variable; None for a coordinate's."""
    index = chunk.parts[len(chunk.parts) - chunk.parts[::-1].index("c") :]
    return (index[0], *index[-2:]) if len(index) > 2 else None


def finished(stored: dict[Path, int]) -> set[tuple[str, ...]]:
    """Regions of which every variable is stored."""
    counts = Counter(filter(None, map(region, stored)))
    return {at for at, count in counts.items() if count == VARIABLES}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_on_disk_it_ends_in_the_same_bytes(command, whole, tmp_path, moment):
    place = tmp_path / "a.zarr"
    total = len(chunks(whole))
    held = 0
    for k in (total // 2, total // 4):  # puts of each run
        run(["-c", KILLED, moment, str(k), *command, str(place)], status=-signal.SIGKILL)
        now = chunks(place)
        assert held < len(now) < total
        held = len(now)
        with pytest.raises(FileNotFoundError):
            xr.open_zarr(place, consolidated=False)
    before = chunks(place)
    run(["-m", "xlsbc", *command, str(place)])
    after = chunks(place)
    again = [path for path, written in before.items() if after[path] != written]
    assert len(again) < total // 4  # only regions that were not finished, one of each thread
    assert finished(before)
    assert not finished(before) & {region(path) for path in again}
    assert digest(place) == digest(whole)


class Killing:
    """An application before moto: kills a process at the k-th PUT, stored or not."""

    def __init__(self, moto: Any) -> None:
        self.moto = moto
        self.puts = 0
        self.last: int | None = None
        self.stored = False
        self.victim: subprocess.Popen[str] | None = None

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        if environ["REQUEST_METHOD"] != "PUT":
            return self.moto(environ, start_response)
        self.puts += 1
        if self.puts == self.last and self.victim is not None:
            if self.stored:
                list(self.moto(environ, lambda *_: None))
            os.kill(self.victim.pid, signal.SIGKILL)
            environ["werkzeug.socket"].close()
            return []
        return self.moto(environ, start_response)


@pytest.fixture(scope="module")
def bucket() -> Iterator[Killing]:
    pytest.importorskip("s3fs")
    pytest.importorskip("moto.moto_server.werkzeug_app")
    with servers.s3() as (server, _):
        fsspec.filesystem("s3").mkdir("kills")
        server.moto = Killing(server.moto)
        yield server.moto


def objects(url: str) -> dict[str, bytes]:
    """Content of everything under a URL, by key."""
    fs, path = fsspec.core.url_to_fs(url)
    fs.invalidate_cache()
    return {key.removeprefix(path): fs.cat_file(key) for key in fs.find(path)}


@pytest.mark.parametrize("stored", [False, True])
def test_killed_on_s3_it_ends_in_the_same_bytes(command, whole, bucket, stored):
    url = f"s3://kills/{stored}.zarr"
    bucket.stored = stored
    total = len(chunks(whole))
    for k in (total // 2, total // 4):
        bucket.puts, bucket.last = 0, k
        words = [sys.executable, "-m", "xlsbc", *command, url]
        bucket.victim = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.DEVNULL, text=True)
        assert bucket.victim.wait(100) == -signal.SIGKILL
        with pytest.raises(FileNotFoundError):
            xr.open_zarr(url, consolidated=False)
    bucket.puts, bucket.last = 0, None
    run(["-m", "xlsbc", *command, url])
    assert bucket.puts < total * 3 // 4  # what was finished is not put again
    expected = {
        f"/{path.relative_to(whole)}": path.read_bytes()
        for path in whole.rglob("*")
        if path.is_file()
    }
    assert objects(url) == expected
