"""Sparse data: a cube whose targets are known at some pixels and some steps only."""

from __future__ import annotations

import numpy as np
import xarray as xr

from xlsbc.assess.benchmark.design import Labels
from xlsbc.cube.grid import Grid
from xlsbc.cube.synthetic.lattice import hashed, key
from xlsbc.training.outline import TARGETS

__all__ = ["thinned"]


def thinned(cube: xr.Dataset, labels: Labels, seed: int) -> xr.Dataset:
    """The cube with targets only where training may know them, NaN elsewhere; lazy.

    Parameters
    ----------
    cube
        Conformed.
    labels
        Which share of the pixels, and which steps.
    seed
        Of the draw of pixels. It goes by their places on the globe: a box of the cube keeps the
        same ones, and a smaller share is a part of a larger one.
    """
    grid = Grid.of(cube)
    row, column = grid.origin_index
    rows = row + np.arange(grid.rows)
    columns = (column + np.arange(grid.columns)) % round(360 / grid.dlon)
    drawn = (hashed(rows, columns, key(seed, "labels")) >> np.uint64(11)) * 2.0**-53
    pixels = xr.DataArray(drawn < labels.fraction, dims=("latitude", "longitude"))
    kept = {}
    for name in (n for n in TARGETS if n in cube):
        field = cube[name]
        dim = "time" if name == "lai" else "year"
        steps = xr.DataArray(np.arange(field.sizes[dim]) % labels.every == 0, dims=dim)
        kept[name] = field.where(pixels & steps)
    return cube.assign(kept)
