import dask
import eccodes
import netCDF4
import numpy as np
import pytest
import xarray as xr

from tests.providers import era5 as provider
from xlsbc.cube.ingest import era5
from xlsbc.cube.ingest.opening import open_source
from xlsbc.errors import SourceError, SourceWarning

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


# 1 m of water weighs 1000 kg m-2; a day has 86400 s and an hour 3600 s.
PER_DAY, PER_HOUR = 1000 / 86400, 1000 / 3600
QUARTERS = {"latitudes": (47.25, 47.0, 46.75), "longitudes": (10.5, 10.75, 11.0, 11.25)}


def read(path, decode=era5.monthly):
    return decode(open_source(path))


def month_of_hours(month="2021-02", drop=()):
    first = np.datetime64(month, "M")
    times = np.arange(first.astype("M8[h]"), (first + 1).astype("M8[h]"))
    return np.delete(times, list(drop))


def hours(folder, times, name="t2m", **options):
    """A file of hours; stored is the hour of the day, and 5 more in each next column."""
    of_day = times.astype("M8[h]").astype(int) % 24
    numbers = of_day[:, None, None] + 5 * np.arange(4) + np.zeros((times.size, 3, 4), int)
    options = {**QUARTERS, **options}
    return provider.write(folder, names=(name,), times=times, numbers={name: numbers}, **options)[0]


@pytest.mark.parametrize("file", [*era5.FILES.values(), *era5.LAND_FILES.values()])
def test_packed_monthly_means_are_the_stored_integers(real_data, file):
    name = "tp" if "prcp" in file else "t2m"
    stored, scale, offset = raw(real_data / file, name)

    ds = read(real_data / file)

    expected = (stored * scale + offset) * (PER_DAY if name == "tp" else 1)
    # Added up in float32: a thousandth of what one packed integer resolves, 3e-8 kg m-2 s-1.
    np.testing.assert_allclose(ds[name], expected, rtol=1e-6, atol=2e-10)
    start = np.datetime64("1981-01" if "land" in file else "1979-01")
    months = ds.forcing_time.values.astype("M8[M]")
    assert (months == start + np.arange(len(stored))).all()
    assert (ds.forcing_time.values == months).all()


@pytest.mark.parametrize(("letters", "name"), [("ua", "t2m"), ("ad", "tp")])
def test_the_new_layout_is_the_stored_numbers(real_data, letters, name):
    path = real_data / f"era5_vietnam_monthly/data_stream-moda_stepType-avg{letters}.nc"
    with netCDF4.Dataset(path) as nc:
        stored = nc[name][:].astype(float)

    ds = read(path)

    np.testing.assert_allclose(ds[name], stored * (PER_DAY if name == "tp" else 1), rtol=1e-5)
    assert ds.forcing_time.values[[0, -1]].astype("M8[D]").astype(str).tolist() == [
        "2005-01-01",
        "2024-12-01",
    ]
    assert set(ds.data_vars) == {name}


def test_stamps_at_midnight_and_at_six_become_the_same_months(real_data):
    folder = real_data / "era5_vietnam_monthly"
    t2m, tp = (read(folder / f"data_stream-moda_stepType-avg{x}.nc") for x in ("ua", "ad"))

    xr.testing.assert_equal(t2m.coords.to_dataset(), tp.coords.to_dataset())


def test_a_month_of_hours_is_the_mean_of_the_stored_integers(real_data):
    path = real_data / "davos_era5_hourly/SURF_202001.nc"

    ds = read(path, era5.hourly)

    for name, unit in {"t2m": 1, "d2m": 1, "tp": PER_HOUR, "ssrd": 1 / 3600}.items():
        stored, scale, offset = raw(path, name)
        expected = (stored.mean(axis=0) * scale + offset) * unit
        np.testing.assert_allclose(ds[name][0], expected, rtol=2e-6)
    assert ds.forcing_time.values.tolist() == [np.datetime64("2020-01-01", "ns").astype(int)]
    # The file's own step is 0.25025 degrees.
    assert ds.forcing_longitude.values[:2].tolist() == pytest.approx([9.292, 9.54225], abs=1e-6)


