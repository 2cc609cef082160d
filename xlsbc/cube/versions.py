"""What is installed, for a bug report."""

from __future__ import annotations

import importlib.metadata
import platform
import sys

__all__ = ["show_versions"]

PACKAGES = (
    "xlsbc xarray dask distributed zarr cf-xarray xbatcher torch lightning numpy pandas intake "
    "fsspec safetensors huggingface_hub pydantic scikit-learn cupy dask-cuda"
).split()


def show_versions() -> None:
    """Print the versions of Python, the system and every package that matters here."""
    print(f"python: {sys.version.split()[0]}")
    print(f"system: {platform.platform()}")
    for name in PACKAGES:
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            version = "not installed"
        print(f"{name}: {version}")
