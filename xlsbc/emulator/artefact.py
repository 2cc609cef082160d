"""The emulator: a specification and the weights that go with it, and its directory on disk.

``emulator.json`` (the `Spec`), ``weights.safetensors`` and ``README.md`` (a model card made from
the facts in the specification). Weights are checked against their digest and against the shapes
that the specification asks for before anything is allocated; nothing is ever unpickled.

Where a pretrained encoder was changed by little, or not at all, the weights file holds what was
added to it, a few MB. Its own weights are those of a file that the specification names by digest.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import fsspec
import numpy as np
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from xlsbc.cube.legends import Legend, compatible, legend
from xlsbc.emulator.cost import cost
from xlsbc.emulator.pretrained import absolute, locate, pretrained
from xlsbc.emulator.sample import Sample
from xlsbc.emulator.spec import Spec
from xlsbc.emulator.steps import HARMONICS
from xlsbc.emulator.tensors import compare, shapes
from xlsbc.errors import EmulatorError, LegendError
from xlsbc.models.adapters import adapt, own_keys
from xlsbc.models.backbones import Channels, Sizes
from xlsbc.models.network import Inputs, Network, channels_last

__all__ = ["Emulator", "added", "build", "load", "loads", "read", "stack"]

SPEC_FILE = "emulator.json"
WEIGHTS_FILE = "weights.safetensors"
CARD_FILE = "README.md"
ENCODER = "backbone.encoder."
"""Before the names of an encoder's parameters."""

LARGEST_SPEC = 2**20
"""Bytes; the document of an emulator with hundreds of inputs is a tenth of it."""


class Emulator:
    """Land use, land cover and leaf area index from a cube, learned together.

    Parameters
    ----------
    spec
        What it is.
    network
        Its network, in evaluation mode; of the shapes that `spec` asks for.
    base
        URL of the pretrained weights that `spec` names, if its own are not all.
    """

    def __init__(self, spec: Spec, network: Network, base: str | None = None) -> None:
        self.spec = spec
        self.network = network.eval()
        self.base = base
        self._saved: tuple[str, str] | None = None  # where, and the hash it had there

    @property
    def hash(self) -> str:
        """Digest of the specification and weights: equal emulators have equal hashes.

        Scores do not count: a prediction, from which they are made, names the emulator before.
        """
        unscored = self._complete(self._weights()).model_copy(update={"scores": {}})
        return hashlib.sha256(unscored.model_dump_json(indent=1).encode()).hexdigest()

    @property
    def url(self) -> str | None:
        """Where it was opened or saved last; `None` if nowhere, or if it has changed since."""
        return self.place[1]

    @property
    def place(self) -> tuple[str, str | None]:
        """Its hash, which takes a while where there are many weights, and its `url`."""
        now = self.hash
        url, there = self._saved or (None, None)
        return now, url if now == there else None  # weights can be changed in place, unseen

    @property
    def lu(self) -> Legend:
        """Legend of its land use."""
        return legend(self.spec.lu_legend)

    @property
    def lc(self) -> Legend:
        """Legend of its land cover."""
        return legend(self.spec.lc_legend)

    @property
    def halo(self) -> int:
        """Pixels around a tile that its prediction sees."""
        return self.network.halo

    @property
    def context(self) -> int:
        """Pixels around a box that its prediction needs, to be that of the whole globe."""
        return self.network.context

    @property
    def headline(self) -> str:
        """One line: backbone, size, inputs, targets."""
        count = sum(p.numel() for p in self.network.parameters())
        inputs = ", ".join(v.name for v in self.spec.inputs) + (", lu_total" * self.spec.driver)
        return (
            f"{self.kind} of {count / 1e6:.2f} M parameters; from {inputs}; "
            f"to {', '.join(self.spec.targets)}"
        )

    @property
    def kind(self) -> str:
        """Backbone, variant and what it began with."""
        sizes = self.spec.architecture
        name = f"{sizes.backbone} {sizes.variant}".strip()
        if not sizes.kind.pretrained:
            return name
        if self.spec.base is None:
            return f"{name} ({sizes.adaptation.method}, randomly initialised)"
        return f"{name} ({sizes.adaptation.method} from {self.spec.base.file})"

    def __repr__(self) -> str:
        return f"<xlsbc.Emulator {self.hash[:12]}: {self.headline}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return loads, (*self.files(), self.base)

    def __dask_tokenize__(self) -> tuple[str, str]:
        return "xlsbc.Emulator", self.hash

    def summary(self) -> str:
        """What it is and costs: parameters, those that were trained, arithmetic, size on disk."""
        found = cost(self.spec, self.network)
        size = len(self._weights())
        base = f", and {self.spec.base.file}" if self.spec.partial and self.spec.base else ""
        return "\n".join(
            (
                self.headline,
                f"parameters  {found.parameters:,}",
                f"trained     {found.trained:,} ({found.trained / found.parameters:.1%})",
                f"arithmetic  {found.yearly:,.0f} FLOPs a pixel and year, "
                f"{found.stepwise:,.0f} more a leaf-area step",
                f"weights     {size / 1e6:.1f} MB{base}",
            )
        )

    def files(self) -> tuple[bytes, bytes]:
        """Contents of its specification's file and of its weights', of which `loads` makes it."""
        weights = self._weights()
        return self._complete(weights).model_dump_json(indent=1).encode(), weights

    def save(self, url: str) -> str:
        """Write the artefact and return where it is.

        Parameters
        ----------
        url
            Directory, any fsspec URL. Weights go first and the specification last, so that a
            directory with an ``emulator.json`` is whole.
        """
        fs, path = fsspec.core.url_to_fs(str(url))
        fs.makedirs(path, exist_ok=True)
        document, weights = self.files()
        for name, content in (
            (WEIGHTS_FILE, weights),
            (CARD_FILE, card(self).encode()),
            (SPEC_FILE, document),
        ):
            fs.pipe_file(f"{path}/{name}", content)
        self._saved = absolute(str(url)), self.hash
        return str(url)

    @classmethod
    def open(cls, url: str, weights: str | None = None) -> Emulator:
        """Emulator at a URL.

        Parameters
        ----------
        url
            Directory, any fsspec URL.
        weights
            Where the pretrained weights are that it was added to, if it was: a file of any fsspec
            URL, or ``hf://organisation/repository/file``. By default they are looked for in the
            directories of the environment variable ``XLSBC_WEIGHTS``, beside the artefact, and
            among what Hugging Face keeps on this disk.

        Raises
        ------
        EmulatorError
            If there is none, if its specification is not valid, or if its weights are damaged
            or not those of the specification.
        """
        emulator = loads(*read(str(url)), weights, str(url))
        emulator._saved = absolute(str(url)), emulator.hash
        return emulator

    def _weights(self) -> bytes:
        state = self.network.state_dict()
        if self.spec.partial:
            state = {name: state[name] for name in added(self.network)}
        return save_tensors({k: v.detach().cpu().contiguous() for k, v in state.items()})

    def _complete(self, weights: bytes) -> Spec:
        digest = hashlib.sha256(weights).hexdigest()
        return self.spec.model_copy(update={"weights_sha256": digest})


