"""A file of tensors, by anyone, read without running anything in it.

It is taken into memory once, and hashed and parsed from the same bytes, so that nothing can come
between. What it is is told by its content: safetensors, or an archive of ``torch.save``, whose
pickle goes to torch's restricted reader, which makes tensors and a few containers and calls
nothing else. Neither format's reader compares the archive's checksums; they are compared here.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import pickle
import re
import struct
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import fsspec
import torch
from safetensors.torch import load as load_tensors
from torch import Tensor, nn

from xlsbc.errors import EmulatorError

__all__ = ["HUB", "cause", "fetched", "load"]

HUB = "hf://"
ADDRESS = re.compile(rf"{HUB}([\w.-]+/[\w.-]+)(?:@([\w.-]+))?/([\w.-]+(?:/[\w.-]+)*)", re.ASCII)
"""Repository, revision and file."""

LARGEST_FILE = 2**34
"""Bytes; several times the largest official file."""

LARGEST_HEADER = 2**23
"""Bytes of names, types and shapes; a thousand tensors have 200 kB."""

WRAPPERS = ("model", "state_dict")
"""Under which trainers put the weights."""

ENTRY, END = b"PK\x03\x04", b"PK\x05\x06"
"""With which an archive begins; with which its last 22 bytes begin, as torch writes them."""


def fetched(url: str) -> str:
    """The same file where fsspec reads it: one of Hugging Face is brought onto this disk.

    huggingface_hub's own fsspec is not used: it keeps nothing, and downloads again each time.
    """
    if not url.startswith(HUB):
        return url
    match = ADDRESS.fullmatch(url)
    if match is None or ".." in url:
        raise EmulatorError(
            f"{url} is no file; expected hf://organisation/repository/file, or "
            "repository@revision, of letters, digits, dots, hyphens and underscores"
        )
    repository, revision, file = match.groups()
    try:
        hub = importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise EmulatorError(
            f'{url} needs huggingface_hub: pip install "xlsbc[hub]", or download the file '
            "elsewhere and give its path"
        ) from error
    try:
        return str(hub.hf_hub_download(repository, file, revision=revision))
    except Exception as error:  # of the network, the hub or the disk
        raise EmulatorError(
            f"{file} of {repository} cannot be had from Hugging Face ({cause(error)}); check "
            "the names and the connection, `hf auth login` if it asks for consent, or download it "
            "elsewhere and give its path"
        ) from error


def load(url: str, sha256: str | None = None) -> tuple[Mapping[str, Tensor], str]:
    """Tensors of a file by name, on the CPU, and its digest.

    Takes twice the file's size in memory.

    Parameters
    ----------
    url
        Path or any fsspec URL.
    sha256
        Digest that the file must have; compared before anything in it is looked at.

    Raises
    ------
    EmulatorError
        If the file cannot be read, has another digest, is damaged, or holds anything but a mapping
        of names to dense tensors, which may be under "model" or "state_dict".
    """
    content = read(url)
    digest = hashlib.sha256(content).hexdigest()
    if sha256 is not None and digest != sha256.lower():
        raise EmulatorError(
            f"{url} has sha256 {digest[:12]}…, expected {sha256[:12]}…: it is damaged, "
            "another release or another file; fetch it again"
        )
    if content.startswith(ENTRY):
        form, parse = "an archive of torch.save", from_archive
    elif content[8:9] == b"{":
        form, parse = "safetensors", from_safetensors
    else:
        raise EmulatorError(
            f"{url} is neither safetensors nor an archive of torch.save, as was expected: "
            f"it has {len(content)} bytes and begins with {content[:24]!r}. If a download left "
            "something else there, fetch it again; a bare pickle is not loaded, since it could run "
            "anything: where you trust its origin, save it again with torch 1.6 or newer"
        )
    try:
        found = parse(content, url)
    except EmulatorError:
        raise
    except pickle.UnpicklingError:
        raise EmulatorError(
            f"{url} holds more than tensors, which could run anything when it is loaded, and was "
            "not; ask its author for the state_dict alone, or use another file"
        ) from None  # torch's text advises to load it nevertheless
    except Exception as error:  # a damaged or hostile file can raise anything
        raise EmulatorError(
            f"{url} was expected to be {form} and is damaged ({cause(error)}); fetch it again"
        ) from error
    return flat(found, url), digest


def read(url: str) -> bytes:
    """Content of a file, whole."""
    try:
        fs, path = fsspec.core.url_to_fs(url)
        about = fs.info(path)
        if about["type"] == "file" and (about["size"] or 0) <= LARGEST_FILE:
            return fs.cat_file(path)
    except Exception as error:  # every file system has its own
        raise EmulatorError(
            f"{url} cannot be read ({cause(error)}); expected the file of official weights, "
            "by its path, fsspec URL or hf://organisation/repository/file"
        ) from error
    raise EmulatorError(
        f"{url} was expected to be a file of at most {LARGEST_FILE} bytes; found type "
        f"{about['type']!r} and {about['size']} bytes; name the file of the weights itself"
    )


def from_safetensors(content: bytes, url: str) -> dict[str, Tensor]:
    """Tensors, of which nothing is made before the header's length is seen to be sane."""
    (length,) = struct.unpack("<Q", content[:8])
    most = min(LARGEST_HEADER, len(content) - 8)
    if length > most:
        raise EmulatorError(
            f"{url} was expected to be safetensors, with a header of at most {most} bytes; it "
            f"claims {length}: it is damaged; fetch it again"
        )
    return load_tensors(content)


