"""Sums kept by class, region, month and elevation, against sums of each group alone."""

from __future__ import annotations

import dask
import numpy as np
import pytest
import xarray as xr

from xlsbc.assess.groups import Groups, bands, classes, months, regions, tally, total
from xlsbc.assess.metrics import (
    anomaly_sums,
    class_scores,
    continuous_scores,
    continuous_sums,
    fraction_scores,
    fraction_sums,
)
from xlsbc.cube.legends import LC
from xlsbc.errors import CubeError

SHAPE = (5, 9)
PIXELS = ("latitude", "longitude")


def make_coords():
    return {
        "latitude": 47.0 - np.arange(SHAPE[0]) / 120,
        "longitude": 8.0 + np.arange(SHAPE[1]) / 120,
    }


def make_lai(seed, n_times=26):
    rng = np.random.default_rng(seed)
    values = rng.gamma(2.0, size=(n_times, *SHAPE)).astype("float32")
    values[rng.uniform(size=values.shape) < 0.2] = np.nan
    time = (np.datetime64("2001-11", "M") + np.arange(n_times)).astype("datetime64[ns]")
    return xr.DataArray(values, {"time": time, **make_coords()}, ("time", *PIXELS), "lai")


def make_cover(seed, years=(2001, 2002, 2003)):
    rng = np.random.default_rng(seed)
    values = rng.dirichlet(np.full(4, 0.4), size=(len(years), *SHAPE))
    values[rng.uniform(size=values.shape[:-1]) < 0.1] = np.nan
    names = LC.coordinate("lc_class")["lc_class"][:4]
    coords = {"year": list(years), "lc_class": names, **make_coords()}
    return xr.DataArray(np.moveaxis(values, -1, 1), coords, ("year", "lc_class", *PIXELS), "lc")


def make_map(values):
    return xr.DataArray(np.resize(values, SHAPE), make_coords(), PIXELS)


WEIGHT = make_map(np.linspace(3.0, 1.0, 45)) * make_map([1, 1, 0, 1, 1, 1, 1])


def test_sums_by_class_are_those_of_the_pixels_of_each_class_in_each_year():
    prediction, truth, cover = make_lai(1), make_lai(2), make_cover(3)
    by = classes(cover, "lc_class", truth["time"])
    found = continuous_scores(continuous_sums(prediction, truth, WEIGHT, by=by))
    assert found["rmse"].dims == ("lc_class",)
    for k, name in enumerate(cover["lc_class"].values):
        squared, weight, n = 0.0, 0.0, 0
        for t, time in enumerate(truth["time"].values):
            shares = cover.sel(year=time.astype("M8[Y]").astype(int) + 1970).values
            for y, x in np.ndindex(SHAPE):
                p, r = float(prediction[t, y, x]), float(truth[t, y, x])
                w = float(WEIGHT[y, x])
                known = np.isfinite(shares[:, y, x]).all() and shares[:, y, x].argmax() == k
                if known and np.isfinite(p + r) and w > 0:
                    squared, weight, n = squared + w * (p - r) ** 2, weight + w, n + 1
        row = found.sel(lc_class=name)
        assert int(row["n"]) == n > 0
        assert float(row["rmse"]) == pytest.approx(np.sqrt(squared / weight), rel=1e-9)


def test_the_only_map_of_classes_serves_all_times_and_a_year_without_one_has_no_class():
    time, cover = make_lai(1)["time"], make_cover(3, (2002, 2003))
    index = classes(cover, "lc_class", time).index
    assert (index.isel(time=slice(0, 2)) == -1).all()  # November and December 2001
    assert (index.isel(time=slice(2, None)) >= 0).any("time").any()
    once = classes(cover.isel(year=[0]), "lc_class", time).index
    assert (once == once.isel(time=0)).all()


def test_months_regions_and_bands_are_the_sums_of_their_values():
    prediction, truth = make_lai(1), make_lai(2)
    height, region = make_map([5.0, 250, 900, np.nan, 100, 300]), make_map([3, 3, 7, -1, 9])
    cases = {
        "month": (months(truth["time"]), lambda data, k: data.where(data.time.dt.month == k + 1)),
        "region": (
            regions(region, {3: "north", 7: "south"}),
            lambda data, k: data.where(region == (3, 7)[k]),
        ),
        "elevation": (
            bands(height, [0, 100, 300]),
            lambda data, k: data.where((height >= (0, 100)[k]) & (height < (100, 300)[k])),
        ),
    }
    for name, (by, part) in cases.items():
        sums = continuous_sums(prediction, truth, WEIGHT, by=by)
        assert sums["n"].dtype.kind == "i"
        for k in range(sums.sizes[name]):
            alone = continuous_sums(part(prediction, k), truth, WEIGHT)
            xr.testing.assert_allclose(sums.isel({name: k}, drop=True), alone, rtol=1e-12)
    assert cases["region"][0].labels.values.tolist() == ["north", "south"]
    assert cases["elevation"][0].labels.values.tolist() == ["0 to 100 m", "100 to 300 m"]


