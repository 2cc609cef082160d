"""ESA CCI plant functional types: their shares at 1/120 degree."""

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
    | Conform(cci.plant_functional_types)
    | StoreToZarr(
        store_name="cci_pft.zarr",
        combine_dims=pattern.combine_dim_keys,
        target_chunks={"year": 1, "latitude": 600, "longitude": 600},
    )
)
