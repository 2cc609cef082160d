"""Servers on this computer: S3 as moto serves it, which remembers requests, and plain files."""

from __future__ import annotations

import contextlib
import functools
import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import fsspec


class Bucket:
    """What an S3 server was asked: method, path and headers of every request."""

    def __init__(self, application: Any) -> None:
        self.moto = application
        self.requests: list[dict[str, str]] = []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        self.requests.append({k: v for k, v in environ.items() if isinstance(v, str)})
        return self.moto(environ, start_response)


@contextlib.contextmanager
def s3() -> Iterator[tuple[Bucket, dict[str, str]]]:
    """An S3 server, and the environment that leads to it, set in this process meanwhile."""
    from moto.moto_server import werkzeug_app
    from werkzeug.serving import make_server

    bucket = Bucket(werkzeug_app.DomainDispatcherApplication(werkzeug_app.create_backend_app))
    server = make_server("127.0.0.1", 0, bucket, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.port}",
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "a-secret-of-somebody",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    try:
        with mock.patch.dict(os.environ, environment):
            forget()
            yield bucket, environment
    finally:
        forget()
        server.shutdown()
        thread.join()


KEPT: list[Any] = []


def forget() -> None:
    """Let no file system that knows an earlier server be found again.

    They are kept, since what closes them when they go leaves connections that warn.
    """
    cache = fsspec.get_filesystem_class("s3")._cache
    KEPT.append(dict(cache))
    cache.clear()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextlib.contextmanager
def files(folder: Path) -> Iterator[str]:
    """A web server of a folder: its URL."""
    handler = functools.partial(Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
