from __future__ import annotations

import dask
import numpy as np
import pytest
import xarray as xr

from xlsbc.cube import legends
from xlsbc.cube.legends import LC, LU, apply_crosswalk, compatible, crosswalk, legend
from xlsbc.errors import LegendError

TREES = ["trees_be", "trees_bd", "trees_ne", "trees_nd"]
SHRUBS = ["shrubs_be", "shrubs_bd", "shrubs_ne", "shrubs_nd"]


def shares(name: str, source: str) -> dict[str, float]:
    """Per cent of each target class that is there in one source class."""
    return present(100 * crosswalk(name).sel(source_class=source))


def present(row: xr.DataArray) -> dict[str, float]:
    """Values above zero by class."""
    ids = map(str, row[row.dims[0]].values)
    return {id: float(v) for id, v in zip(ids, row.values, strict=True) if v > 0}


def codes(values: object, dtype: str = "float64") -> xr.DataArray:
    return xr.DataArray(np.array(values, dtype=dtype), dims=("latitude", "longitude"))


def test_land_use_has_the_twelve_states_of_luh2_and_ice_and_water():
    states = "primf primn secdf secdn pastr range urban c3ann c3per c4ann c4per c3nfx icwtr"
    assert LU.ids == tuple(states.split())


def test_land_cover_has_the_fourteen_plant_functional_types_of_cci():
    assert LC.ids[:8] == (*TREES, *SHRUBS)
    assert LC.ids[8:] == ("grass_nat", "grass_man", "bare", "built", "water", "snowice")


def test_leaf_area_is_bounded_by_stature_and_zero_where_nothing_grows():
    bounds = {c.id: (c.vegetation, c.lai_max) for c in LC.classes}
    assert {bounds[id] for id in TREES} == {("high", 8.0)}
    assert {bounds[id] for id in [*SHRUBS, "grass_nat", "grass_man"]} == {("low", 7.0)}
    assert {bounds[id] for id in ["bare", "built", "water", "snowice"]} == {("none", 0.0)}


def test_the_cci_legend_has_the_38_values_of_the_files():
    found = legend("cci_lccs")
    assert len(found.classes) == 38
    assert (found.classes[0].code, found.classes[0].id) == (0, "no_data")
    assert found.codes[-3:] == (202, 210, 220)


def test_the_ifs_types_are_the_twenty_of_code_table_4_234():
    found = legend("ifs")
    assert found.codes == tuple(range(1, 21))
    assert found.ids[5] == "evergreen_broadleaf_trees"
    assert found.ids[15] == "evergreen_shrubs"
    high = {c.code for c in found.classes if c.vegetation == "high"}
    assert high == {3, 4, 5, 6, 18, 19}


@pytest.mark.parametrize("name", legends.LEGENDS)
def test_the_ids_codes_and_colours_of_a_legend_are_well_formed(name):
    found = legend(name)
    assert len(set(found.ids)) == len(set(found.codes)) == len(found.classes)
    assert all(len(c.color) == 7 and int(c.color[1:], 16) >= 0 for c in found.classes)
    assert all((c.lai_max > 0) or c.vegetation == "none" for c in found.classes)


@pytest.mark.parametrize("found", [LU, LC], ids=lambda found: found.name)
def test_no_two_classes_of_a_cube_share_a_colour(found):
    assert len({c.color for c in found.classes}) == len(found.classes)


@pytest.mark.parametrize("name", ["cci_lccs", "globcover", "modis_igbp"])
def test_the_leaf_area_of_a_map_class_is_bounded_by_the_types_in_it(name):
    bound = np.array([c.lai_max for c in LC.classes])
    table = crosswalk(f"{name}-cci_pft").fillna(0).values
    expected = ((table > 0) * bound).max(axis=1)
    np.testing.assert_array_equal([c.lai_max for c in legend(name).classes], expected)


