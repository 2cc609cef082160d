"""Monthly means of ERA5 and ERA5-Land, and the mean year of them.

Files
-----
``oetztal_era5_monthly/sel_era5_monthly_{t2m,prcp}_1979-2018.nc`` (0.25 degree) and
``sel_era5_land_monthly_{t2m,prcp}_1981-2018.nc`` (0.1 degree), as OGGM's sample data hold them.

References
----------
Hersbach, H., et al. (2020): The ERA5 global reanalysis. Quarterly Journal of the Royal
Meteorological Society 146, 1999-2049, doi:10.1002/qj.3803.
Munoz-Sabater, J., et al. (2021): ERA5-Land: a state-of-the-art global reanalysis dataset for land
applications. Earth System Science Data 13, 4349-4383, doi:10.5194/essd-13-4349-2021.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import xarray as xr

from .. import vocabulary
from .source import Layer, open_netcdf

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


def open_monthly(source: str | os.PathLike[str], file: str, name: str) -> xr.DataArray:
    """A record of monthly means, (time, latitude, longitude), lazy; t2m in K, tp in kg m-2 s-1.

    Raises
    ------
    SourceError
        If the file is missing, damaged or holds something else.
    """
    layer = LAYERS[name]
    record = open_netcdf(Path(source) / file, [layer], chunks={})[layer.variable]
    # Stored as float32, where 10.6 is 10.600000381.
    axes = {dim: record[dim].values.astype(np.float64).round(4) for dim in layer.dims[1:]}
    record = record.assign_coords(axes)
    if name == "tp":
        record = record.assign_attrs(DAILY_TOTAL)
    return vocabulary.convert(record, vocabulary.VOCABULARY[name].units)


def mean_year(record: xr.DataArray) -> xr.DataArray:
    """Mean of each calendar month over the years, (month, latitude, longitude), lazy.

    Months 1 to 12; NaN where no year has a value.
    """
    return record.groupby("time.month").mean("time").reindex(month=np.arange(1, 13))
