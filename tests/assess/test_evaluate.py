"""The table of skill: what is scored, on which pixels, beside what."""

from __future__ import annotations

import dask
import numpy as np
import pytest
import xarray as xr
from sklearn import metrics

from xlsbc.assess.evaluate import evaluate, score
from xlsbc.assess.groups import regions
from xlsbc.cube.grid import Grid
from xlsbc.cube.legends import LC, LU
from xlsbc.errors import CubeError

SHAPE = (9, 14)
FRACTION_SCORES = (
    *("mae", "bray_curtis", "overall_accuracy", "miou", "f1", "quantity", "allocation", "n"),
)


def make_fields(seed, *, years=(2001, 2002, 2003), noise=0.0):
    """LU, LC and monthly LAI of one truth (seed 0); other seeds add their noise to it."""
    truth, rng = np.random.default_rng(0), np.random.default_rng(1000 + seed)
    shares = {}
    for name, classes in (("lu", 13), ("lc", 14)):
        base = truth.dirichlet(np.full(classes, 0.3), size=(len(years), *SHAPE))
        other = rng.dirichlet(np.full(classes, 0.3), size=(len(years), *SHAPE))
        shares[name] = np.moveaxis((1 - noise) * base + noise * other, -1, 1)
    lai = truth.gamma(2.0, size=(12 * len(years), *SHAPE))
    lai = lai + noise * rng.normal(size=lai.shape)
    start = np.datetime64(f"{years[0]}-01", "M")
    fine = ("latitude", "longitude")
    return xr.Dataset(
        {
            "lu_fraction": (("year", "lu_class", *fine), shares["lu"]),
            "lc_fraction": (("year", "lc_class", *fine), shares["lc"]),
            "lai": (("time", *fine), lai, {"units": "1"}),
        },
        {
            "year": list(years),
            "time": (start + np.arange(12 * len(years))).astype("datetime64[ns]"),
            "latitude": 47.0 - (np.arange(SHAPE[0]) + 0.5) / 120,
            "longitude": 8.0 + (np.arange(SHAPE[1]) + 0.5) / 120,
            "lu_class": LU.coordinate("lu_class")["lu_class"],
            "lc_class": LC.coordinate("lc_class")["lc_class"],
        },
    ).astype("float32")


def make_split(reference):
    column = xr.DataArray(np.arange(SHAPE[1]), dims="longitude")
    grid = xr.zeros_like(reference["lai"].isel(time=0, drop=True))
    return grid + column < 5, grid + column > 6


@pytest.fixture
def reference():
    return make_fields(0)


@pytest.fixture
def prediction():
    return make_fields(1, noise=0.3).assign_attrs(xlsbc_emulator="abc")


def test_every_target_is_scored_beside_every_baseline(prediction, reference):
    where, train = make_split(reference)
    table = evaluate(prediction, reference, where=where, train=train)
    assert table["product"].values.tolist() == [
        "prediction",
        "class_by_month_climatology",
        "persistence_of_coarse_totals",
        "persistence",
    ]
    assert set(table) == {
        *(f"lai_{s}" for s in ("rmse", "bias", "mae", "r2", "anomaly_correlation", "n")),
        *(f"{t}_{s}" for t in ("lu", "lc") for s in FRACTION_SCORES),
    }
    assert table["lai_rmse"].attrs == {"long_name": "root mean square error", "units": "1"}
    assert table.attrs["emulator"] == "abc"
    assert table.attrs["scored"] == "45 held-out pixels"
    assert table.attrs["baselines_made_from"] == "63 training pixels"
    assert table.attrs["pixels_in_both"] == 0


