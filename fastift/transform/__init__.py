"""Transforms: content Moments and style Moments in, Affine out."""

from .ift import gram_distance, ift, ift_loop, ift_scale_free, largest_stable_lam

__all__ = ["ift", "ift_scale_free", "ift_loop", "gram_distance", "largest_stable_lam"]
