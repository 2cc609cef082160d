"""NetCDF-3 files that broke off: netCDF-C reads zeros where they end."""

import netCDF4
import numpy as np
import pytest

from tests.providers import era5, lakes
from xlsbc.cube.ingest.netcdf3 import expected_length
from xlsbc.cube.ingest.opening import open_source
from xlsbc.errors import SourceError


def write(path, kind, records, formats):
    """Variables of all shapes: a scalar, fixed ones of odd length, and some by record."""
    with netCDF4.Dataset(path, "w", format=formats) as nc:
        nc.title = "an odd title"
        nc.createDimension("x", 3)
        nc.createDimension("t", None)
        nc.createVariable("scalar", "i4", ())[:] = 7
        nc.createVariable("fixed", kind, ("x",))[:] = np.arange(3)
        for name in ("a", "b")[:records]:
            nc.createVariable(name, kind, ("t", "x"))[:] = np.ones((5, 3))


@pytest.mark.parametrize(
    "formats", ["NETCDF3_CLASSIC", "NETCDF3_64BIT_OFFSET", "NETCDF3_64BIT_DATA"]
)
@pytest.mark.parametrize("kind", ["i1", "i2", "f4", "f8"])
@pytest.mark.parametrize("records", [0, 1, 2])
def test_the_length_is_that_of_the_file_but_for_its_padding(tmp_path, formats, kind, records):
    path = tmp_path / "x.nc"
    write(path, kind, records, formats)
    assert 0 <= path.stat().st_size - expected_length(path) < 4
    assert open_source(path)["scalar"] == 7


@pytest.mark.parametrize("cut", [20, 60, 100])
def test_a_file_that_broke_off_is_refused_and_not_read_as_zeros(tmp_path, cut):
    path = lakes.write_era5(tmp_path / "era5.nc") if cut == 20 else era5.old(tmp_path)[0]
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    with pytest.raises(SourceError, match=rf"{path.name}.*{len(whole) - cut} bytes"):
        open_source(path)


def test_a_header_that_broke_off_is_refused(tmp_path):
    path = era5.old(tmp_path)[0]
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(SourceError, match="old.nc"):
        open_source(path)
