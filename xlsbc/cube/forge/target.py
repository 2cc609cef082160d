"""The store that a recipe builds: begun, and made readable when all of it is there.

As `xlsbc.cube.store.writer` does, with the same ledger: the plan comes first and the root metadata
come last, so that what was interrupted opens as nothing, and running the recipe again gives the
same store. What is appended to stays readable as it was until the new root is put.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from ...errors import CubeError, SourceError, SourceWarning, StoreError
from ..store.layout import FAST_CODEC, OWN, Array, Layout, layout
from ..store.ledger import (
    PLAN,
    ROOT,
    Plan,
    as_json,
    digest,
    ledger,
    manifest,
    read_plan,
    read_sums,
)
from ..store.place import move, objects_at, settle
from ..store.regions import Receipts
from ..store.storage import Objects, checksum
from ..store.writer import begin, finish
from .blocks import Written
from .footprint import Footprint
from .mosaic import Mosaic, mosaic

__all__ = ["Target", "open_target"]

ATTRIBUTES = {"Conventions": "CF-1.12, ACDD-1.3"}

FILES = "files"
"""Field of a plan that tells a recipe's files: how many, and a digest of names and states."""

STEPS = ("time", "forcing_time", "year")
"""Dimensions that a store can grow along: their coordinates are stored in pieces like the fields,
so that what was read before still holds what it held."""


@dataclass(frozen=True)
class Target:
    """A store that is being built; travels to every worker.

    Parameters
    ----------
    wanted
        Where it is to be.
    objects
        Where it is written; None if all is there already.
    mosaic
        What goes into it.
    layout
        How it is stored.
    plan
        What determines its bytes.
    old
        Variables as the store has them, where it is appended to.
    """

    wanted: Objects
    objects: Objects | None
    mosaic: Mosaic
    layout: Layout
    plan: Plan
    old: Mapping[str, Array]

    @property
    def before(self) -> dict[str, Array]:
        """Variables that grow, as the store has them."""
        arrays = self.layout.arrays
        return {k: old for k, old in self.old.items() if old.shape != arrays[k].shape}

    def finish(self, written: Iterable[Written]) -> str:
        """Make the store readable, and return where it is."""
        if self.objects is None:
            return self.wanted.url
        written = list(written)
        notes = [*self.mosaic.notes, *empty_fields(written)]
        for note in notes:
            warnings.warn(f"{self.wanted.url}: {note}", SourceWarning, stacklevel=2)
        receipts = {key: value for each in written for key, value in each.receipts.items()}
        done = with_notes(self.layout, notes)
        if self.old:
            self.extend(done, self.untouched(receipts) | receipts)
        else:
            finish(self.objects, self.plan, done, receipts)
            move(self.objects, self.wanted)
        return self.wanted.url

    def untouched(self, receipts: Receipts) -> Receipts:
        """Checksums of the objects that were there before and stay as they are.

        From the ledger; of an array whose ledger a killed run has half replaced, from the objects.
        """
        objects = self.wanted
        found: Receipts = {}
        for name, array in self.old.items():
            keys = {index: array.key(index) for index in array.indices()}
            keys = {index: key for index, key in keys.items() if key not in receipts}
            try:
                sums = read_sums(objects, name)
                found |= {key: int(sums[index]) for index, key in keys.items()}
            except (StoreError, IndexError):
                contents = objects.read(keys.values())
                found |= {key: checksum(content or b"") for key, content in contents.items()}
        return found

    def extend(self, done: Layout, receipts: Receipts) -> None:
        """Put what describes a store that has grown; the root, which all readers open, last."""
        objects = self.wanted
        receipts = receipts | done.receipts
        objects.put(done.documents)
        objects.put(ledger(receipts))
        objects.put({PLAN: self.plan.document})
        objects.drop(key for key in sorted(objects.keys()) if key.endswith(".partial"))
        attributes = {**done.root["attributes"], **manifest(receipts)}
        objects.put({ROOT: as_json({**done.root, "attributes": attributes})})


