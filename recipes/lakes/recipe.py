"""Lakes: share of each pixel of 1/120 degree, and depth."""

import apache_beam as beam

from xlsbc.cube.forge import (
    Conform,
    OpenURLWithFSSpec,
    OpenWithXarray,
    StoreToZarr,
    input_pattern,
)
from xlsbc.cube.ingest import lakes

pattern = input_pattern("*.tif", "*.nc", "*.grib")
recipe = (
    beam.Create(pattern.items())
    | OpenURLWithFSSpec()
    | OpenWithXarray(file_type=pattern.file_type)
    | Conform(lakes.fraction)
    | StoreToZarr(
        store_name="lakes.zarr",
        combine_dims=pattern.combine_dim_keys,
        target_chunks={"latitude": 600, "longitude": 600},
    )
)
