"""Training: an encoder by distillation from a teacher's taps, decoders by reconstruction (supplement, eq. 32)."""

from .recipe import PAPER, SLIM, Recipe
from .run import train

__all__ = ["Recipe", "PAPER", "SLIM", "train"]
