"""MODIS leaf area index: composites of eight days at 1/120 degree."""

import apache_beam as beam

from xlsbc.cube.forge import (
    Conform,
    OpenURLWithFSSpec,
    OpenWithXarray,
    StoreToZarr,
    input_pattern,
)
from xlsbc.cube.ingest import modis

pattern = input_pattern("*.hdf", "*.nc")
recipe = (
    beam.Create(pattern.items())
    | OpenURLWithFSSpec()
    | OpenWithXarray(file_type=pattern.file_type)
    | Conform(modis.leaf_area)
    | StoreToZarr(
        store_name="modis_lai.zarr",
        combine_dims=pattern.combine_dim_keys,
        target_chunks={"time": 8, "latitude": 600, "longitude": 600},
    )
)
