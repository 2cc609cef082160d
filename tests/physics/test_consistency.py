"""Consistency rules, against a product that is consistent by construction and broken copies."""

from __future__ import annotations

import dask
import numpy as np
import pytest
import xarray as xr

from xlsbc.cube import legends
from xlsbc.errors import CubeError
from xlsbc.physics.consistency import check, check_html
from xlsbc.physics.margins import impossible_mass

COMPATIBLE = legends.compatible(legends.LU, legends.LC)
YEARS = (2003, 2004)
SHAPE = (5, 7)


def make_product(seed=0, *, dtype="float32"):
    """LU and LC as margins of a random distribution over possible pairs, LAI as their mixture."""
    rng = np.random.default_rng(seed)
    joint = (
        rng.gamma(0.3, size=(*COMPATIBLE.shape, len(YEARS), *SHAPE))
        * COMPATIBLE[..., None, None, None]
    )
    joint /= joint.sum(axis=(0, 1))
    lu, lc = joint.sum(axis=1), joint.sum(axis=0)
    kinds = np.array([each.vegetation for each in legends.LC.classes])
    bound = np.array([each.lai_max for each in legends.LC.classes])
    leaf = rng.uniform(size=(len(YEARS), 12, bound.size, *SHAPE)) * bound[:, None, None]
    cover = np.moveaxis(lc, 0, 1)[:, None]
    parts = {kind: (cover * leaf)[:, :, kinds == kind].sum(2) for kind in ("high", "low")}
    shares = {kind: lc[kinds == kind].sum(0) for kind in ("high", "low")}
    means = {kind: parts[kind] / shares[kind][:, None] for kind in parts}
    yearly, monthly = ("year", "latitude", "longitude"), ("time", "latitude", "longitude")
    flat = (-1, *SHAPE)
    return xr.Dataset(
        {
            "lu_fraction": (("year", "lu_class", *yearly[1:]), np.moveaxis(lu, 0, 1)),
            "lc_fraction": (("year", "lc_class", *yearly[1:]), np.moveaxis(lc, 0, 1)),
            "lai": (monthly, sum(parts.values()).reshape(flat)),
            "lai_hv": (monthly, means["high"].reshape(flat)),
            "lai_lv": (monthly, means["low"].reshape(flat)),
            "cvh": (yearly, shares["high"]),
            "cvl": (yearly, shares["low"]),
        },
        {
            "year": list(YEARS),
            "time": np.arange("2003-01", "2005-01", dtype="datetime64[M]").astype("datetime64[ns]"),
            "latitude": 46.0 - np.arange(SHAPE[0]) / 120,
            "longitude": 8.0 + np.arange(SHAPE[1]) / 120,
            "lu_class": legends.LU.coordinate("lu_class")["lu_class"],
            "lc_class": legends.LC.coordinate("lc_class")["lc_class"],
        },
    ).astype(dtype)


def pixel(**more):
    return {"latitude": 3, "longitude": 1, **more}


def test_a_product_consistent_by_construction_passes_every_rule():
    result = check(make_product())
    assert set(result) == {
        "leaves_without_bearer", "incompatible_mass", "incompatible_pixels", "simplex_error_lu",
        "simplex_error_lc", "negative", "lai_above_bound", "lai_closure", "cover_closure",
        "lai_spikes", "bare_at_peak", "forbidden_transitions_lu", "forbidden_transitions_lc",
    }  # fmt: skip
    missed = {name for name, each in result.items() if not each.attrs["passed"]}
    assert missed == {"forbidden_transitions_lu"}  # land drawn anew for every year; no law
    assert result.attrs["passed"] is True


def test_margins_of_a_possible_distribution_have_no_impossible_mass_in_float32():
    product = make_product(seed=3)
    lu = product["lu_fraction"].transpose(..., "lu_class").values
    lc = product["lc_fraction"].transpose(..., "lc_class").values
    assert impossible_mass(lu, lc, COMPATIBLE).max() < 1e-6


def break_leaves(product):
    product["lc_fraction"][pixel(year=1)] = 0
    product["lc_fraction"][pixel(year=1, lc_class=legends.LC.index("water"))] = 1
    product["lai"][pixel(time=slice(12, 24))] = 0
    product["lai"][pixel(time=slice(14, 17))] = 0.5


def break_margins(product):
    product["lu_fraction"][pixel(year=0)] = 0
    product["lu_fraction"][pixel(year=0, lu_class=legends.LU.index("icwtr"))] = 1


def break_lu_sum(product):
    product["lu_fraction"][pixel(year=0, lu_class=4)] += np.float32(0.01)


def break_lc_sum(product):
    product["lc_fraction"][pixel(year=0, lc_class=4)] += np.float32(0.02)


def break_sign(product):
    product["lai"][pixel(time=slice(0, 3))] = -0.1


def break_bound(product):
    product["lai"][pixel(time=5)] = 8.5


def break_closure(product):
    product["lai"][pixel(time=7)] += np.float32(0.125)


def break_cover(product):
    product["cvl"], product["cvh"] = product["cvh"].copy(), product["cvl"].copy()


@pytest.mark.parametrize(
    ("break_it", "rule", "expected"),
    [
        (break_leaves, "leaves_without_bearer", 3),
        (break_leaves, "lai_above_bound", 3),
        (break_margins, "incompatible_pixels", 1),
        (break_lu_sum, "simplex_error_lu", 0.01),
        (break_lc_sum, "simplex_error_lc", 0.02),
        (break_sign, "negative", 3),
        (break_bound, "lai_above_bound", 1),
        (break_closure, "lai_closure", 0.125),
    ],
)
def test_what_is_broken_is_found_and_measured(break_it, rule, expected):
    product = make_product()
    break_it(product)
    result = check(product)
    assert float(result[rule]) == pytest.approx(expected, abs=2e-6)
    assert result[rule].attrs["passed"] is False
    assert result.attrs["passed"] is False


