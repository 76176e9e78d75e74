"""Encoder and decoders: geometry, names, reflection, rescaling of taps, folded maps, skips."""

from __future__ import annotations

import pytest
import torch
from features import relative

from fastift import Affine, Autoencoder, AutoencoderConfig, apply
from fastift.decoder import Decoder
from fastift.detail import detail
from fastift.encoder import VGG19, Encoder, Plan

SMALL = AutoencoderConfig(widths=(4, 6, 8, 10), encoder_depths=(2, 2, 3, 1), decoder_depths=(2, 2, 2, 1))


@pytest.fixture
def model() -> Autoencoder:
    return Autoencoder(SMALL).double().eval()


def test_taps_have_the_geometry_of_vgg() -> None:
    encoder = Encoder(VGG19)
    names = [name for name, _ in encoder.named_children()]
    assert names == [
        "conv0",
        "conv1_1",
        "conv1_2",
        "conv2_1",
        "conv2_2",
        "conv3_1",
        "conv3_2",
        "conv3_3",
        "conv3_4",
        "conv4_1",
    ]
    seen = encoder(torch.rand(1, 3, 48, 33))
    assert [tuple(t.shape[1:]) for t in seen] == [(64, 48, 33), (128, 24, 16), (256, 12, 8), (512, 6, 4)]
    assert all((t >= 0).all() for t in seen)


def test_encoding_to_a_level_is_a_prefix(model: Autoencoder) -> None:
    x = torch.rand(1, 3, 32, 40, dtype=torch.float64)
    whole = model.encoder(x)
    for n in (1, 2, 3):
        part = model.encoder(x, n)
        assert len(part) == n
        assert torch.equal(part[-1], whole[n - 1])


@pytest.mark.parametrize("level", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(16, 16), (24, 40)])
def test_decoders_give_the_size_back(model: Autoencoder, level: int, size: tuple[int, int]) -> None:
    x = torch.rand(2, 3, *size, dtype=torch.float64)
    assert model.decoders[str(level)](model.encoder(x, level)[-1]).shape == x.shape


def test_mirroring_the_picture_mirrors_everything(model: Autoencoder) -> None:
    """Nothing at the border favours a side: true of reflection with mirrored kernels, and of the interior of any padding."""
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.weight.data = (module.weight.data + module.weight.data.flip(3)) / 2
    x = torch.rand(1, 3, 32, 48, dtype=torch.float64)
    for a, b in zip(model.encoder(x), model.encoder(x.flip(3)), strict=True):
        assert relative(a.flip(3), b) < 1e-13


def test_rescaling_a_tap_changes_that_tap_alone(model: Autoencoder) -> None:
    x = torch.rand(1, 3, 32, 32, dtype=torch.float64)
    before = model.encoder(x)
    factor = torch.rand(8, dtype=torch.float64) + 0.5
    model.encoder.rescale(3, factor)
    after = model.encoder(x)
    assert relative(after[2], before[2] * factor[:, None, None]) < 1e-13
    for n in (0, 1, 3):
        assert relative(after[n], before[n]) < 1e-13


@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_folded_map_equals_mapped_features(model: Autoencoder, level: int) -> None:
    features = model.encoder(torch.rand(2, 3, 32, 24, dtype=torch.float64), level)[-1]
    c = features.shape[1]
    maps = Affine(torch.randn(2, c, c, dtype=torch.float64), torch.randn(2, c, dtype=torch.float64))
    decoder = model.decoders[str(level)]
    assert relative(decoder(features, maps), decoder(apply(features, maps))) < 1e-12


def test_single_pass_asks_for_a_map_at_each_inner_level(model: Autoencoder) -> None:
    seen = model.encoder(torch.rand(1, 3, 32, 24, dtype=torch.float64))
    asked = []

    def transform(n: int, features: torch.Tensor) -> None:
        asked.append((n, features.shape[1]))

    plain = model.single_pass(seen[-1])
    assert torch.equal(model.single_pass(seen[-1], transform=transform), plain)
    assert asked == [(3, 8), (2, 6), (1, 4)]
    with_skips = model.single_pass(seen[-1], details=[detail(t) for t in seen[:-1]])
    assert with_skips.shape == plain.shape
    assert not torch.equal(with_skips, plain)
    assert model.single_pass(seen[1], level=2).shape == plain.shape


def test_nearest_upsampling_and_final_relu_are_options() -> None:
    decoder = Decoder(Plan((4, 6), (2, 1)), 2, upsampling="nearest", final_relu=True)
    out = decoder(torch.randn(1, 6, 8, 8))
    assert out.shape == (1, 3, 16, 16)
    assert (out >= 0).all()


def test_leak_keeps_what_is_below_zero() -> None:
    leaky, plain = Decoder(Plan((4, 6), (2, 1)), 2, leak=0.1), Decoder(Plan((4, 6), (2, 1)), 2)
    plain.load_state_dict(leaky.state_dict())
    x = torch.randn(1, 6, 8, 8)
    before = leaky.conv2_1(x)
    assert torch.equal(leaky.layers(2)[0].whole(x), torch.where(before > 0, before, 0.1 * before))
    assert torch.equal(plain.layers(2)[0].whole(x), before.relu())


def test_modules_after_a_tap() -> None:
    encoder = Autoencoder(SMALL).encoder
    assert encoder.modules_after(3) == ["conv3_2", "conv3_3", "conv4_1"]
    assert encoder.modules_after(0) == [n for n, _ in encoder.named_children() if n != "conv0"]
