"""intake's catalogs, kept to `guard`: nothing is run, no variable read, nesting comes to an end."""

from __future__ import annotations

import time
import warnings
from typing import Any

import fsspec
import yaml
from fsspec.asyn import AsyncFileSystem, sync
from intake.catalog.local import LocalCatalogEntry, UserParameter, YAMLFileCatalog, get_dir
from intake.readers.entry import Catalog as SecondCatalog
from intake.readers.readers import YAMLCatalogReader
from intake_xarray.base import IntakeXarraySourceAdapter

from xlsbc.cube.catalog.guard import LARGEST, first, load, second
from xlsbc.errors import SourceError

__all__ = ["FirstCatalog", "second_catalog"]

DEEPEST = 12
"""Catalogs one in another."""

ATTEMPTS = 3
TIME_LIMIT = 30.0
"""Seconds that a catalog may take to come, each time that it is asked for."""


class FirstCatalog(YAMLFileCatalog):
    """A catalog of version 1.

    Parameters
    ----------
    path
        URL of its YAML file.
    above
        URLs of the catalogs that it is nested in, the outermost first.
    metadata
        What the catalog above says of it.
    """

    _entries: dict[str, LocalCatalogEntry]

    def __init__(
        self, path: str, above: tuple[str, ...] = (), metadata: dict[str, Any] | None = None
    ) -> None:
        descend(path, above)
        self.above = above
        self.refused: dict[str, list[str]] = {}
        super().__init__(path, metadata=metadata, getenv=False, getshell=False)

    def _load(self, reload: bool = False) -> None:
        content, self.filesystem = read(self.path)
        self._dir = get_dir(self.path)
        data, self.refused = first(load(content, self.path), self.path)
        self.parse(yaml.safe_dump(data, sort_keys=False))
        self._entries = {name: self._guarded(entry) for name, entry in self._entries.items()}

    def configure_new(self, **parameters: Any) -> FirstCatalog:
        """Return the catalog with values of its own parameters; this one keeps its values."""
        if not parameters:
            return self
        unknown = sorted(set(parameters) - set(self.user_parameters))
        if unknown:
            raise SourceError(
                f"the catalog {self.path} has no parameter {', '.join(unknown)}",
                [f"it has: {', '.join(self.user_parameters) or 'none'}"],
            )
        new = type(self)(self.path, self.above, self.metadata)
        new.ttl = None  # reading the file again would set what is not in it
        new.name, new.description, new._entry = self.name, self.description, self._entry
        for name, old in self.user_parameters.items():
            about = {**old._captured_init_kwargs, "name": name}
            about["default"] = parameters.get(name, old._default)
            new.user_parameters[name] = UserParameter(**about)
        return new

    __call__ = get = configure_new

    def _guarded(self, entry: LocalCatalogEntry) -> Entry:
        guarded = Entry(**entry._captured_init_kwargs)
        guarded._catalog, guarded._filesystem = self, self.filesystem
        return guarded


