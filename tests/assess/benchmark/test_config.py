"""An experiment as a document, and which cells it has."""

from pathlib import Path

import pytest

from xlsbc.assess.benchmark.config import RANDOM, Experiment
from xlsbc.assess.benchmark.design import Labels
from xlsbc.emulator.spec import Split
from xlsbc.errors import TrainingError

SPLITS = {"blocks": Split(extent=(0, 0, 4, 4)), "years": Split(fraction=0, years=(2003,))}
SHIPPED = Path(__file__).parents[3] / "benchmarks"

PLAIN = {
    "title": "t",
    "cube": "c.zarr",
    "training": {"steps": 3},
    "models": {
        "U-Net": {"backbone": "unet"},
        "Prithvi": {"backbone": "prithvi", "variant": "2.0-tiny-TL", "weights": "random"},
    },
    "splits": {"blocks": "blocks", "years": {"fraction": 0, "years": [2003]}},
    "sweeps": [{"adaptations": ["scratch", "lora"]}],
    "rivals": ["persistence"],
}


def cells(cube="a", **changes):
    return Experiment.of({**PLAIN, **changes}).cells(cube, SPLITS)


def emulators(**changes):
    return [cell for cell in cells(**changes) if cell.training]


def test_a_model_without_pretrained_weights_is_trained_from_scratch_alone():
    found = {(c.model, c.identity["adaptation"]) for c in emulators()}
    assert found == {("U-Net", "scratch"), ("Prithvi", "scratch"), ("Prithvi", "lora")}


def test_what_two_sweeps_name_is_run_once():
    twice = [{"adaptations": ["scratch", "lora"]}, {"models": ["U-Net"], "labels": [1, 0.05]}]
    assert len(emulators(sweeps=twice)) == 3 * 3 + 3
    keys = [c.key for c in cells(sweeps=twice)]
    assert len(keys) == len(set(keys))


def rivals(name, **changes):
    found = [c for c in cells(rivals=[name], **changes) if c.training is None]
    told = {(c.split_name, c.labels.fraction, c.labels.every, c.seed) for c in found}
    assert len(found) == len(told)
    return told


def test_baselines_have_the_labels_and_splits_of_the_models_and_a_seed_where_labels_are_drawn():
    sweep = [{"labels": [1, 0.05, {"every": 3}], "splits": ["blocks", "years"]}]
    assert rivals("gradient_boosting", sweeps=sweep) == {
        (split, *labels)
        for split in ("blocks", "years")
        for labels in [(1, 1, 0), (1, 3, 0), *((0.05, 1, seed) for seed in (0, 1, 2))]
    }


def test_persistence_learns_from_no_label_and_is_scored_once_a_split():
    sweep = [{"labels": [1, 0.05, {"every": 3}], "splits": ["blocks", "years"]}]
    assert rivals("persistence", sweeps=sweep) == {("blocks", 1, 1, 0), ("years", 1, 1, 0)}


def test_two_names_of_one_cell_are_an_error():
    net = PLAIN["models"]["U-Net"]
    with pytest.raises(TrainingError, match="by another name; keep one of the names"):
        cells(models={"a": net, "b": net})


@pytest.mark.parametrize(
    "change",
    [
        {"training": {"steps": 4}},
        {"cube": "b"},
        {"threads": 2},
        {"seeds": [7]},
        {"models": {"U-Net": {"backbone": "unet", "width": [8, 16]}}},
        {"sweeps": [{"labels": [0.5]}]},
        {"sweeps": [{"learning": ["single"]}]},
        {"sweeps": [{"splits": ["years"]}]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_changes_the_numbers_is_another_cell(change):
    known = {c.key for c in emulators()}
    assert known.isdisjoint(c.key for c in emulators(**change))


def test_names_title_and_other_sweeps_leave_a_cell_what_it_was():
    known = {c.key for c in emulators()}
    models = {"Net": PLAIN["models"]["U-Net"], "P": PLAIN["models"]["Prithvi"]}
    assert {c.key for c in emulators(models=models, title="another")} == known
    more = [*PLAIN["sweeps"], {"labels": [0.01]}]
    assert known < {c.key for c in emulators(sweeps=more)}


def test_a_foundation_backbone_without_its_weights_is_called_random_initialised():
    found = {(c.model, c.identity["adaptation"]): c.weights for c in emulators()}
    assert found == {
        ("U-Net", "scratch"): "",
        ("Prithvi", "scratch"): RANDOM,
        ("Prithvi", "lora"): RANDOM,
    }
    weights = "s3://a/b/Prithvi_EO_V2_tiny_TL.pt"
    model = {**PLAIN["models"]["Prithvi"], "weights": weights}
    found = {c.identity["adaptation"]: c.weights for c in emulators(models={"P": model})}
    assert found == {"scratch": RANDOM, "lora": "Prithvi_EO_V2_tiny_TL.pt"}


def test_a_number_is_a_share_of_the_labels():
    (sweep,) = Experiment.of({**PLAIN, "sweeps": [{"labels": [0.01, {"every": 3}]}]}).sweeps
    assert sweep.labels == (Labels(fraction=0.01), Labels(every=3))


def test_all_that_is_wrong_is_told_at_once():
    wrong = {
        **PLAIN,
        "training": {"step": 3, "seed": 1, "minutes": 2},
        "seeds": [1, 1],
        "rivals": ["oracle"],
        "sweeps": [{"models": ["Unet"], "splits": ["random"]}, {"models": ["U-Net"], "seeds": []}],
    }
    with pytest.raises(TrainingError) as told:
        Experiment.of(wrong)
    text = str(told.value)
    for said in (
        "'oracle'",
        "'Unet'",
        "'random'",
        "step is no setting",
        "seed is for the exp",
        "give steps",
        "seeds must differ",
        "names nothing",
    ):
        assert said in text


def test_a_sweep_in_which_a_model_has_no_part_is_an_error():
    with pytest.raises(TrainingError, match=r"U-Net has no pretrained weights to adapt; add scr"):
        Experiment.of({**PLAIN, "sweeps": [{"adaptations": ["lora"]}]})


@pytest.mark.parametrize(("text", "said"), [("- 1", "found list"), ("a: [", "is not YAML")])
def test_a_file_of_something_else_is_refused(tmp_path, text, said):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(TrainingError, match=said):
        Experiment.read(tmp_path / "a.yaml")


@pytest.mark.parametrize("name", ["abstract-tiny", "rhine", "abstract-full"])
def test_the_shipped_experiments_are_valid(name):
    shipped = Experiment.read(SHIPPED / f"{name}.yaml")
    found = shipped.cells("", {k: Split(seed=i) for i, k in enumerate(shipped.splits)})
    assert {c.identity["backbone"] for c in found if c.training} == {
        "unet", "vit", "prithvi", "terramind",
    }  # fmt: skip