def test_scores_of_the_prediction_agree_with_scikit_learn(prediction, reference):
    where, train = make_split(reference)
    prediction["lai"][dict(time=5, longitude=2)] = np.nan
    reference["lai"][dict(time=9, latitude=4)] = np.nan
    row = evaluate(prediction, reference, where=where, train=train).sel(product="prediction")
    area = Grid.of(reference).cell_area().values[:, None]
    weight = np.broadcast_to(area * where.values, reference["lai"].shape)
    p, r = prediction["lai"].values.astype("f8"), reference["lai"].values.astype("f8")
    used = np.isfinite(p + r) & (weight > 0)
    scores = {"sample_weight": weight[used]}
    expected = metrics.r2_score(r[used], p[used], **scores)
    assert float(row["lai_r2"]) == pytest.approx(expected, rel=1e-6)
    expected = metrics.root_mean_squared_error(r[used], p[used], **scores)
    assert float(row["lai_rmse"]) == pytest.approx(expected, rel=1e-6)
    assert int(row["lai_n"]) == used.sum() == 36 * 45 - 9 - 5
    classes = [
        each["lu_fraction"].values.argmax(axis=1)[:, where.values]
        for each in (reference, prediction)
    ]
    weights = np.broadcast_to(area * where.values, (3, *SHAPE))[:, where.values].ravel()
    expected = metrics.accuracy_score(*(c.ravel() for c in classes), sample_weight=weights)
    assert float(row["lu_overall_accuracy"]) == pytest.approx(expected, rel=1e-6)


def test_only_held_out_pixels_are_scored(prediction, reference):
    where, train = make_split(reference)
    table = evaluate(prediction, reference, where=where, train=train)
    spoiled = prediction.where(where, 0.5).transpose(
        *prediction["lu_fraction"].dims, "lc_class", "time"
    )
    again = evaluate(spoiled, reference, where=where, train=train)
    xr.testing.assert_allclose(
        again.sel(product="prediction"), table.sel(product="prediction"), rtol=1e-12
    )


def test_baselines_are_made_from_the_training_pixels_only(prediction, reference):
    where, train = make_split(reference)

    def rmse(spoiled):
        lai = reference["lai"].where(~spoiled, 9)
        table = evaluate(prediction, reference.assign(lai=lai), where=where, train=train)
        return table["lai_rmse"].sel(product=["prediction", "class_by_month_climatology"]).values

    expected = rmse(where & train)
    np.testing.assert_allclose(rmse(~(where | train)), expected, rtol=1e-12)
    np.testing.assert_allclose(rmse(train)[0], expected[0], rtol=1e-12)
    assert rmse(train)[1] > 2 * expected[1]


def test_a_perfect_prediction_scores_perfectly(reference):
    row = evaluate(reference, reference).sel(product="prediction")
    assert float(row["lai_rmse"]) == 0
    assert float(row["lai_r2"]) == 1
    assert float(row["lc_miou"]) == 1
    assert float(row["lu_mae"]) == 0


def test_what_was_given_is_not_scored(prediction, reference):
    table = evaluate(prediction.assign_attrs(xlsbc_given="lc_fraction"), reference)
    assert not [name for name in table if name.startswith("lc_")]
    assert table.attrs["given"] == "lc_fraction"
    # The climatology may still know the land cover.
    assert int(table["lai_n"].sel(product="class_by_month_climatology")) == 36 * 126


def test_baselines_are_scored_where_the_prediction_is(prediction, reference):
    prediction["lai"][dict(latitude=slice(0, 4))] = np.nan
    table = evaluate(prediction, reference)
    n = table["lai_n"].sel(product=["prediction", "class_by_month_climatology"])
    assert n.values.tolist() == [36 * 5 * 14] * 2


def test_persistence_is_the_year_before_and_knows_its_number_of_values(prediction, reference):
    table = evaluate(prediction, reference).sel(product="persistence")
    r = reference["lai"].values.astype("f8")
    area = np.broadcast_to(Grid.of(reference).cell_area().values[:, None], r[12:].shape)
    expected = np.sqrt(np.average((r[:-12] - r[12:]) ** 2, weights=area))
    assert float(table["lai_rmse"]) == pytest.approx(expected, rel=1e-6)
    assert int(table["lai_n"]) == 24 * 126
    assert int(table["lu_n"]) == 2 * 126


def test_a_product_without_a_target_has_no_score_and_no_values(prediction, reference):
    table = evaluate(prediction, reference)
    assert np.isnan(table["lu_mae"].sel(product="class_by_month_climatology"))
    assert int(table["lu_n"].sel(product="class_by_month_climatology")) == 0