def test_the_leaf_area_of_a_land_use_is_bounded_by_the_types_that_may_grow_there():
    bound = np.array([c.lai_max for c in LC.classes])
    expected = (compatible(LU, LC) * bound).max(axis=1)
    np.testing.assert_array_equal([c.lai_max for c in LU.classes], expected)


def test_the_leaf_area_of_a_hilda_class_is_bounded_by_the_states_in_it():
    bound = np.array([c.lai_max for c in LU.classes])
    table = crosswalk("hilda-luh2").fillna(0).values
    expected = ((table > 0) * bound).max(axis=1)
    np.testing.assert_array_equal([c.lai_max for c in legend("hilda").classes], expected)


def test_a_class_is_found_by_its_id():
    assert LU.index("icwtr") == 12
    with pytest.raises(LegendError, match="'luh2' has no class 'forest'; it has primf"):
        LU.index("forest")


def test_an_unknown_legend_is_refused_with_those_that_there_are():
    with pytest.raises(LegendError, match="no legend 'corine'; there are luh2, cci_pft"):
        legend("corine")


def test_a_class_coordinate_can_be_stored_as_zarr_and_read_back(tmp_path):
    ds = xr.Dataset(
        {"a": ("lc_class", np.arange(14.0))}, coords={"lc_class": LC.coordinate("lc_class")}
    )
    ds.to_zarr(tmp_path / "a.zarr", consolidated=False)
    back = xr.open_zarr(tmp_path / "a.zarr", consolidated=False)
    assert back.lc_class.values.tolist() == list(LC.ids)
    assert back.lc_class.attrs == {
        "long_name": "ESA CCI plant functional types",
        "legend": "cci_pft",
    }


@pytest.mark.parametrize("name", legends.CROSSWALKS)
def test_every_class_of_a_crosswalk_is_shared_out_wholly(name):
    table = crosswalk(name)
    no_data = [id == "no_data" for id in table.source_class.values]
    np.testing.assert_allclose(
        table.sum("target_class", skipna=False)[~np.array(no_data)], 1, atol=1e-12
    )
    assert np.isnan(table.values[no_data]).all()
    assert table.dtype == np.float64


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        # Poulter et al. 2015, Table 2.
        (
            "tree_needleleaved_evergreen_open",
            {"trees_ne": 30, "shrubs_bd": 5, "shrubs_ne": 5, "grass_nat": 30, "bare": 30},
        ),
        ("urban", {"trees_bd": 2.5, "trees_ne": 2.5, "grass_nat": 15, "built": 75, "water": 5}),
        ("cropland_irrigated", {"grass_man": 100}),
        ("snow_and_ice", {"snowice": 100}),
    ],
)
def test_cci_classes_become_types_as_in_the_paper(source, expected):
    assert shares("cci_lccs-cci_pft", source) == pytest.approx(expected)


def test_cci_classes_become_ifs_types_as_in_confess():
    assert shares("cci_lccs-ifs", "shrub_or_herbaceous_cover_flooded") == pytest.approx(
        {
            "evergreen_needleleaf_trees": 10,
            "evergreen_shrubs": 2,
            "deciduous_shrubs": 3,
            "short_grass": 10,
            "bogs_and_marshes": 75,
        }
    )
    assert shares("cci_lccs-ifs", "cropland_rainfed") == pytest.approx(
        {"crops": 90, "short_grass": 10}
    )


@pytest.mark.parametrize(
    ("globcover", "cci"),
    [
        ("irrigated_croplands", "cropland_irrigated"),
        ("rainfed_croplands", "cropland_rainfed"),
        ("mosaic_cropland", "mosaic_cropland"),
        ("mosaic_vegetation", "mosaic_natural_vegetation"),
        ("closed_needleleaved_evergreen_forest", "tree_needleleaved_evergreen_closed"),
        ("mosaic_grassland", "mosaic_herbaceous"),
        ("herbaceous_vegetation", "grassland"),
        ("artificial_surfaces", "urban"),
    ],
)
def test_globcover_classes_are_the_cci_classes_of_the_same_text(globcover, cci):
    assert shares("globcover-cci_pft", globcover) == shares("cci_lccs-cci_pft", cci)


