"""Random crops of a cube for training, drawn by xbatcher and kept in a bounded pool.

xbatcher's `BatchGenerator` enumerates overlapping super-windows of the lazy cube, which is widened
first so that its ragged edges, which xbatcher drops, are visited too. A super-window of one year is
read once, turned into tensors, and serves many random crops while it is in the pool.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor
from torch.nn import functional
from xbatcher import BatchGenerator

from xlsbc.emulator.artefact import stack
from xlsbc.emulator.sample import Window, assemble, cut, select, shares
from xlsbc.emulator.spec import Spec
from xlsbc.emulator.steps import steps_of, years
from xlsbc.errors import TrainingError
from xlsbc.models.network import Inputs
from xlsbc.training.losses import Labels
from xlsbc.training.splits import TRAIN

__all__ = ["Batch", "Batches"]

SUPER_WINDOW = 256
"""Pixels a side: of the order of a storage chunk."""

TRIES = 100
"""Windows that are looked at for a crop; those without a label are not in the pool."""


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
    """

    inputs: Inputs
    y: Tensor
    x: Tensor
    labels: Labels
    given: tuple[str, ...]

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`."""
        inputs, labels = self.inputs.to(device), self.labels.to(device)
        return Batch(inputs, self.y.to(device), self.x.to(device), labels, self.given)


@dataclass(frozen=True)
class Piece:
    """A super-window of one year: inputs, targets and which pixels may train."""

    inputs: Inputs
    targets: dict[str, Tensor]
    trainable: Tensor


class Batches:
    """Endless random batches of a cube's training pixels.

    Parameters
    ----------
    cube
        Conformed, lazy or not.
    spec
        Inputs and targets.
    split
        `xlsbc.training.splits.split_map`.
    crop
        Side of a crop, pixels; a multiple of the backbone's stride.
    size
        Crops in a batch.
    pixels
        Labelled pixels drawn from a crop.
    margin
        Rim of a crop, pixels, that is seen but not trained on: its context is cut off.
    memory
        Bytes that the pool may take; at least one super-window is always held.
    seed
        Of all draws: equal seeds give equal batches.

    Raises
    ------
    TrainingError
        If no training pixel has a label.
    """

    def __init__(
        self,
        cube: xr.Dataset,
        spec: Spec,
        split: xr.DataArray,
        *,
        crop: int,
        size: int,
        pixels: int,
        margin: int,
        memory: int = 2 * 2**30,
        seed: int = 0,
    ) -> None:
        self.cube = cube
        self.spec = spec
        self.crop, self.size, self.pixels, self.margin = crop, size, pixels, margin
        self.memory = memory
        self.random = np.random.default_rng(seed)
        self.train = (split == TRAIN).to_numpy()
        self.places = [
            (window, year) for window in super_windows(cube, crop) for year in years(cube, spec)
        ]
        self.order: list[int] = []
        self.pool: list[Piece] = []
        self.resident = False  # whether every labelled piece is in the pool

    def fill(self) -> Iterator[float]:
        """Read pieces until the pool is full; yields the share read, for a progress bar."""
        held = 0
        self._shuffle()
        while piece := self._read_next():
            held += nbytes(piece)
            if self.pool and held > self.memory:
                break
            self.pool.append(piece)
            yield 1 - len(self.order) / len(self.places)
        else:
            self.resident = True
        if not self.pool:
            raise TrainingError(
                "no training pixel has a label and all required inputs; check that targets and "
                "inputs overlap, name inputs that may be missing in `optional`, or hold out less"
            )

    def __iter__(self) -> Iterator[Batch]:
        drawn = 0
        while True:
            given = self.spec.given[self.random.integers(len(self.spec.given))]
            crops = [self._crop(given) for _ in range(self.size)]
            yield collate(crops, given)
            drawn += self.size
            if not self.resident and drawn >= 8 * len(self.pool):
                drawn = 0
                self._renew()

    def _renew(self) -> None:
        """Replace the oldest piece by one not seen in this round."""
        piece = self._read_next()
        if piece is None:
            self._shuffle()
            piece = self._read_next()
        if piece is not None:
            self.pool = [*self.pool[1:], piece]

    def _shuffle(self) -> None:
        """Begin a round."""
        self.order = self.random.permutation(len(self.places)).tolist()

    def _read_next(self) -> Piece | None:
        """Next labelled piece of the round; None when it is over."""
        while self.order:
            piece = self._read(*self.places[self.order.pop()])
            if piece.trainable.any():
                return piece
        return None

    def _read(self, window: Window, year: int) -> Piece:
        part = select(self.cube, self.spec, window, year)
        sample = assemble(part, self.spec)
        targets: dict[str, Tensor] = {
            name: torch.from_numpy(target(self.cube, self.spec, name, window, year))
            for name in self.spec.targets
        }
        labelled = torch.zeros(sample.valid.shape, dtype=torch.bool)
        for value in targets.values():
            labelled |= value.isfinite().any(0)
        region = xr.Dataset({"train": (("latitude", "longitude"), self.train)}, self.cube.coords)
        inside = cut(region[["train"]], window)["train"].fillna(0).to_numpy().astype(bool)
        trainable = labelled & torch.from_numpy(sample.valid & inside)
        return Piece(stack([sample]), targets, trainable)

    def _crop(self, given: tuple[str, ...]) -> tuple[Inputs, dict[str, Tensor], Tensor, Tensor]:
        """A random crop around a random labelled pixel of a random piece."""
        for _ in range(TRIES):
            piece = self.pool[self.random.integers(len(self.pool))]
            usable = piece.trainable.clone()
            for name in given:
                usable &= piece.targets[name][0].isfinite()  # shares are known in all classes
            usable &= ~frame(usable.shape, self.margin)
            pixels = usable.nonzero()
            if len(pixels):
                break
        else:
            raise TrainingError(
                f"{TRIES} windows of the cube in turn held no labelled pixel for given={given}; "
                "leave out this combination, or give what it needs in more places or years"
            )
        anchor = pixels[self.random.integers(len(pixels))].tolist()
        top, left = (
            self._start(at, length) for at, length in zip(anchor, usable.shape, strict=True)
        )
        rows, columns = slice(top, top + self.crop), slice(left, left + self.crop)
        inner = usable[rows, columns]
        found = (inner & ~frame(inner.shape, self.margin)).nonzero()
        chosen = found[torch.from_numpy(self.random.integers(len(found), size=self.pixels))]
        y, x = chosen[:, 0], chosen[:, 1]
        labels = {k: v[:, top + y, left + x] for k, v in piece.targets.items()}
        inputs = window_of(piece, rows, columns, given)
        if self.random.integers(2):
            inputs, x = mirrored(inputs), self.crop - 1 - x
        return inputs, labels, y, x

    def _start(self, at: int, length: int) -> int:
        """Random start of a crop on an axis, so that a pixel lies inside its margin."""
        first = max(at + self.margin + 1 - self.crop, 0)
        last = min(at - self.margin, length - self.crop)
        return int(self.random.integers(first, last + 1))


def super_windows(cube: xr.Dataset, crop: int) -> list[Window]:
    """Overlapping windows that together hold every crop of a cube, ragged edges included."""
    lengths = {d: max(SUPER_WINDOW, crop) for d in ("latitude", "longitude")}
    overlap = {d: crop - 1 if crop > 1 else 0 for d in lengths}
    starts, sizes = {}, {}
    for dim, length in lengths.items():
        reach = cube.sizes[dim] + crop  # half a crop of nothing on either side
        length = lengths[dim] = min(length, max(reach, crop))
        overlap[dim] = min(overlap[dim], length - 1)
        stride = length - overlap[dim]
        count = max(-(-(reach - length) // stride), 0) + 1
        starts[dim], sizes[dim] = -(crop // 2), length + (count - 1) * stride
    numbers = xr.Dataset(
        {d: (d, np.arange(starts[d], starts[d] + sizes[d])) for d in lengths}
    ).assign(
        cell=(("latitude", "longitude"), np.empty((sizes["latitude"], sizes["longitude"]), bool))
    )
    windows = BatchGenerator(
        numbers, input_dims=lengths, input_overlap=overlap, preload_batch=False
    )
    return [
        Window(
            int(w["latitude"][0]), int(w["longitude"][0]), w.sizes["latitude"], w.sizes["longitude"]
        )
        for w in windows
    ]


def target(cube: xr.Dataset, spec: Spec, name: str, window: Window, year: int) -> np.ndarray:
    """A target of a year under a window, float32; NaN where it is unknown.

    Returns
    -------
    numpy.ndarray
        ``(class, y, x)`` shares that sum to 1, or ``(step, y, x)`` leaf area index.
    """
    field = cube[name]
    if name != "lai":
        listed = field.indexes["year"]
        if year not in listed:
            return np.full((field.shape[1], window.height, window.width), np.nan, np.float32)
        part = cut(field.sel(year=year, drop=True).to_dataset(name=name), window)
        return shares(part[name].to_numpy(), name).astype(np.float32)
    starts, _ = steps_of(spec, year)
    known = np.isin(starts, field.indexes["time"].to_numpy())
    values = np.full((len(starts), window.height, window.width), np.nan, np.float32)
    if known.any():
        part = cut(field.sel(time=starts[known]).to_dataset(name=name), window)
        values[known] = part[name].to_numpy()
    return values


def window_of(piece: Piece, rows: slice, columns: slice, given: tuple[str, ...]) -> Inputs:
    """Inputs of a crop, with the fractions that are given in it."""
    whole = piece.inputs
    cropped = {
        "static": whole.static[..., rows, columns],
        "row": whole.row[:, rows],
        "column": whole.column[:, columns],
    }
    if whole.driver_row is not None and whole.driver_column is not None:
        cropped |= {"driver_row": whole.driver_row[:, rows]}
        cropped |= {"driver_column": whole.driver_column[:, columns]}
    if whole.state is not None:
        cropped |= {"state": whole.state[..., rows, columns]}
    for name in given:
        value = piece.targets[name][None, :, rows, columns]
        cropped[name.removesuffix("_fraction")] = value.nan_to_num()
        present = value.isfinite().all(1, keepdim=True)
        cropped["static"] = torch.cat(
            (cropped["static"][:, :-1], cropped["static"][:, -1:] * present), dim=1
        )
    return dataclasses.replace(whole, **cropped)


def frame(shape: Sequence[int], width: int) -> Tensor:
    """Pixels ``(y, x)`` within `width` of the edge."""
    rim = torch.ones(*shape, dtype=torch.bool)
    rim[width : shape[0] - width, width : shape[1] - width] = False
    return rim


def mirrored(inputs: Inputs) -> Inputs:
    """East and west swapped: land is as likely as its mirror image, the sun as high on either.

    North and south are not swapped, since slopes that face the sun differ from those that do not.
    """
    along_x = ("static", "column", "driver_column", "lu", "lc", "state")
    values = {name: getattr(inputs, name) for name in along_x}
    flipped = {name: value.flip(-1) for name, value in values.items() if value is not None}
    return dataclasses.replace(inputs, **flipped)


def collate(
    crops: list[tuple[Inputs, dict[str, Tensor], Tensor, Tensor]], given: tuple[str, ...]
) -> Batch:
    """Crops as one batch.

    Crops may differ in how many coarse cells and forcing steps they have: the smaller are padded
    with zeros, which no pixel's position and no pooling weight refers to.
    """
    joined: dict[str, Any] = {}
    for field in dataclasses.fields(Inputs):
        values = [getattr(crop[0], field.name) for crop in crops]
        joined[field.name] = None if values[0] is None else torch.cat(equal_shapes(values))
    labels = {
        name.removesuffix("_fraction"): torch.stack([crop[1][name] for crop in crops])
        for name in crops[0][1]
    }
    return Batch(
        Inputs(**joined),
        torch.stack([crop[2] for crop in crops]),
        torch.stack([crop[3] for crop in crops]),
        Labels(**{name: labels.get(name) for name in ("lu", "lc", "lai")}),
        given,
    )


def equal_shapes(values: list[Tensor]) -> list[Tensor]:
    """Tensors padded with zeros at the end of every axis to the largest."""
    shape = [max(sizes) for sizes in zip(*(v.shape for v in values), strict=True)]

    def pad(value: Tensor) -> Tensor:
        lacking = [large - small for large, small in zip(shape, value.shape, strict=True)]
        return functional.pad(value, [p for lack in reversed(lacking) for p in (0, lack)])

    return [pad(value) for value in values]


def nbytes(piece: Piece) -> int:
    """Memory that a piece takes, bytes."""
    inputs = [getattr(piece.inputs, field.name) for field in dataclasses.fields(Inputs)]
    tensors = [*inputs, *piece.targets.values(), piece.trainable]
    return sum(t.nbytes for t in tensors if t is not None)
