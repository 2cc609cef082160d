"""Lazy prediction: a graph of independent tiles, each one read, run and cut by one task."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import dask
import dask.array as da
import numpy as np
import torch
import xarray as xr
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph
from torch import Tensor

from xlsbc.cube.grid import Grid
from xlsbc.cube.schema import conform
from xlsbc.cube.vocabulary import attributes
from xlsbc.emulator.artefact import Emulator
from xlsbc.emulator.sample import assemble, select
from xlsbc.emulator.spec import Spec
from xlsbc.emulator.steps import steps_of, years
from xlsbc.errors import EmulatorError
from xlsbc.inference.tiling import Tile, tiles
from xlsbc.models.network import Outputs

__all__ = ["predict"]

ONE_AT_A_TIME = threading.Lock()
"""torch uses every core for one window; a second window beside it would only take turns."""


@dataclass(frozen=True)
class Output:
    """A predicted variable: its dims before latitude and longitude, and its attributes."""

    dims: tuple[str, ...]
    attrs: dict[str, str]


OUTPUTS = {
    "lu_fraction": Output(("year", "lu_class"), attributes("lu_fraction")),
    "lc_fraction": Output(("year", "lc_class"), attributes("lc_fraction")),
    "cvh": Output(
        ("year",),
        {"standard_name": "area_fraction", "long_name": "cover of high vegetation", "units": "1"},
    ),
    "cvl": Output(
        ("year",),
        {"standard_name": "area_fraction", "long_name": "cover of low vegetation", "units": "1"},
    ),
    "lai": Output(("time",), attributes("lai")),
    "lai_hv": Output(
        ("time",),
        {
            "standard_name": "leaf_area_index",
            "long_name": "leaf area index of high vegetation",
            "units": "1",
            "cell_methods": "area: mean where high vegetation",
        },
    ),
    "lai_lv": Output(
        ("time",),
        {
            "standard_name": "leaf_area_index",
            "long_name": "leaf area index of low vegetation",
            "units": "1",
            "cell_methods": "area: mean where low vegetation",
        },
    ),
}


def predict(
    cube: xr.Dataset,
    emulator: Emulator | str,
    *,
    given: Sequence[str] | None = None,
    targets: Sequence[str] | None = None,
    period: Iterable[int] | None = None,
) -> xr.Dataset:
    """Land use, land cover and leaf area index at every pixel and step of a cube; lazy.

    Parameters
    ----------
    cube
        With the emulator's inputs, in any form that `conform` accepts. Pixels that miss an input
        which the emulator requires are NaN in the result, as are those outside its forcing.
    emulator
        One in memory, or the URL of one.
    given
        Fractions to take from the cube instead of predicting them, e.g. ``("lc_fraction",)``:
        the rest is generated consistent with them. By default nothing, if the emulator learned
        to do so, else what it always takes.
    targets
        Variables to return, of lu_fraction, lc_fraction, cvh, cvl, lai, lai_hv, lai_lv; by default
        all that the emulator learned and what follows from them.
    period
        Calendar years; by default all whose inputs are in the cube.

    Returns
    -------
    xarray.Dataset
        ``lu_fraction (year, lu_class, latitude, longitude)``, ``lc_fraction (year, lc_class, …)``,
        ``cvh`` and ``cvl (year, …)``, ``lai``, ``lai_hv`` and ``lai_lv (time, latitude,
        longitude)``; float32, 1; NaN where missing. Attributes ``xlsbc_emulator`` (hash) and
        ``xlsbc_given``. A place has the same value in any box that holds it and its context of
        ``emulator.halo`` pixels.

    Raises
    ------
    CubeError
        If the cube is not a cube.
    EmulatorError
        With every reason why the emulator cannot be used on the cube.
    """
    emulator = Emulator.open(str(emulator)) if not isinstance(emulator, Emulator) else emulator
    cube = conform(cube)
    chosen = emulator.spec.given[0] if given is None else listed(given)
    names = outputs_of(emulator, chosen) if targets is None else listed(targets)
    wanted = period if period is None else sorted({int(year) for year in period})
    check_fit(cube, emulator, chosen, names, wanted)
    wanted = years(cube, emulator.spec, chosen) if wanted is None else wanted
    grid = Grid.of(cube)
    lattice = tiles(grid, emulator.spec.lattice.tile, emulator.halo)
    shared = dask.delayed(emulator, name=f"emulator-{emulator.hash}", traverse=False)
    blocks = [
        [[tile_task(shared, emulator, cube, tile, year, chosen) for tile in row] for row in lattice]
        for year in wanted
    ]
    variables = {
        name: (
            (*OUTPUTS[name].dims, "latitude", "longitude"),
            assembled(name, blocks, lattice, emulator),
            OUTPUTS[name].attrs,
        )
        for name in names
    }
    return xr.Dataset(
        variables, coordinates(cube, emulator, names, wanted), provenance(emulator, chosen, cube)
    )


def listed(names: Sequence[str]) -> tuple[str, ...]:
    """Names as a tuple; one name alone is a list of one."""
    return (names,) if isinstance(names, str) else tuple(names)


def outputs_of(emulator: Emulator, given: tuple[str, ...]) -> tuple[str, ...]:
    """Variables that an emulator can stand for: what it learned, what is given, what follows."""
    known = {*emulator.spec.targets, *given}
    if "lc_fraction" in known:
        known |= {"cvh", "cvl"}
        if "lai" in known:
            known |= {"lai_hv", "lai_lv"}
    return tuple(name for name in OUTPUTS if name in known)


def check_fit(
    cube: xr.Dataset,
    emulator: Emulator,
    given: tuple[str, ...],
    names: tuple[str, ...],
    period: list[int] | None,
) -> None:
    """Refuse a cube that an emulator cannot be used on, with every reason."""
    problems = [
        *lacking_inputs(cube, emulator.spec),
        *unknown_conditions(cube, emulator.spec, given),
        *other_grid(cube, emulator.spec),
    ]
    if unknown := [name for name in names if name not in outputs_of(emulator, given)]:
        problems.append(f"{unknown} is not what the emulator gives: {outputs_of(emulator, given)}")
    if not problems:
        problems += lacking_years(cube, emulator.spec, given, period)
    if problems:
        raise EmulatorError(f"emulator {emulator.hash[:12]} cannot be used on this cube", problems)


def lacking_inputs(cube: xr.Dataset, spec: Spec) -> Iterator[str]:
    """Inputs that a cube does not have, or not in the units in which they were learned."""
    for variable in spec.inputs:
        if variable.name in ("latitude", "longitude"):
            continue
        if variable.name not in cube:
            yield (
                f"input {variable.name!r} ({variable.standard_name or variable.units}) is not in "
                "the cube; add it, or pass mapping= to conform"
            )
        elif cube[variable.name].attrs.get("units") != variable.units:
            yield (
                f"input {variable.name!r} was learned in {variable.units!r} and is in "
                f"{cube[variable.name].attrs.get('units')!r}; convert it"
            )
    if spec.driver and "lu_total" not in cube:
        yield "input 'lu_total' (coarse land-use totals) is not in the cube; add it"


def unknown_conditions(cube: xr.Dataset, spec: Spec, given: tuple[str, ...]) -> Iterator[str]:
    """Given fractions that were not learned so, or that the cube does not have."""
    if set(given) not in [set(names) for names in spec.given]:
        known = " or ".join(str(names) for names in spec.given)
        yield f"given={given} was not learned; the emulator knows given={known}"
    for name in given:
        if name not in cube:
            yield f"{name!r} is given but not in the cube; add it"


def other_grid(cube: xr.Dataset, spec: Spec) -> Iterator[str]:
    """Spacings of the target grid that are not those of the training."""
    grid = Grid.of(cube)
    for name, found in (("dlat", grid.dlat), ("dlon", grid.dlon)):
        expected = getattr(spec.lattice, name)
        if abs(found - expected) > 0.01 * expected:
            yield (
                f"{name} of the grid is {found:.6g} degrees, the emulator's {expected:.6g}; "
                "regrid the cube, or train an emulator on this grid"
            )


def lacking_years(
    cube: xr.Dataset, spec: Spec, given: tuple[str, ...], period: list[int] | None
) -> Iterator[str]:
    """Years without all inputs; where no input has a year, any will do."""
    available = years(cube, spec, given)
    timeless = not (spec.forcing or spec.scalars or spec.driver or given)
    if period == []:
        yield "period names no year; leave it out for all that the cube has"
    elif period is None and not available:
        yield (
            "the cube has no year; pass period="
            if timeless
            else "no year has all inputs; check forcing_time and year"
        )
    elif not timeless and (lacking := sorted(set(period or []) - set(available))):
        yield f"years {lacking} lack inputs; the cube has {available}"


def tile_task(
    shared: Any, emulator: Emulator, cube: xr.Dataset, tile: Tile, year: int, given: tuple[str, ...]
) -> Any:
    """Delayed fields of a tile and year, by name."""
    part = select(cube, emulator.spec, tile.window, year, given)
    name = f"lsbc-predict-tile-{tokenize(shared.key, part, tile, given)}"
    return dask.delayed(run_tile, traverse=False)(shared, part, tile, given, dask_key_name=name)


def run_tile(
    emulator: Emulator, part: xr.Dataset, tile: Tile, given: tuple[str, ...]
) -> dict[str, np.ndarray]:
    """Fields of a tile and year, ``(..., y, x)`` on the pixels of the grid.

    A tile without a valid pixel, all sea, does not run the network.
    """
    sample = assemble(part, emulator.spec, given)
    rows, columns = tile.core
    inner = slice(tile.halo, -tile.halo or None)
    valid = sample.valid[inner, inner][rows, columns]
    if not valid.any():
        return {
            name: np.full((*lengths(emulator, name), *valid.shape), np.nan, np.float32)
            for name in OUTPUTS
        }
    with ONE_AT_A_TIME:
        outputs = emulator.run([sample])
    fields = {k: v[..., rows, columns].cpu().numpy() for k, v in derived(outputs, emulator).items()}
    return {name: np.where(valid, value, np.float32(np.nan)) for name, value in fields.items()}


def derived(outputs: Outputs, emulator: Emulator) -> dict[str, Tensor]:
    """Fields of the first window of a batch, what follows from others included.

    They are derived on whole tiles, though a grid may have parts only: the order of a sum, and so
    its last bit, depends on the shape.
    """
    lc, leaves = outputs.lc[0], outputs.leaves[0]
    leafy = emulator.network.leaf.leafy
    fields = {"lu_fraction": outputs.lu[0], "lc_fraction": lc, "lai": outputs.lai[0]}
    for stature, cover, area in (("high", "cvh", "lai_hv"), ("low", "cvl", "lai_lv")):
        here = [i for i, c in enumerate(leafy) if emulator.lc.classes[c].vegetation == stature]
        shares = lc[[leafy[i] for i in here]]
        fields[cover] = shares.sum(0)
        mean = (shares * leaves[:, here]).sum(1) / fields[cover].clamp_min(torch.finfo().tiny)
        fields[area] = torch.where(fields[cover] > 0, mean, 0)
    return fields


def lengths(emulator: Emulator, name: str) -> tuple[int, ...]:
    """Lengths of a tile's variable before its rows and columns."""
    by_dim = {"lu_class": len(emulator.lu.classes), "lc_class": len(emulator.lc.classes)}
    by_dim["time"] = len(emulator.spec.steps)
    return tuple(by_dim[dim] for dim in OUTPUTS[name].dims if dim != "year")


