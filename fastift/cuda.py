"""The CUDA operations as a backend: finds and loads their library once, on first use, or says why it cannot.

`torch.ops.fastift_cuda.sqrtm_psd` queues its kernels and returns (root, inverse, report); the report says of every matrix whether
it was finite, symmetric, positive semi-definite, and whether its eigenvalues converged. Called through `fastift`, the report is
read and turned into an error, which waits for the GPU once: so does the reference, and a whitening of a refused matrix must not
go on. While a CUDA graph is captured nothing can wait. There, and only there, a refused matrix gives NaN in all entries of its
two results, on every replay; call the operation itself inside the graph to read the report after it.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

import torch
from torch import Tensor

from . import _build, reference
from .errors import FastiftError, InvalidInputError

__all__ = ["OPERATIONS", "refuse", "unusable"]

DTYPES = (torch.float32, torch.float64)
OLDEST = (8, 0)
# as in csrc/cuda/launch.h
NOT_FINITE, ASYMMETRIC, INDEFINITE, NOT_CONVERGED = 1, 2, 3, 4


def find() -> Path | None:
    """The library: in the package, or where `fastift build` put it."""
    candidates = [Path(__file__).with_name(_build.CUDA_LIBRARY)]
    if _build.sources() is not None:
        candidates.append(_build.cached_cuda())
    return next((p for p in candidates if p.is_file()), None)


def unusable() -> str | None:
    """Why the library cannot be used in this process, None if it can."""
    if os.environ.get("FASTIFT_CUDA") != "1":
        return (
            "its kernels are compiled, and run on a CPU, in the tests, but have not been run on a GPU yet; "
            "FASTIFT_CUDA=1 tries them"
        )
    if not torch.cuda.is_available():
        return f"torch {torch.__version__} sees no GPU"
    return _load()


@functools.cache
def _load() -> str | None:
    library = find()
    if library is None:
        why = _build.why_not_cuda()
        return f"it is not built, and cannot be here: {why}" if why else "it is not built; run: fastift build"
    try:
        torch.ops.load_library(str(library))
    except OSError as err:
        return f"{library} cannot be loaded ({err})"
    return None


def refuse(op: str, x: Tensor) -> str | None:
    if x.device.type != "cuda":
        return f"it runs on a GPU, the input is on {x.device}"
    if torch.cuda.get_device_capability(x.device) < OLDEST:
        return "it needs a GPU of compute capability 8.0 or later"
    if op != "sqrtm_psd" and x.dtype not in DTYPES:  # sqrtm_psd has an error of its own
        return f"it takes float32 and float64, got {x.dtype}"
    return None


def sqrtm_psd(a: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """`reference.sqrtm_psd` by Jacobi rotations, in float64."""
    reference.check_sqrtm_psd(a, eps)
    root, inverse, report = torch.ops.fastift_cuda.sqrtm_psd(a, eps)
    if not torch.cuda.is_current_stream_capturing():
        check_report(report)
    return root, inverse


def check_report(report: Tensor) -> None:
    """Raise what a report [B, 3] of (verdict, figure, sweeps) calls for, in the reference's words."""
    rows = report.tolist()
    verdicts = {verdict for verdict, _, _ in rows}
    for verdict, error in ((NOT_FINITE, reference.NOT_FINITE), (ASYMMETRIC, reference.ASYMMETRIC)):
        if verdict in verdicts:
            raise InvalidInputError(error)
    if INDEFINITE in verdicts:
        lowest = min(figure for verdict, figure, _ in rows if verdict == INDEFINITE)
        raise InvalidInputError(reference.INDEFINITE.format(lowest))
    if NOT_CONVERGED in verdicts:
        left, sweeps = max((figure, sweeps) for verdict, figure, sweeps in rows if verdict == NOT_CONVERGED)
        raise FastiftError(
            f"fastift.sqrtm_psd: the eigenvalues of a must converge, got {left:.3g} of the largest entry left beside "
            f"the diagonal after {sweeps:.0f} sweeps"
        )
    if verdicts - {0}:
        raise FastiftError(f"fastift.sqrtm_psd: every matrix must have a verdict, got {sorted(verdicts)}")


def ift_solve(gram: Tensor, style: Tensor, lr: float, c: Tensor, n_upd: int, n_iter: int) -> Tensor:
    """`reference.ift_solve` in one launch. Like it, it gives infinity where the iteration diverges, which callers test."""
    return torch.ops.fastift_cuda.ift_solve(gram, style, lr, c, n_upd, n_iter)


OPERATIONS = {"sqrtm_psd": sqrtm_psd, "ift_solve": ift_solve}
