"""One cell: what its record says, against what xlsbc says by hand."""

import json

import numpy as np
import pytest
import torch
import xarray as xr

import xlsbc
from xlsbc.assess.benchmark.cell import Task, run
from xlsbc.assess.benchmark.design import Cell, Labels
from xlsbc.assess.benchmark.labels import thinned
from xlsbc.assess.benchmark.table import METRICS, tidy
from xlsbc.assess.evaluate import evaluate
from xlsbc.cube.store.reading import open_cube
from xlsbc.cube.store.writer import write
from xlsbc.emulator.cost import cost
from xlsbc.emulator.spec import Split
from xlsbc.physics.consistency import check
from xlsbc.training.config import Training
from xlsbc.training.splits import held_out, resolved

SETTINGS = {"steps": 3, "crop": 16, "batch_size": 2, "width": (4, 8), "given": ((),)}


@pytest.fixture(scope="module")
def cube_url(small_world, tmp_path_factory):
    return write(small_world, str(tmp_path_factory.mktemp("cube") / "cube.zarr"), packed=False)


@pytest.fixture(scope="module")
def split(small_world):
    return resolved(Split(size=20, buffer=4, fraction=0.2), small_world)


@pytest.fixture
def task(cube_url, split, tmp_path):
    def make(learning="multi-task", labels=None, model="U-Net", training=True, split=split):
        cell = Cell(
            cube="a",
            model=model,
            training=Training(seed=5, **SETTINGS) if training else None,
            weights="",
            learning=learning if training else "",
            labels=labels or Labels(),
            split_name="blocks",
            split=split,
            seed=5,
            threads=1,
        )
        return Task(cell=cell, cube=cube_url, out=str(tmp_path))

    return make


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def without_clocks(record):
    clocks = ("training_seconds", "pixels_per_second", "peak_memory", "energy")
    return {k: v for k, v in record.items() if k not in clocks}


@pytest.mark.filterwarnings("ignore:the buffer around held-out pixels")
def test_its_record_is_what_fit_predict_evaluate_and_check_say(task, split, small_world):
    labels = Labels(fraction=0.5)
    record = run(task(labels=labels))
    settings = {**SETTINGS, "seed": 5, "split": split, "progress": False}
    emulator = xlsbc.fit(thinned(small_world, labels, 5), **settings)
    made = small_world.lsbc.predict(emulator).compute()
    where, _ = held_out(small_world, split)
    skill = evaluate(made, small_world, where=where).sel(product="prediction")
    for name, value in skill.data_vars.items():
        # as stored: leaf area in steps of 2**-12, fractions of 2**-15
        np.testing.assert_allclose(record[str(name)], float(value), atol=2e-4, err_msg=str(name))
    rules = check(made, reference=small_world, cube=small_world)
    assert {k for k in record if k.startswith("check_")} == {f"check_{k}" for k in rules}
    assert record["laws_broken"] == 0
    assert record["passed"] is True
    assert record["emulators"] == emulator.hash[:16]
    found = cost(emulator.spec, emulator.network)
    assert record["parameters"] == found.parameters
    assert record["flops"] == pytest.approx(found.yearly + 12 * found.stepwise)


@pytest.mark.filterwarnings("ignore:the buffer around held-out pixels")
def test_a_chain_is_three_networks_and_its_fields_are_of_one_product(task, tmp_path):
    chain, together = run(task("sequential")), run(task())
    assert len(chain["emulators"].split()) == 3
    # each has the channels and heads of the whole, less what is given
    assert 2.5 < chain["parameters"] / together["parameters"] < 3.5
    assert {"lu_mae", "lc_mae", "lai_rmse"} < chain.keys()
    assert chain["lu_n"] == together["lu_n"]
    assert chain["lai_n"] == together["lai_n"]


@pytest.mark.filterwarnings("ignore:the buffer around held-out pixels")
def test_the_same_cell_has_the_same_numbers(task, tmp_path):
    one = run(task("single"))
    again = run(task("single").model_copy(update={"out": str(tmp_path / "again")}))
    assert without_clocks(one) == without_clocks(again)


@pytest.mark.filterwarnings("ignore:the buffer around held-out pixels")
def test_its_record_and_fields_are_files_that_a_table_and_pictures_can_take(task, cube_url):
    cell = task()
    record = run(cell)
    with open(cell.record) as file:
        assert json.load(file) == record
    table = tidy([{**record, **cell.cell.identity, "cube": "a"}])
    assert len(table) == 1
    measured = {k for k in METRICS if k in table}
    assert {"lai_rmse", "lu_figure_of_merit", "parameters", "laws_broken"} < measured
    fields = xr.open_zarr(cell.fields, consolidated=False)
    assert set(fields) == {"error", "held_out", "reference", "prediction", "share", "title"}
    truth = open_cube(cube_url)["lai"]
    assert fields["error"].notnull().any()
    assert float(fields["error"].max()) < float(truth.max())


@pytest.mark.filterwarnings("ignore:the buffer around held-out pixels")
def test_a_chain_of_coupled_heads_breaks_no_law_and_a_plain_one_does(task):
    plain, coupled = run(task("sequential")), run(task("sequential-coupled"))
    assert plain["check_incompatible_pixels"] > 0
    assert coupled["check_incompatible_pixels"] == 0
    assert coupled["check_leaves_without_bearer"] == 0


def test_a_cell_that_died_before_its_record_can_be_run_again(task, cube_url):
    cell = task(training=False, model="coarse_upsampled")
    run(cell)
    fields = xr.load_dataset(cell.fields, engine="zarr")
    write(fields.assign(error=fields["error"] + 1), cell.fields, overwrite=True)
    run(cell)
    again = xr.load_dataset(cell.fields, engine="zarr")
    xr.testing.assert_identical(again["error"], fields["error"])


def test_persistence_which_sees_the_maps_between_has_no_figure_of_merit(task):
    assert not [k for k in run(task(training=False, model="persistence")) if "merit" in k]
    assert "lu_figure_of_merit" in run(task(training=False, model="coarse_upsampled"))


def test_a_baseline_has_skill_and_no_network(task):
    record = run(task(training=False, model="class_by_month_climatology"))
    assert record["lai_rmse"] > 0
    assert "parameters" not in record
    assert "training_seconds" not in {k for k, v in record.items() if v is not None}


def test_a_year_that_is_held_out_is_scored_alone(task, small_world):
    split = resolved(Split(fraction=0, years=(2003,)), small_world)
    record = run(task(training=False, model="persistence", split=split))
    known = small_world["lu_fraction"].sel(year=[2002, 2003]).notnull().all(["year", "lu_class"])
    assert record["lu_n"] == int(known.sum())
