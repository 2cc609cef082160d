from __future__ import annotations

import pickle
import sys
import time
from collections.abc import Callable
from typing import Any

import dask
import dask.array
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from xlsbc.cube import legends
from xlsbc.cube.regrid import axes, class_fractions, conservative, from_projected, from_sinusoidal
from xlsbc.errors import GridError, LegendError

RADIUS = 6371007.181


def field(values: Any, latitude: Any, longitude: Any, *leading: str) -> xr.DataArray:
    coords = {"latitude": np.asarray(latitude, float), "longitude": np.asarray(longitude, float)}
    return xr.DataArray(np.asarray(values), coords, (*leading, "latitude", "longitude"))


def regular(first: float, step: float, size: int) -> np.ndarray:
    return first + step * np.arange(size)


def noise(*shape: int, seed: int = 0, gaps: float = 0.2) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = rng.normal(280, 20, shape).astype("float32")
    return np.where(rng.random(shape) < gaps, np.float32(np.nan), values)


def sine_lon(latitude: np.ndarray, longitude: np.ndarray, dlat: float) -> np.ndarray:
    """Exact cell means of sin(latitude) * longitude: both factors are linear in area."""
    south, north = (np.sin(np.deg2rad(latitude + s * dlat / 2)) for s in (-1, 1))
    return np.outer((south + north) / 2, longitude)


def area(latitude: np.ndarray, step: float) -> np.ndarray:
    """Area of the cells of a row by the difference of sines, unit sphere, for a radian."""
    ends = [np.clip(latitude + s * step / 2, -90, 90) for s in (1, -1)]
    return np.sin(np.deg2rad(ends[0])) - np.sin(np.deg2rad(ends[1]))


class TestTheLattice:
    def test_a_box_of_whole_pixels_gets_no_more(self):
        latitude, longitude = axes(7, 45, 9, 47)
        assert (latitude.size, longitude.size) == (240, 240)
        np.testing.assert_allclose([latitude[0], latitude[-1]], [47 - 1 / 240, 45 + 1 / 240])
        np.testing.assert_allclose([longitude[0], longitude[-1]], [7 + 1 / 240, 9 - 1 / 240])

    def test_pixels_that_a_box_touches_belong_to_it(self):
        latitude, longitude = axes(7.001, 45.001, 7.012, 45.002)
        np.testing.assert_allclose(latitude, [45 + 1 / 240])
        np.testing.assert_allclose(longitude, [7 + 1 / 240, 7 + 3 / 240])

    def test_a_box_across_the_date_line_runs_on_past_180(self):
        for west in (179, -181):
            _, longitude = axes(west, 0, -179, 1)
            assert longitude.size == 240
            np.testing.assert_allclose(
                [longitude[0], longitude[-1]], [179 + 1 / 240, 181 - 1 / 240]
            )

    @pytest.mark.parametrize(("west", "east"), [(-180, 180), (0, 360)])
    def test_the_globe_begins_at_180_west(self, west, east):
        latitude, longitude = axes(west, -90, east, 90, step=0.5)
        assert (latitude[0], latitude[-1], latitude.size) == (89.75, -89.75, 360)
        assert (longitude[0], longitude[-1], longitude.size) == (-179.75, 179.75, 720)

    def test_all_that_is_wrong_with_a_box_is_said_at_once(self):
        with pytest.raises(GridError, match=r"divides 180.*0\.7.*south < north.*south=5") as info:
            axes(0, 5, 1, 5, step=0.7)
        assert len(info.value.problems) == 2


