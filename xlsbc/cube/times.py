"""Times as files write them, and the steps and years that a cube has.

References
----------
CF conventions 1.12, section 4.4 (time coordinate).
"""

from __future__ import annotations

import re
from collections.abc import Hashable

import numpy as np
import xarray as xr

__all__ = ["NOMINAL_YEAR", "read_months", "read_times", "read_years", "start_of_step"]

NOMINAL_YEAR = 2000
"""Year that the months of a climatology are given, where the source gives none."""

_SINCE = re.compile(r"\s*(year|yr|month)s?\s+since\s+(-?\d+)(?:-(\d+))?", re.IGNORECASE)
_REFERENCE = re.compile(r"\bsince\b", re.IGNORECASE)
# datetime64[ns] holds 1677-09-21 to 2262-04-11.
_FIRST, _LAST = np.datetime64("1678-01-01", "s"), np.datetime64("2262-01-01", "s")


def read_times(coordinate: xr.DataArray) -> np.ndarray | str | None:
    """Times of a coordinate.

    Parameters
    ----------
    coordinate
        1-D: datetime64, cftime, or numbers with units ``... since ...``, years and months
        included, which xarray does not decode.

    Returns
    -------
    numpy.ndarray, str or None
        datetime64[s]; a sentence where it is a time that cannot be read; None where it is none.
    """
    times: np.ndarray | str
    if coordinate.dtype.kind == "M":
        times = coordinate.to_numpy().astype("datetime64[s]")
    elif coordinate.dtype.kind == "O" and _is_cftime(coordinate):
        times = _from_cftime(coordinate)
    elif coordinate.dtype.kind in "fiu" and _REFERENCE.search(_units(coordinate)):
        times = _decode(coordinate)
    else:
        return None
    if isinstance(times, np.ndarray) and np.isnat(times).any():
        return f"{coordinate.name!r} has {np.isnat(times).sum()} missing times; drop those steps"
    return times


def read_months(name: Hashable, coordinate: xr.DataArray) -> np.ndarray | None:
    """Months 1..12 of a coordinate that holds them, else None."""
    if coordinate.dtype.kind not in "fiu":
        return None
    said = _words(name, coordinate)
    if "month" not in said and "time" not in said and coordinate.attrs.get("axis") != "T":
        return None
    values = coordinate.to_numpy()
    whole = bool(np.isin(values, np.arange(1, 13)).all()) and values.size > 0
    # A bare time of 1, 2, 3 may count anything; only a full year of twelve is one of months.
    complete = np.array_equal(np.sort(values), np.arange(1, 13))
    return values.astype(np.int64) if whole and (complete or "month" in said) else None


def read_years(name: Hashable, coordinate: xr.DataArray) -> np.ndarray | None:
    """Calendar years of a coordinate that holds them as whole numbers, else None."""
    if coordinate.dtype.kind not in "fiu" or not re.search(
        r"year|\byr\b|time", _words(name, coordinate)
    ):
        return None
    values = coordinate.to_numpy()
    plausible = np.isfinite(values).all() and (values >= 500).all() and (values <= 9999).all()
    if not plausible or not (values == np.floor(values)).all():
        return None
    return values.astype(np.int64)


def start_of_step(times: np.ndarray) -> np.ndarray | str:
    """Start of the step that each time stamp lies in.

    Parameters
    ----------
    times
        datetime64[s], ascending: one stamp a month, dekad, or day or days, anywhere inside it.

    Returns
    -------
    numpy.ndarray or str
        datetime64[ns], first of the month, of the dekad (1, 11, 21) or of the day; a sentence
        where the steps are finer than a day, repeated, or beyond datetime64[ns].
    """
    if times.size and (times[0] < _FIRST or times[-1] >= _LAST):
        return f"times {times[0]} to {times[-1]} must lie in 1678..2261; cut them"
    days = times.astype("datetime64[D]")
    for starts, shortest, longest in (
        (times.astype("datetime64[M]").astype("datetime64[D]"), 28, np.inf),
        (_dekads(days), 9, 11),
        (days, 0, np.inf),
    ):
        typical = np.median(np.diff(days).astype(int)) if days.size > 1 else 0
        if shortest <= typical <= longest and (np.diff(starts).astype(int) > 0).all():
            return starts.astype("datetime64[ns]")
    repeated = np.unique(times[1:][np.diff(times).astype(int) == 0])
    if repeated.size:
        dates = ", ".join(str(t) for t in repeated[:6])
        return f"{repeated.size} times are there more than once ({dates}); drop the repeated ones"
    clash = int(np.argmin(np.diff(days).astype(int)))
    return (
        f"steps must be a day or longer; found {times[clash]} and {times[clash + 1]}; aggregate "
        "to days, dekads or months, or give variables of the same step the same stamps"
    )


def _dekads(days: np.ndarray) -> np.ndarray:
    months = days.astype("datetime64[M]").astype("datetime64[D]")
    day = (days - months).astype(int)
    return months + 10 * np.minimum(day // 10, 2)


def _decode(coordinate: xr.DataArray) -> np.ndarray | str:
    values = coordinate.to_numpy().astype(float)
    plain = _SINCE.match(_units(coordinate))
    if plain and np.isfinite(values).all() and np.abs(values).max(initial=0) < 1e5:
        # LUH2: "years since 850-01-01"; a year has no length that a decoder could use.
        monthly = plain[1].lower() == "month"
        count = np.floor(values + 1e-6).astype(int) * (1 if monthly else 12)
        start = 12 * (int(plain[2]) - 1970) + int(plain[3] or 1) - 1
        return (start + count).astype("datetime64[M]").astype("datetime64[s]")
    attrs = {k: str(coordinate.attrs[k]) for k in ("units", "calendar") if k in coordinate.attrs}
    coder = xr.coders.CFDatetimeCoder(time_unit="s")
    raw = xr.Dataset({"time": ("step", values, attrs)})
    try:
        decoded = xr.decode_cf(raw, decode_times=coder)["time"]
    except (ValueError, OverflowError) as error:
        first = str(error).splitlines()[0]
        return f"{coordinate.name!r} has units {_units(coordinate)!r} that cannot be read: {first}"
    if decoded.dtype.kind == "M":
        return decoded.to_numpy().astype("datetime64[s]")
    return _from_cftime(decoded.rename(coordinate.name))


def _from_cftime(coordinate: xr.DataArray) -> np.ndarray | str:
    texts = [
        f"{t.year:04d}-{t.month:02d}-{t.day:02d}T{t.hour:02d}:{t.minute:02d}:{t.second:02d}"
        for t in coordinate.to_numpy().ravel().tolist()
    ]
    try:
        return np.array(texts, dtype="datetime64[s]")
    except ValueError:
        calendar = coordinate.to_numpy().ravel()[0].calendar
        return (
            f"{coordinate.name!r} is in calendar {calendar!r}, with dates that do not exist; "
            "use ds.convert_calendar('standard') first"
        )


def _is_cftime(coordinate: xr.DataArray) -> bool:
    values = coordinate.to_numpy().ravel()
    return values.size > 0 and all(hasattr(v, "calendar") and hasattr(v, "year") for v in values)


def _units(coordinate: xr.DataArray) -> str:
    return str(coordinate.attrs.get("units", ""))


def _words(name: Hashable, coordinate: xr.DataArray) -> str:
    said = (coordinate.attrs.get(k, "") for k in ("standard_name", "long_name", "units"))
    return " ".join((str(name), *map(str, said))).lower()
