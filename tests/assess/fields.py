"""Random leaf areas, land covers and weights on one small grid, with gaps."""

from __future__ import annotations

import numpy as np
import xarray as xr

from xlsbc.cube.legends import LC

SHAPE = (5, 9)


def make_coords():
    return {
        "latitude": 47.0 - np.arange(SHAPE[0]) / 120,
        "longitude": 8.0 + np.arange(SHAPE[1]) / 120,
    }


def make_lai(seed, n_times=7, *, gaps=0.2):
    rng = np.random.default_rng(seed)
    values = rng.gamma(2.0, size=(n_times, *SHAPE)).astype("float32")
    values[rng.uniform(size=values.shape) < gaps] = np.nan
    time = np.datetime64("2001-01", "M") + np.arange(n_times)
    return xr.DataArray(
        values,
        coords={"time": time.astype("datetime64[ns]"), **make_coords()},
        dims=("time", "latitude", "longitude"),
        name="lai",
    )


def make_fractions(seed, n_years=3, n_classes=6, *, gaps=0.1):
    rng = np.random.default_rng(seed)
    values = rng.dirichlet(np.full(n_classes, 0.4), size=(n_years, *SHAPE)).astype("float32")
    values[rng.uniform(size=values.shape[:-1]) < gaps] = np.nan
    return xr.DataArray(
        np.moveaxis(values, -1, 1),
        coords={
            "year": np.arange(2001, 2001 + n_years),
            "lc_class": LC.coordinate("lc_class")["lc_class"][:n_classes],
            **make_coords(),
        },
        dims=("year", "lc_class", "latitude", "longitude"),
        name="lc_fraction",
    )


def make_weight():
    """Area that falls with the row, and two columns masked out."""
    coords = make_coords()
    mask = np.ones(SHAPE, dtype=bool)
    mask[:, [2, 7]] = False
    area = np.linspace(3.0, 1.0, SHAPE[0])[:, None]
    return xr.DataArray(area * mask, coords=coords, dims=("latitude", "longitude"))