class TestMeans:
    def test_two_by_two_cells_with_a_gap_make_one_pixel_as_by_hand(self):
        # Between 0, 30 and 60 N sin goes 0, 1/2, sqrt(3)/2; the second pixel lies outside.
        source = field([[8.0, np.nan], [2.0, 4.0]], [45, 15], [15, 45])
        found = conservative(source, np.array([30.0]), np.array([30.0, 90.0]), least=0.5)
        upper, lower = np.sqrt(3) / 2 - 0.5, 0.5
        by_hand = (8 * upper + 2 * lower + 4 * lower) / (upper + 2 * lower)
        assert found.shape == (1, 2)
        np.testing.assert_allclose(found[0, 0], by_hand, rtol=1e-15)
        assert np.isnan(found[0, 1])
        known = (upper + 2 * lower) / (2 * upper + 2 * lower)
        most = conservative(source, [30.0], [30.0, 90.0], least=known)
        np.testing.assert_allclose(most[0, 0], by_hand)
        assert conservative(source, [30.0], [30.0, 90.0], least=known + 1e-6).isnull().all()

    @pytest.mark.parametrize("turned", [False, True], ids=["descending", "ascending"])
    @pytest.mark.parametrize("first", [-180.0, 0.0])
    @pytest.mark.parametrize("ratio", [1, 3, 7])
    def test_a_field_linear_in_area_is_integrated_exactly(self, turned, first, ratio):
        coarse = 6.0
        step = coarse / ratio
        latitude = regular(90 - step / 2, -step, 30 * ratio)
        longitude = regular(first + step / 2, step, 60 * ratio)
        source = field(sine_lon(latitude, (longitude + 180) % 360 - 180, step), latitude, longitude)
        source = source[::-1] if turned else source
        target = regular(87, -6, 30), regular(-177, 6, 60)
        expected = sine_lon(*target, coarse)
        np.testing.assert_allclose(conservative(source, *target), expected, atol=1e-11)

    def test_an_ascending_target_and_odd_orders_of_dims_are_understood(self):
        source = field(noise(3, 18, 36), regular(85, -10, 18), regular(-175, 10, 36), "time")
        target = regular(80, -20, 9), regular(-165, 30, 12)
        expected = conservative(source, *target)
        turned = conservative(
            source.transpose("longitude", "time", "latitude"), target[0][::-1], target[1]
        )
        assert turned.dims == ("time", "latitude", "longitude")
        xr.testing.assert_identical(turned.isel(latitude=slice(None, None, -1)), expected)

    def test_the_integral_over_the_globe_is_kept_where_no_cells_line_up(self):
        latitude, longitude = regular(90, -0.75, 241), regular(0, 0.75, 480)
        wave = np.cos(np.deg2rad(latitude))[:, None] * (2 + np.cos(3 * np.deg2rad(longitude)))
        target = axes(-180, -90, 180, 90, step=4.5)
        found = conservative(field(wave, latitude, longitude), *target)
        before = (wave * area(latitude, 0.75)[:, None] * 0.75).sum()
        after = (found.values * area(target[0], 4.5)[:, None] * 4.5).sum()
        np.testing.assert_allclose(after, before, rtol=1e-12)
        # cos2 integrated over the sphere, to the second order of the step
        np.testing.assert_allclose(after, 2 * 360 * np.pi / 2, rtol=1e-4)

    @pytest.mark.parametrize("step", [0.25, 1.0, 2.8125])
    def test_a_constant_stays_that_constant_up_to_the_poles(self, step):
        source = field(np.full((9, 12), 287.3, "float32"), regular(80, -20, 9), regular(0, 30, 12))
        found = conservative(source, *axes(-180, -90, 180, 90, step=180 / round(180 / step)))
        assert found.dtype == np.float32
        assert np.unique(found).tolist() == [np.float32(287.3)]

    def test_a_step_is_shared_by_area_and_not_by_degrees(self):
        # A pixel from 60 to 90 N: north of 75 N lies (1 - sin 75) / (1 - sin 60) = 25.4 % of it.
        source = field([[1.0] * 4, [0.0] * 4], [82.5, 67.5], regular(-135, 90, 4))
        found = conservative(source, [75.0, 45.0], regular(-150, 60, 6))
        s = np.sin(np.deg2rad([60, 75]))
        np.testing.assert_allclose(found[0], (1 - s[1]) / (1 - s[0]), rtol=1e-12)

    def test_pixels_within_one_cell_take_its_value(self):
        source = field(noise(4, 5, gaps=0), regular(49.5, -1, 4), regular(7.5, 1, 5))
        found = conservative(source, *axes(8, 47, 9, 48))
        assert np.unique(found).tolist() == [source.values[2, 1]]

    def test_a_field_on_its_own_grid_stays_as_it_is_gaps_too(self):
        latitude, longitude = axes(170, -3, -170, 4, step=0.5)
        source = field(noise(14, 40), latitude, longitude)
        xr.testing.assert_equal(conservative(source, latitude, longitude), source)

    def test_an_empty_neighbour_does_not_leak_in_by_rounding(self):
        # 1/120 and 1/360 degree are not exact: edges that should be one differ by 1e-14.
        latitude, longitude = axes(7, 45, 7.5, 45.5, step=1 / 360)
        values = np.full((180, 180), np.nan, "float32")
        values[3:6, 6:9] = 5.0
        found = conservative(field(values, latitude, longitude), *axes(7, 45, 7.5, 45.5), least=0)
        assert int(found.notnull().sum()) == 1
        assert found[1, 2] == 5.0

    def test_coordinates_rounded_to_single_precision_are_put_right(self):
        latitude, longitude = axes(179, 59, 180, 60, step=1 / 360)
        source = field(noise(360, 360), latitude, longitude)
        rounded = source.assign_coords(
            latitude=latitude.astype("float32"), longitude=longitude.astype("float32")
        )
        target = axes(179, 59, 180, 60)
        xr.testing.assert_equal(conservative(rounded, *target), conservative(source, *target))

    def test_the_rest_of_an_array_is_kept(self):
        source = field(np.ones((2, 3, 4), "int16"), [2, 1, 0], [0, 1, 2, 3], "time")
        source = source.assign_coords(time=[5, 6], height=2.0).assign_attrs(units="K").rename("t2m")
        found = conservative(source, [1.5, 0.5], [0.5, 1.5])
        assert (found.name, found.dtype, found.attrs) == ("t2m", np.float32, {"units": "K"})
        assert found.time.values.tolist() == [5, 6]
        assert float(found.height) == 2.0
        assert found.latitude.attrs["units"] == "degrees_north"

    def test_uneven_rows_end_half_way_between_their_centres(self):
        # Edges 10, 5 and 1: a pixel from 10 to 1 has both, by their areas.
        source = field([[6.0, 6.0], [1.0, 1.0], [0, 0]], [8, 2, 0], [0, 1])
        found = conservative(source, [6.0, 2.0], [0.25, 0.75])
        s = np.sin(np.deg2rad([8, 5, 4, 1, 0]))
        np.testing.assert_allclose(
            found[0], ((s[0] - s[1]) * 6 + (s[1] - s[2]) * 1) / (s[0] - s[2])
        )
        np.testing.assert_allclose(found[1], (s[2] - s[3]) / (s[2] - s[4]))

    @pytest.mark.parametrize(
        ("latitude", "message"),
        [([1, 3, 2], "latitude must ascend or descend"), ([1, np.nan, 3], "latitude must ascend")],
    )
    def test_an_axis_in_no_order_is_refused(self, latitude, message):
        with pytest.raises(GridError, match=message):
            conservative(field(np.ones((3, 2)), latitude, [0, 1]), [0.5, 1.5], [0, 1])

    def test_a_field_without_coordinates_is_refused(self):
        bare = xr.DataArray(np.ones((3, 2)), dims=("latitude", "longitude"))
        with pytest.raises(GridError, match="with coordinates; found dims"):
            conservative(bare, [0.5, 1.5], [0, 1])

    def test_a_single_cell_of_a_source_has_no_size(self):
        with pytest.raises(GridError, match="one latitude has no size"):
            conservative(field(np.ones((1, 1)), [1], [0]), [1.5, 1.4], [0.5, 0.6])

    def test_a_single_pixel_of_the_target_is_one_of_the_lattice(self):
        # Three cells of a third of the pixel each way, of which one row is 6 and the others are 0.
        third = 1 / 360
        steps = third * np.array([1, 0, -1])
        source = field(np.array([[6.0] * 3, [0] * 3, [0] * 3]), 1.5 + steps, 0.5 - steps)
        found = conservative(source, [1.5], [0.5])
        np.testing.assert_allclose(found, [[2.0]], rtol=1e-4)


