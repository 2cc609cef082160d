"""The network: climate encoder, backbone once a year, land head, leaf head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from xlsbc.models.blending import blended, step
from xlsbc.models.heads import LandHead, LeafHead
from xlsbc.models.temporal import TemporalEncoder, sample, upsample


@dataclass(frozen=True)
class Inputs:
    """What the network takes, for a batch of windows of one year each; nothing is missing.

    Missing values were replaced by 0 after scaling, and a channel of `static` says where.
    """

    static: Tensor
    """``(batch, channel, y, x)``, scaled, 1."""
    forcing: Tensor
    """``(batch, forcing_step, channel, forcing_y, forcing_x)``, scaled, 1."""
    pooling: Tensor
    """``(batch, history - 1 + step, forcing_step)``, 1; rows sum to 1."""
    row: Tensor
    """``(batch, y)``, where the pixels lie on the forcing's axis, as fractional index."""
    column: Tensor
    """``(batch, x)``, likewise."""
    driver: Tensor | None = None
    """``(batch, lu, driver_y, driver_x)``, fractions, 1."""
    driver_row: Tensor | None = None
    driver_column: Tensor | None = None
    lu: Tensor | None = None
    """``(batch, lu, y, x)``, given land use fractions, 1; `None` where it is to be generated."""
    lc: Tensor | None = None
    """``(batch, lc, y, x)``, given land cover fractions, likewise."""
    state: Tensor | None = None
    """``(batch, class, y, x)``, fractions of the year before, one after the other, 1."""
    latitude: Tensor | None = None
    """``(batch, y)``, degrees north, for a backbone that is told where its window is."""
    longitude: Tensor | None = None
    """``(batch, x)``, degrees east."""
    year: Tensor | None = None
    """``(batch,)``, calendar year."""

    def to(self, device: torch.device | str) -> Inputs:
        """The same inputs on `device`."""
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        held = {k: v.to(device, non_blocking=True) for k, v in values.items() if v is not None}
        return Inputs(**held)


@dataclass(frozen=True)
class Outputs:
    """What the network gives, all 1: fractions sum to 1 over their classes."""

    lu: Tensor
    """``(batch, lu, y, x)``."""
    lc: Tensor
    """``(batch, lc, y, x)``."""
    lai: Tensor
    """``(batch, step, y, x)``, the sum over classes of ``lc`` times ``leaves``."""
    leaves: Tensor
    """``(batch, step, leafy class, y, x)``, leaf area index of the classes that bear leaves."""


