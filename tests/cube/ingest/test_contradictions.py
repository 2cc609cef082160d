"""Files that contradict themselves: stated units, times and signs against their content."""

import netCDF4
import numpy as np
import pytest
import xarray as xr

from tests.providers import c3s_lai, cci, cgls, co2, ecland, hilda, lakes, luh, modis
from xlsbc.cube.ingest import c3s_lai as c3s
from xlsbc.cube.ingest import cci as land_cover
from xlsbc.cube.ingest import cgls as global_land
from xlsbc.cube.ingest import ecland as climate_fields
from xlsbc.cube.ingest import era5 as climate
from xlsbc.cube.ingest import hilda as land_use
from xlsbc.cube.ingest import lakes as water
from xlsbc.cube.ingest import luh as states
from xlsbc.cube.ingest import modis as tiles
from xlsbc.cube.ingest import raster
from xlsbc.cube.ingest.co2 import mole_fraction
from xlsbc.cube.ingest.opening import open_source
from xlsbc.errors import SourceError, SourceWarning


def change(path, edit):
    """A file whose dataset, opened as it is, was edited."""
    with netCDF4.Dataset(path, "a") as nc:
        nc.set_auto_maskandscale(False)
        edit(nc)
    return path


def monthly(path, times, name="t2m", units="K", value=280.0, **coordinates):
    """One pixel at 47 N, 10 E; `times` are (dims, values, attrs)."""
    dims = (times[0], "latitude", "longitude")
    ds = xr.Dataset(
        {name: (dims, np.full((len(times[1]), 1, 1), value, "f4"), {"units": units})},
        {
            times[0]: times,
            "latitude": ("latitude", [47.0], {"units": "degrees_north"}),
            "longitude": ("longitude", [10.0], {"units": "degrees_east"}),
        },
    )
    ds.assign(coordinates).to_netcdf(path)
    return path


def test_a_monthly_mean_stamped_at_its_end_is_of_the_month_before_by_its_bounds(tmp_path):
    # Days since 2001-01-01 of 1 February, 1 March and 1 April.
    attrs = {"units": "days since 2001-01-01", "bounds": "time_bnds"}
    bounds = (("time", "bnds"), [[0, 31], [31, 59], [59, 90]])
    path = monthly(tmp_path / "a.nc", ("time", [31, 59, 90], attrs), time_bnds=bounds)
    ds = climate.monthly(open_source(path))
    assert ds.forcing_time.dt.month.values.tolist() == [1, 2, 3]


def test_times_that_cdo_calls_absolute_are_dates(tmp_path):
    attrs = {"units": "day as %Y%m%d.%f"}
    path = monthly(tmp_path / "a.nc", ("time", [20010101.0, 20010201.0, 20010301.25], attrs))
    ds = climate.monthly(open_source(path))
    assert ds.forcing_time.dt.month.values.tolist() == [1, 2, 3]


def test_a_file_without_times_is_refused(tmp_path):
    path = tmp_path / "a.nc"
    with netCDF4.Dataset(path, "w") as nc:
        for name, size in (("time", None), ("latitude", 2), ("longitude", 2)):
            nc.createDimension(name, size)
            nc.createVariable(name, "f8", (name,))[:] = np.arange(size or 0)
        nc["time"].units = "hours since 1900-01-01"
        nc.createVariable("t2m", "f4", ("time", "latitude", "longitude")).units = "K"
    with pytest.raises(SourceError, match="a.nc: expected values along 'time'; found none"):
        climate.monthly(open_source(path))


def test_sun_in_watts_that_is_said_to_be_in_joules_is_refused(tmp_path):
    times = ("time", [0, 31, 59], {"units": "days since 2001-01-01"})
    path = monthly(tmp_path / "a.nc", times, "ssrd", "J m**-2", 150.0)
    ds = climate.monthly(open_source(path))
    with pytest.raises(SourceError, match=r"a.nc, variable 'ssrd'.*perhaps W m-2"):
        ds.compute()


