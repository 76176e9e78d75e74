"""Skips: the content's finest octave at each level, given to a decoder in proportion to the contrast of its own features."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as nnf
from torch import Tensor

__all__ = ["Detail", "detail", "with_detail"]

MOST_GAIN = 3.0
"""Restyled features may have so much more contrast than the content's; a channel almost dead in the content no more than that."""

TINY = 1e-24
"""Keeps the gradient of a square root finite where a channel is constant."""


class Detail(NamedTuple):
    """The finest octave of a tap [B, C, H, W], and how strong the next one is [B, C, 1, 1]: its root mean square."""

    finest: Tensor
    next: Tensor


def detail(tap: Tensor) -> Detail:
    """What pooling loses of an encoder's tap [B, C, H, W], H and W even."""
    coarse = nnf.avg_pool2d(tap, 2)
    return Detail(tap - enlarged(coarse, tap), next_octave(coarse))


def with_detail(features: Tensor, detail: Detail) -> Tensor:
    """Features [B, C, H, W] whose finest octave is the detail, as strong as their own next octave asks for.

    Instance-normalised: the contrast comes from the features as they are now (restyled, say), the edges and how sharp they are
    from the content. Features that equal the content's tap in all octaves but the finest become that tap.
    """
    coarse = nnf.avg_pool2d(features, 2)
    floor = torch.finfo(torch.float32).tiny
    gain = (next_octave(coarse) / detail.next.clamp_min(floor)).clamp_max(MOST_GAIN)
    return torch.addcmul(enlarged(coarse, features), gain.to(features.dtype), detail.finest)


def next_octave(coarse: Tensor) -> Tensor:
    """Root mean square of what a further pooling of features that were pooled once would lose, float32 or better [B, C, 1, 1]."""
    lost = coarse - enlarged(nnf.avg_pool2d(coarse, 2), coarse)
    lost = lost.float() if lost.dtype in (torch.float16, torch.bfloat16) else lost
    return lost.square().mean((2, 3), keepdim=True).clamp_min(TINY).sqrt()


def enlarged(coarse: Tensor, like: Tensor) -> Tensor:
    """To the height and width of like, which may be odd."""
    return nnf.interpolate(coarse, size=like.shape[2:], mode="bilinear", align_corners=False)
