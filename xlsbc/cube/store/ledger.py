"""What a store says of itself: by which plan it is written, and what must be in it.

The plan is its first object, the ledger of checksums comes after all chunks, and the group that
makes it readable is the very last. So an unfinished store opens as nothing, and can be gone on with
by the same plan alone.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
import zarr
from dask.base import tokenize
from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.storage import MemoryStore

from xlsbc.cube.store.layout import CODEC, Layout
from xlsbc.cube.store.regions import Receipts
from xlsbc.cube.store.storage import Objects, checksum
from xlsbc.errors import CubeError, StoreError

__all__ = ["Plan", "check_objects", "ledger", "manifest", "read_ledger", "read_plan", "refuse"]

FOLDER = "xlsbc_ledger"
PLAN = f"{FOLDER}/zarr.json"
ROOT = "zarr.json"


@dataclass(frozen=True)
class Plan:
    """What determines every byte of a store, field by field.

    Parameters
    ----------
    fields
        Attributes of the Dataset as they are, else a digest.
    """

    fields: Mapping[str, str]

    @staticmethod
    def of(ds: xr.Dataset, layout: Layout) -> Plan:
        """The plan of a Dataset; Dask variables are known by their names, others by content."""
        fields = {
            f"attribute {name}": str(value) if name.startswith("xlsbc_") else digest(value)
            for name, value in layout.root["attributes"].items()
            if name != "xlsbc_complete"
        }
        for key, content in layout.documents.items():
            name, _, rest = key.partition("/")
            what = "layout of" if rest == "zarr.json" else "values of"
            fields[f"{what} {name}"] = digest([fields.get(f"{what} {name}"), checksum(content)])
        for name in layout.arrays:
            data = ds[name].data
            fields[f"values of {name}"] = getattr(data, "name", None) or tokenize(data)
        return Plan(fields)

    @property
    def document(self) -> bytes:
        """The object that holds it: a Zarr group, so that the store stays one to other readers."""
        attributes = {"xlsbc_plan": dict(self.fields)}
        return as_json({"zarr_format": 3, "node_type": "group", "attributes": attributes})

    def differences(self, other: Plan) -> list[str]:
        """Fields in which another plan, that of a store, is not this one."""
        return [
            f"{name} is {brief(other.fields.get(name))} in the store and "
            f"{brief(self.fields.get(name))} in the Dataset"
            for name in sorted({*self.fields, *other.fields})
            if self.fields.get(name) != other.fields.get(name)
        ]


def read_plan(objects: Objects) -> Plan | None:
    """The plan by which a store is written, None where there is no store of ours."""
    content = objects.get(PLAN)
    try:
        return Plan(json.loads(content or b"")["attributes"]["xlsbc_plan"])
    except (ValueError, KeyError, TypeError):
        return None


def refuse(url: str, differences: Sequence[str]) -> CubeError:
    """The error of a store that was written, or begun, by another plan."""
    return CubeError(
        f"there is something at {url}; pass overwrite=True or another place, or the Dataset that "
        "it was begun with",
        differences,
    )


def ledger(receipts: Receipts) -> dict[str, bytes]:
    """Objects of the ledger: for each array the checksums of its chunks, on their grid.

    0 is an object that there must not be: its chunk is known to be empty.
    """
    by_array: dict[str, Receipts] = defaultdict(dict)
    for key, value in receipts.items():
        by_array[key.partition("/c")[0]][key] = value
    objects: dict[str, Buffer] = {}
    for name, mine in sorted(by_array.items()):
        indices = {key: tuple(map(int, key.split("/")[2:])) for key in mine}
        grid = tuple(max(axis) + 1 for axis in zip(*indices.values(), strict=True))
        array = zarr.create_array(
            MemoryStore(objects),
            name=f"{FOLDER}/{name}",
            shape=grid,
            chunks=grid,
            dtype="uint32",
            compressors=CODEC,
            config={"write_empty_chunks": True},
        )
        sums = np.zeros(grid, np.uint32)
        for key, index in indices.items():
            sums[index] = mine[key]
        array[...] = sums
    unwanted = {PLAN, ROOT}
    return {k: content.to_bytes() for k, content in sorted(objects.items()) if k not in unwanted}


def manifest(receipts: Receipts) -> dict[str, Any]:
    """Attributes that sum up a ledger: number of objects and one digest of all checksums."""
    lines = sorted(f"{key} {value:08x}\n" for key, value in receipts.items())
    whole = hashlib.sha256("".join(lines).encode()).hexdigest()
    return {"xlsbc_shards": sum(map(bool, receipts.values())), "xlsbc_manifest": whole}


def read_ledger(objects: Objects) -> tuple[dict[str, Any], Receipts]:
    """Group metadata and ledger of a complete store.

    Raises
    ------
    StoreError
        If there is no complete store, or if the ledger is not the one that was written.
    """
    root = json.loads(objects.get(ROOT) or b"{}")
    attributes = root.get("attributes", {})
    if not attributes.get("xlsbc_complete"):
        raise StoreError(f"expected a complete store at {objects.url}; write it, or go on with it")
    documents = root["consolidated_metadata"]["metadata"]
    receipts: Receipts = {}
    for name, document in documents.items():
        if 0 in document["shape"]:
            continue
        sums = read_sums(objects, name)
        for index in np.ndindex(sums.shape):
            tail = "/".join(["c", *map(str, index)]) if document["shape"] else "c"
            receipts[f"{name}/{tail}"] = int(sums[index])
    if manifest(receipts)["xlsbc_manifest"] != attributes.get("xlsbc_manifest"):
        raise StoreError(f"the ledger of {objects.url} is damaged; write the store again")
    return root, receipts


def read_sums(objects: Objects, name: str) -> np.ndarray:
    """Checksums of an array's chunks."""
    found = objects.read(sorted(objects.keys(f"{FOLDER}/{name}/")))
    if len(found) != 2:
        raise StoreError(f"the ledger of {objects.url} lacks {name!r}; write the store again")
    prototype = default_buffer_prototype().buffer
    held = {
        key.removeprefix(f"{FOLDER}/{name}/"): prototype.from_bytes(content)
        for key, content in found.items()
        if content is not None
    }
    try:
        array = zarr.open_array(MemoryStore(held), mode="r")
        sums = np.asarray(array[...])
    except Exception as error:  # every codec has its own
        raise StoreError(
            f"the ledger of {objects.url} is damaged at {name!r}; write the store again"
        ) from error
    return sums


def check_objects(objects: Objects, expected: Receipts) -> list[str]:
    """What is wrong with objects whose checksums are known."""
    problems = []
    for key, content in objects.read(expected).items():
        if content is None and expected[key]:
            problems.append(f"{key} is missing")
        elif content is not None and not expected[key]:
            problems.append(f"{key} is there and should be empty")
        elif content is not None and checksum(content) != expected[key]:
            problems.append(f"{key} is not what was written ({len(content)} bytes)")
    return problems


def digest(value: Any) -> str:
    """Short digest of anything that JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def as_json(value: Any) -> bytes:
    """JSON, the same for the same value."""
    return json.dumps(value, default=str).encode()


def brief(value: str | None) -> str:
    """A field's value in a message."""
    if value is None:
        return "missing"
    return repr(value if len(value) <= 40 else f"{value[:37]}...")
