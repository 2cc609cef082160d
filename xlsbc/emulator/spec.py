"""What an emulator is, as data: everything but its weights, one JSON document.

A document is read strictly (unknown or missing fields are errors) and holds no code, no path and
no expression: opening an emulator from anyone runs nothing of theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

__all__ = ["Architecture", "Given", "InputVariable", "Lattice", "Spec", "Split", "Target"]

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


class Architecture(Document):
    """Sizes of the network, see `xlsbc.models.network.Network`."""

    backbone: Literal["unet"] = "unet"
    width: Annotated[
        tuple[Annotated[int, Field(ge=1, le=4096)], ...], Field(min_length=1, max_length=6)
    ] = (32, 64, 128)
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    climate: Annotated[int, Field(ge=1, le=4096)] = 16
    hidden: Annotated[int, Field(ge=1, le=4096)] = 48

    @property
    def stride(self) -> int:
        """Pixels of which windows must measure multiples, see `xlsbc.models.unet.UNet`."""
        return 2 ** (len(self.width) - 1)


class Lattice(Document):
    """Where windows lie: tiles of so many pixels from 90 N, 180 W on the target grid."""

    dlat: Annotated[float, Field(gt=0, le=10)]
    dlon: Annotated[float, Field(gt=0, le=10)]
    tile: Annotated[int, Field(ge=1, le=16384)] = TILE


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
        if self.lattice.tile % self.architecture.stride:
            raise ValueError(
                f"a tile of {self.lattice.tile} pixels is no multiple of the backbone's stride, "
                f"{self.architecture.stride}"
            )
        return self

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
