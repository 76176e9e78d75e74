"""Moments of features: pixel count, mean and uncentred Gram, the only thing a style transform reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from . import ops
from ._precision import full_precision
from .errors import InvalidInputError

__all__ = ["Moments", "moments", "blend"]


class Moments(NamedTuple):
    """First and second moments of features F [C, n], for a batch of B feature maps.

    ``n`` [B] is the pixel count (or the sum of weights), ``mean`` [B, C] is F 1 / n and ``gram`` [B, C, C] is F F^T / n,
    not centred. Uncentred moments of parts add exactly: ``moments(left) + moments(right)`` are the moments of the whole,
    which is what makes tiles, frames, regions and ranks of a cluster exact.
    """

    n: Tensor
    mean: Tensor
    gram: Tensor

    @property
    def cov(self) -> Tensor:
        """Covariance [B, C, C]: the Gram less the mean's outer product."""
        return self.gram - self.mean.unsqueeze(-1) * self.mean.unsqueeze(-2)

    @property
    def channels(self) -> int:
        return self.mean.shape[-1]

    def sample(self, at: slice) -> Moments:
        """Those of some samples of the batch; of one sample, which serves all, itself."""
        return Moments(*(t[at] for t in self)) if len(self.n) > 1 else self

    def to(self, *args, **kwargs) -> Moments:
        return Moments(*(t.to(*args, **kwargs) for t in self))

    def __add__(self, other: object) -> Moments:
        if not isinstance(other, Moments):
            return NotImplemented
        n = self.n + other.n
        # both empty: keep zeros instead of 0 / 0
        share = self.n / n.clamp_min(torch.finfo(n.dtype).tiny)
        mean = torch.lerp(other.mean, self.mean, share.unsqueeze(-1))
        return Moments(n, mean, torch.lerp(other.gram, self.gram, share.unsqueeze(-1).unsqueeze(-1)))

    def __radd__(self, other: object) -> Moments:
        return self if other == 0 else NotImplemented  # so that sum() works


@full_precision
def moments(x: Tensor, weight: Tensor | None = None) -> Moments:
    """Moments of features x [B, C, N] or [B, C, H, W], with optional soft weights [B, N] or [B, H, W] in [0, inf).

    Half-precision features are accumulated in float32; float32 and float64 keep their dtype. Differentiable in x and weight.
    A map whose weights are all zero has zero moments. Raises InvalidInputError for any other shape or an integer dtype.
    """
    if not isinstance(x, Tensor) or x.dim() not in (3, 4) or not x.is_floating_point():
        got = f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        raise InvalidInputError(
            f"fastift.moments: x must be a floating-point tensor [B, C, N] or [B, C, H, W], got {got}"
        )
    if 0 in x.shape:
        raise InvalidInputError(f"fastift.moments: x must not be empty, got {tuple(x.shape)}")
    if weight is None:
        return Moments(*ops.moments(x.flatten(2)))
    if weight.shape != (x.shape[0], *x.shape[2:]):
        want = (x.shape[0], *x.shape[2:])
        raise InvalidInputError(
            f"fastift.moments: weight must be {want}, one per pixel of x, got {tuple(weight.shape)}"
        )
    n, mean, gram = ops.moments(x.flatten(2), weight.flatten(1).unsqueeze(1))
    return Moments(n.squeeze(1), mean.squeeze(1), gram.squeeze(1))


def blend(styles: list[Moments], weights: list[float]) -> Moments:
    """Moments of several styles as one: S = sum_q (lam_q / lam) S_q with lam = sum_q lam_q (paper, eq. 28-31).

    The joint objective of k styles has the same gradient as one style with this S, so blending costs nothing per step.
    Weights must be non-negative with a positive sum; n is the weighted mean of the counts.
    """
    check_weights(weights, len(styles))
    return Moments(*weighted_mean(styles, weights))


def check_weights(weights: Sequence[float], styles: int) -> None:
    """Raise unless there is one weight for each style, none negative, with a positive and finite sum."""
    if not styles or styles != len(weights):
        raise InvalidInputError(
            f"fastift.blend: expected one weight for each of at least one style, got {styles} styles, {len(weights)} weights"
        )
    if not all(0 <= w < float("inf") for w in weights) or not 0 < float(sum(weights)) < float("inf"):
        raise InvalidInputError(
            f"fastift.blend: weights must be finite, not negative and sum to more than 0, got {list(weights)}"
        )


def weighted_mean(tuples: Sequence[tuple[Tensor, ...]], weights: Sequence[float]) -> Iterator[Tensor]:
    """The mean of tuples of tensors, part by part, with weights that `check_weights` accepts."""
    total = float(sum(weights))
    shares = [w / total for w in weights]
    return (sum(w * part for w, part in zip(shares, parts, strict=True)) for parts in zip(*tuples, strict=True))
