"""A content: a picture to be restyled, with what has been seen of it kept for the next style."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from .detail import Detail
from .layers import Features, Pending, moments_of
from .moments import Moments

__all__ = ["Content"]


@dataclass(eq=False)
class Content:
    """Pixels [B, 3, H, W] in [0, 1] on the device of the `Stylizer` that made it, and the fingerprint of its encoder.

    Restyled several times, it is encoded and its moments are taken once for each first level of a flow: what the first step sees
    is kept, 32 bytes a pixel for the embedded weights' relu3_1. Make it with `Stylizer.content`.
    """

    pixels: Tensor
    encoder: str
    taps: dict[int, Features] = field(default_factory=dict)
    details: dict[int, list[Detail]] = field(default_factory=dict)
    seen: dict[int, Moments] = field(default_factory=dict)
    parts: list[Content] = field(default_factory=list)

    def apart(self) -> list[Content]:
        """Each picture of the batch as a content, made at the first call."""
        if not self.parts:
            self.parts = [Content(picture, self.encoder) for picture in self.pixels.split(1)]
        return self.parts

    def tap(self, n: int, encode: Callable[[], Features]) -> Features:
        """reluN_1, encoded at the first call."""
        if n not in self.taps:
            self.taps[n] = encode()
        return self.taps[n]

    def with_details(
        self, n: int, details: bool, encode: Callable[[], tuple[Tensor, list[Detail]]]
    ) -> tuple[Tensor, list[Detail]]:
        """reluN_1 and, if asked for, the details of the stages before it, encoded at the first call."""
        if n not in self.taps or isinstance(self.taps[n], Pending) or (details and n not in self.details):
            self.taps[n], found = encode()
            self.seen.pop(n, None)
            if details:
                self.details[n] = found
        return self.taps[n], self.details[n] if details else []

    def moments(self, n: int, features: Features) -> Moments:
        """Moments of features of level n, kept if they are this picture's own."""
        if self.taps.get(n) is features and n in self.seen:
            return self.seen[n]
        found = moments_of(features)
        if self.taps.get(n) is features:
            self.seen[n] = found
        return found
