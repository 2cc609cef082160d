import pickle

import netCDF4
import numpy as np
import pytest
import xarray as xr

from tests.providers import cgls as provider
from xlsbc.cube.ingest import cgls
from xlsbc.cube.ingest.opening import open_source
from xlsbc.errors import SourceError, SourceWarning

NAN = np.nan
# NUMBERS / 30 by hand; 251, 254 and 255 are no values.
EXPECTED = [[0, 1, 3], [7, NAN, NAN], [0.5, NAN, 1 / 30], [4, 2, 1.5]]


def read(folder, **options):
    (file,) = provider.write(folder, **options)
    return open_source(file)


def test_digital_numbers_are_thirtieths_and_those_above_210_are_missing(tmp_path):
    lai = cgls.leaf_area(read(tmp_path))["lai"]

    assert lai.dims == ("time", "latitude", "longitude")
    np.testing.assert_allclose(lai[0], EXPECTED, rtol=1e-6)
    assert lai.dtype == np.float32
    assert (lai.attrs["standard_name"], lai.attrs["units"]) == ("leaf_area_index", "1")


def test_the_numbers_are_those_that_the_library_of_the_format_decodes(tmp_path):
    ds = read(tmp_path, numbers=np.arange(211, dtype=np.uint8).reshape(1, -1).repeat(2, 0))

    lai = cgls.leaf_area(ds)["lai"]

    with netCDF4.Dataset(ds.encoding["source"]) as nc:
        np.testing.assert_allclose(lai[0], nc["LAI"][:].filled(np.nan), rtol=1e-6)


def test_coordinates_stay_those_of_pixel_centres(tmp_path):
    part = cgls.leaf_area(read(tmp_path, north=80.0, west=-180.0))

    np.testing.assert_allclose(part["latitude"], 80 - np.arange(4) / 112, atol=1e-12)
    np.testing.assert_allclose(part["longitude"], -180 + np.arange(3) / 112, atol=1e-12)


@pytest.mark.parametrize(
    ("date", "start"),
    [
        ("20130610", "2013-06-01"),
        ("20130620", "2013-06-11"),
        ("20130630", "2013-06-21"),
        ("20130731", "2013-07-21"),
        ("20130228", "2013-02-21"),
        ("20120229", "2012-02-21"),
        ("20180124", "2018-01-21"),
        ("20200613", "2020-06-11"),
    ],
)
def test_the_step_is_the_first_day_of_the_dekad_that_the_file_is_dated_by(tmp_path, date, start):
    part = cgls.leaf_area(read(tmp_path, dates=(date,)))

    assert part["time"].values.tolist() == [np.datetime64(start, "ns").astype(int)]


def test_a_file_of_another_name_is_dated_by_its_time_coordinate(tmp_path):
    part = cgls.leaf_area(read(tmp_path, name="lai.nc", stamp="20130630"))

    assert part["time"].values[0] == np.datetime64("2013-06-21")


def test_a_file_without_a_time_coordinate_is_dated_by_its_name(tmp_path):
    part = cgls.leaf_area(read(tmp_path, stamp=""))

    assert part["time"].values[0] == np.datetime64("2013-06-01")


def test_a_file_without_any_date_is_refused(tmp_path):
    with pytest.raises(SourceError, match="expected a date in the name or a coordinate 'time'"):
        cgls.leaf_area(read(tmp_path, name="lai.nc", stamp=""))


def test_name_and_coordinate_that_disagree_warn_and_the_name_is_taken(tmp_path):
    ds = read(tmp_path, stamp="20130720")

    with pytest.warns(SourceWarning, match="the dekad from 2013-06-01, .* 2013-07-11"):
        part = cgls.leaf_area(ds)

    assert part["time"].values[0] == np.datetime64("2013-06-01")
    assert "2013-07-11" in part["lai"].attrs["comment"]


def test_dekads_joined_in_one_file_are_dated_each(tmp_path):
    files = provider.write(
        tmp_path, dates=("20130630", "20130610", "20130620"), dims=("time", "lat", "lon")
    )
    joined = xr.concat([open_source(file) for file in files], "time", data_vars="minimal")
    joined.encoding["source"] = str(files[0])

    part = cgls.leaf_area(joined)

    days = ["2013-06-01", "2013-06-11", "2013-06-21"]
    assert part["time"].values.astype("M8[D]").astype(str).tolist() == days


