"""The synthetic world: the same everywhere, consistent, and following its known rules."""

from __future__ import annotations

import itertools

import dask
import numpy as np
import pytest
import xarray as xr

from xlsbc.cube import schema
from xlsbc.cube.legends import LC, LU, compatible
from xlsbc.cube.synthetic import climate, land, leaves, synthetic_cube
from xlsbc.cube.synthetic.lattice import COLUMNS, Extent, key, smooth_noise, white_noise
from xlsbc.errors import CubeError

SEA = (-47.5, 36.5, -47.0, 37.0)
TREES = ["trees_be", "trees_bd", "trees_ne", "trees_nd"]


@pytest.fixture(scope="module")
def cube() -> xr.Dataset:
    """Two years of the default region, as anyone gets them."""
    return synthetic_cube(years=(2000, 2001))


@pytest.fixture(scope="module")
def whole() -> xr.Dataset:
    """The same without gaps."""
    return synthetic_cube(years=(2000, 2001), gaps=False)


def overlap(*cubes: xr.Dataset) -> list[xr.Dataset]:
    return list(xr.align(*cubes, join="inner"))


def identical(left: xr.Dataset, right: xr.Dataset) -> None:
    for name in left.data_vars:
        np.testing.assert_array_equal(left[name].to_numpy(), right[name].to_numpy(), str(name))


def test_same_seed_gives_the_same_world() -> None:
    region = (8.5, 45.5, 9.1, 45.9)
    xr.testing.assert_identical(
        synthetic_cube(region=region, years=(2003, 2003), seed=5),
        synthetic_cube(region=region, years=(2003, 2003), seed=5),
    )


def test_another_seed_gives_another_world() -> None:
    region = (8.5, 45.5, 8.75, 45.75)
    one, two = (synthetic_cube(region=region, years=(2003, 2003), seed=s) for s in (0, 1))
    for name in one.data_vars:
        if name not in ("co2", "land_fraction", "lake_fraction"):
            assert not np.array_equal(one[name], two[name], equal_nan=True), name


def test_a_place_has_the_same_values_in_every_region() -> None:
    # Odd edges inside cells (0.25 degree) and tiles (2 degrees, here at 10 E and 46 N).
    left = synthetic_cube(region=(9.42, 45.63, 10.37, 46.31), years=(2000, 2000))
    right = synthetic_cube(region=(9.77, 45.71, 11.02, 46.73), years=(2000, 2000))
    cut = overlap(left, right)
    assert cut[0].sizes["latitude"] == 72
    assert cut[0].sizes["longitude"] == 72
    assert cut[0].sizes["driver_latitude"] == 4
    assert cut[0].sizes["forcing_longitude"] == 5
    identical(*cut)


def test_a_place_has_the_same_values_in_a_whole_and_in_a_single_pixel(cube: xr.Dataset) -> None:
    west, south = 9 + 17 / 120, 46 + 50 / 120
    pixel = synthetic_cube(
        region=(west, south, west + 1 / 120, south + 1 / 120), years=(2000, 2001)
    )
    assert pixel.lai.shape == (24, 1, 1)
    identical(*overlap(pixel, cube))


def test_a_year_has_the_same_values_in_every_period(cube: xr.Dataset) -> None:
    later = synthetic_cube(region=(9.1, 46.2, 9.6, 46.5), years=(2001, 2002))
    cut = overlap(later, cube)
    assert list(cut[0].year) == [2001]
    assert cut[0].sizes["forcing_time"] == 24
    identical(*cut)


def test_grids_are_aligned_and_ordered_as_a_conformed_cube_has_them(cube: xr.Dataset) -> None:
    assert dict(cube.lai.sizes) == {"time": 24, "latitude": 240, "longitude": 360}
    np.testing.assert_allclose(cube.latitude[[0, -1]], [47 - 1 / 240, 45 + 1 / 240])
    np.testing.assert_allclose(cube.longitude[[0, -1]], [8 + 1 / 240, 11 - 1 / 240])
    np.testing.assert_allclose(cube.driver_latitude[[0, -1]], [46.875, 45.125])
    np.testing.assert_allclose(cube.forcing_latitude[[0, -1]], [47.125, 44.875])
    np.testing.assert_allclose(cube.forcing_longitude[[0, -1]], [7.875, 11.125])
    assert str(cube.forcing_time.values[0]) == "1999-01-01T00:00:00.000000000"
    assert list(cube.year) == [2000, 2001]


