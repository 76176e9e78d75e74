"""Compiles csrc/ against PyTorch's stable ABI with the system's C++ compiler, and csrc/cuda/ with nvcc. Imports neither torch nor
the package: setup.py runs it in environments that have neither. One binary serves every torch from 2.11 and every Python."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

LIBRARY = "_C.so"
CUDA_LIBRARY = "_C_cuda.so"
# the oldest torch the binary shall run with; without it, newer headers would ask for symbols that 2.11 lacks
TARGET = "-DTORCH_TARGET_VERSION=0x020b000000000000"
FLAGS = ["-O3", "-std=c++17", "-fPIC", "-fvisibility=hidden", TARGET]
# 90a and 100 for data centres, the rest for what is under desks; the first also as PTX, for every later card
CUDA_TARGETS = ("80", "86", "89", "90a", "100")


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


def nvcc() -> str | None:
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH") or "/usr/local/cuda"
    return shutil.which(os.path.join(home, "bin", "nvcc")) or shutil.which("nvcc")


def why_not_cuda() -> str | None:
    """What keeps this machine from building the CUDA library, None if nothing does."""
    if why_not() is not None:
        return why_not()
    if nvcc() is None:
        return "no CUDA compiler was found (nvcc, on PATH or below CUDA_HOME)"
    return None


def why_skip_cuda() -> str | None:
    """Why the CUDA library is not built unless FASTIFT_BUILD_CUDA=1 asks for it, None if it is: half a minute is too much to
    spend on a machine that could not run it."""
    wish = os.environ.get("FASTIFT_BUILD_CUDA", "")
    if wish == "0":
        return "FASTIFT_BUILD_CUDA=0"
    if wish != "1" and not (os.path.exists("/proc/driver/nvidia/version") or shutil.which("nvidia-smi")):
        return "no NVIDIA driver is here; FASTIFT_BUILD_CUDA=1 builds it all the same"
    return why_not_cuda()


def cached() -> Path:
    """Where `build` keeps the library when it is not part of the installation: a folder named after the sources."""
    return _cache(LIBRARY, sorted((sources() or Path()).glob("*.*")), FLAGS)


def cached_cuda() -> Path:
    return _cache(CUDA_LIBRARY, sorted((sources() or Path()).glob("cuda/*")), [*FLAGS, *CUDA_TARGETS])


def _cache(library: str, files: list[Path], flags: list[str]) -> Path:
    folder = os.environ.get("FASTIFT_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "fastift"
    )
    digest = hashlib.sha256(" ".join(flags).encode())
    for file in files:
        digest.update(file.name.encode() + file.read_bytes())
    return Path(folder) / digest.hexdigest()[:16] / library


def build(target: Path) -> Path:
    """Compile and link to target, which appears whole or not at all; raises CannotBuild with the compiler's words."""
    why = why_not()
    if why is not None:
        raise CannotBuild(why)
    include, cxx = torch_folder() / "include", compiler()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        commands = {}
        for source in sorted(sources().glob("*.cpp")):
            made = os.path.join(folder, source.stem + ".o")
            commands[made] = [cxx, *FLAGS, f"-I{include}", "-c", str(source), "-o", made]
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as workers:
            list(workers.map(_run, commands.values()))
        _link(list(commands), target, folder)
    return target


def build_cuda(target: Path, cards: Sequence[str] = CUDA_TARGETS) -> Path:
    """The same for the CUDA library."""
    why = why_not_cuda()
    if why is not None:
        raise CannotBuild(why)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        kernels, operations = (os.path.join(folder, name) for name in ("kernels.o", "ops.o"))
        source = sources() / "cuda" / "ops.cpp"
        _run([compiler(), *FLAGS, f"-I{torch_folder() / 'include'}", "-c", str(source), "-o", operations])
        _run([*nvcc_command(cards), "-c", str(sources() / "cuda" / "kernels.cu"), "-o", kernels])
        home = Path(nvcc()).resolve().parents[1]
        runtime = [f"-L{home / kind}" for kind in ("lib64", "lib") if (home / kind).is_dir()]
        # static: torch's own CUDA runtime lies elsewhere in every release; both share the device's context
        _link([kernels, operations], target, folder, [*runtime, "-lcudart_static", "-lrt", "-lpthread", "-ldl"])
    return target


def nvcc_command(cards: Sequence[str] = CUDA_TARGETS) -> list[str]:
    """nvcc for those of the cards that it knows."""
    listed = subprocess.run([nvcc(), "--list-gpu-code"], capture_output=True, text=True).stdout.split()
    known = [t for t in cards if f"sm_{t.rstrip('a')}" in listed] or list(cards[:1])
    codes = [f"-gencode=arch=compute_{t},code=sm_{t}" for t in known]
    codes.append(f"-gencode=arch=compute_{known[0]},code=compute_{known[0]}")
    own_compiler = [f"-ccbin={os.environ['CXX']}"] if os.environ.get("CXX") else []
    flags = ["-O3", "-std=c++17", "-Xcompiler=-fPIC,-fvisibility=hidden", "-Xfatbin=-compress-all"]
    return [nvcc(), *flags, *own_compiler, *codes]


def _link(objects: list[str], target: Path, folder: str, libraries: Sequence[str] = ()) -> None:
    # only the name matters: it makes the loader bind to the libtorch that Python has loaded
    stub = os.path.join(folder, "libtorch.so")
    _run([compiler(), "-shared", "-x", "c++", os.devnull, "-o", stub, "-Wl,-soname,libtorch.so"])
    made = f"{target}.{os.getpid()}.tmp"
    needs_torch = [f"-L{folder}", "-Wl,--no-as-needed", "-ltorch", "-Wl,--as-needed"]
    _run([compiler(), "-shared", *objects, "-o", made, *libraries, *needs_torch, "-Wl,--exclude-libs,ALL", "-s"])
    os.replace(made, target)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise CannotBuild(f"the compiler failed: {' '.join(command)}\n{done.stderr.strip()}")
