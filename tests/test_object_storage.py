"""Everything works from and to object storage: an S3 server on this computer, over HTTP."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
import xarray as xr

from tests import servers
from xlsbc import fit
from xlsbc.cube.catalog import open_catalog
from xlsbc.cube.store.reading import open_cube
from xlsbc.cube.store.writer import verify, write
from xlsbc.emulator import Architecture, Emulator
from xlsbc.errors import CubeError

pytest.importorskip("s3fs")
pytest.importorskip("moto")

ROOT = Path(__file__).parents[1]
CUBE, EMULATOR = "s3://xlsbc-object-storage/cube.zarr", "s3://xlsbc-object-storage/emulator"


@pytest.fixture(scope="module")
def corner(world: xr.Dataset) -> xr.Dataset:
    return world.isel(latitude=slice(0, 11), longitude=slice(0, 14))


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[servers.Bucket, dict[str, str]]]:
    with servers.s3() as (bucket, environment):
        fsspec.filesystem("s3").mkdir("xlsbc-object-storage", acl="public-read")
        yield bucket, environment


@pytest.fixture(scope="module")
def stored(server, corner, untrained) -> Emulator:
    """A cube and an emulator in the bucket."""
    write(corner, CUBE, packed=False, progress=False)
    emulator = untrained(corner)
    emulator.save(EMULATOR)
    fs = fsspec.filesystem("s3")
    for key in fs.find("xlsbc-object-storage"):  # moto lets nobody else read what is private
        fs.chmod(key, acl="public-read")
    return emulator


def shell(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "xlsbc", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
    )


def test_a_cube_goes_there_and_back(stored, corner):
    found = open_cube(CUBE).load()
    for name, expected in corner.data_vars.items():
        np.testing.assert_array_equal(found[name].values, expected.values, err_msg=str(name))
    assert verify(CUBE, progress=False) > 0


def test_an_emulator_goes_there_and_back(stored):
    found = Emulator.open(EMULATOR)
    assert found.hash == stored.hash
    assert found.url == EMULATOR  # workers open it from there


def test_a_prediction_is_read_and_written_there(stored, corner):
    out = "s3://xlsbc-object-storage/prediction.zarr"
    prediction = open_cube(CUBE).lsbc.predict(EMULATOR)
    assert prediction.lsbc.write(out, progress=False) == out
    expected = corner.lsbc.predict(stored).compute()
    xr.testing.assert_allclose(open_cube(out).load(), expected, rtol=0, atol=3e-4)
    assert bool(open_cube(out).lsbc.check().attrs["passed"])


def test_the_command_line_needs_nothing_but_the_environment(stored, corner, server):
    out = "s3://xlsbc-object-storage/by-command.zarr"
    done = shell("predict", CUBE, EMULATOR, out, "--targets", json.dumps(["lai"]), **server[1])
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == out
    fsspec.filesystem("s3").invalidate_cache()
    assert open_cube(out)["lai"].shape == (24, 11, 14)


def test_training_reads_a_cube_there(stored, corner, tmp_path):
    sizes = Architecture(width=(8, 16), climate=4, hidden=8)
    options = {"architecture": sizes, "steps": 2, "batch_size": 2, "crop": 8, "progress": False}
    beside = write(corner, str(tmp_path / "cube.zarr"), packed=False, progress=False)
    there, here = fit(open_cube(CUBE), **options), fit(open_cube(beside), **options)
    assert there.network.state_dict().keys() == here.network.state_dict().keys()
    for name, value in there.network.state_dict().items():
        assert value.equal(here.network.state_dict()[name]), name


def test_an_emulated_entry_predicts_from_there(stored):
    entry = open_catalog("emulated")["leaf_area_index"](cube=CUBE, emulator=EMULATOR, period=[2000])
    assert np.isfinite(entry.read()["lai"].values).any()


READ = "import sys; from xlsbc.cube.store.reading import open_cube; open_cube(sys.argv[1])"


def requests_of(bucket: servers.Bucket, **environment: str) -> list[dict[str, str]]:
    """What a process in this environment asks for when it opens the cube."""
    bucket.requests.clear()
    done = subprocess.run(
        [sys.executable, "-c", READ, CUBE],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return bucket.requests


def test_by_default_requests_are_signed(stored, server):
    found = requests_of(server[0])
    assert found
    assert all("somebody/" in request["HTTP_AUTHORIZATION"] for request in found)
    assert not any("HTTP_X_AMZ_REQUEST_PAYER" in request for request in found)


@pytest.mark.parametrize("setting", [{"FSSPEC_S3": '{"anon": true}'}, {"FSSPEC_S3_ANON": "true"}])
def test_anonymous_access_is_a_setting(stored, server, setting):
    found = requests_of(server[0], **setting)
    assert found
    assert not any("HTTP_AUTHORIZATION" in request for request in found)


def test_that_the_requester_pays_is_a_setting(stored, server):
    found = requests_of(server[0], FSSPEC_S3='{"requester_pays": true}')
    reads = [request for request in found if request["PATH_INFO"].endswith("zarr.json")]
    assert reads
    assert all(request.get("HTTP_X_AMZ_REQUEST_PAYER") == "requester" for request in reads)


def test_one_dataset_has_options_of_its_own(stored, server, corner):
    server[0].requests.clear()
    cube = xr.open_zarr(CUBE, chunks={}, storage_options={"anon": True})
    values = cube.lsbc.predict(EMULATOR, targets=["lai"], period=[2000])["lai"].values
    assert np.isfinite(values).any()
    asked = [r for r in server[0].requests if "/cube.zarr/" in r["PATH_INFO"]]
    assert asked
    assert not any("HTTP_AUTHORIZATION" in request for request in asked)


def test_what_is_not_there_is_one_line_without_a_secret(server):
    done = shell("check", "s3://xlsbc-object-storage/none.zarr", **server[1])
    assert done.returncode == 2
    assert done.stderr.startswith("CubeError: s3://xlsbc-object-storage/none.zarr is not a Zarr")
    assert len(done.stderr.splitlines()) == 1
    assert server[1]["AWS_SECRET_ACCESS_KEY"] not in done.stderr
    with pytest.raises(CubeError, match="not a Zarr store"):
        open_cube("s3://xlsbc-no-such-bucket/cube.zarr")
