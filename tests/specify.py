"""The specification of a cube in memory, with the moments of its inputs, in one call."""

from __future__ import annotations

import math
from typing import Any

import dask
import numpy as np
import xarray as xr

from xlsbc.emulator.sample import POSITION
from xlsbc.emulator.spec import InputVariable, Spec
from xlsbc.training.outline import LOGARITHMIC, inputs, outline

__all__ = ["moments", "specify"]


def specify(cube: xr.Dataset, train: xr.DataArray, **options: Any) -> Spec:
    """What an emulator of a cube is, with the moments of its inputs over the training pixels.

    Inputs that do not vary in training tell nothing and are left out.

    Parameters
    ----------
    cube
        Conformed; computes.
    train
        ``(latitude, longitude)``, True where a pixel trains.
    options
        Of `xlsbc.training.outline.outline`.

    Raises
    ------
    TrainingError
        With everything that stands against it.
    """
    spec = outline(cube, **options)
    names = [v.name for v in spec.static if v.name not in POSITION]
    static = moments(cube[names].where(train), tuple(v.name for v in spec.optional))
    if len(names) < len(spec.static):
        static += moments(places(train))
    return spec.model_copy(
        update={
            "static": static,
            "forcing": moments(cube[[v.name for v in spec.forcing]]),
            "scalars": moments(cube[[v.name for v in spec.scalars]]),
        }
    )


def moments(source: xr.Dataset, optional: tuple[str, ...] = ()) -> tuple[InputVariable, ...]:
    """Inputs with mean and standard deviation over all known values; those that vary."""
    logs = {n: np.log(source[n].where(source[n] > 0)) for n in source if n in LOGARITHMIC}
    values = source.assign(logs).astype(np.float64)
    mean, std = dask.compute(values.mean(), values.std())
    return tuple(
        variable.model_copy(
            update={"mean": float(mean[variable.name]), "std": float(std[variable.name])}
        )
        for variable in inputs(source, [str(name) for name in source], optional)
        if math.isfinite(float(std[variable.name]))
        and float(std[variable.name]) > 1e-12 * (1 + abs(float(mean[variable.name])))
    )


def places(train: xr.DataArray) -> xr.Dataset:
    """Latitude and longitude of the training pixels, as fields: a coordinate has no moments."""
    y, x = train.dims
    fields = {n: train[n].broadcast_like(train).where(train) for n in POSITION}
    return xr.Dataset(
        {
            n: (("y", "x"), field.transpose(y, x).to_numpy(), train[n].attrs)
            for n, field in fields.items()
        }
    )
