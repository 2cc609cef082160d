"""A product in a store, with a picture of it, in a catalog that anyone opens without xlsbc."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from xlsbc.cube.catalog.editing import NAME, Document, located, public_options, put
from xlsbc.cube.catalog.guard import harmless
from xlsbc.cube.store.reading import open_cube
from xlsbc.cube.store.writer import write
from xlsbc.deliver.preview import preview
from xlsbc.errors import SourceError

__all__ = ["publish"]


def publish(
    ds: xr.Dataset,
    url: str | os.PathLike[str],
    *,
    catalog: str | os.PathLike[str],
    name: str | None = None,
    attributes: Mapping[str, str] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    packed: bool = True,
    progress: bool = True,
) -> str:
    """Write a product into a store and a catalog, and return its name there.

    Who reads it needs intake and intake-xarray alone: ``intake.open_catalog(catalog)[name]`` has
    ``.read()`` and ``.to_dask()``. Beside the catalog, ``x.yaml``, lies its twin of intake's
    version 2, ``x.v2.yaml``; beside the store a picture, ``<url>.png``, made of at most 480 pixels
    a side of one step. An interrupted call is gone on with by the same call.

    Parameters
    ----------
    ds
        A prediction, or any Dataset that `write` takes; lazy or not.
    url
        Of the new Zarr store, any fsspec URL.
    catalog
        URL of the catalog, a YAML file of intake's version 1. It is made if there is none; else
        the entry is added, or takes the place of one of its name, and all others stay.
    name
        Of the entry; by default the store's, less ``.zarr``.
    attributes
        Of CF and ACDD, e.g. title, summary, creator_name: they go into the store and the catalog.
    storage_options
        Of the file system, for those who read, e.g. ``{"anon": True}``; no secrets.
    overwrite, packed, progress
        As of `xlsbc.cube.store.writer.write`.

    Raises
    ------
    SourceError
        If the catalog is damaged or cannot hold the entry, before anything is computed.
    CubeError, StoreError
        As of `write`.
    """
    place = os.fspath(url).rstrip("/")
    name = name or place.rpartition("/")[2].removesuffix(".zarr")
    if not NAME.fullmatch(name) or set("{}") & set(place):
        raise SourceError(
            f"an entry is named by letters, digits, '_', '-', '.', a store has no braces in its "
            f"URL; found {name!r} at {place!r}; pass name="
        )
    document = Document(catalog)
    options = public_options(storage_options)
    write(
        described(ds, attributes or {}),
        place,
        overwrite=overwrite,
        packed=packed,
        progress=progress,
    )
    store = open_cube(place)
    metadata = {**store.attrs, **extent(store), "variables": sorted(map(str, store.data_vars))}
    picture = preview(store)
    if picture is not None:
        put(f"{place}.png", picture)
        metadata["preview"] = located(f"{place}.png", document.url).rpartition("/")[2]
    args: dict[str, Any] = {"urlpath": located(place, document.url)}
    if options:
        args["storage_options"] = options
    about = str(metadata.get("summary") or metadata.get("title") or name)
    told = harmless({"description": about, "metadata": metadata})
    # a fresh look: other products may have been added while this one was computed
    Document(catalog).add(name, {"driver": "zarr", "args": args, **told})
    return name


def described(ds: xr.Dataset, attributes: Mapping[str, str]) -> xr.Dataset:
    """The Dataset with the attributes of ACDD 1.3 that it tells itself, and those that are given.

    References
    ----------
    Attribute Convention for Data Discovery 1.3, ESIP, 2015.
    """
    about: dict[str, Any] = {}
    names = [
        str(field.attrs.get("long_name", name)).replace("_", " ")
        for name, field in ds.data_vars.items()
    ]
    found = extent(ds)
    if "bbox" in found:
        for key, value in zip(
            ("lon_min", "lat_min", "lon_max", "lat_max"), found["bbox"], strict=True
        ):
            about[f"geospatial_{key}"] = value
    if "period" in found:
        about["time_coverage_start"], about["time_coverage_end"] = found["period"]
    about["keywords"] = ", ".join(names)
    about["summary"] = "; ".join([", ".join(names), *words(found)])
    return ds.assign_attrs({**about, **ds.attrs, **attributes})


def words(found: Mapping[str, Any]) -> list[str]:
    """Period and box, for people."""
    said = []
    if "period" in found:
        said.append("{} to {}".format(*found["period"]))
    if "bbox" in found:
        west, south, east, north = found["bbox"]
        said.append(f"longitude {west:.4g} to {east:.4g}, latitude {south:.4g} to {north:.4g}")
    return said


def extent(ds: xr.Dataset) -> dict[str, Any]:
    """Box of the pixels' outer edges, degrees west, south, east, north; first and last day."""
    found: dict[str, Any] = {}
    axes = [ds.get(dim) for dim in ("longitude", "latitude")]
    if all(axis is not None and axis.ndim == 1 and axis.size for axis in axes):
        (west, east), (north, south) = (edges(axis.to_numpy()) for axis in axes)  # type: ignore[union-attr]
        found["bbox"] = [west, min(north, south), east, max(north, south)]
    if "time" in ds.coords and ds["time"].dtype.kind == "M" and ds["time"].size:
        times = ds["time"].to_numpy().astype("datetime64[D]")
        found["period"] = [str(times.min()), str(times.max())]
    elif "year" in ds.coords and ds["year"].size:
        years = ds["year"].to_numpy()
        found["period"] = [f"{int(years.min())}-01-01", f"{int(years.max())}-12-31"]
    return found


def edges(centres: np.ndarray) -> tuple[float, float]:
    """Outer edges of the first and of the last pixel, to a ten-millionth of a degree."""
    half = (centres[1] - centres[0]) / 2 if centres.size > 1 else 0.0
    return round(float(centres[0] - half), 7), round(float(centres[-1] + half), 7)
