"""Beam transforms of recipes: those of pangeo-forge-recipes, made for real archives and Zarr 3.

``FilePattern | OpenURLWithFSSpec | OpenWithXarray | Conform | StoreToZarr``, by the names and with
the arguments of the library, whose runners inject targets and caches into them. What differs:
files are opened by their first bytes, as they are; fragments are placed by their coordinates, not
by the order of their names; and nothing opens before the store is complete.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, NamedTuple

import apache_beam as beam
import fsspec
import xarray as xr
from pangeo_forge_recipes import transforms as library
from pangeo_forge_recipes.patterns import FileType
from pangeo_forge_recipes.storage import CacheFSSpecTarget, FSSpecTarget
from pangeo_forge_recipes.transforms import RequiredAtRuntimeDefault

from ...errors import LsbcError, SourceError
from ..ingest.opening import open_source
from . import blocks, progress
from .footprint import Footprint, footprint
from .settings import settings
from .target import Target, open_target

__all__ = ["Conform", "OpenURLWithFSSpec", "OpenWithXarray", "StoreToZarr"]


class Located(NamedTuple):
    """Where a file is read from.

    Attributes
    ----------
    source
        What it is called in messages, and by decoders that read dates in names.
    url
        Where it is, which is elsewhere if it was cached.
    options
        Of that file system.
    """

    source: str
    url: str
    options: dict[str, Any]


@dataclass
class OpenURLWithFSSpec(library.OpenURLWithFSSpec):
    """Locate files; with a cache, copy them there first, once."""

    def expand(self, pcoll: beam.PCollection) -> beam.PCollection:
        """See the class."""
        cache = self.cache
        if isinstance(cache, str):
            cache = CacheFSSpecTarget.from_url(cache)
        locate = Locate(cache, self.secrets, self.open_kwargs or {})
        if not self.max_concurrency:
            return pcoll | "Locate" >> beam.Map(locate)
        return (
            pcoll
            | "Take turns" >> beam.Map(turn, count=self.max_concurrency)
            | "By turn" >> beam.GroupByKey()
            | "Locate" >> beam.FlatMap(lambda group: map(locate, group[1]))
        )


def turn(item: tuple[Any, str], count: int) -> tuple[int, tuple[Any, str]]:
    """An item with the number of the group in which it waits."""
    return zlib.crc32(item[1].encode()) % count, item


# What a worker unpickles is of this module, whose package makes the library importable there.
@dataclass(frozen=True)
class Locate:
    """Says where a file is read from, after it was cached if there is a cache."""

    cache: CacheFSSpecTarget | None
    secrets: dict[str, str] | None
    options: dict[str, Any]

    def __call__(self, item: tuple[Any, str]) -> tuple[Any, Located]:
        """See the class."""
        index, source = item
        url = source
        if self.secrets:
            from pangeo_forge_recipes.storage import _add_query_string_secrets

            url = _add_query_string_secrets(source, self.secrets)
        fs, path = fsspec.core.url_to_fs(url, **self.options)
        if self.cache is None or fs.isdir(path):
            return index, Located(source, url, self.options)
        self.cache.cache_file(url, None, **self.options)
        copy = self.cache.fs.unstrip_protocol(self.cache._full_path(url))
        return index, Located(source, copy.removeprefix("file://"), self.cache.fsspec_kwargs)


@dataclass
class OpenWithXarray(library.OpenWithXarray):
    """Open located files as `open_source` does: by their first bytes, numbers as stored, lazy."""

    file_type: FileType = FileType.unknown
    xarray_open_kwargs: dict[str, Any] | None = field(default_factory=dict)

    def expand(self, pcoll: beam.PCollection) -> beam.PCollection:
        """See the class."""
        return pcoll | "Open with Xarray" >> beam.Map(open_located, load=self.load)


def open_located(item: tuple[Any, Any], load: bool) -> tuple[Any, xr.Dataset]:
    """A located file, or a plain address, as a Dataset."""
    index, file = item
    file = file if isinstance(file, Located) else Located(str(file), str(file), {})
    ds = open_source(file.url, **file.options)
    ds.encoding["source"] = file.source
    ds.encoding["located"] = file
    return index, (ds.load() if load else ds)


@dataclass
class Conform(beam.PTransform):
    """Make fragments parts of a cube.

    Parameters
    ----------
    decode
        Takes a Dataset as `open_source` gives it, and returns one of canonical variables.
    options
        Further arguments of `decode`.
    """

    decode: Callable[..., xr.Dataset]
    options: dict[str, Any] = field(default_factory=dict)

    def expand(self, pcoll: beam.PCollection) -> beam.PCollection:
        """See the class."""
        label = f"Conform by {getattr(self.decode, '__name__', 'a function')}"
        return pcoll | label >> beam.Map(conformed, decode=self.decode, options=self.options)


def conformed(
    item: tuple[Any, xr.Dataset], decode: Callable[..., xr.Dataset], options: dict[str, Any]
) -> tuple[Any, xr.Dataset]:
    """A decoded fragment; an error names its file."""
    index, ds = item
    source = str(ds.encoding.get("source", "a fragment"))
    try:
        made = decode(ds, **options)
    except LsbcError as error:
        if source in str(error):
            raise
        problems = [f"{source}: {problem}" for problem in error.problems or (error.summary,)]
        raise type(error)(error.summary, problems) from error
    except (KeyError, ValueError, TypeError, IndexError) as error:
        name = getattr(decode, "__name__", "the decoder")
        raise SourceError(
            f"{source} cannot be decoded",
            [f"{source}: {name} gave up: {type(error).__name__}: {error}; is it of this source?"],
        ) from error
    made.encoding = {"source": source, "located": ds.encoding.get("located")}
    return index, made


@dataclass
class StoreToZarr(library.StoreToZarr):
    """Store fragments as one Zarr 3 store, complete last.

    Arguments as in pangeo-forge-recipes. Running it again gives the same store and, where all is
    there, does nothing; ``append_dim`` adds what is missing after the last step. ``encoding``,
    ``dynamic_chunking_fn`` and the order of ``combine_dims`` have no use here.
    """

    def __post_init__(self) -> None:
        """Take what the settings say in place of what a runner would inject."""
        self.overwrite = settings().overwrite
        self.output = settings().output
        if settings().append and self.append_dim is None:
            self.append_dim = next(
                (d for d in self.target_chunks if d.endswith(("time", "year"))), None
            )

    def place(self) -> tuple[str, dict[str, Any]]:
        """URL of the store, and the options of its file system.

        Raises
        ------
        SourceError
            If neither the settings nor a runner say where.
        """
        if self.output:
            return self.output, {}
        root = self.target_root
        if isinstance(root, RequiredAtRuntimeDefault):
            raise SourceError(
                "the recipe does not know where to store",
                ["expected a target; pass --output, or let a runner inject target_root"],
            )
        if isinstance(root, str):
            return f"{root.rstrip('/')}/{self.store_name}", {}
        target: FSSpecTarget = root
        url = target.fs.unstrip_protocol(f"{target.root_path.rstrip('/')}/{self.store_name}")
        return url, dict(target.fsspec_kwargs)

    def expand(self, datasets: beam.PCollection) -> beam.PCollection:
        """See the class."""
        url, options = self.place()
        begin = Begin(
            url,
            options,
            dict(self.target_chunks),
            {**(self.attrs or {}), "xlsbc_recipe": f"{self.store_name} {version('xlsbc')}"},
            self.overwrite,
            self.append_dim,
        )
        target = (
            datasets
            | "Footprints" >> beam.Map(footprint_of)
            | "All footprints" >> beam.combiners.ToList()
            | "Begin" >> beam.Map(begin)
        )
        told = beam.pvalue.AsSingleton(target)
        pieces = datasets | "Split" >> beam.FlatMap(split, target=told)
        every = target | "Blocks" >> beam.FlatMap(every_block)
        return (
            (pieces, every)
            | "All pieces" >> beam.Flatten()
            | "By block" >> beam.GroupByKey()
            | "Write" >> beam.Map(write, target=told)
            | "All written" >> beam.combiners.ToList()
            | "Finish" >> beam.Map(finish, target=told)
        )


@dataclass(frozen=True)
class Begin:
    """Opens the target of all footprints; an object, since Beam ships it to a worker."""

    url: str
    options: dict[str, Any]
    chunks: dict[str, int]
    attrs: dict[str, Any]
    overwrite: bool
    append_dim: str | None

    def __call__(self, footprints: list[Footprint]) -> Target:
        """See the class."""
        # Runners may do again what they did already.
        each = {part.source: part for part in footprints}
        target = open_target(
            list(each.values()),
            self.url,
            chunks=self.chunks,
            attrs=self.attrs,
            options=self.options,
            overwrite=self.overwrite,
            append_dim=self.append_dim,
        )
        progress.begin(sum(1 for _ in every_block(target)))
        return target


def footprint_of(item: tuple[Any, xr.Dataset]) -> Footprint:
    """What a fragment covers, and what its file system says of its file."""
    _, ds = item
    located = ds.encoding.get("located")
    stamp, accessed = state(located) if located else ("", None)
    return footprint(ds, stamp, accessed)


def state(file: Located) -> tuple[str, str | None]:
    """Size and change of a file in one text, and the date of that change."""
    fs, path = fsspec.core.url_to_fs(file.url, **file.options)
    if fs.isdir(path):
        path = next((p for n in ("zarr.json", ".zmetadata") if fs.exists(p := f"{path}/{n}")), path)
    info = fs.info(path)
    try:
        changed = fs.modified(path).isoformat(timespec="seconds")[:19]
    except (NotImplementedError, KeyError, AttributeError):
        changed = None
    mark = info.get("ETag") or info.get("etag") or changed
    return f"{info.get('size')} {mark}", changed[:10] if changed else None


def split(item: tuple[Any, xr.Dataset], target: Target) -> Iterator[tuple[Any, Any]]:
    """The pieces that a fragment gives to blocks that are to be written."""
    _, ds = item
    wanted = set(every_block_key(target))
    for key, piece in blocks.split(ds, target.mosaic, target.layout.arrays):
        if key in wanted:
            yield key, piece


def every_block_key(target: Target) -> Iterator[blocks.Block]:
    """Blocks that are to be written."""
    if target.objects is not None:
        yield from blocks.blocks(target.mosaic, target.layout.arrays, target.before)


def every_block(target: Target) -> Iterator[tuple[blocks.Block, None]]:
    """Blocks that are to be written, also those that no fragment has a piece of."""
    for block in every_block_key(target):
        yield block, None


def write(item: tuple[blocks.Block, Iterable[Any]], target: Target) -> blocks.Written:
    """Write a block."""
    assert target.objects is not None  # else there is no block
    block, pieces = item
    name, _ = block
    done = blocks.write(
        block,
        [piece for piece in pieces if piece is not None],
        target.mosaic,
        target.layout.arrays[name],
        target.objects,
        target.before.get(name),
    )
    progress.advance()
    return done


def finish(written: list[blocks.Written], target: Target) -> Any:
    """Make the store readable; what is returned is the store."""
    target.finish(written)
    return target.wanted.store
