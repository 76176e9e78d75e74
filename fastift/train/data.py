"""Random crops from a folder of pictures. A batch is a function of (seed, step, rank), so a resumed run sees the same crops."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import ImageFileError, InvalidInputError

__all__ = ["Pictures", "Crops", "find_pictures"]

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}


def find_pictures(folder: str | os.PathLike) -> list[Path]:
    """Every picture below a folder, by name, in a fixed order."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InvalidInputError(f"fastift train: {folder} is not a folder; expected a folder of pictures")
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not files:
        raise InvalidInputError(f"fastift train: {folder} holds no picture ({', '.join(sorted(SUFFIXES))})")
    return files


class Pictures:
    """Decoded pictures, uint8 [3, H, W], kept in memory while they fit in `cache_bytes`."""

    def __init__(self, files: list[Path], resize: int, crop: int, cache_bytes: int = 4 << 30) -> None:
        self.files, self.resize, self.crop = files, resize, crop
        self.room = cache_bytes
        self.cache: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        if index in self.cache:
            return self.cache[index]
        picture = self.read(self.files[index])
        if picture.numel() <= self.room:
            self.room -= picture.numel()
            self.cache[index] = picture
        return picture

    def read(self, file: Path) -> Tensor:
        try:
            with Image.open(file) as im:
                im.draft("RGB", (2 * self.resize, 2 * self.resize)) if self.resize else None
                im = im.convert("RGB")
                shorter = min(im.size)
                target = min(self.resize or shorter, shorter)
                target = max(target, self.crop)  # too small a picture is enlarged rather than left out
                if target != shorter:
                    size = [max(self.crop, round(s * target / shorter)) for s in im.size]
                    im = im.resize(size, Image.Resampling.LANCZOS)
                return torch.from_numpy(np.array(im)).permute(2, 0, 1).contiguous()
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as err:
            raise ImageFileError(f"fastift train: {file} cannot be read as a picture ({err})") from err


class Crops:
    """Batches [B, 3, crop, crop] in [0, 1], flipped at random; the next ones are prepared in threads while one is in use."""

    def __init__(
        self, pictures: Pictures, batch: int, seed: int, rank: int = 0, threads: int = 2, ahead: int = 3
    ) -> None:
        self.pictures, self.batch, self.seed, self.rank, self.ahead = pictures, batch, seed, rank, ahead
        self.pool = ThreadPoolExecutor(threads)
        self.pending: dict[int, object] = {}

    def make(self, step: int) -> Tensor:
        rng = np.random.default_rng((self.seed, self.rank, step))
        size = self.pictures.crop
        crops = []
        for index in rng.integers(len(self.pictures), size=self.batch):
            picture = self.pictures[int(index)]
            top, left = (int(rng.integers(s - size + 1)) for s in picture.shape[1:])
            crop = picture[:, top : top + size, left : left + size]
            crops.append(crop.flip(2) if rng.integers(2) else crop)
        return torch.stack(crops)

    def __call__(self, step: int) -> Tensor:
        for s in range(step, step + self.ahead):
            if s not in self.pending:
                self.pending[s] = self.pool.submit(self.make, s)
        return self.pending.pop(step).result().float().div_(255)

    def close(self) -> None:
        self.pool.shutdown(wait=False, cancel_futures=True)
