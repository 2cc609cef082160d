from importlib.util import find_spec

import dask
import numpy as np
import pytest
import tifffile

from tests.providers import cog
from xlsbc.cube.ingest import geotiff
from xlsbc.cube.ingest.geotiff import open_geotiff, open_raster
from xlsbc.cube.ingest.opening import open_source
from xlsbc.errors import SourceError

SCALE, TIEPOINT, KEYS, NODATA = 33550, 33922, 34735, 42113
VALUES = np.array([[1, 2, 3], [4, 5, -99]], np.int16)


def forbid(*args, **kwargs):
    raise AssertionError("something was computed")


@pytest.fixture
def write(tmp_path):
    """A factory of GeoTIFFs of 2 x 3 pixels of 0.5 x 0.25 degree, tied at 10 E, 47 N."""

    def make(values=VALUES, model=2, raster=1, tie=(0, 0, 0, 10, 47, 0), nodata=None, scale=True):
        keys = (1, 1, 0, 3, 1024, 0, 1, model, 1025, 0, 1, raster, 2048, 0, 1, 4326)
        tags = [(TIEPOINT, "d", 6, tuple(map(float, tie)), True), (KEYS, "H", 16, keys, True)]
        if scale:
            tags.append((SCALE, "d", 3, (0.5, 0.25, 0.0), True))
        if nodata is not None:
            tags.append((NODATA, "s", 0, nodata, True))
        path = tmp_path / "dem.tif"
        photometric = "rgb" if values.ndim == 3 else "minisblack"
        tifffile.imwrite(path, values, extratags=tags, photometric=photometric)
        return path

    return make


def test_a_pixel_of_an_area_lies_half_a_step_from_the_tie_point(write):
    da = open_geotiff(write())

    np.testing.assert_allclose(da.latitude, [46.875, 46.625], rtol=1e-15)
    np.testing.assert_allclose(da.longitude, [10.25, 10.75, 11.25], rtol=1e-15)


def test_a_pixel_of_points_lies_on_the_tie_point(write):
    da = open_geotiff(write(raster=2))

    np.testing.assert_allclose(da.latitude, [47.0, 46.75], rtol=1e-15)
    np.testing.assert_allclose(da.longitude, [10.0, 10.5, 11.0], rtol=1e-15)


def test_a_tie_point_may_name_another_pixel_than_the_first(write):
    da = open_geotiff(write(tie=(2, 1, 0, 10, 47, 0)))

    np.testing.assert_allclose(da.latitude, [47.125, 46.875], rtol=1e-15)
    np.testing.assert_allclose(da.longitude, [9.25, 9.75, 10.25], rtol=1e-15)


def test_values_keep_their_place_and_become_float32(write):
    da = open_geotiff(write())

    assert da.dtype == np.float32
    np.testing.assert_array_equal(da, VALUES)


def test_the_stated_no_data_value_is_nan_and_nothing_else_is(write):
    da = open_geotiff(write(nodata="-99"))

    np.testing.assert_array_equal(da, [[1, 2, 3], [4, 5, np.nan]])


def test_overviews_behind_the_first_image_are_left_alone(write):
    path = write()
    tifffile.imwrite(path, VALUES[:1, :1], append=True)

    np.testing.assert_array_equal(open_geotiff(path), VALUES)


def test_only_the_header_is_read(write):
    path = write()

    with dask.config.set(scheduler=forbid):
        da = open_geotiff(path)

    assert da.chunks == ((2,), (3,))


def test_all_that_is_wrong_in_the_header_is_listed_at_once(write):
    colour = np.zeros((2, 5, 3), np.uint8)

    with pytest.raises(SourceError) as caught:
        open_geotiff(write(colour, model=1, scale=False))

    bands, model, scale = caught.value.problems
    assert "expected one band; found an image of shape" in bands
    assert "expected geographic (2); found" in model
    assert "ModelPixelScale: expected 3 numbers; found none" in scale


def test_an_image_that_is_no_geotiff_is_refused(tmp_path):
    path = tmp_path / "photo.tif"
    tifffile.imwrite(path, VALUES)

    with pytest.raises(SourceError, match="expected geographic.*ModelTiepoint: expected 6 numbers"):
        open_geotiff(path)


@pytest.mark.parametrize("content", [b"", b"not a tiff", b"II*\0\0\0\0\0"])
def test_a_file_that_is_no_tiff_is_named(tmp_path, content):
    path = tmp_path / "dem.tif"
    path.write_bytes(content)

    with pytest.raises(SourceError, match=rf"dem\.tif: expected a GeoTIFF; found {len(content)} b"):
        open_geotiff(path)


