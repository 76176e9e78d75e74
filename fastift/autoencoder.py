"""The autoencoder that the engine drives: one encoder, a decoder for each level of the cascade, one for the single pass."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from .decoder import Decoder
from .encoder import Encoder, Plan

__all__ = ["Autoencoder", "AutoencoderConfig", "AutoencoderProtocol"]


@runtime_checkable
class AutoencoderProtocol(Protocol):
    """What the engine asks of a network. Any nn.Module with these members can stand in for `Autoencoder`.

    ``encoder.walk(image, level, transform)`` yields reluN_1 for N = 1 .. level, see `Encoder.walk`;
    ``decoders[str(N)](features, affine)`` returns an image; ``single_pass`` is None or a decoder from the deepest level with
    ``details``, ``transform`` and ``level`` arguments, see `Decoder.forward`. ``multiple`` is what height and width are padded
    to. All padding inside must be by reflection, or folded maps are wrong at the border.
    """

    levels: int
    multiple: int
    encoder: nn.Module
    decoders: nn.ModuleDict
    single_pass: nn.Module | None


@dataclass(frozen=True)
class AutoencoderConfig:
    """Geometry of an autoencoder, kept in the header of its weight file."""

    widths: tuple[int, ...]
    encoder_depths: tuple[int, ...]
    decoder_depths: tuple[int, ...]
    cascade: tuple[int, ...] = (1, 2, 3, 4)
    single_pass: bool = True
    upsampling: str = "bilinear"
    final_relu: bool = False
    learned_pooling: bool = False
    leak: float = 0.0
    """Of the single-pass decoder, see `Decoder`."""

    def __post_init__(self) -> None:
        for field in ("widths", "encoder_depths", "decoder_depths", "cascade"):
            object.__setattr__(self, field, tuple(int(v) for v in getattr(self, field)))

    def to_dict(self) -> dict:
        return asdict(self)


SLIM = AutoencoderConfig(
    widths=(32, 64, 128, 184),
    encoder_depths=(2, 2, 2, 1),
    decoder_depths=(2, 2, 2, 1),
    upsampling="subpixel",
    learned_pooling=True,
    leak=0.1,
)
"""Geometry of the embedded default. Learned pooling and upsampling let it carry detail that VGG's own layout drops."""


class Autoencoder(nn.Module):
    """Encoder to relu4_1, cascade decoders relu1_1 .. relu4_1, and the single-pass decoder."""

    def __init__(self, config: AutoencoderConfig = SLIM) -> None:
        super().__init__()
        self.config = config
        mirrored = Plan(config.widths, config.decoder_depths)
        style = {"upsampling": config.upsampling, "final_relu": config.final_relu}
        self.encoder = Encoder(Plan(config.widths, config.encoder_depths, config.learned_pooling))
        self.decoders = nn.ModuleDict({str(n): Decoder(mirrored, n, **style) for n in config.cascade})
        self.single_pass = (
            Decoder(mirrored, len(config.widths), leak=config.leak, **style) if config.single_pass else None
        )

    @property
    def levels(self) -> int:
        return len(self.config.widths)

    @property
    def multiple(self) -> int:
        return self.encoder.plan.multiple

    @property
    def takes_pending(self) -> bool:
        """Whether encoder and decoders know features that are pending, see `fastift.layers`."""
        return isinstance(self.encoder, Encoder) and all(isinstance(d, Decoder) for d in self.decoders.values())

    def encode(self, image: Tensor, level: int | None = None) -> list[Tensor]:
        return self.encoder(image, level)
