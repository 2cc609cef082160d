"""The synthetic world put together: terrain, climate and land of one box, and boxes as a cube."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..legends import LC, LU
from . import climate, land, leaves, terrain
from .lattice import CELL, Extent, key, layered_noise, uniform_noise, white_noise

NOISE = 0.04, 0.04  # standard deviation of observed LAI: m2 m-2, and share of its value
CLOUDED = 0.8  # standard deviations of cloudiness above which a month sees no leaves
OUTAGE = 60  # pixels along the side of a block that one yearly map misses
BAD_YEARS, MISSED_BLOCKS = 0.4, 0.15  # share of the years with missing blocks, share missing then

CROPS = ("c3ann", "c3per", "c4ann", "c4per", "c3nfx")


@dataclass(frozen=True)
class Ground:
    """What a box of whole 0.25 degree cells has for all years."""

    extent: Extent
    seed: int
    height: np.ndarray  # of the cells and of one more on each side, m, (y, x)
    statics: dict[str, np.ndarray]
    mean: climate.Weather  # of the year 2000, at the pixels


def ground(extent: Extent, seed: int) -> Ground:
    """Ground of a box of whole cells."""
    cells = extent.cells().padded(1)
    height = cell_height(cells, seed)
    statics = terrain.statics(extent, seed)
    mean = climate.normals(cells, height, seed)
    mean = climate.downscaled(mean, cells, height, extent, statics["elevation"])
    return Ground(extent, seed, height, statics, mean)


def cell_height(cells: Extent, seed: int) -> np.ndarray:
    """Mean height of 0.25 degree cells, m, ``(y, x)`` float32; sea counts as 0."""
    height = np.maximum(terrain.surface_height(cells.pixels(), seed), 0)
    # One axis at a time: the order of the additions must not depend on the size of the box.
    rows = height.reshape(cells.height * CELL, cells.width, CELL).sum(axis=2)
    return rows.reshape(cells.height, CELL, cells.width).sum(axis=1) / np.float32(CELL**2)


def forcing(cells: Extent, months: range, seed: int) -> dict[str, np.ndarray]:
    """Forcing of 0.25 degree cells, each ``(month, y, x)`` float32."""
    return climate.forcing(cells, cell_height(cells, seed), months, seed)


def targets(ground: Ground, year: int, gaps: bool) -> dict[str, np.ndarray]:
    """Land use, land cover, leaf area and land-use totals of a year, float32, NaN where missing.

    ``lu_fraction (1, lu_class, y, x)``, ``lc_fraction (1, lc_class, y, x)``, ``lai (12, y, x)``,
    ``lu_total (1, lu_class, cell y, cell x)``.
    """
    extent, seed = ground.extent, ground.seed
    if not ground.statics["land_fraction"].any():
        return _nothing(extent)
    site = land.site(ground.mean, ground.statics, year)
    use = land.land_use(site, extent, year, seed)
    cover = land.land_cover(use, site, extent, seed)
    cells = extent.cells().padded(1)
    months = range(12 * (year - 1), 12 * (year + 1))
    air = climate.weather(cells, ground.height, months, seed)
    elevation = ground.statics["elevation"]
    air = climate.downscaled(air, cells, ground.height, extent, elevation)
    lai = leaf_area(use, cover, air, ground, year)
    total = cell_total(use, extent)
    if gaps:
        wet = air.precipitation[-12:]
        for month in range(12):
            lai[month][_clouds(ground, 12 * year + month, wet[month])] = np.nan
        use[:, _outage(ground, "land use", year)] = np.nan
        cover[:, _outage(ground, "land cover", year)] = np.nan
    return {
        "lu_fraction": use[None],
        "lc_fraction": cover[None],
        "lai": lai,
        "lu_total": total[None],
    }


def leaf_area(
    use: np.ndarray, cover: np.ndarray, air: climate.Weather, ground: Ground, year: int
) -> np.ndarray:
    """Observed leaf area index of the months of a year, ``(12, y, x)``, m2 m-2."""
    season = leaves.season(air, ground.statics["clay_fraction"], float(climate.co2(year)))
    crops = use[[LU.index(id) for id in CROPS]].sum(axis=0)
    cropped = crops / (crops + use[LU.index("pastr")] + use[LU.index("urban")] + 1e-6)
    lai = np.zeros((12, *ground.extent.shape), np.float32)
    bound = np.zeros(ground.extent.shape, np.float32)
    for id in leaves.PLANTS:
        share = cover[LC.index(id)]
        bound += np.float32(LC.classes[LC.index(id)].lai_max) * share
        if np.nanmax(share, initial=0) > 0:
            lai += share * leaves.class_lai(id, season, cropped)
    for month in range(12):
        name = key(ground.seed, "noise", 12 * year + month)
        error = white_noise(ground.extent, name) * (NOISE[0] + NOISE[1] * lai[month])
        lai[month] = np.clip(lai[month] + error, 0, bound)
    return lai


def cell_total(use: np.ndarray, extent: Extent) -> np.ndarray:
    """Area-weighted mean of ``use`` over the pixels that have any, ``(lu_class, cell y, x)``."""
    cells = extent.cells()
    edges = np.deg2rad(90 - np.arange(extent.row, extent.row + extent.height + 1) / 120)
    area = -np.diff(np.sin(edges))[:, None]
    seen = np.isfinite(use[0])
    sums = [
        (np.where(seen, share, 0) * area)
        .reshape(cells.height, CELL, cells.width, CELL)
        .sum(axis=(1, 3))
        for share in (*use, np.ones_like(use[0]))
    ]
    weight = np.where(sums[-1] > 0, sums[-1], np.nan)
    return (np.stack(sums[:-1]) / weight).astype(np.float32)


def _nothing(extent: Extent) -> dict[str, np.ndarray]:
    shapes = {
        "lu_fraction": (1, len(LU.ids), *extent.shape),
        "lc_fraction": (1, len(LC.ids), *extent.shape),
        "lai": (12, *extent.shape),
        "lu_total": (1, len(LU.ids), *extent.cells().shape),
    }
    return {name: np.full(shape, np.nan, np.float32) for name, shape in shapes.items()}


def _clouds(ground: Ground, month: int, rain: np.ndarray) -> np.ndarray:
    noise = layered_noise(ground.extent, (60, 24, 6), key(ground.seed, "clouds", month), 0.7)
    return noise / np.float32(0.5) + 0.3 * np.tanh(np.log(rain / 3)) > CLOUDED


def _outage(ground: Ground, name: str, year: int) -> np.ndarray:
    bad = key(ground.seed, name, "year", year) / 2**64 < BAD_YEARS
    extent = ground.extent
    if not bad:
        return np.zeros(extent.shape, bool)
    rows, columns = extent.rows // OUTAGE, extent.columns // OUTAGE
    blocks = Extent(rows[0], columns[0], rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1, 2)
    missed = uniform_noise(blocks, key(ground.seed, name, year)) < MISSED_BLOCKS
    return missed[np.ix_(rows - rows[0], columns - columns[0])]
