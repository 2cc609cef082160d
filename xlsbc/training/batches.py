"""Batches for training, drawn lazily from a cube wherever it lies.

windows (what is read at once) ─► reader (fields of a window and its years) ─► stream (which piece
when, read ahead) ─► crops (samples of a piece) ─► `Batch`. The same seed, step, rank and memory
give the same batch, whatever came before and however many threads read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
import torch
import xarray as xr

from xlsbc.emulator.sample import Window
from xlsbc.emulator.spec import Spec
from xlsbc.errors import TrainingError
from xlsbc.training.crops import Batch, Piece, collate, crop_of
from xlsbc.training.labels import labelled
from xlsbc.training.reader import Place, Reader
from xlsbc.training.splits import BUFFER, TRAIN, VALIDATION, Parts
from xlsbc.training.stream import Lot, Planned, Stream, order
from xlsbc.training.survey import Survey, grouped
from xlsbc.training.windows import Span, window_of, windows_of

__all__ = ["MEMORY", "Batch", "Batches"]

MEMORY = 2 * 2**30
"""Bytes that batches may take while they are drawn."""

LEAST = 4
"""Pieces that there must be memory for: one in the pool, one ahead of it, one read by a thread."""

LOCAL, REMOTE = 2, 8
"""Threads that read: files are decoded as fast by two; object stores answer many at a time."""

DEPTH = 3
"""Batches that wait to be used."""

POOL = 32
"""Pieces from which samples are drawn: more of them shuffle no better and take longer to fill."""

SHARES = 8
"""Of how many parts of the memory a piece that holds several years may take one."""

USES = {TRAIN: "training", VALIDATION: "validation"}
"""Parts of a split that batches are made of."""

OUTSIDE = -1
"""Part of a split that what is beyond the grid belongs to."""


class Batches:
    """Endless random batches of a part of a cube.

    Parameters
    ----------
    cube
        Conformed, lazy or not.
    spec
        Inputs, with their scaling, and targets.
    parts
        What is held out.
    survey
        Of the same cube, split and crop.
    crop
        Side of a crop, pixels; a multiple of the backbone's stride.
    size
        Crops in a batch.
    pixels
        Labelled pixels drawn from a crop; by default an eighth of its pixels.
    margin
        Rim of a crop, pixels, that is seen but not trained on: its context is cut off. By default
        12, or an eighth of a small crop.
    memory
        Bytes that pieces of the cube and waiting batches may take together.
    threads
        That read, as far as there is memory for them; by default 2, or 8 where the cube is in an
        object store.
    seed
        Of all draws: equal seeds give equal batches.
    rank, world
        Which of how many processes that train together.
    part
        Of the split.
    lead
        Years before that are read too, for training over several.

    Raises
    ------
    TrainingError
        If no pixel of the part has a label, or if the memory does not suffice for one window of the
        cube.
    """

    def __init__(
        self,
        cube: xr.Dataset,
        spec: Spec,
        parts: Parts,
        survey: Survey,
        *,
        crop: int,
        size: int,
        pixels: int | None = None,
        margin: int | None = None,
        memory: int = MEMORY,
        threads: int | None = None,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        part: int = TRAIN,
        lead: int = 0,
    ) -> None:
        self.spec, self.parts, self.survey, self.part = spec, parts, survey, part
        self.crop, self.size = crop, size
        self.pixels = max(crop * crop // 8, 1) if pixels is None else pixels
        self.margin = min(12, crop // 8) if margin is None else margin
        self.seed, self.rank, self.world = seed, rank, world
        if not survey.crops[part].any():
            raise TrainingError(
                f"no {USES[part]} pixel has a label and all required inputs; hold out other blocks"
            )
        self.reader = Reader(cube, spec, lead)
        some = np.flatnonzero(survey.crops[part].any((1, 2, 3)))
        if not any(self.reader.led(survey.years[i]) for i in some):
            raise TrainingError(
                f"no year that trains has the {lead} years before it in the cube, with the state "
                "of the year before those, and not held out; shorten the rollout"
            )
        self.windows = windows_of(self.reader.grid, crop, self.reader.edges)
        self.together = self.reader.together(self.year_size, memory // SHARES)
        wanted = threads or (REMOTE if self.reader.remote else LOCAL)
        self.held, self.threads, spare = self._budget(memory, wanted)
        self._lots: dict[tuple[int, int], list[Lot[Place]]] = {}
        self.stream: Stream[Place, Piece, Batch] = Stream(
            self._plan,
            self._read,
            self._make,
            spare=spare,
            threads=self.threads,
            ahead=self.ahead,
            depth=DEPTH,
        )

    @property
    def ahead(self) -> int:
        """Pieces that are read before they are drawn from."""
        return self.threads + 1

    def __iter__(self) -> Iterator[Batch]:
        return self.batches()

    def batches(self, start: int = 0) -> Iterator[Batch]:
        """Batches from number `start` on, endless; threads that read end with the generator."""
        return self.stream.batches(start)

    @cached_property
    def per_epoch(self) -> int:
        """Batches, of all ranks, in which every label has been met about once."""
        draws = sum(lot.draws for lot in self.lots(0))
        return max(math.ceil(draws / (self.size * self.world)), 1)

    @property
    def filled(self) -> float:
        """Batches that the pool can give when it has been filled."""
        lots = self.lots(0)
        draws = sum(lot.draws for lot in lots) / len(lots)
        return max(min(self.held, len(lots)) * draws / self.size, 2.0)

    @property
    def nbytes(self) -> int:
        """Memory that is taken at most, an estimate from shapes."""
        return (self.held + self.ahead + self.threads) * self.piece_size + self.waiting_size

    def lots(self, epoch: int) -> list[Lot[Place]]:
        """Pieces of an epoch that have labels."""
        return [lot for place in self.windows.epoch(epoch) for lot in self._at(*place)]

    def _at(self, layout: int, place: int) -> list[Lot[Place]]:
        """Pieces of a super-window."""
        if (layout, place) not in self._lots:
            self._lots[layout, place] = list(self._of(*self.windows.layouts[layout][place]))
        return self._lots[layout, place]

    def _of(self, rows: Span, columns: Span) -> Iterator[Lot[Place]]:
        """Pieces of a super-window: its years, as many at a time as lie in one chunk."""
        inside = (..., slice(rows.first, rows.last), slice(columns.first, columns.last))
        found = (part[self.part][inside] for part in (self.survey.crops, self.survey.labels))
        crops, labels = (counts.sum((2, 3)) for counts in found)  # (year, kind)
        crops = np.maximum(crops, -(-labels // self.pixels))  # a crop gives so many of its labels
        window = window_of(rows, columns)
        years = self.survey.years
        for members in grouped(years, self.together):
            members = [i for i in members if crops[i].any() and self.reader.led(years[i])]
            if members:
                held = crops[members]
                draws = math.ceil(held.max(1).sum() / self.windows.visits)
                kinds = tuple((held.sum(0) > 0).tolist())
                yield Lot(Place(window, tuple(years[i] for i in members)), draws, kinds)

    def _plan(self) -> Iterator[Planned[Place]]:
        return order(
            self.lots,
            size=self.size,
            held=self.held,
            seed=self.seed,
            rank=self.rank,
            world=self.world,
        )

    def _read(self, place: Place) -> Piece:
        known = self.reader.read(place)
        parts = self._parts(place.window)
        hidden = (parts != self.part) & (parts != BUFFER) & (parts != OUTSIDE)
        if self.part != TRAIN:
            hidden &= parts != TRAIN
        if len(set(map(frozenset, self.spec.given))) == 1 and not self.spec.state:
            hidden[:] = False  # a map that is always given is an input like any other
        columns = place.window.x + np.arange(place.window.width)
        own = (columns >= 0) & (columns < self.reader.grid.columns)  # not those across the seam
        chosen = (parts == self.part) & own
        latitude, longitude = place.window.axes(self.reader.grid)
        return Piece(
            place,
            tuple(known),
            tuple(labelled(k, self.spec, chosen) for k in known),
            hidden,
            self._area(latitude),
            latitude,
            longitude,
        )

    def _make(self, planned: Planned[Place], pieces: Sequence[Piece]) -> Batch:
        given = self.spec.given[planned.kind]
        crops = [
            crop_of(
                piece,
                planned.kind,
                given,
                side=self.crop,
                pixels=self.pixels,
                margin=self.margin,
                random=np.random.default_rng((self.seed, 2, self.rank, planned.number, i)),
            )
            for i, piece in enumerate(pieces)
        ]
        batch = collate(crops, given, planned.number)
        return batch.pin_memory() if torch.cuda.is_available() else batch

    def _parts(self, window: Window) -> np.ndarray:
        """Part of the split of every pixel of a window."""
        rows, columns = window.extents(self.reader.grid)
        found = np.concatenate([self.parts.box(rows.parts[0], c) for c in columns.parts], axis=1)
        pads = (rows.before, rows.after), (columns.before, columns.after)
        return np.pad(found, pads, constant_values=OUTSIDE)

    def _area(self, latitude: np.ndarray) -> np.ndarray:
        """Area of pixels at latitudes, over the grid's mean; of none beyond a pole."""
        whole = np.cos(np.deg2rad(self.reader.grid.latitude)).mean()
        return np.clip(np.cos(np.deg2rad(latitude)), 0, None) / whole

    @property
    def piece_size(self) -> int:
        """Bytes of the largest piece."""
        return self.year_size * self.together

    @cached_property
    def year_size(self) -> int:
        """Bytes of a year of the largest super-window."""
        spans = self.windows.layout(0)
        height, width = (max(s.stop - s.start for s in axis) for axis in zip(*spans, strict=True))
        return self.reader.size_of(height, width, self.survey.years[-1])

    @property
    def waiting_size(self) -> int:
        """Bytes of batches that wait; labels and what is given are no more than all targets."""
        crop = self.reader.size_of(self.crop, self.crop, self.survey.years[-1])
        return DEPTH * self.size * crop

    def _budget(self, memory: int, threads: int) -> tuple[int, int, int]:
        """Pieces in the pool, threads that there is memory for, and bytes for what left the pool.

        The pool, on which batches depend, is the same for any number of threads.
        """
        pieces = (memory - self.waiting_size) // self.piece_size
        if pieces < LEAST:
            need = self.waiting_size + LEAST * self.piece_size
            raise TrainingError(
                f"memory of {memory / 2**20:.0f} MiB does not hold the windows of this cube that "
                f"are read at once; give at least {math.ceil(need / 2**20)} MiB, or store the "
                "cube in smaller chunks"
            )
        held = min(pieces // 2, pieces - LEAST + 1, POOL)
        threads = min(threads, (pieces - held - 1) // 2)  # what a thread reads is held twice
        return held, threads, int((pieces - held - 2 * threads - 1) * self.piece_size)
