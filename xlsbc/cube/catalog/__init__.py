"""Catalogs of cubes: those that come with xlsbc, or anyone's; none of them can run anything.

`open_catalog` opens intake catalogs of version 1 and 2, `twin` makes the second from the first.
What a catalog may say is in `guard`, the classes of intake that keep to it are in `guarded`.
"""

from __future__ import annotations

import os
from importlib import resources
from typing import TYPE_CHECKING, Any

from xlsbc.cube.catalog.twin import twin
from xlsbc.errors import SourceError

if TYPE_CHECKING:
    from intake.catalog import Catalog

__all__ = ["explain", "names", "open_catalog", "summaries", "twin"]


def names() -> list[str]:
    """Catalogs that come with xlsbc, by the names that `open_catalog` takes."""
    found = (file.name for file in (resources.files("xlsbc") / "catalogs").iterdir())
    return sorted(name.removesuffix(".yaml") for name in found if name.endswith(".yaml"))


def open_catalog(url: str | os.PathLike[str] | None = None) -> Catalog:
    """Catalog of cubes, by intake; opening it reads no data, and nothing that it says is run.

    Of anyone's catalog, the entries are left out of use that would import a class of their own
    choice, run a command or read an environment variable: they are listed, and asking for one
    raises. A catalog that you trust with all of that is opened by `intake.open_catalog`.

    Parameters
    ----------
    url
        A catalog's YAML file, on any file system that fsspec knows; or the name of one that comes
        with xlsbc, see `names`; None is "catalog", which leads to the others.

    Returns
    -------
    intake.catalog.Catalog
        ``list(catalog)`` names the entries, ``catalog[name].describe()`` shows the parameters of
        one, ``catalog[name](seed=1)`` sets them, ``.to_dask()`` and ``.read()`` give the dataset.
        Of version 2: `intake.readers.entry.Catalog`, ``catalog[name].read()``.

    Raises
    ------
    SourceError
        If the catalog cannot be read, or imports code.

    Examples
    --------
    >>> catalog = open_catalog()
    >>> list(catalog)
    ['synthetic', 'emulated', 'real', 'public']
    >>> entry = catalog["synthetic"](region=[8, 45.5, 8.25, 45.75], years=[2000, 2001])
    >>> dict(entry.to_dask().lai.sizes)
    {'time': 24, 'latitude': 30, 'longitude': 30}
    """
    import yaml
    from intake.catalog.base import VersionError
    from intake.catalog.exceptions import CatalogException

    from xlsbc.cube.catalog.guarded import FirstCatalog, second_catalog

    address = "catalog" if url is None else os.fspath(url)
    if address in names():
        address = str(resources.files("xlsbc") / "catalogs" / f"{address}.yaml")
    try:
        try:
            return FirstCatalog(address)
        except VersionError:
            return second_catalog(address)
    except SourceError:
        raise
    except (
        *(OSError, ValueError, TypeError, KeyError, AttributeError, ImportError),
        *(RecursionError, MemoryError, yaml.YAMLError, CatalogException),
    ) as error:
        raise SourceError(
            f"there is no intake catalog at {address!r}",
            [
                f"expected a YAML file of intake's version 1 or 2; found {type(error).__name__}: "
                f"{error}; check the address, or take one of xlsbc: {', '.join(names())}"
            ],
        ) from error


def summaries(url: str | os.PathLike[str] | None = None) -> dict[str, str]:
    """One line for every entry of a catalog, by its name.

    Raises
    ------
    SourceError
        As of `open_catalog`.
    """
    catalog = open_catalog(url)
    return {name: " ".join(str(about(catalog, name)).split()) for name in catalog}


def explain(name: str, url: str | os.PathLike[str] | None = None) -> str:
    """What a catalog says of an entry, as YAML; nothing of it is opened.

    Raises
    ------
    SourceError
        If there is no such entry, or as of `open_catalog`.
    """
    import yaml

    catalog = open_catalog(url)
    if name not in catalog:
        raise SourceError(f"the catalog has no entry {name!r}; it has {', '.join(catalog)}")
    return yaml.safe_dump(entry(catalog, name), sort_keys=False, allow_unicode=True).rstrip()


def entry(catalog: Any, name: str) -> dict[str, Any]:
    """What is written of an entry."""
    if hasattr(catalog, "aliases"):  # version 2
        if name not in catalog.entries:  # refused
            return {}
        return dict(catalog.entries[catalog.aliases.get(name, name)].to_dict())
    found = dict(catalog._entries[name].describe())
    found.pop("plugin", None)  # the driver by its old name
    return found


def about(catalog: Any, name: str) -> str:
    """The description of an entry, its title, or nothing."""
    found = entry(catalog, name)
    metadata = found.get("metadata") or {}
    return found.get("description") or metadata.get("description") or metadata.get("title") or ""
