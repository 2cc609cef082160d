"""Atmospheric carbon dioxide, year by year: as measured, and as scenarios have it.

Files
-----
NOAA Global Monitoring Laboratory: annual and monthly means of the globe (from 1979) and of Mauna
Loa (from 1958), as NOAA publishes them (``#`` comments) and as the repository datasets/co2-ppm
holds them. -99.99, -9.99, -0.99 and -1 mean missing.
``<scenario>_emiss-constraints_rf.csv``: concentrations of the shared socioeconomic pathways
1745-2300, as the Hector carbon-cycle model holds them, from RCMIP (``;`` comments, one of which
holds the units).
netCDF of CMIP5 (``rcp26.nc4``: years since 1660, which xarray does not decode; 105 is 1765) and of
CMIP6 (input4MIPs ``..._gr1-GMNHSH_...nc``: the globe and its two halves; days since the year 0,
which calendars of CF do not have).

References
----------
Lan, X., Tans, P., Thoning, K. W.: Trends in globally-averaged CO2 determined from NOAA Global
Monitoring Laboratory measurements, doi:10.15138/9N0H-ZH07.
Meinshausen, M., et al. (2011): The RCP greenhouse gas concentrations and their extensions from 1765
to 2300. Climatic Change 109, 213-241, doi:10.1007/s10584-011-0156-z.
Meinshausen, M., et al. (2017): Historical greenhouse gas concentrations for climate modelling
(CMIP6). Geoscientific Model Development 10, 2057-2116, doi:10.5194/gmd-10-2057-2017.
Nicholls, Z., et al. (2020): Reduced Complexity Model Intercomparison Project Phase 1.
Geoscientific Model Development 13, 5175-5190, doi:10.5194/gmd-13-5175-2020.
"""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path

import numpy as np
import xarray as xr

from ...errors import SourceError, SourceWarning
from .. import schema, units, vocabulary
from . import raw
from .co2_tables import ANNUAL_LICENSE, Series, read_table
from .opening import open_source, source_of
from .source import FETCH_AGAIN, existing

__all__ = ["ANNUAL_LICENSE", "co2_annual", "co2_scenario", "mole_fraction"]

FOLDER = "co2"
ANNUAL = "co2-annmean-gl.csv"
SCENARIO = "{scenario}_emiss-constraints_rf.csv"

CMIP5_ATTRS = {
    "source": "CMIP5 recommended concentrations (RCP Concentration Calculation and Data Group)",
    "license": "GPL-3.0 (iiasa/CWatM-Otta-1km)",
    "references": "doi:10.1007/s10584-011-0156-z",
}
CMIP6_ATTRS = {
    "source": "input4MIPs GHGConcentrations, University of Melbourne",
    "license": "CC-BY-SA-4.0",
    "references": "doi:10.5194/gmd-10-2057-2017",
}

FIRST_YEAR = 850  # land use states begin there, and no cube is longer than they are
CALENDARS_PART = 12  # days by which a count from the year 0 may differ between calendars
YEAR_LENGTHS = {"noleap": 365, "365_day": 365, "all_leap": 366, "366_day": 366, "360_day": 360}
"""Days of each year in calendars of CF without leap years, or of nothing else."""
SINCE = re.compile(r"\s*(day|year)s?\s+since\s+(-?\d+)(?:-(\d+))?(?:-(\d+))?", re.IGNORECASE)


