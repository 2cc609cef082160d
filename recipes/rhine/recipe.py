"""The Rhine: leaf area index, land cover, terrain and soils at 1/120 degree."""

import apache_beam as beam

from xlsbc.cube.forge import (
    Conform,
    OpenURLWithFSSpec,
    OpenWithXarray,
    StoreToZarr,
    input_pattern,
)
from xlsbc.cube.ingest.rhine import maps

pattern = input_pattern("rhine_*.nc")
recipe = (
    beam.Create(pattern.items())
    | OpenURLWithFSSpec()
    | OpenWithXarray(file_type=pattern.file_type)
    | Conform(maps)
    | StoreToZarr(
        store_name="rhine.zarr",
        combine_dims=pattern.combine_dim_keys,
        target_chunks={"time": 12, "latitude": 341, "longitude": 499},
    )
)
