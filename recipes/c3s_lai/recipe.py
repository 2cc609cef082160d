"""Copernicus Climate Change Service leaf area index: dekads of LAI on the grid of the product."""

import apache_beam as beam

from xlsbc.cube.forge import (
    Conform,
    OpenURLWithFSSpec,
    OpenWithXarray,
    StoreToZarr,
    input_pattern,
)
from xlsbc.cube.ingest import c3s_lai

pattern = input_pattern("*.nc", "*.nc4")
recipe = (
    beam.Create(pattern.items())
    | OpenURLWithFSSpec()
    | OpenWithXarray(file_type=pattern.file_type)
    | Conform(c3s_lai.leaf_area)
    | StoreToZarr(
        store_name="c3s_lai.zarr",
        combine_dims=pattern.combine_dim_keys,
        target_chunks={"time": 1, "latitude": 2048, "longitude": 2048},
    )
)
