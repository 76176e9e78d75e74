"""What this machine can run, for a user who wonders and for bug reports."""

from __future__ import annotations

import importlib.metadata
import platform
import sys

import torch

from .backend import backends
from .errors import FastiftError
from .weights import load_autoencoder

__all__ = ["diagnose"]

PACKAGES = ("torch", "numpy", "pillow", "safetensors", "click", "tqdm", "triton", "matplotlib")


def diagnose() -> list[str]:
    """Lines to print: versions, devices, backends with the reasons of those that cannot run, and whether the weights load."""
    from . import __version__

    lines = [
        f"fastift {__version__}, Python {platform.python_version()} on {platform.system()} {platform.machine()}",
        "",
        "packages",
    ]
    for name in PACKAGES:
        lines.append(f"  {name:<12} {_version(name)}")
    lines += [
        "",
        "devices",
        f"  {'cpu':<12} {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}",
    ]
    lines += [f"  {name:<12} {what}" for name, what in _accelerators()]
    lines += ["", "backends"]
    for backend in backends():
        verdict = "runs" if backend.refusal is None else f"cannot run: {backend.refusal}"
        has = f" ({', '.join(backend.operations)})" if backend.operations and backend.name != "reference" else ""
        lines.append(f"  {backend.name:<12} {backend.what}{has}; {verdict}")
    lines += ["", "weights"]
    try:
        model = load_autoencoder("slim")
        count = sum(p.numel() for p in model.parameters())
        lines.append(f"  {'slim':<12} loads: {count / 1e6:.2f} million parameters, channels {model.config.widths}")
    except FastiftError as err:
        lines.append(f"  {'slim':<12} cannot be loaded: {err}")
    return lines


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _accelerators() -> list[tuple[str, str]]:
    if torch.cuda.is_available():
        found = []
        for i in range(torch.cuda.device_count()):
            p = torch.cuda.get_device_properties(i)
            found.append(
                (f"cuda:{i}", f"{p.name}, {p.total_memory / 2**30:.0f} GiB, compute capability {p.major}.{p.minor}")
            )
        return found
    if torch.version.cuda is None:
        why = f"torch {torch.__version__} is a build without CUDA"
    else:
        why = f"torch {torch.__version__} was built for CUDA {torch.version.cuda} but finds no usable GPU or driver"
    lines = [("cuda", f"cannot be used: {why}")]
    if sys.platform == "darwin":
        usable = torch.backends.mps.is_available()
        lines.append(
            ("mps", "can be used with --device mps" if usable else "cannot be used: torch reports no Metal device")
        )
    return lines
