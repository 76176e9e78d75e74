"""Whitening and colouring (Li et al., NeurIPS 2017), symmetric (ZCA): the content's covariance out, the style's in."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import ops
from .._precision import full_precision
from ..affine import Affine
from ..moments import Moments
from .pair import check_alpha, check_pair, covariances

__all__ = ["wct"]


@full_precision
def wct(content: Moments, style: Moments, *, alpha: float = 1.0, eps: float = 1e-3) -> Affine:
    """x -> S_s^1/2 S_c^-1/2 (x - mean_c) + mean_s, with covariances S of content and style (eq. 3 and 4 of the paper).

    alpha in [0, 1] blends with the identity. eps in (0, 1) is a ridge on both covariances, relative to the largest variance of
    each (see `covariances`): the mapped covariance is the style's up to eps, in the directions where the content has any energy.
    """
    check_pair("fastift.wct", content, style)
    check_alpha("fastift.wct", alpha, eps)
    cov_c, mean_c, cov_s, mean_s = covariances(content, style, eps)
    _, whiten = ops.sqrtm_psd(cov_c, 0.0)
    colour, _ = ops.sqrtm_psd(cov_s, 0.0)
    return through_means(colour @ whiten, mean_c, mean_s).toward_identity(alpha)


def through_means(weight: Tensor, mean_c: Tensor, mean_s: Tensor) -> Affine:
    """The map with this weight that takes one mean to the other."""
    return Affine(weight, mean_s - torch.einsum("bij,bj->bi", weight, mean_c))
