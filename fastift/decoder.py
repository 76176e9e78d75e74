"""Decoders: the encoder mirrored, from reluN_1 back to an image."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from .affine import Affine, Regional
from .convolution import Conv3x3
from .detail import Detail, with_detail
from .encoder import Plan
from .layers import Conv, ConvUpsampled, Features, Layer, Pending, Upsample, read, run

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
        return run(self.layers(n, affine), x)

    def layers(self, n: int, affine: Affine | Regional | None = None) -> list[Layer]:
        """Those of a block."""
        first = self.get_submodule(f"conv{n}_1")
        if n == 1:
            return [Conv(first, 0.0 if self.final_relu else None, affine)]
        phases = self.get_submodule(f"up{n - 1}") if self.upsampling == "subpixel" else None
        stage = [self.get_submodule(f"conv{n - 1}_{k}") for k in range(self.plan.depths[n - 2], 1, -1)]
        found: list[Layer] = [Conv(first, self.leak, affine)]
        if stage and self.upsampling != "bilinear":
            found.append(ConvUpsampled(stage.pop(0), phases, self.leak))
        else:
            found.append(Upsample(self.upsampling, phases))
        return found + [Conv(conv, self.leak) for conv in stage]

    def forward(
        self,
        x: Features,
        affine: Affine | Regional | None = None,
        details: list[Detail] | None = None,
        transform: Callable[[int, Tensor], Affine | Regional | None] | None = None,
        level: int | None = None,
    ) -> Tensor:
        """Features [B, C, h, w] of relu{level}_1, pending ones too, to an image [B, 3, H, W], not clamped.

        affine is a map of the incoming features. transform(n, features) gives the map for the decoder's own reluN_1 features,
        n = level - 1 .. 1: the coarse-to-fine transforms of the single pass. details are those of the content's taps before
        level, see `fastift.detail`. level, by default the deepest, is the one to start from; a single-pass decoder takes any.
        """
        level = level or self.level
        if details is None and transform is None:
            chain = [a for n in range(level, 0, -1) for a in self.layers(n, affine if n == level else None)]
            return x.then(chain) if isinstance(x, Pending) else run(chain, x)
        x = read(x)
        for n in range(level, 0, -1):
            x = self.block(n, x, affine)
            if details is not None and n > 1:
                x = with_detail(x, details[n - 2])
            affine = transform(n - 1, x) if transform is not None and n > 1 else None
        return x
