"""LoRA beside Hugging Face's peft, where that is installed."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from xlsbc.models.adapters import LoRA, adapt, merge, peft_files
from xlsbc.models.transformer import Block, GatedMlp, layerwise

peft = pytest.importorskip("peft")
save_file = pytest.importorskip("safetensors.torch").save_file

TARGETS = ("qkv", "proj", "fc1", "fc3")


class Encoder(nn.Module):
    """With a convolution called ``proj``, as the official patch embeddings have it."""

    def __init__(self, dim: int = 12, depth: int = 11) -> None:
        super().__init__()
        self.proj = nn.Conv2d(5, dim, (2, 3), stride=(2, 3))
        self.layers = nn.ModuleList(Block(dim, 4, GatedMlp(dim, 20)) for _ in range(depth))
        self.dim, self.depth = dim, depth

    def forward(self, x: Tensor) -> Tensor:
        return layerwise(self.layers, self.proj(x).flatten(2).mT)[-1]


@pytest.fixture
def base() -> Encoder:
    torch.manual_seed(0)
    return Encoder().eval()


@pytest.fixture
def ours(base: Encoder) -> Encoder:
    """With corrections as large as the weights that they correct."""
    model = copy.deepcopy(base)
    adapt(model, "lora", rank=3, alpha=5.0, targets=TARGETS)
    for layer in model.modules():
        if isinstance(layer, LoRA):
            nn.init.normal_(layer.lora_b, std=0.3)
    return model


@pytest.fixture
def theirs(base: Encoder, ours: Encoder, tmp_path: Path) -> nn.Module:
    """The base with our files, read by peft."""
    tensors, config = peft_files(ours)
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    return peft.PeftModel.from_pretrained(copy.deepcopy(base), tmp_path).eval()


def image() -> Tensor:
    return torch.randn(2, 5, 6, 15, generator=torch.Generator().manual_seed(1))


def test_peft_computes_the_same_from_our_files(base, ours, theirs):
    expected = theirs(image())
    assert torch.allclose(ours(image()), expected, rtol=1e-5, atol=1e-6 * expected.abs().max())
    assert not torch.allclose(base(image()), expected, rtol=0.1)


def test_peft_has_no_more_and_no_fewer_weights_of_lora(ours, theirs):
    found = peft.get_peft_model_state_dict(theirs)
    expected = peft_files(ours)[0]
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_merged_weights_are_those_of_peft(ours, theirs):
    merge(ours)
    found, expected = ours.state_dict(), theirs.merge_and_unload().state_dict()
    assert found.keys() == expected.keys()
    for key in expected:
        assert torch.allclose(found[key], expected[key], rtol=1e-6, atol=1e-6), key


def test_gradients_are_those_of_peft(ours, theirs):
    for name, parameter in theirs.named_parameters():
        parameter.requires_grad_("lora_" in name)
    for model in (ours, theirs):
        model(image()).pow(3).mean().backward()
    found = dict(ours.named_parameters())
    compared = 0
    for name, parameter in theirs.named_parameters():
        if parameter.grad is not None:
            name = name.removeprefix("base_model.model.").replace(".default.weight", "")
            assert torch.allclose(found[name.lower()].grad, parameter.grad, rtol=1e-3, atol=1e-5), (
                name
            )
            compared += 1
    assert compared == 2 * len(TARGETS) * ours.depth


def test_lora_starts_from_the_distribution_that_peft_starts_from():
    torch.manual_seed(0)
    config = peft.LoraConfig(r=32, lora_alpha=8, target_modules=["0"])
    theirs = peft.get_peft_model(nn.Sequential(nn.Linear(300, 32)), config).base_model.model[0]
    ours = LoRA(nn.Linear(300, 32), rank=32, alpha=8.0)
    found, expected = ours.lora_a.detach(), theirs.lora_A["default"].weight.detach()
    assert found.abs().max().item() == pytest.approx(expected.abs().max().item(), rel=1e-3)
    assert found.std().item() == pytest.approx(expected.std().item(), rel=0.02)
    assert torch.equal(ours.lora_b, theirs.lora_B["default"].weight)
