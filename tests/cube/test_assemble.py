"""Sources made parts of a cube."""

from __future__ import annotations

import dask
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from xlsbc.cube import assemble, regrid
from xlsbc.cube.conform import CLIMATOLOGY
from xlsbc.cube.legends import LU
from xlsbc.cube.vocabulary import attributes
from xlsbc.errors import CubeError, SourceError


def static(latitude: np.ndarray, longitude: np.ndarray, values: object = None) -> xr.Dataset:
    shape = (latitude.size, longitude.size)
    field = np.arange(np.prod(shape), dtype="f4").reshape(shape) if values is None else values
    return xr.Dataset(
        {"elevation": (("latitude", "longitude"), field, attributes("elevation"))},
        {
            "latitude": ("latitude", latitude, attributes("latitude")),
            "longitude": ("longitude", longitude, attributes("longitude")),
        },
        {"title": "ground"},
    ).chunk()


def test_what_lies_on_the_lattice_is_cut_and_not_changed():
    latitude, longitude = regrid.axes(10, 46.5, 10.5, 47)
    whole = static(latitude, longitude)
    cut = assemble.part(whole, region=(10.1, 46.6, 10.3, 46.7))

    rows, columns = cut.sizes["latitude"], cut.sizes["longitude"]
    assert (rows, columns) == (12, 24)
    expected = whole.elevation.sel(latitude=cut.latitude, longitude=cut.longitude, method="nearest")
    np.testing.assert_array_equal(cut.elevation, expected)


def test_a_region_beyond_a_source_is_missing_there():
    latitude, longitude = regrid.axes(10, 46.5, 10.5, 47)
    cut = assemble.part(static(latitude, longitude), region=(10.4, 46.9, 10.6, 47.1))

    assert cut.elevation.isel(latitude=slice(0, 12)).isnull().all()
    assert cut.elevation.isel(latitude=slice(12, 24), longitude=slice(0, 12)).notnull().all()


def test_another_grid_comes_to_the_lattice_by_area():
    # Two cells of a quarter degree, 100 m and 300 m: 30 pixels of each, the middle one of neither.
    coarse = static(
        np.array([46.875, 46.625]),
        np.array([10.125, 10.375]),
        np.array([[100.0, 300.0], [100.0, 300.0]], "f4"),
    )
    fine = assemble.part(coarse, region=(10, 46.5, 10.5, 47))

    assert fine.elevation.shape == (60, 60)
    np.testing.assert_allclose(fine.elevation.isel(longitude=slice(0, 30)), 100, rtol=1e-4)
    np.testing.assert_allclose(fine.elevation.isel(longitude=slice(30, 60)), 300, rtol=1e-4)


def test_without_a_region_all_of_a_source_is_kept():
    latitude, longitude = regrid.axes(10, 46.5, 10.5, 47)

    whole = assemble.part(static(latitude, longitude))
    assert whole.elevation.shape == (60, 60)
    np.testing.assert_allclose(whole.latitude, latitude, atol=1e-9)


def weather(longitude: np.ndarray) -> xr.Dataset:
    months = pd.date_range("1998-01-01", "2003-12-01", freq="MS")
    latitude = 48 - 0.25 * np.arange(12)
    shape = (months.size, latitude.size, longitude.size)
    field = 280 + np.random.default_rng(0).random(shape).astype("f4")
    dims = ("forcing_time", "forcing_latitude", "forcing_longitude")
    return xr.Dataset(
        {"t2m": (dims, field, attributes("t2m"))},
        {
            "forcing_time": months,
            "forcing_latitude": ("forcing_latitude", latitude, attributes("forcing_latitude")),
            "forcing_longitude": ("forcing_longitude", longitude, attributes("forcing_longitude")),
        },
    ).chunk()


def test_coarse_fields_keep_their_grid_around_the_region_and_the_year_before():
    whole = weather(9 + 0.25 * np.arange(12))
    cut = assemble.part(whole, region=(10, 46.5, 10.5, 47), period=(2000, 2001))

    assert cut.forcing_time.values[[0, -1]].astype("M8[M]").astype(str).tolist() == [
        "1999-01",
        "2001-12",
    ]
    assert float(cut.forcing_latitude.min()) <= 46.5 - 0.125
    assert float(cut.forcing_latitude.max()) >= 47 + 0.125
    assert cut.sizes["forcing_longitude"] < 6
    same = whole.t2m.sel(cut.coords)
    np.testing.assert_allclose(cut.t2m, same, rtol=2**-14)


