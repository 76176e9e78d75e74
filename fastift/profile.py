"""Where the time of a restyling goes: every operation timed, and beside it the floor that the machine sets."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from types import SimpleNamespace

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from .engine import Stylizer
from .flows import takes_pending
from .style import Style

__all__ = ["Machine", "Row", "measure", "median_seconds", "profile", "table"]


CACHED = 2**24
"""Bytes below which a tensor may still be in a cache, so that reading it need not cost anything."""


@dataclass(frozen=True)
class Machine:
    """What it can do at best: products in float operations a second, copies in bytes a second (read and written)."""

    flops: float
    bandwidth: float

    @classmethod
    def measured(cls, device: torch.device, dtype: torch.dtype) -> Machine:
        n = 2048 if device.type == "cpu" else 8192
        a = torch.rand(n, n, device=device, dtype=dtype)
        long = torch.rand(2**26 if device.type == "cpu" else 2**29, device=device)
        target = torch.empty_like(long)
        # torch multiplies and convolves with different libraries, and either may be the faster one
        c, side = 256, 64
        x = torch.rand(1, c, side, side, device=device, dtype=dtype).to(memory_format=torch.channels_last)
        w = torch.rand(c, c, 3, 3, device=device, dtype=dtype).to(memory_format=torch.channels_last)
        convolved = 2 * c * c * 9 * (side - 2) ** 2 / min(_timed(lambda: torch.nn.functional.conv2d(x, w), device, 15))
        multiplied = 2 * n**3 / min(_timed(lambda: a @ a, device, 15))
        copies = min(_timed(lambda: target.copy_(long), device, 15))
        return cls(max(multiplied, convolved), 2 * long.nbytes / copies)


@dataclass
class Row:
    """Operations of one kind in one stage."""

    stage: str
    kind: str
    calls: int = 0
    seconds: float = 0.0
    floor: float = 0.0
    """Seconds of the slower of products and traffic, were each at the machine's best, summed over the calls."""


