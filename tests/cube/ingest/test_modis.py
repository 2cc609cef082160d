import netCDF4
import numpy as np
import pytest
import xarray as xr

from tests.providers import modis as provider
from xlsbc.cube.ingest import modis
from xlsbc.cube.ingest.opening import open_source
from xlsbc.errors import SourceError

GRANULE = "modis_lai_uk_2012/MCD15A2.A2012177.h17v03.005.2012188150145.hdf"
SUBSET = "modis_lai_uk_2012/MCD15A2_2012_h17v03_subset.nc"
RADIUS = 6371007.181
PIXEL = 926.625433055833


def read(folder, **options):
    (file,) = provider.write(folder, **options)
    return open_source(file)


@pytest.fixture(scope="module")
def june(real_data):
    """The composite from 25 June 2012 of south-west Britain, all retrievals, computed."""
    ds = open_source(real_data / SUBSET).isel(time=[22])
    ds.encoding["source"] = str(real_data / SUBSET)
    return modis.leaf_area(ds, quality="all")["lai"].compute()


def stored(path, composite=22):
    """Numbers, latitudes of rows and longitudes of pixels, decoded by hand."""
    with netCDF4.Dataset(path) as nc:
        nc.set_auto_maskandscale(False)
        lai, qc = nc["Lai_1km"][composite], nc["FparLai_QC"][composite]
        latitude = np.rad2deg(nc["y"][:] / RADIUS)
        longitude = np.rad2deg(nc["x"][:] / (RADIUS * np.cos(np.deg2rad(latitude[:, None]))))
    return lai.astype(int), qc, latitude, longitude


def test_no_flag_becomes_leaf_area(june):
    # 254 by the scale would be 25.4; the largest number of the composite is 69 or less.
    assert float(june.max()) <= 6.9
    assert float(june.min()) >= 0
    assert june.dtype == np.float32


def test_the_grid_is_that_of_whole_120ths_and_rows_are_those_of_modis(june, real_data):
    _, _, latitude, longitude = stored(real_data / SUBSET)

    np.testing.assert_allclose(june["latitude"], latitude, atol=1e-7)
    steps = (june["longitude"].values + 180) * 120 - 0.5
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-6)
    # The box of the slanted piece, to within a pixel.
    assert abs(june["longitude"].values[0] - longitude.min()) < 1.5 / 120
    assert abs(june["longitude"].values[-1] - longitude.max()) < 1.5 / 120


def test_total_leaf_area_of_an_interior_region_is_conserved(june, real_data):
    lai, _, latitude, longitude = stored(real_data / SUBSET)
    # The rows are the same, so a row's area goes with its width: metres there, degrees here.
    errors, weights = [], []
    for row in range(60, 420):
        west, east = -3.0, -1.5
        mine = june.values[0, row, (june.longitude.values > west) & (june.longitude.values < east)]
        inside = (longitude[row] > west) & (longitude[row] < east)
        known = inside & (lai[row] <= 100)
        # Rows without a gap: there what goes in must come out.
        if known.sum() < inside.sum() or np.isnan(mine).any():
            continue
        errors.append(mine.mean() - lai[row][known].mean() / 10)
        weights.append(mine.mean())
    assert len(weights) > 20
    assert abs(np.sum(errors)) < 1e-3 * np.sum(weights)


def test_coasts_and_values_are_where_they_are_to_within_a_pixel(june, real_data):
    lai, _, latitude, _ = stored(real_data / SUBSET)
    with netCDF4.Dataset(real_data / SUBSET) as nc:
        first = nc["x"][0]
    # Columns of MODIS in which the pixels' centres lie: a pixel is 0.6 of them wide here.
    radius = RADIUS * np.cos(np.deg2rad(latitude))[:, None]
    column = (np.deg2rad(june.longitude.values) * radius - first) / PIXEL
    nearest = np.rint(column).astype(int)
    inside = (nearest >= 1) & (nearest < lai.shape[1] - 1)
    row = np.arange(len(latitude))[:, None]
    near = np.stack([lai[row, np.where(inside, nearest + k, 0)] for k in (-1, 0, 1)])
    water, known = inside & (near == 254).all(0), inside & (near <= 100).all(0)

    values = june.values[0]
    assert min(water.sum(), known.sum()) > 50_000
    assert np.isnan(values[water]).all()
    assert (values[known] >= near.min(0)[known] / 10 - 1e-5).all()
    assert (values[known] <= near.max(0)[known] / 10 + 1e-5).all()


