"""Every rule against land that breaks that one and no other."""

from __future__ import annotations

import dask
import numpy as np
import pytest
import xarray as xr

from tests.physics.land import (
    COVER,
    LEAVES,
    ROWS,
    STRIPS,
    SUMMER,
    USE,
    broken,
    make_cube,
    make_land,
    where_cover,
)
from xlsbc.physics.consistency import check, check_html, norms
from xlsbc.physics.envelope import BIN

GRASS = 6  # a column of it
WATER = 13


@pytest.fixture(scope="module")
def truth():
    return norms(make_land())


def cover_of(**changes):
    cover = np.array(COVER)[STRIPS]
    for id, (years, new) in changes.items():
        cover[years] = np.where(cover[years] == id, new, cover[years])
    return cover


def use_of(**changes):
    use = np.array(USE)[STRIPS].astype("U8")
    for id, (years, new) in changes.items():
        use[years] = np.where(use[years] == id, new, use[years])
    return use


def at(land, name, value, column, **where):
    land[name][{"latitude": 3, "longitude": column, **where}] = value
    return land


def a_trace_of_leaves(land):
    # Less than what rounding may add to a bound, but there is no bearer at all.
    return at(land, "lai", 5e-6, WATER, time=slice(3, 5))


def towns_on_the_lake(land):
    land = at(land, "lu_fraction", 0, WATER)
    return at(land, "lu_fraction", 1, WATER, lu_class=6)


def leaping(land):
    """Two of every hundred values leap by 3.5, never twice within three months."""
    leap = np.zeros(land["lai"].shape, "float32")
    leap[5::4, :, 5:7] = 3.5
    return land.assign({k: land[k] + leap for k in ("lai", "lai_lv", "lai_hv")})


def thin(land):
    return land.assign({name: land[name] * 0.1 for name in ("lai", "lai_lv", "lai_hv")})


BROKEN = {
    "leaves_without_bearer": (lambda: a_trace_of_leaves(make_land()), 2),
    "simplex_error_lu": (lambda: at(make_land(), "lu_fraction", 1.01, GRASS, lu_class=5), 0.01),
    "simplex_error_lc": (lambda: at(make_land(), "lc_fraction", 1.01, WATER, lc_class=12), 0.01),
    "negative": (lambda: at(make_land(), "lai_hv", -1, GRASS), 48),
    "lai_above_bound": (lambda: at(make_land(), "lai_hv", 8.5, GRASS), 48),
    "lai_closure": (lambda: at(make_land(), "lai_lv", 7, GRASS, time=[6]), 6.5 - 3 * SUMMER[6]),
    "cover_closure": (lambda: at(make_land(), "cvl", 0.25, WATER), 0.25),
    # Grass leaps in 11 of the 46 months that have neighbours, in 2 of 15 columns.
    "lai_spikes": (lambda: leaping(make_land()), 11 / 46 * 2 / 15),
    "leaves_in_winter": (lambda: make_land(leaves={"trees_bd": 0.5 + 4 * (1 - SUMMER)}), 1),
    "evergreen_range": (lambda: make_land(leaves={"trees_ne": 1 + 4 * SUMMER}), 1),
    # A third of the land becomes primary in one of three years.
    "forbidden_transitions_lu": (
        lambda: make_land(use=use_of(primf=(slice(0, 1), "secdf"))),
        1 / 9,
    ),
    "forbidden_transitions_lc": (
        lambda: make_land(grown()),
        1 / 9,
    ),
}


def grown():
    """Grass columns that are bare in the first year and a wood in the next."""
    cover = cover_of(grass_nat=(slice(0, 1), "bare"))
    return np.where(cover == "grass_nat", "trees_bd", cover)


def test_land_as_it_is_breaks_no_rule(truth):
    land = make_land()
    result = check(land, reference=truth, cube=make_cube(land))
    assert broken(result) == set()
    assert {"lai_outside_envelope", "lai_steps_outside", "frequent_transitions_lc"} <= set(result)
    assert {"season_against_temperature", "coarse_total_residual"} <= set(result)


