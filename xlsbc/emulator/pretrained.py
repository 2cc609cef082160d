"""Official weights of foundation models: which there are, where they lie, and that they fit.

Prithvi-EO 1.0 and 2.0 (Szwarcman et al., 2024, arXiv:2412.02732) and TerraMind 1.0 (Jakubik et al.,
2025, arXiv:2504.11171).
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import fsspec
import torch
from torch import Tensor, nn

from xlsbc.emulator.tensorfile import HUB, cause, fetched, load
from xlsbc.emulator.tensors import compare
from xlsbc.errors import EmulatorError
from xlsbc.models import prithvi, terramind
from xlsbc.models.backbones import DEM

__all__ = ["Pretrained", "absolute", "known", "locate", "official", "pretrained"]

FOLDERS = "XLSBC_WEIGHTS"
"""Environment variable: folders or URLs in which pretrained weights lie, as in ``PATH``."""

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True)
class Pretrained:
    """Weights of an encoder and the file that they are from.

    Parameters
    ----------
    state
        By the encoder's names, all of them and nothing else; float32, finite, on the CPU.
    sha256
        Digest of the file.
    file
        Its name, without folders, in a form that `locate` takes.
    """

    state: dict[str, Tensor]
    sha256: str
    file: str


@dataclass(frozen=True)
class Family:
    """Models of one architecture."""

    variants: Mapping[str, Any]
    encoder: Callable[[str], nn.Module]
    state: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]


FAMILIES = {
    "prithvi": Family(prithvi.VARIANTS, prithvi.Prithvi.of, prithvi.encoder_state),
    "terramind": Family(
        terramind.VARIANTS,
        lambda variant: terramind.TerraMind.of(variant, modalities=(DEM,)),
        lambda raw: terramind.encoder_state(raw, (DEM,)),
    ),
}

_seen: dict[str, str] = {}
"""Where this process has read weights, by their digest."""


def pretrained(backbone: str, variant: str, url: str, *, sha256: str | None = None) -> Pretrained:
    """Weights of an encoder from an official file.

    Takes about twice the file's size in memory.

    Parameters
    ----------
    backbone, variant
        See `known`.
    url
        Path, any fsspec URL, or ``hf://organisation/repository/file``, which needs huggingface_hub;
        ``repository@revision`` pins one.
    sha256
        Digest that the file must have; compared before anything in it is looked at.

    Raises
    ------
    EmulatorError
        If the file cannot be had, is damaged, has another digest, holds anything but tensors, or
        not those of the encoder, all finite: with every tensor that is missing, not expected or
        of another shape, or the variant that they are of.
    """
    expected = shapes(backbone, variant)
    place = fetched(url)
    found, digest = load(place, sha256)
    state = dict(FAMILIES[backbone].state(found))
    try:
        compare(expected, {name: tuple(value.shape) for name, value in state.items()})
    except EmulatorError as error:
        summary = f"{url} does not have the weights of {backbone} {variant}"
        if others := fitting(found, backbone):
            raise EmulatorError(f"{summary} but those of {' or '.join(others)}") from None
        raise EmulatorError(summary, error.problems) from None
    del found  # frees the decoder, and each tensor once it is converted
    convert(state, url)
    _seen[digest] = absolute(place)
    return Pretrained(state, digest, plain(place))


def known(backbone: str) -> Mapping[str, Any]:
    """Variants of a backbone that have official weights, by name.

    Raises
    ------
    EmulatorError
        If it has none.
    """
    if backbone not in FAMILIES:
        raise EmulatorError(
            f"there are no pretrained weights of backbone {backbone!r}; "
            f"expected one of {', '.join(FAMILIES)}"
        )
    return FAMILIES[backbone].variants


def official(backbone: str, variant: str) -> str:
    """Address of the official weights, ``hf://organisation/repository/file``.

    Raises
    ------
    EmulatorError
        If there are none.
    """
    return address(chosen(backbone, variant))


def locate(file: str, sha256: str, *, hint: str | None = None, beside: str | None = None) -> str:
    """Where pretrained weights lie that an emulator names.

    What is found is not read: `pretrained` compares its digest.

    Parameters
    ----------
    file, sha256
        Name and digest.
    hint
        URL at which to look first.
    beside
        Folder to look in after those of ``XLSBC_WEIGHTS``, and before what huggingface_hub keeps
        on this disk.

    Raises
    ------
    EmulatorError
        If `file` is no plain name, so that it could lead elsewhere, or `sha256` no digest; if
        there is no such file: with all places where it was looked for.
    """
    problems = []
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", file):
        problems.append(f"a file's name without folders was expected; found {file[:99]!r}")
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        problems.append(f"64 hexadecimal digits of sha256 were expected; found {sha256[:99]!r}")
    if problems:
        raise EmulatorError("pretrained weights cannot be looked for", problems)
    looked = []
    for place in places(file, sha256, hint, beside):
        why = absence(place)
        if why is None:
            return absolute(place)
        looked.append(f"{place}: {why}")
    origin = [v for name in FAMILIES for v in known(name).values() if v.file == file]
    for variant in origin:
        if kept := cached(variant):
            return kept
    looked.append("what huggingface_hub keeps on this disk: no such file")
    where = f"{address(origin[0])!r}, or their URL," if origin else "their URL"
    raise EmulatorError(
        f"pretrained weights {file} with sha256 {sha256} are needed and were not found; pass "
        f"weights={where} to Emulator.open, or name their folder in {FOLDERS}",
        looked,
    )


def absolute(url: str) -> str:
    """The same place for a process that runs in another directory."""
    return url if "://" in url else os.path.abspath(os.path.expanduser(url))


def plain(url: str) -> str:
    """Name of a file, of letters, digits, dots, hyphens and underscores."""
    name = re.split(r"[/\\]", url.partition("?")[0])[-1]
    return re.sub(r"[^A-Za-z0-9._-]", "_", name).lstrip("._-")[:128] or "weights"


def chosen(backbone: str, variant: str) -> Any:
    """Entry of a variant in its family's table."""
    variants = known(backbone)
    if variant not in variants:
        raise EmulatorError(
            f"{backbone} has no variant {variant!r}; expected one of {', '.join(variants)}"
        )
    return variants[variant]


