"""Paired comparisons against scipy.stats, and leaders against Holm's procedure by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from xlsbc.assess.benchmark.paired import Comparison, compare, holm, leaders, student
from xlsbc.assess.benchmark.table import summarise, tidy
from xlsbc.errors import CubeError

UNET = {"model": "unet"}
VIT = {"model": "vit"}


def make_rows(model, values, metric="lai_rmse", **changes):
    """A cell for each value, with seeds 0, 1, 2 ...; no cell where the value is None."""
    rows = []
    for seed, value in enumerate(values):
        row = {
            "kind": "emulator",
            "model": model,
            "backbone": model,
            "variant": "s",
            "adaptation": "scratch",
            "weights": "",
            "learning": "multi-task",
            "labels": 1.0,
            "every": 1,
            "split": "blocks",
            "seed": seed,
            metric: value,
            **changes,
        }
        rows.append({"cell": " ".join(str(v) for k, v in row.items() if k != metric), **row})
    return [row for row in rows if row[metric] is not None]


def make_baseline(values, model="persistence", **changes):
    none = dict.fromkeys(("backbone", "variant", "adaptation", "weights", "learning"), "")
    return make_rows(model, values, **{"kind": "baseline", **none, **changes})


def led_by(table, metric="lai_rmse"):
    told = leaders(table, metric)
    return told.index.get_level_values("model")[told].tolist()


def test_a_comparison_is_the_paired_t_test_of_scipy():
    a, b = [0.52, 0.48, 0.55, 0.50], [0.60, 0.57, 0.58, 0.61]
    found = compare(tidy(make_rows("unet", a) + make_rows("vit", b)), "lai_rmse", UNET, VIT)
    expected = stats.ttest_rel(a, b)
    interval = expected.confidence_interval(0.95)
    assert found.difference == pytest.approx(np.mean(a) - np.mean(b), rel=1e-12)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-10)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-10)
    assert (found.n, found.units) == (4, "m2 m-2")


values = st.floats(-1e3, 1e3).map(lambda value: round(value, 6))


@settings(max_examples=40)
@given(st.lists(st.tuples(values, values), min_size=2, max_size=8))
def test_any_pairs_agree_with_scipy_and_turned_round_with_themselves(pairs):
    a, b = np.array(pairs).T
    assume(np.ptp(a - b) > 1e-5)
    table = tidy(make_rows("unet", a) + make_rows("vit", b))
    found, turned = (
        compare(table, "lai_rmse", one, other) for one, other in ((UNET, VIT), (VIT, UNET))
    )
    assert found.p == pytest.approx(stats.ttest_rel(a, b).pvalue, rel=1e-6, abs=1e-12)
    assert (turned.difference, turned.low, turned.high) == (
        -found.difference,
        -found.high,
        -found.low,
    )
    assert (turned.p, turned.n) == (found.p, len(pairs))


def test_only_seeds_that_both_have_and_that_are_finite_are_paired():
    a = [0.5, 0.6, np.nan, 0.4, 0.9, None]
    b = [0.7, 0.9, 0.1, 0.5, None, 0.2]
    found = compare(tidy(make_rows("unet", a) + make_rows("vit", b)), "lai_rmse", UNET, VIT)
    assert found.n == 3
    assert found.p == pytest.approx(stats.ttest_rel([0.5, 0.6, 0.4], [0.7, 0.9, 0.5]).pvalue)


def test_one_seed_has_a_difference_and_nothing_else():
    found = compare(
        tidy(make_rows("unet", [0.5]) + make_rows("vit", [0.75])), "lai_rmse", UNET, VIT
    )
    assert (found.difference, found.n) == (-0.25, 1)
    assert np.isnan([found.low, found.high, found.p]).all()


@pytest.mark.parametrize(("shift", "p"), [(0.0, 1.0), (0.25, 0.0)])
def test_differences_without_spread_are_certain(shift, p):
    b = [0.5, 0.75, 0.125]
    rows = make_rows("unet", [value + shift for value in b]) + make_rows("vit", b)
    assert compare(tidy(rows), "lai_rmse", UNET, VIT) == Comparison(
        shift, shift, shift, p, 3, "m2 m-2"
    )


def test_equal_numbers_whose_mean_is_rounded_have_no_spread():
    found = student(np.full((1, 3), 0.1))
    assert (found.difference, found.low, found.high, found.p) == (0.1, 0.1, 0.1, 0.0)


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_no_size_of_numbers_overflows_or_vanishes(scale):
    found = student(np.array([[1.0, 2.0, 4.0]]) * scale)
    assert found.p == pytest.approx(stats.ttest_1samp([1.0, 2.0, 4.0], 0).pvalue)


def test_nothing_but_what_is_named_may_differ():
    rows = [
        *make_rows("unet", [0.5, 0.6], labels=0.25),
        *make_rows("unet", [0.1, 0.2], labels=1.0),
        *make_rows("vit", [0.8, 0.7], labels=0.25),
        *make_rows("vit", [9.0, 9.0], labels=0.05),
    ]
    assert compare(tidy(rows), "lai_rmse", UNET, VIT).difference == pytest.approx(-0.2)
    assert compare(tidy(rows[:4] + rows[6:]), "lai_rmse", UNET, VIT) is None
    few = {**VIT, "labels": 0.05}
    assert compare(tidy(rows), "lai_rmse", {**UNET, "labels": 1}, few).difference == (
        pytest.approx(-8.85)
    )


def test_the_weights_of_another_adaptation_may_be_others():
    rows = [
        *make_rows("prithvi", [0.5], adaptation="lora", weights="prithvi.pt"),
        *make_rows("prithvi", [0.7], adaptation="scratch", weights="random-initialised"),
    ]
    one, other = ({"adaptation": name} for name in ("lora", "scratch"))
    assert compare(tidy(rows), "lai_rmse", one, other).difference == pytest.approx(-0.2)


def test_an_arm_that_is_not_told_apart_names_the_columns_that_would():
    rows = [
        *make_rows("unet", [0.5, 0.6], labels=0.25),
        *make_rows("unet", [0.5, 0.6], labels=1.0, learning="single"),
        *make_rows("vit", [0.8, 0.7], labels=0.25),
        *make_rows("vit", [0.8, 0.7], labels=1.0, learning="single"),
    ]
    with pytest.raises(CubeError) as caught:
        compare(tidy(rows), "lai_rmse", UNET, VIT)
    assert len(caught.value.problems) == 2
    assert "with model 'unet'; found several, which differ in learning (multi-task, single), " in (
        str(caught.value)
    )
    assert "labels (0.25, 1.0); name these columns too" in str(caught.value)


def test_two_cells_of_one_arm_and_seed_are_refused_by_name():
    rows = make_rows("unet", [0.5, 0.6]) + make_rows("vit", [0.5, 0.6])
    table = tidy([*rows, {**rows[0], "cell": "again"}])
    for refused in (
        lambda: compare(table, "lai_rmse", UNET, VIT),
        lambda: leaders(table, "lai_rmse"),
    ):
        with pytest.raises(
            CubeError, match="one cell of every arm and seed; found again, emulator"
        ):
            refused()


def test_there_is_no_comparison_of_what_is_not_there():
    table = tidy(make_rows("unet", [0.5, None]) + make_rows("vit", [None, 0.5]))
    assert compare(table, "lai_rmse", UNET, VIT) is None
    assert compare(table, "lai_rmse", UNET, {"model": "prithvi"}) is None
    assert compare(table, "lai_rmse", UNET, {"model": 3, "every": "a"}) is None
    assert compare(table, "energy", UNET, UNET) is None


def test_what_names_no_column_is_refused():
    with pytest.raises(CubeError, match="found 'name', 'seed'; choose from kind, model"):
        compare(tidy(make_rows("unet", [0.5])), "lai_rmse", {"name": "unet"}, {"seed": 1})


def test_a_baseline_of_one_seed_is_a_number_to_every_seed():
    a = [0.52, 0.48, 0.55]
    table = tidy(make_rows("unet", a) + make_baseline([None, 0.6]))
    found = compare(table, "lai_rmse", UNET, {"model": "persistence"})
    expected = stats.ttest_1samp(a, 0.6)
    assert (found.p, found.n) == (pytest.approx(expected.pvalue), 3)
    turned = compare(table, "lai_rmse", {"model": "persistence"}, UNET)
    assert (turned.difference, turned.p) == (-found.difference, found.p)


def test_two_baselines_of_one_seed_each_tell_no_noise():
    rows = make_baseline([0.5]) + make_baseline([None, 0.7], "climatology")
    rows += make_baseline([0.9], "coarse")
    table = tidy(rows)
    one = {"model": "persistence"}
    assert compare(table, "lai_rmse", one, {"model": "climatology"}) is None
    assert np.isnan(compare(table, "lai_rmse", one, {"model": "coarse"}).p)


def test_holm_is_as_worked_by_hand():
    # sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1 = 0.04, 0.06, 0.06, 0.04; never descending
    found = holm(np.array([0.04, 0.01, 0.03, 0.02]))
    assert found.tolist() == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm(np.array([0.9, np.nan])).tolist() == [1, 1]
    assert holm(np.array([])).size == 0


def test_the_leader_is_better_than_each_other_after_holm():
    unet = [0.50, 0.52, 0.48, 0.51]
    near, far = [0.53, 0.56, 0.50, 0.55], [0.70, 0.75, 0.69, 0.72]
    rows = make_rows("unet", unet) + make_rows("vit", near) + make_rows("prithvi", far)
    p = sorted(stats.ttest_rel(unet, each).pvalue for each in (near, far))
    assert 2 * p[0] < 0.05
    assert p[1] < 0.05
    assert led_by(tidy(rows)) == ["unet"]
    told = leaders(tidy(rows), "lai_rmse")
    assert told.index.equals(summarise(tidy(rows), ["lai_rmse"]).index)
    assert (told.dtype, told.name) == (bool, "lai_rmse")


def test_what_one_test_alone_would_tell_many_do_not():
    unet, other = [0.50, 0.52, 0.48], [0.57, 0.555, 0.545]
    rows = make_rows("unet", unet)
    assert 0.025 < stats.ttest_rel(unet, other).pvalue < 0.05
    assert led_by(tidy(rows + make_rows("vit", other))) == ["unet"]
    many = [row for k in range(2) for row in make_rows(f"vit{k}", other)]
    assert led_by(tidy(rows + many)) == []


@given(
    st.lists(
        st.lists(st.none() | st.sampled_from([0.1, 0.11, 0.12, 0.2, 0.21, 0.3]), max_size=5),
        max_size=4,
    ),
    st.lists(st.sampled_from([0.05, 0.15, 0.25]), max_size=2),
)
def test_leaders_of_any_table_are_those_of_scipy_and_of_holm_step_by_step(arms, baselines):
    rows = [row for k, each in enumerate(arms) for row in make_rows(f"m{k}", each)]
    rows += [row for k, one in enumerate(baselines) for row in make_baseline([one], f"b{k}")]
    table = tidy(rows)
    found = {f"m{k}": dict(enumerate(each)) for k, each in enumerate(arms)}
    runs = {k: {s: v for s, v in v.items() if v is not None} for k, v in found.items()}
    runs = {name: seeds for name, seeds in runs.items() if seeds}
    expected = []
    for name, seeds in runs.items():
        tests = []
        for other, against in runs.items():
            common = sorted(set(seeds) & set(against))
            if other != name:
                tests.append(one_sample([seeds[s] - against[s] for s in common]))
        tests += [one_sample([value - number for value in seeds.values()]) for number in baselines]
        if len(seeds) >= 3 and all_lower(tests):
            expected.append(name)
    for k, number in enumerate(baselines):
        tests = [
            one_sample([number - value for value in seeds.values()]) for seeds in runs.values()
        ]
        alone = all(number < other for j, other in enumerate(baselines) if j != k)
        if alone and all(len(seeds) >= 3 for seeds in runs.values()) and all_lower(tests):
            expected.append(f"b{k}")
    assert led_by(table) == expected
    assert len(expected) <= 1


def all_lower(tests):
    """Whether every mean is below 0, by Holm's procedure; no test tells nothing."""
    ordered = sorted(p for _, p in tests)
    rejected = all(p < 0.05 / (len(tests) - i) for i, p in enumerate(ordered))
    return bool(tests) and rejected and all(mean < 0 for mean, _ in tests)