def test_a_region_across_the_date_line_keeps_the_cells_on_both_sides():
    whole = weather(-179.875 + 0.25 * np.arange(1440))
    for region in ((179.5, 46.5, 180.5, 47), (179.5, 46.5, -179.5, 47)):
        cut = assemble.part(whole, region=region)

        assert cut.sizes["forcing_longitude"] < 10
        np.testing.assert_allclose(np.diff(cut.forcing_longitude), 0.25)
        assert cut.forcing_longitude[0] < 179.5
        assert cut.forcing_longitude[-1] > 180.5
        east = cut.t2m.sel(forcing_longitude=180.125)
        there = whole.t2m.sel(forcing_longitude=-179.875, forcing_latitude=east.forcing_latitude)
        np.testing.assert_allclose(east, there, rtol=2**-14)


def test_pixels_on_both_sides_of_the_date_line_find_their_values():
    latitude = regrid.axes(0, 10, 1, 10.1)[0]
    longitude = np.concatenate(
        [regrid.axes(-180, 10, -179, 10.1)[1], regrid.axes(179, 10, 180, 10.1)[1]]
    )
    whole = static(latitude, longitude).sortby("longitude")
    cut = assemble.part(whole, region=(179.9, 10, 180.1, 10.1))

    assert cut.elevation.shape == (12, 24)
    np.testing.assert_array_equal(cut.elevation[:, :12], whole.elevation[:, -12:])
    np.testing.assert_array_equal(cut.elevation[:, 12:], whole.elevation[:, :12])


def test_a_mean_year_of_forcing_stands_in_every_year_of_a_period():
    mean = weather(9 + 0.25 * np.arange(12)).isel(forcing_time=slice(0, 12))
    mean = mean.assign_coords(forcing_time=pd.date_range("2000-01-01", periods=12, freq="MS"))
    mean.t2m.attrs["cell_methods"] = CLIMATOLOGY
    cut = assemble.part(mean, period=(2010, 2011))

    assert cut.sizes["forcing_time"] == 36
    assert str(cut.forcing_time.values[0])[:10] == "2009-01-01"
    for month in (0, 5, 11):
        every = cut.t2m[month::12]
        np.testing.assert_allclose(every, np.stack([mean.t2m[month]] * 3), rtol=2**-14)
    assert "cell_methods" not in cut.t2m.attrs


def test_shares_of_land_use_are_not_rounded():
    shares = np.zeros((2, 13, 3, 3), "f4")
    shares[:, 0], shares[:, 1] = 0.3, 0.7
    dims = ("year", "lu_class", "driver_latitude", "driver_longitude")
    ds = xr.Dataset(
        {"lu_total": (dims, shares, attributes("lu_total"))},
        {
            "year": [2000, 2001],
            "lu_class": LU.coordinate("lu_class"),
            "driver_latitude": 47 - 0.25 * np.arange(3),
            "driver_longitude": 10 + 0.25 * np.arange(3),
        },
    )
    for name in ("driver_latitude", "driver_longitude"):
        ds[name].attrs = attributes(name)

    kept = assemble.part(ds, period=(2001, 2001))
    assert kept.year.values.tolist() == [2001]
    np.testing.assert_array_equal(kept.lu_total[0, 0], np.full((3, 3), 0.3, "f4"))


@pytest.mark.parametrize("value", [273.15, -1e-30, 1e30, 0.0, -0.0, np.inf, np.nan, 6.1e-5])
def test_rounding_leaves_thirteen_bits(value):
    kept = assemble.shorten(np.array([value], "f4"))

    np.testing.assert_allclose(kept, np.array([value], "f4"), rtol=2**-14)
    if np.isfinite(value):
        assert int(kept.view(np.uint32)[0]) % 1024 == 0


def test_rounding_is_to_the_nearest_and_ties_go_to_even():
    step = 2**-13
    values = np.array([1 + 0.49 * step, 1 + 0.5 * step, 1 + 1.5 * step, 1 + 0.51 * step], "f4")

    assert assemble.shorten(values).tolist() == [1, 1, 1 + 2 * step, 1 + step]


def test_nothing_is_computed_of_a_part():
    def forbid(*args: object, **kwargs: object) -> None:
        raise AssertionError("computed")

    latitude, longitude = regrid.axes(10, 46.5, 10.5, 47, 1 / 60)
    with dask.config.set(scheduler=forbid):
        assemble.part(static(latitude, longitude), region=(10, 46.5, 10.5, 47))


def test_a_source_without_anything_of_a_cube_is_no_part():
    with pytest.raises(CubeError, match="no variable has a role; found unknown"):
        assemble.part(xr.Dataset({"unknown": ("x", [1.0])}))


def test_a_period_without_any_step_is_named():
    ds = weather(9 + 0.25 * np.arange(12))
    ds.encoding["source"] = "era5.zarr"

    with pytest.raises(SourceError, match=r"era5\.zarr, 'forcing_time': .* \(1900, 1901\)"):
        assemble.part(ds, period=(1900, 1901))
