"""A prediction as an intake source: an entry of a catalog that is computed when it is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import xarray as xr
from intake.readers.readers import BaseReader
from intake.source.base import DataSource, Schema

from xlsbc.cube.store.reading import open_cube
from xlsbc.errors import EmulatorError

__all__ = ["EmulatedReader", "EmulatedSource", "emulated"]


def emulated(
    cube: str,
    emulator: str,
    given: Sequence[str] = (),
    targets: Sequence[str] = (),
    period: Sequence[int] = (),
) -> xr.Dataset:
    """Prediction from the cube at a URL by the emulator at another; lazy.

    Parameters
    ----------
    cube, emulator
        URLs of a Zarr cube and of an emulator.
    given, targets
        As of `xlsbc.inference.predict.predict`; empty for its defaults.
    period
        First and last calendar year, both included, or one year; empty for all.

    Raises
    ------
    CubeError
        If there is no cube.
    EmulatorError
        If there is no emulator, if it does not fit, or if the period is none.
    """
    from xlsbc.inference.predict import predict

    years = [int(year) for year in period]
    if len(years) > 2 or years != sorted(years):
        raise EmulatorError(f"period should be the first and the last year; found {years}")
    return predict(
        open_cube(cube),
        emulator,
        given=tuple(given) or None,
        targets=tuple(targets) or None,
        period=range(years[0], years[-1] + 1) if years else None,
    )


class EmulatedSource(DataSource):
    """A prediction, for catalogs of version 1; the parameters are those of `emulated`."""

    name = "xlsbc_emulated"
    version = "1"
    container = "xarray"
    partition_access = False

    def __init__(
        self,
        cube: str,
        emulator: str,
        given: Sequence[str] = (),
        targets: Sequence[str] = (),
        period: Sequence[int] = (),
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(metadata=metadata)
        self._asked = (cube, emulator, given, targets, period)

    def to_dask(self) -> xr.Dataset:
        """Return the lazy prediction: its chunks are computed when they are asked for."""
        return emulated(*self._asked)

    # A continent does not fit into memory: reading is lazy as well.
    read = read_chunked = to_dask

    def _get_schema(self) -> Schema:
        ds = self.to_dask()
        found = {
            "dims": {str(dim): size for dim, size in ds.sizes.items()},
            "data_vars": {str(name): list(ds[name].dims) for name in ds.data_vars},
        }
        return Schema(dtype=None, shape=None, npartitions=1, extra_metadata=found)

    def _get_partition(self, i: int) -> xr.Dataset:
        return self.to_dask()

    def _close(self) -> None:
        """Nothing is open."""


class EmulatedReader(BaseReader):
    """A prediction, for catalogs of version 2; the arguments are those of `emulated`."""

    output_instance = "xarray:Dataset"
    imports = {"xlsbc"}

    def _read(self, **options: Any) -> xr.Dataset:
        return emulated(**options)
