"""What the weather did, told on its own coarse grid: a causal encoder over forcing steps."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class TemporalEncoder(nn.Module):
    """State of the climate ``z_t`` at each leaf-area step, from forcing in and before it.

    Forcing steps (monthly, dekadal or daily) pass one by one through a small network, are averaged
    over the leaf-area step that they fall in, and the averages are convolved causally over
    `history` steps. It runs on coarse cells only, which is why it is cheap.

    Parameters
    ----------
    channels_in
        Forcing variables, harmonics of the calendar and scalars (CO2), together.
    channels_out
        Channels of ``z_t``.
    history
        Leaf-area steps seen by ``z_t``, its own the last.
    """

    def __init__(self, channels_in: int, channels_out: int, history: int) -> None:
        super().__init__()
        hidden = 2 * channels_out
        self.history = history
        self.step = nn.Sequential(
            nn.Linear(channels_in, hidden), nn.GELU(), nn.Linear(hidden, hidden)
        )
        self.memory = nn.Conv1d(hidden, hidden, history)
        self.mix = nn.Sequential(
            nn.Linear(2 * hidden, hidden), nn.GELU(), nn.Linear(hidden, channels_out)
        )

    def forward(self, forcing: Tensor, pooling: Tensor) -> Tensor:
        """State ``(batch, step, channels_out, y, x)`` on the coarse grid.

        Parameters
        ----------
        forcing
            ``(batch, forcing_step, channel, y, x)``, scaled, nothing missing.
        pooling
            ``(batch, history - 1 + step, forcing_step)``, rows sum to 1: which forcing steps make
            up a leaf-area step.
        """
        b, _, _, ny, nx = forcing.shape
        x = self.step(forcing.permute(0, 3, 4, 1, 2))  # (batch, y, x, forcing_step, hidden)
        x = torch.einsum("bts,bijsc->bijtc", pooling, x)  # forcing_step -> history - 1 + step
        past = self.memory(x.flatten(0, 2).transpose(1, 2))  # (batch*y*x, hidden, step)
        past = F.gelu(past).transpose(1, 2).unflatten(0, (b, ny, nx))
        now = x[..., self.history - 1 :, :]
        return self.mix(torch.cat((now, past), dim=-1)).permute(0, 3, 4, 1, 2)


def upsample(field: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Coarse fields interpolated bilinearly to fine pixels, as two small matrix products.

    Parameters
    ----------
    field
        ``(batch, ..., coarse_y, coarse_x)``.
    row, column
        ``(batch, y)`` and ``(batch, x)``: where the fine pixels lie, as fractional indices of the
        coarse axes.

    Returns
    -------
    Tensor
        ``(batch, ..., y, x)``.
    """
    down = hat(row, field.shape[-2])  # (batch, y, coarse_y)
    across = hat(column, field.shape[-1])  # (batch, x, coarse_x)
    between = (1,) * (field.ndim - 3)
    down = down.reshape(down.shape[0], *between, *down.shape[1:])
    across = across.reshape(across.shape[0], *between, *across.shape[1:])
    return down @ (field @ across.transpose(-1, -2))


def sample(field: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Coarse fields interpolated bilinearly to scattered pixels.

    Parameters
    ----------
    field
        ``(batch, ..., coarse_y, coarse_x)``.
    row, column
        ``(batch, pixel)``: where the pixels lie, as fractional indices of the coarse axes.

    Returns
    -------
    Tensor
        ``(batch, ..., pixel)``.
    """
    cells = hat(row, field.shape[-2])[..., None] * hat(column, field.shape[-1])[..., None, :]
    cells = cells.flatten(2).transpose(1, 2)  # (batch, coarse_y * coarse_x, pixel)
    between = (1,) * (field.ndim - 4)
    return field.flatten(-2) @ cells.reshape(len(cells), *between, *cells.shape[1:])


def hat(position: Tensor, size: int) -> Tensor:
    """Weights ``(..., size)`` of linear interpolation at fractional indices ``(...)``."""
    cells = torch.arange(size, device=position.device, dtype=position.dtype)
    return (1 - (position[..., None] - cells).abs()).clamp_min(0)