def mole_fraction(ds: xr.Dataset) -> xr.Dataset:
    """Mole fraction of carbon dioxide in air, (year), 1.

    Parameters
    ----------
    ds
        A table or a netCDF file, as `open_source` gives it. What kind of table it is, is told by
        its content. Monthly tables become annual means of the years that have all twelve months.

    Returns
    -------
    xarray.Dataset
        Conformed: ``co2``, in memory, float32; NaN in years that the file says are missing.
        ``comment`` says whether it is of the globe or of Mauna Loa.

    Raises
    ------
    SourceError
        If no concentrations are found in it, or they cannot be those of an atmosphere: 400 in a
        file that says 1.

    Warns
    -----
    SourceWarning
        If years were left out, or a file contradicts itself about which scenario it is.
    """
    series = read_table(ds) if "text" in ds else _from_netcdf(ds)
    years = series.years.astype(np.int64)
    if years.size == 0 or np.unique(years).size < years.size:
        again = ", ".join(map(str, np.unique(years[1:][np.diff(np.sort(years)) == 0])[:6]))
        found = f"more than one value for {again}" if again else "none"
        problem = f"{source_of(ds)}: expected one value for each year; found {found}"
        raise SourceError("the carbon dioxide of a year cannot be told", [problem])
    known = years >= FIRST_YEAR
    comment = series.comment
    if not known.all():
        comment += f"; {int((~known).sum())} years before {FIRST_YEAR} left out"
    da = xr.DataArray(
        (series.ppm * 1e-6).astype(np.float32)[known],
        coords={"year": years[known]},
        dims="year",
        attrs={**vocabulary.attributes("co2"), "comment": comment},
    ).sortby("year")
    attrs = {
        "title": "Atmospheric carbon dioxide",
        "summary": "Mole fraction of carbon dioxide in air, annual means.",
        **series.attrs,
        "history": "xlsbc.cube.ingest.co2.mole_fraction: annual means, ppm to 1",
        "comment": comment,
    }
    return raw.checked(schema.conform(xr.Dataset({"co2": da}, attrs=attrs)), source_of(ds))


def co2_annual(source: str | os.PathLike[str]) -> xr.DataArray:
    """Mole fraction of carbon dioxide in air, global annual means from 1979 on, (year), 1.

    Parameters
    ----------
    source
        Folder of the providers' files; holds ``co2/co2-annmean-gl.csv``.

    Returns
    -------
    xarray.DataArray
        ``co2``, in memory, float32; NaN where the file says missing (a number below 0).

    Raises
    ------
    SourceError
        If the file is missing or cannot be read as a table of years.
    """
    return _in_memory(existing(Path(source) / FOLDER / ANNUAL))


def co2_scenario(source: str | os.PathLike[str], scenario: str) -> xr.DataArray:
    """Mole fraction of carbon dioxide in air in a scenario, 1745-2300, (year), 1.

    Parameters
    ----------
    source
        Folder of the providers' files; holds ``co2/<scenario>_emiss-constraints_rf.csv``.
    scenario
        A shared socioeconomic pathway, such as ``"ssp245"``.

    Returns
    -------
    xarray.DataArray
        ``co2``, in memory, float32; NaN where the file says missing (a number below 0).

    Raises
    ------
    SourceError
        If the folder has no such scenario (the message lists those it has), or the file holds no
        concentrations in ppm.
    """
    folder = Path(source) / FOLDER
    file = folder / SCENARIO.format(scenario=scenario)
    if not file.is_file():
        held = [
            path.name.split("_")[0] for path in sorted(folder.glob(SCENARIO.format(scenario="*")))
        ]
        problem = (
            f"{file}: expected a scenario's table; found only {', '.join(held) or 'none'}; "
            "name one of these, or fetch the file"
        )
        raise SourceError(f"there is no scenario {scenario!r}", [problem])
    return _in_memory(file)


def _in_memory(file: Path) -> xr.DataArray:
    ds = mole_fraction(open_source(file))
    terms = {key: ds.attrs[key] for key in ("source", "license", "references", "comment")}
    return ds["co2"].assign_attrs(terms)


