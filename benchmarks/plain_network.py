"""The network as one writes it first: what `xlsbc.models.fused` is held against.

    python benchmarks/plain_network.py

Everything in float32: batch normalisation after each convolution, the climate of each month
upsampled to pixels and put beside the features, one head over both for all pixels of a window,
leaves of every class at every step, all pairs of land use and land cover in the softmax, and the
rim cut off at the end. Run as a script it holds itself against `xlsbc.models.network`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from xlsbc.models.network import Inputs, Network
from xlsbc.models.temporal import upsample
from xlsbc.models.unet import UNet

Fields = tuple[Tensor, Tensor, Tensor]
AGREEMENT = 1e-4
"""Largest difference from `Network.forward`: two orders of summing in float32, up to a LAI of 8."""


def plain(network: Network) -> Callable[..., Fields]:
    """A function of inputs and a rim: land use, land cover and leaf area index of a batch.

    They are ``(batch, class or step, y, x)``, less the rim. The weights are the network's own;
    fractions are not given.
    """
    land, leaf = network.land, network.leaf
    monthly = torch.cat((leaf.yearly.weight, leaf.stepwise.weight), dim=1)
    monthly_bias = leaf.yearly.bias + leaf.stepwise.bias

    @torch.inference_mode()
    def forward(inputs: Inputs, rim: int = 0) -> Fields:
        climate = network.encoder(inputs.forcing, inputs.pooling)
        x = network.channels(inputs, climate).contiguous(memory_format=torch.channels_last)
        features = network.backbone(x)
        logits = layer(features, land.pairs.weight, land.pairs.bias)
        logits = logits.unflatten(1, land.impossible.shape)  # (batch, lu, lc, y, x)
        logits = logits.masked_fill(land.impossible[..., None, None], -torch.inf)
        joint = logits.flatten(1, 2).softmax(1).unflatten(1, land.impossible.shape)
        lu, lc = joint.sum(2), joint.sum(1)
        lai = []
        for state in climate.unbind(1):
            weather = upsample(state, inputs.row, inputs.column)  # (batch, climate, y, x)
            x = F.gelu(layer(torch.cat((features, weather), dim=1), monthly, monthly_bias))
            leaves = torch.sigmoid(layer(x, leaf.classes.weight, leaf.classes.bias))
            lai.append((lc[:, leaf.leafy] * leaves * leaf.bounds[:, None, None]).sum(1))
        inner = slice(rim, -rim or None)
        return lu[..., inner, inner], lc[..., inner, inner], torch.stack(lai, 1)[..., inner, inner]

    return forward


def layer(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.conv2d(x, weight[:, :, None, None], bias)


def example(side: int = 96, cells: int = 6) -> tuple[Network, Inputs]:
    """An untrained network of the default sizes and a window for it, random."""
    from xlsbc.cube.legends import LC, LU, compatible
    from xlsbc.emulator.spec import Architecture

    torch.manual_seed(0)
    sizes = Architecture()
    network = Network(
        static=12,
        forcing=15,
        compatible=torch.from_numpy(compatible(LU, LC)),
        bounds=torch.tensor([c.lai_max for c in LC.classes]),
        driver=True,
        given=("lu_fraction", "lc_fraction"),
        state=0,
        backbone=lambda channels, _: UNet(channels, sizes.width),
        climate=sizes.climate,
        history=12,
        hidden=sizes.hidden,
    ).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    place = torch.linspace(0.2, cells - 1.2, side)[None]
    window = Inputs(
        static=torch.randn(1, 12, side, side),
        forcing=torch.randn(1, 23, 15, cells, cells),
        pooling=torch.eye(23)[None],
        row=place,
        column=place,
        driver=torch.rand(1, len(LU.classes), cells, cells).softmax(1),
        driver_row=place,
        driver_column=place,
    )
    return network.eval(), window


def main() -> None:
    network, window = example()
    with torch.inference_mode():
        expected = network(window, rim=24)
    for name, found in zip(("lu", "lc", "lai"), plain(network)(window, rim=24), strict=True):
        difference = (found - getattr(expected, name)).abs().max().item()
        print(f"{name}: at most {difference:.2g} from the network")
        if not difference < AGREEMENT:
            raise SystemExit(f"{name}: the plain network is another function")


if __name__ == "__main__":
    main()
