"""The cube: what the other recipes built, put together on the 1/120 degree grid."""

import apache_beam as beam

from xlsbc.cube import assemble
from xlsbc.cube.forge import (
    Conform,
    OpenURLWithFSSpec,
    OpenWithXarray,
    StoreToZarr,
    cube_options,
    input_pattern,
)

pattern = input_pattern("*.zarr")

recipe = (
    beam.Create(pattern.items())
    | OpenURLWithFSSpec()
    | OpenWithXarray(file_type=pattern.file_type)
    | Conform(assemble.part, cube_options())
    | StoreToZarr(
        store_name="cube.zarr",
        combine_dims=pattern.combine_dim_keys,
        # 512 x 512 pixels: what a patch is drawn from and what a map is put together of.
        target_chunks={
            "latitude": 512,
            "longitude": 512,
            "time": 12,
            "forcing_time": 12,
            "year": 1,
        },
    )
)
