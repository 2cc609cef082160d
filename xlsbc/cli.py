"""``xlsbc``: the same functions from a shell."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from typing import Any

from xlsbc.cube.store.reading import open_cube
from xlsbc.errors import LsbcError, SourceError, TrainingError
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


def train(settings: str, dry_run: bool = False) -> None:
    """Train an emulator; the same command goes on after an interruption.

    Args:
        settings: YAML file of a training: cube, out, and what else differs from the defaults.
        dry_run: Whether to read two batches, take one step and say what the training would cost.
    """
    from xlsbc.training.config import Training

    config = Training.read(settings)
    if lacking := [name for name in ("cube", "out") if not getattr(config, name)]:
        raise TrainingError(f"{settings} lacks {' and '.join(lacking)}, a URL each; add a line")
    cube = open_cube(config.cube)
    tune_allocator()
    if dry_run:
        from xlsbc.training.rehearsal import rehearse

        print(rehearse(cube, config))
        return
    from xlsbc.training.fit import ensemble, fit
    from xlsbc.training.trainer import Launch

    alone = config.members == 1
    lines = [f"{fit(cube, config)!r}\n{config.out}"] if alone else map(repr, ensemble(cube, config))
    if Launch.found().rank == 0:
        print("\n".join(lines))


def predict(
    cube: str,
    emulator: str,
    out: str,
    given: list[str] | None = None,
    targets: list[str] | None = None,
    period: list[int] | None = None,
    precision: str = "auto",
    weights: str | None = None,
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
        precision: Of the backbone: float32, bfloat16, float16, or the best here.
        weights: Where the pretrained weights lie that the emulator was added to, if it was.
        block: Tiles along either side of a stored chunk.
        overwrite: Whether another store at `out` may be replaced.
    """
    from xlsbc.cube.store.writer import write
    from xlsbc.emulator import Emulator
    from xlsbc.inference.predict import predict

    tune_allocator()
    options: dict[str, Any] = {"given": given, "targets": targets, "period": period}
    options |= {"precision": precision, "block": block}
    prediction = predict(open_cube(cube), Emulator.open(emulator, weights=weights), **options)
    print(write(prediction, out, overwrite=overwrite))


def check(product: str) -> None:
    """Hold a prediction, or any product of its kind, to physics; exit status 1 if it fails.

    Args:
        product: URL of a Zarr store.
    """
    from xlsbc.physics.consistency import check

    result = check(open_cube(product))
    for name, value in result.data_vars.items():
        failed = "FAILED" if value.attrs["law"] else "unusual"
        print(f"{name}: {value.item():.6g} {'passed' if value.attrs['passed'] else failed}")
    if not result.attrs["passed"]:
        sys.exit(1)


def verify(store: str) -> None:
    """Compare every object of a store that xlsbc wrote with its ledger; exit status 2 if not equal.

    Args:
        store: URL of a Zarr store.
    """
    from xlsbc.cube.store.writer import verify

    print(f"{verify(store)} objects are as they were written")


def benchmark(
    settings: str,
    out: str | None = None,
    cube: str | None = None,
    workers: int = 1,
    scheduler: str | None = None,
    dry_run: bool = False,
) -> None:
    """Compare emulators by skill, cost and consistency; the same command goes on where it was.

    Exit status 1 if a cell failed.

    Args:
        settings: YAML file of an experiment: cube, models, splits, sweeps.
        out: URL of the folder of the results, in place of that of the file.
        cube: URL of a Zarr cube, in place of that of the file.
        workers: How many cells run at once on this machine.
        scheduler: Address of a Dask scheduler, to use its workers instead.
        dry_run: Whether to say what would be run, and train nothing.
    """
    from xlsbc.assess.benchmark.config import Experiment

    asked = {"out": out, "cube": cube}
    changes = {name: value for name, value in asked.items() if value is not None}
    experiment = Experiment.read(settings).model_copy(update=changes)
    if dry_run:
        from xlsbc.assess.benchmark.planning import plan

        print(plan(experiment))
        return
    from xlsbc.assess.benchmark.run import benchmark

    if scheduler is None:
        results = benchmark(experiment, workers=workers)
    else:
        from distributed import Client

        with Client(scheduler) as client:
            results = benchmark(experiment, client=client)
    print(f"Results: {results.out} (open report.html)")
    if results.failed:
        print(f"{len(results.failed)} cells failed; the same command tries them again")
        sys.exit(1)