def test_incompatible_mass_of_land_under_inland_water_is_its_land_cover():
    product = make_product()
    break_margins(product)
    # Ice and water take only the water and snow of the pixel; all the rest has no possible use.
    watery = [legends.LC.index("water"), legends.LC.index("snowice")]
    cover = product["lc_fraction"].isel(pixel(year=0)).values.astype("float64")
    assert float(check(product)["incompatible_mass"]) == pytest.approx(
        1 - cover[watery].sum(), abs=1e-6
    )


def test_swapped_high_and_low_cover_is_found():
    product = make_product()
    break_cover(product)
    assert not check(product)["cover_closure"].attrs["passed"]


def test_missing_pixels_are_skipped_and_counted():
    product = make_product()
    product["lai"][pixel(time=slice(0, 5))] = np.nan
    product["lu_fraction"][pixel(year=0)] = np.nan
    result = check(product)
    assert result.attrs["passed"] is True
    n = SHAPE[0] * SHAPE[1]
    assert result["lai_closure"].attrs["skipped"] == 5
    assert result["lai_closure"].attrs["looked_at"] == 24 * n - 5
    assert result["incompatible_mass"].attrs["skipped"] == 1
    assert result["simplex_error_lu"].attrs["looked_at"] == 2 * n - 1


def test_low_vegetation_lai_may_be_missing_where_there_is_no_low_vegetation():
    product = make_product()
    product["cvl"][pixel()] = 0
    product["lai"][pixel()] = (
        product["cvh"].sel(year=product["time"].dt.year) * product["lai_hv"]
    )[pixel()]
    product["lai_lv"][pixel()] = np.nan
    result = check(product)["lai_closure"]
    assert result.attrs["passed"]
    assert result.attrs["skipped"] == 0


def test_a_product_without_any_data_has_not_passed():
    product = make_product()
    result = check(product.where(product["latitude"] > 90))
    assert all(np.isnan(float(each)) for each in result.values())
    assert not any(each.attrs["passed"] for each in result.values())
    assert not result.attrs["passed"]


def test_lai_alone_is_checked_for_what_it_alone_can_tell():
    product = make_product()[["lai"]]
    product["lai"][pixel(time=4)] = 8.1
    result = check(product)
    assert set(result) == {"negative", "lai_above_bound", "lai_spikes"}
    assert float(result["lai_above_bound"]) == 1


def test_classes_may_stand_in_any_order():
    product = make_product()
    rng = np.random.default_rng(8)
    shuffled = product.isel(lu_class=rng.permutation(13), lc_class=rng.permutation(14))
    assert check(shuffled).attrs["passed"]


def test_one_map_of_land_cover_serves_every_time():
    product = make_product().isel(year=[1])
    break_only = product["lc_fraction"].isel(year=0)
    break_only[pixel()] = 0
    break_only[pixel(lc_class=legends.LC.index("bare"))] = 1
    product["lai"][pixel()] = 1.0
    assert float(check(product)["leaves_without_bearer"]) == 24


def test_times_without_their_year_of_land_cover_are_skipped():
    product = make_product().assign_coords(year=[2003, 2010])
    result = check(product)
    assert result["leaves_without_bearer"].attrs["skipped"] == 12 * SHAPE[0] * SHAPE[1]


def test_legends_without_a_table_of_possible_pairs_leave_that_rule_out():
    product = make_product()[["lu_fraction", "lc_fraction"]]
    ids = legends.legend("ifs").coordinate("lc_class")["lc_class"][:14]
    result = check(product.assign_coords(lc_class=ids))
    assert "incompatible_mass" not in result
    assert result["simplex_error_lc"].attrs["passed"]


def test_a_dataset_with_nothing_to_check_says_what_could_be_checked():
    with pytest.raises(CubeError, match="none of lu_fraction, lc_fraction, lai"):
        check(xr.Dataset({"t2m": ("x", [1.0])}))


@pytest.mark.parametrize(
    "chunks",
    [
        {"year": 1, "time": 5, "latitude": 2, "longitude": 3},
        {"lu_class": 4, "lc_class": 5, "longitude": 1},
    ],
)
def test_dask_products_give_the_same_result_in_one_pass(chunks):
    product = make_product()
    break_leaves(product)
    break_margins(product)
    expected = check(product)
    reads = []

    def read(block, name):
        reads.append(name)
        return block

    lazy = product.chunk(chunks).map(
        lambda each: each.copy(
            data=each.data.map_blocks(read, each.name, dtype=each.dtype, meta=each.data._meta)
        )
    )
    lazy = lazy.assign_coords(product.coords)
    assert reads == []
    with dask.config.set(scheduler="synchronous"):
        found = check(lazy)
    blocks = sum(each.data.npartitions for each in lazy.values())
    assert len(reads) == blocks
    for name in expected:
        assert float(found[name]) == pytest.approx(float(expected[name]), abs=1e-12)
        assert found[name].attrs == expected[name].attrs


def test_the_table_names_every_rule_and_its_verdict():
    product = make_product()
    break_sign(product)
    html = check_html(check(product))
    assert html.count("<tr>") == 1 + 9 + 4
    assert "Values below zero" in html
    assert ">broken<" in html
