"""One step of the paper's loop and the Gram that the next step needs, in one pass over the pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from . import _launch
from .ift_update import checked, ift_update, resident, update_resident, walkers
from .moments import MOST_WORKSPACE, moments, partial_size, reduce_moments

__all__ = ["ift_update_gram"]

OP = "fastift.kernels.ift_update_gram"


def ift_update_gram(
    f: Tensor, f_c: Tensor, gram: Tensor, style: Tensor, lr: float, c: float | Tensor, *, precision: str = "ieee"
) -> tuple[Tensor, Tensor]:
    """F' = F - 2 lr (F - F_c) - c (G - S) F,   G' = F' F'^T / N.

    Arguments as for ift_update; returns F' [B, C, N] in the dtype and memory order of f, and G' float32 [B, C, C] of F' as it
    was rounded. Up to 128 channels in half precision, and 64 in tf32, G' is summed while F' is still on chip, so that n_upd
    steps read the features n_upd times; more channels, and ieee and tf32x3 (whose operands do not fit on chip beside two
    accumulators), run ift_update and then moments.
    """
    f, f_c, gram, style, c = checked(OP, f, f_c, gram, style, c, precision)
    b, channels, n = f.shape
    if not resident(f, precision) or (f.dtype == torch.float32 and channels > 64):
        out = ift_update(f, f_c, gram, style, lr, c, precision=precision)
        return out, moments(out, precision=precision)[2]
    out = torch.empty_like(f)
    with _launch.device_guard(f):
        size = partial_size(channels)
        parts = max(1, min(walkers(n, b, f.device), MOST_WORKSPACE // (4 * size * b)))
        partial = torch.empty(b, parts, size, dtype=torch.float32, device=f.device)
        update_resident(f, f_c, gram, style, lr, c, out, precision, partial)
        return out, reduce_moments(partial, channels, n, only_gram=True)[2]