class TestTheDateLine:
    @pytest.mark.parametrize("first", [0.0, -180.0], ids=["0..360", "-180..180"])
    def test_the_cell_of_era5_that_straddles_it_is_seen_from_both_sides(self, first):
        longitude = regular(first, 0.25, 1440)
        # The value is the longitude of the cell, but 1000 for that on 180, from 179.875 on.
        values = np.where(np.abs(longitude) == 180, 1000, (longitude + 180) % 360 - 180)
        source = field(np.tile(values, (3, 1)), [0.25, 0.0, -0.25], longitude)
        _, east = axes(179, 0, 180, 0.1)
        found = conservative(source, [0.0, -0.1], east).sel(latitude=0)
        assert set(found.values[105:]) == {1000.0}
        # 179.875 is 105 pixels from 179.
        assert found.values[104] == 179.75
        west = conservative(source, [0.0, -0.1], axes(-180, 0, -179, 0.1)[1]).sel(latitude=0)
        assert set(west.values[:15]) == {1000.0}
        assert west.values[15] == -179.75
        across = conservative(source, [0.0, -0.1], axes(179, 0, -179, 0.1)[1]).sel(latitude=0)
        np.testing.assert_array_equal(across, np.concatenate([found, west]))

    def test_a_pixel_that_has_the_seam_within_is_the_mean_of_both_sides(self):
        source = field([[1.0, 2, 3, 4]] * 2, [45, -45], [45, 135, 225, 315])
        found = conservative(source, [45.0, -45.0], [-30.0, 30.0, 90.0])
        # Pixels of 60 degrees: -60..0 is all 4, 0..60 all 1, 60..120 half 1 and half 2; and
        # -30..30 is half 4 and half 1.
        np.testing.assert_allclose(found[0], [4, 1, 1.5])
        straddling = conservative(source, [45.0, -45.0], [0.0, 60.0])
        np.testing.assert_allclose(straddling[0], [2.5, 1.0])

    def test_what_does_not_go_round_the_globe_is_missing_beyond_its_ends(self):
        source = field(np.ones((2, 10)), [0.5, -0.5], regular(170.5, 1, 10))
        found = conservative(source, [0.5, -0.5], [169.5, 170.5])[0]
        np.testing.assert_array_equal(found, [np.nan, 1.0])
        beyond = conservative(source, [0.5, -0.5], [179.5, 180.5])[0]
        np.testing.assert_array_equal(beyond, [1.0, np.nan])
        assert conservative(source, [0.5, -0.5], [-179.5, -178.5]).isnull().all()

    def test_a_column_given_twice_counts_once(self):
        longitude = regular(0, 30, 13)
        values = np.tile(np.arange(13.0) % 12, (2, 1))
        target = [45.0, -45.0], [-10.0, 0.0, 10.0, 20.0, 30.0]
        found = conservative(field(values, [45, -45], longitude), *target)
        np.testing.assert_allclose(found[0], [0, 0, 0, 1, 1])