@pytest.mark.parametrize("rule", BROKEN)
def test_a_rule_that_is_broken_is_found_measured_and_alone(rule):
    make, expected = BROKEN[rule]
    result = check(make())
    assert broken(result) == {rule}
    assert float(result[rule]) == pytest.approx(expected, rel=2e-3)
    assert result.attrs["passed"] is not result[rule].attrs["law"]


def test_land_use_that_cannot_bear_the_cover_is_found_alone():
    result = check(towns_on_the_lake(make_land()))
    assert broken(result) == {"incompatible_mass", "incompatible_pixels"}
    row = np.cos(np.deg2rad(make_land()["latitude"].values))
    share = row[3] / row.sum() / 15
    assert result["incompatible_pixels"].attrs["share"] == pytest.approx(share, rel=1e-12)


def test_leaves_too_few_for_the_ground_that_they_cover_are_found():
    result = check(thin(make_land()))
    assert broken(result) == {"bare_at_peak"}
    # By hand: exp(-k L) at the peak of July; k of deciduous trees, short grass, needleleaf trees.
    peak = SUMMER.max()
    leaves = (0.45 - 0.4 * (1 - peak), 0.35 - 0.3 * (1 - peak), 0.5 - 0.1 * (1 - peak))
    bare = [np.exp(-k * leaf) for k, leaf in zip((0.396, 0.457, 0.351), leaves, strict=True)]
    expected = (5 * bare[0] + 5 * bare[1] + 3 * bare[2]) / 13
    assert float(result["bare_at_peak"]) == pytest.approx(expected, rel=1e-6)


def test_green_cover_is_held_against_the_leaves():
    land = make_land()
    k = xr.DataArray([0.396, 0.457, 0.351, 0, 0], dims="strip")[STRIPS[0, 0]].values
    land["cover"] = 1 - np.exp(-k * land["lai"])
    land["cover"].attrs["standard_name"] = "vegetation_area_fraction"
    assert float(check(land)["fcover_residual"]) == pytest.approx(0, abs=1e-6)
    land["cover"] = (land["cover"] - 0.25).assign_attrs(land["cover"].attrs)
    result = check(land)
    assert broken(result) == {"fcover_residual"}
    assert float(result["fcover_residual"]) == pytest.approx(0.25, abs=1e-6)


def test_high_and_low_vegetation_alone_are_held_to_beer_and_lambert():
    land = make_land().isel(year=0, time=slice(0, 12))[["cvl", "cvh", "lai_lv", "lai_hv"]]
    land["tvl"] = xr.full_like(land["cvl"], 2)
    land["tvh"] = xr.full_like(land["cvh"], 5)
    result = check(land)
    peak = SUMMER.max()
    bare = [np.exp(-0.396 * (0.5 + 4 * peak)), np.exp(-0.457 * (0.5 + 3 * peak))]
    bare.append(np.exp(-0.396 * (4 + peak)))
    expected = (5 * bare[0] + 5 * bare[1] + 3 * bare[2]) / 13
    assert float(result["bare_at_peak"]) == pytest.approx(expected, rel=1e-6)


def test_leaf_areas_that_the_reference_has_not_are_found(truth):
    land = make_land(leaves={"grass_nat": LEAVES["grass_nat"] + 0.4})
    result = check(land, reference=truth)
    assert broken(result) == {"lai_outside_envelope"}
    # 5 of the 13 columns whose class has 100 values a month; water and bare have 40.
    assert float(result["lai_outside_envelope"]) == pytest.approx(5 / 13)


