"""The table of cells: its columns and types, its files, and means over seeds."""

from __future__ import annotations

import random
import statistics

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from xlsbc.assess.benchmark import table as tables
from xlsbc.assess.benchmark.table import (
    ARM,
    METRICS,
    as_dataset,
    load,
    of_dataset,
    save,
    summarise,
    tidy,
)
from xlsbc.cube.store.storage import Objects
from xlsbc.errors import CubeError, StoreError
from xlsbc.physics.consistency import RULES, check


def make_record(cell="c0", seed=0, **changes):
    record = {
        "cell": cell,
        "kind": "emulator",
        "model": "unet",
        "backbone": "unet",
        "variant": "s",
        "adaptation": "scratch",
        "weights": None,
        "learning": "multi-task",
        "labels": 0.25,
        "every": 1,
        "split": "blocks",
        "seed": seed,
        "lai_rmse": 0.5,
    }
    return {**record, **changes}


def make_records():
    return [
        make_record("c0", 0, lai_rmse=0.5, lai_n=10, passed=True, versions="xlsbc 0.1, ä°ß 日本"),
        make_record("c1", 1, lai_rmse=float("nan"), lai_n=None, passed=None, energy=-0.0),
        make_record("c2", 0, model="vit", lai_rmse=0.1 + 0.2, lai_n=2**53 - 1, passed=False),
        make_record("b0", 0, kind="baseline", model="persistence", lai_rmse=np.float32(0.7)),
    ]


def texts():
    return st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)


def record_lists():
    metric = {
        float: st.floats(allow_nan=True),
        int: st.integers(-(2**53), 2**53),
        bool: st.booleans(),
    }
    chosen = ["lai_bias", "lc_n", "laws_broken", "passed", "energy"]
    record = st.fixed_dictionaries(
        {
            **dict.fromkeys(("kind", "model", "split"), texts()),
            "labels": st.floats(0, 1),
            "every": st.integers(1, 99),
            "seed": st.integers(-(2**63), 2**63 - 1),
        },
        optional={
            **{name: st.none() | metric[METRICS[name].type] for name in chosen},
            **dict.fromkeys(("backbone", "weights", "machine"), st.none() | texts()),
        },
    )
    return st.lists(record, max_size=4).map(
        lambda rows: [{**row, "cell": f"c{i}"} for i, row in enumerate(rows)]
    )


def test_a_row_is_a_cell_sorted_by_arm_and_seed_whatever_the_order_of_the_records():
    records = make_records()
    expected = tidy(records)
    assert expected["cell"].tolist() == ["b0", "c0", "c1", "c2"]
    for seed in range(5):
        shuffled = random.Random(seed).sample(records, len(records))
        turned = [dict(reversed(record.items())) for record in shuffled]
        pd.testing.assert_frame_equal(tidy(turned), expected)


def test_columns_stand_in_one_order_with_one_type_and_without_metrics_that_no_cell_has():
    table = tidy(make_records())
    told = ["emulators", "cube", "versions", "machine"]
    assert list(table) == [
        *["cell", *ARM, "seed"],
        *["lai_rmse", "lai_n", "passed", "energy"],
        *told,
    ]
    dtypes = {name: str(dtype) for name, dtype in table.dtypes.items()}
    assert {dtypes[name] for name in ["cell", *ARM[:7], "split", *told]} == {"string"}
    assert [dtypes[name] for name in ("labels", "every", "seed")] == ["float64", "Int64", "Int64"]
    assert [dtypes[name] for name in ("lai_rmse", "lai_n", "passed")] == [
        "float64", "Int64", "boolean",
    ]  # fmt: skip


def test_what_is_missing_is_empty_text_nan_or_na_and_never_zero_or_false():
    table = tidy(make_records()).set_index("cell")
    assert table["weights"].tolist() == [""] * 4
    assert np.isnan(table.loc["c1", "lai_rmse"])
    assert table.loc["c1", "lai_n"] is pd.NA
    assert table.loc["c1", "passed"] is pd.NA
    assert table.loc["c2", "lai_n"] == 2**53 - 1


