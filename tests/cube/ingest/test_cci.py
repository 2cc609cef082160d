from __future__ import annotations

import time
import warnings

import dask.array
import numpy as np
import pytest
import xarray as xr

from tests.providers import cci as provider
from xlsbc.cube.ingest import cci
from xlsbc.cube.ingest.opening import open_source
from xlsbc.errors import SourceError, SourceWarning

CODES = provider.CODES


def present(pixel: xr.DataArray) -> dict[str, float]:
    """Shares above zero of one pixel, by class."""
    ids = map(str, pixel["lc_class"].values)
    return {id: float(v) for id, v in zip(ids, pixel.values, strict=True) if v > 0}


@pytest.fixture
def cover(tmp_path):
    """A factory of land cover read from a file written with the given options."""

    def make(*args, **options):
        ds = open_source(provider.write(tmp_path, *args, **options)[0])
        return cci.land_cover(ds).compute()["lc_fraction"]

    return make


def test_the_file_has_bytes_with_a_sign_as_the_provider_writes_them(tmp_path):
    raw = open_source(provider.write(tmp_path)[0])["lccs_class"]
    assert raw.dtype == np.int8
    assert raw.attrs["flag_values"][-2:].tolist() == [-46, -36]
    assert -46 in raw.values


def test_classes_become_shares_of_types_on_pixels_of_a_120th_degree(cover):
    lc = cover()
    assert lc.dims == ("year", "lc_class", "latitude", "longitude")
    assert lc.dtype == np.float32
    assert lc["year"].values.tolist() == [2015]
    np.testing.assert_allclose(lc.latitude, [47 - 1 / 240, 47 - 3 / 240], rtol=1e-12)
    np.testing.assert_allclose(lc.longitude, 10 + np.array([1, 3, 5]) / 240, rtol=1e-12)
    row = lc.isel(year=0, latitude=0)
    # Grassland is 60 % natural grass and 40 % bare ground (Poulter et al. 2015, table 2).
    assert present(row.isel(longitude=0)) == pytest.approx({"grass_nat": 0.6, "bare": 0.4})
    assert present(row.isel(longitude=1)) == {"water": 1.0}
    # Four of nine fine pixels are grassland, five ice; rows differ in area by less than 1e-4.
    mixed = {"grass_nat": 0.6 * 4 / 9, "bare": 0.4 * 4 / 9, "snowice": 5 / 9}
    assert present(row.isel(longitude=2)) == pytest.approx(mixed, abs=1e-4)


def test_no_data_is_missing_and_never_a_class(cover):
    row = cover().isel(year=0, latitude=1)
    assert np.isnan(row.isel(longitude=0)).all()
    # Two of nine known: less than half of the pixel.
    assert np.isnan(row.isel(longitude=1)).all()
    # A third without data does not count: the rest is halves.
    halves = {"grass_man": 0.5, "bare": 0.5}
    assert present(row.isel(longitude=2)) == pytest.approx(halves, abs=1e-6)


def test_a_map_without_any_data_is_missing_everywhere(cover):
    assert np.isnan(cover(np.zeros((6, 9)))).all()


@pytest.mark.parametrize(
    "options",
    [{"signed": False}, {"ascending": True}, {"axes": ("lon", "lat")}, {"dated": False}],
    ids=lambda o: next(iter(o)),
)
def test_sign_direction_order_and_date_of_the_file_change_nothing(cover, options):
    xr.testing.assert_identical(cover(**options), cover())


def test_longitudes_of_0_to_360_are_the_same_place(cover):
    lc = cover(west=350.0)
    np.testing.assert_allclose(lc.longitude, -10 + np.array([1, 3, 5]) / 240, rtol=1e-12)
    np.testing.assert_array_equal(lc.values, cover(west=-10.0).values)


def test_a_map_across_the_date_line_is_in_one_piece(cover):
    lc = cover(west=180 - 1 / 120)
    np.testing.assert_allclose(lc.longitude, 180 + np.array([-1, 1, 3]) / 240, rtol=1e-12)
    assert present(lc.isel(year=0, latitude=0, longitude=1)) == {"water": 1.0}


def test_a_cut_off_the_lattice_counts_only_what_it_shows(cover):
    # One fine column into a pixel: its first pixel is known by two thirds, its last by one.
    lc = cover(west=10 + 1 / 360)
    assert lc.sizes["longitude"] == 4
    row = lc.isel(year=0, latitude=0)
    assert present(row.isel(longitude=0)) == pytest.approx({"grass_nat": 0.6, "bare": 0.4})
    assert np.isnan(row.isel(longitude=3)).all()


