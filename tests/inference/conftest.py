"""Land of which every place differs, off the lattice of tiles, cheap to make and to predict."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

from xlsbc.cube.legends import LC, LU, compatible
from xlsbc.cube.vocabulary import attributes

if TYPE_CHECKING:
    from xlsbc.emulator import Emulator

ROW, COLUMN = 5290, 22570
"""First pixel on the global lattice: 10 pixels into tiles of 24 and of 96, both ways."""

Cubes = Callable[..., xr.Dataset]


@pytest.fixture(scope="session")
def land() -> Cubes:
    """A factory of a conformed cube of random numbers: 60 x 70 pixels, two years of weather.

    Land use and land cover are margins of one table without impossible pairs, so that both can be
    given together.
    """

    def make(rows: int = 60, columns: int = 70, seed: int = 0) -> xr.Dataset:
        random = np.random.default_rng(seed)
        cells = [
            np.arange(5290 // 30 - 1, 5350 // 30 + 2),
            np.arange(22570 // 30 - 1, 22640 // 30 + 2),
        ]
        coarse = (len(cells[0]), len(cells[1]))
        joint = random.exponential(size=(2, 13, 14, rows, columns)) ** 3
        joint *= compatible(LU, LC)[:, :, None, None]
        joint /= joint.sum((1, 2), keepdims=True)
        totals = random.exponential(size=(2, 13, *coarse))
        months, steps = ("forcing_time", "forcing_latitude", "forcing_longitude"), (24, *coarse)
        fields = {
            "elevation": (("latitude", "longitude"), random.normal(800, 400, (rows, columns))),
            "clay_fraction": (("latitude", "longitude"), random.random((rows, columns))),
            "t2m": (months, random.normal(283, 8, steps)),
            "tp": (months, random.exponential(3e-5, steps)),
            "co2": (("year",), np.array([370e-6, 372e-6])),
            "lu_total": (
                ("year", "lu_class", "driver_latitude", "driver_longitude"),
                totals / totals.sum(1, keepdims=True),
            ),
            "lu_fraction": (("year", "lu_class", "latitude", "longitude"), joint.sum(2)),
            "lc_fraction": (("year", "lc_class", "latitude", "longitude"), joint.sum(1)),
            "lai": (("time", "latitude", "longitude"), 4 * random.random((24, rows, columns))),
        }
        time = pd.date_range("2000-01-01", periods=24, freq="MS")
        north = {"units": "degrees_north", "standard_name": "latitude"}
        east = {"units": "degrees_east", "standard_name": "longitude"}
        coords = {
            "latitude": ("latitude", 90 - (ROW + np.arange(rows) + 0.5) / 120, north),
            "longitude": ("longitude", (COLUMN + np.arange(columns) + 0.5) / 120 - 180, east),
            "time": time,
            "forcing_time": time.to_numpy(),
            "year": [2000, 2001],
            "lu_class": LU.coordinate("lu_class"),
            "lc_class": LC.coordinate("lc_class"),
        }
        for grid in ("forcing", "driver"):
            coords[f"{grid}_latitude"] = (f"{grid}_latitude", 90 - (cells[0] + 0.5) / 4, north)
            coords[f"{grid}_longitude"] = (f"{grid}_longitude", (cells[1] + 0.5) / 4 - 180, east)
        return xr.Dataset(
            {k: (d, v.astype("float32"), attributes(k)) for k, (d, v) in fields.items()},
            coords,
            {"title": "random land", "license": "CC0-1.0"},
        )

    return make


@pytest.fixture(scope="session")
def cube(land: Cubes) -> xr.Dataset:
    """The random land, in memory."""
    return land()


@pytest.fixture(scope="session")
def wild(untrained: Callable[..., Emulator]) -> Callable[..., Emulator]:
    """A factory of emulators of 24-pixel tiles whose every weight is random.

    Fresh heads make all pixels alike, and would hide an error of place.
    """

    def make(cube: xr.Dataset, *, seed: int = 0, tile: int = 24, **options: object) -> Emulator:
        both = ("lu_fraction", "lc_fraction")
        options = {"given": ((), ("lu_fraction",), ("lc_fraction",), both), **options}
        emulator = untrained(cube, tile=tile, **options)
        generator = torch.Generator().manual_seed(seed)
        for parameter in emulator.network.parameters():
            torch.nn.init.normal_(parameter, std=0.3, generator=generator)
        return emulator

    return make


@pytest.fixture(scope="session")
def emulator(wild: Callable[..., Emulator], cube: xr.Dataset) -> Emulator:
    """A wild emulator of the random land."""
    return wild(cube)


@pytest.fixture(scope="session")
def whole(cube: xr.Dataset, emulator: Emulator) -> xr.Dataset:
    """The prediction of 2001 for the random land, computed."""
    from xlsbc.inference.predict import predict

    return predict(cube, emulator, period=[2001], precision="float32").compute(
        scheduler="synchronous"
    )