@pytest.mark.parametrize("dims", [("time", "lat", "lon"), ("lon", "lat"), ("lon", "time", "lat")])
def test_the_order_of_dimensions_does_not_matter(tmp_path, dims):
    lai = cgls.leaf_area(read(tmp_path, dims=dims))["lai"]

    np.testing.assert_allclose(lai[0], EXPECTED, rtol=1e-6)


def test_filled_values_can_be_left_out_by_bit_3_of_qflag(tmp_path):
    lai = cgls.leaf_area(read(tmp_path), filled=False)["lai"]

    # QFLAG is 4 and 12 at two pixels; 65535, its fill value, has all bits.
    np.testing.assert_allclose(
        lai[0], [[0, NAN, 3], [7, NAN, NAN], [NAN, NAN, NAN], [4, 2, 1.5]], rtol=1e-6
    )
    assert "bit 3" in lai.attrs["comment"]


@pytest.mark.parametrize("layer", ["FAPAR", "FCOVER"])
def test_a_sibling_is_not_read_as_leaf_area(tmp_path, layer):
    with pytest.raises(SourceError, match=f"variable 'LAI': expected it; found only .*'{layer}'"):
        cgls.leaf_area(read(tmp_path, layer=layer, scale=1 / 250))


def test_a_lying_scale_is_refused(tmp_path):
    with pytest.raises(SourceError, match="expected scale_factor 1/30 .* found 0.004 and 0"):
        cgls.leaf_area(read(tmp_path, scale=1 / 250))


def test_numbers_decoded_on_opening_are_refused(tmp_path):
    (file,) = provider.write(tmp_path)
    with xr.open_dataset(file) as decoded, pytest.raises(SourceError, match="flags are data"):
        cgls.leaf_area(decoded)


def test_nothing_is_computed_and_the_part_pickles(tmp_path, no_compute):
    part = cgls.leaf_area(read(tmp_path))

    assert pickle.loads(pickle.dumps(part))["lai"].chunks is not None


def test_a_field_without_any_value_is_missing_everywhere(tmp_path):
    lai = cgls.leaf_area(read(tmp_path, numbers=np.full((4, 3), 255, np.uint8)))["lai"]

    assert lai.isnull().all()


def names(*parts):
    return [f"s3://bucket/c_gls_LAI{part}.nc" for part in parts]


def test_of_several_consolidations_the_newest_is_kept():
    urls = names(
        "-RT0_202006200000_GLOBE_PROBAV_V2.0.1",
        "-RT6_202006100000_GLOBE_PROBAV_V2.0.1",
        "-RT2_202006100000_GLOBE_PROBAV_V2.0.2",
        "_202005310000_GLOBE_PROBAV_V2.0.1",
        "-RT6_202005310000_GLOBE_PROBAV_V2.0.2",
    )

    assert cgls.latest(urls) == [urls[3], urls[1], urls[0]]


def test_of_one_consolidation_the_newer_processing_is_kept_counting_by_number():
    urls = names("_202006100000_GLOBE_PROBAV_V2.0.10", "_202006100000_GLOBE_PROBAV_V2.0.9")

    assert cgls.latest(urls) == [urls[0]]
    assert cgls.latest(urls[::-1]) == [urls[0]]


def test_names_that_cannot_be_told_are_all_named():
    urls = [
        *names("_202006100000_GLOBE_PROBAV_V2.0.1"),
        "s3://bucket/lai_june.nc",
        "s3://bucket/c_gls_FCOVER_202006100000_GLOBE_PROBAV_V2.0.1.nc",
        "s3://bucket/c_gls_LAI300_202006100000_GLOBE_PROBAV_V1.0.1.nc",
    ]

    with pytest.raises(SourceError) as caught:
        cgls.latest(urls)

    text = str(caught.value)
    assert len(caught.value.problems) == 3
    assert "lai_june.nc: expected c_gls_LAI" in text
    assert "found FCOVER" in text
    assert "LAI V2 (GLOBE), LAI300 V1 (GLOBE)" in text


def test_two_sensors_of_one_dekad_cannot_be_told():
    urls = names("_201401100000_GLOBE_VGT_V2.0.1", "_201401100000_GLOBE_PROBAV_V2.0.1")

    with pytest.raises(SourceError, match="expected one sensor for the dekad 20140110"):
        cgls.latest(urls)


def test_regional_cuts_have_names_too():
    urls = names(
        "_201308310000_WEST_PACIFIC_VGT_V2.0.1", "300-RT0-LAI_202010310000_CUSTOM_OLCI_V1.1.1"
    )

    assert cgls.latest(urls[:1]) == urls[:1]
    assert cgls.latest(urls[1:]) == urls[1:]
