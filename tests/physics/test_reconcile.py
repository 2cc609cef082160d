"""Reconciled land: consistent, near, and untouched where it was consistent."""

from __future__ import annotations

import dask
import numpy as np
import pytest
import xarray as xr
from scipy.optimize import minimize

from tests.physics.land import broken, make_land
from tests.physics.test_consistency import COMPATIBLE, make_product
from xlsbc.cube import legends
from xlsbc.errors import CubeError
from xlsbc.physics.consistency import check
from xlsbc.physics.margins import impossible_mass
from xlsbc.physics.reconcile import reconcile

LAWS = {name for name, each in check(make_product()).items() if each.attrs["law"]}


def inconsistent(seed=0):
    """Everything noisy: fractions off the simplex, uses drawn apart from covers, leaves anyhow."""
    rng = np.random.default_rng(seed)
    product = make_product(seed)
    shape = product["lu_fraction"].shape
    product["lu_fraction"][:] = rng.dirichlet(np.full(13, 0.2), (2, 5, 7)).transpose(0, 3, 1, 2)
    product["lu_fraction"] += rng.normal(0, 0.02, shape)
    product["lc_fraction"] += rng.normal(0, 0.02, product["lc_fraction"].shape)
    for name, spread in (("lai", 2), ("lai_hv", 3), ("lai_lv", 3), ("cvh", 0.1), ("cvl", 0.1)):
        product[name] += rng.normal(0, spread, product[name].shape)
    product["lc_fraction"][{"year": 0, "latitude": 2, "longitude": 3}] = 0
    product["lc_fraction"][{"year": 0, "latitude": 2, "longitude": 3, "lc_class": 12}] = 1
    return product.astype("float32")


@pytest.mark.parametrize("seed", range(3))
def test_reconciled_land_breaks_no_law(seed):
    product = inconsistent(seed)
    assert broken(check(product)) >= LAWS - {"incompatible_pixels"}
    result = check(reconcile(product))
    assert not broken(result) & LAWS
    assert set(result) >= LAWS


@pytest.mark.parametrize("make", [make_product, make_land])
def test_consistent_land_comes_back_to_the_bit(make):
    product = make()
    xr.testing.assert_identical(reconcile(product), product)


def test_only_what_is_wrong_is_changed():
    product = make_product()
    product["lai"][{"time": 3, "latitude": 1, "longitude": 5}] = 8.9
    found = reconcile(product)
    changed = found["lai"] != product["lai"]
    assert int(changed.sum()) == 1
    bound = [each.lai_max for each in legends.LC.classes]
    cover = product["lc_fraction"].isel(year=0, latitude=1, longitude=5).values.astype("float64")
    assert float(found["lai"][3, 1, 5]) == pytest.approx(cover @ bound, rel=1e-6)
    assert int((found["lai_hv"] != product["lai_hv"]).sum()) == 1
    xr.testing.assert_identical(found["lu_fraction"], product["lu_fraction"])


def test_the_projection_onto_the_simplex_is_the_nearest():
    rng = np.random.default_rng(4)
    product = make_product()[["lc_fraction"]]
    given = rng.normal(0.1, 0.2, 14)
    product["lc_fraction"][0, :, 0, 0] = given
    found = reconcile(product)["lc_fraction"][0, :, 0, 0].values
    nearest = minimize(
        lambda x: ((x - given) ** 2).sum(),
        np.full(14, 1 / 14),
        bounds=[(0, 1)] * 14,
        constraints={"type": "eq", "fun": lambda x: x.sum() - 1},
        options={"ftol": 1e-12, "maxiter": 500},
    )
    np.testing.assert_allclose(found, nearest.x, atol=1e-5)


def test_a_simplex_worked_by_hand():
    product = make_product()[["lu_fraction"]]
    product["lu_fraction"][0, :, 1, 2] = 0
    product["lu_fraction"][0, :3, 1, 2] = [0.9, 0.5, -0.2]
    found = reconcile(product)["lu_fraction"][0, :, 1, 2].values
    np.testing.assert_allclose(found, [0.7, 0.3] + [0] * 11, atol=1e-7)


def test_use_that_the_cover_cannot_bear_moves_to_what_it_can_by_hand():
    product = make_product()[["lu_fraction", "lc_fraction"]]
    here = {"year": 0, "latitude": 1, "longitude": 2}
    product["lu_fraction"][here] = 0
    product["lc_fraction"][here] = 0
    lu, lc = legends.LU.index, legends.LC.index
    for id, share in (("primf", 0.6), ("c3ann", 0.1), ("c4ann", 0.3)):
        product["lu_fraction"][{**here, "lu_class": lu(id)}] = share
    for id, share in (("trees_bd", 0.2), ("grass_man", 0.8)):
        product["lc_fraction"][{**here, "lc_class": lc(id)}] = share
    found = reconcile(product)
    xr.testing.assert_identical(found["lc_fraction"], product["lc_fraction"])
    use = found["lu_fraction"].isel(here).values
    # Forest for the trees, and the crops grow as they are to each other.
    expected = {"primf": 0.2, "c3ann": 0.2, "c4ann": 0.6}
    np.testing.assert_allclose([use[lu(id)] for id in expected], [*expected.values()], atol=1e-5)
    assert use.sum() == pytest.approx(1, abs=1e-6)


