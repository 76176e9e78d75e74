"""Neural style transfer by optimising the picture itself (Gatys et al., CVPR 2016): slow, and the ceiling for what is fast."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .engine import ImageLike, Stylizer
from .errors import InvalidInputError
from .moments import moments
from .style import Style

__all__ = ["nst"]

OUTSIDE = 100.0
"""Weight of values outside [0, 1], which a picture cannot hold; clamping them on the way would mislead the line search."""


def nst(
    content: ImageLike,
    style: Style | ImageLike | Sequence[ImageLike],
    *,
    weights: Sequence[float] | None = None,
    model: Stylizer | str = "slim",
    levels: Sequence[int] = (4, 3, 2, 1),
    content_level: int = 3,
    style_weight: float = 100.0,
    steps: int = 200,
    optimiser: str = "lbfgs",
    tolerance: float = 1e-4,
    progress: Callable[[int, float], None] = lambda step, loss: None,
) -> Tensor:
    """The picture [B, 3, H, W] in [0, 1] that minimises, starting from the content (supplement, eq. 33):

        ||F - F_c||^2 / ||F_c||^2 at content_level + style_weight / L sum over L levels of ||G - S||^2 / ||S||^2,

    where S is the Gram of the style, or the mean of several weighted (their joint objective has the same gradient). Each term is
    over its own size, so that one style_weight serves every encoder and picture. optimiser: "lbfgs" or "adam" (which needs
    more steps). Ends early when 10 steps have gained less than tolerance of the loss. progress(step, loss) is called each step.
    """
    who = "fastift.nst"
    if optimiser not in ("lbfgs", "adam"):
        raise InvalidInputError(f"{who}: optimiser must be 'lbfgs' or 'adam', got {optimiser!r}")
    if not isinstance(steps, int) or steps < 1:
        raise InvalidInputError(f"{who}: steps must be a whole number from 1, got {steps}")
    if not 0 <= style_weight < float("inf"):
        raise InvalidInputError(f"{who}: style_weight must be finite and not negative, got {style_weight}")
    stylizer = model if isinstance(model, Stylizer) else Stylizer(model)
    deepest = max(*levels, content_level)
    if not levels or not all(1 <= n <= stylizer.model.levels for n in (*levels, content_level)):
        raise InvalidInputError(
            f"{who}: levels and content_level must lie between 1 and {stylizer.model.levels}, "
            f"got {tuple(levels)} and {content_level}"
        )
    with torch.no_grad():
        target = style if isinstance(style, Style) else stylizer.style(style, weights)
        x = stylizer.prepare(content, "content")
        known = [tap.float() for tap in stylizer.model.encoder.walk(stylizer.pad(x), deepest)]
    kept = known[content_level - 1]
    size = kept.square().mean().clamp_min(1e-12)
    grams = {n: target.levels[n].gram.to(stylizer.device) for n in levels}
    picture = x.clone(memory_format=torch.contiguous_format).requires_grad_()

    def loss() -> Tensor:
        taps = stylizer.model.encoder(stylizer.pad(picture), deepest)
        near = (taps[content_level - 1].float() - kept).square().mean() / size
        far = sum(
            ((moments(taps[n - 1]).gram - g).square().sum((1, 2)) / g.square().sum((1, 2)).clamp_min(1e-12)).mean()
            for n, g in grams.items()
        )
        outside = (picture - picture.clamp(0, 1)).square().mean()
        return near + style_weight / len(grams) * far + OUTSIDE * outside

    parameters = [p for p in stylizer.model.parameters() if p.requires_grad]
    for p in parameters:
        p.requires_grad_(False)
    try:
        _descend(picture, loss, steps, optimiser, tolerance, progress)
    finally:
        for p in parameters:
            p.requires_grad_(True)
    return picture.detach().clamp(0, 1)


def _descend(
    picture: Tensor, loss: Callable[[], Tensor], steps: int, optimiser: str, tolerance: float, progress
) -> None:
    if optimiser == "lbfgs":
        search = torch.optim.LBFGS([picture], max_iter=1, max_eval=20, history_size=20, line_search_fn="strong_wolfe")
    else:
        search = torch.optim.Adam([picture], lr=0.02)

    def closure() -> Tensor:
        search.zero_grad(set_to_none=True)
        value = loss()
        value.backward()
        return value

    seen: list[float] = []
    for step in range(steps):
        value = float(search.step(closure).detach())
        progress(step + 1, value)
        seen.append(value)
        if len(seen) > 10 and seen[-11] - min(seen[-10:]) < tolerance * abs(seen[-11]) + 1e-9:
            return
