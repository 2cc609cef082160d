"""Reading: the fields of a super-window and its years, from wherever the cube's variables are.

What does not change from year to year is read and scaled once for all years of a place, coarse
fields once for all its pixels.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import takewhile
from typing import Any, cast

import numpy as np
import xarray as xr

from xlsbc.cube.grid import Grid
from xlsbc.cube.store.recent import Recent
from xlsbc.cube.store.sources import Chunked, Source, Stored, boxes, source, where
from xlsbc.cube.store.storage import reason
from xlsbc.emulator.cells import Axis, among
from xlsbc.emulator.sample import POSITION, Fields, Sample, Window, sample_of, shares
from xlsbc.emulator.spec import Spec
from xlsbc.emulator.steps import HARMONICS, calendar, steps_of, weather_steps
from xlsbc.errors import CubeError, EmulatorError, TrainingError

__all__ = ["Known", "Place", "Reader"]

ANYWHERE = Axis(0.0, math.inf, 1)
"""Axis of the one cell of an emulator without weather."""


NEAR = 2**26
"""Bytes of coarse fields that are kept."""


@dataclass(frozen=True)
class Place:
    """A super-window and the years of it that are read together."""

    window: Window
    years: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of a super-window in a year.

    Parameters
    ----------
    sample
        Inputs, scaled; `static` is shared with other years where their `valid` is the same.
    targets
        By name: ``(class, y, x)`` shares that sum to 1, or ``(step, y, x)`` leaf area index,
        float32; NaN where it is unknown.
    lead
        Inputs of the years before, oldest first.
    """

    sample: Sample
    targets: dict[str, np.ndarray]
    lead: tuple[Sample, ...] = ()

    @property
    def nbytes(self) -> int:
        """Memory that it takes, the shared part included."""
        held = [self.sample, *self.lead]
        arrays = [getattr(s, f.name) for s in held for f in dataclasses.fields(s)]
        return sum(a.nbytes for a in [*arrays, *self.targets.values()] if a is not None)


