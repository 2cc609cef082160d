import math
import shutil

import dask
import netCDF4
import numpy as np
import pytest

from xlsbc.cube import ingest, schema
from xlsbc.cube.grid import Grid
from xlsbc.cube.ingest.opening import open_source
from xlsbc.cube.ingest.rhine import maps
from xlsbc.errors import SourceError

FILE = "rhine_wflow_1km/rhine_staticmaps_lai_1km.nc"
CO2 = "co2/co2-annmean-gl.csv"


def forbid(*args, **kwargs):
    raise AssertionError("something was computed")


@pytest.fixture(scope="module")
def cubes():
    return {}


@pytest.fixture
def rhine(real_data, cubes):
    if "rhine" not in cubes:
        cubes["rhine"] = ingest.rhine(real_data).compute()
    return cubes["rhine"]


@pytest.fixture
def raw(real_data):
    """The numbers of the file as they are stored."""
    with netCDF4.Dataset(real_data / FILE) as nc:
        nc.set_auto_maskandscale(False)
        yield {name: nc[name][:] for name in nc.variables if name != "crs"}


def at(da, latitude, longitude):
    return da.sel(latitude=latitude, longitude=longitude, method="nearest")


def cover(ds, latitude, longitude):
    shares = at(ds.lc_fraction, latitude, longitude).squeeze("year")
    return {c: round(float(s), 6) for c, s in zip(shares.lc_class.values, shares, strict=True) if s}


def test_the_pixels_lie_on_the_global_lattice_of_1_120_degree(rhine):
    grid = Grid.of(rhine)

    assert grid.shape == (682, 997)
    assert grid.resolution == pytest.approx((1 / 120, 1 / 120), rel=1e-12)
    # 90 - (4559 + 1/2) / 120 = 52.00417 N, (22027 + 1/2) / 120 - 180 = 3.5625 E.
    assert grid.origin_index == (4559, 22027)


def test_lai_is_the_stored_integer_by_360_in_every_month_and_pixel(rhine, raw):
    assert raw["LAI"].dtype == np.int16
    np.testing.assert_allclose(rhine.lai, raw["LAI"] / 360.0, rtol=1e-6)


def test_a_forest_of_the_black_forest_has_its_seasons(rhine):
    # Stored: 108 72 88 360 812 1308 1468 1264 916 500 308 344.
    year = at(rhine.lai, 47.871, 7.996)

    np.testing.assert_allclose(year[[0, 1, 6, 11]], [0.3, 0.2, 1468 / 360, 344 / 360], rtol=1e-6)


def test_the_months_are_those_of_a_nominal_year_and_say_so(rhine):
    assert rhine.time.values[[0, 11]].tolist() == [
        np.datetime64(day, "ns").astype(int) for day in ("2000-01-01", "2000-12-01")
    ]
    assert rhine.lai.attrs["cell_methods"] == "time: mean within years time: mean over years"
    assert "December and January look too high" in rhine.lai.attrs["comment"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # Stored at 47.871 N, 7.996 E: m, percent, m3 m-3, mm and mm day-1.
        ("elevation", 1344.483),
        ("clay_fraction", 0.1628),
        ("silt_fraction", 0.3928),
        ("soil_porosity", 0.4914615),
        ("soil_water_residual", 0.121188484),
        ("soil_thickness", 2.0),
        ("soil_hydraulic_conductivity", 1455.5662e-3 / 86400),
        ("canopy_height", 24.0),
        # Stored as rise over run.
        ("slope", math.degrees(math.atan(0.17662401))),
    ],
)
def test_a_static_is_in_the_unit_of_the_vocabulary(rhine, name, expected):
    np.testing.assert_allclose(at(rhine[name], 47.871, 7.996), expected, rtol=1e-6)


def test_built_and_open_water_shares_are_those_of_cologne(rhine):
    assert at(rhine.built_fraction, 50.94, 6.96).item() == 0.1875
    assert at(rhine.water_fraction, 50.94, 6.96).item() == 0.4375


def test_the_alps_are_in_the_south_east_and_the_delta_in_the_north_west(rhine):
    assert at(rhine.elevation, 46.495, 9.04).item() == pytest.approx(3207.889, rel=1e-6)
    assert at(rhine.elevation, 51.896, 5.904).item() == pytest.approx(12.747, rel=1e-6)


def test_lake_constance_and_the_north_sea_are_water(rhine):
    assert cover(rhine, 47.62, 9.346) == {"water": 1.0}
    assert cover(rhine, 51.9, 3.7) == {"water": 1.0}


def test_a_mountain_top_is_bare(rhine):
    assert cover(rhine, 46.495, 9.04) == {"bare": 1.0}


def test_closed_deciduous_forest_is_split_as_poulter_has_it(rhine, raw):
    row, column = np.argwhere(raw["landuse"] == 50)[1234]
    pixel = rhine.latitude.values[row], rhine.longitude.values[column]

    # Poulter et al. 2015, table 2, class 61: 70 % trees, 15 % shrubs, 15 % grass.
    assert cover(rhine, *pixel) == {"trees_bd": 0.7, "shrubs_bd": 0.15, "grass_nat": 0.15}


