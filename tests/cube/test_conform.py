from __future__ import annotations

from collections.abc import Callable

import dask
import hypothesis
import numpy as np
import pytest
import xarray as xr
from hypothesis import strategies as st

from xlsbc.cube.legends import LC, LU, crosswalk
from xlsbc.cube.schema import conform, is_climatology
from xlsbc.cube.synthetic import synthetic_cube
from xlsbc.errors import CubeError, GridError, LegendError, UnitsError

Raw = Callable[..., xr.Dataset]
STATES = [id for id in LU.ids if id != "icwtr"]


def luh2(**axis: object) -> xr.Dataset:
    """States as in a LUH2 file: one variable each, half the land wild, a quarter of it sea."""
    shape = (2, 4, 6)
    share = dict.fromkeys(STATES, 0.0) | {"primf": 0.5, "c3ann": 0.1, "urban": 0.15}
    sea = np.zeros(shape, bool)
    sea[:, 0, 0] = True
    attrs = {"standard_name": "area_fraction", "units": "1", "cell_methods": "time:mean"}
    variables = {
        id: (("time", "lat", "lon"), np.where(sea, np.nan, v).astype("float32"), attrs)
        for id, v in share.items()
    }
    variables["secma"] = (("time", "lat", "lon"), np.full(shape, 80.0), {"units": "years"})
    coords = {
        "time": ("time", np.array([1150.0, 1151.0]), axis or {"units": "years since 850-01-01"}),
        "lat": ("lat", 89.875 - 0.25 * np.arange(4), {"units": "degrees_north"}),
        "lon": ("lon", 0.125 + 0.25 * np.arange(6), {"units": "degrees_east"}),
    }
    return xr.Dataset(variables, coords)


def land_cover(values: object, **attrs: object) -> xr.Dataset:
    return xr.Dataset(
        {"lccs_class": (("time", "lat", "lon"), np.asarray(values), attrs)},
        {
            "time": np.array(["2001-01-01"], "M8[ns]"),
            "lat": ("lat", [45.0, 46.0], {"units": "degrees_north"}),
            "lon": ("lon", [8.0, 9.0, 10.0], {"units": "degrees_east"}),
        },
    )


def test_a_cube_has_canonical_names_units_dims_and_floats(raw):
    cube = conform(raw())
    assert {n: (v.dims, v.dtype.name, v.attrs["units"]) for n, v in cube.data_vars.items()} == {
        "elevation": (("latitude", "longitude"), "float32", "m"),
        "t2m": (("forcing_time", "forcing_latitude", "forcing_longitude"), "float32", "K"),
        "co2": (("year",), "float32", "1"),
        "lai": (("time", "latitude", "longitude"), "float32", "1"),
    }


def test_coarse_fields_stay_coarse(raw):
    assert conform(raw("dem", "temp")).t2m.shape == (24, 2, 3)


def test_a_cube_is_conformed_already(raw):
    cube = conform(raw())
    xr.testing.assert_identical(conform(cube), cube)


def test_a_cube_with_land_use_and_land_cover_is_conformed_already(raw):
    ds = raw("dem", "greenness")
    shape = {"year": 2, "lc_class": 14, "lat": 4, "lon": 6}
    ds["cover"] = (tuple(shape), np.full(tuple(shape.values()), 1 / 14))
    ds = ds.assign_coords(lc_class=list(LC.ids), year=[2000, 2001])
    ds = ds.merge(luh2().rename(lat="dlat", lon="dlon", time="dtime"))
    cube = conform(ds)
    assert set(cube) == {"elevation", "lai", "lc_fraction", "lu_total"}
    xr.testing.assert_identical(conform(cube), cube)


def test_a_cube_comes_back_from_zarr_as_it_was(raw, tmp_path):
    cube = conform(raw().merge(luh2().rename(lat="dlat", lon="dlon", time="dtime")))
    cube.to_zarr(tmp_path / "cube.zarr", consolidated=False)
    back = xr.open_zarr(tmp_path / "cube.zarr", consolidated=False)
    xr.testing.assert_identical(conform(back).compute(), cube)


