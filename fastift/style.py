"""A style: the moments of its picture, or of several pictures, at every level. Computed once, kept, saved, blended."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .errors import InvalidInputError, WeightsError
from .moments import Moments, blend
from .weights import read_tensors, write_tensors

__all__ = ["Style"]

FORMAT = "fastift-style-1"
MAX_STYLES = 64


@dataclass(frozen=True)
class Style:
    """Moments at relu1_1 .. relu4_1 (keys 1 .. 4), and the fingerprint of the encoder that saw them."""

    levels: dict[int, Moments]
    encoder: str

    @classmethod
    def blend(cls, styles: Sequence[Style], weights: Sequence[float] | None = None) -> Style:
        """One style of several: their Grams averaged with the weights (paper, eq. 28-31), by default equal ones."""
        if not 1 <= len(styles) <= MAX_STYLES:
            raise InvalidInputError(f"fastift.Style.blend: expected 1 to {MAX_STYLES} styles, got {len(styles)}")
        weights = [1.0] * len(styles) if weights is None else list(weights)
        first = styles[0]
        if any(s.encoder != first.encoder or s.levels.keys() != first.levels.keys() for s in styles):
            raise InvalidInputError("fastift.Style.blend: the styles must come from one encoder, got different ones")
        return cls({n: blend([s.levels[n] for s in styles], weights) for n in first.levels}, first.encoder)

    def to(self, device: torch.device | str) -> Style:
        return Style({n: m.to(device) for n, m in self.levels.items()}, self.encoder)

    def save(self, path: str | os.PathLike) -> None:
        """Write a safetensors file, whole or not at all."""
        tensors = {f"relu{n}_1.{k}": v for n, m in self.levels.items() for k, v in m._asdict().items()}
        write_tensors(path, tensors, {"format": FORMAT, "encoder": self.encoder})

    @classmethod
    def load(cls, path: str | os.PathLike) -> Style:
        """Read what `save` wrote; raises WeightsError for anything else."""
        tensors, header = read_tensors(path)
        if header.get("format") != FORMAT or "encoder" not in header:
            raise WeightsError(
                f"fastift.Style.load: {path} is not a style (its header says {header.get('format')!r}); expected {FORMAT!r}"
            )
        try:
            numbers = sorted({int(name.removeprefix("relu").split("_")[0]) for name in tensors})
            levels = {n: Moments(*(tensors[f"relu{n}_1.{k}"] for k in Moments._fields)) for n in numbers}
        except (KeyError, ValueError) as err:
            raise WeightsError(f"fastift.Style.load: {path} lacks the moments of a level ({err})") from err
        for n, m in levels.items():
            if m.mean.dim() != 2 or m.gram.shape != (*m.mean.shape, m.mean.shape[-1]) or m.n.shape != m.mean.shape[:1]:
                raise WeightsError(f"fastift.Style.load: the moments of relu{n}_1 in {path} do not fit each other")
        return cls(levels, header["encoder"])
