"""The synthetic world as an intake source, so that a catalog can hold it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import xarray as xr
from intake.readers.readers import BaseReader
from intake.source.base import DataSource, Schema

from .cube import REGION, YEARS, synthetic_cube


class SyntheticSource(DataSource):
    """A synthetic cube; the parameters are those of `synthetic_cube`."""

    name = "xlsbc_synthetic"
    version = "1"
    container = "xarray"
    partition_access = False

    def __init__(
        self,
        region: Sequence[float] = REGION,
        years: Sequence[int] = YEARS,
        seed: int = 0,
        gaps: bool = True,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(metadata=metadata)
        self._cube = partial(synthetic_cube, region=region, years=years, seed=seed, gaps=gaps)

    def read(self) -> xr.Dataset:
        """Return the cube in memory."""
        return self._cube()

    def to_dask(self) -> xr.Dataset:
        """Return the lazy cube, in tiles of 240 pixels and one year."""
        return self._cube(chunks={})

    read_chunked = to_dask

    def _get_schema(self) -> Schema:
        cube = self.to_dask()
        found = {
            "dims": {str(dim): size for dim, size in cube.sizes.items()},
            "data_vars": {str(name): list(cube[name].dims) for name in cube.data_vars},
        }
        return Schema(dtype=None, shape=None, npartitions=1, extra_metadata=found)

    def _get_partition(self, i: int) -> xr.Dataset:
        return self.read()

    def _close(self) -> None:
        """Nothing is open."""


class SyntheticReader(BaseReader):
    """A lazy synthetic cube, for catalogs of version 2; arguments as of `synthetic_cube`."""

    output_instance = "xarray:Dataset"
    imports = {"xlsbc"}

    def _read(self, **options: Any) -> xr.Dataset:
        return synthetic_cube(**{"chunks": {}, **options})
