"""IFTransform in a network that is not ours."""

from __future__ import annotations

import pytest
import torch
from features import relative
from torch import nn

from fastift import IFTransform, InvalidInputError, ift_scale_free, moments
from fastift.transform.named import TRANSFORMS


def patches(**settings) -> nn.Sequential:
    """An encoder and a decoder nobody trained: 4 x 4 pixels of 3 colours are 48 channels, and back."""
    return nn.Sequential(nn.PixelUnshuffle(4), IFTransform(48, **settings), nn.PixelShuffle(4))


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_brings_statistics_closer_in_another_network(transform: str) -> None:
    net = patches(transform=transform)
    x, style = torch.rand(2, 3, 32, 40), 0.3 * torch.rand(1, 3, 48, 48) + 0.5
    assert torch.equal(net(x), x)
    net[1].set_style(net[0](style))
    out = net(x)
    assert out.shape == x.shape
    want = moments(net[0](style)).gram
    for i in range(2):
        after, before = (relative(moments(net[0](v[i : i + 1])).gram, want) for v in (out, x))
        assert after < 0.7 * before


def test_is_the_transform_and_strength_is_a_dial() -> None:
    layer = IFTransform(6, strength=0.4)
    f, g = torch.rand(1, 6, 50), torch.rand(1, 6, 70) ** 3
    layer.set_style(g)
    weight = ift_scale_free(moments(f), moments(g), strength=0.4).weight
    assert torch.allclose(layer(f), weight @ f, atol=1e-6)
    layer.strength = 0.0
    assert layer(f) is f


def test_styles_blend_and_travel_with_the_state() -> None:
    a, b = torch.rand(1, 4, 30), torch.rand(1, 4, 40) ** 2
    layer = IFTransform(4).set_style(a, moments(b), weights=[0.25, 0.75])
    assert torch.allclose(layer.style_gram, 0.25 * moments(a).gram + 0.75 * moments(b).gram)
    other = IFTransform(4)
    other.load_state_dict(layer.state_dict())
    x = torch.rand(2, 4, 5, 6)
    assert torch.equal(other(x), layer(x))
    assert not torch.equal(other(x), x)
    assert "with a style" in repr(other)


def test_trains_through_compiles_and_runs_in_half_precision() -> None:
    layer = IFTransform(5).set_style(torch.rand(1, 5, 60))
    x = torch.rand(2, 5, 8, 8, requires_grad=True)
    layer(x).square().sum().backward()
    assert torch.isfinite(x.grad).all()
    compiled = torch.compile(layer, fullgraph=True)
    assert torch.allclose(compiled(x), layer(x), atol=1e-5)
    half = layer(x.detach().bfloat16())
    assert half.dtype == torch.bfloat16
    assert relative(half, layer(x)) < 0.02


def test_refusals() -> None:
    layer = IFTransform(5)
    for bad, why in [
        (lambda: IFTransform(0), "channels must be"),
        (lambda: IFTransform(5, transform="x"), "transform must be one of"),
        (lambda: layer(torch.rand(2, 4, 9)), "features must be"),
        (lambda: layer.set_style(), "got none"),
        (lambda: layer.set_style(torch.rand(1, 4, 9)), "5 channels"),
        (lambda: layer.set_style(torch.rand(2, 5, 9)), "one sample"),
    ]:
        with pytest.raises(InvalidInputError, match=why):
            bad()
    layer.strength = 2
    with pytest.raises(InvalidInputError, match="strength must lie"):
        layer(torch.rand(1, 5, 9))
