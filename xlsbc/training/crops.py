"""Crops: samples of a piece of the cube, and batches of them.

A crop is cut around a pixel that can train, drawn at random from all that can; a rim of it, whose
context is cut off, is seen but not trained on. Half of the crops are mirrored.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xlsbc.emulator.sample import Sample
from xlsbc.models.network import Inputs
from xlsbc.training.losses import Labels
from xlsbc.training.reader import Known, Place

__all__ = ["Batch", "Crop", "Piece", "collate", "crop_of"]

TRIES = 64
"""Pixels at which one that can train is looked for before all are listed."""

FIELDS = tuple(field.name for field in dataclasses.fields(Inputs))

ALONG_X = ("static", "column", "driver_column", "lu", "lc", "state", "longitude")
"""Inputs whose last axis runs from west to east over pixels."""

Arrays = dict[str, np.ndarray | None]


@dataclass(frozen=True)
class Batch:
    """Crops, the pixels at which they are labelled, and the labels there.

    Parameters
    ----------
    inputs
        Of the network.
    y, x
        ``(batch, pixel)``, pixels within a crop.
    labels
        At those pixels.
    given
        Fractions given in `inputs`.
    area
        ``(batch, pixel)``, area of a pixel over the grid's mean, 1.
    lead
        Inputs of the years before on the same crops, oldest first, for training over years.
    step
        Number of the batch.
    places
        Where each crop is, for people.
    """

    inputs: Inputs
    y: Tensor
    x: Tensor
    labels: Labels
    given: tuple[str, ...]
    area: Tensor
    lead: tuple[Inputs, ...] = ()
    step: int = 0
    places: tuple[str, ...] = ()

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on `device`; copies from pinned memory do not wait."""
        return self._with(lambda t: t.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """The same batch in memory that a GPU copies from by itself."""
        return self._with(Tensor.pin_memory)

    def _with(self, change: Any) -> Batch:
        def changed(part: Any) -> Any:
            held = {f.name: getattr(part, f.name) for f in dataclasses.fields(part)}
            return type(part)(**{k: v if v is None else change(v) for k, v in held.items()})

        return dataclasses.replace(
            self,
            inputs=changed(self.inputs),
            labels=changed(self.labels),
            lead=tuple(map(changed, self.lead)),
            **{name: change(getattr(self, name)) for name in ("y", "x", "area")},
        )


@dataclass(frozen=True, eq=False)
class Piece:
    """A super-window in memory, with all that its crops need.

    Parameters
    ----------
    place
        Where it is.
    known
        Inputs and targets by year.
    usable
        By year ``(kind, y, x)``: pixels that can train, by combination of what is given.
    hidden
        ``(y, x)``: pixels whose targets must not be seen in training, not even as what is given.
    area
        ``(y,)``, of a pixel over the grid's mean, 1.
    latitude, longitude
        ``(y,)``, ``(x,)``, degrees.
    """

    place: Place
    known: tuple[Known, ...]
    usable: tuple[np.ndarray, ...]
    hidden: np.ndarray
    area: np.ndarray
    latitude: np.ndarray
    longitude: np.ndarray

    @property
    def nbytes(self) -> int:
        """Memory that it takes, bytes."""
        return sum(k.nbytes for k in self.known) + sum(u.nbytes for u in self.usable)


@dataclass(frozen=True)
class Crop:
    """A sample: inputs by name, labels at its pixels, and where they are in it."""

    inputs: Arrays
    lead: tuple[Arrays, ...]
    labels: dict[str, np.ndarray]
    y: np.ndarray
    x: np.ndarray
    area: np.ndarray
    place: str


def crop_of(
    piece: Piece,
    kind: int,
    given: tuple[str, ...],
    *,
    side: int,
    pixels: int,
    margin: int,
    random: np.random.Generator,
) -> Crop:
    """A random crop around a random pixel that can train.

    Parameters
    ----------
    piece
        Of which it is cut; has such a pixel.
    kind, given
        Which combination is given, as number and as names.
    side, pixels, margin
        Of the crop; how many labelled pixels are drawn from it, with replacement; rim that is not
        trained on.
    random
        Of all draws.
    """
    year = pick_year(piece, kind, random)
    usable = piece.usable[year][kind]
    row, column = anchor(usable, margin, random)
    top, left = (
        start(at, length, side, margin, random)
        for at, length in zip((row, column), usable.shape, strict=True)
    )
    box = (slice(top, top + side), slice(left, left + side))
    inner = usable[box].copy()
    rim = np.ones_like(inner)
    rim[margin : side - margin, margin : side - margin] = False
    if not (inner & ~rim).any():  # all that it has lies at the rim of the super-window
        rim[:] = False
    found = np.flatnonzero(inner & ~rim)
    y, x = np.divmod(found[random.integers(len(found), size=pixels)], side)
    known = piece.known[year]
    labels = {name: values[:, top + y, left + x] for name, values in known.targets.items()}
    inputs = cropped(known.sample, box)
    conceal(inputs, known, piece.hidden, box, given)
    lead = tuple(cropped(sample, box) for sample in known.lead)
    for before in lead:
        conceal(before, known, piece.hidden, box, ())
    area = piece.area[top + y]
    place = text(piece, year, top, left, side)
    if random.integers(2):
        inputs, lead, x = mirrored(inputs), tuple(map(mirrored, lead)), side - 1 - x
    return Crop(inputs, lead, labels, y, x, area, place)


def pick_year(piece: Piece, kind: int, random: np.random.Generator) -> int:
    """A year of a piece that has pixels to train on, at random."""
    if len(piece.usable) == 1:
        return 0
    able = [i for i, usable in enumerate(piece.usable) if usable[kind].any()]
    return able[int(random.integers(len(able)))]


def anchor(usable: np.ndarray, margin: int, random: np.random.Generator) -> tuple[int, int]:
    """A random pixel that can train, further than the margin from the edge where there is one."""
    inner = usable[margin : usable.shape[0] - margin, margin : usable.shape[1] - margin]
    if inner.size:
        y, x = (random.integers(length, size=TRIES) for length in inner.shape)
        if (hit := inner[y, x]).any():
            first = int(hit.argmax())
            return int(y[first]) + margin, int(x[first]) + margin
        found = np.flatnonzero(inner)
        if len(found):
            y, x = np.divmod(found[random.integers(len(found))], inner.shape[1])
            return int(y) + margin, int(x) + margin
    found = np.flatnonzero(usable)
    y, x = np.divmod(found[random.integers(len(found))], usable.shape[1])
    return int(y), int(x)


def start(at: int, length: int, side: int, margin: int, random: np.random.Generator) -> int:
    """Random start of a crop on an axis, so that a pixel lies inside its margin if it can."""
    first = min(max(at + margin + 1 - side, 0), length - side)
    last = max(min(at - margin, length - side), first)
    return int(random.integers(first, last + 1))


def cropped(sample: Sample, box: tuple[slice, slice]) -> Arrays:
    """Inputs of a crop by name: views."""
    rows, columns = box
    cuts: dict[str, Any] = {
        "static": (..., rows, columns),
        "state": (..., rows, columns),
        "row": rows,
        "driver_row": rows,
        "column": columns,
        "driver_column": columns,
        "latitude": rows,
        "longitude": columns,
    }
    held = {name: getattr(sample, name) for name in FIELDS}
    found = {n: v if v is None or n not in cuts else v[cuts[n]] for n, v in held.items()}
    return nearby(
        nearby(found, "forcing", "row", "column"), "driver", "driver_row", "driver_column"
    )


def nearby(inputs: Arrays, name: str, *places: str) -> Arrays:
    """Inputs with coarse cells around the crop alone: others would cost as much to encode."""
    cells = inputs[name]
    if cells is None:
        return inputs
    cut: list[Any] = [...]
    moved: Arrays = {}
    for along in places:
        place = inputs[along]
        assert place is not None
        first = int(place.min())
        cut.append(slice(first, int(place.max()) + 2))
        moved[along] = place - np.float32(first)
    return {**inputs, name: cells[tuple(cut)], **moved}


def conceal(
    inputs: Arrays,
    known: Known,
    hidden: np.ndarray,
    box: tuple[slice, slice],
    given: tuple[str, ...],
) -> None:
    """Add what is given; where it is unknown, or must not be seen, pixels count as missing."""
    present = None
    if hidden[box].any() and (given or inputs["state"] is not None):
        present = ~hidden[box]
    for name in given:
        value = known.targets[name][(..., *box)]
        there = np.isfinite(value[0])
        present = there if present is None else present & there
    for name in given:
        inputs[name.removesuffix("_fraction")] = known.targets[name][(..., *box)]
    if present is None or present.all():
        return
    for name in ("lu", "lc", "state"):
        if (shown := inputs[name]) is not None:
            inputs[name] = np.where(present, shown, np.float32(0))
    static = inputs["static"]
    assert static is not None
    inputs["static"] = np.concatenate([static[:-1], static[-1:] * present])


def mirrored(inputs: Arrays) -> Arrays:
    """East and west swapped: land is as likely as its mirror image, the sun as high on either.

    North and south are not swapped, since slopes that face the sun differ from those that do not.
    """
    flip = {n: v[..., ::-1] for n in ALONG_X if (v := inputs[n]) is not None}
    return {**inputs, **flip}


def text(piece: Piece, year: int, top: int, left: int, side: int) -> str:
    """Where a crop is, for people."""
    north, south = piece.latitude[top], piece.latitude[top + side - 1]
    west, east = piece.longitude[left], piece.longitude[left + side - 1]
    return (
        f"{north:.4f} to {south:.4f} degrees north, {west:.4f} to {east:.4f} east, "
        f"of {piece.place.years[year]}"
    )


def collate(crops: Sequence[Crop], given: tuple[str, ...], step: int = 0) -> Batch:
    """Crops as one batch.

    Crops may differ in how many coarse cells and forcing steps they have: the smaller are padded
    with zeros, which no pixel's position and no pooling weight refers to.
    """
    lead = zip(*(crop.lead for crop in crops), strict=True)
    labels = {
        name.removesuffix("_fraction"): stacked([crop.labels[name] for crop in crops])
        for name in crops[0].labels
    }
    return Batch(
        joined([crop.inputs for crop in crops]),
        torch.from_numpy(np.stack([crop.y for crop in crops])),
        torch.from_numpy(np.stack([crop.x for crop in crops])),
        Labels(**{name: labels.get(name) for name in ("lu", "lc", "lai")}),
        given,
        stacked([crop.area.astype(np.float32) for crop in crops]),
        tuple(map(joined, lead)),
        step,
        tuple(crop.place for crop in crops),
    )


def joined(samples: Sequence[Arrays]) -> Inputs:
    """Inputs of crops as those of a batch."""
    found: dict[str, Any] = {}
    for name in FIELDS:
        values = [sample[name] for sample in samples]
        found[name] = None if values[0] is None else stacked([v for v in values if v is not None])
    return Inputs(**found)


def stacked(values: Sequence[np.ndarray]) -> Tensor:
    """Arrays as one tensor, padded with zeros at the end of every axis to the largest."""
    shape = tuple(map(max, zip(*(v.shape for v in values), strict=True)))
    if all(v.shape == shape for v in values):
        return torch.from_numpy(np.stack(values))
    whole = np.zeros((len(values), *shape), values[0].dtype)
    for place, value in zip(whole, values, strict=True):
        place[tuple(map(slice, value.shape))] = value
    return torch.from_numpy(whole)
