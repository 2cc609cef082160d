import dask
import numpy as np
import pytest
import xarray as xr

from tests.providers import cog
from xlsbc.cube.ingest import terrain
from xlsbc.cube.ingest.opening import open_source
from xlsbc.cube.ingest.terrain import area_mean, slope
from xlsbc.errors import SourceError

RADIUS = 6371229.0


def forbid(*args, **kwargs):
    raise AssertionError("something was computed")


def field(values, north=47.0, west=10.0, step=0.25):
    values = np.asarray(values, float)
    rows, columns = values.shape
    return xr.DataArray(
        values,
        coords={
            "latitude": north - step * np.arange(rows),
            "longitude": west + step * np.arange(columns),
        },
        dims=("latitude", "longitude"),
    )


def axis(name, first, step, size):
    return xr.DataArray(first + step * np.arange(size), dims=name, name=name).pipe(
        lambda da: da.assign_coords({name: da})
    )


def shared_area(fine, row, column, north, south, west, east):
    """Area of a fine pixel within a box, by the zone's closed form, m2."""
    half = 0.125
    lat, lon = fine.latitude.values[row], fine.longitude.values[column]
    top, bottom = min(lat + half, north), max(lat - half, south)
    right, left = min(lon + half, east), max(lon - half, west)
    if top <= bottom or right <= left:
        return 0.0
    band = np.sin(np.radians(top)) - np.sin(np.radians(bottom))
    return RADIUS**2 * np.radians(right - left) * band


def test_ground_that_rises_to_the_east_by_its_own_run_is_at_45_degrees():
    metres = RADIUS * np.cos(np.radians(0.0)) * np.radians(0.01)
    elevation = field(np.tile(metres * np.arange(5), (3, 1)), north=0.01, step=0.01)

    angle = slope(elevation)

    # The middle row is the equator.
    np.testing.assert_allclose(angle[1, 1:-1], 45.0, rtol=1e-6)


def test_ground_that_rises_to_the_north_is_as_steep_at_any_latitude():
    rise = 0.5 * RADIUS * np.radians(0.01)
    elevation = field(np.tile(-rise * np.arange(4)[:, None], (1, 3)), north=60.0, step=0.01)

    np.testing.assert_allclose(slope(elevation)[1:-1, 1], np.degrees(np.arctan(0.5)), rtol=1e-6)


def test_the_same_rise_to_the_east_is_twice_as_steep_at_60_degrees():
    elevation = field(np.tile(10.0 * np.arange(3), (3, 1)), north=60.01, step=0.01)

    ratio = 10.0 / (RADIUS * 0.5 * np.radians(0.01))
    np.testing.assert_allclose(slope(elevation)[1, 1], np.degrees(np.arctan(ratio)), rtol=1e-6)


def test_a_rough_3_x_3_patch_of_5_m_pixels_is_as_steep_as_the_gis_handbook_says():
    # Esri, "How Slope works": 75.25762 degrees for the pixel in the middle.
    step = np.degrees(5.0 / RADIUS)
    elevation = field([[50, 45, 50], [30, 30, 30], [8, 10, 10]], north=step, step=step)

    np.testing.assert_allclose(slope(elevation)[1, 1], 75.25762, rtol=1e-6)


def test_flat_ground_has_no_slope_and_the_rim_is_unknown():
    angle = slope(field(np.full((3, 4), 700.0)))

    expected = np.full((3, 4), np.nan)
    expected[1, 1:3] = 0.0
    np.testing.assert_array_equal(angle, expected)


def test_the_pixels_around_a_missing_one_have_no_slope():
    elevation = field(np.zeros((7, 9)))
    elevation[3, 4] = np.nan

    known = np.isfinite(slope(elevation).values)

    expected = np.zeros((7, 9), bool)
    expected[1:-1, 1:-1] = True
    expected[2:5, 3:6] = False
    np.testing.assert_array_equal(known, expected)


