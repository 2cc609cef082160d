from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from xlsbc.cube.legends import LC
from xlsbc.cube.store.packing import MISSING, packing_of
from xlsbc.cube.store.writer import write
from xlsbc.errors import CubeError
from xlsbc.physics.consistency import check

CLASSES = ("year", "lc_class", "latitude", "longitude")


def packing(name="lc_fraction", dims=CLASSES):
    found = packing_of(name, dims, np.dtype("float32"))
    assert found is not None
    return found


def unpacked(steps, step):
    return np.where(steps == MISSING, np.nan, steps * np.float32(step)).astype("float32")


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("lu_fraction", 2**-15),
        ("lc_fraction", 2**-15),
        ("cvh", 2**-15),
        ("cvl", 2**-15),
        ("lai", 2**-12),
        ("lai_hv", 2**-12),
        ("lai_lv", 2**-12),
    ],
)
def test_fractions_and_leaf_area_are_packed(name, step):
    assert packing_of(name, ("y", "x"), np.dtype("float32")).step == step


@pytest.mark.parametrize("name", ["lu_total", "t2m", "elevation", "mine"])
def test_other_variables_are_not(name):
    assert packing_of(name, ("y", "x"), np.dtype("float32")) is None


def test_what_is_no_float_is_not_packed():
    assert packing_of("lai", ("y", "x"), np.dtype("uint8")) is None


def test_leaf_area_is_the_nearest_step_and_nan_the_largest_integer():
    values = np.array([[0, 1, 2.00013], [np.nan, 7.99988, 1e-5]], "float32")
    found = packing("lai", ("y", "x")).pack(values)
    # 2.00013 * 4096 = 8192.53; 7.99988 * 4096 = 32767.51
    np.testing.assert_array_equal(found, [[0, 4096, 8193], [MISSING, 32768, 0]])


@given(
    arrays("float64", st.tuples(st.integers(1, 20), st.integers(1, 6)), elements=st.floats(0, 1)),
    st.sampled_from(["float32", "float64"]),
)
def test_packed_fractions_sum_to_exactly_one_within_a_step_each_and_zeros_stay(raw, dtype):
    raw = raw[:, raw.sum(0) > 0.01]
    fractions = (raw / raw.sum(0)).astype(dtype)[None, :, None, :]
    steps = packing().pack(fractions)
    assert (steps.astype(int).sum(1) == 2**15).all()
    found = unpacked(steps, 2**-15)
    assert (found.sum(1) == 1).all()  # also in float32
    assert (abs(found - fractions.astype(float)) <= 2**-15 * (1 + 1e-6)).all()
    assert (found[fractions == 0] == 0).all()


def test_a_pixel_without_land_stays_missing_in_every_class():
    fractions = np.full((1, 4, 2, 3), 0.25, "float32")
    fractions[..., 1, 2] = np.nan
    steps = packing().pack(fractions)
    assert (steps[..., 1, 2] == MISSING).all()
    assert (steps == MISSING).sum() == 4
    assert (steps[..., 0, :] == 2**13).all()


def test_a_rounding_error_below_zero_is_zero():
    steps = packing("lai", ("x",)).pack(np.array([-1e-5, 1], "float32"))
    np.testing.assert_array_equal(steps, [0, 4096])


@pytest.mark.parametrize("value", [-0.5, 16, np.inf, -np.inf])
def test_what_does_not_fit_is_an_error_with_its_place(value):
    values = np.ones((2, 3), "float32")
    values[1, 2] = value
    with pytest.raises(CubeError, match=f"'lai' .* found {value:g} at y 101, x 7; correct it"):
        packing("lai", ("y", "x")).pack(values, (100, 5))


def test_packing_again_what_was_packed_changes_nothing():
    random = np.random.default_rng(0)
    fractions = random.dirichlet(np.full(14, 0.3), 50).T[None, :, None].astype("float32")
    once = packing().pack(fractions)
    np.testing.assert_array_equal(packing().pack(unpacked(once, 2**-15)), once)


def consistent(rows=40, columns=30):
    """Land cover, LAI and their parts, consistent to float32 as a prediction is."""
    random = np.random.default_rng(0)
    shape = (1, len(LC.classes), rows, columns)
    lc = random.exponential(size=shape) ** 6
    lc[random.random(shape) < 0.3] = 0
    lc[:, LC.index("water")] += 1e-3
    lc = (lc / lc.sum(1, keepdims=True)).astype("float32").astype("float64")
    most = np.array([each.lai_max for each in LC.classes])
    leaf = most[:, None, None] * random.random((3, *shape[1:]))
    fields = {"lc_fraction": (CLASSES, lc)}
    for name, area, kind in (("cvh", "lai_hv", "high"), ("cvl", "lai_lv", "low")):
        here = [i for i, each in enumerate(LC.classes) if each.vegetation == kind]
        cover = lc[:, here].sum(1)
        leaves = (lc[:, here] * leaf[:, here]).sum(1)
        fields[name] = (("year", "latitude", "longitude"), cover)
        mean = np.divide(leaves, cover, out=np.zeros_like(leaves), where=cover > 0)
        fields[area] = (("time", "latitude", "longitude"), mean)
    fields["lai"] = (("time", "latitude", "longitude"), (lc * leaf).sum(1))
    return xr.Dataset(
        {name: (dims, values.astype("float32")) for name, (dims, values) in fields.items()},
        {
            "year": [2001],
            "time": np.array(["2001-01-01", "2001-02-01", "2001-03-01"], "M8[ns]"),
            "latitude": 47 - np.arange(rows) / 120,
            "longitude": 7 + np.arange(columns) / 120,
            "lc_class": LC.coordinate("lc_class"),
        },
    )


@pytest.mark.parametrize("lazy", [False, True])
def test_a_stored_prediction_is_as_consistent_as_one_in_memory(tmp_path, lazy):
    product = consistent()
    assert check(product).attrs["passed"]
    chunked = product.chunk(latitude=17, longitude=11) if lazy else product
    stored = xr.open_zarr(write(chunked, str(tmp_path / "a.zarr"), progress=False))
    found = check(stored)
    assert found.attrs["passed"], {k: (float(v), v.attrs["limit"]) for k, v in found.items()}
    assert float(found["simplex_error_lc"]) == 0
    assert float(found["cover_closure"]) == 0
    assert abs(stored["lai"] - product["lai"]).max() <= 2**-13


def test_steps_do_not_excuse_what_is_inconsistent(tmp_path):
    product = consistent()
    product["lai"] = product["lai"] + np.float32(0.02)
    stored = xr.open_zarr(write(product, str(tmp_path / "a.zarr"), progress=False))
    found = check(stored)
    assert not found["lai_closure"].attrs["passed"]
