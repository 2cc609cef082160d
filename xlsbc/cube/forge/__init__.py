"""Recipes: provider's files to Zarr stores by Pangeo Forge and Apache Beam, on Zarr 3.

Recipe modules (``recipes/*/recipe.py``) are ordinary Pangeo Forge recipes and import all they need
from here, which makes the library importable first.
"""

from __future__ import annotations

import os
import sys

from .bridge import make_importable

BRIDGED = make_importable()
"""Whether the installed pangeo-forge-recipes needed help with Zarr 3."""

from pangeo_forge_recipes.patterns import (  # noqa: E402  after the bridge, which they need
    ConcatDim,
    FilePattern,
    MergeDim,
    pattern_from_file_sequence,
)

from .inputs import input_pattern  # noqa: E402
from .settings import cube_options  # noqa: E402
from .transforms import (  # noqa: E402
    Conform,
    OpenURLWithFSSpec,
    OpenWithXarray,
    StoreToZarr,
)

__all__ = [
    "BRIDGED",
    "ConcatDim",
    "Conform",
    "FilePattern",
    "MergeDim",
    "OpenURLWithFSSpec",
    "OpenWithXarray",
    "StoreToZarr",
    "cube_options",
    "get_injection_specs",
    "input_pattern",
    "pattern_from_file_sequence",
]


def get_injection_specs() -> dict[str, dict[str, str]]:
    """What a runner injects into which transform, for its entry point.

    That runners call it before anything else has two more uses. They import this package, and so
    the bridge, before pangeo-forge-recipes. And the worker processes that pangeo-forge-runner
    starts on one machine, with the Python of a virtual environment that holds only what a recipe's
    ``requirements.txt`` names, are told where this one's packages are.
    """
    known = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join(p for p in dict.fromkeys([*known, *sys.path]) if p)
    return {
        "StoreToZarr": {"target_root": "TARGET_STORAGE"},
        "OpenURLWithFSSpec": {"cache": "INPUT_CACHE_STORAGE"},
    }
