"""The C++ operations: finds and loads the library once, on first use, or says why it cannot."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from . import _build

__all__ = ["OPERATIONS", "refuse", "unusable"]

FEATURES = (torch.float32, torch.float16, torch.bfloat16)
DTYPES = {"moments": FEATURES, "apply_affine": FEATURES, "ift_solve": (torch.float32, torch.float64)}


def find() -> Path | None:
    """The library: in the package, or where `fastift build` put it."""
    candidates = [Path(__file__).with_name(_build.LIBRARY)]
    if _build.sources() is not None:
        candidates.append(_build.cached())
    return next((p for p in candidates if p.is_file()), None)


@functools.cache
def unusable() -> str | None:
    """Why the library cannot be used in this process, None if it is loaded."""
    if os.environ.get("FASTIFT_NATIVE") == "0":
        return "FASTIFT_NATIVE=0 switches it off"
    library = find()
    if library is None:
        why = _build.why_not()
        return f"it is not built, and cannot be here: {why}" if why else "it is not built; run: fastift build"
    try:
        torch.ops.load_library(str(library))
    except OSError as err:
        return f"{library} cannot be loaded ({err})"
    return None


def refuse(op: str, x: Tensor) -> str | None:
    if x.device.type != "cpu":
        return f"it runs on the CPU, the input is on {x.device}"
    if x.dtype not in DTYPES[op]:
        *first, last = (str(dtype).removeprefix("torch.") for dtype in DTYPES[op])
        return f"it takes {', '.join(first)} and {last}, got {x.dtype}"
    return None


def _call(name: str) -> Callable:
    def run(*args):
        return getattr(torch.ops.fastift_cpp, name)(*args)

    return run


OPERATIONS = {name: _call(name) for name in DTYPES}
