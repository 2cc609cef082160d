"""An archive of a provider: years of weather in files whose names say nothing of their order."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

pytest.importorskip("apache_beam", reason="recipes need Apache Beam: pip install 'xlsbc[recipes]'")

from xlsbc.cube.forge import (  # noqa: E402
    Conform,
    OpenURLWithFSSpec,
    OpenWithXarray,
    StoreToZarr,
    blocks,
    pattern_from_file_sequence,
)
from xlsbc.cube.forge.footprint import footprint  # noqa: E402
from xlsbc.cube.forge.target import open_target  # noqa: E402
from xlsbc.cube.schema import conform  # noqa: E402

NORTH = {"units": "degrees_north", "standard_name": "latitude"}
EAST = {"units": "degrees_east", "standard_name": "longitude"}
CHUNKS = {"forcing_time": 5, "forcing_latitude": 2}


def weather(
    months: Any,
    rows: slice = slice(None),
    columns: slice = slice(None),
    name: str = "air_temperature",
    units: str = "K",
    seed: int = 0,
) -> xr.Dataset:
    """Months of weather on 5 x 7 cells, no two numbers alike; the same month has the same numbers.

    Latitude ascends and longitude goes from 350 to 351.5 degrees.
    """
    months = pd.DatetimeIndex(months)
    count = (months.year - 1990) * 12 + months.month
    place = np.arange(35).reshape(5, 7)
    values = (270 + seed + count.to_numpy()[:, None, None] / 20 + place / 1000).astype("float32")
    ds = xr.Dataset(
        {"field": (("time", "lat", "lon"), values, {"standard_name": name, "units": units})},
        {
            "time": months,
            "lat": ("lat", 40 + np.arange(5) * 0.25, NORTH),
            "lon": ("lon", 350 + np.arange(7) * 0.25, EAST),
        },
        {"title": "weather", "license": "CC0-1.0", "history": f"made for {months[0].year}"},
    )
    return ds.isel(lat=rows, lon=columns)


def year(number: int) -> pd.DatetimeIndex:
    return pd.date_range(f"{number}-01-01", periods=12, freq="MS")


def decode(ds: xr.Dataset) -> xr.Dataset:
    """Temperature as a forcing."""
    return conform(xr.decode_cf(ds))


@pytest.fixture
def archive(tmp_path: Path) -> Callable[..., list[str]]:
    """A factory of files from Datasets; names run against the order given."""

    def make(*parts: xr.Dataset) -> list[str]:
        folder = tmp_path / "archive"
        folder.mkdir(exist_ok=True)
        held = len(list(folder.iterdir()))
        paths = []
        for i, part in enumerate(parts):
            path = folder / f"w{99 - held - i}.nc"
            part.to_netcdf(path)
            paths.append(str(path))
        return paths

    return make


def recipe(files: list[str], place: Any, decode: Any = decode, **options: Any) -> Any:
    """An ordinary recipe over some files."""
    import apache_beam as beam

    place = str(place)
    root, _, name = place.rpartition("/")
    pattern = pattern_from_file_sequence(files, "file", file_type="unknown")
    options = {"target_chunks": CHUNKS, **options}
    return (
        beam.Create(pattern.items())
        | OpenURLWithFSSpec()
        | OpenWithXarray(file_type=pattern.file_type)
        | Conform(decode)
        | StoreToZarr(
            combine_dims=pattern.combine_dim_keys, store_name=name, target_root=root, **options
        )
    )


def bake(files: list[str], place: Any, **options: Any) -> str:
    """Run a recipe by Beam's direct runner."""
    from xlsbc.cube.feedstock import execute

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=ResourceWarning)
        execute(recipe(files, place, **options), "DirectRunner")
    return str(place)


def build(fragments: Iterable[xr.Dataset], place: Any, **options: Any) -> str:
    """What the recipe's transforms do, one after the other, without Beam."""
    fragments = list(fragments)
    for i, fragment in enumerate(fragments):
        fragment.encoding.setdefault("source", f"fragment {i}")
    options = {"chunks": CHUNKS, "attrs": {}, **options}
    footprints = [footprint(ds, stamp(ds), None) for ds in fragments]
    target = open_target(footprints, str(place), **options)
    if target.objects is None:
        return target.finish([])
    arrays = target.layout.arrays
    pieces: dict[Any, list[Any]] = {
        block: [] for block in blocks.blocks(target.mosaic, arrays, target.before)
    }
    for ds in fragments:
        for block, piece in blocks.split(ds, target.mosaic, arrays):
            if block in pieces:
                pieces[block].append(piece)
    written = [
        blocks.write(
            block,
            held,
            target.mosaic,
            arrays[block[0]],
            target.objects,
            target.before.get(block[0]),
        )
        for block, held in pieces.items()
    ]
    return target.finish(written)


def stamp(ds: xr.Dataset) -> str:
    import dask

    return str(dask.base.tokenize(*(v.values for v in ds.variables.values())))
