"""The flows: in which order a picture is encoded, mapped and decoded. Pictures here have the size that `Stylizer.pad` gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from .affine import Affine, Regional
from .autoencoder import AutoencoderProtocol
from .content import Content
from .detail import Detail, detail
from .errors import InvalidInputError
from .layers import Features

__all__ = ["FLOWS", "decoder_of", "restyle", "takes_pending", "tap", "visit"]

Solve = Callable[[int, Features], Affine | Regional | None]
"""(level, features) -> the map of these features, None where nothing is to be done."""


class Flow(Protocol):
    def __call__(
        self, model: AutoencoderProtocol, x: Tensor, levels: tuple[int, ...], solve: Solve, content: Content | None
    ) -> Tensor:
        """x [B, 3, H, W] restyled at levels (coarse to fine), not clamped. content, if given, is what x comes from."""
        ...


def takes_pending(model: AutoencoderProtocol) -> bool:
    """Whether it is, or behaves as, an `Autoencoder` of our own parts."""
    return getattr(model, "takes_pending", False)


def tap(model: AutoencoderProtocol, x: Tensor, n: int, transform: Solve | None = None) -> Tensor:
    """reluN_1 of a picture."""
    if takes_pending(model):
        return model.encoder.tap(n, x, transform)
    taps = model.encoder.walk(x, n, transform)
    for _ in range(n - 1):
        next(taps)  # kept by nobody: it is freed as soon as the next stage has read it
    return next(taps)


def visit(model: AutoencoderProtocol, x: Tensor, see: Callable[[int, Features], None]) -> None:
    """see(n, reluN_1) for every level, fine to coarse."""
    if takes_pending(model):
        see(model.levels, model.encoder.tap(model.levels, x, see))
        return
    taps = model.encoder.walk(x, model.levels)
    for n in range(1, model.levels + 1):
        see(n, next(taps))  # kept by nobody, so it is freed before the next one is there


def seen(model: AutoencoderProtocol, x: Tensor, n: int) -> Features:
    """The same for the cascade, whose decoders may take features that are pending."""
    return model.encoder.finest(x) if n == 1 and takes_pending(model) else tap(model, x, n)


def decoder_of(model: AutoencoderProtocol, n: int) -> Callable[..., Tensor]:
    """The cascade's decoder of a level; an error that names those there are."""
    if str(n) not in model.decoders:
        raise InvalidInputError(f"fastift: this model has no decoder for relu{n}_1; it has {sorted(model.decoders)}")
    return model.decoders[str(n)]


def cascade(
    model: AutoencoderProtocol, x: Tensor, levels: tuple[int, ...], solve: Solve, content: Content | None = None
) -> Tensor:
    """Encode, map, decode for each level (the paper)."""
    for i, n in enumerate(levels):
        decode = decoder_of(model, n)
        if i == 0 and content is not None:
            features = content.tap(n, lambda x=x, n=n: seen(model, x, n))
        else:
            features = seen(model, x.clamp(0, 1) if i else x, n)
        x = decode(features, solve(n, features))
        del features  # before the next ones are there
    return x


def encoder_side(
    model: AutoencoderProtocol, x: Tensor, levels: tuple[int, ...], solve: Solve, content: Content | None = None
) -> Tensor:
    """Map inside the encoder, fine to coarse, decode once. Nothing behind the finest map could be kept for another style."""
    deepest = levels[0]
    decode = decoder_of(model, deepest)
    features = tap(model, x, deepest, solve)
    return decode(features, solve(deepest, features))


def single_pass(
    model: AutoencoderProtocol,
    x: Tensor,
    levels: tuple[int, ...],
    solve: Solve,
    content: Content | None = None,
    *,
    skips: bool = False,
) -> Tensor:
    """Encode once, map inside the decoder, coarse to fine; with skips the content's fine detail goes along."""
    if model.single_pass is None:
        raise InvalidInputError("fastift: this model has no single-pass decoder, expected flow='cascade'")
    deepest = levels[0]

    def encode() -> tuple[Tensor, list[Detail]]:
        details = []
        for n, features in enumerate(model.encoder.walk(x, deepest), start=1):
            if skips and n < deepest:
                details.append(detail(features))
        return features, details

    if content is None:
        features, details = encode()
    else:
        features, details = content.with_details(deepest, skips, encode)
    return model.single_pass(features, solve(deepest, features), details or None, solve, deepest)


FLOWS: dict[str, Flow] = {"cascade": cascade, "single_pass": single_pass, "encoder_side": encoder_side}


def restyle(
    flow: Flow,
    model: AutoencoderProtocol,
    x: Tensor,
    levels: tuple[int, ...],
    solve: Solve,
    passes: int,
    content: Content | None = None,
) -> Tensor:
    """A flow, and again on its own result, in [0, 1]."""
    for i in range(passes):
        x = flow(model, x, levels, solve, content if i == 0 else None).clamp(0, 1)
    return x