def test_lough_neagh_is_water_and_its_eastern_shore_is_fields(real_data):
    part = modis.leaf_area(open_source(real_data / GRANULE), quality="all")["lai"]

    # The lake is at 54.6 N, 6.4 W and 15 km across.
    lake = part.sel(latitude=54.62, longitude=-6.42, method="nearest").compute()
    fields = part.sel(latitude=slice(54.70, 54.50), longitude=slice(-6.15, -6.00)).compute()
    assert lake.isnull().all()
    assert float(fields.notnull().mean()) > 0.8


def test_granule_and_repackaged_subset_give_the_same(june, real_data):
    part = modis.leaf_area(open_source(real_data / GRANULE), quality="all")["lai"].compute()

    assert part["time"].values.tolist() == june["time"].values.tolist()
    # Off the cut edges, which have less of their pixels.
    inner = june.isel(latitude=slice(2, -2), longitude=slice(120, -300))
    same = part.sel(latitude=inner.latitude, longitude=inner.longitude, method="nearest")
    np.testing.assert_allclose(same.values, inner.values, rtol=1e-5)


def test_a_year_of_composites_begins_on_the_eighth_day_each(real_data):
    part = modis.leaf_area(open_source(real_data / SUBSET))

    days = part["time"].values.astype("datetime64[D]")
    assert part.sizes["time"] == 46
    assert (days == np.datetime64("2012-01-01") + 8 * np.arange(46)).all()


def test_quality_is_told_by_bits_5_to_7(tmp_path):
    methods = [0 << 5, 1 << 5, 2 << 5, 3 << 5, 4 << 5]
    # Other bits are set too: sensor, detector and cloud are no reason to leave a value out.
    qc = np.repeat(np.array(methods) | 0b11111, 20)[None].repeat(20, 0)
    ds = read(tmp_path, collection="005", qc=qc, lai=np.full(qc.shape, 20), tile=(18, 8))

    known = {
        quality: int(np.rint(modis.leaf_area(ds, quality=quality)["lai"].notnull()[0, 10].sum()))
        for quality in ("best", "main", "all")
    }

    # 18 pixels of 926.6 m are 18 of 1/120 degree at the equator.
    assert {k: round(n / 20) for k, n in known.items()} == {"best": 1, "main": 2, "all": 4}
    comment = modis.leaf_area(ds)["lai"].attrs["comment"]
    assert "main algorithm only" in comment


def test_an_unknown_quality_is_refused(tmp_path):
    with pytest.raises(ValueError, match="quality must be one of best, main, all; found 'good'"):
        modis.leaf_area(read(tmp_path), quality="good")


@pytest.mark.parametrize("collection", ["005", "061"])
def test_numbers_are_tenths_in_either_collection(tmp_path, collection):
    part = modis.leaf_area(read(tmp_path, collection=collection))["lai"]

    np.testing.assert_allclose(part.max(), 2.5, rtol=1e-6)
    np.testing.assert_allclose(part.min(), 2.5, rtol=1e-6)


