"""Compile every Triton kernel and configuration for a target without a GPU; a script, since it must run without the interpreter.

The launchers run as they would on the card, on tensors without memory, with every launch replaced by a compilation: what is
compiled is what would be launched, specialised to the same strides and alignments. Prints one JSON object a kernel.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import triton
import triton.backends.nvidia
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.backends.driver import DriverBase
from triton.runtime.jit import JITFunction
from triton_common import load_kernels

load_kernels()

from fastift.kernels import _launch  # noqa: E402
from fastift.kernels.apply_affine import apply_affine  # noqa: E402
from fastift.kernels.ift_solve import ift_solve  # noqa: E402
from fastift.kernels.ift_update import ift_update  # noqa: E402
from fastift.kernels.ift_update_gram import ift_update_gram  # noqa: E402
from fastift.kernels.moments import moments  # noqa: E402

TOOLS = Path(triton.backends.nvidia.__file__).parent / "bin"
PRODUCTS = (
    (torch.float16, "ieee"),
    (torch.bfloat16, "ieee"),
    (torch.float32, "tf32"),
    (torch.float32, "tf32x3"),
    (torch.float32, "ieee"),
)


class CompileOnly(DriverBase):
    """A driver that names a target and can do nothing else."""

    def __init__(self, capability: int) -> None:
        self.capability = capability
        self.utils = None

    @staticmethod
    def is_active() -> bool:
        return True

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.capability, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_active_torch_device(self) -> torch.device:
        return torch.device("meta")

    def get_benchmarker(self) -> None:
        raise RuntimeError("nothing can be timed here")

    def map_python_to_cpp_type(self, ty: str) -> str:
        return ty


class Report:
    """Compiles instead of launching, and describes each kernel once."""

    def __init__(self) -> None:
        self.run = JITFunction.run
        self.seen: set[str] = set()

    def __call__(self, kernel: JITFunction, *args, grid, warmup, **options):
        assert max(grid[1:], default=1) < 2**16, f"{kernel.__name__}: grid {grid} is too large"
        compiled = self.run(kernel, *args, grid=grid, warmup=True, **options)
        if compiled.hash not in self.seen:
            self.seen.add(compiled.hash)
            print(json.dumps(describe(kernel, compiled, args, options)), flush=True)
        return compiled


def describe(kernel: JITFunction, compiled, args: tuple, options: dict) -> dict:
    ptx = compiled.asm["ptx"]
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        usage = tool("cuobjdump", "--dump-resource-usage", file.name).stdout
    stack = int(re.search(r"STACK:(\d+)", usage).group(1))
    return {
        "kernel": kernel.__name__,
        "dtype": str(next(a.dtype for a in args if isinstance(a, Tensor))).removeprefix("torch."),
        "configuration": " ".join(f"{k}={v}" for k, v in options.items()),
        "precision": options.get("PRECISION"),
        "registers": int(re.search(r"REG:(\d+)", usage).group(1)),
        "shared": compiled.metadata.shared,
        "spills": spill_bytes(ptx) if stack else 0,
        "stack": stack,
        "instructions": sorted(set(re.findall(r"(wgmma\.mma_async|tcgen05\.mma|mma\.sync)", ptx))),
        "async_copy": "cp.async" in ptx,
    }


def spill_bytes(ptx: str) -> int:
    target = re.search(r"\.target (\w+)", ptx).group(1)
    assembler = "ptxas-blackwell" if int(re.search(r"\d+", target).group()) >= 100 else "ptxas"
    with tempfile.NamedTemporaryFile("w", suffix=".ptx") as file:
        file.write(ptx)
        file.flush()
        log = tool(assembler, "-v", f"--gpu-name={target}", "-o", os.devnull, file.name).stderr
    return sum(int(n) for n in re.findall(r"(\d+) bytes spill stores", log))


def tool(name: str, *args: str) -> subprocess.CompletedProcess:
    return subprocess.run([str(TOOLS / name), *args], capture_output=True, text=True, check=True)


def features(c: int, n: int, dtype: torch.dtype, last: bool = False) -> Tensor:
    if last:
        return torch.empty(2, n, c, dtype=dtype, device="meta").mT
    return torch.empty(2, c, n, dtype=dtype, device="meta")


def matrices(*shape: int) -> Tensor:
    return torch.empty(shape, device="meta")


def every_launch(channels: tuple[int, ...], ops: set[str]) -> None:
    """Each op at each C, dtype and precision: the layouts and options that select other code take turns."""
    for c in channels:
        gram = matrices(2, c, c)
        for dtype, precision in PRODUCTS:
            # the two halves differ in one letter of every instruction
            if dtype == torch.float16 and c != 64:
                continue
            x = features(c, 65536, dtype)
            last = features(c, 65536, dtype, last=True)
            # nothing is known to be aligned
            odd = features(c, 65537, dtype)
            if "moments" in ops:
                moments(x, precision=precision)
                moments(last, precision=precision)
                moments(x, matrices(2, 3, 65536), precision=precision)
                moments(odd, precision=precision)
                moments(odd, matrices(2, 3, 65537), precision=precision)
            if "ift_update" in ops:
                ift_update(x, x, gram, gram, 0.01, 0.5, precision=precision)
                ift_update(last, last, gram, gram, 0.01, matrices(2), precision=precision)
            if "ift_update_gram" in ops:
                ift_update_gram(x, x, gram, gram, 0.01, 0.5, precision=precision)
                ift_update_gram(odd, odd, gram, gram, 0.01, 0.5, precision=precision)
            if "apply_affine" in ops:
                apply_affine(x, gram, matrices(2, c), precision=precision)
                apply_affine(odd, gram, matrices(2, c), precision=precision)
                apply_affine(last, matrices(2, 3, c, c), matrices(2, 3, c), matrices(2, 3, 65536), precision=precision)
            if "ift_solve" in ops and dtype == torch.float32:
                ift_solve(gram, gram, 0.01, 0.5, 1, 1, precision=precision)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("capability", type=int, help="80, 90, 100")
    parser.add_argument("--channels", type=int, nargs="+", default=[3, 32, 64, 128, 512])
    ops = ["moments", "ift_update", "ift_update_gram", "apply_affine", "ift_solve"]
    parser.add_argument("--ops", nargs="+", choices=ops, default=ops)
    args = parser.parse_args()
    if triton.knobs.runtime.interpret:
        sys.exit("triton_aot: TRITON_INTERPRET is set, so nothing would be compiled")
    triton.runtime.driver.set_active(CompileOnly(args.capability))
    report = Report()
    JITFunction.run = lambda kernel, *a, **options: report(kernel, *a, **options)
    _launch.runs_here = lambda device: True
    _launch.processors = lambda device: 132
    _launch.tuned = lambda key, device, configs, launch: [launch(config) for config in configs]
    every_launch(tuple(args.channels), set(args.ops))


if __name__ == "__main__":
    main()