def open_target(
    footprints: Sequence[Footprint],
    url: str,
    *,
    chunks: Mapping[str, int],
    attrs: Mapping[str, Any],
    options: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    append_dim: str | None = None,
) -> Target:
    """The store at a URL for some fragments, begun.

    Raises
    ------
    SourceError
        If the fragments do not fit together, or do not go on where the store ends.
    CubeError
        If another store is there, with what differs.
    """
    wanted = objects_at(url, options)
    held = stored(wanted) if append_dim else None
    if append_dim and held is not None:
        return appended(footprints, wanted, held, append_dim, attrs)
    whole, laid_out, plan = planned(footprints, chunks, attrs)
    if not overwrite:
        make_way(wanted, plan)
    objects = settle(wanted, plan, resume=True, overwrite=overwrite)
    if objects is not None:
        begin(objects, plan, laid_out)
    return Target(wanted, objects, whole, laid_out, plan, {})


def make_way(wanted: Objects, plan: Plan) -> None:
    """Clear what an unfinished run of a recipe on other files left; refuse what is complete.

    Raises
    ------
    CubeError
        If a complete store of other files is there, with what can be done.
    """
    found = read_plan(wanted)
    if found is None or FILES not in found.fields or not plan.differences(found):
        return
    if wanted.get(ROOT) is None:
        wanted.clear()
        return
    theirs, ours = (each.fields[FILES].partition(",")[0] for each in (found, plan))
    raise CubeError(
        f"{wanted.url} is another store",
        [
            f"expected what the {ours} files of this run make; found what {theirs} others made, or "
            "another version of the recipe; add what came since (append), replace it (overwrite), "
            "or name another output"
        ],
    )


def planned(
    footprints: Sequence[Footprint], chunks: Mapping[str, int], attrs: Mapping[str, Any]
) -> tuple[Mosaic, Layout, Plan]:
    """What fragments make, how it is stored, and what determines that."""
    whole = mosaic(footprints, chunks)
    whole.template.attrs.update({**ATTRIBUTES, **attrs, **accessed(footprints)})
    pieces = {dim: n for dim, n in chunks.items() if dim in STEPS}
    laid_out = layout(whole.template, codec=FAST_CODEC, pieces=pieces)
    files = sorted((name_of(part.source), part.stamp) for part in footprints if part.stamp)
    fields = Plan.of(whole.template, laid_out).fields
    return whole, laid_out, Plan({**fields, FILES: f"{len(files)}, {digest(files)}"})


def appended(
    footprints: Sequence[Footprint],
    wanted: Objects,
    held: xr.Dataset,
    dim: str,
    attrs: Mapping[str, Any],
) -> Target:
    """A store that gets what it lacks along a dimension.

    Raises
    ------
    SourceError
        If the files are of another grid or of other variables, or of steps before the last.
    """
    if dim not in held.dims:
        raise cannot_append(
            wanted, [f"expected a store with {dim!r}; found {', '.join(map(str, held.dims))}"]
        )
    have = held[dim].values
    lacking = [
        part
        for part in footprints
        if dim in part.coords and not np.isin(part.coords[dim].values, have).all()
    ]
    chunks = {d: n for v in held.data_vars.values() for d, n in stored_chunks(v).items()}
    there = footprint_of(held, wanted.url)
    _, old, _ = planned([there], chunks, attrs)
    try:
        mosaic([there, *footprints], chunks)
    except SourceError as error:
        raise cannot_append(wanted, error.problems) from error
    whole, laid_out, plan = planned([there, *lacking], chunks, attrs)
    refuse_other_places(wanted, held, whole, dim)
    new = sorted(set(laid_out.arrays) - set(old.arrays))
    problems = [f"expected {', '.join(old.arrays)}; found {name!r} as well" for name in new]
    axis = whole.template[dim].values
    if not np.array_equal(axis[: have.size], have):
        found = ", ".join(str(each)[:10] for each in np.setdiff1d(axis, have)[:3])
        problems.append(f"expected steps of {dim!r} after {str(have[-1])[:10]}; found {found}")
    given = {name for part in lacking for name in part.variables}
    problems += [
        f"expected {name!r} at the new steps too; found it in no file"
        for name, array in old.arrays.items()
        if lacking and dim in array.dims and name not in given
    ]
    if problems:
        raise cannot_append(wanted, problems)
    return Target(wanted, wanted if lacking else None, whole, laid_out, plan, old.arrays)


