from __future__ import annotations

import dask.array
import numpy as np
import pytest
import xarray as xr

from tests.providers import hilda as provider
from xlsbc.cube.ingest import hilda
from xlsbc.cube.ingest.opening import open_source
from xlsbc.errors import SourceError

STEP = provider.STEP


def present(pixel: xr.DataArray) -> dict[str, float]:
    """Shares above zero of one pixel, by state."""
    ids = map(str, pixel["lu_class"].values)
    return {id: float(v) for id, v in zip(ids, pixel.values, strict=True) if v > 0}


@pytest.fixture
def use(tmp_path):
    """A factory of land use read from a file written with the given options."""

    def make(*args, **options):
        ds = open_source(provider.write(tmp_path, *args, **options)[0])
        return hilda.land_use(ds).compute(scheduler="synchronous")["lu_fraction"]

    return make


def test_classes_become_shares_of_states_weighted_by_what_a_pixel_shows_of_them(use):
    lu = use()
    assert lu.dims == ("year", "lu_class", "latitude", "longitude")
    assert lu.dtype == np.float32
    assert lu["year"].values.tolist() == [2000, 2001]
    np.testing.assert_allclose(lu.latitude[0], 47 - 1 / 240, rtol=1e-12)
    np.testing.assert_allclose(lu.longitude[0], 10 + 1 / 240, rtol=1e-12)
    row = lu.isel(year=1, latitude=1)
    assert present(row.isel(longitude=0)) == {"primf": 0.5, "secdf": 0.5}
    # The fourth pixel is forest up to the edge of the third of the map's columns.
    forest = (3 * STEP - 3 / 120) * 120
    half = {"primf": forest / 2, "secdf": forest / 2, "c3ann": 1 - forest}
    assert present(row.isel(longitude=3)) == pytest.approx(half, abs=1e-5)
    assert present(row.isel(longitude=6)) == {"icwtr": 1.0}


def test_no_data_is_missing_and_never_a_class(use):
    codes = np.full((4, 4), 99, np.int8)
    assert np.isnan(use(codes)).all()
    # The last row of the map is no data; the last of pixels lies in it wholly.
    assert np.isnan(use().isel(latitude=-1)).all()


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (0, {"icwtr": 1}),
        (11, {"urban": 1}),
        (22, {"c3ann": 1}),
        (23, {"c3per": 1}),
        (24, {"c3ann": 0.5, "c3per": 0.5}),
        (33, {"pastr": 0.5, "range": 0.5}),
        (40, {"primf": 0.5, "secdf": 0.5}),
        (44, {"primf": 0.5, "secdf": 0.5}),
        (45, {"primf": 0.5, "secdf": 0.5}),
        (55, {"primn": 0.5, "secdn": 0.5}),
        (66, {"primn": 1}),
        (77, {"icwtr": 1}),
    ],
)
def test_each_class_is_the_states_that_the_table_says(use, code, expected):
    lu = use(np.full((4, 4), code, np.int8))
    assert present(lu.isel(year=0, latitude=1, longitude=1)) == expected


def test_a_geotiff_of_a_year_is_the_same_as_the_netcdf_of_all(use):
    tiff = use(kind="geotiff", years=(2001,))
    assert tiff["year"].values.tolist() == [2001]
    np.testing.assert_allclose(tiff.values, use().sel(year=[2001]).values, atol=1e-6)


def test_a_geotiff_without_a_year_in_its_name_is_refused(tmp_path):
    path = provider.write(tmp_path, kind="geotiff")[0].rename(tmp_path / "states.tif")
    with pytest.raises(SourceError, match="expected one year in the file's name; found none"):
        hilda.land_use(open_source(path))


def test_a_map_of_transitions_is_refused_when_it_is_computed(tmp_path):
    raw = open_source(provider.write(tmp_path)[0])
    changes = raw.assign(LULC_states=raw["LULC_states"].astype("i2") * 0 + 4422)
    with pytest.raises(SourceError, match=r"_states.nc.*'hilda'.*code 4422 in 70 pixels"):
        hilda.land_use(changes).compute(scheduler="synchronous")


def test_another_netcdf_is_refused_with_what_it_holds(tmp_path):
    raw = open_source(provider.write(tmp_path)[0]).rename(LULC_states="LULC_transitions")
    with pytest.raises(SourceError, match="expected variable 'LULC_states'.*LULC_transitions"):
        hilda.land_use(raw)


def test_years_in_another_order_keep_their_maps(tmp_path):
    raw = open_source(provider.write(tmp_path)[0]).load()
    raw["LULC_states"][0] = 11
    turned = hilda.land_use(raw.isel(time=[1, 0]).chunk()).compute()
    assert turned["year"].values.tolist() == [2000, 2001]
    xr.testing.assert_identical(turned, hilda.land_use(raw).compute())


def test_several_maps_of_a_year_are_refused(tmp_path):
    raw = open_source(provider.write(tmp_path, years=(2001, 2001))[0])
    with pytest.raises(SourceError, match=r"one map a year; found several in \[2001\]"):
        hilda.land_use(raw)


def test_the_globe_of_all_years_is_planned_without_a_compute(no_compute):
    rows, columns, years = 18021, 36042, 3
    maps = dask.array.full((years, rows, columns), 44, chunks=(years, 3000, 3000), dtype="i1")
    ds = xr.Dataset(
        {"LULC_states": (("time", "latitude", "longitude"), maps)},
        {
            "time": [1899, 1900, 1901],
            "latitude": 90 - STEP * (np.arange(rows) + 0.5),
            "longitude": -180 + STEP * (np.arange(columns) + 0.5),
        },
    )
    lu = hilda.land_use(ds)["lu_fraction"]
    # The map goes round by 0.0008 degree more than the globe: no pixel is there twice.
    assert lu.shape == (3, 13, 21600, 43200)
    assert lu.data.chunksize[0] == 1
    box = lu.isel(year=0, latitude=slice(9000, 9010), longitude=slice(-3, None))
    values = box.compute(scheduler="synchronous")
    assert (values.sel(lu_class=["primf", "secdf"]) == 0.5).all()