def test_a_pixel_of_era5_land_whose_hours_grow_all_day_is_refused(tmp_path):
    hours = np.arange(744)
    sun = np.clip(np.sin((hours % 24 - 6) / 12 * np.pi), 0, None) * 1e6
    grown = np.array([sun[1 : h + 1].reshape(-1)[(h - 1) // 24 * 24 :].sum() for h in hours])
    times = ("time", hours, {"units": "hours since 2001-01-01"})
    for name, values, fine in (("own.nc", sun, True), ("land.nc", grown, False)):
        path = monthly(tmp_path / name, times, "ssrd", "J m**-2")
        change(path, lambda nc, v=values: nc["ssrd"].__setitem__(slice(None), v[:, None, None]))
        ds = climate.hourly(open_source(path))
        if fine:
            np.testing.assert_allclose(ds.ssrd.values, sun.mean() / 3600, rtol=1e-5)
            continue
        with pytest.raises(SourceError, match=r"land.nc, variable 'ssrd'.*grow from 00 UTC"):
            ds.compute()


def test_a_map_whose_time_is_not_the_year_of_its_name_is_taken_with_a_warning(tmp_path):
    (path,) = cci.write(tmp_path, years=(2015,))
    change(path, lambda nc: nc["time"].__setitem__(slice(None), nc["time"][:] + 366))
    with pytest.warns(SourceWarning, match="lccs_class.*time of 2016.*not 2015"):
        ds = land_cover.land_cover(open_source(path))
    assert "not 2015 of its name" in ds.lc_fraction.comment

    path = cci.write_types(tmp_path, {"BARE": 100})
    change(path, lambda nc: nc["time"].__setitem__(slice(None), nc["time"][:] + 366))
    with pytest.warns(SourceWarning, match="not 2010 of its name"):
        land_cover.plant_functional_types(open_source(path))


def test_a_map_of_one_row_has_its_pixels(tmp_path):
    (path,) = hilda.write(tmp_path, np.full((1, 7), 44))
    ds = land_use.land_use(open_source(path))
    assert ds.sizes["longitude"] >= 8
    assert float(ds.latitude[0]) == pytest.approx(47 - 1 / 240)


def test_states_in_other_units_than_shares_are_refused(tmp_path):
    path = luh.write(tmp_path)
    change(path, lambda nc: nc["c3ann"].setncattr("units", "%"))
    with pytest.raises(SourceError, match="states.nc, variable 'c3ann'.*found '%'"):
        states.states(open_source(path))


@pytest.mark.parametrize(
    ("provider", "read", "kind"),
    [(cgls, global_land.leaf_area, "i1"), (c3s_lai, c3s.leaf_area, "i2")],
)
def test_numbers_whose_sign_bit_is_part_of_them_are_refused(tmp_path, provider, read, kind):
    (path,) = provider.write(tmp_path)
    ds = open_source(path)
    attrs = {k: v for k, v in ds["LAI"].attrs.items() if k not in ("_FillValue", "valid_range")}
    wrong = ds.assign(LAI=ds["LAI"].astype(kind).assign_attrs(attrs))
    wrong["LAI"].attrs = attrs | {"_FillValue": np.array(-1, kind)}
    wrong.encoding = ds.encoding
    with pytest.raises(SourceError, match=r"variable 'LAI': expected .* without a sign"):
        read(wrong)


def test_a_granule_whose_name_has_another_date_than_its_metadata_says_so(tmp_path):
    (path,) = modis.write(tmp_path, begins="2012-07-25")
    with pytest.warns(SourceWarning, match="its name says 2012-06-25, its metadata 2012-07-25"):
        ds = tiles.leaf_area(open_source(path))
    assert "its name says 2012-06-25" in ds.lai.comment


@pytest.mark.parametrize(("calendar", "length"), [("noleap", 365), ("360_day", 360)])
def test_years_since_0_are_counted_in_the_calendar_of_the_file(tmp_path, calendar, length):
    path = co2.write_cmip6(tmp_path, (1850, 1851, 1852))
    days = np.array([1850, 1851, 1852]) * length + length // 2

    def edit(nc):
        nc["time"].calendar = calendar
        nc["time"][:] = days

    ds = mole_fraction(open_source(change(path, edit)))
    assert ds.year.values.tolist() == [1850, 1851, 1852]


def test_a_table_that_breaks_off_within_a_number_is_refused(tmp_path):
    path = tmp_path / "co2-annmean-gl.csv"
    path.write_text("Year,Mean,Uncertainty\n2023,419.35,0.10\n2024,42")
    with pytest.raises(SourceError, match=r"co2-annmean-gl.csv: expected 3 cells.*cut off at '42'"):
        mole_fraction(open_source(path))


def test_a_byte_order_mark_before_a_table_is_no_part_of_it(tmp_path):
    path = tmp_path / "co2-annmean-gl.csv"
    path.write_bytes(b"\xef\xbb\xbfYear,Mean,Uncertainty\r\n2023,419.35,0.10\r\n")
    assert mole_fraction(open_source(path)).year.values.tolist() == [2023]


def test_lake_cover_in_per_cent_is_a_share(tmp_path):
    path = lakes.write_era5(tmp_path / "era5.nc")

    def edit(nc):
        nc["cl"].units = "%"
        nc["cl"].scale_factor, nc["cl"].add_offset = lakes.SCALE * 100, 50.0

    ds = water.fraction(open_source(change(path, edit)))
    # 25 per cent in the first cell, centred on 47 N, 10 E.
    assert float(ds.lake_fraction[0, 0]) == pytest.approx(0.25, abs=1e-4)


@pytest.mark.parametrize("which", ["lakes", "ecland"])
def test_shares_that_are_said_to_be_per_cents_are_refused(tmp_path, which):
    if which == "lakes":
        path, name, read = lakes.write_era5(tmp_path / "a.nc"), "cl", water.fraction
    else:
        (path,) = ecland.write(tmp_path, geopotential_units="m2 s-2")
        name, read = "cvl", climate_fields.climate_fields
    ds = read(open_source(change(path, lambda nc: nc[name].setncattr("units", "%"))))
    with pytest.raises(SourceError, match=f"{path.name}, variable '{name}'.*expected per cents"):
        ds.compute()


def test_a_map_on_y_and_x_without_a_projection_is_refused_by_name(tmp_path):
    ds = open_source(lakes.write_era5(tmp_path / "a.nc"))
    turned = ds.rename(latitude="y", longitude="x")
    turned.encoding = ds.encoding
    with pytest.raises(SourceError, match="a.nc: expected a coordinate reference system"):
        water.fraction(turned)


def test_a_raster_that_covers_no_centre_of_a_pixel_is_refused():
    centres = {"latitude": 47.0 - np.arange(3) / 3600, "longitude": 10.0 + np.arange(2) / 3600}
    small = xr.DataArray(np.zeros((3, 2), "f4"), centres, ("latitude", "longitude"))
    with pytest.raises(SourceError, match="covers the centre of a pixel.*3 latitude x 2 longitude"):
        raster.on_lattice(small)
