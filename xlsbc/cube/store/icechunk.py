"""Icechunk repositories and sessions as stores: what is written lasts by commits.

With a repository each year is committed when it is whole, so that a write goes on after the last
year; workers of a cluster write into forks of the session, which are merged. Into a session all is
written without a commit, which is its owner's.

icechunk is imported for URLs only: who has a repository has it.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from typing import Any

from zarr.abc.store import Store
from zarr.core.sync import sync

from xlsbc.cube.store.storage import Objects
from xlsbc.errors import StoreError

__all__ = ["Commits", "is_repository", "repository_at"]

BRANCH = "main"

SCHEME = "icechunk+"
"""What stands before the URL of a repository."""


def is_repository(place: Any) -> bool:
    """Whether something is an Icechunk repository or session."""
    return hasattr(place, "writable_session") or hasattr(place, "snapshot_id")


def repository_at(url: str) -> Any:
    """The repository at ``icechunk+s3://bucket/prefix``, ``+gs://``, ``+file://`` or ``+PATH``.

    Made if there is none; credentials and ``AWS_ENDPOINT_URL`` come from the environment.

    Raises
    ------
    StoreError
        If icechunk is not installed, or knows no such storage.
    """
    try:
        import icechunk
    except ImportError as error:
        raise StoreError(f"{url} needs icechunk; pip install 'xlsbc[icechunk]'") from error
    plain = url.removeprefix(SCHEME)
    scheme, separator, rest = plain.partition("://")
    bucket, _, prefix = rest.partition("/")
    if not separator or scheme == "file":
        storage = icechunk.local_filesystem_storage(rest if separator else plain)
    elif scheme == "s3":
        endpoint = os.environ.get("AWS_ENDPOINT_URL")
        storage = icechunk.s3_storage(
            bucket=bucket,
            prefix=prefix,
            from_env=True,
            endpoint_url=endpoint,
            region=os.environ.get("AWS_DEFAULT_REGION"),
            allow_http=bool(endpoint and endpoint.startswith("http://")),
            force_path_style=endpoint is not None,
        )
    elif scheme in ("gs", "gcs"):
        storage = icechunk.gcs_storage(bucket=bucket, prefix=prefix, from_env=True)
    else:
        raise StoreError(
            f"expected {SCHEME}s3://, {SCHEME}gs:// or {SCHEME}file://; found {url}; open the "
            "repository with icechunk, and pass it"
        )
    return icechunk.Repository.open_or_create(storage)


class Commits(Objects):
    """Objects of an Icechunk repository, on its main branch, or of a writable session.

    Parameters
    ----------
    place
        The repository or session.
    """

    by_unit = True

    def __init__(self, place: Any) -> None:
        super().__init__("the Icechunk repository")
        self.repository = place if hasattr(place, "writable_session") else None
        self.session = self.repository.writable_session(BRANCH) if self.repository else place

    def __getstate__(self) -> dict[str, Any]:
        # A worker gets a fork as bytes: each task makes its own of it, and sends that back.
        if self.session is None:  # is one, sent on: by a scheduler
            return {"url": self.url, "fork": self.fork}
        if self.session.has_uncommitted_changes:
            raise StoreError(
                "expected a repository, or a local scheduler: an Icechunk session with changes "
                "cannot be sent to other processes; pass the repository"
            )
        return {"url": self.url, "fork": pickle.dumps(self.session.fork())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.url, self.fork, self.session = state["url"], state["fork"], None
        self.repository = None

    @property
    def store(self) -> Store:
        """The session's store; of a fork, as it was when it was sent."""
        session = self.session or pickle.loads(self.fork)
        return session.store

    def put(self, contents: Mapping[str, bytes], labels: Mapping[str, str] | None = None) -> Any:
        """Write objects; in a worker, the fork that has them."""
        if self.session is not None:
            # a chunk finds no place before its array
            for arrays in (True, False):
                part = {k: v for k, v in contents.items() if k.endswith("zarr.json") is arrays}
                super().put(part, labels)
            return None
        mine = Commits(pickle.loads(self.fork))
        mine.put(contents, labels)
        return mine.session

    def clear(self) -> None:
        """Delete all; the last commit still has it."""
        sync(self.store.clear())

    def take(self, written: Any) -> None:
        """Merge a fork that a worker has written into."""
        if written is not None:
            self.session.merge(written)

    def keep(self, what: str) -> None:
        """Commit, and begin the next session."""
        if self.repository is not None and self.session.has_uncommitted_changes:
            self.session.commit(f"xlsbc: {what}")
            self.session = self.repository.writable_session(BRANCH)