def test_a_month_of_hours_in_grib_is_the_mean_of_its_messages(real_data):
    path = real_data / "era5_grib/era5-2mt-2019-03-uk.grib"
    total = np.zeros(33 * 49)
    with path.open("rb") as stream:
        while (message := eccodes.codes_grib_new_from_file(stream)) is not None:
            total += eccodes.codes_get_values(message)
            eccodes.codes_release(message)

    t2m = read(path, era5.hourly).t2m

    np.testing.assert_allclose(t2m[0], total.reshape(33, 49) / 744, rtol=1e-7)
    assert t2m.forcing_latitude.values[[0, -1]].tolist() == [58.0, 50.0]


def test_one_hour_is_no_month(real_data):
    path = real_data / "era5_grib/era5-single-level-scalar-time.grib"

    with pytest.raises(SourceError, match="2017-01 with 1 of 744 steps"):
        read(path, era5.hourly)
    with pytest.raises(SourceError, match="expected a step of a month; found GRIB of oper instant"):
        read(path)


@pytest.mark.parametrize(("cmor", "name"), [("tas", "t2m"), ("pr", "tp"), ("rsds", "ssrd")])
def test_daily_cmor_files_are_turned_north_up(real_data, cmor, name):
    path = real_data / f"rhine_era5_daily/OBS6_ERA5_reanaly_1_day_{cmor}_2000-2000.nc"
    with netCDF4.Dataset(path) as nc:
        stored = nc[cmor][:].filled(np.nan)

    da = read(path, era5.daily)[name]

    np.testing.assert_allclose(da, stored[:, ::-1], rtol=1e-6)
    assert np.isnan(da.values).mean() == pytest.approx(0.61, abs=0.01)
    assert da.forcing_time.values[-1] == np.datetime64("2000-01-30")


def test_levels_of_pressure_hold_no_forcing(real_data):
    with pytest.raises(SourceError, match="expected one of t2m, d2m, tp"):
        read(real_data / "davos_era5_hourly/PLEV_202001.nc", era5.hourly)


def test_hours_are_not_taken_for_months(real_data):
    with pytest.raises(SourceError, match="'tp': expected a step of a month; found 1 h between"):
        read(real_data / "davos_era5_hourly/SURF_202001.nc")


def test_months_are_not_taken_for_hours(real_data):
    with pytest.raises(SourceError, match="expected a step of an hour; found 31 d between times"):
        read(real_data / era5.FILES["tp"], era5.hourly)


@pytest.mark.parametrize("preliminary", [0, 1, 3])
def test_final_and_preliminary_months_make_one_record(tmp_path, preliminary):
    (path,) = provider.write(tmp_path, preliminary=preliminary)

    ds = read(path)

    np.testing.assert_allclose(ds.t2m, provider.values("t2m", 4), rtol=1e-6)
    np.testing.assert_allclose(ds.tp, provider.values("tp", 4) * PER_DAY, rtol=1e-5)


@pytest.mark.parametrize("dates", [False, True])
@pytest.mark.parametrize("name", ["t2m", "tp"])
def test_dates_may_be_integers(tmp_path, name, dates):
    (path,) = provider.write(tmp_path, "new", name=name, dates=dates)

    da = read(path)[name]

    unit = PER_DAY if name == "tp" else 1
    np.testing.assert_allclose(da, provider.values(name, 4) * unit, rtol=1e-5)
    months = da.forcing_time.values.astype("M8[D]").astype(str).tolist()
    assert months == ["2024-09-01", "2024-10-01", "2024-11-01", "2024-12-01"]


