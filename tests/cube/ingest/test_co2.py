import numpy as np
import pytest

from xlsbc.cube.ingest import co2_annual, co2_scenario
from xlsbc.errors import SourceError

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


@pytest.mark.parametrize("text", ["", "\n\n", "Date,Average\n1979,336\n"])
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
