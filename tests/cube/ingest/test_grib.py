import pickle
from pathlib import Path

import dask
import eccodes
import numpy as np
import pytest

from tests.providers import era5 as provider
from xlsbc.cube.ingest import grib
from xlsbc.cube.ingest.opening import open_source
from xlsbc.errors import SourceError

UK = "era5_grib/era5-2mt-2019-03-uk.grib"


def forbid(*args, **kwargs):
    raise AssertionError("something was computed")


def field(path, number):
    """Values of one message, by ecCodes alone."""
    with Path(path).open("rb") as stream:
        for _ in range(number):
            eccodes.codes_release(eccodes.codes_grib_new_from_file(stream, headers_only=True))
        message = eccodes.codes_grib_new_from_file(stream)
        shape = eccodes.codes_get(message, "Nj"), eccodes.codes_get(message, "Ni")
        values = eccodes.codes_get_values(message).reshape(shape)
        eccodes.codes_release(message)
    return values


@pytest.mark.parametrize("number", [0, 100, 743])
def test_each_step_is_the_field_of_its_message(real_data, number):
    ds = open_source(real_data / UK)

    assert ds.t2m.shape == (744, 33, 49)
    np.testing.assert_allclose(ds.t2m[number], field(real_data / UK, number), rtol=1e-7)
    # 1 March 2019, 00:00, and as many hours later.
    assert int(ds.valid_time[number]) == 1551398400 + 3600 * number


def test_a_single_time_is_a_dimension_of_length_one(real_data):
    path = real_data / "era5_grib/era5-single-level-scalar-time.grib"

    ds = open_source(path)

    assert dict(ds.t2m.sizes) == {"valid_time": 1, "latitude": 121, "longitude": 201}
    np.testing.assert_allclose(ds.t2m[0], field(path, 0), rtol=1e-7)


def test_variables_with_other_stamps_stand_side_by_side(tmp_path):
    (path,) = provider.write(tmp_path, "grib", names=("t2m", "tp", "swvl1"))

    ds = open_source(path)

    assert ds.t2m.dims == ds.swvl1.dims == ("valid_time", "latitude", "longitude")
    assert ds.tp.dims == ("valid_time_2", "latitude", "longitude")
    assert (ds.valid_time_2.values - ds.valid_time.values).tolist() == [6 * 3600] * 3
    np.testing.assert_allclose(ds.t2m, provider.values("t2m", 3), atol=1e-4)
    np.testing.assert_allclose(ds.tp, provider.values("tp", 3), atol=1e-9)


def test_a_variable_on_the_ground_and_on_a_level_of_pressure_are_two(tmp_path):
    (ground,) = provider.write(tmp_path, "grib", names=("t2m",), file="a.grib")
    (aloft,) = provider.write(tmp_path, "grib", names=("t2m",), level=500, file="b.grib")
    both = tmp_path / "both.grib"
    both.write_bytes(ground.read_bytes() + aloft.read_bytes())

    ds = open_source(both)

    assert set(ds) == {"t2m", "t2m_isobaricInhPa"}
    assert ds["t2m_isobaricInhPa"].attrs["GRIB_level"] == 500


def test_several_levels_are_a_dimension(tmp_path):
    parts = [
        provider.write(tmp_path, "grib", names=("t2m",), level=level, file=f"{level}.grib")[0]
        for level in (500, 850)
    ]
    both = tmp_path / "both.grib"
    both.write_bytes(b"".join(part.read_bytes() for part in parts))

    ds = open_source(both)

    assert dict(ds.t2m.sizes) == {
        "valid_time": 3,
        "isobaricInhPa": 2,
        "latitude": 3,
        "longitude": 4,
    }
    np.testing.assert_allclose(ds.t2m[2, 1], provider.values("t2m", 3)[2], atol=1e-4)


@pytest.mark.parametrize("edition", [1, 2])
@pytest.mark.parametrize("padding", [0, 1, 18, 5000])
def test_padding_between_messages_is_no_damage(tmp_path, edition, padding):
    (path,) = provider.write(tmp_path, "grib", edition=edition, padding=padding, names=("t2m",))

    np.testing.assert_allclose(open_source(path).t2m, provider.values("t2m", 3), atol=1e-4)


@pytest.mark.parametrize("kept", [-1, -60, 9, 30])
def test_a_file_that_is_cut_off_is_refused(tmp_path, kept):
    (path,) = provider.write(tmp_path, "grib", names=("t2m",))
    path.write_bytes(path.read_bytes()[:kept])

    with pytest.raises(SourceError, match=r"mars\.grib: expected a whole file; .* cut off"):
        open_source(path)


def test_a_rest_of_three_bytes_of_a_message_is_seen(tmp_path):
    (path,) = provider.write(tmp_path, "grib", names=("t2m",), count=1)
    path.write_bytes(path.read_bytes() + b"GRI")

    with pytest.raises(SourceError, match="cut off"):
        open_source(path)


def test_a_message_that_lost_bytes_in_the_middle_of_the_file_is_refused(tmp_path):
    (path,) = provider.write(tmp_path, "grib", names=("t2m",))
    whole = path.read_bytes()
    path.write_bytes(whole[:100] + whole[110:])

    with pytest.raises(SourceError, match="byte 0 does not end after its"):
        open_source(path)


