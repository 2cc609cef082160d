from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from xlsbc.errors import EmulatorError
from xlsbc.models.terramind import MODALITIES, TerraMind, encoder_state, official

GOLDEN = Path(__file__).with_name("golden")
CASES = json.loads((GOLDEN / "cases.json").read_text())
WINDOWS = [(case, window) for case, c in CASES["terramind"].items() for window in c["windows"]]
ROUNDING = 2e-6  # relative; two float32 layers, summed in another order


def golden(case: str) -> dict[str, dict[str, Tensor]]:
    """What benchmarks/golden.py wrote, by "state", "input" and "layer"."""
    parts: dict[str, dict[str, Tensor]] = {"state": {}, "input": {}, "layer": {}}
    for name, x in load_file(GOLDEN / f"{case}.safetensors").items():
        part, _, rest = name.partition(".")
        parts[part][rest] = x / CASES["step"] if x.dtype == torch.int8 else x
    return parts


def encoder(case: str = "terramind_gated") -> TerraMind:
    options = CASES["terramind"][case]
    names = [*options["modalities"], *options["new"]]
    made = TerraMind(**options["sizes"], modalities=options["modalities"], new=options["new"])
    made.load_state_dict(encoder_state(golden(case)["state"], names), strict=True)
    return made.eval()


def window(rows: int = 32, columns: int = 48) -> dict[str, Tensor]:
    torch.manual_seed(3)
    bands = {"S1GRD": 2, "DEM": 1, "climate": 3}
    return {name: torch.randn(2, n, rows, columns) for name, n in bands.items()}


