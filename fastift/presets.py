"""What "art" and "photo" stand for: defaults for every setting of a call that the caller leaves open."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PRESETS", "Preset"]


@dataclass(frozen=True)
class Preset:
    flow: str
    """"cascade": encode and decode once a level (the paper); "single_pass": encode once, transform inside the decoder."""
    skips: bool
    """Give the single-pass decoder the content's fine detail."""
    strength: float
    levels: tuple[int, ...]


PRESETS = {
    "art": Preset(flow="cascade", skips=False, strength=0.7, levels=(3, 2, 1)),
    "photo": Preset(flow="cascade", skips=False, strength=0.6, levels=(2, 1)),
}
"""Chosen on 13 pairs by style distance at equal content SSIM (benchmarks/quality.py): with the embedded weights, decoding
from relu4_1 blurs more than its statistics gain, and the cascade beats the single pass at every distance."""
