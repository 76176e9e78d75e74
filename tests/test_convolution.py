"""Convolutions with reflection padding: the folded upsampling against what it replaces."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as nnf
from torch import nn

from fastift.convolution import Conv3x3, conv_upsampled


def relative(got: torch.Tensor, want: torch.Tensor) -> float:
    return float(((got - want).abs().max() / want.abs().max()).detach())


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("size", [(2, 2), (5, 3), (8, 12)])
@pytest.mark.parametrize("upsampling", ["subpixel", "nearest"])
def test_upsampling_folds_into_the_convolution(upsampling: str, size: tuple[int, int], bias: bool) -> None:
    x = torch.randn(2, 6, *size, dtype=torch.float64, requires_grad=True)
    conv = Conv3x3(6, 4).double()
    phases = nn.Conv2d(6, 24, 1).double() if upsampling == "subpixel" else None
    if not bias and phases is not None:
        nn.init.zeros_(phases.bias)
    upsampled = nnf.interpolate(x, scale_factor=2) if phases is None else nnf.pixel_shuffle(phases(x), 2)
    want, got = conv(upsampled), conv_upsampled(x, conv, phases)
    assert got.shape == want.shape == (2, 4, 2 * size[0], 2 * size[1])
    assert relative(got, want) < 1e-13
    inputs = [x, *conv.parameters(), *(phases.parameters() if phases is not None else ())]
    probe = torch.randn_like(want)
    for a, b in zip(torch.autograd.grad(got, inputs, probe), torch.autograd.grad(want, inputs, probe), strict=True):
        assert relative(a, b) < 1e-12


def test_memory_layout_is_kept() -> None:
    x = torch.randn(1, 6, 8, 8).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        out = conv_upsampled(x, Conv3x3(6, 4), nn.Conv2d(6, 24, 1))
    assert out.is_contiguous(memory_format=torch.channels_last)