def test_the_given_dataset_is_not_changed(raw):
    ds = raw()
    before = ds.copy(deep=True)
    conform(ds)
    xr.testing.assert_identical(ds, before)


def test_nothing_is_computed(raw, no_compute):
    ds = raw().merge(luh2().rename(lat="dlat", lon="dlon", time="dtime"))
    ds["dem"].attrs["units"] = "km"
    ds["map"] = xr.zeros_like(ds.dem).assign_attrs(standard_name="land_cover_lccs")
    ds["map"] = ds["map"].expand_dims(year=ds.year)
    lazy = conform(ds.chunk(lat=2, lon=3))
    assert all(v.chunks is not None for v in lazy.data_vars.values())
    with dask.config.set(scheduler="synchronous"):
        xr.testing.assert_identical(lazy.compute(), conform(ds))


def test_nothing_is_read_from_a_cube_that_is_a_file(raw, tmp_path, monkeypatch):
    conform(raw("dem", "greenness")).to_netcdf(tmp_path / "cube.nc")
    with xr.open_dataset(tmp_path / "cube.nc", cache=False) as ds:
        cube = conform(ds)
        assert not any(v.variable._in_memory for v in cube.data_vars.values())


@pytest.mark.proves("bad-cube")
@hypothesis.given(
    order=st.permutations(["time", "lat", "lon"]),
    south_up=st.booleans(),
    east=st.sampled_from([0, 360]),
    shuffled=st.permutations([0, 1, 2]),
)
def test_the_order_of_axes_and_values_does_not_matter(order, south_up, east, shuffled):
    truth = xr.Dataset(
        {
            "greenness": (
                ("time", "lat", "lon"),
                np.arange(72, dtype="float32").reshape(3, 4, 6),
                {"standard_name": "leaf_area_index", "units": "1"},
            )
        },
        {
            "time": np.array(["2001-01-01", "2001-02-01", "2001-03-01"], "M8[ns]"),
            "lat": ("lat", [46.75, 46.5, 46.25, 46.0], {"units": "degrees_north"}),
            "lon": ("lon", [-0.5, -0.25, 0.0, 0.25, 0.5, 0.75], {"units": "degrees_east"}),
        },
    )
    given = truth.transpose(*order).isel(time=list(shuffled))
    given = given.isel(lat=slice(None, None, -1)) if south_up else given
    given = given.assign_coords(lon=("lon", given.lon.values % 360 if east else given.lon.values))
    given.lon.attrs["units"] = "degrees_east"
    given = given.sortby("lon")
    xr.testing.assert_identical(conform(given), conform(truth))


def test_every_pixel_keeps_its_place(raw):
    ds = raw("dem").isel(lat=slice(None, None, -1)).transpose("lon", "lat")
    cube = conform(ds)
    for lat, lon in [(46.75, 10.0), (46.0, 11.25), (46.25, 10.5)]:
        expected = float(ds.dem.sel(lat=lat, lon=lon))
        assert float(cube.elevation.sel(latitude=lat, longitude=lon)) == expected


def test_a_globe_is_turned_to_start_at_180_west(no_compute):
    longitude = 0.25 * np.arange(1440)
    ds = xr.Dataset(
        {
            "z": (
                ("latitude", "longitude"),
                np.broadcast_to(longitude, (3, 1440)),
                {"standard_name": "surface_altitude", "units": "m"},
            )
        },
        {"latitude": [1.0, 0.0, -1.0], "longitude": longitude},
    )
    lazy = conform(ds.chunk(longitude=360))
    assert lazy.elevation.chunks[1] == (360, 360, 360, 360)
    with dask.config.set(scheduler="synchronous"):
        cube = lazy.compute()
    np.testing.assert_array_equal(cube.longitude, -180 + longitude)
    np.testing.assert_array_equal(cube.elevation[0], cube.longitude % 360)


def test_missing_values_stay_missing_and_nothing_else_becomes_so(raw):
    ds = raw("dem")
    ds["dem"] = ds.dem.where(ds.dem != 7)
    cube = conform(ds)
    assert int(cube.elevation.isnull().sum()) == 1
    assert np.isnan(cube.elevation[1, 0])


