"""Affine maps of features, the only thing a style transform returns: applied per pixel, or folded into a convolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from . import ops
from ._precision import full_precision
from .errors import InvalidInputError
from .moments import weighted_mean

__all__ = ["Affine", "Regional", "apply", "fold"]


class Affine(NamedTuple):
    """The map F -> weight F + bias on channels, for a batch: weight [B, C, C], bias [B, C]."""

    weight: Tensor
    bias: Tensor

    @classmethod
    def identity(cls, like: Tensor) -> Affine:
        """The identity on the channels of a tensor [B, C, ...]."""
        b, c = like.shape[:2]
        eye = torch.eye(c, dtype=like.dtype, device=like.device).expand(b, c, c)
        return cls(eye, torch.zeros(b, c, dtype=like.dtype, device=like.device))

    def toward_identity(self, alpha: float) -> Affine:
        """(1 - alpha) identity + alpha self: equal to blending the features themselves. alpha in [0, 1]."""
        if not 0 <= alpha <= 1:
            raise InvalidInputError(f"Affine.toward_identity: alpha must lie in [0, 1], got {alpha}")
        eye = torch.eye(self.weight.shape[-1], dtype=self.weight.dtype, device=self.weight.device)
        return Affine(torch.lerp(eye.expand_as(self.weight), self.weight, alpha), alpha * self.bias)

    @classmethod
    def mean(cls, maps: Sequence[Affine], weights: Sequence[float]) -> Affine:
        """The weighted mean of maps: what it gives is the weighted mean of what they give (supplement, eq. 34)."""
        return cls(*weighted_mean(maps, weights))

    def then(self, other: Affine) -> Affine:
        """The map that applies self first and other second."""
        return Affine(other.weight @ self.weight, (other.weight @ self.bias.unsqueeze(-1)).squeeze(-1) + other.bias)


class Regional(NamedTuple):
    """One map a region, weight [B, R, C, C] and bias [B, R, C], with the regions' soft masks [B, R, H, W]. Cannot be folded."""

    affine: Affine
    mask: Tensor


@full_precision
def apply(x: Tensor, affine: Affine, mask: Tensor | None = None) -> Tensor:
    """weight x + bias for features x [B, C, N] or [B, C, H, W]; keeps shape and dtype.

    A batch of one map serves every x. With a soft mask [B, R, H, W] (or [B, R, N]) the affine holds R regions,
    weight [B, R, C, C] and bias [B, R, C], and the result is sum_r mask_r (weight_r x + bias_r).
    """
    weight, bias = affine
    c = x.shape[1] if x.dim() in (3, 4) else None
    if c is None or weight.shape[-1] != c or weight.shape[0] not in (1, x.shape[0]):
        raise InvalidInputError(
            f"fastift.apply: x must be [B, C, N] or [B, C, H, W] with the map's B and C, "
            f"got x {tuple(x.shape)} and weight {tuple(weight.shape)}"
        )
    if mask is None:
        return ops.apply_affine(x.flatten(2), weight, bias).reshape(x.shape)
    if mask.dim() != x.dim() or mask.shape[1] != weight.shape[1] or mask.shape[2:] != x.shape[2:]:
        raise InvalidInputError(
            f"fastift.apply: mask must be [B, R, ...] with the pixels of x and R regions of the map, "
            f"got mask {tuple(mask.shape)}, x {tuple(x.shape)}, weight {tuple(weight.shape)}"
        )
    return ops.apply_affine(x.flatten(2), weight, bias, mask.flatten(2)).reshape(x.shape)


@full_precision
def fold(conv_weight: Tensor, conv_bias: Tensor | None, affine: Affine) -> tuple[Tensor, Tensor]:
    """Weights of the convolution that does the map first: conv(A F + b) = conv'(F).

    conv_weight [O, C, kh, kw], conv_bias [O] or None; returns [B, O, C, kh, kw] and [B, O]. Exact with reflection padding
    (the padded pixels are mapped like any other), wrong with zero padding as soon as the map's bias is not zero.
    """
    weight, bias = affine
    if conv_weight.dim() != 4 or conv_weight.shape[1] != weight.shape[-1]:
        raise InvalidInputError(
            f"fastift.fold: conv_weight must be [O, C, kh, kw] with the map's C = {weight.shape[-1]}, "
            f"got {tuple(conv_weight.shape)}"
        )
    # in the map's precision: its entries may cancel, and this costs nothing per pixel
    w = conv_weight.to(weight.dtype)
    folded = torch.einsum("ojhw,bji->boihw", w, weight)
    shift = torch.einsum("oj,bj->bo", w.sum((2, 3)), bias)
    if conv_bias is not None:
        shift = shift + conv_bias.to(weight.dtype)
    return folded, shift
