"""Leaf area index of the synthetic world, class by class.

``LAI = sum over classes c of LC_c L_c``, with
``L_c = peak * season * quality * drought * CO2 * (1 - hidden by snow)``:

* season: leaves come and go with the temperature of this and the last month; evergreens keep most.
  Crops rise with the warmth of spring and go with the harvest;
* quality: the growing degree days of the last twelve months, and fine soil;
* drought: rain over evaporative demand of the last half year (`climate.water_supply`);
* CO2: the logarithmic fertilisation factor ``1 + beta ln(CO2 / CO2 of 2000)``;
* snow hides what is low.

References
----------
Bacastow & Keeling, 1973, Atmospheric carbon dioxide and radiocarbon in the natural carbon cycle II,
Brookhaven Symp. Biol. 24, 86-135 (the beta factor).
Donohue et al., 2013, Impact of CO2 fertilization on maximum foliage cover across the globe's warm,
arid environments, Geophys. Res. Lett. 40, 3031-3035, doi:10.1002/grl.50563 (size of the effect).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..legends import LC
from .climate import (
    CO2_2000,
    FREEZING,
    MEMORY,
    Weather,
    growing_degree_days,
    snow_cover,
    water_supply,
)
from .lattice import step

BETA = 0.6  # fertilisation of leaf area by CO2


@dataclass(frozen=True)
class Plant:
    """How a land-cover class bears leaves."""

    peak: float  # LAI of a very good month, m2 m-2
    evergreen: float  # share that stays in winter
    onset: float  # degC at which half of the leaves are out
    thirst: float  # rain over demand at which half of the leaves are lost
    stature: float  # share that snow cannot hide


PLANTS = {
    "trees_be": Plant(7.8, 0.85, 8, 0.40, 0.95),
    "trees_bd": Plant(7.8, 0.06, 9, 0.30, 0.90),
    "trees_ne": Plant(7.0, 0.75, 5, 0.25, 0.85),
    "trees_nd": Plant(6.0, 0.05, 7, 0.25, 0.90),
    "shrubs_be": Plant(4.0, 0.75, 7, 0.30, 0.40),
    "shrubs_bd": Plant(4.0, 0.08, 8, 0.35, 0.40),
    "shrubs_ne": Plant(3.5, 0.75, 5, 0.25, 0.40),
    "shrubs_nd": Plant(3.0, 0.06, 6, 0.25, 0.40),
    "grass_nat": Plant(4.5, 0.12, 6, 0.50, 0.05),
    "grass_man": Plant(5.5, 0.10, 6, 0.50, 0.05),
}


@dataclass(frozen=True)
class Season:
    """What decides the leaves of the months of a year, each ``(month, y, x)`` float32."""

    temperature: np.ndarray  # of this month and, two fifths, the last, degC
    rising: np.ndarray  # 1 in spring, 0 in autumn
    spring: np.ndarray  # growing degree days of three months, K day
    warmth: np.ndarray  # growing degree days of twelve months, K day
    supply: np.ndarray  # rain over evaporative demand of half a year, 1
    snow: np.ndarray  # cover, 1
    clay: np.ndarray  # (y, x), 1
    co2: float  # mole fraction


def season(air: Weather, clay: np.ndarray, co2: float) -> Season:
    """Season of the months of ``air`` after the first `MEMORY` of them."""
    celsius = air.temperature - FREEZING
    change = np.zeros_like(celsius)
    change[2:] = celsius[2:] - celsius[:-2]
    lagged = celsius.copy()
    lagged[1:] = 0.6 * celsius[1:] + 0.4 * celsius[:-1]
    return Season(
        temperature=lagged[MEMORY:],
        rising=step(change, 0.0, 2.0)[MEMORY:],
        spring=growing_degree_days(air.temperature, 3)[MEMORY:],
        warmth=growing_degree_days(air.temperature)[MEMORY:],
        supply=water_supply(air)[MEMORY:],
        snow=snow_cover(air)[MEMORY:],
        clay=clay,
        co2=co2,
    )


def drought_factor(supply: np.ndarray, thirst: float) -> np.ndarray:
    """Share of the leaves that the water supply keeps, 1."""
    cube = supply**3
    return cube / (cube + np.float32(thirst**3))


def co2_factor(co2: float) -> float:
    """Leaf area relative to that under the CO2 of 2000, 1; ``co2`` mole fraction."""
    return float(1 + BETA * np.log(co2 / CO2_2000))


def quality(season: Season) -> np.ndarray:
    """Share of the peak that warmth and soil allow, 1."""
    return season.warmth / (season.warmth + 500) * (0.65 + 0.35 * step(season.clay, 0.24, 0.04))


def crop_calendar(season: Season) -> np.ndarray:
    """Share of the peak that crops bear: sown, grown with the warmth of spring, harvested."""
    ripening = np.exp(-(((season.spring - 900) / 450) ** 2))
    return 0.12 + 0.88 * ripening * (0.25 + 0.75 * season.rising)


def class_lai(id: str, season: Season, cropped: np.ndarray | None = None) -> np.ndarray:
    """Leaf area index within a land-cover class, ``(month, y, x)``, m2 m-2; 0 for bare classes.

    ``cropped``, ``(y, x)``, is the share of crops in managed grass; without it there are none.
    """
    if id not in PLANTS:
        return np.zeros_like(season.temperature)
    plant = PLANTS[id]
    leafed = step(season.temperature, plant.onset, 1.6)
    if id == "grass_man" and cropped is not None:
        leafed = leafed + cropped * (crop_calendar(season) - leafed)
    leafed = plant.evergreen + (1 - plant.evergreen) * leafed
    shown = 1 - (1 - plant.stature) * season.snow
    lai = np.float32(plant.peak * co2_factor(season.co2)) * leafed * shown
    lai = lai * quality(season) * drought_factor(season.supply, plant.thirst)
    return np.minimum(lai, LC.classes[LC.index(id)].lai_max)
