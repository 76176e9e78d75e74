"""The operations, backend against backend and against torch's own matrix products, at the shapes of every level.

    python benchmarks/operations.py [--threads N] [--out FILE.json]

moments against x @ x^T alone (which has no mean), apply_affine against baddbmm, sqrtm_psd against linalg.eigh in float64 alone,
ift_solve against the reference only. Times are medians of alternating calls.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

from fastift import native, reference
from fastift.autoencoder import SLIM
from fastift.encoder import VGG19


def alternating(calls: dict, repeats: int) -> dict[str, float]:
    """Median milliseconds of each call; they take turns, so that other work on the machine hits all alike."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(repeats):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            times[name].append(1e3 * (time.perf_counter() - began))
    return {name: sorted(t)[repeats // 2] for name, t in times.items()}


def matrix_calls(c: int) -> dict[str, dict]:
    """ift_solve and sqrtm_psd on Grams of C channels: of full rank, and in float64 of half the rank."""
    cpp = torch.ops.fastift_cpp
    x, y = (torch.rand(1, c, 2 * c) @ torch.rand(1, 2 * c, 4 * c) for _ in range(2))
    gram, style = (m @ m.mT / torch.linalg.matrix_norm(m, 2) ** 2 + 1e-4 * torch.eye(c) for m in (x, y))
    half = x.double()[..., : c // 2]
    half = half @ half.mT / torch.linalg.matrix_norm(half, 2) ** 2
    step = torch.tensor([0.5])
    calls = {}
    for n in (15, 200):
        calls[f"ift_solve {n}"] = {
            "cpp": lambda n=n: cpp.ift_solve(gram, style, 0.0, step, n, 1),
            "reference": lambda n=n: reference.ift_solve(gram, style, 0.0, step, n, 1),
        }
    for name, a, eps in (("full", gram, 0.0), ("half", half, 1e-12)):
        calls[f"sqrtm_psd {name}"] = {
            "cpp": lambda a=a, eps=eps: native.OPERATIONS["sqrtm_psd"](a, eps),
            "reference": lambda a=a, eps=eps: reference.sqrtm_psd(a, eps),
            "torch": lambda a=a: torch.linalg.eigh(a.double()),
        }
    return calls


def matrices(repeats: int) -> list[dict]:
    rows = []
    for c in sorted({*SLIM.widths, *VGG19.widths}):
        for op, calls in matrix_calls(c).items():
            ms = alternating(calls, repeats)
            rows.append({"channels": c, "op": op, **ms})
            ratios = "  ".join(f"{ms[k] / ms['cpp']:5.2f}" for k in ms if k != "cpp")
            print(f"  C {c:<3} {op:<15}", "".join(f" {v:9.3f}" for v in ms.values()), ratios, flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--sizes", type=int, nargs="*", default=[256, 512, 768, 1024])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    why = native.unusable()
    if why is not None:
        parser.error(f"the C++ library cannot be used: {why}")
    cpp = torch.ops.fastift_cpp
    print(f"{args.threads} threads, ms: cpp, reference, torch.linalg.eigh in float64; ratios to cpp")
    rows = matrices(args.repeats)
    print(f"{args.threads} threads, float32, ms: cpp, reference, torch's product alone; ratios to cpp")
    for size in args.sizes:
        for name, plan in (("slim", SLIM), ("VGG-19", VGG19)):
            for level, c in enumerate(plan.widths, start=1):
                n = (size >> (level - 1)) ** 2
                for layout in ("nchw", "channels_last"):
                    x = torch.randn(1, n, c).transpose(1, 2) if layout == "channels_last" else torch.randn(1, c, n)
                    weight, bias = torch.randn(1, c, c) / c**0.5, torch.randn(1, c)
                    for op, calls in {
                        "moments": {
                            "cpp": lambda x=x: cpp.moments(x),
                            "reference": lambda x=x: reference.moments(x),
                            "torch": lambda x=x: x @ x.mT,
                        },
                        "apply_affine": {
                            "cpp": lambda x=x, w=weight, b=bias: cpp.apply_affine(x, w, b),
                            "reference": lambda x=x, w=weight, b=bias: reference.apply_affine(x, w, b),
                            "torch": lambda x=x, w=weight, b=bias: torch.baddbmm(b.unsqueeze(-1), w, x),
                        },
                    }.items():
                        ms = alternating(calls, args.repeats)
                        row = {"size": size, "model": name, "level": level, "channels": c, "layout": layout, "op": op}
                        rows.append({**row, **ms})
                        ratios = "  ".join(f"{ms[k] / ms['cpp']:5.2f}" for k in ("reference", "torch"))
                        print(f"  {size:>4} {name:<6} relu{level}_1 C {c:<3} {layout:<13} {op:<12}", end="")
                        print("".join(f" {v:8.2f}" for v in ms.values()), ratios, flush=True)
    if args.out:
        settings = {
            "threads": args.threads,
            "torch": torch.__version__,
            "capability": torch.backends.cpu.get_cpu_capability(),
        }
        args.out.write_text(json.dumps({"settings": settings, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
