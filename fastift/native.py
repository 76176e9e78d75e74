"""The C++ operations: finds and loads the library once, on first use, or says why it cannot."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from . import _build, reference
from .errors import InvalidInputError

__all__ = ["OPERATIONS", "refuse", "unusable"]

FEATURES = (torch.float32, torch.float16, torch.bfloat16)
MATRICES = (torch.float32, torch.float64)
DTYPES = {"moments": FEATURES, "apply_affine": FEATURES, "ift_solve": MATRICES, "sqrtm_psd": MATRICES}


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


def _sqrtm_psd(a: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    reference.check_sqrtm_psd(a, eps)
    root, inverse, report = torch.ops.fastift_cpp.sqrtm_psd(a, eps)
    rows = report.tolist()
    verdicts = {int(verdict) for verdict, _ in rows}  # the numbers of `Verdict` in sqrtm_psd.cpp
    for verdict, error in ((1, reference.NOT_FINITE), (2, reference.ASYMMETRIC)):
        if verdict in verdicts:
            raise InvalidInputError(error)
    if 4 in verdicts:  # the reference tries once more
        return reference.sqrtm_psd(a, eps)
    if 3 in verdicts:
        raise InvalidInputError(reference.INDEFINITE.format(min(least for _, least in rows)))
    return root, inverse


OPERATIONS = {name: _call(name) for name in DTYPES} | {"sqrtm_psd": _sqrtm_psd}
