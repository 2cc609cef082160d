"""Text tables of carbon dioxide: NOAA's annual and monthly means, and scenarios of RCMIP.

Files
-----
As `xlsbc.cube.ingest.co2` says. The monthly tables of datasets/co2-ppm have fewer names than
columns, so that names say nothing there: the monthly mean is the first column after the decimal
date, which has to be that of the month in the row.
"""

from __future__ import annotations

import csv
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr

from ...errors import SourceError, SourceWarning
from .opening import source_of
from .source import FETCH_AGAIN

__all__ = ["ANNUAL_LICENSE", "Series", "read_table"]

SCENARIO_COLUMN = "CO2_constrain"
ANNUAL_LICENSE = "ODC-PDDL-1.0"
SCENARIO_LICENSE = "GPL-3.0"

GLOBAL = "annual mean of the global marine surface"
MAUNA_LOA = (
    "annual mean at Mauna Loa, 3397 m above the sea, which is not the globe: 1 to 2 ppm above its "
    "mean in recent years"
)
NOAA_ATTRS = {
    "source": "NOAA Global Monitoring Laboratory",
    "license": ANNUAL_LICENSE,
    "references": "doi:10.15138/9N0H-ZH07",
}
RCMIP_ATTRS = {
    "source": "RCMIP, through JGCRI/hector",
    "license": SCENARIO_LICENSE,
    "references": "doi:10.5194/gmd-13-5175-2020",
}

FIRST_GLOBAL = 1979  # NOAA's network covers the globe from then on


class Series(NamedTuple):
    """Years with their concentrations in ppm, and what is known of them."""

    years: np.ndarray
    ppm: np.ndarray
    attrs: dict[str, str]
    comment: str


def read_table(ds: xr.Dataset) -> Series:
    """Years and concentrations of a table; which kind it is, is told by its content.

    Raises
    ------
    SourceError
        If columns are missing, in another unit or in another order.

    Warns
    -----
    SourceWarning
        If years of a monthly table are left out, for they are not complete.
    """
    lines = [str(line) for line in ds["text"].values if str(line).strip()]
    comments = [line for line in lines if line[0] in "#;"]
    body = [line for line in lines if line[0] not in "#;"]
    comma = any("," in line for line in body[:2])
    rows = [
        [cell.strip() for cell in row]
        for row in (csv.reader(body) if comma else (line.split() for line in body))
    ]
    names = rows.pop(0) if rows and not re.match(r"-?\d", rows[0][0]) else []
    names = names or next((c[1:].split() for c in comments[::-1] if "year" in c.lower()), [])
    file = source_of(ds)
    if any(line[0] == ";" for line in comments):
        return _pathway(file, comments, names, rows)
    if rows and re.fullmatch(r"\d{4}-\d{2}", rows[0][0]):
        return _monthly(file, comments, [row[0].split("-") + row[1:] for row in rows])
    if [n.lower() for n in names[:2]] == ["year", "month"] or (rows and _is_month(rows[0])):
        return _monthly(file, comments, rows)
    years, ppm = _columns(file, names, rows, ("Year", "Mean"))
    # The column has no unit in the file: NOAA and datasets/co2-ppm document ppm.
    return Series(years, ppm, NOAA_ATTRS, MAUNA_LOA if _at_mauna_loa(comments, years) else GLOBAL)


def _pathway(
    file: str, comments: Sequence[str], names: Sequence[str], rows: Sequence[Sequence[str]]
) -> Series:
    stated = next((line for line in comments if "UNITS:" in line), "")
    units_of = dict(zip(names, (u.strip() for u in stated.split(",")), strict=False))
    unit = units_of.get(SCENARIO_COLUMN, "")
    if SCENARIO_COLUMN in names and unit != "ppm":
        problem = (
            f"{file}, column {SCENARIO_COLUMN!r}: expected ppm; found {unit!r} in the line of "
            f"units; {FETCH_AGAIN}"
        )
        raise SourceError(f"{Path(file).name} is in another unit", [problem])
    years, ppm = _columns(file, names, rows, ("Date", SCENARIO_COLUMN))
    # The comments name the scenario first: "; ssp126 from rcmip ...".
    named = re.search(r"ssp\d{3}", " ".join([*comments, Path(file).name]))
    return Series(years, ppm, RCMIP_ATTRS, f"scenario {named[0] if named else Path(file).stem}")


