"""ESA CCI and C3S land cover: shares of plant functional types at 1/120 degree."""

import apache_beam as beam

from xlsbc.cube.forge import (
    Conform,
    OpenURLWithFSSpec,
    OpenWithXarray,
    StoreToZarr,
    input_pattern,
)
from xlsbc.cube.ingest import cci

pattern = input_pattern("*.nc", "*.nc4")
recipe = (
    beam.Create(pattern.items())
    | OpenURLWithFSSpec()
    | OpenWithXarray(file_type=pattern.file_type)
    | Conform(cci.land_cover)
    | StoreToZarr(
        store_name="cci_land_cover.zarr",
        combine_dims=pattern.combine_dim_keys,
        target_chunks={"year": 1, "latitude": 600, "longitude": 600},
    )
)
