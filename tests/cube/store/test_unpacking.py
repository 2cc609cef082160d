from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from xlsbc.cube.store.reading import open_cube
from xlsbc.cube.store.sources import source


def stored(path: Path, values: np.ndarray, **encoding: object) -> xr.DataArray:
    """What xarray decodes of packed numbers, lazily, as a conformed cube has it."""
    ds = xr.Dataset({"lai": (("time", "latitude", "longitude"), values)})
    ds.to_zarr(path, encoding={"lai": {"chunks": (2, 4, 4), **encoding}}, consolidated=False)
    return open_cube(str(path))["lai"].astype(np.float32)


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2"])
@pytest.mark.parametrize("scale", [2.0**-15, 2.0**-12, 1.0, 4.0])
def test_every_packed_number_is_what_xarray_makes_of_it(tmp_path, dtype, scale):
    limits = np.iinfo(dtype)
    numbers = np.linspace(limits.min, limits.max, 3 * 7 * 9).round().astype(dtype)
    numbers = numbers.reshape(3, 7, 9)
    missing = int(limits.max)
    field = stored(
        tmp_path / "c.zarr",
        np.where(numbers == missing, np.nan, numbers * scale),
        dtype=dtype,
        scale_factor=scale,
        _FillValue=missing,
    )
    found = source("lai", field.variable)
    assert found.unpacking is not None  # type: ignore[union-attr]
    box = (slice(0, 3), slice(1, 7), slice(2, 9))
    read = found.read(found.carry(box), box)
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, field[box].values)
    assert np.isnan(read).any()


@pytest.mark.parametrize(
    "encoding",
    [
        {"dtype": "i2", "scale_factor": 0.01, "_FillValue": -1},
        {"dtype": "i4", "scale_factor": 0.5, "_FillValue": -1},
        {"dtype": "i2", "scale_factor": 0.5, "add_offset": 3.0, "_FillValue": -1},
        {"dtype": "f4", "scale_factor": 0.5},
        {"dtype": "i2", "_FillValue": -1},
    ],
)
def test_other_packings_are_left_to_xarray_with_the_same_values(tmp_path, encoding):
    values = np.arange(3 * 7 * 9, dtype="f8").reshape(3, 7, 9) / 4
    field = stored(tmp_path / "c.zarr", values.round(), **encoding)
    found = source("lai", field.variable)
    assert found.unpacking is None  # type: ignore[union-attr]
    box = (slice(0, 3), slice(1, 7), slice(2, 9))
    np.testing.assert_array_equal(found.read(found.carry(box), box), field[box].values)
