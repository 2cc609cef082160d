"""Scores against scikit-learn, scipy and loops, and against themselves under other chunkings."""

from __future__ import annotations

import dask
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import braycurtis
from sklearn import metrics as reference

from tests.assess.fields import SHAPE, make_fractions, make_lai, make_weight
from xlsbc.assess.metrics import (
    anomaly_scores,
    anomaly_sums,
    class_scores,
    continuous_scores,
    continuous_sums,
    fraction_scores,
    fraction_sums,
)
from xlsbc.errors import CubeError


def pairs(prediction, truth, weight):
    """Flat finite pairs and their weights, by plain numpy."""
    weight = np.broadcast_to(weight.values, prediction.shape)
    used = np.isfinite(prediction.values) & np.isfinite(truth.values) & (weight > 0)
    return [each[used].astype("float64") for each in (prediction.values, truth.values, weight)]


def test_lai_scores_agree_with_scikit_learn():
    prediction, truth, weight = make_lai(1), make_lai(2), make_weight()
    found = continuous_scores(continuous_sums(prediction, truth, weight))
    p, r, w = pairs(prediction, truth, weight)
    assert float(found["rmse"]) == pytest.approx(
        reference.root_mean_squared_error(r, p, sample_weight=w), rel=1e-9
    )
    assert float(found["mae"]) == pytest.approx(
        reference.mean_absolute_error(r, p, sample_weight=w), rel=1e-9
    )
    assert float(found["r2"]) == pytest.approx(reference.r2_score(r, p, sample_weight=w), rel=1e-9)
    assert float(found["bias"]) == pytest.approx(np.average(p - r, weights=w), rel=1e-9)
    assert int(found["n"]) == p.size


def test_fraction_scores_agree_with_scikit_learn():
    prediction, truth, weight = make_fractions(1), make_fractions(2), make_weight()
    found = fraction_scores(fraction_sums(prediction, truth, weight, "lc_class"))
    p, r = (each.transpose("lc_class", ...).values.reshape(6, -1) for each in (prediction, truth))
    w = np.broadcast_to(weight.values, (3, *SHAPE)).ravel()
    used = np.isfinite(p + r).all(axis=0) & (w > 0)
    p, r, w = p[:, used].astype("float64"), r[:, used].astype("float64"), w[used]
    classes = r.argmax(axis=0), p.argmax(axis=0)
    assert float(found["mae"]) == pytest.approx(
        reference.mean_absolute_error(r.T, p.T, sample_weight=w), rel=1e-9
    )
    assert float(found["overall_accuracy"]) == pytest.approx(
        reference.accuracy_score(*classes, sample_weight=w), rel=1e-9
    )
    present = np.unique(classes[0])
    assert float(found["miou"]) == pytest.approx(
        reference.jaccard_score(*classes, labels=present, average="macro", sample_weight=w),
        rel=1e-9,
    )
    assert int(found["n"]) == used.sum()


def test_confusion_counts_by_hand():
    # Three pixels of weight 1, 2, 4: class 0 as 0, class 1 as 0, class 1 as 1.
    axes = {"latitude": [1.0], "longitude": [1.0, 2.0, 3.0]}
    dims = ("lc_class", "latitude", "longitude")
    truth = xr.DataArray([[[1.0, 0, 0.4]], [[0, 1, 0.6]], [[0, 0, 0]]], axes, dims)
    found = xr.DataArray([[[0.5, 0.6, 0]], [[0.3, 0.4, 1]], [[0.2, 0, 0]]], axes, dims)
    weight = xr.DataArray([[1.0, 2.0, 4.0]], axes, dims[1:])
    sums = fraction_sums(found, truth, weight, "lc_class")
    confusion = sums["confusion"].transpose("reference_class", "predicted_class")
    assert confusion.values.tolist() == [[1, 0, 0], [2, 4, 0], [0, 0, 0]]
    scores = fraction_scores(sums)
    assert float(scores["overall_accuracy"]) == pytest.approx(5 / 7)
    # 1 / (1 + 2) and 4 / (2 + 4); the class that the reference lacks does not count.
    assert float(scores["miou"]) == pytest.approx((1 / 3 + 4 / 6) / 2)
    assert float(scores["mae"]) == pytest.approx((1 * 1.0 + 2 * 1.2 + 4 * 0.8) / 3 / 7)


def test_a_class_that_only_the_prediction_has_costs_its_place_but_is_not_averaged():
    axes = {"latitude": [1.0], "longitude": [1.0, 2.0]}
    dims = ("lc_class", "latitude", "longitude")
    truth = xr.DataArray([[[1.0, 1.0]], [[0.0, 0.0]]], axes, dims)
    found = xr.DataArray([[[1.0, 0.0]], [[0.0, 1.0]]], axes, dims)
    weight = xr.DataArray([[1.0, 1.0]], axes, dims[1:])
    assert float(fraction_scores(fraction_sums(found, truth, weight, "lc_class"))["miou"]) == 0.5