def test_where_the_pixels_nest_the_mean_is_that_of_the_pixels_in_each():
    rng = np.random.default_rng(0)
    fine = field(rng.normal(size=(6, 10)), north=0.625)
    # Rows of 3 about the equator: bands of one area but for 3e-6.
    coarse = area_mean(fine, axis("latitude", 0.375, -0.75, 2), axis("longitude", 10.125, 0.5, 5))

    expected = fine.values.reshape(2, 3, 5, 2).mean((1, 3))
    np.testing.assert_allclose(coarse, expected, atol=1e-4)


def test_where_the_pixels_do_not_nest_each_counts_by_the_area_it_shares():
    fine = field(np.random.default_rng(1).normal(100, 30, size=(9, 11)))
    latitude, longitude = axis("latitude", 46.5, -0.6, 2), axis("longitude", 10.55, 0.7, 3)

    coarse = area_mean(fine, latitude, longitude)

    for i, lat in enumerate(latitude.values):
        for j, lon in enumerate(longitude.values):
            box = lat + 0.3, lat - 0.3, lon - 0.35, lon + 0.35
            weights = np.array(
                [[shared_area(fine, r, c, *box) for c in range(11)] for r in range(9)]
            )
            expected = (weights * fine.values).sum() / weights.sum()
            np.testing.assert_allclose(coarse[i, j], expected, rtol=1e-6)


def test_a_pixel_that_touches_a_missing_one_is_missing_and_its_neighbours_are_not():
    fine = field(np.ones((6, 9)), north=46.875, west=10.125)
    fine[0, 4] = np.nan

    coarse = area_mean(fine, axis("latitude", 46.625, -0.75, 2), axis("longitude", 10.375, 0.75, 3))

    np.testing.assert_allclose(coarse, [[1, np.nan, 1], [1, 1, 1]], rtol=1e-6)


def test_a_pixel_that_reaches_beyond_the_fine_grid_is_missing():
    fine = field(np.ones((6, 9)), north=46.875, west=10.125)

    coarse = area_mean(fine, axis("latitude", 46.625, -0.75, 2), axis("longitude", 10.425, 0.75, 3))

    np.testing.assert_allclose(coarse, [[1, 1, np.nan], [1, 1, np.nan]], rtol=1e-6)


@pytest.mark.parametrize("lazy", [True, False])
def test_means_and_slopes_of_lazy_ground_are_lazy_and_equal(lazy):
    fine = field(np.random.default_rng(2).normal(size=(8, 10)))
    latitude, longitude = axis("latitude", 46.5, -0.5, 3), axis("longitude", 10.5, 0.6, 3)
    expected = area_mean(slope(fine), latitude, longitude)

    with dask.config.set(scheduler=forbid):
        found = area_mean(slope(fine.chunk() if lazy else fine), latitude, longitude)

    assert (found.chunks is not None) == lazy
    xr.testing.assert_identical(found.compute(), expected)


def plane(rows, columns, per_row=-2.0, per_column=3.0):
    return per_row * np.arange(rows)[:, None] + per_column * np.arange(columns) + 500.0


def read(path, **options):
    return terrain.elevation(open_source(path), **options)


@pytest.mark.parametrize("dims", [("latitude", "longitude"), ("y", "x")])
def test_a_slope_in_many_blocks_is_that_in_one(dims):
    values = np.random.default_rng(3).normal(size=(23, 31)) * 100
    values[11, 7] = np.nan
    scale = 1.0 if dims[0] == "y" else 1e-3
    axes = [45 - 30 * scale * np.arange(23), 10 + 30 * scale * np.arange(31)]
    da = xr.DataArray(values, dict(zip(dims, axes, strict=True)), dims)

    with dask.config.set(scheduler=forbid):
        blocks = slope(da.chunk(dict(zip(dims, (5, 8), strict=True))))

    assert len(blocks.chunks[0]) == 5
    np.testing.assert_array_equal(blocks, slope(da))
    assert np.isnan(slope(da)).sum() == 2 * 31 + 2 * 21 + 9


def test_ground_in_metres_that_rises_by_its_own_run_is_at_45_degrees():
    da = xr.DataArray(
        np.tile(30.0 * np.arange(5), (4, 1)),
        {"y": 5e6 - 30.0 * np.arange(4), "x": 5e5 + 30.0 * np.arange(5)},
        ("y", "x"),
    )

    np.testing.assert_allclose(slope(da)[1:-1, 1:-1], 45.0, rtol=1e-6)


