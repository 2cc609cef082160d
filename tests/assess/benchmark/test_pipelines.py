"""Targets learned together, in a chain, or alone."""

import pytest
import xarray as xr

import xlsbc
from xlsbc.assess.benchmark.pipelines import Stage, stages
from xlsbc.errors import TrainingError
from xlsbc.training.config import Training

TINY = Training(steps=2, crop=16, batch_size=1, width=(4, 8), given=((),))


def test_together_they_are_one_emulator(small_world):
    assert stages(small_world, "multi-task") == (Stage(("lu_fraction", "lc_fraction", "lai")),)


def test_in_a_chain_each_is_given_the_one_before(small_world):
    assert stages(small_world, "sequential") == (
        Stage(("lu_fraction",)),
        Stage(("lc_fraction",), ("lu_fraction",), coupled=False),
        Stage(("lai",), ("lc_fraction",), coupled=False),
    )
    assert stages(small_world, "sequential-coupled") == (
        Stage(("lu_fraction",)),
        Stage(("lc_fraction",), ("lu_fraction",)),
        Stage(("lai",), ("lc_fraction",)),
    )
    without = small_world.drop_vars("lu_fraction")
    assert stages(without, "sequential") == (
        Stage(("lc_fraction",)),
        Stage(("lai",), ("lc_fraction",), coupled=False),
    )


def test_alone_none_is_given_anything(small_world):
    assert stages(small_world, "single") == tuple(
        Stage((name,)) for name in ("lu_fraction", "lc_fraction", "lai")
    )


@pytest.mark.parametrize("learning", ["sequential", "single"])
def test_one_target_cannot_be_learned_apart(small_world, learning):
    with pytest.raises(TrainingError, match="needs two targets .* found lai in the cube"):
        stages(small_world.drop_vars(["lu_fraction", "lc_fraction"]), learning)


def test_a_stage_sees_no_other_target_and_of_the_one_before_what_was_made(small_world):
    made = xr.Dataset({"lu_fraction": small_world["lu_fraction"] * 0 + 1 / 12})
    seen = Stage(("lc_fraction",), ("lu_fraction",)).cube(small_world, made)
    assert "lai" not in seen
    xr.testing.assert_identical(seen["lu_fraction"], made["lu_fraction"])
    xr.testing.assert_identical(seen["lc_fraction"], small_world["lc_fraction"])
    inputs = {n for n in small_world if n not in ("lu_fraction", "lc_fraction", "lai")}
    assert inputs < set(seen)


@pytest.fixture(scope="module")
def cover(small_world):
    stage = Stage(("lc_fraction",), ("lu_fraction",), coupled=False)
    cube = stage.cube(small_world, small_world[["lu_fraction"]])
    return stage, cube, xlsbc.fit(cube, stage.training(TINY), progress=False)


def test_a_separate_network_is_not_held_to_what_it_is_given(cover):
    # coupled heads make no managed grass and no buildings of primary forest
    stage, cube, emulator = cover
    forest = (cube["lu_class"] == "primf").astype("float32")
    cube = cube.assign(lu_fraction=forest * xr.ones_like(cube["lu_fraction"]).fillna(1))
    made = cube.lsbc.predict(emulator, given=stage.given)
    assert "lu_fraction" not in made
    assert float(made["lc_fraction"].sel(lc_class=["grass_man", "built"]).min()) > 0


def test_what_it_is_given_bears_on_what_it_makes(cover):
    stage, cube, emulator = cover
    other = cube.assign(lu_fraction=cube["lu_fraction"].roll(lu_class=3, roll_coords=False))
    one, two = (
        c.lsbc.predict(emulator, given=stage.given)["lc_fraction"].load() for c in (cube, other)
    )
    assert float(abs(one - two).max()) > 1e-6
