"""Iterative Feature Transformation (Chiu and Gurari, ECCV 2020), on moments: every map is found among C x C matrices.

The gradient of the paper's objective (eq. 2) only multiplies the features from the left, so the k-th iterate is A_k F_c with

    A <- A - lr [2 (A - anchor) + (4 lam / n) (A G A^T - S) A],      A_0 = anchor = I,   G = F_c F_c^T / n,   S = F_s F_s^T / m

`ift` runs that with the paper's fixed step, `ift_scale_free` with a step that cannot diverge, and `ift_loop` runs the paper's
own loop on all n pixels: slow, and the reference that the other two are held to.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .. import ops
from .._precision import full_precision
from ..affine import Affine
from ..errors import DivergenceError, InvalidInputError
from ..moments import Moments
from .pair import check_pair, common_grams, sigma_max

__all__ = ["ift", "ift_scale_free", "ift_loop", "gram_distance", "largest_stable_lam"]

N_UPD = 200
"""Updates of scale-free mode: what more of them change cannot be seen."""


@full_precision
def ift(
    content: Moments,
    style: Moments,
    *,
    lam: float,
    lr: float = 0.01,
    n_upd: int = 15,
    n_iter: int = 1,
    n: float | None = None,
) -> Affine:
    """The paper's iteration with its fixed step, collapsed to C x C (eq. 2): n_iter anchors, n_upd updates for each.

    content and style are Moments of C channels (batches of equal size, or one style for all). n is the pixel count in
    4 lam / n, by default the content's own. The step is stable while 4 lr lam / n * sigma_max stays below about 1; past that
    DivergenceError names the largest stable lam. (Inside torch.compile that test is left out: it would need the host.)
    """
    check_pair("fastift.ift", content, style)
    check_step("fastift.ift", lam, lr, n_upd, n_iter)
    gram, target = common_grams(content.gram, style.gram)
    pixels = content.n.to(gram) if n is None else torch.full_like(content.n, float(n), dtype=gram.dtype)
    a = ops.ift_solve(gram, target, lr, 4 * lr * lam / pixels, n_upd, n_iter)
    if not torch.compiler.is_compiling():
        _refuse_divergence("fastift.ift", a, gram, target, lam, lr, pixels)
    return Affine(a, torch.zeros_like(content.mean, dtype=gram.dtype))


@full_precision
def ift_scale_free(
    content: Moments,
    style: Moments,
    *,
    strength: float = 1.0,
    kappa: float = 0.5,
    n_upd: int = N_UPD,
    eps: float = 1e-4,
) -> Affine:
    """IFT whose step is kappa / max(sigma_max(G), sigma_max(S)): no scale of the features and no image size can break it.

    strength in [0, 1] is the one dial: it blends the map of all n_upd updates with the identity. 0 is exactly the identity, the
    Gram distance falls with it, and since Grams are means over pixels, the same strength does the same at every resolution.
    Stopping the updates early instead is monotone too, but worse: it brings the strongest directions of the Gram all the way
    to the style and leaves the rest, textures among them, where they were; at equal content SSIM its pictures are farther from
    the style. The paper's pull to the content, 2 % a step, is left out: the blend is the leash.

    eps is a floor under the content's eigenvalues, relative to its largest. Where the content has no energy (dead channels,
    constant pictures, fewer pixels than channels) nothing would ever stop the map from growing: without the floor it overflows.
    """
    check_pair("fastift.ift_scale_free", content, style)
    if not 0 <= strength <= 1:  # also refuses NaN
        raise InvalidInputError(f"fastift.ift_scale_free: strength must lie in [0, 1], got {strength}")
    if not 0 < kappa <= 1:
        raise InvalidInputError(f"fastift.ift_scale_free: kappa must lie in (0, 1], got {kappa}")
    if not 0 < eps < 1:
        raise InvalidInputError(f"fastift.ift_scale_free: eps must lie in (0, 1), got {eps}")
    if n_upd < 1:
        raise InvalidInputError(f"fastift.ift_scale_free: n_upd must be at least 1, got {n_upd}")
    gram, target = common_grams(content.gram, style.gram)
    own, other = sigma_max(torch.cat([gram, target])).chunk(2)
    scale = torch.maximum(own, other).clamp_min(torch.finfo(gram.dtype).tiny)
    eye = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device).expand_as(gram)
    # dividing first keeps every product near 1, whatever the scale of the features
    gram = gram / scale[:, None, None] + (eps * own / scale).clamp_min(eps * eps)[:, None, None] * eye
    target = target / scale[:, None, None]
    a = ops.ift_solve(gram, target, 0.0, torch.full_like(scale, kappa), n_upd, 1)
    return Affine(a, torch.zeros_like(content.mean, dtype=gram.dtype)).toward_identity(strength)


@full_precision
def ift_loop(
    features: Tensor, style: Moments, *, lam: float, lr: float = 0.01, n_upd: int = 15, n_iter: int = 1
) -> Tensor:
    """The paper's loop on full features [B, C, N] or [B, C, H, W] (eq. 2), as its authors run it: n_upd passes over all pixels.

    What `ift` collapses, kept as the reference for it and for timing. Returns features of the same shape.
    """
    if features.dim() not in (3, 4) or features.shape[1] != style.channels:
        raise InvalidInputError(
            f"fastift.ift_loop: features must be [B, C, N] or [B, C, H, W] with the style's C = {style.channels}, "
            f"got {tuple(features.shape)}"
        )
    check_step("fastift.ift_loop", lam, lr, n_upd, n_iter)
    f = features.flatten(2)
    gram = ops.moments(f)[2]
    target = style.gram.to(gram).expand_as(gram).contiguous()
    c = gram.new_full((len(f),), 4 * lr * lam / f.shape[2])
    for _ in range(n_iter):
        anchor = f
        for _ in range(n_upd - 1):
            f, gram = ops.ift_update_gram(f, anchor, gram, target, lr, c)
        f = ops.ift_update(f, anchor, gram, target, lr, c)
        gram = ops.moments(f)[2] if n_iter > 1 else gram
    return f.reshape(features.shape)


@full_precision
def gram_distance(affine: Affine, content: Moments, style: Moments) -> Tensor:
    """||Gram of the mapped content - Gram of the style||_F, one number a sample [B]; the map's bias counts too."""
    w, b = affine
    mean = (w @ content.mean.to(w).unsqueeze(-1)).squeeze(-1)
    cross = mean.unsqueeze(-1) * b.unsqueeze(-2)
    gram = w @ content.gram.to(w) @ w.mT + cross + cross.mT + b.unsqueeze(-1) * b.unsqueeze(-2)
    return torch.linalg.matrix_norm(gram - style.gram.to(w))


