"""Decoders: the encoder mirrored, from reluN_1 back to an image."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from .affine import Affine, Regional
from .convolution import Conv3x3, conv_after, conv_upsampled
from .encoder import Plan

__all__ = ["Decoder"]

TINY = 1e-24
"""Keeps the gradient of a square root finite where a channel is constant."""


class Decoder(nn.Module):
    """From reluN_1 to the image, in blocks: block n turns reluN_1-like features into relu(n-1)_1-like ones, block 1 into RGB.

    Block n is convn_1, upsampling by 2 ("bilinear", "nearest", or "subpixel": a learned 1x1 convolution to four phases, which
    alone can put detail where it was), then the rest of stage n - 1 in reverse, each with a ReLU; block 1 is conv1_1 without one.
    As one of the cascade's decoders only its image matters. As the single-pass decoder its inner features are trained to
    equal the encoder's taps, so a transform can act on them; with ``skips`` it can also be given the encoder's fine detail
    (`detail`), which it adds after upsampling: the photo-realistic mode.
    """

    def __init__(
        self, plan: Plan, level: int, *, skips: bool = False, upsampling: str = "bilinear", final_relu: bool = False
    ):
        super().__init__()
        self.plan, self.level = plan, level
        self.upsampling, self.final_relu = upsampling, final_relu
        for n in range(level, 1, -1):
            width, below = plan.widths[n - 1], plan.widths[n - 2]
            self.add_module(f"conv{n}_1", Conv3x3(width, below))
            if upsampling == "subpixel":
                self.add_module(f"up{n - 1}", nn.Conv2d(below, 4 * below, 1))
            if skips:
                self.add_module(f"skip{n - 1}", nn.Conv2d(below, below, 1, bias=False))
            for k in range(plan.depths[n - 2], 1, -1):
                self.add_module(f"conv{n - 1}_{k}", Conv3x3(below, below))
        self.conv1_1 = Conv3x3(plan.widths[0], 3)

    def block(self, n: int, x: Tensor, affine: Affine | Regional | None = None, skip: Tensor | None = None) -> Tensor:
        """One block; a map of its input is folded into its first convolution, a skip is the detail of stage n - 1."""
        x = conv_after(x, self.get_submodule(f"conv{n}_1"), affine)
        if n == 1:
            return nnf.relu_(x) if self.final_relu else x
        x = nnf.relu_(x)
        stage = [self.get_submodule(f"conv{n - 1}_{k}") for k in range(self.plan.depths[n - 2], 1, -1)]
        if not stage:
            return self.upsample(n - 1, x)
        x = self.upsample(n - 1, x, stage[0])
        if skip is not None:
            x = x + self.get_submodule(f"skip{n - 1}")(skip) * next_octave(x)
        x = nnf.relu_(x)
        for conv in stage[1:]:
            x = nnf.relu_(conv(x))
        return x

    def upsample(self, n: int, x: Tensor, conv: Conv3x3 | None = None) -> Tensor:
        """x at twice its size, and the convolution behind that if there is one."""
        phases = self.get_submodule(f"up{n}") if self.upsampling == "subpixel" else None
        if conv is not None and self.upsampling != "bilinear":
            return conv_upsampled(x, conv, phases)
        if phases is not None:
            return nnf.pixel_shuffle(phases(x), 2)
        smooth = {"mode": "bilinear", "align_corners": False} if self.upsampling == "bilinear" else {"mode": "nearest"}
        x = nnf.interpolate(x, scale_factor=2, **smooth)
        return x if conv is None else conv(x)

    def forward(
        self,
        x: Tensor,
        affine: Affine | Regional | None = None,
        skips: list[Tensor] | None = None,
        transform: Callable[[int, Tensor], Affine | Regional | None] | None = None,
        level: int | None = None,
    ) -> Tensor:
        """Features [B, C, h, w] of relu{level}_1 to an image [B, 3, H, W], not clamped.

        affine is a map of the incoming features. transform(n, features) gives the map for the decoder's own reluN_1 features,
        n = level - 1 .. 1: the coarse-to-fine transforms of the single pass. skips are details of the encoder's stages, see
        `detail`. level, by default the deepest, is the one to start from: a single-pass decoder can start at any.
        """
        for n in range(level or self.level, 0, -1):
            skip = skips[n - 2] if skips is not None and n > 1 else None
            x = self.block(n, x, affine, skip)
            affine = transform(n - 1, x) if transform is not None and n > 1 else None
        return x


def detail(skip: Tensor) -> Tensor:
    """What pooling and bilinear upsampling lose of an encoder map [B, C, H, W], instance-normalised.

    Normalising takes away the content's own contrast, so that only where the edges are survives, not how strong they were:
    statistics must come from the style.
    """
    d = lost_by_pooling(skip).float()
    spread = d.square().mean((2, 3), keepdim=True)
    # relative floor: a dead channel must stay zero and not become amplified round-off
    floor = 1e-4 * spread.mean(1, keepdim=True) + torch.finfo(d.dtype).tiny
    return (d * torch.rsqrt(spread + floor)).to(skip.dtype)


def next_octave(x: Tensor) -> Tensor:
    """How strong the detail of [B, C, H, W] is one octave below its finest, as [B, C, 1, 1].

    Upsampled features still have that octave, and in pictures neighbouring octaves are about equally strong: it tells how
    strong the finest should be, by the statistics of the features as they are now (restyled, say), whatever the picture's size.
    """
    return (
        lost_by_pooling(nnf.avg_pool2d(x, 2))
        .float()
        .square()
        .mean((2, 3), keepdim=True)
        .clamp_min(TINY)
        .sqrt()
        .to(x.dtype)
    )


def lost_by_pooling(x: Tensor) -> Tensor:
    coarse = nnf.avg_pool2d(x, 2)
    return x - nnf.interpolate(coarse, size=x.shape[2:], mode="bilinear", align_corners=False)