def one_sample(differences):
    """Mean and p, of differences in hundredths: their floats are not quite equal."""
    whole = [round(100 * each) for each in differences]
    if len(whole) < 2:
        return 0.0, 1.0
    if len(set(whole)) == 1:
        return whole[0], float(whole[0] == 0)
    return np.mean(whole), stats.ttest_1samp(whole, 0).pvalue


@pytest.mark.parametrize(
    ("metric", "best", "worse"),
    [
        ("lai_rmse", [0.10, 0.11, 0.12], [0.90, 0.92, 0.91]),
        ("lai_r2", [0.90, 0.92, 0.91], [0.10, 0.11, 0.12]),
        ("lai_bias", [-0.1, 0.11, -0.12], [-0.90, -0.92, -0.91]),
        ("laws_broken", [0, 0, 0], [2, 2, 3]),
        ("passed", [True] * 3, [False] * 3),
    ],
)
def test_a_metric_leads_the_way_that_is_better(metric, best, worse):
    table = tidy(make_rows("unet", best, metric) + make_rows("vit", worse, metric))
    assert led_by(table, metric) == ["unet"]


@pytest.mark.parametrize(
    "rows",
    [
        make_rows("unet", [0.1, 0.11, 0.12]),  # alone
        make_rows("unet", [0.1, 0.1]) + make_rows("vit", [0.9, 0.9]),  # two seeds
        make_rows("unet", [0.1, 0.1, np.nan]) + make_rows("vit", [0.9, 0.9, 0.9]),
        make_rows("unet", [0.1, 0.1, 0.1]) + make_rows("vit", [0.1, 0.1, 0.1]),  # a tie
        make_rows("unet", [0.1, 0.1, 0.1]) + make_rows("vit", [0.9]),  # one pair has no noise
        make_rows("unet", [0.1, 0.1, 0.1]) + make_rows("vit", [None] * 3 + [0.9] * 3),
        make_rows("unet", [0.1, 0.1, 0.1]) + make_rows("vit", [np.nan] * 3),  # alone again
        make_rows("unet", [np.nan] * 3) + make_rows("vit", [np.nan] * 3),
        make_rows("unet", [0.8, 0.9]) + make_baseline([0.1]),  # two seeds have hardly a spread
        make_baseline([0.1]) + make_baseline([0.2], "coarse"),  # no test decides between numbers
        [],
    ],
)
def test_nobody_leads_where_nothing_can_be_told(rows):
    assert not leaders(tidy(rows), "lai_rmse").any()


