"""Style by patches: every patch of the content replaced by the style's most similar one (Chen and Schmidt, 2016), and with
whitening around it the style decorator of Avatar-Net (Sheng et al., CVPR 2018)."""

from __future__ import annotations

import torch
import torch.nn.functional as nnf
from torch import Tensor

from . import ops
from ._precision import full_precision
from .errors import InvalidInputError
from .moments import moments
from .transform.pair import covariances

__all__ = ["style_decorator", "style_swap"]

CHUNK_BYTES = 64 << 20
"""Similarities held at a time; the whole table, content pixels times style patches, would not fit for pictures of any size."""


@full_precision
def style_swap(content: Tensor, style: Tensor, *, patch: int = 3, stride: int = 1) -> Tensor:
    """Content features [1, C, H, W] rebuilt of patches of style features [1, C, h, w]; float32 or wider, of content's size.

    Each patch x patch window of the content takes the style window of the largest normalised correlation; where they overlap
    they are averaged. stride: of the style's windows. Memory grows with content plus style, not with their product.
    """
    _check("fastift.style_swap", content, style, patch, stride)
    dtype = torch.promote_types(content.dtype, torch.float32)
    content, style = content.to(dtype), style.to(dtype)
    match = _best_match(content, style, patch, stride)
    windows = nnf.unfold(style, patch, stride=stride)[0]  # [C patch^2, style windows]
    size = content.shape[2:]
    placed = nnf.fold(windows[:, match][None], size, patch)
    count = nnf.fold(torch.ones(1, patch * patch, len(match), dtype=dtype, device=content.device), size, patch)
    return placed / count


@full_precision
def style_decorator(
    content: Tensor, style: Tensor, *, alpha: float = 1.0, eps: float = 1e-3, patch: int = 3, stride: int = 1
) -> Tensor:
    """Avatar-Net's decorator: whiten both features, swap patches, colour with the style's covariance and mean.

    content [1, C, H, W], style [1, C, h, w]; alpha in [0, 1] blends with the content's features; eps as in `fastift.wct`.
    """
    who = "fastift.style_decorator"
    _check(who, content, style, patch, stride)
    if not 0 <= alpha <= 1:
        raise InvalidInputError(f"{who}: alpha must lie in [0, 1], got {alpha}")
    dtype = torch.promote_types(content.dtype, torch.float32)
    f, g = content.to(dtype), style.to(dtype)
    cov_c, mean_c, cov_s, mean_s = covariances(moments(f), moments(g), eps)
    _, whiten_c = ops.sqrtm_psd(cov_c, 0.0)
    colour, whiten_s = ops.sqrtm_psd(cov_s, 0.0)
    white_c, white_s = (
        torch.einsum("bij,bjhw->bihw", w, x - m[:, :, None, None])
        for w, x, m in ((whiten_c, f, mean_c), (whiten_s, g, mean_s))
    )
    swapped = style_swap(white_c, white_s, patch=patch, stride=stride)
    out = torch.einsum("bij,bjhw->bihw", colour, swapped) + mean_s[:, :, None, None]
    return torch.lerp(f, out, alpha).to(content.dtype)


def _best_match(content: Tensor, style: Tensor, patch: int, stride: int) -> Tensor:
    """Index of the best style window for each content window, found a chunk of style windows at a time."""
    c = content.shape[1]
    filters = nnf.unfold(style, patch, stride=stride)[0].T
    # of the content's window only the direction matters too, but its norm is the same for all candidates
    filters = filters / torch.linalg.vector_norm(filters, dim=1, keepdim=True).clamp_min(torch.finfo(style.dtype).tiny)
    windows = (content.shape[2] - patch + 1) * (content.shape[3] - patch + 1)
    chunk = max(1, CHUNK_BYTES // (windows * content.element_size()))
    best = content.new_full((windows,), -torch.inf)
    index = torch.zeros(windows, dtype=torch.long, device=content.device)
    for start in range(0, len(filters), chunk):
        some = filters[start : start + chunk].reshape(-1, c, patch, patch)
        value, at = nnf.conv2d(content, some)[0].flatten(1).max(0)
        better = value > best
        best, index = torch.where(better, value, best), torch.where(better, at + start, index)
    return index


def _check(who: str, content: Tensor, style: Tensor, patch: int, stride: int) -> None:
    for name, x in (("content", content), ("style", style)):
        if x.dim() != 4 or len(x) != 1 or not x.is_floating_point():
            raise InvalidInputError(f"{who}: {name} must be floating-point features [1, C, H, W], got {tuple(x.shape)}")
        if patch < 1 or min(x.shape[2:]) < patch:
            raise InvalidInputError(
                f"{who}: {name} must be at least one patch of {patch} x {patch}, got {x.shape[3]} x {x.shape[2]}"
            )
        if not torch.compiler.is_compiling() and x.device.type == "cpu" and not torch.isfinite(x).all():
            raise InvalidInputError(f"{who}: {name} must be finite, got NaN or infinity")
    if content.shape[1] != style.shape[1]:
        raise InvalidInputError(
            f"{who}: content and style must have the same C, got {content.shape[1]} and {style.shape[1]}"
        )
    if stride < 1:
        raise InvalidInputError(f"{who}: stride must be at least 1, got {stride}")
