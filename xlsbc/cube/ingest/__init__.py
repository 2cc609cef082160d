"""Providers' files to conformed cubes: plain xarray functions, lazy, that invent no value.

Each takes the folder that holds the providers' files, returns a conformed Dataset or a DataArray,
and raises one `SourceError` that names every file and variable it cannot use.
"""

from __future__ import annotations

import os
from functools import partial

import xarray as xr

from .co2 import co2_annual, co2_scenario
from .oetztal import oetztal
from .piave import piave
from .rhine import rhine
from .source import gather

__all__ = ["co2_annual", "co2_scenario", "oetztal", "piave", "real_cubes", "rhine"]


def real_cubes(source: str | os.PathLike[str]) -> dict[str, xr.Dataset]:
    """The cubes of real land that a folder of providers' files gives: ``rhine`` and ``oetztal``.

    Parameters
    ----------
    source
        Folder that holds ``rhine_wflow_1km/``, ``oetztal_era5_monthly/`` and ``co2/``.

    Returns
    -------
    dict of str to xarray.Dataset
        Conformed and lazy.

    Raises
    ------
    SourceError
        If any file of either is missing, damaged or holds something else: all problems at once.
    """
    cubes = gather(
        f"{source} does not hold the files that the real cubes are made of",
        [partial(rhine, source), partial(oetztal, source)],
    )
    return dict(zip(("rhine", "oetztal"), cubes, strict=True))
