"""A dataset made into a cube: canonical names, units, order and axes, lazily."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from ..errors import CubeError
from .axes import CLASS_DIMS, Axis
from .field import Field
from .legends import LU, apply_crosswalk, legend
from .plan import Plan, make_plan
from .vocabulary import VOCABULARY, attributes

__all__ = ["conform", "raise_problems"]

CONVENTIONS = "CF-1.12"
CLIMATOLOGY = "time: mean within years time: mean over years"

# What describes the numbers or the layout of the file, and is wrong about those of the cube.
_STALE = frozenset(
    """grid_mapping coordinates bounds climatology calendar ancillary_variables cell_measures
    valid_min valid_max valid_range actual_range stored_direction _unsigned _fillvalue missing_value
    scale_factor add_offset""".split()
)
_STALE_OF_MAP = frozenset("flag_values flag_meanings flag_masks flag_colors legend".split())


def conform(ds: xr.Dataset, mapping: Mapping[str, str] | None = None) -> xr.Dataset:
    """Return the cube that a dataset holds.

    Variables are found by CF, get their canonical names and units, dims in canonical order and
    float32 values; latitudes descend, longitudes ascend within -180..180, times are the starts of
    their steps. Coarse fields stay coarse, on coordinates of their own. Maps of class codes and
    separate land-use states become fractions. Variables without a role are left out.

    Parameters
    ----------
    ds
        Any dataset that holds variables of a cube.
    mapping
        Names of variables by canonical name, where CF does not tell or tells several.

    Returns
    -------
    xarray.Dataset
        A cube; lazy where ``ds`` is. A cube comes back as it is. NaN means missing.

    Raises
    ------
    CubeError
        With all problems at once, before anything is computed; a GridError, UnitsError or
        LegendError where they are all of that kind. A map with unknown class codes raises its
        LegendError when it is computed.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from xlsbc.cube.schema import conform
    >>> dem = xr.DataArray(
    ...     np.zeros((2, 3)),
    ...     dims=("lat", "lon"),
    ...     coords={"lat": [45.0, 46.0], "lon": [7.0, 8.0, 9.0]},
    ...     attrs={"standard_name": "surface_altitude", "units": "km"},
    ... )
    >>> cube = conform(xr.Dataset({"dem": dem}))
    >>> cube.elevation.units, cube.latitude.values.tolist()
    ('m', [46.0, 45.0])
    """
    plan = make_plan(ds, mapping)
    raise_problems("the dataset cannot be read as a cube", plan)
    variables = {name: _make(ds, field, plan) for name, field in plan.fields.items()}
    attrs = {k: v for k, v in ds.attrs.items() if not str(k).startswith("GRIB_")}
    return xr.Dataset(variables, attrs={**attrs, "Conventions": CONVENTIONS})


def raise_problems(summary: str, plan: Plan) -> None:
    """Raise the error of all problems of a plan, if it has any."""
    if not plan.problems:
        return
    kinds = {problem.error for problem in plan.problems}
    error = kinds.pop() if len(kinds) == 1 else CubeError
    raise error(summary, [problem.text for problem in plan.problems])


def _make(ds: xr.Dataset, field: Field, plan: Plan) -> xr.DataArray:
    source = field.source
    variable = source.variable
    if source.how == "states":
        da = _stack_states(ds, field)
    else:
        da = _read(ds, source.names[0], field)
        if source.how == "map":
            da = _fractions(da, field)
        else:
            da = _scale(da, field.conversions[0])
    if "lu_class" in variable.dims:
        da = _complete(da)
    for dim in variable.dims:
        if dim not in da.dims and dim in field.values:
            da = da.expand_dims(dim)
    da = da.transpose(*(d for d in variable.dims if d in da.dims))
    da = _place(da, field, plan)
    da = da.astype(np.float32) if da.dtype != np.float32 else da
    da.attrs = _attributes(ds[source.names[0]].attrs, field)
    da.encoding = {}
    return da.assign_coords(_coordinates(ds, field, plan, da))


def _read(ds: xr.Dataset, name: Hashable, field: Field) -> xr.DataArray:
    """One variable over canonical dims in canonical order, without coordinates."""
    variable = ds.variables[name]
    da = xr.DataArray(variable.copy(deep=False), name=name)
    if field.expver in da.dims:
        da = _complete_expver(da, field.expver)
    da = da.isel({dim: 0 for dim in field.squeeze if dim in da.dims})
    for dim, axis in field.axes.items():
        if axis.dim in da.dims:
            da = _reorder(da, axis)
            da = da.rename({axis.dim: dim})
    return da


def _reorder(da: xr.DataArray, axis: Axis) -> xr.DataArray:
    if axis.order is None:
        return da
    order, places = axis.order, np.arange(axis.size)
    if np.array_equal(order, places[::-1]):
        return da.isel({axis.dim: slice(None, None, -1)})
    if np.array_equal(order, np.roll(places, -order[0])):
        # Two slices: a Dask array keeps its chunks, where picking by index would shuffle them.
        return da.roll({axis.dim: -int(order[0])})
    return da.isel({axis.dim: order})


def _scale(da: xr.DataArray, conversion: tuple[float, float]) -> xr.DataArray:
    scale, offset = conversion
    if conversion == (1.0, 0.0):
        return da
    return da * scale + offset if offset else da * scale


def _complete_expver(da: xr.DataArray, dim: Hashable) -> xr.DataArray:
    # ERA5 (1) and its preliminary months (5): each is missing where the other is not.
    filled = da.isel({dim: 0})
    for i in range(1, da.sizes[dim]):
        filled = filled.fillna(da.isel({dim: i}))
    return filled


def _fractions(codes: xr.DataArray, field: Field) -> xr.DataArray:
    for key in ("_FillValue", "missing_value"):
        if key in codes.attrs:
            codes = codes.where(codes != codes.attrs[key])
    dim = field.source.variable.dims[1]
    leading = [d for d in ("year",) if d in codes.dims]
    codes = codes.transpose(*leading, "latitude", "longitude")
    fractions = apply_crosswalk(codes, f"{field.source.legend}-{CLASS_DIMS[dim]}", dim)
    return fractions.drop_vars(dim)


def _stack_states(ds: xr.Dataset, field: Field) -> xr.DataArray:
    held = {
        str(name): _scale(_read(ds, name, field), conversion)
        for name, conversion in zip(field.source.names, field.conversions, strict=True)
    }
    parts = [held[id] for id in LU.ids if id in held]
    # icwtr, without time, is broadcast along the years of the others.
    parts = list(xr.broadcast(*parts)) if len({p.dims for p in parts}) > 1 else parts
    return xr.concat([p.rename(None).drop_attrs() for p in parts], dim="lu_class", coords="minimal")


def _complete(da: xr.DataArray) -> xr.DataArray:
    """Land use with icwtr, which is what the states of LUH2 leave of the cell."""
    if da.sizes["lu_class"] == len(LU.ids):
        return da
    rest = (1.0 - da.sum("lu_class", skipna=False)).clip(min=0.0)
    return xr.concat([da, rest.expand_dims("lu_class")], dim="lu_class")


def _place(da: xr.DataArray, field: Field, plan: Plan) -> xr.DataArray:
    """The variable at the times that it shares with the others; NaN where it has none."""
    for dim in ("time", "forcing_time", "year"):
        if dim not in field.source.variable.dims:
            continue
        wanted = plan.coords[dim]
        if dim not in da.dims:
            da = da.expand_dims({dim: wanted.size})
            continue
        own = field.values[dim]
        if np.array_equal(own, wanted):
            continue
        da = da.assign_coords({dim: own})
        if np.unique(own).size < own.size:
            da = da.groupby(dim).mean()
        da = da.reindex({dim: wanted}).drop_vars(dim)
    return da


def _attributes(attrs: Mapping[Any, Any], field: Field) -> dict[str, Any]:
    source = field.source
    kept = _kept(attrs)
    if source.how == "map":
        kept = {k: v for k, v in kept.items() if k not in _STALE_OF_MAP}
    if source.variable.name in VOCABULARY:
        canonical = attributes(source.variable.name)
        # A state or a map has a long_name of its own, which does not tell what it becomes.
        if source.how == "plain" and "long_name" in kept:
            canonical.pop("long_name")
        kept = {**kept, **canonical}
    if field.climatology and "over years" not in str(kept.get("cell_methods", "")):
        kept["cell_methods"] = CLIMATOLOGY
    return kept


def _kept(attrs: Mapping[Any, Any]) -> dict[str, Any]:
    return {
        k: v
        for k, v in attrs.items()
        if not str(k).startswith("GRIB_") and str(k).lower() not in _STALE
    }


def _coordinates(
    ds: xr.Dataset, field: Field, plan: Plan, da: xr.DataArray
) -> dict[str, tuple[str, np.ndarray, dict[str, Any]]]:
    coordinates = {}
    for dim in map(str, da.dims):
        axis = field.axes.get(dim)
        kept = (
            _kept(ds.coords[axis.name].attrs) if axis is not None and axis.name is not None else {}
        )
        if dim in CLASS_DIMS:
            fixed: Any = legend(CLASS_DIMS[dim]).coordinate(dim)
            coordinates[dim] = (dim, fixed.to_numpy(), {**fixed.attrs, **kept})
            continue
        # Times have none: they are part of their encoding.
        if "since" in str(kept.get("units", "")) or dim in ("time", "forcing_time"):
            kept.pop("units", None)
        if axis is not None and axis.dim != dim:
            kept.pop("long_name", None)
        coordinates[dim] = (dim, plan.coords[dim], {**attributes(dim), **kept, **_identity(dim)})
    return coordinates


def _identity(dim: str) -> dict[str, str]:
    return {k: v for k, v in attributes(dim).items() if k != "long_name"}
