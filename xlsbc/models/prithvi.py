"""Prithvi-EO encoders (Szwarcman et al., 2024, arXiv:2412.02732; 1.0: arXiv:2310.18660).

A vision transformer over patches of every frame of a series of images. Names of parameters are
those of the official checkpoints. Positions are computed, never read: they are sines and cosines
of a patch's column, row and frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xlsbc.errors import EmulatorError
from xlsbc.models.transformer import Block, Mlp, layerwise, waves

__all__ = ["VARIANTS", "Prithvi", "Variant", "encoder_state"]


@dataclass(frozen=True)
class Variant:
    """Sizes of an official encoder, and where its weights are."""

    dim: int
    depth: int
    heads: int
    patch: int = 16
    location: bool = False
    """Whether it was trained with date and place ("TL")."""
    repository: str | None = None
    """On Hugging Face; `None` where weights were never published."""
    file: str | None = None
    license: str = "Apache-2.0"


def published(
    name: str, file: str, dim: int, depth: int, heads: int, *, patch: int = 16
) -> Variant:
    repository = f"ibm-nasa-geospatial/Prithvi-EO-{name}"
    return Variant(dim, depth, heads, patch, name.endswith("TL"), repository, file)


VARIANTS = {
    "1.0-100M": published("1.0-100M", "Prithvi_EO_V1_100M.pt", 768, 12, 12),
    "2.0-tiny-TL": published("2.0-tiny-TL", "Prithvi_EO_V2_tiny_TL.pt", 192, 12, 3),
    "2.0-100M": Variant(768, 12, 12),
    "2.0-100M-TL": published("2.0-100M-TL", "Prithvi_EO_V2_100M_TL.pt", 768, 12, 12),
    "2.0-300M": published("2.0-300M", "Prithvi_EO_V2_300M.pt", 1024, 24, 16),
    "2.0-300M-TL": published("2.0-300M-TL", "Prithvi_EO_V2_300M_TL.pt", 1024, 24, 16),
    "2.0-600M": published("2.0-600M", "Prithvi_EO_V2_600M.pt", 1280, 32, 16, patch=14),
    "2.0-600M-TL": published("2.0-600M-TL", "Prithvi_EO_V2_600M_TL.pt", 1280, 32, 16, patch=14),
}


class Prithvi(nn.Module):
    """Features of all layers from a series of images, its dates and its place.

    Parameters
    ----------
    dim
        Channels of a token, a multiple of 16.
    depth, heads
        Layers, and heads of each.
    patch
        Pixels of a token's side.
    bands
        Of an image.
    location
        Whether dates and places can be given.
    frames, size
        Images and pixels of a side for which positions are kept. Of other numbers of images they
        are computed, to other sizes interpolated from these: what the official weights saw.

    Attributes
    ----------
    checkpointing
        Whether layers are computed again for their gradient, see `layerwise`.
    """

    position: Tensor

    def __init__(
        self,
        dim: int,
        depth: int,
        heads: int,
        *,
        patch: int = 16,
        bands: int = 6,
        location: bool,
        frames: int = 1,
        size: int = 224,
    ) -> None:
        super().__init__()
        if dim % 16 or dim % heads:
            raise EmulatorError(f"expected a dim that 16 and its {heads} heads divide; found {dim}")
        self.dim, self.depth, self.patch, self.bands = dim, depth, patch, bands
        self.frames, self.side = frames, size // patch
        self.checkpointing = False
        self.patch_embed = PatchEmbedding(bands, dim, patch)
        self.cls_token = nn.Parameter(0.02 * torch.randn(1, 1, dim))
        if location:
            self.temporal_embed_enc = PairEncoding(dim)
            self.location_embed_enc = PairEncoding(dim)
        self.location = location
        self.blocks = nn.ModuleList(Block(dim, heads, Mlp(dim, 4 * dim)) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        kept = positions(frames, self.side, self.side, dim)
        self.register_buffer("position", kept, persistent=False)
        for name, parameter in self.blocks.named_parameters():
            if "attn" in name or "mlp" in name:
                (nn.init.zeros_ if parameter.ndim == 1 else nn.init.xavier_uniform_)(parameter)

    @classmethod
    def of(cls, variant: str, frames: int = 1) -> Prithvi:
        """An official encoder, by its name in `VARIANTS`, with random weights.

        Raises
        ------
        EmulatorError
            If there is none of this name.
        """
        if variant not in VARIANTS:
            raise EmulatorError(
                f"expected a variant of prithvi, one of {', '.join(VARIANTS)}; found {variant!r}"
            )
        v = VARIANTS[variant]
        return cls(v.dim, v.depth, v.heads, patch=v.patch, location=v.location, frames=frames)

    @property
    def layers(self) -> nn.ModuleList:
        """The transformer's blocks, first to last."""
        return self.blocks

    def forward(
        self,
        x: Tensor,
        time: Tensor | None = None,
        place: Tensor | None = None,
        extra: Tensor | None = None,
    ) -> list[Tensor]:
        """Tokens ``(batch, 1 + token, dim)`` after every layer, the last normalised.

        The first token is the class token; the others go by frame, row and column.

        Parameters
        ----------
        x
            ``(batch, band, frame, y, x)``, scaled, 1; none missing.
        time
            ``(batch, frame, 2)``, year and day of the year, counted from 1; `None`: not known.
        place
            ``(batch, 2)``, latitude and longitude, degrees north and east; `None`: not known.
        extra
            ``(batch, token, dim)``, added to the embedded patches: how other inputs enter.

        Raises
        ------
        EmulatorError
            If the window is no multiple of the patch, or `x`, `time` or `place` does not fit.
        """
        self.check(x, time, place)
        frames, rows, columns = x.shape[2], x.shape[3] // self.patch, x.shape[4] // self.patch
        tokens = self.patch_embed(x)
        if extra is not None:
            tokens = tokens + extra
        tokens = tokens + self.positions(frames, rows, columns)
        if time is not None:
            dates = self.temporal_embed_enc(time).to(tokens.dtype)  # (batch, frame, dim)
            tokens = tokens + dates.repeat_interleave(rows * columns, dim=1)
        if place is not None:
            tokens = tokens + self.location_embed_enc(place[:, None]).to(tokens.dtype)
        # len(x) would fix the batch of an exported program
        first = self.cls_token.to(tokens.dtype).expand(x.shape[0], -1, -1)
        tokens = torch.cat((first, tokens), dim=1)
        found = layerwise(self.blocks, tokens, checkpointing=self.checkpointing)
        found[-1] = self.norm(found[-1])
        return found

    def positions(self, frames: int, rows: int, columns: int) -> Tensor:
        """Encoded positions of a grid of patches, ``(frame * row * column, dim)``."""
        position = self.position
        if frames != self.frames:
            table = positions(frames, self.side, self.side, self.dim, position.device)
            position = table.to(position.dtype)
        if (rows, columns) == (self.side, self.side):
            return position
        position = position.unflatten(0, (frames, self.side, self.side)).permute(0, 3, 1, 2)
        position = F.interpolate(position, (rows, columns), mode="bicubic", align_corners=True)
        return position.permute(0, 2, 3, 1).flatten(0, 2)

    def check(self, x: Tensor, time: Tensor | None, place: Tensor | None) -> None:
        """Refuse an input that does not fit, with everything that is wrong with it."""
        if x.ndim != 5:
            raise EmulatorError(
                f"expected windows (batch, band, frame, y, x); found an array of {tuple(x.shape)}"
            )
        batch, bands, frames, *window = x.shape
        problems = []
        if bands != self.bands:
            problems.append(f"expected {self.bands} bands; found {bands}")
        if window[0] % self.patch or window[1] % self.patch:
            problems.append(
                f"expected windows of multiples of the patch, {self.patch} pixels; "
                f"found {window[0]} x {window[1]}"
            )
        for name, given, shape in (
            ("time", time, (batch, frames, 2)),
            ("place", place, (batch, 2)),
        ):
            if given is not None and not self.location:
                problems.append(f"{name} is given and this encoder has no encoding of it")
            elif given is not None and given.shape != shape:
                problems.append(f"expected {name} of {shape}; found {tuple(given.shape)}")
        if problems:
            raise EmulatorError("the input does not fit prithvi", problems)


