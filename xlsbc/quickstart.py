"""From raw fields to a consistent 1 km prediction, with one call: the whole chain, on real land."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from xlsbc.assess.boosting import boosting
from xlsbc.assess.evaluate import evaluate
from xlsbc.assess.report import Section, write_report
from xlsbc.cube.catalog import open_catalog
from xlsbc.cube.ingest import real_cubes
from xlsbc.cube.store.writer import write
from xlsbc.emulator import Architecture, Emulator, Split
from xlsbc.errors import LsbcError
from xlsbc.inference.predict import predict
from xlsbc.physics.consistency import check
from xlsbc.training.fit import fit
from xlsbc.training.splits import TRAIN, described, held_out, of_years, split_map

__all__ = ["Recipe", "quickstart"]

REPORT = "report.html"
RIVALS = ("gradient_boosting", "class_by_month_climatology")


@dataclass(frozen=True)
class Recipe:
    """How one cube is run.

    Parameters
    ----------
    name
        Heading in the report.
    given
        Fractions that are given in prediction and its scores; None for none.
    fit
        Arguments of `xlsbc.fit`.
    split
        What is held out; what `xlsbc.fit` holds out by default.
    share
        Of the minutes for training, where a budget is set.
    boosting
        Whether gradient boosting on pixels is run beside it, on the same split, predictors and
        given values.
    """

    name: str
    given: tuple[str, ...] = ()
    fit: Mapping[str, Any] = field(default_factory=dict)
    split: Split | None = None
    share: float = 1.0
    boosting: bool = False


SYNTHETIC = Recipe("Synthetic world", fit={"steps": 400})
REAL = {
    "rhine": Recipe(
        "Rhine",
        given=("lc_fraction",),
        fit={
            "given": [("lc_fraction",)],
            "optional": ("elevation", "slope"),
            "position": False,  # it sees the land around a pixel instead
            "steps": 2000,
            "learning_rate": 6e-3,
            "architecture": Architecture(hidden=64),
        },
        share=0.75,
        boosting=True,
    ),
    "oetztal": Recipe(
        "Ötztal Alps",
        given=("lc_fraction",),
        fit={
            "given": [("lc_fraction",)],
            "position": False,
            "steps": 800,
            "learning_rate": 6e-3,
            "architecture": Architecture(hidden=64),
        },
        share=0.25,
        boosting=True,
    ),
}


def quickstart(
    out: str = "xlsbc-quickstart",
    source: str | None = None,
    minutes: float | None = None,
    seed: int = 0,
    region: Sequence[float] | None = None,
    years: Sequence[int] | None = None,
    progress: bool = True,
) -> list[str]:
    """Build a cube, fit an emulator, predict, check, evaluate and report; say how it went.

    Parameters
    ----------
    out
        Directory for ``cube.zarr``, ``emulator/``, ``prediction.zarr``, ``scores.csv`` and
        ``report.html``; a second cube has a directory of its own in it.
    source
        Directory with the real sample files; the synthetic world by default.
    minutes
        Training time in all; by default a fixed number of steps, so that a seed gives the same
        emulator again.
    seed
        Of the synthetic world, the split and the training.
    region, years
        Of the synthetic world: ``(west, south, east, north)`` in degrees, and first and last
        year; the catalog's by default.
    progress
        Whether to show progress bars.

    Returns
    -------
    list of str
        Three lines: where the results are, the skill beside the baseline, what to try next.

    Raises
    ------
    LsbcError
        If `out` holds something already, before anything is computed.
    SourceError
        If files of `source` are missing or damaged.
    """
    folder = Path(out)
    if folder.exists() and any(folder.iterdir()):
        raise LsbcError(f"{folder} is not empty; choose another --out, or remove it")
    if source is None:
        asked = {"region": region, "years": years}
        options = {name: value for name, value in asked.items() if value is not None}
        cube = open_catalog()["synthetic"](seed=seed, **options).read()
        runs = {"": (cube, SYNTHETIC)}
    else:
        cubes = real_cubes(source)
        runs = {
            ("" if name == "rhine" else name): (cube, REAL[name]) for name, cube in cubes.items()
        }
    folder.mkdir(parents=True, exist_ok=True)
    sections = [
        run(cube, recipe, folder / name, minutes=minutes, seed=seed, progress=progress)
        for name, (cube, recipe) in runs.items()
    ]
    write_report(folder / REPORT, title="xlsbc quickstart", sections=sections)
    return [
        f"Results: {folder.resolve()} (open {REPORT})",
        "Skill on held-out blocks: " + "; ".join(skill(section) for section in sections),
        f'Next: python -c "import xarray as xr, xlsbc; '
        f"print(xr.open_zarr('{folder / 'cube.zarr'}').lsbc.predict('{folder / 'emulator'}'))\"",
    ]


def run(
    cube: xr.Dataset,
    recipe: Recipe,
    folder: Path,
    *,
    minutes: float | None,
    seed: int,
    progress: bool,
) -> Section:
    """Everything for one cube, written into a folder; what the report says of it."""
    clock = Clock(recipe.name, progress)
    write(cube, str(folder / "cube.zarr"), packed=False, progress=progress)
    cube = xr.open_zarr(folder / "cube.zarr", chunks={}, consolidated=False)
    clock.lap("cube")
    split = recipe.split or "blocks"
    budget = None if minutes is None else minutes * recipe.share
    emulator = fit(cube, split=split, seed=seed, minutes=budget, progress=progress, **recipe.fit)
    emulator.save(str(folder / "emulator"))
    clock.lap("fit")
    prediction = predict(cube, emulator, given=recipe.given)
    write(prediction, str(folder / "prediction.zarr"), progress=progress)
    prediction = xr.open_zarr(folder / "prediction.zarr", chunks={}, consolidated=False)
    clock.lap("predict")
    blocks = emulator.spec.split or Split()
    where, scored = held_out(cube, blocks)
    train = split_map(cube, blocks) == TRAIN
    rivals = {}
    if recipe.boosting:
        rivals["gradient_boosting"] = rival(cube, emulator, where, train, recipe.given, seed)
        clock.lap("boosting")
    judged = of_years(prediction, scored)
    scores = evaluate(judged, cube, where=where, train=train, baselines=rivals)
    scores.drop_vars("description").to_dataframe().to_csv(folder / "scores.csv")
    clock.lap("evaluate")
    consistency = check(prediction)
    clock.lap("check")
    emulator = Emulator(
        emulator.spec.model_copy(update={"scores": numbers(scores)}), emulator.network
    )
    emulator.save(str(folder / "emulator"))  # now with its scores
    facts = describe(cube, emulator, recipe, seed, clock, rivals)
    return Section(recipe.name, cube, prediction, scores, consistency, facts, where)


def rival(
    cube: xr.Dataset,
    emulator: Emulator,
    where: xr.DataArray,
    train: xr.DataArray,
    given: Sequence[str],
    seed: int,
) -> xr.DataArray:
    """Gradient boosting with the emulator's predictors, given values and split."""
    names = [v.name for v in emulator.spec.inputs if v.name not in ("latitude", "longitude")]
    names += ["lu_total"] * emulator.spec.driver
    return boosting(cube, names, where, train, given=given, seed=seed)


