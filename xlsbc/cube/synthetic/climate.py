"""Monthly climate of the synthetic world: ERA5-like on 0.25 degree cells, and what it is at 1 km.

Months are counted from January of year 0 (``12 * year + month``, January is 0), and every anomaly
is a hash of its month: a year holds the same weather whichever years are asked for with it.

References
----------
Allen et al., 1998, Crop evapotranspiration, FAO Irrigation and Drainage Paper 56, eqs. 21 to 25
(radiation above the atmosphere).
Oudin et al., 2005, Which potential evapotranspiration input for a lumped rainfall-runoff model?
J. Hydrol. 303, 290-306, doi:10.1016/j.jhydrol.2004.08.026 (potential evapotranspiration).
IPCC AR6 WG1, 2021, chapter 7.5 (transient climate response 1.8 K).
Lan et al., NOAA GML, Trends in atmospheric carbon dioxide (Mauna Loa annual means 1959-2023, which
the CO2 curve follows within 3 ppm).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .lattice import CELL, Extent, key, layered_noise, smooth_noise, step

MEMORY = 12  # months of weather before a month that the land remembers

FREEZING = 273.15  # K
LAPSE_RATE = 0.0065  # K m-1, ICAO standard atmosphere
SOLAR_CONSTANT = 1361.0  # W m-2
LATENT_HEAT = 2.45  # MJ kg-1
TRANSIENT_RESPONSE = 1.8  # K for a doubling of CO2
LAND_AMPLIFICATION = 1.4  # warming over land to global warming
CO2_2000 = 369.4e-6  # mole fraction

MID_MONTH = np.array([15, 45, 74, 105, 135, 162, 198, 228, 258, 288, 318, 344])  # day of the year


@dataclass(frozen=True)
class Weather:
    """Weather of successive months, each ``(month, y, x)`` float32, on cells or on pixels."""

    temperature: np.ndarray  # K
    precipitation: np.ndarray  # kg m-2 day-1, that is mm a day
    demand: np.ndarray  # potential evapotranspiration, kg m-2 day-1

    def months(self, where: slice) -> Weather:
        """Months of one slice."""
        return Weather(self.temperature[where], self.precipitation[where], self.demand[where])


def co2(year: np.ndarray | float) -> np.ndarray:
    """CO2 in dry air, mole fraction: 278 ppm and an exponential rise through Mauna Loa's record."""
    return (278 + 91.4 * np.exp(0.0197 * (np.asarray(year, np.float64) - 2000))) * 1e-6


def warming(year: np.ndarray | float) -> np.ndarray:
    """Warming of land since 2000, K, in step with CO2."""
    return LAND_AMPLIFICATION * TRANSIENT_RESPONSE * np.log2(co2(year) / CO2_2000)


def sunlight(latitude: np.ndarray) -> np.ndarray:
    """Radiation above the atmosphere, W m-2, ``(12, latitude)`` float32 (FAO-56 eq. 21)."""
    day = 2 * np.pi * MID_MONTH[:, None] / 365
    declination = 0.409 * np.sin(day - 1.39)
    phi = np.deg2rad(latitude)[None, :]
    sunset = np.arccos(np.clip(-np.tan(phi) * np.tan(declination), -1, 1))
    height = sunset * np.sin(phi) * np.sin(declination)
    height = height + np.cos(phi) * np.cos(declination) * np.sin(sunset)
    return (SOLAR_CONSTANT / np.pi * (1 + 0.033 * np.cos(day)) * height).astype(np.float32)


def evaporative_demand(temperature: np.ndarray, sunlight: np.ndarray) -> np.ndarray:
    """Potential evapotranspiration, kg m-2 day-1, of air at K under W m-2 (Oudin et al. 2005)."""
    celsius = temperature - FREEZING
    return sunlight * (0.0864 / LATENT_HEAT) * np.maximum(celsius + 5, 0) / 100


