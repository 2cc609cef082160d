"""Which labels are left where data are sparse."""

import numpy as np
import pytest
import xarray as xr

from xlsbc.assess.benchmark.design import Labels
from xlsbc.assess.benchmark.labels import thinned


@pytest.fixture(scope="module")
def cube(small_world):
    return small_world


def known(cube, labels, seed=0, name="lai"):
    field = thinned(cube, labels, seed)[name]
    return field.notnull().any([d for d in field.dims if d not in ("latitude", "longitude")])


@pytest.mark.parametrize("fraction", [0.05, 0.25])
def test_the_share_of_pixels_that_is_asked_for_keeps_its_labels(cube, fraction):
    before, after = known(cube, Labels()), known(cube, Labels(fraction=fraction))
    share = float(after.sum() / before.sum())
    spread = np.sqrt(fraction * (1 - fraction) / int(before.sum()))
    assert abs(share - fraction) < 4 * spread
    assert not (after & ~before).any()


def test_all_labels_are_all_labels(cube):
    xr.testing.assert_identical(thinned(cube, Labels(), 0), cube)


def test_a_smaller_share_is_part_of_a_larger_one_and_the_same_for_all_targets(cube):
    few, more = (known(cube, Labels(fraction=f)) for f in (0.05, 0.25))
    assert few.any()
    assert not (few & ~more).any()
    cover = known(cube, Labels(fraction=0.25), name="lc_fraction")
    both = known(cube, Labels()) & known(cube, Labels(), name="lc_fraction")
    assert (cover.where(both, False) == more.where(both, False)).all()


def test_a_box_of_the_cube_keeps_the_same_pixels(cube):
    box = {"latitude": slice(7, 40), "longitude": slice(11, 50)}
    whole = thinned(cube, Labels(fraction=0.2), 3).isel(box)
    xr.testing.assert_identical(thinned(cube.isel(box), Labels(fraction=0.2), 3), whole)


def test_another_seed_draws_other_pixels(cube):
    one, other = (known(cube, Labels(fraction=0.2), seed) for seed in (0, 1))
    assert float((one & other).sum() / one.sum()) < 0.4


def test_one_step_of_three_and_one_year_of_three_keep_their_labels(cube):
    made = thinned(cube, Labels(every=3), 0)
    for name, dim in (("lai", "time"), ("lu_fraction", "year"), ("lc_fraction", "year")):
        others = np.arange(cube.sizes[dim]) % 3 != 0
        assert made[name].isel({dim: others}).isnull().all()
        kept = {dim: ~others}
        xr.testing.assert_identical(made[name].isel(kept), cube[name].isel(kept))
