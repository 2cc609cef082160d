"""Prediction at scale, as ratios within one run: predict beside bare loops of the same network.

    python benchmarks/planet.py [--side 2880] [--rounds 3] [--only CASE ...]
    python benchmarks/planet.py --globe stores|dask     # the graph of a global year
    python benchmarks/planet.py --memory                # 1920 against 7680 pixels a side
    python benchmarks/planet.py --precision FOLDER      # bfloat16 against float32

Every case runs in a process of its own, cases in turn within a round; a ratio is taken within a
round, and the median is printed with the range. All but `plain` run with the allocator set as the
command line and the workers of a cluster set it. The network has the default sizes and random
weights: its speed does not depend on them. Pixels a second count a year of a pixel, twelve months
and all classes, once.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

ROW, COLUMN = 5280, 22560  # a corner of the lattice in the Alps
STATIC = ("elevation", "slope", "clay_fraction", "sand_fraction", "soil_porosity")
WEATHER = ("t2m", "tp", "ssrd", "swvl1")
TARGETS = ("lu_fraction", "lc_fraction", "lai")


def cube(rows: int, columns: int, row: int = ROW, column: int = COLUMN) -> Any:
    """Random land: static fields at 1/120 degree, two years of weather and totals at 1/4."""
    import pandas as pd
    import xarray as xr

    from xlsbc.cube.legends import LC, LU
    from xlsbc.cube.vocabulary import attributes

    random = np.random.default_rng(0)
    y, x = row + np.arange(rows), column + np.arange(columns)
    cells_y = np.arange(max(row // 30 - 1, 0), (row + rows) // 30 + 2)
    cells_x = np.arange(column // 30 - 1, (column + columns) // 30 + 2)
    coarse = (len(cells_y), len(cells_x))
    totals = random.exponential(size=(1, len(LU.ids), *coarse))
    fields = {
        n: (("latitude", "longitude"), random.standard_normal((rows, columns), np.float32))
        for n in STATIC
    }
    dims = ("forcing_time", "forcing_latitude", "forcing_longitude")
    fields |= {n: (dims, random.standard_normal((24, *coarse), np.float32)) for n in WEATHER}
    fields["lu_total"] = (
        ("year", "lu_class", "driver_latitude", "driver_longitude"),
        (totals / totals.sum(1, keepdims=True)).astype(np.float32),
    )
    fields["co2"] = (("year",), np.array([370e-6], np.float32))
    north, east = {"units": "degrees_north"}, {"units": "degrees_east"}
    coords: dict[str, Any] = {
        "latitude": ("latitude", 90 - (y + 0.5) / 120, north),
        "longitude": ("longitude", (x + 0.5) / 120 - 180, east),
        "forcing_time": pd.date_range("1999-01-01", periods=24, freq="MS"),
        "year": [2000],
        "lu_class": LU.coordinate("lu_class"),
        "lc_class": LC.coordinate("lc_class"),
    }
    for grid in ("forcing", "driver"):
        coords[f"{grid}_latitude"] = (f"{grid}_latitude", 90 - (cells_y + 0.5) / 4, north)
        coords[f"{grid}_longitude"] = (f"{grid}_longitude", (cells_x + 0.5) / 4 - 180, east)
    return xr.Dataset({n: (d, v, attributes(n)) for n, (d, v) in fields.items()}, coords)


def emulator() -> Any:
    """The default network with random weights."""
    import torch

    from xlsbc.emulator import Architecture, Emulator, InputVariable, Lattice, Spec
    from xlsbc.emulator.artefact import build

    def inputs(names: tuple[str, ...]) -> tuple[Any, ...]:
        from xlsbc.cube.vocabulary import VOCABULARY

        return tuple(InputVariable(name=n, units=VOCABULARY[n].units) for n in names)

    spec = Spec(
        static=inputs(STATIC),
        forcing=inputs(WEATHER),
        scalars=inputs(("co2",)),
        driver=True,
        targets=TARGETS,
        steps=tuple((month, 1) for month in range(1, 13)),
        architecture=Architecture(),
        lattice=Lattice(dlat=1 / 120, dlon=1 / 120),
    )
    torch.manual_seed(0)
    return Emulator(spec, build(spec))


def samples(made: Any, ds: Any, halo: int, size: int) -> Iterator[Any]:
    """Windows in memory, as the network takes them."""
    from xlsbc.cube.schema import conform
    from xlsbc.emulator.sample import Window
    from xlsbc.training.reader import Place, Reader

    reader = Reader(conform(ds), made.spec.model_copy(update={"targets": ()}))
    side = size + 2 * halo
    for y in range(0, ds.sizes["latitude"], size):
        for x in range(0, ds.sizes["longitude"], size):
            window = Window(y - halo, x - halo, side, side)
            yield reader.read(Place(window, (2000,)))[0].sample


# --- cases: each gives seconds and pixels ---


def plain(side: int, folder: Path) -> tuple[float, int]:
    """The network as first written: float32, a loop over windows in memory, tile 512."""
    import torch
    from plain_network import plain as as_first_written

    from xlsbc.emulator.artefact import stack

    side = 1024
    made = emulator()
    network = as_first_written(made.network)
    windows = [stack([s]) for s in samples(made, cube(side, side), made.halo, 512)]
    with torch.inference_mode():
        network(windows[0], rim=made.halo)
        begin = time.perf_counter()
        for window in windows:
            network(window, rim=made.halo)
    return time.perf_counter() - begin, side * side


def loop(side: int, folder: Path, names: tuple[str, ...] = TARGETS) -> tuple[float, int]:
    """The engine's network over windows in memory into arrays in memory, one thread a core."""
    from xlsbc.inference.engine import Reference, engine, resolve

    made = emulator()
    ready = engine(Reference.of(made), resolve("auto"))
    size = made.spec.lattice.tile
    windows = list(samples(made, cube(side, side), made.halo, size))
    layers = {"lu_fraction": (13,), "lc_fraction": (14,), "lai": (12,)}
    whole = {name: np.empty((*layers[name], side, side), np.float32) for name in names}

    def one(i: int) -> None:
        (fields,) = ready.run([windows[i]], names)
        y, x = (size * place for place in divmod(i, side // size))
        for name, field in fields.items():
            whole[name][:, y : y + size, x : x + size] = field

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(one, range(4)))
        begin = time.perf_counter()
        list(pool.map(one, range(len(windows))))
    return time.perf_counter() - begin, side * side


def loop_lai(side: int, folder: Path) -> tuple[float, int]:
    """The same, leaf area alone."""
    return loop(side, folder, ("lai",))


def memory(side: int, folder: Path, **options: Any) -> tuple[float, int]:
    """Predict from memory into memory, Dask's threads."""
    import dask

    from xlsbc.inference.predict import predict

    ds, made = cube(side, side), emulator()
    options = {"targets": TARGETS, **options}
    predict(ds.isel(latitude=slice(0, 240), longitude=slice(0, 480)), made, **options).compute()
    begin = time.perf_counter()
    with dask.config.set(scheduler="threads"):
        predict(ds, made, **options).compute()
    return time.perf_counter() - begin, side * side


def memory_lai(side: int, folder: Path) -> tuple[float, int]:
    """The same, leaf area alone."""
    return memory(side, folder, targets=("lai",))


def stored(side: int, folder: Path, targets: tuple[str, ...] = TARGETS) -> tuple[float, int]:
    """Predict from a Zarr store into a Zarr store, in one process."""
    import xarray as xr

    from xlsbc.inference.predict import predict

    assert side % 480 == 0  # stored chunks, two tiles a side
    made = str(emulator().save(str(folder / "emulator")))
    ds = xr.open_zarr(in_store(side, folder), chunks={})
    corner = ds.isel(latitude=slice(0, 240), longitude=slice(0, 480))
    predict(corner, made, targets=targets).compute()
    begin = time.perf_counter()
    predict(ds, made, targets=targets).lsbc.write(str(folder / "out.zarr"), progress=False)
    return time.perf_counter() - begin, side * side


def stored_lai(side: int, folder: Path) -> tuple[float, int]:
    """The same, leaf area alone."""
    return stored(side, folder, ("lai",))


def cluster(side: int, folder: Path, targets: tuple[str, ...] = TARGETS) -> tuple[float, int]:
    """The same on a cluster of two processes, without the time that they take to start."""
    import xlsbc

    with xlsbc.cluster(n_workers=2, threads_per_worker=1, dashboard_address=":0"):
        return stored(side, folder, targets)


def cluster_lai(side: int, folder: Path) -> tuple[float, int]:
    """The same, leaf area alone."""
    return cluster(side, folder, ("lai",))


def one_month(side: int, folder: Path) -> tuple[float, int]:
    """As `memory`, leaf area of an emulator of one step a year."""
    return year_of(side, 1)


def twelve_months(side: int, folder: Path) -> tuple[float, int]:
    """As `memory`, leaf area of twelve steps a year."""
    return year_of(side, 12)


def year_of(side: int, steps: int) -> tuple[float, int]:
    """Predict leaf area of a year of so many steps."""
    from xlsbc.emulator import Emulator
    from xlsbc.inference.predict import predict

    made = emulator()
    spec = made.spec.model_copy(update={"steps": made.spec.steps[:: 12 // steps]})
    ds, made = cube(side, side), Emulator(spec, made.network)
    predict(ds.isel(latitude=slice(0, 240)), made, targets="lai").compute()
    begin = time.perf_counter()
    predict(ds, made, targets="lai").compute()
    return time.perf_counter() - begin, side * side


# --- the lazy globe: figures of its graph, in a process of its own ---


def globe(folder: Path, *, computing: bool) -> dict[str, float]:
    """Build and optimise the graph of a global year of leaf area; a box from it and alone.

    The store holds metadata and no chunk; a missing one reads as 0, which is a value.
    """
    import dask
    import dask.array as da
    import xarray as xr

    from xlsbc.inference.predict import predict

    rows, columns = 21600, 43200
    small = cube(60, 60)
    axes = {
        "latitude": 90 - (np.arange(rows) + 0.5) / 120,
        "longitude": (np.arange(columns) + 0.5) / 120 - 180,
    }
    for grid in ("forcing", "driver"):
        axes[f"{grid}_latitude"] = 90 - (np.arange(720) + 0.5) / 4
        axes[f"{grid}_longitude"] = (np.arange(1440) + 0.5) / 4 - 180
    sizes = {dim: len(axis) for dim, axis in axes.items()}
    lazy = {}
    for name, field in small.data_vars.items():
        shape = [sizes.get(str(d), n) for d, n in field.sizes.items()]
        chunks = [1080 if n >= rows else min(n, 144) for n in shape]
        values = da.zeros(shape, chunks=chunks, dtype="float32") if len(shape) > 1 else field.values
        lazy[name] = (field.dims, values, field.attrs)
    coords = {d: (d, axis, small[d].attrs) for d, axis in axes.items()}
    rest = {n: c for n, c in small.coords.items() if n not in axes}
    fill = {name: {"fill_value": 0.0} for name in lazy}
    xr.Dataset(lazy, {**rest, **coords}).to_zarr(
        folder / "globe.zarr", zarr_format=3, compute=False, encoding=fill, consolidated=False
    )
    made = emulator().save(str(folder / "emulator"))
    ds = xr.open_zarr(folder / "globe.zarr", chunks={}, consolidated=False)
    if computing:
        ds = ds.map(lambda field: field + 1 - 1 if field.ndim > 1 else field, keep_attrs=True)
    predict(small, made, targets="lai")  # what is imported on first use
    before = peak()
    begin = time.perf_counter()
    prediction = predict(ds, made, targets="lai")
    (optimised,) = dask.optimize(prediction)
    found = {"seconds": time.perf_counter() - begin, "MiB": peak() - before}
    tiles = np.prod(prediction.lai.data.numblocks)
    found["tasks a tile"] = len(dict(optimised.__dask_graph__())) / tiles
    if computing:
        return found
    box = {"latitude": slice(5300, 5420), "longitude": slice(22570, 22690)}  # 100 km
    alone = {**box}
    for grid in ("forcing", "driver"):
        alone[f"{grid}_latitude"], alone[f"{grid}_longitude"] = slice(170, 190), slice(745, 765)
    parts = prediction.isel(box), predict(ds.isel(alone), made, targets="lai")
    parts[1].compute()
    times: list[list[float]] = [[], []]
    for _ in range(5):
        for part, taken in zip(parts, times, strict=True):
            begin = time.perf_counter()
            part.compute()
            taken.append(time.perf_counter() - begin)
    found["box / box alone"] = statistics.median(times[0]) / statistics.median(times[1])
    return found


def precision(folder: Path) -> None:
    """How far bfloat16 is from float32 for what `xlsbc quickstart` left in a folder."""
    import xarray as xr

    from xlsbc.inference.predict import predict

    ds = xr.open_zarr(folder / "cube.zarr", chunks={}, consolidated=False)
    given = json.loads((folder / "emulator" / "emulator.json").read_text())["given"][0]
    both = [
        predict(ds, str(folder / "emulator"), given=tuple(given), precision=kind).compute()
        for kind in ("bfloat16", "float32")
    ]
    for name, field in both[1].items():
        off = both[0][name] - field
        print(
            f"{name}: at most {float(abs(off).max()):.2g}, root mean square "
            f"{float((off**2).mean()) ** 0.5:.2g}, standard deviation {float(field.std()):.2g}"
        )


def peak() -> float:
    """Largest memory of this process so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


CASES: dict[str, Callable[[int, Path], tuple[float, int]]] = {
    f.__name__: f
    for f in (
        plain, loop, loop_lai, memory, memory_lai, stored, stored_lai, cluster, cluster_lai,
        one_month, twelve_months,
    )
}  # fmt: skip


def in_store(side: int, folder: Path) -> str:
    """The cube in a Zarr store, as `write` makes it; by a process that takes its memory along."""
    url = str(folder / "in.zarr")
    command = [sys.executable, __file__, "--store", url, "--side", str(side)]
    subprocess.run(command, check=True)
    return url


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=2880)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=list(CASES))
    parser.add_argument("--case")
    parser.add_argument("--globe", choices=["stores", "dask"])
    parser.add_argument("--memory", action="store_true", help="peak of 1920 and 7680 pixels a side")
    parser.add_argument("--store", help=argparse.SUPPRESS)
    parser.add_argument("--precision", type=Path, help="folder of a quickstart")
    chosen = parser.parse_args()
    if chosen.store:
        from xlsbc.cube.store.writer import write

        ds = cube(chosen.side, chosen.side).chunk({"latitude": 480, "longitude": 480})
        write(ds, chosen.store, packed=False, progress=False)
        return
    if chosen.precision:
        precision(chosen.precision)
        return
    if chosen.globe:
        with tempfile.TemporaryDirectory() as folder:
            found = globe(Path(folder), computing=chosen.globe == "dask")
        print(", ".join(f"{name}: {value:.3g}" for name, value in found.items()))
        return
    if chosen.memory:
        peaks = [measured("stored_lai", side)["peak"] for side in (1920, 7680)]
        print(f"peak {peaks[0]:.0f} and {peaks[1]:.0f} MiB: {peaks[1] / peaks[0]:.2f}")
        return
    if chosen.case:
        if chosen.case != "plain":
            from xlsbc.inference.allocator import tune_allocator

            tune_allocator()
        with tempfile.TemporaryDirectory() as folder:
            seconds, pixels = CASES[chosen.case](chosen.side, Path(folder))
        print(json.dumps({"rate": pixels / seconds / 1000, "peak": peak()}))
        return
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in chosen.only}
    for _ in range(chosen.rounds):
        for name in chosen.only:
            rounds[name].append(measured(name, chosen.side))
            print(f"  {name}: {rounds[name][-1]['rate']:.0f} kpx/s", file=sys.stderr)
    for name, runs in rounds.items():
        rates = [r["rate"] for r in runs]
        most = statistics.median(r["peak"] for r in runs)
        print(f"{name:14s} {spread(rates)} kpx/s, peak {most:.0f} MiB")
    pairs = [
        ("memory", "plain"), ("memory", "loop"), ("stored", "loop"), ("cluster", "loop"),
        ("memory_lai", "loop_lai"), ("stored_lai", "loop_lai"), ("cluster_lai", "loop_lai"),
        ("one_month", "twelve_months"),
    ]  # fmt: skip
    for a, b in pairs:
        if a in rounds and b in rounds:
            both = zip(rounds[a], rounds[b], strict=True)
            print(f"{a} / {b}: {spread([x['rate'] / y['rate'] for x, y in both], 2)}")


def measured(name: str, side: int) -> dict[str, float]:
    """One case in a process of its own."""
    command = [sys.executable, __file__, "--case", name, "--side", str(side)]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(answer.stdout.splitlines()[-1]))


def spread(values: list[float], digits: int = 0) -> str:
    """Median and range."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f}..{high:.{digits}f})"


if __name__ == "__main__":
    main()
