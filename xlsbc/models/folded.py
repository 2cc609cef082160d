"""A U-Net for prediction: the same function from fewer operations.

- Batch normalisation with fixed moments is linear: it is folded into the convolution before it.
- A 3x3 convolution of a field upsampled to nearest neighbours meets 2x2 different cells: it is a
  transposed convolution of the coarse field, with four ninths of the products.
- The decoder leaves out pixels on which none inside the rim depends.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import skip_init

from xlsbc.models.unet import ConvBlock, UNet

__all__ = ["FoldedUNet", "cropped", "fold"]

REACH = 2
"""Pixels that a block of two 3x3 convolutions sees beyond its own."""


class FoldedUNet(nn.Module):
    """A `UNet` for prediction.

    Parameters
    ----------
    unet
        Whose weights it takes.
    """

    def __init__(self, unet: UNet) -> None:
        super().__init__()
        self.down = nn.ModuleList(Block(block) for block in unet.down)  # type: ignore[arg-type]
        self.up = nn.ModuleList(UpBlock(block) for block in unet.up)  # type: ignore[arg-type]

    def forward(self, x: Tensor, rim: int = 0) -> Tensor:
        """Features ``(batch, channel, y, x)`` less a rim.

        Parameters
        ----------
        x
            ``(batch, channel, y, x)``; channels left out at the end are 0.
        rim
            Pixels at every side that are thrown away.
        """
        margins, cuts = [rim], []  # pixels at each level's rim not needed; not computed
        for _ in self.up:
            cuts.append(max(margins[-1] - REACH, 0) // 2 * 2)  # in whole coarse cells
            margins.append(cuts[-1] // 2)
        cuts.append(max(margins[-1] - REACH, 0))
        skips = []
        for level, block in enumerate(self.down):
            if level:
                x = F.avg_pool2d(x, 2)
            if level == len(self.up):
                x = cropped(x, cuts[-1])
            x = block(x)
            skips.append(x)
        x = cropped(x, margins[-1] - cuts[-1])
        for level, block in zip(reversed(range(len(self.up))), self.up, strict=True):
            x = block(x, cropped(skips[level], cuts[level]))
            x = cropped(x, margins[level] - cuts[level])
        return x


class Block(nn.Module):
    """A `ConvBlock` of three convolutions with a bias."""

    def __init__(self, block: ConvBlock) -> None:
        super().__init__()
        self.conv1, self.conv2 = folded(block.conv1, block.norm1), folded(block.conv2, block.norm2)
        self.shortcut = block.shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Features ``(batch, channel, y, x)``."""
        conv1, shortcut = (part.weight[:, : x.shape[1]] for part in (self.conv1, self.shortcut))
        y = gelu_(F.conv2d(x, conv1, self.conv1.bias, padding=1))
        return gelu_(self.conv2(y).add_(F.conv2d(x, shortcut)))


class UpBlock(nn.Module):
    """A `ConvBlock` of a coarse field, upsampled to nearest neighbours, beside a fine one."""

    def __init__(self, block: ConvBlock) -> None:
        super().__init__()
        conv1, self.conv2 = folded(block.conv1, block.norm1), folded(block.conv2, block.norm2)
        sizes = [conv1.in_channels - conv1.out_channels, conv1.out_channels]  # coarse, fine
        coarse, fine = conv1.weight.split(sizes, 1)
        self.conv1_fine = conv(fine, conv1.bias)
        self.conv1_coarse = skip_init(nn.ConvTranspose2d, *sizes, 4, 2, 1, bias=False)
        taps = coarse.new_tensor([[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]])  # of 3 that meet
        self.conv1_coarse.weight = frozen((taps @ coarse @ taps.t()).transpose(0, 1))
        coarse, fine = block.shortcut.weight.split(sizes, 1)
        self.shortcut_coarse, self.shortcut_fine = conv(coarse), conv(fine)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """Features ``(batch, channel, y, x)`` of the fine field's pixels."""
        x = gelu_(self.conv1_fine(fine).add_(self.conv1_coarse(coarse)))
        x = self.conv2(x).add_(self.shortcut_fine(fine))
        return gelu_(x.add_(F.interpolate(self.shortcut_coarse(coarse), scale_factor=2.0)))


def fold(module: nn.Module) -> None:
    """Put a `Block` in place of every `ConvBlock` inside a module."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, ConvBlock):
                setattr(parent, name, Block(child))


def folded(conv1: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """A convolution and the normalisation after it, with fixed moments, as one."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return conv(conv1.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale)


def conv(weight: Tensor, bias: Tensor | None = None) -> nn.Conv2d:
    """A convolution of odd size with these weights that keeps the size of its input."""
    out, into, size, _ = weight.shape
    made = skip_init(nn.Conv2d, into, out, size, padding=size // 2, bias=bias is not None)
    made.weight = frozen(weight)
    if bias is not None:
        made.bias = frozen(bias)
    return made


def frozen(values: Tensor) -> nn.Parameter:
    """Weights that no one trains."""
    return nn.Parameter(values.contiguous(), requires_grad=False)


def gelu_(x: Tensor) -> Tensor:
    """GELU in place, which torch.nn.functional has not, of a field ``(batch, channel, y, x)``.

    It takes half as long where memory is in the order of the axes: here, channels last.
    """
    torch.ops.aten.gelu_(x.permute(0, 2, 3, 1))
    return x


def cropped(field: Tensor, rim: int) -> Tensor:
    """A field ``(..., y, x)`` less so many pixels at every side."""
    return field[..., rim : field.shape[-2] - rim, rim : field.shape[-1] - rim]
