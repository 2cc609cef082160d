"""The Upper Bhima: land-use totals of 51 years, terrain and soils."""

import apache_beam as beam

from xlsbc.cube.forge import (
    Conform,
    OpenURLWithFSSpec,
    OpenWithXarray,
    StoreToZarr,
    input_pattern,
)
from xlsbc.cube.ingest import bhima

pattern = input_pattern("*_UB_1km.nc", "UBB_*.nc", "dem_*.map")
recipe = (
    beam.Create(pattern.items())
    | OpenURLWithFSSpec()
    | OpenWithXarray(file_type=pattern.file_type)
    | Conform(bhima.fields)
    | StoreToZarr(
        store_name="bhima.zarr",
        combine_dims=pattern.combine_dim_keys,
        target_chunks={},
    )
)
