"""Fits of every backbone under every adaptation, and what they leave."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from safetensors.torch import load

import xlsbc
from xlsbc.deliver import peft
from xlsbc.emulator import Emulator, Split
from xlsbc.emulator.cost import cost
from xlsbc.errors import EmulatorError, TrainingError
from xlsbc.models.adapters import METHODS
from xlsbc.models.backbones import BACKBONES
from xlsbc.models.prithvi import Prithvi
from xlsbc.models.terramind import TerraMind
from xlsbc.training.checkpoints import Folder
from xlsbc.training.config import Training
from xlsbc.training.module import Fitting, drawn
from xlsbc.training.prepare import Prepared, crop_size, prepare

pytestmark = pytest.mark.filterwarnings("ignore:the buffer around held-out pixels")

SMALLEST = {"unet": "", "vit": "tiny", "prithvi": "2.0-tiny-TL", "terramind": "tiny"}
CASES = [
    (name, method)
    for name, kind in BACKBONES.items()
    for method in (METHODS if kind.pretrained else METHODS[:1])
]
QUICK = {
    "split": Split(size=12, buffer=2),
    "batch_size": 2,
    "crop": 32,
    "climate": 4,
    "hidden": 8,
    "progress": False,
    "precision": "32",
}


@pytest.fixture(scope="module")
def official(tmp_path_factory) -> dict[str, str]:
    """Files of random weights in the layout of the official ones, by backbone."""
    folder = tmp_path_factory.mktemp("weights")
    places = {}
    for name, encoder in (
        ("terramind", TerraMind.of("tiny")),
        ("prithvi", Prithvi.of("2.0-tiny-TL")),
    ):
        places[name] = str(folder / f"{name}.pt")
        prefix = "encoder." if name == "prithvi" else ""
        torch.save({prefix + k: v for k, v in encoder.state_dict().items()}, places[name])
    return places


@pytest.fixture(scope="module")
def adapted(world, official, tmp_path_factory) -> str:
    """Where a short training with LoRA left its artefact and checkpoints."""
    out = str(tmp_path_factory.mktemp("lora") / "out")
    fit(world, official, "terramind", "lora", out=out, steps=4, checkpoint_every=2)
    return out


def settings(official: dict[str, str], name: str, method: str, **changes: Any) -> dict[str, Any]:
    weights = {} if method == "scratch" else {"weights": official[name]}
    return {
        "backbone": name,
        "variant": SMALLEST[name],
        "adaptation": method,
        **weights,
        **QUICK,
        **changes,
    }


def fit(
    world: xr.Dataset, official: dict[str, str], name: str, method: str, **changes: Any
) -> Emulator:
    return xlsbc.fit(world, **settings(official, name, method, **changes))


def prepared(
    world: xr.Dataset, official: dict[str, str], name: str, method: str, **changes: Any
) -> Prepared:
    options = settings(official, name, method, **changes)
    options.pop("progress")
    return prepare(world, Training.of(options))


@pytest.mark.parametrize(("name", "method"), CASES)
def test_a_few_steps_lower_the_loss(world, official, name, method):
    task = prepared(world, official, name, method, steps=12, learning_rate=3e-3)
    torch.manual_seed(0)
    fitting = Fitting(task, task.steps)
    optimiser = fitting.configure_optimizers()
    batch = next(task.batches().batches())
    losses = []
    for _ in range(8):
        torch.manual_seed(1)
        loss, _ = fitting.loss(batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


def test_an_artefact_of_adapters_holds_little_and_names_its_base(adapted, official):
    document = json.loads(Path(adapted, "emulator.json").read_text())
    assert document["base"]["file"] == "terramind.pt"
    assert len(document["base"]["sha256"]) == 64
    names = load(Path(adapted, "weights.safetensors").read_bytes()).keys()
    encoder = {n for n in names if n.startswith("backbone.encoder.")}
    assert encoder
    assert all(n.endswith(("lora_a", "lora_b")) for n in encoder)
    assert Path(adapted, "weights.safetensors").stat().st_size < 5e6
    assert Path(official["terramind"]).stat().st_size > 2e7
    assert official["terramind"] not in Path(adapted, "emulator.json").read_text()


def test_what_is_opened_predicts_as_what_was_fitted(world, official, tmp_path):
    made = fit(world, official, "terramind", "lora", steps=2)
    made.save(str(tmp_path / "out"))
    opened = Emulator.open(str(tmp_path / "out"))
    assert opened.hash == made.hash
    one, other = (
        world.lsbc.predict(e, targets=["lai"], period=[2000]).compute() for e in (made, opened)
    )
    assert np.isfinite(one["lai"]).any()
    xr.testing.assert_identical(one["lai"], other["lai"])


def test_weights_of_the_base_are_those_of_the_file(adapted, official):
    emulator = Emulator.open(adapted)
    state = emulator.network.backbone.encoder.state_dict()
    for name, value in torch.load(official["terramind"], weights_only=True).items():
        assert torch.equal(state[name], value)


def test_without_its_base_an_artefact_tells_what_is_missing(adapted, official, tmp_path):
    moved = shutil.copytree(adapted, tmp_path / "out")
    document = Path(moved, "emulator.json")
    sha = json.loads(document.read_text())["base"]["sha256"]
    document.write_text(document.read_text().replace(sha, "0" * 64))
    with pytest.raises(EmulatorError, match="terramind.pt with sha256 0000"):
        Emulator.open(str(moved))
    with pytest.raises(EmulatorError, match="sha256"):
        Emulator.open(str(moved), official["terramind"])


def test_beside_the_artefact_the_base_is_found(adapted, official, tmp_path, monkeypatch):
    from xlsbc.emulator import pretrained

    monkeypatch.setattr(pretrained, "_seen", {})
    moved = shutil.copytree(adapted, tmp_path / "out")
    with pytest.raises(EmulatorError, match="pass weights="):
        Emulator.open(str(moved))
    shutil.copy(official["terramind"], moved)
    assert Emulator.open(str(moved)).hash == Emulator.open(str(moved), official["terramind"]).hash


def test_fully_trained_weights_are_all_in_the_artefact(world, official, tmp_path):
    out = str(tmp_path / "out")
    made = fit(world, official, "terramind", "full", steps=1, out=out)
    assert made.base is None
    assert made.spec.base is not None
    names = load(Path(out, "weights.safetensors").read_bytes()).keys()
    assert "backbone.encoder.encoder.0.attn.qkv.weight" in names
    assert "full from terramind.pt" in made.headline


def test_an_encoder_that_was_never_trained_is_called_so(world, official, tmp_path):
    out = str(tmp_path / "out")
    made = fit(world, official, "terramind", "frozen", steps=1, out=out, weights="random")
    assert "randomly initialised" in made.headline
    assert "randomly initialised" in Path(out, "README.md").read_text()
    assert Emulator.open(out).hash == made.hash  # all of it is there: it has no base


def test_checkpoints_leave_out_what_stays_as_it_was_read(adapted):
    folder = Folder(f"{adapted}/checkpoints")
    _, checkpoint = folder.newest()
    names = checkpoint["state_dict"].keys()
    assert "network.backbone.encoder.encoder.0.attn.qkv.lora_a" in names
    assert not any(n.endswith("encoder.0.attn.qkv.weight") for n in names)


def test_a_training_that_goes_on_ends_as_one_that_was_not_interrupted(
    world, official, adapted, tmp_path
):
    out = shutil.copytree(adapted, tmp_path / "out")
    for name in ("emulator.json", "weights.safetensors", "checkpoints/step-00000004.ckpt"):
        Path(out, name).unlink()
    again = fit(world, official, "terramind", "lora", out=str(out), steps=4, checkpoint_every=2)
    assert again.hash == Emulator.open(adapted).hash


def test_a_training_goes_on_where_its_base_was_moved_to_and_with_less_memory(
    world, official, adapted, tmp_path
):
    shutil.copytree(f"{adapted}/checkpoints", tmp_path / "checkpoints")
    (tmp_path / "checkpoints" / "step-00000004.ckpt").unlink()
    moved = str(shutil.copy(official["terramind"], tmp_path))
    changes = {"out": str(tmp_path), "steps": 4, "weights": moved, "checkpointing": True}
    again = fit(world, official, "terramind", "lora", **changes)
    assert again.hash == Emulator.open(adapted).hash


def test_another_base_is_another_training(world, official, adapted, tmp_path):
    other = str(tmp_path / "terramind.pt")
    torch.save(TerraMind.of("tiny").state_dict(), other)
    with pytest.raises(TrainingError, match="emulator.base"):
        fit(world, official | {"terramind": other}, "terramind", "lora", out=adapted, steps=4)


def test_layers_of_a_pretrained_encoder_learn_slower_the_deeper_they_lie(world, official):
    task = prepared(world, official, "terramind", "full", layer_decay=0.5, learning_rate=0.1)
    fitting = Fitting(task, 10)
    factors = fitting.factors()
    prefix = "backbone.encoder."
    assert factors[prefix + "encoder.11.mlp.fc1.weight"] == 0.5
    assert factors[prefix + "encoder.0.mlp.fc1.weight"] == 0.5**12
    assert factors[prefix + "encoder_norm.weight"] == 1
    assert factors["land.pairs.weight"] == factors["backbone.decoder.neck.0.proj.weight"] == 1
    groups = fitting.configure_optimizers().param_groups
    assert sum(len(group["params"]) for group in groups) == len(factors)
    assert {group["factor"] for group in groups} == set(factors.values())


@pytest.mark.parametrize("moved", [False, True])
def test_frozen_weights_take_no_memory_twice(world, official, moved):
    fitting = Fitting(prepared(world, official, "terramind", "lora"), 10)
    if moved:  # as to a GPU: every parameter for itself
        fitting.double().on_train_start()
    pairs = fitting.average.pairs(fitting.network)
    shared = [a.data_ptr() == b.data_ptr() for a, b in pairs if isinstance(b, torch.nn.Parameter)]
    trains = [b.requires_grad for _, b in pairs if isinstance(b, torch.nn.Parameter)]
    assert shared == [not t for t in trains]


def test_blocks_that_are_computed_again_have_the_same_gradients(world, official):
    found = []
    for checkpointing in (False, True):
        task = prepared(world, official, "prithvi", "full", checkpointing=checkpointing)
        torch.manual_seed(0)
        fitting = Fitting(task, 10)
        torch.manual_seed(drawn(0, 0, 0))
        loss, _ = fitting.loss(next(task.batches().batches()))
        loss.backward()
        found.append([p.grad for p in fitting.network.parameters() if p.grad is not None])
    assert len(found[0]) == len(found[1])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_seasons_enter_prithvi_as_frames(world, official):
    made = fit(world, official, "prithvi", "lora", steps=1, frames=4)
    prediction = world.lsbc.predict(made, targets=["lai"], period=[2000])["lai"].compute()
    assert np.isfinite(prediction).any()


def test_lora_is_exported_as_peft_keeps_it(adapted, tmp_path):
    emulator = Emulator.open(adapted)
    peft.export(emulator, str(tmp_path / "peft"))
    config = json.loads((tmp_path / "peft" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (8, 16)
    tensors = load((tmp_path / "peft" / "adapter_model.safetensors").read_bytes())
    layer = emulator.network.backbone.encoder.encoder[3].attn.qkv
    assert torch.equal(
        tensors["base_model.model.encoder.3.attn.qkv.lora_B.weight"], layer.lora_b.detach()
    )


def test_only_lora_is_exported_to_peft(world, untrained, tmp_path):
    with pytest.raises(EmulatorError, match="'lora'; found 'scratch'"):
        peft.export(untrained(world), str(tmp_path / "peft"))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"backbone": "prithvi", "variant": "3.0"},
            "no variant '3.0'; known: 1.0-100M",
        ),
        ({"backbone": "vit", "adaptation": "lora", "weights": "a.pt"}, "vit has no pretrained"),
        ({"backbone": "terramind", "adaptation": "lora"}, "'lora' begins with pretrained weights"),
        ({"backbone": "terramind", "weights": "a.pt"}, "weights are for adaptation"),
        ({"backbone": "terramind", "frames": 2}, "only prithvi sees seasons"),
        ({"backbone": "prithvi", "patch": 8}, "only vit's patches can be chosen; found patch 8"),
        ({"backbone": "vit", "width": (8, 8)}, "has 4 widths; found 2"),
        ({"layer_decay": 0.9}, "layer_decay is for adaptation 'full'"),
        ({"checkpointing": True}, "checkpointing is for transformers"),
        ({"backbone": "resnet"}, "backbone: the value should be 'unet', 'vit'"),
        ({"adaptation": "lora", "weights": "a.pt"}, "unet has no pretrained weights"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes, problem):
    with pytest.raises(TrainingError, match=problem):
        Training.of(changes)


def test_settings_of_the_backbone_are_kept_when_others_change():
    first = Training.of({"backbone": "vit", "variant": "tiny", "patch": 8, "climate": 4})
    assert first.architecture.width == (32, 48, 64)
    assert first.changed(steps=3).architecture == first.architecture
    again = first.changed(variant="base").architecture
    assert (again.variant, again.patch, again.climate) == ("base", 8, 4)
    finer = first.changed(patch=4).architecture
    assert (finer.variant, finer.width) == ("tiny", (32, 48))
    other = first.changed(backbone="unet").architecture
    assert (other.variant, other.width, other.climate) == ("", (32, 64, 128), 4)


def test_a_training_of_a_backbone_is_the_same_as_yaml(tmp_path):
    config = Training.of(
        {
            "backbone": "prithvi",
            "adaptation": {"method": "lora", "targets": ("qkv",)},
            "weights": "a",
        }
    )
    config.write(tmp_path / "config.yaml")
    assert Training.read(tmp_path / "config.yaml") == config


def test_a_crop_is_whole_patches_and_covers_a_small_grid(world):
    sizes = Training.of({"backbone": "prithvi", "variant": "2.0-600M"}).architecture
    assert crop_size(world, sizes, None) == 56  # of 37 x 53 pixels
    assert crop_size(world, sizes, 42) == 42
    wide = xr.Dataset(coords={"latitude": np.arange(13), "longitude": np.arange(400)})
    assert crop_size(wide, sizes, None) == 98
    with pytest.raises(TrainingError, match="whole patches of prithvi 2.0-600M, 14 pixels"):
        crop_size(world, sizes, 32)
    with pytest.raises(TrainingError, match="no larger than the grid of 37 x 53 pixels"):
        crop_size(world, sizes, 70)


def test_a_grid_narrower_than_a_patch_trains_and_is_predicted(world, official):
    narrow = world.isel(latitude=slice(0, 13))
    options = {"split": Split(size=4, buffer=0), "crop": None}
    made = fit(narrow, official, "terramind", "scratch", steps=1, **options)
    assert made.spec.lattice.window == 64
    lai = narrow.lsbc.predict(made, targets=["lai"], period=[2000])["lai"].compute()
    assert np.isfinite(lai).any()


def test_targets_that_the_encoder_lacks_are_refused(world, official):
    gated = {"method": "lora", "targets": ("fc3",)}
    with pytest.raises(EmulatorError, match="'fc3' is in no block"):
        fit(world, official, "terramind", "lora", adaptation=gated)


def test_the_summary_tells_what_trains_and_what_it_costs(adapted):
    emulator = Emulator.open(adapted)
    lines = dict(line.split(None, 1) for line in emulator.summary().splitlines()[1:])
    own = sum(p.numel() for p in emulator.network.parameters() if p.requires_grad)
    assert lines["trained"].startswith(f"{own:,} (")
    assert lines["weights"].endswith("MB, and terramind.pt")
    assert "FLOPs a pixel and year" in lines["arithmetic"]


def test_what_a_network_costs_is_counted_without_a_copy_of_its_weights(adapted, monkeypatch):
    emulator = Emulator.open(adapted)

    def copied(self, memo):
        raise AssertionError("weights were copied")

    monkeypatch.setattr(torch.nn.Parameter, "__deepcopy__", copied)
    found = cost(emulator.spec, emulator.network)
    assert found.parameters == sum(p.numel() for p in emulator.network.parameters())
    assert found.trained == sum(p.numel() for p in emulator.network.parameters() if p.requires_grad)
    assert next(emulator.network.parameters()).device.type == "cpu"
