from __future__ import annotations

import hashlib
import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from dask.base import tokenize

from tests.oracles import assemble, select
from xlsbc.emulator import Emulator
from xlsbc.emulator.artefact import stack
from xlsbc.emulator.sample import Window
from xlsbc.errors import EmulatorError

SPEC, WEIGHTS = "emulator.json", "weights.safetensors"


@pytest.fixture(scope="module")
def emulator(world: xr.Dataset, untrained: Callable[..., Emulator]) -> Emulator:
    return untrained(world)


@pytest.fixture
def saved(emulator: Emulator, tmp_path: Path) -> Path:
    return Path(emulator.save(str(tmp_path / "emulator")))


def rewrite(folder: Path, **changes: Any) -> None:
    """Change fields of the specification, and nothing else."""
    document = json.loads((folder / SPEC).read_text())
    (folder / SPEC).write_text(json.dumps(document | changes))


def replace_weights(folder: Path, content: bytes) -> None:
    """Put other weights there and vouch for them, as an attacker would."""
    (folder / WEIGHTS).write_bytes(content)
    rewrite(folder, weights_sha256=hashlib.sha256(content).hexdigest())


def container(header: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def fields(emulator: Emulator, cube: xr.Dataset) -> dict[str, torch.Tensor]:
    window = Window(0, 0, 32, 40)
    sample = assemble(select(cube, emulator.spec, window, 2001), emulator.spec)
    with torch.inference_mode():
        return vars(emulator.network(stack([sample]), rim=emulator.halo))


def test_an_emulator_opened_again_is_the_same_to_the_last_bit(emulator, saved, world):
    opened = Emulator.open(str(saved))
    assert opened.hash == emulator.hash
    assert opened.spec.model_copy(update={"weights_sha256": ""}) == emulator.spec
    before, after = fields(emulator, world), fields(opened, world)
    for name, values in before.items():
        torch.testing.assert_close(after[name], values, atol=0, rtol=0)


def test_an_emulator_has_three_files_and_none_of_them_is_a_pickle(saved, emulator):
    assert {p.name for p in saved.iterdir()} == {SPEC, WEIGHTS, "README.md"}
    json.loads((saved / SPEC).read_text())
    card = (saved / "README.md").read_text()
    assert emulator.hash[:12] in card
    assert "| elevation | m | surface_altitude | no |" in card


def test_any_fsspec_url_holds_an_emulator(emulator):
    url = "memory://emulators/one"
    assert emulator.save(url) == url
    assert Emulator.open(url).hash == emulator.hash


def test_an_emulator_knows_where_it_lies_as_long_as_it_is_what_lies_there(emulator, saved):
    copy = pickle.loads(pickle.dumps(emulator))
    assert copy.url is None
    copy.save(str(saved))
    opened = Emulator.open(str(saved))
    assert opened.url == copy.url == str(saved)
    opened.network.leaf.yearly.bias.data += 1  # in place, and past torch's own count of changes
    assert opened.url is None
    copy.spec = copy.spec.model_copy(update={"license": "CC-BY-4.0"})
    assert copy.url is None


def test_an_emulator_is_as_good_after_a_worker_unpickled_it(emulator, world):
    back = pickle.loads(pickle.dumps(emulator))
    assert back.hash == emulator.hash
    torch.testing.assert_close(
        fields(back, world)["lai"], fields(emulator, world)["lai"], atol=0, rtol=0
    )


def test_other_weights_or_another_specification_are_another_emulator(world, untrained, emulator):
    same, other = untrained(world), untrained(world, seed=1)
    assert same.hash == emulator.hash == tokenize_hash(same)
    assert other.hash != emulator.hash
    license = emulator.spec.model_copy(update={"license": "CC-BY-4.0"})
    assert Emulator(license, emulator.network).hash != emulator.hash


def tokenize_hash(emulator: Emulator) -> str:
    """The hash, if Dask tells emulators apart by it."""
    twin = Emulator(emulator.spec, emulator.network)
    assert tokenize(twin) == tokenize(emulator)
    return twin.hash


def test_scores_made_from_a_prediction_leave_the_emulator_that_it_names(emulator, tmp_path):
    scored = Emulator(
        emulator.spec.model_copy(update={"scores": {"lai_rmse": 0.5, "lu_miou": None}}),
        emulator.network,
    )
    opened = Emulator.open(scored.save(str(tmp_path / "scored")))
    assert opened.hash == emulator.hash
    assert opened.spec.scores == {"lai_rmse": 0.5, "lu_miou": None}
    assert "| lai_rmse | 0.5 |" in (tmp_path / "scored" / "README.md").read_text()


def test_its_face_is_one_line_that_says_what_goes_in_and_what_comes_out(emulator):
    face = repr(emulator)
    assert "\n" not in face
    for word in ("unet", "elevation", "t2m", "co2", "lu_total", "lai", emulator.hash[:12]):
        assert word in face


@pytest.mark.proves("hostile-weights")
@pytest.mark.parametrize("position", [3, 20_000, -1], ids=["length", "middle", "end"])
def test_one_flipped_bit_in_the_weights_is_noticed(saved, position):
    content = bytearray((saved / WEIGHTS).read_bytes())
    content[position] ^= 1
    (saved / WEIGHTS).write_bytes(content)
    with pytest.raises(EmulatorError, match="damaged or of another emulator"):
        Emulator.open(str(saved))


@pytest.mark.proves("hostile-weights")
@pytest.mark.parametrize("length", [0, 7, 5000])
def test_truncated_weights_are_noticed(saved, length):
    (saved / WEIGHTS).write_bytes((saved / WEIGHTS).read_bytes()[:length])
    with pytest.raises(EmulatorError, match="damaged or of another emulator"):
        Emulator.open(str(saved))


@pytest.mark.proves("hostile-weights")
def test_weights_of_another_architecture_are_refused_with_every_difference(saved, world, untrained):
    from xlsbc.emulator import Architecture

    wider = untrained(world, architecture=Architecture(width=(8, 16), climate=4, hidden=9))
    other = saved.parent / "wider"
    wider.save(str(other))
    replace_weights(saved, (other / WEIGHTS).read_bytes())
    with pytest.raises(EmulatorError, match="not those of the specification") as caught:
        Emulator.open(str(saved))
    assert len(caught.value.problems) == 5  # two layers into the hidden channels, one out of them
    assert "leaf.classes.weight should be (10, 8) and is (10, 9)" in caught.value.problems


@pytest.mark.proves("hostile-weights")
def test_a_huge_network_is_refused_before_it_is_allocated(saved):
    document = json.loads((saved / SPEC).read_text())
    architecture = document["architecture"] | {"width": [4096] * 4}  # 1.4e9 parameters
    rewrite(saved, architecture=architecture)
    with pytest.raises(EmulatorError, match="weights are not those of the specification"):
        Emulator.open(str(saved))


@pytest.mark.proves("pickles")
def test_a_pickle_in_place_of_the_weights_is_not_loaded(saved):
    replace_weights(saved, pickle.dumps({"weights": np.zeros(3)}))
    with pytest.raises(EmulatorError, match="not a safetensors file"):
        Emulator.open(str(saved))


@pytest.mark.proves("hostile-weights")
@pytest.mark.parametrize(
    "content",
    [
        b"",
        container(b"[]"),
        container(b"{"),
        container(b'{"a": []}'),
        container(b'{"a": {"shape": null}}'),
        container(b"[" * 100_000),
        struct.pack("<Q", 2**63) + b"{}",  # nothing in it, whatever its length claims
    ],
)
def test_weights_with_a_hostile_header_are_refused(saved, content):
    replace_weights(saved, content)
    with pytest.raises(EmulatorError, match="not a safetensors file|not those of the spec"):
        Emulator.open(str(saved))


@pytest.mark.proves("hostile-weights")
def test_weights_whose_header_points_beyond_the_file_are_refused(saved):
    content = (saved / WEIGHTS).read_bytes()
    replace_weights(saved, content[:-8])
    with pytest.raises(EmulatorError, match=r"weights\.safetensors is damaged"):
        Emulator.open(str(saved))


@pytest.mark.proves("hostile-weights")
def test_weights_that_are_not_finite_are_refused_by_name(saved, emulator):
    broken = pickle.loads(pickle.dumps(emulator))
    with torch.no_grad():
        broken.network.land.pairs.bias[3] = torch.nan
    broken.save(str(saved))
    with pytest.raises(EmulatorError, match=r"not finite: \(1\) land\.pairs\.bias"):
        Emulator.open(str(saved))


@pytest.mark.proves("hostile-specification")
def test_an_unknown_and_a_wrong_field_of_the_specification_are_named_together(saved):
    rewrite(saved, hook="os.system", history="twelve")
    with pytest.raises(EmulatorError, match="not the specification of an emulator") as caught:
        Emulator.open(str(saved))
    assert [p.split(":")[0] for p in caught.value.problems] == ["history", "hook"]


@pytest.mark.proves("hostile-specification")
def test_a_specification_that_is_not_json_is_refused(saved):
    (saved / SPEC).write_bytes(b"\x80\x04]")
    with pytest.raises(EmulatorError, match="not the specification"):
        Emulator.open(str(saved))


@pytest.mark.proves("hostile-specification")
def test_a_specification_larger_than_any_is_not_read(saved):
    (saved / SPEC).write_bytes(b" " * (2**20 + 1))
    with pytest.raises(EmulatorError, match="1048577 bytes; at most 1048576"):
        Emulator.open(str(saved))


@pytest.mark.proves("hostile-specification")
@pytest.mark.parametrize("legend", ["lu_legend", "lc_legend"])
def test_legends_that_are_not_known_here_are_refused(saved, legend):
    rewrite(saved, **{legend: "corine"})
    with pytest.raises(EmulatorError, match="legends are not known here: .*corine"):
        Emulator.open(str(saved))


@pytest.mark.proves("hostile-specification")
@pytest.mark.parametrize("gone", ["all", SPEC, WEIGHTS])
def test_a_directory_that_is_missing_or_not_whole_is_no_emulator(saved, gone):
    if gone == "all":
        saved = saved / "nowhere"
    else:
        (saved / gone).unlink()
    with pytest.raises(EmulatorError, match=r"no emulator at .*emulator\.json.*xlsbc\.fit"):
        Emulator.open(str(saved))


@pytest.mark.proves("hostile-specification")
def test_a_file_is_no_emulator(saved):
    with pytest.raises(EmulatorError, match="no emulator at"):
        Emulator.open(str(saved / SPEC))