def numbers(scores: xr.Dataset) -> dict[str, float | None]:
    """The prediction's scores, for the artefact; None where there is no number."""
    own = scores.sel(product="prediction")
    values = {str(name): float(value) for name, value in own.data_vars.items()}
    return {name: value if np.isfinite(value) else None for name, value in values.items()}


def skill(section: Section) -> str:
    """The prediction's leaf-area score beside that of the strongest rival without its history.

    Persistence has seen a held-out pixel's own past year, which nothing else has.
    """
    products = [str(name) for name in section.scores["product"].to_numpy()]
    rival = next(name for name in RIVALS if name in products)
    own, other = (section.scores.sel(product=name) for name in ("prediction", rival))
    return (
        f"{section.name} LAI RMSE {float(own['lai_rmse']):.3f}, R² {float(own['lai_r2']):.3f} "
        f"({rival.replace('_', ' ')} {float(other['lai_rmse']):.3f}, {float(other['lai_r2']):.3f})"
    )


def describe(
    cube: xr.Dataset,
    emulator: Emulator,
    recipe: Recipe,
    seed: int,
    clock: Clock,
    rivals: Mapping[str, Any],
) -> dict[str, str]:
    """What was run, for the report."""
    spec = emulator.spec
    given = ", ".join(recipe.given) or "nothing"
    predicted = ", ".join(name for name in spec.targets if name not in recipe.given)
    facts = {
        "Data": str(cube.attrs.get("title", "")),
        "Source": str(cube.attrs.get("source", "")),
        "Grid": " x ".join(str(cube.sizes[d]) for d in ("latitude", "longitude")) + " pixels",
        "Given": given,
        "Predicted": predicted,
        "Inputs": ", ".join(v.name + " (may be missing)" * v.optional for v in spec.inputs)
        + ", lu_total" * spec.driver,
        "Held out": described(spec.split or Split()),
        "Emulator": f"{emulator.hash[:16]}, {emulator.headline}",
        "Training": f"{spec.provenance['steps']} steps of {spec.provenance['batch_size']} crops of "
        f"{spec.provenance['crop']} pixels, random initialisation, seed {seed}",
        "Time": ", ".join(f"{name} {seconds:.0f} s" for name, seconds in clock.laps.items()),
        "Machine": f"{os.cpu_count()} CPU cores, {platform.machine()}, {platform.system()}",
    }
    if rivals:
        facts["Gradient boosting"] = (
            "scikit-learn HistGradientBoostingRegressor, one model a month, on pixels, with the "
            "same predictors and latitude and longitude besides, the same given values, split and "
            "scored pixels"
        )
    return facts


class Clock:
    """Seconds that each part of a run took; says what comes next."""

    def __init__(self, name: str, show: bool) -> None:
        self.name, self.show = name, show
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, part: str) -> None:
        """End a part."""
        now = time.perf_counter()
        self.laps[part] = now - self._last
        self._last = now
        if self.show:
            print(f"{self.name}: {part} took {self.laps[part]:.1f} s", flush=True)
