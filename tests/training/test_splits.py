from __future__ import annotations

import tracemalloc
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_cdt

from xlsbc.assess.evaluate import evaluate
from xlsbc.emulator import Split
from xlsbc.errors import TrainingError
from xlsbc.training.splits import (
    BUFFER,
    HELD_OUT,
    TRAIN,
    VALIDATION,
    Parts,
    check_buffer,
    held_out,
    of_years,
    resolved,
    split_map,
    suggest,
)


def grid(rows: int, columns: int, row: int = 0, column: int = 0, step: float = 0.1) -> xr.Dataset:
    """A grid whose first pixel is that row and column of the globe's, of a tenth of a degree."""
    return xr.Dataset(
        coords={
            "latitude": 90 - step * (row + np.arange(rows) + 0.5),
            "longitude": -180 + step * (column + np.arange(columns) + 0.5),
        }
    )


def globe(step: float = 1.0) -> xr.Dataset:
    return grid(round(180 / step), round(360 / step), step=step)


def dated(cube: xr.Dataset, *years: int) -> xr.Dataset:
    return cube.assign_coords(year=list(years))


def text(parts: xr.DataArray) -> list[str]:
    return ["".join(map(str, row)) for row in parts.to_numpy().tolist()]


def distance(marked: np.ndarray) -> np.ndarray:
    """Pixels to the nearest marked one, diagonals as long as sides; very many if none is."""
    if not marked.any():
        return np.full(marked.shape, 10**6)
    return distance_transform_cdt(~marked, metric="chessboard")


def counted_blocks(cube: xr.Dataset, split: Split, row: int, column: int) -> np.ndarray:
    """Held-out pixels by the rule that emulators before validation, years and regions had."""
    rows, columns = cube.sizes["latitude"], cube.sizes["longitude"]
    of_row = (row + np.arange(rows)) // split.size
    of_column = (column + np.arange(columns)) // split.size
    blocks = [(y, x) for y in np.unique(of_row) for x in np.unique(of_column)]
    count = max(round(len(blocks) * split.fraction), 1)
    found = np.zeros((rows, columns), bool)
    for i in np.random.default_rng(split.seed).permutation(len(blocks))[:count]:
        found |= np.outer(of_row == blocks[i][0], of_column == blocks[i][1])
    return found


def test_a_quarter_of_four_blocks_is_one_with_its_buffer_around_it():
    parts = split_map(grid(6, 8), Split(size=4, buffer=1, fraction=0.25, seed=0))
    whole = {  # the block that was drawn, by its corner: two rows of blocks, the second cut
        (0, 0): ["22221000"] * 4 + ["11111000", "00000000"],
        (0, 4): ["00012222"] * 4 + ["00011111", "00000000"],
        (4, 0): ["00000000"] * 3 + ["11111000"] + ["22221000"] * 2,
        (4, 4): ["00000000"] * 3 + ["00011111"] + ["00012222"] * 2,
    }
    corner = tuple(int(i) for i in np.argwhere(parts.to_numpy() == HELD_OUT)[0])
    assert text(parts) == whole[corner]


@given(
    rows=st.integers(10, 60),
    columns=st.integers(10, 60),
    row=st.integers(0, 999),
    column=st.integers(0, 2999),
    size=st.integers(1, 9),
    buffer=st.integers(0, 3),
    validation=st.sampled_from([0.0, 0.1]),
    seed=st.integers(0, 99),
)
def test_blocks_are_whole_and_every_part_keeps_its_distance(
    rows, columns, row, column, size, buffer, validation, seed
):
    split = Split(size=size, buffer=buffer, fraction=0.1, seed=seed, validation=validation)
    try:
        parts = split_map(grid(rows, columns, row, column), split).to_numpy()
    except TrainingError:
        assume(False)
    held, validating = parts == HELD_OUT, parts == VALIDATION
    assert held.any()
    assert validating.any() == (validation > 0)
    y, x = np.indices(parts.shape)
    block = (y + row) // size * 10_000 + (x + column) // size
    assert not set(block[held]) & set(block[~held])
    of_validation = np.isin(block, block[validating])  # less those that a buffer covers wholly
    assert (validating == of_validation & (distance(held) > buffer)).all()
    near = (distance(held) <= buffer) | (distance(of_validation) <= buffer)
    assert not (near & (parts == TRAIN)).any()
    if not validation:
        np.testing.assert_array_equal(parts == BUFFER, near & ~held)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(
    ("rows", "columns", "row", "column"),
    [(240, 360, 5160, 22560), (682, 997, 4559, 22283), (37, 53, 5272, 22572)],
)
def test_a_grid_in_one_zone_has_the_blocks_of_emulators_that_counted_them(
    rows, columns, row, column, seed
):
    cube = grid(rows, columns, row, column, step=1 / 120)
    split = suggest(cube, seed)
    before = counted_blocks(cube, split, row, column)
    np.testing.assert_array_equal(split_map(cube, split) == HELD_OUT, before)


