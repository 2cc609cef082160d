"""Legends and the tables between them, as data.

A legend is an ordered list of classes; a crosswalk gives the share of each class of one legend in
each class of another. Both are CSV files in ``tables/`` that open with their source.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal, cast

import numpy as np
import xarray as xr

from ..errors import LegendError

__all__ = [
    "LC",
    "LU",
    "LandClass",
    "Legend",
    "apply_crosswalk",
    "compatible",
    "crosswalk",
    "legend",
]

LEGENDS = ("luh2", "cci_pft", "cci_lccs", "globcover", "ifs", "modis_igbp", "hilda")
CROSSWALKS = (
    "cci_lccs-cci_pft",
    "globcover-cci_pft",
    "cci_lccs-ifs",
    "cci_pft-ifs",
    "modis_igbp-cci_pft",
    "hilda-luh2",
)
NO_DATA = "no_data"


@dataclass(frozen=True)
class LandClass:
    """One class of a legend.

    Parameters
    ----------
    id
        Short name; the value of the class coordinate.
    code
        Number in the maps of the product.
    long_name
        Name for people.
    area_type
        CF area type, None where the CF table has none for it.
    vegetation
        Stature that dominates the class.
    lai_max
        Upper bound of its leaf area index, m2 m-2; 0 where the class bears no leaf.
    color
        ``#rrggbb``.
    """

    id: str
    code: int
    long_name: str
    area_type: str | None
    vegetation: Literal["high", "low", "none"]
    lai_max: float
    color: str


@dataclass(frozen=True)
class Legend:
    """An ordered, complete list of classes.

    Parameters
    ----------
    name
        Word by which it is asked for.
    title
        Name for people.
    classes
        In the order of the class dimension.
    """

    name: str
    title: str
    classes: tuple[LandClass, ...]

    @property
    def ids(self) -> tuple[str, ...]:
        """Class ids in order."""
        return tuple(c.id for c in self.classes)

    @property
    def codes(self) -> tuple[int, ...]:
        """Class codes in order."""
        return tuple(c.code for c in self.classes)

    def index(self, id: str) -> int:
        """Position of a class.

        Raises
        ------
        LegendError
            If the legend has no such class.
        """
        if id not in self.ids:
            raise LegendError(
                f"legend {self.name!r} has no class {id!r}; it has {', '.join(self.ids)}"
            )
        return self.ids.index(id)

    def coordinate(self, dim: str) -> xr.DataArray:
        """Class ids as a coordinate variable over ``dim``."""
        # StringDType: zarr has no specification for the fixed-length strings that numpy would make.
        values = np.array(self.ids, dtype=np.dtypes.StringDType())
        attrs = {"long_name": self.title, "legend": self.name}
        return xr.DataArray(values, dims=dim, coords={dim: (dim, values, attrs)}, attrs=attrs)


@functools.cache
def legend(name: str) -> Legend:
    """Return the legend of that name.

    Parameters
    ----------
    name
        "luh2" (land use), "cci_pft" (land cover), "cci_lccs", "globcover", "ifs", "modis_igbp" or
        "hilda".

    Raises
    ------
    LegendError
        If there is no such legend.
    """
    if name not in LEGENDS:
        raise LegendError(f"there is no legend {name!r}; there are {', '.join(LEGENDS)}")
    comments, rows = _read(name)
    title = next(c for c in comments if c.startswith("title: ")).removeprefix("title: ")
    return Legend(name, title, tuple(_land_class(row) for row in rows))


def crosswalk(name: str) -> xr.DataArray:
    """Shares of the target classes in each source class.

    Parameters
    ----------
    name
        ``"source-target"``, one of "cci_lccs-cci_pft", "globcover-cci_pft", "cci_lccs-ifs",
        "cci_pft-ifs", "modis_igbp-cci_pft", "hilda-luh2", or twice the same legend, which is the
        identity.

    Returns
    -------
    xarray.DataArray
        ``(source_class, target_class)``, float64, 1; rows sum to 1, and are NaN for no data.
        Coordinate ``source_code`` holds the codes.

    Raises
    ------
    LegendError
        If there is no such table.

    References
    ----------
    The first lines of each ``tables/*.csv``.
    """
    return _crosswalk(name).copy()


def apply_crosswalk(codes: xr.DataArray, name: str, dim: str) -> xr.DataArray:
    """Class fractions from a map of class codes.

    Parameters
    ----------
    codes
        Any dims, integers or floats with NaN for missing. Bytes read as signed (210 as -46)
        are understood.
    name
        Crosswalk, as in `crosswalk`.
    dim
        Name of the new class dimension; it stands before the last two dims.

    Returns
    -------
    xarray.DataArray
        float32, 1, sums to 1 over ``dim``; NaN in all classes where the code is missing or
        means no data. Lazy where ``codes`` is.

    Raises
    ------
    LegendError
        If codes are not of the source legend: all of them, with their counts. For Dask data it
        is raised by the block that holds them, when it is computed.
    """
    table = _crosswalk(name)
    source, target = name.split("-")
    coordinate = legend(target).coordinate(dim)
    known = table.source_code.to_numpy()
    lookup = np.concatenate([table.to_numpy(), np.full((1, coordinate.size), np.nan)])
    fractions = xr.apply_ufunc(
        _look_up,
        codes,
        kwargs={"known": known, "lookup": lookup.astype(np.float32), "legend_name": source},
        output_core_dims=[[dim]],
        dask="parallelized",
        output_dtypes=[np.float32],
        dask_gufunc_kwargs={"output_sizes": {dim: coordinate.size}},
    )
    leading, last = codes.dims[:-2], codes.dims[-2:]
    return fractions.assign_coords({dim: coordinate[dim]}).transpose(*leading, dim, *last)


def compatible(lu: Legend, lc: Legend) -> np.ndarray:
    """Which land-use and land-cover classes can share ground.

    Parameters
    ----------
    lu, lc
        The two legends.

    Returns
    -------
    numpy.ndarray
        bool, ``(len(lu.classes), len(lc.classes))``.

    Raises
    ------
    LegendError
        If there is no table for the two.
    """
    if (lu.name, lc.name) != ("luh2", "cci_pft"):
        raise LegendError(
            f"no table says which classes of {lu.name!r} and {lc.name!r} can share ground; "
            "there is one for 'luh2' and 'cci_pft'"
        )
    _, rows = _read("luh2_cci_pft")
    cells = {row["id"]: row for row in rows}
    return np.array([[cells[u][c] == "1" for c in lc.ids] for u in lu.ids])


@functools.cache
def _crosswalk(name: str) -> xr.DataArray:
    source, _, target = name.partition("-")
    if name not in CROSSWALKS and not (source == target and source in LEGENDS):
        raise LegendError(
            f"there is no crosswalk {name!r}; there are {', '.join(CROSSWALKS)}, "
            "and every legend to itself"
        )
    rows, columns = legend(source), legend(target)
    shares = np.full((len(rows.classes), len(columns.classes)), np.nan)
    for i, row in _shares(source, target):
        shares[i] = row
    return xr.DataArray(
        shares,
        dims=("source_class", "target_class"),
        coords={
            "source_class": rows.coordinate("source_class"),
            "target_class": columns.coordinate("target_class"),
            "source_code": ("source_class", np.array(rows.codes)),
        },
        name="fraction",
        attrs={"long_name": f"share of {columns.title} in {rows.title}", "units": "1"},
    )


def _shares(source: str, target: str) -> Iterator[tuple[int, Any]]:
    """Row number in the source legend and its shares, for every class that has data."""
    origin = legend(source)
    if source == target:
        identity = np.eye(len(origin.classes))
        yield from ((i, identity[i]) for i, c in enumerate(origin.classes) if c.id != NO_DATA)
    elif source == "globcover":
        via = {c.code: i for i, c in enumerate(legend("cci_lccs").classes)}
        through = _crosswalk(f"cci_lccs-{target}").to_numpy()
        for row in _read("globcover-cci_lccs")[1]:
            yield origin.codes.index(int(row["code"])), through[via[int(row["target"])]]
    else:
        for row in _read(f"{source}-{target}")[1]:
            shares = [float(row[id]) / 100 for id in legend(target).ids]
            yield origin.codes.index(int(row["code"])), shares


def _look_up(
    codes: np.ndarray, *, known: np.ndarray, lookup: np.ndarray, legend_name: str
) -> np.ndarray:
    missing = np.isnan(codes) if codes.dtype.kind == "f" else np.zeros(codes.shape, bool)
    values = np.where(missing, 0, codes)
    # A byte that a reader took as signed: CCI files say _Unsigned, and not everyone listens.
    values = np.where((values < 0) & (values >= -128), values + 256.0, values)
    order = np.argsort(known)
    place = np.clip(np.searchsorted(known[order], values), 0, known.size - 1)
    unknown = (known[order][place] != values) & ~missing
    if unknown.any():
        found, counts = np.unique(codes[unknown], return_counts=True)
        raise LegendError(
            f"the map has codes that are not in legend {legend_name!r} "
            f"({', '.join(map(str, known.tolist()))}); recode them, or make them NaN",
            [f"code {c:g} in {n} pixels" for c, n in zip(found, counts, strict=True)],
        )
    return lookup[np.where(missing, known.size, order[place])]


def _land_class(row: dict[str, str]) -> LandClass:
    return LandClass(
        id=row["id"],
        code=int(row["code"]),
        long_name=row["long_name"],
        area_type=row["area_type"] or None,
        vegetation=cast(Literal["high", "low", "none"], row["vegetation"]),
        lai_max=float(row["lai_max"]),
        color=row["color"],
    )


def _read(table: str) -> tuple[list[str], list[dict[str, str]]]:
    """Comments and rows of one CSV file."""
    path = resources.files(__package__) / "tables" / f"{table}.csv"
    lines = path.read_text(encoding="utf-8").splitlines()
    comments = [line.removeprefix("#").strip() for line in lines if line.startswith("#")]
    return comments, list(csv.DictReader(line for line in lines if not line.startswith("#")))


LU = legend("luh2")
LC = legend("cci_pft")
