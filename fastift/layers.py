"""The layers of encoder and decoder, and how a chain of them is run: on whole pictures, or on a CPU in bands of rows.

A band passes through the whole chain while it is still in the cache; each convolution keeps the last two rows it has seen for
the next band, so nothing is computed twice and the result is the same. Between the ends of the chain no features of the
picture's size exist: they would be written to memory, and to fresh pages of it, only to be read once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from .affine import Affine, Regional, apply, fold
from .convolution import Conv3x3, composed, conv_after, conv_upsampled, transposed
from .moments import Moments, moments

__all__ = [
    "Conv",
    "ConvUpsampled",
    "Features",
    "Layer",
    "Mapped",
    "Pending",
    "Pointwise",
    "Pool",
    "Upsample",
    "moments_of",
    "pending",
    "read",
    "run",
]

CORE = 2**20
"""Numbers of a band's widest features for each core: 4 MiB in float32, about its share of the last cache."""


class Rows(Protocol):
    """A layer on its way down one picture."""

    def __call__(self, rows: Tensor, slope: float | None) -> Tensor | None:
        """The next rows of its input, before the activation that the layer above has; what rows of its output follow, if any."""
        ...


class Layer(Protocol):
    slope: float | None
    """The activation behind it: None for none, 0 for a ReLU, else the slope of a leaky one below zero."""
    by_rows: bool
    """Whether it can go by rows."""

    def whole(self, x: Tensor) -> Tensor:
        """The output with its activation, differentiable."""
        ...

    def rows(self, height: int, width: int) -> Rows:
        """For one picture [1, C, height, width] of input."""
        ...

    def size(self, channels: int, height: int, width: int) -> tuple[int, int, int]:
        """The output's, for that of the input."""
        ...

    def sample(self, at: slice) -> Layer:
        """The same for these samples of the batch."""
        ...

    def weights(self) -> Iterator[Tensor]:
        """What it learns, or was made of, and may need a gradient."""
        ...


def run(layers: Sequence[Layer], x: Tensor) -> Tensor:
    """x [B, C, H, W] through all layers."""
    worth = _worth_rows(layers, x)
    if worth is None:
        return _whole(layers, x)
    several, step = worth
    if len(x) == 1:
        out, done = None, 0
        for rows in _bands(layers, x, step):
            out = _empty(rows, _size(layers, x)) if out is None else out
            _activate(rows, layers[-1].slope, out[:, :, done : done + rows.shape[2]])
            done += rows.shape[2]
        return out
    out = None
    for i in range(0, len(x), several):
        part = run([layer.sample(slice(i, i + several)) for layer in layers], x[i : i + several])
        out = _empty(part, (len(x), *part.shape[1:])) if out is None else out
        out[i : i + several] = part
    return out


class Pending:
    """Features that exist only in bands, made anew whenever they are read.

    Where few products make many numbers, as in relu1_1, that is cheaper than writing them to memory, and needs none.
    """

    def __init__(self, layers: Sequence[Layer], x: Tensor) -> None:
        self.layers, self.x = list(layers), x

    def then(self, layers: Sequence[Layer]) -> Tensor:
        """What more layers make of them."""
        return run([*self.layers, *layers], self.x)


Features = Tensor | Pending


def pending(layers: Sequence[Layer], x: Tensor) -> Features:
    """x [B, C, H, W] through all layers, pending where it would go by rows: for layers that cost little."""
    return Pending(layers, x) if len(x) == 1 and _worth_rows(layers, x) is not None else run(layers, x)


def read(features: Features) -> Tensor:
    """All of them, [B, C, H, W]."""
    return run(features.layers, features.x) if isinstance(features, Pending) else features


def moments_of(features: Features) -> Moments:
    """Moments of features; of pending ones those of all bands together, exactly."""
    if not isinstance(features, Pending):
        return moments(features)
    layers, x = features.layers, features.x
    worth = _worth_rows(layers, x)
    if worth is None:  # torch may have got more threads since, whose bands are larger
        return moments(_whole(layers, x))
    return sum(moments(_activate_(rows, layers[-1].slope)) for rows in _bands(layers, x, worth[1]))


