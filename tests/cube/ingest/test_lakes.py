import numpy as np
import pytest

from tests.providers import cog
from tests.providers import lakes as provider
from xlsbc.cube.ingest import lakes
from xlsbc.cube.ingest.opening import open_source
from xlsbc.errors import SourceError


@pytest.fixture
def files(tmp_path):
    return provider.write(tmp_path)


def read(path, **options):
    return lakes.fraction(open_source(path), **options)


def test_era5_lake_cover_fills_the_pixels_of_its_cell(files):
    ds = read(files[0]).compute()

    # Two rows and three columns of 30 pixels each, from 9.875 E and 47.125 N.
    assert dict(ds.sizes) == {"latitude": 60, "longitude": 90}
    assert ds.longitude[0].item() == pytest.approx(9.875 + 0.5 / 120, rel=1e-12)
    assert ds.latitude[0].item() == pytest.approx(47.125 - 0.5 / 120, rel=1e-12)
    # Packing resolves 1.5e-5 of 1.
    np.testing.assert_allclose(ds.lake_fraction[:30, :30], 0.25, atol=1e-5)
    np.testing.assert_allclose(ds.lake_fraction[30:], 0.0, atol=1e-5)
    np.testing.assert_allclose(ds.lake_depth, 30.0, atol=0.01)


def test_era5_depth_alone_says_no_share_of_lakes(files):
    ds = lakes.fraction(open_source(files[0])[["dl"]])

    assert list(ds) == ["lake_depth"]


def test_the_global_lake_database_is_in_decimetres_and_a_lake_is_where_a_depth_is(files):
    ds = read(files[1]).compute()

    # 10 x 10 pixels of 1/1200 degree in each; the lake is the upper half of the first, which is
    # smaller than the lower by 8e-5 at this latitude.
    assert dict(ds.sizes) == {"latitude": 4, "longitude": 6}
    assert ds.lake_fraction[0, 0].item() == pytest.approx(0.5, abs=5e-5)
    assert ds.lake_depth[0, 0].item() == pytest.approx(23.5, rel=1e-6)
    assert ds.lake_depth.isnull().sum() == 23
    assert float(ds.lake_fraction.sum()) == pytest.approx(0.5, abs=5e-5)


def test_any_number_of_a_lake_is_a_lake_and_missing_is_none(files):
    ds = read(files[2]).compute()

    np.testing.assert_allclose(ds.lake_fraction[0], [0.5, 0.5, 0, 0, 0, 0], atol=5e-5)
    assert ds.lake_fraction.notnull().all()
    assert list(ds) == ["lake_fraction"]


def test_a_raster_whose_name_says_nothing_is_read_as_what_is_given(tmp_path):
    values = np.full((20, 30), 0.5, np.float32)
    path = cog.write(tmp_path, "map.tif", values, west=10, north=47, step=1 / 240)

    with pytest.raises(SourceError, match="found band, which says none of them; pass content="):
        read(path)
    np.testing.assert_allclose(read(path, content="fraction").lake_fraction, 0.5)
    with pytest.raises(SourceError, match="content must be one of fraction, depth, identifier"):
        read(path, content="lakes")


def test_depths_in_decimetres_that_say_nothing_are_refused(tmp_path):
    values = np.full((20, 30), 4000, np.int16)
    path = cog.write(tmp_path, "lake_depth.tif", values, west=10, north=47, step=1 / 240)
    ds = read(path)

    with pytest.raises(SourceError, match="up to 1700 m; found 4000; they are in another unit"):
        ds.compute()


def test_a_share_in_percent_is_refused_when_it_is_computed(tmp_path):
    values = np.full((20, 30), 35.0, np.float32)
    path = cog.write(tmp_path, "lake_fraction.tif", values, west=10, north=47, step=1 / 240)
    ds = read(path)

    with pytest.raises(SourceError, match="'lake_fraction': expected 0 to 1 1; found 35 to 35"):
        ds.compute()


def test_nothing_is_read_before_it_is_computed(files, no_compute):
    for path in files:
        assert read(path).lake_fraction.chunks is not None
