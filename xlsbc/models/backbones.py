"""Backbones by name: what variants each has, and how land-surface inputs enter it.

A backbone is a module from ``(batch, channel, y, x)`` to features on the same pixels. It declares
`stride`, of which windows are multiples, and `halo`, the pixels at a window's rim that depend on
what lies beyond it; None if every pixel depends on the whole window.

An encoder of patches, pretrained or not, keeps the names of its official parameters. What is new
stands beside it: one embedding of patches of all our channels, which is *added* to the encoder's
own embedding and is 0 at first where the encoder is pretrained, so that its function is unchanged
at the start; and the decoder back to pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from xlsbc.models import prithvi, terramind, vit
from xlsbc.models.decoder import Decoder
from xlsbc.models.prithvi import Prithvi
from xlsbc.models.terramind import TerraMind
from xlsbc.models.unet import UNet
from xlsbc.models.vit import ViT

__all__ = ["BACKBONES", "DECODER", "Channels", "Kind", "Patches", "Sizes", "levels"]

DECODER = (32, 48, 64, 96)
"""Channels of the decoder behind patches, finest first."""

DEPTHS = 4
"""Layers of an encoder whose features the decoder takes, evenly spaced, the last one included."""

DEM = "untok_dem@224"
DEM_MEAN, DEM_STD = 670.665, 951.272
"""Metres, by which TerraMind's elevation is scaled (TerraTorch, ``v1_pretraining_mean``)."""

MIXED = 16
"""Channels to which ours are mixed before they are embedded."""

BANDS = 6
"""Reflectances that Prithvi was trained on; at 0, which is their mean, where there are none."""


@dataclass(frozen=True)
class Channels:
    """What the channels of a backbone's input are.

    Parameters
    ----------
    count
        How many.
    climate
        Which are climate: those of every season, one season after the other.
    elevation
        Which is the elevation, if one is.
    mean, std
        By which the elevation is scaled, metres.
    """

    count: int
    climate: slice
    elevation: int | None = None
    mean: float = 0.0
    std: float = 1.0


@dataclass(frozen=True)
class Sizes:
    """Of a backbone; see `xlsbc.emulator.spec.Architecture`."""

    variant: str = ""
    width: tuple[int, ...] = DECODER
    patch: int = 16
    frames: int = 1
    dropout: float = 0.0
    pretrained: bool = False
    """Whether the encoder's function is to be unchanged at first."""