def test_chunks_of_the_file_change_nothing(tmp_path):
    raw = open_source(provider.write(tmp_path)[0])
    one = cci.land_cover(raw).compute()
    xr.testing.assert_identical(cci.land_cover(raw.chunk(lat=2, lon=4)).compute(), one)


def test_a_file_of_a_later_year_and_another_ending_is_read(tmp_path):
    path = provider.write(tmp_path, years=(2020,))[0]
    odd = path.rename(tmp_path / "map.dat")
    lc = cci.land_cover(open_source(odd))
    assert lc["year"].values.tolist() == [2020]
    assert "Copernicus Climate Change Service information" in lc.attrs["source"]


@pytest.mark.parametrize("signed", [True, False])
def test_codes_of_no_class_are_told_with_the_file_and_their_counts(tmp_path, signed):
    codes = CODES.copy()
    codes[0, :2], codes[5, 8] = 7, 255
    lc = cci.land_cover(open_source(provider.write(tmp_path, codes, signed=signed)[0]))
    with pytest.raises(SourceError, match=r"-2015-v2.0.7cds.nc.*'lccs_class'") as caught:
        lc.compute(scheduler="synchronous")
    assert "code 7 in 2 pixels, code 255 in 1 pixels" in str(caught.value)


@pytest.mark.parametrize("kind", ["i2", "f4"])
def test_a_map_that_a_tool_has_widened_is_still_read(tmp_path, kind):
    raw = open_source(provider.write(tmp_path)[0])
    wide = raw.assign(lccs_class=raw["lccs_class"].astype(kind))
    if kind == "f4":
        wide["lccs_class"] = wide["lccs_class"].where(raw["lccs_class"] != 0)
    left, right = cci.land_cover(wide).compute(), cci.land_cover(raw).compute()
    np.testing.assert_array_equal(left["lc_fraction"], right["lc_fraction"])


def test_a_mean_of_codes_is_refused(tmp_path):
    raw = open_source(provider.write(tmp_path)[0])
    mean = raw.assign(lccs_class=raw["lccs_class"].astype("f4") + 0.5)
    with pytest.raises(SourceError, match=r"code 10\.5 in 3 pixels"):
        cci.land_cover(mean).compute(scheduler="synchronous")


def test_another_file_is_refused_with_what_it_holds(tmp_path):
    path = provider.write_types(tmp_path, {"BARE": 100})
    with pytest.raises(SourceError, match="expected variable 'lccs_class'; found .*BARE"):
        cci.land_cover(open_source(path))


def test_a_map_in_metres_is_refused(tmp_path):
    raw = open_source(provider.write(tmp_path)[0])
    metres = {"lat": "projection_y_coordinate", "lon": "projection_x_coordinate"}
    for name, standard in metres.items():
        raw[name] = (name, 300.0 * np.arange(raw.sizes[name]))
        raw[name].attrs = {"standard_name": standard, "units": "m"}
    raw = raw.rename(lat="y", lon="x")
    with pytest.raises(SourceError, match="'y' belongs to a projected grid; reproject.*'x'"):
        cci.land_cover(raw)


def globe(names: list[str]) -> xr.Dataset:
    shape, step = (1, 64800, 129600), 1 / 360
    # 10 and not 0: rainfed cropland, or a tenth.
    maps = dask.array.full(shape, 10, chunks=(1, 2025, 2025), dtype="i1")
    attrs = {"_Unsigned": "true"}
    return xr.Dataset(
        {name: (("time", "lat", "lon"), maps, attrs) for name in names},
        {
            "time": ("time", [16436.0], {"units": "days since 1970-01-01"}),
            "lat": ("lat", 90 - step * (np.arange(64800) + 0.5), {"units": "degrees_north"}),
            "lon": ("lon", -180 + step * (np.arange(129600) + 0.5), {"units": "degrees_east"}),
        },
    )


def test_the_globe_is_planned_in_seconds_and_a_box_reads_its_own_chunks_only(no_compute):
    start = time.perf_counter()
    lc = cci.land_cover(globe(["lccs_class"]))["lc_fraction"]
    assert time.perf_counter() - start < 10  # 0.8 s on two cores; a decoded globe takes minutes
    assert lc.shape == (1, 14, 21600, 43200)
    # 2048 chunks a layer, 18 x 36 blocks; without fusion
    assert len(lc.__dask_graph__()) < 20_000
    box = lc.isel(latitude=slice(5000, 5010), longitude=slice(22000, 22020))
    (planned,) = dask.optimize(box)
    assert len(planned.__dask_graph__()) < 50
    values = box.compute(scheduler="synchronous")
    assert (values.sel(lc_class="grass_man") == 1).all()


def test_the_globe_of_types_is_planned_without_a_compute(no_compute):
    lc = cci.plant_functional_types(globe(list(cci.TYPES.values())))["lc_fraction"]
    assert lc.shape == (1, 14, 21600, 43200)
    assert len(lc.__dask_graph__()) < 100_000