class TestLaziness:
    @settings(max_examples=15)
    @given(st.data())
    def test_chunks_change_no_bit(self, data):
        source = field(noise(3, 29, 47), regular(70, -5, 29), regular(0, 360 / 47, 47), "time")
        target = axes(-180, -90, 180, 90, step=7.5)
        chunks = {d: data.draw(st.integers(1, n)) for d, n in source.sizes.items()}
        found = conservative(source.chunk(chunks), *target)
        assert found.chunks[0] == source.chunk(chunks).chunks[0]
        expected = conservative(source, *target)
        np.testing.assert_array_equal(found.compute(scheduler="sync"), expected)

    def test_blocks_change_no_bit(self, monkeypatch):
        source = field(noise(29, 47), regular(70, -5, 29), regular(0, 360 / 47, 47))
        target = axes(-180, -90, 180, 90, step=1.5)
        whole = conservative(source, *target)
        monkeypatch.setattr("xlsbc.cube.regrid.blocks.SIDE", 17)
        monkeypatch.setattr("xlsbc.cube.regrid.overlap.AT_ONCE", 50)
        blocks = conservative(source.chunk(latitude=10), *target)
        assert blocks.data.numblocks == (8, 15)
        np.testing.assert_array_equal(blocks, whole)

    def test_a_year_of_the_globe_at_300_m_is_a_graph_of_blocks_within_seconds(self, no_compute):
        source, _ = fine_globe()
        start = time.perf_counter()
        found = class_fractions(source, "cci_lccs-cci_pft", "lc_class", *axes(-180, -90, 180, 90))
        # It takes 2 s; the bound is what tells it from a graph of a task a pixel or a chunk pair.
        assert time.perf_counter() - start < 30
        assert found.shape == (1, 14, 21600, 43200)
        graph = found.data.dask.layers[found.data.name]
        assert len(graph) == 18 * 36
        assert max(len(pickle.dumps(task)) for task in graph.values()) < 20_000

    def test_a_small_box_reads_the_chunks_that_its_block_lies_in_and_no_others(self):
        source, read = fine_globe()
        found = conservative(source, *axes(-180, -90, 180, 90))
        box = found[0, 5000:5100, 20000:20100].compute(scheduler="sync")
        # Its block is rows 4800 to 6000 and columns 19200 to 20400, at 300 m 14400 to 18000 and
        # 57600 to 61200, in chunks of 2025: 7 and 8 down, and 28, 29 and 30 across.
        assert sorted(read) == [(0, y, x) for y in (7, 8) for x in (28, 29, 30)]
        # The value of a fine pixel is its row over 1000: of three rows the middle one, within
        # the difference of their areas.
        expected = (3 * np.arange(5000, 5100) + 1) / 1000
        np.testing.assert_allclose(box[:, 7], expected, rtol=1e-6)

    def test_a_small_target_reads_its_own_chunk_only(self):
        source, read = fine_globe()
        conservative(source, *axes(10, 40, 10.8, 40.8)).compute(scheduler="sync")
        # 40.8 N is row 17712 of 64800, 10 E column 68400 of 129600.
        assert read == [(0, 8, 33)]

    def test_what_lies_outside_the_source_reads_nothing(self, no_compute):
        source = field(np.ones((1, 4, 4)), [3, 2, 1, 0], [0, 1, 2, 3], "time").chunk()
        found = conservative(source, [55.0, 54.0], [0.0, 1.0])
        with dask.config.set(scheduler="sync"):
            assert found.isnull().all().compute()

    def test_the_same_question_makes_the_same_graph(self):
        source = field(noise(4, 5), [3, 2, 1, 0], regular(0, 1, 5)).chunk(latitude=2)
        names = {conservative(source, [1.5, 0.5], [0.5, 1.5]).data.name for _ in range(2)}
        assert len(names) == 1
        assert conservative(source, [1.5, 0.5], [0.5, 1.5], least=0.9).data.name not in names


def fine_globe() -> tuple[xr.DataArray, list[tuple[int, ...]]]:
    """A year at 300 m whose values are rows over 1000, and which of its chunks were made."""
    made: list[tuple[int, ...]] = []

    def chunk(block_info: Any = None) -> np.ndarray:
        made.append(block_info[None]["chunk-location"])
        (_, _), (top, bottom), (left, right) = block_info[None]["array-location"]
        rows = np.arange(top, bottom)[None, :, None] / 1000
        return np.broadcast_to(rows, (1, bottom - top, right - left)).astype("float32")

    data = dask.array.map_blocks(
        chunk,
        chunks=((1,), (2025,) * 32, (2025,) * 64),
        dtype="float32",
        meta=np.zeros((0, 0, 0), "float32"),
    )
    latitude, longitude = axes(-180, -90, 180, 90, step=1 / 360)
    coords = {"year": [2015], "latitude": latitude, "longitude": longitude}
    return xr.DataArray(data, coords, ("year", "latitude", "longitude")), made


