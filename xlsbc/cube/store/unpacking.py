"""Packed numbers as float32 in one pass, where that gives the bits that xarray's three passes give.

xarray decodes to float64, masks, scales, and a conformed cube is cast to float32. A product of an
integer of at most 16 bits and a power of two is exact in either type: nothing is lost on the way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

__all__ = ["Unpacking", "unpacking"]


@dataclass(frozen=True)
class Unpacking:
    """How packed numbers are unpacked.

    Parameters
    ----------
    scale
        A power of two.
    missing
        Packed numbers that stand for missing values.
    """

    scale: float
    missing: tuple[int, ...]

    def unpack(self, packed: np.ndarray, into: np.ndarray | None = None) -> np.ndarray:
        """The numbers, float32; NaN where missing. In `into`, if that is given."""
        found = np.empty(packed.shape, np.float32) if into is None else into
        np.multiply(packed, np.float32(self.scale), out=found, casting="unsafe")
        for number in self.missing:
            where = packed == number
            if where.any():
                found[where] = np.nan
        return found


def unpacking(
    decoding: Sequence[Callable[[np.ndarray], np.ndarray]],
    packed: np.dtype[Any],
    unpacked: np.dtype[Any],
) -> Unpacking | None:
    """What does the same as xarray's functions and a cast, in their order; None if nothing does."""
    if packed.kind not in "iu" or packed.itemsize > 2 or unpacked != np.float32:
        return None
    names = [each.func.__name__ for each in decoding if isinstance(each, partial)]
    if names != ["_apply_mask", "_scale_offset_decoding"] or len(decoding) != 2:
        return None
    mask, scaling = (each.keywords for each in decoding if isinstance(each, partial))
    scale, offset = scaling["scale_factor"], scaling["add_offset"]
    missing = mask["encoded_fill_values"]
    if offset or scale is None or np.size(scale) != 1 or math.frexp(float(scale))[0] != 0.5:
        return None
    if not np.isnan(mask["decoded_fill_value"]) or any(int(n) != n for n in missing):
        return None
    return Unpacking(float(scale), tuple(int(n) for n in missing))
