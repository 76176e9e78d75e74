"""Which implementations of the operations can run here, and in words why the rest cannot."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Backend", "backends"]


@dataclass(frozen=True)
class Backend:
    """One implementation. `refusal` is None if it can run here, else the reason in a sentence."""

    name: str
    what: str
    refusal: str | None


def backends() -> list[Backend]:
    """Every backend, usable or not, in the order in which they are preferred."""
    not_yet = "this version of fastift has no native kernels, so every operation runs as plain PyTorch"
    return [
        Backend("triton", "fused kernels for GPUs", not_yet),
        Backend("cuda", "whitening and solvers on NVIDIA GPUs", not_yet),
        Backend("cpp", "vectorised kernels for CPUs", not_yet),
        Backend("reference", "plain PyTorch on any device", None),
    ]
