"""How a restyled picture is judged: how far its statistics are from the style's, and how much of the content is left."""

from __future__ import annotations

import torch
import torch.nn.functional as nnf
from torch import Tensor

from .colour import luminance
from .errors import InvalidInputError
from .style import Style

__all__ = ["ssim", "style_distances"]


def ssim(a: Tensor, b: Tensor, window: int = 7) -> Tensor:
    """Structural similarity of the luma of two pictures [B, 3, H, W] in [0, 1], one number a sample (Wang et al., 2004).

    Means over square windows of `window` pixels that lie inside the picture, with the sample covariance and data range 1.
    """
    if a.shape != b.shape or a.dim() != 4 or a.shape[1] != 3 or min(a.shape[2:]) < window:
        raise InvalidInputError(
            f"fastift.metrics.ssim: expected two pictures [B, 3, H, W] of one size, at least {window} pixels a side, "
            f"got {tuple(a.shape)} and {tuple(b.shape)}"
        )
    x, y = luminance(a.double()), luminance(b.double())
    mean_x, mean_y, xx, yy, xy = (nnf.avg_pool2d(v, window, 1) for v in (x, y, x * x, y * y, x * y))
    unbiased = window**2 / (window**2 - 1)
    var_x, var_y, cov = (unbiased * v for v in (xx - mean_x**2, yy - mean_y**2, xy - mean_x * mean_y))
    c1, c2 = 0.01**2, 0.03**2
    value = (2 * mean_x * mean_y + c1) * (2 * cov + c2) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    return value.mean((1, 2, 3))


def style_distances(content: Style, style: Style, out: Style) -> dict[int, Tensor]:
    """||G(out) - G(style)||_F / ||G(content) - G(style)||_F by level, one number a sample: 1 is the content, 0 the style.

    All three as the same encoder sees them (`Stylizer.style`). An encoder judges pictures that it made itself too well: for
    figures, take another one.
    """
    found = {}
    for n in style.levels:
        g_c, g_s, g_o = (s.levels[n].gram for s in (content, style, out))
        start = torch.linalg.matrix_norm(g_c - g_s).clamp_min(torch.finfo(g_c.dtype).tiny)
        found[n] = torch.linalg.matrix_norm(g_o - g_s) / start
    return found
