import dask
import numpy as np
import pytest
import tifffile
import xarray as xr

from xlsbc.cube import ingest, schema
from xlsbc.cube.grid import Grid
from xlsbc.cube.ingest import era5
from xlsbc.errors import SourceError

ELEVATION = "oetztal_era5_monthly/srtm_oetztal.tif"
RADIUS = 6371229.0


def forbid(*args, **kwargs):
    raise AssertionError("something was computed")


@pytest.fixture(scope="module")
def cubes():
    return {}


@pytest.fixture
def oetztal(real_data, cubes):
    if "oetztal" not in cubes:
        cubes["oetztal"] = ingest.oetztal(real_data).compute()
    return cubes["oetztal"]


@pytest.fixture
def metres(real_data):
    """The elevation as stored, its pixel centres in degrees, and its step."""
    values = tifffile.imread(real_data / ELEVATION).astype(float)
    step = 0.00083333
    latitude = 47.02667856 - step * (np.arange(444) + 0.5)
    longitude = 10.62247751 + step * (np.arange(582) + 0.5)
    return values, latitude, longitude


def nearest(values, latitude, longitude, where_lat, where_lon):
    rows = np.abs(latitude[:, None] - where_lat).argmin(0)
    columns = np.abs(longitude[:, None] - where_lon).argmin(0)
    return values[np.ix_(rows, columns)]


def within(centre, points=240):
    """Midpoints that split a pixel of 1/120 degree into equal parts."""
    return centre + ((np.arange(points) + 0.5) / points - 0.5) / 120


def test_the_box_is_the_cut_that_all_sources_cover(oetztal):
    grid = Grid.of(oetztal)

    assert grid.shape == (42, 56)
    # Its first pixel is row 599 and column 849 of the Rhine's, which starts at 4559, 22027.
    assert grid.origin_index == (4559 + 599, 22027 + 849)


def test_soils_and_leaves_are_those_of_the_rhine(oetztal, real_data):
    part = ingest.rhine(real_data).isel(latitude=slice(599, 641), longitude=slice(849, 905))

    for name in ("lai", "lc_fraction", "clay_fraction", "canopy_height", "co2"):
        xr.testing.assert_equal(oetztal[name], part[name].compute())


@pytest.mark.parametrize(("row", "column"), [(0, 0), (0, 55), (41, 0), (17, 30), (41, 55)])
def test_elevation_is_the_mean_of_the_points_in_the_pixel(oetztal, metres, row, column):
    lat, lon = within(oetztal.latitude.values[row]), within(oetztal.longitude.values[column])
    weights = np.cos(np.radians(lat))[:, None] * np.ones(lon.size)
    expected = np.average(nearest(*metres, lat, lon), weights=weights)

    # 240 points a side place each edge within a 480th of the pixel, where 1 km rises by up to 1 km.
    np.testing.assert_allclose(oetztal.elevation[row, column], expected, atol=1.0)


@pytest.mark.parametrize(("row", "column"), [(3, 50), (20, 11), (41, 27)])
def test_slope_is_the_mean_of_the_fine_slopes_in_the_pixel(oetztal, metres, row, column):
    values, latitude, longitude = metres
    to_south, to_east = np.gradient(values)  # central differences: another stencil than Horn's
    step = np.radians(0.00083333) * RADIUS
    across = step * np.cos(np.radians(latitude))[:, None]
    fine = np.degrees(np.arctan(np.hypot(to_east / across, to_south / step)))
    lat, lon = within(oetztal.latitude.values[row]), within(oetztal.longitude.values[column])

    expected = nearest(fine, latitude, longitude, lat, lon).mean()

    # Horn's stencil is wider: it smooths the slopes of rough ground by a degree or so.
    np.testing.assert_allclose(oetztal.slope[row, column], expected, atol=1.5)


def test_the_highest_pixel_is_the_wildspitze_and_the_lowest_the_adige_valley(oetztal):
    highest = oetztal.elevation.argmax(("latitude", "longitude"))
    lowest = oetztal.elevation.argmin(("latitude", "longitude"))

    # Wildspitze, 3768 m: 46.885 N, 10.867 E. The Adige leaves the box in the south-east.
    assert oetztal.latitude[highest["latitude"]].item() == pytest.approx(46.885, abs=1 / 60)
    assert oetztal.longitude[highest["longitude"]].item() == pytest.approx(10.867, abs=1 / 60)
    assert oetztal.latitude[lowest["latitude"]] < 46.70
    assert oetztal.longitude[lowest["longitude"]] > 11.05


def test_the_forcing_is_the_mean_year_of_era5_land_on_its_own_grid(oetztal, real_data):
    for name, file in era5.LAND_FILES.items():
        # open_monthly and mean_year are checked against the stored integers in test_era5.
        expected = era5.mean_year(era5.open_monthly(real_data, file, name))
        np.testing.assert_allclose(oetztal[name], expected, rtol=1e-6)

    assert oetztal.t2m.dims == ("forcing_time", "forcing_latitude", "forcing_longitude")
    assert oetztal.forcing_longitude.values[[0, -1]].tolist() == [10.6, 11.2]
    assert oetztal.forcing_latitude.values[[0, -1]].tolist() == [47.1, 46.6]


