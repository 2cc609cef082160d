"""U-Net backbone (Ronneberger et al., 2015, MICCAI, doi:10.1007/978-3-319-24574-4_28).

Inputs are zero-padded windows whose outer ``halo`` pixels are thrown away, so that a tile of a
large region equals the region computed whole. Batch normalisation uses fixed moments in
prediction; nothing here normalises over space in prediction, which would make tiles disagree.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ConvBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut, each normalised and followed by GELU."""

    def __init__(self, channels_in: int, channels_out: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels_out)
        self.shortcut = nn.Conv2d(channels_in, channels_out, 1, bias=False)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Features ``(batch, channels_out, y, x)`` of ``(batch, channels_in, y, x)``."""
        y = F.gelu(self.norm1(self.conv1(x)))  # (batch, channels_out, y, x)
        y = self.norm2(self.conv2(self.dropout(y)))
        return F.gelu(y + self.shortcut(x))


class UNet(nn.Module):
    """Features on the pixels of the input from an encoder-decoder with skip connections.

    Parameters
    ----------
    channels_in
        Channels of the input.
    width
        Channels at each level, finest first; every further level halves the resolution.
    dropout
        Share of feature maps dropped in training inside each block.

    Attributes
    ----------
    stride
        Windows must start on, and measure, multiples of this many pixels.
    halo
        Pixels at the rim of a window whose features depend on what lies beyond it: the
        receptive radius, rounded up to a multiple of `stride`.
    channels_out
        Channels of the features, ``width[0]``.
    """

    def __init__(self, channels_in: int, width: Sequence[int], dropout: float = 0.0) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            ConvBlock(a, b, dropout) for a, b in zip((channels_in, *width[:-1]), width, strict=True)
        )
        self.up = nn.ModuleList(
            ConvBlock(coarse + fine, fine, dropout)
            for coarse, fine in zip(width[:0:-1], width[-2::-1], strict=True)
        )
        self.stride = 2 ** (len(width) - 1)
        self.halo = -(-receptive_radius(len(width)) // self.stride) * self.stride
        self.channels_out = width[0]

    def forward(self, x: Tensor) -> Tensor:
        """Features ``(batch, width[0], y, x)`` of inputs ``(batch, channels_in, y, x)``."""
        skips = []
        for level, block in enumerate(self.down):
            if level:
                x = F.avg_pool2d(x, 2)
            x = block(x)
            skips.append(x)
        for block, skip in zip(self.up, skips[-2::-1], strict=True):
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            x = block(torch.cat((x, skip), dim=1))
        return x


def receptive_radius(levels: int) -> int:
    """Pixels around an output pixel on which it can depend, for a `UNet` of so many levels.

    A block reaches two pixels of its own level (``2**level`` input pixels each), on the way down
    and, but for the coarsest, again on the way up. Pooling and nearest upsampling keep aligned
    cells together, so that a pixel reaches as far as its coarse cell's rim: less than one coarse
    cell more at each level.
    """
    reach = 2  # decoder block at the finest level
    for level in range(1, levels):
        blocks = 1 if level == levels - 1 else 2
        reach += blocks * 2 * 2**level + 2 ** (level - 1)
    return reach + (2 if levels > 1 else 0)