@settings(max_examples=6, deadline=None)
@given(
    chunks=st.fixed_dictionaries(
        {
            "time": st.integers(1, 7),
            "latitude": st.integers(1, SHAPE[0]),
            "longitude": st.integers(1, SHAPE[1]),
        }
    ),
    other=st.integers(1, SHAPE[1]),
)
def test_lai_scores_do_not_depend_on_chunks(chunks, other):
    prediction, truth, weight = make_lai(3), make_lai(4), make_weight()
    expected = continuous_scores(continuous_sums(prediction, truth, weight))
    sums = continuous_sums(prediction.chunk(chunks), truth.chunk(longitude=other), weight)
    xr.testing.assert_allclose(continuous_scores(sums.compute()), expected, rtol=1e-12)


@settings(max_examples=6, deadline=None)
@given(
    chunks=st.fixed_dictionaries(
        {
            "year": st.integers(1, 3),
            "lc_class": st.integers(1, 6),
            "latitude": st.integers(1, SHAPE[0]),
            "longitude": st.integers(1, SHAPE[1]),
        }
    )
)
def test_fraction_scores_do_not_depend_on_chunks(chunks):
    prediction, truth, weight = make_fractions(3), make_fractions(4), make_weight()
    expected = fraction_scores(fraction_sums(prediction, truth, weight, "lc_class"))
    sums = fraction_sums(prediction.chunk(chunks), truth, weight, "lc_class")
    xr.testing.assert_allclose(fraction_scores(sums.compute()), expected, rtol=1e-12)


def test_sums_of_parts_add_up_to_the_sums_of_the_whole():
    prediction, truth, weight = make_lai(5), make_lai(6), make_weight()
    whole = continuous_sums(prediction, truth, weight)
    parts = [
        continuous_sums(prediction.isel(time=part), truth, weight)
        for part in (slice(0, 3), slice(3, None))
    ]
    xr.testing.assert_allclose(parts[0] + parts[1], whole, rtol=1e-14)


def test_sums_kept_over_time_pool_to_the_sums_of_all():
    prediction, truth, weight = make_lai(5), make_lai(6), make_weight()
    monthly = continuous_sums(prediction, truth, weight, dims=("latitude", "longitude"))
    assert monthly["weight"].dims == ("time",)
    whole = continuous_sums(prediction, truth, weight)
    xr.testing.assert_allclose(monthly.sum("time"), whole, rtol=1e-14)
    january = continuous_scores(monthly.isel(time=0))
    p, r, w = pairs(prediction[0], truth[0], weight)
    assert float(january["r2"]) == pytest.approx(reference.r2_score(r, p, sample_weight=w))


def test_fraction_sums_kept_over_years_pool_to_the_sums_of_all():
    prediction, truth, weight = make_fractions(5), make_fractions(6), make_weight()
    yearly = fraction_sums(prediction, truth, weight, "lc_class", dims=("latitude", "longitude"))
    assert fraction_scores(yearly)["miou"].dims == ("year",)
    whole = fraction_sums(prediction, truth, weight, "lc_class")
    xr.testing.assert_allclose(yearly.sum("year"), whole, rtol=1e-14)


def test_a_missing_reference_gives_missing_scores_with_zero_pairs():
    prediction, truth, weight = make_lai(1), make_lai(2) * np.nan, make_weight()
    found = continuous_scores(continuous_sums(prediction, truth, weight))
    assert {name: float(each) for name, each in found.items() if name == "n"} == {"n": 0}
    assert all(np.isnan(found[name]) for name in ("rmse", "bias", "mae", "r2"))
    cover = make_fractions(1)
    found = fraction_scores(fraction_sums(cover, cover * np.nan, weight, "lc_class"))
    assert int(found["n"]) == 0
    assert all(np.isnan(found[name]) for name in ("mae", "overall_accuracy", "miou"))


def test_r2_is_missing_where_the_reference_does_not_vary():
    prediction, weight = make_lai(1), make_weight()
    found = continuous_scores(continuous_sums(prediction, xr.full_like(prediction, 0.1), weight))
    assert np.isnan(found["r2"])
    assert np.isfinite(found["rmse"])


