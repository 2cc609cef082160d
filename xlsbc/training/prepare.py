"""What a training needs before its first step: the parts of the cube, the specification, scales."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import xarray as xr
from torch import Tensor
from tqdm.auto import tqdm

from xlsbc.cube.grid import Grid
from xlsbc.cube.schema import conform
from xlsbc.emulator.artefact import Emulator, build, load
from xlsbc.emulator.pretrained import Pretrained, locate, pretrained
from xlsbc.emulator.spec import Architecture, Base, Spec, Split
from xlsbc.errors import TrainingError
from xlsbc.models.network import Network
from xlsbc.training.batches import Batches
from xlsbc.training.config import Training
from xlsbc.training.losses import Scales
from xlsbc.training.outline import outline
from xlsbc.training.splits import TRAIN, VALIDATION, Parts, check_buffer, resolved, suggest
from xlsbc.training.survey import Survey, surveyed

__all__ = ["Prepared", "batches", "crop_size", "prepare"]

VALIDATING = 0.1
"""Share of the area to validate on, where a training validates and its split is suggested."""

ASIDE = 4
"""Of how many parts of the memory one is for validation."""

FREE = frozenset(
    "cube out split weights checkpointing checkpoint_every threads logger members".split()
)
"""Settings that a training may go on with another value of; the split, and which weights it began
with, are in the specification."""

RANDOM = "random"
"""In place of weights: an encoder that was never trained."""

BUFFER = 24
"""Pixels, a buffer for backbones that see the whole window: the halo of the default U-Net, so that
all are scored on the same pixels. One as wide as a window would leave nothing to train on."""

BAR = "{l_bar}{bar}|{elapsed}"


@dataclass(frozen=True)
class Prepared:
    """A training that can begin.

    Parameters
    ----------
    cube
        Conformed.
    config
        Settings.
    spec
        What the emulator will be.
    parts
        What is held out.
    survey
        Of the cube.
    crop
        Side of a crop, pixels.
    pretrained
        Weights of the encoder to begin with, if there are any.
    """

    cube: xr.Dataset
    config: Training
    spec: Spec
    parts: Parts
    survey: Survey
    crop: int
    pretrained: Pretrained | None = None

    def batches(self, part: int = TRAIN, rank: int = 0, world: int = 1) -> Batches:
        """Batches of a part of the cube, for one process of some."""
        config = self.config
        memory, threads = config.memory, config.threads
        if config.validate_every is not None:
            memory = memory // ASIDE if part == VALIDATION else memory - memory // ASIDE
        if part == VALIDATION:
            threads = 1  # each holds a window that it reads
        return Batches(
            self.cube,
            self.spec,
            self.parts,
            self.survey,
            crop=self.crop,
            size=config.batch_size,
            pixels=max(self.crop**2 // 8, 1),
            margin=min(12, self.crop // 8),
            memory=memory // config.devices,
            threads=threads,
            seed=config.seed,
            rank=rank,
            world=world,
            part=part,
            lead=config.rollout - 1,
        )

    @cached_property
    def steps(self) -> int:
        """Steps to take, in all."""
        if self.config.epochs is None:
            return self.config.steps
        batches = self.batches(world=self.config.devices)
        return max(1, round(self.config.epochs * batches.per_epoch))

    @property
    def scales(self) -> Scales:
        """By which losses are measured."""
        found = self.survey
        return Scales(
            lai_variance=found.lai_variance,
            lai_change=found.lai_change,
            lu_share=found.lu_share,
            lc_share=found.lc_share,
        )

    @property
    def mixed(self) -> bool:
        """Whether the backbone runs in mixed precision."""
        if self.config.precision == "auto":
            return fast_bfloat16()
        return self.config.precision == "bf16"

    @property
    def identity(self) -> dict[str, Any]:
        """What a training that goes on from a checkpoint must have in common with the one before.

        The moments of the inputs, which are in the specification, stand for their values.
        """
        settings = self.config.model_dump(mode="json", exclude=set(FREE))
        grid = Grid.of(self.cube)
        return {
            **settings,
            "learning_rate": self.config.rate,
            **{f"cube.{name}": value for name, value in self.facts.items()},
            "cube.grid": [grid.north, grid.west, grid.dlat, grid.dlon, *grid.shape],
            "cube.labels": self.survey.present,
            "cube.targets": [self.survey.lai_variance, self.survey.lai_change],
            "cube.shares": [
                None if share is None else share.tolist()
                for share in (self.survey.lu_share, self.survey.lc_share)
            ],
            "steps in all": None if self.config.minutes else self.steps,
            **{f"emulator.{k}": v for k, v in self.spec.model_dump(mode="json").items()},
        }

    @property
    def facts(self) -> dict[str, Any]:
        """What it is trained on."""
        attrs, years = self.cube.attrs, self.survey.years
        return {
            "cube": str(attrs.get("title", "unnamed")),
            "source": str(attrs.get("source", "unknown")),
            "data license": str(attrs.get("license", "unknown")),
            "pixels": self.cube.sizes["latitude"] * self.cube.sizes["longitude"],
            "years": f"{min(years)} to {max(years)}",
        }

    def network(self) -> Network:
        """The network as training begins, from torch's random state and the pretrained weights."""
        network = build(self.spec)
        if self.pretrained is not None:
            network.backbone.encoder.load_state_dict(
                {**network.backbone.encoder.state_dict(), **self.pretrained.state}
            )
        if self.config.architecture.kind.patches:
            network.backbone.encoder.checkpointing = self.config.checkpointing
        return network

    def emulator(
        self,
        state: Mapping[str, Tensor],
        steps: int,
        loss: float,
        validation: float | None = None,
    ) -> Emulator:
        """Emulator of the averaged weights.

        Parameters
        ----------
        state
            Of a `Fitting`.
        steps
            That it took.
        loss
            That training came to.
        validation
            Loss in validation, if this is the best.
        """
        prefix = "average.module."
        own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        with torch.random.fork_rng():
            network = self.network()
        load(
            network, {**network.state_dict(), **{name: value.cpu() for name, value in own.items()}}
        )
        provenance = {
            **self.facts,
            "steps": steps,
            "batch_size": self.config.batch_size,
            "crop": self.crop,
            "learning_rate": self.config.rate,
            "seed": self.config.seed,
            "final_loss": round(loss, 5),
            "torch": torch.__version__,
        }
        if validation is not None:
            provenance["validation_loss"] = round(validation, 5)
        if self.config.weights == RANDOM:
            provenance["weights"] = "none: the encoder was initialised at random"
        spec = self.spec.model_copy(update={"provenance": provenance})
        base = locate(spec.base.file, spec.base.sha256) if spec.base and spec.partial else None
        return Emulator(spec, network, base)