def test_a_mask_is_one_region_and_numbers_name_themselves():
    assert regions(make_map([True, False])).labels.values.tolist() == ["inside"]
    assert int((regions(make_map([True, False])).index == 0).sum()) == 23
    found = regions(make_map([4, 2, -9]))
    assert found.labels.values.tolist() == [2, 4]
    assert found.index.values.ravel()[:3].tolist() == [1, 0, -1]


def test_groups_and_kept_dimensions_and_several_groups_go_together():
    prediction, truth, cover = make_lai(1), make_lai(2), make_cover(3)
    by = classes(cover, "lc_class", truth["time"])
    kept = continuous_sums(prediction, truth, WEIGHT, PIXELS, by)
    assert dict(kept["error"].sizes) == {"time": 26, "lc_class": 4}
    both = continuous_sums(prediction, truth, WEIGHT, by=[months(truth["time"]), by])
    assert dict(both["error"].sizes) == {"month": 12, "lc_class": 4}
    pooled = kept.groupby("time.month").sum()
    xr.testing.assert_allclose(both, pooled.transpose(*both["error"].dims), rtol=1e-12)
    whole = continuous_sums(prediction, truth, WEIGHT, by=by)
    xr.testing.assert_allclose(both.sum("month"), whole, rtol=1e-12)


def test_fractions_by_class_agree_with_those_of_the_pixels_of_the_class():
    prediction, truth = make_cover(1), make_cover(2)
    by = classes(truth, "lc_class")
    sums = fraction_sums(prediction, truth, WEIGHT, "lc_class", by=by)
    assert class_scores(sums)["f1"].sizes == {"lc_class": 4, "class": 4}
    for k in range(4):
        there = (truth.fillna(0).argmax("lc_class") == k) & truth.notnull().all("lc_class")
        alone = fraction_sums(prediction.where(there), truth, WEIGHT, "lc_class")
        xr.testing.assert_allclose(
            fraction_scores(sums.isel(lc_class=k, drop=True)), fraction_scores(alone), rtol=1e-12
        )


def test_a_group_without_values_has_no_score_and_no_count():
    prediction, truth = make_lai(1), make_lai(2)
    by = bands(make_map([10.0]), [0, 100, 200])
    found = continuous_scores(continuous_sums(prediction, truth, WEIGHT, by=by))
    assert int(found["n"][1]) == 0
    assert np.isnan(found["rmse"][1])
    assert np.isnan(found["bias"][1])


@pytest.mark.parametrize("seed", range(3))
def test_sums_by_group_do_not_depend_on_chunks(seed):
    rng = np.random.default_rng(seed)

    def cut(data):
        return data.chunk({dim: int(rng.integers(n // 2, n + 1)) for dim, n in data.sizes.items()})

    prediction, truth, cover = make_lai(1, 14), make_lai(2, 14), make_cover(3)
    by = classes(cover, "lc_class", truth["time"])
    lazy = classes(cut(cover), "lc_class", truth["time"])
    for sums, dims in ((continuous_sums, None), (anomaly_sums, ("longitude", "time"))):
        expected = sums(prediction, truth, WEIGHT, dims, by)
        found = sums(cut(prediction), cut(truth), WEIGHT, dims, lazy)
        xr.testing.assert_allclose(found.compute(), expected, rtol=1e-12)


def test_groups_are_lazy_on_lazy_data():
    def forbid(*args, **kwargs):
        raise AssertionError("computed")

    cover, truth = make_cover(3).chunk(year=1), make_lai(2).chunk(time=5)
    with dask.config.set(scheduler=forbid):
        by = classes(cover, "lc_class", truth["time"])
        high = bands(make_map([5.0, 50]).chunk(latitude=2), [0, 10, 100])
        sums = continuous_sums(truth, truth, WEIGHT, by=[by, high])
    assert sums["n"].chunks is not None
    assert sums["n"].dims == ("lc_class", "elevation")


def test_groups_that_do_not_fit_are_an_error():
    truth = make_lai(1)
    other = make_map([1, 2]).assign_coords(longitude=make_coords()["longitude"] + 1)
    with pytest.raises(CubeError, match="'region' does not fit the data.*expected longitude"):
        continuous_sums(truth, truth, WEIGHT, by=regions(other))
    with pytest.raises(CubeError, match="ascending edges"):
        bands(WEIGHT, [100, 0])
    with pytest.raises(CubeError, match="booleans or integers; found float64"):
        regions(WEIGHT)


def test_tally_by_hand():
    values = xr.DataArray([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]], dims=("y", "x"))
    index = xr.DataArray([1, -1, 1], dims="x")
    groups = [Groups(index, xr.DataArray([0, 1, 2], dims="g"))]
    assert tally({"a": values}, groups)["a"].values.tolist() == [0, 5 + 40, 0]
    assert tally({"a": values}, groups, ["x"])["a"].values.tolist() == [[0, 5, 0], [0, 40, 0]]
    assert total({"n": values > 1}, by=groups)["n"].values.tolist() == [0, 3, 0]