def test_conforming_it_changes_nothing(cube: xr.Dataset) -> None:
    assert schema.check_cube(cube) == []
    xr.testing.assert_identical(schema.conform(cube), cube)


def test_fractions_sum_to_one_on_land(whole: xr.Dataset) -> None:
    for name, dim in (("lu_fraction", "lu_class"), ("lc_fraction", "lc_class")):
        total = whole[name].astype("f8").sum(dim, skipna=False)
        assert float(abs(total - 1).max()) < 1e-6
        assert float(whole[name].min()) >= 0
        assert bool((total.isnull() == (whole.land_fraction == 0)).all())


def test_no_ground_is_in_an_impossible_pair_of_classes(whole: xr.Dataset) -> None:
    # Hall's theorem: a sharing exists where no set of LC classes exceeds the LU it may lie in.
    allowed = compatible(LU, LC)
    use = whole.lu_fraction.isel(year=0).to_numpy().astype("f8").reshape(len(LU.ids), -1)
    cover = whole.lc_fraction.isel(year=0).to_numpy().astype("f8").reshape(len(LC.ids), -1)
    groups = np.unique(allowed, axis=1).T
    member = [(allowed == group[:, None]).all(axis=0) for group in groups]
    for size in range(1, len(groups) + 1):
        for chosen in itertools.combinations(range(len(groups)), size):
            demand = cover[np.any([member[i] for i in chosen], axis=0)].sum(axis=0)
            supply = use[np.any([groups[i] for i in chosen], axis=0)].sum(axis=0)
            assert np.nanmax(demand - supply) < 1e-6


def test_nothing_bears_leaves_where_no_class_does(cube: xr.Dataset) -> None:
    bearers = [c.id for c in LC.classes if c.lai_max > 0]
    bare = (cube.lc_fraction.sel(lc_class=bearers).sum("lc_class", skipna=False) == 0).isel(year=0)
    lai = cube.lai.sel(time="2000").where(bare)
    assert int(bare.sum()) > 100
    assert int(lai.notnull().sum()) > 100
    assert float(lai.max()) == 0


def test_leaf_area_stays_within_the_bounds_of_the_classes(whole: xr.Dataset) -> None:
    bound = xr.DataArray([c.lai_max for c in LC.classes], dims="lc_class") * whole.lc_fraction
    excess = whole.lai.sel(time="2000") - bound.isel(year=0).sum("lc_class", skipna=False)
    assert float(excess.max()) < 1e-5
    assert float(whole.lai.min()) == 0
    assert float(whole.lai.max()) > 4


def test_totals_are_area_weighted_means_of_the_fractions(whole: xr.Dataset) -> None:
    south, north = np.deg2rad(46.25), np.deg2rad(46.5)
    inside = whole.lu_fraction.sel(latitude=slice(46.5, 46.25), longitude=slice(9.5, 9.75))
    assert inside.shape == (2, 13, 30, 30)
    edges = np.sin(np.linspace(north, south, 31))
    band = (edges[:-1] - edges[1:]) / (edges[0] - edges[-1])
    expected = np.einsum("tuyx,y->tu", inside.to_numpy().astype("f8"), band) / 30
    found = whole.lu_total.sel(driver_latitude=46.375, driver_longitude=9.625)
    np.testing.assert_allclose(found, expected, atol=2e-7)


def test_totals_on_the_coast_are_means_over_the_pixels_that_are_not_sea(whole: xr.Dataset) -> None:
    cells = whole.land_fraction.coarsen(latitude=30, longitude=30).min()
    row, column = (int(i[0]) for i in np.nonzero(cells.to_numpy() == 0))
    total = whole.lu_total.isel(driver_latitude=row, driver_longitude=column)
    inside = whole.lu_fraction.isel(
        latitude=slice(30 * row, 30 * row + 30), longitude=slice(30 * column, 30 * column + 30)
    )
    assert bool(inside.isnull().any())
    # Equal weights: within a cell the area of a pixel changes by 0.4 % from top to bottom.
    np.testing.assert_allclose(total, inside.mean(("latitude", "longitude")), atol=2e-3)
    np.testing.assert_allclose(total.sum("lu_class"), 1, atol=1e-6)