def address(variant: Any) -> str:
    """Address of official weights."""
    if variant.repository is None:
        raise EmulatorError("these weights were never published; use those of another variant")
    return f"{HUB}{variant.repository}/{variant.file}"


@cache
def shapes(backbone: str, variant: str) -> dict[str, tuple[int, ...]]:
    """Shapes of an encoder's weights; nothing is allocated."""
    chosen(backbone, variant)
    with torch.device("meta"):
        state = FAMILIES[backbone].encoder(variant).state_dict()
    return {name: tuple(value.shape) for name, value in state.items()}


def fitting(found: Mapping[str, Tensor], asked: str) -> list[str]:
    """Every variant whose weights these are, and what to pass instead of the backbone `asked`."""
    other = {name: f"backbone={name!r}, " * (name != asked) for name in FAMILIES}
    return [
        f"{backbone} {variant} (pass {other[backbone]}variant={variant!r})"
        for backbone, family in FAMILIES.items()
        for variant in family.variants
        if {k: tuple(v.shape) for k, v in family.state(found).items()} == shapes(backbone, variant)
    ]


def convert(state: dict[str, Tensor], url: str) -> None:
    """Make all weights float32, one after the other; refuse what is no weight."""
    problems = []
    for name, value in state.items():
        if value.dtype not in FLOATS:
            problems.append(f"{name} is of {value.dtype}")
            continue
        state[name] = value.detach().to(torch.float32).contiguous()
        if not state[name].isfinite().all():
            problems.append(f"{name} is not finite")
    if problems:
        raise EmulatorError(
            f"{url} has no weights to begin with: finite floating point numbers were expected",
            problems,
        )


def cached(variant: Any) -> str | None:
    """Where huggingface_hub keeps official weights on this disk; the network is not asked."""
    try:
        hub = importlib.import_module("huggingface_hub")
    except ImportError:
        return None
    found = hub.try_to_load_from_cache(variant.repository, variant.file)
    return found if isinstance(found, str) else None


def places(file: str, sha256: str, hint: str | None, beside: str | None) -> Iterator[str]:
    """URLs at which a file may be, the most likely first."""
    if hint is not None:
        yield hint
    if sha256 in _seen:
        yield _seen[sha256]
    folders = split(os.environ.get(FOLDERS, ""))
    for folder in [*folders, beside] if beside is not None else folders:
        yield f"{folder.rstrip('/')}/{file}"


def split(folders: str) -> list[str]:
    """Paths and URLs of a list as in ``PATH``; that of ``scheme://host:port`` separates nothing."""
    other = f"[^{os.pathsep}]"
    url = rf"(?:\w+::)*\w+://[^/{os.pathsep}]*(?::\d+(?=[/{os.pathsep}]|$))?{other}*"
    return re.findall(f"{url}|{other}+", folders)


def absence(url: str) -> str | None:
    """Why there is no file; None if there is one. What Hugging Face has is fetched for that."""
    try:
        fs, path = fsspec.core.url_to_fs(fetched(url))
        return None if fs.info(path)["type"] == "file" else "not a file"
    except FileNotFoundError:
        return "no such file"
    except EmulatorError as error:
        return error.summary
    except Exception as error:  # every file system has its own
        return cause(error)
