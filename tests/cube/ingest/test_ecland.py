import dask
import eccodes
import netCDF4
import numpy as np
import pytest
import xarray as xr

from tests.providers import ecland as provider
from tests.providers import era5 as climate
from xlsbc.cube import schema
from xlsbc.cube.field import is_climatology
from xlsbc.cube.ingest import ecland
from xlsbc.cube.ingest.opening import open_source
from xlsbc.errors import SourceError, SourceWarning

G = 9.80665


def forbid(*args, **kwargs):
    raise AssertionError("something was computed")


def surfclim(path, **options):
    with pytest.warns(SourceWarning, match="said to be in 'm2/m'"):
        return ecland.climate_fields(open_source(path), **options)


def grib_values(path):
    with path.open("rb") as stream:
        message = eccodes.codes_grib_new_from_file(stream)
        values = eccodes.codes_get_values(message).reshape(721, 1440)
        eccodes.codes_release(message)
    return values


@pytest.mark.parametrize("file", ["sel_era5_invariant.nc", "sel_era5_land_invariant.nc"])
def test_the_invariants_of_era5_are_the_stored_integers_in_metres(real_data, file):
    path = real_data / "oetztal_era5_monthly" / file
    with netCDF4.Dataset(path) as nc:
        z, lsm = nc["z"][0], nc["lsm"][0]

    ds = ecland.climate_fields(open_source(path))

    np.testing.assert_allclose(ds.elevation, z / G, rtol=1e-5)
    np.testing.assert_allclose(ds.land_fraction, np.clip(lsm, 0, 1), atol=1e-6)
    assert ds.elevation.dims == ("latitude", "longitude")


def test_global_geopotential_is_turned_to_180_west(real_data):
    path = real_data / "era5_grib/era5_geopotential_global.grib"

    elevation = ecland.climate_fields(open_source(path)).elevation

    expected = np.roll(grib_values(path), 720, axis=1) / G
    np.testing.assert_allclose(elevation, expected, atol=0.01)
    assert elevation.longitude.values[[0, -1]].tolist() == [-180.0, 179.75]
    # The Tibetan plateau.
    assert 4000 < float(elevation.sel(latitude=33, longitude=88)) < 6000


def test_the_global_land_sea_mask_is_a_share_of_land(real_data):
    path = real_data / "era5_grib/era5_lsm_global.grib"

    land = ecland.climate_fields(open_source(path)).land_fraction

    np.testing.assert_allclose(land, np.roll(grib_values(path), 720, axis=1), atol=1e-6)
    assert float(land.sel(latitude=0, longitude=-30)) == 0.0


def test_the_site_file_of_ecland_is_read(real_data):
    ds = surfclim(real_data / "ecland_site/surfclim_CA-001_2022-2022.nc").compute()

    # geopot is -27.0861: Cabauw lies 2.76 m below the sea.
    assert ds.elevation.item() == pytest.approx(-27.0861 / G, abs=1e-5)
    assert ds.low_vegetation_fraction.item() == 1.0
    assert ds.high_vegetation_fraction.item() == 0.0
    assert ds.built_fraction.item() == pytest.approx(0.0382614)
    assert ds.lai_lv.values[[0, 6, 11], 0, 0].tolist() == pytest.approx([1.83594, 2.60156, 1.98438])
    assert ds.lai_hv.values[[0, 11], 0, 0].tolist() == pytest.approx([2.32031, 2.34375])
    assert ds.latitude.values.tolist() == [51.971]
    assert "tvl, tvh, sotype" in ds.attrs["comment"]


def test_surfclim_that_create_sites_swapped_can_be_put_right(real_data):
    path = real_data / "ecland_site/surfclim_CA-001_2022-2022.nc"

    plain, swapped = surfclim(path), surfclim(path, swapped=True)

    np.testing.assert_array_equal(swapped.lai_lv, plain.lai_hv)
    np.testing.assert_array_equal(swapped.lai_hv, plain.lai_lv)
    assert "taken for each other" in swapped.attrs["comment"]


def test_a_site_without_degrees_is_told_so(real_data):
    path = real_data / "ecland_site/met_era5HT_CA-001_2022-2022.nc"

    with pytest.raises(SourceError, match="expected values of latitude and longitude"):
        ecland.climate_fields(open_source(path))


