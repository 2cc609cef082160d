"""Fixtures that more than one part of the tests needs."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import hypothesis
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from xlsbc.cube import legends

if TYPE_CHECKING:
    from xlsbc.emulator import Emulator

with contextlib.suppress(ImportError):
    import pyproj  # noqa: F401  before eccodes, after which it crashes: see xlsbc.cube.native

# The same examples every run, on machines of any speed, and no database beside the checkout.
hypothesis.settings.register_profile("xlsbc", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("xlsbc")

Case = tuple[xr.Dataset, xr.Dataset, xr.DataArray]
EmulatorFactory = Callable[..., "Emulator"]


def pytest_itemcollected(item: pytest.Item) -> None:
    """Rows of docs/reliability.md that a test proves stand beside it in the report (junit XML)."""
    rows = [row for mark in item.iter_markers("proves") for row in mark.args]
    item.user_properties += [("proves", row) for row in dict.fromkeys(rows)]


@pytest.fixture(autouse=True, scope="module")
def _logging_as_it_was() -> Iterator[None]:
    """`xlsbc recipe run` keeps its process quiet, which no other test may notice."""
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real sample files; the test is skipped where there is none."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    path = Path(os.environ.get("XLSBC_TEST_DATA", beside))
    if not path.is_dir():
        pytest.skip("no real data: set XLSBC_TEST_DATA to their folder")
    return path


@pytest.fixture(scope="session")
def three_strips() -> Callable[..., Case]:
    """A factory of (cube, prediction, held_out) whose every value can be told by eye.

    Forest west, fields in the middle, water east, three columns each; nothing known in the north
    row. LAI rises by 0.2 a month in the forest and by 0.1 on fields; the prediction has 0.5 more in
    the forest and 0.25 less on fields, from February on, and calls the fields pasture. Rows 2 to 4
    of the five western columns are held out.
    """

    def make(rows: int = 7, years: tuple[int, ...] = (2001, 2002)) -> Case:
        axes = {
            "latitude": 50 - np.arange(rows) / 120,
            "longitude": 7 + np.arange(9) / 120,
        }
        time = pd.date_range(f"{years[0]}-01-01", f"{years[-1]}-12-01", freq="MS")
        strip = np.repeat([0, 1, 2], 3) * np.ones((rows, 1), int)

        def fraction(legend: legends.Legend, dim: str, ids: list[str]) -> xr.DataArray:
            one_hot = np.zeros((len(years), len(legend.ids), rows, 9), "float32")
            for k, name in enumerate(ids):
                one_hot[:, legend.index(name)] = strip == k
            one_hot[:, :, 0] = np.nan
            coords = {"year": list(years), dim: legend.coordinate(dim)[dim], **axes}
            return xr.DataArray(one_hot, coords, ("year", dim, "latitude", "longitude"))

        def lai(forest: float, fields: float) -> xr.DataArray:
            month = time.month.values[:, None, None]
            slope, shift = np.array([0.2, 0.1, 0.0])[strip], np.array([forest, fields, 0])[strip]
            values = (slope * month + np.where(month > 1, shift, 0)).clip(0).astype("float32")
            values[:, 0] = np.nan
            return xr.DataArray(
                values,
                {"time": time, **axes},
                ("time", "latitude", "longitude"),
                attrs={"units": "1"},
            )

        cube = xr.Dataset(
            {
                "lu_fraction": fraction(legends.LU, "lu_class", ["primf", "c3ann", "icwtr"]),
                "lc_fraction": fraction(legends.LC, "lc_class", ["trees_bd", "grass_man", "water"]),
                "lai": lai(0, 0),
            }
        )
        prediction = xr.Dataset(
            {
                "lu_fraction": fraction(legends.LU, "lu_class", ["primf", "pastr", "icwtr"]),
                "lc_fraction": cube["lc_fraction"],
                "lai": lai(0.5, -0.25),
            },
            attrs={"xlsbc_given": "lc_fraction", "xlsbc_emulator": "0" * 64},
        )
        held_out = xr.DataArray(np.zeros((rows, 9), bool), axes, ("latitude", "longitude"))
        held_out[2:5, :5] = True
        return cube, prediction, held_out

    return make


@pytest.fixture(scope="session")
def world() -> xr.Dataset:
    """Two years of 37 x 53 pixels of the synthetic world, gaps and all, not on the tile lattice."""
    from xlsbc.cube.synthetic import synthetic_cube

    region = (8.1, 45.6, 8.1 + 53 / 120, 45.6 + 37 / 120)
    return synthetic_cube(region=region, years=(2000, 2001))


@pytest.fixture(scope="session")
def untrained() -> EmulatorFactory:
    """A factory of emulators for a cube, small, with random weights and a lattice of 16 pixels."""

    def make(cube: xr.Dataset, *, tile: int = 16, seed: int = 0, **options: Any) -> Emulator:
        import torch

        from tests.specify import specify
        from xlsbc.emulator import Architecture, Emulator, Split
        from xlsbc.emulator.artefact import build

        everywhere = xr.ones_like(cube["latitude"] * cube["longitude"], dtype=bool)
        sizes = Architecture(width=(8, 16), climate=4, hidden=8)
        options = {"split": Split(), "architecture": sizes, **options}
        spec = specify(cube, everywhere, **options)
        spec = spec.model_copy(update={"lattice": spec.lattice.model_copy(update={"tile": tile})})
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return Emulator(spec, build(spec))

    return make


@pytest.fixture(scope="session")
def fitted(world: xr.Dataset) -> Emulator:
    """An emulator that had a short training on the world."""
    from xlsbc import fit
    from xlsbc.emulator import Architecture

    return fit(
        world,
        architecture=Architecture(width=(8, 16), climate=4, hidden=8),
        steps=12,
        batch_size=2,
        crop=24,
        progress=False,
    )


@pytest.fixture
def no_compute() -> Iterator[None]:
    """Any compute of a Dask graph is an error."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("something was computed")

    with dask.config.set(scheduler=refuse):
        yield