def test_four_pixels_of_500_m_become_their_mean(tmp_path):
    # At the equator and the prime meridian the grids coincide: 2 x 2 pixels are one.
    lai = np.tile(np.array([[10, 20], [30, 60]]), (4, 6))
    ds = read(tmp_path, tile=(18, 9), lai=lai)

    part = modis.leaf_area(ds)["lai"]

    assert part["latitude"].values[0] == pytest.approx(-0.5 / 120)
    assert part["longitude"].values[0] == pytest.approx(0.5 / 120)
    np.testing.assert_allclose(part.values[0, :, :5], 3.0, rtol=1e-5)


def test_a_pixel_with_less_than_half_known_is_missing(tmp_path):
    lai = np.tile(np.array([[10, 254], [254, 254]]), (4, 6))
    lai[:, 6:] = np.tile(np.array([[10, 254], [30, 20]]), (4, 3))
    ds = read(tmp_path, tile=(18, 9), lai=lai)

    part = modis.leaf_area(ds)["lai"]

    assert np.isnan(part.values[0, :, :3]).all()
    np.testing.assert_allclose(part.values[0, :, 3:5], 2.0, rtol=1e-5)


@pytest.mark.parametrize("order", [("x", "time", "y"), ("y", "x", "time")])
def test_the_order_and_the_directions_of_dimensions_do_not_matter(tmp_path, order):
    lai = np.arange(24 * 36).reshape(24, 36) % 101
    ds = read(tmp_path, lai=lai)
    turned = ds.transpose(*order).isel(y=slice(None, None, -1), x=slice(None, None, -1))

    xr.testing.assert_allclose(modis.leaf_area(turned), modis.leaf_area(ds))


def test_a_tile_that_reaches_beyond_the_globe_stays_on_it(tmp_path):
    # Tile h00v08 ends west of 180 W but at the equator.
    ds = read(tmp_path, collection="005", tile=(0, 8), row=1150, shape=(50, 60))

    part = modis.leaf_area(ds)["lai"].compute()

    assert part["longitude"].values[0] > -180
    assert part["latitude"].values[-1] == pytest.approx(0.5 / 120)
    assert float(part.notnull().mean()) > 0.5


def test_a_piece_of_a_tile_that_lies_off_the_globe_is_refused(tmp_path):
    # The corner of h17v17 by the South Pole, where the globe is narrower than the projection.
    ds = read(tmp_path, collection="005", tile=(17, 17), row=1176)

    with pytest.raises(SourceError, match="expected a tile on the globe"):
        modis.leaf_area(ds)


def test_a_tile_without_any_retrieval_is_missing_everywhere(tmp_path):
    ds = read(tmp_path, lai=np.full((24, 36), 254), qc=np.full((24, 36), provider.NONE))

    assert modis.leaf_area(ds)["lai"].isnull().all()


def test_data_decoded_on_opening_are_refused(real_data):
    with (
        xr.open_dataset(real_data / SUBSET, engine="netcdf4") as ds,
        pytest.raises(SourceError, match="'Lai_1km': expected whole numbers .* flags are leaf"),
    ):
        modis.leaf_area(ds)


def test_all_that_is_wrong_is_said_at_once(tmp_path):
    ds = read(tmp_path).drop_vars("FparLai_QC")
    ds["Lai_500m"].attrs["scale_factor"] = 0.01
    ds = ds.assign_coords(x=ds["x"] / 111e3)

    with pytest.raises(SourceError) as caught:
        modis.leaf_area(ds)

    text = str(caught.value)
    assert len(caught.value.problems) == 3
    assert "variable 'FparLai_QC': expected it" in text
    assert "expected scale_factor 0.1; found 0.01" in text
    assert "expected 'x' in metres" in text


def test_another_product_is_refused(tmp_path):
    ds = xr.Dataset({"NDVI": ("x", [1])})

    with pytest.raises(SourceError, match="expected a layer Lai_500m or Lai_1km; .*'NDVI'"):
        modis.leaf_area(ds)


def test_nothing_is_computed(real_data, no_compute):
    part = modis.leaf_area(open_source(real_data / SUBSET))

    assert part["lai"].chunks is not None
    assert part.attrs["license"]
