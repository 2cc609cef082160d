"""pangeo-forge-recipes on Zarr 3, where the installed release was written for Zarr 2.

Release 0.10.8 is the newest and imports `zarr.storage.FSStore`, which Zarr 3 has no more. Three
things are put in place: that name, what a target gives as a store, and how a fragment is written
(after the unreleased main branch of the library, commit a796eb3). A release that imports as it is
is left as it is.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import xarray as xr
import zarr
import zarr.storage
from zarr.abc.store import Store

from ...errors import LsbcError

__all__ = ["make_importable"]

GONE = "FSStore"
"""Name in `zarr.storage` by which a release is told that needs the bridge."""


def make_importable() -> bool:
    """Make pangeo-forge-recipes importable; whether that took anything.

    Raises
    ------
    LsbcError
        If Apache Beam or pangeo-forge-recipes is not installed.
    """
    try:
        importlib.import_module("apache_beam")
        importlib.import_module("pangeo_forge_recipes.storage")
    except ModuleNotFoundError as error:
        raise LsbcError(
            f"recipes need {error.name}, which is not installed; pip install 'xlsbc[recipes]'"
        ) from error
    except ImportError as error:
        if GONE not in str(error):
            raise
        setattr(zarr.storage, GONE, zarr.storage.FsspecStore)
    if not hasattr(zarr.storage, GONE):
        return False
    replace_for_zarr_3()
    return True


def replace_for_zarr_3() -> None:
    """Put what speaks to Zarr 3 in the place of what speaks to Zarr 2."""
    from pangeo_forge_recipes import storage, transforms, writers

    setattr(storage.FSSpecTarget, "get_mapper", store_of)  # noqa: B010  it is another's method
    writers.store_dataset_fragment = store_dataset_fragment
    transforms.store_dataset_fragment = store_dataset_fragment


def store_of(target: Any) -> Store:
    """The Zarr 3 store of an `FSSpecTarget`."""
    protocols = target.fs.protocol
    if "file" in ((protocols,) if isinstance(protocols, str) else protocols):
        return zarr.storage.LocalStore(target.root_path)
    url = target.fs.unstrip_protocol(target.root_path)
    return zarr.storage.FsspecStore.from_url(url, storage_options=target.fsspec_kwargs or None)


def store_dataset_fragment(item: tuple[Any, xr.Dataset], target_store: Any) -> Any:
    """Write the variables of a fragment, and the coordinates that it has to write, in its region.

    Same contract as the function of pangeo-forge-recipes whose place it takes.
    """
    from pangeo_forge_recipes.writers import _is_first_in_merge_dim, _is_first_item

    index, ds = item
    group = zarr.open_group(target_store)
    encodings = xr.backends.ZarrStore.open_group(target_store)
    names = list(ds.data_vars)
    if _is_first_in_merge_dim(index):
        names += [
            name
            for name, coordinate in ds.coords.items()
            if any(map(index.find_concat_dim, coordinate.dims)) or _is_first_item(index)
        ]
    for name in names:
        stored = encodings.open_store_variable(str(name))
        variable = ds[name].variable.copy()
        variable.encoding = {**stored.encoding, **stored.attrs}
        variable.attrs = {}
        encoded = xr.backends.zarr.encode_zarr_variable(variable)
        array: Any = group[str(name)]
        region = region_of(encoded, index)
        refuse_half_chunks(array, region, str(name))
        array[region] = np.asarray(encoded.data)
    return target_store


def region_of(variable: xr.Variable, index: Any) -> tuple[slice, ...]:
    """Where a fragment's variable lies in the array."""
    region = []
    for dim, size in variable.sizes.items():
        along = index.find_concat_dim(dim)
        start = index[along].value if along else 0
        region.append(slice(start, start + size))
    return tuple(region)


def refuse_half_chunks(array: Any, region: tuple[slice, ...], name: str) -> None:
    """Raise where two fragments would write the same chunk."""
    for part, size, chunk in zip(region, array.shape, array.chunks, strict=True):
        if part.start % chunk or (part.stop % chunk and part.stop != size):
            raise ValueError(f"region {region} of {name!r} does not align with {array.chunks}")
