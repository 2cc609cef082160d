"""How one variable of the cube is made of one of a dataset, and what stands against it.

Attributes and coordinates are read; no data variable is touched.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr

from ..errors import LegendError, UnitsError
from .axes import CLASS_DIMS, Axis, Problem, listed, read_scalar_time
from .legends import CROSSWALKS, LU
from .roles import STATES, Source
from .times import NOMINAL_YEAR, start_of_step
from .units import conversion

__all__ = ["Field", "is_climatology", "plan_field"]

KINDS: dict[str, tuple[str, ...]] = {
    **{f"{grid}latitude": ("latitude",) for grid in ("", "forcing_", "driver_")},
    **{f"{grid}longitude": ("longitude",) for grid in ("", "forcing_", "driver_")},
    **dict.fromkeys(("time", "forcing_time", "year"), ("time", "month", "year")),
    **dict.fromkeys(CLASS_DIMS, ("class",)),
}
PACKING = ("scale_factor", "add_offset", "_FillValue", "missing_value")


@dataclass(frozen=True, eq=False)
class Field:
    """How one variable of the cube is made.

    Parameters
    ----------
    source
        Where it comes from.
    axes
        By canonical dim, where the source has the dimension.
    values
        By canonical dim: the coordinate in canonical order. Years may repeat for co2: they are
        averaged.
    squeeze
        Dimensions of length 1 that a cube has no use for.
    expver
        Dimension over which ERA5 and its preliminary months complete each other.
    conversions
        Scale and offset for each variable of the source.
    climatology
        Whether the time axis is the months of no year in particular.
    """

    source: Source
    axes: dict[str, Axis]
    values: dict[str, np.ndarray]
    squeeze: tuple[Hashable, ...]
    expver: Hashable | None
    conversions: tuple[tuple[float, float], ...]
    climatology: bool


def is_climatology(da: xr.DataArray) -> bool:
    """Whether a variable is a mean year by its cell_methods (CF, section 7.4)."""
    return "over years" in str(da.attrs.get("cell_methods", ""))


def plan_field(
    ds: xr.Dataset, source: Source, axes: Mapping[Hashable, Axis], problems: list[Problem]
) -> Field | None:
    """Plan of one variable; None where there are problems, which are appended."""
    da = shape_of(ds, source)
    before = len(problems)
    problems += _state_problems(ds, source)
    problems += [p for name in source.names for p in _value_problems(ds[name], source)]
    conversions = tuple(_convert(ds[name], source, problems) for name in source.names)
    mine = _match(da, source, axes, problems)
    values = {
        dim: found
        for dim in source.variable.dims
        if (found := _values(da, source, dim, mine.get(dim), problems)) is not None
    }
    used = {axis.dim for axis in mine.values()}
    rest = [dim for dim in da.dims if dim not in used]
    expver = next((d for d in rest if axes[d].kind == "expver" and da.sizes[d] > 1), None)
    # Dimensions that nothing is known of are told already where something is wanting.
    needed = {d for d in source.variable.dims if source.how == "plain" or d not in CLASS_DIMS}
    wanting = (
        needed - mine.keys() - values.keys() - {"year" if source.variable.name == "co2" else ""}
    )
    told = ("other", "projected") if wanting else ()
    for dim in rest:
        if da.sizes[dim] > 1 and dim != expver and axes[dim].kind not in told:
            problems.append(_stray(source, dim, axes[dim]))
    if len(problems) > before:
        return None
    times = [a for d, a in mine.items() if KINDS[d] == KINDS["time"]]
    climatology = is_climatology(da) or any(axis.kind == "month" for axis in times)
    squeeze = tuple(dim for dim in rest if dim != expver)
    return Field(source, mine, values, squeeze, expver, conversions, climatology)


def shape_of(ds: xr.Dataset, source: Source) -> xr.DataArray:
    """Variable that has the dims of the source; icwtr of LUH2 has no time."""
    return ds[next((n for n in source.names if n in STATES), source.names[0])]


def _state_problems(ds: xr.Dataset, source: Source) -> list[Problem]:
    if source.how != "states":
        return []
    name, held = source.variable.name, list(map(str, source.names))
    texts = []
    if absent := [id for id in STATES if id not in held]:
        texts.append(f"{name!r} lacks the land-use states {listed(absent)}; add them")
    if unknown := [id for id in held if id not in LU.ids]:
        texts.append(f"{name!r} has no land-use states {listed(unknown)}; leave them out")
    dims = shape_of(ds, source).dims
    if odd := [n for n in held if n in STATES and set(ds[n].dims) != set(dims)]:
        texts.append(f"{name!r} must have all states over {dims}; {listed(odd)} are not")
    return [Problem(text, LegendError) for text in texts]


def _value_problems(da: xr.DataArray, source: Source) -> list[Problem]:
    problems = []
    if da.dtype.kind not in "fiub":
        problems.append(Problem(f"{_who(source)} must be numbers; {da.name!r} is {da.dtype}"))
    # A map keeps its fill value as a code, and conform makes it missing; numbers would be scaled.
    packed = [k for k in (PACKING[:2] if source.how == "map" else PACKING) if k in da.attrs]
    if packed:
        problems.append(
            Problem(
                f"{da.name!r} is still packed (attributes {listed(packed)}); open it with "
                "mask_and_scale=True, or use xr.decode_cf"
            )
        )
    if source.how == "map" and source.legend is not None:
        target = CLASS_DIMS[source.variable.dims[1]]
        if source.legend != target and f"{source.legend}-{target}" not in CROSSWALKS:
            text = f"{da.name!r} is in legend {source.legend!r}, which cannot become {target!r}"
            problems.append(Problem(f"{text}; there are {', '.join(CROSSWALKS)}", LegendError))
    return problems


def _convert(da: xr.DataArray, source: Source, problems: list[Problem]) -> tuple[float, float]:
    variable = source.variable
    if source.how == "map" or not variable.units:
        return 1.0, 0.0
    named = da.variable.attrs | {"standard_name": variable.standard_name}
    try:
        stand_in = xr.DataArray(0.0, name=da.name, attrs=named)
        return conversion(stand_in, variable.units)
    except UnitsError as error:
        problems.append(Problem(f"{_who(source)}: {error}", UnitsError))
        return 1.0, 0.0


def _match(
    da: xr.DataArray, source: Source, axes: Mapping[Hashable, Axis], problems: list[Problem]
) -> dict[str, Axis]:
    """Axes of one variable by canonical dim."""
    found: dict[str, Axis] = {}
    for dim in source.variable.dims:
        fits = [axes[d] for d in da.dims if axes[d].kind in KINDS[dim]]
        if fits:
            found[dim] = fits[0]
            problems += fits[0].problems
            if len(fits) > 1:
                shown = listed([axis.dim for axis in fits])
                problems.append(Problem(f"{_who(source)} has {shown} for one {dim}; select one"))
    bent = [axes[d] for d in da.dims if axes[d].kind == "projected"]
    problems += [p for axis in bent for p in axis.problems]
    # A grid that must be reprojected is one problem, and not a lack of latitudes as well.
    optional = KINDS["time"] + (("class",) if source.how != "plain" else ())
    optional += ("latitude", "longitude") if bent else ()
    absent = [d for d in source.variable.dims if d not in found and KINDS[d][0] not in optional]
    if absent:
        problems.append(
            Problem(
                f"{_who(source)} has no {' and no '.join(KINDS[d][0] for d in absent)}; found dims "
                f"{listed(da.dims)}; give them coordinates with units 'degrees_north', "
                "'degrees_east', or with class ids"
            )
        )
    return found


def _values(
    da: xr.DataArray, source: Source, dim: str, axis: Axis | None, problems: list[Problem]
) -> np.ndarray | None:
    if dim in CLASS_DIMS:
        return _class_values(source, dim, axis, problems)
    if KINDS[dim] != KINDS["time"]:
        return None if axis is None else axis.values
    times, kind = _times(da, axis)
    if times is None:
        if (axis is None or not axis.problems) and source.variable.name != "co2":
            problems.append(
                Problem(
                    f"{_who(source)} has no time; found dims {da.dims}; give it one, such as by "
                    ".expand_dims(year=[2000]) or .expand_dims(time=[np.datetime64('2000-01-01')])"
                )
            )
        return None
    result = _as_years(source, times, kind) if dim == "year" else _as_steps(times, kind)
    if isinstance(result, str):
        problems.append(Problem(f"{_who(source)}: {result}"))
        return None
    return result


def _times(da: xr.DataArray, axis: Axis | None) -> tuple[np.ndarray | None, str]:
    if axis is not None:
        return axis.values, axis.kind
    return read_scalar_time(da), "time"


def _as_years(source: Source, times: np.ndarray, kind: str) -> np.ndarray | str:
    if kind == "month":
        return "expected years; found months of no year; give them a year each"
    years = times if kind == "year" else times.astype("datetime64[Y]").astype(np.int64) + 1970
    repeated = np.unique(years[1:][np.diff(years) == 0])
    if repeated.size and source.variable.name != "co2":
        return f"expected one map a year; found several in {listed(repeated)}; select or average"
    return years


def _as_steps(times: np.ndarray, kind: str) -> np.ndarray | str:
    if kind == "time":
        return start_of_step(times)
    if (np.diff(times) == 0).any():
        return f"{kind}s must differ; found {listed(times)}; drop the repeated ones"
    if kind == "year":
        return start_of_step((times - 1970).astype("datetime64[Y]").astype("datetime64[s]"))
    months = 12 * (NOMINAL_YEAR - 1970) + times - 1
    return months.astype("datetime64[M]").astype("datetime64[ns]")


def _class_values(
    source: Source, dim: str, axis: Axis | None, problems: list[Problem]
) -> np.ndarray | None:
    wanted = CLASS_DIMS[dim]
    if axis is not None and axis.legend not in (None, wanted):
        text = f"{_who(source)} must have legend {wanted!r}; found {axis.legend!r} on {axis.dim!r}"
        problems.append(Problem(text, LegendError))
    return None


def _stray(source: Source, dim: Hashable, axis: Axis) -> Problem:
    what = "varies in time" if axis.kind in KINDS["time"] else f"has {axis.size} values of {dim!r}"
    return Problem(
        f"{_who(source)} {what}, and a cube has {' x '.join(source.variable.dims)}; "
        f"select or average over {dim!r}, or give {dim!r} a coordinate that says what it is"
    )


def _who(source: Source) -> str:
    name, names = source.variable.name, [str(n) for n in source.names]
    called = "" if names == [name] else f" ({listed(names)})"
    return f"{source.variable.role} {name!r}{called}"
