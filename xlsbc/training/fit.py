"""Fit an emulator to a cube."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Literal, cast

import dask
import numpy as np
import pandas as pd
import torch
import xarray as xr
from torch import Tensor
from torch.optim.swa_utils import AveragedModel
from tqdm.auto import tqdm

from xlsbc.cube.grid import Grid
from xlsbc.cube.schema import conform
from xlsbc.cube.vocabulary import VOCABULARY
from xlsbc.emulator.artefact import Emulator, build
from xlsbc.emulator.spec import (
    TILE,
    Architecture,
    Given,
    InputVariable,
    Lattice,
    Spec,
    Split,
    Target,
    listed,
)
from xlsbc.errors import TrainingError
from xlsbc.models.network import Network
from xlsbc.training.batches import Batches
from xlsbc.training.losses import multitask_loss
from xlsbc.training.splits import TRAIN, split_map, suggest

__all__ = ["fit", "specify"]

TARGETS: tuple[Target, ...] = ("lu_fraction", "lc_fraction", "lai")
LOGARITHMIC = ("soil_hydraulic_conductivity",)
"""Inputs spread over orders of magnitude."""

WARM_UP = 0.03
"""Share of the steps over which the learning rate rises."""

BAR = "{l_bar}{bar}|{elapsed}"

PROBE = 20
"""Steps that are timed to see how many a budget allows."""


def fit(
    cube: xr.Dataset,
    *,
    architecture: Architecture | None = None,
    split: Split | Literal["blocks"] = "blocks",
    given: Sequence[tuple[str, ...]] | None = None,
    optional: Sequence[str] = (),
    position: bool | None = None,
    state: Sequence[str] = (),
    steps: int = 1000,
    epochs: float | None = None,
    minutes: float | None = None,
    learning_rate: float = 3e-3,
    batch_size: int = 8,
    crop: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Emulator:
    """Emulator of the targets that a cube holds, from the inputs that it holds; computes.

    Parameters
    ----------
    cube
        A cube that `conform` accepts. Targets may be missing anywhere; a cube without land use,
        without forcing or with one year trains what it has.
    architecture
        Sizes of the network.
    split
        Which blocks are held out; "blocks" is what `xlsbc.training.splits.suggest` says.
    given
        Combinations of fractions that may be given in prediction, e.g. ``[("lc_fraction",)]``
        for an emulator that always takes a land-cover map. By default none or any one that the
        cube holds, in turn.
    optional
        Static inputs that may be missing where a prediction is asked for. The network learns
        what their absence means; without this a pixel that misses any input stays missing.
    position
        Whether latitude and longitude are inputs. By default only in a cube without forcing,
        where they stand for climate.
    state
        Fractions of the year before that are inputs, e.g. ``("lu_fraction", "lc_fraction")``. In
        training they are those of the cube, in prediction the emulator's own, year after year.
    steps
        Optimiser steps.
    epochs
        Instead of `steps`: so many times as many crops as cover the grid in every year.
    minutes
        Instead of either: as many steps as a few timed ones suggest will fit.
    learning_rate
        Largest rate of AdamW; it rises over the first steps and falls as a cosine to 0.
    batch_size, crop
        Crops in a step and their side in pixels.
    seed
        Of weights, crops and pixels. Equal seeds on one machine give equal emulators, but not
        with `minutes`.
    progress
        Whether to show a progress bar.

    Raises
    ------
    CubeError
        If the cube is not a cube.
    TrainingError
        If there is nothing to learn, nothing to learn it from, no such split, or the loss stops
        being finite.

    References
    ----------
    Loshchilov and Hutter, 2019, ICLR (AdamW); Polyak and Juditsky, 1992, SIAM J. Control Optim.
    30(4) (averaged weights).
    """
    cube = conform(cube)
    if split == "blocks":
        split = suggest(cube, seed)
    elif not isinstance(split, Split):
        raise TrainingError(f'{split!r} is not a split; pass "blocks" or a Split')
    parts = split_map(cube, split)
    spec = specify(
        cube,
        parts == TRAIN,
        split=split,
        architecture=architecture or Architecture(),
        given=given,
        optional=tuple(optional),
        position=position,
        state=listed(state),
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = build(spec)
        network.mixed = fast_bfloat16()
        network = network.to("cuda" if torch.cuda.is_available() else "cpu")
        crop = crop_size(cube, network.stride, crop)
        batches = Batches(
            cube,
            spec,
            parts,
            crop=crop,
            size=batch_size,
            pixels=crop * crop // 8,
            margin=min(12, crop // 8),
            seed=seed,
        )
        bar = tqdm(total=1.0, desc="read", disable=not progress, bar_format=BAR)
        with bar:
            for share in batches.fill():
                bar.update(max(share - bar.n, 0.0))
        if epochs is not None:
            covering = parts.size * len({year for _, year in batches.places})
            steps = max(1, round(epochs * covering / (crop * crop * batch_size)))
        variance = leaf_variance(cube, parts) if "lai" in spec.targets else 1.0
        trained, history = optimise(
            network, batches, steps, minutes, learning_rate, variance, progress=progress
        )
    trained.mixed = False
    provenance = {
        "cube": str(cube.attrs.get("title", "unnamed")),
        "source": str(cube.attrs.get("source", "unknown")),
        "data license": str(cube.attrs.get("license", "unknown")),
        "pixels": int(parts.size),
        "years": f"{batches.places[0][1]} to {max(y for _, y in batches.places)}",
        "steps": history["steps"],
        "batch_size": batch_size,
        "crop": crop,
        "learning_rate": learning_rate,
        "seed": seed,
        "final_loss": round(history["loss"], 5),
        "torch": torch.__version__,
    }
    return Emulator(spec.model_copy(update={"provenance": provenance}), trained.to("cpu"))


def specify(
    cube: xr.Dataset,
    train: xr.DataArray,
    *,
    split: Split,
    architecture: Architecture,
    given: Sequence[tuple[str, ...]] | None = None,
    optional: tuple[str, ...] = (),
    position: bool | None = None,
    state: tuple[str, ...] = (),
) -> Spec:
    """What an emulator of a cube is, with the moments of its inputs over the training pixels.

    Inputs that do not vary in training tell nothing and are left out.

    Raises
    ------
    TrainingError
        With everything that stands against it.
    """
    targets = tuple(name for name in TARGETS if name in cube)
    forcing = named(cube, "forcing")
    statics = [name for name in named(cube, "static") if name in cube]
    if position is None:
        position = not forcing
    problems = []
    if not targets:
        problems.append(f"expected at least one target of {', '.join(TARGETS)}; found none")
    if unknown := sorted(set(optional) - set(statics)):
        problems.append(f"optional inputs {unknown} are not static inputs; found {statics}")
    combinations = tuple(tuple(names) for names in given) if given is not None else None
    if combinations is None:
        single = [(n,) for n in targets if n != "lai"] if len(targets) > 1 else []
        combinations = ((), *single)
    named_given = {name for names in combinations for name in names}
    if wrong := sorted(named_given - (set(targets) - {"lai"})):
        problems.append(f"{wrong} cannot be given: the cube holds {', '.join(targets)}")
    if unknown := sorted(set(state) - (set(targets) - {"lai"})):
        problems.append(f"state {unknown} is no land-use or land-cover target; found {targets}")
    if state and cube.sizes.get("year", 1) < 2:
        problems.append("state needs the year before; the cube has one year")
    if not statics and not forcing and not position and not named_given and not state:
        problems.append("found no input: no static field, no forcing, nothing given")
    if problems:
        raise TrainingError("the cube cannot train an emulator", problems)
    static = moments(cube[statics].where(train), optional)
    if position:
        static += moments(places(train))
    yearly = [n for n in named(cube, "scalar") if n in cube and cube[n].sizes.get("year", 1) > 1]
    grid = Grid.of(cube)
    tile = -(-TILE // architecture.stride) * architecture.stride
    steps = leaf_steps(cube)
    return Spec(
        static=static,
        forcing=moments(cube[forcing]),
        scalars=moments(cube[yearly]),
        driver="lu_total" in cube and "lu_fraction" in targets,
        targets=targets,
        given=cast(tuple[tuple[Given, ...], ...], combinations),  # checked above
        state=cast(tuple[Given, ...], state),  # checked above
        steps=steps,
        history=len(steps) if forcing else 1,
        architecture=architecture,
        lattice=Lattice(dlat=grid.dlat, dlon=grid.dlon, tile=tile),
        split=split,
    )


def named(cube: xr.Dataset, role: str) -> list[str]:
    """Variables of a conformed cube with a role, by vocabulary or by their own attribute."""
    return [
        str(name)
        for name, field in cube.data_vars.items()
        if (VOCABULARY[str(name)].role if name in VOCABULARY else field.attrs.get("xlsbc_role"))
        == role
    ]


def moments(source: xr.Dataset, optional: tuple[str, ...] = ()) -> tuple[InputVariable, ...]:
    """Inputs with mean and standard deviation over all known values; those that vary."""
    logs = {n: np.log(source[n].where(source[n] > 0)) for n in source if n in LOGARITHMIC}
    values = source.assign(logs).astype(np.float64)
    mean, std = dask.compute(values.mean(), values.std())
    return tuple(
        InputVariable(
            name=str(name),
            units=str(source[name].attrs.get("units", "1")),
            standard_name=source[name].attrs.get("standard_name"),
            transform="log" if name in LOGARITHMIC else "identity",
            mean=float(mean[name]),
            std=float(std[name]),
            optional=name in optional,
        )
        for name in source
        if math.isfinite(float(std[name]))
        and float(std[name]) > 1e-12 * (1 + abs(float(mean[name])))
    )


def places(train: xr.DataArray) -> xr.Dataset:
    """Latitude and longitude of the training pixels, as fields: a coordinate has no moments."""
    y, x = train.dims
    fields = {n: train[n].broadcast_like(train).where(train) for n in ("latitude", "longitude")}
    return xr.Dataset(
        {
            n: (("y", "x"), field.transpose(y, x).to_numpy(), train[n].attrs)
            for n, field in fields.items()
        }
    )


def leaf_steps(cube: xr.Dataset) -> tuple[tuple[int, int], ...]:
    """Month and day on which leaf-area steps start in every year; months without a target."""
    if "lai" not in cube:
        return tuple((month, 1) for month in range(1, 13))
    times = pd.DatetimeIndex(cube["time"].to_numpy())
    dates = set(zip(times.month.tolist(), times.day.tolist(), strict=True))
    return tuple(sorted(dates - {(2, 29)}))  # a day that most years do not have


def leaf_variance(cube: xr.Dataset, parts: xr.DataArray) -> float:
    """Variance of the leaf area index over training pixels and times, 1; computes.

    At least 1e-4, so that a field that is zero everywhere can be learned too.
    """
    return max(float(cube["lai"].where(parts == TRAIN).astype(np.float64).var()), 1e-4)


def crop_size(cube: xr.Dataset, stride: int, crop: int | None) -> int:
    """Side of a crop: as asked for, or 96 pixels or what a small grid has; whole strides."""
    wanted = crop or min(96, *(cube.sizes[d] for d in ("latitude", "longitude")))
    return max(wanted // stride, 1) * stride


def optimise(
    network: Network,
    batches: Batches,
    steps: int,
    minutes: float | None,
    learning_rate: float,
    lai_variance: float,
    *,
    progress: bool,
) -> tuple[Network, dict[str, float]]:
    """Averaged network after so many steps, and what the training came to.

    Raises
    ------
    TrainingError
        If the loss is not finite.
    """
    device = next(network.parameters()).device
    optimiser = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=1e-2)
    average = AveragedModel(network, avg_fn=moving_average, use_buffers=True)
    network.train()
    begin = time.perf_counter()
    smooth = math.nan
    bar = tqdm(total=steps, desc="fit", disable=not progress, unit="step")
    with bar:
        for step, batch in enumerate(batches):
            if minutes is not None and step == PROBE:
                steps = affordable(time.perf_counter() - begin, minutes)
                bar.total = steps
            if step >= steps:
                break
            rate(optimiser, learning_rate * schedule(step / steps))
            batch = batch.to(device)
            outputs = network.at(batch.inputs, batch.y, batch.x)
            losses = multitask_loss(
                outputs, batch.labels, given=batch.given, lai_variance=lai_variance
            )
            if not losses:
                continue
            loss = torch.stack(list(losses.values())).sum()
            if not torch.isfinite(loss):
                raise TrainingError(
                    f"the loss became {loss.item()} at step {step} "
                    f"({', '.join(f'{k} {v.item():.4g}' for k, v in losses.items())}); "
                    "lower learning_rate, or look for extreme values in the inputs"
                )
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            average.update_parameters(network)
            smooth = loss.item() if math.isnan(smooth) else 0.95 * smooth + 0.05 * loss.item()
            bar.set_postfix({k: f"{v.item():.3f}" for k, v in losses.items()}, refresh=False)
            bar.update()
    return cast(Network, average.module.eval()), {"steps": steps, "loss": smooth}


def moving_average(average: Tensor, new: Tensor, count: Tensor | int) -> Tensor:
    """Mean that forgets: of the last fifty steps or so, of fewer at the start."""
    if not average.is_floating_point():
        return new
    keep = min(0.98, (1 + int(count)) / (10 + int(count)))
    return average + (1 - keep) * (new - average)


def affordable(seconds: float, minutes: float) -> int:
    """Steps that fit in a budget, from the time that `PROBE` of them took."""
    return max(PROBE + 1, int(PROBE * 60 * minutes / seconds))


def schedule(done: float) -> float:
    """Learning rate as share of its largest: a linear rise, then a cosine to 0."""
    if done < WARM_UP:
        return (done + 1e-3) / (WARM_UP + 1e-3)
    return 0.5 * (1 + math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP)))


def rate(optimiser: torch.optim.Optimizer, value: float) -> None:
    """Set the learning rate."""
    for group in optimiser.param_groups:
        group["lr"] = value


def fast_bfloat16() -> bool:
    """Whether this machine multiplies bfloat16 faster than float32: GPUs, and CPUs that can."""
    return torch.cuda.is_available() or torch.ops.mkldnn._is_mkldnn_bf16_supported()
