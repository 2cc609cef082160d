import math
import shutil

import dask
import netCDF4
import numpy as np
import pytest

from xlsbc.cube import ingest, schema
from xlsbc.cube.ingest.opening import open_source
from xlsbc.cube.ingest.piave import fields, maps, weather
from xlsbc.errors import SourceError

MAPS = "piave_wflow/staticmaps.nc"
WEATHER = "piave_wflow/inmaps_2010-01-01_2010-03-31.nc"
CO2 = "co2/co2-annmean-gl.csv"
ROW, COLUMN = 20, 30  # 46.35 N, 12.2833 E, deciduous forest (50)


def forbid(*args, **kwargs):
    raise AssertionError("something was computed")


@pytest.fixture(scope="module")
def cubes():
    return {}


@pytest.fixture
def piave(real_data, cubes):
    if "piave" not in cubes:
        cubes["piave"] = ingest.piave(real_data).compute()
    return cubes["piave"]


@pytest.fixture
def pixel(piave):
    names = ("latitude", "longitude")
    at = {f"{p}{n}": i for p in ("", "forcing_") for n, i in zip(names, (ROW, COLUMN), strict=True)}
    return piave.isel(at)


@pytest.fixture
def copy(real_data, tmp_path):
    """The files in a folder of their own, to be spoiled."""
    for file in (MAPS, WEATHER, CO2):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        shutil.copy(real_data / file, tmp_path / file)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # Stored with netCDF4: m, m m-1, 1, 1, mm, mm day-1, 1, 1.
        ("elevation", 1772.8533),
        ("slope", math.degrees(math.atan(0.654965))),
        ("soil_porosity", 0.53104776),
        ("soil_water_residual", 0.0676062),
        ("soil_thickness", 1.6037722),
        ("soil_hydraulic_conductivity", 1.8259603 / 86400),
        ("built_fraction", 0.0),
        ("water_fraction", 0.0),
    ],
)
def test_a_static_is_in_the_unit_of_the_vocabulary(pixel, name, expected):
    np.testing.assert_allclose(pixel[name], expected, rtol=1e-6)


def test_the_months_of_lai_are_those_stored_in_a_nominal_year(pixel, piave):
    np.testing.assert_allclose(
        pixel.lai[[0, 1, 6, 11]], [0.28912175, 0.13229957, 1.4258705, 0.4072377], rtol=1e-6
    )
    assert piave.time.dt.month.values.tolist() == list(range(1, 13))
    assert set(piave.time.dt.year.values) == {2000}
    assert schema.is_climatology(piave.lai)


def test_closed_deciduous_forest_is_split_as_poulter_has_it(pixel):
    shares = pixel.lc_fraction.squeeze("year")
    held = {c: round(float(s), 6) for c, s in zip(shares.lc_class.values, shares, strict=True) if s}

    # Poulter et al. 2015, table 2, class 61: 70 % trees, 15 % shrubs, 15 % grass.
    assert held == {"trees_bd": 0.7, "shrubs_bd": 0.15, "grass_nat": 0.15}


def test_the_weather_is_a_rate_and_an_absolute_temperature_of_each_day(pixel, piave):
    # Stored on the first two days: -2.8900337, -3.4835396 degC; 1.0720975, 0.10920316 mm.
    np.testing.assert_allclose(pixel.t2m[:2], [270.25997, 269.66646], rtol=1e-6)
    np.testing.assert_allclose(pixel.tp[:2] * 86400, [1.0720975, 0.10920316], rtol=1e-5)
    np.testing.assert_allclose(pixel.pet[0] * 86400, 0.6199983, rtol=1e-5)
    days = piave.forcing_time.values.astype("M8[D]")
    assert [str(days[0]), str(days[-1]), days.size] == ["2010-01-01", "2010-03-31", 90]


def test_everything_is_missing_outside_the_basin_and_nothing_inside(piave):
    # 1421 of 53 x 58 pixels hold -9999, -999, NaN or 230.
    for name, da in piave.drop_vars("co2").items():
        fields = da.size // (53 * 58)
        assert int(da.isnull().sum()) == 1421 * fields, name
    np.testing.assert_allclose(piave.lc_fraction.sum("lc_class", skipna=False).max(), 1, atol=1e-6)