def test_everything_that_is_wrong_with_records_is_told_at_once():
    records = [
        make_record(lai_rmze=1.0, lai_n=1.5),
        make_record(labels=None),
        make_record("c1", lai_rmse="0.5", seed=True, passed=2),
    ]
    with pytest.raises(CubeError) as caught:
        tidy(records)
    told = caught.value.problems
    assert len(told) == 7
    text = str(caught.value)
    for part in (
        "found 'lai_rmze' besides",
        "expected a whole number as lai_n of cell 'c0'; found 1.5 (float)",
        "expected labels of cell 'c0'; found none",
        "expected a number as lai_rmse of cell 'c1'; found '0.5' (str)",
        "expected a whole number as seed of cell 'c1'; found True (bool)",
        "expected true or false as passed of cell 'c1'; found 2 (int)",
        "found 'c0' more than once",
    ):
        assert part in text


def test_every_rule_that_a_product_is_held_against_has_its_columns(three_strips):
    cube, pred, _ = three_strips(rows=20)  # an envelope is of 100 values
    climate = xr.Dataset(
        {"t2m": (("forcing_time", "forcing_latitude", "forcing_longitude"), np.ones((12, 1, 1)))},
        {
            "forcing_time": pd.date_range("2001-01-01", periods=12, freq="MS"),
            "forcing_latitude": [50.0],
            "forcing_longitude": [7.0],
        },
    )
    found = check(pred, reference=cube, cube=climate)
    assert {"lai_outside_envelope", "frequent_transitions_lu"} <= set(found)
    for name in {*map(str, found), *(rule.name for rule in RULES)}:
        assert METRICS[f"check_{name}"].better == METRICS[f"share_{name}"].better == "lower"
    for name, rule in found.items():
        assert METRICS[f"check_{name}"].title == rule.attrs["long_name"]


@pytest.mark.parametrize("file", ["table.parquet", "table.zarr"])
@pytest.mark.parametrize("scheme", ["", "memory://"])
def test_either_file_gives_the_table_back_wherever_it_is(tmp_path, scheme, file):
    folder = f"{scheme}{tmp_path}/new/results/"
    save(tidy(make_records()), folder)
    pd.testing.assert_frame_equal(load(folder, file), tidy(make_records()), check_exact=True)


@settings(max_examples=40)
@given(record_lists())
def test_no_bit_is_lost_as_a_dataset_or_as_parquet(records):
    table = tidy(records)
    for found in (
        of_dataset(as_dataset(table)),
        tables._of_parquet(tables._parquet(table)),
    ):
        pd.testing.assert_frame_equal(found, table, check_exact=True)
        for name, dtype in table.dtypes.items():
            if dtype == "float64":
                assert np.array_equal(np.signbit(found[name]), np.signbit(table[name]))


def test_the_store_tells_titles_and_units_to_xarray(tmp_path):
    save(tidy(make_records()), str(tmp_path))
    with xr.open_zarr(tmp_path / "table.zarr") as ds:
        assert ds["lai_rmse"].dims == ("cell",)
        assert ds["lai_rmse"].attrs == {"long_name": "LAI RMSE", "units": "m2 m-2"}
        assert ds["energy"].attrs["units"] == "J"
        assert ds["lai_rmse"].sel(cell="c0").values == 0.5
        assert set(ds.coords) == {"cell", *ARM, "seed", "emulators", "cube", "versions", "machine"}


@pytest.mark.parametrize("scheme", ["", "memory://"])
def test_a_save_that_dies_at_its_second_file_leaves_two_whole_ones(tmp_path, monkeypatch, scheme):
    folder = f"{scheme}{tmp_path}/results"
    old, new = tidy(make_records()), tidy(make_records()[:2])
    save(old, folder)

    def die(self, contents, labels=None):
        if any(key == "table.parquet" for key in contents):
            raise KeyboardInterrupt
        put(self, contents, labels)

    put = Objects.put
    with monkeypatch.context() as patched:
        patched.setattr(Objects, "put", die)
        with pytest.raises(KeyboardInterrupt):
            save(new, folder)
    pd.testing.assert_frame_equal(load(folder), old)
    pd.testing.assert_frame_equal(load(folder, "table.zarr"), new)
    save(new, folder)
    pd.testing.assert_frame_equal(load(folder), new)


def test_a_save_that_dies_within_the_store_leaves_the_old_one(tmp_path, monkeypatch):
    folder, old = str(tmp_path), tidy(make_records())
    save(old, folder)

    def die(self, contents, labels=None):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Objects, "put", die)
        with pytest.raises(KeyboardInterrupt):
            save(tidy(make_records()[:1]), folder)
    for file in ("table.parquet", "table.zarr"):
        pd.testing.assert_frame_equal(load(folder, file), old)