def assembled(
    name: str, blocks: list[list[list[Any]]], lattice: list[list[Tile]], emulator: Emulator
) -> da.Array:
    """A variable as one lazy array over the delayed tiles of every year."""
    inner = lengths(emulator, name)
    yearly = "year" in OUTPUTS[name].dims
    tasks = [task for year in blocks for row in year for task in row]
    key = f"lsbc-predict-{name}-{tokenize(name, [task.key for task in tasks])}"
    middle = (0,) * (len(inner) if yearly else len(inner) - 1)
    layer: dict[Any, Any] = {
        (key, i, *middle, y, x): (pick, task.key, name, yearly)
        for i, year in enumerate(blocks)
        for y, row in enumerate(year)
        for x, task in enumerate(row)
    }
    heights = tuple(row[0].rows.stop - row[0].rows.start for row in lattice)
    widths = tuple(tile.columns.stop - tile.columns.start for tile in lattice[0])
    first = ((1,) * len(blocks), *((n,) for n in inner)) if yearly else (inner * len(blocks),)
    graph = HighLevelGraph.from_collections(key, layer, dependencies=tasks)
    return da.Array(graph, key, chunks=(*first, heights, widths), dtype=np.float32)


def pick(fields: dict[str, np.ndarray], name: str, yearly: bool) -> np.ndarray:
    """A variable of a tile, with a year axis if it has one."""
    return fields[name][None] if yearly else fields[name]


