from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from xlsbc.cube.ingest import bhima
from xlsbc.cube.ingest.opening import open_source
from xlsbc.errors import SourceError, SourceWarning

FOLDER = "bhima_landuse_1km"
FILL = np.float32(1e20)


def tables(south: float = 17.0, years: int = 2, **shares: float) -> xr.Dataset:
    """Land use as the file has it: 20 x 30 pixels, whole cells, the same everywhere and always."""
    step = 1 / 120
    at = {
        "time": ("time", 21549.0 + 366 * np.arange(years), {"units": "Days since 1901-01-01"}),
        "lat": ("lat", south + step * (19.5 - np.arange(20)), {"units": "degrees_north"}),
        "lon": ("lon", 74 + step * (np.arange(30) + 0.5), {"units": "degrees_east"}),
    }
    attrs = {"_FillValue": FILL, "units": "[-]"}
    dims = ("time", "lat", "lon")
    fields = {
        name: (dims, np.full((years, 20, 30), shares.get(name, 0), np.float32), attrs)
        for name in bhima.CLASSES
    }
    return xr.Dataset(fields, at).chunk()


def present(cell: xr.DataArray) -> dict[str, float]:
    ids = map(str, cell["lu_class"].values)
    return {id: float(v) for id, v in zip(ids, cell.values, strict=True) if v > 0}


def test_the_real_land_use_is_a_simplex_of_states_on_cells_of_5_arc_minutes(real_data):
    ds = open_source(real_data / FOLDER / "fractionLandcover_UB_1km.nc")
    lu = bhima.land_use(ds).compute()["lu_total"]
    assert lu.dims == ("year", "lu_class", "driver_latitude", "driver_longitude")
    assert lu.shape == (51, 13, 32, 37)
    assert lu["year"].values[[0, -1]].tolist() == [1960, 2010]
    # grass holds -0.001 in 51 600 places
    assert float(lu.min()) == 0
    np.testing.assert_allclose(lu.sum("lu_class"), 1, atol=1e-6)
    np.testing.assert_allclose(lu.driver_latitude[[0, -1]], [19.5 - 1 / 24, 16.875], rtol=1e-12)
    # Read off the file by hand, pixel (0, 5, 5): forest 0.535, grass 0.441, irrigated 0.007, paddy
    # 0.001, sealed 0.016.
    expected = {"secdf": 0.535, "range": 0.441, "c3ann": 0.008, "urban": 0.016}
    cell = lu.isel(year=0, driver_latitude=0, driver_longitude=0)
    assert present(cell) == pytest.approx(expected, abs=1e-6)


def test_what_is_below_zero_by_rounding_is_zero_and_the_rest_sums_to_1():
    lu = bhima.land_use(tables(fracforest=0.7, fracwater=0.301, fracgrassland=-0.001))
    cell = lu["lu_total"].compute().isel(year=0, driver_latitude=1, driver_longitude=2)
    assert present(cell) == pytest.approx({"secdf": 0.7 / 1.001, "icwtr": 0.301 / 1.001})


def test_shares_that_do_not_sum_to_1_are_refused():
    with pytest.raises(SourceError, match="sums off by up to 0.3"):
        bhima.land_use(tables(fracforest=0.7)).compute(scheduler="synchronous")


def test_missing_pixels_make_a_missing_cell():
    ds = tables(fracforest=1).load()
    for name in bhima.CLASSES:
        ds[name][:, :10, :10] = FILL
    lu = bhima.land_use(ds.chunk())["lu_total"].compute()
    assert np.isnan(lu[:, :, 0, 0]).all()
    assert float(lu.isnull().mean()) == pytest.approx(1 / 6)


def test_pixels_that_do_not_fill_cells_are_refused():
    with pytest.raises(SourceError, match="latitude: expected whole cells of 5 arc-minutes"):
        bhima.land_use(tables(south=17 + 1 / 120))
    with pytest.raises(SourceError, match="latitude.*longitude"):
        bhima.land_use(tables().isel(lat=slice(1, None), lon=slice(5, None)))


def test_nothing_is_computed_before_it_is_asked_for(no_compute):
    assert bhima.land_use(tables(fracforest=1))["lu_total"].chunks is not None


def test_a_file_without_the_classes_is_refused_with_all_of_them():
    with pytest.raises(SourceError) as caught:
        bhima.land_use(xr.Dataset({"a": 1}))
    assert len(caught.value.problems) == 6


