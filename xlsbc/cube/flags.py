"""Which legend a map of class codes follows, from its flag attributes.

References
----------
CF conventions 1.12, section 3.5 (flags).
"""

from __future__ import annotations

import re
from collections.abc import Hashable

import numpy as np
import xarray as xr

from ..errors import LegendError
from .axes import Problem
from .legends import legend

__all__ = ["MAP_LEGENDS", "map_legend", "says_legend"]

MAP_LEGENDS = ("cci_lccs", "globcover", "cci_pft", "luh2")


def says_legend(da: xr.DataArray) -> bool:
    """Whether a variable says by its attributes that it is a map in a known legend."""
    if str(da.attrs.get("legend", "")) in MAP_LEGENDS:
        return True
    # Quality flags may have a "water" or an "urban" too, but not three words of one legend.
    return max(_shared_meanings(da).values()) > 2


def map_legend(name: Hashable, da: xr.DataArray, problems: list[Problem]) -> str | None:
    """Legend of a map of class codes: what it says it is, or what its flags are."""
    said = str(da.attrs.get("legend", ""))
    if said in MAP_LEGENDS:
        return said
    shared = _shared_meanings(da)
    if max(shared.values()) > 0:
        return max(shared, key=lambda n: shared[n])
    values = _flag_values(da)
    fits = [n for n in MAP_LEGENDS if values and set(values) <= set(legend(n).codes)]
    if len(fits) == 1:
        return fits[0]
    if not values and da.attrs.get("standard_name") == "land_cover_lccs":
        return "cci_lccs"
    unknown = sorted(set(values) - {c for n in MAP_LEGENDS for c in legend(n).codes})
    found = f"flag_values {values[:8]}" if values else "no flag_values"
    stray = f", of which {unknown[:12]} are in none" if unknown else ""
    problems.append(
        Problem(
            f"{name!r} is a map of classes, but its legend cannot be told: found {found}{stray}; "
            f"set attrs['legend'] to one of {', '.join(MAP_LEGENDS)}",
            LegendError,
        )
    )
    return None


def _shared_meanings(da: xr.DataArray) -> dict[str, int]:
    meanings = set(str(da.attrs.get("flag_meanings", "")).split())
    return {name: len(meanings & set(legend(name).ids)) for name in MAP_LEGENDS}


def _flag_values(da: xr.DataArray) -> list[int]:
    """Flag values as codes; bytes that were read as signed (-46 for 210) are put right."""
    raw = da.attrs.get("flag_values", ())
    values = re.findall(r"-?\d+", raw) if isinstance(raw, str) else np.ravel(raw).tolist()
    try:
        codes = [int(v) for v in values]
    except (TypeError, ValueError):
        return []
    return [c + 256 if -128 <= c < 0 else c for c in codes]
