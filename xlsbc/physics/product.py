"""A product as the rules see it: canonical names, its maps of a year, its classes.

A variable under its canonical name on canonical dims is taken as it is; what else there is, say a
map of class codes or a leaf area index of another name, is found through CF.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import xarray as xr

from ..cube import legends
from ..cube.axes import read_axes
from ..cube.schema import conform
from ..errors import CubeError

TARGETS = ("lu_fraction", "lc_fraction", "lai")
SPLIT = ("lai_lv", "lai_hv", "cvl", "cvh")
TYPES = ("tvl", "tvh")  # GRIB code table 4.234
CHECKED = (*TARGETS, *SPLIT, "fcover", *TYPES)

_DIMS = {"year", "time", "latitude", "longitude", "lu_class", "lc_class"}
_FCOVER = "vegetation_area_fraction"

# Larger numpy-backed products are read in such blocks, so that float64 copies stay small.
_BLOCK = {"year": 1, "time": 12}
_LARGE = 2**26  # bytes


def named(product: xr.Dataset) -> tuple[xr.Dataset, list[str]]:
    """What can be checked of a product, under canonical names, and why other things cannot.

    Lazy. Of several variables that could be one, none is taken: that is among the reasons.
    """
    held = {name: product[name] for name in CHECKED if name in product}
    on_dims = {name: each for name, each in held.items() if _DIMS.issuperset(each.dims)}
    for name in {*SPLIT, *TYPES} & (held.keys() - on_dims.keys()):
        on_dims[name] = _on_canonical_dims(product, name)
    if "fcover" not in on_dims:
        said = [n for n, v in product.items() if v.attrs.get("standard_name") == _FCOVER]
        if len(said) == 1:
            on_dims["fcover"] = _on_canonical_dims(product, str(said[0]))
    rest = product.drop_vars([name for name in product.data_vars if name in on_dims])
    problems: list[str] = []
    if rest.data_vars and not on_dims.keys() >= set(TARGETS):
        try:
            conformed = conform(rest)
        except CubeError as error:
            problems = list(error.problems or [error.summary])
        else:
            on_dims |= {
                name: conformed[name]
                for name in TARGETS
                if name in conformed and name not in on_dims
            }
    parts = [on_dims[name].rename(name).to_dataset() for name in CHECKED if name in on_dims]
    # The same places in another order are the same places; years that one lacks are another thing.
    steps = {dim: ds[dim] for ds in parts for dim in ("year", "time") if dim in ds.coords}
    if len(parts) > 1 and any(not _same_places(parts[0], part) for part in parts[1:]):
        parts = [part.reindex(steps) for part in parts]
        return xr.merge(parts, join="inner", compat="override"), problems
    return xr.Dataset({name: part[name] for part in parts for name in part}), problems


def in_blocks(product: xr.Dataset) -> xr.Dataset:
    """Everything in blocks that hold all classes of a pixel; as it is where it is small."""
    blocks = {}
    for name, each in product.items():
        if each.chunks or product.nbytes > _LARGE:
            chunks = {"lu_class": -1, "lc_class": -1} if each.chunks else _BLOCK
            each = each.chunk({dim: n for dim, n in chunks.items() if dim in each.dims})
        blocks[name] = each
    return product.assign(blocks)


def year_index(time: xr.DataArray, year: xr.DataArray) -> np.ndarray:
    """Position in ``year`` of the map that holds at each ``time``; -1 where there is none.

    A single map holds at all times: land-cover maps are often made once.
    """
    if year.size == 1:
        return np.zeros(time.size, dtype=int)
    positions = {int(value): i for i, value in enumerate(year.values)}
    return np.array([positions.get(int(value), -1) for value in time.dt.year.values], dtype=int)


def years(product: xr.Dataset) -> Iterator[xr.Dataset]:
    """The product by its maps of a year, with the times that each holds for; NaN without a map."""
    if "year" not in product.dims:
        yield product
        return
    if "time" not in product.dims:
        yield from (product.isel(year=i, drop=True) for i in range(product.sizes["year"]))
        return
    index = year_index(product["time"], product["year"])
    for i in np.unique(index):
        part = product.isel(time=index == i).isel(year=max(i, 0), drop=True)
        yearly = [name for name, each in product.items() if "year" in each.dims and i < 0]
        yield part.assign({name: xr.full_like(part[name], np.nan) for name in yearly})


def at_times(yearly: xr.DataArray, time: xr.DataArray) -> xr.DataArray:
    """A map of each year at every time that it holds for; NaN, or -1, where there is none."""
    if "year" not in yearly.dims:
        return yearly
    index = year_index(time, yearly["year"])
    known = xr.DataArray(index >= 0, dims="time")
    picked = yearly.drop_vars("year", errors="ignore").isel(
        year=xr.DataArray(index.clip(0), dims="time")
    )
    missing = np.nan if yearly.dtype.kind == "f" else -1
    return picked if known.all() else picked.where(known, missing)


def legend_of(product: xr.Dataset, dim: str) -> legends.Legend:
    """Legend of a class dimension: what it says of itself, else the cube's own."""
    default = {"lu_class": legends.LU, "lc_class": legends.LC}[dim]
    if dim not in product.coords:
        return default
    return legends.legend(product[dim].attrs.get("legend", default.name))


def classes_of(product: xr.Dataset) -> list[legends.LandClass]:
    """Land-cover classes in the product's own order; the whole legend if it has no land cover."""
    legend = legend_of(product, "lc_class")
    if "lc_class" not in product.coords:
        return list(legend.classes)
    return [legend.classes[legend.index(str(each))] for each in product["lc_class"].values]


def weighted_sum(fraction: xr.DataArray, dim: str, weights: Sequence[float]) -> xr.DataArray:
    """Sum over the classes in float64; NaN where any class is."""
    return xr.dot(
        fraction.astype("float64"), xr.DataArray(np.asarray(weights, "float64"), dims=dim), dim=dim
    )


def dominant(fraction: xr.DataArray, dim: str) -> xr.DataArray:
    """Index of the largest class, the first of equals, int64; -1 where any class is missing."""
    known = fraction.notnull().all(dim)
    return fraction.fillna(0).argmax(dim).where(known, -1).astype("int64")


def row_weight(field: xr.DataArray) -> xr.DataArray:
    """Relative area of the pixels of each row; 1 for all where there is no latitude.

    A pixel of a regular grid is as large as the cosine of its latitude, times a constant.
    """
    if "latitude" not in field.dims or "latitude" not in field.coords:
        return xr.DataArray(1.0)
    cosine = np.cos(np.deg2rad(field["latitude"].values.astype("float64")))
    return xr.DataArray(cosine.clip(0), dims="latitude")


def _on_canonical_dims(product: xr.Dataset, name: str) -> xr.DataArray:
    """A variable that CF has no name for, its dims as their coordinates say."""
    axes, each = read_axes(product), product[name]
    dims = {dim: str(axes[dim].kind) for dim in each.dims if axes[dim].kind in _DIMS}
    each = each.reset_coords(drop=True)
    return each.rename({dim: kind for dim, kind in dims.items() if kind != dim})


def _same_places(one: xr.Dataset, other: xr.Dataset) -> bool:
    return all(
        dim not in one.indexes or dim not in other.indexes or one[dim].equals(other[dim])
        for dim in ("latitude", "longitude")
    )
