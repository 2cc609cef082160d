from __future__ import annotations

from math import cos, sin

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from xlsbc.errors import EmulatorError
from xlsbc.models.vit import VARIANTS, ViT, positions


def transformer(channels: int = 3, dim: int = 24, depth: int = 3, patch: int = 4) -> ViT:
    torch.manual_seed(3)
    return ViT(channels, dim, depth, heads=3, patch=patch).eval()


def test_a_position_is_waves_of_its_column_then_of_its_row():
    grid = positions(3, 5, 8).unflatten(0, (3, 5))
    wanted = [f(a * p) for p in (4, 2) for f in (sin, cos) for a in (1, 0.01)]  # column 4, row 2
    torch.testing.assert_close(grid[2, 4], torch.tensor(wanted), atol=6e-8, rtol=0)
    assert grid.dtype == torch.float32


def test_positions_far_out_are_those_of_double_precision():
    last = positions(1, 1001, 24)[-1]  # 6 wavelengths; float32 knows these angles to 1e-5
    wanted = torch.tensor([sin(1000 / 10000 ** (i / 6)) for i in range(6)])
    torch.testing.assert_close(last[:6], wanted, atol=3e-8, rtol=0)


def test_tokens_are_patches_in_the_order_of_rows_times_weights_plus_positions():
    vit = transformer(channels=2)
    vit.layers = nn.ModuleList([nn.Identity(), nn.Identity()])
    nn.init.normal_(vit.patch_embed.bias)
    x = torch.randn(2, 2, 12, 20)
    first, _ = vit(x)
    assert first.shape == (2, 3 * 5, 24)
    patch = x[1, :, 8:12, 4:8]  # row 2, column 1
    token = (vit.patch_embed.weight * patch).sum((1, 2, 3)) + vit.patch_embed.bias
    torch.testing.assert_close(first[1, 2 * 5 + 1], token + positions(3, 5, 24)[2 * 5 + 1])


def test_every_layer_is_given_and_only_the_last_is_normalised():
    vit = transformer(depth=4)
    found = vit(torch.randn(1, 3, 8, 12))
    assert [layer.shape for layer in found] == [(1, 6, 24)] * 4
    before = found[2]
    torch.testing.assert_close(found[3], F.layer_norm(vit.layers[3](before), (24,)))
    assert (before.std(-1, unbiased=False) - 1).abs().min() > 1e-3


def test_every_token_depends_on_every_patch():
    x = torch.randn(1, 3, 8, 20, requires_grad=True)
    transformer()(x)[-1][0, 7].square().sum().backward()
    assert (x.grad != 0).all()


@pytest.mark.parametrize("size", [(16, 18), (15, 16)])
def test_a_window_that_is_not_whole_patches_is_refused_with_both_sizes(size):
    with pytest.raises(EmulatorError, match=f"the patch, 4 pixels; found {size[0]} x {size[1]}"):
        transformer()(torch.zeros(1, 3, *size))


def test_sizes_that_cannot_be_parted_are_refused_all_at_once():
    with pytest.raises(EmulatorError, match=r"\(1\).*multiple of 4, the heads.*\(2\).*of 4, the w"):
        ViT(3, 30, 1, 4)


# timm 1.0.31, `vit_*_patch16_224` without head, less its class token and 197 positions
@pytest.mark.parametrize(
    ("variant", "count"), [("tiny", 5_486_400), ("small", 21_589_632), ("base", 85_646_592)]
)
def test_variants_have_as_many_weights_as_those_of_others(variant, count):
    with torch.device("meta"):
        vit = ViT.of(variant, 3)
    assert sum(p.numel() for p in vit.parameters()) == count
    assert (vit.dim, vit.depth, vit.patch) == (VARIANTS[variant].dim, 12, 16)


def test_an_unknown_variant_is_refused_with_those_there_are():
    with pytest.raises(EmulatorError, match="one of tiny, small, base; found 'huge'"):
        ViT.of("huge", 3)


def test_weights_begin_as_those_of_linear_layers():
    vit = ViT(5, 48, 1, 3, patch=8)
    for weight, fan_in, fan_out in (
        (vit.patch_embed.weight, 5 * 64, 48),
        (vit.layers[0].mlp.fc1.weight, 48, 192),
    ):
        bound = (6 / (fan_in + fan_out)) ** 0.5  # Glorot and Bengio, 2010, equation 16
        assert 0.99 * bound < weight.abs().max() <= bound
    assert all((p == 0).all() for name, p in vit.named_parameters() if name.endswith("proj.bias"))


def test_checkpointing_computes_blocks_twice_and_changes_no_gradient():
    x, gradients, runs = torch.randn(2, 3, 8, 8), [], []
    for checkpointing in (False, True):
        vit = transformer()
        vit.checkpointing = checkpointing
        vit.layers[1].mlp.fc1.register_forward_hook(lambda *_, c=checkpointing: runs.append(c))
        sum(layer.square().sum() for layer in vit(x)).backward()
        gradients.append([p.grad for p in vit.parameters()])
    torch.testing.assert_close(*gradients)
    assert runs == [False, True, True]


def test_in_mixed_precision_blocks_are_summed_in_single_precision():
    vit, x = transformer(), torch.randn(1, 3, 8, 12)
    with torch.inference_mode():
        whole = vit(x)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = vit(x)
        half = vit.to(torch.bfloat16)(x.bfloat16())
    assert {layer.dtype for layer in mixed} == {torch.float32}
    assert {layer.dtype for layer in half} == {torch.bfloat16}
    torch.testing.assert_close(mixed[-1], whole[-1], atol=0.1, rtol=0)  # 8 bits, values near 1
