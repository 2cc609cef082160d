"""The figure of merit and its parts, by hand and by loops."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from xlsbc.assess.change import change_scores, change_sums
from xlsbc.errors import CubeError

PIXELS = ("latitude", "longitude")


def make_maps(seed, n_years=3, shape=(6, 7), classes=3):
    """Fractions in which the class of one pixel in three changes from year to year."""
    rng = np.random.default_rng(seed)
    base = np.random.default_rng(0).dirichlet(np.full(classes, 0.3), size=shape)
    other = rng.dirichlet(np.full(classes, 0.3), size=(n_years, *shape))
    values = np.where(rng.uniform(size=(n_years, *shape, 1)) < 0.3, other, base)
    values[rng.uniform(size=(n_years, *shape)) < 0.05] = np.nan
    coords = {"year": 2001 + np.arange(n_years), "lu_class": list("abc")[:classes]}
    coords |= {"latitude": 5.0 - np.arange(shape[0]), "longitude": 1.0 * np.arange(shape[1])}
    return xr.DataArray(np.moveaxis(values, -1, 1), coords, ("year", "lu_class", *PIXELS))


def one_hot(classes):
    """``(lu_class, latitude, longitude)`` of a row of class numbers."""
    return xr.DataArray(np.eye(3)[:, classes][:, None], dims=("lu_class", *PIXELS))


def test_parts_and_scores_by_hand():
    #             hit, wrong, miss, false alarm, right to stay
    before = one_hot([0, 0, 0, 1, 2])
    truth = one_hot([1, 1, 1, 1, 2])
    guess = one_hot([1, 2, 0, 0, 2])
    weight = xr.DataArray([[1.0, 2.0, 4.0, 8.0, 16.0]], dims=PIXELS)
    sums = change_sums(guess, truth, before, weight, "lu_class")
    names = ("hits", "wrong_hits", "misses", "false_alarms", "persistence")
    assert [float(sums[name]) for name in names] == [1, 2, 4, 8, 16]
    found = {name: float(each) for name, each in change_scores(sums).items()}
    assert found == pytest.approx(
        {
            "figure_of_merit": 1 / 15,
            "change_recall": 1 / 7,
            "change_precision": 1 / 11,
            "observed_change": 7 / 31,
            "predicted_change": 11 / 31,
            "overall_accuracy": 17 / 31,
            "null_accuracy": 24 / 31,
            "n": 5,
        }
    )


def test_yearly_change_agrees_with_a_loop_and_leaves_the_first_year_out():
    prediction, truth = make_maps(1), make_maps(2)
    weight = xr.DataArray(np.linspace(2.0, 0.0, 42).reshape(6, 7), dims=PIXELS)
    before = truth.shift(year=1)
    found = change_scores(change_sums(prediction, truth, before, weight, "lu_class"))
    hits, either, n = 0.0, 0.0, 0
    for t, y, x in np.ndindex(2, 6, 7):
        three = [each.values[:, y, x] for each in (truth[t], truth[t + 1], prediction[t + 1])]
        if not np.isfinite(three).all() or weight[y, x] == 0:
            continue
        first, later, guess = (int(np.argmax(each)) for each in three)
        n += 1
        if later != first or guess != first:
            either += float(weight[y, x])
            hits += float(weight[y, x]) * (later == guess)
    assert float(found["figure_of_merit"]) == pytest.approx(hits / either, rel=1e-12)
    assert int(found["n"]) == n


def test_persistence_has_no_merit_and_the_accuracy_of_the_null_model():
    truth = make_maps(2)
    before = truth.isel(year=0, drop=True)
    weight = xr.ones_like(before.isel(lu_class=0, drop=True))
    found = change_scores(
        change_sums(
            before.broadcast_like(truth).transpose(*truth.dims), truth, before, weight, "lu_class"
        )
    )
    assert float(found["figure_of_merit"]) == 0
    assert float(found["overall_accuracy"]) == float(found["null_accuracy"]) < 1
    assert np.isnan(found["change_precision"])


def test_nothing_that_changes_has_no_merit_to_speak_of():
    same, weight = one_hot([0, 1, 2]), xr.DataArray(np.ones((1, 3)), dims=PIXELS)
    found = change_scores(change_sums(same, same, same, weight, "lu_class"))
    assert np.isnan(found["figure_of_merit"])
    assert np.isnan(found["change_recall"])
    assert float(found["overall_accuracy"]) == 1
    none = change_scores(change_sums(same, same * np.nan, same, weight, "lu_class"))
    assert int(none["n"]) == 0
    assert all(np.isnan(none[name]) for name in none if name != "n")


@pytest.mark.parametrize("seed", range(3))
def test_chunks_change_nothing(seed):
    rng = np.random.default_rng(seed)
    prediction, truth = make_maps(1), make_maps(2)
    before, weight = truth.isel(year=0, drop=True), xr.ones_like(truth[0, 0], float)
    weight = weight.drop_vars(["year", "lu_class"])
    cut = [
        data.chunk({dim: int(rng.integers(1, n + 1)) for dim, n in data.sizes.items()})
        for data in (prediction, truth, before)
    ]
    found = change_sums(*cut, weight, "lu_class", dims=PIXELS)
    assert found["hits"].chunks is not None
    expected = change_sums(prediction, truth, before, weight, "lu_class", dims=PIXELS)
    xr.testing.assert_allclose(found.compute(), expected, rtol=1e-13)


def test_an_earlier_map_of_another_grid_is_an_error():
    truth = make_maps(2)
    weight = xr.ones_like(truth[0, 0])
    with pytest.raises(CubeError, match="'before' does not fit the data.*expected latitude"):
        change_sums(truth, truth, truth[0, :, 1:].drop_vars("year"), weight, "lu_class")
