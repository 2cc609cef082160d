"""What a fragment covers, without its values: small enough to send about and to compare."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import xarray as xr

from ...errors import SourceError

__all__ = ["Footprint", "footprint"]


@dataclass(frozen=True)
class Footprint:
    """What a fragment covers, without its values.

    Parameters
    ----------
    source
        File that it comes from.
    stamp
        Of the file's content: size and time of change, as its file system tells them.
    accessed
        Date of the file, ISO 8601; None where its file system tells none.
    variables
        Dims, dtype and attributes by name.
    coords
        Coordinates, in memory.
    attrs
        Of the Dataset.
    """

    source: str
    stamp: str
    accessed: str | None
    variables: dict[str, tuple[tuple[str, ...], str, dict[str, Any]]]
    coords: xr.Dataset = field(repr=False)
    attrs: dict[Hashable, Any]

    @property
    def sizes(self) -> dict[str, int]:
        """Length along each dimension that a variable has."""
        held = {dim for dims, _, _ in self.variables.values() for dim in dims}
        return {str(d): n for d, n in self.coords.sizes.items() if d in held}


def footprint(ds: xr.Dataset, stamp: str, accessed: str | None) -> Footprint:
    """What a fragment covers; computes coordinates only.

    Raises
    ------
    SourceError
        If a dimension has no coordinate, by which it could be placed.
    """
    where = str(ds.encoding.get("source", "a fragment"))
    bare = [d for d in ds.dims if d not in ds.coords]
    if bare:
        raise SourceError(
            "a fragment cannot be placed",
            [f"{where}: expected a coordinate {d!r}; found none; add it" for d in bare],
        )
    variables = {
        str(name): (tuple(map(str, da.dims)), da.dtype.str, dict(da.attrs))
        for name, da in ds.data_vars.items()
    }
    coords = ds.coords.to_dataset().compute().drop_encoding()
    return Footprint(where, stamp, accessed, variables, coords, dict(ds.attrs))
