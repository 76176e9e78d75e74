"""Avatar-Net (Sheng et al., CVPR 2018): the style decorator at the deepest level, AdaIN on the decoder's way down."""

from __future__ import annotations

import torch
from torch import Tensor

from .engine import ImageLike, Stylizer
from .errors import InvalidInputError
from .moments import moments
from .patches import style_decorator
from .transform import adain

__all__ = ["avatar_net"]


def avatar_net(
    content: ImageLike,
    style: ImageLike,
    *,
    model: Stylizer | str = "slim",
    strength: float = 1.0,
    patch: int = 3,
    stride: int = 1,
) -> Tensor:
    """Restyle content [B, 3, H, W] with one style picture; returns the same size, float32 in [0, 1].

    strength in [0, 1] blends with the content's features at every level. patch, stride: see `style_decorator`. It needs the
    style's features and not only their moments, so a style cannot be kept; and a model with a single-pass decoder.
    """
    stylizer = model if isinstance(model, Stylizer) else Stylizer(model)
    net = stylizer.model
    if net.single_pass is None:
        raise InvalidInputError("fastift.avatar_net: this model has no single-pass decoder")
    if not 0 <= strength <= 1:
        raise InvalidInputError(f"fastift.avatar_net: strength must lie in [0, 1], got {strength}")
    x, s = stylizer.prepare(content, "content"), stylizer.prepare(style, "style")
    if len(s) != 1:
        raise InvalidInputError(f"fastift.avatar_net: expected one style, got a batch of {len(s)}")
    for name, image in (("content", x), ("style", s)):
        least = patch * net.multiple
        if min(image.shape[2:]) < least:
            raise InvalidInputError(
                f"fastift.avatar_net: {name} must have at least {least} x {least} pixels, a patch at the deepest level, "
                f"got {image.shape[3]} x {image.shape[2]}"
            )
    seen = {n: tap for n, (tap, _) in enumerate(net.encoder.walk(stylizer.pad(s), net.levels), start=1)}
    targets = {n: moments(tap) for n, tap in seen.items()}
    *_, (features, _) = net.encoder.walk(stylizer.pad(x), net.levels)
    if strength > 0:
        decorated = [
            style_decorator(f[None], seen[net.levels], alpha=strength, patch=patch, stride=stride) for f in features
        ]
        features = torch.cat(decorated)

    def to_style(n: int, inner: Tensor):
        return adain(moments(inner), targets[n], alpha=strength) if strength > 0 else None

    out = net.single_pass(features, None, None, to_style, net.levels)
    return out[:, :, : x.shape[2], : x.shape[3]].float().clamp(0, 1)