def test_totals_do_not_know_of_gaps(cube: xr.Dataset, whole: xr.Dataset) -> None:
    xr.testing.assert_equal(cube.lu_total, whole.lu_total)


def test_sea_has_a_land_fraction_of_zero_and_nothing_else(whole: xr.Dataset) -> None:
    sea = whole.land_fraction == 0
    assert 0.02 < float(sea.mean()) < 0.3
    for name in ("elevation", "slope", "clay_fraction", "soil_porosity", "lake_fraction"):
        assert bool((whole[name].isnull() == sea).all()), name
    assert bool((whole.lai.isnull() == sea).all())
    assert int(whole.t2m.isnull().sum()) == 0


def test_a_region_of_sea_is_empty_but_has_weather() -> None:
    sea = synthetic_cube(region=SEA, years=(2000, 2000))
    assert float(sea.land_fraction.max()) == 0
    for name in ("elevation", "lai", "lu_fraction", "lc_fraction", "lu_total"):
        assert bool(sea[name].isnull().all()), name
    assert bool(sea.t2m.notnull().all())


def test_water_coast_ice_rock_towns_and_fields_occur(whole: xr.Dataset) -> None:
    cover, use = whole.lc_fraction.isel(year=0), whole.lu_fraction.isel(year=0)
    for id in ("water", "snowice", "bare", "built", "grass_man", "trees_ne", "trees_bd"):
        assert float(cover.sel(lc_class=id).max()) > 0.5, id
    for id in ("primf", "primn", "secdf", "pastr", "urban", "c3ann", "icwtr"):
        assert float(use.sel(lu_class=id).max()) > 0.5, id
    assert bool(((whole.land_fraction > 0) & (whole.land_fraction < 1)).any())
    assert float(whole.lake_fraction.max()) == 1


def test_ice_is_high_and_trees_are_not(whole: xr.Dataset) -> None:
    cover = whole.lc_fraction.isel(year=0)
    ice = whole.elevation.where(cover.sel(lc_class="snowice") > 0.5)
    wood = whole.elevation.where(cover.sel(lc_class=TREES).sum("lc_class") > 0.5)
    assert float(ice.min()) > float(wood.max())
    # 10 degC of the warmest month is about 2300 m up where it is 25 degC at the sea.
    assert 1500 < float(wood.max()) < 2700


def test_gaps_are_missing_values_and_change_nothing_else(
    cube: xr.Dataset, whole: xr.Dataset
) -> None:
    land_ = whole.land_fraction > 0
    missing = cube.lai.isnull().where(land_).mean()
    assert 0.1 < float(missing) < 0.2
    for name in ("lai", "lu_fraction", "lc_fraction"):
        assert bool(((cube[name] == whole[name]) | cube[name].isnull()).all())


def test_some_years_lack_blocks_of_a_map_and_some_lack_none() -> None:
    cube = synthetic_cube(region=(8, 45.5, 9.5, 47), years=(2000, 2009))
    for name, dim in (("lu_fraction", "lu_class"), ("lc_fraction", "lc_class")):
        gone = (
            cube[name].isnull().where(cube.land_fraction > 0).mean((dim, "latitude", "longitude"))
        )
        assert 0 < int((gone > 0).sum()) < 10, name
        assert float(gone.max()) < 0.8, name


