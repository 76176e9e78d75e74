"""How a restyled picture is judged: style distance under an independent encoder, and SSIM with the content."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from skimage.metrics import structural_similarity
from torch import Tensor

from fastift.colour import luminance
from fastift.encoder import Encoder

__all__ = ["content_ssim", "load", "psnr", "read_pairs", "style_distance", "style_grams"]


def load(path, side: int | None = 256) -> Tensor:
    """RGB [1, 3, H, W] in [0, 1]; side reduces (Lanczos) to that shorter side, both sides multiples of 8."""
    with Image.open(path) as im:
        im = im.convert("RGB")
        if side:
            k = side / min(im.size)
            im = im.resize([round(s * k / 8) * 8 for s in im.size], Image.Resampling.LANCZOS)
        return torch.from_numpy(np.array(im)).permute(2, 0, 1)[None].float() / 255


def read_pairs(file: Path) -> list[tuple[Path, Path]]:
    """Content and style of each row of a table with these columns, relative to its folder."""
    with open(file) as f:
        return [(file.parent / row["content"], file.parent / row["style"]) for row in csv.DictReader(f)]


@torch.inference_mode()
def style_grams(encoder: Encoder, x: Tensor) -> list[Tensor]:
    taps = encoder(x)
    return [t[0].flatten(1) @ t[0].flatten(1).T / t[0, 0].numel() for t in taps]


def style_distance(encoder: Encoder, content: Tensor, style: Tensor, out: Tensor) -> list[float]:
    """||G(out) - G(style)||_F / ||G(content) - G(style)||_F at relu1_1 .. relu4_1: 1 is the content, 0 the style."""
    c, s, o = (style_grams(encoder, x.clamp(0, 1)) for x in (content, style, out))
    return [float((a - b).norm() / (k - b).norm()) for a, b, k in zip(o, s, c, strict=True)]


def content_ssim(content: Tensor, out: Tensor) -> float:
    """SSIM of the luma, data range 1, skimage's defaults."""
    a, b = (luminance(x.clamp(0, 1))[0, 0].numpy() for x in (content, out))
    return float(structural_similarity(a, b, data_range=1.0))


def psnr(x: Tensor, y: Tensor) -> float:
    """In dB, of pictures clamped to [0, 1]."""
    return -10 * float(torch.log10((x.clamp(0, 1) - y.clamp(0, 1)).square().mean()))
