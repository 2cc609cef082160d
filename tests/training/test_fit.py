from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

import xlsbc
from xlsbc.cube.grid import Grid
from xlsbc.emulator import Architecture, Emulator, Split
from xlsbc.errors import CubeError, TrainingError
from xlsbc.training import module
from xlsbc.training.config import Training
from xlsbc.training.fit import fit
from xlsbc.training.outline import outline
from xlsbc.training.prepare import crop_size, prepare
from xlsbc.training.splits import HELD_OUT, TRAIN, Parts, split_map
from xlsbc.training.survey import surveyed

pytestmark = pytest.mark.filterwarnings("ignore:the buffer around held-out pixels")

SIZES = Architecture(width=(8, 16), climate=4, hidden=8)
SPLIT = Split(size=12, buffer=2, fraction=0.2, seed=0)
STATICS = ["elevation", "slope", "clay_fraction", "sand_fraction", "soil_porosity"]


def quick(cube: xr.Dataset, **options: Any) -> Emulator:
    """A training of a few small steps."""
    return fit(
        cube,
        **{
            "architecture": SIZES,
            "split": SPLIT,
            "steps": 3,
            "batch_size": 2,
            "crop": 16,
            "progress": False,
            **options,
        },
    )


def spec_of(cube: xr.Dataset, **options: Any) -> Any:
    """The specification that a training of all land would have."""
    drawn = outline(cube, **{"split": SPLIT, "architecture": SIZES, **options})
    return surveyed(cube, drawn, Parts.of(cube, Split(fraction=0.0)), 16)[0]


def weights(emulator: Emulator) -> dict[str, torch.Tensor]:
    return emulator.network.state_dict()


def assert_same_weights(one: Emulator, other: Emulator) -> None:
    for name, values in weights(one).items():
        assert torch.equal(values, weights(other)[name]), name


def test_a_seed_repeats_the_emulator_and_another_makes_another(world):
    one, again, other = quick(world), quick(world), quick(world, seed=1)
    assert again.hash == one.hash
    assert other.hash != one.hash


def test_training_is_the_same_for_a_lazy_cube(world):
    lazy = world.chunk({"latitude": 15, "longitude": 20, "time": 6, "year": 1})
    assert_same_weights(quick(lazy), quick(world))


def test_labels_of_held_out_and_buffer_pixels_do_not_influence_training(world):
    apart = split_map(world, SPLIT) != TRAIN
    other = world.assign(
        lai=world["lai"].where(~apart, 7.5),
        lu_fraction=world["lu_fraction"].where(~apart, 1 / 13),
        lc_fraction=world["lc_fraction"].where(~apart, np.nan),
    )
    assert not other["lai"].equals(world["lai"])
    options = {"given": [()]}  # what is given is an input, wherever it lies
    assert_same_weights(quick(other, **options), quick(world, **options))


def test_labels_of_training_pixels_do(world):
    other = world.assign(lai=world["lai"] + (split_map(world, SPLIT) == TRAIN))
    options = {"given": [()]}
    one, two = weights(quick(world, **options)), weights(quick(other, **options))
    assert any(not torch.equal(values, two[name]) for name, values in one.items())


def test_inputs_are_scaled_by_training_pixels_alone(world):
    apart = split_map(world, SPLIT) == HELD_OUT
    other = world.assign(elevation=world["elevation"].where(~apart, 9999.0))
    assert quick(other).spec.static == quick(world).spec.static


@pytest.fixture
def losses(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, float]]:
    """Losses of the steps of a training."""
    seen: list[dict[str, float]] = []
    original = module.multitask_loss

    def watched(*args: Any, **options: Any) -> dict[str, torch.Tensor]:
        found = original(*args, **options)
        seen.append({name: value.item() for name, value in found.items()})
        return found

    monkeypatch.setattr(module, "multitask_loss", watched)
    return seen


def test_training_makes_every_loss_smaller(world, losses):
    quick(world, steps=60, given=[()], learning_rate=1e-2)
    for name in ("lu", "lc", "lai"):
        values = [loss[name] for loss in losses]
        assert np.mean(values[-10:]) < 0.8 * np.mean(values[:10])