def test_era5_agrees_with_itself_where_the_two_grids_meet(oetztal, real_data):
    for name, file in era5.FILES.items():
        own = era5.mean_year(era5.open_monthly(real_data, file, name))
        point = oetztal[f"{name}_era5"].sel(forcing_latitude=47.0, forcing_longitude=11.0)
        np.testing.assert_allclose(point, own.sel(latitude=47.0, longitude=11.0), rtol=1e-6)


def test_era5_between_its_pixels_is_bilinear(oetztal, real_data):
    own = era5.mean_year(era5.open_monthly(real_data, era5.FILES["tp"], "tp"))
    (a, b), (c, d) = own.sel(month=7, latitude=[47.0, 46.75], longitude=[10.75, 11.0]).values

    point = oetztal.tp_era5.sel(forcing_latitude=46.9, forcing_longitude=10.8)

    # 0.1 of 0.25 degree to the south, 0.05 of 0.25 to the east.
    expected = 0.6 * (0.8 * a + 0.2 * b) + 0.4 * (0.8 * c + 0.2 * d)
    np.testing.assert_allclose(point[6], expected, rtol=1e-5)


def test_july_is_the_warm_month_and_rain_is_that_of_the_alps(oetztal):
    year = oetztal.t2m.mean(("forcing_latitude", "forcing_longitude"))
    a_day = oetztal.tp.mean() * 86400  # kg m-2 are mm of water

    assert oetztal.forcing_time.dt.month[int(year.values.argmax())] == 7
    assert 2 < a_day < 5  # 700 to 1800 mm a year


def test_the_forcing_is_marked_as_a_mean_year(oetztal):
    for name in ("t2m", "tp", "t2m_era5", "tp_era5"):
        assert schema.is_climatology(oetztal[name])
    assert "1981-2018" in oetztal.t2m.attrs["comment"]
    assert "1979-2018" in oetztal.t2m_era5.attrs["comment"]
    np.testing.assert_array_equal(oetztal.forcing_time.values, oetztal.time.values)


def test_a_role_has_one_variable_and_era5_is_further_forcing(oetztal):
    roles = schema.roles(oetztal)

    assert (roles["t2m"], roles["tp"]) == ("t2m", "tp")
    assert oetztal.t2m_era5.attrs["xlsbc_role"] == "forcing"
    assert oetztal.tp_era5.attrs["units"] == "kg m-2 s-1"


def test_nothing_is_missing(oetztal):
    assert {name for name, da in oetztal.data_vars.items() if da.isnull().any()} == set()


def test_the_cube_is_lazy(real_data):
    with dask.config.set(scheduler=forbid):
        ds = ingest.oetztal(real_data)

    assert all(da.chunks is not None for name, da in ds.data_vars.items() if name != "co2")
    assert all(da.dtype == np.float32 for da in ds.data_vars.values())


def test_conform_leaves_the_cube_as_it_is(real_data):
    ds = ingest.oetztal(real_data)

    again = schema.conform(ds)

    assert again.identical(ds)
    assert list(again.data_vars) == list(ds.data_vars)
    assert schema.check_cube(ds) == []


def test_the_cube_credits_all_its_sources(oetztal):
    assert "Contains modified Copernicus Climate Change Service information" in oetztal.source
    assert all(name in oetztal.references for name in ("SRTM", "ERA5-Land", "CO2", "wflow"))


def test_a_void_of_the_srtm_is_missing_in_the_pixel_that_holds_it(real_data, tmp_path):
    source = linked(real_data, tmp_path)
    content = bytearray((real_data / ELEVATION).read_bytes())
    # Uncompressed rows of 582 two-byte integers from byte 1784 on.
    start = 1784 + (225 * 582 + 291) * 2
    content[start : start + 2] = np.int16(-32768).tobytes()
    (source / ELEVATION).unlink()
    (source / ELEVATION).write_bytes(content)

    ds = ingest.oetztal(source)

    ((row, column),) = np.argwhere(ds.elevation.isnull().values)
    # 47.02667856 - 225.5 x 0.00083333 = 46.83876 N, 10.62247751 + 291.5 x 0.00083333 = 10.86539 E.
    assert ds.latitude.values[row] == pytest.approx(46.83876, abs=1 / 240)
    assert ds.longitude.values[column] == pytest.approx(10.86539, abs=1 / 240)
    assert bool(ds.slope[row, column].isnull())


def test_all_missing_files_of_both_cubes_are_named_once(tmp_path):
    with pytest.raises(SourceError, match="real cubes") as caught:
        ingest.real_cubes(tmp_path)

    named = [problem.split(":")[0].rsplit("/", 1)[-1] for problem in caught.value.problems]
    assert named == [
        "rhine_staticmaps_lai_1km.nc",
        "co2-annmean-gl.csv",
        "srtm_oetztal.tif",
        "sel_era5_land_monthly_t2m_1981-2018.nc",
        "sel_era5_land_monthly_prcp_1981-2018.nc",
        "sel_era5_monthly_t2m_1979-2018.nc",
        "sel_era5_monthly_prcp_1979-2018.nc",
    ]


def test_the_real_cubes_are_the_rhine_and_the_oetztal_alps(real_data):
    cubes = ingest.real_cubes(real_data)

    assert list(cubes) == ["rhine", "oetztal"]
    assert cubes["rhine"].identical(ingest.rhine(real_data))


def linked(real_data, folder):
    """A folder of links to the real files, so that one can be replaced."""
    for file in real_data.glob("*/*"):
        link = folder / file.relative_to(real_data)
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(file.resolve())
    return folder