@pytest.mark.parametrize(
    ("name", "units", "factor", "offset"),
    [
        ("dem", "km", 1000, 0),
        ("temp", "degC", 1, 273.15),
        ("air", "ppm", 1e-6, 0),
        ("greenness", "m**2 m**-2", 1, 0),
    ],
)
def test_units_are_converted(raw, name, units, factor, offset):
    ds = raw(name)
    ds[name].attrs["units"] = units
    (converted,) = conform(ds).data_vars.values()
    np.testing.assert_allclose(converted, ds[name] * factor + offset, rtol=1e-6)


def test_a_rate_of_water_depth_becomes_a_flux(raw):
    ds = raw("temp")
    ds.temp.attrs = {"standard_name": "lwe_precipitation_rate", "units": "mm day-1"}
    flux = conform(ds).tp
    np.testing.assert_allclose(flux, ds.temp / 86400, rtol=1e-6)
    assert flux.attrs["standard_name"] == "precipitation_flux"


def test_a_variable_with_its_own_role_keeps_its_name_and_units(raw):
    ds = raw("dem").rename(dem="twi")
    ds.twi.attrs = {"xlsbc_role": "static", "units": "km", "long_name": "wetness"}
    cube = conform(ds)
    assert cube.twi.attrs == ds.twi.attrs
    np.testing.assert_array_equal(cube.twi, ds.twi)


@pytest.mark.proves("bad-cube")
def test_all_problems_are_told_at_once_and_before_any_compute(raw, no_compute):
    ds = raw(time=np.array(["2001-01-01", "2001-01-01", "2001-03-01"], "M8[ns]")).chunk()
    ds.dem.attrs["units"] = "K"
    ds.temp.attrs["units"] = "m"
    ds["level"] = ds.dem.expand_dims(depth=3).assign_attrs(standard_name="canopy_height", units="m")
    with pytest.raises(CubeError) as caught:
        conform(ds, {"slope": "tilt"})
    found = caught.value.problems
    assert len(found) == 5
    for part in (
        "mapping gives 'tilt' for 'slope', which the dataset does not hold",
        "static 'elevation' (dem): 'dem' has units 'K', wanted 'm'",
        "static 'canopy_height' (level) has 3 values of 'depth'",
        "forcing 't2m' (temp): 'temp' has units 'm', wanted 'K'",
        "target 'lai' (greenness): 1 times are there more than once (2001-01-01",
    ):
        assert any(part in text for text in found), part


@pytest.mark.proves("bad-cube")
def test_problems_of_one_kind_raise_the_error_of_that_kind(raw):
    ds = raw("dem", "temp")
    ds.dem.attrs["units"], ds.temp.attrs["units"] = "K", "m"
    with pytest.raises(UnitsError):
        conform(ds)


@pytest.mark.proves("bad-cube")
def test_an_irregular_grid_is_a_grid_error(raw):
    with pytest.raises(GridError, match="'lat' must be evenly spaced"):
        conform(raw("dem", lat=("lat", [47.0, 46.5, 46.0, 45.0])))


@pytest.mark.proves("bad-cube")
def test_a_projected_grid_says_once_to_reproject(raw):
    x = {"standard_name": "projection_x_coordinate", "units": "m"}
    y = {"standard_name": "projection_y_coordinate", "units": "m"}
    ds = raw("dem").drop_vars(["lat", "lon"]).rename(lat="y", lon="x")
    ds = ds.assign_coords(x=("x", np.arange(6.0), x), y=("y", np.arange(4.0), y))
    with pytest.raises(GridError, match="reproject to latitude and longitude first") as caught:
        conform(ds)
    assert len(caught.value.problems) == 2


@pytest.mark.proves("bad-cube")
def test_dimensions_that_say_nothing_are_told(raw):
    ds = raw("dem").drop_vars(["lat", "lon"]).rename(lat="y", lon="x")
    with pytest.raises(CubeError, match="has no latitude and no longitude; found dims y, x; give"):
        conform(ds)