class Entry(LocalCatalogEntry):
    """An entry of a `FirstCatalog`."""

    _plugin: list[type]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._plugin = [substitute(plugin) for plugin in self._plugin]

    def _create_open_args(self, user_parameters: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        with warnings.catch_warnings():
            # of every text, though it asks for no shell
            warnings.filterwarnings("ignore", "Shell command not executed")
            plugin, args = super()._create_open_args(user_parameters)
        if issubclass(plugin, FirstCatalog):
            args["above"] = (*self._catalog.above, self._catalog.path)
        return plugin, args

    def get(self, **parameters: Any) -> Any:
        """Return the source, with values of its parameters."""
        reasons = self._catalog.refused.get(self.name)
        if reasons:
            raise SourceError(
                f"entry {self.name!r} of {self._catalog.path} is refused; open the catalog by "
                "intake.open_catalog if you trust it",
                reasons,
            )
        given = dict(parameters)
        source = super().get(**parameters)
        source._given = given
        return source


class Parametrised:
    """What sources of intake-xarray 2.0 lack: they have no description and ignore parameters."""

    _entry: Entry
    _given: dict[str, Any]
    reader: Any

    def __call__(self, **parameters: Any) -> Any:
        return self._entry(**{**self._given, **parameters}) if parameters else self

    get = configure_new = __call__

    def describe(self) -> dict[str, Any]:
        """Return what the catalog says of the entry."""
        return dict(self._entry.describe())

    @property
    def metadata(self) -> dict[str, Any]:
        """What the catalog says of the data."""
        return dict(self.reader.metadata)


def substitute(plugin: type) -> type:
    """The class that stands for one that an entry names."""
    if issubclass(plugin, YAMLFileCatalog):
        return FirstCatalog
    if issubclass(plugin, IntakeXarraySourceAdapter):
        return type(plugin.__name__, (Parametrised, plugin), {})
    return plugin


class Second(SecondCatalog):
    """A catalog of version 2."""

    _refused: dict[str, list[str]]
    _url: str
    _above: tuple[str, ...]

    def __getitem__(self, item: str) -> Any:
        reasons = self._refused.get(self.aliases.get(item, item))
        if reasons:
            raise SourceError(
                f"entry {item!r} of {self._url} is refused; open the catalog by "
                "intake.open_catalog if you trust it",
                reasons,
            )
        found = super().__getitem__(item)
        if isinstance(found, YAMLCatalogReader):
            return NestedReader(**found.kwargs, metadata=found.metadata).below(self)
        return found

    def __call__(self, **parameters: Any) -> Second:
        new = Second(
            self.entries,
            self.aliases,
            self.data,
            self.user_parameters,
            {**self._up_overrides, **parameters},
            self.metadata,
        )
        new._refused, new._url, new._above = self._refused, self._url, self._above
        return new


class NestedReader(YAMLCatalogReader):
    """A catalog in one of version 2."""

    _above: tuple[str, ...] = ()

    def below(self, catalog: Second) -> NestedReader:
        """Return itself, knowing what it is nested in."""
        self._above = (*catalog._above, catalog._url)
        return self

    def read(self, *args: Any, **kwargs: Any) -> Second:
        """Return the catalog."""
        return second_catalog(self.data.url, self._above)


def second_catalog(url: str, above: tuple[str, ...] = ()) -> Second:
    """Catalog of version 2.

    Raises
    ------
    SourceError
        If it is not to be read.
    """
    descend(url, above)
    content, fs = read(url)
    data, refused = second(load(content, url), url)
    # intake's own `from_yaml_file` would read the text again, which may be another by then
    plain = SecondCatalog.from_dict(data)
    parameters = {
        **plain.user_parameters,
        "CATALOG_PATH": url,
        "CATALOG_DIR": fs.unstrip_protocol(fs._parent(url)),
        "STORAGE_OPTIONS": {},
    }
    catalog = Second(plain.entries, plain.aliases, plain.data, parameters, None, plain.metadata)
    catalog._refused, catalog._url, catalog._above = refused, url, above
    return catalog


def read(url: str) -> tuple[bytes, Any]:
    """Content of a catalog's file and its file system; no more than can be one, nor for ever.

    Raises
    ------
    OSError
        Of whatever kind the store's own error was, after several attempts.
    """
    fs, path = fsspec.core.url_to_fs(url)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            if isinstance(fs, AsyncFileSystem):
                about = sync(fs.loop, fs._info, path, timeout=TIME_LIMIT)
                if (about.get("size") or 0) > LARGEST:
                    raise SourceError(f"the catalog {url} has more than {LARGEST} bytes")
                return sync(fs.loop, fs._cat_file, path, timeout=TIME_LIMIT), fs
            with fs.open(path, "rb") as file:
                return file.read(LARGEST + 1), fs
        except (FileNotFoundError, PermissionError, IsADirectoryError, SourceError):
            raise
        except Exception as error:
            if attempt == ATTEMPTS:
                raise OSError(f"{type(error).__name__}: {error}") from error
            time.sleep(0.2 * attempt)
    raise AssertionError("the last attempt returns or raises")


def descend(url: str, above: tuple[str, ...]) -> None:
    """Refuse a nested catalog that cannot be meant: itself, one too deep, a file of the reader's.

    Raises
    ------
    SourceError
        With what it is.
    """
    if url in above or len(above) >= DEEPEST:
        raise SourceError(
            f"the catalog {url} is nested in itself, or {len(above)} deep",
            [f"expected at most {DEEPEST} levels, each another: {' > '.join(above)}"],
        )
    if above and is_local(url) and not is_local(above[-1]):
        raise SourceError(
            f"the catalog {above[-1]} asks for a catalog on this computer",
            [f"expected one beside it, or a URL; found {url}; open that by its path if you want"],
        )


def is_local(url: str) -> bool:
    """Whether a URL is of this computer's files; of a chained one, its last part."""
    protocol, mark, _ = str(url).rpartition("::")[2].partition("://")
    return not mark or protocol in ("file", "local")
