from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from xlsbc import cli
from xlsbc.cube.store.writer import write
from xlsbc.emulator import Emulator
from xlsbc.inference.predict import predict

Shell = Callable[..., tuple[int, str, str]]


LAWS = {
    *("leaves_without_bearer", "incompatible_mass", "incompatible_pixels", "negative"),
    *("simplex_error_lu", "simplex_error_lc", "lai_above_bound", "lai_closure", "cover_closure"),
}


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    """Runs ``xlsbc`` with arguments in this process: exit status, output, errors."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["xlsbc", *map(str, arguments)])
        monkeypatch.setattr(cli, "tune_allocator", lambda: None)  # would stay for other tests
        try:
            cli.main()
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        out, err = capsys.readouterr()
        return status, out, err

    return run


@pytest.fixture(scope="module")
def corner(world: xr.Dataset) -> xr.Dataset:
    return world.isel(latitude=slice(0, 11), longitude=slice(0, 14))


@pytest.fixture(scope="module")
def stores(corner, untrained, tmp_path_factory) -> dict[str, Path]:
    """A tiny cube, an emulator for it, and one for a cube with other inputs."""
    place = tmp_path_factory.mktemp("stores")
    write(corner, str(place / "cube.zarr"), progress=False)
    untrained(corner).save(str(place / "emulator"))
    porous = corner.drop_vars("clay_fraction").assign(soil_carbon=corner["elevation"])
    porous["soil_carbon"].attrs = {"units": "kg m-2", "standard_name": "soil_carbon_content"}
    untrained(porous).save(str(place / "other"))
    return {path.name.removesuffix(".zarr"): path for path in place.iterdir()}


def test_help_lists_the_commands(shell):
    status, out, _ = shell("--help")
    assert status == 0
    for command in ("quickstart", "train", "predict", "check", "doctor"):
        assert command in out


@pytest.mark.parametrize("command", ["quickstart", "train", "predict", "check", "doctor"])
def test_every_command_has_help(shell, command):
    status, out, _ = shell(command, "--help")
    assert status == 0
    assert "--help" in out


def test_a_cube_is_predicted_and_the_prediction_holds_to_physics(shell, stores, corner, tmp_path):
    out = tmp_path / "prediction.zarr"
    status, said, _ = shell("predict", stores["cube"], stores["emulator"], out)
    assert status == 0
    assert said.splitlines()[-1] == str(out)
    found = xr.open_zarr(out).load()
    expected = predict(corner, str(stores["emulator"])).compute()
    xr.testing.assert_allclose(found, expected, rtol=0, atol=3e-4)  # stored in steps
    assert np.isfinite(found["lai"]).any()
    status, said, _ = shell("check", out)
    assert status == 0
    assert "simplex_error_lu" in said
    verdicts = dict(line.split(": ", 1) for line in said.splitlines())
    laws = {name: verdicts.pop(name) for name in LAWS}
    assert all(verdict.endswith(" passed") for verdict in laws.values())
    assert all(verdict.endswith((" passed", " unusual")) for verdict in verdicts.values())


def test_land_cover_may_be_given(shell, stores, tmp_path):
    out = tmp_path / "prediction.zarr"
    given = json.dumps(["lc_fraction"])
    status, _, _ = shell("predict", stores["cube"], stores["emulator"], out, "--given", given)
    assert status == 0
    assert xr.open_zarr(out).attrs["xlsbc_given"] == "lc_fraction"


def test_a_product_that_breaks_a_rule_is_said_to(shell, corner, tmp_path):
    wrong = corner[["lai"]] * 0 - 1
    write(wrong, str(tmp_path / "wrong.zarr"), packed=False, progress=False)  # -1 is no step
    status, said, _ = shell("check", tmp_path / "wrong.zarr")
    assert status == 1
    assert "negative: " in said
    assert "FAILED" in said


def refused(result: tuple[int, str, str], *said: str) -> None:
    """One line that says what is wrong, and exit status 2."""
    status, _, err = result
    assert status == 2
    assert len(err.strip().splitlines()) == 1, err
    assert "Traceback" not in err
    for text in said:
        assert text in err


@pytest.fixture(params=["text", "empty", "absent", "damaged"])
def no_zarr(request, tmp_path) -> Path:
    """A path that is not a Zarr store."""
    place = tmp_path / request.param
    if request.param == "text":
        place.write_text("a,b\n1,2\n")
    elif request.param != "absent":
        place.mkdir()
    if request.param == "damaged":
        (place / "zarr.json").write_text('{"zarr_format": 3, "node_type": "gro')
    return place


def test_a_path_that_is_not_zarr_is_refused(shell, no_zarr):
    refused(shell("check", no_zarr), f"CubeError: {no_zarr} is not a Zarr store")


def test_nothing_is_predicted_from_a_path_that_is_not_zarr(shell, no_zarr, stores, tmp_path):
    out = tmp_path / "prediction.zarr"
    refused(shell("predict", no_zarr, stores["emulator"], out), "CubeError", "not a Zarr store")
    assert not out.exists()


def test_an_emulator_that_does_not_exist_is_refused(shell, stores, tmp_path):
    out = tmp_path / "prediction.zarr"
    result = shell("predict", stores["cube"], tmp_path / "none", out)
    refused(result, "EmulatorError: no emulator at", "train one with xlsbc.fit")
    assert list(tmp_path.iterdir()) == []


def test_an_emulator_for_other_inputs_is_refused(shell, stores, tmp_path):
    out = tmp_path / "prediction.zarr"
    result = shell("predict", stores["cube"], stores["other"], out)
    refused(result, "EmulatorError", "input 'soil_carbon' (soil_carbon_content) is not in the cube")
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_is_there_is_not_overwritten(shell, stores):
    before = sorted(stores["cube"].rglob("*"))
    result = shell("predict", stores["cube"], stores["emulator"], stores["cube"])
    refused(result, "CubeError: there is something at")
    assert sorted(stores["cube"].rglob("*")) == before


@pytest.mark.parametrize("layout", [(2, False), (2, True), (3, False)])
def test_a_store_of_another_making_is_read_too(shell, corner, tmp_path, layout):
    version, consolidated = layout
    place = tmp_path / "lai.zarr"
    corner[["lai"]].to_zarr(place, zarr_format=version, consolidated=consolidated)
    status, said, err = shell("check", place)
    assert (status, err) == (0, "")
    assert "negative: 0 passed" in said


def test_a_zarr_store_without_land_is_no_product(shell, tmp_path):
    write(xr.Dataset({"a": ("x", [1.0])}), str(tmp_path / "a.zarr"), progress=False)
    refused(shell("check", tmp_path / "a.zarr"), "CubeError", "nothing in it can be checked")


def test_an_unknown_command_is_refused_without_a_traceback(shell):
    status, _, err = shell("predcit")
    assert status == 2
    assert "Traceback" not in err


SETTINGS = """
architecture: {width: [8, 16], climate: 4, hidden: 8}
steps: 2
batch_size: 2
crop: 8
"""


@pytest.fixture
def settings(stores, tmp_path) -> Callable[..., Path]:
    """A factory of files of settings: a tiny training of the cube, and further lines."""

    def make(*lines: str, cube: Path = stores["cube"]) -> Path:
        place = tmp_path / "train.yaml"
        own = f"cube: {cube}\nout: {tmp_path / 'emulator'}\n"
        place.write_text("\n".join([own + SETTINGS, *lines]))
        return place

    return make


narrow = pytest.mark.filterwarnings("ignore:the buffer around held-out pixels")


@narrow
def test_an_emulator_is_trained_and_the_same_command_finds_it_done(shell, settings, tmp_path):
    status, said, _ = shell("train", settings())
    assert status == 0
    assert said.splitlines()[-1] == str(tmp_path / "emulator")
    made = Emulator.open(str(tmp_path / "emulator"))
    assert repr(made) in said
    status, said, err = shell("train", settings())
    assert repr(made) in said
    assert "sample/s" not in err  # no step was taken again


@narrow
def test_members_are_trained_side_by_side(shell, settings, tmp_path):
    status, said, _ = shell("train", settings("members: 2"))
    assert status == 0
    places = [tmp_path / "emulator" / f"member-{i}" for i in range(2)]
    assert said.splitlines() == [repr(Emulator.open(str(place))) for place in places]


@narrow
@pytest.mark.parametrize("flag", ["--dry-run", "--dry_run"])
def test_a_rehearsal_tells_what_a_training_costs_and_leaves_nothing(
    shell, settings, tmp_path, flag
):
    status, said, _ = shell("train", settings(), flag)
    assert status == 0
    for word in ("shapes", "memory", "samples/s", "labels", "epoch"):
        assert word in said
    assert [path.name for path in tmp_path.iterdir()] == ["train.yaml"]


def test_all_wrong_settings_are_named_in_one_line(shell, settings):
    result = shell("train", settings("stepz: 3", "learning_rate: -1"))
    refused(result, "TrainingError", "stepz is no setting", "learning_rate: the value", "found -1")


def test_settings_without_a_cube_and_a_place_are_refused(shell, tmp_path):
    (tmp_path / "empty.yaml").write_text("steps: 2\n")
    refused(shell("train", tmp_path / "empty.yaml"), "lacks cube and out, a URL each; add a line")


def test_settings_that_do_not_exist_are_refused(shell, tmp_path):
    refused(shell("train", tmp_path / "none.yaml"), "TrainingError: no training is described at")


def test_nothing_is_trained_from_a_path_that_is_not_zarr(shell, no_zarr, settings, tmp_path):
    refused(shell("train", settings(cube=no_zarr)), f"CubeError: {no_zarr} is not a Zarr store")
    assert not (tmp_path / "emulator").exists()


def test_nothing_is_trained_from_a_cube_without_labels(shell, corner, settings, tmp_path):
    names = [n for n in (*corner.data_vars, *corner.coords) if n.startswith(("lu_", "lc_", "lai"))]
    write(corner.drop_vars(names), str(tmp_path / "bare.zarr"), progress=False)
    result = shell("train", settings(cube=tmp_path / "bare.zarr"))
    refused(result, "TrainingError: the cube cannot train", "expected at least one target")
    assert not (tmp_path / "emulator").exists()
