"""S3, as moto serves it, that fails: 500s, bursts of 503, lost responses, refusals (R9)."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import fsspec
import pytest
import xarray as xr
from werkzeug.serving import make_server

from tests import servers
from xlsbc.cube.store import storage
from xlsbc.cube.store.writer import verify
from xlsbc.errors import CubeError, StoreError

from .conftest import save, toy

pytest.importorskip("s3fs")
moto_server = pytest.importorskip("moto.moto_server.werkzeug_app")

Fault = Callable[[int, str], str | None]


class Faults:
    """A WSGI application in front of moto: what `fault` says happens to the n-th PUT."""

    def __init__(self) -> None:
        self.moto = moto_server.DomainDispatcherApplication(moto_server.create_backend_app)
        self.lock = threading.Lock()
        self.puts: list[str] = []
        self.fault: Fault = lambda number, key: None

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        if environ["REQUEST_METHOD"] != "PUT":
            return self.moto(environ, start_response)
        with self.lock:
            self.puts.append(environ["PATH_INFO"])
            number = len(self.puts)
        kind = self.fault(number, environ["PATH_INFO"])
        if kind in ("stored, then 500", "stored, then the line is cut"):
            list(self.moto(environ, lambda *_: None))
        else:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)) if kind else None
        if kind is None:
            return self.moto(environ, start_response)
        if kind.endswith("the line is cut"):
            environ["werkzeug.socket"].close()
            return []
        status = kind[-3:]
        start_response(f"{status} Fault", [("Content-Type", "application/xml")])
        code = {"403": "AccessDenied", "503": "SlowDown"}.get(status, "InternalError")
        return [f"<Error><Code>{code}</Code><Message>on purpose</Message></Error>".encode()]


@pytest.fixture(scope="module")
def application() -> Iterator[Faults]:
    application = Faults()
    server = make_server("127.0.0.1", 0, application, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "nobody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_MAX_ATTEMPTS", "1")  # botocore waits for seconds
        servers.forget()
        fsspec.filesystem("s3").mkdir("bucket")
        yield application
        servers.forget()
    server.shutdown()
    thread.join()


@pytest.fixture
def url(application, request, monkeypatch) -> Iterator[str]:
    monkeypatch.setattr(storage, "FIRST_WAIT", 0)
    application.puts.clear()
    name = hashlib.sha256(request.node.name.encode()).hexdigest()[:12]
    yield f"s3://bucket/{name}.zarr"
    application.fault = lambda number, key: None


def contents(url: str) -> dict[str, bytes]:
    fs, path = fsspec.core.url_to_fs(url)
    fs.invalidate_cache()
    return {key.removeprefix(path): fs.cat_file(key) for key in fs.find(path)}


@pytest.fixture(scope="module")
def whole(application) -> dict[str, bytes]:
    return contents(save(toy(years=1), "s3://bucket/whole.zarr"))


def test_what_is_written_is_read_and_verified(application, url, whole):
    save(toy(years=1), url)
    assert contents(url) == whole
    assert verify(url, progress=False) == 2 * 9 + 5
    xr.testing.assert_allclose(xr.open_zarr(url).load(), toy(years=1).compute(), atol=2**-12)


@pytest.mark.proves("store-faults-write")
@pytest.mark.parametrize(
    ("kind", "share"),
    [
        ("500", 5),
        ("503", 5),
        ("stored, then 500", 5),
        ("stored, then the line is cut", 5),
        ("the line is cut", 5),
    ],
)
def test_faults_of_some_puts_do_not_change_the_store(application, url, whole, kind, share):
    application.fault = lambda number, key: kind if number % share == 1 else None
    save(toy(years=1), url)
    assert contents(url) == whole
    assert len(application.puts) > len(whole)


@pytest.mark.proves("store-faults-write")
def test_a_burst_of_503_is_waited_for(application, url, whole):
    application.fault = lambda number, key: "503" if 20 <= number < 30 else None
    save(toy(years=1), url)
    assert contents(url) == whole


@pytest.mark.proves("store-faults-write")
def test_a_refused_region_is_one_error_and_the_others_stay(application, url, whole):
    application.fault = lambda number, key: "403" if key.endswith("lai/c/0/0/1") else None
    with pytest.raises(
        StoreError, match=r"lai at time 0 to 3, latitude 0 to 6, longitude 6 to 12"
    ) as caught:
        save(toy(years=1), url)
    assert url in str(caught.value)
    assert len(caught.value.problems) == 1
    assert sum(key.endswith("lai/c/0/0/1") for key in application.puts) == 1  # no use in trying
    with pytest.raises(FileNotFoundError):
        xr.open_zarr(url, consolidated=False)
    application.fault = lambda number, key: None
    application.puts.clear()
    save(toy(years=1), url)
    assert contents(url) == whole
    chunks = [key for key in application.puts if "/lai/c/" in key and "ledger" not in key]
    assert len(chunks) == 1


@pytest.mark.proves("company")
def test_a_store_of_another_plan_is_refused_and_replaced_only_on_purpose(application, url, whole):
    save(toy(years=1, seed=1), url)
    before = contents(url)
    with pytest.raises(CubeError, match="something at"):
        save(toy(years=1), url)
    assert contents(url) == before
    save(toy(years=1), url, overwrite=True)
    assert contents(url) == whole


@pytest.mark.proves("company")
def test_of_two_plans_at_the_same_moment_one_is_refused(application, url):
    # both saw an empty place; the conditional put of the second finds the first
    other = storage.Objects(url)

    def overtaken(number: int, key: str) -> None:
        if number == 1:
            application.fault = lambda number, key: None
            thread = threading.Thread(target=other.create, args=("xlsbc_ledger/zarr.json", b"{}"))
            thread.start()
            thread.join()

    application.fault = overtaken
    with pytest.raises(CubeError, match="something at"):
        save(toy(years=1), url)
    assert set(contents(url)) == {"/xlsbc_ledger/zarr.json"}
