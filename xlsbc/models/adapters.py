"""What of a pretrained transformer is trained, and the few weights that are added for it.

An encoder is a module whose ``layers`` are `xlsbc.models.transformer.Block`. Whatever is added to
it, its own weights keep the names that the official checkpoints give them, and at step 0 it
computes what it computed before.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xlsbc.errors import EmulatorError
from xlsbc.models.transformer import Block

__all__ = [
    "METHODS",
    "TARGETS",
    "Bottleneck",
    "LoRA",
    "adapt",
    "is_base_key",
    "layer_decay",
    "merge",
    "own_keys",
    "peft_files",
]

METHODS = ("scratch", "full", "lora", "adapter", "frozen")
"""``scratch`` and ``full`` train everything, from random and from pretrained weights; ``lora`` and
``adapter`` only what they add; ``frozen`` nothing."""

TARGETS = ("qkv", "proj", "fc1", "fc2", "fc3")
"""Layers of a block that LoRA can be put on; only gated perceptrons have ``fc3``."""


class LoRA(nn.Linear):
    r"""A linear layer with a trained correction of low rank.

    .. math:: y = x W^T + b + \frac{\alpha}{r}\, x A^T B^T

    with :math:`A` drawn as the weights of a linear layer are and :math:`B = 0`.

    Parameters
    ----------
    linear
        Gives its weight and bias, which are shared and not copied.
    rank
        Rows of :math:`A` and columns of :math:`B`.
    alpha
        Numerator of the correction's scale.

    References
    ----------
    Hu et al., 2022, ICLR, arXiv:2106.09685, section 4.1.
    """

    def __init__(self, linear: nn.Linear, rank: int, alpha: float) -> None:
        # On "meta", so that no weights are drawn only to be replaced.
        super().__init__(linear.in_features, linear.out_features, bias=False, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.rank, self.alpha = rank, alpha
        self.lora_a = nn.Parameter(linear.weight.new_empty(rank, linear.in_features))
        self.lora_b = nn.Parameter(linear.weight.new_zeros(linear.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """Features ``(..., channels_out)`` of ``(..., channels_in)``."""
        low = F.linear(x, self.lora_a) * (self.alpha / self.rank)  # (..., rank)
        return F.linear(x, self.weight, self.bias) + F.linear(low, self.lora_b)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """The same function as one plain layer, whose weights are new and rounded once."""
        # On the CPU: not every device has float64, and so the bits are the same from all of them.
        weight, a, b = (t.cpu().double() for t in (self.weight, self.lora_a, self.lora_b))
        weight = weight + self.alpha / self.rank * (b @ a)
        plain = nn.Linear(self.in_features, self.out_features, bias=False, device="meta")
        plain.weight = nn.Parameter(weight.to(self.weight), self.weight.requires_grad)
        plain.bias = self.bias
        return plain.train(self.training)

    def extra_repr(self) -> str:
        """What its line in a printed network says of it."""
        return f"{super().extra_repr()}, rank={self.rank}, alpha={self.alpha}"


class Bottleneck(nn.Module):
    """Adapter that adds to its input what two layers make of it, which is 0 at first.

    Parameters
    ----------
    dim
        Channels of a token.
    width
        Channels between the layers.

    References
    ----------
    Houlsby et al., 2019, ICML, arXiv:1902.00751, section 2.1.
    """

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.down = nn.Linear(dim, width)
        self.up = nn.Linear(width, dim)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens ``(batch, token, dim)``."""
        return x + self.up(F.gelu(self.down(x)))


def adapt(
    encoder: nn.Module,
    method: str,
    *,
    rank: int = 8,
    alpha: float = 16.0,
    targets: Sequence[str] = ("qkv", "proj"),
    bottleneck: int = 64,
) -> None:
    """Add to an encoder, in place, what a method trains, and freeze what it does not.

    Parameters
    ----------
    encoder
        Has its pretrained weights already.
    method
        One of `METHODS`.
    rank, alpha, targets
        Of ``lora``, see `LoRA`; targets are some of `TARGETS`.
    bottleneck
        Channels inside the adapters of ``adapter``, which stand behind attention and perceptron.

    Raises
    ------
    EmulatorError
        If the encoder is adapted already, the method or a target is unknown, no layer of it has
        the name of a target, or a number is out of range; the encoder is unchanged then.
    """
    targets = (targets,) if isinstance(targets, str) else tuple(targets)
    known = method in METHODS
    problems = []
    if not known:
        problems.append(f"the method should be one of {', '.join(METHODS)}, and is {method!r}")
    if method == "lora" or not known:
        problems += lora_problems(encoder, rank, alpha, targets)
    if (method == "adapter" or not known) and not is_count(bottleneck):
        problems.append(f"bottleneck should be an integer of at least 1, and is {bottleneck!r}")
    if found := own_keys(encoder):
        problems.append(
            f"a plain encoder was expected; this one has {len(found)} weights of adapters "
            f"({found[0]}, ...): merge LoRA first, or build the encoder anew"
        )
    if problems:
        raise EmulatorError("the encoder cannot be adapted", problems)
    encoder.requires_grad_(method in ("scratch", "full"))
    for block in blocks(encoder):
        if method == "lora":
            for parent, name, linear in linears(block, targets):
                setattr(parent, name, LoRA(linear, rank, alpha))
        elif method == "adapter":
            proj = block.attn.proj
            for place in ("after_attn", "after_mlp"):
                setattr(block, place, Bottleneck(proj.out_features, bottleneck).to(proj.weight))


