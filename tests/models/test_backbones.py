"""What every backbone promises, whatever is inside, under every adaptation that it knows."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from torch import Tensor, nn

from xlsbc.models.adapters import METHODS, adapt, own_keys
from xlsbc.models.backbones import BACKBONES, DECODER, Channels, Sizes, levels

CHANNELS = Channels(11, slice(3, 7), elevation=1, mean=300.0, std=200.0)
SMALLEST = {"unet": "", "vit": "tiny", "prithvi": "2.0-tiny-TL", "terramind": "tiny"}
WIDTH = {"unet": (8, 16, 24)}
PLACE = torch.tensor([[46.5, 11.25, 2003.0], [-3.0, 120.5, 1999.0]])

CASES = [
    (name, method)
    for name, kind in BACKBONES.items()
    for method in (METHODS if kind.pretrained else METHODS[:1])
]


def made(name: str, method: str = "scratch", seed: int = 0, **changes: object) -> nn.Module:
    torch.manual_seed(seed)
    sizes = {"variant": SMALLEST[name], "width": WIDTH.get(name, DECODER), **changes}
    backbone = BACKBONES[name].make(CHANNELS, Sizes(pretrained=method != "scratch", **sizes))
    if method != "scratch":
        adapt(backbone.encoder, method, rank=4, bottleneck=8)
    return backbone.eval()


def window(height: int = 32, width: int = 48, batch: int = 2) -> Tensor:
    return torch.randn(batch, CHANNELS.count, height, width, generator=torch.manual_seed(7))


def features(backbone: nn.Module, x: Tensor) -> Tensor:
    return backbone(x) if backbone.halo is not None else backbone(x, PLACE[: len(x)])


@pytest.fixture(scope="module", params=CASES, ids=lambda case: "-".join(case))
def case(request) -> tuple[str, str, nn.Module]:
    name, method = request.param
    return name, method, made(name, method)


def test_features_are_finite_and_on_the_pixels_of_the_input(case):
    _, _, backbone = case
    for height, width in ((32, 48), (3 * backbone.stride, backbone.stride)):
        with torch.inference_mode():
            found = features(backbone, window(height, width))
        assert found.shape == (2, backbone.channels_out, height, width)
        assert found.isfinite().all()
        assert found.std() > 0


def test_equal_seeds_make_equal_backbones(case):
    name, method, backbone = case
    again, other = made(name, method), made(name, method, seed=1)
    with torch.inference_mode():
        first, second, third = (features(b, window()) for b in (backbone, again, other))
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


def test_gradients_are_where_the_method_trains_and_nowhere_else(case):
    name, method, backbone = case
    backbone = copy.deepcopy(backbone).train()
    optimiser = torch.optim.SGD([p for p in backbone.parameters() if p.requires_grad], 1e-2)
    for _ in range(2):  # what begins at 0 hides what is behind it from the first gradient
        optimiser.zero_grad()
        features(backbone, window()).square().mean().backward()
        optimiser.step()
    moved = {n for n, p in backbone.named_parameters() if p.grad is not None and p.grad.any()}
    every = {n for n, _ in backbone.named_parameters()}
    if name == "unet" or method in ("scratch", "full"):
        expected = every
    else:
        own = {f"encoder.{key}" for key in own_keys(backbone.encoder)}
        expected = {n for n in every if not n.startswith("encoder.")} | own
    blind = {"encoder.patch_embed.proj.weight"} if name == "prithvi" else set()  # reflectances at 0
    assert moved == expected - blind
    assert {n for n, p in backbone.named_parameters() if p.requires_grad} == expected


def test_every_channel_and_pixel_bears_on_the_features(case):
    *_, backbone = case
    x = window().requires_grad_()
    features(backbone, x)[0, :, 5, 40].square().sum().backward()
    assert x.grad is not None
    assert x.grad[0].abs().amax((1, 2)).all()
    assert not x.grad[1].any()  # of another window


def test_the_halo_is_as_wide_as_what_a_pixel_sees(case):
    name, method, backbone = case
    size = 96 if backbone.halo is None else 4 * backbone.halo
    x = window(size, size, batch=1).requires_grad_()
    trained = made(name, "scratch") if backbone.halo is None else backbone
    features(trained, x)[0, :, size // 2, size // 2].abs().sum().backward()
    assert x.grad is not None
    seen = x.grad.abs().amax((0, 1)).nonzero()
    reach = int((seen - size // 2).abs().max())
    if backbone.halo is None:
        assert reach == size // 2  # the whole window
    else:
        assert 0 < reach <= backbone.halo


@pytest.mark.parametrize("name", [n for n, kind in BACKBONES.items() if kind.pretrained])
@pytest.mark.parametrize("method", METHODS[1:])
def test_at_first_an_adapted_encoder_is_the_pretrained_one(name, method):
    plain = made(name, "frozen")
    adapted = made(name, method, seed=1)
    adapted.encoder.load_state_dict(
        {**adapted.encoder.state_dict(), **plain.encoder.state_dict()}, strict=True
    )
    seen = plain.layers(torch.zeros_like(window()), PLACE)
    # what is ours is added by an embedding that is 0: only elevation differs from zeros
    x = window()
    x[:, CHANNELS.elevation] = 0
    for found, expected in zip(adapted.layers(x, PLACE), seen, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_terramind_sees_the_elevation_in_metres_as_it_was_scaled_when_it_was_trained():
    x = window()
    expected = (x[:, 1:2] * 200 + 300 - 670.665) / 951.272
    torch.testing.assert_close(made("terramind").elevation(x), expected)


def test_seasons_are_frames_of_which_each_sees_its_own_climate():
    backbone = made("prithvi", frames=2)
    x = torch.arange(11.0)[None, :, None, None].expand(1, -1, 16, 16)
    first, second = backbone.seasons(x)
    assert first[0, :, 0, 0].tolist() == [0, 1, 2, 3, 4, 7, 8, 9, 10]
    assert second[0, :, 0, 0].tolist() == [0, 1, 2, 5, 6, 7, 8, 9, 10]
    assert backbone.dates(torch.tensor([2003.0])).tolist() == [[[2003, 91.25], [2003, 273.75]]]
    with torch.inference_mode():
        assert features(backbone, window()).isfinite().all()


def test_prithvi_is_told_latitude_first_and_then_longitude():
    backbone = made("prithvi")
    told = []
    backbone.encoder.location_embed_enc.register_forward_pre_hook(
        lambda _, args: told.append(args[0])
    )
    with torch.inference_mode():
        backbone(window(), PLACE)
    assert told[0].tolist() == [[[46.5, 11.25]], [[-3.0, 120.5]]]


@pytest.mark.parametrize("patch", [4, 8, 14, 16])
def test_a_decoder_has_a_level_for_every_doubling_finer_than_a_patch(patch):
    count = next(n for n in itertools.count() if 2**n >= patch)
    assert levels(patch) == count


@pytest.mark.parametrize(
    ("name", "method"), [("terramind", "lora"), ("prithvi", "adapter"), ("vit", "scratch")]
)
def test_an_exported_backbone_gives_the_same_features_of_any_batch(name, method):
    backbone, x = made(name, method), window(32, 32, batch=3)
    place = PLACE[[0, 1, 0]]
    batch = {0: torch.export.Dim("batch", max=8)}
    with torch.no_grad():
        exported = torch.export.export(backbone, (x[:2], PLACE), dynamic_shapes=(batch, batch))
        found, expected = exported.module()(x, place), backbone(x, place)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
