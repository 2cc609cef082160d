"""Monthly means of steps of some hours: of complete months alone.

A mean of half a month is biased, and nothing in a store of means would tell; what is not complete
is left out, and said.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

__all__ = ["complete_months", "month_means"]


def month_means(da: xr.DataArray, dim: str, hours: int) -> tuple[xr.DataArray | None, list[str]]:
    """Mean of each complete month, and a phrase on each month that is not complete.

    Parameters
    ----------
    da
        With ascending datetime64 times along `dim`, `hours` apart.
    dim
        Name of its time dimension.
    hours
        Step, in whole hours that a day is a multiple of.

    Returns
    -------
    mean : xarray.DataArray or None
        Over ``time``, the starts of the months, float32, lazy where `da` is; NaN where any step is
        missing. None if no month is complete.
    short : list of str
        Such as ``2020-02 with 12 of 696 steps``.
    """
    whole, short = complete_months(da[dim].values, hours)
    if not whole:
        return None, short
    # A sum of 744 temperatures in float32 would miss by some mK.
    means = [
        da.isel({dim: span}).mean(dim, skipna=False, dtype=np.float64) for span in whole.values()
    ]
    starts = xr.Variable("time", np.array(list(whole)).astype("datetime64[ns]"))
    joined = xr.concat(means, "time", coords="minimal", compat="override")
    return joined.assign_coords(time=starts).astype(np.float32).assign_attrs(da.attrs), short


def complete_months(times: np.ndarray, hours: int) -> tuple[dict[np.datetime64, slice], list[str]]:
    """Positions of each month that has all its stamps, and a phrase on each that has not."""
    months = times.astype("datetime64[M]")
    whole: dict[np.datetime64, slice] = {}
    short = []
    for month in np.unique(months):
        place = np.flatnonzero(months == month)
        first, after = month.astype("datetime64[h]"), (month + 1).astype("datetime64[h]")
        wanted = int((after - first) // np.timedelta64(hours, "h"))
        # Any phase will do, but no stamp twice: ends of hours, or every third from 02:00 on.
        if place.size == wanted == np.unique(times[place]).size:
            whole[month] = slice(int(place[0]), int(place[-1]) + 1)
        else:
            short.append(f"{month} with {place.size} of {wanted} steps")
    return whole, short
