from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from xlsbc.emulator import Architecture, Split
from xlsbc.errors import TrainingError
from xlsbc.training.config import Training


@pytest.fixture
def file(tmp_path):
    """A factory of YAML files."""

    def make(text: str):
        path = tmp_path / "config.yaml"
        path.write_text(text)
        return path

    return make


def test_what_is_written_is_read_back_equal(tmp_path):
    config = Training(
        cube="s3://bucket/cube.zarr",
        out="emulator",
        architecture=Architecture(width=(8, 16), dropout=0.1),
        split=Split(size=7, years=(2003,), regions=((170.0, -5.0, -170.0, 5.0),)),
        given=((), ("lc_fraction",)),
        optional=("slope",),
        state=("lu_fraction",),
        rollout=2,
        epochs=1.5,
        clip=None,
        memory=3 * 2**30,
    )
    config.write(tmp_path / "a.yaml")
    assert Training.read(tmp_path / "a.yaml") == config


def test_a_file_of_two_lines_has_defaults_for_the_rest(file):
    config = Training.read(file("cube: cube.zarr\nsteps: 20\n"))
    assert config == Training(cube="cube.zarr", steps=20)
    assert (config.rate, config.batch_size, config.clip) == (3e-3, 8, 1.0)


def test_paths_and_single_names_stand_for_texts_and_lists():
    settings = {"backbone": "terramind", "weights": Path("a.pt"), "out": Path("b")}
    config = Training.of({**settings, "adaptation": {"method": "lora", "targets": "qkv"}})
    assert (config.weights, config.out) == ("a.pt", "b")
    assert config.architecture.adaptation.targets == ("qkv",)


def test_a_transformer_learns_slower_than_a_u_net_unless_told_otherwise():
    assert Training.of({"backbone": "vit"}).rate == 1e-3
    assert Training.of({"backbone": "vit", "learning_rate": 0.01}).rate == 0.01


def test_a_power_of_ten_without_a_point_is_a_number(file):
    # yaml 1.1 takes 1e-3 for text
    assert yaml.safe_load("1e-3") == "1e-3"
    assert Training.read(file("learning_rate: 1e-3")).learning_rate == 0.001
    assert Training.read(file("epochs: 2")).epochs == 2.0


@pytest.mark.parametrize(("text", "expected"), [("2GiB", 2**31), ("500 MB", 5 * 10**8), (7, 7)])
def test_memory_may_be_told_in_words(text, expected):
    assert Training.of({"memory": text}).memory == expected


def test_lists_and_single_names_are_taken_where_python_has_them():
    config = Training.of(
        {"given": [(), "lc_fraction"], "optional": "slope", "state": ["lc_fraction"]}
    )
    assert config.given == ((), ("lc_fraction",))
    assert (config.optional, config.state) == (("slope",), ("lc_fraction",))


def test_every_wrong_setting_is_named_at_once(file):
    path = file("stepz: 3\nbatch_size: 0\nlearning_rate: .nan\nsplit: years\nclip: big\n")
    with pytest.raises(TrainingError, match="no settings of a training") as caught:
        Training.read(path)
    told = caught.value.problems
    assert len(told) == 5
    for start in ("stepz is no setting", "batch_size:", "learning_rate:", "clip:"):
        assert any(problem.startswith(start) for problem in told), start
    assert "split: 'years' is not a split; pass \"blocks\" or a Split" in told
    assert any("found 'big'" in problem for problem in told)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("learningrate", "learningrate is no setting (did you mean learning_rate?)"),
        ("adaption", "adaption is no setting (did you mean adaptation?)"),
        ("rank", "rank is no setting there, but one of adaptation: `adaptation: {rank: ...}`"),
        ("qwerty", "qwerty is no setting; check its spelling"),
    ],
)
def test_of_a_setting_that_is_none_the_likely_one_is_named(name, told):
    with pytest.raises(TrainingError) as caught:
        Training.of({name: 3})
    assert caught.value.problems[0].startswith(told)


def test_settings_that_do_not_go_together_are_all_named():
    wrong = {"epochs": 1, "minutes": 1, "rollout": 3, "patience": 2}
    with pytest.raises(TrainingError) as caught:
        Training.of(wrong)
    assert [problem.split()[0] for problem in caught.value.problems] == ["epochs", "a", "patience"]


def test_validation_needs_blocks_of_its_own():
    with pytest.raises(TrainingError, match=r"split\.validation > 0"):
        Training.of({"validate_every": 5, "split": Split()})
    assert Training.of({"validate_every": 5, "split": Split(validation=0.1)}).validate_every == 5


def test_a_change_is_checked_like_the_rest():
    config = Training(state=("lu_fraction",), rollout=3)
    with pytest.raises(TrainingError, match="rollout over 3 years needs state"):
        config.changed(state=())
    assert config.changed(steps=5).rollout == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [("- 1\n", "expected settings .* found list"), ("a: [", "is not YAML"), ("", "found NoneType")],
)
def test_what_is_no_document_of_settings_is_an_error(file, text, said):
    with pytest.raises(TrainingError, match=said):
        Training.read(file(text))


def test_a_file_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(TrainingError, match="no training is described at"):
        Training.read(tmp_path / "none.yaml")


def test_a_training_cannot_be_changed_in_place():
    with pytest.raises(ValidationError, match="frozen"):
        Training().steps = 3
