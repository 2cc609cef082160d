"""Loading of training samples, as ratios within one run, beside what bounds it and what is usual.

    python benchmarks/loading.py [--side 2048] [--rounds 3] [--codec zstd|lz4] [--only CASE ...]
    python benchmarks/loading.py --device     # does a network of 20 ms a step wait for batches?
    python benchmarks/loading.py --memory     # of batches, over two epochs

A store holds 24 months of 8 float32 fields, smooth with noise, in chunks of (1, 256, 256) and of
(12, 256, 256). A sample is (8, 128, 128): a month of all fields at a random place, a batch 32.
Every case runs in a process of its own, cases in turn within a round; a ratio is taken within a
round, and the median is printed with the range. The store is in the page cache. All use two
threads but `naive`, which has none, and `memory`, which has one.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

MONTHS, CHUNK, CROP, BATCH, THREADS = 24, 256, 128, 32, 2
NAMES = tuple(f"field{i}" for i in range(8))
LAYOUTS = {"c1": 1, "c12": 12}
"""Months in a chunk."""

SAMPLE = len(NAMES) * CROP * CROP * 4
"""Bytes."""

POOL = 600 * 2**20
"""Bytes of the pool from which `ours` draws."""

LITTLE = 2**30
"""Bytes that batches of the cube may take: its years do not all stay in memory."""

STEP, STEPS = 0.02, 1000
"""Seconds that the stand-in for a network takes, and how often."""


def field(name: str, side: int) -> np.ndarray:
    """``(month, latitude, longitude)``: waves and as much noise as in weather."""
    random = np.random.default_rng(NAMES.index(name))
    y, x = np.arange(side)[:, None], np.arange(side)
    smooth = 280 + 10 * np.sin(y / random.uniform(30, 90)) * np.cos(x / random.uniform(30, 90))
    noise = random.standard_normal((MONTHS, side, side), np.float32) / 2
    return noise + smooth.astype(np.float32)


def write_stores(folder: Path, side: int, codec: str) -> None:
    """A store of each layout."""
    import zarr
    from zarr.codecs import BloscCodec

    lz4 = BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle", typesize=4)
    for layout, months in LAYOUTS.items():
        group = zarr.open_group(str(folder / f"{layout}.zarr"), mode="w")
        for name in NAMES:
            array = group.create_array(
                name,
                shape=(MONTHS, side, side),
                chunks=(months, CHUNK, CHUNK),
                dtype="float32",
                fill_value=np.nan,
                compressors=lz4 if codec == "lz4" else "auto",
                dimension_names=("time", "latitude", "longitude"),
            )
            array[...] = field(name, side)


@dataclass(frozen=True)
class Store:
    """A store of a layout, and every box of it that is a chunk."""

    path: Path
    side: int

    @property
    def months(self) -> int:
        return LAYOUTS[self.path.stem]

    def chunks(self) -> list[tuple[slice, slice, slice]]:
        corners = itertools.product(
            range(0, MONTHS, self.months), range(0, self.side, CHUNK), range(0, self.side, CHUNK)
        )
        sizes = self.months, CHUNK, CHUNK
        return [
            tuple(slice(a, a + n) for a, n in zip(corner, sizes, strict=True))  # type: ignore[misc]
            for corner in corners
        ]

    def drawn(self, share: float) -> list[tuple[str, tuple[slice, slice, slice]]]:
        """Chunks of all fields in random order, a share of them."""
        whole = list(itertools.product(NAMES, self.chunks()))
        order = np.random.default_rng(0).permutation(len(whole))
        return [whole[i] for i in order[: max(1, int(share * len(whole)))]]

    def opened(self) -> Any:
        import xarray as xr

        return xr.open_zarr(self.path, chunks=None, consolidated=False)


# --- cases: samples a second ---


def naive(store: Store) -> float:
    """xbatcher in random order through a DataLoader, the store opened without Dask."""
    import torch
    from torch.utils.data import DataLoader, Dataset, RandomSampler
    from xbatcher import BatchGenerator

    sizes = {"time": 1, "latitude": CROP, "longitude": CROP}
    patches = BatchGenerator(store.opened(), input_dims=sizes, preload_batch=False)

    class Patches(Dataset):  # type: ignore[type-arg]
        def __len__(self) -> int:
            return len(patches)

        def __getitem__(self, i: int) -> torch.Tensor:
            patch = patches[i]
            return torch.from_numpy(np.concatenate([patch[name].values for name in NAMES]))

    random = RandomSampler(Patches(), generator=torch.Generator().manual_seed(0))
    loader = iter(DataLoader(Patches(), batch_size=BATCH, sampler=random, num_workers=0))
    next(loader)
    count = 4
    begin = time.perf_counter()
    shapes = {tuple(next(loader).shape) for _ in range(count)}
    seconds = time.perf_counter() - begin
    assert shapes == {(BATCH, len(NAMES), CROP, CROP)}
    return count * BATCH / seconds


def threaded(read: Callable[[Any], int], what: list[Any]) -> float:
    """Samples a second of what is decoded by threads, one chunk after the other, by its bytes."""
    read(what[0])
    begin = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as pool:
        size = sum(pool.map(read, what))
    return size / SAMPLE / (time.perf_counter() - begin)


def raw_zarr(store: Store) -> float:
    """Whole chunks, each once, by zarr-python."""
    import zarr

    group = zarr.open_group(str(store.path), mode="r")
    arrays = {name: group[name] for name in NAMES}
    return threaded(lambda c: arrays[c[0]][c[1]].nbytes, store.drawn(0.25))


def limit(store: Store) -> float:
    """The same files read and decompressed, and nothing else."""
    import zarr

    array = zarr.open_group(str(store.path), mode="r")[NAMES[0]]
    (codec,) = array.compressors  # type: ignore[union-attr]
    decode = next(
        getattr(codec, name) for name in ("_zstd_codec", "_blosc_codec") if hasattr(codec, name)
    ).decode
    sizes = store.months, CHUNK, CHUNK

    def read(chunk: tuple[str, tuple[slice, ...]]) -> int:
        at = "/".join(str(p.start // n) for p, n in zip(chunk[1], sizes, strict=True))
        with open(f"{store.path}/{chunk[0]}/c/{at}", "rb") as file:
            return len(decode(file.read()))

    return threaded(read, store.drawn(1.0))


def memory(store: Store) -> float:
    """Random crops of arrays in memory, by NumPy."""
    arrays = np.stack([field(name, min(store.side, 1024)) for name in NAMES])
    random = np.random.default_rng(0)
    count = 40
    begin = time.perf_counter()
    for _ in range(count):
        batch = np.empty((BATCH, len(NAMES), CROP, CROP), np.float32)
        for sample in batch:
            t, y, x = random.integers([MONTHS, *[n - CROP + 1 for n in arrays.shape[2:]]])
            sample[:] = arrays[:, t, y : y + CROP, x : x + CROP]
    return count * BATCH / (time.perf_counter() - begin)


@dataclass(frozen=True)
class Piece:
    """A chunk of every field."""

    fields: list[np.ndarray]

    @property
    def nbytes(self) -> int:
        return sum(values.nbytes for values in self.fields)


def ours(store: Store) -> float:
    """The stream of `xlsbc.training`: a chunk is read for 4 or 48 samples, as many as it holds.

    Of as many samples as all chunks hold, from the first batch on, before which the pool is
    filled; as in `xlsbc train` with its allocator.
    """
    return streamed(store, 1)


def ours_drawn(store: Store) -> float:
    """The same, drawn as `cube.lsbc.batches` does by default: eight times as many crops a chunk.

    A crop trains on an eighth of its pixels, so that eight of them meet every pixel once.
    """
    return streamed(store, 8)


def streamed(store: Store, crops: int) -> float:
    """Samples a second of a stream whose pieces give so many times the crops that they hold."""
    from xlsbc.cube.store.sources import source
    from xlsbc.inference.allocator import tune_allocator
    from xlsbc.training.stream import Lot, Planned, Stream, order

    tune_allocator()
    ds = store.opened()
    sources = [source(name, ds[name].variable) for name in NAMES]
    once = store.months * (CHUNK // CROP) ** 2
    boxes = store.chunks()
    lots = [Lot(i, once * crops) for i in range(len(boxes))]
    held = max(1, min(POOL // (once * SAMPLE), len(lots) // 2))

    def read(i: int) -> Piece:
        return Piece([s.read(None, boxes[i]) for s in sources])

    def make(planned: Planned[int], pieces: Any) -> np.ndarray:
        random = np.random.default_rng((0, planned.number))
        batch = np.empty((BATCH, len(NAMES), CROP, CROP), np.float32)
        for sample, piece in zip(batch, pieces, strict=True):
            t, y, x = random.integers([store.months, CHUNK - CROP + 1, CHUNK - CROP + 1])
            for target, values in zip(sample, piece.fields, strict=True):
                target[:] = values[t, y : y + CROP, x : x + CROP]
        return batch

    stream = Stream(
        lambda: order(lambda epoch: lots, size=BATCH, held=held, seed=0),
        read,
        make,
        threads=THREADS,
    )
    count = len(lots) * once // BATCH
    batches = stream.batches()
    next(batches)
    begin = time.perf_counter()
    for _ in range(count):
        next(batches)
    seconds = time.perf_counter() - begin
    batches.close()  # type: ignore[attr-defined]
    return count * BATCH / seconds


CASES: dict[str, Callable[[Store], float]] = {
    f.__name__: f for f in (naive, raw_zarr, limit, memory, ours, ours_drawn)
}
RATIOS = [(a, b) for a in ("ours", "ours_drawn") for b in ("naive", "limit", "raw_zarr", "memory")]


def speed(side: int, rounds: int, codec: str, only: list[str]) -> None:
    """All cases on both layouts, and their ratios."""
    found: dict[tuple[str, str], list[float]] = {
        (name, layout): [] for name in only for layout in LAYOUTS
    }
    with tempfile.TemporaryDirectory() as folder:
        write_stores(Path(folder), side, codec)
        for _ in range(rounds):
            for name, layout in found:
                path = f"{folder}/{layout}.zarr"
                answer = child("--case", name, "--store", path, "--side", str(side))
                found[name, layout].append(answer["rate"])
                print(f"  {name} {layout}: {answer['rate']:.0f} samples/s", file=sys.stderr)
    print(f"Codec {codec}, {side} pixels a side, {rounds} rounds\n")
    print("| samples/s | chunks of (1, 256, 256) | chunks of (12, 256, 256) |\n|---|---|---|")
    for name in only:
        print(f"| {name} | {' | '.join(spread(found[name, layout]) for layout in LAYOUTS)} |")
    for a, b in RATIOS:
        if a in only and b in only:
            cells = [
                spread([x / y for x, y in zip(found[a, k], found[b, k], strict=True)], 2)
                for k in LAYOUTS
            ]
            print(f"| {a} / {b} | {' | '.join(cells)} |")


# --- batches of a cube ---


def write_cube(url: str) -> None:
    """Two years of the synthetic world, 1200 x 1200 pixels, in chunks of 480."""
    from xlsbc.cube.store.writer import write
    from xlsbc.cube.synthetic.cube import synthetic_cube

    cube = synthetic_cube(region=(6.0, 42.0, 16.0, 52.0), years=(2001, 2002))
    write(cube.chunk({"latitude": 480, "longitude": 480}), url, progress=False)


def opened_cube(url: str) -> Any:
    import xarray as xr

    return xr.open_zarr(url, chunks={}, consolidated=False)


def waits(url: str) -> dict[str, float]:
    """Share of the time for which a network of 20 ms a step waits, and seconds until it begins."""
    import xlsbc  # noqa: F401

    drawn = opened_cube(url).lsbc.batches(crop=96, batch_size=8, memory=LITTLE)
    begin = time.perf_counter()
    batches = iter(drawn)
    next(batches)
    first, waited = time.perf_counter() - begin, 0.0
    for _ in range(STEPS):
        time.sleep(STEP)
        asked = time.perf_counter()
        next(batches)
        waited += time.perf_counter() - asked
    batches.close()
    return {"share": waited / (waited + STEPS * STEP), "first": first}


def grows(url: str) -> dict[str, float]:
    """MiB of memory over two epochs of batches, over what the process had before, and as stated."""
    import xlsbc  # noqa: F401

    drawn = opened_cube(url).lsbc.batches(crop=96, batch_size=8, memory=LITTLE)
    base, peaks = resident(), []
    batches = iter(drawn)
    for _ in range(2):
        peaks.append(max(resident() for _ in zip(range(drawn.per_epoch), batches, strict=False)))
    batches.close()
    stated = drawn.nbytes / 2**20
    return {"stated": stated, "first": peaks[0] - base, "second": peaks[1] - base}


def resident() -> float:
    """Memory of this process now, MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@contextmanager
