"""What every transform does with its pair of Moments: checks, a common dtype, the largest eigenvalue."""

from __future__ import annotations

import torch
from torch import Tensor

from .._precision import full_precision
from ..errors import InvalidInputError
from ..moments import Moments

__all__ = ["check_alpha", "check_pair", "common_grams", "covariances", "sigma_max"]


def common_grams(gram: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Both in one dtype, float32 or wider, and one style repeated for every content."""
    dtype = torch.promote_types(gram.dtype, target.dtype)
    if dtype in (torch.float16, torch.bfloat16):
        dtype = torch.float32
    gram, target = gram.to(dtype), target.to(dtype)
    return gram, target.expand_as(gram).contiguous()


def check_pair(who: str, content: Moments, style: Moments) -> None:
    for name, m in (("content", content), ("style", style)):
        if not isinstance(m, Moments):
            raise InvalidInputError(f"{who}: {name} must be fastift.Moments, got {type(m).__name__}")
        if m.gram.dim() != 3 or m.gram.shape[-1] != m.gram.shape[-2]:
            raise InvalidInputError(f"{who}: the Gram of {name} must be [B, C, C], got {tuple(m.gram.shape)}")
    if content.channels != style.channels:
        raise InvalidInputError(
            f"{who}: content and style must have the same C, got {content.channels} and {style.channels}"
        )
    if style.gram.shape[0] not in (1, content.gram.shape[0]):
        raise InvalidInputError(
            f"{who}: style must hold 1 or {content.gram.shape[0]} samples like the content, got {style.gram.shape[0]}"
        )
    if not torch.compiler.is_compiling():
        for name, m in (("content", content), ("style", style)):
            if (
                m.gram.device.type == "cpu" and not torch.isfinite(m.gram).all()
            ):  # a test on a GPU would stall its queue
                raise InvalidInputError(f"{who}: the Gram of {name} must be finite, got NaN or infinity")


def check_alpha(who: str, alpha: float, eps: float) -> None:
    if not 0 <= alpha <= 1:
        raise InvalidInputError(f"{who}: alpha must lie in [0, 1], got {alpha}")
    if not 0 < eps < 1:
        raise InvalidInputError(f"{who}: eps must lie in (0, 1), got {eps}")


def covariances(content: Moments, style: Moments, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Covariances of content and style, each with a ridge of eps times its largest variance, and both means.

    A ridge on one of them alone, or a floor under the content's eigenvalues, is what goes wrong on real features: where
    neither has energy (dead channels) the map becomes 0 / ridge, and where only the content has none it amplifies noise by
    sqrt(largest / floor). Relative to its own covariance on both sides, a direction that is dead in both is scaled like the
    strongest one, no gain exceeds sqrt((1 + 1 / eps) s / c) for largest variances s and c, equal covariances give exactly
    the identity, and scaling either side's features only scales the result.
    """
    common = [m.gram.dtype for m in (content, style)]
    dtype = torch.promote_types(*common)
    out = []
    for m in (content, style):
        mean, gram = m.mean.to(dtype), m.gram.to(dtype)
        cov = gram - mean.unsqueeze(-1) * mean.unsqueeze(-2)
        # a variance below the round-off of the Gram that it is the difference of is not one
        noise = 4 * torch.finfo(dtype).eps * gram.diagonal(dim1=-2, dim2=-1).sum(-1)
        ridge = eps * cov.diagonal(dim1=-2, dim2=-1).amax(-1).clamp_min(0) + noise
        ridge = ridge.clamp_min(torch.finfo(dtype).tiny)
        out += [cov + torch.diag_embed(ridge[:, None].expand(mean.shape)), mean]
    cov_c, mean_c, cov_s, mean_s = out
    return cov_c, mean_c, cov_s.expand_as(cov_c), mean_s.expand_as(mean_c)


@full_precision
def sigma_max(gram: Tensor, iterations: int = 16) -> Tensor:
    """Largest eigenvalue [B] of positive semi-definite matrices [B, C, C], by power iteration from the row sums.

    Never fails and needs no decomposition. Features behind a ReLU have a Gram without negative entries, whose leading
    eigenvector has no negative entry either, so row sums start close to it.
    """
    scale = gram.diagonal(dim1=-2, dim2=-1).sum(-1).clamp_min(torch.finfo(gram.dtype).tiny)
    unit = gram / scale[:, None, None]
    # the diagonal keeps the start vector off zero where rows cancel
    v = unit.sum(-1).abs() + unit.diagonal(dim1=-2, dim2=-1)
    v = v.unsqueeze(-1)
    for i in range(iterations):
        if i % 4 == 0 or i == iterations - 1:  # of trace 1, a matrix shrinks its leading vector at most C times a step
            v = v / torch.linalg.vector_norm(v, dim=-2, keepdim=True).clamp_min(torch.finfo(v.dtype).tiny)
        v = unit @ v
    return torch.linalg.vector_norm(v, dim=(-2, -1)) * scale
