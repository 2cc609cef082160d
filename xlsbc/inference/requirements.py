"""What a cube must have for an emulator to be used on it, all that is lacking at once."""

from __future__ import annotations

from collections.abc import Iterator

import xarray as xr

from xlsbc.cube.grid import Grid
from xlsbc.emulator.artefact import Emulator
from xlsbc.emulator.spec import Spec
from xlsbc.emulator.steps import years
from xlsbc.errors import EmulatorError
from xlsbc.inference.outputs import outputs_of

__all__ = ["check_fit"]


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
    for name in spec.state:
        if name not in cube:
            yield f"{name!r}, the state of the year before, is not in the cube; add a year of it"
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
    available = years(cube, spec, given, rolling=True)
    timeless = not (spec.forcing or spec.scalars or spec.driver or spec.state or given)
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
    elif spec.state:
        known = {*cube.indexes["year"].tolist(), *(period or available)}
        if alone := [year for year in period or available if year - 1 not in known]:
            yield (
                f"years {alone} go on from the year before, which is neither in the cube nor in "
                "period; let period start after a year of the cube"
            )