def read(url: str) -> tuple[bytes, bytes]:
    """Contents of the specification's file and of the weights' at a URL, not yet checked.

    Raises
    ------
    EmulatorError
        If they are not there, or if the specification is larger than any.
    """
    fs, path = fsspec.core.url_to_fs(url)
    try:
        size = fs.size(f"{path}/{SPEC_FILE}")
        if size is not None and size > LARGEST_SPEC:
            raise EmulatorError(
                f"{SPEC_FILE} at {url} has {size} bytes; at most {LARGEST_SPEC} were expected"
            )
        return fs.cat_file(f"{path}/{SPEC_FILE}"), fs.cat_file(f"{path}/{WEIGHTS_FILE}")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise EmulatorError(
            f"no emulator at {url}: expected a directory with {SPEC_FILE} and {WEIGHTS_FILE}; "
            "check the path, or train one with xlsbc.fit"
        ) from error


def loads(
    document: bytes | str, weights: bytes, base: str | None = None, beside: str | None = None
) -> Emulator:
    """Emulator from the contents of its two files.

    Parameters
    ----------
    document, weights
        The files.
    base
        URL of the pretrained weights, where the specification names some.
    beside
        Directory in which they may lie.

    Raises
    ------
    EmulatorError
        As `Emulator.open`.
    """
    try:
        spec = Spec.model_validate_json(document)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise EmulatorError(
            f"{SPEC_FILE} is not the specification of an emulator", problems
        ) from None
    found = hashlib.sha256(weights).hexdigest()
    if found != spec.weights_sha256:
        raise EmulatorError(
            f"weights have sha256 {found[:12]}…, the specification expects "
            f"{spec.weights_sha256[:12] or 'none'}…: the file is damaged or of another emulator"
        )
    try:
        with torch.device("meta"):
            empty = build(spec)
    except LegendError as error:
        raise EmulatorError(f"the emulator's legends are not known here: {error}") from error
    expected = {k: tuple(v.shape) for k, v in empty.state_dict().items()}
    if spec.partial:
        expected = {name: expected[name] for name in added(empty)}
    compare(expected, shapes(weights))
    try:
        state = load_tensors(weights)
    except SafetensorError as error:
        raise EmulatorError(f"{WEIGHTS_FILE} is damaged: {error}") from error
    broken = [k for k, v in state.items() if v.is_floating_point() and not v.isfinite().all()]
    if broken:
        raise EmulatorError("weights are not finite", broken)
    known: Mapping[str, Tensor] = {}
    if spec.partial:
        assert spec.base is not None
        base = locate(spec.base.file, spec.base.sha256, hint=base, beside=beside)
        sizes = spec.architecture
        known = pretrained(sizes.backbone, sizes.variant, base, sha256=spec.base.sha256).state
    network = build(spec)
    load(network, state, known)
    return Emulator(spec, network, base if spec.partial else None)