@pytest.mark.parametrize("edition", [1, 2])
def test_monthly_means_in_grib_share_their_months(tmp_path, edition):
    names = ("t2m", "tp", "ssrd") if edition == 1 else ("t2m",)
    (path,) = provider.write(tmp_path, "grib", names=names, edition=edition)

    ds = read(path)

    np.testing.assert_allclose(ds.t2m, provider.values("t2m", 3), atol=1e-4)
    if edition == 1:
        np.testing.assert_allclose(ds.tp, provider.values("tp", 3) * PER_DAY, atol=1e-9)
        np.testing.assert_allclose(ds.ssrd, provider.values("ssrd", 3) / 86400, atol=1e-6)
    assert ds.forcing_time.size == 3


@pytest.mark.parametrize(
    "order", [("longitude", "latitude", "time"), ("latitude", "time", "longitude")]
)
def test_dimensions_may_stand_in_any_order(tmp_path, order):
    (path,) = provider.write(tmp_path, order=order)

    np.testing.assert_allclose(read(path).t2m, provider.values("t2m", 4), rtol=1e-6)


def test_a_box_over_the_date_line_from_the_south_on(tmp_path):
    axes = {"latitudes": (-20.0, -19.75, -19.5), "longitudes": (179.5, 179.75, 180.0, 180.25)}
    (path,) = provider.write(tmp_path, **axes)

    t2m = read(path).t2m

    assert t2m.forcing_latitude.values.tolist() == [-19.5, -19.75, -20.0]
    assert t2m.forcing_longitude.values.tolist() == [179.5, 179.75, 180.0, 180.25]
    np.testing.assert_allclose(t2m, provider.values("t2m", 4)[:, ::-1], rtol=1e-6)


def test_degrees_of_32_bits_are_those_that_were_meant(tmp_path):
    ds = read(provider.write(tmp_path)[0])

    assert ds.forcing_latitude.values.tolist() == [47.1, 47.0, 46.9]
    assert ds.forcing_longitude.values.tolist() == [10.6, 10.7, 10.8, 10.9]


def test_the_fill_value_is_missing(tmp_path):
    numbers = provider.stored("t2m", 4)
    numbers[2, 0, 3] = provider.FILL

    t2m = read(provider.write(tmp_path, names=("t2m",), numbers={"t2m": numbers})[0]).t2m.values

    assert np.isnan(t2m[2, 0, 3])
    assert np.isnan(t2m).sum() == 1


def test_celsius_that_is_called_kelvin_raises(tmp_path):
    ds = read(provider.write(tmp_path, names=("t2m",), offset=-273.15)[0])

    with pytest.raises(SourceError, match=r"old\.nc, variable 't2m': expected 170 to 340 K"):
        ds.compute()


def test_celsius_that_is_called_so_is_converted(tmp_path):
    options = {"offset": -273.15, "units": {"t2m": "degC"}}

    ds = read(provider.write(tmp_path, names=("t2m",), **options)[0])

    np.testing.assert_allclose(ds.t2m, provider.values("t2m", 4), rtol=1e-6)


def test_millimetres_that_are_called_metres_raise(tmp_path):
    ds = read(provider.write(tmp_path, names=("tp",), offset=2.5)[0])

    with pytest.raises(SourceError, match="perhaps mm in place of m"):
        ds.compute()


@pytest.mark.parametrize("units", ["Pa", "m s-2"])
def test_units_of_another_quantity_are_refused(tmp_path, units):
    (path,) = provider.write(tmp_path, units={"tp": units})

    with pytest.raises(
        SourceError, match=f"'tp': expected units of precipitation; found '{units}'"
    ):
        read(path)


@pytest.mark.parametrize(
    ("units", "factor"), [("m day-1", PER_DAY), ("mm", PER_DAY / 1000), ("kg m-2 s-1", 1)]
)
def test_a_period_in_the_units_is_believed_and_a_day_is_added_to_amounts(tmp_path, units, factor):
    ds = read(provider.write(tmp_path, names=("tp",), units={"tp": units})[0])

    np.testing.assert_allclose(ds.tp, provider.values("tp", 4) * factor, rtol=1e-5)