def test_pixels_that_were_cut_off_are_reported_when_they_are_read(write):
    path = write(np.ones((50, 50), np.int16))
    path.write_bytes(path.read_bytes()[:-1000])
    da = open_geotiff(path)

    with pytest.raises(SourceError, match=r"dem\.tif: expected a complete GeoTIFF"):
        da.compute()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SourceError, match=r"gone\.tif: expected a file; found nothing"):
        open_geotiff(tmp_path / "gone.tif")


WHERE = {"west": 10.0, "north": 47.0, "step": 0.01}
NOISE = np.random.default_rng(0).integers(-3000, 3000, (50, 70)).astype(np.int16)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(geotiff, "BLOCK", 20)


@pytest.mark.parametrize("tile", [(16, 16), (16, 32), None])
@pytest.mark.parametrize("values", [NOISE, NOISE.astype(np.float32) / 7, NOISE.astype("u1")])
def test_blocks_of_tiles_and_strips_are_put_where_they_belong(tmp_path, small_blocks, tile, values):
    strips = {"rowsperstrip": 7} if tile is None else {}
    path = cog.write(tmp_path, "a.tif", values, tile=tile, **strips, **WHERE)

    band = open_raster(path).band

    assert len(band.chunks[0]) > 2
    assert band.dtype == values.dtype
    np.testing.assert_array_equal(band, values)
    np.testing.assert_array_equal(band[13:41, 5:66], values[13:41, 5:66])


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_several_bands_stand_in_front(tmp_path, small_blocks, planar):
    values = np.stack([NOISE, -NOISE, NOISE // 2], axis=2 if planar == "contig" else 0)
    path = cog.write(
        tmp_path, "a.tif", values, planarconfig=planar, overviews=False, predictor=None, **WHERE
    )

    band = open_raster(path).band

    assert band.dims == ("sample", "latitude", "longitude")
    np.testing.assert_array_equal(band, np.stack([NOISE, -NOISE, NOISE // 2]))


def test_a_window_decodes_the_tiles_that_it_touches_and_no_others(tmp_path, monkeypatch):
    path = cog.write(tmp_path, "a.tif", np.zeros((160, 160), np.int16), **WHERE)
    decoded = []
    paste = geotiff._paste
    monkeypatch.setattr(geotiff, "_paste", lambda *a: (decoded.append(a), paste(*a)))

    open_raster(path).band[40:60, 100:110].compute()

    # Rows 32 to 64 and columns 96 to 112: two tiles of the hundred.
    assert len(decoded) == 2


def test_tiles_that_gdal_left_out_are_the_no_data_value(tmp_path):
    path = cog.write(tmp_path, "a.tif", NOISE, nodata="-9999", overviews=False, **WHERE)
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        tag = tiff.pages[0].tags["TileByteCounts"]
        tag.overwrite([0, *tag.value[1:]])

    band = open_raster(path).band.values

    assert (band[:16, :16] == -9999).all()
    np.testing.assert_array_equal(band[16:], NOISE[16:])


@pytest.mark.parametrize(
    ("values", "nodata", "expected"),
    [
        (NOISE, "-32768", np.int16(-32768)),
        (NOISE.astype("f4"), "-3.4028234663852886e+38", np.finfo("f4").min),
        (NOISE.astype("u1"), "-9999", None),  # what a byte cannot hold means nothing
        (NOISE, None, None),
    ],
)
def test_the_no_data_value_is_of_the_type_of_the_pixels(tmp_path, values, nodata, expected):
    attrs = open_raster(cog.write(tmp_path, "a.tif", values, nodata=nodata, **WHERE)).band.attrs

    assert attrs.get("_FillValue") == expected
    assert expected is None or attrs["_FillValue"].dtype == values.dtype


def test_scale_offset_unit_and_description_are_those_of_gdal(tmp_path):
    said = {"scale": ["0.1"], "offset": ["5"], "unittype": ["m"], "description": ["height"]}
    ds = open_source(cog.write(tmp_path, "a.tif", NOISE, metadata=said, **WHERE))

    attrs = ds.band.attrs
    assert (attrs["scale_factor"], attrs["add_offset"]) == (0.1, 5.0)
    assert (attrs["units"], attrs["long_name"]) == ("m", "height")
    np.testing.assert_array_equal(ds.band, NOISE)


def test_bands_of_different_scale_are_refused(tmp_path):
    values = np.stack([NOISE, NOISE], axis=2)
    said = {"scale": ["0.1", "1.0"]}
    path = cog.write(
        tmp_path, "a.tif", values, metadata=said, predictor=None, overviews=False, **WHERE
    )

    with pytest.raises(SourceError, match=r"its bands differ in scale: 0\.1, 1\.0"):
        open_source(path)


def test_a_projected_raster_is_in_metres_and_says_its_projection(tmp_path):
    path = cog.write(
        tmp_path, "a.tif", NOISE, west=561000, north=5194000, step=30, epsg=32632, projected=True
    )

    ds = open_raster(path)

    assert ds.band.dims == ("y", "x")
    assert ds.band.attrs["crs"] == "EPSG:32632"
    np.testing.assert_allclose(ds.x[:2], [561015, 561045])
    np.testing.assert_allclose(ds.y[:2], [5193985, 5193955])


def test_a_matrix_without_a_turn_places_pixels_like_a_tie_point(tmp_path):
    matrix = (0.01, 0, 0, 10, 0, -0.02, 0, 47, 0, 0, 0, 0, 0, 0, 0, 1)
    ds = open_raster(cog.write(tmp_path, "a.tif", NOISE, matrix=matrix, **WHERE))

    np.testing.assert_allclose(ds.longitude[:2], [10.005, 10.015])
    np.testing.assert_allclose(ds.latitude[:2], [46.99, 46.97])


def test_a_turned_image_is_refused(tmp_path):
    matrix = (0.01, 0.002, 0, 10, 0.002, -0.01, 0, 47, 0, 0, 0, 0, 0, 0, 0, 1)
    path = cog.write(tmp_path, "a.tif", NOISE, matrix=matrix, **WHERE)

    with pytest.raises(SourceError, match="found an image that is turned.*reproject"):
        open_raster(path)


def test_feet_are_refused(tmp_path):
    path = cog.write(tmp_path, "a.tif", NOISE, projected=True, epsg=2263, units=9003, **WHERE)

    with pytest.raises(SourceError, match="ProjLinearUnitsGeoKey: expected EPSG unit 9001; found"):
        open_raster(path)


@pytest.mark.skipif(find_spec("imagecodecs") is not None, reason="imagecodecs reads it")
@pytest.mark.parametrize(("tag", "code", "name"), [(259, 5, "LZW"), (259, 50000, "ZSTD")])
def test_a_packing_that_needs_another_package_names_it(tmp_path, tag, code, name):
    path = cog.write(tmp_path, "a.tif", NOISE, overviews=False, **WHERE)
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        tiff.pages[0].tags[tag].overwrite(code)

    with pytest.raises(SourceError, match=f"found {name}; install imagecodecs"):
        open_raster(path)


def test_lzw_and_the_predictor_of_floats_are_read_with_imagecodecs(tmp_path):
    pytest.importorskip("imagecodecs")
    floats = NOISE.astype("f4") / 7
    packed = cog.write(tmp_path, "lzw.tif", NOISE, compression="lzw", **WHERE)
    predicted = cog.write(tmp_path, "float.tif", floats, predictor=3, **WHERE)

    np.testing.assert_array_equal(open_raster(packed).band, NOISE)
    np.testing.assert_array_equal(open_raster(predicted).band, floats)


def test_opening_computes_nothing_and_the_raster_survives_pickling(tmp_path, no_compute):
    import pickle

    path = cog.write(tmp_path, "a.tif", NOISE, **WHERE)

    ds = pickle.loads(pickle.dumps(open_raster(path)))

    assert len(pickle.dumps(ds)) < 20_000
    with dask.config.set(scheduler="synchronous"):
        np.testing.assert_array_equal(ds.band, NOISE)


def test_the_real_elevations_are_placed_and_read_as_stored(real_data):
    davos = open_source(real_data / "davos_era5_hourly/dem_SRTM1_proj.tif").band
    oetztal = open_source(real_data / "oetztal_era5_monthly/srtm_oetztal.tif").band.compute()

    # Read with tifffile; tie points 561159.94 E, 5194536.92 N and 10.62247751 E, 47.02667856 N.
    assert davos.values[[0, 400, 746], [0, 250, 499]].tolist() == [1089, 2114, 2870]
    np.testing.assert_allclose(davos.x[0], 561159.9383965757 + 15)
    np.testing.assert_allclose(davos.y[-1], 5194536.92070381 - 30 * 746.5)
    assert (davos.attrs["_FillValue"], davos.attrs["crs"]) == (-32768, "EPSG:32632")
    assert (oetztal.min().item(), oetztal.max().item()) == (387, 3727)
    assert "_FillValue" not in oetztal.attrs
