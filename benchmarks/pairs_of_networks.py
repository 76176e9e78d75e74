"""A cascade in which every level has an encoder of its own, as published for most VGG-19 systems, behind our engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from torch import Tensor, nn

from fastift.weights import load_decoder, load_encoder

__all__ = ["PairsOfNetworks"]


class PairsOfNetworks(nn.Module):
    """encoder_reluN_1 and decoder_reluN_1, N = 1 .. 4, of a folder; follows `fastift.AutoencoderProtocol`."""

    levels, multiple, single_pass = 4, 8, None

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.encoder = Encoders({str(n): load_encoder(folder / f"encoder_relu{n}_1.safetensors") for n in range(1, 5)})
        self.decoders = nn.ModuleDict(
            {str(n): load_decoder(folder / f"decoder_relu{n}_1.safetensors") for n in range(1, 5)}
        )


class Encoders(nn.ModuleDict):
    def walk(self, image: Tensor, level: int | None = None, transform=None) -> Iterator[Tensor]:
        if transform is not None:
            raise NotImplementedError("encoders of their own cannot be transformed on the way")
        for n in range(1, (level or 4) + 1):
            yield self[str(n)](image, n)[-1]
