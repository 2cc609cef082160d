import netCDF4
import numpy as np
import pytest

from tests.providers import c3s_lai as provider
from tests.providers import cgls as brokered
from xlsbc.cube.ingest import c3s_lai
from xlsbc.cube.ingest.opening import open_source
from xlsbc.errors import SourceError

NAN = np.nan
FACTOR = {"clumping": 0.5, "clumping_source": "doi:10.1016/j.rse.2011.12.008"}


def read(folder, **options):
    (file,) = provider.write(folder, **options)
    return open_source(file)


def test_version_1_is_the_stored_number_by_its_scale(tmp_path):
    lai = c3s_lai.leaf_area(read(tmp_path))["lai"]

    # Ten-thousandths; 65535 is the fill value.
    np.testing.assert_allclose(lai[0], [[0, 1, 2], [6.5534, NAN, 3]], rtol=1e-6)
    assert lai.dims == ("time", "latitude", "longitude")
    assert lai.attrs["units"] == "1"
    np.testing.assert_allclose(lai["latitude"], [52, 52 - 1 / 112], atol=1e-12)


@pytest.mark.parametrize("version", [2, 3, 4])
def test_effective_leaf_area_is_refused(tmp_path, version):
    with pytest.raises(SourceError, match="found effective leaf area .*clumped; use version 1"):
        c3s_lai.leaf_area(read(tmp_path, version=version))


def test_effective_leaf_area_is_known_by_its_long_name_too(tmp_path):
    with pytest.raises(SourceError, match="Effective Leaf Area Index 1km"):
        c3s_lai.leaf_area(read(tmp_path, version=3, name="lai.nc"))


def test_a_version_that_cannot_be_told_is_refused(tmp_path):
    with pytest.raises(SourceError, match="expected a version in the name of the file; found none"):
        c3s_lai.leaf_area(read(tmp_path, name="lai_20130610000000_.nc"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clumping": 0.5}, "expected the source of the clumping index"),
        ({"clumping": 0.0, "clumping_source": "x"}, "expected a clumping index in 0..1; found 0"),
        ({"clumping": 1.5, "clumping_source": "x"}, "expected a clumping index in 0..1; found 1.5"),
    ],
)
def test_a_factor_without_a_source_or_out_of_range_is_refused(tmp_path, options, message):
    with pytest.raises(SourceError, match=message):
        c3s_lai.leaf_area(read(tmp_path, version=2), **options)


def test_a_factor_for_what_is_not_effective_is_refused(tmp_path):
    with pytest.raises(SourceError, match="version 1 is true LAI"):
        c3s_lai.leaf_area(read(tmp_path), **FACTOR)


def test_effective_leaf_area_is_divided_by_the_factor_and_says_so(tmp_path):
    lai = c3s_lai.leaf_area(read(tmp_path, version=3), **FACTOR)["lai"]

    # 0 and 1 over 0.5; 2 is flagged unusable, 6.5 untrusted, one is the fill value, 3 becomes 6.
    np.testing.assert_allclose(lai[0], [[0, 2, NAN], [NAN, NAN, 6]], rtol=1e-6)
    assert "clumping index of 0.5 (doi:10.1016/j.rse.2011.12.008)" in lai.attrs["comment"]


def test_what_the_factor_takes_beyond_any_canopy_is_missing(tmp_path):
    numbers = np.array([[50000, 50001], [1, 0]], np.uint16)
    flags = np.zeros((2, 2), np.uint32)

    lai = c3s_lai.leaf_area(read(tmp_path, version=3, numbers=numbers, flags=flags), **FACTOR)[
        "lai"
    ]

    np.testing.assert_allclose(lai[0], [[10, NAN], [2e-4, 0]], rtol=1e-6)


