"""The whole chain, as a newcomer runs it, on small land."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest
import xarray as xr

import xlsbc
from xlsbc.cube.ingest import oetztal, rhine
from xlsbc.emulator import Architecture
from xlsbc.quickstart import REAL, run

SMALL = ["--minutes", "0.02", "--region", "[8,45.5,8.6,46]", "--years", "[2000,2001]"]
MUST_HOLD = {
    *("leaves_without_bearer", "incompatible_mass", "incompatible_pixels", "negative"),
    *("simplex_error_lu", "simplex_error_lc", "lai_above_bound", "lai_closure", "cover_closure"),
}


def command(out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-W", "error", "-m", "xlsbc", "quickstart", "--out", str(out), *more]
    return subprocess.run(words, capture_output=True, text=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    out = tmp_path_factory.mktemp("quickstart") / "run"
    done = command(out, *SMALL)
    assert done.returncode == 0, done.stderr
    return out, done.stdout.strip().splitlines()


def test_it_ends_with_where_the_results_are_the_skill_and_what_is_next(
    finished: tuple[Path, list[str]],
) -> None:
    out, lines = finished
    assert str(out) in lines[-3]
    assert re.search(r"LAI RMSE \d+\.\d+, R² .*class by month climatology", lines[-2])
    assert lines[-1].startswith("Next: ")


def test_its_last_line_runs_as_it_stands(finished: tuple[Path, list[str]]) -> None:
    proposal = finished[1][-1].removeprefix("Next: python")
    line = f"{sys.executable} {proposal}"
    done = subprocess.run(line, shell=True, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "lai_hv" in done.stdout


def test_what_it_wrote_is_what_the_emulator_predicts(finished: tuple[Path, list[str]]) -> None:
    out, _ = finished
    cube = xr.open_zarr(out / "cube.zarr", consolidated=False)
    stored = xr.open_zarr(out / "prediction.zarr", consolidated=False).load()
    again = cube.lsbc.predict(str(out / "emulator")).compute()
    xr.testing.assert_allclose(stored, again, rtol=0, atol=2.0**-11)  # it is stored in steps
    assert stored.attrs["xlsbc_complete"]


def test_the_prediction_holds_together(finished: tuple[Path, list[str]]) -> None:
    prediction = xr.open_zarr(finished[0] / "prediction.zarr", consolidated=False)
    result = prediction.lsbc.check()
    assert set(result) >= MUST_HOLD
    laws = {name for name, value in result.items() if value.attrs["law"]} | MUST_HOLD
    assert [name for name in laws if not result[name].attrs["passed"]] == []


def test_scores_in_the_artefact_are_those_of_the_table(finished: tuple[Path, list[str]]) -> None:
    out, _ = finished
    header, own, *_ = (line.split(",") for line in (out / "scores.csv").read_text().splitlines())
    table = dict(zip(header, own, strict=True))
    scores = xlsbc.Emulator.open(str(out / "emulator")).spec.scores
    assert own[0] == "prediction"
    assert scores["lai_rmse"] == pytest.approx(float(table["lai_rmse"]), rel=1e-12)
    assert scores["lu_mae"] == pytest.approx(float(table["lu_mae"]), rel=1e-12)


def test_the_report_loads_nothing_from_elsewhere(finished: tuple[Path, list[str]]) -> None:
    page = (finished[0] / "report.html").read_text()
    assert "data:image/png;base64," in page
    assert re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', page) == []


def test_a_folder_that_holds_something_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("dear")
    done = command(tmp_path, *SMALL)
    assert done.returncode == 2
    assert "is not empty" in done.stderr
    assert "Traceback" not in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_a_source_without_its_files_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    done = command(tmp_path / "out", "--source", str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.startswith("SourceError: ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["rhine", "oetztal"])
def test_real_land_runs_with_its_cover_given_beside_boosting(
    name: str, real_data: Path, tmp_path: Path
) -> None:
    cube = {"rhine": rhine, "oetztal": oetztal}[name](real_data)
    if name == "rhine":
        cube = cube.isel(latitude=slice(500, 580), longitude=slice(500, 570))
    settings = {**REAL[name].fit, "steps": 5, "architecture": Architecture(width=(8, 16))}
    recipe = dataclasses.replace(REAL[name], fit=settings)
    section = run(cube, recipe, tmp_path, minutes=None, seed=0, progress=False)
    products = section.scores["product"].to_numpy().tolist()
    assert products == ["prediction", "class_by_month_climatology", "gradient_boosting"]
    # every product is scored on the same values, and what was given is not scored
    assert len(set(section.scores["lai_n"].to_numpy().tolist())) == 1
    assert not any(str(variable).startswith("lc_") for variable in section.scores)
    assert section.facts["Given"] == "lc_fraction"
    assert section.check.attrs["passed"]
    given = section.prediction["lc_fraction"].load()
    expected = section.cube["lc_fraction"].load()
    known = given.notnull()  # and stored in steps of 2**-15
    xr.testing.assert_allclose(given.where(known), expected.where(known), rtol=0, atol=2.0**-14)
