"""Settings of a training run, kept with its checkpoints."""

from __future__ import annotations

from dataclasses import asdict, dataclass

__all__ = ["Recipe", "PAPER", "SLIM"]


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a run besides the pictures and the network's geometry. Losses are explained in `objective`."""

    resize: int = 512
    """Shorter side that images are resized to (Lanczos, never up); 0 keeps them."""
    crop: int = 256
    batch: int = 8
    """Crops a step in each process."""
    encoder_steps: int = 0
    """Steps of the first phase: encoder by distillation, jointly with decoders. 0 keeps the encoder that is given."""
    encoder_lr: float = 1e-3
    deepest_steps: int = 0
    """Further steps of the first phase for the deepest level alone, which learns slowest; the rest is kept."""
    decoder_steps: int = 0
    """Steps of the second phase: decoders on the frozen encoder. 0 counts epochs instead."""
    epochs: tuple[int, ...] = (3, 3, 5, 5)
    """Epochs for the decoders of relu1_1 .. relu4_1 when decoder_steps is 0."""
    decoder_lr: float = 1e-4
    single_pass_steps: int = 0
    """Steps of the third phase: the single-pass decoder. 0 counts the epochs of the deepest level."""
    single_pass_lr: float = 1e-4
    cosine: bool = False
    """Let learning rates fall to 1 % along a cosine, after 2 % of warm-up; otherwise they are constant."""
    forcing: float = 0.4
    """Share of the encoder steps in which each stage sees the teacher's features instead of its own."""
    feature_weight: float = 1.0
    """Weight of the feature term of eq. 32 against its image term."""
    restyle: float = 0.0
    """Share of each batch whose features are restyled with another crop's before decoding (see `objective`)."""
    balanced: bool = False
    """Minimise logarithms of the terms, so that each counts by what is left of it (see `objective`)."""
    hold_out: int = 20
    """Every so many-th picture is kept from training, for the PSNR."""
    seed: int = 0

    def to_dict(self) -> dict:
        return asdict(self)


PAPER = Recipe()
"""The paper's supplement: 512 pixels, 256 crops, batch 8, Adam 1e-4, 5 epochs for relu4_1 and relu3_1, 3 for the others."""

SLIM = Recipe(
    resize=320, crop=96, batch=12, encoder_steps=5000, encoder_lr=2e-3, deepest_steps=1500,
    decoder_steps=800, decoder_lr=3e-4, single_pass_steps=4000, single_pass_lr=5e-4,
    cosine=True, forcing=0.2, restyle=1 / 3, balanced=True,
)  # fmt: skip
"""How the embedded "slim" model was made."""
