"""Convolutions as every network here has them: 3x3, padded by reflection, with an affine map or an upsampling folded in."""

from __future__ import annotations

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from ._precision import full_precision
from .affine import Affine, Regional, apply, fold

__all__ = ["Conv3x3", "composed", "conv_after", "conv_upsampled"]


class Conv3x3(nn.Conv2d):
    """3 x 3, stride 1, reflection padding: [B, in, H, W] to [B, out, H, W], H and W from 2."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(channels_in, channels_out, 3, padding=1, padding_mode="reflect")


def conv_after(x: Tensor, conv: Conv3x3, affine: Affine | Regional | None) -> Tensor:
    """conv(affine(x)) with the map folded: no pass over the pixels for it.

    Maps by region vary over the picture and are applied first.
    """
    if affine is None:
        return conv(x)
    if isinstance(affine, Regional):
        return conv(apply(x, affine.affine, affine.mask))
    weights, biases = fold(conv.weight, conv.bias, affine)
    x = nnf.pad(x, (1, 1, 1, 1), mode="reflect")
    # one convolution a sample: grouped convolutions are slower than this on every CPU that was tried
    samples = x.split(1) if len(weights) > 1 else [x]
    out = [nnf.conv2d(s, w.to(s.dtype), b.to(s.dtype)) for s, w, b in zip(samples, weights, biases, strict=True)]
    return out[0] if len(out) == 1 else torch.cat(out)


def conv_upsampled(x: Tensor, conv: Conv3x3, phases: nn.Conv2d | None) -> Tensor:
    """conv of x [B, C, H, W] upsampled by 2, to [B, out, 2 H, 2 W], as one transposed convolution of four taps a pixel.

    phases is the 1 x 1 convolution of subpixel upsampling (shuffled to 2 x 2 pixels), None nearest-neighbour upsampling.
    Both are linear, and nothing stands between them and conv: together they cost 4 products a pixel instead of 9 and the
    upsampling's. Reflecting the upsampled picture is the same as repeating the outermost pixels of x.
    """
    weight, shift = composed(conv, phases)
    return transposed(nnf.pad(x, (1, 1, 1, 1), mode="replicate"), weight, shift)


def transposed(x: Tensor, weight: Tensor, shift: Tensor) -> Tensor:
    """The transposed convolution of x [B, C, H + 2, W + 2], which has what it needs around it, to [B, out, 2 H, 2 W]."""
    if shift.dim() == 1:
        return nnf.conv_transpose2d(x, weight, shift, stride=2, padding=3)
    out = nnf.conv_transpose2d(x, weight, stride=2, padding=3)
    b, c, h, w = out.shape
    out.view(b, c, h // 2, 2, w // 2, 2).add_(shift.to(out.dtype)[:, None, :, None, :])
    return out


@full_precision
def composed(conv: Conv3x3, phases: nn.Conv2d | None) -> tuple[Tensor, Tensor]:
    """Weight [C, out, 4, 4] of the transposed convolution, and its bias [out], or that of its four phases [out, 2, 2]."""
    middle = conv.in_channels
    if phases is None:
        spread = torch.eye(middle, dtype=conv.weight.dtype, device=conv.weight.device)[:, :, None, None]
        return nnf.conv2d(spread.expand(-1, -1, 2, 2), conv.weight, padding=2), conv.bias
    spread = phases.weight.view(middle, 2, 2, -1).permute(3, 0, 1, 2)
    before = phases.bias.view(1, middle, 2, 2)
    shift = nnf.conv2d(nnf.pad(before, (1, 1, 1, 1), mode="circular"), conv.weight, conv.bias)
    return nnf.conv2d(spread, conv.weight, padding=2), shift.squeeze(0)