class Network(nn.Module):
    """Land use, land cover and leaf area index of a year, consistent by construction.

    Parameters
    ----------
    static, forcing
        Channels of `Inputs.static` and `Inputs.forcing`.
    compatible
        ``(lu, lc)`` boolean: which pairs of land use and land cover can be.
    bounds
        ``(lc,)`` largest leaf area index of each class, 1.
    driver
        Whether coarse land-use totals are an input.
    given
        Names of the fractions ("lu_fraction", "lc_fraction") that may be given.
    state
        Classes of all fractions of the year before that are inputs.
    backbone
        Makes it for such a number of channels, of which the slice is climate.
    climate, history
        Channels and length of the `TemporalEncoder`.
    hidden
        Channels inside the `LeafHead`.
    seasons
        Parts of the year of which the backbone is given the mean climate.
    window
        Side of the windows that a backbone without a halo sees.
    coupled
        Whether the heads hold what they make to what is given. Without it given fractions are
        inputs of the backbone and nothing more, as in a chain of separate models.
    """

    def __init__(
        self,
        *,
        static: int,
        forcing: int,
        compatible: Tensor,
        bounds: Tensor,
        driver: bool,
        given: tuple[str, ...],
        backbone: Callable[[int, slice], Any],
        climate: int,
        history: int,
        hidden: int,
        state: int = 0,
        seasons: int = 1,
        window: int | None = None,
        coupled: bool = True,
    ) -> None:
        super().__init__()
        n_lu, n_lc = compatible.shape
        self.takes_lu = "lu_fraction" in given
        self.takes_lc = "lc_fraction" in given
        channels = static + seasons * climate + driver * n_lu + state
        channels += self.takes_lu * (n_lu + 1) + self.takes_lc * (n_lc + 1)
        self.encoder = TemporalEncoder(forcing, climate, history)
        self.backbone = backbone(channels, slice(static, static + seasons * climate))
        self.seasons, self.window, self.coupled = seasons, window, coupled
        self.land = LandHead(self.backbone.channels_out, compatible)
        self.leaf = LeafHead(self.backbone.channels_out, climate, bounds, hidden)
        self.n_lu, self.n_lc = n_lu, n_lc
        self.mixed = False  # runs the backbone in mixed precision; heads stay float32

    @property
    def stride(self) -> int:
        """Pixels of which windows must start on, and measure, multiples."""
        return self.backbone.stride if self.window is None else step(self.window)

    @property
    def halo(self) -> int:
        """Pixels around a tile that its prediction sees.

        A pixel is in up to four windows of a backbone without a halo, and all must be complete.
        """
        return self.backbone.halo if self.window is None else step(self.window)

    @property
    def context(self) -> int:
        """Pixels, the farthest from one at which something still bears on it.

        More than the halo where there are windows: a tile begins where one does, a pixel may be
        the last of one.
        """
        return self.backbone.halo if self.window is None else self.window - 1

    def forward(self, inputs: Inputs, rim: int = 0) -> Outputs:
        """Fields of the year for every pixel of a batch of windows, less a rim of so many pixels.

        The heads take one step at a time: twelve at once would need twelve times the memory, and
        most of the time would go into getting it.
        """
        climate, features = self.features(inputs)
        inner = slice(rim, -rim or None)
        shape = features[..., inner, inner].shape[-2:]
        flat = features[..., inner, inner].flatten(2)
        given = (
            None if given is None else given[..., inner, inner].flatten(2)
            for given in self.conditions(inputs)
        )
        lu, lc = self.land(flat, *given)
        coarse = self.leaf.stepwise(climate.movedim(2, -1)).movedim(-1, 2)
        row, column = inputs.row[:, inner], inputs.column[:, inner]
        steps = [
            self.leaf(flat, lc, upsample(step[:, None], row, column).flatten(3))
            for step in coarse.unbind(1)
        ]
        lai, leaves = (torch.cat(fields, dim=1) for fields in zip(*steps, strict=True))
        return Outputs(*(x.unflatten(-1, shape) for x in (lu, lc, lai, leaves)))

    def features(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """Climate state ``(batch, step, climate, coarse_y, coarse_x)`` and yearly features.

        The features, ``(batch, channel, y, x)``, are float32 whatever the backbone ran in.
        """
        climate = self.encoder(inputs.forcing, inputs.pooling)
        x = self.channels(inputs, climate).contiguous(memory_format=torch.channels_last)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.mixed):
            features = self.yearly(x, inputs)
        return climate, features.float()

    def yearly(self, x: Tensor, inputs: Inputs) -> Tensor:
        """What the backbone makes of its input ``(batch, channel, y, x)``.

        A backbone without a halo sees a window of its own size, as in training, whole; of a larger
        one it sees windows that overlap, and its features are blended.
        """
        if self.window is None:
            return self.backbone(x)
        if x.shape[-2:] == (self.window, self.window):
            return self.blended(x, inputs)
        return torch.cat([self.blended(x[i : i + 1], alone(inputs, i)) for i in range(len(x))])

    def blended(self, x: Tensor, inputs: Inputs) -> Tensor:
        """Features of windows of the backbone's size, or of one larger window."""
        assert self.window is not None

        def run(part: Tensor, place: Tensor | None) -> Tensor:
            if place is None or inputs.year is None:
                return self.backbone(part)
            year = inputs.year[:, None].expand(len(place), -1)
            return self.backbone(part, torch.cat((place, year), dim=1))

        valid = inputs.static[:, -1]  # nothing is predicted where it is 0
        return blended(run, x, inputs.latitude, inputs.longitude, self.window, valid)

    def at(self, inputs: Inputs, y: Tensor, x: Tensor) -> Outputs:
        """Fields of the year at some pixels only, ``(batch, pixel)`` each: what training needs.

        The same values as `forward` there; the heads, which look at one pixel at a time and
        would cost most of a training step, run on labelled pixels alone.
        """
        climate, features = self.features(inputs)
        batch = torch.arange(len(y), device=y.device)[:, None]
        pick = lambda field: field[batch, :, y, x].transpose(1, 2)  # noqa: E731
        given = (None if given is None else pick(given) for given in self.conditions(inputs))
        lu, lc = self.land(pick(features), *given)
        step = self.leaf.stepwise(climate.movedim(2, -1)).movedim(-1, 2)
        step = sample(step, inputs.row.gather(1, y), inputs.column.gather(1, x))
        return Outputs(lu, lc, *self.leaf(pick(features), lc, step))

    def conditions(self, inputs: Inputs) -> tuple[Tensor | None, Tensor | None]:
        """Land use and land cover that the heads go by, `None` where they make it themselves."""
        return (inputs.lu, inputs.lc) if self.coupled else (None, None)

    def channels(self, inputs: Inputs, climate: Tensor) -> Tensor:
        """The backbone's input ``(batch, channel, y, x)``, coarse fields brought to fine pixels.

        Of the climate state ``(batch, step, climate, coarse_y, coarse_x)`` it holds the means of
        the seasons.
        """
        means = [part.mean(1) for part in climate.tensor_split(self.seasons, dim=1)]
        parts = [inputs.static, upsample(torch.cat(means, 1), inputs.row, inputs.column)]
        if inputs.driver is not None:
            assert inputs.driver_row is not None
            assert inputs.driver_column is not None
            parts.append(upsample(inputs.driver, inputs.driver_row, inputs.driver_column))
        if inputs.state is not None:
            parts.append(inputs.state)
        if self.takes_lu:
            parts.append(with_flag(inputs.lu, self.n_lu, inputs.static))
        if self.takes_lc:
            parts.append(with_flag(inputs.lc, self.n_lc, inputs.static))
        return torch.cat(parts, dim=1)


def channels_last(module: nn.Module) -> None:
    """Lay out weights of convolutions over pixels as their inputs are, channels last."""
    for parameter in module.parameters():
        if parameter.ndim == 4:  # torch refuses those over frames, too
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


def alone(inputs: Inputs, i: int) -> Inputs:
    """One of a batch, as a batch of one."""
    values: dict[str, Any] = {f.name: getattr(inputs, f.name) for f in fields(inputs)}
    return Inputs(**{k: v[i : i + 1] for k, v in values.items() if v is not None})


def with_flag(fraction: Tensor | None, classes: int, like: Tensor) -> Tensor:
    """Given fractions and a channel of ones, or zeros where they are not given."""
    if fraction is None:
        return like.new_zeros(like.shape[0], classes + 1, *like.shape[-2:])
    return torch.cat((fraction, torch.ones_like(fraction[:, :1])), dim=1)