class Reader:
    """Inputs and targets of a cube, by window and year; may be used by many threads.

    Parameters
    ----------
    cube
        Conformed, lazy or not.
    spec
        Inputs and targets.
    lead
        How many years before are read too, for training over several.
    strict
        Whether infinite values are an error, as in the survey, which reads all that trains.
    """

    def __init__(
        self, cube: xr.Dataset, spec: Spec, lead: int = 0, *, strict: bool = False
    ) -> None:
        self.cube, self.spec, self.lead, self.strict = cube, spec, lead, strict
        self.grid = Grid.of(cube)
        inputs = [v.name for v in spec.inputs if v.name not in POSITION]
        names = dict.fromkeys([*inputs, *["lu_total"] * spec.driver, *spec.targets, *spec.state])
        self.sources: dict[str, Source] = {n: source(n, cube[n].variable) for n in names}
        self.axes = {
            name: (Axis.of(cube[f"{name}_latitude"].data), Axis.of(cube[f"{name}_longitude"].data))
            for name, needed in (("forcing", spec.forcing), ("driver", spec.driver))
            if needed
        }
        self.places = {int(y): i for i, y in enumerate(cube.indexes.get("year", []))}
        self.steady = spec.model_copy(
            update={"forcing": (), "scalars": (), "driver": False, "state": ()}
        )
        self.yearly = spec.model_copy(update={"static": ()})
        self._weather: dict[int, Any] = {}
        self._near: Recent[np.ndarray] = Recent(NEAR)

    @cached_property
    def edges(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Where chunks of rows and columns begin of the variable that has most to read."""
        largest = "lai" if "lai" in self.spec.targets else self.spec.targets[0]
        field = self.sources[largest]
        if isinstance(field, Chunked):
            return field.edges[-2], field.edges[-1]
        if isinstance(field, Stored) and field.backing is not None:
            return field.backing.edges[-2], field.backing.edges[-1]
        return None

    @property
    def remote(self) -> bool:
        """Whether any variable is in a store that is not on this machine."""
        stored = [s for s in self.sources.values() if isinstance(s, Stored)]
        return any(s.backing is not None and s.remote for s in stored)

    def size_of(self, height: int, width: int, year: int) -> int:
        """Bytes that a window takes in a year: its pixels and the coarse cells around them."""
        spec = self.spec
        static = len(spec.static) + len(spec.optional) + 1
        state = sum(self.sources[n].shape[1] for n in spec.state)
        targets = sum(
            len(spec.steps) if name == "lai" else self.sources[name].shape[1]
            for name in spec.targets
        )
        years = 1 + self.lead
        pixel = 4 * (targets + years * (static + state)) + years + len(spec.given) + 1
        return height * width * pixel + self.coarse_size(height, width, year)

    def coarse_size(self, height: int, width: int, year: int) -> int:
        """Bytes of the weather and the land-use totals around a window in a year."""
        spec, grid = self.spec, self.grid
        channels = len(spec.forcing) + len(spec.scalars) + 2 * HARMONICS
        steps, pooling, _ = self.weather(year)
        values = {"forcing": len(steps) * channels}
        if spec.driver:
            values["driver"] = self.sources["lu_total"].shape[1]
        size = 4 * pooling.size
        for name, count in values.items():
            rows, columns = self.axes.get(name, (ANYWHERE, ANYWHERE))
            down = math.ceil(height * grid.dlat / abs(rows.step)) + 2
            across = math.ceil(width * grid.dlon / abs(columns.step)) + 2
            size += 4 * count * down * across
        return size * (1 + self.lead)

    def together(self, size: int, memory: int) -> int:
        """Years of a window that are read at once: those in one chunk of the store, if they fit.

        A chunk that holds several is decoded once for all of them. `size` is the bytes of a year.
        """
        longest = 1
        for name in self.spec.targets:
            found = self.sources[name]
            if isinstance(found, Stored) and found.backing is not None:
                held = int(np.diff(found.backing.edges[0]).max())
                longest = max(longest, held // (len(self.spec.steps) if name == "lai" else 1))
        return max(min(longest, memory // size), 1)

    def read(self, place: Place) -> list[Known]:
        """What is known at a place, by year.

        Raises
        ------
        TrainingError
            If something cannot be read or is no input or target; names the place.
        """
        with self.naming(place):
            steady = sample_of(self.fields(place.window, None), self.steady)
            return self.known(place, steady)

    @contextmanager
    def naming(self, place: Place) -> Iterator[None]:
        """What goes wrong in here tells where."""
        try:
            yield
        except (CubeError, EmulatorError) as error:
            raise TrainingError(f"training stopped at {self.text(place)}: {error}") from error

    def known(self, place: Place, steady: Sample) -> list[Known]:
        """What is known of a window by year, given what is so in all of them."""
        window, years = place.window, place.years
        targets = {str(name): self.target(name, window, years) for name in self.spec.targets}
        found = []
        for i, year in enumerate(years):
            before = list(takewhile(self.has, range(year - 1, year - 1 - self.lead, -1)))[::-1]
            lead = tuple(self.sample(window, y, steady) for y in before)
            now = {name: values[i] for name, values in targets.items()}
            found.append(Known(self.sample(window, year, steady), now, lead))
        return found

    def has(self, year: int) -> bool:
        """Whether a year's state is in the cube and may be seen: a rollout can begin with it."""
        apart = self.spec.split.years if self.spec.split else ()
        return year in self.places and year - 1 in self.places and year - 1 not in apart

    def led(self, year: int) -> bool:
        """Whether as many years before are there as are read too."""
        return all(self.has(before) for before in range(year - self.lead, year))

    def sample(self, window: Window, year: int, steady: Sample) -> Sample:
        """Inputs of a year."""
        now = sample_of(self.fields(window, year), self.yearly)
        valid = now.valid & steady.valid
        static = steady.static
        if not np.array_equal(valid, steady.valid):
            static = np.concatenate([static[:-1], valid[None].astype(np.float32)])
        return dataclasses.replace(now, static=static, valid=valid)

    def fields(self, window: Window, year: int | None) -> Fields:
        """Inputs of a window that do not change, or those of a year; NaN beyond the grid."""
        shape = (window.height, window.width)
        latitude, longitude = window.axes(self.grid)
        if year is None:
            position = {"latitude": latitude[:, None], "longitude": longitude}
            fine = {
                v.name: np.broadcast_to(position[v.name], shape)
                if v.name in position
                else self.fine(v.name, window, ())
                for v in self.spec.static
            }
            return Fields(shape, np.eye(1), np.zeros((1, 0)), fine=fine)
        steps, pooling, seasons = self.weather(year)
        cells = {
            name: [among(axis, at) for axis, at in zip(axes, (latitude, longitude), strict=True)]
            for name, axes in self.axes.items()
        }
        at = slice(self.places[year], self.places[year] + 1) if year in self.places else None
        driver = None
        if self.spec.driver:
            driver = self.coarse("lu_total", "driver", at, cells["driver"])[0]
        return Fields(
            shape,
            pooling,
            seasons,
            forcing={
                v.name: self.coarse(
                    v.name, "forcing", slice(steps[0], steps[-1] + 1), cells["forcing"]
                )[steps - steps[0]]
                for v in self.spec.forcing
            },
            scalars={v.name: float(self.once(v.name, (at,))[0]) for v in self.spec.scalars},
            driver=driver,
            state={
                n: self.fine(n, window, (slice(self.places[year - 1], self.places[year]),))[0]
                for n in self.spec.state
            },
            places={n: (rows.position, columns.position) for n, (rows, columns) in cells.items()},
            latitude=latitude,
            longitude=longitude,
            year=year,
        )

    def weather(self, year: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Steps of forcing that a year needs, how they pool to its own, and their seasons."""
        if year not in self._weather:
            steps, pooling, middle = weather_steps(self.cube, self.spec, year)
            self._weather[year] = steps, pooling, calendar(middle)
        return cast(tuple[np.ndarray, np.ndarray, np.ndarray], self._weather[year])

    def target(self, name: str, window: Window, years: Sequence[int]) -> np.ndarray:
        """A target of some years under a window, float32; NaN where it is unknown.

        Returns
        -------
        numpy.ndarray
            ``(year, class, y, x)`` shares that sum to 1, or ``(year, step, y, x)`` leaf area
            index.
        """
        if name == "lai":
            starts = np.concatenate([steps_of(self.spec, year)[0] for year in years])
            at = self.cube.indexes["time"].get_indexer(starts)
            length = len(self.spec.steps)
        else:
            at = np.array([self.places.get(year, -1) for year in years])
            length = self.sources[name].shape[1]
        shape = (window.height, window.width)
        values = np.full((len(years), length, *shape), np.nan, np.float32)
        if (known := at >= 0).any():
            first = at[known].min()
            read = self.fine(name, window, (slice(first, at[known].max() + 1),))
            if name == "lai":
                values.reshape(-1, *shape)[known] = read[at[known] - first]
            else:
                for i in np.flatnonzero(known):
                    values[i] = shares(read[at[i] - first], name)
        return values

    def fine(self, name: str, window: Window, before: tuple[slice, ...]) -> np.ndarray:
        """A field on the target grid under a window, all classes; NaN beyond the grid."""
        rows, columns = window.extents(self.grid)
        middle = self.sources[name].shape[len(before) : -2]
        outer = [[part] for part in (*before, *(slice(0, n) for n in middle))]
        parts = [self.load(name, box) for box in boxes(*outer, rows.parts, columns.parts)]
        value = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)
        pads = [(0, 0)] * (value.ndim - 2)
        pads += [(rows.before, rows.after), (columns.before, columns.after)]
        if not any(map(sum, pads)):
            return value
        return np.pad(value.astype(np.float32), pads, constant_values=np.nan)

    def coarse(self, name: str, grid: str, at: slice | None, cells: Sequence[Any]) -> np.ndarray:
        """A field on the coarse cells around a window; those beyond an end of an axis repeat it."""
        axes = self.axes[grid]
        rows, columns = (axis.index(c.start, c.stop) for axis, c in zip(axes, cells, strict=True))
        spans = [slice(int(i.min()), int(i.max()) + 1) for i in (rows, columns)]
        middle = [slice(0, n) for n in self.sources[name].shape[1:-2]]
        value = self.once(name, (at, *middle, *spans))
        return value[..., rows[:, None] - spans[0].start, columns - spans[1].start]

    def once(self, name: str, box: Any) -> np.ndarray:
        """A small box, kept: windows need the same cells in every epoch."""
        key = (name, *((part.start, part.stop) for part in box))
        return self._near.get(key, partial(self.load, name, box))

    def load(self, name: str, box: Any) -> np.ndarray:
        """A box of a variable, in memory."""
        found = self.sources[name]
        if isinstance(found, Chunked) and found.array is not None:
            try:
                value = found.array[box].compute()
            except Exception as error:
                raise CubeError(
                    f"input {name!r} cannot be computed: {reason(error)}; see what its graph does"
                ) from error
        else:
            value = found.read(found.carry(box), box)
        value = value.get() if hasattr(value, "get") else np.asarray(value)  # CuPy's are fetched
        if self.strict and np.isinf(value).any():
            raise CubeError(
                f"{name!r} must be finite, or NaN where it is missing; {np.isinf(value).sum()} "
                f"values are infinite at {where(self.cube[name].dims, box)}; make them NaN, or "
                "mend them"
            )
        return value

    def text(self, place: Place) -> str:
        """Where a place is, for people."""
        latitude, longitude = place.window.axes(self.grid)
        years = " and ".join(map(str, place.years))
        return (
            f"{latitude[0]:.6g} to {latitude[-1]:.6g} degrees north, "
            f"{longitude[0]:.6g} to {longitude[-1]:.6g} east, of {years}"
        )
