"""ERA5, daily: daily means under CMOR names."""

import apache_beam as beam

from xlsbc.cube.forge import (
    Conform,
    OpenURLWithFSSpec,
    OpenWithXarray,
    StoreToZarr,
    input_pattern,
)
from xlsbc.cube.ingest import era5

pattern = input_pattern("*.nc", "*.nc4", "*.grib*", "*.grb*")
recipe = (
    beam.Create(pattern.items())
    | OpenURLWithFSSpec()
    | OpenWithXarray(file_type=pattern.file_type)
    | Conform(era5.daily)
    | StoreToZarr(
        store_name="era5_daily.zarr",
        combine_dims=pattern.combine_dim_keys,
        target_chunks={"forcing_time": 31},
    )
)