class PatchEmbedding(nn.Module):
    """A token of every patch of every frame."""

    def __init__(self, bands: int, dim: int, patch: int) -> None:
        super().__init__()
        size = (1, patch, patch)
        self.proj = nn.Conv3d(bands, dim, size, stride=size)
        nn.init.xavier_uniform_(self.proj.weight.view(dim, -1))
        nn.init.zeros_(self.proj.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Tokens ``(batch, token, dim)`` of ``(batch, band, frame, y, x)``."""
        return self.proj(x).flatten(2).transpose(1, 2)


class PairEncoding(nn.Module):
    """Two numbers as waves, half of the channels each, times a learned scale."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.scale = nn.Parameter(torch.full((1,), 0.1))

    def forward(self, pair: Tensor) -> Tensor:
        """Encoding ``(batch, n, dim)``, float32, of ``(batch, n, 2)``."""
        # bfloat16 knows no year between 2016 and 2024
        halves = waves(pair.float().flatten(), self.dim // 2)  # (batch * n * 2, dim / 2)
        return self.scale.float() * halves.reshape(*pair.shape[:2], self.dim)


def positions(
    frames: int, rows: int, columns: int, dim: int, device: torch.device | None = None
) -> Tensor:
    """Waves of column, row and frame, ``(frame * row * column, dim)``, float32.

    Of 16 channels, 6 tell the column, 6 the row and 4 the frame.
    """
    share = dim // 16
    frame, row, column = (
        waves(torch.arange(n, dtype=torch.float64, device=device), width * share)
        for n, width in ((frames, 4), (rows, 6), (columns, 6))
    )
    grid = (frames, rows, columns, -1)
    parts = (column.expand(grid), row[:, None].expand(grid), frame[:, None, None].expand(grid))
    return torch.cat(parts, dim=-1).flatten(0, 2).float()


def encoder_state(raw: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of an official file's tensors those of the encoder, by their names in `Prithvi`.

    A masked autoencoder's decoder and stored positions are left out, prefixes removed; every
    other name stays, so that a strict comparison lists what is not known.
    """
    state = {}
    for name, tensor in raw.items():
        name = name.replace("_timm_module.", "")
        if name.startswith("decoder") or "_dec" in name or name == "mask_token":
            continue
        name = name.removeprefix("encoder.")
        if name != "pos_embed":
            state[name] = tensor
    return state