def test_seasons_are_flipped_in_the_south() -> None:
    north = synthetic_cube(region=(8.5, 45.5, 9, 46), years=(2000, 2001), gaps=False)
    south = synthetic_cube(region=(8.5, -45.5, 9, -45), years=(2000, 2001), gaps=False)

    def peak(cube: xr.Dataset, name: str, time: str) -> int:
        space = [d for d in cube[name].dims if d != time]
        return int(cube[name].mean(space).groupby(f"{time}.month").mean().idxmax("month"))

    assert peak(north, "t2m", "forcing_time") in (6, 7, 8)
    assert peak(south, "t2m", "forcing_time") in (12, 1, 2)
    assert peak(north, "ssrd", "forcing_time") in (6, 7)
    assert peak(south, "ssrd", "forcing_time") in (12, 1)
    assert peak(north, "lai", "time") in (5, 6, 7, 8, 9)
    assert peak(south, "lai", "time") in (11, 12, 1, 2, 3)


def test_a_region_across_the_date_line_is_its_two_halves() -> None:
    both = synthetic_cube(region=(179.6, 45.5, -179.7, 45.9), years=(2000, 2000))
    west = synthetic_cube(region=(179.6, 45.5, 180, 45.9), years=(2000, 2000))
    east = synthetic_cube(region=(-180, 45.5, -179.7, 45.9), years=(2000, 2000))
    np.testing.assert_allclose(both.longitude[[0, -1]], [179.6 + 1 / 240, 180.3 - 1 / 240])
    assert both.sizes["longitude"] == 84
    assert both.sizes["driver_longitude"] == 4
    for name in ("elevation", "slope", "lu_fraction", "lc_fraction", "lai"):
        halves = np.concatenate([west[name], east[name]], axis=-1)
        np.testing.assert_array_equal(both[name], halves, name)
    assert bool(both.lai.notnull().any())


def test_noise_closes_at_the_date_line_and_differs_by_name() -> None:
    before, after = Extent(4000, COLUMNS, 20, 30), Extent(4000, 0, 20, 30)
    for spacing in (5400, 60, 6):
        name = key(1, "a", spacing)
        np.testing.assert_array_equal(
            smooth_noise(before, spacing, name), smooth_noise(after, spacing, name)
        )
        assert not np.array_equal(
            smooth_noise(after, spacing, name), smooth_noise(after, spacing, key(1, "b", spacing))
        )


def test_white_noise_is_standard_and_not_correlated() -> None:
    noise = white_noise(Extent(1000, 7, 300, 401), key(0, "noise")).astype("f8")
    # 120,300 independent numbers: the mean is within 0.003, a correlation too, by one sigma.
    assert abs(noise.mean()) < 0.015
    assert abs(noise.var() - 1) < 0.02
    assert abs((noise[:, 1:] * noise[:, :-1]).mean()) < 0.015
    assert abs((noise[1:] * noise[:-1]).mean()) < 0.015


def test_co2_follows_mauna_loa() -> None:
    # Annual means, ppm (NOAA GML).
    for year, ppm in ((1960, 316.91), (1980, 338.76), (2000, 369.71), (2011, 391.85)):
        assert float(climate.co2(year)) * 1e6 == pytest.approx(ppm, abs=3)
    cube = synthetic_cube(region=SEA, years=(2000, 2011))
    assert float(cube.co2[0]) == pytest.approx(369.71e-6, abs=1e-6)
    assert bool((cube.co2.diff("year") > 0).all())


def test_sunlight_is_that_of_the_tables() -> None:
    # FAO-56, Annex 2, Table 2.6, Equator and 46 N, January and July, MJ m-2 day-1.
    found = climate.sunlight(np.array([0.0, 46.0])) * 0.0864
    np.testing.assert_allclose(found[[0, 6], 0], [36.2, 33.9], rtol=0.015)
    assert found[0, 1] < found[6, 1] / 3


def test_evaporative_demand_is_that_of_the_formula() -> None:
    # Oudin et al. 2005: 24.5 MJ m-2 / 2.45 MJ kg-1 * (20 + 5) / 100 = 2.5 mm a day.
    demand = climate.evaporative_demand(np.float32(293.15), np.float32(24.5 / 0.0864))
    assert float(demand) == pytest.approx(2.5, rel=1e-4)
    assert float(climate.evaporative_demand(np.float32(260.0), np.float32(300.0))) == 0


