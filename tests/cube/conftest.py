"""Datasets as users have them: other names, other units, other orders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr

SIZES = {"time": 3, "year": 2, "ftime": 24, "lat": 4, "lon": 6, "flat": 2, "flon": 3}
VARIABLES: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "dem": (("lat", "lon"), {"standard_name": "surface_altitude", "units": "m"}),
    "greenness": (("time", "lat", "lon"), {"standard_name": "leaf_area_index", "units": "1"}),
    "temp": (("ftime", "flat", "flon"), {"standard_name": "air_temperature", "units": "K"}),
    "air": (
        ("year",),
        {"standard_name": "mole_fraction_of_carbon_dioxide_in_air", "units": "1"},
    ),
}
NORTH, EAST = {"units": "degrees_north"}, {"units": "degrees_east"}


@pytest.fixture
def raw() -> Callable[..., xr.Dataset]:
    """A factory of a small cube as users have it: not conformed, not square, no two values alike.

    ``raw("dem", "temp")`` takes variables of the four; keywords replace coordinates.
    """

    def make(*names: str, **coords: Any) -> xr.Dataset:
        axes: dict[str, Any] = {
            "lat": ("lat", np.array([46.75, 46.5, 46.25, 46.0]), NORTH),
            "lon": ("lon", 10 + 0.25 * np.arange(6), EAST),
            "flat": ("flat", np.array([47.0, 46.0]), NORTH),
            "flon": ("flon", np.array([10.0, 11.0, 12.0]), EAST),
            "time": np.array(["2001-01-01", "2001-02-01", "2001-03-01"], "datetime64[ns]"),
            "ftime": np.arange("2000-01", "2002-01", dtype="datetime64[M]").astype("M8[ns]"),
            "year": [2000, 2001],
            **coords,
        }
        chosen = {n: VARIABLES[n] for n in names or VARIABLES}
        ds = xr.Dataset(
            {
                name: (
                    dims,
                    1
                    + np.arange(np.prod([SIZES[d] for d in dims]))
                    .reshape([SIZES[d] for d in dims])
                    .astype("float32"),
                    attrs,
                )
                for name, (dims, attrs) in chosen.items()
            }
        )
        held = {n: c for n, c in axes.items() if n in ds.dims or n in coords}
        return ds.assign_coords(held)

    return make