@pytest.mark.proves("bad-cube")
def test_variables_of_one_role_must_share_a_grid(raw):
    ds = raw("dem", "temp")
    ds["height"] = ds.temp.isel(ftime=0, drop=True).assign_attrs(
        standard_name="canopy_height", units="m"
    )
    message = r"'canopy_height' \(2 x 3 from 47 N, 10 E\) is not on the target_grid of 'elevation'"
    with pytest.raises(GridError, match=message):
        conform(ds)


def test_a_grid_in_float32_is_the_same_grid(raw):
    ds = raw("dem", "greenness")
    odd = {"lat": 46.75 - np.arange(4) / 120, "lon": 10 + np.arange(6) / 120}
    fine = {
        n: (n, v, {"units": f"degrees_{'north' if n == 'lat' else 'east'}"}) for n, v in odd.items()
    }
    single = {n: (n, v.astype("float32"), a) for n, (_, v, a) in fine.items()}
    other = ds[["greenness"]].assign_coords(single).rename(lat="lat32", lon="lon32")
    cube = conform(ds[["dem"]].assign_coords(fine).merge(other))
    assert cube.sizes["latitude"] == 4
    np.testing.assert_array_equal(cube.latitude, odd["lat"])


def test_forcing_on_the_target_grid_gets_coordinates_of_its_own(raw):
    ds = raw("dem")
    ds["temp"] = ds.dem.expand_dims(ftime=np.array(["2001-01-01", "2001-02-01"], "M8[ns]"))
    ds.temp.attrs = {"standard_name": "air_temperature", "units": "K"}
    cube = conform(ds)
    assert cube.t2m.dims == ("forcing_time", "forcing_latitude", "forcing_longitude")
    np.testing.assert_array_equal(cube.forcing_latitude, cube.latitude)


def test_a_coordinate_says_which_grid_it_is_of(raw):
    cube = conform(raw("dem"))
    cube["temp"] = cube.elevation.expand_dims(ftime=np.array(["2001-01-01"], "M8[ns]"))
    cube.temp.attrs = {"standard_name": "air_temperature", "units": "K"}
    again = conform(cube)
    assert again.latitude.long_name == "latitude of the target grid"
    assert again.forcing_latitude.long_name == "latitude of the forcing grid"


def test_the_same_times_serve_leaves_and_forcing(raw):
    ds = raw("greenness")
    ds["temp"] = ds.greenness.assign_attrs(standard_name="air_temperature", units="K")
    cube = conform(ds)
    np.testing.assert_array_equal(cube.time, cube.forcing_time)


def test_forcing_of_different_periods_is_missing_where_there_is_none(raw):
    ds = raw("temp")
    short = ds.temp.isel(ftime=slice(6, 18)).rename(ftime="stime")
    short.attrs = {"standard_name": "dew_point_temperature", "units": "K"}
    cube = conform(ds.assign(dew=short))
    assert cube.sizes["forcing_time"] == 24
    np.testing.assert_array_equal(
        cube.d2m.isnull().all(["forcing_latitude", "forcing_longitude"]),
        [True] * 6 + [False] * 12 + [True] * 6,
    )


@pytest.mark.proves("bad-cube")
def test_forcing_of_different_steps_is_told(raw):
    ds = raw("temp")
    days = np.arange("2000-01-01", "2000-01-25", dtype="M8[D]").astype("M8[ns]")
    daily = ds.temp.rename(ftime="day").assign_coords(day=days)
    daily.attrs = {"standard_name": "dew_point_temperature", "units": "K"}
    with pytest.raises(CubeError, match="found days between steps: 't2m' 31, 'd2m' 1; resample"):
        conform(ds.assign(dew=daily))


@pytest.mark.proves("bad-cube")
def test_mean_years_and_time_series_do_not_mix(raw):
    ds = raw("temp")
    mean = ds.temp.isel(ftime=slice(12)).rename(ftime="month").assign_coords(month=range(1, 13))
    mean.attrs = {"standard_name": "dew_point_temperature", "units": "K"}
    with pytest.raises(CubeError, match=r"mean years \(d2m\) and time series \(t2m\)"):
        conform(ds.assign(dew=mean))