def normals(cells: Extent, height: np.ndarray, seed: int) -> Weather:
    """Mean year around 2000 on 0.25 degree cells, ``(12, y, x)``; ``height`` m, ``(y, x)``."""
    latitude = cells.latitude[:, None]
    season = np.cos(2 * np.pi * (np.arange(12) - 6) / 12)[:, None, None]  # July is 1
    regional = layered_noise(cells, (40, 12), key(seed, "regional temperature"))
    mean = FREEZING + 27.5 - 0.0068 * latitude**2 + 1.5 * regional - LAPSE_RATE * height
    # The sine changes sign with the hemisphere, and the seasons with it.
    temperature = mean + 15.5 * np.sin(np.deg2rad(latitude)) * season

    band = np.abs(latitude)
    annual = 0.5 + 5.5 * np.exp(-((band / 9) ** 2)) + 2.3 * np.exp(-(((band - 48) / 16) ** 2))
    annual = annual * np.exp(0.8 * layered_noise(cells, (24, 8), key(seed, "wetness")))
    annual = annual * (1 + 0.35 * np.clip(height / 1000, 0, 2))
    monsoon = 0.7 * np.exp(-((band / 25) ** 2)) + 0.5 * smooth_noise(
        cells, 36, key(seed, "rain season")
    )
    rain = annual * (1 + monsoon * np.tanh(latitude / 8) * season)
    temperature = temperature.astype(np.float32)
    demand = evaporative_demand(temperature, sunlight(cells.latitude)[:, :, None])
    return Weather(temperature, rain.astype(np.float32), demand)


def weather(cells: Extent, height: np.ndarray, months: range, seed: int) -> Weather:
    """Weather of ``months`` on 0.25 degree cells, ``(month, y, x)``."""
    mean = normals(cells, height, seed)
    latitude = cells.latitude[:, None]
    unrest = (0.9 + 0.8 * np.abs(np.sin(np.deg2rad(latitude)))).astype(np.float32)
    summer = np.tanh(latitude / 10) * np.cos(2 * np.pi * (np.arange(12) - 6) / 12)[:, None, None]
    temperature, rain = [], []
    for month in months:
        dry = _anomaly(cells, seed, "dry spell", month, (1.0, 0.8, 0.6, 0.3))
        warm = _anomaly(cells, seed, "warm spell", month, (1.0, 0.5))
        # Dry summers are hot: dry soil cools by evaporation less.
        hot = unrest * warm + dry * np.maximum(summer[month % 12], 0).astype(np.float32)
        trend = np.float32(warming((month + 0.5) / 12))
        temperature.append(mean.temperature[month % 12] + hot + trend)
        rain.append(mean.precipitation[month % 12] * np.exp(-0.5 * dry - 0.125))
    kelvin = np.stack(temperature)
    light = sunlight(cells.latitude)[[month % 12 for month in months]][:, :, None]
    return Weather(kelvin, np.stack(rain), evaporative_demand(kelvin, light))


def forcing(cells: Extent, height: np.ndarray, months: range, seed: int) -> dict[str, np.ndarray]:
    """ERA5-like fields of ``months``, ``(month, y, x)`` float32; defined over sea too.

    ``t2m`` K, ``tp`` kg m-2 s-1, ``ssrd`` W m-2, ``swvl1`` m3 m-3 (of a loam, porosity 0.44).
    """
    longer = range(months.start - MEMORY, months.stop)
    air = weather(cells, height, longer, seed)
    supply = water_supply(air)[MEMORY:]
    air = air.months(slice(MEMORY, None))
    light = sunlight(cells.latitude)[[month % 12 for month in months]][:, :, None]
    clear = 0.62 - 0.14 * np.tanh(np.log(air.precipitation / 2.5))
    return {
        "t2m": air.temperature,
        "tp": air.precipitation / np.float32(86400),
        "ssrd": light * clear,
        "swvl1": 0.06 + 0.38 * supply / (supply + 0.8),
    }


