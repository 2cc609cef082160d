"""The version-2 twin of a version-1 catalog: what intake 2 calls its own form.

Version 1 is what the field publishes, and what ``.to_dask()`` comes with. Version 2 names readers
of intake itself, so that who opens it needs neither intake-xarray nor, for plain entries, xlsbc.
Every entry gets an alias: ``list(catalog)`` of intake 2.0.9 tells aliases and nothing else.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any

import yaml

from xlsbc.cube.catalog.guard import DRIVERS, EMULATED, SYNTHETIC, first, load
from xlsbc.errors import SourceError

__all__ = ["second_url", "translated", "twin"]

READERS = "intake.readers.readers"
DATATYPES = "intake.readers.datatypes"
PARAMETERS = "intake.readers.user_parameters"

OWN = {
    SYNTHETIC: "xlsbc.cube.synthetic.source:SyntheticReader",
    EMULATED: "xlsbc.deliver.emulated:EmulatedReader",
}
DATA = {"zarr": "Zarr", "intake_xarray.xzarr.ZarrSource": "Zarr", "netcdf": "HDF5"}

HEADER = "# Made of {} by xlsbc.cube.catalog.twin: change that, not this.\n"


def twin(path: str | os.PathLike[str]) -> str:
    """Version-2 YAML of a version-1 catalog.

    Parameters
    ----------
    path
        URL of the catalog.

    Returns
    -------
    str
        The text, for a file beside it by the name that `second_url` tells. Entries that version 2
        has no plain form for are named in its metadata, ``left_out``.

    Raises
    ------
    SourceError
        If there is no catalog of version 1.
    """
    import fsspec

    url = os.fspath(path)
    with fsspec.open(url, "rb") as file:
        data = load(file.read(), url)
    return HEADER.format(url.rpartition("/")[2]) + translated(data, url)


def second_url(url: str) -> str:
    """Where the twin of a catalog lies: ``catalog.yaml`` has its twin in ``catalog.v2.yaml``."""
    stem, _, ending = url.rpartition(".")
    return f"{stem}.v2.{ending}"


def translated(data: dict[str, Any], url: str) -> str:
    """Version-2 YAML of the content of a version-1 catalog.

    Raises
    ------
    SourceError
        If it is not one.
    """
    if not isinstance(data.get("sources"), dict):
        raise SourceError(f"{url} is not a catalog of intake's version 1: it has no 'sources'")
    cleaned, refused = first(data, url)
    metadata = dict(cleaned.get("metadata") or {})
    shared = metadata.pop("parameters", None) or {}
    metadata.pop("version", None)
    about = {key: cleaned[key] for key in ("name", "description") if cleaned.get(key)}
    whole: dict[str, Any] = {
        "version": 2,
        "metadata": {**about, **metadata},
        "aliases": {},
        "user_parameters": {name: parameter(of) for name, of in shared.items()},
        "data": {},
        "entries": {},
    }
    left_out = sorted(refused)
    for name, entry in cleaned["sources"].items():
        if name in refused:
            continue
        args, kept = inlined(entry)
        wanted = {key: parameter(of) for key, of in kept.items()}
        held = whole["user_parameters"]
        make = maker(entry.get("driver"))
        # one catalog has one parameter of a name: intake reads no parameters of data
        if make is None or any(held.get(key, of) != of for key, of in wanted.items()):
            left_out.append(name)
            continue
        held.update(wanted)
        item, reader = make(name, fields(args))
        if item is not None:
            whole["data"][f"{name}_data"] = {"metadata": {}, "user_parameters": {}, **item}
        told = {key: entry[key] for key in ("description", "parameters") if entry.get(key)}
        whole["entries"][name] = {
            "output_instance": "xarray:Dataset",
            "user_parameters": {},
            "metadata": {**told, **(entry.get("metadata") or {})},
            **reader,
        }
        whole["aliases"][name] = name
    if left_out:
        whole["metadata"]["left_out"] = left_out
    return yaml.safe_dump(whole, sort_keys=False, allow_unicode=True, width=100)


def inlined(entry: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arguments, those that are a parameter of the same name as its default; other parameters.

    In version 2 an argument of a parameter's name is that parameter's value, and is not passed on.
    It is set directly: ``catalog[name](seed=1)``.
    """
    args = dict(entry.get("args") or {})
    parameters = dict(entry.get("parameters") or {})
    for key, value in args.items():
        if key in parameters and fields(value) == f"{{{key}}}":
            args[key] = parameters.pop(key).get("default")
    return args, parameters


Made = tuple[dict[str, Any] | None, dict[str, Any]]


def maker(driver: Any) -> Callable[[str, dict[str, Any]], Made] | None:
    """What makes data and reader of the arguments for a driver; None if there is no plain form."""
    if driver in DRIVERS["catalog"]:
        return nested
    if driver in OWN:
        return lambda name, args: (None, {"reader": OWN[driver], "kwargs": args})
    if driver in DATA:
        return lambda name, args: dataset(DATA[driver], name, args)
    return None


def dataset(datatype: str, name: str, args: dict[str, Any]) -> Made:
    """What xarray opens: lazy, in the chunks that are stored."""
    place = {"url": args.pop("urlpath"), "storage_options": args.pop("storage_options", None)}
    kwargs = {"data": f"{{data({name}_data)}}", "chunks": {}, **args}
    return (
        {"datatype": f"{DATATYPES}:{datatype}", "kwargs": place},
        {"reader": f"{READERS}:XArrayDatasetReader", "kwargs": kwargs},
    )


def nested(name: str, args: dict[str, Any]) -> Made:
    """A nested catalog: the twin of the one that is nested in version 1."""
    return (
        {"datatype": f"{DATATYPES}:YAMLFile", "kwargs": {"url": second_url(args["path"])}},
        {
            "reader": f"{READERS}:YAMLCatalogReader",
            "kwargs": {"data": f"{{data({name}_data)}}"},
            "output_instance": "intake.readers.entry:Catalog",
        },
    )


def parameter(of: Mapping[str, Any]) -> dict[str, Any]:
    """A parameter of version 1 as one of version 2."""
    dtype = str(of.get("type", "str")).partition("[")[0]
    about = {"description": of.get("description", ""), "default": of.get("default"), "dtype": dtype}
    if of.get("allowed"):
        return {
            "cls": f"{PARAMETERS}:OptionsUserParameter",
            **about,
            "options": list(of["allowed"]),
        }
    return {"cls": f"{PARAMETERS}:SimpleUserParameter", **about}


def fields(tree: Any) -> Any:
    """Arguments whose templates ``{{ name }}`` have become ``{name}``."""
    if isinstance(tree, dict):
        return {key: fields(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [fields(value) for value in tree]
    if isinstance(tree, str):
        return re.sub(r"\{\{-?\s*([A-Za-z_]\w*)\s*-?\}\}", r"{\1}", tree)
    return tree
