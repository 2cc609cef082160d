from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from xlsbc.cube.legends import LC, LU, compatible
from xlsbc.models.heads import LandHead, LeafHead
from xlsbc.physics.margins import impossible_mass

POSSIBLE = compatible(LU, LC)
BOUNDS = torch.tensor([c.lai_max for c in LC.classes])
BARREN = [LC.index(name) for name in ("bare", "built", "water", "snowice")]
PIXELS = 300
ROUNDING = 1e-6  # sums of some hundred float32 numbers of at most 1


def land_head(possible: np.ndarray = POSSIBLE, spread: float = 3.0, seed: int = 0) -> LandHead:
    torch.manual_seed(seed)
    head = LandHead(5, torch.from_numpy(possible))
    torch.nn.init.normal_(head.pairs.weight, std=spread)
    return head.eval()


def shares(classes: int, pixels: int, seed: int = 0) -> Tensor:
    """Fractions ``(2, classes, pixel)``, many of them 0, as maps have them."""
    random = np.random.default_rng(seed)
    weights = random.exponential(size=(2, classes, pixels)) * (
        random.random((2, classes, pixels)) < 0.4
    )
    weights[:, 0] += weights.sum(1) == 0
    return torch.from_numpy((weights / weights.sum(1, keepdims=True)).astype(np.float32))


