"""Stored numbers as values: sign, fill, scale and flags, as the product says and as its file does.

References
----------
CF conventions 1.12, section 2.5.1 (missing data, valid and actual range) and 8.1 (packed data).
NetCDF user guide, appendix A: ``_Unsigned``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from ...errors import SourceError
from ..vocabulary import VOCABULARY
from .opening import source_of

__all__ = ["attribute", "checked", "from_per_cent", "numbers", "unsigned"]

ENCODING = frozenset(
    """_fillvalue missing_value scale_factor add_offset valid_range valid_min valid_max _unsigned
    actual_range flag_values flag_meanings flag_masks""".split()
)
"""Attributes that describe the stored numbers, in lower case."""


def attribute(da: xr.DataArray, name: str, default: Any = None) -> Any:
    """An attribute, whatever the case in which its name is written (LUH2 has ``_fillvalue``)."""
    found = {str(k).lower(): v for k, v in da.attrs.items()}
    return found.get(name.lower(), default)


def unsigned(da: xr.DataArray) -> xr.DataArray:
    """The stored numbers without a sign where the file says so: -46 is 210.

    Flag values and the fill value go along.
    """
    if str(attribute(da, "_Unsigned", "")).lower() != "true" or da.dtype.kind != "i":
        return da
    kind = np.dtype(f"u{da.dtype.itemsize}")
    attrs = {
        key: np.asarray(value).astype(da.dtype).astype(kind)
        if str(key).lower() in ENCODING and np.asarray(value).dtype.kind in "iu"
        else value
        for key, value in da.attrs.items()
    }
    return da.astype(kind).assign_attrs(attrs)


def numbers(
    da: xr.DataArray,
    *,
    valid: tuple[float, float] | None = None,
    missing: Sequence[float] = (),
    scale: float | None = None,
    offset: float | None = None,
) -> xr.DataArray:
    """Values of a variable opened by `open_source`; lazy, float32, or float64 where stored so.

    Parameters
    ----------
    da
        Numbers as stored, with the file's attributes.
    valid
        Smallest and largest *stored* number that is a value; what the file says if left out.
        Everything else is missing: fill values above the valid range, flags.
    missing
        Further stored numbers that mean missing, besides ``_FillValue`` and ``missing_value``.
    scale, offset
        In place of the file's ``scale_factor`` and ``add_offset``.

    Returns
    -------
    xarray.DataArray
        NaN where missing; attributes without those that describe the stored numbers.
    """
    da = unsigned(da)
    stored = da
    if valid is None:
        pair = attribute(da, "valid_range", (None, None))
        low, high = attribute(da, "valid_min", pair[0]), attribute(da, "valid_max", pair[1])
    else:
        low, high = valid
    fills = [attribute(da, "_FillValue"), attribute(da, "missing_value"), *missing]
    unpacked = valid is None and _is_unpacked(da, low, high)
    kind = np.float64 if da.dtype == np.float64 or da.dtype.itemsize > 4 else np.float32
    values = da.astype(kind)
    for fill in (each for f in fills if f is not None for each in np.ravel(f)):
        same = _as_stored(fill, stored.dtype)
        if same is None:
            continue
        if stored.dtype == np.float64 and np.float32(same) == same:
            # 1e20 of 32 bits is not 1e20 of 64, and attributes keep the bits of before.
            values = values.where(stored.astype(np.float32) != np.float32(same))
        values = values.where(stored != same)
    if not unpacked:
        values = _between(values, stored, low, high)
    scale = attribute(da, "scale_factor", 1.0) if scale is None else scale
    offset = attribute(da, "add_offset", 0.0) if offset is None else offset
    if (float(scale), float(offset)) != (1.0, 0.0):
        values = values * kind(scale) + kind(offset)
    if unpacked:
        values = _between(values, values, low, high)
    values.attrs = {k: v for k, v in da.attrs.items() if str(k).lower() not in ENCODING}
    values.encoding = {}
    return values


def _between(
    values: xr.DataArray, judged: xr.DataArray, low: float | None, high: float | None
) -> xr.DataArray:
    values = values if low is None else values.where(judged >= low)
    return values if high is None else values.where(judged <= high)


def _is_unpacked(da: xr.DataArray, low: Any, high: Any) -> bool:
    """Whether a range is of the values: of the type of the scale and wider than what is stored."""
    packed = {"scale_factor", "add_offset"} & {str(key).lower() for key in da.attrs}
    kinds = {np.asarray(bound).dtype.kind for bound in (low, high) if bound is not None}
    return bool(packed) and da.dtype.kind in "iu" and kinds == {"f"}


def _as_stored(fill: Any, dtype: np.dtype) -> Any:
    """A fill value as a stored number; None where no stored number can be it, such as "none"."""
    try:
        number = float(fill)
    except ValueError:
        return None
    if dtype.kind == "f":
        return dtype.type(number)
    return int(fill) if np.isfinite(number) and number.is_integer() else None


def from_per_cent(da: xr.DataArray, what: str) -> xr.DataArray:
    """Shares of 1 from numbers said to be in per cent; lazy.

    Raises
    ------
    SourceError
        When computed, if none of a block of them is above 1: shares already, divided once more.
    """
    return xr.apply_ufunc(
        _hundredth,
        da,
        kwargs={"what": what},
        dask="parallelized",
        output_dtypes=[da.dtype],
        keep_attrs=True,
    )


def _hundredth(values: np.ndarray, what: str) -> np.ndarray:
    best = np.fmax.reduce(values, axis=None, initial=0.0)
    if 0.0 < best <= 1.0:
        problem = (
            f"{what}: expected per cents, as its units say; found {best:g} at most, as shares of 1 "
            "have; correct the units"
        )
        raise SourceError("values contradict their units", [problem])
    return values / values.dtype.type(100.0)


def checked(ds: xr.Dataset, source: str | None = None, tolerance: float = 0.0) -> xr.Dataset:
    """The same fields, which raise when computed if a value cannot be one of its variable.

    Lazy; the bounds are those of the vocabulary. Within `tolerance`, of the range of values, a
    value is set to the bound: packing leaves -1e-9 for 0.

    Raises
    ------
    SourceError
        When computed: the file, the variable, the bounds and the worst value; units that
        contradict the values are found here.
    """
    where = source or source_of(ds)
    checked = {}
    for name, da in ds.data_vars.items():
        known = VOCABULARY.get(str(name))
        if known is None:
            continue
        checked[name] = xr.apply_ufunc(
            _within,
            da,
            kwargs={
                "low": known.valid_min,
                "high": known.valid_max,
                "slack": tolerance * (known.valid_max - known.valid_min),
                "what": f"{where}, variable {name!r}",
                "units": known.units,
            },
            dask="parallelized",
            output_dtypes=[da.dtype],
            keep_attrs=True,
        )
    return ds.assign(checked)


def _within(
    values: np.ndarray, low: float, high: float, slack: float, what: str, units: str
) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        worst = np.fmin.reduce(values, axis=None, initial=np.inf)
        best = np.fmax.reduce(values, axis=None, initial=-np.inf)
    if worst < low - slack or best > high + slack:
        problem = (
            f"{what}: expected {low:g} to {high:g} {units}; found {worst:g} to {best:g}; the units "
            "that the file states are wrong, or its flags were read as data"
        )
        raise SourceError("values contradict their units", [problem])
    return np.clip(values, values.dtype.type(low), values.dtype.type(high))
