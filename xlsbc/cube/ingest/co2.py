"""Atmospheric carbon dioxide, year by year: as measured since 1979, and as scenarios have it.

Files
-----
``co2/co2-annmean-gl.csv``: NOAA's global annual means, as the repository datasets/co2-ppm holds
them. ``co2/<scenario>_emiss-constraints_rf.csv``: concentrations of the shared socioeconomic
pathways 1745-2300, as the Hector carbon-cycle model holds them, from RCMIP.

References
----------
Lan, X., Tans, P., Thoning, K. W.: Trends in globally-averaged CO2 determined from NOAA Global
Monitoring Laboratory measurements, doi:10.15138/9N0H-ZH07.
Nicholls, Z., et al. (2020): Reduced Complexity Model Intercomparison Project Phase 1.
Geoscientific Model Development 13, 5175-5190, doi:10.5194/gmd-13-5175-2020.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from ...errors import SourceError
from .. import vocabulary
from .source import FETCH_AGAIN, existing, unreadable

FOLDER = "co2"
ANNUAL = "co2-annmean-gl.csv"
SCENARIO = "{scenario}_emiss-constraints_rf.csv"
SCENARIO_COLUMN = "CO2_constrain"
ANNUAL_LICENSE = "ODC-PDDL-1.0"
SCENARIO_LICENSE = "GPL-3.0"


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
    file = existing(Path(source) / FOLDER / ANNUAL)
    names, *rows = _rows(file)
    # The column has no unit in the file: datasets/co2-ppm documents ppm.
    da = _series(file, names, rows, "Year", "Mean")
    return da.assign_attrs(
        source=f"NOAA Global Monitoring Laboratory, through datasets/co2-ppm ({ANNUAL})",
        license=ANNUAL_LICENSE,
        references="doi:10.15138/9N0H-ZH07",
        comment="annual mean of the global marine surface",
    )


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
    units, names, *rows = _rows(file)
    stated = dict(zip(names, units, strict=False)).get(SCENARIO_COLUMN, "")
    if SCENARIO_COLUMN in names and stated != "ppm":
        problem = (
            f"{file}, column {SCENARIO_COLUMN!r}: expected ppm; found {stated!r} in the line of "
            f"units; {FETCH_AGAIN}"
        )
        raise SourceError(f"{file.name} is in another unit", [problem])
    da = _series(file, names, rows, "Date", SCENARIO_COLUMN)
    return da.assign_attrs(
        source=f"RCMIP, through JGCRI/hector ({file.name})",
        license=SCENARIO_LICENSE,
        references="doi:10.5194/gmd-13-5175-2020",
        comment=f"scenario {scenario}",
    )


def _rows(file: Path) -> list[list[str]]:
    """The table's rows of stripped cells; comments are left out, but for the line of units."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(file, "a text table", error) from error
    lines = [line for line in text.splitlines() if _is_row(line)]
    return [[cell.strip() for cell in row] for row in csv.reader(lines)] or [[]]


def _is_row(line: str) -> bool:
    return bool(line.strip()) and (not line.startswith(";") or "UNITS:" in line)


def _series(
    file: Path, names: Sequence[str], rows: Sequence[Sequence[str]], year: str, value: str
) -> xr.DataArray:
    absent = [column for column in (year, value) if column not in names]
    if absent:
        problems = [
            f"{file}, column {column!r}: expected it; found only {', '.join(names) or 'no columns'}"
            f"; {FETCH_AGAIN}"
            for column in absent
        ]
        raise SourceError(f"{file.name} does not hold what is expected of it", problems)
    columns = names.index(year), names.index(value)
    try:
        table = np.array([[float(row[column]) for column in columns] for row in rows])
        years, ppm = table[:, 0].astype(np.int64), table[:, 1]
    except (IndexError, ValueError) as error:
        raise unreadable(file, f"numbers in the columns {year!r} and {value!r}", error) from error
    # NOAA's tables say missing with -9.99, -0.99 and -1.
    ppm = np.where(ppm < 0, np.nan, ppm)
    return xr.DataArray(
        (ppm * 1e-6).astype(np.float32),
        coords={"year": years},
        dims="year",
        name="co2",
        attrs=vocabulary.attributes("co2"),
    )
