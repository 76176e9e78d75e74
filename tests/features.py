"""Features that look like a network's, for tests: behind a ReLU, correlated, with dead channels or too few pixels if wanted."""

from __future__ import annotations

import torch
from torch import Tensor


def features(
    channels: int,
    pixels: int,
    *,
    seed: int = 0,
    batch: int = 1,
    rank: int | None = None,
    dead: int = 0,
    dtype=torch.float64,
) -> Tensor:
    """[batch, channels, pixels] of mean activation about 1; rank bounds the Gram's rank, dead channels are zero."""
    rng = torch.Generator().manual_seed(seed)
    rank = channels if rank is None else rank
    mix = torch.rand(batch, channels, rank, generator=rng, dtype=torch.float64)
    f = mix @ torch.randn(batch, rank, pixels, generator=rng, dtype=torch.float64).abs()
    if rank == channels:
        f = (f - 0.5 * f.mean()).relu()
    f = f / f.mean()
    if dead:
        f[:, torch.randperm(channels, generator=rng)[:dead]] = 0
    return f.to(dtype)


def relative(a: Tensor, b: Tensor) -> float:
    """||a - b|| / ||b|| in float64."""
    a, b = a.detach().double(), b.detach().double()
    return float((a - b).norm() / b.norm())