class TestAnotherImplementation:
    @pytest.mark.parametrize("step", [0.4, 1.0, 2.5], ids=["finer", "equal", "coarser"])
    def test_it_agrees_with_xarray_regrid(self, step):
        pytest.importorskip("xarray_regrid")
        latitude, longitude = regular(30.5, 1, 30), regular(0.5, 1, 40)
        smooth = 280 + np.cos(np.deg2rad(6 * latitude))[:, None] * 10 * np.sin(
            np.deg2rad(9 * longitude)
        )
        source = field(smooth, latitude, longitude)
        target = (
            regular(35 + step / 2, step, int(20 / step)),
            regular(5 + step / 2, step, int(30 / step)),
        )
        grid = xr.Dataset(coords={"latitude": target[0], "longitude": target[1]})
        expected = source.regrid.conservative(grid, latitude_coord="latitude")
        # It takes the area of the part of a cell by the cosine of the whole cell's middle: within
        # a cell of 1 degree that is off by up to tan(55) * 0.5 degree = 1.2 %, times the
        # differences between neighbours of about 1.5.
        np.testing.assert_allclose(conservative(source, *target), expected, atol=0.02)


class TestClassFractions:
    def test_pixels_on_three_by_three_cells_are_their_area_means(self):
        rng = np.random.default_rng(3)
        codes = rng.choice([0, 10, 30, 50, 190, 210], (30, 42)).astype("uint8")
        fine, target = (
            axes(7, 60, 7 + 42 / 360, 60 + 30 / 360, step=1 / 360),
            axes(7, 60, 7 + 14 / 120, 60 + 10 / 120),
        )
        source = field(codes, *fine)
        found = class_fractions(source, "cci_lccs-cci_pft", "lc_class", *target)
        shares = legends.apply_crosswalk(source, "cci_lccs-cci_pft", "lc_class").astype(float)
        # At 60 N the exact area differs from the cosine by 1e-11 for cells of 1/360 degree.
        cell = np.cos(np.deg2rad(shares.latitude)) * xr.ones_like(shares.longitude)
        three = {"latitude": 3, "longitude": 3}
        known = cell.where(source != 0, 0).coarsen(three).sum()
        total = (cell * shares.fillna(0)).coarsen(three).sum()
        enough = known / cell.coarsen(three).sum() > 0.499
        expected = (total / known).where(enough).transpose("lc_class", ...)
        assert found.dims == ("lc_class", "latitude", "longitude")
        assert found.dtype == np.float32
        assert 0 < int(expected.isnull().sum()) < expected.size / 2
        np.testing.assert_allclose(found, expected, atol=1e-6)
        np.testing.assert_allclose(
            found.sum("lc_class").where(enough.values), np.where(enough, 1, np.nan), atol=1e-6
        )

    def test_a_pixel_across_cells_is_shared_by_area_by_hand(self):
        # Between 0, 30 and 60 N; water north, urban south-west, no data south-east.
        codes = field(np.array([[210, 210], [190, 0]], "uint8"), [45, 15], [15, 45])
        found = class_fractions(codes, "cci_lccs-cci_lccs", "class", [30.0], [30.0, 90.0])
        water, urban = 2 * (np.sqrt(3) / 2 - 0.5), 0.5
        by_hand = {"water": water, "urban": urban}
        ids = found["class"].values.tolist()
        values = found[:, 0, 0].values
        for id, part in zip(ids, values, strict=True):
            np.testing.assert_allclose(part, by_hand.get(id, 0) / (water + urban), atol=1e-7)
        assert found[:, :, 1].isnull().all()
        none = class_fractions(codes, "cci_lccs-cci_lccs", "class", [30.0], [30.0, 90.0], least=0.8)
        assert none.isnull().all()

    def test_the_classes_come_as_the_crosswalk_gives_them(self):
        codes = field(np.full((2, 3, 4), 50, "uint8"), [2, 1, 0], [0, 1, 2, 3], "year")
        codes = codes.assign_coords(year=[2000, 2001]).rename("lccs_class")
        codes.attrs = {"flag_meanings": "water", "standard_name": "land_cover_lccs"}
        found = class_fractions(codes, "cci_lccs-cci_pft", "lc_class", [1.5, 0.5], [0.5, 1.5])
        expected = legends.apply_crosswalk(codes, "cci_lccs-cci_pft", "lc_class")
        assert found.dims == expected.dims == ("year", "lc_class", "latitude", "longitude")
        xr.testing.assert_identical(found["lc_class"], expected["lc_class"])
        np.testing.assert_allclose(found.values, expected.values[:, :, :2, :2])
        assert found.attrs["units"] == "1"
        assert not set(found.attrs) & set(codes.attrs)

    @pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int32", "float32", "float64"])
    def test_a_code_is_a_code_in_any_type(self, dtype):
        codes = np.array([[210, 10], [50, 190]])
        stored = codes.astype("uint8").astype(dtype)
        grid = ([0.75, 0.25], [0.25, 0.75])
        found = class_fractions(field(stored, *grid), "cci_lccs-cci_lccs", "class", *grid)
        expected = legends.apply_crosswalk(field(codes, *grid), "cci_lccs-cci_lccs", "class")
        np.testing.assert_array_equal(found.transpose(*expected.dims), expected)

    def test_missing_codes_of_floats_do_not_count(self):
        codes = field([[np.nan, 10.0], [10.0, 210.0]], [0.75, 0.25], [0.25, 0.75])
        found = class_fractions(codes, "cci_lccs-cci_lccs", "class", [0.5], [0.5, 1.5])
        np.testing.assert_allclose(found[:, 0, 0].sel({"class": "water"}), 1 / 3, atol=1e-4)

    @pytest.mark.parametrize(("dtype", "odd"), [("uint8", 17), ("float64", 10.5), ("int32", 5000)])
    @pytest.mark.parametrize("chunked", [False, True])
    def test_codes_of_no_class_are_refused_with_their_counts(self, dtype, odd, chunked):
        values = np.full((4, 4), 10, dtype)
        values[1, 1:3] = odd
        codes = field(values, [3, 2, 1, 0], [0, 1, 2, 3])
        codes = codes.chunk(latitude=2) if chunked else codes
        with pytest.raises(LegendError, match=rf"not in legend 'cci_lccs'.*code {odd} in 2 pixels"):
            class_fractions(codes, "cci_lccs-cci_pft", "c", [2.5, 0.5], [0.5, 2.5]).compute()

    def test_an_unknown_crosswalk_is_refused_at_once(self):
        codes = field(np.ones((2, 2), "uint8"), [1, 0], [0, 1])
        with pytest.raises(LegendError, match="no crosswalk 'cci_lccs-corine'"):
            class_fractions(codes, "cci_lccs-corine", "c", [0.5, 0.0], [0.5, 1.0])

    @settings(max_examples=10)
    @given(st.data())
    def test_chunks_change_no_bit(self, data):
        codes = np.random.default_rng(1).choice([0, 10, 60, 210], (2, 23, 31)).astype("uint8")
        source = field(codes, regular(60, -5, 23), regular(30, 360 / 31, 31), "year")
        target = axes(-180, -60, 180, 60, step=9)
        chunks = {d: data.draw(st.integers(1, n)) for d, n in source.sizes.items()}
        found = class_fractions(source.chunk(chunks), "cci_lccs-cci_pft", "lc_class", *target)
        expected = class_fractions(source, "cci_lccs-cci_pft", "lc_class", *target)
        np.testing.assert_array_equal(found.compute(scheduler="sync"), expected)

    def test_blocks_change_no_bit(self, monkeypatch):
        codes = np.random.default_rng(1).choice([0, 10, 60, 210], (23, 31)).astype("uint8")
        source = field(codes, regular(60, -5, 23), regular(30, 360 / 31, 31))
        target = axes(-180, -60, 180, 60, step=3)
        whole = class_fractions(source, "cci_lccs-cci_pft", "lc_class", *target)
        monkeypatch.setattr("xlsbc.cube.regrid.blocks.SIDE", 17)
        monkeypatch.setattr("xlsbc.cube.regrid.overlap.AT_ONCE", 50)
        blocks = class_fractions(source.chunk(), "cci_lccs-cci_pft", "lc_class", *target)
        np.testing.assert_array_equal(blocks, whole)