def profile(stylizer: Stylizer, content: Tensor, style: Style, *, runs: int = 5, **settings) -> tuple[list[Row], float]:
    """Rows for one call of the stylizer, longest first, and the seconds of the call without the profiler, both of median runs.

    Operations are timed one by one, so on a GPU, where they overlap with their launches, rows add up to more than the call.
    """
    machine = Machine.measured(stylizer.device, stylizer.dtype)
    with torch.no_grad():
        whole = median_seconds(lambda: stylizer(content, style, **settings), stylizer.device, runs)
        found = []
        for _ in range(runs):
            meter = _Meter(machine, stylizer.device)
            with meter:
                _watched(stylizer, meter)(content, style, **settings)
            found.append(meter.rows)
    found.sort(key=lambda rows: sum(r.seconds for r in rows.values()))
    return sorted(found[len(found) // 2].values(), key=lambda r: -r.seconds), whole


def table(rows: list[Row], whole: float) -> list[str]:
    """Lines to print."""
    total = sum(r.seconds for r in rows)
    lines = [f"{'stage':<10} {'operations':<20} {'calls':>6} {'ms':>9} {'share':>6} {'floor ms':>9} {'over floor':>10}"]
    for row in [*rows, Row("all", "", sum(r.calls for r in rows), total, sum(r.floor for r in rows))]:
        over = f"{row.seconds / row.floor:9.1f}x" if row.floor else ""
        lines.append(
            f"{row.stage:<10} {row.kind:<20} {row.calls:>6} {1e3 * row.seconds:9.2f} {row.seconds / total:6.1%} "
            f"{1e3 * row.floor:9.2f} {over:>10}"
        )
    return [*lines, f"the call without the profiler: {1e3 * whole:.2f} ms"]


def measure(stylizer: Stylizer, content: Tensor, style_image: Tensor, *, runs: int = 5, **settings) -> dict[str, float]:
    """Median seconds of a style's moments, of restyling with them, and of the same flow without any transform."""
    with torch.inference_mode():
        style = stylizer.style(style_image)
        calls = {
            "style": lambda: stylizer.style(style_image),
            "restyle": lambda: stylizer(content, style, **settings),
            "reconstruct": lambda: stylizer(content, style, **{**settings, "strength": 0.0}),
        }
        for call in calls.values():
            call()
        times: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(runs):  # in turns: what else the machine does meets all of them alike
            for name, call in calls.items():
                times[name].append(_seconds(call, stylizer.device))
        return {name: sorted(found)[runs // 2] for name, found in times.items()}


def median_seconds(call: Callable[[], object], device: torch.device, runs: int) -> float:
    """Of several calls, after one that does not count."""
    return sorted(_timed(call, device, runs))[runs // 2]


def _timed(call: Callable[[], object], device: torch.device, runs: int) -> list[float]:
    return [_seconds(call, device) for _ in range(runs + 1)][1:]


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    _wait(device)
    started = time.perf_counter()
    call()
    _wait(device)
    return time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class _Meter(TorchDispatchMode):
    """Times operations as they are dispatched, under the stage that is current."""

    def __init__(self, machine: Machine, device: torch.device) -> None:
        super().__init__()
        self.machine, self.device = machine, device
        self.stage = "rest"
        self.rows: dict[tuple[str, str], Row] = {}

    @contextmanager
    def during(self, stage: str) -> Iterator[None]:
        before, self.stage = self.stage, stage
        try:
            yield
        finally:
            self.stage = before

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        _wait(self.device)
        started = time.perf_counter()
        out = func(*args, **(kwargs or {}))
        _wait(self.device)
        seconds = time.perf_counter() - started
        tensors = [t for t in tree_leaves((args, kwargs, out)) if isinstance(t, Tensor)]
        if getattr(func, "is_view", False) or not tensors:
            return out
        kind = _kind(func, tensors)
        stage = "transform" if self.stage == "rest" and kind in ("Gram", "map") else self.stage
        row = self.rows.setdefault((stage, kind), Row(stage, kind))
        large = {id(t): t.nbytes for t in tensors if t.nbytes >= CACHED}
        traffic = sum(large.values()) / self.machine.bandwidth
        row.calls += 1
        row.seconds += seconds
        row.floor += max(_flops(func, args, kwargs or {}, out) / self.machine.flops, traffic)
        return out


def _kind(func, tensors: list[Tensor]) -> str:
    name = str(func)
    if "fastift.moments" in name:
        return "Gram"
    if "convolution" in name:
        return "convolutions"
    # kernels are at most 4 x 4: whatever is larger in its last two axes than that and has four is a picture or features
    if "fastift.apply" in name or any(t.dim() == 4 and min(t.shape[-2:]) > 4 for t in tensors):
        return "passes over pixels"
    return "map"


def _flops(func, args: tuple, kwargs: dict, out) -> float:
    """Float operations at least needed, a product and a sum counted as two."""
    name = str(func)
    if "fastift.moments" in name:
        b, c, n = args[0].shape
        return b * c * (c + 1) * n * (args[1].shape[1] if len(args) > 1 and args[1] is not None else 1)
    if "fastift.ift_solve" in name:
        gram, n_upd, n_iter = args[0], args[4], args[5]
        # on a triangular root of the Gram a step is a symmetric and a whole product
        return 1.5 * 2 * prod(gram.shape) * gram.shape[-1] * n_upd * n_iter
    if "fastift.apply_affine" in name:
        return 2 * args[0].numel() * args[0].shape[1]
    count = flop_registry.get(func._overloadpacket)
    return float(count(*args, **kwargs, out_val=out)) if count is not None else 0.0


def _watched(stylizer: Stylizer, meter: _Meter) -> Stylizer:
    """The same stylizer, whose networks tell the meter which stage they are."""
    model, fingerprint = stylizer.model, stylizer.fingerprint

    def walk(image: Tensor, level: int | None = None, transform: Callable | None = None) -> Iterator[Tensor]:
        taps = model.encoder.walk(image, level, _outside(meter, transform))
        while True:
            with meter.during("encode"):
                tap = next(taps, None)
            if tap is None:
                return
            yield tap

    def tap(n: int, image: Tensor, transform: Callable | None = None) -> Tensor:
        with meter.during("encode"):
            return model.encoder.tap(n, image, _outside(meter, transform))

    def decoding(decoder: Callable) -> Callable:
        def decode(x: Tensor, affine=None, details=None, transform=None, level=None) -> Tensor:
            inner = (details, _outside(meter, transform), level) if transform is not None or details else ()
            with meter.during("decode"):
                return decoder(x, affine, *inner)

        return decode

    fast = {"tap": tap, "finest": model.encoder.finest} if takes_pending(model) else {}
    watched = copy.copy(stylizer)
    watched.__dict__["fingerprint"] = fingerprint
    watched.model = SimpleNamespace(
        levels=model.levels,
        multiple=model.multiple,
        takes_pending=takes_pending(model),
        encoder=SimpleNamespace(walk=walk, **fast),
        decoders={n: decoding(d) for n, d in model.decoders.items()},
        single_pass=None if model.single_pass is None else decoding(model.single_pass),
    )
    return watched


def _outside(meter: _Meter, transform: Callable | None) -> Callable | None:
    """Maps that are found inside a network are no part of its stage."""
    if transform is None:
        return None

    def outside(*args):
        with meter.during("rest"):
            return transform(*args)

    return outside