def test_an_emulator_beats_the_mean_where_it_was_trained(world):
    emulator = quick(world, steps=60, given=[()], learning_rate=1e-2)
    lai = world["lai"]
    error = predicted(world, emulator)["lai"] - lai
    assert float((error**2).mean()) < 0.7 * float(lai.var())


def predicted(cube: xr.Dataset, emulator: Emulator) -> xr.Dataset:
    found = cube.lsbc.predict(emulator).compute(scheduler="synchronous")
    for name, field in found.items():
        assert field.notnull().any(), name
    return found


def without(cube: xr.Dataset, *prefixes: str) -> xr.Dataset:
    return cube.drop_vars([n for n in (*cube.data_vars, *cube.coords) if n.startswith(prefixes)])


def test_a_cube_of_leaves_alone_trains_and_predicts_leaves(world):
    cube = without(world, "lu_", "lc_", "driver")
    emulator = quick(cube)
    assert emulator.spec.targets == ("lai",)
    assert emulator.spec.given == ((),)
    assert set(predicted(cube, emulator).data_vars) == {"lai"}


def test_a_cube_of_land_cover_alone_trains_and_predicts_land_cover(world):
    cube = without(world, "lu_", "lai", "time", "driver", "forcing", "t2m", "tp", "ssrd", "swvl1")
    emulator = quick(cube)
    assert emulator.spec.targets == ("lc_fraction",)
    found = predicted(cube, emulator)
    assert set(found.data_vars) == {"lc_fraction", "cvh", "cvl"}


def test_a_cube_without_forcing_takes_places_for_climate(world):
    cube = without(world, "forcing", "t2m", "tp", "ssrd", "swvl1")
    emulator = quick(cube)
    names = [v.name for v in emulator.spec.static]
    assert names == [*STATICS, "latitude", "longitude"]
    assert emulator.spec.history == 1
    predicted(cube, emulator)


def test_a_cube_without_statics_trains_on_weather(world):
    cube = world[["t2m", "tp", "lai"]]
    emulator = quick(cube)
    assert [v.name for v in emulator.spec.inputs] == ["t2m", "tp"]
    predicted(cube, emulator)


def test_a_cube_of_leaves_and_nothing_else_trains_on_places(world):
    cube = world[["lai"]]
    emulator = quick(cube)
    assert [v.name for v in emulator.spec.inputs] == ["latitude", "longitude"]
    predicted(cube, emulator)


def test_a_cube_of_one_year_trains_without_the_co2_that_did_not_change(world):
    cube = world.sel(year=[2001], time="2001")
    emulator = quick(cube)
    assert emulator.spec.scalars == ()
    assert quick(world).spec.scalars[0].name == "co2"
    predicted(cube, emulator)


def test_a_climatology_trains_and_predicts_its_nominal_year(world):
    def climatology(da: xr.DataArray, dim: str) -> xr.DataArray:
        mean = da.groupby(f"{dim}.month").mean(skipna=True).rename(month=dim)
        start = pd.date_range("2000-01-01", periods=12, freq="MS")
        methods = {"cell_methods": "time: mean within years time: mean over years"}
        return mean.assign_coords({dim: start}).assign_attrs(da.attrs | methods)

    cube = world[STATICS].assign(
        lai=climatology(world["lai"], "time"), t2m=climatology(world["t2m"], "forcing_time")
    )
    emulator = quick(cube)
    found = predicted(cube, emulator)
    np.testing.assert_array_equal(found["time"], cube["time"])


def test_dekads_of_leaves_train_on_months_of_weather(world):
    dates = [
        f"{y}-{m:02d}-{d:02d}" for y in (2000, 2001) for m in range(1, 13) for d in (1, 11, 21)
    ]
    lai = world["lai"].isel(time=np.repeat(np.arange(24), 3))
    lai["time"] = pd.DatetimeIndex(dates)
    cube = without(world, "lai", "time").assign(lai=lai)
    emulator = quick(cube)
    assert len(emulator.spec.steps) == emulator.spec.history == 36
    assert predicted(cube, emulator).sizes["time"] == 72


