import numpy as np
import pytest
import xarray as xr

from tests.providers import soils as provider
from xlsbc.cube.ingest import soils
from xlsbc.cube.ingest.opening import open_source
from xlsbc.errors import SourceError, SourceWarning


def read(path, **options):
    return soils.properties(open_source(path), **options)


@pytest.mark.parametrize(
    ("layer", "stored", "name", "expected"),
    [
        ("clay_0-5cm_mean", 215, "clay_fraction", 0.215),  # g kg-1
        ("silt_0-5cm_mean", 1000, "silt_fraction", 1.0),
        ("sand_5-15cm_mean", 40, "sand_fraction_5_15cm", 0.04),
        ("ocs_0-30cm_mean", 57, "soil_carbon", 5.7),  # t ha-1: 57 t on 10 000 m2 are 5.7 kg m-2
        ("soc_0-5cm_mean", 321, "soil_carbon_content", 0.0321),  # dg kg-1: 32.1 g kg-1
        ("ocd_15-30cm_mean", 250, "soil_carbon_density_15_30cm", 25.0),  # hg m-3
    ],
)
def test_stored_integers_are_in_the_units_that_isric_documents(
    tmp_path, layer, stored, name, expected
):
    [path] = provider.write(tmp_path, {layer: stored})

    ds = read(path)

    assert list(ds) == [name]
    np.testing.assert_allclose(ds[name], expected, rtol=1e-6)


def test_a_pixel_is_the_mean_of_its_sixteen_and_rows_run_south(tmp_path):
    # 4 x 4 of the 1/480 degree in one of 1/120: row 2 of column 3 holds 16..31 by their order.
    stored = np.zeros((48, 64), np.int16)
    stored[8:12, 12:16] = np.arange(16, 32).reshape(4, 4)
    [path] = provider.write(tmp_path, {"clay_0-5cm_mean": stored}, missing=False)

    ds = read(path).compute()

    assert dict(ds.sizes) == {"latitude": 12, "longitude": 16}
    np.testing.assert_allclose(ds.latitude[[0, 2]], [47 - 0.5 / 120, 47 - 2.5 / 120], rtol=1e-12)
    np.testing.assert_allclose(ds.longitude[3], 10 + 3.5 / 120, rtol=1e-12)
    # Weights differ by less than 1e-4 over a pixel.
    assert ds.clay_fraction[2, 3].item() == pytest.approx(0.0235, rel=1e-4)
    assert float(ds.clay_fraction.sum()) == pytest.approx(0.0235, rel=1e-4)


def test_missing_pixels_do_not_count_and_half_of_a_pixel_must_be_known(tmp_path):
    stored = np.full((48, 64), 300, np.int16)
    stored[:4, :3] = -32768  # 12 of the 16 of the first pixel
    stored[:4, 4:5] = -32768  # 4 of the 16 of the second
    [path] = provider.write(tmp_path, {"clay_0-5cm_mean": stored}, missing=False)

    clay = read(path).clay_fraction.compute()

    assert clay.isnull().sum() == 1
    assert clay[0, 0].isnull()
    assert clay[0, 1].item() == pytest.approx(0.3, rel=1e-6)


@pytest.mark.parametrize("says_crs", [True, False])
def test_homolosine_is_placed_where_pyproj_has_it(tmp_path, says_crs):
    import pyproj

    to_metres = pyproj.Transformer.from_crs("EPSG:4326", soils.HOMOLOSINE, always_xy=True)
    x, y = to_metres.transform(11.0, 47.0)
    columns = np.arange(200)
    stored = np.broadcast_to(columns, (120, 200)).astype(np.int16)
    options = {} if says_crs else {"citation": "unknown"}
    [path] = provider.write(
        tmp_path,
        {"clay_0-5cm_mean": stored},
        projected=True,
        west=x,
        north=y,
        missing=False,
        **options,
    )

    ds = read(path).compute()

    # The third row and 20th column of the lattice from the corner: its centre in metres.
    lat, lon = 47 - 20.5 / 120, 11 + 20.5 / 120
    east, _ = to_metres.transform(lon, lat)
    found = ds.clay_fraction.sel(latitude=lat, longitude=lon, method="nearest").item()
    # 250 m columns; sub-pixels along the rim shift a mean by a small part of one.
    assert found * 1000 == pytest.approx((east - x) / 250 - 0.5, abs=0.1)


