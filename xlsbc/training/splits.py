"""What is held out: blocks on the global lattice, regions and years, with a buffer around them.

Neighbouring pixels are alike, so that a pixel held out alone tests nothing (Roberts et al., 2017,
Ecography 40, doi:10.1111/ecog.02881). A `Split` says it all: with its extent, the same pixels are
held out in any box that is cut out of the cube.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import xarray as xr

from xlsbc.cube.grid import Grid
from xlsbc.emulator.spec import Split
from xlsbc.errors import TrainingError
from xlsbc.training.blocks import Lattice, Marked, draw, holds_any, pixels_of, runs

__all__ = [
    "BUFFER",
    "HELD_OUT",
    "TRAIN",
    "VALIDATION",
    "Parts",
    "check_buffer",
    "described",
    "held_out",
    "of_years",
    "resolved",
    "split_map",
    "suggest",
]

TRAIN, BUFFER, HELD_OUT, VALIDATION = 0, 1, 2, 3


def suggest(cube: xr.Dataset, seed: int = 0, validation: float = 0.0, halo: int = 0) -> Split:
    """A split that suits the cube's size: blocks of 96 pixels, or a third of a small grid.

    Its buffer is as wide as the network's halo, pixels, and at least a sixth of a block. On a grid
    so small that such a buffer would take half of the training pixels, it is a sixth of a block
    all the same: see `check_buffer`.
    """
    size = max(1, min(96, min(Grid.of(cube).shape) // 3))
    usual = max(1, size // 6)
    split = Split(size=size, buffer=usual, fraction=0.2, seed=seed, validation=validation)
    if halo <= usual:
        return split
    wide = split.model_copy(update={"buffer": halo})
    extent = {"extent": resolved(split, cube).extent}
    few, all_of_them = (
        Parts.of(cube, each.model_copy(update=extent)).count(TRAIN) for each in (wide, split)
    )
    return wide if few > all_of_them / 2 else split


def check_buffer(split: Split, halo: int) -> str | None:
    """What is wrong with a split's buffer for a network of that halo, pixels; None if nothing."""
    nowhere = not (split.fraction or split.validation or split.regions)
    if nowhere or split.buffer >= halo:
        return None
    return (
        f"the buffer around held-out pixels should be as wide as the network's halo, or that of "
        f"the default U-Net where it has no halo, {halo} pixels; found {split.buffer}: the network "
        f"sees some of them in training; set buffer to {halo}"
    )


def described(split: Split) -> str:
    """What a split holds out, in words."""
    blocks = (
        f"{split.fraction:.0%} of blocks of {split.size} pixels, buffer {split.buffer} pixels, "
        f"seed {split.seed}"
    )
    regions = f"regions {', '.join(map(str, split.regions))}, buffer {split.buffer} pixels"
    years = f"the years {', '.join(map(str, split.years))}"
    said = ((split.fraction, blocks), (split.regions, regions), (split.years, years))
    return "; ".join(words for held, words in said if held) or "nothing"


def resolved(split: Split, cube: xr.Dataset) -> Split:
    """The split with its extent: it gives the same map on any box of the cube.

    Raises
    ------
    TrainingError
        If nothing is left to train on or to validate with, or if a year or a region is not in the
        cube; those may be absent where the split has an extent, since a box need not hold them.
        Lists everything.
    """
    parts = Parts.of(cube, split)
    problems = [] if split.extent else list(_absent(split, cube))
    problems += _nothing_left(parts, cube)
    if problems:
        raise TrainingError("the cube cannot be split so", problems)
    return parts.split


def split_map(cube: xr.Dataset, split: Split) -> xr.DataArray:
    """Which pixels train, which are held out and which lie between; computes nothing.

    Parameters
    ----------
    cube
        Conformed; its coordinates alone are read.
    split
        What is held out. Its years have no part in the map.

    Returns
    -------
    xarray.DataArray
        ``(latitude, longitude)``, int8 with CF flags: 0 train, 1 buffer, 2 held out, 3 validation.
        Blocks are anchored at 90 N, 180 W.

    Raises
    ------
    TrainingError
        Of `resolved`, if the split has no extent.
    """
    flags = {"train": TRAIN, "buffer": BUFFER, "held_out": HELD_OUT, "validation": VALIDATION}
    parts = Parts.of(cube, split if split.extent else resolved(split, cube))
    return _on(cube, parts.box()).assign_attrs(
        long_name="use of the pixel",
        flag_values=np.array(list(flags.values()), dtype=np.int8),
        flag_meanings=" ".join(flags),
    )


