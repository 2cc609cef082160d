"""Vision transformer (Dosovitskiy et al., 2021, ICLR, arXiv:2010.11929), trained from scratch.

Tokens are patches of the input's pixels and nothing else: no class token. Positions are fixed waves
of a window's own grid, so that a window may be of any size that is whole patches.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from xlsbc.errors import EmulatorError
from xlsbc.models.transformer import Block, Mlp, layerwise, waves

__all__ = ["VARIANTS", "Variant", "ViT", "positions"]


@dataclass(frozen=True)
class Variant:
    """Sizes of a transformer."""

    dim: int
    """Channels of a token."""
    depth: int
    """Blocks."""
    heads: int
    """Of the attention."""


# Touvron et al., 2021, ICML, arXiv:2012.12877, table 1
VARIANTS: dict[str, Variant] = {
    "tiny": Variant(192, 12, 3),
    "small": Variant(384, 12, 6),
    "base": Variant(768, 12, 12),
}


class ViT(nn.Module):
    """Tokens of a window's patches after every block.

    Parameters
    ----------
    channels
        Of the input.
    dim, depth, heads
        See `Variant`; `dim` is a multiple of `heads` and of 4.
    patch
        Side of a patch, pixels.

    Attributes
    ----------
    checkpointing
        See `layerwise`.

    Raises
    ------
    EmulatorError
        If `dim` cannot be parted.
    """

    def __init__(self, channels: int, dim: int, depth: int, heads: int, *, patch: int = 16) -> None:
        super().__init__()
        if problems := [
            f"a token's channels should be a multiple of {parts}, {what}; found {dim}"
            for parts, what in ((heads, "the heads"), (4, "the waves of a position"))
            if dim % parts
        ]:
            raise EmulatorError("a transformer of these sizes cannot be", problems)
        self.dim, self.depth, self.patch = dim, depth, patch
        self.checkpointing = False
        self.patch_embed = nn.Conv2d(channels, dim, patch, stride=patch)
        self.layers = nn.ModuleList(Block(dim, heads, Mlp(dim, 4 * dim)) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        self.apply(begin)

    @classmethod
    def of(cls, variant: str, channels: int, patch: int = 16) -> ViT:
        """A transformer of a named size.

        Raises
        ------
        EmulatorError
            If there is no such variant.
        """
        if variant not in VARIANTS:
            raise EmulatorError(
                f"a variant of vit should be one of {', '.join(VARIANTS)}; found {variant!r}"
            )
        sizes = VARIANTS[variant]
        return cls(channels, sizes.dim, sizes.depth, sizes.heads, patch=patch)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Tokens ``(batch, token, dim)`` after every block, those of the last normalised.

        Parameters
        ----------
        x
            ``(batch, channel, y, x)``, whole patches; tokens are in the order of rows of patches.

        Raises
        ------
        EmulatorError
            If the window is not whole patches.
        """
        height, width = x.shape[-2:]
        if height % self.patch or width % self.patch:
            raise EmulatorError(
                f"a window should measure multiples of the patch, {self.patch} pixels; found "
                f"{height} x {width}; choose another window, or another patch"
            )
        x = self.patch_embed(x)  # (batch, dim, row, column)
        rows, columns = x.shape[-2:]
        grid = positions(rows, columns, self.dim, x.device)
        # In mixed precision the sum of all blocks stays in that of the weights, which is higher.
        x = x.flatten(2).transpose(1, 2) + grid.to(self.norm.weight.dtype)
        *found, last = layerwise(self.layers, x, checkpointing=self.checkpointing)
        return [*found, self.norm(last)]


def positions(
    rows: int, columns: int, dim: int, device: torch.device | str | None = None
) -> Tensor:
    """Waves ``(rows * columns, dim)``, float32, of every patch's column, then of its row.

    float64 inside: float32 angles of far positions would be off by more than their last digit.

    References
    ----------
    He et al., 2022, CVPR, arXiv:2111.06377, whose code has the column first.
    """
    row, column = (
        waves(torch.arange(count, dtype=torch.float64, device=device), dim // 2)
        for count in (rows, columns)
    )
    grid = torch.cat(
        (column.expand(rows, -1, -1), row[:, None].expand(-1, columns, -1)), dim=2
    )  # (row, column, dim)
    return grid.flatten(0, 1).float()


def begin(module: nn.Module) -> None:
    """Weights before training: Glorot's, of a patch embedding as of the linear layer that it is."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.xavier_uniform_(module.weight.view(module.weight.shape[0], -1))
        assert module.bias is not None
        nn.init.zeros_(module.bias)
