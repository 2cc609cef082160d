"""Catalogs of cubes: the one that comes with xlsbc, or anyone's."""

from __future__ import annotations

import os
from importlib import resources
from typing import TYPE_CHECKING

from ..errors import SourceError

if TYPE_CHECKING:
    from intake.catalog import Catalog

__all__ = ["open_catalog"]


def open_catalog(url: str | os.PathLike[str] | None = None) -> Catalog:
    """Catalog of cubes, by intake; opening it reads no data.

    Parameters
    ----------
    url
        A catalog's YAML file, on any file system that fsspec knows. None opens the catalog that
        comes with xlsbc.

    Returns
    -------
    intake.catalog.Catalog
        ``list(catalog)`` names the entries, ``catalog[name].describe()`` shows the parameters of
        one, ``catalog[name](seed=1)`` sets them, ``.to_dask()`` and ``.read()`` give the dataset.

    Raises
    ------
    SourceError
        If the catalog cannot be read.

    Examples
    --------
    >>> catalog = open_catalog()
    >>> list(catalog)
    ['synthetic']
    >>> entry = catalog["synthetic"](region=[8, 45.5, 8.25, 45.75], years=[2000, 2001])
    >>> dict(entry.to_dask().lai.sizes)
    {'time': 24, 'latitude': 30, 'longitude': 30}
    """
    import intake
    import yaml
    from intake.catalog.exceptions import CatalogException

    if url is None:
        packaged = resources.files(__package__.partition(".")[0]) / "catalogs" / "catalog.yaml"
        return intake.open_catalog(str(packaged))
    try:
        return intake.open_catalog(os.fspath(url))
    except (OSError, ValueError, KeyError, yaml.YAMLError, CatalogException) as error:
        raise SourceError(
            f"there is no intake catalog at {os.fspath(url)!r}",
            [
                f"expected a YAML file of intake's version 1 or 2; found {type(error).__name__}: "
                f"{error}; check the address, or call open_catalog() for the one of xlsbc"
            ],
        ) from error
