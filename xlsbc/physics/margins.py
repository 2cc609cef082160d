"""Whether two sets of class fractions can be margins of one distribution over possible pairs.

References
----------
Hall, P. (1935): On representatives of subsets. J. London Math. Soc. 10, 26-30.
Gale, D. (1957): A theorem on flows in networks. Pacific J. Math. 7, 1073-1082.
"""

from __future__ import annotations

import numpy as np

# Pixels per matrix product: some 60 sets x 16,384 pixels x 8 bytes = 8 MB.
_SLAB = 16_384


def impossible_mass(lu: np.ndarray, lc: np.ndarray, compatible: np.ndarray) -> np.ndarray:
    """Least mass that any joint distribution of land use and land cover puts in impossible pairs.

    A joint distribution with the given margins is a flow from land use to land cover; the most
    that can flow through possible pairs is a minimum cut, so what remains is

    ``max over sets S of land-cover classes of  LC(S) - LU(neighbours of S)``.

    Classes with the same neighbours always stand together in a worst S, so only unions of
    neighbourhoods are tried: the result is exact.

    Parameters
    ----------
    lu
        ``(..., lu_class)``, 1. Negative values count as 0 and rows are divided by their sum,
        which other rules judge.
    lc
        ``(..., lc_class)``, 1, likewise.
    compatible
        ``(lu_class, lc_class)``, True where the pair is possible.

    Returns
    -------
    ndarray
        ``(...)``, float64, 1, in 0..1; NaN where an input is NaN or a row sums to 0.
    """
    lu_sets, lc_sets = _worst_sets(compatible)
    lead = np.broadcast_shapes(lu.shape[:-1], lc.shape[:-1])
    lu = np.broadcast_to(lu, (*lead, lu.shape[-1])).reshape(-1, lu.shape[-1])
    lc = np.broadcast_to(lc, (*lead, lc.shape[-1])).reshape(-1, lc.shape[-1])
    mass = np.empty(len(lu))
    for start in range(0, len(lu), _SLAB):
        slab = slice(start, start + _SLAB)
        deficit = _shares(lc[slab]) @ lc_sets.T - _shares(lu[slab]) @ lu_sets.T
        mass[slab] = deficit.max(axis=1)
    return mass.reshape(lead)


def _worst_sets(compatible: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indicator rows of every union of neighbourhoods and of the LC classes confined to it."""
    unions = {np.zeros(len(compatible), dtype=bool).tobytes()}
    for neighbourhood in np.unique(compatible.T, axis=0):
        unions |= {(np.frombuffer(union, dtype=bool) | neighbourhood).tobytes() for union in unions}
    lu_sets = np.array([np.frombuffer(union, dtype=bool) for union in sorted(unions)])
    confined = ~(compatible.T[None] & ~lu_sets[:, None]).any(axis=2)
    return lu_sets.astype("float64"), confined.astype("float64")


def _shares(fractions: np.ndarray) -> np.ndarray:
    """Rows of a simplex in float64: rounding of the sum is judged by another rule."""
    positive = np.maximum(fractions.astype("float64"), 0)
    total = positive.sum(axis=-1, keepdims=True)
    return positive / np.where(total > 0, total, np.nan)