def test_something_else_between_messages_is_refused(tmp_path):
    (path,) = provider.write(tmp_path, "grib", names=("t2m",), count=1)
    path.write_bytes(path.read_bytes() + b"<html>" + path.read_bytes())

    with pytest.raises(SourceError, match="expected a GRIB message"):
        open_source(path)


def test_a_message_of_more_than_8_mib_has_its_length_in_units_of_120_bytes(tmp_path):
    message = eccodes.codes_grib_new_from_samples("regular_ll_sfc_grib1")
    keys = {"Ni": 3000, "Nj": 1800, "paramId": 167, "bitsPerValue": 16, "dataDate": 20240101}
    keys |= {"latitudeOfFirstGridPointInDegrees": 90, "latitudeOfLastGridPointInDegrees": -89.9}
    keys |= {"longitudeOfFirstGridPointInDegrees": 0, "longitudeOfLastGridPointInDegrees": 299.9}
    keys |= {"iDirectionIncrementInDegrees": 0.1, "jDirectionIncrementInDegrees": 0.1}
    for key, value in keys.items():
        eccodes.codes_set(message, key, value)
    eccodes.codes_set_values(message, np.linspace(250, 300, 3000 * 1800))
    path = tmp_path / "land.grib"
    with path.open("wb") as stream:
        eccodes.codes_write(message, stream)
        eccodes.codes_write(message, stream)
    eccodes.codes_release(message)

    found = list(grib.messages(path))

    assert found[0][0] == 0
    assert found[1] == (found[0][1], found[0][1])
    assert sum(length for _, length in found) == path.stat().st_size


def test_no_index_file_is_left_beside_the_data(tmp_path):
    (path,) = provider.write(tmp_path, "grib")

    open_source(path).compute()

    assert [p.name for p in tmp_path.iterdir()] == ["mars.grib"]


def test_the_name_may_end_as_it_likes(tmp_path):
    (path,) = provider.write(tmp_path, "grib", names=("t2m",), file="adaptor.nc")

    assert open_source(path).t2m.shape == (3, 3, 4)


def test_a_bitmap_leaves_points_missing(tmp_path):
    (path,) = provider.write(tmp_path, "grib", names=("t2m",), missing=(1, 2))

    t2m = open_source(path).t2m.values

    assert np.isnan(t2m[:, 1, 2]).all()
    assert np.isnan(t2m).sum() == 3


def test_rows_from_the_south_on_keep_their_latitudes(tmp_path):
    (path,) = provider.write(tmp_path, "grib", names=("t2m",), upwards=True)

    t2m = open_source(path).t2m

    assert t2m.latitude.values.tolist() == [46.9, 47.0, 47.1]
    expected = provider.values("t2m", 3)
    np.testing.assert_allclose(t2m.sel(latitude=47.1), expected[:, 0], atol=1e-4)
    np.testing.assert_allclose(t2m.sel(latitude=46.9), expected[:, 2], atol=1e-4)


@pytest.mark.parametrize("versions", [("0001", "0005"), ("0005", "0001")])
def test_of_a_final_and_a_preliminary_field_the_final_one_counts(tmp_path, versions):
    (path,) = provider.write(tmp_path, "grib", names=("t2m",), expver=versions)

    # The second of each pair has numbers 100 higher.
    higher = 100 * versions.index("0001")
    np.testing.assert_allclose(open_source(path).t2m, provider.values("t2m", 3) + higher, atol=1e-4)


def test_two_fields_for_the_same_time_are_refused(tmp_path):
    (path,) = provider.write(tmp_path, "grib", names=("t2m",), expver=("0001", "0001"))

    with pytest.raises(SourceError, match="found two of paramId 167 for 2024-01-01T00:00:00"):
        open_source(path)


def test_fields_on_two_grids_are_refused(tmp_path):
    (down,) = provider.write(tmp_path, "grib", names=("t2m",), file="a.grib")
    (up,) = provider.write(tmp_path, "grib", names=("tp",), upwards=True, file="b.grib")
    both = tmp_path / "both.grib"
    both.write_bytes(down.read_bytes() + up.read_bytes())

    with pytest.raises(SourceError, match="found 2 grids"):
        open_source(both)


def test_opening_reads_no_values(tmp_path):
    (path,) = provider.write(tmp_path, "grib")

    with dask.config.set(scheduler=forbid):
        ds = open_source(path)

    assert ds.t2m.chunks is not None
    assert ds.tp.dtype == np.float32


@pytest.mark.parametrize("largest", [1, 24, 36, 10_000])
def test_chunks_of_any_length_hold_the_same(tmp_path, monkeypatch, largest):
    (path,) = provider.write(tmp_path, "grib", names=("t2m",), count=5)
    monkeypatch.setattr(grib, "LARGEST_CHUNK", largest)

    ds = open_source(path)

    assert max(ds.t2m.chunks[0]) == min(max(largest // 12, 1), 5)
    np.testing.assert_allclose(ds.t2m, provider.values("t2m", 5), atol=1e-4)
    np.testing.assert_allclose(ds.t2m[::-1, 1], provider.values("t2m", 5)[::-1, 1], atol=1e-4)


def test_a_dataset_travels_to_other_processes(tmp_path):
    (path,) = provider.write(tmp_path, "grib")

    ds = pickle.loads(pickle.dumps(open_source(path)))

    np.testing.assert_allclose(ds.t2m, provider.values("t2m", 3), atol=1e-4)
