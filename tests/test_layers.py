"""Chains of layers by bands of rows: the same as on whole pictures, for every kind of layer, size, step and sample."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from fastift import Affine, Autoencoder, AutoencoderConfig, Moments, Stylizer, layers, moments
from fastift.affine import Regional
from fastift.convolution import Conv3x3
from fastift.encoder import Encoder, Plan
from fastift.layers import (
    Conv,
    ConvUpsampled,
    Features,
    Mapped,
    Pending,
    Pointwise,
    Pool,
    Upsample,
    moments_of,
    read,
    run,
)


def relative(got: Tensor, want: Tensor) -> float:
    return float(((got - want).abs().max() / want.abs().max()).detach())


@pytest.fixture
def by_rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Makes every picture large enough for bands of 8 rows of input; the list fills with the heights that went by rows."""
    gone: list[int] = []
    inner = layers._bands

    def counted(chain, x: Tensor, step: int) -> Iterator[Tensor]:
        gone.append(x.shape[2])
        return inner(chain, x, step)

    monkeypatch.setattr(layers, "CORE", 1)
    monkeypatch.setattr(layers, "_bands", counted)
    return gone


def by(step: int, chain: list, x: Tensor) -> Tensor:
    out = torch.cat(list(layers._bands(chain, x, step)), 2)
    return out if chain[-1].slope is None else out.relu()


def random_map(batch: int, channels: int) -> Affine:
    return Affine(torch.randn(batch, channels, channels).double(), torch.randn(batch, channels).double())


CHAINS = {
    "convolution": lambda: [Conv(Conv3x3(3, 5))],
    "no activation": lambda: [Conv(Conv3x3(3, 5), None), Conv(Conv3x3(5, 2), None)],
    "leaky": lambda: [Conv(Conv3x3(3, 5), 0.1), Conv(Conv3x3(5, 4), 0.1)],
    "pointwise first": lambda: [Pointwise(nn.Conv2d(3, 4, 1)), Conv(Conv3x3(4, 5))],
    "one map for all": lambda: [Conv(Conv3x3(3, 5), affine=random_map(1, 3)), Conv(Conv3x3(5, 4))],
    "a map a sample": lambda: [Conv(Conv3x3(3, 5), affine=random_map(2, 3)), Conv(Conv3x3(5, 4))],
    "pooling": lambda: [Conv(Conv3x3(3, 4)), Pool(), Conv(Conv3x3(4, 5)), Pool(nn.Conv2d(5, 5, 2, 2, bias=False))],
    "pooling thrice": lambda: [Pool(), Conv(Conv3x3(3, 4)), Pool(), Conv(Conv3x3(4, 4)), Pool(), Conv(Conv3x3(4, 4))],
    "subpixel": lambda: [ConvUpsampled(Conv3x3(3, 5), nn.Conv2d(3, 12, 1)), Conv(Conv3x3(5, 4))],
    "nearest": lambda: [ConvUpsampled(Conv3x3(3, 5), None), ConvUpsampled(Conv3x3(5, 4), None), Conv(Conv3x3(4, 3), None)],
}  # fmt: skip