def test_a_table_that_is_not_there_is_told_by_its_place(tmp_path):
    for file in ("table.parquet", "table.zarr"):
        with pytest.raises(StoreError, match=rf"{file}; FileNotFoundError.*make it anew"):
            load(str(tmp_path), file)


def test_a_flipped_bit_is_an_error_and_never_another_number(tmp_path):
    table = tidy(make_records())
    save(table, str(tmp_path))
    path = tmp_path / "table.parquet"
    content, damaged = path.read_bytes(), 0
    for place in range(4, len(content), 97):
        path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        try:
            pd.testing.assert_frame_equal(load(str(tmp_path)), table, check_exact=True)
        except StoreError as error:
            damaged += str(error).startswith("expected the table of a benchmark at")
    assert damaged > 40


def test_without_pyarrow_nothing_is_written_and_the_extra_is_named(tmp_path, monkeypatch):
    def lacking(*_, **__):
        raise ImportError("Unable to find a usable engine")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", lacking)
    monkeypatch.setattr(pd, "read_parquet", lacking)
    with pytest.raises(StoreError, match=r'pip install "xlsbc\[benchmark\]"'):
        save(tidy(make_records()), str(tmp_path))
    assert not list(tmp_path.iterdir())
    (tmp_path / "table.parquet").write_bytes(b"PAR1")
    with pytest.raises(StoreError, match=r'pip install "xlsbc\[benchmark\]"'):
        load(str(tmp_path))


def test_mean_and_spread_are_over_the_seeds_of_an_arm():
    values = {0: 0.4, 1: 0.7, 2: 0.5}
    records = [make_record(f"c{k}", k, lai_rmse=v, lai_n=10 + k) for k, v in values.items()]
    records += [make_record("v0", 0, model="vit", lai_rmse=0.3, passed=True)]
    records += [make_record("v1", 1, model="vit", lai_rmse=None, passed=False)]
    found = summarise(tidy(records), ["lai_rmse", "lai_n", "passed", "energy"])
    assert list(found.index.names) == list(ARM)
    assert found.index.get_level_values("model").tolist() == ["unet", "vit"]
    unet, vit = (row for _, row in found.iterrows())
    assert unet["lai_rmse", "mean"] == pytest.approx(statistics.mean(values.values()), rel=1e-15)
    assert unet["lai_rmse", "spread"] == pytest.approx(statistics.stdev(values.values()), rel=1e-14)
    assert (unet["lai_rmse", "n"], unet["lai_n", "mean"]) == (3, 11)
    assert (vit["lai_rmse", "mean"], vit["lai_rmse", "n"], vit["passed", "mean"]) == (0.3, 1, 0.5)
    assert np.isnan(vit["lai_rmse", "spread"])
    assert np.isnan(vit["lai_n", "mean"])
    assert (vit["lai_n", "n"], vit["energy", "n"]) == (0, 0)


def test_infinite_values_are_no_part_of_a_mean():
    table = tidy([make_record(f"c{k}", k, lai_rmse=v) for k, v in enumerate([np.inf, 0.2, 0.4])])
    row = summarise(table, ["lai_rmse"]).iloc[0]
    assert (row["lai_rmse", "mean"], row["lai_rmse", "n"]) == (pytest.approx(0.3), 2)


def test_a_summary_is_the_same_to_the_bit_however_the_rows_stand():
    rng = np.random.default_rng(0)
    records = [make_record(f"c{k}", k, lai_rmse=v) for k, v in enumerate(rng.normal(size=20))]
    table = tidy(records)
    shuffled = summarise(table.sample(frac=1, random_state=1), ["lai_rmse"])
    pd.testing.assert_frame_equal(shuffled, summarise(table, ["lai_rmse"]), check_exact=True)


def test_an_empty_table_has_columns_and_no_arms():
    table = tidy([])
    assert list(table) == ["cell", *ARM, "seed", "emulators", "cube", "versions", "machine"]
    assert summarise(table, ["lai_rmse"]).shape == (0, 3)
    assert summarise(table, []).shape == (0, 0)
    assert summarise(tidy(make_records()), []).shape == (3, 0)


def test_what_is_no_metric_is_refused():
    with pytest.raises(CubeError, match="found 'model', 'nonsense'; choose from lai_rmse, lai_mae"):
        summarise(tidy(make_records()), ["model", "lai_rmse", "nonsense"])