def test_land_cover_sums_to_one_in_every_pixel(rhine):
    np.testing.assert_allclose(rhine.lc_fraction.sum("lc_class"), 1.0, atol=1e-6)


def test_nothing_is_missing_but_terrain_outside_the_basin(rhine, raw):
    missing = {name: int(da.isnull().sum()) for name, da in rhine.data_vars.items()}

    stored = int(np.isnan(raw["dem"]).sum())
    assert stored == 330123
    assert {name: n for name, n in missing.items() if n} == {"elevation": stored, "slope": stored}
    np.testing.assert_array_equal(rhine.elevation.isnull(), np.isnan(raw["dem"]))


def test_co2_is_that_of_the_nominal_year(rhine):
    assert rhine.co2.sel(year=2000).item() == pytest.approx(368.96e-6, rel=1e-6)
    assert rhine.sizes["year"] == 1


def test_missing_codes_and_integers_become_nan(real_data, tmp_path):
    source = copy(real_data, tmp_path)
    with netCDF4.Dataset(source / FILE, "a") as nc:
        nc.set_auto_maskandscale(False)
        nc["LAI"][3, 10, 20] = nc["LAI"].getncattr("_FillValue")
        nc["landuse"][30, 40] = nc["landuse"].getncattr("_FillValue")

    ds = ingest.rhine(source)

    holes = ds.lai.isnull().values
    assert holes.sum() == 1
    assert holes[3, 10, 20]
    assert ds.lc_fraction.isnull().sum() == 14
    assert ds.lc_fraction[0, :, 30, 40].isnull().all()


def test_the_cube_is_lazy_in_chunks_of_whole_seasons(real_data):
    with dask.config.set(scheduler=forbid):
        ds = ingest.rhine(real_data)

    assert ds.lai.chunks == ((12,), (341, 341), (499, 498))
    assert all(da.chunks is not None for name, da in ds.data_vars.items() if name != "co2")
    assert all(da.dtype == np.float32 for da in ds.data_vars.values())


def test_conform_leaves_the_cube_as_it_is(real_data):
    ds = ingest.rhine(real_data)

    again = schema.conform(ds)

    assert again.identical(ds)
    assert list(again.data_vars) == list(ds.data_vars)
    assert schema.check_cube(ds) == []
    assert schema.is_climatology(ds.lai)


def test_the_cube_says_whose_it_is(rhine):
    assert rhine.attrs["Conventions"] == "CF-1.12"
    assert all(rhine.attrs[a] for a in ("title", "summary", "source", "references", "history"))
    assert "GPL-3.0" in rhine.attrs["license"]
    assert "ESA and UCLouvain" in rhine.attrs["source"]


def test_all_missing_files_are_named_at_once(tmp_path):
    with pytest.raises(SourceError) as caught:
        ingest.rhine(tmp_path)

    assert [FILE in p or CO2 in p for p in caught.value.problems] == [True, True]


def test_a_layer_that_is_missing_or_in_another_unit_is_named(real_data, tmp_path):
    source = copy(real_data, tmp_path)
    with netCDF4.Dataset(source / FILE, "a") as nc:
        nc.renameVariable("thetaS", "porosity")
        nc["LAI"].units = "percent"

    with pytest.raises(SourceError, match="'thetaS': expected it.*'LAI': expected units 'm2 m-2'"):
        ingest.rhine(source)


def test_the_maps_of_the_opened_file_are_those_of_the_folder_without_co2(real_data, no_compute):
    ds = maps(open_source(real_data / FILE))
    whole = ingest.rhine(real_data)

    assert list(ds.data_vars) == [name for name in whole.data_vars if name != "co2"]
    assert ds.lai.chunks == whole.lai.chunks
    assert all(da.chunks is not None for da in ds.data_vars.values())
    assert "CO2" not in str(ds.attrs)
    assert {"title", "summary", "source", "license", "references", "history"} <= ds.attrs.keys()


def test_months_in_another_order_are_refused(real_data):
    ds = open_source(real_data / FILE)

    with pytest.raises(SourceError, match=f"{FILE}, coordinate 'month': expected the months 1 to"):
        maps(ds.isel(month=slice(None, None, -1)))


def test_shares_that_are_percent_are_refused_when_they_are_computed(real_data):
    ds = open_source(real_data / FILE)
    percent = ds["WaterFrac"] * 100
    ds["WaterFrac"] = percent.assign_attrs(ds["WaterFrac"].attrs)

    with pytest.raises(SourceError, match=f"{FILE}, variable 'water_fraction': expected 0 to 1"):
        maps(ds).water_fraction.compute()


def copy(real_data, folder):
    for name in (FILE, CO2):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        # Contents only: the data may be read-only.
        shutil.copyfile(real_data / name, folder / name)
    return folder