def test_per_cents_of_types_become_shares_and_sums_count_once(tmp_path):
    shares = {"TREES-NE": 50, "GRASS-MAN": 20, "WATER": 30, "WATER_INLAND": 10, "WATER_OCEAN": 20}
    path = provider.write_types(tmp_path, {**shares, "LAND": 80})
    lc = cci.plant_functional_types(open_source(path)).compute()["lc_fraction"]
    assert lc.dims == ("year", "lc_class", "latitude", "longitude")
    assert lc["year"].values.tolist() == [2010]
    expected = {"trees_ne": 0.5, "grass_man": 0.2, "water": 0.3}
    assert present(lc.isel(year=0, latitude=1, longitude=0)) == pytest.approx(expected)
    assert set(lc.attrs) == {"standard_name", "long_name", "units", "comment"}


def test_types_are_averaged_by_area_over_a_pixel(tmp_path):
    trees = np.zeros((6, 6))
    trees[:3, :3] = np.array([[90, 0, 0], [90, 0, 0], [90, 0, 0]])
    path = provider.write_types(tmp_path, {"TREES-BE": trees, "BARE": 100 - trees})
    lc = cci.plant_functional_types(open_source(path)).compute()["lc_fraction"]
    pixel = present(lc.isel(year=0, latitude=0, longitude=0))
    assert pixel == pytest.approx({"trees_be": 0.3, "bare": 0.7}, abs=1e-6)
    assert present(lc.isel(year=0, latitude=0, longitude=1)) == {"bare": 1.0}


def test_inland_water_and_ocean_make_the_water_of_a_file_without_it(tmp_path):
    shares = {"WATER_INLAND": 15, "WATER_OCEAN": 25, "SNOWICE": 60}
    path = provider.write_types(tmp_path, shares, leave_out=("WATER",))
    lc = cci.plant_functional_types(open_source(path)).compute()["lc_fraction"]
    expected = {"water": 0.4, "snowice": 0.6}
    assert present(lc.isel(year=0, latitude=0, longitude=0)) == pytest.approx(expected)


@pytest.mark.parametrize("total", [94, 99, 103])
def test_the_rounding_of_whole_per_cents_is_normalised_away(tmp_path, total):
    path = provider.write_types(tmp_path, {"GRASS-NAT": total - 40, "BARE": 40})
    lc = cci.plant_functional_types(open_source(path)).compute()["lc_fraction"]
    np.testing.assert_allclose(lc.sum("lc_class"), 1, atol=1e-6)
    np.testing.assert_allclose(lc.sel(lc_class="bare"), 40 / total, rtol=1e-6)


def test_a_pixel_far_from_100_per_cent_is_missing_and_told(tmp_path):
    bare = np.full((6, 6), 100)
    bare[0, 0] = 60
    path = provider.write_types(tmp_path, {"BARE": bare})
    cube = cci.plant_functional_types(open_source(path))
    with pytest.warns(SourceWarning, match="1 of 36 pixels off, the worst with 60; they are miss"):
        lc = cube.compute(scheduler="synchronous")["lc_fraction"]
    # Eight of nine fine pixels are left.
    np.testing.assert_array_equal(lc.sel(lc_class="bare"), np.ones((1, 2, 2)))
    assert "less than 93 or more than 107 per cent are missing" in lc.attrs["comment"]


def test_shares_that_are_given_as_per_cents_are_refused(tmp_path):
    path = provider.write_types(tmp_path, {"BARE": 1})
    cube = cci.plant_functional_types(open_source(path))
    with pytest.raises(SourceError, match="36 of 36 pixels off, the worst with 1"):
        cube.compute(scheduler="synchronous")


def test_all_missing_types_are_told_at_once(tmp_path):
    path = provider.write_types(tmp_path, {"BARE": 100}, leave_out=("BUILT", "TREES-ND"))
    with pytest.raises(SourceError) as caught:
        cci.plant_functional_types(open_source(path))
    assert [p.split("'")[1] for p in caught.value.problems] == ["TREES-ND", "BUILT"]


def test_a_type_that_is_missing_in_places_makes_the_pixel_missing(tmp_path):
    raw = open_source(provider.write_types(tmp_path, {"BARE": 100})).load()
    raw["BUILT"][0, :3, :3] = 255
    raw["BUILT"].attrs["_FillValue"] = np.uint8(255)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lc = cci.plant_functional_types(raw.chunk())["lc_fraction"].compute()
    assert np.isnan(lc.isel(year=0, latitude=0, longitude=0)).all()
    assert present(lc.isel(year=0, latitude=0, longitude=1)) == {"bare": 1.0}
