import dask
import netCDF4
import numpy as np
import pytest
import xarray as xr

from xlsbc.cube.ingest import era5
from xlsbc.errors import SourceError

LAND_T2M, LAND_TP = era5.LAND_FILES["t2m"], era5.LAND_FILES["tp"]


def forbid(*args, **kwargs):
    raise AssertionError("something was computed")


def raw(path, name):
    with netCDF4.Dataset(path) as nc:
        nc.set_auto_maskandscale(False)
        packed = nc[name]
        return packed[:].astype(float), packed.scale_factor, packed.add_offset


def record(months=30, start="2001-03", rows=2, columns=3):
    values = np.random.default_rng(3).normal(size=(months, rows, columns))
    first = np.datetime64(start, "M")
    return xr.DataArray(
        values,
        coords={
            "time": np.arange(first, first + months).astype("datetime64[ns]"),
            "latitude": 47.0 - 0.25 * np.arange(rows),
            "longitude": 10.5 + 0.25 * np.arange(columns),
        },
        dims=("time", "latitude", "longitude"),
    )


def test_temperature_is_the_stored_integer_scaled_and_shifted(real_data):
    stored, scale, offset = raw(real_data / LAND_T2M, "t2m")

    t2m = era5.open_monthly(real_data, LAND_T2M, "t2m")

    assert t2m.shape == (456, 6, 7)
    np.testing.assert_allclose(t2m, stored * scale + offset, rtol=1e-6)


def test_metres_a_day_become_a_flux_of_mass(real_data):
    stored, scale, offset = raw(real_data / LAND_TP, "tp")

    tp = era5.open_monthly(real_data, LAND_TP, "tp")

    # 1 m of water weighs 1000 kg m-2 and a day has 86400 s.
    np.testing.assert_allclose(tp, (stored * scale + offset) * 1000 / 86400, rtol=1e-5)
    assert tp.attrs["units"] == "kg m-2 s-1"


def test_coordinates_are_those_of_the_grid_and_not_of_float32(real_data):
    t2m = era5.open_monthly(real_data, LAND_T2M, "t2m")

    assert t2m.longitude.values.tolist() == [10.6, 10.7, 10.8, 10.9, 11.0, 11.1, 11.2]
    assert t2m.latitude.values.tolist() == [47.1, 47.0, 46.9, 46.8, 46.7, 46.6]


@pytest.mark.parametrize(("file", "name"), [(LAND_T2M, "t2m"), (era5.FILES["tp"], "tp")])
def test_the_mean_year_is_that_of_a_loop_over_the_stored_months(real_data, file, name):
    stored, scale, offset = raw(real_data / file, name)
    unit = 1000 / 86400 if name == "tp" else 1.0

    found = era5.mean_year(era5.open_monthly(real_data, file, name))

    years = len(stored) // 12
    for month in range(12):
        total = sum(stored[12 * year + month] for year in range(years))
        expected = (total / years * scale + offset) * unit
        np.testing.assert_allclose(found.sel(month=month + 1), expected, rtol=1e-5)


def test_a_record_may_start_in_any_month():
    da = record(months=30, start="2001-03")

    found = era5.mean_year(da)

    # March is the 1st, 13th and 25th month, February the 12th and 24th.
    np.testing.assert_allclose(found.sel(month=3), da[[0, 12, 24]].mean("time"))
    np.testing.assert_allclose(found.sel(month=2), da[[11, 23]].mean("time"))


def test_a_month_without_any_year_is_missing():
    found = era5.mean_year(record(months=9, start="2001-01"))

    np.testing.assert_array_equal(
        found.isnull().all(("latitude", "longitude")), [False] * 9 + [True] * 3
    )


def test_a_gap_in_one_year_leaves_the_mean_of_the_others():
    da = record(months=24, start="2001-01")
    da[0, 1, 2] = np.nan

    found = era5.mean_year(da)

    assert found[0, 1, 2] == da[12, 1, 2]
    assert found.notnull().all()


def test_reading_and_averaging_are_lazy(real_data):
    with dask.config.set(scheduler=forbid):
        found = era5.mean_year(era5.open_monthly(real_data, era5.FILES["t2m"], "t2m"))

    assert found.chunks is not None
    assert found.compute().notnull().all()


def test_a_missing_record_is_named(tmp_path):
    with pytest.raises(SourceError, match=r"t2m_1981-2018\.nc: expected a file; found nothing"):
        era5.open_monthly(tmp_path, LAND_T2M, "t2m")
