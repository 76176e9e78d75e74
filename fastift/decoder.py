"""Decoders: the encoder mirrored, from reluN_1 back to an image."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as nnf
from torch import Tensor, nn

from .affine import Affine, Regional
from .convolution import Conv3x3, conv_after, conv_upsampled
from .detail import Detail, with_detail
from .encoder import Plan

__all__ = ["Decoder"]


class Decoder(nn.Module):
    """From reluN_1 to the image, in blocks: block n turns reluN_1-like features into relu(n-1)_1-like ones, block 1 into RGB.

    Block n is convn_1, upsampling by 2 ("bilinear", "nearest", or "subpixel": a learned 1x1 convolution to four phases, which
    alone can put detail where it was), then the rest of stage n - 1 in reverse, each with a ReLU; block 1 is conv1_1 without one.
    As one of the cascade's decoders only its image matters. As the single-pass decoder its inner features are trained to equal
    the encoder's taps, so a transform can act on them, and the content's `detail` can take the place of their own. leak is
    the slope of the ReLUs below zero: with 0 most channels of features that are told their values die early in training.
    """

    def __init__(
        self, plan: Plan, level: int, *, upsampling: str = "bilinear", final_relu: bool = False, leak: float = 0.0
    ):
        super().__init__()
        self.plan, self.level = plan, level
        self.upsampling, self.final_relu, self.leak = upsampling, final_relu, leak
        for n in range(level, 1, -1):
            width, below = plan.widths[n - 1], plan.widths[n - 2]
            self.add_module(f"conv{n}_1", Conv3x3(width, below))
            if upsampling == "subpixel":
                self.add_module(f"up{n - 1}", nn.Conv2d(below, 4 * below, 1))
            for k in range(plan.depths[n - 2], 1, -1):
                self.add_module(f"conv{n - 1}_{k}", Conv3x3(below, below))
        self.conv1_1 = Conv3x3(plan.widths[0], 3)

    def block(self, n: int, x: Tensor, affine: Affine | Regional | None = None) -> Tensor:
        """One block; a map of its input is folded into its first convolution."""
        x = conv_after(x, self.get_submodule(f"conv{n}_1"), affine)
        if n == 1:
            return nnf.relu_(x) if self.final_relu else x
        x = self.activate(x)
        stage = [self.get_submodule(f"conv{n - 1}_{k}") for k in range(self.plan.depths[n - 2], 1, -1)]
        if not stage:
            return self.upsample(n - 1, x)
        x = self.activate(self.upsample(n - 1, x, stage[0]))
        for conv in stage[1:]:
            x = self.activate(conv(x))
        return x

    def activate(self, x: Tensor) -> Tensor:
        return nnf.leaky_relu_(x, self.leak) if self.leak else nnf.relu_(x)

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
        details: list[Detail] | None = None,
        transform: Callable[[int, Tensor], Affine | Regional | None] | None = None,
        level: int | None = None,
    ) -> Tensor:
        """Features [B, C, h, w] of relu{level}_1 to an image [B, 3, H, W], not clamped.

        affine is a map of the incoming features. transform(n, features) gives the map for the decoder's own reluN_1 features,
        n = level - 1 .. 1: the coarse-to-fine transforms of the single pass. details are those of the content's taps before
        level, see `fastift.detail`. level, by default the deepest, is the one to start from; a single-pass decoder takes any.
        """
        for n in range(level or self.level, 0, -1):
            x = self.block(n, x, affine)
            if details is not None and n > 1:
                x = with_detail(x, details[n - 2])
            affine = transform(n - 1, x) if transform is not None and n > 1 else None
        return x
