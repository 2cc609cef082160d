"""Inputs on S3 and on a web server that fail while a prediction reads them (R8)."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import fsspec
import numpy as np
import pytest
import xarray as xr

from tests import servers
from xlsbc.cube.store import storage
from xlsbc.cube.store.sources import READ
from xlsbc.errors import CubeError
from xlsbc.inference.predict import predict
from xlsbc.inference.run import COARSE

s3fs = pytest.importorskip("s3fs")
pytest.importorskip("aiohttp")
pytest.importorskip("moto.moto_server.werkzeug_app")

pytestmark = pytest.mark.proves("store-faults-read")

STATUS = ["500", "503", "429"]
BROKEN = ["the line is cut", "cut short"]
WRONG = ["half of it", "nothing", "a web page"]
SLOW = ["no answer"]

PAGE = b"<html><body>Please sign in</body></html>"

ANYONE = "AWS4-HMAC-SHA256 Credential=anyone/20260101/us-east-1/s3/aws4_request"


class Reads:
    """An application before moto: what `fault` says happens to the n-th GET of a chunk."""

    def __init__(self, moto: Any) -> None:
        self.moto = moto
        self.lock = threading.Lock()
        self.asked: list[str] = []
        self.fault: Callable[[int, str], str | None] = lambda number, key: None

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        key = environ["PATH_INFO"]
        environ.setdefault("HTTP_AUTHORIZATION", ANYONE)  # a web server lets everyone read
        if environ["REQUEST_METHOD"] != "GET" or "/c/" not in key or "ledger" in key:
            return self.moto(environ, start_response)
        with self.lock:
            self.asked.append(key)
            number = len(self.asked)
        kind = self.fault(number, key)
        if kind is None:
            return self.moto(environ, start_response)
        if kind == "no answer":
            time.sleep(1.5)
        if kind in ("the line is cut", "no answer"):
            environ["werkzeug.socket"].close()
            return []
        if kind.isdigit():
            start_response(f"{kind} Fault", [("Content-Type", "application/xml")])
            return [b"<Error><Code>SlowDown</Code><Message>on purpose</Message></Error>"]
        body = b"".join(self.moto(environ, lambda *_: None))
        part = {"nothing": b"", "a web page": PAGE}.get(kind, body[: len(body) // 2])
        length = len(body) if kind == "cut short" else len(part)
        start_response("200 OK", [("Content-Length", str(length))])
        return [part]


@pytest.fixture(scope="module")
def reads() -> Iterator[Reads]:
    with pytest.MonkeyPatch.context() as patch, servers.s3() as (bucket, _):
        patch.setenv("AWS_MAX_ATTEMPTS", "1")  # botocore waits for seconds
        fsspec.filesystem("s3").mkdir("reads")
        bucket.moto = Reads(bucket.moto)
        yield bucket.moto


@pytest.fixture(scope="module")
def corner(world: xr.Dataset) -> xr.Dataset:
    """Of the world, several chunks of every field."""
    part = world.isel(latitude=slice(0, 20), longitude=slice(0, 24))
    return part.drop_vars(["lai", "lu_fraction", "lc_fraction"]).chunk(latitude=10, longitude=12)


@pytest.fixture(scope="module")
def emulator(world: xr.Dataset, untrained: Any) -> Any:
    return untrained(world)


@pytest.fixture(scope="module")
def expected(corner: xr.Dataset, emulator: Any) -> np.ndarray:
    lazy = predict(corner.compute(), emulator, targets=["lai"], period=[2001])
    return lazy.lai.compute(scheduler="synchronous").to_numpy()


@pytest.fixture(scope="module")
def place(reads: Reads, corner: xr.Dataset) -> str:
    corner.lsbc.write("s3://reads/cube.zarr", packed=False, progress=False)
    return "reads/cube.zarr"


@pytest.fixture(params=["s3", "http"])
def lazy(request, reads, place, emulator, monkeypatch) -> Iterator[xr.Dataset]:
    """A prediction from a store of that kind, of which nothing was read but what it lists."""
    monkeypatch.setattr(storage, "FIRST_WAIT", 0)
    monkeypatch.setattr(storage, "TIME_LIMIT", 20)
    READ.forget()
    COARSE.forget()
    reads.fault = lambda number, key: None
    url = f"s3://{place}"
    if request.param == "http":
        url = f"{os.environ['AWS_ENDPOINT_URL']}/{place}"
    cube = xr.open_zarr(url, chunks={})
    yield predict(cube, emulator, targets=["lai"], period=[2001])
    reads.fault = lambda number, key: None
    reads.asked.clear()


def values(lazy: xr.Dataset) -> np.ndarray:
    return lazy.lai.compute(scheduler="synchronous").to_numpy()


def test_the_store_gives_what_memory_gives(lazy, reads, expected):
    reads.asked.clear()
    np.testing.assert_array_equal(values(lazy), expected)
    assert any("/elevation/c/" in key for key in reads.asked)


@pytest.mark.parametrize("kind", STATUS + BROKEN + WRONG + SLOW)
def test_a_fault_now_and_then_changes_nothing(lazy, reads, expected, kind):
    reads.asked.clear()
    reads.fault = lambda number, key: kind if number in (2, 7) else None
    np.testing.assert_array_equal(values(lazy), expected)
    assert len(reads.asked) > 7


@pytest.mark.parametrize("kind", [*STATUS, *BROKEN, *WRONG, "403", "404"])
def test_a_chunk_that_cannot_be_had_is_one_error_that_names_it(lazy, reads, monkeypatch, kind):
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)  # its own wait for seconds besides ours
    reads.fault = lambda number, key: kind if key.endswith("elevation/c/1/0") else None
    with pytest.raises(CubeError, match="input 'elevation' .* latitude 10 to 20, longitude 0 to"):
        values(lazy)
