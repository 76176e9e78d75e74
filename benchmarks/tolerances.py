"""The worst error of every operation, backend and dtype against float64 on the same rounded inputs.

    python benchmarks/tolerances.py [--out FILE.json]

Over channels 1 .. 257, few and many pixels, full rank and dead channels. Errors are over the exact result's rms: rms and largest.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from fastift import native, reference

CHANNELS = (1, 3, 17, 60, 128, 257)
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def features(channels: int, pixels: int, dead: bool, rng: torch.Generator) -> Tensor:
    mix = torch.rand(1, channels, channels, generator=rng, dtype=torch.float64)
    f = mix @ torch.randn(1, channels, pixels, generator=rng, dtype=torch.float64).abs()
    f = (f - 0.5 * f.mean()).relu()
    if dead:
        f[:, ::3] = 0
    return f / f.mean().clamp_min(1e-3)


def calls(dtype: torch.dtype) -> Iterator[tuple[str, tuple]]:
    """(operation, arguments in the dtype)."""
    wide = reference.wide(dtype)
    rng = torch.Generator().manual_seed(0)
    for channels in CHANNELS:
        for dead in (False, True):
            for pixels in (1, 63, 3000):
                x = features(channels, pixels, dead, rng).to(dtype)
                mask = torch.rand(1, 3, pixels, generator=rng, dtype=wide)
                weight = torch.randn(1, 3, channels, channels, generator=rng, dtype=wide)
                bias = torch.randn(1, 3, channels, generator=rng, dtype=wide)
                yield "moments", (x,)
                yield "moments", (x, mask)
                yield "apply_affine", (x, weight[:, 0], bias[:, 0])
                yield "apply_affine", (x, weight, bias, mask)
            if dtype != wide or (dead and channels == 1):
                continue
            gram, style = (reference.moments(features(channels, 3000, dead, rng))[2] for _ in range(2))
            scale = torch.linalg.matrix_norm(torch.cat([gram, style]), 2).max()
            gram, style = ((m / scale + 1e-4 * torch.eye(channels)).to(dtype) for m in (gram, style))
            for lr, n_upd in ((0.01, 15), (0.0, 200)):
                yield f"ift_solve {n_upd}", (gram, style, lr, torch.tensor([0.5], dtype=dtype), n_upd, 1)
            yield "sqrtm_psd", (gram, 1e-6)


def measure(run, exact: tuple[Tensor, ...]) -> tuple[float, float]:
    got = run if isinstance(run, tuple) else (run,)
    rms = most = 0.0
    for g, w in zip(got, exact, strict=True):
        off, size = (g.double() - w).abs(), float(w.square().mean().sqrt()) or 1.0
        rms, most = max(rms, float(off.square().mean().sqrt()) / size), max(most, float(off.max()) / size)
    return rms, most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    why = native.unusable()
    if why is not None:
        print(f"without the C++ library: {why}")
    worst: dict[tuple[str, str, str], list[float]] = {}
    for dtype in DTYPES:
        for name, arguments in calls(dtype):
            op = name.split()[0]
            exact = getattr(reference, op)(*(a.double() if isinstance(a, Tensor) else a for a in arguments))
            exact = exact if isinstance(exact, tuple) else (exact,)
            backends = {"reference": getattr(reference, op)}
            if why is None and native.refuse(op, arguments[0]) is None:
                backends["cpp"] = native.OPERATIONS[op]
            for backend, run in backends.items():
                if backend == "reference" and dtype == torch.float64:
                    continue  # it is what the others are compared with
                found = worst.setdefault((name, str(dtype).removeprefix("torch."), backend), [0.0, 0.0])
                found[:] = map(max, found, measure(run(*arguments), exact))
    print(f"{'operation':<14} {'dtype':<9} {'backend':<10} {'rms':>8} {'largest':>8}")
    for (name, dtype, backend), (rms, most) in sorted(worst.items()):
        print(f"{name:<14} {dtype:<9} {backend:<10} {rms:>8.1e} {most:>8.1e}")
    if args.out:
        rows = [dict(zip(("op", "dtype", "backend"), k, strict=True), rms=v[0], largest=v[1]) for k, v in worst.items()]
        args.out.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