def test_the_real_built_up_land_lies_on_the_same_pixels_as_the_terrain(real_data):
    folder = real_data / FOLDER
    built = bhima.built_up(open_source(folder / "UBB_built-up_res_2015.nc")).compute()
    slope = bhima.statics(open_source(folder / "tanslope_UB_1km.nc"))
    assert set(np.unique(built["built_fraction"])) == {0, 0.25, 0.5, 0.75, 1}
    xr.testing.assert_equal(built["latitude"], slope["latitude"])
    xr.testing.assert_equal(built["longitude"], slope["longitude"])
    np.testing.assert_allclose(built["latitude"][0], 19.5 - 1 / 240, rtol=1e-12)


@pytest.mark.parametrize(
    ("file", "name", "units", "first", "warns"),
    [
        # First pixel of each file, worked by hand: atan(0.05963524); 290.06 cm day-1 / 8.64e6.
        ("tanslope", "slope", "degree", 3.41281, None),
        ("elvstd", "elevation_deviation", "m", 125.61002, "wrong: read as m$"),
        ("thetas1", "soil_porosity", "1", 0.3708, None),
        ("ksat1", "soil_hydraulic_conductivity", "m s-1", 3.357176e-5, "read as cm day-1"),
    ],
)
def test_the_real_terrain_and_soil_have_the_units_that_their_numbers_are_in(
    real_data, file, name, units, first, warns
):
    ds = open_source(real_data / FOLDER / f"{file}_UB_1km.nc")
    if warns is None:
        cube = bhima.statics(ds)
    else:
        with pytest.warns(SourceWarning, match=warns):
            cube = bhima.statics(ds)
    da = cube.compute()[name]
    assert da.dims == ("latitude", "longitude")
    assert da.attrs["units"] == units
    assert float(da[0, 0]) == pytest.approx(first, rel=1e-5)
    assert "10 x 10 pixels" in da.attrs["comment"]
    assert ("wrong" in da.attrs["comment"]) == (warns is not None)
    # What another file left in the attributes of this one is not carried on.
    assert "SSP2" not in str(cube.attrs) + str(da.attrs)


def conductivity(units: str | None) -> xr.Dataset:
    ds = tables().isel(time=0)[["fracforest"]].rename(fracforest="ksat1") + 86.4
    ds["ksat1"].attrs = {} if units is None else {"units": units}
    return ds


def test_a_unit_that_is_right_needs_no_warning():
    cube = bhima.statics(conductivity("cm day-1")).compute()
    np.testing.assert_allclose(cube["soil_hydraulic_conductivity"], 1e-5, rtol=1e-6)


def test_another_unit_than_the_files_have_is_refused():
    with pytest.raises(SourceError, match="expected units '\\[-\\]' or 'cm day-1'; found 'mm/h'"):
        bhima.statics(conductivity("mm/h"))


def test_a_file_with_none_of_the_maps_is_refused():
    with pytest.raises(SourceError, match="tanslope, elvstd, thetas1 or ksat1"):
        bhima.statics(tables())


def test_the_real_elevation_is_what_is_stored_on_the_pixels_of_the_other_maps(real_data):
    heights = bhima.elevation(open_source(real_data / FOLDER / "dem_India_1km_extract.map"))
    slope = bhima.statics(open_source(real_data / FOLDER / "tanslope_UB_1km.nc"))
    assert list(heights.data_vars) == ["elevation"]
    np.testing.assert_allclose(heights.latitude, slope.latitude, rtol=1e-12)
    np.testing.assert_allclose(heights.longitude, slope.longitude, rtol=1e-12)
    # 256 bytes of header, then float32 in rows from the north (PCRaster's format, csf.h).
    stored = np.fromfile(real_data / FOLDER / "dem_India_1km_extract.map", "<f4", offset=256)
    np.testing.assert_allclose(heights["elevation"], stored.reshape(320, 370), rtol=1e-6)
    assert float(heights["elevation"].max()) > 1000
    assert heights.attrs["license"] == "GPL-3.0"


@pytest.mark.filterwarnings("ignore::xlsbc.errors.SourceWarning")
@pytest.mark.parametrize(
    ("file", "names"),
    [
        ("fractionLandcover_UB_1km.nc", {"lu_total"}),
        ("UBB_built-up_res_2015.nc", {"built_fraction"}),
        ("dem_India_1km_extract.map", {"elevation"}),
        ("ksat1_UB_1km.nc", {"soil_hydraulic_conductivity"}),
        ("elvstd_UB_1km.nc", {"elevation_deviation"}),
    ],
)
def test_a_file_is_read_as_what_it_holds(real_data, file, names, no_compute):
    assert set(bhima.fields(open_source(real_data / FOLDER / file)).data_vars) == names


def test_a_file_of_another_basin_is_refused():
    with pytest.raises(SourceError, match="expected any of 'fracforest'.*'ksat1'; found 'dem'"):
        bhima.fields(xr.Dataset({"dem": 1}))
