"""All cells of an experiment: once each, gone on with, and what is told of those that fail."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import fsspec
import pandas as pd
import pytest
from distributed import Client

from xlsbc.assess.benchmark import run as module
from xlsbc.assess.benchmark.config import Entry, Experiment
from xlsbc.assess.benchmark.planning import fingerprint, plan, prepared
from xlsbc.assess.benchmark.run import benchmark, summed_up
from xlsbc.cube.ingest import real_cubes
from xlsbc.cube.store.writer import write
from xlsbc.errors import LsbcError, TrainingError

from .conftest import OPTIONS

SETTINGS = {
    "title": "A trial",
    "cube": {"entry": "synthetic", "options": OPTIONS},
    "training": {"steps": 2, "crop": 16, "batch_size": 1},
    "models": {"U-Net": {"backbone": "unet", "width": [4, 8]}},
    "sweeps": [{"learning": ["multi-task", "single"]}],
    "seeds": [0],
    "rivals": ["persistence"],
}
SHIPPED = Path(__file__).parents[3] / "benchmarks"
CLOCKS = ["training_seconds", "pixels_per_second", "peak_memory", "energy"]


def experiment(**changes):
    return Experiment.of({**SETTINGS, **changes})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    return benchmark(experiment(out=str(out)), progress=lambda line: None)


def test_it_leaves_a_table_a_row_a_cell_and_a_report(finished):
    assert not finished.failed
    assert list(finished.table["learning"]) == ["", "multi-task", "single"]
    out = Path(finished.out)
    pd.testing.assert_frame_equal(module.tables.load(finished.out), finished.table)
    page = (out / "report.html").read_text()
    assert "A trial" in page
    assert finished.table["cube"].iloc[0] in page


def test_a_finished_cell_is_not_run_again_and_a_new_one_is(finished, monkeypatch):
    ran = []
    monkeypatch.setattr(
        module, "done", lambda planned, todo, *_: ran.extend(c.title for c in todo) or iter(())
    )
    more = [*SETTINGS["sweeps"], {"labels": [0.5]}]
    same = benchmark(experiment(out=finished.out, sweeps=more, title="More"), progress=list)
    assert ran == [
        "U-Net, scratch, multi-task, blocks, 50% of labels, seed 0",
    ]
    pd.testing.assert_frame_equal(same.table, finished.table)


@pytest.mark.slow
def test_elsewhere_and_after_a_kill_the_numbers_are_the_same(finished, tmp_path):
    settings = tmp_path / "a.yaml"
    settings.write_text(repr({**SETTINGS, "out": str(tmp_path / "out"), "rivals": []}))
    command = [sys.executable, "-m", "xlsbc", "benchmark", str(settings)]
    with subprocess.Popen(command, start_new_session=True) as running:
        records = tmp_path / "out" / "cells"
        until = time.monotonic() + 120
        while not (records.exists() and any(records.glob("*.json"))):
            assert time.monotonic() < until
            assert running.poll() is None
            time.sleep(0.1)
        os.killpg(running.pid, signal.SIGKILL)
    before = {path.name: path.stat().st_mtime_ns for path in records.glob("*.json")}
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert f"2 cells, {len(before)} of them finished" in said
    assert {name: (records / name).stat().st_mtime_ns for name in before} == before
    again = module.tables.load(str(tmp_path / "out"))
    first = finished.table[finished.table["kind"] == "emulator"].reset_index(drop=True)
    tables = [
        t.drop(columns=CLOCKS, errors="ignore").dropna(axis=1, how="all") for t in (again, first)
    ]
    pd.testing.assert_frame_equal(*tables, check_exact=True)


def test_a_cell_that_fails_is_told_and_leaves_no_record(finished, tmp_path):
    shutil.copytree(finished.out, tmp_path / "out")
    models = {**SETTINGS["models"], "blind": {"width": [4, 8], "optional": ["colour"]}}
    wrong = experiment(out=str(tmp_path / "out"), models=models, sweeps=[{}])
    said = []
    found = benchmark(wrong, progress=said.append)
    (title,) = found.failed
    assert title.startswith("blind,")
    assert "['colour'] are not static inputs" in found.failed[title]
    assert said[0] == "3 cells, 2 of them finished"
    assert "FAILED" in said[1]
    (log,) = (tmp_path / "out" / "cells").glob("*.log")
    assert "Traceback" in log.read_text()
    assert "Not finished" in (tmp_path / "out" / "report.html").read_text()
    assert set(found.table["model"]) == {"U-Net", "persistence"}
    assert (
        len(list((tmp_path / "out" / "cells").glob("*.json"))) == 3
    )  # none of the one that failed


def test_a_process_that_is_killed_is_told_from_one_that_refuses(finished, tmp_path, monkeypatch):
    planned = prepared(experiment(out=finished.out))
    task = planned.task(planned.cells[0]).model_copy(update={"out": str(tmp_path)})
    killer = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    call = subprocess.run
    monkeypatch.setattr(
        module.subprocess, "run", lambda _, **how: call([sys.executable, "-c", killer], **how)
    )
    assert "killed by signal 9; was there memory" in module.alone(task.model_dump_json())


def test_nothing_finished_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "done", lambda planned, todo, *_: ((c, "why") for c in todo))
    with pytest.raises(LsbcError, match=r"no cell could be finished: .*persistence.*: why"):
        benchmark(experiment(out=str(tmp_path)), progress=lambda line: None)


def test_without_a_place_for_results_nothing_begins():
    with pytest.raises(TrainingError, match="lacks out"):
        benchmark(experiment())


def test_a_cube_of_one_target_is_refused_before_anything_is_run(tmp_path, small_world):
    url = write(small_world.drop_vars(["lu_fraction", "lc_fraction"]), str(tmp_path / "c.zarr"))
    with pytest.raises(TrainingError, match="needs two targets"):
        prepared(experiment(cube=url, out=str(tmp_path / "out")))


def test_a_cube_is_known_by_its_content(tmp_path, small_world):
    one, same, other = (
        write(cube, str(tmp_path / f"{i}.zarr"), packed=False)
        for i, cube in enumerate(
            (small_world, small_world, small_world.assign(lai=small_world.lai + 1))
        )
    )
    assert fingerprint(one) == fingerprint(same) != fingerprint(other)


def test_a_cube_of_another_making_is_another_when_it_was_written_again(tmp_path, small_world):
    url = str(tmp_path / "a.zarr")
    before = None
    for factor in (1, 7):
        cube = small_world[["elevation"]] * factor
        cube.to_zarr(url, mode="w", consolidated=False)
        assert fingerprint(url) == fingerprint(url) != before
        before = fingerprint(url)


def test_results_may_be_in_an_object_store(finished):
    planned = prepared(experiment(out=finished.out))
    bucket = fsspec.filesystem("memory")
    for path in Path(finished.out).rglob("*"):
        if path.is_file() and path.parts[-2] == "cells":
            bucket.pipe(f"/results/cells/{path.name}", path.read_bytes())
    there = planned.experiment.model_copy(update={"out": "memory://results"})
    found = summed_up(dataclasses.replace(planned, experiment=there), {}, 1)
    pd.testing.assert_frame_equal(found.table, finished.table)
    assert b"A trial" in bucket.cat("/results/report.html")
    pd.testing.assert_frame_equal(module.tables.load("memory://results"), finished.table)
    bucket.rm("/results", recursive=True)


def test_workers_that_would_run_several_cells_at_once_are_refused(tmp_path):
    with (
        Client(
            processes=False, n_workers=1, threads_per_worker=2, dashboard_address=":0"
        ) as client,
        pytest.raises(TrainingError, match="expected workers of one thread"),
    ):
        benchmark(experiment(out=str(tmp_path)), client=client, progress=list)


def test_a_dry_run_says_what_would_be_run_and_runs_nothing(monkeypatch):
    monkeypatch.setattr(module.subprocess, "run", None)
    said = plan(experiment(seeds=[0, 1]))
    assert "multi-task                   2 cells" in said
    assert "single                       2 cells" in said
    assert "in all                       5 cells, 8 trainings" in said


def test_the_tiny_experiment_can_be_planned():
    said = plan(Experiment.read(SHIPPED / "abstract-tiny.yaml"))
    assert len([line for line in said.splitlines() if "tiny" in line and "frozen" in line]) == 2


def test_the_experiment_on_real_land_can_be_planned(real_data, tmp_path):
    url = write(real_cubes(real_data)["rhine"], str(tmp_path / "rhine.zarr"), progress=False)
    shipped = Experiment.read(SHIPPED / "rhine.yaml").model_copy(update={"cube": url})
    said = plan(shipped)
    assert len([line for line in said.splitlines() if "tiny" in line and "lora" in line]) == 2


def test_the_experiment_of_the_abstract_is_every_combination():
    # its cube is in a bucket of the reader's; a lazy one that holds what it holds out stands for it
    africa = Entry(entry="synthetic", options={"region": [6, -6, 16, 4], "years": [2017, 2020]})
    shipped = Experiment.read(SHIPPED / "abstract-full.yaml")
    said = plan(shipped.model_copy(update={"cube": africa}))
    # 2 models from scratch alone, 2 with 5 adaptations; 4 ways, 5 sets of labels, 4 splits, 5 seeds
    for way in ("multi-task", "sequential", "sequential-coupled", "single"):
        assert f"{way:<24}{12 * 5 * 4 * 5:>6} cells" in said
    assert f"{12 * 5 * 4 * 5 * (1 + 3 + 3 + 3)} trainings" in said
