"""``xlsbc``: the same functions from a shell."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import xarray as xr

from xlsbc.errors import CubeError, LsbcError
from xlsbc.inference.allocator import tune_allocator

__all__ = ["main"]


def quickstart(
    out: str = "xlsbc-quickstart",
    source: str | None = None,
    minutes: float | None = None,
    seed: int = 0,
    region: list[float] | None = None,
    years: list[int] | None = None,
) -> None:
    """Go from raw fields to a consistent 1 km prediction: cube, fit, predict, check, report.

    Args:
        out: New directory for cube.zarr, emulator/, prediction.zarr and report.html.
        source: Directory with the real sample files; the synthetic world if left out.
        minutes: Training time; a fixed number of steps, which a seed repeats, if left out.
        seed: Of the world, the split and the training.
        region: Of the synthetic world: "[west, south, east, north]", degrees.
        years: Of the synthetic world: "[first, last]".
    """
    from xlsbc.quickstart import quickstart

    tune_allocator()
    print("\n".join(quickstart(out, source, minutes, seed, region, years)))


def predict(
    cube: str,
    emulator: str,
    out: str,
    given: list[str] | None = None,
    targets: list[str] | None = None,
    period: list[int] | None = None,
    block: int = 1,
    overwrite: bool = False,
) -> None:
    """Predict from a cube into a Zarr store; the same command goes on after an interruption.

    Args:
        cube: URL of a Zarr cube.
        emulator: URL of an emulator.
        out: URL of the new store.
        given: Fractions to take from the cube: lu_fraction, lc_fraction.
        targets: Variables to predict; all if left out.
        period: Years; all that the cube has if left out.
        block: Tiles along either side of a stored chunk.
        overwrite: Whether another store at `out` may be replaced.
    """
    from xlsbc.cube.store.writer import write
    from xlsbc.inference.predict import predict

    tune_allocator()
    options: dict[str, Any] = {"given": given, "targets": targets, "period": period}
    print(
        write(predict(open_cube(cube), emulator, block=block, **options), out, overwrite=overwrite)
    )


def check(product: str) -> None:
    """Hold a prediction, or any product of its kind, to physics; exit status 1 if it fails.

    Args:
        product: URL of a Zarr store.
    """
    from xlsbc.physics.consistency import check

    result = check(open_cube(product))
    for name, value in result.data_vars.items():
        print(f"{name}: {value.item():.6g} {'passed' if value.attrs['passed'] else 'FAILED'}")
    if not result.attrs["passed"]:
        sys.exit(1)


def verify(store: str) -> None:
    """Compare every object of a store that xlsbc wrote with its ledger; exit status 2 if not equal.

    Args:
        store: URL of a Zarr store.
    """
    from xlsbc.cube.store.writer import verify

    print(f"{verify(store)} objects are as they were written")


def doctor() -> None:
    """Print the versions of everything that matters, for a bug report."""
    from xlsbc.cube.versions import show_versions

    show_versions()


def main() -> None:
    """Run the command line; a domain error is one line, and exit status 2."""
    from jsonargparse import auto_cli

    try:
        auto_cli([quickstart, predict, check, verify, doctor], prog="xlsbc")
    except LsbcError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(2)


def open_cube(url: str) -> xr.Dataset:
    """Lazy Dataset of a Zarr store.

    Raises
    ------
    CubeError
        If there is none, or if it is not Zarr.
    """
    try:
        with warnings.catch_warnings():
            # a store of another's making without consolidated metadata is as good
            warnings.filterwarnings("ignore", "Failed to open Zarr store with consolidated")
            return xr.open_zarr(url, chunks={}, consolidated=None)
    except (FileNotFoundError, ValueError, KeyError, OSError) as error:
        raise CubeError(f"{url} is not a Zarr store that can be read: {error}") from error
