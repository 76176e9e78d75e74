"""Affine maps: applying, composing, masks, and folding into a convolution."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as nnf
from features import relative
from torch import nn

from fastift import Affine, InvalidInputError, apply, fold
from fastift.convolution import Conv3x3, conv_after


def random_map(batch: int, channels: int, dtype=torch.float64) -> Affine:
    return Affine(torch.randn(batch, channels, channels, dtype=dtype), torch.randn(batch, channels, dtype=dtype))


@pytest.mark.parametrize("shape", [(1, 3, 1), (2, 60, 63), (2, 5, 7, 9)], ids=str)
def test_apply(shape: tuple[int, ...]) -> None:
    x, a = torch.randn(shape, dtype=torch.float64), random_map(shape[0], shape[1])
    want = torch.einsum("bij,bjn->bin", a.weight, x.flatten(2)) + a.bias[:, :, None]
    assert relative(apply(x, a), want.reshape(shape)) < 1e-14


def test_identity_and_composition() -> None:
    x, a, b = torch.randn(2, 4, 9, dtype=torch.float64), random_map(2, 4), random_map(2, 4)
    assert torch.equal(apply(x, Affine.identity(x)), x)
    assert relative(apply(x, a.then(b)), apply(apply(x, a), b)) < 1e-13
    half = apply(x, a.toward_identity(0.3))
    assert relative(half, 0.7 * x + 0.3 * apply(x, a)) < 1e-13


def test_soft_masks_mix_regions() -> None:
    x = torch.randn(2, 4, 3, 5, dtype=torch.float64)
    mask = torch.rand(2, 3, 3, 5, dtype=torch.float64)
    maps = Affine(torch.randn(2, 3, 4, 4, dtype=torch.float64), torch.randn(2, 3, 4, dtype=torch.float64))
    want = sum(mask[:, r, None] * apply(x, Affine(maps.weight[:, r], maps.bias[:, r])) for r in range(3))
    assert relative(apply(x, maps, mask), want) < 1e-13


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("bias", [True, False])
def test_fold_equals_convolution_of_the_mapped_features(batch: int, bias: bool) -> None:
    conv = nn.Conv2d(7, 5, 3, padding=1, padding_mode="reflect", bias=bias).double()
    x, a = torch.randn(batch, 7, 6, 8, dtype=torch.float64), random_map(batch, 7)
    assert relative(conv_after(x, conv, a), conv(apply(x, a))) < 1e-13


def test_fold_is_wrong_with_zero_padding() -> None:
    """Why every network here pads by reflection: zeros are not mapped to the bias."""
    conv = nn.Conv2d(3, 2, 3, padding=1).double()
    x, a = torch.randn(1, 3, 6, 6, dtype=torch.float64), random_map(1, 3)
    weight, bias = fold(conv.weight, conv.bias, a)
    folded, want = nnf.conv2d(x, weight[0], bias[0], padding=1), conv(apply(x, a))
    assert relative(folded[:, :, 1:-1, 1:-1], want[:, :, 1:-1, 1:-1]) < 1e-13
    assert relative(folded, want) > 1e-2


def test_gradients() -> None:
    x, a = torch.randn(1, 3, 4, 4, dtype=torch.float64, requires_grad=True), random_map(1, 3)
    w, b = (t.requires_grad_() for t in a)
    conv = Conv3x3(3, 2).double()
    assert torch.autograd.gradcheck(lambda x, w, b: apply(x, Affine(w, b)), (x, w, b))
    assert torch.autograd.gradcheck(lambda x, w, b: conv_after(x, conv, Affine(w, b)), (x, w, b))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: apply(torch.ones(2, 3), random_map(1, 3)), "x must be"),
        (lambda: apply(torch.ones(1, 3, 4), random_map(1, 5)), r"got x \(1, 3, 4\) and weight \(1, 5, 5\)"),
        (lambda: apply(torch.ones(3, 3, 4), random_map(2, 3)), "map's B and C"),
        (
            lambda: apply(
                torch.ones(1, 3, 4), Affine(torch.ones(1, 2, 3, 3), torch.ones(1, 2, 3)), torch.ones(1, 2, 5)
            ),
            "mask must be",
        ),
        (lambda: fold(torch.ones(2, 4, 3, 3), None, random_map(1, 3)), "conv_weight must be"),
        (lambda: random_map(1, 3).toward_identity(1.5), r"alpha must lie in \[0, 1\], got 1.5"),
    ],
)
def test_refusals(call, says: str) -> None:
    with pytest.raises(InvalidInputError, match=says):
        call()
