from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from xlsbc.errors import EmulatorError
from xlsbc.models.prithvi import VARIANTS, PairEncoding, Prithvi, encoder_state

GOLDEN = Path(__file__).with_name("golden")
CASES = json.loads((GOLDEN / "cases.json").read_text())
WINDOWS = [(case, window) for case, c in CASES["prithvi"].items() for window in c["windows"]]
ROUNDING = 2e-6  # relative; two float32 layers, summed in another order


def golden(case: str) -> dict[str, dict[str, Tensor]]:
    """What benchmarks/golden.py wrote, by "state", "input" and "layer"."""
    parts: dict[str, dict[str, Tensor]] = {"state": {}, "input": {}, "layer": {}}
    for name, x in load_file(GOLDEN / f"{case}.safetensors").items():
        part, _, rest = name.partition(".")
        parts[part][rest] = x / CASES["step"] if x.dtype == torch.int8 else x
    return parts


def encoder(case: str = "prithvi_located", frames: int = 1) -> Prithvi:
    options = CASES["prithvi"][case]
    made = Prithvi(**options["sizes"], location=options["location"], frames=frames)
    made.load_state_dict(encoder_state(golden(case)["state"]), strict=True)
    return made.eval()


def window(frames: int = 2, rows: int = 48, columns: int = 32) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(3)
    time = torch.tensor([[2021.0, 46.0]]).repeat(2, frames, 1)
    time[:, :, 1] += torch.arange(frames) * 90
    return (
        torch.randn(2, 2, frames, rows, columns),
        time,
        torch.tensor([[47.5, 8.25], [-12.0, 130.5]]),
    )


def apart(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("kept", [1, 3])
@pytest.mark.parametrize(("case", "name"), WINDOWS)
def test_every_layer_is_that_of_terratorch(case, name, kept):
    given = golden(case)
    x, *where = (given["input"].get(f"{name}.{part}") for part in ("x", "time", "place"))
    with torch.inference_mode():
        found = encoder(case, frames=kept)(x, *where)
    assert len(found) == 2
    for i, layer in enumerate(found):
        assert apart(layer, given["layer"][f"{name}.{i}"]) < ROUNDING


def test_a_file_without_prefix_gives_the_same_state_as_one_with_it():
    raw = golden("prithvi_located")["state"]
    assert {"decoder.mask_token", "decoder.temporal_embed_dec.scale"} <= raw.keys()
    bare = {k.removeprefix("encoder.").removeprefix("decoder."): x for k, x in raw.items()}
    wrapped = {f"_timm_module.{k}": x for k, x in bare.items()}
    expected = encoder_state(raw)
    for other in (bare, wrapped):
        found = encoder_state(other)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[k], expected[k]) for k in found)


def test_stored_positions_are_dropped_and_unknown_names_stay():
    one = torch.ones(1)
    raw = {"encoder.pos_embed": one, "decoder.decoder_pos_embed": one, "pos_embed": one}
    assert encoder_state(raw) == {}
    raw = {"encoder.blocks.0.gamma": one, "head.weight": one, "encoder.pos_embed_2": one}
    assert set(encoder_state(raw)) == {"blocks.0.gamma", "head.weight", "pos_embed_2"}


@pytest.mark.parametrize(
    ("variant", "millions"),
    [
        # as terratorch 1.2.11 builds them
        ("1.0-100M", 86.2),
        ("2.0-tiny-TL", 5.6),
        ("2.0-100M", 86.2),
        ("2.0-100M-TL", 86.2),
        ("2.0-300M", 303.9),
        ("2.0-300M-TL", 303.9),
        ("2.0-600M", 631.2),
        ("2.0-600M-TL", 631.2),
    ],
)
def test_a_variant_has_as_many_parameters_as_the_original(variant, millions):
    with torch.device("meta"):
        made = Prithvi.of(variant)
    count = sum(p.numel() for p in made.parameters()) / 1e6
    assert round(count, 1) == pytest.approx(millions)
    assert made.location == variant.endswith("TL")
    assert made.patch == VARIANTS[variant].patch == (14 if "600M" in variant else 16)
    assert len(made.layers) == made.depth
    assert not any("position" in name for name in made.state_dict())


def test_an_unknown_variant_is_refused_with_those_that_there_are():
    with pytest.raises(EmulatorError, match=r"2\.0-300M, 2\.0-300M-TL.*found '3\.0'"):
        Prithvi.of("3.0")