def test_sums_are_lazy_on_lazy_data():
    def forbid(*args, **kwargs):
        raise AssertionError("computed")

    prediction, truth = make_lai(1).chunk(time=2), make_lai(2).chunk(latitude=2)
    cover = make_fractions(1).chunk(year=1)
    with dask.config.set(scheduler=forbid):
        sums = continuous_sums(prediction, truth, make_weight())
        shares = fraction_sums(cover, cover, make_weight(), "lc_class")
    assert all(each.chunks is not None for each in (*sums.values(), *shares.values()))


def test_float32_fields_are_summed_in_float64():
    # 1e5 pairs of 0.1: float32 sums would miss the ninth digit.
    truth = xr.DataArray(np.zeros((100, 1000), "float32"), dims=("latitude", "longitude"))
    weight = xr.ones_like(truth)
    sums = continuous_sums(truth + np.float32(0.1), truth, weight)
    assert sums["error"].dtype == np.float64
    assert float(sums["error"]) == pytest.approx(1e5 * float(np.float32(0.1)), rel=1e-12)


def test_anomaly_correlation_agrees_with_a_loop_over_pixels():
    prediction, truth, weight = make_lai(1, 31), make_lai(2, 31), make_weight()
    found = anomaly_scores(anomaly_sums(prediction.isel(time=slice(5, 31)), truth, weight))
    p, r = prediction.values.astype("f8"), truth.values.astype("f8")
    month = np.arange(31) % 12
    both, of_p, of_r, n = 0.0, 0.0, 0.0, 0
    for t in range(5, 31):
        for y, x in np.ndindex(SHAPE):
            w = float(weight[y, x])
            if np.isfinite(p[t, y, x] + r[t, y, x]) and w > 0:
                usual = np.nanmean(r[month == month[t], y, x])
                a, b = p[t, y, x] - usual, r[t, y, x] - usual
                both, of_p, of_r, n = both + w * a * b, of_p + w * a * a, of_r + w * b * b, n + 1
    assert float(found["anomaly_correlation"]) == pytest.approx(both / np.sqrt(of_p * of_r))
    assert int(found["n"]) == n


def test_anomalies_from_a_climatology_that_is_given():
    axes = {"time": np.array(["2001-12", "2002-01"], "M8[ns]"), "latitude": [1.0]}
    prediction = xr.DataArray([[4.0], [1.0]], axes, ("time", "latitude"))
    truth = xr.DataArray([[5.0], [3.0]], axes, ("time", "latitude"))
    usual = xr.DataArray([[2.0, 3.0]], {"latitude": [1.0], "month": [1, 12]}, ("latitude", "month"))
    sums = anomaly_sums(prediction, truth, xr.DataArray([1.0], dims="latitude"), climatology=usual)
    # Anomalies of the prediction 1 and -1, of the reference 2 and 1.
    expected = (1 * 2 - 1 * 1) / np.sqrt((1 + 1) * (4 + 1))
    assert float(anomaly_scores(sums)["anomaly_correlation"]) == pytest.approx(expected)
    with pytest.raises(CubeError, match="coordinate month"):
        anomaly_sums(prediction, truth, usual[:, 0], climatology=usual.drop_vars("month"))


def test_one_year_has_no_anomalies_from_its_own_mean():
    prediction, truth, weight = make_lai(1, 12), make_lai(2, 12), make_weight()
    found = anomaly_scores(anomaly_sums(prediction, truth, weight))
    assert np.isnan(found["anomaly_correlation"])
    assert int(found["n"]) > 0


def dominant_pairs(prediction, truth, weight):
    """Dominant classes of the reference and the prediction, their weights, and the fractions."""
    p, r = (each.transpose("lc_class", ...).values.reshape(6, -1) for each in (prediction, truth))
    w = np.broadcast_to(weight.values, (prediction.sizes["year"], *SHAPE)).ravel()
    used = np.isfinite(p + r).all(axis=0) & (w > 0)
    p, r, w = p[:, used].astype("float64"), r[:, used].astype("float64"), w[used]
    return r.argmax(axis=0), p.argmax(axis=0), w, p, r


def test_f1_and_bray_curtis_agree_with_scikit_learn_and_scipy():
    prediction, truth, weight = make_fractions(1), 0.7 * make_fractions(2), make_weight()
    sums = fraction_sums(prediction, truth, weight, "lc_class")
    found, each = fraction_scores(sums), class_scores(sums)
    observed, guessed, w, p, r = dominant_pairs(prediction, truth, weight)
    kwargs = {"labels": range(6), "sample_weight": w}
    for name, score in (("f1", "f1"), ("recall", "recall"), ("precision", "precision")):
        expected = getattr(reference, f"{score}_score")(observed, guessed, average=None, **kwargs)
        np.testing.assert_allclose(each[name], expected, rtol=1e-9)
    macro = reference.f1_score(observed, guessed, average="macro", **kwargs)
    assert float(found["f1"]) == pytest.approx(macro, rel=1e-9)
    expected = braycurtis(p.ravel(), r.ravel(), np.tile(w, 6))
    assert float(found["bray_curtis"]) == pytest.approx(expected, rel=1e-9)
    assert each["n"].values.tolist() == np.bincount(observed, minlength=6).tolist()
    np.testing.assert_allclose(each["bias"], np.average(p - r, axis=1, weights=w), rtol=1e-9)


