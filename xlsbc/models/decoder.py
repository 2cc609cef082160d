"""From tokens back to pixels: what all encoders of patches share.

Features of several depths of the encoder form a pyramid (as in Ranftl et al., 2021, ICCV,
arXiv:2103.13413). Its coarsest level is the grid of tokens; at every finer one, what comes from
below meets features of a shallower depth and the input itself, of which patches keep no detail.
All ways up are bilinear: a transposed convolution writes the pattern of its strides into the
result (Odena et al., 2016, Distill, doi:10.23915/distill.00003).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xlsbc.models.unet import ConvBlock

__all__ = ["Decoder", "raised"]


class Decoder(nn.Module):
    """Features on pixels from tokens of several depths and the input.

    Parameters
    ----------
    dim
        Channels of a token.
    patch
        Side of a patch, pixels.
    channels
        Of the input.
    width
        Channels at strides 1, 2, 4, ..., finest first; strides that are no finer than the patch
        are not used.
    depths
        How many depths there are. The deepest stays on the grid of tokens and every level, coarse
        to fine, takes the next shallower one; where there are more depths than levels, the deepest
        share the grid of tokens.
    dropout
        Share of feature maps dropped in training inside each block.

    Attributes
    ----------
    strides
        Of the levels, coarse to fine, pixels.
    channels_out
        Channels of the features, ``width[0]``.
    """

    def __init__(
        self,
        dim: int,
        patch: int,
        channels: int,
        *,
        width: Sequence[int] = (32, 48, 64, 96),
        depths: int = 4,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        finer = [level for level in range(len(width)) if 2**level < patch]
        self.patch, self.channels_out = patch, width[0]
        self.strides = [2**level for level in reversed(finer)]
        widths = [width[level] for level in reversed(finer)]
        coarsest = width[min(len(finer), len(width) - 1)]
        self.deepest = max(depths - len(finer), 1)
        joined = depths - self.deepest  # levels, coarsest first, that take features of a depth
        given = [coarsest] * self.deepest + widths[:joined]  # deepest first
        self.neck = nn.ModuleList(Neck(dim, out) for out in given)
        self.skips = nn.ModuleList(nn.Conv2d(channels, out, 3, padding=1) for out in widths)
        self.blocks = nn.ModuleList(
            ConvBlock(below + out * (1 + (i < joined)), out, dropout)
            for i, (below, out) in enumerate(zip((coarsest, *widths[:-1]), widths, strict=True))
        )

    def forward(self, tokens: Sequence[Tensor], x: Tensor) -> Tensor:
        """Features ``(batch, width[0], y, x)``.

        Parameters
        ----------
        tokens
            ``(batch, dim, row, column)`` of each depth, shallow to deep; their patches cover the
            input from its first pixel on.
        x
            ``(batch, channel, y, x)``, the input.
        """
        maps = [neck(depth) for neck, depth in zip(self.neck, reversed(tokens), strict=True)]
        field, below = sum(maps[1 : self.deepest], maps[0]), self.patch
        shallower = maps[self.deepest :]
        levels = zip(self.strides, self.pooled(x), self.skips, self.blocks, strict=True)
        for i, (stride, seen, skip, block) in enumerate(levels):
            size = seen.shape[-2:]
            parts = [raised(field, below / stride, size), skip(seen)]
            if i < len(shallower):
                parts.append(raised(shallower[i], self.patch / stride, size))
            field, below = block(torch.cat(parts, dim=1)), stride
        return field

    def pooled(self, x: Tensor) -> list[Tensor]:
        """The input at every level, coarse to fine; a last cell that is cut is the mean of less."""
        found = [x]
        for _ in self.strides[1:]:
            found.append(F.avg_pool2d(found[-1], 2, ceil_mode=True))
        return found[::-1]


class Neck(nn.Module):
    """Tokens of one depth, normalised and brought to the channels of their level."""

    def __init__(self, dim: int, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.proj = nn.Linear(dim, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Features ``(batch, channel, row, column)`` of tokens ``(batch, dim, row, column)``."""
        return self.proj(self.norm(x.movedim(1, -1))).movedim(-1, 1)


def raised(field: Tensor, factor: float, size: Sequence[int]) -> Tensor:
    """A field ``(batch, channel, y, x)`` on cells finer by a factor, bilinear.

    Parameters
    ----------
    field
        Its first cell begins where the first fine one does. Beyond its rim it goes on as there.
    factor
        Fine cells that a cell measures; need not be whole.
    size
        Fine cells along y and x; a last one may reach over the field's rim by less than its side.

    Returns
    -------
    Tensor
        ``(batch, channel, *size)``.
    """
    # Interpolation to a size, not by a factor, would stretch the field where a last cell is cut.
    height, width = (math.floor(cells * factor) for cells in field.shape[-2:])
    if height < size[0] or width < size[1]:
        field = F.pad(field, (0, 1, 0, 1), mode="replicate")
    field = F.interpolate(field, scale_factor=factor, mode="bilinear")
    return field[..., : size[0], : size[1]]