def load(
    network: Network, state: Mapping[str, Tensor], base: Mapping[str, Tensor] | None = None
) -> None:
    """Give a network its weights, all of them.

    Parameters
    ----------
    network
        Is changed.
    state
        By name.
    base
        Those of its encoder that are not among them.
    """
    known = {ENCODER + name: value for name, value in (base or {}).items()}
    network.load_state_dict({**known, **state}, strict=True)


def added(network: Network) -> list[str]:
    """Names of what a network has besides the pretrained weights of its encoder."""
    own = own_keys(network.backbone.encoder)
    return [
        name
        for name in network.state_dict()
        if not name.startswith(ENCODER) or name.removeprefix(ENCODER) in own
    ]


def build(spec: Spec) -> Network:
    """Network of a specification, freshly initialised from torch's random state.

    Raises
    ------
    LegendError
        If the legends are unknown or have no table of compatible classes.
    """
    lu, lc = legend(spec.lu_legend), legend(spec.lc_legend)
    sizes = spec.architecture
    network = Network(
        static=len(spec.static) + len(spec.optional) + 1,
        forcing=len(spec.forcing) + 2 * HARMONICS + len(spec.scalars),
        compatible=as_tensor(compatible(lu, lc)),
        bounds=as_tensor(np.array([c.lai_max for c in lc.classes], dtype=np.float32)),
        driver=spec.driver,
        given=spec.may_be_given,
        state=sum(len((lu if name == "lu_fraction" else lc).classes) for name in spec.state),
        backbone=partial(backbone, spec),
        climate=sizes.climate,
        history=spec.history,
        hidden=sizes.hidden,
        seasons=sizes.frames,
        window=spec.lattice.window,
        coupled=sizes.coupled,
    )
    channels_last(network)
    return network


def backbone(spec: Spec, count: int, climate: slice) -> Any:
    """Backbone of a specification for so many channels, of which some are climate."""
    sizes, how = spec.architecture, spec.architecture.adaptation
    channels = Channels(count, climate)
    for i, variable in enumerate(spec.static):
        if variable.name == "elevation" and variable.transform == "identity":
            channels = Channels(count, climate, i, variable.mean, variable.std)
    begins = how.method != "scratch"
    made = sizes.kind.make(
        channels,
        Sizes(sizes.variant, sizes.width, sizes.patch, sizes.frames, sizes.dropout, begins),
    )
    if begins:
        adapt(
            made.encoder,
            how.method,
            rank=how.rank,
            alpha=how.alpha,
            targets=how.targets,
            bottleneck=how.bottleneck,
        )
    return made


def stack(samples: Sequence[Sample]) -> Inputs:
    """Samples of equal shapes as one batch."""
    first = samples[0]

    def batch(name: str) -> Any:
        if getattr(first, name) is None:
            return None
        return as_tensor(np.stack([getattr(sample, name) for sample in samples]))

    return Inputs(**{field.name: batch(field.name) for field in dataclasses.fields(Inputs)})


def as_tensor(values: np.ndarray) -> Tensor:
    """Tensor on the default device; the constants of a network built on ``meta`` have values."""
    return torch.from_numpy(np.ascontiguousarray(values))


def card(emulator: Emulator) -> str:
    """Model card, markdown, from the facts of the specification."""
    spec = emulator.spec
    lines = [
        "---",
        f"license: {spec.license}",
        "library_name: xlsbc",
        "---",
        f"# xlsbc emulator {emulator.hash[:12]}",
        "",
        "```text",
        *emulator.summary().splitlines(),
        "```",
        "",
        "## Inputs",
        "",
        "| name | units | standard name | may be missing |",
        "|---|---|---|---|",
        *(
            f"| {v.name} | {v.units} | {v.standard_name or ''} | {'yes' if v.optional else 'no'} |"
            for v in spec.inputs
        ),
        "",
        f"Target grid {spec.lattice.dlat:.6g} x {spec.lattice.dlon:.6g} degrees; "
        f"{len(spec.steps)} leaf-area steps a year, each from {spec.history} steps of climate.",
        "",
        "## Trained on",
        "",
        *(f"- {key}: {value}" for key, value in spec.provenance.items()),
    ]
    if spec.scores:
        lines += ["", "## Scores on held-out blocks", "", "| score | value |", "|---|---|"]
        lines += [f"| {k} | {v:.4g} |" for k, v in spec.scores.items() if v is not None]
    lines += [
        "",
        "## Limits",
        "",
        "Use it on the grid spacing, climate and legends it was trained with. It is not a "
        "land-surface model and says nothing of places unlike those above.",
    ]
    return "\n".join(lines) + "\n"