def test_a_baseline_of_one_seed_leads_where_every_emulator_is_above_it_after_holm():
    near, far = [0.50, 0.52, 0.48, 0.51], [0.70, 0.75, 0.69, 0.72]
    rows = make_rows("unet", near) + make_rows("vit", far)
    p = [stats.ttest_1samp(each, 0.45).pvalue for each in (near, far)]
    assert max(p) < 0.05
    assert 2 * min(p) < 0.05
    assert led_by(tidy(rows + make_baseline([None, 0.45]))) == ["persistence"]
    assert led_by(tidy(rows + make_baseline([0.495]))) == []
    # the same emulators, of which one has a single seed: nothing is known of its noise
    assert led_by(tidy(rows + make_rows("prithvi", [0.9]) + make_baseline([0.45]))) == []


@pytest.mark.parametrize(
    ("other", "led"), [(0.46, ["persistence"]), (0.44, ["coarse"]), (0.45, [])]
)
def test_of_two_numbers_the_better_leads_and_a_tie_does_not(other, led):
    rows = make_rows("unet", [0.50, 0.52, 0.48, 0.51])
    rows += make_baseline([0.45]) + make_baseline([other], "coarse")
    assert led_by(tidy(rows)) == led


def test_a_baseline_leads_the_way_that_is_better():
    rows = make_rows("unet", [0.50, 0.52, 0.48, 0.51], "lai_r2")
    assert led_by(tidy(rows + make_baseline([0.6], metric="lai_r2")), "lai_r2") == ["persistence"]
    assert led_by(tidy(rows + make_baseline([0.3], metric="lai_r2")), "lai_r2") == ["unet"]


