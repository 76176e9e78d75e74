"""The encoder: a VGG-shaped network to relu4_1 with taps at relu1_1, relu2_1, relu3_1, padded by reflection throughout."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from .affine import Affine, Regional
from .convolution import Conv3x3
from .layers import Conv, Features, Layer, Mapped, Pointwise, Pool, pending, run

__all__ = ["Plan", "VGG19", "Encoder"]

Mapping = Affine | Regional | None


@dataclass(frozen=True)
class Plan:
    """Widths (channels) and depths (convolutions) of the stages 1..L between poolings; the last stage ends at its first ReLU.

    learned_pooling adds to each maximum over 2 x 2 pixels a learned combination of the four, which max-pooling alone forgets.
    """

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    learned_pooling: bool = False

    @property
    def levels(self) -> int:
        return len(self.widths)

    @property
    def multiple(self) -> int:
        """Height and width must be multiples of this for the decoder to give the same size back."""
        return 2 ** (self.levels - 1)


VGG19 = Plan(widths=(64, 128, 256, 512), depths=(2, 2, 4, 1))


class Encoder(nn.Module):
    """conv0 (1x1: RGB in [0, 1] to the network's own input), then conv1_1, conv1_2, pool, conv2_1 .. as VGG-19 names them.

    Input [B, 3, H, W]; tap N is [B, widths[N - 1], H / 2^(N-1), W / 2^(N-1)], rounded down.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan
        self.conv0 = nn.Conv2d(3, 3, 1)
        channels = 3
        for n, (width, depth) in enumerate(zip(plan.widths, plan.depths, strict=True), start=1):
            for k in range(1, depth + 1):
                self.add_module(f"conv{n}_{k}", Conv3x3(channels, width))
                channels = width
            if plan.learned_pooling and n < plan.levels:
                self.add_module(f"pool{n}", nn.Conv2d(width, width, 2, stride=2, bias=False))

    def stage(self, n: int, x: Tensor, affine: Affine | Regional | None = None) -> Tensor:
        """From relu(n-1)_1 (the image for n = 1) to reluN_1. A map of the input is folded into the first convolution."""
        return run(self.layers(n, affine), x)

    def tap(self, n: int, image: Tensor, transform: Callable[[int, Features], Mapping] | None = None) -> Tensor:
        """reluN_1 alone. transform is that of `walk`; the features of level 1 may come to it pending."""
        chain, x, affine = self.layers(1), image, None
        for k in range(1, n):
            if transform is not None:
                features = self.finest(image) if k == 1 else run(chain, x)
                affine = transform(k, features)
                if isinstance(features, Tensor):
                    chain, x = [], features
            chain = [*chain, *self.layers(k + 1, affine)]
        return run(chain, x)

    def finest(self, image: Tensor) -> Features:
        """relu1_1, which takes one convolution and is the largest of all: pending where that is cheaper."""
        return pending(self.layers(1), image)

    def layers(self, n: int, affine: Affine | Regional | None = None) -> list[Layer]:
        """Those of a stage."""
        if n == 1:
            return [Pointwise(self.conv0), Conv(self.conv1_1)]
        inner = [self.get_submodule(f"conv{n - 1}_{k}") for k in range(2, self.plan.depths[n - 2] + 1)]
        found: list[Layer] = [Conv(conv, affine=affine if i == 0 else None) for i, conv in enumerate(inner)]
        if affine is not None and not inner:
            found.append(Mapped(affine))  # a maximum stands before the next convolution
        learned = self.get_submodule(f"pool{n - 1}") if self.plan.learned_pooling else None
        return [*found, Pool(learned), Conv(self.get_submodule(f"conv{n}_1"))]

    def walk(
        self,
        image: Tensor,
        level: int | None = None,
        transform: Callable[[int, Features], Mapping] | None = None,
    ) -> Iterator[Tensor]:
        """relu1_1, relu2_1 .. in turn: who keeps none of them needs memory for one.

        transform(n, features) gives a map of reluN_1 for the stages after it, n = 1 .. level - 1: the fine-to-coarse transforms
        inside the encoder. What is yielded are the taps before their own map.
        """
        held, affine = [image], None
        last = level or self.plan.levels
        for n in range(1, last + 1):
            held.append(self.stage(n, held.pop(), affine))  # popped: the stage frees its input as soon as it can
            affine = transform(n, held[0]) if transform is not None and n < last else None
            yield held[0]

    def forward(self, image: Tensor, level: int | None = None) -> list[Tensor]:
        """Taps relu1_1 .. reluN_1 for N = level, all of them by default."""
        return list(self.walk(image, level))

    def modules_after(self, n: int) -> list[str]:
        """Names of the convolutions and poolings behind tap n; behind the image, for n = 0, all but conv0."""
        names = [f"conv{n}_{k}" for k in range(2, self.plan.depths[n - 1] + 1)] if n else []
        for stage in range(n + 1, self.plan.levels + 1):
            names += [f"pool{stage - 1}"] if self.plan.learned_pooling and stage > 1 else []
            names += [f"conv{stage}_{k}" for k in range(1, self.plan.depths[stage - 1] + 1)]
        return names

    def rescale(self, n: int, factor: Tensor | float) -> None:
        """Multiply tap n by factor > 0 (one number, or one a channel) without changing any other tap: exact behind a ReLU."""
        into = self.get_submodule(f"conv{n}_1")
        scale_output(into, factor)
        if n < self.plan.levels:
            if self.plan.depths[n - 1] < 2:
                raise NotImplementedError(
                    "a tap right before a pooling has no convolution of its own to take the scale back"
                )
            scale_input(self.get_submodule(f"conv{n}_2"), factor)


def scale_output(conv: nn.Conv2d, factor: Tensor | float) -> None:
    """Make conv return factor times what it returned."""
    column = factor.reshape(-1, 1, 1, 1) if isinstance(factor, Tensor) else factor
    conv.weight.data.mul_(column)
    conv.bias.data.mul_(factor)


def scale_input(conv: nn.Conv2d, factor: Tensor | float) -> None:
    """Make conv return the same when its input is multiplied by factor."""
    conv.weight.data.div_(factor.reshape(1, -1, 1, 1) if isinstance(factor, Tensor) else factor)
