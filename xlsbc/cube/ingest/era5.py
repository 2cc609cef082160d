"""ERA5 and ERA5-Land: monthly means, days and hours of them, as forcing; and the mean year of one.

Files
-----
Monthly means of the Climate Data Store as netCDF of the old layout (packed int16, hours since 1900,
a dimension ``expver`` of the final and the preliminary months), of the new one (``valid_time`` or
``date``, ``number``, ``expver`` as text) and as GRIB; hourly data of the same three; daily data
with CMOR names; ARCO-ERA5, a Zarr store of hourly data on a global grid. Any region, any grid.

What a file does not say
------------------------
``tp`` in ``m`` and ``ssrd`` in ``J m-2`` are amounts of a period that no attribute names: a day in
monthly means, the hour before the stamp in hourly data. Months are told from hours by the times,
and by the step type where there is one. Hourly amounts of ERA5-Land are no amounts of an hour: they
grow from 00 UTC on.

References
----------
Hersbach, H., et al. (2020): The ERA5 global reanalysis. Quarterly Journal of the Royal
Meteorological Society 146, 1999-2049, doi:10.1002/qj.3803.
Munoz-Sabater, J., et al. (2021): ERA5-Land: a state-of-the-art global reanalysis dataset for land
applications. Earth System Science Data 13, 4349-4383, doi:10.5194/essd-13-4349-2021.
ECMWF: ERA5: data documentation, "Monthly means" and "Accumulations"; ERA5-Land: data documentation,
"Accumulations" (confluence.ecmwf.int).
Carver, R. W., and Merose, A. (2023): ARCO-ERA5: An Analysis-Ready Cloud-Optimized Reanalysis
Dataset. 22nd Conference on AI for Environmental Science, American Meteorological Society.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from ...errors import SourceError, SourceWarning
from .. import vocabulary
from . import cds, months, raw
from .ecmwf import (
    PARAMETERS,
    Step,
    days_between,
    has_unnamed_period,
    in_units,
    is_of_land,
    names_in,
    problems_of,
    times_of,
)
from .opening import source_of
from .source import Layer, open_netcdf

__all__ = ["arco", "daily", "hourly", "land_monthly", "mean_year", "monthly", "open_monthly"]

FOLDER = "oetztal_era5_monthly"
LAND_PERIOD, PERIOD = "1981-2018", "1979-2018"
LAND_FILES = {
    "t2m": f"{FOLDER}/sel_era5_land_monthly_t2m_{LAND_PERIOD}.nc",
    "tp": f"{FOLDER}/sel_era5_land_monthly_prcp_{LAND_PERIOD}.nc",
}
FILES = {
    "t2m": f"{FOLDER}/sel_era5_monthly_t2m_{PERIOD}.nc",
    "tp": f"{FOLDER}/sel_era5_monthly_prcp_{PERIOD}.nc",
}
LAYERS = {
    "t2m": Layer("t2m", "K", ("time", "latitude", "longitude")),
    "tp": Layer("tp", "m", ("time", "latitude", "longitude")),
}
# The files' "m" is m of water per day: ECMWF's monthly means of accumulations are daily totals
# (confluence.ecmwf.int, ERA5: data documentation, "Monthly means").
DAILY_TOTAL = {"units": "m day-1", "standard_name": "lwe_precipitation_rate"}


MOST_RAIN = 0.5 / 86.4
"""Above any monthly mean, kg m-2 s-1: the wettest month on record, Cherrapunji, July 1861, had
9.3 m in 31 days (Jennings 1950, Monthly Weather Review 78, 4-5). Numbers that are mm are above."""
LEAST_SUN, SUNNY = 0.5, 55.0
"""W m-2, below any monthly mean up to that latitude: at 55 degrees 45 W m-2 reach the top of the
atmosphere in December, and the darkest clouds let some per cent of them pass."""
MANY_RISES = 10  # hours; so often without a fall in the same day, chance is no reason
# Packed integers leave a little less than nothing of rain and of sun.
PACKING = 1e-5

CREDIT = "Contains modified Copernicus Climate Change Service information"
ATTRIBUTES = {
    "ERA5": {
        "title": "ERA5: climate at the surface",
        "source": f"ERA5 reanalysis, ECMWF, Copernicus Climate Data Store. {CREDIT}",
        "references": "doi:10.1002/qj.3803, doi:10.24381/cds.f17050d7, doi:10.24381/cds.adbb2d47",
        "license": "CC-BY-4.0",
    },
    "ERA5-Land": {
        "title": "ERA5-Land: climate at the surface",
        "source": f"ERA5-Land reanalysis, ECMWF, Copernicus Climate Data Store. {CREDIT}",
        "references": "doi:10.5194/essd-13-4349-2021, doi:10.24381/cds.68d2bb30",
        "license": "CC-BY-4.0",
    },
    "ARCO-ERA5": {
        "title": "ARCO-ERA5: climate at the surface",
        "source": f"ERA5 reanalysis, ECMWF, through ARCO-ERA5 (Google Research). {CREDIT}",
        "references": "doi:10.1002/qj.3803, github.com/google-research/arco-era5",
        "license": "CC-BY-4.0",
    },
}


def monthly(ds: xr.Dataset) -> xr.Dataset:
    """Monthly means of ERA5 as forcing.

    Parameters
    ----------
    ds
        As `open_source` gives it: netCDF of either layout of the Climate Data Store, or GRIB.

    Returns
    -------
    xarray.Dataset
        Those of t2m, d2m (K), tp (kg m-2 s-1), ssrd (W m-2), swvl1 (m3 m-3) and sd (m) that the
        file has, (forcing_time, forcing_latitude, forcing_longitude), stamped at the start of the
        month, NaN where missing. Lazy.

    Raises
    ------
    SourceError
        If there is none of them, if these are no monthly means, or units are missing or of another
        quantity; when computed, if values contradict their units.
    """
    return _forcing(ds, "month", "ERA5", "monthly")


def land_monthly(ds: xr.Dataset) -> xr.Dataset:
    """Monthly means of ERA5-Land as forcing; as `monthly`."""
    return _forcing(ds, "month", "ERA5-Land", "land_monthly")


def daily(ds: xr.Dataset) -> xr.Dataset:
    """Daily means of ERA5 as forcing, such as tas, pr and rsds under CMOR names.

    As `monthly`, stamped at the start of the day. Precipitation and radiation must be rates: the
    amount of a day and the mean amount of its hours look alike.
    """
    return _forcing(ds, "day", "ERA5", "daily")


def hourly(ds: xr.Dataset) -> xr.Dataset:
    """Monthly means of hourly ERA5, as forcing.

    Parameters
    ----------
    ds
        As `open_source` gives it: hourly data of ERA5; every third or sixth hour will do for what
        is no amount.

    Returns
    -------
    xarray.Dataset
        As `monthly`. Mean over all hours of the month that the stamps lie in; NaN where any of them
        is missing. Amounts are those of the hour before the stamp.

    Raises
    ------
    SourceError
        As `monthly`; if no month is complete; if amounts are not of an hour each.

    Warns
    -----
    SourceWarning
        If a month is not complete: it is left out, and ``comment`` says so.
    """
    return _forcing(ds, "hour", "ERA5", "hourly")


def arco(ds: xr.Dataset, period: Sequence[int] | None = None) -> xr.Dataset:
    """Monthly means of ARCO-ERA5, as forcing; as `hourly`.

    Times outside the store's own ``valid_time_start`` and ``valid_time_stop`` hold nothing and are
    left out, and so is what lies outside `period`, first and last year: of 85 years of hours even
    the names of the chunks are many.
    """
    first, last = ds.attrs.get("valid_time_start"), ds.attrs.get("valid_time_stop")
    spans = [(np.datetime64(first, "D"), np.datetime64(last, "D"))] if first and last else []
    if period is not None:
        ends = f"{period[0]:04d}-01-01", f"{period[1]:04d}-12-31"
        spans.append((np.datetime64(ends[0]), np.datetime64(ends[1])))
    if spans and "time" in ds.dims:
        where, encoding = source_of(ds), ds.encoding
        times = cds.read_times_and_degrees(ds[["time"]], where)["time"].values
        days = times.astype("datetime64[D]")
        inside = np.all([(days >= low) & (days <= high) for low, high in spans], axis=0)
        held = np.flatnonzero(inside)
        if not held.size:
            problem = f"{where}, 'time': expected hours of {period}; found none; correct the period"
            raise SourceError("the store has nothing to give", [problem])
        ds = ds.isel(time=slice(int(held[0]), int(held[-1]) + 1))
        ds.encoding = encoding
    return _forcing(ds, "hour", "ARCO-ERA5", "arco")


def open_monthly(source: str | os.PathLike[str], file: str, name: str) -> xr.DataArray:
    """A record of monthly means, (time, latitude, longitude), lazy; t2m in K, tp in kg m-2 s-1.

    Raises
    ------
    SourceError
        If the file is missing, damaged or holds something else.
    """
    layer = LAYERS[name]
    record = open_netcdf(Path(source) / file, [layer], chunks={})[layer.variable]
    record = record.assign_coords({dim: cds.decimal(record[dim].values) for dim in layer.dims[1:]})
    if name == "tp":
        record = record.assign_attrs(DAILY_TOTAL)
    return vocabulary.convert(record, vocabulary.VOCABULARY[name].units)


def mean_year(record: xr.DataArray) -> xr.DataArray:
    """Mean of each calendar month over the years, (month, latitude, longitude), lazy.

    Months 1 to 12; NaN where no year has a value.
    """
    return record.groupby("time.month").mean("time").reindex(month=np.arange(1, 13))


def _forcing(ds: xr.Dataset, step: Step, product: str, function: str) -> xr.Dataset:
    where = source_of(ds)
    names = names_in(ds)
    if not names:
        held = ", ".join(map(repr, ds.data_vars)) or "no variables"
        problem = f"{where}: expected one of {', '.join(PARAMETERS)}; found {held}"
        raise SourceError(f"the file holds no forcing of {product}", [problem])
    fields = {name: cds.final(raw.numbers(ds[found])) for name, found in names.items()}
    part = xr.Dataset(fields)
    part = part if step == "hour" else cds.at_starts(part, ds)
    part = cds.read_times_and_degrees(part, where)
    problems = [
        problem
        for name, da in part.data_vars.items()
        for problem in problems_of(da, step, f"{where}, variable {names[str(name)]!r}")
    ]
    if problems:
        raise SourceError(f"the file does not hold what is expected of {product}", problems)
    comments = _assumed(part, step, where)
    if product == "ERA5-Land" and not any(map(is_of_land, part.data_vars.values())):
        comments.append(f"{_file(where)}: not on the 0.1 degree grid of ERA5-Land; is it of it?")
    part = xr.Dataset({name: in_units(da, step) for name, da in part.data_vars.items()})
    attrs = {
        **ATTRIBUTES[product],
        "summary": f"{'Daily' if step == 'day' else 'Monthly'} means on the grid of the source.",
        "history": f"xlsbc.cube.ingest.era5.{function}: values in CF units, stamps at the start",
    }
    if step == "hour":
        hourly = part
        part, left_out = _means(part, where)
        if product == "ERA5":  # ARCO-ERA5 is one store, known to hold amounts of an hour
            part = _refuse_growing(part, hourly, where)
        comments += left_out
    if comments:
        attrs["comment"] = "; ".join(comments)
    for comment in comments:
        warnings.warn(comment, SourceWarning, stacklevel=3)
    return _checked(cds.conformed(part.assign_attrs(attrs), where), step, where)


def _means(part: xr.Dataset, where: str) -> tuple[xr.Dataset, list[str]]:
    """Means of the complete months of each field, and a sentence on what is left out."""
    means, problems = {}, []
    left_out: dict[str, list[str]] = {}
    for name, da in part.data_vars.items():
        dim, times = times_of(da) or ("time", np.array([], "datetime64[ns]"))
        hours = round((days_between(times) or 1 / 24) * 24)
        mean, short = months.month_means(da, str(dim), hours)
        if mean is None:
            problems.append(
                f"{where}, variable {name!r}: expected all steps of a month; found "
                f"{', '.join(short) or 'none'}; fetch the rest, a whole month in one file"
            )
        else:
            means[name] = mean
        for each in short:
            left_out.setdefault(each, []).append(str(name))
    if problems:
        raise SourceError("no month is complete", problems)
    told = [f"{each} ({', '.join(names)})" for each, names in left_out.items()]
    said = f"{_file(where)}: months that are not complete are left out: {', '.join(told)}"
    return xr.Dataset(means), [said] if told else []


def _refuse_growing(means: xr.Dataset, part: xr.Dataset, where: str) -> xr.Dataset:
    """The means, which raise when computed if amounts grow all day long, as in ERA5-Land.

    Its grid tells that file by file, but not where a single pixel was cut from it.
    """
    made = {}
    for name, da in part.data_vars.items():
        found, times = times_of(da) or ("time", np.array([], "datetime64[ns]"))
        dim = str(found)
        if name not in means or not PARAMETERS[str(name)].amount or times.size < 2:
            continue
        days = (times - np.timedelta64(1, "h")).astype("datetime64[D]")
        same = xr.DataArray(days[1:] == days[:-1], dims=dim)
        steps = da.drop_vars(dim).diff(dim).where(same)
        falls, rises = (steps < 0).sum(dim), (steps > 0).sum(dim)
        made[name] = xr.apply_ufunc(
            _growing,
            means[name],
            falls.drop_vars(list(falls.coords)),
            rises.drop_vars(list(rises.coords)),
            kwargs={"what": f"{where}, variable {name!r}"},
            dask="parallelized",
            output_dtypes=[means[name].dtype],
            keep_attrs="override",
        ).transpose(*means[name].dims)
    return means.assign(made)


def _growing(means: np.ndarray, falls: np.ndarray, rises: np.ndarray, what: str) -> np.ndarray:
    rising = rises >= MANY_RISES
    if (rising & (falls == 0)).sum() > rising.sum() / 2:
        problem = (
            f"{what}: expected amounts of an hour each; found amounts that grow from 00 UTC on and "
            "never fall within a day, as those of ERA5-Land; use its monthly means"
        )
        raise SourceError("values contradict their units", [problem])
    return means


def _assumed(part: xr.Dataset, step: Step, where: str) -> list[str]:
    """A sentence on amounts of which nothing but the function says that they are of a month."""
    held = part.data_vars.items()
    names = [str(n) for n, da in held if step == "month" and has_unnamed_period(da)]
    if not names:
        return []
    return [f"{_file(where)}: a single time, taken for the mean of a month: {', '.join(names)}"]


def _file(where: str) -> str:
    return where.rstrip("/").rpartition("/")[2]


def _checked(ds: xr.Dataset, step: Step, where: str) -> xr.Dataset:
    ds = raw.checked(ds, where, PACKING)
    if "ssrd" in ds and step != "day":
        ssrd = xr.apply_ufunc(
            _sun,
            ds["ssrd"],
            abs(ds["forcing_latitude"]) <= SUNNY,
            kwargs={"what": f"{where}, variable 'ssrd'"},
            dask="parallelized",
            output_dtypes=[np.float32],
            keep_attrs="override",
        )
        ds = ds.assign(ssrd=ssrd.transpose(*ds["ssrd"].dims))
    if "tp" in ds and step != "day":
        what = f"{where}, variable 'tp'"
        tp = xr.apply_ufunc(
            _rain,
            ds["tp"],
            kwargs={"what": what},
            dask="parallelized",
            output_dtypes=[np.float32],
            keep_attrs=True,
        )
        ds = ds.assign(tp=tp)
    return ds


def _sun(values: np.ndarray, sunny: np.ndarray, what: str) -> np.ndarray:
    found = np.where(sunny, values, np.nan)
    if np.fmin.reduce(found, axis=None, initial=np.inf) < LEAST_SUN:
        problem = (
            f"{what}: expected monthly means of {LEAST_SUN:g} W m-2 and more within {SUNNY:g} "
            f"degrees of the equator; found {np.nanmin(found):.2g}; the numbers are not in the "
            "units that the file states, perhaps W m-2 in place of J m-2"
        )
        raise SourceError("values contradict their units", [problem])
    return values


def _rain(values: np.ndarray, what: str) -> np.ndarray:
    most = np.fmax.reduce(values, axis=None, initial=0.0)
    if most > MOST_RAIN:
        problem = (
            f"{what}: expected monthly means up to {MOST_RAIN:.2g} kg m-2 s-1; found {most:.2g}; "
            "the numbers are not in the units that the file states, perhaps mm in place of m"
        )
        raise SourceError("values contradict their units", [problem])
    return values
