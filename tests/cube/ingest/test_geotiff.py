import dask
import numpy as np
import pytest
import tifffile

from xlsbc.cube.ingest.geotiff import open_geotiff
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
