"""What is held out: spatial blocks on the global lattice, with a buffer around them.

Neighbouring pixels are alike, so that a pixel held out alone tests nothing (Roberts et al., 2017,
Ecography 40, doi:10.1111/ecog.02881).
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from xlsbc.cube.grid import Grid
from xlsbc.emulator.spec import Split
from xlsbc.errors import TrainingError

__all__ = ["BUFFER", "HELD_OUT", "TRAIN", "suggest", "split_map"]

TRAIN, BUFFER, HELD_OUT = 0, 1, 2


def suggest(cube: xr.Dataset, seed: int = 0) -> Split:
    """A split that suits the cube's size: blocks of 96 pixels, or a third of a small grid."""
    size = max(1, min(96, min(Grid.of(cube).shape) // 3))
    return Split(size=size, buffer=max(1, size // 6), fraction=0.2, seed=seed)


def split_map(cube: xr.Dataset, split: Split) -> xr.DataArray:
    """Which pixels train, which are held out and which lie between; computes nothing.

    Parameters
    ----------
    cube
        Conformed; its grid alone is read.
    split
        Size of blocks and buffer in pixels, share held out, seed.

    Returns
    -------
    xarray.DataArray
        ``(latitude, longitude)``, int8 with CF flags: 0 train, 1 buffer, 2 held out. Blocks are
        anchored at 90 N, 180 W.

    Raises
    ------
    TrainingError
        If nothing is left to train on.
    """
    grid = Grid.of(cube)
    row, column = grid.origin_index
    block_y = (row + np.arange(grid.rows)) // split.size
    block_x = (column + np.arange(grid.columns)) // split.size
    blocks = np.stack(np.meshgrid(np.unique(block_y), np.unique(block_x), indexing="ij"), -1)
    blocks = blocks.reshape(-1, 2)
    count = round(len(blocks) * split.fraction)
    if split.fraction > 0:
        count = max(count, 1)
    drawn = blocks[np.random.default_rng(split.seed).permutation(len(blocks))[:count]]
    values = np.full(grid.shape, TRAIN, dtype=np.int8)
    for mark, margin in ((BUFFER, split.buffer), (HELD_OUT, 0)):
        for y, x in drawn:
            top, left = y * split.size - row, x * split.size - column
            rows = slice(max(top - margin, 0), max(top + split.size + margin, 0))
            columns = slice(max(left - margin, 0), max(left + split.size + margin, 0))
            values[rows, columns] = mark
    if not (values == TRAIN).any():
        raise TrainingError(
            f"holding out {count} of {len(blocks)} blocks of {split.size} pixels with a buffer of "
            f"{split.buffer} leaves nothing to train on; use smaller blocks or a smaller buffer"
        )
    return xr.DataArray(
        values,
        dims=("latitude", "longitude"),
        coords={"latitude": cube["latitude"], "longitude": cube["longitude"]},
        name="split",
        attrs={
            "long_name": "use of the pixel",
            "flag_values": np.array([TRAIN, BUFFER, HELD_OUT], dtype=np.int8),
            "flag_meanings": "train buffer held_out",
        },
    )
