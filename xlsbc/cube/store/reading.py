"""Any Zarr store opened as a lazy Dataset, with one error for all that can be wrong with it."""

from __future__ import annotations

import warnings
from typing import Any

import xarray as xr

from xlsbc.errors import CubeError

__all__ = ["open_cube"]


def open_cube(url: str, **options: Any) -> xr.Dataset:
    """Lazy Dataset of a Zarr store, in the chunks that it stores.

    `options` are those of `xarray.open_zarr`.

    Raises
    ------
    CubeError
        If there is none, or if it is not Zarr.
    """
    try:
        with warnings.catch_warnings():
            # a store of another's making without consolidated metadata is as good
            warnings.filterwarnings("ignore", "Failed to open Zarr store with consolidated")
            return xr.open_zarr(url, chunks={}, consolidated=None, **options)
    except (FileNotFoundError, ValueError, KeyError, OSError) as error:
        raise CubeError(f"{url} is not a Zarr store that can be read: {error}") from error