def downscaled(
    air: Weather, cells: Extent, height: np.ndarray, extent: Extent, elevation: np.ndarray
) -> Weather:
    """Weather of 0.25 degree cells (``height`` m) at pixels (``elevation`` m).

    Air cools with height by `LAPSE_RATE`, rain grows by 30 % per km; ``cells`` must hold one cell
    more than ``extent`` on each side. ``air`` starts in January.
    """
    sea_level = to_pixels(air.temperature + LAPSE_RATE * height, cells, extent)
    temperature = sea_level - LAPSE_RATE * elevation
    above = (elevation - to_pixels(height[None], cells, extent)[0]) / 1000
    rain = to_pixels(air.precipitation, cells, extent) * np.exp(0.3 * np.clip(above, -2, 2))
    light = np.resize(sunlight(extent.latitude), (len(temperature), extent.height))
    return Weather(temperature, rain, evaporative_demand(temperature, light[:, :, None]))


def to_pixels(field: np.ndarray, cells: Extent, extent: Extent) -> np.ndarray:
    """Bilinear interpolation of ``(..., y, x)`` from cells to pixels, float32."""
    field = np.asarray(field, np.float32)
    for axis, first, points in ((-2, cells.row, extent.rows), (-1, cells.column, extent.columns)):
        position = (points + 0.5) / CELL - 0.5 - first
        below = np.floor(position).astype(np.int64)
        weight = (position - below).astype(np.float32)
        lower, upper = (field.take(below + k, axis=axis) for k in (0, 1))
        field = lower + (upper - lower) * (weight[:, None] if axis == -2 else weight)
    return field


def water_supply(air: Weather) -> np.ndarray:
    """Rain over demand of the months so far, 1: the newest counts most, half a year is forgotten.

    Below about 0.5 plants are short of water. Months without a full memory before them are wrong.
    """
    rain, demand = np.zeros_like(air.precipitation), np.full_like(air.demand, 0.3)
    for lag in range(6):
        weight = np.float32(np.exp(-lag / 2) * (1 - np.exp(-0.5)))
        rain[lag:] += weight * air.precipitation[: len(rain) - lag]
        demand[lag:] += weight * air.demand[: len(rain) - lag]
    return rain / demand


def growing_degree_days(temperature: np.ndarray, months: int = 12) -> np.ndarray:
    """Sum of warmth above 5 degC over the last ``months``, K day, for each month; K in."""
    warmth = np.float32(30.4) * np.maximum(temperature - (FREEZING + 5), 0)
    total = np.zeros_like(warmth)
    for lag in range(months):
        total[lag:] += warmth[: len(warmth) - lag]
    return total


def snow_cover(air: Weather) -> np.ndarray:
    """Share of the ground under snow, 1: falls below 0.5 degC, melts 2.5 mm a day and degree."""
    cold = 1 - step(air.temperature, FREEZING + 0.5, 1.0)
    balance = 30.4 * (
        air.precipitation * cold - 2.5 * np.maximum(air.temperature - (FREEZING + 0.5), 0)
    )
    depth = np.zeros_like(balance)  # kg m-2
    for month in range(len(depth)):
        before = depth[month - 1] if month else 0
        depth[month] = np.maximum(before + balance[month], 0)
    return depth / (depth + 15)


def _anomaly(
    cells: Extent, seed: int, name: str, month: int, memory: tuple[float, ...]
) -> np.ndarray:
    """Anomaly of one month, variance about 1: a moving average of noise 3 and 1 degree wide."""
    total = np.zeros(cells.shape, np.float32)
    for lag, weight in enumerate(memory):
        total += weight * layered_noise(cells, (12, 5), key(seed, name, month - lag), 0.7)
    return total / np.float32(0.43 * np.sqrt(np.sum(np.square(memory))))
