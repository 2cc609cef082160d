"""Two functions of a graph that tell the writer what it need not compute.

Who makes a Dask array names its tasks by them, and the writer finds the tasks by their function.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["blank", "pick"]


def blank(shape: tuple[int, ...]) -> np.ndarray:
    """Missing values for a chunk of which is known, before anything runs, that it holds none."""
    return np.full(shape, np.nan, np.float32)


def pick(fields: dict[str, Any], name: str) -> Any:
    """One of the variables that one task has made together."""
    return fields[name]
