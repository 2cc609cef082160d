"""What a newcomer waits for: import time, and wall time, memory and skill of the quickstart.

    python benchmarks/first_minutes.py [--source PATH] [--runs N] [--out DIR]

Prints Markdown for RESULTS.md. Import times are medians of N fresh processes, beside
``import xarray`` in the same round; the quickstart is one process, its memory the largest of it.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def imports(runs: int) -> None:
    rounds = [
        [seconds([sys.executable, "-c", f"import {m}"]) for m in ("sys", "xarray", "xlsbc")]
        for _ in range(runs + 1)
    ][1:]
    bare, xarray, xlsbc = (statistics.median(column) for column in zip(*rounds, strict=True))
    print("| import | s | less the bare interpreter |\n|---|---|---|")
    for name, value in (("sys", bare), ("xarray", xarray), ("xlsbc", xlsbc)):
        print(f"| {name} | {value:.2f} | {value - bare:.2f} |")


def quickstart(source: str | None, keep: str | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(keep or folder) / "run"
        command = [sys.executable, "-m", "xlsbc", "quickstart", "--out", str(out)]
        wall = seconds([*command, *(["--source", source] if source else [])])
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        print(f"\nWall time {wall:.0f} s, peak memory {peak:.2f} GiB\n")
        for scores in sorted(out.rglob("scores.csv")):
            place = scores.parent.relative_to(out)
            print(f"\n`{place if str(place) != '.' else 'cube.zarr'}`\n")
            with scores.open() as file:
                rows = list(csv.reader(file))
            print("| " + " | ".join(rows[0]) + " |\n" + "|---" * len(rows[0]) + "|")
            for row in rows[1:]:
                print("| " + " | ".join([row[0], *(number(value) for value in row[1:])]) + " |")


def number(text: str) -> str:
    return f"{float(text):.4g}" if text else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source")
    parser.add_argument("--out", help="keep the results here")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    data = "real land" if options.source else "synthetic world"
    machine = f"{os.cpu_count()} CPU cores ({platform.machine()})"
    print(f"Machine: {machine}, Python {platform.python_version()}; data: {data}, seed 0\n")
    imports(options.runs)
    quickstart(options.source, options.out)


if __name__ == "__main__":
    main()
