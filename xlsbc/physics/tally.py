"""How often each code occurs: integer counts, the same however the field is chunked."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr


def tally(codes: xr.DataArray, size: int, weight: xr.DataArray | None = None) -> Any:
    """Counts of the codes ``0 .. size - 1`` in a field; -1 is not counted.

    Parameters
    ----------
    codes
        Integers, any dims.
    size
        Number of codes.
    weight
        What a value counts for, broadcast to ``codes``; 1 by default.

    Returns
    -------
    array
        ``(size,)``, int64, or float64 with a weight; lazy where ``codes`` is.
    """
    data = codes.data
    arrays = [data]
    if weight is not None:
        arrays.append(weight.broadcast_like(codes).transpose(*codes.dims).values)
    if not codes.chunks:
        return _count(*arrays, size=size).reshape(size)

    import dask.array as da

    arrays[1:] = [da.from_array(each, data.chunks) for each in arrays[1:]]
    dtype = np.dtype("int64" if weight is None else "float64")
    counts = da.map_blocks(
        _count,
        *arrays,
        size=size,
        new_axis=[data.ndim],
        chunks=(*((1,) * n for n in data.numblocks), (size,)),
        dtype=dtype,
        meta=np.empty((0,) * (data.ndim + 1), dtype),
    )
    return counts.sum(axis=tuple(range(data.ndim)))


def _count(codes: np.ndarray, weight: np.ndarray | None = None, *, size: int) -> np.ndarray:
    known = codes >= 0
    weights = None if weight is None else weight[known]
    counts = np.bincount(codes[known], weights=weights, minlength=size)
    return counts.reshape((1,) * codes.ndim + (size,))
