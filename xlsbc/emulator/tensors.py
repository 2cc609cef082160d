"""Names and shapes of weights: what a file has, and whether it is what was expected."""

from __future__ import annotations

import json
import struct

from xlsbc.errors import EmulatorError

__all__ = ["compare", "shapes"]

Shapes = dict[str, tuple[int, ...]]


def shapes(weights: bytes) -> Shapes:
    """Shapes in a safetensors file, from its header alone."""
    try:
        (length,) = struct.unpack("<Q", weights[:8])
        header = json.loads(weights[8 : 8 + length])
        return {k: tuple(v["shape"]) for k, v in header.items() if k != "__metadata__"}
    except (struct.error, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise EmulatorError("the weights are not a safetensors file") from error


def compare(expected: Shapes, found: Shapes) -> None:
    """Refuse weights that are not, name by name and shape by shape, what was expected."""
    problems = [f"{k} is missing" for k in expected.keys() - found.keys()]
    problems += [f"{k} is not expected" for k in found.keys() - expected.keys()]
    problems += [
        f"{k} should be {expected[k]} and is {found[k]}"
        for k in expected.keys() & found.keys()
        if expected[k] != found[k]
    ]
    if problems:
        raise EmulatorError("weights are not those of the specification", sorted(problems))
