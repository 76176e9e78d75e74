"""Adaptive instance normalisation (Huang and Belongie, ICCV 2017): mean and deviation of each channel alone."""

from __future__ import annotations

import torch

from .._precision import full_precision
from ..affine import Affine
from ..moments import Moments
from .pair import check_alpha, check_pair, covariances
from .wct import through_means

__all__ = ["adain"]


@full_precision
def adain(content: Moments, style: Moments, *, alpha: float = 1.0, eps: float = 1e-5) -> Affine:
    """x_i -> (x_i - mean_c,i) sigma_s,i / sigma_c,i + mean_s,i for each channel i.

    alpha in [0, 1] blends with the identity. eps in (0, 1) is added to both variances, relative to the largest of each.
    """
    check_pair("fastift.adain", content, style)
    check_alpha("fastift.adain", alpha, eps)
    cov_c, mean_c, cov_s, mean_s = covariances(content, style, eps)
    gain = torch.sqrt(cov_s.diagonal(dim1=-2, dim2=-1) / cov_c.diagonal(dim1=-2, dim2=-1))
    return through_means(torch.diag_embed(gain), mean_c, mean_s).toward_identity(alpha)