def test_two_per_cent_of_labels_are_enough_to_train(world):
    random = np.random.default_rng(0)
    known = xr.DataArray(
        random.random(world["elevation"].shape) < 0.02, dims=("latitude", "longitude")
    )
    sparse = {name: world[name].where(known) for name in ("lai", "lu_fraction", "lc_fraction")}
    cube = world.assign(sparse)
    predicted(cube, quick(cube))


def test_a_seven_level_deep_network_has_tiles_of_whole_strides(world):
    deep = SIZES.model_copy(update={"width": (4,) * 6})
    assert spec_of(world, architecture=deep).lattice.tile == 256
    assert spec_of(world).lattice.tile == 240


def test_an_input_that_does_not_vary_is_left_out(world):
    cube = world.assign(slope=xr.full_like(world["slope"], 3.0))
    names = [v.name for v in spec_of(cube).static]
    assert names == [name for name in STATICS if name != "slope"]


def test_the_specification_says_what_the_cube_holds(world):
    spec = spec_of(world, optional=("slope",))
    assert [v.name for v in spec.inputs] == [*STATICS, "t2m", "tp", "ssrd", "swvl1", "co2"]
    assert [v.name for v in spec.optional] == ["slope"]
    assert spec.static[0].standard_name == "surface_altitude"
    assert spec.driver
    assert spec.given == ((), ("lu_fraction",), ("lc_fraction",))
    assert spec.steps == tuple((month, 1) for month in range(1, 13))
    assert spec.history == 12
    grid = Grid.of(world)
    assert (spec.lattice.dlat, spec.lattice.dlon) == (grid.dlat, grid.dlon)
    assert float(world["elevation"].mean(dtype=float)) == pytest.approx(spec.static[0].mean)


def test_inputs_with_a_role_of_their_own_are_inputs(world):
    attrs = {"xlsbc_role": "forcing", "units": "K", "long_name": "skin temperature"}
    cube = world.assign(skin=(world["t2m"] + 1).assign_attrs(attrs))
    assert [v.name for v in spec_of(xlsbc.cube.schema.conform(cube)).forcing][-1] == "skin"


def test_29_february_has_no_step_of_its_own(world):
    days = pd.date_range("2000-02-27", "2000-03-02")
    lai = world["lai"].isel(time=np.arange(5)).assign_coords(time=days)
    cube = without(world, "lai", "time").assign(lai=lai)
    assert spec_of(cube, given=[()]).steps == ((2, 27), (2, 28), (3, 1), (3, 2))


@pytest.mark.parametrize(
    ("change", "options", "problems"),
    [
        (
            lambda cube: without(cube, "lu_fraction", "lc_", "lai", "time"),
            {"optional": ("slope", "soil"), "given": [("lc_fraction",)]},
            [
                "expected at least one target of lu_fraction, lc_fraction, lai; found none",
                "optional inputs ['soil'] are not static inputs",
                "['lc_fraction'] cannot be given",
            ],
        ),
        (
            lambda cube: cube[["lai"]],
            {"position": False},
            ["found no input: no static field, no forcing, nothing given"],
        ),
        (lambda cube: cube, {"given": [("lai",)]}, ["['lai'] cannot be given"]),
    ],
)
def test_every_reason_why_a_cube_cannot_train_is_named_at_once(world, change, options, problems):
    with pytest.raises(TrainingError, match="the cube cannot train an emulator") as caught:
        quick(change(world), **options)
    assert len(caught.value.problems) == len(problems)
    for found, expected in zip(caught.value.problems, problems, strict=True):
        assert found.startswith(expected)


def test_a_cube_without_any_label_is_an_error(world):
    with pytest.raises(TrainingError, match="no training pixel has a label"):
        quick(without(world, "lu_", "lc_", "driver").assign(lai=world["lai"] * np.nan))