@pytest.mark.parametrize("layer", ["clay_0-5cm_Q0.95", "phh2o_0-5cm_mean", "texture"])
def test_what_is_not_the_mean_of_a_known_property_is_refused(tmp_path, layer):
    [path] = provider.write(tmp_path, {layer: 60})

    with pytest.raises(SourceError, match="expected the mean of clay, silt.*pass layer="):
        read(path)


def test_a_file_that_was_renamed_is_read_as_the_layer_that_is_given(tmp_path):
    [path] = provider.write(tmp_path, {"download": 215})

    assert list(read(path, layer="silt_0-5cm_mean")) == ["silt_fraction"]


def test_a_share_above_one_is_refused_when_it_is_computed(tmp_path):
    [path] = provider.write(tmp_path, {"clay_0-5cm_mean": 2150})
    ds = read(path)

    with pytest.raises(SourceError, match="'clay_fraction': expected 0 to 1 1; found"):
        ds.compute()


def test_a_file_that_was_scaled_by_others_is_refused(tmp_path):
    [path] = provider.write(tmp_path, metadata={"scale": ["0.1"]})

    with pytest.raises(SourceError, match="expected numbers as ISRIC stores them"):
        read(path)


def test_a_layer_as_netcdf_is_read_like_the_raster(tmp_path):
    path = tmp_path / "clay_0-5cm_mean.nc"
    stored = np.full((4, 8), 215, np.int16)
    coords = {"lat": 47 - (np.arange(4) + 0.5) / 480, "lon": 10 + (np.arange(8) + 0.5) / 480}
    da = xr.DataArray(stored, coords, ("lat", "lon"), attrs={"_FillValue": np.int16(-32768)})
    da.to_dataset(name="Band1").to_netcdf(path)

    ds = read(path)

    np.testing.assert_allclose(ds.clay_fraction, [[0.215, 0.215]], rtol=1e-6)


def test_nothing_is_read_before_it_is_computed(tmp_path, no_compute):
    [path] = provider.write(tmp_path)

    ds = read(path)

    assert ds.clay_fraction.chunks is not None
    assert ds.clay_fraction.attrs["standard_name"] == "volume_fraction_of_clay_in_soil"
    assert "mass of the fine earth" in ds.clay_fraction.attrs["comment"]
    assert ds.attrs["license"] == "CC-BY-4.0"


def test_the_conductivity_of_bhima_is_in_centimetres_a_day_as_its_title_says(real_data):
    with pytest.warns(SourceWarning, match=r"units '\[-\]' of 'ksat1' read as cm day-1"):
        ds = read(real_data / "bhima_landuse_1km/ksat1_UB_1km.nc")

    # Stored in the first and last pixel: 290.06 and 58.51.
    k = ds.soil_hydraulic_conductivity.compute()
    np.testing.assert_allclose(k[0, 0], 2.9006 / 86400, rtol=1e-6)
    np.testing.assert_allclose(k[-1, -1], 0.5851 / 86400, rtol=1e-6)
    assert "read as cm day-1" in k.attrs["comment"]


def test_the_porosity_of_bhima_is_what_is_stored(real_data):
    ds = read(real_data / "bhima_landuse_1km/thetas1_UB_1km.nc").compute()

    assert ds.soil_porosity[0, 0].item() == pytest.approx(0.3708)
    assert ds.soil_porosity[-1, -1].item() == pytest.approx(0.4485)
    assert dict(ds.sizes) == {"latitude": 320, "longitude": 370}


@pytest.mark.filterwarnings("ignore::xlsbc.errors.SourceWarning")
def test_the_soils_of_the_piave_are_what_is_stored(real_data):
    ds = read(real_data / "piave_wflow/staticmaps.nc").isel(latitude=20, longitude=30).compute()

    assert ds.soil_porosity.item() == pytest.approx(0.53104776)
    assert ds.soil_thickness.item() == pytest.approx(1.6037722)
    assert ds.soil_hydraulic_conductivity.item() == pytest.approx(1.8259603 / 86400)


def test_a_file_without_soils_says_what_it_holds(real_data):
    with pytest.raises(SourceError, match="expected a layer of SoilGrids.*found tanslope"):
        read(real_data / "bhima_landuse_1km/tanslope_UB_1km.nc")