def test_geopotential_without_degrees_is_refused(tmp_path):
    (path,) = provider.write(tmp_path, bare=True)

    with pytest.raises(SourceError, match="expected values of latitude and longitude; found dim"):
        ecland.climate_fields(open_source(path))


def test_latitudes_that_ascend_are_turned_with_their_values(tmp_path):
    (path,) = provider.write(tmp_path)

    ds = surfclim(path)

    # The file has 51.75 N first, where geopot is 980.665 j.
    assert ds.latitude.values.tolist() == [52.0, 51.75]
    expected = [[1000.0, 1100.0, np.nan], [0.0, 100.0, 200.0]]
    np.testing.assert_allclose(ds.elevation, expected, rtol=1e-6)
    np.testing.assert_allclose(ds.lake_fraction, [[0, 0.05, np.nan], [0, 0.05, 0.1]], atol=1e-6)
    np.testing.assert_allclose(ds.lai_lv[:, 1, 2], np.arange(1, 13) / 4)
    np.testing.assert_allclose(ds.lai_hv[:, 1, 2], np.arange(1, 13) / 2)


def test_months_of_no_year_are_a_mean_year(tmp_path):
    ds = surfclim(provider.write(tmp_path)[0])

    assert is_climatology(ds.lai_lv)
    assert ds.forcing_time.dt.month.values.tolist() == list(range(1, 13))


def test_codes_of_vegetation_do_not_become_numbers(tmp_path):
    ds = surfclim(provider.write(tmp_path)[0])

    assert not {"tvl", "tvh", "sotype"} & set(ds.variables)


def test_fields_conform_again_to_themselves(tmp_path):
    ds = surfclim(provider.write(tmp_path)[0])

    xr.testing.assert_identical(schema.conform(ds).compute(), ds.compute())


def test_geopotential_of_the_right_units_gives_no_warning(tmp_path):
    (path,) = provider.write(tmp_path, geopotential_units="m**2 s**-2")

    assert float(ecland.climate_fields(open_source(path)).elevation[0, 1]) == pytest.approx(1100)


@pytest.mark.parametrize("units", ["m", "gpm", "K"])
def test_a_height_is_no_geopotential(tmp_path, units):
    (path,) = provider.write(tmp_path, geopotential_units=units)

    with pytest.raises(SourceError, match="'geopot': expected a geopotential in m2 s-2; found"):
        ecland.climate_fields(open_source(path))


def test_geopotential_of_levels_of_pressure_is_no_elevation(real_data):
    with pytest.raises(SourceError, match="'z': expected a field of the surface"):
        ecland.climate_fields(open_source(real_data / "davos_era5_hourly/PLEV_202001.nc"))


def test_geopotential_of_one_level_of_pressure_is_no_elevation(tmp_path, monkeypatch):
    monkeypatch.setitem(climate.GRIB, "t2m", 129)
    (path,) = climate.write(tmp_path, "grib", names=("t2m",), level=500, monthly=False, count=1)

    with pytest.raises(SourceError, match="found level type 'isobaricInhPa'"):
        ecland.climate_fields(open_source(path))


def test_a_fixed_field_among_hours_is_taken_once(real_data):
    path = real_data / "davos_era5_hourly/SURF_202001.nc"
    with netCDF4.Dataset(path) as nc:
        z = nc["z"][0]

    ds = ecland.climate_fields(open_source(path))

    np.testing.assert_allclose(ds.elevation, z / G, rtol=1e-5)
    assert "the first of 744 times" in ds.attrs["comment"]


def test_shares_in_percent_are_refused_when_computed(tmp_path):
    (path,) = provider.write(tmp_path, geopotential_units="m2 s-2")
    with netCDF4.Dataset(path, "a") as nc:
        nc["cvl"][:] = 60.0

    ds = ecland.climate_fields(open_source(path))

    with pytest.raises(SourceError, match="'low_vegetation_fraction': expected 0 to 1"):
        ds.compute()


def test_reading_is_lazy(tmp_path):
    (path,) = provider.write(tmp_path, geopotential_units="m2 s-2")

    with dask.config.set(scheduler=forbid):
        ds = ecland.climate_fields(open_source(path))

    assert ds.elevation.chunks is not None
    assert ds.lai_lv.chunks is not None
