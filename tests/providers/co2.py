"""Carbon dioxide as input4MIPs (CMIP6) and NOAA publish it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import netCDF4
import numpy as np

CMIP6 = (
    "mole-fraction-of-carbon-dioxide-in-air_input4MIPs_GHGConcentrations_CMIP_UoM-CMIP-1-2-0_"
    "gr1-GMNHSH_{first:04d}-{last:04d}.nc"
)
NOAA_HEAD = """\
# --------------------------------------------------------------------
# USE OF NOAA GML DATA
#
# These data are made freely available to the public.
# Monthly mean CO2 constructed from daily mean values
# at {station}.
"""


def write(folder: Path, years: Sequence[int] = (1850, 1851, 1852)) -> list[Path]:
    """The CMIP6 file of consecutive years."""
    return [write_cmip6(folder, years)]


def write_cmip6(
    folder: Path,
    years: Sequence[int],
    *,
    since: int = 0,
    units: str = "1.e-6",
    ids: str = "0: Global; 1: Northern Hemisphere; 2: Southern Hemisphere",
    sectors: Sequence[int] = (0, 1, 2),
    ppm: float = 284.0,
) -> Path:
    """Globe, north, south: `ppm` and one more each year, +2 in the north, -2 in the south.

    Stamps are at noon in the middle of each year, counted in the calendar with a year 0.
    """
    path = folder / CMIP6.format(first=years[0], last=years[-1])
    with netCDF4.Dataset(path, "w") as nc:
        nc.source_id = "UoM-CMIP-1-2-0"
        nc.createDimension("time", None)
        nc.createDimension("sector", 3)
        time = nc.createVariable("time", "f8", ("time",))
        time.units, time.calendar = f"days since {since}-1-1", "gregorian"
        start = np.datetime64(f"{since:04d}-01-01")
        time[:] = [(np.datetime64(f"{y:04d}-07-02") - start).astype(int) + 0.5 for y in years]
        sector = nc.createVariable("sector", "i4", ("sector",))
        sector.long_name, sector.ids = "sector", ids
        sector[:] = sectors
        co2 = nc.createVariable(
            "mole_fraction_of_carbon_dioxide_in_air", "f4", ("time", "sector"), fill_value=1e20
        )
        co2.units, co2.missing_value = units, np.float32(1e20)
        offset = {0: 0.0, 1: 2.0, 2: -2.0}
        co2[:] = [[ppm + i + offset[s] for s in sectors] for i in range(len(years))]
    return path


def write_noaa_monthly(
    folder: Path,
    name: str = "co2_mm_mlo.csv",
    *,
    years: Sequence[int] = (1999, 2000),
    station: str = "Mauna Loa Observatory, Hawaii",
    months: int = 24,
    missing: Sequence[int] = (),
) -> Path:
    """Monthly means as NOAA publishes them, as .csv or .txt: 360, 361, ... ppm."""
    csv = name.endswith(".csv")
    lines = NOAA_HEAD.format(station=station).splitlines()
    if csv:
        lines.append("year,month,decimal date,average,deseasonalized,ndays,sdev,unc")
    else:
        lines.append("#            decimal       monthly    de-season  #days  st.dev  unc. of")
        lines.append("#             date        average     alized            /day    mon mean")
    for i in range(months):
        year, month = years[0] + i // 12, i % 12 + 1
        ppm = -99.99 if i in missing else 360.0 + i
        cells = [year, month, f"{year + (month - 0.5) / 12:.4f}", ppm, ppm - 1, -1, -9.99, -0.99]
        lines.append((",".join if csv else "   ".join)(map(str, cells)))
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return path
