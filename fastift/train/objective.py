"""The losses: modules that take a batch of images and return named terms, so that DistributedDataParallel can wrap them."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ..affine import apply
from ..autoencoder import Autoencoder
from ..detail import detail, with_detail
from ..encoder import Encoder
from ..moments import moments
from ..transform import ift_scale_free

__all__ = ["Teacher", "DistilEncoder", "TrainDecoders", "TrainSinglePass"]


class Teacher(nn.Module):
    """A teacher's taps as targets: its channels that are alive, scaled so that the mean activation of each tap is 1.

    `calibrate` finds both on sample images; pruned encoders have many channels that never fire.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder.eval().requires_grad_(False)
        self.alive: list[Tensor] = []
        self.scale: list[float] = []
        self.spread: list[Tensor] = []

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Tensor]) -> None:
        total, square, count = None, None, 0
        for images in batches:
            taps = [t.float() for t in self.encoder(images)]
            sums = [t.mean((0, 2, 3)) for t in taps]
            squares = [t.square().mean((0, 2, 3)) for t in taps]
            total = sums if total is None else [a + b for a, b in zip(total, sums, strict=True)]
            square = squares if square is None else [a + b for a, b in zip(square, squares, strict=True)]
            count += 1
        for s, q in zip(total, square, strict=True):
            mean, spread = s / count, (q / count - (s / count).square()).clamp_min(0).sqrt()
            alive = (spread > 0.01 * spread.max()).nonzero().flatten()
            scale = float(mean[alive].mean())
            self.alive.append(alive)
            self.scale.append(scale)
            self.spread.append(spread[alive] / scale)

    @torch.no_grad()
    def forward(self, images: Tensor) -> list[Tensor]:
        taps = self.encoder(images)
        return [t.index_select(1, a) / s for t, a, s in zip(taps, self.alive, self.scale, strict=True)]


class DistilEncoder(nn.Module):
    """Phase 1: the first channels of each tap imitate the teacher's live ones, the rest are free; decoders keep both invertible.

    The free channels are what a pruned teacher lacks: they carry what it forgets, so that more of the picture comes back.
    Terms: ``distil N``: squared error a channel over (its deviation times the tap's mean deviation), averaged;
    ``image N``: 0.12 log(mse + 1e-6) of decoder N, which weighs each level by its own error.
    With ``forced`` each stage sees the teacher's features in place of its own imitation, which learns several times faster.
    ``first``: the first level to learn; the stages above it are kept and make its input.
    """

    def __init__(self, model: Autoencoder, spread: list[Tensor], first: int = 1) -> None:
        super().__init__()
        self.encoder = model.encoder
        self.decoders = nn.ModuleDict({k: d for k, d in model.decoders.items() if int(k) >= first})
        self.spread, self.first = spread, first

    def forward(self, images: Tensor, targets: list[Tensor], forced: bool) -> tuple[Tensor, dict[str, Tensor]]:
        losses = {}
        x = images
        for n, (target, spread) in enumerate(zip(targets, self.spread, strict=True), start=1):
            if n < self.first:
                with torch.no_grad():
                    x = self.encoder.stage(n, x)
                continue
            tap = self.encoder.stage(n, x)
            known = target.shape[1]
            error = (tap[:, :known].float() - target.float()).square().mean((0, 2, 3))
            losses[f"distil {n}"] = (error / (spread * spread.mean())).mean()
            losses[f"image {n}"] = 0.12 * torch.log(image_error(self.decoders[str(n)](tap), images) + FLOOR)
            x = torch.cat([target.to(tap.dtype), tap[:, known:]], 1) if forced else tap
        return sum(losses.values()), {name: loss.detach() for name, loss in losses.items()}


ENOUGH = 30
"""Updates of a training step's maps: most of the way at a fraction of the cost."""


class Restyle:
    """Maps the last share of a batch's features toward their neighbours' statistics, all at one random strength."""

    def __init__(self, taps: list[Tensor], share: float, rng: torch.Generator) -> None:
        batch = len(taps[0])
        self.plain = batch - round(batch * share) if batch > 2 else batch
        self.strength = torch.rand((), generator=rng).item()
        self.styles = [moments(tap[self.plain :].roll(1, 0)) for tap in taps] if self.plain < batch else []

    def __call__(self, n: int, features: Tensor) -> Tensor:
        if not self.styles:
            return features
        given = features[self.plain :]
        with torch.no_grad():
            maps = ift_scale_free(moments(given), self.styles[n - 1], strength=self.strength, n_upd=ENOUGH)
        return torch.cat([features[: self.plain], apply(given.float(), maps).to(features.dtype)])


