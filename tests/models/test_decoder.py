from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from xlsbc.models.decoder import Decoder, raised
from xlsbc.models.unet import UNet

WIDTH = (5, 6, 7, 8)


def decoder(patch: int, channels: int = 3, dim: int = 12) -> Decoder:
    torch.manual_seed(4)
    return Decoder(dim, patch, channels, width=WIDTH).eval()


def inputs(patch: int, grid: tuple[int, int], channels: int = 3) -> tuple[list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(5)
    tokens = [torch.randn(2, 12, *grid, generator=generator) for _ in range(4)]
    rows, columns = grid
    return tokens, torch.randn(2, channels, rows * patch, columns * patch, generator=generator)


@pytest.mark.parametrize("grid", [(1, 1), (2, 3), (7, 5)])
@pytest.mark.parametrize("patch", [4, 6, 8, 14, 16])
def test_features_lie_on_the_pixels_of_the_input(patch, grid):
    tokens, x = inputs(patch, grid)
    with torch.inference_mode():
        found = decoder(patch)(tokens, x)
    assert found.shape == (2, 5, *x.shape[-2:])
    assert found.isfinite().all()


@pytest.mark.parametrize(
    ("patch", "strides"), [(4, [2, 1]), (8, [4, 2, 1]), (14, [8, 4, 2, 1]), (16, [8, 4, 2, 1])]
)
def test_levels_are_the_strides_finer_than_the_patch(patch, strides):
    assert decoder(patch).strides == strides
    assert decoder(patch).channels_out == 5


@pytest.mark.parametrize("patch", [4, 8, 14, 16])
def test_every_channel_and_every_depth_reaches_the_features(patch):
    tokens, x = inputs(patch, (2, 3))
    for given in (*tokens, x):
        given.requires_grad_()
    decoder(patch)(tokens, x).square().sum().backward()
    assert all((given.grad != 0).any((2, 3)).all() for given in (*tokens, x))


@pytest.mark.parametrize("patch", [8, 14, 16])
def test_what_is_constant_stays_so_without_a_checkerboard(patch):
    rows, columns = 160 // patch, 144 // patch
    tokens = [t[..., :1, :1].expand(-1, -1, rows, columns) for t in inputs(patch, (1, 1))[0]]
    x = torch.tensor([1.0, -2.0, 0.5])[None, :, None, None]
    with torch.inference_mode():
        found = decoder(patch)(tokens, x.expand(2, -1, rows * patch, columns * patch))
    inner = found[..., 62:-62, 62:-62]  # what convolutions see beyond the rim is 0
    assert inner[0, 0].numel() > 200
    torch.testing.assert_close(inner, inner[..., :1, :1].expand_as(inner), rtol=1e-5, atol=1e-6)
    assert (found - found[..., 80:81, 70:71]).abs().max() > 1e-3


@pytest.mark.parametrize(("factor", "cells"), [(2.0, 5), (1.75, 4), (1.75, 5), (3.5, 3), (7.0, 2)])
def test_a_field_is_raised_to_where_its_fine_cells_lie(factor, cells):
    wanted = int(np.ceil(cells * factor))
    field = np.array([3.0, -1.0, 4.0, 1.0, 5.0])[:cells]
    centres = (np.arange(wanted) + 0.5) / factor - 0.5  # in coarse cells
    expected = torch.tensor(np.interp(centres, np.arange(cells), field), dtype=torch.float32)
    column = torch.tensor(field, dtype=torch.float32)[None, None, :, None].expand(1, 1, -1, 3)
    along_y = raised(column, factor, (wanted, 4))
    along_x = raised(column.transpose(2, 3), factor, (4, wanted))
    torch.testing.assert_close(along_y[0, 0], expected[:, None].expand(-1, 4))
    torch.testing.assert_close(along_x[0, 0], expected.expand(4, -1))


def test_a_field_that_is_cut_at_its_end_lies_where_it_did():
    field = torch.randn(1, 2, 4, 3)
    whole = raised(field, 2.0, (8, 6))
    assert torch.equal(raised(field, 2.0, (7, 5)), whole[..., :7, :5])


def test_the_input_is_averaged_over_the_cells_of_every_level():
    x = torch.arange(6.0 * 10).reshape(1, 1, 6, 10)
    coarse, *_, fine = decoder(8, channels=1).pooled(x)  # cells of 4, 2 and 1
    assert torch.equal(fine, x)
    assert coarse.shape == (1, 1, 2, 3)
    # by hand: the mean of a cell's first and last pixel, rows being 10 apart
    torch.testing.assert_close(coarse[0, 0], torch.tensor([[16.5, 20.5, 23.5], [46.5, 50.5, 53.5]]))


def changed(patch: int, grid: tuple[int, int], depth: int, row: int, column: int) -> Tensor:
    """By how much features ``(y, x)`` differ when a token of a depth does."""
    tokens, x = inputs(patch, grid)
    model = decoder(patch)
    with torch.inference_mode():
        before = model(tokens, x)
        tokens[depth][..., row, column] += torch.randn(12)
        return (model(tokens, x) - before).abs().sum((0, 1))


@pytest.mark.parametrize("depth", [0, 3])
@pytest.mark.parametrize("patch", [4, 8, 14, 16])
def test_what_a_token_tells_lies_around_its_patch(patch, depth):
    change = changed(patch, (7, 6), depth, row=5, column=2)
    for axis, place in ((1, 5), (0, 2)):
        along = change.sum(axis)
        centre = (along * (torch.arange(len(along)) + 0.5)).sum() / along.sum()
        assert abs(centre - (place + 0.5) * patch) < patch / 4


def test_the_deeper_the_features_the_further_they_reach():
    # the two deepest meet in the first block
    shallow, middle, deep = ((changed(8, (9, 9), i, 4, 4) > 1e-6).sum() for i in (0, 1, 3))
    assert deep > 1.5 * middle > 2 * shallow


def test_detail_within_a_patch_comes_from_the_input():
    tokens, x = inputs(16, (3, 3))
    there = x.clone()
    there[..., 21, 26] += 1  # a pixel of the patch in the middle
    with torch.inference_mode():
        model = decoder(16)
        change = (model(tokens, there) - model(tokens, x)).abs().sum((0, 1))
    near = change[18:25, 23:30]  # within the reach of three convolutions
    assert near.mean() > 10 * change[27:32, 16:22].mean()


def test_a_few_steps_learn_a_function_of_the_pixel():
    torch.manual_seed(6)
    model = Decoder(12, 8, 2, width=WIDTH)
    out = nn.Conv2d(5, 1, 1)
    tokens, x = inputs(8, (3, 4), channels=2)
    wanted = x[:, :1] * x[:, 1:] + x[:, :1]
    optimiser = torch.optim.Adam([*model.parameters(), *out.parameters()], lr=0.02)
    losses = []
    for _ in range(40):
        loss = F.mse_loss(out(model(tokens, x)), wanted)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * wanted.var()


@pytest.mark.parametrize("patch", [8, 14, 16])
def test_it_multiplies_less_than_a_unet_of_three_levels(patch):
    tokens = [torch.empty(1, 192, 4, 4, device="meta") for _ in range(4)]
    x = torch.empty(1, 50, 4 * patch, 4 * patch, device="meta")
    with torch.device("meta"):
        ours, theirs = Decoder(192, patch, 50), UNet(50, (32, 64, 128))
    with FlopCounterMode(display=False) as flops:
        ours(tokens, x)
    count = flops.get_total_flops() / 2 / x[0, 0].numel()
    with FlopCounterMode(display=False) as flops:
        theirs(torch.empty(1, 50, 64, 64, device="meta"))
    assert 90_000 < count < 0.8 * flops.get_total_flops() / 2 / 64**2
    assert sum(p.numel() for p in ours.parameters()) < 900_000