def test_air_cools_with_height_by_the_lapse_rate() -> None:
    pixels = Extent(5280, 22560, 30, 60)
    cells = pixels.cells().padded(1)
    height = np.full(cells.shape, 500, np.float32)
    mean = climate.normals(cells, height, 0)
    low = climate.downscaled(mean, cells, height, pixels, np.full(pixels.shape, 500, np.float32))
    high = climate.downscaled(mean, cells, height, pixels, np.full(pixels.shape, 1500, np.float32))
    np.testing.assert_allclose(low.temperature - high.temperature, 6.5, atol=1e-3)
    assert bool((high.precipitation > low.precipitation).all())


def test_co2_fertilises_by_the_logarithm() -> None:
    assert leaves.co2_factor(climate.CO2_2000) == 1
    assert leaves.co2_factor(2 * climate.CO2_2000) == pytest.approx(1 + 0.6 * 0.693147)


def test_drought_takes_half_of_the_leaves_at_the_thirst_of_a_plant() -> None:
    factor = leaves.drought_factor(np.array([0.1, 0.5, 5.0], np.float32), 0.5)
    assert factor[0] < 0.01
    assert factor[1] == pytest.approx(0.5)
    assert factor[2] > 0.99


@pytest.mark.parametrize(
    ("change", "sign"),
    [
        ({"co2": 2 * climate.CO2_2000}, 1),
        ({"supply": 0.2}, -1),
        ({"snow": 1.0}, -1),
        ({"warmth": 500.0}, -1),
        ({"clay": 0.1}, -1),
        ({"temperature": 2.0}, -1),
    ],
)
def test_leaves_answer_to_what_changes_with_the_known_sign(
    change: dict[str, float], sign: int
) -> None:
    good = {
        "temperature": 15.0,
        "rising": 0.5,
        "spring": 900.0,
        "warmth": 2500.0,
        "supply": 1.0,
        "snow": 0.0,
        "clay": 0.3,
    }

    def lai(id: str, values: dict[str, float]) -> float:
        arrays = {k: np.full((1, 1, 1), v, np.float32) for k, v in values.items() if k != "co2"}
        season = leaves.Season(**arrays, co2=values.get("co2", climate.CO2_2000))
        return leaves.class_lai(id, season).item()

    for id in leaves.PLANTS:
        assert sign * (lai(id, good | change) - lai(id, good)) > 0, id
    assert lai("bare", good) == 0


def test_dry_soil_means_fewer_leaves_in_the_lowland(whole: xr.Dataset) -> None:
    cube = synthetic_cube(region=(9.5, 45.25, 10.25, 46.25), years=(2000, 2009), gaps=False)
    summer = cube.time.dt.month == 7
    lai = cube.lai[summer].where(cube.elevation < 800).mean(("latitude", "longitude"))
    july = cube.forcing_time.dt.month == 7
    water = cube.swvl1[july].mean(("forcing_latitude", "forcing_longitude"))[1:]
    assert np.corrcoef(lai, water)[0, 1] > 0.5
    # The weather moves the leaves of a region by more than noise of 0.04 could.
    assert float(lai.std()) > 0.1


def test_spring_comes_earlier_below_than_above(whole: xr.Dataset) -> None:
    wood = whole.lc_fraction.isel(year=0).sel(lc_class="trees_bd") > 0.3
    spring = whole.lai.sel(time="2000-04").squeeze() / whole.lai.sel(time="2000-07").squeeze()
    low = spring.where(wood & (whole.elevation < 300)).median()
    high = spring.where(wood & (whole.elevation > 600)).median()
    assert float(low) > float(high) + 0.1


def test_cropland_and_towns_grow_with_the_years_and_ice_shrinks() -> None:
    use = synthetic_cube(region=(8, 45, 10, 47), years=(2000, 2000), gaps=False)
    later = synthetic_cube(region=(8, 45, 10, 47), years=(2030, 2030), gaps=False)
    crops = ["c3ann", "c3per", "c4ann", "c4per", "c3nfx"]
    for ids in (crops, ["urban"]):
        before, after = (c.lu_fraction.sel(lu_class=ids).sum() for c in (use, later))
        assert float(after) > 1.05 * float(before), ids
    before, after = (c.lc_fraction.sel(lc_class="snowice").sum() for c in (use, later))
    assert float(after) < float(before)


