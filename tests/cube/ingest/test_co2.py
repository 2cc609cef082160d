import numpy as np
import pytest

from tests.providers import co2 as provider
from xlsbc.cube import schema
from xlsbc.cube.ingest import co2_annual, co2_scenario
from xlsbc.cube.ingest.co2 import mole_fraction
from xlsbc.cube.ingest.opening import open_source
from xlsbc.errors import SourceError, SourceWarning

HEAD = "; a comment, with a comma,\n; UNITS:, PgC year-1,  {units}, ppt\n"


@pytest.fixture
def folder(tmp_path):
    """A factory of source folders with one file in ``co2/``."""

    def write(name, text):
        (tmp_path / "co2").mkdir(exist_ok=True)
        (tmp_path / "co2" / name).write_text(text)
        return tmp_path

    return write


def scenario(units="ppm", column="CO2_constrain"):
    return HEAD.format(units=units) + f"Date,ffi,{column},CF4\n1850,0,284.5,1\n1851,0,285.0,2\n"


def test_the_measured_year_2000_is_368_96_ppm(real_data):
    assert co2_annual(real_data).sel(year=2000).item() == pytest.approx(368.96e-6, rel=1e-6)


def test_the_measured_record_is_complete_from_1979_on(real_data):
    da = co2_annual(real_data)

    assert da.year[0] == 1979
    assert (da.year.diff("year") == 1).all()
    assert da.notnull().all()


def test_the_series_is_a_mole_fraction_in_cf_terms(real_data):
    da = co2_annual(real_data)

    assert (da.dims, da.dtype, da.year.dtype) == (("year",), np.float32, np.int64)
    assert da.attrs["standard_name"] == "mole_fraction_of_carbon_dioxide_in_air"
    assert da.attrs["units"] == "1"


@pytest.mark.parametrize(
    ("name", "ppm"), [("ssp126", 445.63), ("ssp245", 602.78), ("ssp585", 1135.21)]
)
def test_scenarios_part_by_2100_as_published(real_data, name, ppm):
    da = co2_scenario(real_data, name)

    # Published figures have two decimals.
    assert da.sel(year=2100).item() == pytest.approx(ppm * 1e-6, abs=0.0051e-6)
    assert da.sel(year=1850).item() == pytest.approx(284.32e-6, rel=1e-4)
    assert (da.year[0], da.year[-1]) == (1745, 2300)


def test_negative_numbers_mean_missing(folder):
    source = folder("co2-annmean-gl.csv", "Year,Mean,Uncertainty\n1979,336.85,0.1\n1980,-9.99,-1\n")

    np.testing.assert_allclose(co2_annual(source), [336.85e-6, np.nan], rtol=1e-6)


def test_a_number_that_cannot_be_read_is_refused(folder):
    source = folder("co2-annmean-gl.csv", "Year,Mean\n1979,336.85\n1980,n/a\n")

    with pytest.raises(SourceError, match="'Year' and 'Mean'.*could not convert string to float"):
        co2_annual(source)


def test_a_row_that_was_cut_short_is_refused(folder):
    source = folder("co2-annmean-gl.csv", "Year,Mean\n1979,336.85\n1980\n")

    with pytest.raises(SourceError, match=r"co2-annmean-gl\.csv: expected numbers in the columns"):
        co2_annual(source)


@pytest.mark.parametrize("text", ["\n\n", "Date,Average\n1979,336\n"])
def test_a_table_without_the_columns_names_both(folder, text):
    source = folder("co2-annmean-gl.csv", text)

    with pytest.raises(SourceError, match="column 'Year': expected it.*column 'Mean': expected it"):
        co2_annual(source)


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(SourceError, match=r"co2-annmean-gl\.csv: expected a file; found nothing"):
        co2_annual(tmp_path)


def test_an_unknown_scenario_lists_those_that_are_there(real_data):
    with pytest.raises(SourceError, match="'ssp370'.*found only ssp126, ssp245, ssp585; name one"):
        co2_scenario(real_data, "ssp370")


def test_the_scenario_column_is_read_by_name(folder):
    source = folder("ssp999_emiss-constraints_rf.csv", scenario())

    da = co2_scenario(source, "ssp999")

    np.testing.assert_allclose(da, [284.5e-6, 285.0e-6], rtol=1e-6)
    assert da.year.values.tolist() == [1850, 1851]


