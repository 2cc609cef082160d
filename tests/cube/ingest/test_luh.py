from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from tests.providers import luh as provider
from xlsbc.cube import schema
from xlsbc.cube.ingest import luh
from xlsbc.cube.ingest.opening import open_source
from xlsbc.errors import SourceError

SHARES = provider.SHARES
SEA = provider.MISSING


def present(cell: xr.DataArray) -> dict[str, float]:
    """Shares above zero of one cell, by state."""
    ids = map(str, cell["lu_class"].values)
    return {id: float(v) for id, v in zip(ids, cell.values, strict=True) if v > 0}


@pytest.fixture
def total(tmp_path):
    """A factory of land-use totals read from a file written with the given options."""

    def make(*args, period=None, **options):
        ds = open_source(provider.write(tmp_path, *args, **options))
        return luh.states(ds, period=period).compute(scheduler="synchronous")["lu_total"]

    return make


def test_states_are_stacked_over_the_cells_of_the_file(total):
    lu = total()
    assert lu.dims == ("year", "lu_class", "driver_latitude", "driver_longitude")
    assert lu.dtype == np.float32
    assert lu.attrs["units"] == "1"
    assert lu.driver_latitude.values.tolist() == [46.875, 46.625]
    assert lu.driver_longitude.values.tolist() == [10.125, 10.375, 10.625]
    first = lu.isel(year=0, driver_latitude=0, driver_longitude=0)
    assert present(first) == {"primf": 0.5, "c3ann": 0.375, "c4per": 0.125}
    south = lu.isel(year=0, driver_latitude=1)
    assert present(south.isel(driver_longitude=0)) == {"range": 1.0}
    assert present(south.isel(driver_longitude=1)) == {"urban": 0.75, "c3ann": 0.25}


def test_ice_and_water_are_what_the_states_leave_of_a_cell(total):
    lu = total().isel(year=0)
    coast = lu.isel(driver_latitude=0, driver_longitude=1)
    assert present(coast) == {"primf": 0.25, "range": 0.25, "icwtr": 0.5}
    assert present(lu.isel(driver_latitude=1, driver_longitude=2)) == {"icwtr": 1.0}


def test_the_sea_is_missing_in_every_class_although_fillvalue_is_misspelt(total):
    lu = total()
    sea = np.isnan(lu.values)
    assert sea[:, :, 0, 2].all()
    assert sea.sum() == 3 * 13


def test_age_and_biomass_of_secondary_land_are_no_shares(total, tmp_path):
    assert {"secma", "secmb"} <= set(open_source(provider.write(tmp_path)).data_vars)
    assert float(total().max()) == 1.0


@pytest.mark.parametrize(
    ("years", "units"),
    [
        ((850, 851, 2015), "years since 850-01-01 0:0:0"),
        ((850, 1582, 2024), "days since 850-01-01"),
        ((2015, 2016, 2100), "years since 2015-01-01 0:0:0"),
    ],
    ids=["LUH2", "LUH3", "scenario"],
)
def test_years_are_whole_numbers_whatever_the_time_is_counted_in(total, years, units):
    lu = total(years=years, units=units)
    assert lu["year"].values.tolist() == list(years)
    assert lu["year"].dtype == np.int64


def test_a_period_is_cut_out_with_both_its_ends(total):
    years = tuple(range(1990, 2001))
    lu = total(years=years, period=(1992, 1994))
    assert lu["year"].values.tolist() == [1992, 1993, 1994]


def test_a_period_that_the_file_lacks_is_refused_with_what_it_has(total):
    with pytest.raises(SourceError, match="expected years of 2020-2030; found 850-2000"):
        total(period=(2020, 2030))


@pytest.mark.parametrize("options", [{"ascending": True}, {"west": 370.0}], ids=str)
def test_direction_and_turns_of_the_axes_change_nothing(total, options):
    xr.testing.assert_identical(total(**options), total())


def test_the_decoded_file_conforms_to_the_same(total, tmp_path):
    read = total()
    with xr.open_dataset(tmp_path / "states.nc", decode_times=False) as decoded:
        conformed = schema.conform(decoded)["lu_total"].load()
    np.testing.assert_array_equal(read.values, conformed.values)


def test_chunks_of_the_file_change_nothing(tmp_path):
    raw = open_source(provider.write(tmp_path))
    one = luh.states(raw).compute()
    cut = luh.states(raw.chunk(time=1, lat=1, lon=2)).compute()
    xr.testing.assert_identical(cut, one)


def test_nothing_is_computed_before_it_is_asked_for(tmp_path, no_compute):
    raw = open_source(provider.write(tmp_path)).chunk()
    assert luh.states(raw)["lu_total"].chunks is not None


def test_states_that_exceed_the_cell_are_refused(total):
    much = {**SHARES, "pastr": [[0.02, 0, SEA], [0.5, 0, 0]]}
    with pytest.raises(SourceError, match=r"states.nc.*sum to 1 at most; found 2 cells.*to 1\.5"):
        total(much)


def test_states_that_exceed_the_cell_by_rounding_fill_it(total):
    lu = total({**SHARES, "pastr": [[0.008, 0, SEA], [0, 0, 0]]}).isel(year=0)
    cell = lu.isel(driver_latitude=0, driver_longitude=0)
    assert float(cell.sum()) == pytest.approx(1, abs=1e-6)
    assert float(cell.sel(lu_class="pastr")) == pytest.approx(0.008 / 1.008)
    assert float(cell.sel(lu_class="icwtr")) == pytest.approx(0, abs=1e-6)


def test_per_cents_are_refused(total):
    with pytest.raises(SourceError, match="up to 100"):
        total({**SHARES, "range": [[0, 25, SEA], [100, 0, 0]]})


def test_a_share_below_zero_is_refused(total):
    with pytest.raises(SourceError, match="expected states of 0 or more; found -0.3"):
        total({**SHARES, "pastr": [[0, 0, SEA], [-0.3, 0, 0]]})


def test_a_cell_with_some_states_only_is_refused(total):
    with pytest.raises(SourceError, match="found 1 cells with some states and not others"):
        total({**SHARES, "pastr": [[SEA, 0, SEA], [0, 0, 0]]})


@pytest.mark.parametrize(
    ("kind", "found"),
    [("transitions", "transitions"), ("management", "management"), ("static", "static data")],
)
def test_another_file_of_the_product_is_told_by_its_name(tmp_path, kind, found):
    path = provider.write_other(tmp_path, kind)
    with pytest.raises(SourceError, match=f"{path.name}: expected states; found {found} \\("):
        luh.states(open_source(path))


def test_all_states_that_a_file_lacks_are_told(tmp_path):
    path = provider.write(tmp_path, leave_out=("urban", "c3nfx"))
    with pytest.raises(SourceError) as caught:
        luh.states(open_source(path))
    assert [p.split("'")[1] for p in caught.value.problems] == ["urban", "c3nfx"]


def test_what_the_file_says_of_itself_is_kept(tmp_path):
    cube = luh.states(open_source(provider.write(tmp_path)))
    assert "LUH2 v2h" in cube.attrs["source"]
    assert cube.attrs["references"] == "doi:10.5194/gmd-13-5425-2020"
