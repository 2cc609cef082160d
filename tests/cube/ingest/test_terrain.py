import dask
import numpy as np
import pytest
import xarray as xr

from xlsbc.cube.ingest.terrain import area_mean, slope

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