def test_neighbouring_tiles_share_no_pixel_and_leave_out_none(tmp_path):
    # Tiles of the Copernicus DEM reach half a pixel beyond the whole degree, to the west and north.
    step, paths = 1 / 1200, []
    for i in range(2):
        values = np.full((120, 120), 100 + i, np.int16)
        west, north = 10.9 + i / 10 - step / 2, 47 + step / 2
        paths.append(cog.write(tmp_path, f"tile{i}.tif", values, west=west, north=north, step=step))

    one, other = (read(path).compute() for path in paths)

    # 0.1 degree are 12 pixels of the lattice.
    np.testing.assert_allclose(one.longitude, 10.9 + (np.arange(12) + 0.5) / 120, rtol=1e-12)
    np.testing.assert_allclose(other.longitude, 11.0 + (np.arange(12) + 0.5) / 120, rtol=1e-12)
    assert one.elevation.notnull().all()
    assert other.elevation.notnull().all()
    assert set(np.unique(other.elevation)) == {101}


def test_the_mosaic_of_two_tiles_has_slopes_where_they_meet(tmp_path):
    # At the resolution of the lattice, a rim without slopes is a rim of pixels.
    whole, paths = plane(24, 48).astype(np.int16), []
    for i in range(2):
        where = {"west": 10 + i * 0.2, "north": 47, "step": 1 / 120, "tile": (16, 16)}
        paths.append(cog.write(tmp_path, f"{i}.tif", whole[:, 24 * i : 24 * i + 24], **where))
    tiles = [open_source(path) for path in paths]

    alone = [terrain.elevation(tile).slope for tile in tiles]
    mosaic = terrain.elevation(xr.combine_by_coords(tiles, combine_attrs="override")).compute()

    assert all(int(da.isnull().sum()) == 2 * 24 + 2 * 22 for da in alone)
    assert int(mosaic.slope.isnull().sum()) == 2 * 48 + 2 * 22
    np.testing.assert_array_equal(mosaic.elevation, whole)


def test_voids_without_a_tag_and_with_one_are_missing(tmp_path):
    values = np.full((24, 24), 700, np.int16)
    values[:8, :8], values[16:, 16:] = -32768, -9999
    where = {"west": 10.0, "north": 47.0, "step": 1 / 960}
    ds = read(cog.write(tmp_path, "a.tif", values, nodata="-9999", **where)).compute()

    expected = np.full((3, 3), 700.0)
    expected[0, 0] = expected[2, 2] = np.nan
    np.testing.assert_array_equal(ds.elevation, expected)


def test_half_of_a_pixel_must_be_known(tmp_path):
    values = np.full((8, 16), 700, np.int16)
    values[:, :5], values[:, 13:] = -32768, -32768  # 5 of the 8 columns, and 3 of the 8
    where = {"west": 10.0, "north": 47.0, "step": 1 / 960}
    ds = read(cog.write(tmp_path, "a.tif", values, **where)).compute()

    np.testing.assert_array_equal(ds.elevation, [[np.nan, 700.0]])


@pytest.mark.parametrize("west", [9.9, 369.9])
def test_longitudes_of_either_kind_are_the_same_pixels(tmp_path, west):
    values = np.full((24, 24), 5, np.int16)
    ds = read(cog.write(tmp_path, "a.tif", values, west=west, north=47.0, step=1 / 240))

    np.testing.assert_allclose(ds.longitude, 9.9 + (np.arange(12) + 0.5) / 120, rtol=1e-9)
    assert (ds.elevation == 5).all()


def test_the_whole_globe_is_all_of_the_lattice(tmp_path, no_compute):
    path = cog.write(
        tmp_path,
        "a.tif",
        np.zeros((96, 192), "f4"),
        west=-180,
        north=90,
        step=1.875,
        predictor=None,
    )

    assert dict(read(path).sizes) == {"latitude": 21600, "longitude": 43200}


def test_decimetres_that_are_called_metres_are_refused_when_they_are_computed(tmp_path):
    values = np.full((24, 24), 30000, np.int16)
    said = {"unittype": ["metre"]}
    path = cog.write(tmp_path, "a.tif", values, metadata=said, west=10, north=47, step=1 / 240)
    ds = read(path)

    with pytest.raises(SourceError, match="'elevation': expected -500 to 9000 m; found 30000"):
        ds.compute()


