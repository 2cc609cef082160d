from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import binary_dilation

from xlsbc.emulator import Split
from xlsbc.errors import TrainingError
from xlsbc.training.splits import BUFFER, HELD_OUT, TRAIN, split_map, suggest


def grid(rows: int, columns: int, row: int = 0, column: int = 0) -> xr.Dataset:
    """A grid of 0.1 degree whose first pixel is that row and column of the globe."""
    return xr.Dataset(
        coords={
            "latitude": 89.95 - 0.1 * (row + np.arange(rows)),
            "longitude": -179.95 + 0.1 * (column + np.arange(columns)),
        }
    )


def test_a_quarter_of_four_blocks_is_one_with_its_buffer_around_it():
    parts = split_map(grid(6, 8), Split(size=4, buffer=1, fraction=0.25, seed=0)).to_numpy()
    whole = {  # the block that was drawn, by its corner: two rows of blocks, the second cut
        (0, 0): ["22221000"] * 4 + ["11111000", "00000000"],
        (0, 4): ["00012222"] * 4 + ["00011111", "00000000"],
        (4, 0): ["00000000"] * 3 + ["11111000"] + ["22221000"] * 2,
        (4, 4): ["00000000"] * 3 + ["00011111"] + ["00012222"] * 2,
    }
    corner = tuple(int(i) for i in np.argwhere(parts == HELD_OUT)[0])
    assert ["".join(map(str, row)) for row in parts.tolist()] == whole[corner]


@given(
    rows=st.integers(10, 60),
    columns=st.integers(10, 60),
    row=st.integers(0, 999),
    column=st.integers(0, 999),
    size=st.integers(1, 9),
    buffer=st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_blocks_are_whole_on_the_globe_and_no_training_pixel_is_within_the_buffer_of_one(
    rows, columns, row, column, size, buffer, seed
):
    split = Split(size=size, buffer=buffer, fraction=0.1, seed=seed)
    cube = grid(rows, columns, row, column)
    try:
        parts = split_map(cube, split).to_numpy()
    except TrainingError:
        return
    held_out = parts == HELD_OUT
    assert held_out.any()
    y, x = np.indices(parts.shape)
    block = (y + row) // size * 10_000 + (x + column) // size
    assert not set(block[held_out]) & set(block[~held_out])
    square = np.ones((2 * buffer + 1,) * 2)
    near = binary_dilation(held_out, square) if buffer else held_out
    np.testing.assert_array_equal(parts == BUFFER, near & ~held_out)


def test_the_share_of_blocks_that_is_held_out_is_the_one_asked_for():
    parts = split_map(grid(100, 200), Split(size=10, buffer=0, fraction=0.2))
    assert float((parts == HELD_OUT).mean()) == pytest.approx(0.2)


def test_a_seed_repeats_a_split_and_another_one_makes_another():
    one, again, other = (
        split_map(grid(50, 60), Split(size=5, buffer=1, seed=seed)) for seed in (3, 3, 4)
    )
    assert one.equals(again)
    assert not one.equals(other)


def test_nothing_is_held_out_if_nothing_is_asked_for():
    parts = split_map(grid(50, 60), Split(size=5, fraction=0.0))
    assert (parts == TRAIN).all()


def test_a_small_share_is_at_least_one_block():
    parts = split_map(grid(20, 30), Split(size=10, buffer=0, fraction=0.01))
    assert int((parts == HELD_OUT).sum()) == 100


def test_a_split_that_leaves_nothing_to_train_on_is_an_error_that_says_why():
    with pytest.raises(
        TrainingError, match="1 of 1 blocks of 96 pixels with a buffer of 12 leaves nothing"
    ):
        split_map(grid(20, 30), Split())


@pytest.mark.parametrize(
    ("shape", "size"),
    [((682, 997), 96), ((37, 53), 12), ((300, 90), 30), ((9, 11), 3), ((1, 19), 1)],
)
def test_a_suggested_split_suits_the_grid_and_leaves_something_to_train_on(shape, size):
    cube = grid(*shape)
    split = suggest(cube, seed=5)
    assert (split.size, split.seed) == (size, 5)
    parts = split_map(cube, split)
    assert {TRAIN, HELD_OUT} <= set(np.unique(parts))


def test_the_map_says_in_cf_what_its_numbers_mean():
    parts = split_map(grid(20, 30), Split(size=5, buffer=1))
    assert parts.dtype == np.int8
    meanings = parts.attrs["flag_meanings"].split()
    assert dict(zip(parts.attrs["flag_values"].tolist(), meanings, strict=True)) == {
        TRAIN: "train",
        BUFFER: "buffer",
        HELD_OUT: "held_out",
    }
