"""Climate fields of IFS and ecLand: elevation, land, lakes, vegetation."""

import apache_beam as beam

from xlsbc.cube.forge import (
    Conform,
    OpenURLWithFSSpec,
    OpenWithXarray,
    StoreToZarr,
    input_pattern,
)
from xlsbc.cube.ingest import ecland

pattern = input_pattern("*.nc", "*.nc4", "*.grib*", "*.grb*")
recipe = (
    beam.Create(pattern.items())
    | OpenURLWithFSSpec()
    | OpenWithXarray(file_type=pattern.file_type)
    | Conform(ecland.climate_fields)
    | StoreToZarr(
        store_name="ifs_climate.zarr",
        combine_dims=pattern.combine_dim_keys,
        target_chunks={"forcing_time": 12},
    )
)
