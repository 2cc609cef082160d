from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from xlsbc.cube.schema import conform
from xlsbc.cube.vocabulary import attributes
from xlsbc.emulator import Architecture, Spec, Split
from xlsbc.errors import TrainingError
from xlsbc.training.outline import outline

STATICS = ["elevation", "slope"]


def drawn(cube: xr.Dataset, **options: Any) -> Spec:
    return outline(cube, **{"split": Split(), "architecture": Architecture(), **options})


def without(cube: xr.Dataset, *starts: str) -> xr.Dataset:
    return cube.drop_vars([n for n in cube.variables if str(n).startswith(starts)])


def names(variables: Any) -> list[str]:
    return [v.name for v in variables]


def test_an_outline_is_what_the_cube_holds_unscaled(world):
    spec = drawn(world)
    assert names(spec.static)[:2] == STATICS
    assert names(spec.forcing) == ["t2m", "tp", "ssrd", "swvl1"]
    assert names(spec.scalars) == ["co2"]
    assert all((v.mean, v.std) == (0.0, 1.0) for v in spec.inputs)
    assert spec.targets == ("lu_fraction", "lc_fraction", "lai")
    assert spec.given == ((), ("lu_fraction",), ("lc_fraction",))
    assert spec.driver
    assert spec.history == 12


def test_an_outline_computes_nothing(world, no_compute):
    lazy = world.chunk({"latitude": 10, "year": 1, "time": 6, "forcing_time": 6})
    assert drawn(lazy) == drawn(world)


def test_conductivity_is_logarithmic_and_nothing_else_is(world):
    name = "soil_hydraulic_conductivity"
    spec = drawn(world.assign({name: world["elevation"].assign_attrs(attributes(name))}))
    assert [v.name for v in spec.inputs if v.transform == "log"] == [name]


def test_units_and_standard_names_are_those_of_the_cube(world):
    elevation = drawn(world, optional="slope").static[0]
    assert (elevation.units, elevation.standard_name) == ("m", "surface_altitude")


def test_one_optional_input_is_a_list_of_one(world):
    assert names(drawn(world, optional="slope").optional) == ["slope"]


def test_without_weather_places_stand_for_climate(world):
    spec = drawn(without(world, "t2m", "tp", "ssrd", "swvl1", "forcing"))
    assert names(spec.static)[-2:] == ["latitude", "longitude"]
    assert spec.history == 1


@pytest.mark.parametrize("position", [True, False])
def test_places_are_inputs_or_not_as_is_asked(world, position):
    assert ("latitude" in names(drawn(world, position=position).static)) is position


def test_a_cube_of_one_target_is_given_nothing(world):
    assert drawn(without(world, "lu_", "lai", "time", "driver")).given == ((),)
    assert drawn(without(world, "lu_", "lc_", "driver")).given == ((),)


def test_totals_drive_whatever_is_learned(world):
    assert drawn(world.drop_vars("lu_fraction")).driver
    assert not drawn(world.drop_vars("lu_total")).driver


def test_a_number_of_one_year_is_no_input(world):
    assert drawn(world.isel(year=[0])).scalars == ()


def test_29_february_has_no_step_of_its_own(world):
    days = pd.date_range("2000-02-27", "2000-03-02")
    lai = world["lai"].isel(time=np.arange(5)).assign_coords(time=days)
    cube = without(world, "lai", "time").assign(lai=lai)
    assert drawn(cube, given=[()]).steps == ((2, 27), (2, 28), (3, 1), (3, 2))


def test_an_input_with_a_role_of_its_own_is_an_input(world):
    attrs = {"xlsbc_role": "forcing", "units": "K", "long_name": "skin temperature"}
    cube = conform(world.assign(skin=(world["t2m"] + 1).assign_attrs(attrs)))
    assert names(drawn(cube).forcing)[-1] == "skin"


def test_a_tile_is_of_whole_strides(world):
    deep = Architecture(width=(4, 4, 4, 4, 4, 4))
    assert drawn(world, architecture=deep).lattice.tile == 256


def test_every_problem_is_named_at_once(world):
    empty = without(world, "lu_fraction", "lc_", "lai", "time")
    with pytest.raises(TrainingError, match="the cube cannot train an emulator") as caught:
        drawn(empty, optional=("soil",), given=[("lc_fraction",)], state=("lu_fraction",))
    starts = [
        "expected at least one target",
        "optional inputs ['soil'] are not static",
        "['lc_fraction'] cannot be given",
        "state ['lu_fraction'] is no land-use",
    ]
    assert len(caught.value.problems) == len(starts)
    for found, expected in zip(caught.value.problems, starts, strict=True):
        assert found.startswith(expected)


def test_state_needs_a_year_before(world):
    with pytest.raises(TrainingError, match="state needs the year before; the cube has one year"):
        drawn(world.isel(year=[0]), state="lu_fraction")


def test_leaves_alone_without_places_have_no_input(world):
    with pytest.raises(TrainingError, match="found no input: no static field, no forcing"):
        drawn(world[["lai"]], position=False)
