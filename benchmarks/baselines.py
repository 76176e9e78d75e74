"""What people run instead: the paper's loop on full features, and WCT by SVD on the CPU in float64, in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["loop", "wct_by_svd"]


def loop(content: Tensor, style: Tensor, *, lam: float, lr: float = 0.01, n_upd: int = 15) -> Tensor:
    """Paper, eq. 2, as its authors' published code runs it: two products over all pixels a step. content [C, n], style [C, m]."""
    n = content.shape[1]
    target = style @ style.T / style.shape[1]
    f = content.clone()
    for _ in range(n_upd):
        gram = f @ f.T / n
        f = f - lr * (2 * (f - content) + (4 * lam / n) * ((gram - target) @ f))
    return f


def wct_by_svd(content: Tensor, style: Tensor, *, alpha: float = 1.0) -> Tensor:
    """Whitening and colouring as PytorchWCT does it: singular values of both covariances, cut below 1e-5, in float64."""
    f, g = content.double().cpu(), style.double().cpu()
    mean_c, mean_s = f.mean(1, keepdim=True), g.mean(1, keepdim=True)
    f, g = f - mean_c, g - mean_s
    eye = torch.eye(len(f), dtype=f.dtype)
    _, e_c, v_c = torch.linalg.svd(f @ f.T / (f.shape[1] - 1) + eye)
    _, e_s, v_s = torch.linalg.svd(g @ g.T / (g.shape[1] - 1))
    k_c, k_s = int((e_c > 1e-5).sum()), int((e_s > 1e-5).sum())
    whiten = v_c[:k_c].T * e_c[:k_c].rsqrt() @ v_c[:k_c]
    colour = v_s[:k_s].T * e_s[:k_s].sqrt() @ v_s[:k_s]
    out = colour @ (whiten @ f) + mean_s
    return (alpha * out + (1 - alpha) * (f + mean_c)).to(content)
