"""ARCO-ERA5: monthly means of the hourly Zarr store."""

import apache_beam as beam

from xlsbc.cube.forge import (
    Conform,
    OpenURLWithFSSpec,
    OpenWithXarray,
    StoreToZarr,
    cube_options,
    input_pattern,
)
from xlsbc.cube.ingest import era5

pattern = input_pattern("*.zarr", "*.zarr-v3")
recipe = (
    beam.Create(pattern.items())
    | OpenURLWithFSSpec()
    | OpenWithXarray(file_type=pattern.file_type)
    | Conform(era5.arco, {"period": cube_options()["period"]})
    | StoreToZarr(
        store_name="arco_era5.zarr",
        combine_dims=pattern.combine_dim_keys,
        target_chunks={"forcing_time": 1},
    )
)
