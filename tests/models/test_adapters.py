from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xlsbc.errors import EmulatorError
from xlsbc.models.adapters import (
    METHODS,
    TARGETS,
    Bottleneck,
    LoRA,
    adapt,
    is_base_key,
    layer_decay,
    merge,
    own_keys,
    peft_files,
)
from xlsbc.models.transformer import Block, GatedMlp, Mlp, layerwise

DIM, DEPTH = 12, 3
ROUNDING = 1e-5  # relative; of a dozen float32 layers one after the other


class Encoder(nn.Module):
    """Pixels of 5 channels to tokens; what its parts are called is nobody's business."""

    def __init__(self, *, gated: bool = False) -> None:
        super().__init__()
        self.last = nn.LayerNorm(DIM)  # before the blocks, where it is not expected
        self.start = nn.Parameter(torch.randn(1, 1, DIM))
        self.proj = nn.Linear(5, DIM)
        mlp = GatedMlp if gated else Mlp
        self.encoder = nn.ModuleList(
            Block(DIM, 4, mlp(DIM, 20, bias=not gated), bias=not gated) for _ in range(DEPTH)
        )
        self.dim, self.depth = DIM, DEPTH

    @property
    def layers(self) -> nn.ModuleList:
        return self.encoder

    def forward(self, x: Tensor, *, checkpointing: bool = False) -> Tensor:
        x = self.proj(x) + self.start
        return self.last(layerwise(self.layers, x, checkpointing=checkpointing)[-1])


def encoder(method: str | None = None, *, gated: bool = False, seed: int = 0, **options) -> Encoder:
    torch.manual_seed(seed)
    made = Encoder(gated=gated)
    if method:
        adapt(made, method, **options)
    return made


def tokens(seed: int = 1) -> Tensor:
    return torch.randn(2, 7, 5, generator=torch.Generator().manual_seed(seed))


def trained(model: Encoder, seed: int = 2) -> Encoder:
    """With adapters that are no longer what they start as."""
    random = torch.Generator().manual_seed(seed)
    for key, parameter in model.named_parameters():
        if not is_base_key(key):
            parameter.data = torch.randn(parameter.shape, generator=random) * 0.3
    return model


def close(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).abs().max() <= ROUNDING * b.abs().max())


