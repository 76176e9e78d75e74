"""The operations in plain PyTorch: the fallback on every device and, in float64, what every other backend is compared with."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from .errors import InvalidInputError

__all__ = [
    "apply_affine",
    "ift_solve",
    "ift_solve_backward",
    "ift_update",
    "ift_update_gram",
    "moments",
    "sqrtm_psd",
    "sqrtm_psd_backward",
    "wide",
]

ASYMMETRY = 1e-3
"""How far a matrix may be from symmetric and from positive semi-definite, over its largest entry or eigenvalue: round-off of a
Gram is far below, a mistake far above."""

NOT_FINITE = "fastift.sqrtm_psd: a must be finite, got NaN or infinity"
ASYMMETRIC = "fastift.sqrtm_psd: a must hold symmetric matrices, got asymmetric ones"
INDEFINITE = "fastift.sqrtm_psd: a must hold positive semi-definite matrices, got an eigenvalue of {:.3g}"


def wide(dtype: torch.dtype) -> torch.dtype:
    """What sums and C x C matrices are kept in: float32 for half precision, else the dtype itself."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def moments(x: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """n, x w / n and x diag(w) x^T / n with n = sum w, for x [B, C, N] and weight None (ones) or [B, R, N].

    Returns [B], [B, C], [B, C, C], or with weights [B, R], [B, R, C], [B, R, C, C], zero where all weights are zero.
    """
    f = x.to(wide(x.dtype))
    if weight is None:
        n = torch.full((f.shape[0],), f.shape[2], dtype=f.dtype, device=f.device)
        return n, f.mean(2), f @ f.mT / f.shape[2]
    w = weight.to(f.dtype)
    n = w.sum(2)
    share = w / n.clamp_min(torch.finfo(f.dtype).tiny).unsqueeze(2)
    mean = (f @ share.mT).mT.contiguous()
    gram = (f.unsqueeze(1) * share.unsqueeze(2)) @ f.unsqueeze(1).mT
    return n, mean, gram


def apply_affine(x: Tensor, weight: Tensor, bias: Tensor, mask: Tensor | None = None) -> Tensor:
    """weight x + bias for x [B, C, N], weight [B | 1, C, C], bias [B | 1, C]; keeps x's dtype.

    With mask [B, R, N]: sum_r mask_r (weight_r x + bias_r) for weight [B | 1, R, C, C] and bias [B | 1, R, C].
    """
    f = x.to(weight.dtype)
    if mask is None:
        out = torch.baddbmm(bias.unsqueeze(-1), weight.expand(f.shape[0], -1, -1), f)
    else:
        m = mask.to(weight.dtype)
        out = sum(m[:, r : r + 1] * (weight[:, r] @ f + bias[:, r].unsqueeze(-1)) for r in range(weight.shape[1]))
    return out.to(x.dtype)


def ift_update(f: Tensor, f_c: Tensor, gram: Tensor, style: Tensor, lr: float, c: Tensor) -> Tensor:
    """One step of the paper's loop (eq. 2): F - lr 2 (F - F_c) - c (G - S) F, for f, f_c [B, C, N], c [B] = 4 lr lam / n."""
    wider = f.to(gram.dtype)
    out = wider - 2 * lr * (wider - f_c.to(gram.dtype)) - c[:, None, None] * ((gram - style) @ wider)
    return out.to(f.dtype)


def ift_update_gram(f: Tensor, f_c: Tensor, gram: Tensor, style: Tensor, lr: float, c: Tensor) -> tuple[Tensor, Tensor]:
    """`ift_update`, and the Gram of what it returns."""
    out = ift_update(f, f_c, gram, style, lr, c)
    return out, moments(out)[2]


def ift_solve(gram: Tensor, style: Tensor, lr: float, c: Tensor, n_upd: int, n_iter: int) -> Tensor:
    """A of the collapsed iteration, [B, C, C]: n_iter anchors, for each n_upd updates

    A <- A - 2 lr (A - anchor) - c (A G A^T - S) A,      A_0 = anchor = I, then the A where the last anchor ended
    """
    for a, _ in _iterates(gram, style, lr, c, n_upd, n_iter):
        result = a
    return result.contiguous()  # without updates it is an expanded identity


