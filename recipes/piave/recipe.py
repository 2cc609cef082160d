"""The Piave: leaf area index, land cover, terrain, soils and weather at 1/60 degree."""

import apache_beam as beam

from xlsbc.cube.forge import (
    Conform,
    OpenURLWithFSSpec,
    OpenWithXarray,
    StoreToZarr,
    input_pattern,
)
from xlsbc.cube.ingest.piave import fields

pattern = input_pattern("staticmaps*.nc", "inmaps*.nc")
recipe = (
    beam.Create(pattern.items())
    | OpenURLWithFSSpec()
    | OpenWithXarray(file_type=pattern.file_type)
    | Conform(fields)
    | StoreToZarr(
        store_name="piave.zarr",
        combine_dims=pattern.combine_dim_keys,
        target_chunks={"time": 12, "forcing_time": 90},
    )
)
