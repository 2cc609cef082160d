"""Jumps of the leaf area in time.

Leaves come within weeks and a harvest takes them in one, but no canopy is gone for one month and
back in the next: such a spike is noise, of a cloud or of a network.

References
----------
Jonsson & Eklundh (2004): TIMESAT, a program for analyzing time-series of satellite sensor data.
Computers & Geosciences 30, 833-845, section 3 (a spike differs from both of its neighbours).
"""

from __future__ import annotations

import pandas as pd
import xarray as xr

from .rule import Rule

SPIKE = 2.0
"""Leaf area by which a month may differ from both of its neighbours, m2 m-2; chosen here: a quarter
of the largest bound of any class."""

SPIKES = 0.01
"""Share of the area that may have them, 1; chosen here."""

_GAP = pd.Timedelta(days=45)  # steps of a month or less that follow each other


def steps(lai: xr.DataArray) -> xr.DataArray:
    """Absolute change since the step before, m2 m-2, float64; NaN after a gap in time.

    ``(time, ...)`` without the first time.
    """
    return abs(_changes(lai))


def spikes(product: xr.Dataset) -> list[xr.DataArray]:
    """By how much a step stands above or below both of its neighbours, m2 m-2."""
    if "lai" not in product or "time" not in product.indexes or product.sizes["time"] < 3:
        return []
    change = _changes(product["lai"])
    rise, fall = change.isel(time=slice(None, -1)), change.isel(time=slice(1, None))
    rise = rise.assign_coords(time=fall["time"])
    # Up and down, or down and up: as far as the smaller of the two.
    height = xr.where(abs(rise) < abs(fall), abs(rise), abs(fall))
    return [height.where((rise * fall < 0) | rise.isnull() | fall.isnull(), 0.0)]


def _changes(lai: xr.DataArray) -> xr.DataArray:
    lai = lai.astype("float64")
    later = lai.isel(time=slice(1, None))
    before = lai.isel(time=slice(None, -1)).assign_coords(time=later["time"])
    times = lai.indexes["time"]
    near = xr.DataArray(times[1:] - times[:-1] <= _GAP, dims="time")
    return (later - before).where(near)


RULES = (
    Rule(
        "lai_spikes",
        "Area whose leaf area leaps for one step and back",
        spikes,
        "share",
        SPIKES,
        SPIKE,
        law=False,
    ),
)
