"""Other ways to what the package computes, for tests to compare with: by xarray, lazily."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import xarray as xr

from xlsbc.cube.grid import Grid
from xlsbc.emulator.cells import Axis, among
from xlsbc.emulator.sample import Fields, Sample, Window, sample_of
from xlsbc.emulator.spec import Spec
from xlsbc.emulator.steps import calendar, weather_steps

__all__ = ["Drawn", "assemble", "cut", "select"]


@dataclass(frozen=True)
class Drawn:
    """Parts of a split drawn by hand, as `xlsbc.training.splits.Parts` tells them.

    Parameters
    ----------
    parts
        ``(latitude, longitude)``.
    held_out
        Years.
    """

    parts: np.ndarray
    held_out: tuple[int, ...] = ()

    def box(self, rows: slice = slice(None), columns: slice = slice(None)) -> np.ndarray:
        """Parts of a box."""
        return self.parts[rows, columns]

    def years(self, years: Iterable[int]) -> tuple[list[int], list[int]]:
        """Those that train and those that are scored."""
        listed = sorted(years)
        apart = [year for year in listed if year in self.held_out]
        return [year for year in listed if year not in apart], apart or listed


def cut(cube: xr.Dataset, window: Window) -> xr.Dataset:
    """The part of a conformed cube under a window, lazy; NaN where the window reaches beyond."""
    grid = Grid.of(cube)
    axes = dict(zip(("latitude", "longitude"), window.axes(grid), strict=True))
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
    for label, names, of in (("given", given, year), ("state", spec.state, year - 1)):
        if names:
            fractions = cut(cube[list(names)].sel(year=of, drop=True), window)
            part = part.assign({f"{label}_{name}": fractions[name] for name in names})
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
    on_grid = part[["latitude", "longitude"]]
    grids = [*(["forcing"] if spec.forcing else []), *(["driver"] if spec.driver else [])]
    fields = Fields(
        shape=(part.sizes["latitude"], part.sizes["longitude"]),
        pooling=part["pooling"].to_numpy(),
        calendar=part["calendar"].to_numpy(),
        fine={
            v.name: part[v.name]
            .broadcast_like(on_grid)
            .transpose("latitude", "longitude")
            .to_numpy()
            for v in spec.static
        },
        forcing={v.name: part[v.name].to_numpy() for v in spec.forcing},
        scalars={v.name: float(part[v.name]) for v in spec.scalars},
        driver=part["lu_total"].to_numpy() if spec.driver else None,
        given={name: part[f"given_{name}"].to_numpy() for name in given},
        state={name: part[f"state_{name}"].to_numpy() for name in spec.state},
        places={
            grid: (part[f"{grid}_row"].to_numpy(), part[f"{grid}_column"].to_numpy())
            for grid in grids
        },
    )
    return sample_of(fields, spec)


def around(part: xr.Dataset, grid: str) -> xr.Dataset:
    """Cut a coarse grid to the cells that interpolation to the pixels needs.

    Adds where the pixels lie among those cells, NaN outside the cells' footprint.
    """
    spans, places = {}, {}
    for dim, name in (("latitude", "row"), ("longitude", "column")):
        axis = Axis.of(part[f"{grid}_{dim}"].to_numpy())
        found = among(axis, part[dim].to_numpy())
        spans[f"{grid}_{dim}"] = axis.index(found.start, found.stop)
        places[f"{grid}_{name}"] = (dim, found.position)
    return part.isel(spans).assign(places)
