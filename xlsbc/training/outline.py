"""What an emulator of a cube will be: its inputs, targets and steps, before anything is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import pandas as pd
import xarray as xr

from xlsbc.cube.grid import Grid
from xlsbc.cube.vocabulary import VOCABULARY
from xlsbc.emulator.spec import (
    TILE,
    Architecture,
    Given,
    InputVariable,
    Lattice,
    Spec,
    Split,
    Target,
    listed,
)
from xlsbc.errors import TrainingError
from xlsbc.models.blending import step

__all__ = ["outline"]

TARGETS: tuple[Target, ...] = ("lu_fraction", "lc_fraction", "lai")

LOGARITHMIC = ("soil_hydraulic_conductivity",)
"""Inputs spread over orders of magnitude."""


def outline(
    cube: xr.Dataset,
    *,
    split: Split,
    architecture: Architecture,
    window: int | None = None,
    given: Sequence[tuple[str, ...]] | None = None,
    optional: Sequence[str] = (),
    position: bool | None = None,
    state: Sequence[str] = (),
) -> Spec:
    """An emulator of a cube without scaling of its inputs; computes nothing.

    Parameters
    ----------
    cube
        Conformed.
    split, architecture, given, optional, position, state
        See `xlsbc.training.config.Training`.
    window
        Side of the windows of a backbone that cuts patches, pixels.

    Raises
    ------
    TrainingError
        With everything that stands against it.
    """
    targets = tuple(name for name in TARGETS if name in cube)
    fractions = tuple(name for name in targets if name != "lai")
    forcing = named(cube, "forcing")
    statics = [name for name in named(cube, "static") if name in cube]
    if position is None:
        position = not forcing
    state, optional = listed(state), listed(optional)
    problems = []
    if not targets:
        problems.append(f"expected at least one target of {', '.join(TARGETS)}; found none")
    if unknown := sorted(set(optional) - set(statics)):
        problems.append(f"optional inputs {unknown} are not static inputs; found {statics}")
    combinations = tuple(map(tuple, given)) if given is not None else None
    if combinations is None:
        single = [(n,) for n in fractions] if len(targets) > 1 else []
        combinations = ((), *single)
    named_given = {name for names in combinations for name in names}
    if wrong := sorted(named_given - set(fractions)):
        problems.append(f"{wrong} cannot be given: the cube holds {', '.join(targets)}")
    if unknown := sorted(set(state) - set(fractions)):
        problems.append(f"state {unknown} is no land-use or land-cover target; found {targets}")
    if state and cube.sizes.get("year", 1) < 2:
        problems.append("state needs the year before; the cube has one year")
    if not statics and not forcing and not position and not named_given and not state:
        problems.append("found no input: no static field, no forcing, nothing given")
    if problems:
        raise TrainingError("the cube cannot train an emulator", problems)
    yearly = [n for n in named(cube, "scalar") if n in cube and cube[n].sizes.get("year", 1) > 1]
    statics += ["latitude", "longitude"] if position else []
    grid = Grid.of(cube)
    stride = architecture.stride if window is None else step(window)
    tile = -(-TILE // stride) * stride if window is None else max(round(TILE / stride), 2) * stride
    steps = leaf_steps(cube)
    return Spec(
        static=inputs(cube, statics, optional),
        forcing=inputs(cube, forcing),
        scalars=inputs(cube, yearly),
        driver="lu_total" in cube,
        targets=targets,
        given=cast(tuple[tuple[Given, ...], ...], combinations),  # checked above
        state=cast(tuple[Given, ...], state),  # checked above
        steps=steps,
        history=len(steps) if forcing else 1,
        architecture=architecture,
        lattice=Lattice(dlat=grid.dlat, dlon=grid.dlon, tile=tile, window=window),
        split=split,
    )


def inputs(
    cube: xr.Dataset, names: Sequence[str], optional: Sequence[str] = ()
) -> tuple[InputVariable, ...]:
    """Variables as inputs that are not scaled."""
    return tuple(
        InputVariable(
            name=name,
            units=str(cube[name].attrs.get("units", "1")),
            standard_name=cube[name].attrs.get("standard_name"),
            transform="log" if name in LOGARITHMIC else "identity",
            optional=name in optional,
        )
        for name in names
    )


def named(cube: xr.Dataset, role: str) -> list[str]:
    """Variables of a conformed cube with a role, by vocabulary or by their own attribute."""
    return [
        str(name)
        for name, field in cube.data_vars.items()
        if (VOCABULARY[str(name)].role if name in VOCABULARY else field.attrs.get("xlsbc_role"))
        == role
    ]


def leaf_steps(cube: xr.Dataset) -> tuple[tuple[int, int], ...]:
    """Month and day on which leaf-area steps start in every year; months without a target."""
    if "lai" not in cube:
        return tuple((month, 1) for month in range(1, 13))
    times = pd.DatetimeIndex(cube["time"].to_numpy())
    dates = set(zip(times.month.tolist(), times.day.tolist(), strict=True))
    return tuple(sorted(dates - {(2, 29)}))  # a day that most years do not have
