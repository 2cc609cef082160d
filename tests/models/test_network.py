from __future__ import annotations

import dataclasses

import pytest
import torch

from xlsbc.cube.legends import LC, LU, compatible
from xlsbc.models.network import Inputs, Network, Outputs
from xlsbc.models.unet import UNet

HISTORY, STEPS = 3, 4
BOTH = ("lu_fraction", "lc_fraction")


def network(*, driver: bool = True, given: tuple[str, ...] = BOTH, seed: int = 0) -> Network:
    torch.manual_seed(seed)
    net = Network(
        static=3,
        forcing=5,
        compatible=torch.from_numpy(compatible(LU, LC)),
        bounds=torch.tensor([c.lai_max for c in LC.classes]),
        driver=driver,
        given=given,
        backbone=lambda channels, _: UNet(channels, (6, 8)),
        climate=4,
        history=HISTORY,
        hidden=7,
    )
    for parameter in net.parameters():  # the initial weights of a head make all pixels alike
        torch.nn.init.normal_(parameter, std=0.5)
    return net.eval()


def inputs(*given: str, driver: bool = True, size: tuple[int, int] = (6, 10)) -> Inputs:
    """A batch of two windows, each with coarse cells of its own in its own places."""
    torch.manual_seed(5)
    height, width = size
    made = Inputs(
        static=torch.randn(2, 3, height, width),
        forcing=torch.randn(2, HISTORY - 1 + STEPS, 5, 3, 4),
        pooling=torch.eye(HISTORY - 1 + STEPS).expand(2, -1, -1),
        row=torch.rand(2, height) * 2,
        column=torch.rand(2, width) * 3,
    )
    if driver:
        made = dataclasses.replace(
            made,
            driver=torch.rand(2, 13, 2, 3).softmax(1),
            driver_row=torch.rand(2, height),
            driver_column=torch.rand(2, width) * 2,
        )
    classes = {"lu": 13, "lc": 14}
    conditions = {name: torch.randn(2, classes[name], height, width).softmax(1) for name in given}
    return dataclasses.replace(made, **conditions)


def fields(outputs: Outputs) -> dict[str, torch.Tensor]:
    return {f.name: getattr(outputs, f.name) for f in dataclasses.fields(Outputs)}


@pytest.mark.parametrize("given", [(), ("lu",), ("lc",), ("lu", "lc")])
def test_fields_at_some_pixels_are_the_fields_of_the_window_there(given):
    net, window = network(), inputs(*given)
    y, x = torch.tensor([[0, 5, 3], [2, 2, 4]]), torch.tensor([[9, 0, 4], [1, 8, 8]])
    with torch.inference_mode():
        whole, some = fields(net(window)), fields(net.at(window, y, x))
    for name, field in whole.items():
        expected = torch.stack([field[b][..., y[b], x[b]] for b in range(2)])
        torch.testing.assert_close(some[name], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("given", [(), ("lu", "lc")])
def test_a_rim_that_is_thrown_away_changes_nothing_inside(given):
    net, window = network(), inputs(*given)
    with torch.inference_mode():
        whole, inner = fields(net(window)), fields(net(window, rim=2))
    for name, field in whole.items():
        torch.testing.assert_close(inner[name], field[..., 2:-2, 2:-2], atol=1e-5, rtol=1e-4)


def test_outputs_have_the_shapes_of_a_window_that_is_not_square():
    shapes = {name: tuple(f.shape) for name, f in fields(network()(inputs())).items()}
    assert shapes == {
        "lu": (2, 13, 6, 10),
        "lc": (2, 14, 6, 10),
        "lai": (2, STEPS, 6, 10),
        "leaves": (2, STEPS, 10, 6, 10),
    }


def test_weather_is_brought_to_pixels_before_or_after_its_layer_alike():
    net, window = network(), inputs()
    with torch.inference_mode():
        climate, features = net.features(window)
        lai = net(window).lai
        cells = climate[1].permute(0, 2, 3, 1)  # (step, coarse_y, coarse_x, climate)
        i, j = window.row[1, 4], window.column[1, 7]
        below, right = int(i), int(j)
        a, b = i - below, j - right
        state = (
            (1 - a) * (1 - b) * cells[:, below, right]
            + (1 - a) * b * cells[:, below, min(right + 1, 3)]
            + a * (1 - b) * cells[:, min(below + 1, 2), right]
            + a * b * cells[:, min(below + 1, 2), min(right + 1, 3)]
        )
        pixel = features[1:2, :, 4, 7, None]
        _, lc = net.land(pixel)
        expected, _ = net.leaf(pixel, lc, net.leaf.stepwise(state)[None, ..., None])
    torch.testing.assert_close(lai[1, :, 4, 7], expected[0, :, 0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("part", "change"),
    [("driver", 1.0), ("forcing", 1.0), ("static", 1.0), ("lu", 0.1), ("lc", 0.1)],
)
def test_every_input_bears_on_the_leaves(part, change):
    net, window = network(), inputs("lu", "lc")
    values = getattr(window, part)
    if part in ("lu", "lc"):
        other = dataclasses.replace(window, **{part: values.roll(1, 1)})
    else:
        other = dataclasses.replace(window, **{part: values + change})
    with torch.inference_mode():
        assert (net(window).leaves - net(other).leaves).abs().max() > 1e-4


def test_given_fractions_of_zero_and_none_given_are_told_apart():
    net, window = network(), inputs("lc")
    nothing = torch.zeros_like(window.lc)
    with torch.inference_mode():
        flagged = net.features(dataclasses.replace(window, lc=nothing))[1]
        absent = net.features(dataclasses.replace(window, lc=None))[1]
    assert (flagged - absent).abs().max() > 1e-3


def test_windows_of_a_batch_do_not_touch_each_other():
    net, window = network(), inputs("lc")
    parts = {f.name: getattr(window, f.name) for f in dataclasses.fields(Inputs)}
    second = Inputs(**{k: v if v is None else v[1:] for k, v in parts.items()})
    with torch.inference_mode():
        together, alone = fields(net(window)), fields(net(second))
    for name, field in alone.items():
        torch.testing.assert_close(together[name][1:], field, atol=1e-5, rtol=1e-4)


def test_a_network_without_driver_or_conditions_has_no_channels_for_them():
    small = network(driver=False, given=())
    assert small.backbone.down[0].conv1.in_channels == 3 + 4
    assert network().backbone.down[0].conv1.in_channels == 3 + 4 + 13 + 14 + 15
    small(inputs(driver=False))


def test_mixed_precision_gives_float32_close_to_single_precision():
    net, window = network(), inputs()
    with torch.inference_mode():
        exact = net.features(window)[1]
        net.mixed = True
        mixed = net.features(window)[1]
    assert mixed.dtype == torch.float32
    assert 0 < (mixed - exact).abs().max() < 0.05 * exact.abs().max()  # bfloat16 has 8 bits


def test_inputs_move_to_a_device_with_what_they_lack():
    moved = inputs("lu", driver=False).to("meta")
    assert moved.static.device.type == moved.lu.device.type == "meta"
    assert moved.driver is moved.lc is None


def test_halo_and_stride_are_those_of_the_backbone():
    net = network()
    assert (net.halo, net.stride) == (net.backbone.halo, net.backbone.stride) == (10, 2)
