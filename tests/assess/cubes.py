"""Conformed cubes of noise, their splits, and one whose LAI follows a rule."""

from __future__ import annotations

import numpy as np
import xarray as xr

from xlsbc.cube.legends import LC, LU

CLIMATOLOGY = "time: mean within years time: mean over years"


def make_cube(seed=0, *, years=(2001, 2002), shape=(37, 64), west=8.0, climatology=False):
    """A conformed cube of noise: what a baseline learned is only what the test put in."""
    rng = np.random.default_rng(seed)
    start = np.datetime64(f"{years[0]}-01", "M")
    n_times = 12 if climatology else 12 * len(years)
    time = (start + np.arange(n_times)).astype("datetime64[ns]")
    lc = rng.dirichlet(np.full(14, 0.2), size=(len(years), *shape))
    lu = rng.dirichlet(np.full(13, 0.2), size=(len(years), *shape))
    coarse = (len(years), 13, 4, 5)
    total = rng.dirichlet(np.ones(13), size=(coarse[0], *coarse[2:]))
    fine, year = ("latitude", "longitude"), ("year",)
    cells = ("driver_latitude", "driver_longitude")
    forcing = ("forcing_time", "forcing_latitude", "forcing_longitude")
    ds = xr.Dataset(
        {
            "elevation": (fine, rng.uniform(0, 3000, size=shape)),
            "slope": (fine, rng.uniform(0, 40, size=shape)),
            "t2m": (forcing, rng.normal(285, 5, size=(n_times, 4, 5))),
            "co2": (year, 370e-6 + 2e-6 * np.arange(len(years))),
            "lu_total": (("year", "lu_class", *cells), np.moveaxis(total, -1, 1)),
            "lu_fraction": (("year", "lu_class", *fine), np.moveaxis(lu, -1, 1)),
            "lc_fraction": (("year", "lc_class", *fine), np.moveaxis(lc, -1, 1)),
            "lai": (("time", *fine), rng.gamma(2.0, size=(n_times, *shape))),
        },
        {
            "latitude": 47.0 - (np.arange(shape[0]) + 0.5) / 120,
            "longitude": west + (np.arange(shape[1]) + 0.5) / 120,
            "year": list(years),
            "time": time,
            "forcing_time": time,
            **{f"{name}_latitude": 47.125 - 0.25 * np.arange(4) for name in ("driver", "forcing")},
            **{
                f"{name}_longitude": west - 0.125 + 0.25 * np.arange(5)
                for name in ("driver", "forcing")
            },
            "lu_class": LU.coordinate("lu_class")["lu_class"],
            "lc_class": LC.coordinate("lc_class")["lc_class"],
        },
    )
    for name in ("lai", "t2m"):
        ds[name].attrs["units"] = {"lai": "m2 m-2", "t2m": "K"}[name]
        if climatology:
            ds[name].attrs["cell_methods"] = CLIMATOLOGY
    return ds.astype("float32")


def make_split(cube, *, columns=20):
    """The first columns held out, the others for training, with three columns between."""
    column = xr.zeros_like(cube["elevation"], dtype=int) + xr.DataArray(
        np.arange(cube.sizes["longitude"]), dims="longitude"
    )
    return column < columns, column >= columns + 3


def make_learnable(**kwargs):
    """LAI that follows from elevation, one class and the month's temperature of the cell."""
    cube = make_cube(**kwargs)
    rows = np.clip(np.arange(37) // 30 + 1, 0, 3)
    columns = np.clip(np.arange(64) // 30 + 1, 0, 4)
    warmth = cube["t2m"].values[:, rows][:, :, columns] - 280
    cover = np.repeat(cube["lc_fraction"].sel(lc_class="trees_ne").values, 12, axis=0)
    lai = 3 - cube["elevation"].values / 1500 + 2 * cover + 0.1 * warmth
    return cube.assign(lai=cube["lai"].copy(data=np.maximum(lai, 0).astype("float32")))
