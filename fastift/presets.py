"""What "art" and "photo" stand for: defaults for every setting of a call that the caller leaves open."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PRESETS", "Preset"]


@dataclass(frozen=True)
class Preset:
    flow: str
    """"cascade": encode and decode once a level (the paper); "encoder_side": transform inside the encoder, decode once;
    "single_pass": encode once, transform inside the decoder."""
    strength: float
    levels: tuple[int, ...]


PRESETS = {
    "art": Preset(flow="cascade", strength=0.8, levels=(3, 2, 1)),
    "photo": Preset(flow="encoder_side", strength=0.8, levels=(2, 1)),
}
"""Chosen on 13 pairs by style distance at equal content SSIM (benchmarks/quality.py), with the embedded weights."""