def test_twelve_months_are_a_mean_year(raw):
    ds = raw("greenness").isel(time=[0] * 12).drop_vars("time")
    ds = ds.rename(time="month").assign_coords(month=np.arange(12, 0, -1))
    ds.month.attrs["units"] = "-"  # which would stand in the way of a time's own
    cube = conform(ds)
    assert is_climatology(cube.lai)
    assert str(cube.time.values[11])[:10] == "2000-12-01"
    xr.testing.assert_identical(conform(cube), cube)


def test_stamps_inside_a_month_become_its_first_day(raw):
    middle = np.array(["2001-01-16T12", "2001-02-15", "2001-03-16T12"], "M8[ns]")
    cube = conform(raw("greenness", time=middle))
    assert [str(t)[:10] for t in cube.time.values] == ["2001-01-01", "2001-02-01", "2001-03-01"]


def test_one_map_with_a_scalar_time_is_a_series_of_one(raw):
    cube = conform(raw("greenness").isel(time=1))
    assert cube.lai.shape == (1, 4, 6)
    assert str(cube.time.values[0])[:10] == "2001-02-01"


@pytest.mark.proves("bad-cube")
def test_leaves_without_a_time_are_told_how_to_get_one(raw):
    with pytest.raises(CubeError, match="'lai' .greenness. has no time; .*expand_dims"):
        conform(raw("greenness").isel(time=1, drop=True))


@pytest.mark.proves("bad-cube")
def test_a_static_that_varies_in_time_is_told(raw):
    ds = raw("greenness")
    ds.greenness.attrs = {"standard_name": "canopy_height", "units": "m"}
    with pytest.raises(CubeError, match="'canopy_height' .greenness. varies in time"):
        conform(ds)


def test_a_static_with_a_time_of_one_loses_it(raw):
    ds = raw("dem").expand_dims(time=np.array(["1979-01-01"], "M8[ns]"))
    assert conform(ds).elevation.dims == ("latitude", "longitude")


def test_the_layout_of_the_new_climate_data_store_is_understood():
    ds = xr.Dataset(
        {
            "t2m": (
                ("valid_time", "latitude", "longitude"),
                np.arange(24.0).reshape(2, 3, 4),
                {"GRIB_paramId": 167, "standard_name": "unknown", "units": "K", "GRIB_units": "K"},
            )
        },
        {
            "valid_time": np.array(["2005-01-01T06", "2005-02-01T06"], "M8[ns]"),
            "expver": ("valid_time", ["0001", "0005"]),
            "number": 0,
            "latitude": ("latitude", [9.0, 8.0, 7.0], {"stored_direction": "decreasing"}),
            "longitude": [102.0, 103.0, 104.0, 105.0],
        },
    )
    cube = conform(ds.expand_dims("number"))
    assert set(cube.coords) == {"forcing_time", "forcing_latitude", "forcing_longitude"}
    assert str(cube.forcing_time.values[1]) == "2005-02-01T00:00:00.000000000"
    assert not any(k.startswith("GRIB") for k in cube.t2m.attrs)
    assert "stored_direction" not in cube.forcing_latitude.attrs


def test_preliminary_months_complete_the_final_ones(raw):
    ds = raw("temp")
    final = ds.temp.where(ds.ftime < np.datetime64("2001-06-01"))
    prelim = ds.temp.where(ds.ftime >= np.datetime64("2001-06-01"))
    both = xr.concat([final, prelim], dim=xr.DataArray([1, 5], dims="expver", name="expver"))
    np.testing.assert_array_equal(conform(both.to_dataset(name="temp")).t2m, ds.temp)


@pytest.mark.proves("bad-cube")
def test_members_of_an_ensemble_are_told_to_be_selected(raw):
    ds = raw("temp").expand_dims(number=[0, 1])
    with pytest.raises(CubeError, match="has 2 values of 'number'.*select or average"):
        conform(ds)