def test_all_that_is_wrong_is_said_at_once(tmp_path):
    (path,) = provider.write(tmp_path, units={"tp": "Pa", "t2m": "s"})

    with pytest.raises(SourceError) as raised:
        read(path)

    assert len(raised.value.problems) == 2


@pytest.mark.parametrize("hour", [1, 12])
def test_monthly_means_by_hour_of_day_are_refused(tmp_path, hour):
    times = provider.months("2019-11", 4) + hour
    (path,) = provider.write(tmp_path, times=times)

    with pytest.raises(SourceError, match="as hourly data and monthly means by hour of day have"):
        read(path)


def test_a_single_amount_of_no_stated_period_is_told(tmp_path):
    (path,) = provider.write(tmp_path, times=provider.months("2020-02", 1))

    with pytest.warns(SourceWarning, match="a single time, taken for the mean of a month: tp"):
        ds = read(path)

    assert "a single time" in ds.attrs["comment"]
    np.testing.assert_allclose(ds.tp, provider.values("tp", 1) * PER_DAY, rtol=1e-5)


def test_months_out_of_order_are_put_in_order(tmp_path):
    times = provider.months("2019-11", 4)[[2, 0, 3, 1]]

    t2m = read(provider.write(tmp_path, times=times)[0]).t2m

    assert (np.diff(t2m.forcing_time.values).astype(int) > 0).all()
    np.testing.assert_allclose(t2m, provider.values("t2m", 4)[[1, 3, 0, 2]], rtol=1e-6)


def test_hours_make_the_mean_of_whole_months_only(tmp_path):
    january, february = month_of_hours("2021-01", drop=[700]), month_of_hours("2021-02")
    path = hours(tmp_path, np.concatenate([january, february]))

    with pytest.warns(SourceWarning, match=r"2021-01 with 743 of 744 steps \(t2m\)"):
        ds = read(path, era5.hourly)

    assert "2021-01 with 743 of 744 steps" in ds.attrs["comment"]
    assert str(tmp_path) not in ds.attrs["comment"]
    assert ds.forcing_time.values.astype("M8[M]").astype(str).tolist() == ["2021-02"]
    # The hours of the day average to 11.5; the scale is 0.01 K.
    expected = 270 + 0.01 * (11.5 + 5 * np.arange(4))
    np.testing.assert_allclose(ds.t2m[0, 1], expected, rtol=1e-7)


def test_an_hour_that_is_there_twice_makes_no_month(tmp_path):
    times = month_of_hours()
    times[5] = times[4]

    with pytest.raises(SourceError, match="2021-02 with 672 of 672 steps|more than once"):
        read(hours(tmp_path, times), era5.hourly)


def test_an_hour_without_value_makes_the_month_missing(tmp_path):
    numbers = np.zeros((672, 3, 4))
    numbers[100, 1, 1] = provider.FILL
    options = {"names": ("t2m",), "times": month_of_hours(), "numbers": {"t2m": numbers}}
    (path,) = provider.write(tmp_path, **QUARTERS, **options)

    t2m = read(path, era5.hourly).t2m.values[0]

    assert np.isnan(t2m[1, 1])
    assert np.isnan(t2m).sum() == 1


def test_every_third_hour_will_do_for_temperature_but_not_for_rain(tmp_path):
    times = month_of_hours()[::3]

    t2m = read(hours(tmp_path, times), era5.hourly).t2m

    # 0, 3, ... 21 average to 10.5.
    np.testing.assert_allclose(t2m[0, :, 0], 270.105, rtol=1e-7)
    with pytest.raises(SourceError, match="expected amounts of every hour; found one every 3 h"):
        read(hours(tmp_path, times, "tp"), era5.hourly)