def test_more_baselines_stand_in_the_same_table(prediction, reference):
    where, train = make_split(reference)
    rival = (reference["lai"] + np.float32(0.5)).where(where).isel(time=slice(0, 24))
    table = evaluate(
        prediction, reference, where=where, train=train, baselines={"gradient_boosting": rival}
    )
    row = table.sel(product="gradient_boosting")
    assert float(row["lai_bias"]) == pytest.approx(0.5, abs=1e-6)
    assert int(row["lai_n"]) == 24 * 45


def test_fewer_years_than_the_reference_are_scored_as_they_are(prediction, reference):
    part = prediction.sel(year=[2002], time="2002")
    table = evaluate(part, reference)
    assert table["lai_n"].values.tolist() == [12 * 126, 12 * 126, 0, 12 * 126]
    assert int(table["lu_n"].sel(product="prediction")) == 126


def test_a_climatology_without_land_cover_is_scored(reference):
    lai = reference[["lai"]].isel(time=slice(0, 12))
    lai["lai"].attrs["cell_methods"] = "time: mean within years time: mean over years"
    table = evaluate(lai * 1.1, lai)
    assert table["product"].values.tolist() == ["prediction", "class_by_month_climatology"]
    assert float(table["lai_r2"][0]) > float(table["lai_r2"][1])


def test_a_reference_without_data_gives_missing_scores_and_no_values(prediction, reference):
    table = evaluate(prediction, reference.assign(lai=reference["lai"] * np.nan))
    assert table["lai_n"].values.tolist() == [0, 0, 0, 0]
    assert np.isnan(table["lai_r2"]).all()
    assert np.isnan(table["lai_bias"]).all()
    assert np.isfinite(table["lu_mae"].sel(product="prediction"))


@pytest.mark.parametrize(
    "chunks",
    [{"time": 5, "year": 2, "latitude": 4}, {"longitude": 3, "lc_class": 6, "lu_class": 1}],
)
def test_chunks_change_nothing(prediction, reference, chunks):
    where, train = make_split(reference)
    expected = evaluate(prediction, reference, where=where, train=train)
    found = evaluate(prediction.chunk(chunks), reference.chunk(chunks), where=where, train=train)
    xr.testing.assert_allclose(found, expected, rtol=1e-10)


def test_a_lazy_prediction_is_read_once(prediction, reference):
    reads = []

    def read(block, name):
        reads.append(name)
        return block

    lazy = prediction.chunk(year=1, time=6)
    for name in ("lai", "lu_fraction", "lc_fraction"):
        data = lazy[name].data
        lazy[name].data = data.map_blocks(read, name, dtype=data.dtype, meta=data._meta)
    with dask.config.set(scheduler="synchronous"):
        evaluate(lazy, reference)
    assert sorted(reads) == ["lai"] * 6 + ["lc_fraction"] * 3 + ["lu_fraction"] * 3


def test_years_that_only_the_prediction_has_are_not_scored(prediction, reference):
    years = reference["year"].values[1:]
    shorter = reference.sel(year=years, time=reference["time"].dt.year.isin(years))

    expected = evaluate(
        prediction.sel(year=years, time=prediction["time"].dt.year.isin(years)), shorter
    )
    xr.testing.assert_identical(evaluate(prediction, shorter), expected)


def test_every_mismatch_is_listed_at_once(prediction, reference):
    where, train = make_split(reference)
    other = prediction.assign_coords(
        latitude=prediction["latitude"] + 1,
        lu_class=prediction["lu_class"].copy(data=[f"u{i}" for i in range(13)]),
        time=prediction["time"] + np.timedelta64(365 * 9, "D"),
    )
    with pytest.raises(CubeError) as error:
        evaluate(other, reference, where=where.isel(latitude=slice(1, None)), train=train * 1)
    text = str(error.value)
    for part in (
        "'lai': expected every time",
        "'lai': expected latitude",
        "legend 'luh2'",
        "'lc_fraction': expected latitude",
        "'where': expected latitude",
        "'train': expected booleans",
    ):
        assert part in text


def test_nothing_in_common_says_what_there_is(prediction, reference):
    with pytest.raises(CubeError, match="found lai in the prediction, lu_fraction in the ref"):
        evaluate(prediction[["lai"]], reference[["lu_fraction"]])