def merge(module: nn.Module) -> None:
    """Fold every `LoRA` inside a module into a plain layer, in place.

    Weights that were frozen stay so. Where there is no LoRA, nothing is done.
    """
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, LoRA):
                setattr(parent, name, child.merged())


def is_base_key(key: str) -> bool:
    """Whether a key of a state dict is of the network itself and not of what `adapt` added."""
    return {"lora_a", "lora_b", "after_attn", "after_mlp"}.isdisjoint(key.split("."))


def own_keys(encoder: nn.Module) -> list[str]:
    """Keys of the state dict that `adapt` added: what an artefact of adapters only has to hold."""
    return [key for key in encoder.state_dict() if not is_base_key(key)]


def layer_decay(encoder: nn.Module, decay: float) -> dict[str, float]:
    """Learning-rate factor, 1, of every parameter by name: the nearer to the input, the smaller.

    That is ``decay**(depth - i)`` in block *i* of 0 to ``depth - 1``, 1 in the normalisation after
    them (a module of the type of their own) and ``decay**(depth + 1)`` in what comes before.

    Raises
    ------
    EmulatorError
        If the decay is not above 0 and at most 1.

    References
    ----------
    Bao et al., 2022, ICLR, arXiv:2106.08254, appendix; He et al., 2022, CVPR, arXiv:2111.06377,
    table 9.
    """
    if not 0 < decay <= 1:
        raise EmulatorError(
            f"the decay of learning rates should be above 0 and at most 1, and is {decay}; "
            "1 trains all layers alike"
        )
    layers = blocks(encoder)
    norm = type(layers[0].norm1)
    exponent = {
        id(p): 0 for m in encoder.modules() if isinstance(m, norm) for p in m.parameters()
    }  # of all normalisations; those inside blocks are overwritten
    for i, block in enumerate(layers):
        exponent.update((id(p), len(layers) - i) for p in block.parameters())
    return {
        name: decay ** exponent.get(id(p), len(layers) + 1)
        for name, p in encoder.named_parameters()
    }


def peft_files(encoder: nn.Module) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """LoRA as Hugging Face's peft keeps it, for the same encoder without it.

    Returns
    -------
    tensors
        What belongs into ``adapter_model.safetensors``: copies, on the CPU.
    config
        What belongs into ``adapter_config.json``. Names of layers are complete: peft would take
        ``proj`` for the patch embedding's ``proj``, too.

    Raises
    ------
    EmulatorError
        If there is no LoRA, or of different ranks or scales.
    """
    layers = {name: m for name, m in encoder.named_modules() if isinstance(m, LoRA)}
    kinds = {(layer.rank, layer.alpha) for layer in layers.values()}
    if len(kinds) != 1:
        raise EmulatorError(
            "peft's files hold LoRA of one rank and alpha; found "
            f"{sorted(kinds) or 'none: adapt with lora, and export before merging'}"
        )
    tensors = {}
    for name, layer in layers.items():
        for key, value in (("lora_A", layer.lora_a), ("lora_B", layer.lora_b)):
            tensors[f"base_model.model.{name}.{key}.weight"] = value.detach().cpu().clone()
    rank, alpha = kinds.pop()
    return tensors, {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": None,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "use_rslora": False,
        "target_modules": list(layers),
    }


def blocks(encoder: nn.Module) -> list[Block]:
    return cast("list[Block]", list(cast(nn.ModuleList, encoder.layers)))


def linears(block: Block, names: Sequence[str]) -> Iterator[tuple[nn.Module, str, nn.Linear]]:
    """Layers of such names with the module that holds each."""
    for parent in list(block.modules()):
        for name, child in list(parent.named_children()):
            if name in names and isinstance(child, nn.Linear):
                yield parent, name, child


def lora_problems(
    encoder: nn.Module, rank: int, alpha: float, targets: tuple[str, ...]
) -> list[str]:
    """What keeps LoRA of such parameters off an encoder."""
    problems = []
    if not is_count(rank):
        problems.append(f"rank should be an integer of at least 1, and is {rank!r}")
    if not (isinstance(alpha, int | float) and 0 < alpha < math.inf):
        problems.append(f"alpha should be a finite number above 0, and is {alpha!r}")
    if not targets:
        problems.append(f"no targets given; some of {', '.join(TARGETS)} were expected")
    present = [layer for block in blocks(encoder) for layer in linears(block, TARGETS)]
    least = {name: min(linear.weight.shape) for _, name, linear in present}
    for target in targets:
        if target not in TARGETS:
            problems.append(
                f"targets should be some of {', '.join(TARGETS)}; {target!r} is not known"
            )
        elif target not in least:
            problems.append(
                f"target {target!r} is in no block of this encoder, which has {', '.join(least)}"
            )
        elif is_count(rank) and rank > least[target]:
            problems.append(
                f"rank {rank} is more than {target!r} can have, {least[target]}: lower it"
            )
    return problems


def is_count(value: object) -> bool:
    return isinstance(value, int) and value >= 1
