"""IFTransform: the restyling of features as a layer, to be put between somebody else's encoder and decoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .affine import apply
from .errors import InvalidInputError
from .moments import Moments, blend, moments
from .transform.named import TRANSFORMS, solve

__all__ = ["IFTransform"]


class IFTransform(nn.Module):
    """Gives features [B, C, N] or [B, C, H, W] the statistics of a style's features; shape and dtype stay.

    channels: C. transform: "ift", "ift_line_search", "wct", "ot" or "adain". strength in [0, 1] is an attribute that may be
    changed at any time; 0 is exactly the identity. The style's moments are buffers: they go with `.to()`, `state_dict()` and
    torch.save. Until `set_style` is called the layer passes features through. Differentiable in the features.

        net = nn.Sequential(encoder, IFTransform(512), decoder)
        net[1].set_style(encoder(style_image))
        picture = net(content_image)
    """

    def __init__(self, channels: int, *, transform: str = "ift", strength: float = 0.7) -> None:
        super().__init__()
        if not isinstance(channels, int) or channels < 1:
            raise InvalidInputError(f"fastift.IFTransform: channels must be a whole number from 1, got {channels!r}")
        if transform not in TRANSFORMS:
            known = ", ".join(map(repr, TRANSFORMS))
            raise InvalidInputError(f"fastift.IFTransform: transform must be one of {known}, got {transform!r}")
        self.channels, self.transform, self.strength = channels, transform, strength
        # zero pixels: no style yet
        self.register_buffer("style_n", torch.zeros(1))
        self.register_buffer("style_mean", torch.zeros(1, channels))
        self.register_buffer("style_gram", torch.zeros(1, channels, channels))
        self._has_style = False

    @torch.no_grad()
    def set_style(self, *features: Tensor | Moments, weights: list[float] | None = None) -> IFTransform:
        """Take the style from features [1, C, ...] or Moments; several are blended with weights, equal by default."""
        if not features:
            raise InvalidInputError("fastift.IFTransform.set_style: expected features or Moments, got none")
        found = [f if isinstance(f, Moments) else moments(f) for f in features]
        for m in found:
            if m.channels != self.channels or len(m.n) != 1:
                raise InvalidInputError(
                    f"fastift.IFTransform.set_style: expected one sample of {self.channels} channels, "
                    f"got {len(m.n)} of {m.channels}"
                )
        style = blend(found, [1.0] * len(found) if weights is None else weights)
        for buffer, value in zip((self.style_n, self.style_mean, self.style_gram), style, strict=True):
            buffer.copy_(value)
        self._has_style = True
        return self

    def _load_from_state_dict(self, state_dict, prefix, *rest) -> None:
        super()._load_from_state_dict(state_dict, prefix, *rest)
        self._has_style = bool(self.style_n.any())

    def forward(self, features: Tensor) -> Tensor:
        if features.dim() not in (3, 4) or features.shape[1] != self.channels:
            raise InvalidInputError(
                f"fastift.IFTransform: features must be [B, {self.channels}, N] or [B, {self.channels}, H, W], "
                f"got {tuple(features.shape)}"
            )
        if not 0 <= self.strength <= 1:
            raise InvalidInputError(f"fastift.IFTransform: strength must lie in [0, 1], got {self.strength}")
        if not self._has_style or self.strength == 0:
            return features
        style = Moments(self.style_n, self.style_mean, self.style_gram)
        return apply(features, solve(self.transform, moments(features), style, strength=self.strength))

    def extra_repr(self) -> str:
        style = "with a style" if self._has_style else "without a style"
        return f"{self.channels}, transform={self.transform!r}, strength={self.strength}, {style}"