def test_use_moves_by_little_more_than_what_must_move():
    rng = np.random.default_rng(7)
    product = make_product()
    product["lu_fraction"][:] = rng.dirichlet(np.full(13, 0.5), (2, 5, 7)).transpose(0, 3, 1, 2)
    lu, lc = (
        product[name].transpose(..., dim).values
        for name, dim in (("lu_fraction", "lu_class"), ("lc_fraction", "lc_class"))
    )
    least = impossible_mass(lu, lc, COMPATIBLE)
    found = reconcile(product)["lu_fraction"].transpose(..., "lu_class").values
    moved = abs(found - lu).sum(-1) / 2
    assert (moved >= least - 1e-6).all()
    assert moved.mean() < 1.3 * least.mean()


def test_leaves_that_one_part_cannot_bear_go_to_the_other():
    land = make_land().isel(time=[0], year=[0])
    one = {"latitude": 0, "longitude": 0}
    land["lc_fraction"][one] = 0
    for id in ("trees_bd", "grass_nat"):
        land["lc_fraction"][{**one, "lc_class": legends.LC.index(id)}] = 0.5
    land["lu_fraction"][one] = 0
    land["lu_fraction"][{**one, "lu_class": legends.LU.index("range")}] = 1
    for name, value in (("cvh", 0.5), ("cvl", 0.5), ("lai", 7), ("lai_hv", 1), ("lai_lv", 4)):
        land[name][one] = value
    found = reconcile(land).isel(one)
    # Scaled by 2.8 low vegetation would have 11.2; it bears 7, and the rest is 2 (7 - 3.5).
    assert float(found["lai_lv"].squeeze()) == pytest.approx(7)
    assert float(found["lai_hv"].squeeze()) == pytest.approx(7)


def test_covers_without_land_cover_leave_room_for_each_other():
    land = make_land()[["cvl", "cvh"]]
    land["cvl"][0, 0, :3], land["cvh"][0, 0, :3] = [0.9, 0.05, -0.1], [0.5, 1.2, 1.0]
    found = reconcile(land)
    np.testing.assert_allclose(found["cvl"][0, 0, :3], [0.7, 0, 0], atol=1e-6)
    np.testing.assert_allclose(found["cvh"][0, 0, :3], [0.3, 1, 1], atol=1e-6)
    assert check(found).attrs["passed"]


def test_missing_values_stay_missing_and_nothing_else():
    product = inconsistent()
    product["lai"][{"time": slice(0, 5), "latitude": 3}] = np.nan
    product["lc_fraction"][{"year": 1, "latitude": 0, "lc_class": 4}] = np.nan
    found = reconcile(product)
    for name in product:
        xr.testing.assert_equal(found[name].isnull(), product[name].isnull())
    assert not broken(check(found)) & LAWS
    rest = {"year": 1, "latitude": 0}
    np.testing.assert_array_equal(
        found["lc_fraction"].isel(rest), product["lc_fraction"].isel(rest).clip(min=0)
    )


@pytest.mark.usefixtures("no_compute")
def test_a_lazy_product_stays_lazy_and_keeps_its_chunks():
    lazy = inconsistent().chunk({"year": 1, "time": 5, "latitude": 2, "lc_class": 3})
    found = reconcile(lazy)
    assert found.chunksizes == lazy.chunksizes


def test_a_lazy_product_is_reconciled_to_the_same():
    product = inconsistent(5)
    lazy = product.chunk({"year": 1, "time": 5, "latitude": 2, "lc_class": 3})
    with dask.config.set(scheduler="synchronous"):
        xr.testing.assert_allclose(reconcile(lazy).compute(), reconcile(product), rtol=1e-6)


def test_what_has_nothing_to_do_with_it_stays():
    product = make_product().assign(elevation=("latitude", np.arange(5.0)))
    product.attrs["title"] = "land"
    xr.testing.assert_identical(product.lsbc.reconcile(), product)


def test_a_dataset_with_nothing_to_reconcile_says_what_could_be():
    with pytest.raises(CubeError, match="none of lu_fraction, lc_fraction, lai"):
        reconcile(xr.Dataset({"t2m": ("x", [1.0])}))


def test_a_product_of_other_names_comes_back_under_canonical_ones():
    land = make_land().isel(time=slice(0, 12))
    lai = land["lai"].rename(latitude="lat", longitude="lon").isel(lat=slice(None, None, -1))
    lai.attrs = {"standard_name": "leaf_area_index", "units": "1"}
    lai[{"time": 6, "lat": 2, "lon": 3}] = -0.5
    lai["lat"].attrs["units"], lai["lon"].attrs["units"] = "degrees_north", "degrees_east"
    found = reconcile(lai.rename("LAI").to_dataset())
    assert list(found) == ["lai"]
    assert float(found["lai"][6, 7, 3]) == 0
    assert check(found).attrs["passed"]


def test_what_a_store_rounded_comes_back_to_the_bit():
    product = make_product(2)
    for name in ("lai", "lai_hv", "lai_lv"):
        product[name] = (product[name] / 2.0**-12).round() * 2.0**-12
        product[name].encoding["scale_factor"] = 2.0**-12
    found = reconcile(product)
    xr.testing.assert_identical(found, product)
    assert found["lai"].encoding == {"scale_factor": 2.0**-12}
