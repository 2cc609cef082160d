"""Elevation models: mean elevation and mean slope at 1/120 degree."""

import apache_beam as beam

from xlsbc.cube.forge import (
    Conform,
    OpenURLWithFSSpec,
    OpenWithXarray,
    StoreToZarr,
    input_pattern,
)
from xlsbc.cube.ingest import terrain

pattern = input_pattern("*.tif", "*.tiff", "*.map")
recipe = (
    beam.Create(pattern.items())
    | OpenURLWithFSSpec()
    | OpenWithXarray(file_type=pattern.file_type)
    | Conform(terrain.elevation)
    | StoreToZarr(
        store_name="elevation.zarr",
        combine_dims=pattern.combine_dim_keys,
        target_chunks={"latitude": 600, "longitude": 600},
    )
)
