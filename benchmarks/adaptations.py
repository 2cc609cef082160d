"""What every adaptation trains, costs and leaves on disk; nothing is trained.

    python benchmarks/adaptations.py [--backbones terramind-tiny,prithvi-2.0-100M-TL] [--crop 96]

For every backbone and adaptation: the emulator that ``xlsbc.fit`` outlines for the synthetic cube,
before it has seen which inputs do not vary, and of it what ``emulator.summary()`` tells. Weights
are random. FLOPs are of a pixel and year, overlaps of windows included and low-rank changes not yet
merged, and do not depend on the machine. Prints a table in markdown.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import xarray as xr

from xlsbc.cube.synthetic import synthetic_cube
from xlsbc.emulator.artefact import Emulator, build
from xlsbc.emulator.cost import cost
from xlsbc.emulator.spec import Architecture, Base, Split
from xlsbc.models.adapters import METHODS
from xlsbc.models.backbones import BACKBONES
from xlsbc.training.outline import outline
from xlsbc.training.prepare import crop_size

USUAL = "unet,vit-small,terramind-tiny,terramind-base,prithvi-2.0-100M-TL"
HEADER = """\
| backbone | adaptation | parameters | trained | share | MFLOPs | artefact, MB |
|---|---|---|---|---|---|---|"""

ANY = Base(file="any.pt", sha256="0" * 64)
"""Weights that an emulator begins with, and that are not looked at here."""


def adapted(cube: xr.Dataset, sizes: Architecture, crop: int | None = None) -> Emulator:
    """The emulator that training of such a network begins with."""
    window = crop_size(cube, sizes, crop) if sizes.kind.patches else None
    spec = outline(cube, split=Split(), architecture=sizes, window=window)
    if sizes.adaptation.method != "scratch":
        spec = spec.model_copy(update={"base": ANY})
    return Emulator(spec, build(spec))


def rows(cube: xr.Dataset, label: str, crop: int | None = None) -> Iterator[str]:
    """Lines of the table, one for every adaptation that a backbone knows."""
    backbone, _, variant = label.partition("-")
    for method in METHODS if BACKBONES[backbone].pretrained else METHODS[:1]:
        sizes = Architecture(backbone=backbone, variant=variant, adaptation=method)
        emulator = adapted(cube, sizes, crop)
        found = cost(emulator.spec, emulator.network)
        size = len(emulator.files()[1])
        yield (
            f"| {label} | {method} | {found.parameters / 1e6:.2f} M | {found.trained / 1e6:.2f} M "
            f"| {found.trained / found.parameters:.1%} | {found.yearly / 1e6:.2f} "
            f"| {size / 1e6:.1f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbones", default=USUAL)
    parser.add_argument("--crop", type=int)
    options = parser.parse_args()
    cube = synthetic_cube(chunks={})  # only its outline is needed
    print(HEADER)
    for label in options.backbones.split(","):
        for row in rows(cube, label, options.crop):
            print(row, flush=True)


if __name__ == "__main__":
    main()