def ift_solve_backward(
    grad: Tensor, gram: Tensor, style: Tensor, lr: float, c: Tensor, n_upd: int, n_iter: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `ift_solve` for gram, style and c, by running the updates backwards through their recomputed iterates."""
    iterates = list(_iterates(gram, style, lr, c, n_upd, n_iter))
    d_gram, d_style, d_c = torch.zeros_like(gram), torch.zeros_like(style), torch.zeros_like(c)
    d_anchor = torch.zeros_like(grad)
    step = c[:, None, None]
    for a, first in reversed(iterates[:-1]):
        residual = a @ gram @ a.mT - style
        h = -step * (grad @ a.mT)
        d_gram = d_gram + a.mT @ h @ a
        d_style = d_style - h
        d_c = d_c - (grad * (residual @ a)).sum((1, 2))
        d_anchor = d_anchor + 2 * lr * grad
        grad = (1 - 2 * lr) * grad + (h + h.mT) @ a @ gram - step * (residual.mT @ grad)
        if first:  # the anchor was this very A
            grad, d_anchor = grad + d_anchor, torch.zeros_like(grad)
    return d_gram, d_style, d_c


def _iterates(
    gram: Tensor, style: Tensor, lr: float, c: Tensor, n_upd: int, n_iter: int
) -> Iterator[tuple[Tensor, bool]]:
    """(A before an update, whether it is the first after an anchor) .., and last the result."""
    a = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device).expand_as(gram)
    for _ in range(n_iter):
        anchor = a
        for k in range(n_upd):
            yield a, k == 0
            pull = 2 * lr * (a - anchor) if lr else 0
            a = a - pull - c[:, None, None] * ((a @ gram @ a.mT - style) @ a)
    yield a, False


def sqrtm_psd(a: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """(A^1/2, A^-1/2) of positive semi-definite matrices [B, C, C], both in a's dtype, computed in float64.

    Eigenvalues up to eps times the largest count as zero in both, so that A^1/2 A^-1/2 is the projector on what is left: dead
    channels and round-off are not whitened. The zero matrix gives zeros. Raises InvalidInputError for non-finite, asymmetric or
    indefinite input.
    """
    values, kept, vectors, scale = _spectrum(a, eps)
    root = torch.where(kept, values, 0).sqrt()
    inverse = torch.where(kept, values, 1).rsqrt() * kept
    unit = torch.sqrt(scale)[:, None, None]
    one = _with_values(vectors, root) * unit
    other = _with_values(vectors, inverse) / unit
    return one.to(a.dtype), other.to(a.dtype)


def sqrtm_psd_backward(grad_root: Tensor, grad_inverse: Tensor, a: Tensor, eps: float) -> Tensor:
    """Gradient of `sqrtm_psd`: V (K o (V^T D V)) V^T with K_ij = (f(l_i) - f(l_j)) / (l_i - l_j) (Daleckii and Krein, 1965).

    Which eigenvalues lie below the floor is taken as fixed; f is zero there, and so is K between two of them.
    """
    values, kept, vectors, scale = _spectrum(a, eps)
    unit = torch.sqrt(scale)[:, None, None]
    grad_root, grad_inverse = (0.5 * (g + g.mT).double() for g in (grad_root, grad_inverse))
    row, column = kept.unsqueeze(2), kept.unsqueeze(1)
    both, one = row & column, row ^ column
    r = torch.where(kept, values, 1).sqrt()
    # of two kept ones without a difference, which would cancel
    total, product = r.unsqueeze(2) + r.unsqueeze(1), r.unsqueeze(2) * r.unsqueeze(1)
    gap = torch.where(one, (values.unsqueeze(2) - values.unsqueeze(1)).abs(), 1)
    large = torch.where(row, r.unsqueeze(2), r.unsqueeze(1))
    k_root = torch.where(both, 1 / total, torch.where(one, large / gap, 0))
    k_inverse = torch.where(both, -1 / (product * total), torch.where(one, 1 / (large * gap), 0))
    inner = (
        k_root * (vectors.mT @ grad_root @ vectors) / unit + k_inverse * (vectors.mT @ grad_inverse @ vectors) / unit**3
    )
    return (vectors @ inner @ vectors.mT).to(a.dtype)


def check_sqrtm_psd(a: Tensor, eps: float) -> None:
    """What shapes and dtypes tell, before any number is read."""
    if a.dim() != 3 or a.shape[1] != a.shape[2]:
        raise InvalidInputError(f"fastift.sqrtm_psd: a must be [B, C, C], got {tuple(a.shape)}")
    if 0 in a.shape:
        raise InvalidInputError(f"fastift.sqrtm_psd: a must not be empty, got {tuple(a.shape)}")
    if a.dtype not in (torch.float32, torch.float64):
        raise InvalidInputError(f"fastift.sqrtm_psd: a must be float32 or float64, got {a.dtype}")
    if not 0 <= eps < 1:
        raise InvalidInputError(f"fastift.sqrtm_psd: eps must lie in [0, 1), got {eps}")


def _spectrum(a: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Eigenvalues [B, C] of A / scale, which of them are above the floor, eigenvectors, and scale [B] > 0."""
    check_sqrtm_psd(a, eps)
    wider = a.double()
    scale = wider.abs().amax((1, 2))
    if not torch.isfinite(scale).all():
        raise InvalidInputError(NOT_FINITE)
    scale = scale.clamp_min(1e-290)  # of the zero matrix
    unit = wider / scale[:, None, None]
    if ((unit - unit.mT).abs().amax((1, 2)) > ASYMMETRY).any():
        raise InvalidInputError(ASYMMETRIC)
    values, vectors = _eigh(0.5 * (unit + unit.mT))
    top = values[:, -1:].clamp_min(0)
    if (values[:, 0] < -ASYMMETRY * values.abs().amax(1)).any():
        raise InvalidInputError(INDEFINITE.format(float((values[:, 0] * scale).min())))
    return values, values > eps * top, vectors, scale


def _eigh(unit: Tensor) -> tuple[Tensor, Tensor]:
    """torch.linalg.eigh in float64; where it does not converge, once more with the diagonal moved by a few units of round-off."""
    try:
        return torch.linalg.eigh(unit)
    except torch.linalg.LinAlgError:
        nudge = torch.linspace(0, 1e-14, unit.shape[-1], dtype=unit.dtype, device=unit.device)
        return torch.linalg.eigh(unit + torch.diag_embed(nudge.expand(unit.shape[:-1])))


def _with_values(vectors: Tensor, values: Tensor) -> Tensor:
    """V diag(values) V^T, symmetric to the bit."""
    out = (vectors * values.unsqueeze(1)) @ vectors.mT
    return 0.5 * (out + out.mT)
