"""LUH3: yearly totals of land-use states in cells of 0.25 degree."""

import apache_beam as beam

from xlsbc.cube.forge import (
    Conform,
    OpenURLWithFSSpec,
    OpenWithXarray,
    StoreToZarr,
    cube_options,
    input_pattern,
)
from xlsbc.cube.ingest import luh

pattern = input_pattern("*states*.nc", "*states*.nc4")
recipe = (
    beam.Create(pattern.items())
    | OpenURLWithFSSpec()
    | OpenWithXarray(file_type=pattern.file_type)
    | Conform(luh.states, {"period": cube_options()["period"]})
    | StoreToZarr(
        store_name="luh3.zarr",
        combine_dims=pattern.combine_dim_keys,
        target_chunks={"year": 8},
    )
)