@pytest.mark.parametrize(
    ("igbp", "cci"),
    [
        ("evergreen_needleleaf_forests", ["tree_needleleaved_evergreen_closed"]),
        ("evergreen_broadleaf_forests", ["tree_broadleaved_evergreen_closed_to_open"]),
        ("deciduous_needleleaf_forests", ["tree_needleleaved_deciduous_closed"]),
        ("deciduous_broadleaf_forests", ["tree_broadleaved_deciduous_closed"]),
        ("mixed_forests", ["tree_mixed"]),
        ("closed_shrublands", ["shrubland"]),
        ("open_shrublands", ["shrubland", "sparse_shrub"]),
        ("woody_savannas", ["mosaic_tree_and_shrub"]),
        ("savannas", ["mosaic_herbaceous"]),
        ("grasslands", ["grassland"]),
        ("permanent_wetlands", ["shrub_or_herbaceous_cover_flooded"]),
        ("croplands", ["cropland_rainfed"]),
        ("urban_and_built_up_lands", ["urban"]),
        ("cropland_natural_vegetation_mosaics", ["mosaic_cropland", "mosaic_natural_vegetation"]),
        ("permanent_snow_and_ice", ["snow_and_ice"]),
        ("barren", ["bare_areas"]),
        ("water_bodies", ["water"]),
    ],
)
def test_igbp_classes_are_the_means_of_the_cci_classes_of_the_nearest_text(igbp, cci):
    mean = crosswalk("cci_lccs-cci_pft").sel(source_class=cci).mean("source_class")
    assert shares("modis_igbp-cci_pft", igbp) == pytest.approx(present(100 * mean))


def test_the_igbp_legend_has_the_codes_of_collection_6():
    assert legend("modis_igbp").codes == (*range(1, 18), 255)


def test_hilda_forests_are_forests_of_both_kinds_and_its_sea_is_water():
    table = crosswalk("hilda-luh2")
    for code in (40, 41, 42, 43, 44, 45):
        row = table.isel(source_class=legend("hilda").codes.index(code))
        assert present(row) == {"primf": 0.5, "secdf": 0.5}
    assert shares("hilda-luh2", "ocean") == shares("hilda-luh2", "water") == {"icwtr": 100}


def test_a_legend_crosswalks_to_itself_unchanged():
    np.testing.assert_array_equal(crosswalk("cci_pft-cci_pft").values, np.eye(14))


def test_an_unknown_crosswalk_is_refused_with_those_that_there_are():
    with pytest.raises(
        LegendError, match="no crosswalk 'modis-cci_pft'; there are cci_lccs-cci_pft"
    ):
        crosswalk("modis-cci_pft")


def test_a_crosswalk_that_is_changed_does_not_change_the_next_one():
    crosswalk("cci_pft-ifs")[:] = 0
    assert float(crosswalk("cci_pft-ifs").sum()) == pytest.approx(14)


def test_codes_become_fractions_with_classes_before_rows_and_columns():
    year = codes([[10, 210, 62], [220, 61, 200]]).expand_dims(year=[2000])
    fractions = apply_crosswalk(year, "cci_lccs-cci_pft", "lc_class")
    assert fractions.dims == ("year", "lc_class", "latitude", "longitude")
    assert fractions.dtype == np.float32
    pixel = fractions.sel(year=2000).isel(latitude=0, longitude=2)
    expected = {"trees_bd": 0.3, "shrubs_bd": 0.25, "grass_nat": 0.35, "bare": 0.1}
    assert present(pixel) == pytest.approx(expected)


def test_missing_and_no_data_are_missing_in_every_class():
    fractions = apply_crosswalk(codes([[np.nan, 0, 210]]), "cci_lccs-cci_pft", "lc_class")
    np.testing.assert_array_equal(np.isnan(fractions.values).all(axis=0), [[True, True, False]])
    globcover = apply_crosswalk(codes([[230, 14]]), "globcover-cci_pft", "lc_class")
    np.testing.assert_array_equal(np.isnan(globcover.values).all(axis=0), [[True, False]])


