"""Land-surface boundary conditions for Earth-system models, from the data cube, on demand."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from xlsbc import accessor as accessor  # registers .lsbc
from xlsbc.errors import LsbcError

if TYPE_CHECKING:
    from xlsbc.cube.catalog import open_catalog
    from xlsbc.cube.versions import show_versions
    from xlsbc.emulator import Emulator
    from xlsbc.inference.cluster import cluster
    from xlsbc.training.fit import fit

__version__ = "0.1.0"
__all__ = ["Emulator", "LsbcError", "cluster", "fit", "open_catalog", "show_versions"]

# Heavy parts are imported when they are first asked for: `import xlsbc` needs no torch.
LAZY = {
    "Emulator": "xlsbc.emulator",
    "cluster": "xlsbc.inference.cluster",
    "fit": "xlsbc.training.fit",
    "open_catalog": "xlsbc.cube.catalog",
    "show_versions": "xlsbc.cube.versions",
}


def __getattr__(name: str) -> Any:
    if name not in LAZY:
        raise AttributeError(f"module 'xlsbc' has no attribute {name!r}")
    return getattr(importlib.import_module(LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *LAZY})
