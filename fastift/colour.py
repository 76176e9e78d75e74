"""Keeping the content's colours: only the luminance comes from the restyled picture."""

from __future__ import annotations

from torch import Tensor

__all__ = ["luminance", "with_colours_of"]

REC601 = (0.299, 0.587, 0.114)


def luminance(pixels: Tensor) -> Tensor:
    """Rec. 601 luma [B, 1, H, W] of RGB [B, 3, H, W]."""
    return sum(weight * pixels[:, i : i + 1] for i, weight in enumerate(REC601))


def with_colours_of(out: Tensor, content: Tensor) -> Tensor:
    """Luma of out with the chroma (Cb, Cr) of content; both RGB [B, 3, H, W] in [0, 1].

    Adding one number to R, G and B changes luma alone. Where that leaves [0, 1], chroma is pulled towards grey until it fits,
    which keeps the luma; clamping the channels one by one would shift the hue.
    """
    y_out, y_content = luminance(out), luminance(content)
    chroma = content - y_content
    room_up, room_down = (1 - y_out).clamp_min(0), y_out.clamp_min(0)
    highest, lowest = chroma.amax(1, keepdim=True), -chroma.amin(1, keepdim=True)
    tiny = 1e-6
    fit = (room_up / highest.clamp_min(tiny)).minimum(room_down / lowest.clamp_min(tiny)).clamp(0, 1)
    return (y_out + fit * chroma).clamp(0, 1)
