"""Maps onto the pixels of another grid: area means and class fractions, lazy, block by block.

All of them conserve: a target pixel is the mean of what is known of it, each source cell by the
area that the two share. Nothing is interpolated, and nothing is taken from the nearest cell.

References
----------
Jones, P. W. (1999): First- and second-order conservative remapping schemes for grids in spherical
coordinates. Monthly Weather Review 127, 2204-2210,
doi:10.1175/1520-0493(1999)127<2204:FASOCR>2.0.CO;2: the first-order scheme, eq. 2, and its
normalisation by the unmasked area.
"""

from __future__ import annotations

from .fractions import class_fractions
from .lattice import axes
from .projected import from_projected
from .rectilinear import conservative
from .sinusoidal import from_sinusoidal

__all__ = ["axes", "class_fractions", "conservative", "from_projected", "from_sinusoidal"]