class TrainDecoders(nn.Module):
    """Phase 2: decoders on a frozen encoder, by eq. 32 of the supplement, both terms as sums over pixels / (3 H W):

        ||dec(enc(I)) - I||^2 + feature_weight ||enc(dec(enc(I))) - enc(I)||^2

    A share `restyle` of each batch does not decode its own features F but A F, where A is the IFT map to another crop's
    moments at a random strength: there is no image to compare with, but the feature term still holds,
    ||enc(dec(A F)) - A F||^2. It teaches the decoders to say what they are told on features that no photograph has, which is
    their job. Values outside [0, 1] are charged there, since a picture cannot hold them. relu1_1 is left out: its decoder is
    one convolution and has nothing to spare.

    With `balanced`, each decoder minimises the weighted sum of its terms' logarithms instead of the terms: a term counts by how
    much of itself is left to gain. The absolute sizes differ by orders of magnitude from level to level, and what restyled
    features cannot reach would drown the image term of the shallow ones.
    """

    def __init__(
        self, model: Autoencoder, levels: tuple[int, ...], *, feature_weight: float, restyle: float, balanced: bool
    ) -> None:
        super().__init__()
        object.__setattr__(self, "encoder", model.encoder)  # frozen: not a parameter of the wrapped module
        self.decoders = nn.ModuleDict({k: d for k, d in model.decoders.items() if int(k) in levels})
        self.feature_weight, self.restyle, self.balanced = feature_weight, restyle, balanced

    def forward(self, images: Tensor, rng: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        with torch.no_grad():
            seen = self.encoder(images)
        restyled = Restyle(seen, self.restyle, rng)
        plain = restyled.plain
        terms: dict[str, Tensor] = {}
        for key, decoder in self.decoders.items():
            n = int(key)
            given = restyled(n, seen[n - 1]) if n > 1 else seen[0]
            out = decoder(given)
            again = self.encoder(out, n)[-1]
            terms[f"image {n}"] = image_error(out[:plain], images[:plain])
            terms[f"feature {n}"] = feature_error(again[:plain], given[:plain], images[:plain])
            if plain < len(images) and n > 1:
                terms[f"restyle {n}"] = feature_error(again[plain:], given[plain:], images[plain:])
                terms[f"range {n}"] = out_of_range(out[plain:])
        return total_of(terms, self.feature_weight, self.balanced)


class TrainSinglePass(nn.Module):
    """Phase 3: the single-pass decoder, whose inner features shall equal the encoder's taps, so that transforms can act on them.

    Each block learns its tap from the true one above it (``block N``), and from what the blocks before it made of it
    (``inner N``): alone, the first compounds badly and the second learns slowly. The picture is made by the whole chain, for one
    half of the samples with the content's `detail` in its features (``skips``) and for the other without (``image``). A share
    of the batch is restyled at every level on the way, as in use, and the picture shall say so when it is encoded again
    (``told N``). With ``apart`` there are only the blocks, which is fast: how to begin.
    """

    def __init__(self, model: Autoencoder, *, feature_weight: float, restyle: float, balanced: bool) -> None:
        super().__init__()
        object.__setattr__(self, "encoder", model.encoder)  # frozen: not a parameter of the wrapped module
        self.single_pass = model.single_pass
        self.feature_weight, self.restyle, self.balanced = feature_weight, restyle, balanced

    def forward(self, images: Tensor, rng: torch.Generator, apart: bool = False) -> tuple[Tensor, dict[str, Tensor]]:
        with torch.no_grad():
            seen = self.encoder(images)
        restyled = Restyle(seen, 0.0 if apart else self.restyle, rng)
        plain, block, deepest = restyled.plain, self.single_pass.block, self.single_pass.level
        terms: dict[str, Tensor] = {}
        if self.single_pass.conv1_1.weight.requires_grad:
            terms["block 0"] = image_error(block(1, seen[0][:plain]), images[:plain])
        for n in range(deepest if apart else deepest - 1, 1, -1):
            terms[f"block {n - 1}"] = feature_error(block(n, seen[n - 1][:plain]), seen[n - 2][:plain], images[:plain])
        if apart:
            return total_of(terms, self.feature_weight, self.balanced)
        # even samples are given the content's detail, odd ones are not
        given = (torch.arange(len(images), device=images.device) % 2 == 0)[:, None, None, None]
        x = restyled(deepest, seen[-1])
        told = {}
        for n in range(deepest, 1, -1):
            x = block(n, x)
            terms[f"inner {n - 1}"] = feature_error(x[:plain], seen[n - 2][:plain], images[:plain])
            x = torch.where(given, with_detail(x, detail(seen[n - 2])), x)
            x = told[n - 1] = restyled(n - 1, x)
        out = block(1, x)
        terms["skips"] = image_error(out[:plain:2], images[:plain:2])
        if plain > 1:
            terms["image"] = image_error(out[1:plain:2], images[1:plain:2])
        if plain < len(images):
            for n, tap in enumerate(self.encoder(out[plain:], max(told)), start=1):
                terms[f"told {n}"] = feature_error(tap, told[n][plain:].detach(), images[plain:])
            terms["range"] = out_of_range(out[plain:])
        return total_of(terms, self.feature_weight, self.balanced)


PLAIN = {"image": 1.0, "skips": 1.0, "range": 1.0}
BALANCED = {
    "image": 1.0, "skips": 1.0, "feature": 0.2, "restyle": 0.15, "range": 0.05, "block": 0.3, "inner": 0.4, "told": 0.25,
}  # fmt: skip
"""Weights of the terms by kind; without balancing, features have the weight of eq. 32."""

FLOOR = 1e-6
"""Under logarithms: below this a term is as good as zero."""


def total_of(terms: dict[str, Tensor], feature_weight: float, balanced: bool) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss, and the terms to log."""
    weights = BALANCED if balanced else dict.fromkeys(BALANCED, feature_weight) | PLAIN
    losses = [
        weights[name.split()[0]] * (torch.log(term + FLOOR) if balanced else term) for name, term in terms.items()
    ]
    return torch.stack(losses).sum(), {name: term.detach() for name, term in terms.items()}


def image_error(out: Tensor, images: Tensor) -> Tensor:
    return (out.float() - images).square().mean()


def feature_error(features: Tensor, target: Tensor, images: Tensor) -> Tensor:
    """Squared feature error summed, over the image's number of values: the ratio that eq. 32 adds to the image's."""
    return (features.float() - target.float()).square().sum() / images.numel()


def out_of_range(out: Tensor) -> Tensor:
    return (out.float() - out.float().clamp(0, 1)).square().mean()
