"""An emulator ready to run in this process: a small reference to it, loaded once, on its device.

A graph carries a `Reference`: the emulator's hash, and where it lies or what it is. The first task
that needs it in a process loads it, verified; later ones, of whatever thread, find it there.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch

from xlsbc.emulator.artefact import Emulator, loads, read, stack
from xlsbc.emulator.sample import Sample
from xlsbc.errors import EmulatorError
from xlsbc.inference.gpu import Lane, launcher
from xlsbc.inference.threads import one_thread
from xlsbc.models.fused import Fused

__all__ = ["Engine", "Precision", "Reference", "engine", "resolve"]

Precision = Literal["auto", "float32", "bfloat16", "float16"]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""Of the backbone; the heads are float32 always."""

LARGEST_NUMBER = 4
"""Engines that a process keeps; the one that was not used for longest goes first."""

Key = tuple[str, str, str, bool]
ENGINES: OrderedDict[Key, Future[Engine]] = OrderedDict()
LIVE: weakref.WeakValueDictionary[str, Emulator] = weakref.WeakValueDictionary()
"""Emulators of this process, by the hash that they had when they were referred to."""

CACHE_LOCK = threading.Lock()


@dataclass(frozen=True)
class Reference:
    """Which emulator, and how to get it; what a graph carries.

    Parameters
    ----------
    hash
        Of the emulator.
    url
        Where it lies.
    files
        Contents of its specification and weights, if it lies nowhere.
    base
        Where the pretrained weights lie that it was added to, if it was.
    """

    hash: str
    url: str | None = None
    files: tuple[bytes, bytes] | None = None
    base: str | None = None

    @classmethod
    def of(cls, emulator: Emulator) -> Reference:
        """Reference to an emulator as it is now: less than 1 kB if it was opened or saved so."""
        now, url = emulator.place
        LIVE[now] = emulator
        return cls(now, url, None if url else emulator.files(), emulator.base)


def resolve(precision: str) -> str:
    """The precision of which "auto" is the best on this machine; any other as it is.

    bfloat16 where the device computes in it, else float32. Whoever plans a prediction resolves it
    once and tells every worker: no part of a prediction is in another precision than the rest.

    Raises
    ------
    EmulatorError
        If the precision is unknown or not possible here.
    """
    gpu = torch.cuda.is_available()
    if precision == "auto":
        return "bfloat16" if computes_bfloat16(gpu) else "float32"
    if precision not in DTYPES:
        known = ", ".join(["auto", *DTYPES])
        raise EmulatorError(f"precision should be one of {known}; found {precision!r}")
    if precision == "float16" and not gpu:
        raise EmulatorError(
            "precision float16 needs a CUDA GPU and there is none here; use bfloat16 or float32"
        )
    return precision


def computes_bfloat16(gpu: bool) -> bool:
    """Whether the device has instructions for bfloat16; without, it is slower than float32."""
    if gpu:
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # torch 2.10 cannot tell
    has: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(has.get("avx512_bf16") or has.get("amx_bf16"))


class Engine:
    """A network arranged for speed, on the GPU if there is one.

    Parameters
    ----------
    emulator
        Whose network it becomes; nobody else may change it.
    precision
        "float32", "bfloat16" or "float16".
    compile
        Whether ``torch.compile`` works on its backbone first: minutes that pay on a GPU alone.
    """

    def __init__(self, emulator: Emulator, precision: str, *, compile: bool = False) -> None:
        stature = [c.vegetation for c in emulator.lc.classes]
        dtype = DTYPES[resolved(precision)]
        network = Fused(emulator.network, stature=stature, dtype=dtype)
        self.network = network.eval().to(device())
        if compile:  # not the heads, which meet a shape for every set of variables
            self.network.network.backbone.compile(dynamic=False)
        # threads that compile at once would all compile
        self._turn: AbstractContextManager[Any] = threading.Lock() if compile else nullcontext()
        self.halo = emulator.halo
        self._lane = Lane(launcher(self.network, self.halo)) if device() == "cuda" else None

    def run(self, samples: Sequence[Sample], names: Sequence[str]) -> list[dict[str, Any]]:
        """Fields of every sample by name, ``(..., y, x)`` less the halo, float32.

        On a CPU a window runs on one core, in the thread that asks: threads run theirs side by
        side, and a window has the same bits in any. On a GPU the windows of all threads run
        together in batches of one size.

        Parameters
        ----------
        samples
            Windows, of NumPy arrays or of CuPy arrays, whose results are CuPy arrays.
        names
            Of lu_fraction, lc_fraction, cvh, cvl, lai, lai_hv, lai_lv.
        """
        if self._lane is not None:
            return self._lane.run(samples, names)
        with self._turn, one_thread(), torch.no_grad():
            results = [self._window(sample, names) for sample in samples]
        self._turn = nullcontext()
        return results

    def _window(self, sample: Sample, names: Sequence[str]) -> dict[str, Any]:
        outputs = self.network(stack([sample]), tuple(names), rim=self.halo)
        return {name: value[0].numpy() for name, value in outputs.items()}


def device() -> str:
    """Kind of device on which this process predicts."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def resolved(precision: str) -> str:
    """A precision that says what it is, and is possible here."""
    if precision == "auto":
        raise EmulatorError("precision 'auto' is not one; resolve it where the work is planned")
    return resolve(precision)


def engine(reference: Reference, precision: str, *, compile: bool = False) -> Engine:
    """The engine of an emulator, loaded once in a process whoever asks.

    Parameters
    ----------
    reference, precision, compile
        See `Reference`, `resolve` and `Engine`.

    Raises
    ------
    EmulatorError
        If the emulator cannot be read here or is another than expected, or if the precision is
        not possible here.
    """
    key = reference.hash, resolved(precision), device(), compile
    with CACHE_LOCK:
        known = ENGINES.get(key)
        future = ENGINES.setdefault(key, Future())
        ENGINES.move_to_end(key)
        while len(ENGINES) > LARGEST_NUMBER:
            ENGINES.popitem(last=False)
    if known is None:
        try:
            future.set_result(Engine(load(reference), precision, compile=compile))
        except BaseException as error:
            with CACHE_LOCK:
                ENGINES.pop(key, None)  # the next to ask tries again
            future.set_exception(error)
    return future.result()


def load(reference: Reference) -> Emulator:
    """The emulator of a reference, for the caller alone, verified.

    Raises
    ------
    EmulatorError
        As `engine`.
    """
    files, here = reference.files, LIVE.get(reference.hash)
    if files is None and here is not None and here.hash == reference.hash:  # not changed since
        files = here.files()
    emulator = loads(*(files or fetch(reference)), reference.base, reference.url)
    if emulator.hash != reference.hash:
        raise EmulatorError(
            f"expected emulator {reference.hash} and found {emulator.hash} at {reference.url}: it "
            "was replaced after the prediction was made; predict again with the new one, or put "
            "the old one back"
        )
    return emulator


def fetch(reference: Reference) -> tuple[bytes, bytes]:
    """The files of a reference from where it lies."""
    url = str(reference.url)
    try:
        return read(url)
    except (EmulatorError, OSError, ImportError, ValueError) as error:
        raise EmulatorError(
            f"this process cannot read emulator {reference.hash[:12]} at {url} ({error}); save it "
            "where every worker can read it, on a shared disk or an object store whose fsspec "
            "package is installed there, and predict with the emulator that was saved"
        ) from error