def test_decimetres_that_are_called_so_are_metres(tmp_path):
    values = np.full((24, 24), 30000, np.int16)
    said = {"unittype": ["dm"]}
    path = cog.write(tmp_path, "a.tif", values, metadata=said, west=10, north=47, step=1 / 240)

    np.testing.assert_allclose(read(path).elevation, 3000.0)


def test_a_projection_that_is_not_said_must_be_given(tmp_path):
    where = {"west": 561000, "north": 5194000, "step": 30, "projected": True, "epsg": None}
    path = cog.write(tmp_path, "a.tif", np.full((80, 80), 5, np.int16), **where)

    with pytest.raises(SourceError, match="found none to be read; pass crs="):
        read(path)
    assert (read(path, crs="EPSG:32632").elevation.max() == 5).all()


def test_what_is_no_raster_is_refused():
    with pytest.raises(SourceError, match="variable 'band': expected one map; found dem"):
        terrain.elevation(xr.Dataset({"dem": field(np.ones((3, 3)))}))


def test_a_file_of_a_known_model_has_its_terms(tmp_path):
    name = "Copernicus_DSM_COG_10_N46_00_E011_00_DEM.tif"
    values = np.full((24, 24), 5, np.int16)
    ds = read(cog.write(tmp_path, name, values, west=10, north=47, step=1 / 240))

    assert "European Union and ESA" in ds.attrs["source"]


@pytest.mark.parametrize(("row", "column"), [(5, 3), (12, 20), (20, 11)])
def test_the_projected_model_of_davos_is_averaged_where_pyproj_has_it(real_data, row, column):
    import pyproj
    import tifffile

    file = real_data / "davos_era5_hourly/dem_SRTM1_proj.tif"
    stored = tifffile.imread(file).astype(float)
    to_south, to_east = np.gradient(stored, 30.0)  # central differences, and not Horn's
    fine = np.degrees(np.arctan(np.hypot(to_east, to_south)))

    ds = read(file).isel(latitude=row, longitude=column).compute()

    parts = ((np.arange(200) + 0.5) / 200 - 0.5) / 120
    lon, lat = np.meshgrid(ds.longitude.item() + parts, ds.latitude.item() + parts)
    x, y = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:32632", always_xy=True).transform(
        lon, lat
    )
    rows = np.floor((5194536.92070381 - y) / 30).astype(int)
    columns = np.floor((x - 561159.9383965757) / 30).astype(int)
    # A row of 30 m along the rim is in or out as a whole: one of 21, up to 200 m off the mean.
    assert ds.elevation.item() == pytest.approx(stored[rows, columns].mean(), abs=5.0)
    # Horn's stencil is wider: it smooths the slopes of rough ground by a degree or so.
    assert ds.slope.item() == pytest.approx(fine[rows, columns].mean(), abs=1.5)


def test_the_map_of_india_keeps_its_pixels(real_data):
    ds = read(real_data / "bhima_landuse_1km/dem_India_1km_extract.map").compute()

    # Unpacked with struct; the map lies on the lattice but for 3e-11 degrees.
    assert ds.elevation.shape == (320, 370)
    np.testing.assert_allclose(
        ds.elevation.values[[0, 0, 100, 319], [0, 369, 200, 369]], [57, 449, 613, 509], rtol=1e-6
    )
    assert int(ds.elevation.isnull().sum()) == 705


def test_the_alps_from_the_raster_are_those_of_their_cube(real_data):
    from xlsbc.cube.ingest import oetztal

    cube = oetztal(real_data)
    ds = read(real_data / "oetztal_era5_monthly/srtm_oetztal.tif")
    # The cube starts where all of its sources do, at 47.02 N and 10.63 E.
    part = ds.sel(latitude=cube.latitude, longitude=cube.longitude, method="nearest")

    np.testing.assert_allclose(part.elevation, cube.elevation, rtol=1e-6)
    np.testing.assert_allclose(part.slope, cube.slope, rtol=1e-6)