class Patches(nn.Module, ABC):
    """Features on pixels from an encoder of patches.

    Parameters
    ----------
    encoder
        With attributes `dim`, `depth` and `patch`.
    channels, sizes
        See there.

    Attributes
    ----------
    stride
        Side of a patch.
    halo
        None: every pixel depends on the whole window.
    channels_out
        Channels of the features.
    """

    halo = None

    def __init__(self, encoder: Any, channels: Channels, sizes: Sizes) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = Decoder(
            encoder.dim, encoder.patch, channels.count, width=sizes.width, dropout=sizes.dropout
        )
        self.taken = [encoder.depth * (i + 1) // DEPTHS - 1 for i in range(DEPTHS)]
        self.stride = encoder.patch
        self.channels_out = sizes.width[0]

    def forward(self, x: Tensor, place: Tensor | None = None) -> Tensor:
        """Features ``(batch, channel, y, x)``.

        Parameters
        ----------
        x
            ``(batch, channel, y, x)``, whole patches.
        place
            ``(batch, 3)``: latitude and longitude of the window's centre, degrees, and the year.
        """
        rows, columns = (length // self.stride for length in x.shape[-2:])
        layers = self.layers(x, place)
        maps = [
            layers[i].transpose(1, 2).unflatten(2, (rows, columns)) for i in self.taken
        ]  # (batch, dim, row, column) each
        return self.decoder(maps, x)

    @abstractmethod
    def layers(self, x: Tensor, place: Tensor | None) -> list[Tensor]:
        """Tokens of every layer, ``(batch, token, dim)``, rows of patches one after the other."""


class ViTBackbone(Patches):
    """A vision transformer of all our channels."""

    def __init__(self, channels: Channels, sizes: Sizes) -> None:
        encoder = ViT.of(sizes.variant, channels.count, sizes.patch)
        super().__init__(encoder, channels, sizes)

    def layers(self, x: Tensor, place: Tensor | None) -> list[Tensor]:
        """Tokens of every layer."""
        return self.encoder(x)


class PrithviBackbone(Patches):
    """Prithvi's encoder: our channels are added to its embedding, seasons may be its frames."""

    def __init__(self, channels: Channels, sizes: Sizes) -> None:
        super().__init__(Prithvi.of(sizes.variant, sizes.frames), channels, sizes)
        self.frames, self.climate = sizes.frames, channels.climate
        climate = channels.climate.stop - channels.climate.start
        seen = channels.count - climate + climate // sizes.frames
        self.embedding = embedding(seen, self.encoder, zero=sizes.pretrained)

    def layers(self, x: Tensor, place: Tensor | None) -> list[Tensor]:
        """Tokens of every layer, the mean of its frames."""
        batch, _, height, width = x.shape
        ours = torch.stack([self.embedding(frame) for frame in self.seasons(x)], dim=2)
        bands = x.new_zeros(batch, BANDS, self.frames, height, width)
        where = when = None
        if place is not None and self.encoder.location:
            where, when = place[:, :2], self.dates(place[:, 2])
        tokens = ours.flatten(2).transpose(1, 2)  # (batch, frame * row * column, dim)
        found = self.encoder(bands, when, where, tokens)
        return [layer[:, 1:].unflatten(1, (self.frames, -1)).mean(1) for layer in found]

    def seasons(self, x: Tensor) -> list[Tensor]:
        """The channels that each frame sees, ``(batch, channel, y, x)``."""
        if self.frames == 1:
            return [x]
        before, climate, after = (
            x[:, part]
            for part in (
                slice(0, self.climate.start),
                self.climate,
                slice(self.climate.stop, None),
            )
        )
        return [torch.cat((before, c, after), dim=1) for c in climate.chunk(self.frames, dim=1)]

    def dates(self, year: Tensor) -> Tensor:
        """``(batch, frame, 2)``: the year and the day in the middle of every frame."""
        day = (torch.arange(self.frames, device=year.device) + 0.5) * (365 / self.frames)
        return torch.stack(torch.broadcast_tensors(year[:, None], day.to(year.dtype)), dim=2)


class TerraMindBackbone(Patches):
    """TerraMind's encoder: elevation has its own embedding, to which our channels are added."""

    def __init__(self, channels: Channels, sizes: Sizes) -> None:
        super().__init__(TerraMind.of(sizes.variant, modalities=(DEM,)), channels, sizes)
        self.channels = channels
        self.embedding = embedding(channels.count, self.encoder, zero=sizes.pretrained)

    def layers(self, x: Tensor, place: Tensor | None) -> list[Tensor]:
        """Tokens of every layer."""
        ours = self.embedding(x).flatten(2).transpose(1, 2)
        return self.encoder({DEM: self.elevation(x)}, {DEM: ours})

    def elevation(self, x: Tensor) -> Tensor:
        """Elevation ``(batch, 1, y, x)`` as TerraMind scales it; its mean where there is none."""
        at = self.channels.elevation
        if at is None:
            return torch.zeros_like(x[:, :1])
        metres = x[:, at : at + 1] * self.channels.std + self.channels.mean
        return (metres - DEM_MEAN) / DEM_STD


def embedding(channels: int, encoder: Any, *, zero: bool) -> nn.Sequential:
    """Tokens of patches of our channels; 0 at first, or random.

    Means of two by two pixels, mixed to few channels: one layer from all pixels of all channels
    would be as large as a small encoder, and detail has a way of its own through the decoder.
    """
    side = encoder.patch // 2
    last = nn.Conv2d(MIXED, encoder.dim, side, stride=side, bias=False)
    if zero:
        nn.init.zeros_(last.weight)
    else:
        nn.init.xavier_uniform_(last.weight.view(last.weight.shape[0], -1))
    return nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(channels, MIXED, 1), last)


def unet(channels: Channels, sizes: Sizes) -> UNet:
    """The U-Net."""
    return UNet(channels.count, sizes.width, sizes.dropout)


@dataclass(frozen=True)
class Kind:
    """A kind of backbone.

    Parameters
    ----------
    make
        One for such channels and of such sizes.
    variants, usual
        Names of its variants, and which one is taken if none is named.
    sides
        Side of the patches of each variant, pixels; 0 where it can be chosen.
    pretrained
        Whether there are weights to begin with.
    located
        Variants that are told where and when a window is.
    """

    make: Callable[[Channels, Sizes], Any]
    variants: tuple[str, ...] = ("",)
    usual: str = ""
    sides: tuple[int, ...] = ()
    pretrained: bool = False
    located: frozenset[str] = frozenset()

    @property
    def patches(self) -> bool:
        """Whether it cuts windows into patches, and so has no halo."""
        return bool(self.sides)

    def patch(self, variant: str, chosen: int) -> int:
        """Side of a patch, pixels; as chosen where that is free, or the variant unknown."""
        sides = dict(zip(self.variants, self.sides, strict=True))
        return sides.get(variant) or chosen


BACKBONES: dict[str, Kind] = {
    "unet": Kind(unet),
    "vit": Kind(ViTBackbone, tuple(vit.VARIANTS), "small", (0,) * len(vit.VARIANTS)),
    "prithvi": Kind(
        PrithviBackbone,
        tuple(prithvi.VARIANTS),
        "2.0-100M-TL",
        tuple(v.patch for v in prithvi.VARIANTS.values()),
        pretrained=True,
        located=frozenset(name for name, v in prithvi.VARIANTS.items() if v.location),
    ),
    "terramind": Kind(
        TerraMindBackbone,
        tuple(terramind.VARIANTS),
        "base",
        tuple(v.patch for v in terramind.VARIANTS.values()),
        pretrained=True,
    ),
}


def levels(patch: int) -> int:
    """Resolutions of the decoder that are finer than patches of so many pixels."""
    return (patch - 1).bit_length()
