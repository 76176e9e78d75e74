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
    """Moments at relu1_1 .. relu4_1 (keys 1 .. 4), and the fingerprint of the encoder that saw them.

    With labels, the moments are of the regions of a picture, in the order of the labels, and not of the samples of a batch.
    """

    levels: dict[int, Moments]
    encoder: str
    labels: tuple[int, ...] | None = None

    @classmethod
    def of_regions(cls, styles: dict[int, Style]) -> Style:
        """One style a region, by label; each of one sample."""
        if not styles or any(s.labels is not None or len(m.n) != 1 for s in styles.values() for m in s.levels.values()):
            raise InvalidInputError(
                "fastift.Style.of_regions: expected at least one style, of one picture for each label"
            )
        first = next(iter(styles.values()))
        if any(s.encoder != first.encoder or s.levels.keys() != first.levels.keys() for s in styles.values()):
            raise InvalidInputError(
                "fastift.Style.of_regions: the styles must come from one encoder, got different ones"
            )
        levels = {
            n: Moments(*(torch.cat(parts) for parts in zip(*(s.levels[n] for s in styles.values()), strict=True)))
            for n in first.levels
        }
        return cls(levels, first.encoder, tuple(styles))

    def region(self, label: int) -> Style:
        """The style of one region."""
        if self.labels is None or label not in self.labels:
            raise InvalidInputError(f"fastift.Style.region: expected one of the labels {self.labels}, got {label}")
        i = self.labels.index(label)
        return Style({n: Moments(*(t[i : i + 1] for t in m)) for n, m in self.levels.items()}, self.encoder)

    @classmethod
    def blend(cls, styles: Sequence[Style], weights: Sequence[float] | None = None) -> Style:
        """One style of several: their Grams averaged with the weights (paper, eq. 28-31), by default equal ones."""
        if not 1 <= len(styles) <= MAX_STYLES:
            raise InvalidInputError(f"fastift.Style.blend: expected 1 to {MAX_STYLES} styles, got {len(styles)}")
        weights = [1.0] * len(styles) if weights is None else list(weights)
        first = styles[0]
        if any(s.labels is not None for s in styles):
            raise InvalidInputError("fastift.Style.blend: expected styles of whole pictures, got one with regions")
        if any(s.encoder != first.encoder or s.levels.keys() != first.levels.keys() for s in styles):
            raise InvalidInputError("fastift.Style.blend: the styles must come from one encoder, got different ones")
        return cls({n: blend([s.levels[n] for s in styles], weights) for n in first.levels}, first.encoder)

    def to(self, device: torch.device | str) -> Style:
        return Style({n: m.to(device) for n, m in self.levels.items()}, self.encoder, self.labels)

    def save(self, path: str | os.PathLike) -> None:
        """Write a safetensors file, whole or not at all."""
        tensors = {f"relu{n}_1.{k}": v for n, m in self.levels.items() for k, v in m._asdict().items()}
        header = {"format": FORMAT, "encoder": self.encoder}
        if self.labels is not None:
            header["labels"] = ",".join(map(str, self.labels))
        write_tensors(path, tensors, header)

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
            labels = tuple(map(int, header["labels"].split(","))) if "labels" in header else None
        except (KeyError, ValueError) as err:
            raise WeightsError(f"fastift.Style.load: {path} lacks the moments of a level ({err})") from err
        for n, m in levels.items():
            if m.mean.dim() != 2 or m.gram.shape != (*m.mean.shape, m.mean.shape[-1]) or m.n.shape != m.mean.shape[:1]:
                raise WeightsError(f"fastift.Style.load: the moments of relu{n}_1 in {path} do not fit each other")
            if labels is not None and len(labels) != len(m.n):
                raise WeightsError(f"fastift.Style.load: {path} has {len(labels)} labels for {len(m.n)} regions")
        return cls(levels, header["encoder"], labels)