def held_out(cube: xr.Dataset, split: Split) -> tuple[xr.DataArray, tuple[int, ...] | None]:
    """What a score is taken over: the pixels, and the years unless all of them count.

    Returns
    -------
    tuple
        bool ``(latitude, longitude)``, True where it is scored: the held-out pixels, all if only
        years are held out, none if nothing is. And the held-out years that the cube has, for
        `of_years`; None if the split holds out no years.

    Raises
    ------
    TrainingError
        Of `resolved`, if the split has no extent; if the cube has none of the held-out years.
    """
    parts = Parts.of(cube, split if split.extent else resolved(split, cube))
    if split.fraction or split.regions:
        where = _on(cube, parts.box() == HELD_OUT)
    else:
        where = _on(cube, np.full(parts.grid.shape, bool(split.years)))
    if not split.years:
        return where, None
    _, years = parts.years(years_of(cube))
    if not years:
        raise TrainingError(f"nothing can be scored: {_years_absent(split.years, cube)}")
    return where, tuple(years)


def of_years(data: xr.Dataset, years: Iterable[int] | None) -> xr.Dataset:
    """A prediction or cube at those years, along ``year`` and ``time``; all of it for None."""
    if years is None:
        return data
    wanted = list(years)
    chosen = {
        dim: np.flatnonzero(np.isin(data[dim].dt.year if dim == "time" else data[dim], wanted))
        for dim in ("year", "time")
        if dim in data.indexes
    }
    return data.isel(chosen)