def _worth_rows(layers: Sequence[Layer], x: Tensor) -> tuple[int, int] | None:
    """How many pictures, and how many rows of x, make a band; None where x goes through the layers whole."""
    if x.device.type != "cpu" or torch.compiler.is_compiling() or _needs_gradient(layers, x):
        return None
    numbers, band = _numbers(layers, x), CORE * max(2, torch.get_num_threads())
    if len(x) * numbers < 2 * band or not all(layer.by_rows for layer in layers):
        return None
    return max(1, band // numbers), max(8, x.shape[2] * band // numbers)


def _whole(layers: Sequence[Layer], x: Tensor) -> Tensor:
    for layer in layers:
        x = layer.whole(x)
    return x


def _bands(layers: Sequence[Layer], x: Tensor, step: int) -> Iterator[Tensor]:
    """Of step rows of x [1, C, H, W] each, through all layers but the last one's activation."""
    chain, size = [], tuple(x.shape[1:])
    for layer in layers:
        chain.append(layer.rows(*size[1:]))
        size = layer.size(*size)
    for at in range(0, x.shape[2], step):
        rows, slope = x[:, :, at : at + step], None
        for layer, push in zip(layers, chain, strict=True):
            rows = push(rows, slope)
            if rows is None:
                break
            slope = layer.slope
        else:
            yield rows


def _size(layers: Sequence[Layer], x: Tensor) -> tuple[int, ...]:
    size = tuple(x.shape[1:])
    for layer in layers:
        size = layer.size(*size)
    return (len(x), *size)


def _needs_gradient(layers: Sequence[Layer], x: Tensor) -> bool:
    return torch.is_grad_enabled() and any(t.requires_grad for t in (x, *(w for a in layers for w in a.weights())))


def _numbers(layers: Sequence[Layer], x: Tensor) -> int:
    """In the widest features of a picture on its way."""
    size = tuple(x.shape[1:])
    most = x[0].numel()
    for layer in layers:
        size = layer.size(*size)
        most = max(most, size[0] * size[1] * size[2])
    return most


def _activate(x: Tensor, slope: float | None, out: Tensor) -> None:
    if slope is None:
        out.copy_(x)
    elif slope:
        torch.ops.aten.leaky_relu.out(x, slope, out=out)
    else:
        torch.clamp_min(x, 0, out=out)


def _activate_(x: Tensor, slope: float | None) -> Tensor:
    if slope is None:
        return x
    return nnf.leaky_relu_(x, slope) if slope else nnf.relu_(x)


class _Same:
    """What most layers are like: one output pixel an input pixel, nothing that differs by sample."""

    slope: float | None = None
    by_rows = True

    def size(self, channels: int, height: int, width: int) -> tuple[int, int, int]:
        return channels, height, width

    def sample(self, at: slice) -> Layer:
        return self


@dataclass(frozen=True)
class Pointwise(_Same):
    """A 1 x 1 convolution without an activation before or behind it."""

    conv: nn.Conv2d

    def whole(self, x: Tensor) -> Tensor:
        return self.conv(x)

    def rows(self, height: int, width: int) -> Rows:
        return lambda rows, slope: self.conv(rows)

    def size(self, channels: int, height: int, width: int) -> tuple[int, int, int]:
        return self.conv.out_channels, height, width

    def weights(self) -> Iterator[Tensor]:
        return self.conv.parameters()


@dataclass(frozen=True)
class Mapped(_Same):
    """A map of features for which there is no convolution to fold it into."""

    affine: Affine | Regional
    by_rows = False

    def whole(self, x: Tensor) -> Tensor:
        maps, mask = self.affine if isinstance(self.affine, Regional) else (self.affine, None)
        return apply(x, maps, mask)

    def sample(self, at: slice) -> Mapped:
        return Mapped(_sample(self.affine, at))

    def weights(self) -> Iterator[Tensor]:
        return _tensors(self.affine)


@dataclass(frozen=True)
class Conv(_Same):
    """3 x 3 with reflection, with a map of its input folded in."""

    conv: Conv3x3
    slope: float | None = 0.0
    affine: Affine | Regional | None = None

    def whole(self, x: Tensor) -> Tensor:
        return _activate_(conv_after(x, self.conv, self.affine), self.slope)

    @property
    def by_rows(self) -> bool:
        return not isinstance(self.affine, Regional)

    def rows(self, height: int, width: int) -> Rows:
        weight, bias = self.conv.weight, self.conv.bias
        if self.affine is not None:
            weight, bias = (t.squeeze(0).to(weight.dtype) for t in fold(weight, bias, self.affine))
        return _Buffered(height, width, "reflect", lambda x: nnf.conv2d(x, weight, bias))

    def size(self, channels: int, height: int, width: int) -> tuple[int, int, int]:
        return self.conv.out_channels, height, width

    def sample(self, at: slice) -> Conv:
        return self if self.affine is None else replace(self, affine=_sample(self.affine, at))

    def weights(self) -> Iterator[Tensor]:
        yield from self.conv.parameters()
        yield from _tensors(self.affine)


@dataclass(frozen=True)
class ConvUpsampled(_Same):
    """Upsampling by 2, nearest-neighbour or subpixel by the 1 x 1 convolution phases, and a 3 x 3 convolution, in one."""

    conv: Conv3x3
    phases: nn.Conv2d | None
    slope: float | None = 0.0

    def whole(self, x: Tensor) -> Tensor:
        return _activate_(conv_upsampled(x, self.conv, self.phases), self.slope)

    def rows(self, height: int, width: int) -> Rows:
        weight, shift = composed(self.conv, self.phases)
        return _Buffered(height, width, "replicate", lambda x: transposed(x, weight, shift))

    def size(self, channels: int, height: int, width: int) -> tuple[int, int, int]:
        return self.conv.out_channels, 2 * height, 2 * width

    def weights(self) -> Iterator[Tensor]:
        yield from self.conv.parameters()
        yield from self.phases.parameters() if self.phases is not None else ()


@dataclass(frozen=True)
class Upsample(_Same):
    """Upsampling by 2 alone: "bilinear", "nearest", or "subpixel" by the 1 x 1 convolution phases."""

    how: str
    phases: nn.Conv2d | None = None
    by_rows = False

    def whole(self, x: Tensor) -> Tensor:
        if self.phases is not None:
            return nnf.pixel_shuffle(self.phases(x), 2)
        smooth = {"mode": "bilinear", "align_corners": False} if self.how == "bilinear" else {"mode": "nearest"}
        return nnf.interpolate(x, scale_factor=2, **smooth)

    def size(self, channels: int, height: int, width: int) -> tuple[int, int, int]:
        return channels, 2 * height, 2 * width

    def weights(self) -> Iterator[Tensor]:
        yield from self.phases.parameters() if self.phases is not None else ()


@dataclass(frozen=True)
class Pool(_Same):
    """The maximum over 2 x 2 pixels, plus a learned combination of the four if there is one; drops a last odd row or column."""

    learned: nn.Conv2d | None = None

    def whole(self, x: Tensor) -> Tensor:
        pooled = nnf.max_pool2d(x, 2)
        return pooled if self.learned is None else pooled + self.learned(x)

    def rows(self, height: int, width: int) -> Rows:
        held: list[Tensor] = []

        def push(rows: Tensor, slope: float | None) -> Tensor | None:
            rows = torch.cat([*held, _activate_(rows, slope)], 2)
            held.clear()
            if rows.shape[2] % 2:
                held.append(rows[:, :, -1:].clone())
            rows = rows[:, :, : rows.shape[2] // 2 * 2]
            return self.whole(rows) if rows.shape[2] else None

        return push

    def size(self, channels: int, height: int, width: int) -> tuple[int, int, int]:
        return channels, height // 2, width // 2

    def weights(self) -> Iterator[Tensor]:
        yield from self.learned.parameters() if self.learned is not None else ()


class _Buffered:
    """Gathers rows of one picture with what lies around them, and convolves them as far as they go."""

    def __init__(self, height: int, width: int, around: str, conv: Callable[[Tensor], Tensor]) -> None:
        self.left, self.width, self.conv = height, width, conv
        # reflection takes the second pixel from outside, replication the first
        self.inwards = 2 if around == "reflect" else 1
        self.buffer: Tensor | None = None
        self.filled, self.top = 1, True

    def __call__(self, rows: Tensor, slope: float | None) -> Tensor | None:
        self._append(rows, slope)
        x, n = self.buffer, self.inwards
        if self.top and self.filled > n:
            x[:, :, 0], self.top = x[:, :, n], False
        if not self.left:
            x[:, :, self.filled] = x[:, :, self.filled - n]
            self.filled += 1
        if self.top or self.filled < 3:
            return None
        out = self.conv(x[:, :, : self.filled])
        x[:, :, :2] = x[:, :, self.filled - 2 : self.filled].clone()
        self.filled = 2
        return out

    def _append(self, rows: Tensor, slope: float | None) -> None:
        at, end = self.filled, self.filled + rows.shape[2]
        if self.buffer is None or self.buffer.shape[2] <= end:
            kept, size = self.buffer, (1, rows.shape[1], end + 3, self.width + 2)
            self.buffer = _empty(rows, size)
            if kept is not None:
                self.buffer[:, :, :at] = kept[:, :, :at]
        x, n = self.buffer[:, :, at:end], self.inwards
        _activate(rows, slope, x[..., 1:-1])
        x[..., 0], x[..., -1] = x[..., n], x[..., -1 - n]
        self.filled, self.left = end, self.left - rows.shape[2]


def _empty(like: Tensor, size: tuple[int, ...]) -> Tensor:
    return torch.empty(size, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


def _sample(affine: Affine | Regional, at: slice) -> Affine | Regional:
    if isinstance(affine, Regional):
        return Regional(_sample(affine.affine, at), affine.mask[at] if len(affine.mask) > 1 else affine.mask)
    return Affine(*(t[at] if len(t) > 1 else t for t in affine))


def _tensors(affine: Affine | Regional | None) -> tuple[Tensor, ...]:
    if isinstance(affine, Regional):
        return (*affine.affine, affine.mask)
    return () if affine is None else tuple(affine)
