"""Soils: texture and carbon of SoilGrids at 1/120 degree, or a model's static maps."""

import apache_beam as beam

from xlsbc.cube.forge import (
    Conform,
    OpenURLWithFSSpec,
    OpenWithXarray,
    StoreToZarr,
    input_pattern,
)
from xlsbc.cube.ingest import soils

pattern = input_pattern("*.tif", "*.nc")
recipe = (
    beam.Create(pattern.items())
    | OpenURLWithFSSpec()
    | OpenWithXarray(file_type=pattern.file_type)
    | Conform(soils.properties)
    | StoreToZarr(
        store_name="soils.zarr",
        combine_dims=pattern.combine_dim_keys,
        target_chunks={"latitude": 600, "longitude": 600},
    )
)
