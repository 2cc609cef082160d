import pickle
from functools import partial

import netCDF4
import numpy as np
import pytest
import xarray as xr

from xlsbc.cube.ingest.source import Layer, gather, open_netcdf
from xlsbc.errors import SourceError

DEPTH = Layer("depth", "m", ("lat", "lon"))


@pytest.fixture
def file(tmp_path):
    """A factory of files with one packed layer ``depth`` of 2 x 3 pixels and what is given."""

    def write(name="soil.nc", units="m", dims=("lat", "lon")):
        path = tmp_path / name
        with netCDF4.Dataset(path, "w") as nc:
            for dim, size in (("lat", 2), ("lon", 3)):
                nc.createDimension(dim, size)
                nc.createVariable(dim, "f8", (dim,))[:] = np.arange(size)
            depth = nc.createVariable("depth", "i2", dims, fill_value=-9)
            depth.setncatts({"units": units, "scale_factor": 0.5})
            depth.set_auto_maskandscale(False)
            depth[:] = np.array([[1, 2, 3], [4, -9, 6]]).reshape(depth.shape)
        return path

    return write


def test_a_layer_is_unpacked_lazy_and_nan_where_the_file_says_missing(file):
    da = open_netcdf(file(), [DEPTH], chunks={"lon": 2})["depth"]

    assert da.chunks == ((2,), (2, 1))
    np.testing.assert_array_equal(da, [[0.5, 1.0, 1.5], [2.0, np.nan, 3.0]])


def test_storage_encoding_does_not_reach_the_cube(file):
    ds = open_netcdf(file(), [DEPTH], chunks={})

    assert ds["depth"].encoding == {}
    assert ds.encoding == {}


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SourceError, match=r"gone\.nc: expected a file; found nothing; fetch it"):
        open_netcdf(tmp_path / "gone.nc", [DEPTH], chunks={})


def test_a_folder_in_place_of_a_file_is_named(tmp_path):
    with pytest.raises(SourceError, match="found something else than a file"):
        open_netcdf(tmp_path, [DEPTH], chunks={})


@pytest.mark.parametrize("keep", [0, 100, 4000])
def test_a_file_that_was_cut_short_is_refused_with_its_size(file, keep):
    path = file()
    path.write_bytes(path.read_bytes()[:keep])

    with pytest.raises(SourceError, match=rf"soil\.nc: expected a netCDF-4 .*found {keep} bytes"):
        open_netcdf(path, [DEPTH], chunks={})


def test_all_that_is_wrong_in_one_file_is_listed_at_once(file):
    path = file(units="feet", dims=("lon", "lat"))

    with pytest.raises(SourceError) as caught:
        open_netcdf(path, [DEPTH, Layer("clay", "percent", ("lat", "lon"))], chunks={})

    dims, units, absent = caught.value.problems
    assert "'depth': expected dimensions ('lat', 'lon'); found ('lon', 'lat')" in dims
    assert "'depth': expected units 'm'; found 'feet'" in units
    assert "'clay': expected it; found only 'depth'" in absent
    assert all(str(path) in problem for problem in caught.value.problems)


def test_a_dimension_without_coordinate_is_refused(tmp_path):
    path = tmp_path / "bare.nc"
    depth = xr.DataArray(np.zeros((2, 3)), dims=("lat", "lon"), attrs={"units": "m"})
    depth.to_dataset(name="depth").to_netcdf(path, engine="netcdf4")

    with pytest.raises(SourceError, match="expected a coordinate 'lat'.*expected a coordinate"):
        open_netcdf(path, [DEPTH], chunks={})


def test_gather_returns_what_the_readers_return_in_order():
    assert gather("nothing wrong", [partial(int, "1"), partial(str, 2)]) == [1, "2"]


def test_gather_lists_the_problems_of_all_readers_each_once(tmp_path):
    read = partial(open_netcdf, layers=[DEPTH], chunks={})
    paths = [tmp_path / name for name in ("a.nc", "b.nc", "a.nc")]

    with pytest.raises(SourceError, match="of no use") as caught:
        gather("of no use", [partial(read, path) for path in paths])

    assert ["a.nc" in p for p in caught.value.problems] == [True, False]
    assert ["b.nc" in p for p in caught.value.problems] == [False, True]


def test_gather_lets_other_errors_through():
    with pytest.raises(ZeroDivisionError):
        gather("arithmetic", [partial(divmod, 1, 0)])


def test_the_error_survives_pickling_with_its_problems(tmp_path):
    with pytest.raises(SourceError) as caught:
        open_netcdf(tmp_path / "gone.nc", [DEPTH], chunks={})

    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.problems) == (str(caught.value), caught.value.problems)
