"""IFT with the exact step along its gradient, found among C x C matrices: it cannot diverge and needs no learning rate."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .._precision import full_precision
from ..affine import Affine
from ..errors import InvalidInputError
from ..moments import Moments
from .pair import check_pair, common_grams, sigma_max

__all__ = ["ift_line_search"]


@full_precision
def ift_line_search(
    content: Moments,
    style: Moments,
    *,
    lam: float | None,
    n_upd: int = 1,
    n_iter: int = 1,
    n: float | None = None,
) -> Affine:
    """The paper's objective (eq. 1) along its gradient (eq. 2), each of n_upd steps to the exact minimum, for n_iter anchors.

    With E = A - A_anchor, R = A G A^T - S, the gradient D = 2 E + (4 lam / n) R A, P = D G A^T + A G D^T and Q = D G D^T, the
    objective after a step t is

        n tr((E - t D) G (E - t D)^T) + lam ||R - t P + t^2 Q||^2,

    a polynomial of degree four in t: its minimum is at a root of a cubic (the step of line-search-based feature
    transformation, Chiu and Gurari, WACV 2023). The objective never increases. n is the pixel count, by default the content's.
    lam None leaves out the first term, the pull to the content: what an infinite lam would do.
    """
    who = "fastift.ift_line_search"
    check_pair(who, content, style)
    if lam is not None and not 0 < lam < math.inf:
        raise InvalidInputError(f"{who}: lam must be finite and positive, or None, got {lam}")
    if n_upd < 1 or n_iter < 1:
        raise InvalidInputError(f"{who}: n_upd and n_iter must be at least 1, got {n_upd} and {n_iter}")
    gram, target = common_grams(content.gram, style.gram)
    dtype = gram.dtype
    # coefficients are differences of traces: in float32 the cubic's root would be noise near the minimum
    gram, target = gram.double(), target.double()
    pixels = content.n.double() if n is None else torch.full_like(content.n, float(n), dtype=torch.float64)
    scale = torch.maximum(sigma_max(gram), sigma_max(target)).clamp_min(1e-290)
    gram, target = gram / scale[:, None, None], target / scale[:, None, None]
    # of the style term once Grams are divided by scale and the objective by n scale; and of the other one
    weight, near = (torch.ones_like(scale), 0.0) if lam is None else (lam * scale / pixels, 1.0)
    a = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device).expand_as(gram)
    for _ in range(n_iter):
        anchor = a
        for _ in range(n_upd):
            residual = a @ gram @ a.mT - target
            pull = near * (a - anchor)
            d = 2 * pull + 4 * weight[:, None, None] * (residual @ a)
            # steps are counted in units of the direction, so that no power of t under- or overflows
            d = d / torch.linalg.matrix_norm(d).clamp_min(1e-290)[:, None, None]
            a = a - _best_step(pull, near, residual, d, a, gram, weight)[:, None, None] * d
    return Affine(a.to(dtype), torch.zeros_like(content.mean, dtype=dtype))


def _best_step(
    pull: Tensor, near: float, residual: Tensor, d: Tensor, a: Tensor, gram: Tensor, weight: Tensor
) -> Tensor:
    """The t [B] that minimises the quartic, 0 if nothing is lower than where it stands."""
    dg = d @ gram
    p = dg @ a.mT
    p = p + p.mT
    q = dg @ d.mT
    c1 = -2 * ((pull @ gram) * d).sum((1, 2)) - 2 * weight * (residual * p).sum((1, 2))
    c2 = near * (dg * d).sum((1, 2)) + weight * ((p * p).sum((1, 2)) + 2 * (residual * q).sum((1, 2)))
    c3 = -2 * weight * (p * q).sum((1, 2))
    c4 = weight * (q * q).sum((1, 2))
    with torch.no_grad():
        steps = _cubic_roots(4 * c4, 3 * c3, 2 * c2, c1)
        steps = torch.cat([torch.zeros_like(steps[:, :1]), steps], 1)
        u1, u2, u3, u4 = (c.unsqueeze(1) for c in (c1, c2, c3, c4))
        change = steps * (u1 + steps * (u2 + steps * (u3 + steps * u4)))
        t = steps.gather(1, change.argmin(1, keepdim=True)).squeeze(1)
        curvature = 2 * c2 + t * (6 * c3 + 12 * t * c4)
        curvature = torch.where(curvature > 0, curvature, torch.inf)
    # zero in value, but it carries the minimum's gradient: by the implicit function theorem dt = -d slope / curvature
    slope = c1 + t * (2 * c2 + t * (3 * c3 + 4 * t * c4))
    return t - (slope - slope.detach()) / curvature


def _cubic_roots(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """Candidates [B, 4] among which are all real roots of a t^3 + b t^2 + c t + d (Cardano, Viete), polished by Newton's method.

    The last is the root of c t + d, for where the cubic term has vanished.
    """
    tiny = 1e-290
    lead = torch.where(a.abs() > tiny, a, 1)
    shift = b / (3 * lead)
    p = c / lead - 3 * shift * shift
    q = 2 * shift**3 - shift * c / lead + d / lead
    discriminant = (q / 2) ** 2 + (p / 3) ** 3
    # one real root: the term without cancellation, and its partner by their product
    u = -q / 2 - torch.copysign(discriminant.clamp_min(0).sqrt(), q)
    u = torch.copysign(u.abs() ** (1 / 3), u)
    one = u - p / (3 * torch.where(u.abs() > tiny, u, 1))
    # three
    radius = 2 * (-p / 3).clamp_min(0).sqrt()
    cosine = 3 * q / torch.where((p * radius).abs() > tiny, p * radius, 1)
    turns = torch.arange(3, dtype=a.dtype, device=a.device) * (2 * math.pi / 3)
    three = radius[:, None] * torch.cos(torch.arccos(cosine.clamp(-1, 1))[:, None] / 3 - turns)
    roots = torch.where(discriminant[:, None] > 0, one[:, None], three) - shift[:, None]
    roots = torch.cat([roots, (-d / torch.where(c.abs() > tiny, c, 1))[:, None]], 1)
    for _ in range(4):
        value = d[:, None] + roots * (c[:, None] + roots * (b[:, None] + roots * a[:, None]))
        slope = c[:, None] + roots * (2 * b[:, None] + 3 * roots * a[:, None])
        roots = roots - value / torch.where(slope.abs() > tiny, slope, torch.inf)
    return torch.where(torch.isfinite(roots), roots, 0)
