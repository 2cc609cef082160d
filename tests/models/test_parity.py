"""Our encoders beside TerraTorch's, where it is installed; benchmarks/parity.py has all sizes."""

from __future__ import annotations

import importlib
import warnings
from types import ModuleType

import pytest
import torch


@pytest.fixture(scope="module")
def parity() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it imports warns of itself
        pytest.importorskip("terratorch", reason="terratorch is not installed")
        return importlib.import_module("benchmarks.parity")


@pytest.mark.parametrize("window", [(224, 224), (96, 160)])
@pytest.mark.parametrize(("family", "variant"), [("prithvi", "2.0-tiny-TL"), ("terramind", "tiny")])
def test_every_layer_of_a_tiny_official_variant_is_that_of_terratorch(
    parity, family, variant, window
):
    torch.manual_seed(1)
    theirs, ours, _ = getattr(parity, f"{family}_pair")(variant, window)
    with torch.inference_mode():
        # twelve float32 layers, dates as angles of up to 2021 among their inputs
        assert parity.difference(theirs(), ours()) < 1e-5
