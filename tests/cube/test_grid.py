from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from xlsbc.cube.grid import EARTH_RADIUS, Grid, position, spacing
from xlsbc.errors import GridError


def lattice(row: int = 5160, column: int = 22560, rows: int = 5, columns: int = 7) -> xr.Dataset:
    """A box of the global 1/120 degree lattice by its first pixel."""
    return xr.Dataset(
        coords={
            "latitude": 90 - (row + 0.5 + np.arange(rows)) / 120,
            "longitude": -180 + (column + 0.5 + np.arange(columns)) / 120,
        }
    )


def test_a_grid_has_the_shape_and_resolution_of_its_coordinates():
    grid = Grid.of(lattice())
    assert grid.shape == (5, 7)
    np.testing.assert_allclose(grid.resolution, (1 / 120, 1 / 120), rtol=1e-9)


def test_a_grid_gives_back_its_coordinates():
    ds = lattice(rows=682, columns=997)
    np.testing.assert_allclose(Grid.of(ds).latitude, ds.latitude, atol=1e-9)
    np.testing.assert_allclose(Grid.of(ds).longitude, ds.longitude, atol=1e-9)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("row", "column"), [(0, 0), (5160, 22560), (21000, 43190)])
def test_the_origin_is_counted_from_90_north_and_180_west(row, column, dtype):
    ds = lattice(row, column)
    ds = ds.assign_coords(latitude=ds.latitude.astype(dtype), longitude=ds.longitude.astype(dtype))
    assert Grid.of(ds).origin_index == (row, column)


@pytest.mark.parametrize("first", range(5))
def test_boxes_of_a_grid_with_pixels_on_the_poles_have_origins_one_apart(first):
    era5 = xr.Dataset(
        coords={"latitude": np.linspace(90, -90, 721), "longitude": -180 + 0.25 * np.arange(1440)}
    )
    box = era5.isel(latitude=slice(first, None), longitude=slice(first, None))
    assert Grid.of(box).origin_index == (first, first)


def test_the_areas_of_the_whole_globe_are_those_of_the_sphere():
    globe = xr.Dataset(
        coords={"latitude": 89 - 2.0 * np.arange(90), "longitude": -178.5 + 3.0 * np.arange(120)}
    )
    area = Grid.of(globe).cell_area()
    assert area.dtype == np.float64
    np.testing.assert_allclose(120 * area.sum(), 4 * np.pi * EARTH_RADIUS**2, rtol=1e-12)


def test_cells_are_cut_at_the_poles():
    era5 = xr.Dataset(
        coords={"latitude": np.linspace(90, -90, 721), "longitude": -180 + 0.25 * np.arange(1440)}
    )
    area = Grid.of(era5).cell_area()
    np.testing.assert_allclose(1440 * area.sum(), 4 * np.pi * EARTH_RADIUS**2, rtol=1e-12)


def test_the_area_of_a_kilometre_pixel_is_that_of_a_flat_one():
    # At 45 N a pixel of 1/120 degree is 926.6 m by 926.6 m times the cosine: 0.607 km2.
    grid = Grid.of(lattice(row=5400, column=0))
    side = np.deg2rad(1 / 120) * EARTH_RADIUS
    expected = side**2 * np.cos(np.deg2rad(45 - 0.5 / 120))
    np.testing.assert_allclose(grid.cell_area()[0], expected, rtol=1e-7)
    assert 0.606e6 < float(grid.cell_area()[0]) < 0.608e6


def test_a_step_that_is_no_simple_fraction_is_kept():
    # HILDA+ has 0.00998837 degree.
    ds = xr.Dataset(
        coords={
            "latitude": 50 - 0.00998837 * np.arange(30),
            "longitude": 8 + 0.00998837 * np.arange(40),
        }
    )
    assert Grid.of(ds).dlon == pytest.approx(0.00998837, rel=1e-12)


def test_a_single_row_has_the_step_of_the_columns():
    assert Grid.of(lattice(rows=1)).resolution[0] == pytest.approx(1 / 120)


@pytest.mark.parametrize(
    ("latitude", "longitude", "message"),
    [
        ([46.0, 45.0, 43.5], [8.0, 9.0], "latitude must be evenly spaced"),
        ([46.0, 45.0], [8.0, 9.0, np.nan], "longitude must be evenly spaced"),
        ([45.0, 46.0], [8.0, 9.0], "latitude must descend"),
        ([46.0, 45.0], [9.0, 8.0], "longitude ascend"),
        ([46.0], [8.0], "one pixel has no resolution"),
        ([46.0, 46.0], [8.0, 9.0], "latitude must be evenly spaced"),
    ],
)
def test_a_grid_that_is_not_regular_is_refused(latitude, longitude, message):
    ds = xr.Dataset(coords={"latitude": latitude, "longitude": longitude})
    with pytest.raises(GridError, match=message):
        Grid.of(ds)


def test_a_dataset_without_the_canonical_coordinates_is_refused():
    with pytest.raises(GridError, match="no coordinate latitude and longitude; found dims y, x"):
        Grid.of(xr.Dataset({"a": (("y", "x"), np.zeros((2, 3)))}))


def test_a_gaussian_grid_is_not_regular():
    # Nodes of the Legendre polynomial of degree 64: the latitudes of a T42 model.
    nodes, _ = np.polynomial.legendre.leggauss(64)
    with pytest.raises(GridError, match="regrid to a regular grid"):
        spacing(np.degrees(np.arcsin(nodes)), "latitude")


def test_coordinates_of_four_decimals_are_regular():
    values = np.round(46 + np.arange(500) / 120, 4)
    assert spacing(values, "latitude") == pytest.approx(1 / 120, rel=1e-4)


def test_a_position_counts_from_the_first_centre():
    np.testing.assert_allclose(
        position(np.array([47.0, 46.0, 45.0]), np.array([46.9, 45.25])), [0.1, 1.75]
    )


def test_a_position_outside_the_axis_is_its_end():
    np.testing.assert_array_equal(position(np.array([8.0, 9.0]), np.array([7.0, 9.5])), [0, 1])


def test_positions_of_longitudes_do_not_mind_whole_turns():
    coarse = np.array([170.0, 180.0, 190.0])
    np.testing.assert_allclose(position(coarse, np.array([-175.0, 185.0, 175.0])), [1.5, 1.5, 0.5])


def test_positions_beyond_the_date_line_are_found_on_a_global_axis():
    coarse = -180 + 0.25 * np.arange(1440)
    np.testing.assert_allclose(position(coarse, np.array([179.0, 181.0])), [1436, 4])


def test_latitudes_keep_their_positions_from_pole_to_pole():
    coarse = np.linspace(90, -90, 721)
    np.testing.assert_allclose(position(coarse, np.array([90.0, 0.0, -90.0])), [0, 360, 720])


def test_every_position_in_an_axis_of_one_cell_is_zero():
    np.testing.assert_array_equal(position(np.array([10.0]), np.array([9.0, 350.0])), [0, 0])


def test_a_missing_coordinate_has_a_missing_position():
    assert np.isnan(position(np.array([8.0, 9.0]), np.array([np.nan]))).all()