@pytest.mark.parametrize(("size", "seed"), [(3, 0), (5, 1), (7, 2), (10, 3)])
def test_every_zone_of_the_globe_has_its_share_by_area_within_a_block(size, seed):
    split = Split(size=size, buffer=0, fraction=0.2, validation=0.1, seed=seed)
    cube = globe()
    parts = split_map(cube, split).to_numpy()
    rows = np.arange(180)
    centre = (rows // size + 0.5) * size  # degrees from the pole, of the row's blocks
    area = np.cos(np.deg2rad(cube["latitude"].to_numpy()))[:, None] * np.ones(360)
    for first in range(0, 180, 30):
        mine = (centre >= first) & ((centre < first + 30) | (first == 150))
        block = size * size * area[mine].max()
        for part, share in ((HELD_OUT, 0.2), (VALIDATION, 0.1)):
            found = area[mine][parts[mine] == part].sum()
            assert abs(found - share * area[mine].sum()) <= block * (1 if part == HELD_OUT else 2)


def test_the_share_of_blocks_that_is_held_out_is_the_one_asked_for():
    parts = split_map(grid(100, 200, row=400), Split(size=10, buffer=0, fraction=0.2))
    assert float((parts == HELD_OUT).mean()) == pytest.approx(0.2)


def test_blocks_for_validation_are_the_next_of_the_same_draw():
    cube = grid(100, 200, row=400)
    both = split_map(cube, Split(size=10, buffer=0, fraction=0.2, validation=0.1, seed=3))
    more = split_map(cube, Split(size=10, buffer=0, fraction=0.3, seed=3))
    less = split_map(cube, Split(size=10, buffer=0, fraction=0.2, seed=3))
    np.testing.assert_array_equal(both == HELD_OUT, less == HELD_OUT)
    np.testing.assert_array_equal(both != TRAIN, more != TRAIN)


def test_a_seed_repeats_a_split_and_another_one_makes_another():
    one, again, other = (
        split_map(grid(50, 60), Split(size=5, buffer=1, seed=seed)) for seed in (3, 3, 4)
    )
    assert one.equals(again)
    assert not one.equals(other)


def test_nothing_is_held_out_if_nothing_is_asked_for():
    cube = grid(50, 60)
    split = Split(size=5, fraction=0.0)
    where, years = held_out(cube, split)
    assert (split_map(cube, split) == TRAIN).all()
    assert not where.any()
    assert years is None


def test_a_small_share_is_at_least_one_block():
    split = Split(size=10, buffer=0, fraction=0.01, validation=0.01)
    parts = split_map(grid(20, 30), split)
    assert int((parts == HELD_OUT).sum()) == 100
    assert int((parts == VALIDATION).sum()) == 100


def test_a_block_held_out_for_scores_is_never_one_for_validation():
    """A tenth is one of ten blocks, and the least share is one as well: another."""
    split = Split(size=10, buffer=0, fraction=0.01, validation=0.1)
    parts = split_map(grid(20, 50, row=400), split)
    assert int((parts == HELD_OUT).sum()) == int((parts == VALIDATION).sum()) == 100


def test_a_globe_that_begins_within_a_block_holds_out_all_of_it_or_nothing():
    cube = grid(40, 360, row=70, column=183, step=1.0)
    for seed in range(20):
        parts = split_map(cube, Split(size=10, buffer=0, fraction=0.3, seed=seed)).to_numpy()
        from_dateline = np.roll(parts, 183, axis=1).reshape(4, 10, 36, 10)
        np.testing.assert_array_equal(
            from_dateline, from_dateline[:, :1, :, :1] + 0 * from_dateline
        )
        assert int((parts == HELD_OUT).sum()) == 4400  # 22 of 72 blocks either side of the equator


def test_on_a_globe_the_buffer_goes_on_across_the_date_line():
    split = Split(size=7, buffer=2, fraction=0.1, seed=1)  # 7 does not divide 360
    parts = split_map(globe(), split).to_numpy()
    held = np.tile(parts == HELD_OUT, 3)
    assert parts[:, 0][parts[:, -1] == HELD_OUT].all()
    assert (parts[:, -1] == HELD_OUT).any()
    near = (distance(held) <= 2)[:, 360:720]
    np.testing.assert_array_equal(parts == BUFFER, near & (parts != HELD_OUT))


def test_a_region_holds_the_pixels_whose_centres_lie_in_it_with_a_buffer_around():
    cube = grid(6, 9, row=400, column=1800)  # 49.95 N, 0.05 E and on
    split = Split(fraction=0.0, buffer=1, regions=((0.3, 49.6, 0.5, 49.8),))
    assert text(split_map(cube, split)) == [
        "000000000",
        "001111000",
        "001221000",
        "001221000",
        "001111000",
        "000000000",
    ]


def test_a_region_narrower_than_a_pixel_is_the_pixel_whose_centre_it_holds():
    cube = grid(3, 4, row=400, column=1800)
    split = Split(fraction=0.0, buffer=0, regions=((0.24, 49.84, 0.26, 49.86),))
    assert text(split_map(cube, split)) == ["0000", "0020", "0000"]


@pytest.mark.parametrize("region", [(178, -3, -177, 2), (178, -3, 183, 2), (-182, -3, -177, 2)])
def test_a_region_may_cross_the_date_line_on_a_globe(region):
    parts = split_map(globe(), Split(fraction=0.0, buffer=1, regions=(region,))).to_numpy()
    held = np.zeros((180, 360), bool)
    held[88:93, 358:] = held[88:93, :3] = True
    np.testing.assert_array_equal(parts == HELD_OUT, held)
    near = np.zeros((180, 360), bool)
    near[87:94, 357:] = near[87:94, :4] = True
    np.testing.assert_array_equal(parts == BUFFER, near & ~held)


def test_a_region_past_the_date_line_is_found_in_a_cube_that_crosses_it():
    cube = grid(4, 6, row=900, column=3597)  # longitudes to 180.25
    split = Split(fraction=0.0, buffer=0, regions=((-179.9, -0.2, -179.8, -0.1),))
    assert text(split_map(cube, split)) == ["000000", "000020", "000000", "000000"]


@pytest.mark.parametrize("region", [(-180, 80, 180, 90), (0, 80, 360, 90), (-360, 80, 0, 90)])
def test_a_cap_around_the_pole_is_held_out_all_around(region):
    parts = split_map(globe(), Split(fraction=0.0, buffer=3, regions=(region,))).to_numpy()
    by_row = [HELD_OUT] * 10 + [BUFFER] * 3 + [TRAIN] * 167
    np.testing.assert_array_equal(parts, np.repeat(by_row, 360).reshape(180, 360))


def test_a_buffer_wider_than_the_globe_leaves_what_is_north_and_south_of_it():
    parts = split_map(globe(), Split(fraction=0.0, buffer=40, regions=((0, -1, 190, 1),)))
    assert (parts[:49] == TRAIN).all()
    assert (parts[49:131] != TRAIN).sum() == 82 * (190 + 80)
    wide = split_map(
        globe(5.0), Split(fraction=0.0, buffer=10, size=70, regions=((0, 80, 300, 90),))
    )
    assert (wide[2:12] == BUFFER).all()


def test_pixels_on_the_poles_have_parts_too():
    """A grid of a quarter of a degree from pole to pole, 721 rows, as reanalyses have them."""
    axes = {"latitude": 90 - 0.25 * np.arange(721), "longitude": -180 + 0.25 * np.arange(1440)}
    parts = split_map(xr.Dataset(coords=axes), Split(size=96, buffer=4, fraction=0.3, seed=2))
    assert parts.shape == (721, 1440)
    assert float((parts == HELD_OUT).weighted(np.cos(np.deg2rad(parts.latitude))).mean()) == (
        pytest.approx(0.3, abs=0.05)
    )


@st.composite
def boxes(draw: st.DrawFn) -> tuple[xr.Dataset, slice, slice]:
    """A cube of 2 degrees, which may go around or cross the date line, and a box of it."""
    rows = draw(st.integers(20, 90))
    row = draw(st.integers(0, 90 - rows))
    around = draw(st.booleans())
    column = 0 if around else draw(st.integers(0, 179))
    columns = 180 if around else draw(st.integers(20, 90))
    top, left = draw(st.integers(0, rows - 2)), draw(st.integers(0, columns - 2))
    bottom, right = draw(st.integers(top + 2, rows)), draw(st.integers(left + 2, columns))
    return grid(rows, columns, row, column, step=2.0), slice(top, bottom), slice(left, right)


@given(
    box=boxes(),
    size=st.integers(1, 11),
    buffer=st.integers(0, 4),
    seed=st.integers(0, 99),
    west=st.integers(-180, 180),
    width=st.integers(3, 40),
)
def test_the_map_of_a_box_is_the_box_of_the_map(box, size, buffer, seed, west, width):
    cube, rows, columns = box
    east = west + width if west + width <= 180 else west + width - 360
    split = Split(
        size=size, buffer=buffer, seed=seed, validation=0.1, regions=((west, 0, east, 9),)
    )
    try:
        split = resolved(split, cube)
    except TrainingError:
        assume(False)
    whole = split_map(cube, split).to_numpy()
    np.testing.assert_array_equal(Parts.of(cube, split).box(rows, columns), whole[rows, columns])
    part = cube.isel(latitude=rows, longitude=columns)
    if float(part["longitude"][0]) > 180:  # all of it past the date line: numbered from -180
        part = part.assign_coords(longitude=part["longitude"] - 360)
    np.testing.assert_array_equal(split_map(part, split), whole[rows, columns])
    assert Parts.of(cube, split).any_train(rows, columns) == (whole[rows, columns] == TRAIN).any()


def test_an_empty_box_has_no_pixels():
    parts = Parts.of(grid(9, 11), Split(size=3, buffer=0))
    assert parts.box(slice(4, 4), slice(2, 7)).shape == (0, 5)
    assert not parts.any_train(slice(4, 4))


def test_a_window_of_the_globe_at_1_km_is_told_without_its_map():
    axes = {
        "latitude": 90 - (np.arange(21600) + 0.5) / 120,
        "longitude": -180 + (np.arange(43200) + 0.5) / 120,
    }
    cube = xr.Dataset(coords=axes)
    tracemalloc.start()
    parts = Parts.of(cube, resolved(Split(buffer=24, validation=0.05), cube))
    window = parts.box(slice(5000, 5300), slice(43000, 43200))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert window.shape == (300, 200)
    assert most < 100e6  # the map of the whole takes 933 MB


def test_nothing_of_the_cube_but_its_coordinates_is_read(no_compute):
    field = da.full((1, 40, 50), np.nan, chunks=7)
    cube = dated(grid(40, 50), 2001).assign(lai=(("year", "latitude", "longitude"), field))
    split = resolved(Split(size=5, buffer=1, regions=((-180, 80, -179, 89),)), cube)
    where, _ = held_out(cube, split)
    np.testing.assert_array_equal(where, split_map(cube, split) == HELD_OUT)


def test_years_that_are_held_out_are_scored_and_the_others_train():
    cube = dated(grid(40, 50), 2001, 2002, 2003, 2004)
    parts = Parts.of(cube, Split(size=5, years=(2002, 2004)))
    assert parts.years([2004, 2003, 2002, 2001]) == ([2001, 2003], [2002, 2004])


def test_where_no_year_is_held_out_all_train_and_all_are_scored():
    parts = Parts.of(grid(40, 50), Split(size=5))
    assert parts.years(range(2001, 2004)) == ([2001, 2002, 2003], [2001, 2002, 2003])


def test_held_out_years_alone_are_scored_everywhere():
    cube = dated(grid(40, 50), 2001, 2002, 2003)
    where, years = held_out(cube, Split(fraction=0.0, years=(2002,)))
    assert where.all()
    assert where.dtype == bool
    assert years == (2002,)
    assert (split_map(cube, Split(fraction=0.0, years=(2002,))) == TRAIN).all()


def test_held_out_years_and_blocks_are_scored_where_they_meet():
    cube = dated(grid(40, 50), 2001, 2002, 2003)
    split = Split(size=5, buffer=1, validation=0.1, years=(2002,))
    where, years = held_out(cube, split)
    np.testing.assert_array_equal(where, split_map(cube, split) == HELD_OUT)
    assert years == (2002,)


def test_years_of_a_cube_of_months_are_those_of_its_times():
    months = pd.date_range("2001-01-01", "2003-12-01", freq="MS")
    cube = grid(40, 50).assign_coords(time=months)
    assert held_out(cube, Split(size=5, buffer=1, years=(2003,)))[1] == (2003,)


def test_a_box_in_time_is_scored_in_those_held_out_years_that_it_has():
    cube = dated(grid(40, 50), 2001, 2002, 2003)
    split = resolved(Split(size=5, buffer=1, years=(2001, 2003)), cube)
    assert held_out(cube.sel(year=[2002, 2003]), split)[1] == (2003,)
    with pytest.raises(TrainingError, match="2001, 2003 missing, it has 2002 to 2002"):
        held_out(cube.sel(year=[2002]), split)


def test_scores_of_a_split_are_those_of_its_pixels_in_its_years(three_strips):
    cube, prediction, _ = three_strips()
    region = (6.99, 49.9625, 7.0375, 49.9875)  # rows 2 to 4 of the five western columns
    split = Split(fraction=0.0, buffer=0, regions=(region,), years=(2002,))
    where, years = held_out(cube, split)
    assert np.argwhere(where.to_numpy())[[0, -1]].tolist() == [[2, 0], [4, 4]]
    scores = evaluate(of_years(prediction, years), cube, where=where).sel(product="prediction")
    assert int(scores["lai_n"]) == 15 * 12
    assert int(scores["lu_n"]) == 15
    # Off by 0.5 in three columns of forest and by -0.25 in two of fields, not in January; nowhere
    # below 0 by then, since leaves grow by 0.1 a month.
    assert float(scores["lai_bias"]) == pytest.approx((3 * 0.5 - 2 * 0.25) / 5 * 11 / 12, rel=1e-2)


def test_a_prediction_of_all_years_is_left_as_it_is(three_strips):
    _, prediction, _ = three_strips()
    assert of_years(prediction, None) is prediction
    one = of_years(prediction, (2002,))
    assert one["year"].values.tolist() == [2002]
    assert set(one["time"].dt.year.values) == {2002}


def test_a_split_that_leaves_nothing_to_train_on_is_an_error_that_says_why():
    with pytest.raises(
        TrainingError,
        match="1 of 1 blocks of 96 pixels with a buffer of 12 leaves nothing to train",
    ):
        split_map(grid(20, 30), Split())


def test_a_box_that_lies_in_a_held_out_block_is_no_error():
    cube = grid(40, 50)
    split = resolved(Split(size=10, buffer=1), cube)
    parts = split_map(cube, split).to_numpy()
    y, x = np.argwhere(parts == HELD_OUT)[0]
    box = cube.isel(latitude=slice(y, y + 3), longitude=slice(x, x + 4))
    assert (split_map(box, split) == HELD_OUT).all()
    with pytest.raises(TrainingError, match="leaves nothing to train on"):
        resolved(split, box)


def test_a_box_need_not_hold_the_regions_and_years_of_the_split_of_its_cube():
    cube = dated(grid(40, 50), 2001, 2002)
    split = Split(size=5, buffer=1, years=(2001,), regions=((-180, 89, -179, 90),))
    split = resolved(split, cube)
    assert resolved(split, cube.isel(latitude=slice(20, 40), year=[1])) == split


def test_everything_that_a_cube_lacks_is_said_at_once():
    split = Split(size=40, years=(1999, 2001, 2050), regions=((0, 0, 9, 9), (-180, 85, -175, 90)))
    with pytest.raises(TrainingError) as caught:
        resolved(split, dated(grid(40, 50), 2001, 2002))
    absent, years, nothing = caught.value.problems
    assert absent.startswith("region (0, 0, 9, 9) must hold pixels of the cube")
    assert "(-179.95, 86.05, -175.05, 89.95)" in absent
    assert "1999, 2050 missing, it has 2001 to 2002" in years
    assert "and 2 regions with a buffer of 12 leaves nothing to train on" in nothing


def test_a_cube_without_years_has_none_to_hold_out():
    with pytest.raises(TrainingError, match="2001 missing, it has no years"):
        resolved(Split(size=5, buffer=0, years=(2001,)), grid(40, 50))


def test_holding_out_every_year_leaves_none_to_train_on():
    with pytest.raises(TrainingError, match="all 2 years of the cube leaves none to train on"):
        resolved(Split(fraction=0.0, years=(2001, 2002)), dated(grid(40, 50), 2001, 2002))


def test_a_split_whose_validation_blocks_lie_in_the_buffer_is_an_error():
    """Two blocks and no more: the other one is within the buffer of the one held out."""
    split = Split(size=10, buffer=10, fraction=0.4, validation=0.4)
    with pytest.raises(TrainingError) as caught:
        resolved(split, grid(10, 20, row=400))
    told = "holding out 1 of 2 blocks of 10 pixels and 1 for validation with a buffer of 10 leaves"
    assert caught.value.problems == (
        f"{told} nothing to train on; use smaller blocks or a smaller buffer",
        f"{told} nothing to validate with; use smaller blocks or a smaller buffer",
    )


def test_a_resolved_split_says_among_which_blocks_it_was_drawn():
    cube = grid(25, 31, row=38, column=3590)  # the last ten columns before the date line, and on
    split = resolved(Split(size=10, buffer=1), cube)
    assert split.extent == (3, 359, 4, 4)
    assert resolved(split, cube) == split
    east = cube.assign_coords(longitude=cube["longitude"] + 360)  # the same land
    assert resolved(Split(size=10, buffer=1), east) == split
    assert resolved(Split(size=7, buffer=1), globe()).extent == (0, 0, 26, 52)


@pytest.mark.parametrize(
    ("shape", "size"),
    [((682, 997), 96), ((37, 53), 12), ((300, 90), 30), ((9, 11), 3), ((1, 19), 1)],
)
def test_a_suggested_split_suits_the_grid_and_leaves_something_to_train_on(shape, size):
    cube = grid(*shape, row=450)
    split = suggest(cube, seed=5)
    assert (split.size, split.seed, split.validation) == (size, 5, 0.0)
    parts = split_map(cube, split)
    assert {TRAIN, HELD_OUT} <= set(np.unique(parts))


@pytest.mark.parametrize(
    ("halo", "buffer"),
    [
        (10, 16),  # a sixth of 96 pixels is more
        (24, 24),
        (600, 16),  # such a buffer leaves nothing
    ],
)
def test_the_suggested_buffer_is_as_wide_as_the_halo_where_the_grid_allows(halo, buffer):
    cube = grid(682, 997, row=300)
    assert suggest(cube, halo=halo).buffer == buffer


def test_a_suggested_split_validates_on_request():
    split = suggest(grid(100, 120, row=400), validation=0.1)
    assert split.validation == 0.1
    assert set(np.unique(split_map(grid(100, 120, row=400), split))) == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("options", "halo"),
    [
        ({"buffer": 24}, 24),
        ({"buffer": 0}, 0),
        ({"buffer": 0, "fraction": 0.0, "years": (2001,)}, 24),  # no pixel is held out
    ],
)
def test_a_buffer_that_is_wide_enough_is_not_spoken_of(options: dict[str, Any], halo: int):
    assert check_buffer(Split(**options), halo) is None


@pytest.mark.parametrize(
    "options",
    [{}, {"fraction": 0.0, "validation": 0.1}, {"fraction": 0.0, "regions": ((0, 0, 1, 1),)}],
)
def test_a_buffer_narrower_than_the_halo_is_said_with_both_widths(options: dict[str, Any]):
    said = check_buffer(Split(buffer=12, **options), 24)
    assert said is not None
    assert "halo, or that of the default U-Net where it has no halo, 24 pixels; found 12" in said


def test_the_map_says_in_cf_what_its_numbers_mean():
    parts = split_map(grid(20, 30), Split(size=5, buffer=1))
    assert parts.dtype == np.int8
    meanings = parts.attrs["flag_meanings"].split()
    assert dict(zip(parts.attrs["flag_values"].tolist(), meanings, strict=True)) == {
        TRAIN: "train",
        BUFFER: "buffer",
        HELD_OUT: "held_out",
        VALIDATION: "validation",
    }
