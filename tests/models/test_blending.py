from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from xlsbc.errors import EmulatorError
from xlsbc.models import blending
from xlsbc.models.blending import blended, fades, overlap, step
from xlsbc.models.decoder import Decoder
from xlsbc.models.vit import ViT


class Backbone(nn.Module):
    """Every pixel depends on the whole window and on where it is."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.vit, self.decoder = ViT(3, 16, 2, 2, patch=4), Decoder(16, 4, 3, width=(5, 6))
        self.place = nn.Linear(2, 5)

    def forward(self, x: Tensor, place: Tensor) -> Tensor:
        rows, columns = (length // 4 for length in x.shape[-2:])
        layers = [t.transpose(1, 2).unflatten(2, (rows, columns)) for t in self.vit(x)] * 2
        place = self.place(place.to(x.dtype))
        return self.decoder(layers, x) + place[:, :, None, None]


def alone(run):
    """A backbone that is told nothing of where it is."""
    return lambda x, place: run(x)


@pytest.mark.parametrize("window", [3, 6, 24, 36, 224])
def test_weights_of_all_windows_over_a_pixel_sum_to_exactly_one(window):
    size = window + 3 * step(window)
    line = torch.zeros(4, size)
    for k, weights in enumerate(fades(4, window)):
        line[k, k * step(window) : k * step(window) + window] = weights
    assert line.dtype == torch.float32
    assert (line.sum(0) == 1).all()
    total = torch.zeros(size, size)
    for down in line:
        for across in line:
            total += down[:, None] * across
    assert (total == 1).all()
    assert (line >= 0).all()


def test_windows_fade_linearly_over_a_sixth_of_their_side():
    assert (overlap(24), step(24), overlap(224), step(224)) == (4, 20, 37, 187)
    first, last = fades(2, 24)
    # the share of the second window at the middle of each pixel shared; multiples of 1 / 4096
    assert last[:5].tolist() == [0.125, 0.375, 0.625, 0.875, 1]
    assert first[19:].tolist() == [1, 0.875, 0.625, 0.375, 0.125]
    assert (first[:20] == 1).all()
    assert (last[4:] == 1).all()


@pytest.mark.parametrize("size", [(24, 24), (44, 64), (24, 84)])
def test_what_changes_nothing_gives_the_field_back(size):
    x = torch.randn(2, 3, *size)
    torch.testing.assert_close(
        blended(alone(nn.Identity()), x, None, None, 24), x, rtol=1e-6, atol=0
    )


def test_where_no_window_lies_there_is_nothing():
    x = 1 + torch.rand(1, 2, 44 + 19, 24 + 7)
    found = blended(alone(nn.Identity()), x, None, None, 24)
    assert (found[..., 44:, :] == 0).all()
    assert (found[..., 24:] == 0).all()
    torch.testing.assert_close(found[..., :44, :24], x[..., :44, :24])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_pixel_has_the_same_bits_in_every_box_that_holds_its_windows(dtype, layout):
    run = Backbone().eval().to(dtype)
    field = torch.randn(2, 3, 120, 140, dtype=dtype)
    latitude, longitude = 50 - torch.rand(2, 120), 7 + torch.rand(2, 140)

    def box(top: int, left: int, height: int, width: int) -> Tensor:
        """Features of the tile of whole steps in a box with its halo of a step at each side."""
        rows, columns = slice(top, top + height), slice(left, left + width)
        x = field[..., rows, columns].contiguous(memory_format=layout)
        with torch.inference_mode():
            found = blended(run, x, latitude[:, rows], longitude[:, columns], 24)
        return found[..., 20 : height - 20, 20 : width - 20]

    whole = box(0, 0, 120, 140)
    for top, left, height, width in ((0, 40, 60, 80), (40, 20, 80, 60), (20, 0, 60, 60)):
        found = box(top, left, height, width)
        assert torch.equal(found, whole[..., top:, left:][..., : height - 40, : width - 40])
        assert found.dtype == dtype
    assert whole.isfinite().all()


def test_a_box_that_begins_elsewhere_differs():
    run, field = Backbone().eval(), torch.randn(1, 3, 65, 60)
    nothing = torch.zeros(1, 65), torch.zeros(1, 60)
    with torch.inference_mode():
        here = blended(run, field[..., :60, :], *nothing, 24)
        there = blended(run, field[..., 5:, :], *nothing, 24)
    assert (here[..., 25:40, 20:40] - there[..., 20:35, 20:40]).abs().max() > 1e-3


def test_a_field_of_one_window_is_that_window():
    run, x = Backbone().eval(), torch.randn(3, 3, 24, 24)
    latitude, longitude = torch.randn(3, 24), torch.randn(3, 24)
    with torch.inference_mode():
        wanted = run(x, torch.stack((latitude[:, 12], longitude[:, 12]), dim=1))
        assert torch.equal(blended(run, x, latitude, longitude, 24), wanted)


def test_a_window_is_told_the_latitude_and_longitude_of_its_centre():
    def run(x: Tensor, place: Tensor) -> Tensor:
        assert place.dtype == torch.float32
        return place[:, :, None, None].expand(-1, -1, *x.shape[-2:])

    latitude = torch.stack((60 - torch.arange(64.0), -torch.arange(64.0))).double()
    longitude = torch.stack((torch.arange(44.0), 100 + torch.arange(44.0))).double()
    found = blended(run, torch.zeros(2, 1, 64, 44), latitude, longitude, 24)
    # window 2 down and 1 across begins in row 40, column 20; its centre is 12 pixels on
    assert found[0, :, 60, 40].tolist() == [60 - 52, 32]
    assert found[1, :, 60, 40].tolist() == [-52, 132]
    assert found[1, :, 0, 0].tolist() == [-12, 112]


def test_windows_that_are_told_nothing_of_where_they_are_get_none():
    places = []
    run = lambda x, place: places.append(place) or x  # noqa: E731
    blended(run, torch.zeros(1, 1, 44, 24), None, None, 24)
    blended(run, torch.zeros(1, 1, 24, 24), None, None, 24)
    assert places == [None] * 3


def test_no_seam_is_steeper_than_the_fade():
    torch.manual_seed(8)
    x = torch.randn(1, 1, 104, 84) + 10 * (torch.arange(84) > 30)
    found = blended(alone(lambda x: x.mean((2, 3), keepdim=True).expand_as(x)), x, None, None, 24)
    means = x[0, 0].unfold(0, 24, 20).unfold(1, 24, 20).mean((2, 3))
    for axis in (0, 1):
        largest = means.diff(dim=axis).abs().max()  # between neighbouring windows
        steepest = found[0, 0].diff(dim=axis).abs().max()
        assert steepest <= largest / 4 * (1 + 1e-5)  # over four pixels
    assert means.diff(dim=1).abs().max() > 3


def test_half_precision_is_blended_in_single_precision():
    x = torch.randn(1, 1, 66, 66).bfloat16()
    found = blended(alone(nn.Identity()), x, None, None, 36)
    assert torch.equal(found, x)  # last bits would not survive sums in bfloat16


def test_groups_of_windows_give_what_single_ones_do(monkeypatch):
    run, x = Backbone().eval(), torch.randn(2, 3, 64, 44)
    latitude, longitude = torch.randn(2, 64), torch.randn(2, 44)
    sizes = []

    def counted(x: Tensor, place: Tensor) -> Tensor:
        sizes.append(len(x))
        return run(x, place)

    with torch.inference_mode():
        single = blended(counted, x, latitude, longitude, 24)
        monkeypatch.setitem(blending.PIXELS, "cpu", 5 * 24**2 + 100)
        grouped = blended(counted, x, latitude, longitude, 24)
    assert sizes == [1] * 12 + [5] * 3  # the last group is filled up
    torch.testing.assert_close(grouped, single, rtol=1e-4, atol=1e-5)


def test_gradients_reach_what_every_window_saw():
    x = torch.randn(1, 2, 44, 24, requires_grad=True)
    weight = torch.tensor(3.0, requires_grad=True)
    blended(alone(lambda x: x * weight), x, None, None, 24).sum().backward()
    torch.testing.assert_close(x.grad, torch.full_like(x, 3))  # weights sum to 1
    torch.testing.assert_close(weight.grad, x.detach().sum(), rtol=1e-4, atol=1e-4)


def test_a_field_smaller_than_a_window_is_refused_along_both_axes():
    with pytest.raises(EmulatorError, match=r"along y .* 24 .* found 20.*along x .* found 23"):
        blended(alone(nn.Identity()), torch.zeros(1, 1, 20, 23), None, None, 24)


def test_windows_that_are_wanted_nowhere_do_not_run_and_change_no_others():
    x = torch.randn(1, 2, 50, 70, generator=torch.manual_seed(0))
    wanted = torch.zeros(1, 50, 70)
    wanted[0, 30, 40] = 1
    places = []

    def run(part: Tensor, place: Tensor | None) -> Tensor:
        places.append(part)
        return part.cumsum(-1)

    whole = blended(run, x, None, None, 24)
    before = len(places)
    some = blended(run, x, None, None, 24, wanted)
    assert 0 < len(places) - before < before
    assert torch.equal(some[..., 30, 40], whole[..., 30, 40])
