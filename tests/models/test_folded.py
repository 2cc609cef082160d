from __future__ import annotations

import pytest
import torch

from xlsbc.models.folded import FoldedUNet, cropped, gelu_
from xlsbc.models.unet import UNet

ROUNDING = 1e-5  # of features near 1, from convolutions of some hundred float32 products


def unet(width: tuple[int, ...], channels: int = 5, seed: int = 0) -> UNet:
    """A U-Net whose normalisation has moments, scales and shifts of its own."""
    torch.manual_seed(seed)
    net = UNet(channels, width).eval()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for values in (module.weight, module.running_var):
                torch.nn.init.uniform_(values, 0.5, 2)
            for values in (module.bias, module.running_mean):
                torch.nn.init.normal_(values, std=0.3)
    return net.requires_grad_(False)


@pytest.mark.parametrize("width", [(6,), (6, 8), (6, 8, 10), (4, 5, 6, 7)])
@pytest.mark.parametrize("rim", [0, 1, 2, 3, 4, 7, 8])
def test_it_is_the_same_function_less_any_rim(width, rim):
    net, x = unet(width), torch.randn(2, 5, 24, 40)
    expected = net(x)[..., rim : 24 - rim, rim : 40 - rim]
    torch.testing.assert_close(FoldedUNet(net)(x, rim), expected, atol=ROUNDING, rtol=0)


def test_a_rim_as_wide_as_the_halo_leaves_the_middle():
    net = unet((6, 8, 10))
    x = torch.randn(1, 5, 2 * net.halo + 4, 2 * net.halo + 12)
    expected = net(x)[..., net.halo : -net.halo, net.halo : -net.halo]
    torch.testing.assert_close(FoldedUNet(net)(x, net.halo), expected, atol=ROUNDING, rtol=0)


@pytest.mark.parametrize("width", [(6,), (6, 8)])
def test_channels_left_out_at_the_end_are_zeros(width):
    net, x = unet(width), torch.randn(1, 5, 8, 12)
    x[:, 3:] = 0
    torch.testing.assert_close(FoldedUNet(net)(x[:, :3]), net(x), atol=ROUNDING, rtol=0)


def test_folding_leaves_the_weights_and_the_random_state_as_they_were():
    net = unet((6, 8))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    state = torch.get_rng_state()
    folded = FoldedUNet(net)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())


def test_gelu_in_place_is_that_of_the_error_function():
    x = torch.randn(1, 3, 5, 7)
    expected = 0.5 * x * (1 + torch.erf(x / 2**0.5))
    assert gelu_(x) is x
    torch.testing.assert_close(x, expected, atol=1e-6, rtol=1e-5)


def test_a_field_is_cropped_at_all_four_sides():
    field = torch.arange(20).reshape(1, 4, 5)
    assert cropped(field, 1).tolist() == [[[6, 7, 8], [11, 12, 13]]]
    assert cropped(field, 0).shape == field.shape