def apart(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize(("case", "name"), WINDOWS)
def test_every_layer_is_that_of_terratorch(case, name):
    given = golden(case)
    shapes = CASES["terramind"][case]["windows"][name]
    with torch.inference_mode():
        found = encoder(case)({key: given["input"][f"{name}.{key}"] for key in shapes})
    assert len(found) == 2
    for i, layer in enumerate(found):
        assert apart(layer, given["layer"][f"{name}.{i}"]) < ROUNDING


@pytest.mark.parametrize(
    ("variant", "millions"),
    [("tiny", 7.0), ("small", 24.5), ("base", 91.4), ("large", 310.6)],  # terratorch 1.2.11
)
def test_a_variant_has_as_many_parameters_as_the_original(variant, millions):
    with torch.device("meta"):
        made = TerraMind.of(variant, modalities=("S2L2A", "DEM"), new={"climate": 20})
    count = sum(p.numel() for p in made.parameters()) / 1e6
    assert round(count, 1) == pytest.approx(millions)
    assert len(made.layers) == made.depth
    assert not any("pos" in name for name in made.state_dict())


def test_of_an_official_file_only_the_encoder_of_these_modalities_is_taken():
    one = torch.ones(1)
    names = {
        "encoder_embeddings.untok_dem@224.proj.weight": True,
        "encoder_embeddings.untok_dem@224.pos_emb": False,
        "encoder_embeddings.untok_sen2l2a@224.proj.weight": False,
        "encoder_embeddings.tok_lulc@224.token_emb.weight": False,
        "encoder_embeddings.coords.mod_emb": False,
        "encoder_embeddings.caption.pos_emb": False,
        "encoder_embeddings.weather.mod_emb": True,  # not official: whose is it?
        "encoder.3.attn.qkv.weight": True,
        "encoder_norm.bias": True,
        "encoder_adapter.weight": True,
        "decoder_embeddings.tok_lulc@224.to_logits.weight": False,
        "decoder_proj_context.weight": False,
        "decoder.0.mlp.fc1.weight": False,
        "decoder_norm.weight": False,
        "mask_token": False,
        "tokenizer.tok_dem@224.encoder.weight": False,
    }
    raw = dict.fromkeys(names, one)
    expected = [name for name, kept in names.items() if kept]
    assert list(encoder_state(raw, ("DEM",))) == expected
    assert list(encoder_state(raw, ("untok_dem@224",))) == expected


def test_an_unknown_variant_is_refused_with_those_that_there_are():
    with pytest.raises(EmulatorError, match="tiny, small, base, large; found 'huge'"):
        TerraMind.of("huge")


def test_short_and_official_names_are_the_same():
    made, given = encoder(), window()
    long = {
        "untok_sen1grd@224": given["S1GRD"],
        "untok_dem@224": given["DEM"],
        "climate": given["climate"],
    }
    assert all(torch.equal(a, b) for a, b in zip(made(given), made(long), strict=True))
    short = {"S2L2A": 12, "S2L1C": 13, "RGB": 3, "S1GRD": 2, "S1RTC": 2, "DEM": 1}
    assert {name: MODALITIES[official(name)] for name in short} == short


def test_tokens_go_by_modality_in_the_order_of_the_inputs():
    """Layers without positions between modalities: another order moves tokens, no more."""
    made, given = encoder(), window()
    turned = dict(reversed(given.items()))
    for a, b in zip(made(given), made(turned), strict=True):
        torch.testing.assert_close(a[:, :6], b[:, 12:], rtol=1e-4, atol=1e-5)


def test_modalities_may_be_of_different_sizes_and_some_may_be_left_out():
    made, given = encoder(), window()
    given["DEM"] = given["DEM"][..., :16, :]
    assert made(given)[-1].shape == (2, 6 + 3 + 6, 32)
    assert made({"DEM": given["DEM"]})[-1].shape == (2, 3, 32)


def test_extra_tokens_of_zero_change_nothing():
    made, given = encoder(), window()
    zero = made(given, {"DEM": torch.zeros(2, 6, 32)})
    assert all(torch.equal(a, b) for a, b in zip(made(given), zero, strict=True))


def test_extra_tokens_enter_as_a_modality_embedding_would():
    made, given = encoder(), window()
    shift = torch.linspace(-1, 1, 32)
    found = made(given, {"untok_dem@224": shift.expand(2, 6, 32)})
    with torch.no_grad():
        made.encoder_embeddings["untok_dem@224"].mod_emb += shift
    for a, b in zip(found, made(given), strict=True):
        assert apart(a, b) < ROUNDING


@pytest.mark.parametrize("case", CASES["terramind"])
def test_gradients_with_checkpointing_are_those_without(case):
    made = encoder(case)
    given = {name: x for name, x in window().items() if case.endswith("gated") or name == "DEM"}
    plain = torch.autograd.grad(made(given)[-1].square().sum(), list(made.parameters()))
    made.checkpointing = True
    again = torch.autograd.grad(made(given)[-1].square().sum(), list(made.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))


def test_what_does_not_fit_is_refused_all_at_once():
    given = window(rows=40)
    given |= {"S2L2A": torch.zeros(2, 12, 32, 48), "DEM": torch.zeros(2, 2, 32, 48)}
    with pytest.raises(EmulatorError, match="patch, 16 pixels; found 40 x 48 of climate") as caught:
        encoder()(given, {"RGB": torch.zeros(1)})
    problems = "\n".join(caught.value.problems)
    assert "climate; found 'untok_sen2l2a@224'" in problems
    assert "extra tokens of 'untok_sen2rgb@224'" in problems
    assert "expected 1 bands of untok_dem@224; found 2" in problems
    assert len(caught.value.problems) == 5
    with pytest.raises(EmulatorError, match=r"\(batch, band, y, x\); found an array of \(32, 48\)"):
        encoder()({"DEM": torch.zeros(32, 48)})
    with pytest.raises(EmulatorError, match="it is empty"):
        encoder()({})


@pytest.mark.parametrize("name", ["tok_lulc@224", "LULC", "coords", "NDVI"])
def test_modalities_that_enter_as_tokens_are_refused_with_the_reason(name):
    with pytest.raises(EmulatorError, match=f"'{name}' enters TerraMind as tokens"):
        official(name)


def test_modalities_that_cannot_be_are_refused_all_at_once():
    new = {"DEM": 1, "two.words": 3, "soil@30": 2, "climate": 3}
    with pytest.raises(EmulatorError, match="S1RTC, DEM; found 'SAR'") as caught:
        TerraMind(32, 1, 2, modalities=("SAR", "LULC"), new=new)
    assert len(caught.value.problems) == 5
    with pytest.raises(EmulatorError, match="at least one; found none"):
        TerraMind(32, 1, 2, modalities=())
    with pytest.raises(EmulatorError, match="4 and its 3 heads divide; found 32"):
        TerraMind(32, 1, 3)


def test_a_copy_and_an_exported_program_give_the_same():
    made, given = encoder(), window()
    expected = made(given)
    program = torch.export.export(made, (given,))
    for other in (copy.deepcopy(made), program.module()):
        for a, b in zip(other(given), expected, strict=True):
            torch.testing.assert_close(a, b)


def test_weights_at_the_start_keep_the_scale_of_tokens():
    torch.manual_seed(0)
    made = TerraMind(64, 3, 4, modalities=("S2L2A", "DEM"), gated=False)
    given = {"S2L2A": torch.randn(1, 12, 96, 112), "DEM": torch.randn(1, 1, 96, 112)}
    assert all(0.3 < layer.std() < 3 for layer in made(given))
    assert made.bfloat16()({k: x.bfloat16() for k, x in given.items()})[-1].dtype == torch.bfloat16