def test_a_scenario_in_another_unit_is_refused(folder):
    source = folder("ssp999_emiss-constraints_rf.csv", scenario(units="ppb"))

    with pytest.raises(SourceError, match="'CO2_constrain': expected ppm; found 'ppb'"):
        co2_scenario(source, "ssp999")


def test_a_scenario_without_the_column_is_refused(folder):
    source = folder("ssp999_emiss-constraints_rf.csv", scenario(column="CO2"))

    with pytest.raises(SourceError, match="column 'CO2_constrain': expected it; found only Date"):
        co2_scenario(source, "ssp999")


def read(path):
    return mole_fraction(open_source(path))


def ppm(ds, year):
    return ds.co2.sel(year=year).item() * 1e6


def test_the_annual_means_of_mauna_loa_are_not_called_global(real_data):
    ds = read(real_data / "co2/co2-annmean-mlo.csv")

    assert ppm(ds, 2000) == pytest.approx(369.71, rel=1e-6)
    assert ds.year.values[[0, -1]].tolist() == [1959, 2025]
    assert "Mauna Loa" in ds.attrs["comment"]
    assert "Mauna Loa" in ds.co2.attrs["comment"]
    assert "Mauna Loa" not in read(real_data / "co2/co2-annmean-gl.csv").attrs["comment"]


@pytest.mark.parametrize(
    ("place", "left_out", "years"),
    [
        ("gl", r"2026 \(4 of 12 months\)", [1979, 2025]),
        ("mlo", r"1958 \(10 of 12 months\), 2026 \(6 of 12 months\)", [1959, 2025]),
    ],
)
def test_monthly_tables_give_the_annual_means_that_noaa_gives(real_data, place, left_out, years):
    with pytest.warns(SourceWarning, match=left_out):
        monthly = read(real_data / f"co2/co2-mm-{place}.csv")
    annual = read(real_data / f"co2/co2-annmean-{place}.csv")

    assert monthly.year.values[[0, -1]].tolist() == years
    assert "2026 (" in monthly.attrs["comment"]
    # Both are rounded to a hundredth of a ppm.
    np.testing.assert_allclose(monthly.co2, annual.co2.sel(year=monthly.year), atol=0.011e-6)
    assert ("Mauna Loa" in monthly.attrs["comment"]) == (place == "mlo")


@pytest.mark.parametrize(
    ("name", "in_2100", "in_2500"), [("rcp26", 420.895, 327.210), ("rcp85", 935.874, 1961.577)]
)
@pytest.mark.filterwarnings("ignore::xlsbc.errors.SourceWarning")
def test_years_since_1660_are_those_of_the_published_pathways(real_data, name, in_2100, in_2500):
    ds = read(real_data / f"co2/{name}.nc4")

    # Meinshausen et al. (2011), the pathways' tables: 1765, 2005 and 2100.
    assert ds.year.values[[0, -1]].tolist() == [1765, 2500]
    assert ppm(ds, 1765) == pytest.approx(278.05158, rel=1e-6)
    assert ppm(ds, 2005) == pytest.approx(378.8125, rel=1e-6)
    assert ppm(ds, 2100) == pytest.approx(in_2100, abs=1e-3)
    assert ppm(ds, 2500) == pytest.approx(in_2500, abs=1e-3)


def test_a_pathway_that_contradicts_itself_is_told(real_data):
    with pytest.warns(SourceWarning, match=r"RCP4.5 \(RUN\) and RCP3PD \(NOTE\)"):
        ds = read(real_data / "co2/rcp26.nc4")

    assert "RCP3PD" in ds.attrs["comment"]


@pytest.mark.parametrize(("since", "years"), [(0, (1850, 1851, 1852)), (1850, (2015, 2016, 2017))])
def test_cmip6_is_the_globe_in_the_years_that_its_days_say(tmp_path, since, years):
    ds = read(provider.write_cmip6(tmp_path, years, since=since))

    assert ds.year.values.tolist() == list(years)
    np.testing.assert_allclose(ds.co2 * 1e6, [284, 285, 286], rtol=1e-6)