def _columns(
    file: str, names: Sequence[str], rows: Sequence[Sequence[str]], wanted: tuple[str, str]
) -> tuple[np.ndarray, np.ndarray]:
    lower = [name.lower() for name in names]
    absent = [column for column in wanted if column.lower() not in lower]
    if absent:
        problems = [
            f"{file}, column {column!r}: expected it; found only {', '.join(names) or 'no columns'}"
            f"; {FETCH_AGAIN}"
            for column in absent
        ]
        raise SourceError(f"{Path(file).name} does not hold what is expected of it", problems)
    columns = [lower.index(column.lower()) for column in wanted]
    table = _numbers(file, rows, columns, f"the columns {wanted[0]!r} and {wanted[1]!r}")
    return table[:, 0], np.where(table[:, 1] < 0, np.nan, table[:, 1])


def _numbers(
    file: str, rows: Sequence[Sequence[str]], columns: Sequence[int], what: str
) -> np.ndarray:
    try:
        table = [[float(row[column]) for column in columns] for row in rows]
    except (IndexError, ValueError) as error:
        problem = f"{file}: expected numbers in {what}; found others ({error}); {FETCH_AGAIN}"
        raise SourceError(f"{Path(file).name} cannot be read", [problem]) from error
    if rows and len(rows[-1]) < len(rows[0]):
        problem = (
            f"{file}: expected {len(rows[0])} cells in the last row; found {len(rows[-1])}, cut "
            f"off at {rows[-1][-1]!r}; {FETCH_AGAIN}"
        )
        raise SourceError(f"{Path(file).name} is cut off", [problem])
    return np.array(table, float).reshape(-1, len(columns))


def _is_month(row: Sequence[str]) -> bool:
    return len(row) > 3 and row[1].isdigit() and 1 <= int(row[1]) <= 12


def _monthly(file: str, comments: Sequence[str], rows: Sequence[Sequence[str]]) -> Series:
    """Annual means of a table of year, month, decimal date, monthly mean and further columns."""
    what = "year, month, decimal date and monthly mean"
    year, month, date, ppm = _numbers(file, rows, range(4), what).T
    middle = year + (month - 0.5) / 12
    if (np.abs(date - middle) > 0.05).any():
        row = int(np.argmax(np.abs(date - middle)))
        problem = (
            f"{file}: expected {what} in the first columns; found {', '.join(rows[row][:4])}, "
            f"whose date is not that of its month; {FETCH_AGAIN}"
        )
        raise SourceError(f"{Path(file).name} has other columns than NOAA's tables", [problem])
    known = ppm > 0
    years, place = np.unique(year[known], return_inverse=True)
    months = np.bincount(place)
    if (months > 12).any():
        problem = f"{file}: expected 12 months a year; found {months.max()}; {FETCH_AGAIN}"
        raise SourceError(f"{Path(file).name} holds months more than once", [problem])
    # NOAA's annual means are those of its monthly means, whatever the length of the month.
    means = np.bincount(place, ppm[known]) / months
    comment = MAUNA_LOA if _at_mauna_loa(comments, year) else GLOBAL
    whole = months == 12
    short = [
        f"{y:.0f} ({n} of 12 months)" for y, n in zip(years[~whole], months[~whole], strict=True)
    ]
    short += [f"{y:.0f} (0 of 12 months)" for y in np.setdiff1d(year, years)]
    if short:
        left_out = f"years that are not complete are left out: {', '.join(short)}"
        warnings.warn(f"{file}: {left_out}", SourceWarning, stacklevel=2)
        comment += f"; {left_out}"
    return Series(years[whole], means[whole], NOAA_ATTRS, comment)


def _at_mauna_loa(comments: Sequence[str], years: np.ndarray) -> bool:
    # Not all tables say which they are, but the record of the globe is the shorter one.
    said = "mauna loa" in " ".join(comments).lower()
    return said or bool(years.min(initial=FIRST_GLOBAL) < FIRST_GLOBAL)