@pytest.mark.parametrize("dtype", ["int8", "int16", "float32"])
def test_bytes_that_were_read_as_signed_are_the_codes_they_were(dtype):
    signed = apply_crosswalk(codes([[-46, 61, -36]], dtype), "cci_lccs-cci_pft", "lc_class")
    right = apply_crosswalk(codes([[210, 61, 220]]), "cci_lccs-cci_pft", "lc_class")
    xr.testing.assert_identical(signed, right)


def test_all_unknown_codes_are_told_with_their_counts():
    odd = codes([[7, 7, 10], [255, np.inf, np.nan]])
    with pytest.raises(LegendError, match="'cci_lccs'.*recode them, or make them NaN") as caught:
        apply_crosswalk(odd, "cci_lccs-cci_pft", "lc_class")
    assert caught.value.problems == (
        "code 7 in 2 pixels",
        "code 255 in 1 pixels",
        "code inf in 1 pixels",
    )


def test_a_crosswalk_of_dask_codes_is_lazy_and_the_same(no_compute):
    values = codes([[10, 210, 62], [220, np.nan, 200]])
    lazy = apply_crosswalk(values.chunk(longitude=2), "cci_lccs-ifs", "type")
    assert lazy.chunks == ((20,), (2,), (2, 1))
    with dask.config.set(scheduler="synchronous"):
        xr.testing.assert_identical(lazy.compute(), apply_crosswalk(values, "cci_lccs-ifs", "type"))


def test_unknown_codes_in_dask_codes_are_told_when_they_are_computed():
    lazy = apply_crosswalk(codes([[10, 3]]).chunk(), "cci_lccs-cci_pft", "lc_class")
    with pytest.raises(LegendError, match="code 3 in 1 pixels"):
        lazy.compute(scheduler="synchronous")


def test_built_land_is_only_urban_and_water_and_ice_only_icwtr():
    table = compatible(LU, LC)
    assert table.shape == (13, 14)
    may = {c: {LU.ids[i] for i in np.flatnonzero(table[:, LC.index(c)])} for c in LC.ids}
    assert may["built"] == {"urban"}
    assert may["water"] == may["snowice"] == {"icwtr"}


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("primf", [*TREES, *SHRUBS, "grass_nat"]),
        ("secdn", [*SHRUBS, "grass_nat", "bare"]),
        ("pastr", ["grass_nat", "grass_man"]),
        ("range", [*TREES, *SHRUBS, "grass_nat", "bare"]),
        ("urban", [*TREES, *SHRUBS, "grass_nat", "grass_man", "bare", "built"]),
        ("c3nfx", ["grass_man", "bare"]),
        ("c4per", [*TREES, *SHRUBS, "grass_man", "bare"]),
        ("icwtr", ["water", "snowice"]),
    ],
)
def test_what_may_grow_on_a_land_use(state, expected):
    row = compatible(LU, LC)[LU.index(state)]
    assert [LC.ids[i] for i in np.flatnonzero(row)] == expected


def test_land_uses_of_another_legend_are_refused():
    with pytest.raises(LegendError, match="'ifs' and 'cci_pft' can share ground"):
        compatible(legend("ifs"), LC)


def test_the_real_rhine_map_crosswalks_to_a_simplex(real_data):
    file = real_data / "rhine_wflow_1km" / "rhine_staticmaps_lai_1km.nc"
    with xr.open_dataset(file) as ds:
        fractions = apply_crosswalk(ds["landuse"].load(), "globcover-cci_pft", "lc_class")
    total = fractions.sum("lc_class", skipna=False)
    assert float(total.isnull().mean()) < 0.01
    np.testing.assert_allclose(total.values[np.isfinite(total.values)], 1, atol=1e-6)