def modis(size: int, h: int = 18, v: int = 3, cells: int = 1200) -> tuple[np.ndarray, np.ndarray]:
    """y and x of the first cells of a tile of the MODIS grid, m."""
    tile = RADIUS * np.pi / 18
    place = (np.arange(size) + 0.5) / cells
    return tile * (9 - v - place), tile * (h - 18 + place)


def sinusoidal(values: Any, y: np.ndarray, x: np.ndarray, *leading: str) -> xr.DataArray:
    return xr.DataArray(np.asarray(values), {"y": y, "x": x}, (*leading, "y", "x"))


class TestSinusoidal:
    @pytest.mark.parametrize("cells", [1200, 2400])
    def test_a_constant_stays_that_constant_and_ends_where_the_tile_does(self, cells):
        y, x = modis(cells // 4, cells=cells)
        target = axes(-1, 56, 6, 61)
        found = from_sinusoidal(
            sinusoidal(np.full((y.size, x.size), 3.3, "float32"), y, x), *target
        )
        values = found.values
        assert set(values[np.isfinite(values)].tolist()) == {np.float32(3.3)}
        # h18v03 begins at 60 N on the meridian of 0; a quarter goes to 57.5 N and 2.5 / cos(lat).
        row = found.sel(latitude=58, method="nearest")
        known = row.longitude[row.notnull()]
        np.testing.assert_allclose(known[0], 1 / 240)
        assert abs(float(known[-1]) + 1 / 240 - 2.5 / np.cos(np.deg2rad(row.latitude))) < 1 / 120
        column = found.sel(longitude=1, method="nearest")
        known = column.latitude[column.notnull()]
        np.testing.assert_allclose([known[0], known[-1]], [60 - 1 / 240, 57.5 + 1 / 240])

    def test_the_sum_over_the_area_is_kept(self):
        y, x = modis(300)
        hill = np.exp(-(((np.arange(300) - 150) / 25) ** 2))
        hill = np.where(hill > 1e-9, hill, 0)
        latitude, longitude = axes(-1, 56, 7, 61, step=1 / 60)
        found = from_sinusoidal(sinusoidal(np.outer(hill, hill), y, x), latitude, longitude)
        after = (found.fillna(0).values * area(latitude, 1 / 60)[:, None]).sum() * np.deg2rad(
            1 / 60
        )
        # All cells of an equal-area projection are as large as on the map.
        before = hill.sum() ** 2 * ((y[0] - y[1]) / RADIUS) ** 2
        np.testing.assert_allclose(after, before, rtol=1e-6)

    @pytest.mark.parametrize("cells", [1200, 2400])
    def test_a_plane_in_degrees_is_found_where_it_was(self, cells):
        y, x = modis(cells // 4, h=19, cells=cells)
        north = np.rad2deg(y / RADIUS)[:, None]
        east = np.rad2deg(x / RADIUS) / np.cos(np.deg2rad(north))
        # At 23 E, where cells are slanted: swapped axes or a cosine of another row would show.
        found = from_sinusoidal(sinusoidal(2 * east - 5 * north, y, x), *axes(20.5, 58, 22.5, 59.5))
        expected = 2 * found.longitude - 5 * found.latitude
        assert found.notnull().all()
        # Piecewise constant cells of 1 km are at most half a cell off: 5/240 + 2 * 2/240 degree.
        assert abs(found - expected).max() < 0.04
        assert abs(float((found - expected).mean())) < 1e-4

    def test_gaps_stay_out_of_the_mean_and_leave_gaps_where_they_are_large(self):
        y, x = modis(240)
        values = np.full((240, 240), 7.0, "float32")
        values[::3] = np.nan
        values[100:140, 100:140] = np.nan
        found = from_sinusoidal(sinusoidal(values, y, x), *axes(0.5, 58.5, 3, 59.5), least=0.3)
        assert set(found.values[np.isfinite(found)].tolist()) == {7.0}
        middle = np.rad2deg(y[120] / RADIUS), np.rad2deg(x[120] / RADIUS)
        hole = found.sel(
            latitude=middle[0],
            longitude=middle[1] / np.cos(np.deg2rad(middle[0])),
            method="nearest",
        )
        assert np.isnan(hole)

    def test_cells_on_either_side_of_the_date_line_meet_there(self):
        size = RADIUS * np.pi / 180
        x = size * (np.arange(360) - 179.5)
        y = size * np.array([1.5, 0.5, -0.5, -1.5])
        values = np.tile(np.where(x > 0, 1.0, 2.0), (4, 1))
        found = from_sinusoidal(sinusoidal(values, y, x), [0.25, -0.25], regular(179.25, 0.5, 4))
        np.testing.assert_array_equal(found, [[1, 1, 2, 2]] * 2)

    def test_chunks_change_no_bit(self):
        y, x = modis(120)
        source = sinusoidal(noise(2, 120, 120), y, x, "time")
        target = axes(0, 58.5, 2.5, 60.5)
        expected = from_sinusoidal(source, *target)
        for chunks in ({"y": 7, "x": 120}, {"time": 1, "y": 50, "x": 33}):
            found = from_sinusoidal(source.chunk(chunks), *target)
            assert isinstance(found.data, dask.array.Array)
            np.testing.assert_array_equal(found.compute(scheduler="sync"), expected)

    def test_blocks_change_no_bit(self, monkeypatch):
        y, x = modis(120)
        source = sinusoidal(noise(120, 120), y, x)
        target = axes(0, 58.5, 2.5, 60.5)
        whole = from_sinusoidal(source, *target)
        monkeypatch.setattr("xlsbc.cube.regrid.blocks.SIDE", 31)
        blocks = from_sinusoidal(source.chunk(), *target)
        assert blocks.data.numblocks == (8, 10)
        np.testing.assert_array_equal(blocks, whole)

    def test_south_first_and_east_first_are_understood(self):
        y, x = modis(120)
        source = sinusoidal(noise(120, 120), y, x)
        target = axes(0, 58.5, 2.5, 60.5)
        turned = from_sinusoidal(source[::-1, ::-1], *target)
        np.testing.assert_allclose(turned, from_sinusoidal(source, *target), rtol=1e-6)

    def test_a_box_reads_the_tiles_that_it_lies_in(self):
        made = []

        def tile(block_info: Any = None) -> np.ndarray:
            made.append(block_info[None]["chunk-location"])
            return np.ones((1200, 1200), "float32")

        data = dask.array.map_blocks(
            tile, chunks=((1200,) * 18, (1200,) * 36), dtype="float32", meta=np.zeros((0, 0), "f4")
        )
        y, x = modis(18 * 1200, h=0, v=0)[0], modis(36 * 1200, h=0, v=0)[1]
        source = xr.DataArray(data, {"y": y, "x": x}, ("y", "x"))
        found = from_sinusoidal(source, *axes(11, 47, 11.5, 47.5)).compute(scheduler="sync")
        assert (found == 1).all()
        # Tyrol is in h18v04.
        assert made == [(4, 18)]


class TestProjected:
    @pytest.fixture(autouse=True)
    def pyproj(self) -> Any:
        return pytest.importorskip("pyproj")

    @pytest.fixture
    def degrees(self, pyproj: Any) -> Callable[..., tuple[np.ndarray, np.ndarray]]:
        """A factory of latitude and longitude of the cells of a grid."""

        def make(crs: int, y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            to_degrees = pyproj.Transformer.from_crs(crs, 4326, always_xy=True)
            longitude, latitude = to_degrees.transform(*np.meshgrid(x, y))
            return latitude, longitude

        return make

    @pytest.mark.parametrize("cell", [100.0, 250.0, 3000.0])
    def test_a_plane_in_degrees_is_found_where_it_was_from_utm(self, degrees, cell):
        y, x = np.arange(5250e3, 5090e3, -cell), np.arange(400e3, 600e3, cell)
        north, east = degrees(32632, y, x)
        found = from_projected(
            sinusoidal(3 * north - 2 * east, y, x), 32632, *axes(8, 46.2, 10, 47)
        )
        expected = 3 * found.latitude - 2 * found.longitude
        assert found.notnull().all()
        # An eighth of a pixel, or what a cell goes beyond a pixel, in each direction.
        slack = 3 * max(1 / 960, cell / 111e3 / 2) + 2 * max(1 / 960, cell / 77e3 / 2)
        assert abs(found - expected).max() < slack
        assert abs(float((found - expected).mean())) < 2e-4 + slack / 50

    @pytest.mark.parametrize("crs", [32632, 3035, 3857], ids=["utm", "equal area", "mercator"])
    def test_a_constant_stays_that_constant_whatever_the_projection_does_to_areas(
        self, pyproj, crs
    ):
        x, y = pyproj.Transformer.from_crs(4326, crs, always_xy=True).transform([9.0], [47.0])
        y, x = y[0] + 250 * np.arange(200, -200, -1), x[0] + 250 * np.arange(-200, 200)
        values = np.full((400, 400), 3.3, "float32")
        # Web Mercator makes cells of 47 N twice as large as they are: shares of areas on the
        # map would not reach 0.9.
        found = from_projected(
            sinusoidal(values, y, x), crs, *axes(8.8, 46.85, 9.2, 47.15), least=0.9
        )
        assert np.unique(found).tolist() == [np.float32(3.3)]

    def test_the_known_share_of_a_pixel_is_that_of_its_true_area(self, pyproj):
        # Along the middle of zone 32 parallels are straight; 40 % of the southern row is covered.
        x, y = np.arange(480e3, 520e3, 20.0), None
        south = pyproj.Transformer.from_crs(4326, 32632, always_xy=True).transform(
            9.0, 47 + 0.6 / 120
        )[1]
        y = south + 20.0 * np.arange(200, 0, -1) - 10
        source = sinusoidal(np.ones((200, x.size)), y, x)
        box = axes(8.9, 47, 9.1, 47 + 2 / 120)
        for least, rows in ((0.35, 2), (0.45, 1)):
            found = from_projected(source, 32632, *box, least=least)
            assert int(found.notnull().sum()) == rows * found.longitude.size

    def test_gaps_stay_out_of_the_mean(self):
        y, x = np.arange(5210e3, 5190e3, -100.0), np.arange(490e3, 510e3, 100.0)
        values = np.full((y.size, x.size), 4.0)
        values[::3] = np.nan
        found = from_projected(sinusoidal(values, y, x), 32632, *axes(8.95, 46.92, 9.05, 46.98))
        assert np.unique(found).tolist() == [4.0]

    def test_the_date_line_lies_within_a_polar_grid(self, degrees):
        y, x = np.arange(1e6, -1e6, -20e3), np.arange(-1e6, 1e6, 20e3)
        north, _ = degrees(3413, y, x)
        target = axes(0, 82, 360, 84, step=0.5)
        found = from_projected(sinusoidal(north, y, x), 3413, *target)
        assert found.notnull().all()
        # Half the diagonal of a cell of 20 km is 0.13 degree, and as much again to the next.
        assert abs(found - found.latitude).max() < 0.3
        across = from_projected(sinusoidal(north, y, x), 3413, *axes(170, 82, 190, 84, step=0.5))
        assert across.notnull().all()

    def test_chunks_change_no_bit(self):
        y, x = np.arange(5210e3, 5190e3, -300.0), np.arange(490e3, 510e3, 300.0)
        source = sinusoidal(noise(2, y.size, x.size), y, x, "time")
        target = axes(8.9, 46.8, 9.2, 47.1)
        expected = from_projected(source, 32632, *target)
        assert 0 < int(expected.notnull().sum()) < expected.size
        found = from_projected(source.chunk(time=1, y=9, x=14), "EPSG:32632", *target)
        np.testing.assert_array_equal(found.compute(scheduler="sync"), expected)

    def test_the_part_of_a_globe_that_a_tile_covers_is_found(self):
        y, x = np.arange(5300e3, 5200e3, -2e3), np.arange(450e3, 550e3, 2e3)
        source = sinusoidal(noise(50, 50, gaps=0), y, x)
        globe = from_projected(source, 32632, *axes(-180, -90, 180, 90, step=0.1))
        box = from_projected(source, 32632, *axes(8, 46, 10, 49, step=0.1))
        there = {"latitude": slice(49, 46), "longitude": slice(8, 10)}
        # The parts that cells are cut into are chosen by block.
        np.testing.assert_allclose(globe.sel(there), box, atol=3)
        assert int(globe.notnull().sum()) == int(box.notnull().sum()) > 50

    def test_without_pyproj_it_says_what_to_install(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "pyproj", None)
        source = sinusoidal(np.ones((2, 2)), np.array([1.0, 0]), np.array([0, 1.0]))
        with pytest.raises(ImportError, match="pip install pyproj"):
            from_projected(source, 32632, [47.0, 46.0], [8.0, 9.0])