def test_a_cube_whose_weather_and_leaves_are_of_other_years_is_an_error(world):
    later = world["lai"].assign_coords(time=world["time"] + np.timedelta64(3653, "D"))
    cube = world[[*STATICS, "t2m"]].assign(lai=later)
    with pytest.raises(TrainingError, match="no training pixel has a label"):
        quick(cube)


def test_what_is_no_cube_is_a_cube_error():
    with pytest.raises(CubeError):
        quick(xr.Dataset({"dem": ("station", [1.0])}))


def test_a_loss_that_is_not_finite_stops_the_training_and_says_where(world, monkeypatch):
    def broken(*args: Any, **options: Any) -> dict[str, torch.Tensor]:
        return {"lai": torch.tensor(math.nan)}

    monkeypatch.setattr(module, "multitask_loss", broken)
    said = (
        r"loss became nan at step 0 \(lai nan\) in 4\d.* degrees north, 8.* of 200\d.*; lower learn"
    )
    with pytest.raises(TrainingError, match=said):
        quick(world)


def test_provenance_says_what_the_emulator_was_trained_on(fitted, world):
    facts = fitted.spec.provenance
    assert facts["cube"] == world.attrs["title"]
    assert facts["data license"] == "CC0-1.0"
    assert facts["steps"] == 12
    assert facts["years"].endswith("2001")
    assert math.isfinite(facts["final_loss"])


def test_an_epoch_is_as_many_steps_as_meet_every_label_once(world):
    config = Training(architecture=SIZES, split=SPLIT, batch_size=2, crop=16)
    once = prepare(world, config).batches().per_epoch
    assert quick(world, epochs=2).spec.provenance["steps"] == 2 * once
    assert quick(world, epochs=0.5).spec.provenance["steps"] == round(once / 2)


def test_leaves_that_are_zero_everywhere_can_be_learned(world, losses):
    quick(without(world, "lu_", "lc_", "driver").assign(lai=world["lai"] * 0))
    assert np.isfinite([loss["lai"] for loss in losses]).all()


def test_the_average_of_the_weights_forgets_and_starts_with_the_first():
    average = torch.tensor(0.0)
    for count, new in enumerate([10.0] * 3 + [20.0] * 400):
        average = module.moving_average(average, torch.tensor(new), count)
        if count == 2:
            assert float(average) > 9.5
    assert float(average) == pytest.approx(20, abs=0.01)
    assert module.moving_average(torch.tensor(3), torch.tensor(4), 7).item() == 4


def test_a_budget_in_minutes_sets_the_number_of_steps(monkeypatch):
    assert module.affordable(seconds=2.0, minutes=0.5) == 300
    assert module.affordable(seconds=1e6, minutes=0.5) == module.PROBE + 1


def test_a_training_leaves_the_random_numbers_of_others_alone(world):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    quick(world)
    assert torch.equal(torch.rand(3), expected)


def test_the_learning_rate_rises_then_falls_to_nothing():
    rates = [module.schedule(step / 1000) for step in range(1001)]
    peak = int(np.argmax(rates))
    assert 0 < rates[0] < 0.1
    assert max(rates) == pytest.approx(1, abs=1e-3)
    assert 20 <= peak <= 40
    assert (np.diff(rates[peak:]) <= 0).all()
    assert rates[-1] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("shape", "asked", "expected"),
    [((300, 400), None, 96), ((37, 53), None, 36), ((300, 400), 33, 32), ((5, 9), None, 4)],
)
def test_a_crop_is_of_whole_strides_and_fits_a_small_grid(shape, asked, expected):
    cube = xr.Dataset(coords={"latitude": np.arange(shape[0]), "longitude": np.arange(shape[1])})
    assert crop_size(cube, Architecture(), asked) == expected


def test_the_callable_of_the_package_is_this_one(fitted: Emulator, untrained: Callable[..., Any]):
    assert xlsbc.fit is fit
    assert isinstance(fitted, xlsbc.Emulator)


def test_a_split_that_is_not_known_is_an_error(world):
    with pytest.raises(TrainingError, match="'years' is not a split; pass \"blocks\" or a Split"):
        quick(world, split="years")
