"""What an emulator costs: parameters, and arithmetic counted on a network without memory."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from xlsbc.emulator.spec import Spec
from xlsbc.emulator.steps import HARMONICS
from xlsbc.models.network import Inputs, Network

__all__ = ["Cost", "cost"]


@dataclass(frozen=True)
class Cost:
    """Of an emulator.

    Parameters
    ----------
    parameters, trained
        In all, and those that training changes.
    yearly, stepwise
        Floating-point operations a pixel: once a year, and of each leaf-area step. A multiplication
        and an addition are two. What is computed more than once, in halos and where windows
        overlap, counts as often.
    """

    parameters: int
    trained: int
    yearly: float
    stepwise: float


def cost(spec: Spec, network: Network) -> Cost:
    """What a network costs; computes nothing.

    Parameters
    ----------
    spec
        Of its emulator.
    network
        As `xlsbc.emulator.artefact.build` makes it, with or without memory.
    """
    empty = emptied(network)
    inputs = window(spec, empty, spec.lattice.tile + 2 * network.halo)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        climate = empty.encoder(inputs.forcing, inputs.pooling)
        x = empty.channels(inputs, climate)
        if network.window is None:
            empty.backbone(x)
    count = counter.get_total_flops()
    if network.window is not None:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            empty.backbone(x[..., : network.window, : network.window])
        count += counter.get_total_flops() * (spec.lattice.tile // network.stride + 1) ** 2
    land, leaf = empty.land, empty.leaf
    once = 2 * (land.pairs.weight.numel() + leaf.yearly.weight.numel())
    # classes of every step, and what is interpolated between four coarse cells
    stepwise = 2 * leaf.classes.weight.numel() + 8 * leaf.yearly.out_features
    return Cost(
        sum(p.numel() for p in network.parameters()),
        sum(p.numel() for p in network.parameters() if p.requires_grad),
        count / spec.lattice.tile**2 + once,
        stepwise,
    )


def emptied(network: Network) -> Network:
    """A copy without memory, for which none is taken either."""
    known: dict[int, Any] = {id(b): b.to("meta") for b in network.buffers()}
    for p in network.parameters():
        known[id(p)] = nn.Parameter(p.detach().to("meta"), p.requires_grad)
    return copy.deepcopy(network, known).eval()


def window(spec: Spec, network: Network, side: int) -> Inputs:
    """Inputs of a square window on the meta device, on a forcing grid of 3 by 3 cells."""
    steps = len(spec.steps)

    def empty(*shape: int) -> torch.Tensor:
        return torch.empty(1, *shape, device="meta")

    weather = spec.history - 1 + steps
    channels = len(spec.forcing) + 2 * HARMONICS + len(spec.scalars)
    classes = {"lu_fraction": network.n_lu, "lc_fraction": network.n_lc}
    return Inputs(
        static=empty(len(spec.static) + len(spec.optional) + 1, side, side),
        forcing=empty(weather, channels, 3, 3),
        pooling=empty(weather, weather),
        row=empty(side),
        column=empty(side),
        driver=empty(network.n_lu, 3, 3) if spec.driver else None,
        driver_row=empty(side) if spec.driver else None,
        driver_column=empty(side) if spec.driver else None,
        state=empty(sum(classes[n] for n in spec.state), side, side) if spec.state else None,
    )
