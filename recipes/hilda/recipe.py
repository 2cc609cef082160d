"""HILDA+: shares of land-use states at 1/120 degree."""

import apache_beam as beam

from xlsbc.cube.forge import (
    Conform,
    OpenURLWithFSSpec,
    OpenWithXarray,
    StoreToZarr,
    input_pattern,
)
from xlsbc.cube.ingest import hilda

pattern = input_pattern("*states*.nc", "*states*.tif")
recipe = (
    beam.Create(pattern.items())
    | OpenURLWithFSSpec()
    | OpenWithXarray(file_type=pattern.file_type)
    | Conform(hilda.land_use)
    | StoreToZarr(
        store_name="hilda.zarr",
        combine_dims=pattern.combine_dim_keys,
        target_chunks={"year": 1, "latitude": 600, "longitude": 600},
    )
)
