"""What every launcher does before its kernel: argument checks, strides, block sizes, and the choice among configurations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import NamedTuple

import torch
import triton
from torch import Tensor

from ..errors import InvalidInputError

HALF = (torch.float16, torch.bfloat16)
FEATURES = (torch.float32, *HALF)
PRECISIONS = ("ieee", "tf32x3", "tf32")
# a pixel index is 32 bits wide, an address 64; the margin is for the last block
MOST_PIXELS = 2**31 - 2**16


class Config(NamedTuple):
    """One way to launch a kernel: its block sizes, by name, and what the compiler is told."""

    blocks: dict[str, int]
    num_warps: int
    num_stages: int
    # left alone, ptxas aims at more blocks a multiprocessor than fit, and spills a few registers of ieee and tf32x3 tiles
    maxnreg: int | None = None

    @property
    def options(self) -> dict[str, int | None]:
        return {
            **self.blocks,
            "num_warps": self.num_warps,
            "num_stages": self.num_stages,
            "maxnreg": self.maxnreg,
        }


_fastest: dict[tuple, Config] = {}


def tuned(key: tuple, device: torch.device, configs: Sequence[Config], launch: Callable[[Config], None]) -> None:
    """launch() the fastest of the configurations; timed at the first call with this key on this device, then remembered.

    launch must be repeatable: write its outputs from its inputs and nothing else. The choice decides the last bits: within a
    process it stays, between processes the clock may choose differently. torch.use_deterministic_algorithms(True) therefore
    takes the first configuration untimed. So does the capture of a CUDA graph, in which nothing can be timed.
    """
    if len(configs) == 1 or device.type != "cuda" or torch.are_deterministic_algorithms_enabled():
        launch(configs[0])
        return
    if (key, device) not in _fastest and torch.cuda.is_current_stream_capturing():
        launch(configs[0])
        return
    if (key, device) not in _fastest:
        times = [triton.testing.do_bench(partial(launch, c), warmup=5, rep=20, return_mode="median") for c in configs]
        _fastest[key, device] = configs[times.index(min(times))]
    launch(_fastest[key, device])


def device_guard(x: Tensor) -> AbstractContextManager:
    """Launches go to the device of x, which need not be the current one."""
    return torch.cuda.device_of(x)


def processors(device: torch.device) -> int:
    """Multiprocessors to spread the work over; in the interpreter few, since it runs one program after another."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 4


def power_of_two(size: int, most: int) -> int:
    """Block size for an axis of this size: a power of two from 16, the least that tl.dot takes, to `most`."""
    return max(16, min(most, triton.next_power_of_2(size)))


def runs_here(device: torch.device) -> bool:
    return device.type == "cuda" or (device.type == "cpu" and triton.knobs.runtime.interpret)


def check_precision(op: str, precision: str) -> None:
    if precision not in PRECISIONS:
        raise InvalidInputError(f"{op}: precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")


def check_features(op: str, name: str, x: Tensor) -> None:
    """Raise unless x is a non-empty [B, C, N] of a dtype and on a device that the kernels serve."""
    if not isinstance(x, Tensor):
        raise InvalidInputError(f"{op}: {name} must be a tensor [B, C, N], got {type(x).__name__}")
    if x.dim() != 3 or 0 in x.shape:
        raise InvalidInputError(f"{op}: {name} must be a non-empty tensor [B, C, N], got {tuple(x.shape)}")
    if x.dtype not in FEATURES:
        raise InvalidInputError(f"{op}: {name} must be float32, float16 or bfloat16, got {x.dtype}")
    if x.shape[2] > MOST_PIXELS:
        raise InvalidInputError(f"{op}: {name} must have at most {MOST_PIXELS} pixels, got {x.shape[2]}")
    if not runs_here(x.device):
        raise InvalidInputError(f"{op}: {name} must be on a CUDA device for the Triton kernels, got {x.device}")


def check_like(op: str, name: str, t: Tensor, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> None:
    """Raise unless t has this shape and dtype and lies on this device."""
    if not isinstance(t, Tensor):
        raise InvalidInputError(f"{op}: {name} must be a tensor of shape {shape}, got {type(t).__name__}")
    if tuple(t.shape) != shape:
        raise InvalidInputError(f"{op}: {name} must have shape {shape}, got {tuple(t.shape)}")
    if t.dtype != dtype:
        raise InvalidInputError(f"{op}: {name} must be {dtype}, got {t.dtype}")
    if t.device != device:
        raise InvalidInputError(f"{op}: {name} must be on {device}, got {t.device}")


def check_matrices(op: str, name: str, m: Tensor) -> None:
    """Raise unless m is a non-empty float32 [B, C, C] on a device that the kernels serve."""
    if not isinstance(m, Tensor) or m.dim() != 3 or m.shape[1] != m.shape[2] or 0 in m.shape:
        got = tuple(m.shape) if isinstance(m, Tensor) else type(m).__name__
        raise InvalidInputError(f"{op}: {name} must be a non-empty tensor [B, C, C], got {got}")
    if m.dtype != torch.float32:
        raise InvalidInputError(f"{op}: {name} must be torch.float32, got {m.dtype}")
    if not runs_here(m.device):
        raise InvalidInputError(f"{op}: {name} must be on a CUDA device for the Triton kernels, got {m.device}")


def step_size(op: str, c: float | Tensor, batch: int, device: torch.device) -> float | Tensor:
    """c as the kernels take it: a float for the whole batch, or a contiguous float32 [B]."""
    if not isinstance(c, Tensor):
        return float(c)
    if c.dim() == 0:
        c = c.expand(batch)
    check_like(op, "c", c, (batch,), c.dtype, device)
    return c.to(torch.float32).contiguous()


def unit_stride(x: Tensor) -> Tensor:
    """x itself where pixels or channels are adjacent in memory (NCHW, channels_last), else a contiguous copy."""
    return x if 1 in x.stride()[1:] else x.contiguous()


def aligned(*features: Tensor) -> bool:
    """Whether every row begins at a multiple of 16 numbers, so that tiles are loaded in vectors and not number by number."""
    return all(max(x.stride()[1:]) % 16 == 0 for x in features)


def rows_adjacent(m: Tensor) -> Tensor:
    """m itself where its last two axes are contiguous, whatever the strides of the others, else a contiguous copy."""
    return m if m.stride(-1) == 1 and m.stride(-2) == m.shape[-1] else m.contiguous()


def dot_precision(x: Tensor, precision: str) -> str:
    """Products of half-precision numbers are exact in float32, so that one kernel serves every precision asked for."""
    return "tf32" if x.dtype in HALF else precision