def test_forest_ends_at_the_tree_line_and_in_the_desert() -> None:
    def suitability(warmest: float, humidity: float) -> float:
        fields = dict.fromkeys(land.Site.__dataclass_fields__, np.zeros(1, np.float32))
        fields |= {"warmest": np.float32([warmest]), "humidity": np.float32([humidity])}
        return float(land.forest_suitability(land.Site(**fields))[0])

    assert suitability(20, 1.0) > 0.99
    assert suitability(10, 5.0) == pytest.approx(0.5, abs=0.01)
    assert suitability(5, 1.0) < 0.01
    assert suitability(20, 0.1) < 0.01


def test_a_lazy_cube_equals_the_one_in_memory_and_computes_nothing_to_be_built() -> None:
    region, years = (9.6, 45.7, 10.3, 46.2), (2000, 2001)

    def forbidden(*args: object, **kwargs: object) -> None:
        raise AssertionError("computed")

    with dask.config.set(scheduler=forbidden):
        lazy = synthetic_cube(region=region, years=years, chunks={})
        thin = synthetic_cube(region=region, years=years, chunks={"time": 6, "latitude": 25})
    assert lazy.chunksizes["time"] == (12, 12)
    assert lazy.chunksizes["latitude"] == (24, 36)
    assert thin.chunksizes["time"] == (6, 6, 6, 6)
    eager = synthetic_cube(region=region, years=years)
    assert not eager.chunks
    xr.testing.assert_identical(lazy.compute(scheduler="synchronous"), eager)
    xr.testing.assert_identical(thin.compute(scheduler="synchronous"), eager)


def test_a_world_of_any_size_is_described_without_being_made() -> None:
    globe = synthetic_cube(region=(-180, -60, 180, 80), years=(2000, 2000), chunks={})
    assert globe.lai.shape == (12, 16800, 43200)
    assert globe.sizes["forcing_longitude"] == 1440


def test_all_problems_of_an_impossible_cube_are_reported_at_once() -> None:
    with pytest.raises(CubeError, match="south must be below north") as found:
        synthetic_cube(region=(8, 47, 11, 45), years=(2011, 2000), seed=-1)
    assert len(found.value.problems) == 3


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"region": (8, 45, 11)}, "four numbers"),
        ({"region": "8,45,11,47"}, "four numbers"),
        ({"region": (8, 45, float("nan"), 47)}, "west and east"),
        ({"region": (8, 45, 8, 47)}, "west and east must differ"),
        ({"region": (8, 45, 11, 91)}, "within -90..90"),
        ({"years": (2000,)}, "first, last"),
        ({"years": (2000, 2300)}, "1700..2250"),
        ({"years": (2000.5, 2001)}, "whole"),
        ({"seed": 1.5}, "whole number"),
    ],
)
def test_what_cannot_be_made_is_refused_with_what_was_expected(
    wrong: dict[str, object], expected: str
) -> None:
    with pytest.raises(CubeError, match=expected):
        synthetic_cube(**wrong)


def test_longitudes_from_0_to_360_are_understood() -> None:
    years = (2000, 2000)
    east = synthetic_cube(region=(350.1, 45.5, 350.3, 45.6), years=years)
    west = synthetic_cube(region=(-9.9, 45.5, -9.7, 45.6), years=years)
    np.testing.assert_allclose(east.longitude[0], -9.9 + 1 / 240)
    xr.testing.assert_equal(east, west)


@pytest.mark.parametrize("region", [(8, 89.8, 9, 90), (8, -90, 9, -89.8), (20, -1, 20.3, -0.8)])
def test_poles_and_tropics_are_part_of_the_world(
    region: tuple[float, float, float, float],
) -> None:
    cube = synthetic_cube(region=region, years=(2000, 2000), gaps=False)
    land_ = cube.land_fraction > 0
    assert bool(land_.any())
    assert bool((cube.lai.isnull() != land_).all())
    assert bool((np.isfinite(cube.t2m) & (cube.ssrd >= 0)).all())
