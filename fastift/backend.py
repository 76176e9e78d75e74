"""Which implementations of the operations can run, in words why the rest cannot, and which one a call takes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from . import reference
from .errors import InvalidInputError

__all__ = ["Backend", "BackendStatus", "backends", "select"]

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

TRITON = Backend(
    "triton",
    "fused kernels for GPUs",
    {},
    lambda: (
        "its kernels are interpreted and compiled in the tests, but have not been run on a GPU yet, so no call takes them"
    ),
    lambda op, x: None,
)

PREFERENCE: list[Backend] = [TRITON, REFERENCE]
"""In the order in which they are tried."""


def backends() -> list[BackendStatus]:
    """Every backend, in the order in which they are tried, with the reason of those that cannot run here."""
    return [BackendStatus(b.name, b.what, tuple(b.operations), b.unusable()) for b in PREFERENCE]


def select(op: str, x: Tensor) -> Callable:
    """The implementation of an operation for an input: the first backend that does not refuse.

    FASTIFT_BACKEND names one that must be taken; if it refuses, that is an error with its reason.
    """
    forced = os.environ.get("FASTIFT_BACKEND", "")
    candidates = [b for b in PREFERENCE if forced in ("", b.name)]
    if not candidates:
        known = ", ".join(b.name for b in PREFERENCE)
        raise InvalidInputError(f"fastift: FASTIFT_BACKEND must be one of {known}, got {forced!r}")
    reasons = []
    for backend in candidates:
        why = f"it has no {op}" if op not in backend.operations else backend.unusable() or backend.refuse(op, x)
        if why is None:
            return backend.operations[op]
        reasons.append(f"{backend.name}: {why}")
    raise InvalidInputError(f"fastift.{op}: no backend can run this call ({'; '.join(reasons)})")