def refuse_other_places(wanted: Objects, held: xr.Dataset, whole: Mosaic, dim: str) -> None:
    """Raise where the files reach beyond the grid of the store."""
    problems = [
        f"expected {other!r} from {values[0]:.7g} to {values[-1]:.7g}; found it from "
        f"{whole.axes[other][0]:.7g} to {whole.axes[other][-1]:.7g}"
        for other, values in ((str(d), held[d].values) for d in held.dims if d != dim)
        if other in whole.axes and whole.axes[other].size != values.size
    ]
    if problems:
        raise cannot_append(wanted, problems)


def cannot_append(wanted: Objects, problems: Sequence[str]) -> SourceError:
    """The error of files that do not go on where a store ends."""
    return SourceError(
        f"the files cannot be appended to {wanted.url}",
        [f"{problem.rstrip('.')}; build the store anew from all files" for problem in problems],
    )


def stored(objects: Objects) -> xr.Dataset | None:
    """The complete store, None where there is none."""
    if objects.get(ROOT) is None:
        return None
    return xr.open_zarr(objects.store, chunks={}, consolidated=True)


def stored_chunks(variable: xr.DataArray) -> dict[str, int]:
    """Lengths of what one object holds, by dimension."""
    lengths = variable.encoding.get("shards") or variable.encoding.get("chunks") or variable.shape
    return dict(zip(map(str, variable.dims), lengths, strict=True))


def footprint_of(held: xr.Dataset, url: str) -> Footprint:
    """What a store covers; its packed variables are of single precision."""
    variables = {
        str(name): (
            tuple(map(str, da.dims)),
            np.dtype("f4").str if "scale_factor" in da.encoding else da.dtype.str,
            dict(da.attrs),
        )
        for name, da in held.data_vars.items()
    }
    attrs = {k: v for k, v in held.attrs.items() if k not in OWN}
    coords = held.coords.to_dataset().compute().drop_encoding()
    return Footprint(url, "", attrs.get("date_accessed"), variables, coords, attrs)


def accessed(footprints: Sequence[Footprint]) -> dict[str, str]:
    """When the newest of the files was fetched, as far as it is known."""
    dates = [part.accessed for part in footprints if part.accessed]
    return {"date_accessed": max(dates)} if dates else {}


def with_notes(laid_out: Layout, notes: Sequence[str]) -> Layout:
    """The layout, whose root says what a reader should know."""
    if not notes:
        return laid_out
    attributes = laid_out.root["attributes"]
    told = str(attributes.get("comment", "")).splitlines()
    comment = "\n".join(dict.fromkeys([*told, *notes]))  # what was told before an append, once
    attributes = {**attributes, "comment": comment}
    return replace(laid_out, root={**laid_out.root, "attributes": attributes})


def empty_fields(written: Iterable[Written]) -> list[str]:
    """A sentence about each variable of which a file has no value at all."""
    known: dict[tuple[str, str], bool] = {}
    for each in written:
        for key, any_value in each.known.items():
            known[key] = known.get(key, False) or any_value
    return [
        f"variable {name!r} of {name_of(source)} has no value at all"
        for (name, source), any_value in sorted(known.items())
        if not any_value
    ]


def name_of(source: str) -> str:
    """Name of a file without its folders."""
    return source.rstrip("/").rpartition("/")[2] or source