@pytest.mark.parametrize(
    "axis",
    [
        {"units": "years since 850-01-01", "calendar": "noleap"},
        {"units": "years since 850-01-01 0:0:0"},
    ],
)
def test_the_states_of_luh2_become_a_simplex_with_ice_and_water(axis):
    cube = conform(luh2(**axis))
    assert cube.lu_total.dims == ("year", "lu_class", "driver_latitude", "driver_longitude")
    assert cube.year.values.tolist() == [2000, 2001]
    land = cube.lu_total.isel(driver_latitude=2, driver_longitude=3, year=0)
    found = {
        str(c): round(float(v), 5) for c, v in zip(land.lu_class.values, land.values, strict=True)
    }
    assert {c: v for c, v in found.items() if v} == {
        "primf": 0.5,
        "c3ann": 0.1,
        "urban": 0.15,
        "icwtr": 0.25,
    }


def test_sea_has_no_land_use_and_no_ice_and_water_made_up():
    assert np.isnan(conform(luh2()).lu_total[:, :, 0, 0]).all()


def test_ice_and_water_that_is_given_is_kept():
    ds = luh2()
    ds["icwtr"] = ds.primf.isel(time=0, drop=True) * 0 + 0.2
    total = conform(ds).lu_total.sel(lu_class="icwtr")
    np.testing.assert_allclose(total[:, 2, 3], [0.2, 0.2])


@pytest.mark.proves("bad-cube")
def test_a_state_that_is_not_there_is_told():
    with pytest.raises(LegendError, match="'lu_total' lacks the land-use states pastr, c3nfx"):
        conform(luh2().drop_vars(["pastr", "c3nfx"]))


def test_days_of_a_calendar_without_leap_days_become_years():
    ds = luh2(units="days since 850-01-01", calendar="noleap")
    ds["time"] = ("time", [365.0 * 1150, 365.0 * 1151], ds.time.attrs)
    assert conform(ds).year.values.tolist() == [2000, 2001]


def test_classes_in_another_order_are_put_in_order(raw):
    ds = raw("dem")
    shuffled = list(reversed(LC.ids))
    values = np.zeros((14, 2, 4, 6), "float32")
    values[shuffled.index("built")] = 1
    ds["cover"] = (("kind", "year", "lat", "lon"), values)
    cube = conform(ds.assign_coords(kind=np.array(shuffled, dtype=object), year=[2000, 2001]))
    assert cube.lc_class.values.tolist() == list(LC.ids)
    assert float(cube.lc_fraction.sel(lc_class="built").min()) == 1
    assert float(cube.lc_fraction.sum("lc_class").max()) == 1


@pytest.mark.proves("bad-cube")
def test_several_maps_a_year_are_told(raw):
    ds = land_cover([[[10, 20, 30], [40, 50, 60]]], standard_name="land_cover_lccs")
    ds = ds.isel(time=[0, 0]).assign_coords(time=np.array(["2001-01-01", "2001-07-01"], "M8[ns]"))
    with pytest.raises(CubeError, match="one map a year; found several in 2001"):
        conform(ds)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "float32"])
def test_a_map_of_cci_classes_becomes_fractions(dtype):
    codes = np.array([[[10, 210, 220], [61, 190, 12]]])
    flags = np.array([10, -46, -36, 61, -66, 12], "int8")
    ds = land_cover(
        codes.astype("uint8").view("int8") if dtype == "int8" else codes.astype(dtype),
        standard_name="land_cover_lccs",
        flag_values=flags,
        flag_meanings="cropland_rainfed water snow_and_ice tree_broadleaved_deciduous_closed urban "
        "cropland_rainfed_tree_or_shrub_cover",
        **({"_Unsigned": "true"} if dtype == "int8" else {}),
    )
    cube = conform(ds)
    table = crosswalk("cci_lccs-cci_pft")
    expected = table.sel(source_class="urban").values.astype("float32")
    pixel = cube.lc_fraction.sel(latitude=46, longitude=9, year=2001)
    np.testing.assert_array_equal(pixel, cube.lc_fraction[0, :, 0, 1])
    np.testing.assert_array_equal(pixel, expected)
    assert "flag_values" not in cube.lc_fraction.attrs
    xr.testing.assert_identical(conform(cube), cube)