def test_steps_that_the_reference_has_not_are_found():
    wide, restless = make_land(), make_land()
    level = np.linspace(0, 1.5, ROWS, dtype="float32")[:, None] * where_cover("grass_nat")
    turn = np.arange(48)[:, None, None] % 2 * 1.5 * where_cover("grass_nat")
    for name in ("lai", "lai_lv", "lai_hv"):
        wide[name] = wide[name] + level
        restless[name] = (restless[name] + turn).astype("float32")
    result = check(restless, reference=wide)
    assert broken(result) == {"lai_steps_outside"}


def test_transitions_more_frequent_than_in_the_reference_are_found(truth):
    use = use_of(range=(slice(1, None, 2), "secdn"))
    result = check(make_land(use=use), reference=truth)
    assert broken(result) == {"frequent_transitions_lu"}
    # Range was never left in the reference: 2 of 3 changes start there; secdn was not seen.
    assert result["frequent_transitions_lu"].attrs["skipped"] == 50
    expected = 2 * 50 / (3 * 150 - 50)
    assert float(result["frequent_transitions_lu"]) == pytest.approx(expected, rel=1e-3)
    cover = cover_of(grass_nat=(slice(2, None), "shrubs_bd"))
    result = check(make_land(cover), reference=truth)
    assert broken(result) == {"frequent_transitions_lc"}


def test_twice_the_rate_of_the_reference_is_not_too_often():
    def with_changes(rows):
        use = use_of()
        use[3:, -rows:, 5:10] = "secdn"  # from the south, where rows are larger
        return make_land(use=use)

    result = check(with_changes(4), reference=with_changes(2))
    assert result["frequent_transitions_lu"].attrs["passed"]
    assert not check(with_changes(5), reference=with_changes(2))["frequent_transitions_lu"].attrs[
        "passed"
    ]


def test_land_use_that_misses_its_totals_is_found():
    cube = make_cube(make_land())
    result = check(make_land(use=use_of(range=(slice(None), "secdn"))), cube=cube)
    assert broken(result) == {"coarse_total_residual"}
    # One of three columns of cells is all range, or should be.
    assert float(result["coarse_total_residual"]) == pytest.approx(1 / 3)
    assert result["coarse_total_residual"].attrs["looked_at"] == 4 * 6


def test_cells_that_are_known_in_part_are_skipped():
    land = make_land()
    cube = make_cube(land)
    land["lu_fraction"][{"latitude": slice(0, 1), "longitude": slice(0, 5)}] = np.nan
    result = check(land, cube=cube)["coarse_total_residual"]
    assert (result.attrs["looked_at"], result.attrs["skipped"]) == (20, 4)
    assert float(result) == pytest.approx(0, abs=1e-7)


def test_leaves_against_the_temperature_are_found():
    land = make_land(leaves={"grass_nat": 0.5 + 3 * (1 - SUMMER)})
    result = check(land, cube=make_cube(land))
    assert broken(result) == {"season_against_temperature"}
    # Water and bare ground have no season: 5 of 13 columns.
    assert float(result["season_against_temperature"]) == pytest.approx(5 / 13)


def test_leaves_against_the_water_of_the_tropics_are_found():
    rain = 0.1 + 0.3 * SUMMER
    with_rain = make_land(latitude=-50)
    cube = make_cube(with_rain, warmth=26, swing=2, water=rain)
    assert broken(check(with_rain, cube=cube)) == set()
    against = make_land(latitude=-50, leaves={"grass_nat": 0.5 + 3 * (1 - SUMMER)})
    result = check(against, cube=cube)
    assert broken(result) == {"season_against_moisture"}
    assert float(result["season_against_moisture"]) == pytest.approx(5 / 13)


def test_summer_in_the_south_is_from_october_to_march():
    south = {id: LEAVES[id][::-1] if id == "trees_ne" else np.roll(LEAVES[id], 6) for id in LEAVES}
    assert broken(check(make_land(latitude=-92, leaves=south))) == set()
    assert broken(check(make_land(latitude=-92))) == {"leaves_in_winter"}


