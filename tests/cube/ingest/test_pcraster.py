import struct

import numpy as np
import pytest

from xlsbc.cube.ingest.opening import open_source
from xlsbc.errors import SourceError

SIGNATURE = b"RUU CROSS SYSTEM MAP FORMAT"


@pytest.fixture
def write(tmp_path):
    """A factory of CSF 2 maps of 2 x 3 pixels of a quarter degree from 10 E, 47 N."""

    def make(
        values, cells, order="<", north=47.0, west=10.0, step=0.25, angle=0.0, projection=1, cut=0
    ):
        head = struct.pack("32sH", SIGNATURE, 2)
        head += struct.pack(order + "IHIHI", 0, projection, 0, 1, 1).ljust(30, b"\0")
        rows, columns = values.shape
        head = head[:32] + struct.pack(order + "H", 2) + head[34:]
        head += struct.pack(order + "HH8s8s", 0xEB, cells, b"", b"")
        head += struct.pack(order + "ddIIddd", west, north, rows, columns, step, step, angle)
        data = head.ljust(256, b"\0") + values.astype(values.dtype.newbyteorder(order)).tobytes()
        path = tmp_path / "dem.map"
        path.write_bytes(data[: len(data) - cut])
        return path

    return make


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("cells", "kind", "missing"),
    [
        (0x00, "u1", 255),
        (0x04, "i1", -128),
        (0x26, "i4", -(2**31)),
        (0x5A, "f4", np.nan),
        (0xDB, "f8", np.nan),
    ],
)
def test_every_kind_of_cell_is_read_in_either_byte_order(write, order, cells, kind, missing):
    values = np.array([[1, 2, 3], [4, 5, missing]], kind)

    band = open_source(write(values, cells, order)).band

    assert band.dtype == np.dtype(kind)
    np.testing.assert_array_equal(band, values)
    np.testing.assert_array_equal(band.attrs["_FillValue"], np.dtype(kind).type(missing))


def test_pixels_lie_half_a_step_inside_the_corner_that_the_map_states(write):
    ds = open_source(write(np.ones((2, 3), "f4"), 0x5A))

    np.testing.assert_allclose(ds.latitude, [46.875, 46.625])
    np.testing.assert_allclose(ds.longitude, [10.125, 10.375, 10.625])
    assert "states no coordinate reference system" in ds.band.attrs["comment"]


def test_a_map_whose_rows_run_north_has_ascending_latitudes(write):
    ds = open_source(write(np.ones((2, 3), "f4"), 0x5A, projection=0))

    np.testing.assert_allclose(ds.latitude, [47.125, 47.375])


def test_what_cannot_be_degrees_is_left_as_x_and_y(write):
    ds = open_source(write(np.ones((2, 3), "f4"), 0x5A, north=5e6, west=4e5, step=1000.0))

    assert ds.band.dims == ("y", "x")
    np.testing.assert_allclose(ds.x, [400500, 401500, 402500])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"angle": 0.1}, "found one turned by 0.1 radians"),
        ({"cut": 5}, "expected 280 bytes; found 275"),
        ({"cells": 0x99}, "found byte order 1 and cell type 0x99"),
    ],
)
def test_a_map_that_cannot_be_used_says_why(write, options, message):
    options = {"cells": 0x5A, **options}

    with pytest.raises(SourceError, match=message):
        open_source(write(np.ones((2, 3), "f4"), **options))


def test_nothing_is_read_before_it_is_computed(write, no_compute):
    assert open_source(write(np.ones((2, 3), "f4"), 0x5A)).band.chunks == ((2,), (3,))


def test_the_real_map_of_india_is_read_as_its_bytes_have_it(real_data):
    ds = open_source(real_data / "bhima_landuse_1km/dem_India_1km_extract.map")
    band = ds.band.values

    # Unpacked by hand with struct: 0x42640000 is 57; 320 x 370 from 73.1667 E, 19.5 N.
    assert band.shape == (320, 370)
    assert band[[0, 0, 100, 319], [0, 369, 200, 369]].tolist() == [57, 449, 613, 509]
    assert (np.isnan(band).sum(), np.nanmax(band)) == (705, 1402)
    np.testing.assert_allclose(ds.latitude[0], 19.5 - 0.5 / 120, atol=1e-9)
    np.testing.assert_allclose(ds.longitude[-1], 73.0 + 1 / 6 + 369.5 / 120, atol=1e-9)
