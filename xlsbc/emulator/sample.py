"""From a window of a cube to the arrays that a network takes, the same for training and use.

A window is the part of a conformed cube under some rows and columns of the target grid, which may
reach beyond it; what lies beyond is missing. A missing value becomes 0 after scaling, and two kinds
of channels tell the network: one for all required inputs together, one for each optional input.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from xlsbc.cube.grid import Extent, Grid, goes_around
from xlsbc.emulator.cells import on_lattice
from xlsbc.emulator.spec import InputVariable, Spec
from xlsbc.errors import EmulatorError

__all__ = ["POSITION", "Fields", "Sample", "Window", "sample_of", "scaled", "shares"]

NEGLIGIBLE = 1e-6
"""Interpolation weight below which a missing coarse cell does not make a pixel missing."""

POSITION = ("latitude", "longitude")
"""Inputs that are coordinates."""


@dataclass(frozen=True)
class Window:
    """Rows ``y .. y + height`` and columns ``x .. x + width`` of the target grid, in pixels."""

    y: int
    x: int
    height: int
    width: int

    def axes(self, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
        """Latitudes and longitudes of its pixels, on a grid and beyond it, degrees."""
        north = on_lattice(grid.north, grid.dlat) - grid.dlat * self.y
        west = on_lattice(grid.west, grid.dlon) + grid.dlon * self.x
        return north - grid.dlat * np.arange(self.height), west + grid.dlon * np.arange(self.width)

    def extents(self, grid: Grid) -> tuple[Extent, Extent]:
        """Where its rows and columns are found on a grid."""
        rows, columns = self.y + self.height, self.x + self.width
        return (
            Extent.of(self.y, rows, grid.rows, around=False),
            Extent.of(self.x, columns, grid.columns, around=goes_around(grid)),
        )


@dataclass(frozen=True)
class Fields:
    """What a window and year need of a cube, in memory, in the cube's units; NaN is missing.

    Parameters
    ----------
    shape
        Rows and columns of the window.
    pooling
        ``(step, forcing_step)``: how forcing makes up leaf-area steps; rows sum to 1.
    calendar
        ``(forcing_step, harmonic)``: the time of year.
    fine
        ``(y, x)`` by name, of NumPy or CuPy: static inputs.
    forcing
        ``(forcing_step, cell_y, cell_x)`` by name.
    scalars
        Numbers of the year by name.
    driver
        ``(lu, cell_y, cell_x)``: coarse land-use totals.
    given
        ``(class, y, x)`` by name: fractions that are conditions.
    state
        ``(class, y, x)`` by name: fractions of the year before.
    places
        Of "forcing" and "driver": ``(y,)`` and ``(x,)``, where the pixels lie among the cells, as
        fractional indices; NaN outside them.
    latitude, longitude
        ``(y,)`` and ``(x,)``, degrees.
    year
        Calendar year; None for what does not change.
    """

    shape: tuple[int, int]
    pooling: np.ndarray
    calendar: np.ndarray
    fine: Mapping[str, Any] = field(default_factory=dict)
    forcing: Mapping[str, np.ndarray] = field(default_factory=dict)
    scalars: Mapping[str, float] = field(default_factory=dict)
    driver: np.ndarray | None = None
    given: Mapping[str, Any] = field(default_factory=dict)
    state: Mapping[str, Any] = field(default_factory=dict)
    places: Mapping[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    latitude: np.ndarray | None = None
    longitude: np.ndarray | None = None
    year: int | None = None


@dataclass(frozen=True)
class Sample:
    """A window and year, scaled; fields as in `xlsbc.models.network.Inputs`, without batch.

    Parameters
    ----------
    valid
        ``(y, x)``: pixels at which no required input is missing.
    """

    static: np.ndarray
    forcing: np.ndarray
    pooling: np.ndarray
    row: np.ndarray
    column: np.ndarray
    valid: np.ndarray
    driver: np.ndarray | None = None
    driver_row: np.ndarray | None = None
    driver_column: np.ndarray | None = None
    lu: np.ndarray | None = None
    lc: np.ndarray | None = None
    state: np.ndarray | None = None
    latitude: np.ndarray | None = None
    longitude: np.ndarray | None = None
    year: np.ndarray | None = None


def sample_of(fields: Fields, spec: Spec) -> Sample:
    """Fields scaled and stacked as a network takes them; a pixel that lacks one is not valid.

    Parameters
    ----------
    fields
        Those that `spec` asks for.
    spec
        Inputs and their scaling.

    Raises
    ------
    EmulatorError
        If given fractions are not shares that sum to 1.
    """
    cells = next((f.shape[-2:] for f in fields.forcing.values()), (1, 1))
    shape = (*fields.calendar.shape, *cells)
    weather = np.broadcast_to(fields.calendar[:, :, None, None], shape)
    scalars = [
        np.full_like(weather[:, :1], scaled(fields.scalars[v.name], v)) for v in spec.scalars
    ]
    forcing = [scaled(fields.forcing[v.name], v)[:, None] for v in spec.forcing]
    weather = np.concatenate([*forcing, weather, *scalars], axis=1)
    row, column = fields.places.get(
        "forcing", (np.zeros(fields.shape[0]), np.zeros(fields.shape[1]))
    )
    reached = reachable(weather, row, column)
    driver = {}
    if fields.driver is not None:
        at = fields.places["driver"]
        reached &= reachable(fields.driver[None], *at)
        driver = {"driver": fields.driver, "driver_row": at[0], "driver_column": at[1]}
    xp = namespace([*fields.fine.values(), *fields.given.values(), *fields.state.values()])
    valid = xp.asarray(reached)
    static = xp.empty((len(spec.static) + len(spec.optional) + 1, *fields.shape), np.float32)
    flags = iter(static[len(spec.static) :])
    for channel, variable in zip(static, spec.static, strict=False):
        value = xp.asarray(fields.fine[variable.name])
        value = scaled(placed(value) if variable.name in POSITION else value, variable)
        here = xp.isfinite(value)
        channel[:] = value
        if not here.all():
            channel[~here] = 0.0
        if variable.optional:
            next(flags)[:] = here
        else:
            valid &= here
    given = {
        name.removesuffix("_fraction"): shares(xp.asarray(fraction), name)
        for name, fraction in fields.given.items()
    }
    if spec.state:
        before = [shares(xp.asarray(fields.state[name]), name) for name in spec.state]
        given["state"] = xp.concatenate(before)
    for fraction in given.values():
        valid &= xp.isfinite(fraction).all(axis=0)
    next(flags)[:] = valid
    coarse = {"forcing": weather, "row": row, "column": column, **driver}
    if spec.architecture.located and fields.year is not None:
        coarse |= {"latitude": placed(fields.latitude), "longitude": placed(fields.longitude)}
        coarse |= {"year": np.array(fields.year)}
    return Sample(
        static=static,
        **{name: np.nan_to_num(value).astype(np.float32) for name, value in coarse.items()},
        **{name: xp.nan_to_num(value).astype(np.float32) for name, value in given.items()},
        pooling=fields.pooling.astype(np.float32),
        valid=valid,
    )


def namespace(arrays: list[Any]) -> Any:
    """CuPy if any of the arrays lies on a GPU, else NumPy."""
    on_gpu = any(type(array).__module__.partition(".")[0] == "cupy" for array in arrays)
    return sys.modules["cupy"] if on_gpu else np


def shares(fraction: Any, name: str) -> Any:
    """Class fractions ``(class, y, x)`` that sum to 1 to the last bit that float32 has.

    Raises
    ------
    EmulatorError
        If the fractions of a pixel are negative or do not sum to 1 within 0.1 %.
    """
    value = fraction.astype(np.float64)
    total, least = value.sum(axis=0), value.min(axis=0)
    wrong = (np.abs(total - 1) > 1e-3) | (least < -1e-6)  # NaN compares false
    if wrong.any():
        raise EmulatorError(
            f"{name} must be shares that sum to 1 over the classes of a pixel; "
            f"{wrong.sum()} pixels of a window do not (sums from {total[wrong].min():.4g} to "
            f"{total[wrong].max():.4g}, least share {value[:, wrong].min():.4g}); "
            "normalise them, or make them NaN"
        )
    if (least < 0).any():  # by rounding
        value = np.clip(value, 0, None)
        total = value.sum(axis=0)
    value /= total
    return value


def placed(degrees: Any) -> Any:
    """Coordinates within -180..180, less the last bits, in which a box differs from the globe."""
    return np.round(np.round(degrees + 180.0, 9) % 360.0, 9) - 180.0


def scaled(values: Any, variable: InputVariable) -> Any:
    """Transformed values less their mean over their standard deviation, float64; NaN stays."""
    values = np.float64(values) if np.ndim(values) == 0 else values.astype(np.float64)
    if variable.transform == "log":
        values = np.log(np.where(values > 0, values, np.nan))
    values -= variable.mean
    values /= variable.std
    return values


def reachable(values: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Whether interpolation to a pixel ``(y, x)`` meets no missing coarse cell.

    `values` is ``(..., coarse_y, coarse_x)``; a cell is missing if any of its values is.
    """
    covered = np.isfinite(row)[:, None] & np.isfinite(column)
    missing = ~np.isfinite(values).all(axis=tuple(range(values.ndim - 2)))
    if not missing.any():
        return covered
    down = np.clip(1 - np.abs(row[:, None] - np.arange(missing.shape[0])), 0, None)
    across = np.clip(1 - np.abs(column[:, None] - np.arange(missing.shape[1])), 0, None)
    return covered & ~(down @ missing.astype(np.float64) @ across.T > NEGLIGIBLE)