def test_the_globe_is_found_by_its_code_and_not_by_its_place(tmp_path):
    ds = read(provider.write_cmip6(tmp_path, (1850, 1851), sectors=(1, 2, 0)))

    np.testing.assert_allclose(ds.co2 * 1e6, [284, 285], rtol=1e-6)


def test_sectors_that_say_nothing_are_refused(tmp_path):
    with pytest.raises(SourceError, match="'sector': expected an attribute ids"):
        read(provider.write_cmip6(tmp_path, (1850,), ids=""))


def test_years_before_land_use_begins_are_left_out_and_counted(tmp_path):
    ds = read(provider.write_cmip6(tmp_path, range(848, 853)))

    assert ds.year.values.tolist() == [850, 851, 852]
    assert "2 years before 850 left out" in ds.attrs["comment"]


@pytest.mark.parametrize(("units", "found"), [("1", "284 to 28"), ("1e-9", "2.84e-07")])
def test_units_that_contradict_the_values_are_refused(tmp_path, units, found):
    with pytest.raises(SourceError, match=f"'co2': expected 0.0001 to 0.01 1; found {found}"):
        read(provider.write_cmip6(tmp_path, (1850, 1851), units=units))


@pytest.mark.parametrize("name", ["co2_mm_mlo.csv", "co2_mm_mlo.txt"])
def test_noaas_own_tables_are_read_with_their_comments(tmp_path, name):
    ds = read(provider.write_noaa_monthly(tmp_path, name))

    # 360 to 371 and 372 to 383.
    np.testing.assert_allclose(ds.co2 * 1e6, [365.5, 377.5], rtol=1e-6)
    assert "Mauna Loa" in ds.attrs["comment"]


def test_a_global_record_says_so(tmp_path):
    path = provider.write_noaa_monthly(tmp_path, "co2_mm_gl.csv", station="marine surface sites")

    assert read(path).attrs["comment"] == "annual mean of the global marine surface"


def test_a_year_with_a_missing_month_is_left_out_and_told(tmp_path):
    path = provider.write_noaa_monthly(tmp_path, missing=[3])

    with pytest.warns(SourceWarning, match=r"left out: 1999 \(11 of 12 months\)"):
        ds = read(path)

    assert ds.year.values.tolist() == [2000]


def test_months_that_are_there_twice_are_refused(tmp_path):
    path = provider.write_noaa_monthly(tmp_path, months=12)
    path.write_text(path.read_text() + path.read_text().splitlines()[-1])

    with pytest.raises(SourceError, match="expected 12 months a year; found 13"):
        read(path)


def test_columns_in_another_order_are_refused(tmp_path):
    path = tmp_path / "co2.csv"
    path.write_text("Date,Average,Decimal Date\n1999-01,360.1,1999.042,0\n")

    with pytest.raises(SourceError, match="found 1999, 01, 360.1, 1999.042, whose date is not"):
        read(path)


def test_an_annual_text_table_of_noaa_is_read(tmp_path):
    path = tmp_path / "co2_annmean_gl.txt"
    path.write_text("# Globally averaged\n# year     mean      unc\n  1979   336.85     0.11\n")

    assert ppm(read(path), 1979) == pytest.approx(336.85, rel=1e-6)


def test_a_year_that_is_there_twice_is_refused(tmp_path):
    path = tmp_path / "co2.csv"
    path.write_text("Year,Mean\n1979,336.85\n1980,338.9\n1979,336.85\n")

    with pytest.raises(SourceError, match="one value for each year; found more than one value for"):
        read(path)


def test_a_file_without_carbon_dioxide_says_what_it_holds(real_data):
    with pytest.raises(SourceError, match="'CO2' along time: expected it; found 'tanslope'"):
        read(real_data / "bhima_landuse_1km/tanslope_UB_1km.nc")


def test_the_result_is_a_cube_that_says_whose_it_is(real_data):
    ds = read(real_data / "co2/ssp245_emiss-constraints_rf.csv")

    assert schema.conform(ds).identical(ds)
    assert ds.attrs["license"] == "GPL-3.0"
    assert ds.attrs["references"] == "doi:10.5194/gmd-13-5175-2020"
    assert ds.co2.attrs["comment"] == "scenario ssp245"
    assert ppm(ds, 2100) == pytest.approx(602.78, abs=0.005)
