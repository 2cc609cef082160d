"""The same network arranged for speed in prediction: fewer passes over memory, less arithmetic.

What is rearranged, and why it stays the same function:

- The backbone's normalisation is folded into its convolutions, see `xlsbc.models.folded`, and
  low-rank changes of a pretrained one are merged into its weights.
- The heads look at one pixel at a time: they run over strips of rows that stay in the caches.
- Pairs of land use and land cover that cannot be have no share: the softmax leaves them out.
- Bilinear interpolation works axis by axis: along rows once a window, and down columns in the
  product that also adds the yearly features.

Windows of a batch run one by one, so that the bits of one do not depend on the others. They do
depend, in the last place, on the number of torch's threads, which decides where loops end.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Container, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xlsbc.models.adapters import merge
from xlsbc.models.folded import FoldedUNet, cropped, fold
from xlsbc.models.heads import closed
from xlsbc.models.network import Inputs, Network, alone, channels_last
from xlsbc.models.temporal import hat
from xlsbc.models.unet import UNet

__all__ = ["Fused"]

STRIP = {"cpu": 12288, "cuda": 2**20}
"""Pixels that the heads take at once: on a CPU what they hold of them should stay in the caches; a
GPU waits for every launch and wants many."""

LEAF_AREAS = ("lai", "lai_hv", "lai_lv")


class Fused(nn.Module):
    """A network's predictions, and nothing that was not asked for.

    Parameters
    ----------
    network
        Is copied, and not changed.
    stature
        Of each land cover class: "high" or "low" vegetation, or another for none.
    dtype
        Of the backbone; the heads are float32 always.
    """

    def __init__(
        self,
        network: Network,
        stature: Sequence[str | None],
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.stride, self.halo, self.dtype = network.stride, network.halo, dtype
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        if isinstance(self.network.backbone, UNet):
            self.network.backbone = FoldedUNet(self.network.backbone)
        fold(self.network.backbone)
        merge(self.network.backbone)
        channels_last(self.network.backbone)
        self.network.backbone.to(dtype)
        self.heads = Heads(self.network, stature)

    @torch.no_grad()
    def forward(self, inputs: Inputs, names: Sequence[str], rim: int = 0) -> dict[str, Tensor]:
        """Fields by name, ``(batch, [class or step,] y, x)``, float32, 1, less a rim.

        Parameters
        ----------
        inputs
            A batch of windows.
        names
            Of lu_fraction, lc_fraction, cvh, cvl, lai, lai_hv and lai_lv.
        rim
            Pixels at every side that are thrown away.
        """
        batch, _, height, width = inputs.static.shape
        steps = inputs.pooling.shape[1] - self.network.encoder.history + 1
        inner = {"lu_fraction": (self.network.n_lu,), "lc_fraction": (self.network.n_lc,)}
        inner |= {name: (steps,) for name in LEAF_AREAS}
        fields = {
            name: inputs.static.new_empty(
                batch, *inner.get(name, ()), height - 2 * rim, width - 2 * rim
            )
            for name in names
        }
        for i in range(batch):
            self.fill({name: field[i] for name, field in fields.items()}, alone(inputs, i), rim)
        return fields

    def fill(self, fields: dict[str, Tensor], inputs: Inputs, rim: int) -> None:
        """Write the fields of a batch of one, ``([class or step,] y, x)`` each."""
        network = self.network
        climate = network.encoder(inputs.forcing, inputs.pooling)
        state = network.leaf.stepwise(climate[0].movedim(1, -1)).movedim(-1, 1)
        channels = network.channels(inputs, climate)[0]
        features = self.features(channels[: len(channels) - self.absent(inputs)], inputs, rim)
        lu, lc = (None if x is None else cropped(x[0], rim) for x in network.conditions(inputs))
        row, column = (x[0, rim : len(x[0]) - rim] for x in (inputs.row, inputs.column))
        self.heads(fields, features, lu, lc, (state, row, column))

    def absent(self, inputs: Inputs) -> int:
        """Channels at the end of `Network.channels` that are 0: those of fractions not given."""
        network = self.network
        if inputs.lc is not None or not isinstance(network.backbone, FoldedUNet):
            return 0
        lu = network.takes_lu * (network.n_lu + 1) if inputs.lu is None else 0
        return lu + network.takes_lc * (network.n_lc + 1)

    def features(self, channels: Tensor, inputs: Inputs, rim: int) -> Tensor:
        """Yearly features ``(y, x, channel)`` less a rim, of input channels ``(channel, y, x)``."""
        # a matrix is transposed three times as fast as .to(memory_format=...) does the same
        x = channels.to(self.dtype).flatten(1).t().contiguous().unflatten(0, channels.shape[1:])
        x = x.permute(2, 0, 1)[None]  # (1, channel, y, x), channels last in memory
        if isinstance(self.network.backbone, FoldedUNet):
            x = self.network.backbone(x, rim)
        else:
            x = cropped(self.network.yearly(x, inputs), rim)
        return x[0].permute(1, 2, 0)


class Heads(nn.Module):
    """Land use, land cover and leaf area index of one window, strip by strip.

    Parameters
    ----------
    network
        Whose heads it arranges.
    stature
        See `Fused`.
    """

    pairs: Tensor
    pairs_bias: Tensor
    margins: Tensor
    classes: Tensor
    classes_bias: Tensor
    leafy: Tensor
    bounds: Tensor

    def __init__(self, network: Network, stature: Sequence[str | None]) -> None:
        super().__init__()
        land, leaf = network.land, network.leaf
        self.land, self.yearly = land, leaf.yearly
        possible = ~land.impossible  # (lu, lc)
        pairs = possible.flatten().nonzero()[:, 0]
        self.sizes = list(possible.shape)
        margins = [F.one_hot(i, n) for i, n in zip(possible.nonzero().t(), self.sizes, strict=True)]
        # high vegetation first, then low, then what else bears leaves
        rank = [{"high": 0, "low": 1}.get(stature[c] or "", 2) for c in leaf.leafy]
        order = sorted(range(len(rank)), key=rank.__getitem__)
        self.groups = [rank.count(i) for i in range(3)]
        for name, value in {
            "pairs": land.pairs.weight[pairs],
            "pairs_bias": land.pairs.bias[pairs, None],
            "margins": torch.cat(margins, dim=1).t().float(),  # (lu + lc, pair)
            "classes": leaf.classes.weight[order],
            "classes_bias": leaf.classes.bias[order, None],
            "leafy": torch.tensor([leaf.leafy[i] for i in order], device=pairs.device),
            "bounds": leaf.bounds[order, None],
        }.items():
            self.register_buffer(name, value.contiguous(), persistent=False)

    def forward(
        self,
        fields: dict[str, Tensor],
        features: Tensor,
        lu: Tensor | None,
        lc: Tensor | None,
        climate: tuple[Tensor, Tensor, Tensor],
    ) -> None:
        """Write the fields of one window.

        Parameters
        ----------
        fields
            ``([class or step,] y, x)`` by name: what is wanted.
        features
            ``(y, x, channel)``.
        lu, lc
            ``(class, y, x)``, if given.
        climate
            Its state after `LeafHead.stepwise`, ``(step, hidden, coarse_y, coarse_x)``, and where
            pixels lie on the coarse grid, ``(y,)`` and ``(x,)``.
        """
        state, row, column = climate
        height, width = features.shape[:2]
        rows = max(1, STRIP.get(features.device.type, STRIP["cuda"]) // width)
        with_leaves = any(name in fields for name in LEAF_AREAS)
        if with_leaves:
            across = state @ hat(column, state.shape[-1]).t()  # (step, hidden, coarse_y, x)
            down = hat(row, state.shape[-2])  # (y, coarse_y)
            # one strip meets all cells; to ask a GPU which would be to wait for it
            cells = row.tolist() if rows < height else []
        for top in range(0, height, rows):
            strip = slice(top, min(top + rows, height))
            flat = features[strip].flatten(0, 1).float().t()  # (channel, pixel)
            given = (None if x is None else x[:, strip].flatten(1) for x in (lu, lc))
            found = self.fractions(flat, *given, wants_lu="lu_fraction" in fields)
            if with_leaves:
                near = between(cells[strip], state.shape[-2]) if cells else slice(None)
                leaves = self.leaf_area(flat, found, across[:, :, near], down[strip, near])
                found |= totals(leaves.split(self.groups, 1), found, fields)
            for name, field in fields.items():
                field[..., strip, :] = found[name].unflatten(-1, (-1, width))

    def fractions(
        self, features: Tensor, lu: Tensor | None, lc: Tensor | None, *, wants_lu: bool
    ) -> dict[str, Tensor]:
        """Fractions ``(class, pixel)`` and covers ``(pixel,)`` of features ``(channel, pixel)``."""
        if lu is None and lc is None:
            joint = torch.addmm(self.pairs_bias, self.pairs, features)  # (pair, pixel)
            joint = joint.sub_(joint.amax(0)).exp_()
            lu, lc = (closed(x[None])[0] for x in (self.margins @ joint).split(self.sizes))
        elif wants_lu or lc is None:  # else the given cover is all that is needed
            given = (None if x is None else x[None] for x in (lu, lc))
            lu, lc = (x[0] for x in self.land(features[None], *given))
        high, low, _ = lc[self.leafy].split(self.groups)
        found = {"lc_fraction": lc, "cvh": high.sum(0), "cvl": low.sum(0)}
        return found if lu is None else {**found, "lu_fraction": lu}

    def leaf_area(
        self, features: Tensor, fractions: dict[str, Tensor], across: Tensor, down: Tensor
    ) -> Tensor:
        """Leaf area of each leafy class, per pixel, ``(step, class, pixel)``; see `groups`.

        Parameters
        ----------
        features
            ``(channel, pixel)``.
        fractions
            Of `fractions`.
        across
            ``(step, hidden, coarse_y, x)``, the climate's part on the rows of cells near by.
        down
            ``(y, coarse_y)``, their weights.
        """
        steps, hidden = across.shape[:2]
        yearly = torch.addmm(self.yearly.bias[:, None], self.yearly.weight, features)
        yearly = yearly.view(hidden, len(down), -1)  # (hidden, y, x)
        x = torch.empty_like(yearly)
        leaves = yearly.new_empty(steps, len(self.leafy), features.shape[1])
        for step, out in zip(across, leaves, strict=True):
            torch.baddbmm(yearly, down.expand(hidden, -1, -1), step, out=x)
            torch.ops.aten.gelu_(x)  # torch.nn.functional has none in place
            torch.addmm(self.classes_bias, self.classes, x.flatten(1), out=out)
        return leaves.sigmoid_().mul_(fractions["lc_fraction"][self.leafy] * self.bounds)


def totals(
    leaves: Sequence[Tensor], fractions: dict[str, Tensor], names: Container[str]
) -> dict[str, Tensor]:
    """Leaf areas ``(step, pixel)`` that are wanted, of those of high, low and other vegetation."""
    high, low, other = (group.sum(1) for group in leaves)
    found = {}
    if "lai" in names:
        found["lai"] = high + low
        if leaves[2].numel():
            found["lai"] += other
    if "lai_hv" in names:
        found["lai_hv"] = mean(high, fractions["cvh"])
    if "lai_lv" in names:
        found["lai_lv"] = mean(low, fractions["cvl"])
    return found


def mean(total: Tensor, cover: Tensor) -> Tensor:
    """What is spread over a cover, per cover; 0 where there is none."""
    return torch.where(cover > 0, total / cover.clamp_min(torch.finfo(cover.dtype).tiny), 0)


def between(positions: list[float], size: int) -> slice:
    """Cells of an axis of so many that bear on linear interpolation at some positions."""
    first = min(max(math.floor(min(positions)), 0), size - 1)
    return slice(first, max(min(math.floor(max(positions)) + 2, size), first + 1))
