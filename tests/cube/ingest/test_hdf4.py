import pickle
import sys
from concurrent.futures import ThreadPoolExecutor

import dask
import numpy as np
import pytest
import xarray as xr

from tests.providers import modis
from xlsbc.cube.ingest.opening import open_source
from xlsbc.errors import SourceError

GRANULE = "modis_lai_uk_2012/MCD15A2.A2012177.h17v03.005.2012188150145.hdf"
SUBSET = "modis_lai_uk_2012/MCD15A2_2012_h17v03_subset.nc"


def test_layers_of_a_granule_are_those_that_pyhdf_reads(real_data):
    from pyhdf.SD import SD

    granule = open_source(real_data / GRANULE)

    sd = SD(str(real_data / GRANULE))
    assert sorted(granule.data_vars) == sorted(sd.datasets())
    for name, da in granule.data_vars.items():
        assert da.dims == ("time", "y", "x")
        assert da.dtype == np.uint8
        np.testing.assert_array_equal(da[0], sd.select(name).get())
    sd.end()


def test_coordinates_and_date_of_a_granule_are_those_of_its_repackaged_subset(real_data):
    granule, subset = open_source(real_data / GRANULE), open_source(real_data / SUBSET)

    # The subset is rows 720 to 1200 and columns 735 to 1200, its composite 22 this granule.
    np.testing.assert_allclose(granule["y"][720:1200], subset["y"], atol=1e-6)
    np.testing.assert_allclose(granule["x"][735:1200], subset["x"], atol=1e-6)
    np.testing.assert_array_equal(granule["Lai_1km"][0, 720:, 735:], subset["Lai_1km"][22])
    assert granule["time"].values.tolist() == [np.datetime64("2012-06-25", "ns").astype(int)]
    assert subset["time"].values[22] == (np.datetime64("2012-06-25") - np.datetime64("2000")) / (
        np.timedelta64(1, "D")
    )


def test_attributes_of_layers_and_granule_are_kept_without_padding(real_data):
    granule = open_source(real_data / GRANULE)

    lai = granule["Lai_1km"].attrs
    assert (lai["scale_factor"], lai["_FillValue"], lai["units"]) == (0.1, 255, "m^2/m^2")
    assert lai["valid_range"].tolist() == [0, 100]
    assert granule.attrs["HDFEOSVersion"] == "HDFEOS_V2.9"
    assert "\0" not in "".join(str(value) for value in granule.attrs.values())


def test_opening_reads_no_layer(tmp_path, no_compute):
    (file,) = modis.write(tmp_path)

    assert open_source(file)["Lai_500m"].chunks == ((1,), (24,), (36,))


def test_a_granule_survives_pickling_and_is_read_by_many_threads_at_once(real_data):
    granule = pickle.loads(pickle.dumps(open_source(real_data / GRANULE)))
    sums = {name: int(da.sum()) for name, da in granule.data_vars.items()}

    def total(name: str) -> tuple[str, int]:
        with dask.config.set(scheduler="threads"):
            return name, int(granule[name].sum())

    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(total, list(sums) * 4))

    assert all(sums[name] == value for name, value in read)


def test_a_file_fetched_again_under_the_same_name_is_another_one(tmp_path):
    (file,) = modis.write(tmp_path)
    first = open_source(file)["Lai_500m"].data.name
    assert open_source(file)["Lai_500m"].data.name == first

    modis.write(tmp_path, lai=np.full((24, 37), 3))

    assert open_source(file)["Lai_500m"].data.name != first


def test_the_date_comes_from_the_name_where_the_metadata_have_none(tmp_path):
    (file,) = modis.write(tmp_path, dates=("2016366",), begins=None)

    # 2016 is a leap year: its day 366 is the last of December.
    assert open_source(file)["time"].values[0] == np.datetime64("2016-12-31")


def test_a_granule_without_a_date_is_refused(tmp_path):
    (file,) = modis.write(tmp_path, begins=None, name="tile.hdf")

    with pytest.raises(SourceError, match=r"tile.hdf: expected RANGEBEGINNINGDATE .*neither"):
        open_source(file)


def test_a_wrong_extension_does_not_matter(tmp_path):
    (file,) = modis.write(tmp_path, name="MCD15A2H.A2012177.h17v03.061.nc")

    assert "Lai_500m" in open_source(file)


def test_another_projection_is_refused(tmp_path):
    (file,) = modis.write(tmp_path, projection="GCTP_LAMAZ")

    with pytest.raises(SourceError, match="expected one sinusoidal grid"):
        open_source(file)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.95])
def test_a_truncated_granule_is_refused_by_its_name(real_data, tmp_path, share):
    whole = (real_data / GRANULE).read_bytes()
    file = tmp_path / "MCD15A2.A2012177.h17v03.005.2012188150145.hdf"
    file.write_bytes(whole[: int(share * len(whole))])

    with pytest.raises(SourceError, match="MCD15A2.A2012177.* fetch the file again"):
        open_source(file).load()


def test_a_layer_that_cannot_be_read_is_named_when_it_is_computed(tmp_path):
    (file,) = modis.write(tmp_path)
    granule = open_source(file)
    file.write_bytes(file.read_bytes()[:500])

    with pytest.raises(SourceError, match="expected a complete layer 'Lai_500m'"):
        granule["Lai_500m"].load()


def test_the_coordinates_are_pixel_centres_of_the_tile(tmp_path):
    (file,) = modis.write(tmp_path, tile=(17, 3), row=2, column=5)
    granule = open_source(file)

    pixel = 463.3127165  # half of 926.6254331 m
    assert isinstance(granule, xr.Dataset)
    np.testing.assert_allclose(granule["y"][0], 6671703.118 - 2.5 * pixel, atol=1e-3)
    np.testing.assert_allclose(granule["x"][0], -1111950.519667 + 5.5 * pixel, atol=1e-3)
    assert granule["y"][1] < granule["y"][0]
    assert granule["x"][1] > granule["x"][0]


def test_without_pyhdf_the_error_says_what_to_install(tmp_path, monkeypatch):
    (file,) = modis.write(tmp_path)
    monkeypatch.setitem(sys.modules, "pyhdf.error", None)

    with pytest.raises(SourceError, match=r"found none; install xlsbc\[recipes\]"):
        open_source(file)
