"""A synthetic world on the global 1/120 degree grid, whose rules are known.

Everything an emulator has to find out is written down here, so a test can ask whether it did:

* `terrain`: continents, ridged mountains, lakes, soils. The oceans are the same in every world;
  all else depends on the seed.
* `climate`: ERA5-like months on 0.25 degree cells: seasons that flip with the hemisphere, dry
  spells that are hot in summer, warming in step with CO2; at 1 km the air cools with height
  (`climate.LAPSE_RATE`) and rain grows with it.
* `land`: land use is a multinomial logit of suitability (growing degree days, water, slope, soil,
  people); forests end at the tree line, ice begins near the snow line, cropland and cities expand
  with the years. The coarse totals are its exact area-weighted means. Land cover is drawn from
  land use within `legends.compatible`.
* `leaves`: leaf area by class from temperature, warmth of the year, water supply, soil, snow, the
  crop calendar and CO2; ``lai`` is its mean weighted with the land-cover fractions.

The rest is unexplained: `land.UNEXPLAINED` in the logits, `world.NOISE` in the leaf area, gaps.
"""

from __future__ import annotations

from .cube import synthetic_cube

__all__ = ["synthetic_cube"]