def test_quantity_and_allocation_agree_with_loops_over_the_matrix():
    prediction, truth, weight = make_fractions(1), make_fractions(2), make_weight()
    sums = fraction_sums(prediction, truth, weight, "lc_class")
    found, each = fraction_scores(sums), class_scores(sums)
    observed, guessed, w, p, r = dominant_pairs(prediction, truth, weight)
    crisp, soft = np.zeros((6, 6)), np.zeros((6, 6))
    for k in range(w.size):
        crisp[observed[k], guessed[k]] += w[k] / w.sum()
        # The composite operator: what agrees, then the rest in proportion.
        same = np.minimum(r[:, k], p[:, k])
        rest_r, rest_p = r[:, k] - same, p[:, k] - same
        mixed = np.outer(rest_r, rest_p) / max(rest_r.sum(), 1e-300)
        soft += w[k] / w.sum() * (np.diag(same) + mixed)
    for matrix, prefix in ((crisp, ""), (soft, "fraction_")):
        rows, columns, hits = matrix.sum(axis=1), matrix.sum(axis=0), np.diag(matrix)
        quantity, allocation = abs(columns - rows), 2 * np.minimum(rows - hits, columns - hits)
        assert float(found[f"{prefix}quantity"]) == pytest.approx(quantity.sum() / 2, rel=1e-6)
        assert float(found[f"{prefix}allocation"]) == pytest.approx(allocation.sum() / 2, rel=1e-6)
        if not prefix:
            np.testing.assert_allclose(each["quantity"], quantity, atol=1e-12)
            np.testing.assert_allclose(each["allocation"], allocation, atol=1e-12)


def test_torchmetrics_says_the_same():
    torchmetrics = pytest.importorskip("torchmetrics.functional.classification")
    torch = pytest.importorskip("torch")
    prediction, truth = make_fractions(1), make_fractions(2)
    weight = xr.ones_like(make_weight())
    found = fraction_scores(fraction_sums(prediction, truth, weight, "lc_class"))
    observed, guessed, *_ = dominant_pairs(prediction, truth, weight)
    both = torch.from_numpy(guessed), torch.from_numpy(observed)
    for name, function in (
        ("f1", torchmetrics.multiclass_f1_score),
        ("miou", torchmetrics.multiclass_jaccard_index),
    ):
        expected = float(function(*both, num_classes=6, average="macro"))
        assert float(found[name]) == pytest.approx(expected, abs=1e-6)


def test_a_class_that_the_reference_lacks_has_no_score_but_a_count():
    prediction, truth, weight = make_fractions(1), make_fractions(2), make_weight()
    truth[:, 4] = truth[:, 4] * 0
    each = class_scores(fraction_sums(prediction, truth, weight, "lc_class")).isel({"class": 4})
    assert int(each["n"]) == 0
    for name in ("f1", "iou", "recall", "precision", "quantity", "allocation"):
        assert np.isnan(each[name])
    assert float(each["bias"]) > 0


def test_one_pixel_is_all_right_or_all_wrong():
    axes, dims = {"latitude": [1.0], "longitude": [2.0]}, ("lc_class", "latitude", "longitude")
    truth = xr.DataArray([[[0.75]], [[0.25]]], axes, dims)
    weight = xr.DataArray([[3.0]], axes, dims[1:])
    found = fraction_scores(fraction_sums(truth.copy(), truth, weight, "lc_class"))
    assert {k: float(v) for k, v in found.items() if k not in ("mae", "bray_curtis")} == {
        **{"overall_accuracy": 1, "miou": 1, "f1": 1, "quantity": 0, "allocation": 0},
        **{"fraction_quantity": 0, "fraction_allocation": 0, "n": 1},
    }
    found = fraction_scores(fraction_sums(1 - truth, truth, weight, "lc_class"))
    assert float(found["f1"]) == 0
    assert float(found["quantity"]) == 1
    assert float(found["bray_curtis"]) == pytest.approx(0.5)


def test_a_weight_of_another_grid_is_an_error():
    truth, weight = make_lai(1), make_weight()
    with pytest.raises(CubeError, match="weight.*expected longitude"):
        continuous_sums(truth, truth, weight.isel(longitude=slice(1, None)))
