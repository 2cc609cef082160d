"""Transformer blocks (Vaswani et al., 2017; pre-norm as in Dosovitskiy et al., 2021, ICLR).

Names of parameters are those of the official checkpoints of Prithvi and TerraMind: ``norm1``,
``attn.qkv``, ``attn.proj``, ``norm2``, ``mlp.fc1``, ``mlp.fc2`` and, gated, ``mlp.fc3``.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

__all__ = ["Attention", "Block", "GatedMlp", "Mlp", "layerwise", "waves"]


class Attention(nn.Module):
    """Self-attention of several heads; query, key and value are one fused layer.

    Parameters
    ----------
    dim
        Channels of a token.
    heads
        Of which each has ``dim / heads`` channels.
    bias
        Whether its layers have one.
    """

    def __init__(self, dim: int, heads: int, *, bias: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=bias)
        self.proj = nn.Linear(dim, dim, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens ``(batch, token, dim)``, each a mixture of all."""
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1))  # (batch, token, 3, head, channel)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (batch, head, token, channel) each
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Two layers with GELU between them."""

    def __init__(self, dim: int, hidden: int, *, bias: bool = True) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden, bias=bias)
        self.fc2 = nn.Linear(hidden, dim, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens ``(batch, token, dim)``."""
        return self.fc2(F.gelu(self.fc1(x)))


class GatedMlp(nn.Module):
    """SwiGLU (Shazeer, 2020, arXiv:2002.05202): two thirds as wide, for as many weights."""

    def __init__(self, dim: int, hidden: int, *, bias: bool = True) -> None:
        super().__init__()
        hidden = 2 * hidden // 3
        self.fc1 = nn.Linear(dim, hidden, bias=bias)
        self.fc2 = nn.Linear(hidden, dim, bias=bias)
        self.fc3 = nn.Linear(dim, hidden, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens ``(batch, token, dim)``."""
        return self.fc2(F.silu(self.fc1(x)) * self.fc3(x))


class Block(nn.Module):
    """Attention and a multilayer perceptron, each normalised before and added to what it got.

    Parameters
    ----------
    dim, heads
        Of the tokens, see `Attention`.
    mlp
        The perceptron.
    norm
        Makes a normalisation of so many channels.
    bias
        Whether layers of the attention have one.

    Attributes
    ----------
    after_attn, after_mlp
        What is done to the output of either before it is added; nothing, unless adapters are put
        there.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        mlp: nn.Module,
        norm: type[nn.Module] = nn.LayerNorm,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.norm1 = norm(dim)
        self.attn = Attention(dim, heads, bias=bias)
        self.norm2 = norm(dim)
        self.mlp = mlp
        self.after_attn: nn.Module = nn.Identity()
        self.after_mlp: nn.Module = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Tokens ``(batch, token, dim)``."""
        x = x + self.after_attn(self.attn(self.norm1(x)))
        return x + self.after_mlp(self.mlp(self.norm2(x)))


def layerwise(
    blocks: Iterable[nn.Module], x: Tensor, *, checkpointing: bool = False
) -> list[Tensor]:
    """Tokens after every block.

    Parameters
    ----------
    blocks
        One after the other.
    x
        ``(batch, token, dim)``.
    checkpointing
        Whether what is inside a block is computed again for its gradient instead of kept: a third
        more arithmetic for a fraction of the memory.
    """
    found = []
    for block in blocks:
        if checkpointing and torch.is_grad_enabled():
            x = checkpoint(block, x, use_reentrant=False)
        else:
            x = block(x)
        found.append(x)
    return found


def waves(position: Tensor, dim: int) -> Tensor:
    """Sines, then cosines, of positions ``(n,)`` at ``dim / 2`` wavelengths each, ``(n, dim)``.

    References
    ----------
    Vaswani et al., 2017, NeurIPS, section 3.5.
    """
    order = torch.arange(dim // 2, dtype=position.dtype, device=position.device) / (dim / 2)
    angle = position[:, None] / 10000**order
    return torch.cat((angle.sin(), angle.cos()), dim=1)