def coordinates(
    cube: xr.Dataset, emulator: Emulator, names: tuple[str, ...], period: list[int]
) -> dict[str, Any]:
    """Coordinates of a prediction, with their CF attributes."""
    dims = {dim for name in names for dim in OUTPUTS[name].dims}
    found: dict[str, Any] = {dim: cube[dim] for dim in ("latitude", "longitude")}
    if "year" in dims:
        found["year"] = ("year", np.array(period, dtype=np.int64), attributes("year"))
    if "time" in dims:
        times = np.concatenate([steps_of(emulator.spec, year)[0] for year in period])
        found["time"] = ("time", times, attributes("time"))
    for dim, legend in (("lu_class", emulator.lu), ("lc_class", emulator.lc)):
        if dim in dims:
            found[dim] = legend.coordinate(dim)[dim]
    return found


def provenance(emulator: Emulator, given: tuple[str, ...], cube: xr.Dataset) -> dict[str, str]:
    """Attributes of a prediction."""
    return {
        "Conventions": "CF-1.12",
        "title": "land-surface boundary conditions predicted by xlsbc",
        "source": f"xlsbc emulator {emulator.hash}, {emulator.summary()}",
        "history": f"predicted from: {cube.attrs.get('title', 'an untitled cube')}",
        "license": str(cube.attrs.get("license", emulator.spec.license)),
        "references": "doi:10.5194/egusphere-egu26-9688",
        "xlsbc_emulator": emulator.hash,
        "xlsbc_given": " ".join(given),
    }
