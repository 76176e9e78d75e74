"""The Triton kernels as a backend: when they can run, and how the operations' arguments become theirs."""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["OPERATIONS", "refuse", "unusable"]

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
OLDEST = (8, 0)


def unusable() -> str | None:
    if os.environ.get("FASTIFT_TRITON") != "1":
        return (
            "its kernels are interpreted and compiled in the tests, but have not been run on a GPU yet; "
            "FASTIFT_TRITON=1 tries them"
        )
    if not torch.cuda.is_available():
        return f"torch {torch.__version__} sees no GPU"
    if not _has_triton():
        return "triton is not installed"
    return None


@functools.cache
def _has_triton() -> bool:
    # asked before every operation
    return importlib.util.find_spec("triton") is not None


def refuse(op: str, x: Tensor) -> str | None:
    if x.device.type != "cuda":
        return f"it runs on a GPU, the input is on {x.device}"
    if torch.cuda.get_device_capability(x.device) < OLDEST:
        return "it needs a GPU of compute capability 8.0 or later"
    allowed = (torch.float32,) if op == "ift_solve" else DTYPES
    if x.dtype not in allowed:
        return f"{op} takes {', '.join(str(d).removeprefix('torch.') for d in allowed)}, got {x.dtype}"
    return None


def _kernel(name: str) -> Callable:
    def run(*args):
        return getattr(importlib.import_module(f"fastift.kernels.{name}"), name)(*args)

    return run


def _apply_affine(x: Tensor, weight: Tensor, bias: Tensor, mask: Tensor | None = None) -> Tensor:
    # the kernel takes one map a sample
    maps = [t.expand(len(x), *t.shape[1:]) for t in (weight, bias)]
    return _kernel("apply_affine")(x, *maps, mask)


OPERATIONS = {
    "moments": _kernel("moments"),
    "apply_affine": _apply_affine,
    "ift_update": _kernel("ift_update"),
    "ift_update_gram": _kernel("ift_update_gram"),
    "ift_solve": _kernel("ift_solve"),
}
