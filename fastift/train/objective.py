"""The losses: modules that take a batch of images and return named terms, so that DistributedDataParallel can wrap them."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ..affine import apply
from ..autoencoder import Autoencoder
from ..decoder import detail
from ..encoder import Encoder
from ..moments import moments
from ..transform import ift_scale_free

__all__ = ["Teacher", "DistilEncoder", "TrainDecoders"]


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
            taps = [t.float() for t in self.encoder(images).taps]
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
        taps = self.encoder(images).taps
        return [t.index_select(1, a) / s for t, a, s in zip(taps, self.alive, self.scale, strict=True)]


class DistilEncoder(nn.Module):
    """Phase 1: the first channels of each tap imitate the teacher's live ones, the rest are free; decoders keep both invertible.

    The free channels are what a pruned teacher lacks: they carry what it forgets, so that more of the picture comes back. Terms:
    ``distil N``: squared error a channel over (its deviation times the tap's mean deviation), averaged;
    ``image N``: 0.08 log(mse + 1e-6) of decoder N, whose gradient weighs each level by its own error.
    With ``forced`` each stage sees the teacher's features in place of its own imitation, which learns several times faster.
    """

    def __init__(self, model: Autoencoder, spread: list[Tensor]) -> None:
        super().__init__()
        self.encoder, self.decoders = model.encoder, model.decoders
        self.spread = spread

    def forward(self, images: Tensor, targets: list[Tensor], forced: bool) -> dict[str, Tensor]:
        losses = {}
        x = images
        for n, (target, spread) in enumerate(zip(targets, self.spread, strict=True), start=1):
            tap, _ = self.encoder.stage(n, x)
            known = target.shape[1]
            error = (tap[:, :known].float() - target.float()).square().mean((0, 2, 3))
            losses[f"distil {n}"] = (error / (spread * spread.mean())).mean()
            losses[f"image {n}"] = 0.08 * torch.log(image_error(self.decoders[str(n)](tap), images) + 1e-6)
            x = torch.cat([target.to(tap.dtype), tap[:, known:]], 1) if forced else tap
        return losses


class TrainDecoders(nn.Module):
    """Phase 2: decoders on a frozen encoder, by eq. 32 of the supplement, both terms as sums over pixels / (3 H W):

        ||dec(enc(I)) - I||^2 + feature_weight ||enc(dec(enc(I))) - enc(I)||^2

    The single-pass decoder has the same two terms, and its inner features shall equal the encoder's taps; each sample sees
    its skips or not with equal chance. A share `restyle` of each batch does not decode its own features F but A F, where A is
    the IFT map to another crop's moments at a random strength: there is no image to compare with, but the feature
    term still holds, ||enc(dec(A F)) - A F||^2. It teaches the decoders to say what they are told on features that no
    photograph has, which is their job. Values outside [0, 1] are charged there, since a picture cannot hold them.
    """

    def __init__(self, model: Autoencoder, levels: tuple[int, ...], feature_weight: float, restyle: float) -> None:
        super().__init__()
        object.__setattr__(self, "encoder", model.encoder)  # frozen: not a parameter of the wrapped module
        self.decoders = nn.ModuleDict({k: d for k, d in model.decoders.items() if int(k) in levels})
        self.single_pass = model.single_pass
        self.feature_weight, self.restyle = feature_weight, restyle

    def forward(self, images: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        plain = len(images) - round(len(images) * self.restyle) if len(images) > 2 else len(images)
        strength = torch.rand((), generator=rng).item()
        with torch.no_grad():
            seen = self.encoder(images)
            styles = [moments(tap[plain:].roll(1, 0)) for tap in seen.taps] if plain < len(images) else []

        def restyled(n: int, features: Tensor) -> Tensor:
            """The last samples of a batch mapped toward their neighbour's statistics at level n."""
            if plain == len(images):
                return features
            with torch.no_grad():
                maps = ift_scale_free(moments(features[plain:]), styles[n - 1], strength=strength)
            return torch.cat([features[:plain], apply(features[plain:].float(), maps).to(features.dtype)])

        losses = {}
        for key, decoder in self.decoders.items():
            n = int(key)
            given = restyled(n, seen.taps[n - 1])
            out = decoder(given)
            again = self.encoder(out, n).taps[-1]
            losses[f"image {n}"] = image_error(out[:plain], images[:plain])
            losses[f"feature {n}"] = self.feature_weight * feature_error(again, given, images)
            losses[f"range {n}"] = out_of_range(out[plain:])
        if self.single_pass is not None:
            losses |= self.single_pass_terms(images, seen, restyled, plain, rng)
        return losses

    def single_pass_terms(self, images, seen, restyled, plain, rng) -> dict[str, Tensor]:
        keep = (torch.rand(len(images), generator=rng) < 0.5).to(images)[:, None, None, None]
        skips = [detail(s) * keep.to(s.dtype) for s in seen.skips]
        levels = self.single_pass.level
        x = restyled(levels, seen.taps[-1])
        told, inner = [x], images.new_zeros(())
        for n in range(levels, 1, -1):
            x = self.single_pass.block(n, x, None, skips[n - 2])
            inner = inner + feature_error(x[:plain], seen.taps[n - 2][:plain], images[:plain])
            x = restyled(n - 1, x)
            told.append(x)
        out = self.single_pass.block(1, x)
        again = self.encoder(out).taps
        # coarse features were told first and have been overruled since: only the deepest and the finest are held to
        feature = feature_error(again[-1], told[0], images) + feature_error(again[0], told[-1].detach(), images) / 10
        return {
            "image single": image_error(out[:plain], images[:plain]),
            "inner single": 0.25 * self.feature_weight * inner,
            "feature single": self.feature_weight * feature,
            "range single": out_of_range(out[plain:]),
        }


def image_error(out: Tensor, images: Tensor) -> Tensor:
    return (out.float() - images).square().mean()


def feature_error(features: Tensor, target: Tensor, images: Tensor) -> Tensor:
    """Squared feature error summed, over the image's number of values: the ratio that eq. 32 adds to the image's."""
    return (features.float() - target.float()).square().sum() / images.numel()


def out_of_range(out: Tensor) -> Tensor:
    if out.numel() == 0:
        return out.new_zeros((), dtype=torch.float32)
    return (out.float() - out.float().clamp(0, 1)).square().mean()