def trains(model: nn.Module) -> set[str]:
    return {key for key, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_at_step_0_an_adapted_encoder_is_the_encoder(method, gated):
    base, adapted = encoder(gated=gated), encoder(method, gated=gated, bottleneck=5)
    assert torch.equal(adapted(tokens()), base(tokens()))


@pytest.mark.parametrize("method", METHODS)
def test_weights_of_the_encoder_keep_their_names_and_values(method):
    before, after = encoder().state_dict(), encoder(method).state_dict()
    kept = {key: value for key, value in after.items() if is_base_key(key)}
    assert kept.keys() == before.keys()
    assert all(torch.equal(kept[key], before[key]) for key in before)


@pytest.mark.parametrize("method", ["scratch", "full"])
def test_scratch_and_full_train_everything_even_what_was_frozen(method):
    model = encoder("frozen")
    assert not trains(model)
    adapt(model, method)
    assert trains(model) == dict(model.named_parameters()).keys()
    assert own_keys(model) == []


def test_lora_trains_its_own_two_factors_of_each_target_and_nothing_else():
    model = encoder("lora", rank=3)
    expected = {
        f"encoder.{i}.attn.{layer}.lora_{factor}"
        for i in range(DEPTH)
        for layer in ("qkv", "proj")
        for factor in "ab"
    }
    assert trains(model) == expected
    assert sorted(own_keys(model)) == sorted(expected)
    # qkv is 12 to 36, proj 12 to 12
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == DEPTH * 3 * (48 + 24)


def test_lora_stands_on_the_targets_alone_and_never_outside_blocks():
    model = encoder("lora", gated=True, rank=2, targets=["proj", "fc3"])
    found = {name for name, module in model.named_modules() if isinstance(module, LoRA)}
    assert found == {f"encoder.{i}.{name}" for i in range(3) for name in ("attn.proj", "mlp.fc3")}


def test_one_target_may_be_given_as_it_is():
    model = encoder("lora", rank=2, targets="qkv")
    assert len(own_keys(model)) == 2 * DEPTH


def test_adapters_train_themselves_and_nothing_else():
    model = encoder("adapter", bottleneck=5)
    parts = [f"{layer}.{kind}" for layer in ("down", "up") for kind in ("weight", "bias")]
    expected = [
        f"encoder.{i}.{place}.{part}"
        for i in range(DEPTH)
        for place in ("after_attn", "after_mlp")
        for part in parts
    ]
    assert trains(model) == set(expected)
    assert own_keys(model) == expected
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 6 * (2 * 60 + 5 + 12)


def test_lora_is_its_formula():
    linear = nn.Linear(2, 3)
    layer = LoRA(linear, rank=1, alpha=3.0)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
        layer.bias.copy_(torch.tensor([0.5, 0.0, -0.5]))
        layer.lora_a.copy_(torch.tensor([[1.0, 2.0]]))
        layer.lora_b.copy_(torch.tensor([[1.0], [0.0], [-1.0]]))
    # x = (4, 5): W x + b = (4.5, 5, 8.5); A x = 14, times 3 is 42, along B
    assert layer(torch.tensor([4.0, 5.0])).tolist() == [46.5, 5.0, -33.5]


def test_the_scale_is_alpha_over_rank():
    one, two = (LoRA(nn.Linear(8, 8), 4, alpha) for alpha in (6.0, 12.0))
    two.load_state_dict(one.state_dict())
    for layer in (one, two):
        nn.init.ones_(layer.lora_b)
    x = torch.randn(3, 8)
    base = F.linear(x, one.weight, one.bias)
    expected = 1.5 * F.linear(x, one.lora_a).sum(-1, keepdim=True)
    assert torch.allclose(one(x) - base, expected.expand(3, 8), atol=1e-5)
    assert torch.allclose(two(x) - base, 2 * expected.expand(3, 8), atol=1e-5)


def test_lora_starts_as_a_linear_layer_does_and_at_zero():
    torch.manual_seed(0)
    layer = LoRA(nn.Linear(100, 40), rank=40, alpha=1.0)
    # kaiming_uniform with a = sqrt(5) is uniform within 1 / sqrt(fan in)
    assert 0.099 < layer.lora_a.abs().max() <= 0.1
    assert abs(layer.lora_a.std().item() - 0.1 / math.sqrt(3)) < 1e-3
    assert not layer.lora_b.any()


def test_a_bottleneck_is_its_formula():
    layer = Bottleneck(3, 2)
    nn.init.normal_(layer.up.weight)
    nn.init.normal_(layer.up.bias)
    x = np.array([0.3, -2.0, 1.1])
    down, down_bias, up, up_bias = (t.detach().double().numpy() for t in layer.parameters())
    hidden = down @ x + down_bias
    hidden = hidden * [0.5 * (1 + math.erf(h / math.sqrt(2))) for h in hidden]
    expected = x + up @ hidden + up_bias
    assert np.allclose(layer(torch.tensor(x, dtype=torch.float32)).detach(), expected, atol=1e-6)


def test_adapters_stand_before_the_sum_with_what_attention_and_perceptron_got():
    block = trained(encoder("adapter", bottleneck=5)).layers[0]
    x = torch.randn(2, 7, DIM)
    y = x + block.after_attn(block.attn(block.norm1(x)))
    assert torch.equal(block(x), y + block.after_mlp(block.mlp(block.norm2(y))))


def test_gradients_of_lora_start_with_b_alone():
    model = encoder("lora", rank=3, targets=("qkv", "proj", "fc1", "fc2"))
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    for step in range(2):
        optimiser.zero_grad()
        model(tokens()).pow(3).sum().backward()
        for key, parameter in model.named_parameters():
            if is_base_key(key):
                assert parameter.grad is None, key
            else:
                assert parameter.grad.any() == (step > 0 or key.endswith("lora_b")), key
        optimiser.step()


def test_gradients_of_adapters_start_with_the_upper_layer_alone():
    model = encoder("adapter", bottleneck=5)
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for step in range(2):
        optimiser.zero_grad()
        model(tokens()).pow(3).sum().backward()
        for key, parameter in model.named_parameters():
            if is_base_key(key):
                assert parameter.grad is None, key
            else:
                assert parameter.grad.any() == (step > 0 or ".up." in key), key
        optimiser.step()


@pytest.mark.parametrize("method", ["lora", "adapter"])
def test_checkpointing_changes_no_gradient(method):
    found = []
    for checkpointing in (False, True):
        model = trained(encoder(method, rank=3, bottleneck=5))
        model(tokens(), checkpointing=checkpointing).pow(3).sum().backward()
        found.append([p.grad for p in model.parameters() if p.requires_grad])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_no_product_of_the_factors_is_kept_for_the_gradient():
    layer = LoRA(nn.Linear(64, 48).requires_grad_(False), rank=2, alpha=1.0)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        layer(torch.randn(3, 64, requires_grad=True))
    large = [t for t in kept if t.numel() == 64 * 48]
    assert len(large) == 1
    assert large[0].data_ptr() == layer.weight.data_ptr()


@pytest.mark.parametrize("gated", [False, True])
def test_merged_is_the_same_function_in_plain_layers(gated):
    targets = TARGETS if gated else TARGETS[:-1]
    model = trained(encoder("lora", gated=gated, rank=3, alpha=5.0, targets=targets))
    expected = model(tokens())
    assert not close(encoder(gated=gated)(tokens()), expected)  # else it shows nothing
    merge(model)
    assert close(model(tokens()), expected)
    assert not any(isinstance(m, LoRA) for m in model.modules())
    assert model.state_dict().keys() == encoder(gated=gated).state_dict().keys()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_merged_weight_is_rounded_once(dtype):
    torch.manual_seed(0)
    linear = nn.Linear(37, 23, dtype=dtype)
    layer = LoRA(linear, rank=5, alpha=7.0)
    nn.init.normal_(layer.lora_b)
    before = linear.weight.clone()
    a, b, w = (t.detach().double().numpy() for t in (layer.lora_a, layer.lora_b, before))
    exact = torch.from_numpy(w + 7 / 5 * (b @ a))
    found = layer.merged()
    assert type(found) is nn.Linear
    assert found.weight.dtype == dtype
    assert torch.allclose(found.weight.double(), exact.to(dtype).double(), rtol=1e-15, atol=1e-15)
    assert torch.equal(found.bias, linear.bias)
    assert torch.equal(linear.weight, before)


def test_a_merged_encoder_of_bfloat16_is_as_good_as_bfloat16_is():
    model = encoder("lora", rank=3, alpha=5.0, targets=TARGETS[:-1]).bfloat16()
    trained(model).bfloat16()
    x = tokens().bfloat16()
    expected = copy.deepcopy(model).double()(x.double())
    apart = (model(x) - expected).abs().max()
    merge(model)
    assert (model(x) - expected).abs().max() < 2 * apart


def test_merging_again_and_merging_nothing_are_harmless():
    model = trained(encoder("lora", rank=3))
    merge(model)
    before = copy.deepcopy(model.state_dict())
    merge(model)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    plain = encoder("adapter")
    expected = plain(tokens())
    merge(plain)
    assert torch.equal(plain(tokens()), expected)


def test_a_merged_encoder_can_be_adapted_again_and_is_frozen_until_then():
    model = trained(encoder("lora", rank=3))
    merge(model)
    assert not trains(model)
    adapt(model, "lora", rank=2)
    assert len(own_keys(model)) == 4 * DEPTH


@pytest.mark.parametrize("method", ["lora", "adapter"])
def test_a_copy_and_a_state_dict_hold_all_of_it(method):
    model = trained(encoder(method, rank=3, bottleneck=5))
    expected = model(tokens())
    assert torch.equal(copy.deepcopy(model)(tokens()), expected)
    other = encoder(method, rank=3, bottleneck=5, seed=9)
    other.load_state_dict(model.state_dict(), strict=True)
    assert torch.equal(other(tokens()), expected)


def test_own_keys_and_the_base_are_enough_to_make_it_again():
    model = trained(encoder("lora", rank=3))
    state = model.state_dict()
    other = encoder("lora", rank=3)
    other.load_state_dict({key: state[key] for key in own_keys(model)}, strict=False)
    assert torch.equal(other(tokens()), model(tokens()))


@pytest.mark.parametrize("method", ["lora", "adapter"])
def test_an_adapted_block_can_be_exported(method):
    block = trained(encoder(method, rank=3, bottleneck=5)).layers[1]
    x = torch.randn(2, 7, DIM)
    assert close(torch.export.export(block, (x,)).module()(x), block(x))


@pytest.mark.parametrize("method", ["lora", "adapter"])
def test_mixed_precision_gives_float32_gradients_of_adapters(method):
    model = trained(encoder(method, rank=3, bottleneck=5))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model.layers[0].attn.qkv(torch.randn(2, 7, DIM))
        model(tokens()).float().pow(3).sum().backward()
    assert found.dtype == torch.bfloat16
    gradients = [p.grad for p in model.parameters() if p.requires_grad]
    assert all(g.dtype == torch.float32 and g.isfinite().all() and g.any() for g in gradients)


def test_adapters_take_the_precision_and_the_device_of_their_encoder():
    for method in ("lora", "adapter"):
        model = Encoder().to("meta", torch.bfloat16)
        adapt(model, method)
        assert {(p.device.type, p.dtype) for p in model.parameters()} == {("meta", torch.bfloat16)}


def test_all_problems_are_told_at_once_and_nothing_is_changed():
    model = encoder()
    with pytest.raises(EmulatorError, match="cannot be adapted") as caught:
        adapt(model, "lora", rank=13, alpha=math.nan, targets=("qkv", "value", "fc3"))
    rank, value, absent = (
        "rank 13 is more than 'qkv' can have, 12: lower it",
        "targets should be some of qkv, proj, fc1, fc2, fc3; 'value' is not known",
        "target 'fc3' is in no block of this encoder, which has qkv, proj, fc1, fc2",
    )
    assert caught.value.problems[1:] == (rank, value, absent)
    assert "alpha" in caught.value.problems[0]
    assert trains(model) == dict(model.named_parameters()).keys()
    assert own_keys(model) == []


@pytest.mark.parametrize(
    ("method", "options", "words"),
    [
        ("Lora", {}, "one of scratch, full, lora, adapter, frozen, and is 'Lora'"),
        ("lora", {"rank": 0}, "at least 1, and is 0"),
        ("lora", {"rank": 2.0}, "integer of at least 1, and is 2.0"),
        ("lora", {"alpha": 0}, "above 0, and is 0"),
        ("lora", {"alpha": math.inf}, "finite number above 0, and is inf"),
        ("lora", {"targets": ()}, "no targets given"),
        ("adapter", {"bottleneck": -1}, "at least 1, and is -1"),
    ],
)
def test_what_cannot_be_is_refused(method, options, words):
    with pytest.raises(EmulatorError, match=words):
        adapt(encoder(), method, **options)


def test_the_largest_rank_is_the_smaller_side_of_a_layer():
    adapt(encoder(), "lora", rank=DIM, targets=TARGETS[:-1])


def test_an_unknown_method_does_not_hide_other_problems():
    with pytest.raises(EmulatorError) as caught:
        adapt(encoder(), "dora", rank=0, bottleneck=0)
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize("method", ["scratch", "full", "frozen"])
def test_numbers_that_a_method_does_not_use_do_not_matter(method):
    adapt(encoder(), method, rank=99, bottleneck=0, targets=("fc3",))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("first", ["lora", "adapter"])
def test_an_encoder_is_adapted_once(first, method):
    with pytest.raises(EmulatorError, match="weights of adapters .*: merge LoRA first"):
        adapt(encoder(first), method)


@pytest.mark.parametrize("method", ["full", "lora", "adapter"])
def test_learning_rates_decay_towards_the_input(method):
    model = encoder(method)
    factors = layer_decay(model, 0.5)
    assert factors.keys() == dict(model.named_parameters()).keys()
    # of 3 blocks: 1 + 3 + 1 groups, as in the official code of BEiT and of MAE
    expected = {"start": 1 / 16, "proj": 1 / 16, "last": 1.0, "0": 1 / 8, "1": 1 / 4, "2": 1 / 2}
    for name, factor in factors.items():
        assert factor == expected[name.removeprefix("encoder.").split(".")[0]], name


def test_without_decay_all_layers_learn_alike():
    assert set(layer_decay(encoder(), 1.0).values()) == {1.0}


@pytest.mark.parametrize("decay", [0.0, -0.5, 1.01, math.nan])
def test_a_decay_outside_its_range_is_refused(decay):
    with pytest.raises(EmulatorError, match="above 0 and at most 1"):
        layer_decay(encoder(), decay)


def test_files_for_peft_hold_copies_under_its_names():
    model = trained(encoder("lora", rank=3, alpha=5.0, targets=("qkv",)))
    tensors, config = peft_files(model)
    names = [f"encoder.{i}.attn.qkv" for i in range(DEPTH)]
    prefix = "base_model.model."
    expected = {f"{prefix}{name}.lora_{f}.weight" for name in names for f in "AB"}
    assert tensors.keys() == expected
    assert tensors[f"{prefix}encoder.2.attn.qkv.lora_A.weight"].shape == (3, DIM)
    assert tensors[f"{prefix}encoder.2.attn.qkv.lora_B.weight"].shape == (3 * DIM, 3)
    assert (config["r"], config["lora_alpha"], config["target_modules"]) == (3, 5.0, names)
    before = {key: value.clone() for key, value in tensors.items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert all(torch.equal(tensors[key], before[key]) for key in before)


def test_files_for_peft_need_lora_of_one_kind():
    with pytest.raises(EmulatorError, match="found none: adapt with lora"):
        peft_files(encoder("adapter"))
    model = encoder("lora", rank=3)
    model.layers[0].attn.qkv = LoRA(nn.Linear(DIM, 3 * DIM), 2, 1.0)
    with pytest.raises(EmulatorError, match=r"one rank and alpha; found \[\(2, 1.0\), \(3, 16"):
        peft_files(model)
