"""The survey: what must be known of a cube's training part before training, in one pass over it.

Moments by which inputs are scaled, the spread of targets, shares of classes, and how many crops
each part of the cube has labels for, so that what has none is never read again. Sums are kept as
(count, mean, squared deviation), which merge exactly in any order; what is stored is rounded to
nine digits, so that it does not tell how the cube was chunked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import xarray as xr

from xlsbc.emulator.cells import among
from xlsbc.emulator.sample import Sample, Window, sample_of, scaled
from xlsbc.emulator.spec import InputVariable, Spec
from xlsbc.emulator.steps import years
from xlsbc.errors import TrainingError
from xlsbc.training.labels import cut, labelled
from xlsbc.training.moments import Moments, digits
from xlsbc.training.reader import Known, Place, Reader
from xlsbc.training.splits import TRAIN, VALIDATION, Parts
from xlsbc.training.windows import Span, Windows, windows_of

__all__ = ["Survey", "grouped", "survey", "surveyed"]

LEAST = 1e-4
"""Variance that a field has at least, so that one that is zero everywhere can be learned too."""

GROUP = 2**27
"""Bytes of the years of a window that are read at once, where a chunk holds several."""

VALUES = 2**24
"""Values of a coarse field that are read at once."""


@dataclass(frozen=True)
class Survey:
    """What one pass over the training part of a cube tells.

    Parameters
    ----------
    years
        That may be trained on, as `crops` has them.
    crops
        By part of the split ``(year, kind, row, column)``: how many crops hold all labels of a
        segment of the cube's rows and columns, where a kind is a combination that is given.
    labels
        The same, how many pixels have a label.
    inputs
        Moments of the inputs by name, after their transform.
    lai_variance, lai_change
        Variance of the leaf area index, and of its change from one step to the next, 1.
    lu_share, lc_share
        Mean share of every class, weighted by area; None where no pixel is labelled.
    present
        By target, the share of training pixels and steps that have a label.
    """

    years: tuple[int, ...]
    crops: dict[int, np.ndarray]
    labels: dict[int, np.ndarray]
    inputs: dict[str, Moments] = field(default_factory=dict)
    lai_variance: float = 1.0
    lai_change: float = 1.0
    lu_share: np.ndarray | None = None
    lc_share: np.ndarray | None = None
    present: dict[str, float] = field(default_factory=dict)

    def scaled(self, spec: Spec) -> Spec:
        """The specification with inputs scaled by what was found; those that vary."""

        def scale(inputs: Sequence[InputVariable]) -> tuple[InputVariable, ...]:
            found = []
            for variable in inputs:
                moments = self.inputs[variable.name]
                std = math.sqrt(moments.variance) if moments.count else math.nan
                if std > 1e-12 * (1 + abs(moments.rounded)):
                    changes = {"mean": moments.rounded, "std": digits(std)}
                    found.append(variable.model_copy(update=changes))
            return tuple(found)

        return spec.model_copy(
            update={
                "static": scale(spec.static),
                "forcing": scale(spec.forcing),
                "scalars": scale(spec.scalars),
            }
        )


@dataclass
class Tally:
    """What one window adds."""

    inputs: dict[str, Moments] = field(default_factory=dict)
    targets: dict[str, Moments] = field(default_factory=dict)
    shares: dict[str, np.ndarray] = field(default_factory=dict)
    known: dict[str, int] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)
    crops: list[tuple[int, tuple[int, int, int, int], int, int]] = field(default_factory=list)
    cells: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)


def surveyed(
    cube: xr.Dataset,
    spec: Spec,
    parts: Parts,
    crop: int,
    *,
    threads: int = 2,
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[Spec, Survey]:
    """A specification whose inputs are scaled, and what else was found on the way; computes.

    Parameters
    ----------
    cube
        Conformed.
    spec
        Whose inputs are not scaled yet.
    parts
        What is held out.
    crop
        Side of a crop, pixels.
    threads
        That read.
    progress
        Is told the share that is done.

    Raises
    ------
    TrainingError
        If no year trains, no training pixel has a label and all required inputs, or something
        cannot be read.
    """
    trained, _ = parts.years(years(cube, spec))
    if spec.state:  # nor is a year that is held out seen as the state of the next
        trained = [year for year in trained if parts.years([year - 1])[0]]
    if not trained:
        raise TrainingError(
            "no year can be trained on: none that is not held out has all inputs; check "
            "forcing_time and year, or hold out fewer years"
        )
    reader = Reader(cube, spec, strict=True)
    windows = windows_of(reader.grid, crop, reader.edges)
    for found in survey(reader, windows, parts, trained, crop, threads=threads):
        if isinstance(found, Survey):
            return found.scaled(spec), found
        progress(found)
    raise AssertionError("a survey ends with what it found")


def survey(
    reader: Reader,
    windows: Windows,
    parts: Parts,
    period: Sequence[int],
    crop: int,
    *,
    threads: int = 2,
) -> Iterator[float | Survey]:
    """One pass over the cube: yields the share that is done, and at last the survey.

    Parameters
    ----------
    reader
        Of the cube, by a specification whose inputs are not scaled.
    windows
        Of the cube.
    parts
        What is held out.
    period
        Years to train on.
    crop
        Side of a crop, pixels.
    threads
        That read.

    Raises
    ------
    TrainingError
        If no training pixel has a label and all required inputs, or something cannot be read.
    """
    spec, grid = reader.spec, reader.grid
    layout = windows.layout(0)
    segments = (len(windows.rows.segments) - 1, len(windows.columns.segments) - 1)
    shape = (len(period), len(spec.given), *segments)
    crops = {part: np.zeros(shape, np.int32) for part in (TRAIN, VALIDATION)}
    labels = {part: np.zeros(shape, np.int64) for part in (TRAIN, VALIDATION)}
    whole = Tally()
    cells = None
    if "forcing" in reader.axes:
        cells = np.zeros([axis.size for axis in reader.axes["forcing"]], bool)
    area = grid.cell_area().to_numpy()
    area = area / area.mean()

    def one(spans: tuple[Span, Span]) -> Tally:
        return tally(reader, windows, spans, parts, period, crop, area)

    with ThreadPoolExecutor(threads, "xlsbc-survey") as pool:
        coming = iter(layout)
        running = [pool.submit(one, spans) for spans in islice(coming, 2 * threads)]
        done = 0
        while running:
            found = running.pop(0).result()
            running.extend(pool.submit(one, spans) for spans in islice(coming, 1))
            merge(whole, found)
            for part, at, held, pixels in found.crops:
                crops[part][at] += held
                labels[part][at] += pixels
            for rows, columns in found.cells:
                assert cells is not None
                cells[rows, columns] = True
            done += 1
            yield done / len(layout)
    if not crops[TRAIN].any():
        nowhere = [name for name, moments in whole.inputs.items() if not moments.count]
        raise TrainingError(
            "no training pixel has a label and all required inputs; check that targets and "
            "inputs overlap, name inputs that may be missing in `optional`, or hold out less",
            [f"{name} is known at no training pixel; drop it" for name in nowhere],
        )
    used = [year for i, year in enumerate(period) if crops[TRAIN][i].any()]
    if lacking := [name for name in spec.targets if not whole.known.get(name)]:
        raise TrainingError(
            f"{' and '.join(lacking)} has no label at any training pixel, and would be predicted "
            "untrained; drop it from the cube, or hold out less"
        )
    whole.inputs |= coarse_moments(reader, used, cells)
    yield Survey(
        tuple(period),
        crops,
        labels,
        whole.inputs,
        spread(whole.targets.get("lai")),
        spread(whole.targets.get("change")),
        mean_shares(whole.shares.get("lu_fraction")),
        mean_shares(whole.shares.get("lc_fraction")),
        {n: whole.known[n] / whole.asked[n] if whole.asked[n] else 0.0 for n in whole.known},
    )


def tally(
    reader: Reader,
    windows: Windows,
    spans: tuple[Span, Span],
    parts: Parts,
    period: Sequence[int],
    crop: int,
    area: np.ndarray,
) -> Tally:
    """What a super-window adds to the survey: pixels of the cube only, none of them twice."""
    found = Tally()
    low, high = windows.rows.segments[[spans[0].first, spans[0].last]].tolist()
    left, right = windows.columns.segments[[spans[1].first, spans[1].last]].tolist()
    split = parts.box(slice(low, high), slice(left, right))
    chosen, tested = split == TRAIN, split == VALIDATION
    if not chosen.any() and not tested.any():
        return found
    window = Window(low, left, high - low, right - left)
    spec = reader.spec
    with reader.naming(Place(window, tuple(period))):
        fields = reader.fields(window, None)
        steady = sample_of(fields, reader.steady)
        for v in spec.static:
            value = np.where(chosen, scaled(fields.fine[v.name], v), np.nan)
            found.inputs[v.name] = Moments.of(value)
        together = reader.together(reader.size_of(high - low, right - left, period[-1]), GROUP)
        for i, known in each(reader, window, period, steady, together):
            usable = labelled(known, spec, chosen)
            for part, pixels in ((TRAIN, usable), (VALIDATION, labelled(known, spec, tested))):
                for kind, at, crops, labels in cut(pixels, windows, spans, crop):
                    found.crops.append((part, (i, kind, *at), crops, labels))
            for name, values in known.targets.items():
                count(found, name, np.where(chosen, values, np.nan), chosen, area[low:high, None])
            if "forcing" in reader.axes and usable.any():
                found.cells.append(nearest(reader, window, np.asarray(usable.any(0))))
    return found


def each(
    reader: Reader, window: Window, period: Sequence[int], steady: Sample, together: int
) -> Iterator[tuple[int, Known]]:
    """What is known of every year, by its place in the period; so many years are read at once."""
    for members in grouped(period, together):
        place = Place(window, tuple(period[i] for i in members))
        yield from zip(members, reader.known(place, steady), strict=True)


def grouped(period: Sequence[int], together: int) -> list[list[int]]:
    """Places of the years of a period that are read at once."""
    groups: dict[int, list[int]] = {}
    for i, year in enumerate(period):
        groups.setdefault((year - period[0]) // together, []).append(i)
    return list(groups.values())


def count(
    found: Tally, name: str, values: np.ndarray, chosen: np.ndarray, area: np.ndarray
) -> None:
    """Add a target of a year to what is known of it."""
    known = np.isfinite(values)
    steps = known if name == "lai" else known[:1]
    found.known[name] = found.known.get(name, 0) + int(steps.sum())
    found.asked[name] = found.asked.get(name, 0) + int(chosen.sum()) * len(steps)
    if name == "lai":
        for label, field in (("lai", values), ("change", np.diff(values, axis=0))):
            found.targets[label] = found.targets.get(label, Moments()) + Moments.of(field)
    else:
        summed = (np.nan_to_num(values).astype(np.float64) * area).sum((1, 2))
        found.shares[name] = found.shares.get(name, np.zeros(len(values))) + summed


def nearest(reader: Reader, window: Window, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coarse cells of the forcing that are nearest to any of the pixels: rows and columns."""
    axes = reader.axes["forcing"]
    places = []
    for axis, pixel in zip(axes, window.axes(reader.grid), strict=True):
        cells = among(axis, pixel)
        near = np.nan_to_num(np.round(cells.position)).astype(int)  # no pixel outside can train
        places.append(axis.index(cells.start, cells.stop)[near])
    rows, columns = places
    mask = np.zeros([axis.size for axis in axes], bool)
    y, x = pixels.nonzero()
    mask[rows[y], columns[x]] = True
    found = mask.nonzero()
    return found[0], found[1]