def largest_stable_lam(content: Moments, style: Moments, lr: float = 0.01, n: float | None = None) -> float:
    """The largest lam for which the paper's fixed step is stable on these moments: n / (4 lr max(sigma_max(G), sigma_max(S)))."""
    gram, target = common_grams(content.gram, style.gram)
    top = torch.maximum(sigma_max(gram), sigma_max(target))
    pixels = content.n.to(top) if n is None else torch.full_like(top, float(n))
    return float((pixels / (4 * lr * top.clamp_min(torch.finfo(top.dtype).tiny))).min())


def check_step(who: str, lam: float, lr: float, n_upd: int, n_iter: int) -> None:
    if not 0 <= lam < math.inf:
        raise InvalidInputError(f"{who}: lam must be finite and not negative, got {lam}")
    if not 0 < lr < math.inf:
        raise InvalidInputError(f"{who}: lr must be finite and positive, got {lr}")
    if n_upd < 1 or n_iter < 1:
        raise InvalidInputError(f"{who}: n_upd and n_iter must be at least 1, got {n_upd} and {n_iter}")


def _refuse_divergence(who: str, a: Tensor, gram: Tensor, target: Tensor, lam: float, lr: float, n: Tensor) -> None:
    """Raise if the iteration ended farther from the style than it began, which a stable step cannot do."""
    before = torch.linalg.matrix_norm(gram - target)
    after = torch.linalg.matrix_norm(a @ gram @ a.mT - target)
    # round-off may leave a start that was already at the target slightly above it
    slack = 1e-3 * torch.linalg.matrix_norm(target)
    if bool((torch.isfinite(a).all((-2, -1)) & (after <= before + slack)).all()):
        return
    top = torch.maximum(sigma_max(gram), sigma_max(target)).clamp_min(torch.finfo(gram.dtype).tiny)
    stable = float((n / (4 * lr * top)).min())
    raise DivergenceError(
        f"{who}: lam = {lam:g} makes the fixed step diverge on these features ({gram.shape[-1]} channels, "
        f"{float(n.min()):.0f} pixels); expected lam <= {stable:.3g} with lr = {lr:g}, or mode='scale_free', which cannot diverge"
    )
