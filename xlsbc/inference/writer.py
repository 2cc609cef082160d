"""Write a cube or a prediction to Zarr v3, checksummed, and never half under its own name."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import fsspec
import numpy as np
import xarray as xr
from zarr.codecs import ZstdCodec

from xlsbc.errors import CubeError

__all__ = ["write"]

CODEC = ZstdCodec(level=3, checksum=True)
"""Without a checksum one flipped bit in five of six reads back as a wrong number, in silence."""

LARGEST_CHUNK = 2**24
"""Values in a chunk of an array that is in memory: 64 MiB of float32."""


def write(ds: xr.Dataset, url: str, *, overwrite: bool = False, progress: bool = True) -> str:
    """Compute a Dataset into a Zarr v3 store and return where it is.

    Parameters
    ----------
    ds
        A cube or prediction, lazy or not.
    url
        Any fsspec URL. A local store is written beside its place and moved there when it is
        whole; any store gets the attribute ``xlsbc_complete`` at the very end.
    overwrite
        Whether a store that is there may be replaced.
    progress
        Whether to show a progress bar.

    Raises
    ------
    CubeError
        If something is at `url` already, or if there is nothing to write.
    """
    import zarr

    url = str(url).rstrip("/")
    fs, path = fsspec.core.url_to_fs(url)
    if not ds.data_vars:
        raise CubeError("nothing to write: the Dataset has no variable")
    if fs.exists(path) and not overwrite:
        raise CubeError(f"there is something at {url}; pass overwrite=True or another place")
    local = "file" in np.atleast_1d(fs.protocol)
    place = f"{path}.partial" if local else url
    try:
        with bar(progress):
            storable(ds).to_zarr(
                place, mode="w", zarr_format=3, consolidated=False, encoding=encoding(ds)
            )
        zarr.open_group(place, mode="r+").attrs["xlsbc_complete"] = True
        with warnings.catch_warnings():
            # zarr says that its form may change; xarray warns on every opening of a store without
            warnings.filterwarnings("ignore", "Consolidated metadata is currently not part")
            zarr.consolidate_metadata(place)
    except BaseException:
        if local and fs.exists(place):
            fs.rm(place, recursive=True)
        raise
    if local:
        if fs.exists(path):
            fs.rm(path, recursive=True)
        fs.mv(place, path, recursive=True)
    return url


def storable(ds: xr.Dataset) -> xr.Dataset:
    """The Dataset in chunks of equal size, without what the store it came from says of itself.

    Tiles at the rim of a region are cut, also the first: stored chunks are counted from there.
    """
    fields = {
        name: field.chunk(dict(zip(field.dims, chunks(field.variable), strict=True)))
        for name, field in ds.data_vars.items()
        if field.chunks is not None
    }
    kept = {name: value for name, value in ds.attrs.items() if name != "xlsbc_complete"}
    return ds.assign(fields).drop_encoding().drop_attrs(deep=False).assign_attrs(kept)


def encoding(ds: xr.Dataset) -> dict[Any, dict[str, Any]]:
    """Chunks and codecs of every variable."""
    return {
        name: {"compressors": [CODEC], **({"chunks": chunks(field)} if field.ndim else {})}
        for name, field in ds.variables.items()
    }


def chunks(field: xr.Variable) -> tuple[int, ...]:
    """Chunks of a lazy variable, the largest where they differ; of another, whole planes."""
    if field.chunks is not None:
        return tuple(max(sizes) for sizes in field.chunks)
    shape = list(field.shape)
    for axis in range(field.ndim):
        shape[axis] = max(1, min(shape[axis], LARGEST_CHUNK // int(np.prod(shape[axis + 1 :]))))
        if np.prod(shape) <= LARGEST_CHUNK:
            break
    return tuple(shape)


@contextlib.contextmanager
def bar(show: bool) -> Iterator[None]:
    """A progress bar for local schedulers; a distributed client has its dashboard."""
    from dask.diagnostics import ProgressBar

    if not show:
        yield
        return
    with ProgressBar(dt=0.5):
        yield