def prepare(cube: xr.Dataset, config: Training, *, progress: bool = False) -> Prepared:
    """A training that can begin; reads the cube once.

    Raises
    ------
    CubeError
        If the cube is not a cube.
    EmulatorError
        If the pretrained weights are not those of the backbone.
    TrainingError
        If there is nothing to learn, nothing to learn it from, or no such split.
    """
    cube = conform(cube)
    sizes = config.architecture
    begun = None
    if config.weights not in ("", RANDOM):
        begun = pretrained(sizes.backbone, sizes.variant, config.weights)
    crop = crop_size(cube, sizes, config.crop)
    spec = outline(
        cube,
        split=Split(),  # which one follows from the halo of what is outlined
        architecture=sizes,
        window=crop if sizes.kind.patches else None,
        given=config.given,
        optional=config.optional,
        position=config.position,
        state=config.state,
    )
    if begun is not None:
        spec = spec.model_copy(update={"base": Base(file=begun.file, sha256=begun.sha256)})
    split = config.split
    with torch.device("meta"):
        halo = build(spec).backbone.halo or BUFFER
    if split == "blocks":
        validation = VALIDATING if config.validate_every is not None else 0.0
        split = suggest(cube, config.seed, validation=validation, halo=halo)
    elif (narrow := check_buffer(split, halo)) is not None:
        warnings.warn(narrow, stacklevel=3)
    split = resolved(split, cube)
    spec = spec.model_copy(update={"split": split})
    parts = Parts.of(cube, split)
    with tqdm(total=1.0, desc="read", disable=not progress, bar_format=BAR) as bar:
        spec, survey = surveyed(
            cube,
            spec,
            parts,
            crop,
            progress=lambda share: bar.update(max(share - bar.n, 0.0)),
        )
    return Prepared(cube, config, spec, parts, survey, crop, begun)


def batches(cube: xr.Dataset, *, rank: int = 0, world: int = 1, **settings: Any) -> Batches:
    """Batches of a cube for a training loop of one's own; reads the cube once.

    Parameters
    ----------
    cube
        A cube that `conform` accepts, in memory or lazy.
    rank, world
        Which of how many processes that train together.
    settings
        Of a `Training`, by name, e.g. ``crop=128, batch_size=32, memory="4GiB", seed=1``.

    Returns
    -------
    Batches
        An endless iterable of `Batch`; ``.spec`` says what the channels are and how they are
        scaled, ``.survey`` what was found in the cube, ``.batches(n)`` goes on from batch n.

    Raises
    ------
    CubeError
        If the cube is not a cube.
    TrainingError
        With every setting that is not valid; if there is nothing to learn, or nothing to learn it
        from.
    """
    config = Training.of(settings)
    if not 0 <= rank < world:
        raise TrainingError(f"rank must be one of 0 to {world - 1}, world less one; found {rank}")
    return prepare(cube, config).batches(rank=rank, world=world)


def crop_size(cube: xr.Dataset, sizes: Architecture, crop: int | None) -> int:
    """Side of a crop: as asked for, or 96 pixels or what a small grid has; whole strides.

    Of patches it may reach beyond the grid by less than one.

    Raises
    ------
    TrainingError
        If the crop that is asked for is not whole patches, or larger than the grid.
    """
    sides, stride = [cube.sizes[d] for d in ("latitude", "longitude")], sizes.stride
    if sizes.kind.patches:
        usual = -(-min(96, max(sides)) // stride) * stride
    else:
        usual = max(min(96, *sides) // stride, 1) * stride
    if crop is None:
        return usual
    problems = []
    if sizes.kind.patches and crop % stride:
        problems.append(
            f"it should be whole patches of {sizes.backbone} {sizes.variant}, {stride} pixels"
        )
    if crop >= max(sides) + stride:
        problems.append(f"it should be no larger than the grid of {sides[0]} x {sides[1]} pixels")
    if problems:
        raise TrainingError(f"a crop of {crop} pixels cannot be", problems)
    return max(crop // stride, 1) * stride


def fast_bfloat16() -> bool:
    """Whether this machine multiplies bfloat16 faster than float32: GPUs, and CPUs that can."""
    return torch.cuda.is_available() or torch.ops.mkldnn._is_mkldnn_bf16_supported()