def test_the_fill_value_of_a_map_that_was_not_decoded_is_missing():
    ds = land_cover([[[10, 255, 220], [61, 190, 12]]], legend="cci_lccs", _FillValue=255)
    fractions = conform(ds).lc_fraction
    assert np.isnan(fractions.sel(latitude=45, longitude=9)).all()
    assert int(fractions.isnull().sum()) == 14


def test_a_map_of_types_is_one_hot():
    ds = land_cover([[[1, 2, 3], [13, 14, np.nan]]], legend="cci_pft")
    cover = conform(ds).lc_fraction.sel(year=2001)
    assert float(cover.sel(lc_class="water", latitude=46, longitude=8)) == 1
    assert float(cover.sum(skipna=True)) == 5


@pytest.mark.proves("bad-cube")
def test_unknown_classes_are_told_with_their_counts_when_they_are_computed():
    ds = land_cover([[[10, 7, 7], [61, 190, 99]]], standard_name="land_cover_lccs")
    lazy = conform(ds.chunk())
    with pytest.raises(LegendError, match="code 7 in 2 pixels; .2. code 99 in 1 pixels"):
        lazy.compute(scheduler="synchronous")


@pytest.mark.proves("bad-cube")
def test_packed_numbers_are_told_to_be_decoded(raw):
    ds = raw("dem")
    ds.dem.attrs |= {"scale_factor": 0.1, "_FillValue": -999}
    with pytest.raises(CubeError, match="still packed .attributes scale_factor, _FillValue."):
        conform(ds)


@pytest.mark.proves("bad-cube")
def test_what_is_no_number_is_told(raw):
    ds = raw("dem")
    ds["dem"] = ds.dem.astype(str).assign_attrs(ds.dem.attrs)
    with pytest.raises(CubeError, match="must be numbers; 'dem' is <U"):
        conform(ds)


def test_one_number_of_co2_holds_for_all_years(raw):
    ds = raw("greenness")
    ds["air"] = ((), 400.0, {**raw("air").air.attrs, "units": "ppm"})
    cube = conform(ds)
    assert cube.year.values.tolist() == [2001]
    np.testing.assert_allclose(cube.co2, [4e-4])


@pytest.mark.proves("bad-cube")
def test_one_number_of_co2_alone_is_told_to_need_a_year(raw):
    ds = raw("air").isel(year=0, drop=True)
    with pytest.raises(CubeError, match="nothing says for which years"):
        conform(ds)


def test_months_of_co2_become_their_mean_year():
    months = np.arange("2000-01", "2002-01", dtype="M8[M]").astype("M8[ns]")
    values = np.concatenate([np.full(12, 370.0), np.arange(12.0) + 366])
    attrs = {"standard_name": "mole_fraction_of_carbon_dioxide_in_air", "units": "ppm"}
    cube = conform(xr.Dataset({"c": ("time", values, attrs)}, {"time": months}))
    assert cube.year.values.tolist() == [2000, 2001]
    np.testing.assert_allclose(cube.co2, [370e-6, 371.5e-6], rtol=1e-6)


def test_a_long_record_of_co2_does_not_stretch_the_years_of_the_maps(raw):
    ds = land_cover([[[10, 10, 10], [10, 10, 10]]], standard_name="land_cover_lccs")
    attrs = raw("air").air.attrs
    ds["air"] = xr.DataArray(np.arange(251.0), {"year": range(1850, 2101)}, "year", attrs=attrs)
    cube = conform(ds)
    assert cube.year.values.tolist() == [2001]
    assert cube.co2.values.tolist() == [151]


def test_the_attributes_of_the_dataset_are_kept_and_say_the_conventions(raw):
    ds = raw("dem").assign_attrs(title="A cube", GRIB_centre="ecmf", Conventions="CF-1.6")
    assert conform(ds).attrs == {"title": "A cube", "Conventions": "CF-1.12"}


