"""Writes what TerraTorch's encoders give in tiny configurations: tests/models/golden.

    python benchmarks/golden.py [--folder tests/models/golden]

Runs where terratorch is installed (1.2.11 made the committed files). Weights and images are random
multiples of 1/64 and stored as int8, so that the files are small and the values exact. A case is a
configuration, written into cases.json, and its tensors in a file of its name: ``state.…`` as the
official checkpoint would have them, ``input.…`` and ``layer.…``.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from terratorch.models.backbones.prithvi_mae import PrithviMAE
from terratorch.models.backbones.terramind.model.terramind_vit import TerraMindViT
from terratorch.models.backbones.terramind.model.tm_utils import LayerNorm
from torch import Tensor, nn

STEP = 64
"""Values are whole multiples of one over this."""

PRITHVI: dict[str, dict[str, Any]] = {
    "prithvi_located": {
        "sizes": {"dim": 32, "depth": 2, "heads": 2, "patch": 16, "bands": 2, "size": 64},
        "location": True,
        "windows": {"one": (1, 64, 64), "series": (3, 32, 48)},
    },
    "prithvi_plain": {
        "sizes": {"dim": 32, "depth": 2, "heads": 1, "patch": 14, "bands": 2, "size": 56},
        "location": False,
        "windows": {"one": (1, 70, 28), "series": (3, 56, 56)},
    },
}
TERRAMIND: dict[str, dict[str, Any]] = {
    "terramind_gated": {
        "sizes": {"dim": 32, "depth": 2, "heads": 2, "gated": True, "size": 64},
        "modalities": ["S1GRD", "DEM"],
        "new": {"climate": 3},
        "windows": {
            "kept": {"S1GRD": (64, 64), "DEM": (64, 64), "climate": (64, 64)},
            "oblong": {"climate": (48, 80), "DEM": (48, 80)},
        },
    },
    "terramind_plain": {
        "sizes": {"dim": 32, "depth": 2, "heads": 1, "gated": False, "size": 48},
        "modalities": ["DEM"],
        "new": {},
        "windows": {"kept": {"DEM": (48, 48)}, "oblong": {"DEM": (32, 64)}},
    },
}
BANDS = {"S1GRD": 2, "DEM": 1, "climate": 3}


def randomise(module: nn.Module) -> None:
    """Weights that are multiples of one over `STEP`, as large as those of a trained network."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            spread = 0.5 if parameter.ndim < 2 else (2.0 / parameter[0].numel()) ** 0.5
            near = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            parameter.copy_(steps(near + spread * torch.randn_like(parameter)))


def steps(x: Tensor) -> Tensor:
    return (x * STEP).round().clamp(-127, 127) / STEP


def images(*shape: int) -> Tensor:
    return steps(torch.randn(*shape))


def prithvi(case: dict[str, Any]) -> dict[str, Tensor]:
    """State, inputs and layers of every window of a configuration."""
    sizes, found = case["sizes"], {}
    state: dict[str, Tensor] = {}
    for window, (frames, rows, columns) in case["windows"].items():
        model = PrithviMAE(
            img_size=sizes["size"],
            patch_size=sizes["patch"],
            num_frames=frames,
            in_chans=sizes["bands"],
            embed_dim=sizes["dim"],
            depth=sizes["depth"],
            num_heads=sizes["heads"],
            decoder_embed_dim=16,
            decoder_depth=1,
            decoder_num_heads=1,
            coords_encoding=["time", "location"] if case["location"] else [],
            coords_scale_learn=True,
        ).eval()
        if not state:
            randomise(model)
            state = {k: v for k, v in model.state_dict().items() if not k.endswith("pos_embed")}
        model.load_state_dict(state, strict=False)
        inputs = {"x": images(1 + case["location"], sizes["bands"], frames, rows, columns)}
        if case["location"]:
            days = torch.tensor([[15.0, 166.0, 349.0], [40.0, 180.0, 366.0]])[:, :frames]
            years = torch.tensor([[1999.0], [2024.0]]).expand_as(days)
            inputs["time"] = torch.stack((years, days), dim=-1)
            inputs["place"] = torch.tensor([[-33.875, 151.25], [64.125, -21.5]])
        layers = model.forward_features(inputs["x"], inputs.get("time"), inputs.get("place"))
        found |= {f"input.{window}.{name}": x for name, x in inputs.items()}
        found |= {f"layer.{window}.{i}": x for i, x in enumerate(layers)}
    return packed(state) | found


def terramind(case: dict[str, Any]) -> dict[str, Tensor]:
    """State, inputs and layers of every window of a configuration."""
    sizes, found = case["sizes"], {}
    gated = sizes["gated"]
    model = TerraMindViT(
        img_size=sizes["size"],
        modalities=[*case["modalities"], case["new"]],
        merge_method=None,
        dim=sizes["dim"],
        encoder_depth=sizes["depth"],
        num_heads=sizes["heads"],
        qkv_bias=not gated,
        proj_bias=not gated,
        mlp_bias=not gated,
        norm_layer=partial(LayerNorm, eps=1e-6, bias=False),
        act_layer=nn.SiLU if gated else nn.GELU,
        gated_mlp=gated,
    ).eval()
    randomise(model)
    for window, shapes in case["windows"].items():
        inputs = {name: images(1, BANDS[name], *shape) for name, shape in shapes.items()}
        layers = model(dict(inputs))
        found |= {f"input.{window}.{name}": x for name, x in inputs.items()}
        found |= {f"layer.{window}.{i}": x for i, x in enumerate(layers)}
    state = {k: v for k, v in model.state_dict().items() if not k.endswith("pos_emb")}
    return packed(state) | found


def packed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"state.{name}": x for name, x in state.items()}


def stored(name: str, x: Tensor) -> Tensor:
    """As int8 steps what is one; layers, dates and places as they are."""
    if name.startswith("layer.") or name.endswith((".time", ".place")):
        return x.detach().contiguous()
    whole = (x.detach() * STEP).round()
    assert torch.equal(whole / STEP, x.detach()), name
    return whole.to(torch.int8).contiguous()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("tests/models/golden"))
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(6)
    torch.use_deterministic_algorithms(True)
    made = {name: prithvi(case) for name, case in PRITHVI.items()}
    made |= {name: terramind(case) for name, case in TERRAMIND.items()}
    for name, tensors in made.items():
        save_file({k: stored(k, v) for k, v in tensors.items()}, folder / f"{name}.safetensors")
    cases = {"step": STEP, "prithvi": PRITHVI, "terramind": TERRAMIND}
    (folder / "cases.json").write_text(json.dumps(cases, indent=1) + "\n")


if __name__ == "__main__":
    main()