def coarse_moments(
    reader: Reader, years: Sequence[int], cells: np.ndarray | None
) -> dict[str, Moments]:
    """Moments of the forcing, on cells and in steps that training sees, and of yearly numbers."""
    found: dict[str, Moments] = {}
    spec = reader.spec
    places = [reader.places[year] for year in years if year in reader.places]
    for v in spec.scalars:
        values = [reader.load(v.name, (slice(i, i + 1),)) for i in places]
        found[v.name] = Moments.of(scaled(np.concatenate(values), v))
    if cells is None or not spec.forcing:
        return found
    steps = np.unique(np.concatenate([reader.weather(year)[0] for year in years]))
    rows, columns = (slice(int(i.min()), int(i.max()) + 1) for i in np.nonzero(cells))
    chosen = cells[rows, columns]
    together = max(VALUES // chosen.size, 1)
    for v in spec.forcing:
        found[v.name] = Moments()
        for low in range(int(steps[0]), int(steps[-1]) + 1, together):
            inside = steps[(steps >= low) & (steps < low + together)]
            if inside.size:
                part = slice(int(inside[0]), int(inside[-1]) + 1)
                values = reader.load(v.name, (part, rows, columns))[inside - inside[0]]
                found[v.name] += Moments.of(scaled(values[:, chosen], v))
    return found


def merge(whole: Tally, found: Tally) -> None:
    """Add what a window found."""
    for name in ("inputs", "targets", "shares", "known", "asked"):
        sums, new = getattr(whole, name), getattr(found, name)
        for key, value in new.items():
            sums[key] = sums[key] + value if key in sums else value


def spread(moments: Moments | None) -> float:
    """Variance of a target, at least `LEAST`."""
    return max(moments.variance, LEAST) if moments and moments.count else 1.0


def mean_shares(summed: np.ndarray | None) -> np.ndarray | None:
    """Mean share of every class; None where nothing is known."""
    if summed is None or not summed.sum():
        return None
    return np.array([digits(share) for share in (summed / summed.sum()).tolist()])
