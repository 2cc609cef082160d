from __future__ import annotations

import pickle

import pytest

from xlsbc import errors

ALL = [getattr(errors, name) for name in errors.__all__ if not name.endswith("Warning")]


@pytest.mark.proves("errors-travel")
@pytest.mark.parametrize("kind", ALL)
def test_an_error_survives_pickling_with_its_type_text_and_attributes(kind):
    error = kind("the cube does not fit", ["no tp", "no co2"])
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is kind
    assert (str(back), back.summary, back.problems) == (
        "the cube does not fit: (1) no tp; (2) no co2.",
        "the cube does not fit",
        ("no tp", "no co2"),
    )


@pytest.mark.parametrize("kind", ALL)
def test_an_error_without_problems_is_its_summary(kind):
    assert str(kind("it is not there")) == "it is not there"


def test_of_hundreds_of_problems_the_text_tells_the_first_and_how_many_more():
    error = errors.EmulatorError("bad", [f"no {i}" for i in range(300)])
    assert str(error).endswith("(40) no 39; and 260 more, all of them in .problems.")
    assert len(error.problems) == 300


def test_a_problem_that_ends_in_a_full_stop_does_not_get_a_second_one():
    assert str(errors.CubeError("bad", ["one.", "two."])) == "bad: (1) one; (2) two."


@pytest.mark.parametrize(
    "kind",
    [errors.CubeError, errors.UnitsError, errors.LegendError, errors.GridError],
)
def test_errors_about_a_cube_are_cube_errors_and_value_errors(kind):
    assert issubclass(kind, errors.CubeError)
    assert issubclass(kind, ValueError)


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (errors.SourceError, ValueError),
        (errors.EmulatorError, ValueError),
        (errors.TrainingError, RuntimeError),
    ],
)
def test_other_errors_are_the_builtin_ones_too_and_no_cube_errors(kind, builtin):
    assert issubclass(kind, builtin)
    assert issubclass(kind, errors.LsbcError)
    assert not issubclass(kind, errors.CubeError)
