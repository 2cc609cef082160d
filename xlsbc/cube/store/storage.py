"""Objects under a URL: put and got whole, tried again when a store fails, and one error after that.

A local object appears by a rename, a remote one by one request, so that half an object is never
seen; which is what lets several processes write the same store at once.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import zlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import fsspec
from zarr.abc.store import Store
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import FsspecStore, LocalStore

from xlsbc.errors import StoreError

__all__ = ["Objects", "checksum", "opened"]

ATTEMPTS = 4
FIRST_WAIT, LONGEST_WAIT = 0.2, 5.0
"""Seconds between attempts: four times as long each time."""

TIME_LIMIT = 300.0
"""Seconds that an object may take, all attempts and what the client tries itself included."""

AT_ONCE = 16
"""Requests in flight of one task."""

HOPELESS = frozenset({errno.EROFS, errno.ENOSPC, errno.EDQUOT})
"""What another attempt cannot mend, besides a lack of permission: no space."""

log = logging.getLogger(__name__)

T = TypeVar("T")


def opened(url: str, options: Mapping[str, Any] | None = None) -> Store:
    """The store at a URL, of whatever kind; makes nothing."""
    path = local_path(url)
    if path:
        return LocalStore(path)
    return FsspecStore.from_url(url, storage_options=dict(options) if options else None)


def local_path(url: str) -> Path | None:
    """The path of a local URL."""
    fs, path = fsspec.core.url_to_fs(url)
    protocols = (fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol
    return Path(path) if "file" in protocols else None


def checksum(content: bytes) -> int:
    """CRC-32 of an object; never 0, which stands for an object that there need not be."""
    return zlib.crc32(content) or 1


class Objects:
    """What lies under a URL, by key; opened anew in every process that it is sent to.

    Parameters
    ----------
    url
        Any fsspec URL, or a path.
    options
        Of its file system, as fsspec takes them.
    """

    by_unit = False
    """Whether what is written lasts only by `keep`, which then makes sense year by year."""

    def __init__(self, url: str, options: Mapping[str, Any] | None = None) -> None:
        self.url = url
        self.options = dict(options or {})
        self._store: Store | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self.url, "options": self.options, "_store": None}

    @property
    def store(self) -> Store:
        """The store, opened at its first use."""
        if self._store is None:
            self._store = opened(self.url, self.options)
        return self._store

    def get(self, key: str) -> bytes | None:
        """Content of an object, None where there is none."""
        return self.read([key])[key]

    def read(self, keys: Iterable[str]) -> dict[str, bytes | None]:
        """Content of several objects, fetched side by side."""

        async def fetch(key: str) -> bytes | None:
            found = await self.store.get(key, default_buffer_prototype())
            return None if found is None else found.to_bytes()

        wanted = list(keys)
        return dict(zip(wanted, self._each("read", fetch, wanted), strict=True))

    def put(self, contents: Mapping[str, bytes], labels: Mapping[str, str] | None = None) -> Any:
        """Write objects side by side; `labels` say in an error what a key stands for.

        What is returned goes to `take` in the process that asked for the write.

        Raises
        ------
        StoreError
            If an object cannot be written after several attempts; the others are.
        """

        async def send(key: str) -> None:
            await self.store.set(key, default_buffer_prototype().buffer.from_bytes(contents[key]))

        self._each("write", send, list(contents), labels)

    def take(self, written: Any) -> None:
        """Learn what another process has written: nothing, where all see the same objects."""

    def keep(self, what: str) -> None:
        """Make lasting what was written so far, where that takes more than writing it."""

    def create(self, key: str, content: bytes) -> None:
        """Write an object unless there is one, also if another process does so at this moment."""

        async def send(key: str) -> None:
            store = self.store
            if isinstance(store, FsspecStore):
                # zarr asks and then writes; `create` makes one conditional request of it.
                try:
                    await store.fs._pipe_file(f"{store.path}/{key}", content, mode="create")
                except FileExistsError:
                    pass
                else:
                    return
            buffer = default_buffer_prototype().buffer.from_bytes(content)
            await store.set_if_not_exists(key, buffer)

        self._each("create", send, [key])

    def keys(self, prefix: str = "") -> set[str]:
        """Keys of all objects whose key starts so."""

        async def find(prefix: str) -> set[str]:
            store = self.store
            if isinstance(store, FsspecStore):
                store.fs.invalidate_cache()  # other processes write here too
            try:
                return {key async for key in store.list_prefix(prefix)}
            except FileNotFoundError:
                return set()

        return self._each("list", find, [prefix])[0]

    def is_empty(self) -> bool:
        """Whether there is no object at all."""

        async def ask(key: str) -> bool:
            store = self.store
            if isinstance(store, FsspecStore):
                store.fs.invalidate_cache()
            return await store.is_empty("")

        return self._each("list", ask, [""])[0]

    def clear(self) -> None:
        """Delete all objects, first the one that makes a store readable."""
        self.drop(["zarr.json"])
        self.drop(self.keys())

    def drop(self, keys: Iterable[str]) -> None:
        """Delete objects; those that are gone already do not matter."""

        async def delete(key: str) -> None:
            try:
                await self.store.delete(key)
            except FileNotFoundError:
                pass

        self._each("delete", delete, list(keys))

    def _each(
        self,
        verb: str,
        act: Callable[[str], Awaitable[T]],
        keys: list[str],
        labels: Mapping[str, str] | None = None,
    ) -> list[T]:
        """Results of one request a key, side by side; the errors of all of them at once."""

        async def all_of_them() -> list[T | BaseException]:
            free = asyncio.Semaphore(AT_ONCE)

            async def one(key: str) -> T:
                async with free:
                    return await persistently(act, key, f"{verb} {self.url}/{key}")

            return await asyncio.gather(*map(one, keys), return_exceptions=True)

        done = sync(all_of_them())
        failed = {k: e for k, e in zip(keys, done, strict=True) if isinstance(e, BaseException)}
        if not failed:
            return done  # type: ignore[return-value]
        cause = next(iter(failed.values()))
        if not isinstance(cause, Exception):
            raise cause
        raise StoreError(
            f"cannot {verb} {len(failed)} of {len(keys)} objects of {self.url}",
            [f"{(labels or {}).get(key, key)}: {reason(e)}" for key, e in failed.items()],
        ) from cause


async def persistently(act: Callable[[str], Awaitable[T]], key: str, what: str) -> T:
    """Result of a request that is made again, after a while, when it fails."""
    wait = FIRST_WAIT
    async with asyncio.timeout(TIME_LIMIT):
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await act(key)
            except Exception as error:
                if attempt == ATTEMPTS or is_hopeless(error):
                    raise
                if attempt == 1:
                    log.warning("%s failed and is tried again: %s", what, reason(error))
            await asyncio.sleep(wait)
            wait = min(4 * wait, LONGEST_WAIT)
    raise AssertionError("the last attempt returns or raises")


def is_hopeless(error: Exception) -> bool:
    """Whether another attempt would end the same."""
    return isinstance(error, PermissionError) or getattr(error, "errno", None) in HOPELESS


def reason(error: BaseException) -> str:
    """An error in one line."""
    if isinstance(error, TimeoutError):
        return f"no answer within {TIME_LIMIT:g} s"
    return f"{type(error).__name__}: {error}".splitlines()[0]
