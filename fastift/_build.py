"""Compiles csrc/ against PyTorch's stable ABI with the system's C++ compiler. Imports neither torch nor the package: setup.py
runs it in environments that have neither. One binary serves every torch from 2.11 and every Python."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

LIBRARY = "_C.so"
# the oldest torch the binary shall run with; without it, newer headers would ask for symbols that 2.11 lacks
TARGET = "-DTORCH_TARGET_VERSION=0x020b000000000000"
FLAGS = ["-O3", "-std=c++17", "-fPIC", "-fvisibility=hidden", TARGET]


class CannotBuild(Exception):
    """What is missing, in a sentence."""


def compiler() -> str | None:
    return shutil.which(os.environ.get("CXX") or "g++") or shutil.which("c++")


def torch_folder() -> Path | None:
    """Where torch is installed, seen also from an isolated build; None if it is absent or older than its stable ABI."""
    found = importlib.util.find_spec("torch")
    candidates = [
        os.environ.get("FASTIFT_TORCH_DIR"),
        os.path.dirname(found.origin) if found and found.origin else None,
    ]
    for base in (sys.prefix, sys.base_prefix):
        # an isolated build hides the environment's packages from sys.path, but they are on disk
        candidates += [
            os.path.join(sysconfig.get_path(kind, vars={"base": base, "platbase": base}), "torch")
            for kind in ("purelib", "platlib")
        ]
    for candidate in candidates:
        if candidate and Path(candidate, "include/torch/csrc/stable/ops.h").is_file():
            return Path(candidate)
    return None


def sources() -> Path | None:
    """csrc/, in the installed package or beside it in a checkout."""
    here = Path(__file__).resolve().parent
    return next((p for p in (here / "csrc", here.parent / "csrc") if (p / "kernels.cpp").is_file()), None)


def why_not() -> str | None:
    """What keeps this machine from building, None if nothing does."""
    if not sys.platform.startswith("linux"):
        return f"it is built on Linux only, this is {sys.platform}"
    if sources() is None:
        return "its sources are not installed"
    if compiler() is None:
        return "no C++ compiler was found (g++, or what CXX names)"
    if torch_folder() is None:
        return "no torch >= 2.11 with its headers was found"
    return None


def cached() -> Path:
    """Where `build` keeps the library when it is not part of the installation: a folder named after the sources."""
    folder = os.environ.get("FASTIFT_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "fastift"
    )
    digest = hashlib.sha256(" ".join(FLAGS).encode())
    for file in sorted((sources() or Path()).glob("*.*")):
        digest.update(file.name.encode() + file.read_bytes())
    return Path(folder) / digest.hexdigest()[:16] / LIBRARY


def build(target: Path) -> Path:
    """Compile and link to target, which appears whole or not at all; raises CannotBuild with the compiler's words."""
    why = why_not()
    if why is not None:
        raise CannotBuild(why)
    include, cxx = torch_folder() / "include", compiler()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        objects = []
        for source in sorted(sources().glob("*.cpp")):
            objects.append(os.path.join(folder, source.stem + ".o"))
            _run([cxx, *FLAGS, f"-I{include}", "-c", str(source), "-o", objects[-1]])
        # only the name matters: it makes the loader bind to the libtorch that Python has loaded
        stub = os.path.join(folder, "libtorch.so")
        _run([cxx, "-shared", "-x", "c++", os.devnull, "-o", stub, "-Wl,-soname,libtorch.so"])
        made = f"{target}.{os.getpid()}.tmp"
        needs_torch = [f"-L{folder}", "-Wl,--no-as-needed", "-ltorch", "-Wl,--as-needed"]
        _run([cxx, "-shared", *objects, "-o", made, *needs_torch, "-Wl,--exclude-libs,ALL", "-s"])
        os.replace(made, target)
    return target


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise CannotBuild(f"the compiler failed: {' '.join(command)}\n{done.stderr.strip()}")
