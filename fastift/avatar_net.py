"""Avatar-Net (Sheng et al., CVPR 2018): the style decorator at the deepest level, AdaIN at the finer ones after it."""

from __future__ import annotations

import torch
from torch import Tensor

from .engine import ImageLike, Stylizer
from .errors import InvalidInputError
from .flows import decoder_of, tap
from .patches import style_decorator

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

    The published network applies AdaIN inside its decoder; here the cascade's finer levels do, whose features are the
    encoder's own. strength in [0, 1] blends with the content's features at every level. patch, stride: see `style_decorator`.
    It needs the style's features and not only their moments, so a style cannot be kept.
    """
    stylizer = model if isinstance(model, Stylizer) else Stylizer(model)
    net = stylizer.model
    deepest = net.levels
    decode = decoder_of(net, deepest)
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
    target, features = (tap(net, stylizer.pad(v), deepest) for v in (s, x))
    if strength > 0:
        decorated = [style_decorator(f[None], target, alpha=strength, patch=patch, stride=stride) for f in features]
        features = torch.cat(decorated)
    out = decode(features)[:, :, : x.shape[2], : x.shape[3]].float().clamp(0, 1)
    if strength == 0 or deepest == 1:
        return out
    finer = tuple(range(deepest - 1, 0, -1))
    return stylizer(out, stylizer.style(s), flow="cascade", transform="adain", levels=finer, strength=strength)
