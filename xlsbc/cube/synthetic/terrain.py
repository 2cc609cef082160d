"""Terrain, water and soil of the synthetic world: what does not change with time.

References
----------
Cosby et al., 1984, A statistical exploration of the relationships of soil moisture characteristics
to the physical properties of soils, Water Resour. Res. 20, 682-690, doi:10.1029/WR020i006p00682
(porosity from sand, Table 5).
"""

from __future__ import annotations

import numpy as np

from ..grid import EARTH_RADIUS
from .lattice import (
    PIXELS_PER_DEGREE,
    Extent,
    key,
    layered_noise,
    smooth_noise,
    step,
)

MARGIN = 1  # pixels around a box that its slopes need

CONTINENT_SIZES = 5400, 1440, 720, 360, 180  # pixels
# The seed of the continents: every world has the same, so oceans stay oceans. With this one the
# default region has a coast, a plain and peaks near 4000 m (seen in worlds 0 to 4).
CONTINENTS = 670


def statics(extent: Extent, seed: int) -> dict[str, np.ndarray]:
    """Terrain, water and soil, each ``(y, x)`` float32; NaN over sea except ``land_fraction``.

    ``elevation`` m, ``slope`` degree, ``clay_fraction``, ``sand_fraction``, ``soil_porosity``,
    ``lake_fraction`` 1 (share of the whole pixel) and ``land_fraction`` 1 (lakes included, as
    CMIP's sftlf has it).
    """
    height = surface_height(extent.padded(MARGIN), seed)
    slope = slope_angle(height, extent)
    height = np.ascontiguousarray(height[MARGIN:-MARGIN, MARGIN:-MARGIN])
    land = land_fraction(height)
    clay, sand = soil_texture(extent, height, slope, seed)
    fields = {
        "elevation": np.maximum(height, 0),
        "slope": slope,
        "clay_fraction": clay,
        "sand_fraction": sand,
        "soil_porosity": soil_porosity(sand),
        "lake_fraction": land * lakes(extent, height, slope, seed),
    }
    sea = land == 0
    for field in fields.values():
        field[sea] = np.nan
    return {"land_fraction": land, **fields}


def surface_height(extent: Extent, seed: int) -> np.ndarray:
    """Height of the land or of the sea floor, m: continents, plains, and ridged mountains."""
    continent = layered_noise(extent, CONTINENT_SIZES, key(CONTINENTS, "continents"), 0.8)
    uplift = layered_noise(extent, (360, 180), key(CONTINENTS, "uplift"), 0.7)
    regional = layered_noise(extent, (180, 90), key(seed, "regional"), 0.6)
    plain = 200 + 900 * continent + 260 * regional
    mountain = step(0.7 * continent + uplift + 0.3 * regional, 0.45, 0.12)
    ridges = np.zeros(extent.shape, np.float32)
    for weight, spacing in ((0.36, 90), (0.25, 45), (0.19, 24), (0.13, 12), (0.07, 6)):
        noise = smooth_noise(extent, spacing, key(seed, "ridge", spacing))
        ridges += weight * (1 - 1.5 * np.abs(noise))
    hills = layered_noise(extent, (45, 24, 12, 6), key(seed, "hills"), 0.6)
    peaks = 5200 * np.maximum(ridges - 0.25, 0) ** 1.5
    return plain + (60 + 160 * mountain) * hills + mountain * peaks


def slope_angle(height: np.ndarray, extent: Extent) -> np.ndarray:
    """Slope, degree, by central differences of a ``height`` that has a margin of one pixel."""
    south_north = EARTH_RADIUS * np.deg2rad(1 / PIXELS_PER_DEGREE)
    west_east = (south_north * np.cos(np.deg2rad(extent.latitude))).astype(np.float32)
    surface = np.maximum(height, 0)
    dy = (surface[2:, 1:-1] - surface[:-2, 1:-1]) / np.float32(2 * south_north)
    dx = (surface[1:-1, 2:] - surface[1:-1, :-2]) / (2 * west_east[:, None])
    return np.rad2deg(np.arctan(np.hypot(dx, dy)))


def land_fraction(height: np.ndarray) -> np.ndarray:
    """Share of a pixel that is not sea: the coast is 40 m of height wide."""
    return np.clip(0.5 + height / 40, 0, 1).astype(np.float32)


def soil_texture(
    extent: Extent, height: np.ndarray, slope: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Clay and sand fractions: fine soils in flat lowland, coarse ones on slopes."""
    flat = np.exp(-slope / 6) * np.exp(-np.maximum(height, 0) / 1500)
    clay = 0.15 + 0.13 * flat + 0.22 * layered_noise(extent, (90, 24, 8), key(seed, "clay"), 0.8)
    clay = np.clip(clay, 0.03, 0.6)
    sand = 0.60 - 0.16 * flat + 0.25 * layered_noise(extent, (120, 30, 10), key(seed, "sand"), 0.8)
    return clay, np.clip(sand, 0.05, 0.95) * (1 - clay)


def soil_porosity(sand: np.ndarray) -> np.ndarray:
    """Porosity, m3 m-3, from the sand fraction (Cosby et al. 1984, Table 5)."""
    return 0.489 - 0.00126 * (100 * sand)


def lakes(extent: Extent, height: np.ndarray, slope: np.ndarray, seed: int) -> np.ndarray:
    """Share of the land that is lake: rare, in flat ground below 1500 m."""
    basin = layered_noise(extent, (48, 24, 12), key(seed, "lakes"), 0.5)
    share = step(basin, 0.6, 0.03) * step(-slope, -3.0, 0.5) * step(-height, -1500, 100)
    return np.clip((share - 0.04) / 0.9, 0, 1)
