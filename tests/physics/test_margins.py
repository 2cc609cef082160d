"""Impossible mass, against linear programming and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog

from xlsbc.cube import legends
from xlsbc.physics.margins import impossible_mass

COMPATIBLE = legends.compatible(legends.LU, legends.LC)


def least_by_flow(lu, lc, compatible):
    """One minus the largest mass that can be put in possible pairs, by linear programming."""
    pairs = np.argwhere(compatible)
    rows = (pairs[:, 0] == np.arange(len(lu))[:, None]).astype(float)
    columns = (pairs[:, 1] == np.arange(len(lc))[:, None]).astype(float)
    flow = linprog(
        -np.ones(len(pairs)), A_ub=np.vstack([rows, columns]), b_ub=np.concatenate([lu, lc])
    )
    assert flow.success
    return 1 + flow.fun


@pytest.mark.parametrize("seed", range(4))
def test_impossible_mass_is_what_the_maximum_flow_leaves(seed):
    rng = np.random.default_rng(seed)
    # Few large classes: sparse simplexes make for large deficits.
    lu = rng.dirichlet(np.full(13, 0.15), size=12)
    lc = rng.dirichlet(np.full(14, 0.15), size=12)
    expected = [least_by_flow(u, c, COMPATIBLE) for u, c in zip(lu, lc, strict=True)]
    assert max(expected) > 0.5
    np.testing.assert_allclose(impossible_mass(lu, lc, COMPATIBLE), expected, atol=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_impossible_mass_is_exact_for_any_table_of_possible_pairs(seed):
    rng = np.random.default_rng(100 + seed)
    compatible = rng.uniform(size=(5, 7)) < 0.35
    lu, lc = rng.dirichlet(np.ones(5), size=9), rng.dirichlet(np.ones(7), size=9)
    expected = [least_by_flow(u, c, compatible) for u, c in zip(lu, lc, strict=True)]
    np.testing.assert_allclose(impossible_mass(lu, lc, compatible), expected, atol=1e-9)


def test_impossible_mass_worked_by_hand():
    # Half forest and half cropland cannot hold 0.7 of water and built-up land: both are impossible.
    lu, lc = np.zeros(13), np.zeros(14)
    lu[[legends.LU.index("primf"), legends.LU.index("c3ann")]] = 0.5
    lc[legends.LC.index("trees_ne")] = 0.3
    lc[legends.LC.index("water")] = 0.4
    lc[legends.LC.index("built")] = 0.3
    assert impossible_mass(lu, lc, COMPATIBLE) == pytest.approx(0.7)


def test_impossible_mass_is_the_same_across_slabs_of_pixels(monkeypatch):
    rng = np.random.default_rng(5)
    lu = rng.dirichlet(np.ones(13), size=(3, 11))
    lc = rng.dirichlet(np.ones(14), size=(3, 11))
    whole = impossible_mass(lu, lc, COMPATIBLE)
    monkeypatch.setattr("xlsbc.physics.margins._SLAB", 4)
    np.testing.assert_allclose(impossible_mass(lu, lc, COMPATIBLE), whole, rtol=0, atol=1e-15)
    assert whole.shape == (3, 11)


def test_impossible_mass_of_a_missing_or_empty_pixel_is_missing():
    lu, lc = np.full((3, 13), 1 / 13), np.full((3, 14), 1 / 14)
    lu[0, 4], lc[1] = np.nan, 0
    assert np.isnan(impossible_mass(lu, lc, COMPATIBLE)).tolist() == [True, True, False]
