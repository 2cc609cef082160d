"""Carbon dioxide: mole fraction in air, annual means."""

import apache_beam as beam

from xlsbc.cube.forge import (
    Conform,
    OpenURLWithFSSpec,
    OpenWithXarray,
    StoreToZarr,
    input_pattern,
)
from xlsbc.cube.ingest import co2

pattern = input_pattern("*.csv", "*.txt", "*.nc", "*.nc4")
recipe = (
    beam.Create(pattern.items())
    | OpenURLWithFSSpec()
    | OpenWithXarray(file_type=pattern.file_type)
    | Conform(co2.mole_fraction)
    | StoreToZarr(
        store_name="co2.zarr",
        combine_dims=pattern.combine_dim_keys,
        target_chunks={},
    )
)