@dataclass(frozen=True, eq=False)
class Parts:
    """Use of every pixel and year of a cube, told for any box without a map of the whole.

    Parameters
    ----------
    grid
        Of the cube.
    split
        With its extent.
    held, validation
        Blocks and regions held out for scores, and blocks for validation.
    """

    grid: Grid
    split: Split
    held: Marked
    validation: Marked

    @classmethod
    def of(cls, cube: xr.Dataset, split: Split) -> Parts:
        """Parts of a conformed cube, or of a box of the cube that the split's extent is of.

        Whether anything is left to train on is for `resolved` to say.
        """
        grid = Grid.of(cube)
        lattice = Lattice.of(grid, split.size)
        extent = split.extent or lattice.extent(grid)
        blocks = draw(split, lattice, extent)
        regions = [pixels_of(grid, region) for region in split.regions]
        held = Marked.of(lattice, extent[:2], blocks[0], [box for box in regions if box])
        validation = Marked.of(lattice, extent[:2], blocks[1])
        return cls(grid, split.model_copy(update={"extent": extent}), held, validation)

    def box(self, rows: slice = slice(None), columns: slice = slice(None)) -> np.ndarray:
        """Use of the pixels of a box: int8 ``(y, x)``, 0 train .. 3 validation.

        Parameters
        ----------
        rows, columns
            Of the cube's grid.
        """
        values, heights, widths = self._runs(rows, columns)
        return np.repeat(np.repeat(values, widths, axis=1), heights, axis=0)

    def any_of(self, part: int, rows: slice = slice(None), columns: slice = slice(None)) -> bool:
        """Whether a pixel of a box has that use."""
        return bool((self._runs(rows, columns)[0] == part).any())

    def count(self, part: int) -> int:
        """Pixels that have that use."""
        values, heights, widths = self._runs(slice(None), slice(None))
        return int(heights @ (values == part) @ widths)

    def any_train(self, rows: slice = slice(None), columns: slice = slice(None)) -> bool:
        """Whether a pixel of a box trains."""
        return self.any_of(TRAIN, rows, columns)

    def years(self, years: Iterable[int]) -> tuple[list[int], list[int]]:
        """Those of the years that train and those that are scored: all, if none is held out."""
        listed, apart = sorted(years), set(self.split.years)
        train = [year for year in listed if year not in apart]
        return train, [year for year in listed if year in apart] if apart else listed

    def _runs(self, rows: slice, columns: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A box with equal neighbouring rows and columns as one, and how many each stands for."""
        row, column = self.grid.origin_index
        y = row + np.arange(self.grid.rows)[rows]
        x = column + np.arange(self.grid.columns)[columns]
        layers = (  # the later wins: what is scored is nobody else's, training is what is left
            (BUFFER, self.validation, self.split.buffer),
            (VALIDATION, self.validation, 0),
            (BUFFER, self.held, self.split.buffer),
            (HELD_OUT, self.held, 0),
        )
        along_y = [marked.rows(y, margin) for _, marked, margin in layers]
        along_x = [marked.columns(x, margin) for _, marked, margin in layers]
        (at_y, heights), (at_x, widths) = (runs(np.concatenate(k)) for k in (along_y, along_x))
        values = np.full((at_y.size, at_x.size), TRAIN, dtype=np.int8)
        for (part, marked, _), by_y, by_x in zip(layers, along_y, along_x, strict=True):
            values[marked.near(by_y[:, at_y], by_x[:, at_x])] = part
        return values, heights, widths


def years_of(cube: xr.Dataset) -> list[int]:
    """Years along ``year`` and ``time``, ascending."""
    yearly = cube["year"].to_numpy().tolist() if "year" in cube.indexes else []
    timely = cube["time"].dt.year.to_numpy().tolist() if "time" in cube.indexes else []
    return sorted({int(year) for year in (*yearly, *timely)})


def _absent(split: Split, cube: xr.Dataset) -> Iterator[str]:
    """Regions and years that the cube does not have, in sentences."""
    grid = Grid.of(cube)
    south, east = grid.latitude[-1], grid.longitude[-1]
    lattice = Lattice.of(grid, split.size)
    for region in split.regions:
        box = pixels_of(grid, region)
        if box is None or not holds_any(grid, lattice, box):
            yield (
                f"region {_edges(region)} must hold pixels of the cube, whose centres lie in "
                f"{_edges((grid.west, south, east, grid.north))}; found none; move it"
            )
    if set(split.years) - set(years_of(cube)):
        yield _years_absent(split.years, cube)


def _edges(region: tuple[float, float, float, float]) -> str:
    return f"({', '.join(f'{edge:g}' for edge in region)})"


def _years_absent(years: tuple[int, ...], cube: xr.Dataset) -> str:
    """Which years the cube lacks and which it has."""
    has = years_of(cube)
    lacking = ", ".join(str(year) for year in years if year not in has)
    found = f"has {has[0]} to {has[-1]}" if has else "has no years"
    return f"held-out years must be in the cube; {lacking} missing, it {found}; name others"


def _nothing_left(parts: Parts, cube: xr.Dataset) -> Iterator[str]:
    """What has no pixel or year left, in sentences."""
    split = parts.split
    held, validation = int(parts.held.sums[-1, -1]), int(parts.validation.sums[-1, -1])
    told = (
        f"holding out {held} of {parts.held.sums[1:, 1:].size} blocks of {split.size} pixels"
        + f" and {validation} for validation" * bool(validation)
        + f" and {len(split.regions)} regions" * bool(split.regions)
        + f" with a buffer of {split.buffer}"
    )
    advice = "use smaller blocks or a smaller buffer"
    if not parts.any_train():
        yield f"{told} leaves nothing to train on; {advice}"
    if split.validation and not parts.any_of(VALIDATION):
        yield f"{told} leaves nothing to validate with; {advice}"
    years = years_of(cube)
    if years and not parts.years(years)[0]:
        yield f"holding out all {len(years)} years of the cube leaves none to train on; name fewer"


def _on(cube: xr.Dataset, values: np.ndarray) -> xr.DataArray:
    """Values of the pixels with the cube's coordinates."""
    coords = {name: cube[name] for name in ("latitude", "longitude")}
    return xr.DataArray(values, coords, ("latitude", "longitude"), name="split")