def test_attributes_that_told_of_the_file_are_gone(raw):
    ds = raw("dem")
    ds.dem.attrs |= {"grid_mapping": "crs", "valid_max": 9, "comment": "kept", "units": "km"}
    attrs = conform(ds).elevation.attrs
    assert attrs["comment"] == "kept"
    assert not {"grid_mapping", "valid_max"} & set(attrs)


def test_the_encoding_of_the_file_is_gone(raw):
    ds = raw("dem")
    ds.dem.encoding = {"dtype": "int16", "scale_factor": 100.0}
    assert conform(ds).elevation.encoding == {}


def test_what_has_no_role_is_left_out(raw):
    ds = raw("dem").assign_coords(spatial_ref=0)
    ds["qa"] = xr.zeros_like(ds.dem).drop_attrs()
    cube = conform(ds)
    assert set(cube.variables) == {"elevation", "latitude", "longitude"}


@pytest.mark.proves("bad-cube")
def test_a_dataset_without_any_role_is_told_what_to_do():
    with pytest.raises(CubeError, match="no variable has a role; found a; set their standard_name"):
        conform(xr.Dataset({"a": ("x", [1.0])}))


@pytest.mark.proves("bad-cube")
def test_a_data_array_is_told_to_become_a_dataset(raw):
    with pytest.raises(CubeError, match="must be an xarray.Dataset; found DataArray"):
        conform(raw("dem").dem)


def test_real_era5_of_the_new_store_is_forcing(real_data):
    file = real_data / "era5_vietnam_monthly" / "data_stream-moda_stepType-avgua.nc"
    with xr.open_dataset(file) as ds:
        t2m = conform(ds).t2m
    assert t2m.shape == (240, 63, 35)
    assert 285 < float(t2m.mean()) < 305


def test_real_precipitation_in_metres_is_told_to_be_an_amount(real_data):
    file = real_data / "era5_vietnam_monthly" / "data_stream-moda_stepType-avgad.nc"
    with xr.open_dataset(file) as ds:
        with pytest.raises(UnitsError, match="an amount is not a rate"):
            conform(ds)
        ds["tp"].attrs["units"] = "m day-1"
        rain = conform(ds).tp
    # 1 to 3 m a year fall on Vietnam.
    assert 1000 < float(rain.mean()) * 86400 * 365 < 3000


def test_real_daily_era5_south_up_is_put_north_up(real_data):
    file = real_data / "rhine_era5_daily" / "OBS6_ERA5_reanaly_1_day_tas_2000-2000.nc"
    with xr.open_dataset(file) as ds:
        cube = conform(ds)
        expected = ds.tas.sel(lat=48.0, lon=8.0).values
    assert str(cube.forcing_time.values[0]) == "2000-01-01T00:00:00.000000000"
    np.testing.assert_array_equal(
        cube.t2m.sel(forcing_latitude=48.0, forcing_longitude=8.0), expected
    )


@pytest.mark.proves("bad-cube")
@pytest.mark.parametrize("said", ["modis_igbp", None])
def test_fractions_in_a_legend_that_nobody_knows_are_refused_and_not_left_out(said):
    cube = synthetic_cube(region=(8.0, 45.5, 8.25, 45.75), years=(2000, 2001))
    ids = np.array([f"igbp{i}" for i in range(cube.sizes["lc_class"])], dtype=object)
    cube = cube.assign_coords(lc_class=ids)
    cube["lc_class"].attrs = {} if said is None else {"legend": said}
    with pytest.raises(LegendError, match="'lc_class' must hold the class ids of a legend"):
        conform(cube)


def test_fractions_of_something_else_are_left_out():
    cube = synthetic_cube(region=(8.0, 45.5, 8.25, 45.75), years=(2000, 2001))
    soil = cube["lc_fraction"].isel(lc_class=[0, 1], year=0, drop=True)
    soil = soil.drop_vars("lc_class").rename(lc_class="soil_type")
    soil = soil.assign_coords(soil_type=np.array(["luvisol", "podzol"], dtype=object))
    xr.testing.assert_identical(conform(cube.assign(soil=soil)), cube)
