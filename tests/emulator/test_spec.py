from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from xlsbc.emulator import Architecture, InputVariable, Lattice, Spec, Split


@pytest.fixture
def document() -> dict[str, Any]:
    """The smallest specification, as JSON has it."""
    return {
        "targets": ["lai"],
        "steps": [[month, 1] for month in range(1, 13)],
        "lattice": {"dlat": 0.1, "dlon": 0.1},
    }


def read(document: dict[str, Any]) -> Spec:
    return Spec.model_validate_json(json.dumps(document))


def test_a_specification_read_back_from_its_json_is_the_same(document):
    spec = read(
        document
        | {
            "static": [{"name": "elevation", "units": "m", "mean": 1 / 3, "std": 1e-7}],
            "given": [[], ["lc_fraction"]],
            "split": {
                "size": 7,
                "buffer": 2,
                "fraction": 0.25,
                "seed": 3,
                "validation": 0.1,
                "years": [2003, 2010],
                "regions": [[170.0, -20, -170.5, 1 / 3]],
                "extent": [3, 449, 2, 5],
            },
            "provenance": {"cube": "Ötztal", "steps": 10},
            "scores": {"lai_rmse": 0.5, "lu_miou": None},
        }
    )
    assert Spec.model_validate_json(spec.model_dump_json()) == spec


@pytest.mark.proves("hostile-specification")
@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"pickle": "anything"}, "pickle"),
        ({"format_version": 2}, "format_version"),
        ({"targets": ["snow"]}, "targets"),
        ({"given": [["lai"]]}, "given"),
        ({"history": "12"}, "history"),
        ({"history": 0}, "history"),
        ({"steps": []}, "steps"),
        ({"steps": [[13, 1]]}, "steps"),
        ({"steps": [[2, 30]]}, "steps"),
        ({"steps": [[2, 1], [1, 1]]}, "steps"),
        ({"steps": [[1, 1], [1, 1]]}, "steps"),
        ({"lattice": {"dlat": 0.0, "dlon": 0.1}}, "dlat"),
        ({"lattice": {"dlat": 0.1}}, "dlon"),
        ({"architecture": {"width": [8] * 7}}, "width"),
        ({"architecture": {"width": [8192]}}, "width"),
        ({"architecture": {"backbone": "os.system"}}, "backbone"),
        ({"static": [{"name": "dem", "units": "m", "std": 0.0}]}, "std"),
        ({"static": [{"name": "", "units": "m"}]}, "name"),
        ({"static": [{"name": "dem", "units": "m", "transform": "exp"}]}, "transform"),
        ({"split": {"fraction": 1.0}}, "fraction"),
        (
            {"split": {"fraction": 0.6, "validation": 0.4}},
            "less than 1 together; found 0.6 and 0.4",
        ),
        ({"split": {"seed": -1}}, "seed"),
        ({"split": {"years": [2001, 2001]}}, "years must ascend; found 2001, 2001"),
        ({"split": {"years": [2002, 2001]}}, "years must ascend; found 2002, 2001"),
        ({"split": {"years": [2001.5]}}, "years"),
        (
            {"split": {"regions": [[0, 10, 5, 10]]}},
            r"south < north .* found \(0.0, 10.0, 5.0, 10.0\)",
        ),
        ({"split": {"regions": [[5, 10, 5, 20]]}}, "some width; found"),
        ({"split": {"regions": [[0, 10, 5]]}}, "regions"),
        ({"split": {"regions": [[0, 80, 5, 91]]}}, "less than or equal to 90"),
        ({"split": {"regions": [[0, -91, 5, 0]]}}, "greater than or equal to -90"),
        ({"split": {"regions": [[0, 10, 361, 20]]}}, "less than or equal to 360"),
        ({"split": {"extent": [0, 0, 0, 1]}}, "extent"),
        ({"split": {"extent": [-1, 0, 1, 1]}}, "extent"),
        ({"driver": 1}, "driver"),
    ],
)
def test_what_no_emulator_can_be_is_refused_by_the_name_of_the_field(document, change, named):
    with pytest.raises(ValidationError, match=named):
        read(document | change)


@pytest.mark.proves("hostile-specification")
@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity"])
def test_moments_must_be_finite(document, text):
    raw = json.dumps(document)[:-1] + ', "static": [{"name": "dem", "units": "m", "mean": X}]}'
    with pytest.raises(ValidationError, match="finite"):
        Spec.model_validate_json(raw.replace("X", text))


@pytest.mark.proves("hostile-specification")
@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity"])
def test_the_edges_of_a_region_must_be_finite(document, text):
    raw = json.dumps(document)[:-1] + ', "split": {"regions": [[0, 1, X, 2]]}}'
    with pytest.raises(ValidationError, match="regions.0.2"):
        Spec.model_validate_json(raw.replace("X", text))


def test_a_split_of_an_older_document_holds_out_blocks_and_no_more(document):
    spec = read(document | {"split": {"size": 96, "buffer": 16, "fraction": 0.2, "seed": 7}})
    assert spec.split == Split(
        size=96,
        buffer=16,
        fraction=0.2,
        seed=7,
        validation=0.0,
        years=(),
        regions=(),
        extent=None,
    )


@pytest.mark.proves("hostile-specification")
def test_every_problem_of_a_split_is_named_at_once(document):
    with pytest.raises(ValidationError) as caught:
        read(document | {"split": {"size": 0, "years": [2, 1], "regions": [[0, 1, 0, 2]]}})
    found = {".".join(map(str, error["loc"])) for error in caught.value.errors()}
    assert found == {"split.size", "split.years", "split.regions"}


@pytest.mark.proves("hostile-specification")
def test_every_problem_is_named_at_once(document):
    del document["targets"]
    with pytest.raises(ValidationError) as caught:
        read(document | {"license": 3, "lattice": {"dlat": -1.0, "dlon": 99.0}})
    found = {".".join(map(str, error["loc"])) for error in caught.value.errors()}
    assert found == {"targets", "license", "lattice.dlat", "lattice.dlon"}


@pytest.mark.proves("hostile-specification")
def test_tiles_that_are_no_multiple_of_the_backbones_stride_are_refused(document):
    with pytest.raises(ValidationError, match="240 pixels is no multiple .* 32"):
        read(document | {"architecture": {"width": [4] * 6}})


@pytest.mark.parametrize(("width", "stride"), [((8,), 1), ((8, 16), 2), ((4, 4, 4, 4), 8)])
def test_the_stride_of_an_architecture_is_that_of_its_network(width, stride):
    from xlsbc.models.unet import UNet

    assert Architecture(width=width).stride == UNet(1, width).stride == stride


def test_a_specification_cannot_be_changed():
    variable = InputVariable(name="elevation", units="m")
    with pytest.raises(ValidationError, match="frozen"):
        variable.mean = 1.0


def test_inputs_are_listed_as_static_forcing_and_scalar_and_what_may_be_given_once():
    spec = Spec(
        static=(
            InputVariable(name="elevation", units="m", optional=True),
            InputVariable(name="slope", units="degree"),
        ),
        forcing=(InputVariable(name="t2m", units="K"),),
        scalars=(InputVariable(name="co2", units="1"),),
        targets=("lai",),
        given=((), ("lu_fraction",), ("lc_fraction", "lu_fraction")),
        steps=((1, 1),),
        lattice=Lattice(dlat=0.1, dlon=0.1),
    )
    assert [v.name for v in spec.inputs] == ["elevation", "slope", "t2m", "co2"]
    assert [v.name for v in spec.optional] == ["elevation"]
    assert spec.may_be_given == ("lc_fraction", "lu_fraction")