def recipe_list() -> None:
    """Print the recipes that build cubes from providers' files."""
    from xlsbc.cube.feedstock import feedstocks

    for found in feedstocks():
        print(f"{found.name:16} {found.title}")


def recipe_show(name: str) -> None:
    """Print what a recipe builds, from whose data, and on which terms.

    Args:
        name: Of the recipe.
    """
    from xlsbc.cube.feedstock import feedstock

    found = feedstock(name)
    print(f"{found.title}\n\n{found.description.strip()}\n")
    for provider in found.provenance.providers:
        print(f"Provider: {provider.name} ({', '.join(provider.roles)}) {provider.url}".rstrip())
    print(f"Licence:  {found.provenance.license}")
    print(f"Run:      xlsbc recipe run {found.name} --input FOLDER --output URL")


def recipe_run(
    name: str,
    input: str | None = None,
    output: str | None = None,
    runner: str = "DirectRunner",
    prune: int | None = None,
    append: bool = False,
    overwrite: bool = False,
    region: list[float] | None = None,
    period: list[int] | None = None,
) -> None:
    """Build a Zarr store from a provider's files; the same command goes over what was interrupted.

    Args:
        name: Of the recipe.
        input: Folder or URL of the files; wildcards choose among them.
        output: URL of the store.
        runner: Apache Beam's runner.
        prune: Number of files to take, to try it.
        append: Whether to add to the store what it lacks at its end.
        overwrite: Whether another store at `output` may be replaced.
        region: Of recipes that take one: "[west, south, east, north]", degrees.
        period: Of recipes that take one: "[first, last]" year.
    """
    import logging

    from xlsbc.cube.feedstock import run

    if input is None or output is None:
        raise SourceError("pass --input FOLDER, the provider's files, and --output URL, the store")
    # Beam warns of extras that it lacks, and logs the traceback of what is told in one line below.
    logging.disable(logging.WARNING)
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
    options: dict[str, Any] = {"prune": prune, "append": append, "overwrite": overwrite}
    options |= {"region": region, "period": period}
    warnings.showwarning = told  # by default with the line of our code, which is no one's concern
    print(run(name, input, output, runner=runner, progress=sys.stderr.isatty(), **options))


def catalog_list(catalog: str | None = None) -> None:
    """Print the entries of a catalog.

    Args:
        catalog: URL of a catalog, or the name of one of xlsbc: catalog, emulated, public, real.
    """
    from xlsbc.cube.catalog import summaries

    for name, about in summaries(catalog).items():
        print(f"{name:24} {about}")


def catalog_show(name: str, catalog: str | None = None) -> None:
    """Print what a catalog says of an entry.

    Args:
        name: Of the entry.
        catalog: URL of a catalog, or the name of one of xlsbc: catalog, emulated, public, real.
    """
    from xlsbc.cube.catalog import explain

    print(explain(name, catalog))


def catalog_twin(catalog: str) -> None:
    """Print the version-2 twin of a catalog of version 1.

    Args:
        catalog: URL of the catalog.
    """
    from xlsbc.cube.catalog import twin

    print(twin(catalog), end="")


def doctor() -> None:
    """Print the versions of everything that matters, for a bug report."""
    from xlsbc.cube.versions import show_versions

    show_versions()


def told(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    """Print a warning in one line."""
    print(f"{category.__name__}: {message}", file=sys.stderr)


FLAGS = ("--append", "--dry_run", "--overwrite")

COMMANDS: dict[str, Any] = {
    "quickstart": quickstart,
    "recipe": {
        "_help": "Build cubes from providers' files.",
        "list": recipe_list,
        "show": recipe_show,
        "run": recipe_run,
    },
    "train": train,
    "benchmark": benchmark,
    "predict": predict,
    "check": check,
    "verify": verify,
    "catalog": {
        "_help": "Look into catalogs of cubes and predictions.",
        "list": catalog_list,
        "show": catalog_show,
        "twin": catalog_twin,
    },
    "doctor": doctor,
}


def main() -> None:
    """Run the command line; a domain error is one line, and exit status 2."""
    from jsonargparse import auto_cli

    try:
        auto_cli(COMMANDS, args=[*with_values(sys.argv[1:])], prog="xlsbc")
    except LsbcError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        sys.exit(130)


def with_values(words: list[str]) -> Iterator[str]:
    """The words of a command line: a flag without a value is true, hyphens of options are _."""
    for word, after in zip(words, [*words[1:], "--"], strict=True):
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            word = f"--{name[2:].replace('-', '_')}{equals}{value}"
        yield f"{word}=true" if word in FLAGS and after not in ("true", "false") else word
