"""A catalog of version 1 that gets an entry: all others stay, and it is never seen half-written."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import fsspec
import yaml

from xlsbc.cube.catalog.guard import load
from xlsbc.cube.catalog.twin import HEADER, second_url, translated
from xlsbc.cube.store.storage import local_path
from xlsbc.errors import SourceError

__all__ = ["Document", "located", "public_options", "put"]

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
"""Of an entry: what intake offers as an attribute, too, but for dots and dashes."""

SECRET = re.compile(r"key|secret|token|password|credential|sas", re.IGNORECASE)
"""Names of options of file systems that stand for a secret; the token "anon" is none."""


class Document:
    """The YAML of a catalog of version 1, there or yet to be.

    Parameters
    ----------
    url
        Any fsspec URL of a file that ends in ``.yaml`` or ``.yml``.

    Raises
    ------
    SourceError
        If what is there is not a whole catalog of version 1, or if its twin is not of xlsbc.
    """

    def __init__(self, url: str | os.PathLike[str]) -> None:
        self.url = os.fspath(url)
        if not self.url.endswith((".yaml", ".yml")) or re.search(r"[{}]", self.url):
            raise SourceError(
                f"a catalog is a file that ends in .yaml, by a plain name; found {self.url!r}"
            )
        self.comment = ""
        self.data: dict[str, Any] = {"metadata": {"version": 1}, "sources": {}}
        content = get(self.url)
        if content is not None:
            self.comment, self.data = whole(content, self.url)
        beside = get(second_url(self.url))
        if beside is not None and not beside.startswith(HEADER.format(self.file).encode()):
            raise SourceError(
                f"{second_url(self.url)} is not the twin of {self.url}; rename either, or remove it"
            )

    @property
    def file(self) -> str:
        """Name of the file."""
        return self.url.rpartition("/")[2]

    def add(self, name: str, entry: Mapping[str, Any]) -> None:
        """Write the catalog with the entry, in place of one of its name, and its twin."""
        self.data["sources"][name] = dict(entry)
        text = yaml.safe_dump(self.data, sort_keys=False, allow_unicode=True, width=100)
        second = HEADER.format(self.file) + translated(self.data, self.url)
        put(self.url, (self.comment + text).encode())
        put(second_url(self.url), second.encode())


def whole(content: bytes, url: str) -> tuple[str, dict[str, Any]]:
    """The comment that a catalog begins with, and its content.

    Raises
    ------
    SourceError
        If it is damaged, or of another version.
    """
    try:
        data = load(content, url)
        if not isinstance(data.get("sources"), dict):
            raise SourceError("it has no mapping 'sources'")
    except (ValueError, RecursionError, yaml.YAMLError, SourceError) as error:
        raise SourceError(
            f"the catalog {url} is left as it is",
            [
                "expected a whole catalog of intake's version 1; found "
                f"{type(error).__name__}: {error}; mend it, or name another file"
            ],
        ) from error
    lines = content.decode().splitlines(keepends=True)
    last = next((k for k, line in enumerate(lines) if not line.startswith("#")), 0)
    return "".join(lines[:last]), data


def get(url: str) -> bytes | None:
    """Content of a file, None where there is none."""
    fs, path = fsspec.core.url_to_fs(url)
    try:
        return fs.cat_file(path)
    except FileNotFoundError:
        return None


def put(url: str, content: bytes) -> None:
    """Write a file at once: a local one by a rename, a remote one by one request."""
    place = local_path(url)
    if place is None:
        fs, path = fsspec.core.url_to_fs(url)
        fs.pipe_file(path, content)
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{place.name}.", dir=place.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(place.stat().st_mode & 0o777 if place.exists() else 0o644)
        Path(temporary).replace(place)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def located(url: str, catalog: str) -> str:
    """A store's place as an entry names it: from the catalog's folder on, where it is in there."""
    fs, path = fsspec.core.url_to_fs(url)
    other, place = fsspec.core.url_to_fs(catalog)
    folder = other._parent(place).rstrip("/")
    if type(fs) is type(other) and path.startswith(f"{folder}/"):
        return "{{ CATALOG_DIR }}" + path.removeprefix(folder)
    return path if local_path(url) else url


def public_options(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Options of a file system that a catalog may tell everyone.

    Raises
    ------
    SourceError
        With those that look like a secret.
    """
    secret = [name for name, value in named(options or {}) if SECRET.search(name) and value]
    if secret:
        raise SourceError(
            f"a catalog is read by others and must not hold {', '.join(secret)}; "
            "who reads it has credentials of their own, or none: {'anon': True}"
        )
    return dict(options or {})


def named(options: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Options and those in them, less what says that there is no secret."""
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from named(value)
        elif (name, value) != ("token", "anon"):
            yield str(name), value
