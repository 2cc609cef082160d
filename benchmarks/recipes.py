"""How fast a recipe is, against a bare copy of the same arrays with zarr-python, and what it needs.

    python benchmarks/recipes.py [--years 10] [--rows 361] [--columns 720]

Years of monthly fields in files, one a year, go through a recipe of Beam's direct runner; the bare
copy opens the same files, and writes the same values into the same chunks with the same codec and
one thread. Both in one process, in turn; ratios inside a round. Then the recipe alone, in a fresh
process each, over one and over all of the years: its peak memory must not grow with them.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import dask
import numpy as np
import pandas as pd
import xarray as xr
import zarr

NAMES = ("air_temperature", "dew_point_temperature")


def write_files(folder: Path, years: int, rows: int, columns: int) -> list[str]:
    """One netCDF-4 file a year, float32, deflated and chunked by month as the CDS's are."""
    random = np.random.default_rng(0)
    smooth = np.cumsum(np.cumsum(random.normal(size=(rows, columns)), 0), 1) / 1000
    files = []
    for year in range(2000, 2000 + years):
        months = pd.date_range(f"{year}-01-01", periods=12, freq="MS")
        fields = {}
        for name in NAMES:
            noise = random.normal(0, 0.5, (12, rows, columns))
            values = (280 + smooth + noise).round(2).astype("float32")
            attrs = {"standard_name": name, "units": "K"}
            fields[name] = (("valid_time", "latitude", "longitude"), values, attrs)
        coords = {
            "valid_time": months,
            "latitude": ("latitude", np.linspace(90, -90, rows), {"units": "degrees_north"}),
            "longitude": (
                "longitude",
                np.arange(columns) * 360 / columns,
                {"units": "degrees_east"},
            ),
        }
        files.append(str(folder / f"{year}.nc"))
        encoding = {
            n: {"zlib": True, "complevel": 1, "chunksizes": (1, rows, columns)} for n in NAMES
        }
        xr.Dataset(fields, coords).to_netcdf(files[-1], encoding=encoding)
    return files


def recipe(files: list[str], place: Path) -> None:
    import apache_beam as beam

    from xlsbc.cube.feedstock import execute
    from xlsbc.cube.forge import (
        Conform,
        OpenURLWithFSSpec,
        OpenWithXarray,
        StoreToZarr,
        pattern_from_file_sequence,
    )

    pattern = pattern_from_file_sequence(files, "file", file_type="unknown")
    execute(
        beam.Create(pattern.items())
        | OpenURLWithFSSpec()
        | OpenWithXarray(file_type=pattern.file_type)
        | Conform(decode)
        | StoreToZarr(
            store_name=place.name,
            target_root=str(place.parent),
            combine_dims=pattern.combine_dim_keys,
            target_chunks={"forcing_time": 12},
        ),
        "DirectRunner",
    )


def decode(ds: xr.Dataset) -> xr.Dataset:
    from xlsbc.cube.schema import conform

    return conform(xr.decode_cf(ds))


def bare(files: list[str], place: Path) -> None:
    """The same values in the same chunks by the same codec, with zarr-python and nothing else."""
    from xlsbc.cube.store.layout import FAST_CODEC

    group = zarr.open_group(place, mode="w")
    first = xr.open_dataset(files[0])
    shape = (12 * len(files), first.sizes["latitude"], first.sizes["longitude"])
    for name in NAMES:
        array = group.create_array(
            name, shape=shape, chunks=(12, *shape[1:]), dtype="float32", compressors=FAST_CODEC
        )
        half = shape[2] // 2
        for i, file in enumerate(files):
            with xr.open_dataset(file) as ds:
                # -180..180, as a cube has it
                array[12 * i : 12 * (i + 1)] = np.roll(ds[name].values, half, -1)


def timed(act: object, files: list[str], place: Path) -> float:
    shutil.rmtree(place, ignore_errors=True)
    begin = time.perf_counter()
    act(files, place)  # type: ignore[operator]
    return time.perf_counter() - begin


def peak(files: list[str], place: Path) -> int:
    """MiB that a fresh process needs at most for the recipe."""
    command = [sys.executable, __file__, "--child", json.dumps([files, str(place)])]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--years", type=int, default=10)
    parser.add_argument("--rows", type=int, default=361)
    parser.add_argument("--columns", type=int, default=720)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", default=None)
    args = parser.parse_args()
    dask.config.set(scheduler="synchronous")
    warnings.filterwarnings("ignore")
    if args.child:
        files, place = json.loads(args.child)
        recipe(files, Path(place))
        status = Path("/proc/self/status").read_text()  # ru_maxrss would be the parent's too
        print(int(status.partition("VmHWM:")[2].split()[0]) // 1024)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = write_files(folder, args.years, args.rows, args.columns)
        size = 4 * len(NAMES) * 12 * args.years * args.rows * args.columns / 2**20
        print(f"{platform.machine()}, Python {platform.python_version()}; {size:.0f} MiB float32")
        timed(recipe, files[:1], folder / "warm.zarr")
        ratios = []
        for _ in range(args.rounds):
            of_bare = timed(bare, files, folder / "bare.zarr")
            of_recipe = timed(recipe, files, folder / "recipe.zarr")
            ratios.append(of_bare / of_recipe)
            print(
                f"bare copy {size / of_bare:.0f} MiB/s, recipe {size / of_recipe:.0f} MiB/s, "
                f"ratio {ratios[-1]:.2f}"
            )
        stored = xr.open_zarr(folder / "recipe.zarr")
        copied = zarr.open_group(folder / "bare.zarr", mode="r")
        for canonical, name in zip(("t2m", "d2m"), NAMES, strict=True):
            array = copied[name]
            assert isinstance(array, zarr.Array)
            np.testing.assert_array_equal(stored[canonical], array[...])
        print(f"recipe / bare copy: {statistics.median(ratios):.2f} of its throughput")
        some, all_of_them = (
            peak(files[:n], folder / f"peak{n}.zarr") for n in (max(1, args.years // 5), args.years)
        )
        print(
            f"peak memory: {some} MiB over {args.years // 5} files, {all_of_them} over {args.years}"
        )


if __name__ == "__main__":
    main()