def from_archive(content: bytes, url: str) -> Any:
    """What torch's restricted reader makes of an archive in which all is as torch writes it."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        problems = list(flaws(archive.infolist(), content))
        if not problems and (damaged := archive.testzip()):
            problems.append(f"{damaged!r} does not have its checksum")
        pickles = [name for name in archive.namelist() if name.endswith(".pkl")]
        # torch's reader makes a bytearray as large as it is told, of which no tensor needs any
        if not problems and any(b"bytearray" in archive.read(name) for name in pickles):
            problems.append("it asks for bytes that are in no tensor")
    if problems:
        raise EmulatorError(
            f"{url} was expected to be an archive as torch.save writes it and is damaged, or made "
            "by something else",
            problems,
        )
    return torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")


def flaws(entries: Sequence[zipfile.ZipInfo], content: bytes) -> Iterator[str]:
    """What is not as torch writes it, which could make an archive other than it looks."""
    for entry in entries:
        name = entry.filename
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
            yield f"{name[:99]!r} is compressed or encrypted"
        if ".." in name.split("/") or name.startswith("/") or "\\" in name:
            yield f"{name[:99]!r} leads out of the archive"
        if name.endswith(".pkl") and entry.file_size > LARGEST_HEADER:
            yield f"{name[:99]!r} has {entry.file_size} bytes of at most {LARGEST_HEADER}"
        if name.endswith("/constants.pkl"):
            yield "it is a program of TorchScript, not its weights"
    total = sum(max(entry.file_size, entry.compress_size) for entry in entries)
    if total > len(content):
        yield f"its entries claim {total} bytes, all it has is {len(content)}"
    if len({entry.filename for entry in entries}) < len(entries):
        yield "two entries have one name"
    # With a second directory in it, torch could be shown other entries than these.
    first = min((entry.header_offset for entry in entries), default=-1)
    if first != 0 or content[-22:-18] != END:
        yield "the archive is not all of the file"


def flat(found: Any, url: str) -> Mapping[str, Tensor]:
    """Tensors by name, of a state_dict or of a trainer's file that holds one."""
    for key in WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
            break
    if not isinstance(found, Mapping):
        raise EmulatorError(
            f"{url} holds a {type(found).__name__}; expected a mapping of names to tensors"
        )
    problems = [
        f"{str(name)[:99]!r} is {kind(value) if isinstance(name, str) else 'no name'}"
        for name, value in found.items()
        if not isinstance(name, str) or kind(value) != "dense"
    ]
    if problems:
        raise EmulatorError(f"{url} holds more than names and dense tensors", problems)
    return found


def kind(value: Any) -> str:
    """Type of a value; dense if it is a tensor of numbers in memory."""
    if type(value) not in (Tensor, nn.Parameter):
        return f"of type {type(value).__name__}"
    strided = value.layout is torch.strided and not value.is_nested and not value.is_quantized
    return "dense" if strided and value.device.type == "cpu" else "a tensor, not a dense one"


def cause(error: Exception) -> str:
    """An error of somebody else in one line."""
    return f"{type(error).__name__}: {error}".strip(": ").splitlines()[0]
