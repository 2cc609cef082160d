"""Land use and land cover of the synthetic world, and the rules that decide them.

Land use is a multinomial logit of the suitability of a pixel for each class, as in land-use
allocation models; land cover follows from it: every land-use class is shared among the land-cover
classes that `legends.compatible` allows it, by how well the climate suits each.

References
----------
Verburg et al., 2002, Modeling the spatial dynamics of regional land use: the CLUE-S model,
Environ. Manage. 30, 391-405, doi:10.1007/s00267-002-2630-x (logit suitability).
Koppen, 1936, Das geographische System der Klimate (no trees where no month is above 10 degC).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..legends import LC, LU, compatible
from .climate import FREEZING, Weather, growing_degree_days, warming
from .lattice import Extent, key, layered_noise, step

TREELINE = 10.0  # degC of the warmest month (Koppen 1936)
SMALLEST = 0.01  # fractions below this share of their pixel or their land use are none at all
UNEXPLAINED = 0.2  # standard deviation of the part of each logit that nothing explains

Fields = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Site:
    """What decides the cover of a pixel in a year, each ``(y, x)`` float32."""

    warmth: np.ndarray  # growing degree days above 5 degC of a mean year, K day
    warmest: np.ndarray  # mean of the warmest month, degC
    coldest: np.ndarray  # mean of the coldest month, degC
    humidity: np.ndarray  # rain over evaporative demand of the year, 1
    slope: np.ndarray  # degree
    elevation: np.ndarray  # m
    clay: np.ndarray  # 1
    sand: np.ndarray  # 1
    sea: np.ndarray  # share of the pixel, 1
    lake: np.ndarray  # share of the pixel, 1


def site(mean: Weather, statics: Fields, year: int) -> Site:
    """Site in the climate of a year: the mean year at the pixels, warmed with CO2."""
    temperature = mean.temperature + np.float32(warming(year))
    return Site(
        warmth=growing_degree_days(temperature)[-1],
        warmest=temperature.max(axis=0) - FREEZING,
        coldest=temperature.min(axis=0) - FREEZING,
        humidity=mean.precipitation.sum(axis=0) / (mean.demand.sum(axis=0) + 0.1),
        slope=statics["slope"],
        elevation=statics["elevation"],
        clay=statics["clay_fraction"],
        sand=statics["sand_fraction"],
        sea=1 - statics["land_fraction"],
        lake=statics["lake_fraction"],
    )


def forest_suitability(site: Site) -> np.ndarray:
    """How far a pixel could bear forest, 1: warm enough in summer and wet enough."""
    return step(site.warmest, TREELINE, 0.7) * step(site.humidity, 0.45, 0.06)


def crop_suitability(site: Site) -> np.ndarray:
    """Logit for crops: a long season, water, gentle slopes, fine soil."""
    return (
        4 * step(site.warmth, 1500, 200)
        + 2 * step(site.humidity, 0.45, 0.08)
        - site.slope / 2
        + 10 * (site.clay - 0.25)
        - 4.5
    )


def glacier_share(site: Site) -> np.ndarray:
    """Share of the pixel that is ice: where the warmest month stays near freezing."""
    share = step(-site.warmest, -4.2, 0.5)
    return np.clip((share - 0.05) / 0.85, 0, 1) * (1 - site.sea - site.lake)


def land_use(site: Site, extent: Extent, year: int, seed: int) -> np.ndarray:
    """Land-use fractions, ``(lu_class, y, x)`` float32, 1; they sum to 1, sea is ``icwtr``."""
    logits = _land_use_logits(site, extent, year, seed)
    for id, logit in logits.items():
        logit += _unexplained(extent, seed, id)
    water = site.sea + site.lake + glacier_share(site)
    fractions = np.empty((len(LU.ids), *extent.shape), np.float32)
    dry = [LU.index(id) for id in logits]
    fractions[dry] = (1 - water) * _shares(np.exp(np.stack(list(logits.values()))))
    fractions[LU.index("icwtr")] = water
    return fractions


def land_cover(use: np.ndarray, site: Site, extent: Extent, seed: int) -> np.ndarray:
    """Land-cover fractions that ``use`` allows, ``(lc_class, y, x)`` float32, 1; they sum to 1."""
    logits = _land_cover_logits(site)
    for id, logit in logits.items():
        logit += _unexplained(extent, seed, id)
    weight = {id: np.exp(logit) for id, logit in logits.items()}
    allowed = compatible(LU, LC)
    cover = np.zeros((len(LC.ids), *extent.shape), np.float32)
    for u, id in enumerate(LU.ids[:-1]):
        classes = [c for c in LC.ids if allowed[u, LC.index(c)]]
        taste = PREFERENCES[id]
        liked = [weight[c] * np.float32(np.exp(taste.get(c, 0))) for c in classes]
        shares = _shares(np.stack(liked))
        for c, share in zip(classes, shares, strict=True):
            cover[LC.index(c)] += use[u] * share
    cover[LC.index("snowice")] = glacier_share(site)
    cover[LC.index("water")] = site.sea + site.lake
    return cover


# What people and nature make of each land use: added to the logits of the land cover.
PREFERENCES: dict[str, dict[str, float]] = {
    "primf": {"grass_nat": -2.5},
    "primn": {},
    "secdf": {"grass_nat": -1.5},
    "secdn": {"grass_nat": 0.5},
    "pastr": {"grass_man": 1.5, "grass_nat": -0.5},
    "range": dict.fromkeys(("trees_be", "trees_bd", "trees_ne", "trees_nd"), -3.0),
    "urban": {"built": 4.0, "grass_nat": -2.0, "grass_man": 0.5, "bare": -1.0},
    "c3ann": {"grass_man": 2.5},
    "c3per": {"grass_man": 1.0, "shrubs_bd": 1.5},
    "c4ann": {"grass_man": 2.5},
    "c4per": {"grass_man": 2.0},
    "c3nfx": {"grass_man": 2.5},
}


def _land_use_logits(site: Site, extent: Extent, year: int, seed: int) -> dict[str, np.ndarray]:
    people = 3.0 * layered_noise(extent, (240, 120), key(seed, "people"), 0.7)
    herds = 3.0 * layered_noise(extent, (240, 120), key(seed, "herds"), 0.7)
    towns = 11.0 * layered_noise(extent, (120, 60), key(seed, "towns"), 0.9)
    forest = forest_suitability(site)
    wooded, open_ = _log(forest), _log(1 - forest)
    # Untouched land is steep and high, and further up where people are many.
    remote = 7 * step(site.slope / 2.5 + site.elevation / 500 - people / 2, 5.5, 0.7)
    crops = crop_suitability(site) + people + 0.03 * (year - 2000)
    grazing = 3 * step(site.warmth, 500, 120) - site.slope / 8 + herds
    return {
        "primf": wooded + remote - 3,
        "primn": open_ + remote - 3,
        "secdf": wooded + 1.5 * step(site.slope, 4, 1.2) + 3 * step(site.sand, 0.43, 0.03) - 0.5,
        "secdn": open_ + 1.0,
        "pastr": grazing + 2 * step(site.humidity, 1.1, 0.15) - 4,
        "range": grazing + 2 * step(-site.humidity, -0.6, 0.08) - 5,
        "urban": towns + people - site.slope - site.elevation / 400 + 0.05 * (year - 2000) - 3.5,
        "c3ann": crops - 2 * step(site.warmth, 3300, 200),
        "c3per": crops + 2 * step(site.sand, 0.4, 0.04) + 2 * step(site.slope, 2, 0.5) - 4,
        "c4ann": crops + 4 * step(site.warmth, 3000, 200) - 2.5,
        "c4per": crops + 6 * step(site.coldest, 15, 1.0) - 7,
        "c3nfx": crops + 2 * step(site.clay, 0.33, 0.02) - 3,
    }


def _land_cover_logits(site: Site) -> dict[str, np.ndarray]:
    trees = 2 + 3 * step(site.warmest, TREELINE + 1.5, 1.0)
    shrubs = 2 + 1.5 * step(-site.humidity, -0.6, 0.1)
    cold, mild = step(-site.coldest, 4.0, 0.8), step(site.coldest, 7.0, 1.0)
    severe = step(-site.coldest, 10.0, 0.8)
    dry = step(-site.humidity, -0.55, 0.06)
    needle = step(site.slope, 5, 1.5)
    return {
        "trees_be": trees + 5 * mild - 6,
        "trees_bd": trees - 4 * cold - 2 * mild,
        "trees_ne": trees + 4 * cold - 3 * severe + needle + dry - 3.5,
        "trees_nd": trees + 5 * severe - 5,
        "shrubs_be": shrubs + 3 * mild - 2.5,
        "shrubs_bd": shrubs - 2 * cold,
        "shrubs_ne": shrubs + 2 * cold - 2 * mild - 2,
        "shrubs_nd": shrubs + 2 * severe - 3.5,
        "grass_nat": 2 + 1.5 * step(site.warmest, 7, 1.0) - 2 * dry,
        "grass_man": np.full_like(site.slope, 2.0),
        "bare": 3 * dry + 6 * step(-site.warmest, -7.5, 0.8) + site.slope / 12,
        "built": np.full_like(site.slope, 1.0),
    }


def _shares(weights: np.ndarray) -> np.ndarray:
    """Weights along the first axis as shares that sum to 1, the smallest set to exactly 0."""
    shares = weights / weights.sum(axis=0)
    shares[shares < SMALLEST] = 0
    return shares / shares.sum(axis=0)


def _unexplained(extent: Extent, seed: int, id: str) -> np.ndarray:
    noise = layered_noise(extent, (24, 6), key(seed, "unexplained", id), 0.7)
    return np.float32(UNEXPLAINED / 0.42) * noise


def _log(share: np.ndarray) -> np.ndarray:
    return np.log(share + np.float32(1e-6))
