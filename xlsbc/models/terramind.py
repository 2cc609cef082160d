"""TerraMind encoders (Jakubik et al., 2025, arXiv:2504.11171).

A transformer over patches of several images of one place, each a modality with its own embedding.
Names of parameters are those of the official checkpoints. Positions are computed, never read: they
are sines and cosines of a patch's row and column.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xlsbc.errors import EmulatorError
from xlsbc.models.transformer import Block, GatedMlp, Mlp, layerwise, waves

__all__ = ["MODALITIES", "VARIANTS", "TerraMind", "Variant", "encoder_state", "official"]

PATCH = 16  # pixels of a token's side


@dataclass(frozen=True)
class Variant:
    """Sizes of an official encoder, and where its weights are."""

    dim: int
    depth: int
    heads: int
    gated: bool
    """Whether its perceptrons are gated and its layers without bias."""
    repository: str
    """On Hugging Face."""
    file: str
    patch: int = PATCH
    license: str = "Apache-2.0"


def published(name: str, dim: int, depth: int, heads: int, *, gated: bool) -> Variant:
    repository = f"ibm-esa-geospatial/TerraMind-1.0-{name}"
    return Variant(dim, depth, heads, gated, repository, f"TerraMind_v1_{name}.pt")


VARIANTS = {
    "tiny": published("tiny", 192, 12, 3, gated=False),
    "small": published("small", 384, 12, 6, gated=False),
    "base": published("base", 768, 12, 12, gated=True),
    "large": published("large", 1024, 24, 16, gated=True),
}

MODALITIES = {
    "untok_sen2l2a@224": 12,
    "untok_sen2l1c@224": 13,
    "untok_sen2rgb@224": 3,
    "untok_sen1grd@224": 2,
    "untok_sen1rtc@224": 2,
    "untok_dem@224": 1,
}
"""Bands of the images that the official encoders read, by their names there."""

SHORT = {
    "S2L2A": "untok_sen2l2a@224",
    "S2L1C": "untok_sen2l1c@224",
    "RGB": "untok_sen2rgb@224",
    "S1GRD": "untok_sen1grd@224",
    "S1RTC": "untok_sen1rtc@224",
    "DEM": "untok_dem@224",
}

TOKENISED = re.compile(r"tok_.*|lulc|ndvi|coords|captions?|location", re.IGNORECASE)
OFFICIAL = re.compile(r".+@\d+|coords|caption|det")  # a modality of an official checkpoint


class TerraMind(nn.Module):
    """Features of all layers from images of several modalities.

    Parameters
    ----------
    dim, depth, heads
        Channels of a token, a multiple of 4; layers, and heads of each.
    modalities
        Images that the official encoders read, by their names or short: S2L2A, S2L1C, RGB, S1GRD,
        S1RTC, DEM.
    new
        Bands of further ones, whose embeddings are learned anew.
    gated
        Whether perceptrons are gated and layers without bias, as in the larger official ones; else
        both are plain.
    size
        Pixels of a side for which positions are kept; to others they are interpolated.

    Attributes
    ----------
    checkpointing
        Whether layers are computed again for their gradient, see `layerwise`.
    """

    position: Tensor
    encoder_embeddings: nn.ModuleDict

    def __init__(
        self,
        dim: int,
        depth: int,
        heads: int,
        *,
        modalities: Iterable[str] = ("untok_dem@224",),
        new: Mapping[str, int] | None = None,
        gated: bool = True,
        size: int = 224,
    ) -> None:
        super().__init__()
        if dim % 4 or dim % heads:
            raise EmulatorError(f"expected a dim that 4 and its {heads} heads divide; found {dim}")
        bands = embedded(modalities, new or {})
        self.dim, self.depth, self.patch, self.side = dim, depth, PATCH, size // PATCH
        self.checkpointing = False
        self.encoder_embeddings = nn.ModuleDict(
            {name: ImageEmbedding(n, dim) for name, n in bands.items()}
        )
        self.encoder = nn.ModuleList(
            Block(
                dim,
                heads,
                GatedMlp(dim, 4 * dim, bias=False) if gated else Mlp(dim, 4 * dim),
                Norm,
                bias=not gated,
            )
            for _ in range(depth)
        )
        self.encoder_norm = Norm(dim)
        self.register_buffer("position", positions(self.side, dim), persistent=False)
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                # query, key and value are three layers in one
                gain = math.sqrt(2) if name.endswith("qkv") else 1.0
                nn.init.xavier_uniform_(module.weight, gain)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    @classmethod
    def of(
        cls,
        variant: str,
        modalities: Iterable[str] = ("untok_dem@224",),
        new: Mapping[str, int] | None = None,
    ) -> TerraMind:
        """An official encoder, by its name in `VARIANTS`, with random weights.

        Raises
        ------
        EmulatorError
            If there is none of this name, or a modality is not known.
        """
        if variant not in VARIANTS:
            raise EmulatorError(
                f"expected a variant of terramind, one of {', '.join(VARIANTS)}; found {variant!r}"
            )
        v = VARIANTS[variant]
        return cls(v.dim, v.depth, v.heads, modalities=modalities, new=new, gated=v.gated)

    @property
    def layers(self) -> nn.ModuleList:
        """The transformer's blocks, first to last."""
        return self.encoder

    def forward(
        self, inputs: Mapping[str, Tensor], extra: Mapping[str, Tensor] | None = None
    ) -> list[Tensor]:
        """Tokens ``(batch, token, dim)`` after every layer, the last normalised.

        They go by modality in the order of `inputs`, row and column.

        Parameters
        ----------
        inputs
            ``(batch, band, y, x)`` of one or more modalities, scaled, 1; none missing.
        extra
            ``(batch, token, dim)`` of a modality, added to its embedded patches: how other inputs
            enter.

        Raises
        ------
        EmulatorError
            If a modality is unknown, or a window is no multiple of the patch.
        """
        images = {SHORT.get(name, name): x for name, x in inputs.items()}
        added = {SHORT.get(name, name): x for name, x in (extra or {}).items()}
        self.check(images, added)
        grids = {name: (x.shape[2] // PATCH, x.shape[3] // PATCH) for name, x in images.items()}
        position = {grid: self.positions(*grid) for grid in dict.fromkeys(grids.values())}
        tokens = []
        for name, x in images.items():
            embedding = self.encoder_embeddings[name]
            patches = embedding(x)
            if name in added:
                patches = patches + added[name]
            tokens.append(patches + (position[grids[name]] + embedding.mod_emb))  # type: ignore[operator]
        joined = torch.cat(tokens, dim=1)
        found = layerwise(self.encoder, joined, checkpointing=self.checkpointing)
        found[-1] = self.encoder_norm(found[-1])
        return found

    def positions(self, rows: int, columns: int) -> Tensor:
        """Encoded positions of a grid of patches, ``(row * column, dim)``."""
        if (rows, columns) == (self.side, self.side):
            return self.position
        kept = self.position.unflatten(0, (self.side, self.side)).permute(2, 0, 1)[None]
        position = F.interpolate(kept, (rows, columns), mode="bicubic", align_corners=False)
        return position[0].permute(1, 2, 0).flatten(0, 1)

    def check(self, images: Mapping[str, Tensor], added: Mapping[str, Tensor]) -> None:
        """Refuse an input that does not fit, with everything that is wrong with it."""
        known = self.encoder_embeddings
        problems = [
            f"expected modalities among {', '.join(known)}; found {name!r}"
            for name in images
            if name not in known
        ]
        problems += [f"extra tokens of {n!r}, which is no input" for n in added.keys() - images]
        for name, x in images.items():
            if x.ndim != 4:
                problems.append(
                    f"expected {name} as (batch, band, y, x); found an array of {tuple(x.shape)}"
                )
                continue
            _, bands, rows, columns = x.shape
            if name in known and bands != known[name].bands:
                problems.append(f"expected {known[name].bands} bands of {name}; found {bands}")
            if rows % PATCH or columns % PATCH:
                problems.append(
                    f"expected windows of multiples of the patch, {PATCH} pixels; "
                    f"found {rows} x {columns} of {name}"
                )
        if problems or not images:
            raise EmulatorError("the input does not fit terramind", problems or ["it is empty"])


class ImageEmbedding(nn.Module):
    """A token of every patch of a modality."""

    def __init__(self, bands: int, dim: int) -> None:
        super().__init__()
        self.bands = bands
        self.proj = nn.Linear(PATCH * PATCH * bands, dim, bias=False)
        self.mod_emb = nn.Parameter(0.02 * torch.randn(1, 1, dim))

    def forward(self, x: Tensor) -> Tensor:
        """Tokens ``(batch, token, dim)`` of ``(batch, band, y, x)``, without their position."""
        x = x.unflatten(3, (-1, PATCH)).unflatten(2, (-1, PATCH))  # (batch, band, row, y, col, x)
        return self.proj(x.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2))


class Norm(nn.Module):
    """Layer normalisation whose bias is not learned, but in every checkpoint."""

    bias: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.register_buffer("bias", torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Tokens ``(batch, token, dim)``."""
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, eps=1e-6)


def positions(side: int, dim: int) -> Tensor:
    """Waves of row and column, half of the channels each, ``(side * side, dim)``.

    The original calls the row "w" and lays it out first; on its square that is all that is odd.
    """
    axis = waves(torch.arange(side, dtype=torch.float32), dim // 2)
    row, column = axis[:, None].expand(side, side, -1), axis.expand(side, side, -1)
    return torch.cat((row, column), dim=-1).flatten(0, 1)


def official(name: str) -> str:
    """The official name of a modality that is given by it or short.

    Raises
    ------
    EmulatorError
        If there is none, or it is one that enters as tokens.
    """
    name = SHORT.get(name, name)
    if name in MODALITIES:
        return name
    if TOKENISED.fullmatch(name):
        raise EmulatorError(
            f"{name!r} enters TerraMind as tokens of a second network, which is not read here; "
            f"expected images: {', '.join(SHORT)}; or give it as a new modality"
        )
    raise EmulatorError(
        f"expected a modality of TerraMind, one of {', '.join(SHORT)}; found {name!r}"
    )


def embedded(modalities: Iterable[str], new: Mapping[str, int]) -> dict[str, int]:
    """Bands of every modality of an encoder."""
    bands, problems = {}, []
    for name in modalities:
        try:
            bands[official(name)] = MODALITIES[official(name)]
        except EmulatorError as error:
            problems.append(error.summary)
    for name, n in new.items():
        if name in SHORT or OFFICIAL.fullmatch(name) or not name.isidentifier():
            problems.append(
                f"expected a name for a new modality that is a word and not an official one; "
                f"found {name!r}"
            )
        bands[name] = n
    if problems or not bands:
        raise EmulatorError(
            "modalities do not fit terramind", problems or ["expected at least one; found none"]
        )
    return bands


def encoder_state(raw: Mapping[str, Tensor], modalities: Iterable[str]) -> dict[str, Tensor]:
    """Of an official file's tensors those of an encoder of these modalities.

    The decoder, tokenizers, stored positions and embeddings of other official modalities are left
    out; every other name stays, so that a strict comparison lists what is not known.
    """
    kept = {SHORT.get(name, name) for name in modalities}
    state = {}
    for name, tensor in raw.items():
        if name.startswith(("decoder", "tokenizer.")) or name == "mask_token":
            continue
        if name.startswith("encoder_embeddings."):
            modality, _, leaf = name.removeprefix("encoder_embeddings.").partition(".")
            if leaf == "pos_emb" or modality not in kept and OFFICIAL.fullmatch(modality):
                continue
        state[name] = tensor
    return state
