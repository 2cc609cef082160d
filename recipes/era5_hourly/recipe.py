"""ERA5, hourly: monthly means of hourly data."""

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
    | Conform(era5.hourly)
    | StoreToZarr(
        store_name="era5_hourly.zarr",
        combine_dims=pattern.combine_dim_keys,
        target_chunks={"forcing_time": 12},
    )
)
