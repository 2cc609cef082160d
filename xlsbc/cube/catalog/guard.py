"""What a catalog may say: where data are, and not what to import, run or look up.

What intake 2.0.9 does with a catalog that says more, all of it seen:

* on opening version 1 it imports ``plugins``, calls what ``cls`` names, and imports every dotted
  ``driver``; on opening version 2 it imports the ``cls`` of parameters;
* on ``catalog[name]`` it renders every string of a version-1 entry, metadata too, as a Jinja
  template without a sandbox, which reaches any function by attributes; ``env(…)`` is replaced, and
  ``shell(…)`` too where a catalog nests another with ``getshell: true``; of version 2 it imports
  ``{func(…)}``, replaces ``{env(…)}``, and follows ``{data(…)}`` round and round.

Here an entry is looked at before intake is: what is not known to be harmless is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from xlsbc.errors import SourceError

__all__ = ["EMULATED", "SYNTHETIC", "first", "harmless", "load", "second"]

LARGEST = 2**24
"""Bytes of a catalog."""

MOST = 10**6
"""Values in a catalog, each counted wherever an alias repeats it."""

SYNTHETIC = "xlsbc.cube.synthetic.source.SyntheticSource"
EMULATED = "xlsbc.deliver.emulated.EmulatedSource"

DRIVERS = {
    "catalog": {"yaml_file_cat", "intake.catalog.local.YAMLFileCatalog"},
    "data": {
        *("zarr", "intake_xarray.xzarr.ZarrSource"),
        *("netcdf", "intake_xarray.netcdf.NetCDFSource"),
        *("opendap", "intake_xarray.opendap.OpenDapSource"),
        *("rasterio", "intake_xarray.raster.RasterIOSource"),
        *("csv", SYNTHETIC, EMULATED),
    },
}
"""Version 1: what does nothing before it is read, and reads nothing but data."""

READERS = {
    "intake.readers.readers:XArrayDatasetReader",
    "intake.readers.readers:YAMLCatalogReader",
    "xlsbc.cube.synthetic.source:SyntheticReader",
    "xlsbc.deliver.emulated:EmulatedReader",
}
DATATYPES = {
    f"intake.readers.datatypes:{name}"
    for name in ("Zarr", "NetCDF3", "HDF5", "GRIB2", "OpenDAP", "YAMLFile", "CatalogFile")
}
PARAMETERS = {
    f"intake.readers.user_parameters:{name}UserParameter"
    for name in ("Base", "Simple", "Options", "MultiOption", "BoundedNumber")
}
"""Version 2: the same."""

TEMPLATE = re.compile(
    r"""(?<!\{)\{\{-?\s*(?:
        [A-Za-z_]\w*(?:\s*\|\s*(?:int|float|string|lower|upper|trim))?  # a parameter
        | (?P<quote>['"])%0?\d?[dsf](?P=quote)\s*%\s*[A-Za-z_]\w*      # one with leading zeros
        | (?:client_)?(?:env|shell)\(\s*['"]?\w*['"]?\s*\)             # stays as it is, unread
    )\s*-?\}\}(?!\})""",
    re.VERBOSE,
)
"""All that a version-1 string may hold between braces."""

OPENS = re.compile(r"\{\{|\{%|\{\#")
"""What Jinja reads as the beginning of a template."""

FIELD = re.compile(r"\{(?!STORAGE_OPTIONS\})[A-Za-z_]\w*\}")
"""All that a version-2 string may hold between braces."""

CALL = re.compile(r"\{?\s*(?:env|func|import|pickle64|data)\s*\(")
REFERENCE = re.compile(r"\{data\(([^(){}]+)\)\}")


def load(content: bytes, url: str) -> dict[str, Any]:
    """The mapping in a YAML text; tags and duplicate keys are errors.

    Raises
    ------
    SourceError
        If it is larger than any catalog, unpacked too, or not a mapping.
    """
    from intake.utils import yaml_load

    if len(content) > LARGEST:
        raise SourceError(f"the catalog {url} has more than {LARGEST} bytes")
    data = yaml_load(content.decode())
    if not isinstance(data, dict):
        raise SourceError(
            f"there is no intake catalog at {url!r}",
            [
                "expected a YAML file of intake's version 1 or 2, a mapping; found "
                f"{'nothing' if data is None else type(data).__name__}; check the address"
            ],
        )
    for count, _ in enumerate(values(data)):
        if count > MOST:
            raise SourceError(f"the catalog {url} unfolds to more than {MOST} values")
    return data


def first(data: dict[str, Any], url: str) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """A version-1 catalog with nothing in it that intake would run; why entries were emptied.

    Raises
    ------
    SourceError
        If it asks for modules of its own.
    """
    if "plugins" in data:
        raise SourceError(
            f"the catalog {url} asks to import modules",
            ["expected entries; found 'plugins'; open it by intake.open_catalog if you trust it"],
        )
    kept = {k: v for k, v in data.items() if k in ("name", "description", "metadata", "version")}
    if not isinstance(data.get("sources"), dict):
        return {**kept, **({"sources": data["sources"]} if "sources" in data else {})}, {}
    sources, refused = {}, {}
    for name, entry in data["sources"].items():
        reasons = list(first_problems(entry)) if isinstance(entry, dict) else []
        if reasons:
            refused[name] = reasons
            about = entry.get("description")
            entry = {"description": about if isinstance(about, str) else "", "driver": "refused"}
        sources[name] = entry
    return {**kept, "sources": sources}, refused


def first_problems(entry: dict[str, Any]) -> Iterator[str]:
    """Why an entry of version 1 is refused."""
    if "cls" in entry:
        yield "'cls' names a class to call; expected 'driver'"
        return
    drivers = entry.get("driver")
    for driver in drivers if isinstance(drivers, list) else [drivers]:
        if not isinstance(driver, str) or driver not in DRIVERS["data"] | DRIVERS["catalog"]:
            yield f"driver {driver!r} is not one of {', '.join(sorted(known_drivers()))}"
        elif driver in DRIVERS["catalog"]:
            args = entry.get("args")
            extra = set(args) - {"path"} if isinstance(args, dict) else set()
            if extra:
                yield f"a nested catalog takes 'path' alone; found {', '.join(sorted(extra))}"
    for text in strings({k: v for k, v in entry.items() if k != "description"}):
        if OPENS.search(TEMPLATE.sub(" ", text)):
            yield f"{shown(text)} is a template of more than a parameter's name"


def known_drivers() -> set[str]:
    """Short names of the drivers."""
    return {name for some in DRIVERS.values() for name in some if "." not in name}


def second(data: dict[str, Any], url: str) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """A version-2 catalog with nothing in it that intake would run; why entries were emptied.

    Raises
    ------
    SourceError
        If its parameters do more than to have a value.
    """
    whole: dict[str, Any] = {
        key: data.get(key) or {}
        for key in ("entries", "data", "user_parameters", "aliases", "metadata")
    }
    if "entries" not in data:
        raise SourceError(
            f"there is no intake catalog at {url!r}",
            ["expected a YAML file of intake's version 1 or 2; found one without entries"],
        )
    problems = [f"{key} should be a mapping" for key, v in whole.items() if not isinstance(v, dict)]
    if not problems:
        for name, parameter in whole["user_parameters"].items():
            problems += [f"parameter {name!r}: {p}" for p in parameter_problems(parameter)]
        wrong = [k for k, v in whole["aliases"].items() if not isinstance(v, str)]
        problems += [f"alias {name!r} should name an entry" for name in wrong]
    if problems:
        raise SourceError(f"the catalog {url} is refused", problems)
    refused: dict[str, list[str]] = {}
    for part, check in (("data", data_problems), ("entries", entry_problems)):
        for name, item in whole[part].items():
            reasons = list(check(item)) if isinstance(item, dict) else ["it is no mapping"]
            if part == "entries" and not reasons:
                target = reference(item)
                if target is not None and target not in whole["data"]:
                    reasons = [f"its data {target!r} are not in the catalog"]
                elif target in refused:
                    reasons = refused[target]
            if reasons:
                refused[name] = reasons
    for part in ("data", "entries"):
        whole[part] = {k: v for k, v in whole[part].items() if k not in refused}
    there = {*whole["entries"], *whole["data"], *refused}
    whole["aliases"] = {k: v for k, v in whole["aliases"].items() if v in there}
    return {"version": 2, **whole}, refused


def entry_problems(entry: dict[str, Any]) -> Iterator[str]:
    """Why a reader of version 2 is refused."""
    known = {"reader", "kwargs", "output_instance", "user_parameters", "metadata"}
    yield from (f"{key!r} is not expected" for key in sorted(set(entry) - known, key=str))
    if entry.get("reader") not in READERS:
        yield f"reader {entry.get('reader')!r} is not one of {', '.join(sorted(READERS))}"
    if not isinstance(entry.get("user_parameters"), dict) or not isinstance(
        entry.get("kwargs"), dict
    ):
        yield "'user_parameters' and 'kwargs' should be mappings"
        return
    for name, parameter in entry["user_parameters"].items():
        yield from (f"parameter {name!r}: {p}" for p in parameter_problems(parameter))
    rest = {k: v for k, v in entry["kwargs"].items() if k != "data" or reference(entry) is None}
    yield from text_problems(rest)
    yield from metadata_problems(entry.get("metadata"))


def data_problems(item: dict[str, Any]) -> Iterator[str]:
    """Why data of version 2 are refused."""
    known = {"datatype", "kwargs", "metadata", "user_parameters"}
    yield from (f"{key!r} is not expected" for key in sorted(set(item) - known, key=str))
    if item.get("datatype") not in DATATYPES:
        yield f"data type {item.get('datatype')!r} is not one of {', '.join(sorted(DATATYPES))}"
    if item.get("user_parameters"):
        yield "parameters of data are read by no version of intake; put them into the catalog"
    yield from text_problems(item.get("kwargs"))
    yield from metadata_problems(item.get("metadata"))


def parameter_problems(parameter: Any) -> Iterator[str]:
    """Why a parameter of version 2 is refused."""
    if not isinstance(parameter, dict) or parameter.get("cls") not in PARAMETERS:
        yield f"expected a mapping with 'cls', one of {', '.join(sorted(PARAMETERS))}"
        return
    yield from text_problems(parameter)


def text_problems(tree: Any) -> Iterator[str]:
    """Strings of version 2 that are more than text with names of parameters."""
    for text in strings(tree):
        if CALL.match(text) or re.search(r"[{}]", FIELD.sub(" ", text)):
            yield f"{shown(text)} is a template of more than a parameter's name"


def metadata_problems(tree: Any) -> Iterator[str]:
    """Strings that version 2 takes as a reference although they stand in metadata."""
    for text in strings(tree):
        if re.match(r"\{?data\(", text):
            yield f"{shown(text)} in the metadata is a reference to data"


def reference(entry: dict[str, Any]) -> str | None:
    """Key of the data of a version-2 entry."""
    found = REFERENCE.fullmatch(str(entry["kwargs"].get("data")))
    return found and found[1]


def harmless(tree: Any) -> Any:
    """Text that comes from elsewhere, e.g. from a store's attributes, as text of both versions.

    Who opens a catalog by intake alone has nobody who looks at it before: a title that is a
    template would be rendered there. A space takes its meaning.
    """
    if isinstance(tree, Mapping):
        return {key: harmless(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [harmless(value) for value in tree]
    if isinstance(tree, str):
        while OPENS.search(tree):
            tree = OPENS.sub(lambda found: " ".join(found[0]), tree)
        return re.sub(r"^(\{?data)\(", r"\1 (", tree)
    return tree


def strings(tree: Any) -> Iterator[str]:
    """All strings of a tree, its keys too."""
    return (value for value in values(tree) if isinstance(value, str))


def values(tree: Any) -> Iterator[Any]:
    """All values of a tree, its keys too, the outer before the inner."""
    waiting = [tree]
    while waiting:
        value = waiting.pop()
        yield value
        if isinstance(value, dict):
            waiting += [*value, *value.values()]
        elif isinstance(value, list | tuple | set):
            waiting += value


def shown(text: str) -> str:
    """A text of someone else's, short enough for an error."""
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
