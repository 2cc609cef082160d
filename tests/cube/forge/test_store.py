"""What comes out of fragments, however they are cut and in whatever order they come."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from xlsbc.cube.legends import LC
from xlsbc.cube.store.writer import verify
from xlsbc.errors import CubeError, SourceError, SourceWarning

from .conftest import build, decode, weather, year

WHOLE = pd.date_range("2000-01-01", periods=36, freq="MS")


def opened(place: object) -> xr.Dataset:
    return xr.open_zarr(str(place), chunks={})


def parts(*months: pd.DatetimeIndex, **options: object) -> list[xr.Dataset]:
    return [decode(weather(each, **options)) for each in months]


def digest(place: Path) -> dict[str, str]:
    return {
        str(path.relative_to(place)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(place.rglob("*"))
        if path.is_file()
    }


def test_fragments_lie_where_their_times_say_whatever_their_order(tmp_path):
    build(parts(year(2002), year(2000), year(2001)), tmp_path / "a.zarr")

    xr.testing.assert_equal(opened(tmp_path / "a.zarr"), decode(weather(WHOLE)))


@pytest.mark.proves("determinism")
def test_the_order_of_fragments_changes_no_byte(tmp_path):
    fragments = parts(year(2000), year(2001), year(2002))
    for i, fragment in enumerate(fragments):
        fragment.encoding["source"] = f"file {i}"
    build(fragments, tmp_path / "a.zarr")
    build(fragments[::-1], tmp_path / "b.zarr")

    assert digest(tmp_path / "a.zarr") == digest(tmp_path / "b.zarr")


@given(
    cuts=st.sets(st.integers(1, 35), max_size=5),
    rows=st.integers(1, 4),
    chunk=st.integers(1, 40),
    high=st.integers(1, 6),
)
@settings(max_examples=15)
def test_any_cut_into_files_and_chunks_gives_the_same_values(
    tmp_path_factory, cuts, rows, chunk, high
):
    place = tmp_path_factory.mktemp("cut") / "a.zarr"
    ends = [0, *sorted(cuts), 36]
    tiles = [slice(0, rows), slice(rows, None)]
    fragments = [
        decode(weather(WHOLE[a:b], rows=tile))
        for a, b in zip(ends, ends[1:], strict=False)
        for tile in tiles
    ]
    build(fragments, place, chunks={"forcing_time": chunk, "forcing_latitude": high})

    xr.testing.assert_equal(opened(place), decode(weather(WHOLE)))
    assert verify(str(place), progress=False)


def test_tiles_make_a_map_in_which_what_no_file_has_is_missing(tmp_path):
    west = decode(weather(year(2000), rows=slice(0, 2), columns=slice(0, 3)))
    east = decode(weather(year(2000), rows=slice(2, 5), columns=slice(3, 7)))
    build([west, east], tmp_path / "a.zarr")

    whole = opened(tmp_path / "a.zarr")
    assert whole.t2m.shape == (12, 5, 7)
    np.testing.assert_array_equal(whole.t2m[:, 3:, :3], west.t2m)
    np.testing.assert_array_equal(whole.t2m[:, :3, 3:], east.t2m)
    assert whole.t2m[:, 3:, 3:].isnull().all()
    assert whole.t2m[:, :3, :3].isnull().all()


def test_two_regions_in_one_store_are_told(tmp_path):
    far = weather(year(2000))
    far = far.assign_coords(lon=("lon", far.lon.values - 50.0, far.lon.attrs))

    with pytest.warns(SourceWarning, match="'t2m': 2 boxes of files cover 7% of the whole grid"):
        build([*parts(year(2000)), decode(far)], tmp_path / "a.zarr")
    assert "2 boxes of files" in opened(tmp_path / "a.zarr").attrs["comment"]


def test_variables_of_different_files_stand_side_by_side(tmp_path):
    t2m, d2m = parts(year(2000)), parts(year(2000), name="dew_point_temperature")
    build([*t2m, *d2m], tmp_path / "a.zarr")

    whole = opened(tmp_path / "a.zarr")
    assert set(whole.data_vars) == {"t2m", "d2m"}
    np.testing.assert_array_equal(whole.d2m, d2m[0].d2m)


def test_coordinates_of_single_precision_are_the_same_grid(tmp_path):
    rough = weather(year(2001))
    rough = rough.assign_coords(lon=("lon", rough.lon.values.astype("f4") + 1e-5, rough.lon.attrs))
    build([*parts(year(2000)), decode(rough)], tmp_path / "a.zarr")

    np.testing.assert_array_equal(opened(tmp_path / "a.zarr").t2m, decode(weather(WHOLE[:24])).t2m)


def test_grids_that_disagree_are_refused_with_both_files(tmp_path):
    other = weather(year(2001))
    other = other.assign_coords(lat=("lat", other.lat.values + 0.1, other.lat.attrs))
    fragments = [*parts(year(2000)), decode(other)]
    fragments[0].encoding["source"], fragments[1].encoding["source"] = "one.nc", "two.nc"

    with pytest.raises(SourceError, match=r"two\.nc, 'forcing_latitude': .* grid of one\.nc"):
        build(fragments, tmp_path / "a.zarr")
    assert not (tmp_path / "a.zarr").exists()


def test_the_same_months_with_other_values_are_refused_with_both_files(tmp_path):
    fragments = [*parts(year(2000)), *parts(year(2000), seed=1)]
    fragments[0].encoding["source"], fragments[1].encoding["source"] = "rt0.nc", "rt6.nc"

    with pytest.raises(SourceError, match=r"rt6\.nc, variable 't2m': .* others in rt0\.nc"):
        build(fragments, tmp_path / "a.zarr")
    with pytest.raises(FileNotFoundError):
        opened(tmp_path / "a.zarr")


def test_the_same_months_twice_are_taken_once(tmp_path):
    build(parts(year(2000), year(2000)), tmp_path / "a.zarr")

    xr.testing.assert_equal(opened(tmp_path / "a.zarr"), decode(weather(year(2000))))


def test_a_gap_in_time_is_told_and_recorded(tmp_path):
    with pytest.warns(SourceWarning, match="'forcing_time' has gaps: 2001-01-01"):
        build(parts(year(2000), year(2001)[1:]), tmp_path / "a.zarr")

    assert "2001-01-01 are in no file" in opened(tmp_path / "a.zarr").attrs["comment"]


def test_composites_of_eight_days_have_no_gap_at_the_turn_of_a_year(tmp_path):
    steps = [pd.date_range(f"{y}-01-01", f"{y}-12-31", freq="8D") for y in (2011, 2012)]
    leaf = {"standard_name": "leaf_area_index", "units": "1"}
    fragments = []
    for each in steps:
        ds = weather(each)
        ds["field"] = ds.field / 100
        ds.field.attrs = leaf
        fragments.append(decode(ds))
    build(fragments, tmp_path / "a.zarr", chunks={"time": 10})

    assert "comment" not in opened(tmp_path / "a.zarr").attrs
    assert opened(tmp_path / "a.zarr").sizes["time"] == 92


def test_a_variable_that_some_files_lack_is_told_and_recorded(tmp_path):
    both = [*parts(year(2000)), *parts(year(2000), name="dew_point_temperature")]

    with pytest.warns(SourceWarning, match="'d2m' is in no file at 2001-01-01, .* and 6 more of"):
        build([*both, *parts(year(2001))], tmp_path / "a.zarr")
    assert "'d2m' is in no file" in opened(tmp_path / "a.zarr").attrs["comment"]


def test_a_field_without_any_value_is_told_and_recorded(tmp_path):
    empty = parts(year(2001))[0]
    empty["t2m"] = empty.t2m * np.nan
    empty.encoding["source"] = "folder/empty.nc"

    with pytest.warns(SourceWarning, match=r"'t2m' of empty\.nc has no value at all"):
        build([*parts(year(2000)), empty], tmp_path / "a.zarr")
    assert "has no value at all" in opened(tmp_path / "a.zarr").attrs["comment"]


def test_what_the_files_say_of_themselves_is_kept_once(tmp_path):
    build(parts(year(2000), year(2001)), tmp_path / "a.zarr", attrs={"xlsbc_recipe": "weather 1"})

    attrs = opened(tmp_path / "a.zarr").attrs
    assert attrs["title"] == "weather"
    assert attrs["history"].splitlines() == ["made for 2000", "made for 2001"]
    assert attrs["xlsbc_recipe"] == "weather 1"


def test_classes_are_stored_packed_and_keep_their_sum(tmp_path):
    shares = np.random.default_rng(0).dirichlet(np.ones(14), (2, 4, 6)).astype("float32")
    lc = xr.Dataset(
        {"lc_fraction": (("year", "lc_class", "latitude", "longitude"), np.moveaxis(shares, 3, 1))},
        {
            "year": [2000, 2001],
            "lc_class": LC.coordinate("lc_class"),
            "latitude": 47 - np.arange(4) / 120,
            "longitude": 7 + np.arange(6) / 120,
        },
    )
    lc.lc_fraction.attrs = {"units": "1", "standard_name": "area_fraction"}
    build([lc.isel(year=[1]), lc.isel(year=[0])], tmp_path / "a.zarr", chunks={"year": 1})

    stored = xr.open_zarr(tmp_path / "a.zarr")
    assert stored.lc_fraction.encoding["dtype"] == np.uint16
    assert (stored.lc_fraction.sum("lc_class") == 1).all()
    np.testing.assert_allclose(stored.lc_fraction, lc.lc_fraction, atol=2**-15)


def test_a_run_again_does_nothing_and_other_input_is_refused(tmp_path):
    place = tmp_path / "a.zarr"
    build(parts(year(2000)), place)
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
    build(parts(year(2000)), place)

    assert {path: path.stat().st_mtime_ns for path in place.rglob("*")} == before
    with pytest.raises(CubeError, match="the 1 files of this run make; found what 1 others made"):
        build(parts(year(2000), seed=2), place)
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*")} == before


def test_what_a_failed_run_left_gives_way_to_another(tmp_path):
    place = tmp_path / "a.zarr"
    with pytest.raises(SourceError, match="two files hold the same"):
        build([*parts(year(2000)), *parts(year(2000), seed=1)], place)
    assert (place / "xlsbc_ledger" / "zarr.json").exists()
    build(parts(year(2001)), place)

    xr.testing.assert_equal(opened(place), decode(weather(year(2001))))


def test_a_folder_that_is_no_store_is_never_deleted(tmp_path):
    place = tmp_path / "papers"
    place.mkdir()
    (place / "notes.txt").write_text("years of work")
    with pytest.raises(CubeError, match="holds something that is no store; delete it"):
        build(parts(year(2000)), place, overwrite=True)

    assert (place / "notes.txt").read_text() == "years of work"
    assert [path.name for path in tmp_path.iterdir()] == ["papers"]


def test_with_overwrite_the_old_store_gives_way(tmp_path):
    place = tmp_path / "a.zarr"
    build(parts(year(2000)), place)
    build(parts(year(2001)), place, overwrite=True)

    xr.testing.assert_equal(opened(place), decode(weather(year(2001))))


def test_appending_adds_only_what_is_missing(tmp_path):
    place = tmp_path / "a.zarr"
    build(parts(year(2000)), place, append_dim="forcing_time")
    before = digest(place)
    fragments = parts(year(2000), year(2001))
    build(fragments, place, append_dim="forcing_time")

    xr.testing.assert_equal(opened(place), decode(weather(WHOLE[:24])))
    assert verify(str(place), progress=False)
    # Ten months lie in whole chunks of five: those objects are as they were.
    after = digest(place)
    whole = [key for key in before if re.match(r"t2m/c/[01]/", key)]
    assert len(whole) == 6
    assert all(after[key] == before[key] for key in whole)


def test_what_was_told_of_a_store_is_told_once_when_it_has_grown(tmp_path):
    place = tmp_path / "a.zarr"
    first = parts(pd.DatetimeIndex(["1999-12-01"]), year(2000)[1:])
    for fragments in (first, [*first, *parts(year(2001))]):
        with pytest.warns(SourceWarning, match="2000-01-01 are in no file"):
            build(fragments, place, append_dim="forcing_time")

    assert opened(place).attrs["comment"].count("2000-01-01 are in no file") == 1


def test_appending_what_is_there_changes_nothing(tmp_path):
    place = tmp_path / "a.zarr"
    build(parts(year(2000), year(2001)), place)
    before = digest(place)
    build(parts(year(2001)), place, append_dim="forcing_time")

    assert digest(place) == before


def test_what_lies_before_the_store_cannot_be_appended(tmp_path):
    place = tmp_path / "a.zarr"
    build(parts(year(2001)), place)

    with pytest.raises(SourceError, match="found 2000-01-01, .* build the store anew"):
        build(parts(year(2000)), place, append_dim="forcing_time")


def appending(place: Path, fragments: list[xr.Dataset], said: str) -> None:
    """That these cannot be appended, and that nothing comes of it."""
    before = digest(place)
    with pytest.raises(SourceError, match=said):
        build(fragments, place, append_dim="forcing_time")
    assert digest(place) == before


def test_another_box_or_grid_cannot_be_appended(tmp_path):
    place = tmp_path / "a.zarr"
    build(parts(year(2000)), place)
    east = weather(year(2001))
    east = east.assign_coords(lon=("lon", east.lon.values + 1.0, east.lon.attrs))
    off = weather(year(2000))
    off = off.assign_coords(lat=("lat", off.lat.values + 0.1, off.lat.attrs))

    appending(place, [decode(east)], "expected 'forcing_longitude' from -10 to -8.5; found it")
    appending(place, [decode(off)], "expected the grid of .*a.zarr")  # though no month is new


def test_steps_without_a_variable_of_the_store_cannot_be_appended(tmp_path):
    place = tmp_path / "a.zarr"
    build([*parts(year(2000)), *parts(year(2000), name="dew_point_temperature")], place)

    appending(place, parts(year(2001)), "expected 'd2m' at the new steps too; found it in no file")


def test_to_a_store_without_the_dimension_nothing_can_be_appended(tmp_path):
    place = tmp_path / "a.zarr"
    build(parts(year(2000)), place)
    before = digest(place)
    with pytest.raises(SourceError, match="expected a store with 'year'; found forcing_time"):
        build(parts(year(2000)), place, append_dim="year")
    assert digest(place) == before


def test_another_variable_cannot_be_appended(tmp_path):
    place = tmp_path / "a.zarr"
    build(parts(year(2000)), place)
    dew = parts(year(2001), name="dew_point_temperature")

    with pytest.raises(SourceError, match="expected t2m; found 'd2m' as well"):
        build([*parts(year(2001)), *dew], place, append_dim="forcing_time")
    xr.testing.assert_equal(opened(place), decode(weather(year(2000))))


def test_a_reader_of_the_store_sees_what_was_while_it_grows(tmp_path):
    place = tmp_path / "a.zarr"
    build(parts(year(2000)), place)
    reader = opened(place)
    build(parts(year(2001)), place, append_dim="forcing_time")

    xr.testing.assert_equal(reader.load(), decode(weather(year(2000))))


def test_a_large_block_is_computed_part_by_part_each_value_once(tmp_path, monkeypatch):
    monkeypatch.setattr("xlsbc.cube.forge.blocks.LARGEST_PART", 4 * 5 * 2 * 7)
    sizes: list[int] = []

    def seen(block: np.ndarray) -> np.ndarray:
        sizes.append(block.size)
        return block

    fragment = parts(year(2000))[0].chunk({"forcing_time": 5, "forcing_latitude": 2})
    fragment["t2m"] = fragment.t2m.copy(
        data=fragment.t2m.data.map_blocks(seen, meta=fragment.t2m.data._meta)
    )
    build([fragment], tmp_path / "a.zarr")

    xr.testing.assert_equal(opened(tmp_path / "a.zarr"), decode(weather(year(2000))))
    assert max(sizes) == 5 * 2 * 7
    assert sum(sizes) == 2 * 12 * 5 * 7  # once for the stamp of the test
