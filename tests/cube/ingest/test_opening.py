"""Files opened by their first bytes, as they are; what is wrong with a file is said of it."""

from __future__ import annotations

import http.server
import pickle
import threading
import time
from pathlib import Path
from typing import Any, ClassVar

import dask
import numpy as np
import pytest
import xarray as xr

from xlsbc.cube.ingest import opening, remote
from xlsbc.cube.ingest.opening import open_source, source_of
from xlsbc.errors import SourceError


def packed() -> xr.Dataset:
    values = np.array([[1.0, np.nan], [2.5, 3.0]])
    ds = xr.Dataset({"depth": (("y", "x"), values, {"units": "m"})}, {"t": 5})
    ds.depth.encoding = {"dtype": "i2", "scale_factor": 0.5, "_FillValue": -1}
    return ds


FORMATS = {"NETCDF3_CLASSIC": "a", "NETCDF3_64BIT": "b.grib", "NETCDF4": "c.tif"}


@pytest.mark.parametrize("format", FORMATS)
def test_numbers_stay_as_stored_and_lazy_whatever_the_file_is_called(tmp_path, format):
    packed().to_netcdf(tmp_path / FORMATS[format], format=format)
    ds = open_source(tmp_path / FORMATS[format])

    assert dask.is_dask_collection(ds.depth.data)
    assert ds.depth.values.tolist() == [[2, -1], [5, 6]]
    assert ds.depth.attrs["scale_factor"] == 0.5
    assert source_of(ds) == str(tmp_path / FORMATS[format])


def test_a_zarr_store_is_opened_as_stored(tmp_path):
    packed().to_zarr(tmp_path / "a.zarr", consolidated=False)
    ds = open_source(tmp_path / "a.zarr")

    assert ds.depth.values.tolist() == [[2, -1], [5, 6]]


def test_times_stay_numbers_with_their_units(tmp_path):
    ds = xr.Dataset({"a": ("time", [1.0])}, {"time": [np.datetime64("2001-02-03", "ns")]})
    ds.time.encoding = {"units": "days since 2001-01-01", "dtype": "i4"}
    ds.to_netcdf(tmp_path / "a.nc")

    assert open_source(tmp_path / "a.nc").time.values.tolist() == [33]


def test_a_text_is_its_lines(tmp_path):
    (tmp_path / "table.nc").write_text("Year,Mean\n1979,336.85\n")

    assert open_source(tmp_path / "table.nc").text.values.tolist() == ["Year,Mean", "1979,336.85"]


def test_a_remote_file_is_fetched_once(tmp_path, monkeypatch):
    import fsspec

    monkeypatch.setattr(remote.tempfile, "gettempdir", lambda: str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    packed().to_netcdf(tmp_path / "a.nc")
    memory = fsspec.filesystem("memory")
    memory.pipe("/folder/a.nc", (tmp_path / "a.nc").read_bytes())
    try:
        for _ in range(2):
            ds = open_source("memory://folder/a.nc")
            assert ds.depth.values.tolist() == [[2, -1], [5, 6]]
        assert source_of(ds) == "memory://folder/a.nc"
        (folder,) = (tmp_path / "temporary").iterdir()
        assert len(list(folder.iterdir())) == 1
    finally:
        memory.rm("/folder", recursive=True)


class Faulty(http.server.BaseHTTPRequestHandler):
    """Serves one file; the first answers to GET are what `faults` says, in turn."""

    content = b""
    faults: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()

    def do_GET(self) -> None:
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "500":
            self.send_error(500)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        if fault == "slow":
            time.sleep(4)
        if fault:
            self.wfile.write(self.content[:100])
            self.close_connection = True
        else:
            self.wfile.write(self.content)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def faulty(tmp_path, monkeypatch):
    """A factory: URL of a netCDF file on a server with such faults."""
    monkeypatch.setattr(remote.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(remote, "TIME_LIMIT", 1.0)
    monkeypatch.setattr(remote, "FIRST_WAIT", 0.01)
    packed().to_netcdf(tmp_path / "a.nc")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Faulty)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()

    def make(*faults: str) -> str:
        Faulty.content, Faulty.faults = (tmp_path / "a.nc").read_bytes(), list(faults)
        return f"http://127.0.0.1:{server.server_port}/a.nc"

    yield make
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("fault", ["500", "cut", "slow"])
def test_a_server_that_fails_for_a_moment_is_asked_again(faulty, fault):
    assert open_source(faulty(fault)).depth.values.tolist() == [[2, -1], [5, 6]]


@pytest.mark.parametrize("fault", ["500", "cut", "slow"])
def test_a_server_that_keeps_failing_is_an_error_that_names_the_file(faulty, fault, tmp_path):
    began = time.monotonic()
    with pytest.raises(SourceError, match=r"a\.nc: expected a whole file"):
        open_source(faulty(*[fault] * 9))
    assert time.monotonic() - began < 20
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["a.nc"]


def test_a_lazy_dataset_survives_pickling(tmp_path):
    packed().to_netcdf(tmp_path / "a.nc")
    back = pickle.loads(pickle.dumps(open_source(tmp_path / "a.nc")))

    assert back.depth.values.tolist() == [[2, -1], [5, 6]]
    assert source_of(back) == str(tmp_path / "a.nc")


def test_a_large_variable_in_one_piece_is_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "LARGEST_CHUNK", 1000)
    ds = xr.Dataset({"a": (("y", "x"), np.arange(10000.0).reshape(100, 100))})
    ds.to_netcdf(tmp_path / "a.nc", format="NETCDF3_CLASSIC")
    with dask.config.set({"array.chunk-size": "8 kB"}):
        opened = open_source(tmp_path / "a.nc")

    assert max(map(len, opened.a.chunks)) > 1
    np.testing.assert_array_equal(opened.a, ds.a)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "found no bytes"),
        (b"PK\x03\x04 and more", "found a zip archive; unzip it"),
        (b"\x1f\x8b\x08", "found a gzip archive; unpack it"),
        (b"<!DOCTYPE html>", "found a web page"),
        (b"<?xml version='1.0'?>", "a server's refusal"),
        (b"\0\1\2\3\4\5", "found bytes that begin with"),
        (b"CDF\x01 and nothing else", "expected a whole file"),
        (b"\x89HDF\r\n\x1a\n", "expected a whole file"),
        (b"GRIB and nothing else", "expected"),
        (b"II*\0 and nothing else", "expected"),
    ],
)
def test_what_cannot_be_read_is_named_with_what_to_do(tmp_path, content, said):
    path = tmp_path / "data.nc"
    path.write_bytes(content)

    with pytest.raises(SourceError, match=rf"data\.nc.*{said}"):
        open_source(path)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SourceError, match=r"gone\.nc: expected a file; found nothing; fetch it"):
        open_source(tmp_path / "gone.nc")
    with pytest.raises(SourceError, match=r"memory://gone\.nc: expected a file; found nothing"):
        open_source("memory://gone.nc")


def test_real_files_of_every_kind_open(real_data):
    found = {path: open_source(path) for path in sorted(Path(real_data).rglob("*.*"))[::4]}

    assert all(ds.sizes for ds in found.values())