@pytest.mark.parametrize("size", [(16, 17), (17, 16), (23, 40), (40, 23), (64, 18)])
@pytest.mark.parametrize("chain", CHAINS, ids=str)
def test_rows_equal_the_whole(by_rows: list[int], chain: str, size: tuple[int, int]) -> None:
    made = CHAINS[chain]()
    for part in (getattr(layer, name, None) for layer in made for name in ("conv", "phases", "learned")):
        if part is not None:
            part.double()
    x = torch.randn(2, 3, *size, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    before = x.clone()
    with torch.no_grad():
        want = x
        for layer in made:
            want = layer.whole(want)
        got = run(made, x)
    assert got.shape == want.shape
    assert relative(got, want) < 1e-13
    assert torch.equal(x, before)
    assert by_rows == [size[0]] * 2  # each sample by itself


@pytest.mark.parametrize("step", [1, 2, 3, 5, 16, 100])
def test_every_step_gives_the_same(step: int) -> None:
    chain = [Conv(Conv3x3(3, 4)), Conv(Conv3x3(4, 4)), Pool(), Conv(Conv3x3(4, 4)), ConvUpsampled(Conv3x3(4, 3), None)]
    x = torch.randn(1, 3, 26, 14)
    with torch.no_grad():
        assert relative(by(step, chain, x), layers._whole(chain, x)) < 1e-5


def test_smallest_pictures() -> None:
    x = torch.randn(1, 3, 2, 2)
    chain = [Conv(Conv3x3(3, 4)), ConvUpsampled(Conv3x3(4, 3), None), Conv(Conv3x3(3, 3), None)]
    with torch.no_grad():
        for step in (1, 2):
            assert relative(by(step, chain, x), layers._whole(chain, x)) < 1e-5


def test_memory_full_of_nan_does_not_show(by_rows: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    def full_of_nan(like: Tensor, size: tuple[int, ...]) -> Tensor:
        return torch.full(size, float("nan"), dtype=like.dtype).contiguous(memory_format=torch.channels_last)

    monkeypatch.setattr(layers, "_empty", full_of_nan)
    chain = [Conv(Conv3x3(3, 4)), Conv(Conv3x3(4, 4)), Pool(), ConvUpsampled(Conv3x3(4, 3), None)]
    with torch.no_grad():
        assert torch.isfinite(run(chain, torch.randn(1, 3, 40, 20))).all()
    assert by_rows == [40]


def test_what_needs_a_gradient_or_cannot_go_by_rows_does_not(by_rows: list[int]) -> None:
    x = torch.randn(1, 3, 24, 24, requires_grad=True)
    conv = Conv3x3(3, 4)
    run([Conv(conv)], x).sum().backward()
    assert x.grad is not None
    assert conv.weight.grad is not None
    for parameter in conv.parameters():
        parameter.requires_grad_(False)
    weight = torch.eye(3)[None].requires_grad_()
    run([Conv(conv, affine=Affine(weight, torch.zeros(1, 3)))], x.detach()).sum().backward()
    assert weight.grad is not None
    with torch.no_grad():
        mask = torch.rand(1, 1, 24, 24)
        regional = Regional(Affine(torch.eye(3)[None, None], torch.zeros(1, 1, 3)), mask)
        assert relative(run([Conv(conv, None, regional)], x), conv(x * mask)) < 1e-5
        run([Conv(conv), Upsample("bilinear")], x)
        run([Mapped(Affine.identity(x))], x)
    assert by_rows == []
    run([Conv(conv)], x.detach())  # gradients are enabled, but nothing needs one
    assert by_rows == [24]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "settings", [{}, {"preset": "photo"}, {"flow": "single_pass"}, {"levels": (4, 3, 2, 1)}], ids=str
)
def test_pictures_are_the_same(
    by_rows: list[int], monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, settings: dict
) -> None:
    stylizer = Stylizer(device="cpu", dtype=dtype)
    x, style = torch.rand(2, 3, 88, 50), torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        got = stylizer(x, stylizer.style(style), **settings)
        assert by_rows
        monkeypatch.setattr(layers, "CORE", 2**40)
        by_rows.clear()
        want = stylizer(x, stylizer.style(style), **settings)
    assert not by_rows
    assert (got - want).abs().max() < (1e-3 if dtype == torch.float32 else 0.1)
    assert (got - want).abs().mean() < (1e-5 if dtype == torch.float32 else 1e-2)


def test_a_map_right_before_a_pooling_is_applied() -> None:
    encoder = Encoder(Plan((4, 6), (1, 1)))
    x, affine = torch.randn(1, 4, 8, 8), Affine(2 * torch.eye(4)[None], torch.ones(1, 4))
    with torch.no_grad():
        want = nnf.relu(encoder.conv2_1(nnf.max_pool2d(2 * x + 1, 2)))
        assert relative(encoder.stage(2, x, affine), want) < 1e-6


def test_vgg_like_networks_go_by_rows_too(by_rows: list[int]) -> None:
    config = AutoencoderConfig((4, 6, 8, 10), (2, 2, 4, 1), (2, 2, 4, 1), upsampling="nearest", single_pass=False)
    model = Autoencoder(config).eval().requires_grad_(False)
    x = torch.rand(1, 3, 64, 48)
    got = model.decoders["4"](model.encoder.tap(4, x))
    assert len(by_rows) == 2
    assert relative(model.encoder.tap(4, x), model.encoder(x)[-1]) < 1e-5
    assert got.shape == x.shape


@pytest.fixture
def slim() -> Autoencoder:
    return Stylizer(device="cpu").model


def test_pending_features_are_those_that_are_kept(by_rows: list[int], monkeypatch, slim: Autoencoder) -> None:
    x = torch.rand(1, 3, 56, 40)
    pending = slim.encoder.finest(x)
    assert isinstance(pending, Pending)
    features = read(pending)
    assert relative(features, slim.encoder(x, 1)[0]) < 1e-6
    want = moments(features)
    for got in (moments_of(pending), moments_of(features)):
        assert all(relative(a, b) < 1e-6 for a, b in zip(got, want, strict=True))
    assert relative(slim.decoders["1"](pending), slim.decoders["1"](features)) < 1e-5
    assert relative(slim.single_pass(pending, level=1), slim.single_pass(features, level=1)) < 1e-5
    by_rows.clear()
    monkeypatch.setattr(layers, "CORE", 2**40)  # as if torch had got more threads since
    assert all(relative(a, b) < 1e-6 for a, b in zip(moments_of(pending), want, strict=True))
    assert not by_rows
    assert isinstance(slim.encoder.finest(x), Tensor)


def test_a_tap_is_what_walking_there_gives(by_rows: list[int], slim: Autoencoder) -> None:
    x = torch.rand(1, 3, 64, 48)
    told: dict[int, list[Moments]] = {}

    def transform(n: int, features: Features) -> Affine:
        told.setdefault(n, []).append(moments_of(features))
        turned = torch.eye(slim.config.widths[n - 1]).roll(1, 0)[None]
        return Affine(turned, torch.full((1, len(turned[0])), 0.1))

    for n in (1, 2, 3, 4):
        assert relative(slim.encoder.tap(n, x), list(slim.encoder.walk(x, n))[-1]) < 1e-5
        by_walking = list(slim.encoder.walk(x, n, transform))[-1]
        assert relative(slim.encoder.tap(n, x, transform), by_walking) < 1e-5
    assert sorted(told) == [1, 2, 3]
    for seen in told.values():
        assert all(relative(m.gram, seen[0].gram) < 1e-4 for m in seen)


def test_regions_on_pending_features(by_rows: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    stylizer = Stylizer(device="cpu")
    x, labels = torch.rand(1, 3, 64, 48), torch.zeros(64, 48, dtype=torch.int64)
    labels[:, 24:] = 1
    styles = {label: stylizer.style(torch.rand(1, 3, 64, 64) ** (1 + label)) for label in (0, 1)}
    with torch.inference_mode():
        got = stylizer(x, styles, mask=labels)
        assert by_rows
        monkeypatch.setattr(layers, "CORE", 2**40)
        assert (got - stylizer(x, styles, mask=labels)).abs().max() < 1e-3


def test_other_networks_get_tensors(by_rows: list[int], slim: Autoencoder) -> None:
    class Own(nn.Module):
        def forward(self, features: Tensor, affine: Affine | None = None) -> Tensor:
            assert isinstance(features, Tensor)
            return slim.decoders["1"](features, affine)

    model = Stylizer(device="cpu").model
    want = Stylizer(model)(torch.rand(1, 3, 64, 48), torch.rand(1, 3, 32, 32), levels=(1,))
    model.decoders["1"] = Own()
    got = Stylizer(model)(torch.rand(1, 3, 64, 48), torch.rand(1, 3, 32, 32), levels=(1,))
    assert got.shape == want.shape
