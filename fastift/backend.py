"""Which implementations of the operations can run, in words why the rest cannot, and which one a call takes."""

from __future__ import annotations

import contextlib
import contextvars
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor

from . import cuda, gpu, native, reference
from .errors import InvalidInputError

__all__ = ["Backend", "BackendStatus", "backends", "check_backend", "select", "using"]

Refusal = str | None


@dataclass(frozen=True)
class Backend:
    """One set of implementations.

    `unusable()` says why nothing of it can run on this machine, `refuse(op, x)` why a call cannot take it; None means it can.
    """

    name: str
    what: str
    operations: dict[str, Callable]
    unusable: Callable[[], Refusal]
    refuse: Callable[[str, Tensor], Refusal]


@dataclass(frozen=True)
class BackendStatus:
    """A row of `backends()`: refusal is None if the backend can run here."""

    name: str
    what: str
    operations: tuple[str, ...]
    refusal: Refusal


REFERENCE = Backend(
    "reference",
    "plain PyTorch on any device",
    {name: getattr(reference, name) for name in reference.__all__ if name != "wide"},
    lambda: None,
    lambda op, x: None,
)

TRITON = Backend("triton", "fused kernels for GPUs", gpu.OPERATIONS, gpu.unusable, gpu.refuse)

CUDA = Backend("cuda", "C x C matrices on GPUs", cuda.OPERATIONS, cuda.unusable, cuda.refuse)

CPP = Backend("cpp", "vectorised and threaded C++ for CPUs", native.OPERATIONS, native.unusable, native.refuse)

PREFERENCE: list[Backend] = [CUDA, TRITON, CPP, REFERENCE]
"""In the order in which they are tried."""


def backends() -> list[BackendStatus]:
    """Every backend, in the order in which they are tried, with the reason of those that cannot run here."""
    return [BackendStatus(b.name, b.what, tuple(b.operations), b.unusable()) for b in PREFERENCE]


_forced: contextvars.ContextVar[str | None] = contextvars.ContextVar("fastift_backend", default=None)


@contextlib.contextmanager
def using(name: str | None) -> Iterator[None]:
    """Inside it, operations that the named backend has must be run by it; None leaves the choice as it is."""
    token = _forced.set(name or _forced.get())
    try:
        yield
    finally:
        _forced.reset(token)


def check_backend(name: str, who: str) -> None:
    """Raise unless there is a backend of this name and something of it can run here."""
    known = {b.name: b for b in PREFERENCE}
    if name not in known:
        raise InvalidInputError(f"{who} must be one of {', '.join(known)}, got {name!r}")
    why = known[name].unusable()
    if why is not None:
        raise InvalidInputError(f"{who} {name!r} cannot be used: {why}")


def select(op: str, x: Tensor) -> Callable:
    """The implementation of an operation for an input: the first backend that does not refuse.

    FASTIFT_BACKEND or `using` name one that must be taken for the operations it has (the reference has all); if it refuses, that
    is an error with its reason.
    """
    forced = _forced.get() or os.environ.get("FASTIFT_BACKEND", "")
    if forced:
        check_backend(forced, "fastift: FASTIFT_BACKEND")
    candidates = [b for b in PREFERENCE if forced in ("", b.name)]
    if forced and op not in candidates[0].operations:
        candidates = [REFERENCE]
    reasons = []
    for backend in candidates:
        why = f"it has no {op}" if op not in backend.operations else backend.unusable() or backend.refuse(op, x)
        if why is None:
            return backend.operations[op]
        reasons.append(f"{backend.name}: {why}")
    raise InvalidInputError(f"fastift.{op}: no backend can run this call ({'; '.join(reasons)})")
