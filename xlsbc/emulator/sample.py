"""From a window of a cube to the arrays that a network takes, the same for training and use.

A window is the part of a conformed cube under some rows and columns of the target grid, which may
reach beyond it; what lies beyond is missing. A missing value becomes 0 after scaling, and two kinds
of channels tell the network: one for all required inputs together, one for each optional input.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from xlsbc.cube.grid import Grid, position
from xlsbc.emulator.spec import InputVariable, Spec
from xlsbc.emulator.steps import calendar, weather_steps
from xlsbc.errors import EmulatorError

__all__ = ["Sample", "Window", "assemble", "cut", "select", "shares"]

NEGLIGIBLE = 1e-6
"""Interpolation weight below which a missing coarse cell does not make a pixel missing."""

RESOLVED = 2.0**-20
"""Part of a coarse cell to which places in it are rounded, so that a box cut out of a cube, whose
coordinates differ in their last bit, has the same ones."""


@dataclass(frozen=True)
class Window:
    """Rows ``y .. y + height`` and columns ``x .. x + width`` of the target grid, in pixels."""

    y: int
    x: int
    height: int
    width: int


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


def cut(cube: xr.Dataset, window: Window) -> xr.Dataset:
    """The part of a conformed cube under a window, lazy; NaN where the window reaches beyond."""
    grid = Grid.of(cube)
    north, west = grid.north - grid.dlat * window.y, grid.west + grid.dlon * window.x
    axes = {
        "latitude": north - grid.dlat * np.arange(window.height),
        "longitude": west + grid.dlon * np.arange(window.width),
    }
    spans, pads = {}, {}
    for dim, start in (("latitude", window.y), ("longitude", window.x)):
        length, size = len(axes[dim]), cube.sizes[dim]
        low, high = (min(max(edge, 0), size) for edge in (start, start + length))
        spans[dim] = slice(low, high)
        before = min(max(-start, 0), length)
        pads[dim] = (before, length - before - (high - low))
    part = cube.isel(spans)
    if any(any(pad) for pad in pads.values()):
        part = part.pad(pads, constant_values=np.nan)
    return part.assign_coords({dim: (dim, axis, cube[dim].attrs) for dim, axis in axes.items()})


def select(
    cube: xr.Dataset, spec: Spec, window: Window, year: int, given: tuple[str, ...] = ()
) -> xr.Dataset:
    """All that a window and a year need of a conformed cube, and nothing else; lazy.

    Parameters
    ----------
    cube
        Conformed.
    spec
        Which inputs, and how far back a step remembers.
    window
        Pixels of the target grid.
    year
        One of `years`.
    given
        Fractions to take along as conditions.

    Returns
    -------
    xarray.Dataset
        Inputs on the window's pixels and on the coarse cells around it, the weights ``pooling``
        of forcing steps in leaf-area steps ``(step, forcing_time)``, the ``calendar`` of forcing
        steps, and where pixels lie among coarse cells (``forcing_row``, ``forcing_column``,
        ``driver_row``, ``driver_column``), as fractional indices.
    """
    on_grid = [v.name for v in spec.static if v.name not in ("latitude", "longitude")]
    axes = {dim: cube[dim] for dim in ("latitude", "longitude")}
    part = cut(cube[on_grid].assign_coords(axes), window)
    yearly = [*(v.name for v in spec.scalars), *(["lu_total"] if spec.driver else [])]
    if yearly:
        now = cube[yearly].sel(year=year, drop=True)
        part = part.assign({name: now[name] for name in yearly})
    if given:
        condition = cut(cube[list(given)].sel(year=year, drop=True), window)
        part = part.assign({f"given_{name}": condition[name] for name in given})
    steps, pooling, middle = weather_steps(cube, spec, year)
    if spec.forcing:
        forcing = cube[[v.name for v in spec.forcing]].isel(forcing_time=steps)
        part = part.assign({v.name: forcing[v.name] for v in spec.forcing})
        part = around(part, "forcing")
    if spec.driver:
        part = around(part, "driver")
    return part.drop_vars("forcing_time", errors="ignore").assign(
        pooling=(("step", "forcing_time"), pooling),
        calendar=(("forcing_time", "harmonic"), calendar(middle)),
    )


def assemble(part: xr.Dataset, spec: Spec, given: tuple[str, ...] = ()) -> Sample:
    """What `select` chose, in memory, as a network takes it.

    Parameters
    ----------
    part
        In memory; a lazy one is computed.
    spec
        Inputs and their scaling.
    given
        Fractions that are conditions; a pixel without them is not valid.

    Raises
    ------
    EmulatorError
        If given fractions are not shares that sum to 1.
    """
    part = part.compute()
    shape = part.sizes["latitude"], part.sizes["longitude"]
    channels, present, valid = [], [], np.ones(shape, bool)
    for variable in spec.static:
        field = part[variable.name].broadcast_like(part[["latitude", "longitude"]])
        value = scaled(field.transpose("latitude", "longitude").to_numpy(), variable)
        here = np.isfinite(value)
        if variable.optional:
            present.append(here)
        else:
            valid &= here
        channels.append(np.where(here, value, 0.0))
    weather = np.broadcast_to(
        part["calendar"].to_numpy()[:, :, None, None],
        (
            *part["calendar"].shape,
            *(part.sizes.get(f"forcing_{d}", 1) for d in ("latitude", "longitude")),
        ),
    )
    scalars = [
        np.full_like(weather[:, :1], scaled(part[v.name].to_numpy(), v)) for v in spec.scalars
    ]
    forcing = [scaled(part[v.name].to_numpy(), v)[:, None] for v in spec.forcing]
    weather = np.concatenate([*forcing, weather, *scalars], axis=1)
    row, column = np.zeros(shape[0]), np.zeros(shape[1])
    if spec.forcing:
        row, column = part["forcing_row"].to_numpy(), part["forcing_column"].to_numpy()
    valid &= reachable(weather, row, column)
    driver = {}
    if spec.driver:
        totals = part["lu_total"].to_numpy()
        at = part["driver_row"].to_numpy(), part["driver_column"].to_numpy()
        valid &= reachable(totals[None], *at)
        driver = {"driver": totals, "driver_row": at[0], "driver_column": at[1]}
    conditions = {
        name.removesuffix("_fraction"): shares(part[f"given_{name}"].rename(name)) for name in given
    }
    for value in conditions.values():
        valid &= np.isfinite(value).all(axis=0)
    arrays = {
        "static": np.stack([*channels, *present, valid]),
        "forcing": weather,
        "row": np.nan_to_num(row),
        "column": np.nan_to_num(column),
        **driver,
        **conditions,
    }
    return Sample(
        **{name: np.nan_to_num(value).astype(np.float32) for name, value in arrays.items()},
        pooling=part["pooling"].to_numpy().astype(np.float32),
        valid=valid,
    )


def shares(field: xr.DataArray) -> np.ndarray:
    """Class fractions ``(class, y, x)`` that sum to 1 to the last bit that float32 has.

    Raises
    ------
    EmulatorError
        If the fractions of a pixel are negative or do not sum to 1 within 0.1 %.
    """
    value = field.to_numpy().astype(np.float64)
    total = value.sum(axis=0)
    wrong = (np.abs(total - 1) > 1e-3) | (value.min(axis=0) < -1e-6)  # NaN compares false
    if wrong.any():
        raise EmulatorError(
            f"{field.name} must be shares that sum to 1 over the classes of a pixel; "
            f"{wrong.sum()} pixels of a window do not (sums from {total[wrong].min():.4g} to "
            f"{total[wrong].max():.4g}, least share {value[:, wrong].min():.4g}); "
            "normalise them, or make them NaN"
        )
    value = np.clip(value, 0, None)
    return value / value.sum(axis=0)


def around(part: xr.Dataset, grid: str) -> xr.Dataset:
    """Cut a coarse grid to the cells that interpolation to the pixels needs.

    Adds where the pixels lie among those cells, NaN outside the cells' footprint.
    """
    spans, places = {}, {}
    for axis, name in (("latitude", "row"), ("longitude", "column")):
        coarse, fine = part[f"{grid}_{axis}"].to_numpy(), part[axis].to_numpy()
        at = np.round(position(coarse, fine) / RESOLVED) * RESOLVED
        first = int(np.floor(at.min()))
        last = min(int(np.floor(at.max())) + 1, len(coarse) - 1)
        spans[f"{grid}_{axis}"] = slice(first, last + 1)
        places[f"{grid}_{name}"] = (axis, np.where(inside(coarse, fine), at - first, np.nan))
    return part.isel(spans).assign(places)


def scaled(values: np.ndarray, variable: InputVariable) -> np.ndarray:
    """Transformed values less their mean over their standard deviation, float64; NaN stays."""
    values = np.asarray(values, dtype=np.float64)
    if variable.transform == "log":
        values = np.log(np.where(values > 0, values, np.nan))
    return (values - variable.mean) / variable.std


def inside(coarse: np.ndarray, fine: np.ndarray) -> np.ndarray:
    """Whether fine coordinates lie within the cells of a regular coarse axis, degrees."""
    if len(coarse) == 1:
        return np.ones(len(fine), bool)
    half = abs(coarse[1] - coarse[0]) / 2 * (1 + 1e-6)
    middle = (coarse[0] + coarse[-1]) / 2
    turned = fine + 360.0 * np.round((middle - fine) / 360.0)
    return (turned >= coarse.min() - half) & (turned <= coarse.max() + half)


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
