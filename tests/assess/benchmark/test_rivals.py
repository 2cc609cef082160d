"""Baselines as products: what they see of the labels, and that they cover every step."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from tests.assess.cubes import make_cube, make_split
from xlsbc.assess.benchmark.rivals import RIVALS, rival
from xlsbc.assess.evaluate import score
from xlsbc.errors import CubeError

TARGETS = ["lu_fraction", "lc_fraction", "lai"]
LEARNERS = RIVALS[1:]


@pytest.fixture(autouse=True)
def few_trees(monkeypatch):
    monkeypatch.setattr("xlsbc.assess.boosting.TREES", 3)
    monkeypatch.setattr("xlsbc.assess.boosting.CLASS_TREES", 2)


def make_small(**kwargs):
    return make_cube(shape=(13, 40), **kwargs)


def make_rival(name, cube, labels=None, **kwargs):
    where, train = make_split(cube)
    return rival(name, cube, cube if labels is None else labels, where, train, **kwargs)


def make_flat(cube, months):
    """LAI that is the same everywhere, by calendar month."""
    flat = np.asarray(months, dtype="float32")[cube["time"].dt.month.values - 1]
    return cube.assign(lai=xr.zeros_like(cube["lai"]) + xr.DataArray(flat, dims="time"))


@pytest.mark.parametrize(
    ("name", "targets"),
    [
        ("persistence", TARGETS),
        ("class_by_month_climatology", ["lai"]),
        ("coarse_upsampled", TARGETS),
        ("gradient_boosting", TARGETS),
    ],
)
def test_a_product_is_scored_like_a_prediction(name, targets):
    cube = make_small()
    where, _ = make_split(cube)
    product = make_rival(name, cube)
    assert sorted(product) == sorted(targets)
    table = score({name: product}, cube, where=where).sel(product=name)
    years = 1 if name == "persistence" else 2
    assert int(table["lai_n"]) == 12 * years * 13 * 20
    for kind in ("lu", "lc") if len(targets) == 3 else ():
        assert int(table[f"{kind}_n"]) == years * 13 * 20


@pytest.mark.parametrize("name", LEARNERS)
def test_what_training_may_not_know_changes_nothing(name):
    cube = make_small()
    where, train = make_split(cube)
    kept = train & (cube["latitude"] > cube["latitude"][6])
    labels = cube.assign({n: cube[n].where(kept) for n in TARGETS})
    known = {n: labels[n].where(cube[n][_step(n)].isin(_first(cube[n]))) for n in TARGETS}
    spoiled = {n: labels[n].where(train | ~where, 5.0) for n in TARGETS}
    truth = cube.assign(lai=cube["lai"] + 3, lu_fraction=cube["lu_fraction"].roll(longitude=7))
    expected = make_rival(name, cube, labels, years=[2001])
    for each in (known, spoiled):
        found = make_rival(name, truth, cube.assign(each), years=[2001])
        xr.testing.assert_equal(found, expected)


def _step(name):
    return "time" if name == "lai" else "year"


def _first(field):
    """The steps of the first year."""
    return field[_step(field.name)].values[: 12 if field.name == "lai" else 1]


@pytest.mark.parametrize("name", LEARNERS)
def test_a_month_with_labels_in_held_out_pixels_only_has_none(name):
    cube = make_flat(make_small(), np.arange(1, 13))
    where, train = make_split(cube)
    labels = cube.assign(lai=cube["lai"].where(~train | (cube["time"].dt.month != 8)))
    found = make_rival(name, cube, labels)["lai"].values[7, where.values]
    np.testing.assert_allclose(found, 7 + 2 * 31 / 62, rtol=1e-6)  # 1 July to 1 September


def test_persistence_knows_the_year_before_of_held_out_pixels():
    cube = make_small()
    product = make_rival("persistence", cube, cube * np.float32(np.nan))
    np.testing.assert_array_equal(product["lai"][12:], cube["lai"][:12])
    assert product["lai"][:12].isnull().all()


def test_the_climatology_knows_the_land_cover_of_held_out_pixels():
    cube = make_small()
    lai = cube["lc_fraction"].argmax("lc_class").astype("float32").sel(year=2001, drop=True)
    cube = cube.assign(lai=lai.expand_dims(time=cube["time"]))
    cover = cube["lc_fraction"].sel(year=[2001, 2001]).assign_coords(year=cube["year"])
    cube = cube.assign(lc_fraction=cover)
    labels = cube.assign(lc_fraction=cube["lc_fraction"] * np.float32(np.nan))
    product = make_rival("class_by_month_climatology", cube, labels)
    np.testing.assert_allclose(product["lai"], cube["lai"], rtol=1e-6)


@pytest.mark.parametrize("name", LEARNERS)
def test_months_without_labels_are_linear_in_time_between_the_others(name):
    months = [1, 3, 5, 7, 9, 11, 12, 10, 8, 6, 4, 2]
    cube = make_flat(make_small(), months)
    where, _ = make_split(cube)
    gone = cube["time"].dt.month.isin([1, 5, 6, 12])
    product = make_rival(name, cube, cube.assign(lai=cube["lai"].where(~gone)))
    found = product["lai"].values[:, where.values]
    assert np.ptp(found, axis=1).max() < 1e-5
    expected = np.tile(np.asarray(months, dtype=float), 2)
    # April to July is 91 days, with May on day 30 and June on day 61; November to February is 92,
    # with December on day 30 and January on day 61.
    for year in (0, 12):
        expected[[year + 4, year + 5]] = 7 + 5 * np.array([30, 61]) / 91
        expected[year + 11], expected[year] = 4 - 30 / 92, 4 - 61 / 92
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-5)


@pytest.mark.parametrize("name", LEARNERS)
def test_a_single_labelled_month_holds_all_year(name):
    cube = make_flat(make_small(), np.arange(1, 13))
    labels = cube.assign(lai=cube["lai"].where(cube["time"] == cube["time"][3]))
    where, _ = make_split(cube)
    product = make_rival(name, cube, labels)
    np.testing.assert_allclose(product["lai"].values[:, where.values], 4, rtol=1e-6)


def test_fractions_are_those_of_the_nearest_labelled_year():
    cube = make_small(years=(2001, 2002, 2003, 2004)).drop_vars("lu_total")
    shares = np.zeros((4, 14, 13, 40), dtype="float32")
    for year, share in enumerate((0.1, 0.2, 0.3, 0.4)):
        shares[year, 3], shares[year, 7] = share, 1 - share
    cube = cube.assign(lc_fraction=cube["lc_fraction"].copy(data=shares))
    labels = cube.assign(lc_fraction=cube["lc_fraction"].where(cube["year"].isin([2002, 2004])))
    found = make_rival("coarse_upsampled", cube, labels)["lc_fraction"][:, 3, 5, 5]
    np.testing.assert_allclose(found, [0.2, 0.2, 0.2, 0.4], rtol=1e-6)
    found = make_rival("coarse_upsampled", cube, labels, years=[2001, 2002])["lc_fraction"]
    np.testing.assert_allclose(found[:, 3, 5, 5], 0.2, rtol=1e-6)


@pytest.mark.parametrize("name", LEARNERS)
def test_years_alone_may_be_held_out(name):
    cube = make_small()
    everywhere = xr.ones_like(cube["elevation"], dtype=bool)
    lai = xr.full_like(cube["lai"], 2.0).where(cube["time"].dt.year == 2001, 9.0)
    cube = cube.assign(lai=lai)
    product = rival(name, cube, cube, everywhere, everywhere, years=[2001])
    np.testing.assert_allclose(product["lai"], 2.0, rtol=1e-6)


def test_a_target_that_the_cube_lacks_is_not_told():
    cube = make_small().drop_vars("lc_fraction")
    for name in RIVALS:
        assert "lc_fraction" not in make_rival(name, cube)
    only = make_small()[["elevation", "lc_fraction"]]
    assert list(make_rival("coarse_upsampled", only)) == ["lc_fraction"]


def test_a_target_without_a_label_is_told_by_the_driver_at_most():
    cube = make_small()
    nothing = cube * np.float32(np.nan)
    assert list(make_rival("coarse_upsampled", cube, nothing)) == ["lu_fraction"]
    half = nothing.assign(lc_fraction=cube["lc_fraction"])
    assert list(make_rival("gradient_boosting", cube, half)) == ["lc_fraction"]


def test_the_columns_of_boosting_are_all_inputs_by_role(monkeypatch):
    cube = make_small()
    cube["own"] = cube["slope"].assign_attrs(xlsbc_role="static")
    cube["no_input"] = cube["slope"] * 2
    seen = []

    def record(known, predictors, *args, **kwargs):
        seen.append(list(predictors))
        return known["lai"]

    monkeypatch.setattr("xlsbc.assess.baselines.boosting", record)
    make_rival("gradient_boosting", cube.drop_vars(["lu_fraction", "lc_fraction"]))
    assert sorted(seen[0]) == ["co2", "elevation", "lu_total", "own", "slope", "t2m"]


def test_the_seed_decides():
    cube = make_small(years=(2001,))[["elevation", "lu_fraction"]]
    first, again, other = (make_rival("gradient_boosting", cube, seed=s) for s in (1, 1, 2))
    xr.testing.assert_identical(first, again)
    assert not first.equals(other)


def test_lazy_cubes_give_the_same_product():
    cube = make_small()
    for name in RIVALS:
        lazy = make_rival(name, cube.chunk(year=1, time=7, latitude=5))
        xr.testing.assert_allclose(lazy.compute(), make_rival(name, cube))


def test_one_year_has_no_persistence_and_says_so():
    cube = make_small(years=(2000,), climatology=True)
    with pytest.raises(CubeError, match="nothing to tell: .*two years.*found lu_fraction.*2000"):
        make_rival("persistence", cube)


def test_no_label_in_the_years_that_train_says_so():
    cube = make_small()
    with pytest.raises(CubeError, match=r"a label of lai in a training pixel in the years \[1990"):
        make_rival("class_by_month_climatology", cube, years=[1990])


def test_all_that_does_not_fit_is_listed():
    cube = make_small()
    where, train = make_split(cube)
    labels = cube.drop_vars("lai").isel(year=[0])
    with pytest.raises(CubeError) as error:
        rival("forest", cube, labels, where & ~where, train * 1, years=None)
    text = str(error.value)
    for part in (
        "found 'forest'",
        "labels: expected 'lai'",
        "labels: 'lu_fraction': expected every year",
        "'where': expected some pixel",
        "'train': expected booleans",
    ):
        assert part in text
