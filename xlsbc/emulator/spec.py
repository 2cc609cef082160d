"""What an emulator is, as data: everything but its weights, one JSON document.

A document is read strictly (unknown or missing fields are errors) and holds no code, no path and
no expression: opening an emulator from anyone runs nothing of theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from xlsbc.models.backbones import BACKBONES, DECODER, Kind, levels
from xlsbc.models.blending import step

__all__ = [
    "Adaptation",
    "Architecture",
    "Base",
    "Given",
    "InputVariable",
    "Lattice",
    "Spec",
    "Split",
    "Target",
]

FORMAT_VERSION: Final = 1

TILE = 240
"""Side of a tile, pixels: two degrees at 1 km; windows of larger ones outgrow a CPU's caches."""

Given = Literal["lu_fraction", "lc_fraction"]
Target = Literal["lu_fraction", "lc_fraction", "lai"]
Name = Annotated[str, Field(min_length=1, max_length=128)]
Steps = tuple[tuple[Annotated[int, Field(ge=1, le=12)], Annotated[int, Field(ge=1, le=31)]], ...]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Longitude = Annotated[float, Field(ge=-360, le=360, allow_inf_nan=False)]
Latitude = Annotated[float, Field(ge=-90, le=90, allow_inf_nan=False)]
Region = tuple[Longitude, Latitude, Longitude, Latitude]
First = Annotated[int, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


def listed(names: Sequence[str]) -> tuple[str, ...]:
    """Names as a tuple; one name alone is a list of one."""
    return (names,) if isinstance(names, str) else tuple(names)


def tuples(value: Any) -> Any:
    """A document of YAML or JSON with tuples for its lists, as settings have them."""
    if isinstance(value, Mapping):
        return {key: tuples(inner) for key, inner in value.items()}
    return tuple(map(tuples, value)) if isinstance(value, list) else value


class Document(BaseModel):
    """A frozen part of the specification."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class InputVariable(Document):
    """One input and how it is scaled: ``(transform(x) - mean) / std``.

    Parameters
    ----------
    name
        Canonical name in the cube.
    units, standard_name
        What the values must be.
    transform
        "log" for quantities spread over orders of magnitude.
    mean, std
        Moments over the training pixels, after the transform.
    optional
        Whether it may be missing at a pixel: the network was shown where it was missing in
        training. A pixel that misses any other input is predicted as missing.
    """

    name: Name
    units: Name
    standard_name: str | None = None
    transform: Literal["identity", "log"] = "identity"
    mean: Finite = 0.0
    std: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    optional: bool = False


class Adaptation(Document):
    """How a pretrained encoder learns the new task, see `xlsbc.models.adapters.adapt`.

    Parameters
    ----------
    method
        "scratch" knows no pretrained weights; "full" trains all of them, "lora" low-rank changes
        of them, "adapter" small layers between them, and "frozen" none. Inputs, decoder and heads
        are new and always train.
    rank, alpha, targets
        Of "lora": rank of the changes, their scale times the rank, and which layers change.
    bottleneck
        Of "adapter": channels inside.
    """

    method: Literal["scratch", "full", "lora", "adapter", "frozen"] = "scratch"
    rank: Annotated[int, Field(ge=1, le=4096)] = 8
    alpha: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 16.0
    targets: Annotated[tuple[Name, ...], Field(min_length=1, max_length=8)] = ("qkv", "proj")
    bottleneck: Annotated[int, Field(ge=1, le=4096)] = 64

    @field_validator("targets", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        return listed(value) if isinstance(value, str) else value


class Architecture(Document):
    """Kind and sizes of the network, see `xlsbc.models.network.Network`.

    Parameters
    ----------
    backbone
        "unet" and "vit" are trained from scratch, "prithvi" and "terramind" are the encoders of
        Earth foundation models.
    variant
        Of the backbone, see `xlsbc.models.backbones.BACKBONES`; by default its usual one.
    adaptation
        How it is trained; the name of the method alone stands for its defaults.
    width
        Channels at each resolution, finest first: of the U-Net, or of the decoder behind an
        encoder of patches.
    patch
        Side of a "vit" patch, pixels; other encoders have one of their own.
    frames
        Seasons that "prithvi" sees one by one; 1 shows it the year's mean climate.
    dropout
        Share of feature maps dropped in training.
    climate, hidden
        Channels of the climate state and inside the leaf head.
    coupled
        Whether the heads hold what they make to what is given; False makes a part of a chain of
        separate models, to compare with.
    """

    backbone: Literal["unet", "vit", "prithvi", "terramind"] = "unet"
    variant: Annotated[str, Field(max_length=64)] = ""
    adaptation: Adaptation = Adaptation()
    width: Annotated[
        tuple[Annotated[int, Field(ge=1, le=4096)], ...], Field(min_length=1, max_length=6)
    ] = (32, 64, 128)
    patch: Literal[4, 8, 16] = 16
    frames: Annotated[int, Field(ge=1, le=12)] = 1
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    climate: Annotated[int, Field(ge=1, le=4096)] = 16
    hidden: Annotated[int, Field(ge=1, le=4096)] = 48
    coupled: bool = True

    @model_validator(mode="before")
    @classmethod
    def _usual(cls, data: Any) -> Any:
        """Spell out what follows from the backbone, so that a stored document says it."""
        if not isinstance(data, Mapping):
            return data
        data = tuples(data)
        if isinstance(data.get("adaptation"), str):
            data["adaptation"] = {"method": data["adaptation"]}
        kind = BACKBONES.get(str(data.get("backbone", "unet")))
        if kind is None:
            return data
        if not data.get("variant"):
            data["variant"] = kind.usual
        if "width" not in data and kind.patches and data.get("patch", 16) in (4, 8, 16):
            patch = kind.patch(str(data["variant"]), data.get("patch", 16))
            data["width"] = DECODER[: levels(patch)]
        return data

    @model_validator(mode="after")
    def _together(self) -> Architecture:
        kind, problems = BACKBONES[self.backbone], []
        if self.variant not in kind.variants:
            known = ", ".join(kind.variants) or "none"
            problems.append(f"{self.backbone} has no variant {self.variant!r}; known: {known}")
        elif kind.patches and len(self.width) != (count := levels(self.stride)):
            problems.append(
                f"a decoder of patches of {self.stride} pixels has {count} widths; found "
                f"{len(self.width)}"
            )
        if self.adaptation.method != "scratch" and not kind.pretrained:
            problems.append(
                f"{self.backbone} has no pretrained weights: its adaptation must be 'scratch'; "
                f"found {self.adaptation.method!r}"
            )
        if self.patch != Architecture.model_fields["patch"].default and 0 not in kind.sides:
            problems.append(f"only vit's patches can be chosen; found patch {self.patch}")
        if self.frames > 1 and self.backbone != "prithvi":
            problems.append(f"only prithvi sees seasons as frames; found frames {self.frames}")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def kind(self) -> Kind:
        """What its backbone is."""
        return BACKBONES[self.backbone]

    @property
    def stride(self) -> int:
        """Pixels of which windows must measure multiples."""
        if self.kind.patches:
            return self.kind.patch(self.variant, self.patch)
        return 2 ** (len(self.width) - 1)

    @property
    def located(self) -> bool:
        """Whether the backbone is told where and when its window is."""
        return self.variant in self.kind.located


class Lattice(Document):
    """Where windows lie: tiles of so many pixels from 90 N, 180 W on the target grid.

    Parameters
    ----------
    dlat, dlon
        Of the target grid, degrees.
    tile
        Side of a tile, pixels.
    window
        Side of the windows, pixels, that a backbone without a halo sees in training and in
        prediction, where they overlap and are blended, see `xlsbc.models.blending`.
    """

    dlat: Annotated[float, Field(gt=0, le=10)]
    dlon: Annotated[float, Field(gt=0, le=10)]
    tile: Annotated[int, Field(ge=1, le=16384)] = TILE
    window: Annotated[int, Field(ge=1, le=16384)] | None = None


class Base(Document):
    """The pretrained weights that an emulator began with.

    Parameters
    ----------
    file
        Name of their file.
    sha256
        Digest of it.
    """

    file: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=128)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Split(Document):
    """What is held out of training: spatial blocks, regions, years, or pixels and years at once.

    Parameters
    ----------
    size
        Side of a block, pixels.
    buffer
        Pixels around what is held out, for scores or validation, that serve neither.
    fraction
        Share of the area held out as blocks.
    seed
        Of the draw.
    validation
        Share of the area held out as further blocks, for early stopping.
    years
        Held out, ascending. With blocks or regions as well, these years are scored at the held-out
        pixels alone, and neither those pixels nor those years train.
    regions
        Held-out boxes ``(west, south, east, north)``, degrees; one whose west is east of its east
        crosses the date line.
    extent
        First row and column of blocks and number of either, on the global lattice, among which
        was drawn; by default those that the cube covers.
    """

    size: Annotated[int, Field(ge=1)] = 96
    buffer: Annotated[int, Field(ge=0)] = 12
    fraction: Annotated[float, Field(ge=0, lt=1)] = 0.2
    seed: Annotated[int, Field(ge=0)] = 0
    validation: Annotated[float, Field(ge=0, lt=1)] = 0.0
    years: Annotated[tuple[int, ...], Field(max_length=1024)] = ()
    regions: Annotated[tuple[Region, ...], Field(max_length=256)] = ()
    extent: tuple[First, First, Count, Count] | None = None

    @field_validator("years")
    @classmethod
    def _ascend(cls, years: tuple[int, ...]) -> tuple[int, ...]:
        if list(years) != sorted(set(years)):
            raise ValueError(f"years must ascend; found {', '.join(map(str, years))}")
        return years

    @field_validator("regions")
    @classmethod
    def _have_an_area(cls, regions: tuple[Region, ...]) -> tuple[Region, ...]:
        empty = [r for r in regions if r[0] == r[2] or r[1] >= r[3]]
        if empty:
            found = ", ".join(map(str, empty))
            raise ValueError(
                f"regions must be (west, south, east, north) with south < north and some width; "
                f"found {found}"
            )
        return regions

    @model_validator(mode="after")
    def _leave_some(self) -> Split:
        if self.fraction + self.validation >= 1:
            raise ValueError(
                f"fraction and validation must be less than 1 together; found {self.fraction:g} "
                f"and {self.validation:g}"
            )
        return self


class Spec(Document):
    """An emulator without its weights.

    Parameters
    ----------
    format_version
        Of this document.
    static, forcing, scalars
        Inputs on the target grid, on the forcing grid, and one number a year.
    driver
        Whether coarse land-use totals (``lu_total``) are an input.
    targets
        What it learned and predicts.
    given
        Combinations of fractions that may be given to it; it learned with each.
    state
        Fractions of the year before that are inputs: it goes on from what it predicted.
    steps
        Month and day on which each leaf-area step of a year starts.
    history
        Leaf-area steps of climate that bear on one, itself included.
    lu_legend, lc_legend
        Legends of its classes.
    architecture, lattice, split
        See there.
    base
        Pretrained weights that it began with, if any.
    weights_sha256
        Digest of the weights file.
    provenance, scores
        What it was trained on and how well it did; free text and numbers for people.
    license
        SPDX identifier.
    """

    format_version: Literal[1] = FORMAT_VERSION
    static: Annotated[tuple[InputVariable, ...], Field(max_length=256)] = ()
    forcing: Annotated[tuple[InputVariable, ...], Field(max_length=256)] = ()
    scalars: Annotated[tuple[InputVariable, ...], Field(max_length=16)] = ()
    driver: bool = False
    targets: tuple[Target, ...]
    given: tuple[tuple[Given, ...], ...] = ((),)
    state: Annotated[tuple[Given, ...], Field(max_length=2)] = ()
    steps: Annotated[Steps, Field(min_length=1, max_length=366)]
    history: Annotated[int, Field(ge=1, le=366)] = 12
    lu_legend: Name = "luh2"
    lc_legend: Name = "cci_pft"
    architecture: Architecture = Architecture()
    lattice: Lattice
    split: Split | None = None
    base: Base | None = None
    weights_sha256: str = ""
    provenance: dict[str, Any] = {}
    scores: dict[str, float | None] = {}
    license: str = "Apache-2.0"

    @field_validator("steps")
    @classmethod
    def _dates_of_every_year(cls, steps: Steps) -> Steps:
        for month, day in steps:
            date(2001, month, day)  # a year without 29 February; says what is wrong
        if list(steps) != sorted(set(steps)):
            raise ValueError("steps must ascend")
        return steps

    @model_validator(mode="after")
    def _whole_strides(self) -> Spec:
        sizes, window, problems = self.architecture, self.lattice.window, []
        stride = sizes.stride if window is None else step(window)
        if self.lattice.tile % stride:
            problems.append(
                f"a tile of {self.lattice.tile} pixels is no multiple of the backbone's stride, "
                f"{stride}"
            )
        if sizes.kind.patches and window is None:
            problems.append(f"{sizes.backbone} has no halo and needs lattice.window; found none")
        if not sizes.kind.patches and window is not None:
            problems.append(f"{sizes.backbone} has a halo and no windows; found {window}")
        if window is not None and window % sizes.stride:
            problems.append(
                f"windows of {window} pixels are no multiple of the patches of {sizes.backbone} "
                f"{sizes.variant}, {sizes.stride} pixels"
            )
        if len(self.steps) % sizes.frames:
            problems.append(f"{sizes.frames} frames do not divide {len(self.steps)} steps a year")
        if sizes.frames > 1 and not self.forcing:
            problems.append("frames show the climate of seasons, and there is no forcing")
        if self.base is not None and sizes.adaptation.method == "scratch":
            problems.append("an emulator from scratch has no base")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def partial(self) -> bool:
        """Whether the weights are those that were added to a base, which stays as it was."""
        return self.base is not None and self.architecture.adaptation.method != "full"

    @property
    def inputs(self) -> tuple[InputVariable, ...]:
        """Every input variable."""
        return (*self.static, *self.forcing, *self.scalars)

    @property
    def optional(self) -> tuple[InputVariable, ...]:
        """Static inputs that may be missing; each has a channel that says where it is."""
        return tuple(variable for variable in self.static if variable.optional)

    @property
    def may_be_given(self) -> tuple[str, ...]:
        """Every fraction that some combination gives."""
        return tuple(sorted({name for names in self.given for name in names}))