def test_scores_by_class_are_those_of_the_pixels_of_the_class(prediction, reference):
    table = evaluate(prediction, reference, by="class").sel(product="prediction")
    assert table["lai_rmse"].dims == table["lc_f1"].dims == ("lc_class",)
    assert table["lu_mae"].dims == ("lu_class",)
    largest = reference["lc_fraction"].argmax("lc_class")
    largest = largest.sel(year=reference["time"].dt.year).drop_vars("year")
    only = prediction["lai"].where(largest == 3)
    expected = evaluate(only.to_dataset(), reference).sel(product="prediction")
    row = table.isel(lc_class=3)
    assert int(row["lai_n"]) == int(expected["lai_n"]) > 0
    assert float(row["lai_rmse"]) == pytest.approx(float(expected["lai_rmse"]), rel=1e-9)


def test_months_keep_apart_what_has_months(prediction, reference):
    table = evaluate(prediction, reference, by="month")
    assert not [name for name in table if not name.startswith("lai_")]
    assert table["lai_n"].sel(product="persistence").values.tolist() == [2 * 126] * 12
    with pytest.raises(CubeError, match="found month, which none of them"):
        evaluate(prediction[["lu_fraction"]], reference, by="month")


def test_regions_keep_every_target_apart(prediction, reference):
    west = reference["longitude"] < reference["longitude"][5]
    west = west.broadcast_like(reference["lai"][0]).drop_vars("time", errors="ignore")
    table = evaluate(prediction, reference, by=regions(west.transpose("latitude", "longitude")))
    alone = evaluate(prediction, reference, where=west.transpose("latitude", "longitude"))
    xr.testing.assert_allclose(table.isel(region=0, drop=True), alone, rtol=1e-12)


def test_the_mean_of_a_month_has_no_anomalies_that_go_with_the_reference(reference):
    usual = reference["lai"].groupby("time.month").mean()
    usual = usual.sel(month=reference["time"].dt.month).drop_vars("month")
    closer = (0.25 * reference["lai"] + 0.75 * usual).transpose(*reference["lai"].dims)
    table = evaluate(
        closer.to_dataset(name="lai"), reference, baselines={"mirrored": 2 * usual - closer}
    )
    found = table["lai_anomaly_correlation"].sel(product=["prediction", "mirrored"])
    assert found.values == pytest.approx([1, -1], abs=1e-6)


def test_products_alone_have_the_scores_that_they_have_beside_baselines(prediction, reference):
    where, _ = make_split(reference)
    other = reference + np.float32(0.25)
    expected = evaluate(prediction, reference, where=where, baselines={"other": other}, by="class")
    expected = expected.sel(product=["prediction", "other"]).drop_vars("description")
    found = score({"prediction": prediction, "other": other}, reference, where=where, by="class")
    xr.testing.assert_equal(found, expected)


def test_the_first_product_says_which_samples_count(prediction, reference):
    part = prediction.copy(deep=True)
    part["lai"][dict(latitude=slice(0, 4))] = np.nan
    both = {"part": part, "all": prediction}
    assert score(both, reference)["lai_n"].values.tolist() == [36 * 5 * 14] * 2
    both = {"all": prediction, "part": part}
    assert score(both, reference)["lai_n"].values.tolist() == [36 * 9 * 14, 36 * 5 * 14]


def test_years_that_only_a_later_product_has_are_not_scored(prediction, reference):
    first = reference.sel(year=[2002], time="2002")
    table = score({"first": first, "second": prediction}, first)
    assert table["lai_n"].values.tolist() == [12 * 126] * 2
    assert table["lu_n"].values.tolist() == [126] * 2


def test_products_alone_list_all_that_is_wrong(prediction, reference):
    shifted = reference.assign_coords(latitude=reference["latitude"] + 1)
    with pytest.raises(CubeError) as error:
        score({"mine": prediction, "theirs": shifted}, reference, where=shifted["lai"][0] > 1)
    text = str(error.value)
    for part in (
        "'mine' cannot be evaluated",
        "product 'theirs', 'lai': expected latitude",
        "'where': exp",
    ):
        assert part in text
    with pytest.raises(CubeError, match="at least one product"):
        score({}, reference)