def test_what_is_not_given_is_not_judged():
    result = check(make_land())
    assert not {name for name in result if "envelope" in name or "frequent" in name}
    assert not {"season_against_temperature", "coarse_total_residual"} & set(result)
    assert set(check(make_land()[["lai"]])) == {"negative", "lai_above_bound", "lai_spikes"}


def test_the_envelope_is_that_of_the_percentiles():
    rng = np.random.default_rng(3)
    land = make_land()
    land["lai"] = land["lai"].copy(data=rng.gamma(3, 0.7, land["lai"].shape).astype("float32"))
    table = norms(land)
    july = land["lai"].isel(time=slice(6, None, 12), longitude=where_cover("trees_bd")).values
    found = table.sel(month=7).isel(lc_class=1)
    assert 0 <= np.quantile(july, 0.01, method="inverted_cdf") - float(found["lai_low"]) < BIN
    assert 0 < float(found["lai_high"]) - np.quantile(july, 0.99, method="inverted_cdf") <= BIN
    assert int(found["lai_n"]) == 200
    assert np.isnan(float(table.sel(month=7).isel(lc_class=12)["lai_high"]))  # 40 of water


@pytest.mark.parametrize("seed", range(2))
def test_any_chunking_gives_the_same(seed, truth):
    rng = np.random.default_rng(seed)
    land = leaping(make_land(use=use_of(primf=(slice(1, 2), "secdf"))))
    land = land.where(
        xr.DataArray(rng.uniform(size=(ROWS, 15)) > 0.1, dims=("latitude", "longitude"))
    )
    cube = make_cube(make_land())
    whole = check(land, reference=land, cube=cube)
    chunks = {dim: int(rng.integers(-(-n // 3), n + 1)) for dim, n in land.sizes.items()}
    lazy = land.chunk(chunks)
    with dask.config.set(scheduler="synchronous"):
        parts = check(lazy, reference=lazy, cube=cube.chunk())
    assert set(parts) == set(whole)
    for name in whole:
        assert float(parts[name]) == pytest.approx(float(whole[name]), rel=1e-13, abs=1e-15)
        assert parts[name].attrs["looked_at"] == whole[name].attrs["looked_at"]
        assert parts[name].attrs["skipped"] == whole[name].attrs["skipped"]
        assert parts[name].attrs["share"] == pytest.approx(whole[name].attrs["share"], rel=1e-13)


def test_a_map_of_codes_and_leaves_of_other_names_are_found_by_cf():
    codes = np.array([60, 130, 70, 210, 200], "uint8")[STRIPS[0]]
    meanings = {"standard_name": "land_cover_lccs", "legend": "cci_lccs"}
    land = make_land().isel(time=slice(0, 12))
    product = xr.Dataset(
        {
            "lccs_class": (("lat", "lon"), codes[::-1], meanings),
            "LAI": (
                ("time", "lat", "lon"),
                land["lai"].values[:, ::-1],
                {"standard_name": "leaf_area_index", "units": "1"},
            ),
        },
        {
            "lat": ("lat", land["latitude"].values[::-1], {"units": "degrees_north"}),
            "lon": ("lon", land["longitude"].values, {"units": "degrees_east"}),
            "time": land["time"].values,
        },
    )
    product["lccs_class"] = (
        product["lccs_class"]
        .expand_dims(time=np.array(["2001-01-01"], "M8[ns]"))
        .rename(time="year")
        .assign_coords(year=[2001])
    )
    result = check(product)
    assert {"leaves_without_bearer", "lai_above_bound", "bare_at_peak"} <= set(result)
    assert result.attrs["passed"]
    product["LAI"][{"lon": 13, "lat": 0}] = 1.0
    assert float(check(product)["leaves_without_bearer"]) == 12


def test_the_table_tells_laws_from_expectations():
    html = check_html(check(thin(make_land())))
    assert ">unusual<" in html
    assert ">broken<" not in html