def test_no_arm_leads_in_how_many_values_were_compared():
    table = tidy(make_rows("unet", [1, 2, 3], "lai_n") + make_rows("vit", [91, 92, 93], "lai_n"))
    assert not leaders(table, "lai_n").any()


def test_an_arm_without_the_metric_is_none_of_the_others():
    rows = make_rows("unet", [0.1, 0.11, 0.12]) + make_rows("vit", [0.9, 0.9, 0.8])
    rows += make_rows("prithvi", [np.nan] * 3) + make_baseline([np.nan])
    assert led_by(tidy(rows)) == ["unet"]
    assert len(leaders(tidy(rows), "lai_rmse")) == 4


def test_neither_the_order_of_rows_nor_a_unit_changes_the_leader():
    rng = np.random.default_rng(3)
    base = rng.normal(size=5)
    rows = make_rows("unet", base + rng.normal(0, 0.01, 5)) + make_rows("vit", base + 0.1)
    table = tidy(rows)
    assert led_by(table) == ["unet"]  # only pairing tells: seeds spread ten times as far
    pd.testing.assert_series_equal(
        leaders(table.sample(frac=1, random_state=0), "lai_rmse"), leaders(table, "lai_rmse")
    )
    scaled = table.assign(lai_rmse=table["lai_rmse"] * 1e-200)
    assert led_by(scaled) == ["unet"]
