"""A provider's file: opened lazily, and refused when it does not hold what is expected of it.

Every reader of this package raises one `SourceError` whose problems each name file and variable,
so that `gather` can show the user all that is wrong with a download at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import xarray as xr

from ...errors import SourceError

FETCH_AGAIN = "fetch the file again"


class Layer(NamedTuple):
    """A variable that a provider's file must hold.

    Attributes
    ----------
    variable
        Its name in the file.
    units
        The text of its ``units`` attribute in the file.
    dims
        Its dimensions in the file, in order.
    """

    variable: str
    units: str
    dims: tuple[str, ...]


def open_netcdf(
    path: str | os.PathLike[str],
    layers: Sequence[Layer],
    *,
    chunks: Mapping[str, int],
) -> xr.Dataset:
    """The named layers of a netCDF file, decoded, lazy, without storage encoding.

    Parameters
    ----------
    path
        The file.
    layers
        What it must hold; everything else in it is left out.
    chunks
        Dask chunk length per dimension; a dimension that is not named is one chunk.

    Raises
    ------
    SourceError
        If the file is missing or unreadable, or a layer is missing, or has other units or
        dimensions: all problems of the file at once.
    """
    file = existing(path)
    try:
        ds = xr.open_dataset(file, engine="netcdf4")
    except (OSError, RuntimeError, ValueError) as error:
        raise unreadable(file, "a netCDF-4 or netCDF-3 file", error) from error
    try:
        expect(ds, layers, str(file))
    except SourceError:
        ds.close()
        raise
    wanted = ds[[layer.variable for layer in layers]].drop_attrs(deep=False)
    sizes: dict[Hashable, int] = {dim: chunks.get(str(dim), -1) for dim in wanted.dims}
    return wanted.chunk(sizes).drop_encoding()


def expect(ds: xr.Dataset, layers: Sequence[Layer], where: str) -> None:
    """Look at whether a file holds what it must; `where` is what it is called in messages.

    Raises
    ------
    SourceError
        If a layer is missing, or has other units or dimensions, with all of them.
    """
    problems = [problem for layer in layers for problem in _layer_problems(ds, layer, where)]
    if problems:
        name = where.rstrip("/").rpartition("/")[2]
        raise SourceError(f"{name} does not hold what is expected of it", problems)


def existing(path: str | os.PathLike[str]) -> Path:
    """The path of a file that is there.

    Raises
    ------
    SourceError
        If it is not.
    """
    file = Path(path)
    if not file.is_file():
        found = "something else than a file" if file.exists() else "nothing"
        problem = f"{file}: expected a file; found {found}; fetch it, or correct the source folder"
        raise SourceError(f"{file.name} is missing", [problem])
    return file


def unreadable(file: Path, expected: str, error: Exception) -> SourceError:
    """The error to raise where a reader gave up on a file."""
    cause = str(error) or type(error).__name__
    problem = (
        f"{file}: expected {expected}; found {file.stat().st_size} bytes that cannot be read as "
        f"one ({cause}); {FETCH_AGAIN}"
    )
    return SourceError(f"{file.name} cannot be read", [problem])


def gather(summary: str, readers: Sequence[Callable[[], Any]]) -> list[Any]:
    """What each reader returns, in order.

    Raises
    ------
    SourceError
        If any of them raised one: `summary`, with the problems of all of them, each once.
    """
    results: list[Any] = []
    errors: list[SourceError] = []
    for reader in readers:
        try:
            results.append(reader())
        except SourceError as error:
            errors.append(error)
    if errors:
        problems = [p for error in errors for p in (error.problems or (error.summary,))]
        raise SourceError(summary, list(dict.fromkeys(problems))) from errors[0]
    return results


def _layer_problems(ds: xr.Dataset, layer: Layer, file: str) -> list[str]:
    where = f"{file}, variable {layer.variable!r}"
    if layer.variable not in ds:
        held = ", ".join(repr(name) for name in ds.data_vars)
        return [f"{where}: expected it; found only {held}; {FETCH_AGAIN}"]
    da = ds[layer.variable]
    problems = []
    if da.dims != layer.dims:
        problems.append(
            f"{where}: expected dimensions {layer.dims}; found {da.dims}; {FETCH_AGAIN}"
        )
    if da.attrs.get("units") != layer.units:
        found = da.attrs.get("units", "none")
        problems.append(f"{where}: expected units {layer.units!r}; found {found!r}; {FETCH_AGAIN}")
    problems.extend(
        f"{where}: expected a coordinate {dim!r}; found none; {FETCH_AGAIN}"
        for dim in layer.dims
        if dim in da.dims and dim not in da.coords
    )
    return problems