def test_flags_are_read_by_the_masks_of_the_file(tmp_path):
    ds = read(tmp_path, version=3)
    ds["retrieval_flag"].attrs["flag_masks"] = np.array([0x1, 0x40, 0x100, 0x80], np.uint32)

    lai = c3s_lai.leaf_area(ds, **FACTOR)["lai"]

    # obs_unusable has changed places with obs_inconsistent: 0x1100 is out, 0x1080 is in.
    np.testing.assert_allclose(lai[0], [[0, NAN, 4], [NAN, NAN, 6]], rtol=1e-6)


def test_the_largest_number_of_version_4_is_the_largest_leaf_area(tmp_path):
    factor = {"clumping": 1.0, "clumping_source": "none, as a turbid medium"}
    numbers = np.array([[65530, 32765], [0, 65535]], np.uint16)
    flags = np.zeros((2, 2), np.uint32)

    ds = read(tmp_path, version=4, step=1 / 336, numbers=numbers, flags=flags)
    lai = c3s_lai.leaf_area(ds, **factor)["lai"]

    np.testing.assert_allclose(lai[0], [[10, 5], [0, NAN]], rtol=1e-6)


def test_the_edges_of_version_4_become_centres_and_other_centres_stay(tmp_path):
    factor = {"clumping": 1.0, "clumping_source": "none"}
    step, north, west = 1 / 336, 38 - 0.5 / 336, -92 + 0.5 / 336  # centres of lattice pixels
    new = c3s_lai.leaf_area(read(tmp_path, version=4, step=step, north=north, west=west), **factor)
    old = c3s_lai.leaf_area(read(tmp_path, version=3, step=step, north=north, west=west), **factor)

    np.testing.assert_allclose(new["latitude"], north - step * np.arange(2), atol=1e-9)
    np.testing.assert_allclose(new["longitude"], west + step * np.arange(3), atol=1e-9)
    np.testing.assert_allclose(old["longitude"], new["longitude"], atol=1e-9)
    assert "moved from pixel edges" in new["lai"].attrs["comment"]
    assert "moved" not in old["lai"].attrs["comment"]


@pytest.mark.parametrize(
    ("date", "start"),
    [("20200403", "2020-04-01"), ("20200413", "2020-04-11"), ("20200224", "2020-02-21")],
)
def test_version_2_is_dated_within_its_dekads(tmp_path, date, start):
    part = c3s_lai.leaf_area(read(tmp_path, version=2, dates=(date,)), **FACTOR)

    assert part["time"].values[0] == np.datetime64(start)


def test_version_0_is_read_as_what_it_is_brokered_from(tmp_path):
    (file,) = brokered.write(tmp_path)

    lai = c3s_lai.leaf_area(open_source(file))["lai"]

    np.testing.assert_allclose(lai[0, 0], [0, 1, 3], rtol=1e-6)


def test_absorbed_radiation_is_not_read_as_leaf_area(tmp_path):
    with pytest.raises(SourceError, match="variable 'LAI': expected it; found only 'fAPAR'"):
        c3s_lai.leaf_area(read(tmp_path, variable="fAPAR"))


def test_a_file_that_does_not_say_how_it_is_packed_is_refused(tmp_path):
    (file,) = provider.write(tmp_path)
    with netCDF4.Dataset(file, "a") as nc:
        nc["LAI"].delncattr("scale_factor")

    with pytest.raises(SourceError, match="expected scale_factor; found none"):
        c3s_lai.leaf_area(open_source(file))


def test_a_scale_that_makes_impossible_values_is_found_when_computed(tmp_path):
    (file,) = provider.write(tmp_path)
    with netCDF4.Dataset(file, "a") as nc:
        nc["LAI"].scale_factor = np.float32(1e-3)

    with pytest.raises(SourceError, match="expected 0 to 10 1; found 0 to 65.5"):
        c3s_lai.leaf_area(open_source(file)).compute()


def test_nothing_is_computed(tmp_path, no_compute):
    part = c3s_lai.leaf_area(read(tmp_path, version=4, step=1 / 336), **FACTOR)

    assert part["lai"].chunks is not None
