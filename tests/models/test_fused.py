from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from xlsbc.cube.legends import LC, LU, compatible
from xlsbc.models import fused
from xlsbc.models.adapters import adapt
from xlsbc.models.backbones import BACKBONES, DECODER, Channels, Sizes
from xlsbc.models.fused import Fused
from xlsbc.models.network import Inputs, Network
from xlsbc.models.unet import UNet

NAMES = ("lu_fraction", "lc_fraction", "cvh", "cvl", "lai", "lai_hv", "lai_lv")
STATURE = [c.vegetation for c in LC.classes]
BARREN = [i for i, c in enumerate(LC.classes) if c.lai_max == 0]
GIVEN = [(), ("lu",), ("lc",), ("lu", "lc")]
HISTORY, STEPS, STATE = 3, 4, 2


@pytest.fixture(autouse=True)
def _one_torch_thread() -> Iterator[None]:
    """As in prediction: the number of threads decides where loops end, and so the last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def network(seed: int = 0, **changes: object) -> Network:
    """A network of random weights, moments and so on, of features near 1."""
    torch.manual_seed(seed)
    options = {
        "static": 3,
        "forcing": 5,
        "compatible": torch.from_numpy(compatible(LU, LC)),
        "bounds": torch.tensor([c.lai_max for c in LC.classes]),
        "driver": True,
        "given": ("lu_fraction", "lc_fraction"),
        "state": STATE,
        "backbone": lambda channels, _: UNet(channels, (6, 8, 10), 0.1),
        "climate": 4,
        "history": HISTORY,
        "hidden": 7,
    }
    net = Network(**{**options, **changes})
    for module in net.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.5)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.running_mean, std=0.2)
    return net.eval()


def inputs(*given: str, size: tuple[int, int] = (20, 28), batch: int = 2) -> Inputs:
    """Windows of random numbers, each with coarse cells of its own in its own places."""
    torch.manual_seed(5)
    height, width = size
    classes = {"lu": 13, "lc": 14}
    return Inputs(
        static=torch.randn(batch, 3, height, width),
        forcing=torch.randn(batch, HISTORY - 1 + STEPS, 5, 3, 4),
        pooling=torch.eye(HISTORY - 1 + STEPS).expand(batch, -1, -1),
        row=torch.rand(batch, height).sort().values * 2,
        column=torch.rand(batch, width) * 3,
        driver=torch.rand(batch, 13, 2, 3).softmax(1),
        driver_row=torch.rand(batch, height),
        driver_column=torch.rand(batch, width) * 2,
        state=torch.rand(batch, STATE, height, width),
        **{name: torch.randn(batch, classes[name], height, width).softmax(1) for name in given},
    )


def changed(window: Inputs, change) -> Inputs:
    values = {field.name: getattr(window, field.name) for field in dataclasses.fields(window)}
    return Inputs(**{k: change(v) for k, v in values.items() if v is not None})


def expected(net: Network, window: Inputs, rim: int = 0) -> dict[str, Tensor]:
    """What the network itself gives, and the means over vegetation of each stature."""
    with torch.inference_mode():
        found = net(window, rim)
    fields = {"lu_fraction": found.lu, "lc_fraction": found.lc, "lai": found.lai}
    for stature, cover, area in (("high", "cvh", "lai_hv"), ("low", "cvl", "lai_lv")):
        here = [i for i, c in enumerate(net.leaf.leafy) if STATURE[c] == stature]
        shares = found.lc[:, [net.leaf.leafy[i] for i in here]]
        fields[cover] = shares.sum(1)
        fields[area] = (shares[:, None] * found.leaves[:, :, here]).sum(2) / fields[cover][:, None]
    return fields


def close(found: dict[str, Tensor], wanted: dict[str, Tensor], tolerance: float = 1e-5) -> None:
    for name, field in wanted.items():
        torch.testing.assert_close(found[name], field, atol=tolerance, rtol=0, msg=name)


@pytest.mark.parametrize("given", GIVEN)
@pytest.mark.parametrize(("size", "batch", "rim"), [((20, 28), 2, 5), ((4, 36), 1, 0)])
def test_in_single_precision_it_is_the_network(given, size, batch, rim):
    net, window = network(), inputs(*given, size=size, batch=batch)
    found = Fused(net, STATURE)(window, NAMES, rim)
    assert all(field.dtype == torch.float32 and field.is_contiguous() for field in found.values())
    close(found, expected(net, window, rim))


@pytest.mark.parametrize("given", GIVEN)
def test_heads_that_are_not_coupled_know_nothing_of_what_is_given(given):
    net, window = network(coupled=False), inputs(*given)
    wanted = expected(net, window)
    close(Fused(net, STATURE)(window, NAMES), wanted)
    for name in given:  # it is among the inputs of the backbone, and only there
        assert not torch.allclose(wanted[f"{name}_fraction"], getattr(window, name), atol=0.01)
        before = wanted["lai"]
        without = expected(net, dataclasses.replace(window, **{name: None}))["lai"]
        assert not torch.allclose(before, without, atol=1e-4)
    y = torch.tensor([[3, 11], [0, 19]])
    x = torch.tensor([[5, 2], [27, 0]])
    with torch.inference_mode():
        picked = net.at(window, y, x)
    batch = torch.arange(2)[:, None]
    torch.testing.assert_close(picked.lu, wanted["lu_fraction"][batch, :, y, x].transpose(1, 2))
    torch.testing.assert_close(picked.lai, wanted["lai"][batch, :, y, x].transpose(1, 2))


@pytest.mark.parametrize("given", [(), ("lu_fraction",), ("lc_fraction",)])
def test_a_network_that_can_be_given_less_is_the_network_too(given):
    net, window = network(given=given), inputs(*(name[:2] for name in given))
    close(Fused(net, STATURE)(window, NAMES), expected(net, window))


@pytest.mark.parametrize("given", GIVEN)
@pytest.mark.parametrize("strip", [1, 28 * 3, 28 * 19])
def test_strips_of_any_height_give_the_same_fields(given, strip, monkeypatch):
    net, window = network(), inputs(*given)
    monkeypatch.setitem(fused.STRIP, "cpu", strip)
    close(Fused(net, STATURE)(window, NAMES), expected(net, window))


@pytest.mark.parametrize("given", GIVEN)
@pytest.mark.parametrize("name", NAMES)
def test_a_field_has_the_same_bits_whatever_else_is_asked_for(given, name):
    model, window = Fused(network(), STATURE, torch.bfloat16), inputs(*given)
    alone = model(window, [name], rim=4)
    assert list(alone) == [name]
    assert torch.equal(alone[name], model(window, NAMES, rim=4)[name])


def test_a_window_has_the_same_bits_whatever_else_is_in_the_batch():
    model, batch = Fused(network(), STATURE, torch.bfloat16), inputs("lc", batch=3)
    together = model(batch, NAMES)
    for i in range(3):
        one = model(changed(batch, lambda v, i=i: v[i : i + 1]), NAMES)
        assert all(torch.equal(one[name][0], together[name][i]) for name in NAMES)


def test_bits_do_not_depend_on_the_thread_or_on_what_runs_beside_it():
    model, window = Fused(network(), STATURE, torch.bfloat16), inputs()
    first = model(window, NAMES)
    with ThreadPoolExecutor(4) as threads:
        for found in threads.map(lambda _: model(window, NAMES), range(12)):
            assert all(torch.equal(found[name], first[name]) for name in NAMES)


@pytest.mark.parametrize("offset", [1, 3, 8])
def test_bits_do_not_depend_on_where_inputs_lie_in_memory(offset):
    def moved(values: Tensor) -> Tensor:
        memory = torch.empty(values.numel() + offset)
        return memory[offset:].view(values.shape).copy_(values)

    model, window = Fused(network(), STATURE), inputs("lu")
    there, here = model(changed(window, moved), NAMES), model(window, NAMES)
    assert all(torch.equal(there[name], here[name]) for name in NAMES)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.05), (torch.float16, 0.01)])
def test_a_backbone_of_half_precision_comes_near_in_single_precision(dtype, tolerance):
    net, window = network(), inputs()
    found = Fused(net, STATURE, dtype)(window, NAMES)
    assert all(field.dtype == torch.float32 for field in found.values())
    # bfloat16 has 8 bits and float16 11; fractions are up to 1, leaf areas up to 8
    close(found, expected(net, window), tolerance)
    with pytest.raises(AssertionError):
        close(found, expected(net, window), 1e-6)


@pytest.mark.parametrize("given", GIVEN)
def test_generated_fractions_are_shares_of_one(given):
    found = Fused(network(), STATURE, torch.bfloat16)(inputs(*given), NAMES)
    for name in ("lu_fraction", "lc_fraction"):
        assert (found[name] >= 0).all()
        assert (found[name].double().sum(1) - 1).abs().max() < 3e-7  # some rounding of 6e-8 each


def test_no_mass_stands_in_pairs_that_cannot_be():
    one_each = torch.eye(13, 14, dtype=torch.bool)
    one_each[:, 13] = one_each[0, 13] = False
    one_each[12, 13] = True  # the last use has two covers
    found = Fused(network(compatible=one_each), STATURE)(inputs(), NAMES)
    use, cover = found["lu_fraction"], found["lc_fraction"]
    torch.testing.assert_close(use[:, :12], cover[:, :12], atol=2e-7, rtol=0)
    torch.testing.assert_close(use[:, 12], cover[:, 12:].sum(1), atol=2e-7, rtol=0)


def test_certain_scores_do_not_overflow():
    net, window = network(), inputs()
    with torch.no_grad():
        net.land.pairs.weight.mul_(1e4)
    found = Fused(net, STATURE)(window, NAMES)
    assert all(field.isfinite().all() for field in found.values())
    assert (found["lc_fraction"].sum(1) - 1).abs().max() < 1e-6


def test_where_no_class_bears_leaves_every_leaf_area_is_exactly_zero():
    window = inputs("lc")
    cover = torch.zeros_like(window.lc)
    for i, k in enumerate(BARREN):
        cover[:, k, :, i::4] = 1
    found = Fused(network(), STATURE, torch.bfloat16)(dataclasses.replace(window, lc=cover), NAMES)
    for name in ("cvh", "cvl", "lai", "lai_hv", "lai_lv"):
        assert (found[name] == 0).all()


@pytest.mark.parametrize("given", GIVEN)
def test_leaf_area_is_that_of_high_and_low_vegetation_by_their_covers(given):
    found = {k: v.double() for k, v in Fused(network(), STATURE)(inputs(*given), NAMES).items()}
    high = found["cvh"][:, None] * found["lai_hv"]
    low = found["cvl"][:, None] * found["lai_lv"]
    torch.testing.assert_close(high + low, found["lai"], atol=1e-6, rtol=0)
    for area, stature in (("lai_hv", "high"), ("lai_lv", "low")):
        bound = max(c.lai_max for c in LC.classes if c.vegetation == stature)
        assert (found[area] >= 0).all()
        assert (found[area] <= bound * (1 + 1e-6)).all()


def test_vegetation_that_is_neither_high_nor_low_counts_in_the_leaf_area_alone():
    net, window = network(), inputs()
    lawless = [None if name.startswith("shrubs") else STATURE[i] for i, name in enumerate(LC.ids)]
    found, wanted = Fused(net, lawless)(window, NAMES), expected(net, window)
    close(found, {name: wanted[name] for name in ("lc_fraction", "lai", "cvh", "lai_hv")})
    grass = [i for i, name in enumerate(lawless) if name == "low"]
    torch.testing.assert_close(found["cvl"], wanted["lc_fraction"][:, grass].sum(1))
    assert (found["cvl"] < wanted["cvl"]).all()


def test_fusing_leaves_the_network_as_it_was():
    net, window = network().train(), inputs()
    before = copy.deepcopy(net)
    model = Fused(net, STATURE, torch.bfloat16)
    model(window, NAMES)
    assert net.training
    assert [type(m) for m in net.modules()] == [type(m) for m in before.modules()]
    for name, value in net.state_dict().items():
        assert value.dtype == before.state_dict()[name].dtype
        assert torch.equal(value, before.state_dict()[name])
    assert all(parameter.requires_grad for parameter in net.parameters())


class Smooth(nn.Module):
    """A backbone that nothing is known of: one convolution, memory in the order of the axes."""

    stride, halo, channels_out = 1, 2, 6

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 6, 5, padding=2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.conv(x)).contiguous()


@pytest.mark.parametrize("rim", [0, 2])
def test_another_backbone_runs_as_it_is(rim):
    net, window = network(), inputs(size=(9, 11))
    net.backbone = Smooth(net.backbone.down[0].conv1.in_channels)
    model = Fused(net, STATURE)
    assert (model.stride, model.halo) == (1, 2)
    close(model(window, NAMES, rim), expected(net, window, rim))


def patches(name: str, method: str, channels: int, climate: slice) -> nn.Module:
    """A backbone of patches whose low-rank changes change something."""
    variant = {"vit": "tiny", "prithvi": "2.0-tiny-TL", "terramind": "tiny"}[name]
    width = DECODER if name != "vit" else DECODER[:3]
    made = BACKBONES[name].make(
        Channels(channels, climate, 1), Sizes(variant, width, 8, pretrained=method != "scratch")
    )
    if method != "scratch":
        adapt(made.encoder, method, rank=2)
        for key, value in made.encoder.named_parameters():
            if key.endswith("lora_b"):
                nn.init.normal_(value, std=0.1)
    return made


@pytest.mark.parametrize(
    ("name", "method"), [("vit", "scratch"), ("prithvi", "adapter"), ("terramind", "lora")]
)
def test_a_backbone_of_patches_is_the_network_too_in_windows_that_overlap(name, method):
    net = network(backbone=partial(patches, name, method), window=32)
    side = 32 + net.stride
    window = dataclasses.replace(
        inputs(size=(side, side + net.stride)),
        latitude=torch.linspace(50, 49, side).expand(2, -1),
        longitude=torch.linspace(7, 9, side + net.stride).expand(2, -1),
        year=torch.tensor([2001.0, 2002.0]),
    )
    close(Fused(net, STATURE)(window, NAMES, 4), expected(net, window, 4), 1e-4)


def test_stride_and_halo_are_those_of_the_network():
    net = network()
    model = Fused(net, STATURE)
    assert (model.stride, model.halo) == (net.stride, net.halo) == (4, 24)


@pytest.mark.parametrize("places", [[-2.5, -1.0], [-0.5, 0.2], [0.0, 0.0], [1.0, 1.7], [2.6, 9.0]])
def test_pixels_beyond_the_coarse_cells_are_interpolated_alike(places):
    net, window = network(), inputs(batch=1)
    window = dataclasses.replace(window, row=torch.linspace(*places, 20)[None])
    close(Fused(net, STATURE)(window, NAMES), expected(net, window))
