"""Moments that merge exactly in any order.

References
----------
Chan, Golub and LeVeque, 1983, The American Statistician 37(3), 242-247, eq. 2.1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

__all__ = ["Moments", "digits"]


@dataclass(frozen=True)
class Moments:
    """Number, mean and summed squared deviation of values, float64."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    @classmethod
    def of(cls, values: np.ndarray) -> Moments:
        """Moments of the values that are known; NaN counts for nothing."""
        found = values[np.isfinite(values)].astype(np.float64)
        if not found.size:
            return cls()
        mean = float(found.mean())
        return cls(found.size, mean, float(np.square(found - mean).sum()))

    def __add__(self, other: Moments) -> Moments:
        if not self.count or not other.count:
            return other if other.count else self
        count = self.count + other.count
        apart = other.mean - self.mean
        return Moments(
            count,
            self.mean + apart * other.count / count,
            self.squares + other.squares + apart**2 * self.count * other.count / count,
        )

    @property
    def variance(self) -> float:
        """Mean squared deviation; NaN of nothing."""
        return digits(self.squares / self.count) if self.count else math.nan

    @property
    def rounded(self) -> float:
        """The mean to nine digits; NaN of nothing."""
        return digits(self.mean) if self.count else math.nan


def digits(value: float) -> float:
    """The value to nine digits: more tell in which order it was summed."""
    return float(f"{value:.9g}")