def pair(pixels: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Land use and land cover that are margins of one distribution over possible pairs."""
    random = np.random.default_rng(seed)
    joint = random.exponential(size=(2, *POSSIBLE.shape, pixels)) * POSSIBLE[..., None]
    joint *= random.random(joint.shape) < 0.3
    joint[:, LU.index("urban"), LC.index("built")] += 0.1
    joint /= joint.sum((1, 2), keepdims=True)
    return torch.from_numpy(joint.sum(2)).float(), torch.from_numpy(joint.sum(1)).float()


def misplaced(lu: Tensor, lc: Tensor) -> float:
    """Largest mass that must stand in impossible pairs."""
    rows = (t.detach().movedim(1, -1).numpy() for t in (lu, lc))
    return float(impossible_mass(*rows, POSSIBLE).max())


@pytest.mark.parametrize("spread", [0.1, 3.0, 100.0])
def test_nothing_stands_in_impossible_pairs_and_both_legends_sum_to_one(spread):
    lu, lc = land_head(spread=spread)(torch.randn(2, 5, PIXELS))
    assert lu.shape == (2, 13, PIXELS)
    assert lc.shape == (2, 14, PIXELS)
    assert misplaced(lu, lc) < ROUNDING
    for fraction in (lu, lc):
        assert (fraction >= 0).all()
        assert (fraction.sum(1) - 1).abs().max() < ROUNDING


def test_where_every_use_has_one_cover_the_two_are_the_same_numbers():
    lu, lc = land_head(np.eye(3, dtype=bool))(torch.randn(2, 5, 7))
    torch.testing.assert_close(lu, lc, atol=0, rtol=0)


def test_without_impossible_pairs_and_with_equal_scores_every_pair_is_as_likely():
    head = land_head(np.ones((2, 5), bool))
    torch.nn.init.zeros_(head.pairs.weight)
    torch.nn.init.zeros_(head.pairs.bias)
    lu, lc = head(torch.randn(1, 5, 1))
    assert lu.flatten().tolist() == pytest.approx([1 / 2] * 2)
    assert lc.flatten().tolist() == pytest.approx([1 / 5] * 5)


def test_given_cover_comes_back_as_it_is_and_the_use_can_stand_on_it():
    cover = shares(14, PIXELS)
    lu, lc = land_head()(torch.randn(2, 5, PIXELS), lc=cover)
    assert lc is cover
    assert misplaced(lu, lc) < ROUNDING
    assert (lu.sum(1) - 1).abs().max() < ROUNDING


def test_given_use_comes_back_as_it_is_and_its_cover_can_stand_on_it():
    use = shares(13, PIXELS)
    lu, lc = land_head()(torch.randn(2, 5, PIXELS), lu=use)
    assert lu is use
    assert misplaced(lu, lc) < ROUNDING
    assert (lc.sum(1) - 1).abs().max() < ROUNDING


def test_buildings_that_are_given_make_the_pixel_urban():
    cover = torch.zeros(1, 14, 1)
    cover[0, LC.index("built")], cover[0, LC.index("water")] = 0.75, 0.25
    lu, _ = land_head()(torch.randn(1, 5, 1), lc=cover)
    expected = torch.zeros(13)
    expected[LU.index("urban")], expected[LU.index("icwtr")] = 0.75, 0.25
    torch.testing.assert_close(lu[0, :, 0], expected, atol=1e-6, rtol=0)


def test_of_two_that_fit_each_other_both_come_back():
    use, cover = pair(PIXELS)
    lu, lc = land_head()(torch.randn(2, 5, PIXELS), lu=use, lc=cover)
    assert lc is cover
    assert misplaced(lu, lc) < ROUNDING
    assert (lu - use).abs().mean() < 1e-3  # fifty rounds of proportional fitting


def test_of_two_that_do_not_fit_the_cover_is_kept_and_the_use_moved_to_what_can_stand_on_it():
    use, cover = shares(13, PIXELS), shares(14, PIXELS, seed=1)
    lu, lc = land_head()(torch.randn(2, 5, PIXELS), lu=use, lc=cover)
    assert lc is cover
    assert misplaced(lu, lc) < ROUNDING
    assert (lu.sum(1) - 1).abs().max() < ROUNDING


def test_forest_that_is_given_on_half_a_lake_moves_to_the_water_class_for_that_half():
    use, cover = torch.zeros(1, 13, 1), torch.zeros(1, 14, 1)
    use[0, LU.index("primf")] = 1
    cover[0, LC.index("trees_bd")], cover[0, LC.index("water")] = 0.5, 0.5
    lu, _ = land_head()(torch.randn(1, 5, 1), lu=use, lc=cover)
    expected = torch.zeros(13)
    expected[LU.index("primf")], expected[LU.index("icwtr")] = 0.5, 0.5
    torch.testing.assert_close(lu[0, :, 0], expected, atol=1e-5, rtol=0)


def leaf_head(spread: float = 1.0) -> LeafHead:
    torch.manual_seed(4)
    head = LeafHead(5, 3, BOUNDS, hidden=6)
    for layer in (head.yearly, head.stepwise, head.classes):
        torch.nn.init.normal_(layer.weight, std=spread)
    return head.eval()


@pytest.mark.parametrize("spread", [1.0, 1000.0])
def test_class_leaves_stay_within_the_bounds_of_their_class(spread):
    head = leaf_head(spread)
    _, leaves = head(torch.randn(2, 5, 50), shares(14, 50), torch.randn(2, 12, 6, 50))
    bounds = np.array([c.lai_max for c in LC.classes if c.lai_max > 0])
    assert leaves.shape == (2, 12, len(bounds), 50)
    assert (leaves >= 0).all()
    assert (leaves.detach().numpy().max((0, 1, 3)) <= bounds).all()


def test_the_leaf_area_is_the_sum_over_classes_of_cover_times_class_leaves():
    cover = shares(14, 7)
    lai, leaves = leaf_head()(torch.randn(2, 5, 7), cover, torch.randn(2, 12, 6, 7))
    leafy = [i for i, c in enumerate(LC.classes) if c.lai_max > 0]
    expected = np.einsum("bcp,btcp->btp", cover.double()[:, leafy], leaves.detach().double())
    np.testing.assert_allclose(lai.detach().numpy(), expected, atol=1e-5)


def test_where_no_class_bears_leaves_the_leaf_area_is_exactly_zero():
    cover = torch.zeros(1, 14, 4)
    for pixel, k in enumerate(BARREN):
        cover[0, k, pixel] = 1
    lai, _ = leaf_head()(torch.randn(1, 5, 4), cover, torch.randn(1, 12, 6, 4))
    assert (lai == 0).all()


def test_a_pixel_of_one_class_has_the_leaves_of_that_class():
    cover = torch.zeros(1, 14, 1)
    cover[0, LC.index("grass_man")] = 1
    lai, leaves = leaf_head()(torch.randn(1, 5, 1), cover, torch.randn(1, 12, 6, 1))
    torch.testing.assert_close(lai, leaves[:, :, LC.index("grass_man")], atol=0, rtol=0)


def test_more_weather_of_the_kind_that_a_class_likes_grows_more_leaves():
    head = leaf_head()
    for layer in (head.yearly, head.stepwise, head.classes):
        torch.nn.init.ones_(layer.weight)
    weather = torch.linspace(-2, 2, 9)[None, :, None, None].expand(1, 9, 6, 1)
    lai, _ = head(torch.zeros(1, 5, 1), shares(14, 1)[:1], weather)
    assert (lai.diff(dim=1)[:, 4:] > 0).all()