def test_north_is_up_and_the_two_grids_are_one(piave):
    assert piave.latitude[0].item() == pytest.approx(46.68333333)
    assert piave.longitude[0].item() == pytest.approx(11.78333333)
    np.testing.assert_allclose(piave.forcing_latitude, piave.latitude, atol=1e-9)
    # The Dolomites in the north, the plain in the south.
    assert piave.elevation[:10].mean() > 3 * piave.elevation[-10:].mean()


def test_a_sentinel_of_another_layer_is_missing_too(copy):
    with netCDF4.Dataset(copy / MAPS, "a") as nc:
        nc.set_auto_maskandscale(False)
        nc["land_elevation"][ROW, COLUMN] = -999.0  # its own is -9999

    ds = ingest.piave(copy)

    assert ds.elevation[ROW, COLUMN].isnull()


def test_the_cube_is_lazy_and_conform_leaves_it_as_it_is(real_data):
    with dask.config.set(scheduler=forbid):
        ds = ingest.piave(real_data)

    assert schema.conform(ds).identical(ds)
    assert schema.check_cube(ds) == []
    assert all(da.chunks is not None for name, da in ds.items() if name != "co2")
    assert all(da.dtype == np.float32 for da in ds.data_vars.values())
    assert "ESA and UCLouvain" in ds.attrs["source"]
    assert "GPL-3.0-or-later" in ds.attrs["license"]


def test_all_missing_files_are_named_at_once(tmp_path):
    with pytest.raises(SourceError) as caught:
        ingest.piave(tmp_path)

    assert all(f in p for f, p in zip((MAPS, WEATHER, CO2), caught.value.problems, strict=True))


def test_layers_that_are_missing_or_in_another_unit_are_named_at_once(copy):
    with netCDF4.Dataset(copy / MAPS, "a") as nc:
        nc.renameVariable("soil_theta_s", "porosity")
        nc["land_elevation"].unit = "ft"
    with netCDF4.Dataset(copy / WEATHER, "a") as nc:
        nc["temp"].unit = "K"

    with pytest.raises(SourceError) as caught:
        ingest.piave(copy)

    unit, absent, temperature = caught.value.problems
    assert "'land_elevation': expected unit 'm'; found 'ft'" in unit
    assert "'soil_theta_s': expected it; found only" in absent
    assert "'temp': expected unit 'degree C.'; found 'K'" in temperature


def test_kelvin_that_is_called_celsius_is_refused_when_it_is_computed(copy):
    with netCDF4.Dataset(copy / WEATHER, "a") as nc:
        nc["temp"][:] = nc["temp"][:] + 273.15

    with pytest.raises(SourceError, match="'t2m': expected 170 to 340 K; found 5"):
        ingest.piave(copy).t2m.compute()


def test_a_file_is_read_as_the_maps_or_the_weather_that_it_holds(real_data, piave, no_compute):
    surface, days = (fields(open_source(real_data / file)) for file in (MAPS, WEATHER))

    assert set(days.data_vars) == {"t2m", "tp", "pet"}
    assert set(surface.data_vars) == set(piave.data_vars) - {"t2m", "tp", "pet", "co2"}
    assert all(da.chunks is not None for ds in (surface, days) for da in ds.data_vars.values())
    assert [ds.attrs["title"].split()[0] for ds in (surface, days)] == ["Land", "Weather"]


def test_the_fields_of_the_opened_files_are_those_of_the_folder(real_data, piave):
    for ds in (maps(open_source(real_data / MAPS)), weather(open_source(real_data / WEATHER))):
        for name, da in ds.compute().data_vars.items():
            assert da.identical(piave[name]), name


def test_a_file_of_neither_is_refused(real_data):
    table = open_source(real_data / "piave_wflow/globcover_mapping.csv")

    with pytest.raises(SourceError, match="globcover_mapping.csv: expected staticmaps.nc or the"):
        fields(table)


def test_months_in_another_order_are_refused(real_data):
    ds = open_source(real_data / MAPS)

    with pytest.raises(SourceError, match="'time': expected the months 1 to 12; found \\[12, 11"):
        maps(ds.isel(time=slice(None, None, -1)))