def s3() -> Iterator[dict[str, str]]:
    """moto's S3 in a process of its own, with a bucket: the environment that leads there."""
    command = [sys.executable, __file__, "--serve"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        environment = {
            "AWS_ENDPOINT_URL": server.stdout.readline().strip(),
            "AWS_ACCESS_KEY_ID": "somebody",
            "AWS_SECRET_ACCESS_KEY": "a-secret-of-somebody",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        yield environment
    finally:
        server.terminate()
        server.wait()


def serve() -> None:
    """Serve S3 until the process is ended; prints where."""
    import logging

    from moto.moto_server import werkzeug_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    application = werkzeug_app.DomainDispatcherApplication(werkzeug_app.create_backend_app)
    server = make_server("127.0.0.1", 0, application, threaded=True)
    print(f"http://127.0.0.1:{server.port}", flush=True)
    server.serve_forever()


def device(rounds: int) -> None:
    """Waiting for batches of a cube in files and of one in S3 on loopback."""
    with tempfile.TemporaryDirectory() as folder, s3() as environment:
        urls = {"local Zarr": f"{folder}/cube.zarr", "S3 on loopback": "s3://bench/cube.zarr"}
        child("--bucket", "bench", environment=environment)
        for url in urls.values():
            child("--cube", url, environment=environment)
        found: dict[str, list[dict[str, float]]] = {place: [] for place in urls}
        for _ in range(rounds):
            for place, url in urls.items():
                found[place].append(child("--waits", url, environment=environment))
    print(f"| a step takes {STEP * 1000:.0f} ms | share of time waited | first batch after, s |")
    print("|---|---|---|")
    for place, runs in found.items():
        shares, firsts = ([run[key] for run in runs] for key in ("share", "first"))
        print(f"| {place} | {spread(shares, 3)} | {spread(firsts, 2)} |")


def footprint() -> None:
    """Memory of batches over two epochs."""
    with tempfile.TemporaryDirectory() as folder:
        child("--cube", f"{folder}/cube.zarr")
        found = child("--grows", f"{folder}/cube.zarr")
    print("| MiB | stated | first epoch | second epoch |\n|---|---|---|---|")
    print("| peak over base | " + " | ".join(f"{v:.0f}" for v in found.values()) + " |")


def child(*arguments: str, environment: dict[str, str] | None = None) -> dict[str, float]:
    """What a part answers that runs in a process of its own."""
    command = [sys.executable, __file__, *arguments]
    env = {**os.environ, **(environment or {})}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=env)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def spread(values: list[float], digits: int = 0) -> str:
    """Median and range."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f}..{high:.{digits}f})"


def part(chosen: argparse.Namespace) -> dict[str, float] | None:
    """What a child of this process does; None in the parent."""
    if chosen.case:
        return {"rate": CASES[chosen.case](Store(Path(chosen.store), chosen.side))}
    if chosen.bucket:
        import s3fs

        s3fs.S3FileSystem().mkdir(chosen.bucket)
        return {}
    if chosen.cube:
        write_cube(chosen.cube)
        return {}
    if chosen.waits:
        return waits(chosen.waits)
    return grows(chosen.grows) if chosen.grows else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--codec", choices=["zstd", "lz4"], default="zstd")
    parser.add_argument("--only", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--device", action="store_true")
    parser.add_argument("--memory", action="store_true")
    for hidden in ("case", "store", "bucket", "cube", "waits", "grows"):
        parser.add_argument(f"--{hidden}", help=argparse.SUPPRESS)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve:
        serve()
        return
    answer = part(chosen)
    if answer is not None:
        print(json.dumps(answer))
        return
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    if chosen.device:
        device(chosen.rounds)
    elif chosen.memory:
        footprint()
    else:
        speed(chosen.side, chosen.rounds, chosen.codec, chosen.only)


if __name__ == "__main__":
    main()
