"""Optimal transport between Gaussians: of all maps to the style's mean and covariance, the one that moves features least."""

from __future__ import annotations

from .. import ops
from .._precision import full_precision
from ..affine import Affine
from ..moments import Moments
from .pair import check_alpha, check_pair, covariances
from .wct import through_means

__all__ = ["ot"]


@full_precision
def ot(content: Moments, style: Moments, *, alpha: float = 1.0, eps: float = 1e-3) -> Affine:
    """x -> T (x - mean_c) + mean_s with T = S_c^-1/2 (S_c^1/2 S_s S_c^1/2)^1/2 S_c^-1/2 (Olkin and Pukelsheim, 1982).

    T is symmetric positive definite. alpha in [0, 1] blends with the identity, which walks along the transport. eps in (0, 1) is
    a ridge on both covariances, relative to the largest variance of each, see `covariances`.
    """
    check_pair("fastift.ot", content, style)
    check_alpha("fastift.ot", alpha, eps)
    cov_c, mean_c, cov_s, mean_s = covariances(content, style, eps)
    root, whiten = ops.sqrtm_psd(cov_c, 0.0)
    middle = root @ cov_s @ root
    inner, _ = ops.sqrtm_psd(0.5 * (middle + middle.mT), 0.0)
    t = whiten @ inner @ whiten
    return through_means(0.5 * (t + t.mT), mean_c, mean_s).toward_identity(alpha)
