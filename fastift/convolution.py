"""Convolutions as every network here has them: 3x3, padded by reflection, with an affine map or an upsampling folded in."""

from __future__ import annotations

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from ._precision import full_precision
from .affine import Affine, Regional, apply, fold

__all__ = ["Conv3x3", "conv_after", "conv_upsampled"]

WORTH_STRIPS = 2_000_000
"""Numbers in an input from which, on a CPU, convolving the border twice is cheaper than copying everything to pad it."""


class Conv3x3(nn.Conv2d):
    """3 x 3, stride 1, reflection padding: [B, in, H, W] to [B, out, H, W], H and W from 2."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(channels_in, channels_out, 3, padding=1, padding_mode="reflect")

    def forward(self, x: Tensor) -> Tensor:
        return conv_reflected(x, self.weight, self.bias)


def conv_reflected(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """3 x 3 convolution of x [B, C, H, W] padded by reflection."""
    h, w = x.shape[2:]
    plain = torch.compiler.is_compiling() or torch.is_grad_enabled() or x.device.type != "cpu"
    if plain or x.numel() < WORTH_STRIPS or min(h, w) < 3:
        return nnf.conv2d(nnf.pad(x, (1, 1, 1, 1), mode="reflect"), weight, bias)
    # with zeros outside, only the outermost rows and columns differ
    out = nnf.conv2d(x, weight, bias, padding=1)
    rows = torch.cat([x[:, :, [1, 0, 1]], x[:, :, [h - 2, h - 1, h - 2]]])
    rows = nnf.conv2d(nnf.pad(rows, (1, 1, 0, 0), mode="reflect"), weight, bias)
    columns = torch.cat([x[:, :, :, [1, 0, 1]], x[:, :, :, [w - 2, w - 1, w - 2]]])
    columns = nnf.conv2d(nnf.pad(columns, (0, 0, 1, 1), mode="reflect"), weight, bias)
    out[:, :, :1], out[:, :, -1:] = rows.chunk(2)
    out[:, :, :, :1], out[:, :, :, -1:] = columns.chunk(2)
    return out


def conv_after(x: Tensor, conv: Conv3x3, affine: Affine | Regional | None) -> Tensor:
    """conv(affine(x)) with the map folded: no pass over the pixels for it.

    Maps by region vary over the picture and are applied first.
    """
    if affine is None:
        return conv(x)
    if isinstance(affine, Regional):
        return conv(apply(x, affine.affine, affine.mask))
    weights, biases = fold(conv.weight, conv.bias, affine)
    # one convolution a sample: grouped convolutions are slower than this on every CPU that was tried
    samples = x.split(1) if len(weights) > 1 else [x]
    out = [conv_reflected(s, w.to(s.dtype), b.to(s.dtype)) for s, w, b in zip(samples, weights, biases, strict=True)]
    return out[0] if len(out) == 1 else torch.cat(out)


def conv_upsampled(x: Tensor, conv: Conv3x3, phases: nn.Conv2d | None) -> Tensor:
    """conv of x [B, C, H, W] upsampled by 2, to [B, out, 2 H, 2 W], as one transposed convolution of four taps a pixel.

    phases is the 1 x 1 convolution of subpixel upsampling (shuffled to 2 x 2 pixels), None nearest-neighbour upsampling.
    Both are linear, and nothing stands between them and conv: together they cost 4 products a pixel instead of 9 and the
    upsampling's. Reflecting the upsampled picture is the same as repeating the outermost pixels of x.
    """
    weight, shift = _composed(conv, phases)
    x = nnf.pad(x, (1, 1, 1, 1), mode="replicate")
    if phases is None:
        return nnf.conv_transpose2d(x, weight, conv.bias, stride=2, padding=3)
    out = nnf.conv_transpose2d(x, weight, stride=2, padding=3)
    b, c, h, w = out.shape
    out.view(b, c, h // 2, 2, w // 2, 2).add_(shift.to(out.dtype)[:, None, :, None, :])
    return out


@full_precision
def _composed(conv: Conv3x3, phases: nn.Conv2d | None) -> tuple[Tensor, Tensor]:
    """Weight [C, out, 4, 4] of the transposed convolution, and the bias of each of the four phases [out, 2, 2]."""
    middle = conv.in_channels
    if phases is None:
        spread = torch.eye(middle, dtype=conv.weight.dtype, device=conv.weight.device)[:, :, None, None]
        return nnf.conv2d(spread.expand(-1, -1, 2, 2), conv.weight, padding=2), conv.bias
    spread = phases.weight.view(middle, 2, 2, -1).permute(3, 0, 1, 2)
    before = phases.bias.view(1, middle, 2, 2)
    shift = nnf.conv2d(nnf.pad(before, (1, 1, 1, 1), mode="circular"), conv.weight, conv.bias)
    return nnf.conv2d(spread, conv.weight, padding=2), shift.squeeze(0)
