"""Regions: label maps of a picture, matched with one style each, mapped one by one and put together with soft edges."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as nnf
from PIL import Image
from torch import Tensor

from . import ops
from ._precision import full_precision
from .affine import Affine, Regional
from .errors import InvalidInputError
from .image import Picture, read_picture
from .moments import Moments

__all__ = ["MAX_REGIONS", "Regions", "read_labels"]

MAX_REGIONS = 64
SAME_COLOUR = 24
"""Colours that differ by no more than this in each channel, of 255, are one label: compression moves them by a few."""

FEATHER = 0.01
"""Width of the soft edges between regions, over the picture's shorter side, by default."""

LabelsLike = str | os.PathLike | Image.Image | Picture | np.ndarray | Tensor


def read_labels(*sources: LabelsLike, names: Sequence[str] = ("mask", "style_mask")) -> list[Tensor]:
    """Label maps as int64 [H, W]. The same colour is the same label in all of them.

    A source is a picture (path, PIL, `Picture`), whose colours are labels 0xRRGGBB, or an integer or boolean array or tensor
    [H, W]. In pictures only colours that cover some area, 3 x 3 pixels of it, are labels; all other pixels, such as antialiased
    borders, go to the nearest of them. Raises InvalidInputError for other input and for more than 64 labels.
    """
    read = [_read(source, name) for source, name in zip(sources, names, strict=False)]
    coloured = [labels for labels, is_colour in read if is_colour]
    palette = _palette(coloured) if coloured else None
    out = []
    for (labels, is_colour), name in zip(read, names, strict=False):
        labels = _snap(labels, palette) if is_colour else labels
        found = torch.unique(labels)
        if len(found) > MAX_REGIONS:
            raise InvalidInputError(
                f"fastift: {name} must have at most {MAX_REGIONS} labels, got {len(found)}; a mask has areas of one colour each"
            )
        out.append(labels)
    return out


def _read(source: LabelsLike, name: str) -> tuple[Tensor, bool]:
    """Labels, and whether they are colours 0xRRGGBB that are still to be cleaned."""
    if isinstance(source, str | os.PathLike | Image.Image):
        source = read_picture(source)
    if isinstance(source, Picture):
        rgb = source.pixels[0].mul(255).round().long()
        return (rgb[0] << 16) + (rgb[1] << 8) + rgb[2], True
    labels = torch.as_tensor(source) if isinstance(source, np.ndarray | Tensor) else None
    if labels is None or labels.dim() != 2 or labels.is_floating_point() or labels.is_complex() or labels.numel() == 0:
        got = f"{labels.dtype} {tuple(labels.shape)}" if labels is not None else type(source).__name__
        raise InvalidInputError(f"fastift: {name} must be a picture or an array of whole numbers [H, W], got {got}")
    return labels.long().cpu(), False


def _palette(maps: list[Tensor]) -> Tensor:
    """Colours [P, 3] that some pixel shares with its eight neighbours, the most frequent first, near ones merged."""
    inner, everything = [], []
    for labels in maps:
        if min(labels.shape) >= 3:
            windows = labels.unfold(0, 3, 1).unfold(1, 3, 1).flatten(2)
            inner.append(windows[..., 4][(windows == windows[..., 4:5]).all(-1)])
        everything.append(labels.flatten())
    pixels = torch.cat(inner) if inner else torch.empty(0, dtype=torch.long)
    if not len(pixels):  # no area at all, as in a picture of a few pixels
        pixels = torch.cat(everything)
    colours, counts = torch.unique(pixels, return_counts=True)
    chosen: list[Tensor] = []
    for colour in _channels(colours[counts.argsort(descending=True)]):
        if all(int((colour - other).abs().max()) > SAME_COLOUR for other in chosen):
            chosen.append(colour)
        if len(chosen) > MAX_REGIONS:
            raise InvalidInputError(
                f"fastift: mask must have at most {MAX_REGIONS} colours, got more; a mask has areas of one colour each"
            )
    return torch.stack(chosen)


def _snap(labels: Tensor, palette: Tensor) -> Tensor:
    colours, where = torch.unique(labels, return_inverse=True)
    nearest = torch.cdist(_channels(colours).float(), palette.float()).argmin(1)
    packed = (palette[:, 0] << 16) + (palette[:, 1] << 8) + palette[:, 2]
    return packed[nearest][where]


def _channels(packed: Tensor) -> Tensor:
    return torch.stack([packed >> 16, (packed >> 8) & 255, packed & 255], -1)


class Regions(NamedTuple):
    """Soft masks [1, R, H, W] of a picture's labels, which sum to 1 at every pixel."""

    labels: tuple[int, ...]
    masks: Tensor

    @classmethod
    def of(cls, labels: Tensor, *, feather: float = 0.0) -> Regions:
        """From a label map [H, W]; feather is the width of the soft edges in pixels."""
        found = torch.unique(labels)
        masks = (labels == found[:, None, None]).float().unsqueeze(0)
        radius = min(round(feather / 2), min(labels.shape) // 2 - 1)
        if radius > 0:
            # two box filters: a tent, which has no corners that could be seen
            for _ in range(2):
                masks = nnf.avg_pool2d(nnf.pad(masks, (radius,) * 4, mode="replicate"), 2 * radius + 1, 1)
        return cls(tuple(found.tolist()), masks)

    def at(self, features: Tensor) -> Tensor:
        """The masks [B, R, h, w] at the resolution of features [B, C, h, w]."""
        masks = nnf.interpolate(self.masks.to(features.device), size=features.shape[2:], mode="area")
        return masks.expand(features.shape[0], -1, -1, -1)

    @full_precision
    def moments(self, features: Tensor) -> Moments:
        """Moments of each region: n [B, R], mean [B, R, C], gram [B, R, C, C]; zero where a region has no pixel."""
        return _moments_by(self.at(features), features)

    @full_precision
    def solve(self, features: Tensor, style: Moments, solver: Callable[[Moments, Moments], Affine]) -> Regional:
        """The maps of features [B, C, h, w] toward style [R, ...], region by region.

        A region that has less than one pixel here, or whose style has, keeps its features.
        """
        mask = self.at(features)
        content = _moments_by(mask, features)
        b, r = content.n.shape
        flat = Moments(*(t.flatten(0, 1) for t in content))
        target = Moments(*(t.to(flat.gram).repeat(b, *[1] * (t.dim() - 1)) for t in style))
        empty = (flat.n < 1) | (target.n < 1)
        # a harmless pair of equal moments in place of an empty one, whose map is then not used
        safe = Moments(*(torch.where(_like(empty, t), torch.ones_like(t), t) for t in flat))
        same = Moments(*(torch.where(_like(empty, t), torch.ones_like(t), t) for t in target))
        weight, bias = solver(safe, same)
        eye = torch.eye(weight.shape[-1], dtype=weight.dtype, device=weight.device).expand_as(weight)
        weight, bias = torch.where(_like(empty, weight), eye, weight), torch.where(_like(empty, bias), 0, bias)
        return Regional(Affine(weight.unflatten(0, (b, r)), bias.unflatten(0, (b, r))), mask)


def _moments_by(mask: Tensor, features: Tensor) -> Moments:
    return Moments(*ops.moments(features.flatten(2), mask.flatten(2).contiguous()))


def _like(flags: Tensor, t: Tensor) -> Tensor:
    return flags.reshape(-1, *[1] * (t.dim() - 1))