def test_hourly_amounts_of_era5_land_are_refused(tmp_path):
    tenths = {"latitudes": provider.LATITUDES, "longitudes": provider.LONGITUDES}

    with pytest.raises(SourceError, match="grow from 00 UTC on; use its monthly means"):
        read(hours(tmp_path, month_of_hours(), "tp", **tenths), era5.hourly)
    t2m = read(hours(tmp_path, month_of_hours(), "t2m", **tenths), era5.hourly).t2m
    np.testing.assert_allclose(t2m[0, :, 0], 270.115, rtol=1e-7)


def test_daily_amounts_of_no_stated_period_are_refused(tmp_path):
    times = month_of_hours()[::24]

    with pytest.raises(SourceError, match="expected a rate, such as 'kg m-2 s-1'; found 'm'"):
        read(hours(tmp_path, times, "tp"), era5.daily)


def test_arco_becomes_monthly_means_of_its_whole_months(tmp_path):
    (path,) = provider.write(tmp_path, "arco")

    with pytest.warns(SourceWarning, match="2020-01 with 12 of 744 steps"):
        ds = read(path, era5.arco)

    assert ds.forcing_time.values.astype("M8[M]").astype(str).tolist() == ["2020-02"]
    assert ds.forcing_longitude.values.tolist() == [-180.0, -90.0, 0.0, 90.0]
    # Twelve hours of January come first: in February the count of days goes from 0, with 12 hours,
    # to 29, with 12 hours: it averages to (0 x 12 + 24 x (1 + ... + 28) + 29 x 12) / 696 = 14.5.
    np.testing.assert_allclose(ds.t2m[0, :, 2], 270 + 14.5 + np.arange(3) / 10, rtol=1e-6)
    np.testing.assert_allclose(ds.t2m[0, 0], 284.5 + np.array([2, 3, 0, 1]) / 100, rtol=1e-6)
    np.testing.assert_allclose(ds.tp[0, 1, 2], (14.5 + 1) * 1e-5 * PER_HOUR, rtol=1e-5)
    np.testing.assert_allclose(ds.ssrd[0, 1, 2], 15.5, rtol=1e-6)
    assert set(ds.data_vars) == {"t2m", "tp", "ssrd"}


def test_what_arco_says_it_does_not_hold_is_left_out(tmp_path):
    (path,) = provider.write(tmp_path, "arco", start="2020-02-01T00", hours=24 * (29 + 31))
    raw_store = open_source(path)
    raw_store.attrs["valid_time_stop"] = "2020-02-29"

    ds = era5.arco(raw_store)

    assert ds.forcing_time.values.astype("M8[M]").astype(str).tolist() == ["2020-02"]


def test_arco_is_cut_to_a_period(tmp_path):
    (path,) = provider.write(tmp_path, "arco", start="2019-12-01T00", hours=24 * (31 + 31 + 29))

    ds = era5.arco(open_source(path), period=(2020, 2020))
    assert ds.forcing_time.values.astype("M8[M]").astype(str).tolist() == ["2020-01", "2020-02"]
    with pytest.raises(SourceError, match=r"expected hours of \(1950, 1951\); found none"):
        era5.arco(open_source(path), period=(1950, 1951))


def test_decoding_computes_nothing(tmp_path, real_data):
    (store,) = provider.write(tmp_path, "arco", start="2020-02-01T00", hours=24 * 29)
    (messages,) = provider.write(tmp_path, "grib")

    with dask.config.set(scheduler=forbid):
        found = [
            read(store, era5.arco),
            read(messages),
            read(real_data / era5.LAND_FILES["tp"], era5.land_monthly),
            read(real_data / "davos_era5_hourly/SURF_202001.nc", era5.hourly),
        ]

    assert all(da.chunks is not None for ds in found for da in ds.values())


def test_the_credit_of_copernicus_goes_along(tmp_path):
    ds = read(provider.write(tmp_path)[0], era5.land_monthly)

    assert "Contains modified Copernicus Climate Change Service information" in ds.attrs["source"]
    assert "ERA5-Land" in ds.attrs["title"]
    assert ds.attrs["history"].startswith("xlsbc.cube.ingest.era5.land_monthly: ")