def _from_netcdf(ds: xr.Dataset) -> Series:
    cmip6, cmip5 = "mole_fraction_of_carbon_dioxide_in_air", "CO2"
    name = next((n for n in (cmip6, cmip5) if n in ds), None)
    file = source_of(ds)
    if name is None or "time" not in ds[name].dims or "time" not in ds.coords:
        held = ", ".join(map(repr, ds.data_vars)) or "no variables"
        problem = f"{file}, variable {cmip6!r} or {cmip5!r} along time: expected it; found {held}"
        raise SourceError("there is no carbon dioxide in it", [problem])
    da = raw.numbers(ds[name])
    if "sector" in da.dims:
        da = da.isel(sector=_global_sector(ds, file))
    # CMIP5 files have `unit`.
    da = da.assign_attrs(units=str(raw.attribute(da, "units", raw.attribute(da, "unit", ""))))
    ppm = units.convert(da, "1").values.astype(np.float64) * 1e6
    attrs = CMIP6_ATTRS if name == cmip6 else CMIP5_ATTRS
    comment = _scenario(ds, file) if name == cmip5 else str(ds.attrs.get("source_id", "CMIP6"))
    return Series(_years(ds["time"], file), ppm, attrs, f"global annual mean, {comment}")


def _global_sector(ds: xr.Dataset, file: str) -> int:
    ids = str(ds["sector"].attrs.get("ids", "")) if "sector" in ds.coords else ""
    code = re.search(r"(\d+):\s*Global", ids)
    place = np.flatnonzero(ds["sector"].values == int(code[1])) if code else np.array([])
    if place.size != 1:
        problem = (
            f"{file}, coordinate 'sector': expected an attribute ids that says which is Global; "
            f"found {ids or 'none'!r}; {FETCH_AGAIN}"
        )
        raise SourceError("the sector of the globe cannot be told", [problem])
    return int(place[0])


def _years(time: xr.DataArray, file: str) -> np.ndarray:
    """Calendar years of numbers since a date, in the calendar that has a year 0."""
    said = str(time.attrs.get("units", ""))
    since = re.match(
        r"\s*(day|year)s?\s+since\s+(-?\d+)(?:-(\d+))?(?:-(\d+))?", said, re.IGNORECASE
    )
    if since is None:
        problem = (
            f"{file}, coordinate 'time': expected days or years since a date; found {said!r}; "
            f"{FETCH_AGAIN}"
        )
        raise SourceError("the years cannot be told", [problem])
    values = time.values.astype(float)
    if since[1].lower() == "year":
        return np.floor(values + 1e-6).astype(np.int64) + int(since[2])
    month, day = int(since[3] or 1), int(since[4] or 1)
    length = YEAR_LENGTHS.get(str(time.attrs.get("calendar", "")).lower())
    if length is not None:
        # Years of one length: nothing has to be known of the calendar but that.
        into = (month - 1) * length / 12 + day - 1
        return np.floor((values + into) / length).astype(np.int64) + int(since[2])
    start = np.datetime64(f"{int(since[2]):04d}-{month:02d}-{day:02d}")
    dates = start + np.floor(values).astype(np.int64)
    years = dates.astype("datetime64[Y]")
    # Gregorian and Julian dates part by days before 1582: no matter in the middle of a year.
    inside = (dates - years.astype("datetime64[D]")).astype(int)
    if int(since[2]) < 1583 and (np.abs(inside - 182) > 182 - CALENDARS_PART).any():
        problem = (
            f"{file}, coordinate 'time': expected dates in the middle of years, counted from "
            f"{said!r}; found day {inside.min() + 1} of a year"
        )
        raise SourceError("the years cannot be told", [problem])
    return years.astype(np.int64) + 1970


def _scenario(ds: xr.Dataset, file: str) -> str:
    """Names of the scenario that a CMIP5 file gives itself."""
    said = {key: str(ds.attrs.get(key, "")) for key in ("RUN", "NOTE")}
    found = {key: re.search(r"RCP\d[.\d]*(?:PD)?", text) for key, text in said.items()}
    names = {key: match[0].rstrip(".") for key, match in found.items() if match}
    same = {name.replace("RCP3PD", "RCP2.6") for name in names.values()}
    if len(same) < 2:
        return f"scenario {same.pop()}" if same else "CMIP5"
    told = " and ".join(f"{name} ({key})" for key, name in names.items())
    text = f"the file calls its scenario {told}; it is kept as it comes"
    warnings.warn(f"{file}: {text}", SourceWarning, stacklevel=2)
    return text
