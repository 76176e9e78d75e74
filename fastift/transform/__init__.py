"""Transforms: content Moments and style Moments in, Affine out."""

from .adain import adain
from .ift import gram_distance, ift, ift_loop, ift_scale_free, largest_stable_lam
from .line_search import ift_line_search
from .ot import ot
from .wct import wct

__all__ = [
    "adain",
    "gram_distance",
    "ift",
    "ift_line_search",
    "ift_loop",
    "ift_scale_free",
    "largest_stable_lam",
    "ot",
    "wct",
]
