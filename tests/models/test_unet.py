from __future__ import annotations

import numpy as np
import pytest
import torch

from xlsbc.models.unet import UNet

WIDTHS = [(6,), (6, 8), (4, 6, 8), (4, 4, 6, 8)]


def network(width: tuple[int, ...], channels: int = 3) -> UNet:
    torch.manual_seed(1)
    unet = UNet(channels, width)
    for module in unet.modules():  # moments that a trained network would have
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
    return unet.eval()


def reach(unet: UNet, side: int, y: int, x: int) -> int:
    """Pixels, along either axis, over which an output pixel depends on the input."""
    field = torch.randn(1, 3, side, side, dtype=torch.float64, requires_grad=True)
    unet(field)[0, :, y, x].sum().backward()
    rows, columns = np.nonzero(field.grad[0].abs().sum(0).numpy())
    return max(np.abs(rows - y).max(), np.abs(columns - x).max())


@pytest.mark.parametrize("width", WIDTHS)
def test_the_measured_receptive_field_is_within_the_halo_and_no_wider_than_it_must_be(width):
    unet = network(width).double()
    side = (2 * unet.halo // unet.stride + 4) * unet.stride
    middle = side // 2 // unet.stride * unet.stride
    corners = {0, unet.stride - 1}  # of a coarsest cell
    measured = max(reach(unet, side, middle + i, middle + j) for i in corners for j in corners)
    assert measured <= unet.halo < measured + 2 * unet.stride


@pytest.mark.parametrize("width", WIDTHS)
def test_windows_shifted_by_the_stride_agree_where_both_have_their_halo(width):
    unet = network(width)
    halo, stride = unet.halo, unet.stride
    height, breadth = 2 * halo + 4 * stride, 2 * halo + 3 * stride
    field = torch.randn(1, 3, height + stride, breadth + 2 * stride)
    with torch.inference_mode():
        here = unet(field[:, :, :height, :breadth])
        there = unet(field[:, :, stride:, 2 * stride :])
    inner = slice(halo + stride, height - halo), slice(halo + 2 * stride, breadth - halo)
    outer = slice(halo, height - halo - stride), slice(halo, breadth - halo - 2 * stride)
    # float32 sums of a hundred products, in an order that may depend on the shape
    torch.testing.assert_close(here[..., *inner], there[..., *outer], atol=1e-5, rtol=1e-5)


def test_windows_shifted_by_less_than_the_stride_do_not_agree():
    unet = network((6, 8))
    field = torch.randn(1, 3, 41, 40)
    with torch.inference_mode():
        here, there = unet(field[:, :, :40]), unet(field[:, :, 1:])
    assert (here[..., 15:25, 15:25] - there[..., 14:24, 15:25]).abs().max() > 1e-3


@pytest.mark.parametrize("width", WIDTHS)
def test_features_lie_on_the_pixels_of_a_window_that_is_not_square(width):
    unet = network(width, channels=5)
    features = unet(torch.randn(2, 5, 3 * unet.stride, 5 * unet.stride))
    assert features.shape == (2, unet.channels_out, 3 * unet.stride, 5 * unet.stride)
    assert unet.channels_out == width[0]


def test_a_window_does_not_depend_on_its_neighbours_in_the_batch():
    unet = network((6, 8))
    first, second = torch.randn(2, 1, 3, 8, 12)
    with torch.inference_mode():
        alone, beside = unet(first), unet(torch.cat((first, 1e3 * second)))
    torch.testing.assert_close(alone, beside[:1], atol=1e-5, rtol=1e-5)


def test_dropout_drops_nothing_in_prediction():
    torch.manual_seed(2)
    unet = UNet(3, (4, 6), dropout=0.5).eval()
    field = torch.randn(1, 3, 8, 8)
    torch.testing.assert_close(unet(field), unet(field), atol=0, rtol=0)
