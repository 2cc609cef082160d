"""Copernicus Global Land Service leaf area index: dekads of LAI on the grid of the product."""

import apache_beam as beam

from xlsbc.cube.forge import (
    Conform,
    OpenURLWithFSSpec,
    OpenWithXarray,
    StoreToZarr,
    input_pattern,
)
from xlsbc.cube.ingest import cgls

pattern = input_pattern("c_gls_LAI*.nc", select=cgls.latest)
recipe = (
    beam.Create(pattern.items())
    | OpenURLWithFSSpec()
    | OpenWithXarray(file_type=pattern.file_type)
    | Conform(cgls.leaf_area)
    | StoreToZarr(
        store_name="cgls_lai.zarr",
        combine_dims=pattern.combine_dim_keys,
        target_chunks={"time": 1, "latitude": 1960, "longitude": 2016},
    )
)