def test_extra_tokens_of_zero_change_nothing():
    made, (x, time, place) = encoder(), window()
    none = made(x, time, place)
    zero = made(x, time, place, torch.zeros(2, 12, 32))
    assert all(torch.equal(a, b) for a, b in zip(none, zero, strict=True))


def test_extra_tokens_enter_as_a_bias_of_the_patch_embedding_would():
    made, (x, time, place) = encoder(), window()
    shift = torch.linspace(-1, 1, 32)
    found = made(x, time, place, shift.expand(2, 12, 32))
    with torch.no_grad():
        made.patch_embed.proj.bias += shift
    for a, b in zip(found, made(x, time, place), strict=True):
        assert apart(a, b) < ROUNDING


def test_gradients_with_checkpointing_are_those_without():
    made, given = encoder(), window()
    plain = torch.autograd.grad(made(*given)[-1].square().sum(), list(made.parameters()))
    made.checkpointing = True
    again = torch.autograd.grad(made(*given)[-1].square().sum(), list(made.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))


def test_tokens_go_by_frame_then_row_then_column():
    """A change of one pixel moves the embedding of its own patch alone."""
    made, (x, *_) = encoder(), window(frames=3, rows=32, columns=80)
    other = x.clone()
    other[:, 0, 2, 17, 50] += 1  # frame 2, row 1, column 3 of grids of 2 x 5
    moved = (made.patch_embed(x) != made.patch_embed(other)).any(-1)
    assert moved.nonzero()[:, 1].unique().tolist() == [2 * 10 + 1 * 5 + 3]


def test_encodings_of_dates_are_exact_in_a_bfloat16_network():
    torch.manual_seed(0)
    encoding = PairEncoding(64)
    years = torch.tensor([[[2017.0, 32.0], [2018.0, 33.0]]])  # bfloat16 knows 2016 and 2024
    expected = encoding(years)
    found = encoding.bfloat16()(years)
    assert found.dtype == torch.float32
    # the scale of 0.1 is rounded to 8 bits, no angle is
    torch.testing.assert_close(found, expected, rtol=4e-3, atol=0)
    made, (x, time, place) = encoder().bfloat16(), window()
    assert {layer.dtype for layer in made(x.bfloat16(), time, place)} == {torch.bfloat16}


def test_a_place_is_latitude_then_longitude():
    made = encoder()
    with torch.no_grad():
        made.location_embed_enc.scale.fill_(1.0)
    found = made.location_embed_enc(torch.tensor([[[30.0, -60.0]]]))[0, 0]
    # first wave of each half, of wavelength 2 pi: sine and cosine of the number itself
    expected = torch.tensor([30.0, -60.0])
    torch.testing.assert_close(found[[0, 16]], expected.sin())
    torch.testing.assert_close(found[[8, 24]], expected.cos())


def test_what_does_not_fit_is_refused_all_at_once():
    x, time, place = window(rows=50)
    with pytest.raises(EmulatorError, match="patch, 16 pixels; found 50 x 32") as caught:
        encoder()(x[:, :1], time[:, :1], place[:, :1])
    assert len(caught.value.problems) == 4
    with pytest.raises(EmulatorError, match="time is given and this encoder has no encoding"):
        encoder("prithvi_plain")(*window(rows=28, columns=42))
    with pytest.raises(EmulatorError, match=r"\(batch, band, frame, y, x\); found .*\(2, 2, 50"):
        encoder()(x[:, :, 0])
    with pytest.raises(EmulatorError, match="16 and its 3 heads divide; found 32"):
        Prithvi(32, 1, 3, location=False)


def test_a_copy_and_an_exported_program_give_the_same():
    made, given = encoder(frames=2), window()
    expected = made(*given)
    program = torch.export.export(made, given)
    for other in (copy.deepcopy(made), program.module()):
        for a, b in zip(other(*given), expected, strict=True):
            torch.testing.assert_close(a, b)


def test_weights_at_the_start_keep_the_scale_of_tokens():
    torch.manual_seed(0)
    made = Prithvi(64, 3, 4, location=True)
    layers = made(torch.randn(1, 6, 1, 96, 112))
    assert all(0.3 < layer.std() < 3 for layer in layers)
    assert all(p.abs().max() == 0 for n, p in made.named_parameters() if n.endswith("bias"))
