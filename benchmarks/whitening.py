"""sqrtm_psd on hard matrices: errors, failures, and how often float32 eigh fails on the same input.

    python benchmarks/whitening.py [--pictures FOLDER --encoder ENCODER.safetensors] [--out FILE.json]

Random positive semi-definite matrices of rank 1 .. C and condition up to 1e12, and the Grams and covariances of pictures at every
level of an encoder.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from metrics import load
from operations import alternating

from fastift import moments, ops
from fastift.weights import load_encoder

SIZES = (3, 16, 60, 128, 257, 512)


def random_psd(channels: int, rng: torch.Generator) -> tuple[torch.Tensor, int]:
    rank = int(torch.randint(1, channels + 1, (), generator=rng))
    exponent = 12 * torch.rand((), generator=rng, dtype=torch.float64)
    basis = torch.linalg.qr(torch.randn(channels, rank, generator=rng, dtype=torch.float64))[0]
    values = 10 ** (-exponent * torch.rand(rank, generator=rng, dtype=torch.float64))
    values[0] = 1
    a = (basis * values) @ basis.mT
    return (0.5 * (a + a.mT))[None], rank


def measure(a: torch.Tensor, eps: float) -> dict:
    """Errors of one matrix [1, C, C], whatever its dtype, judged in float64."""
    root, inverse = ops.sqrtm_psd(a, eps)
    exact, root, inverse = a.double(), root.double(), inverse.double()
    values, vectors = torch.linalg.eigh(exact[0])
    kept = values > eps * values[-1]
    projector = vectors[:, kept] @ vectors[:, kept].mT
    white = inverse @ exact @ inverse
    single = a.float()
    try:
        low = torch.linalg.eigh(single)
        fails = not all(torch.isfinite(t).all() for t in low)
    except torch.linalg.LinAlgError:
        fails = True
    # what code without a floor would whiten with
    naive = torch.linalg.eigvalsh(single)[0] if not fails else torch.zeros(1)
    return {
        "finite": bool(torch.isfinite(root).all() and torch.isfinite(inverse).all()),
        "root": float((root @ root - exact).norm() / exact.norm().clamp_min(1e-300)),
        "white": float((white - projector).norm() / projector.norm().clamp_min(1)),
        "eigh32_fails": fails,
        "eigh32_negative": bool((naive < 0).any()),
    }


def report(name: str, rows: list[dict]) -> dict:
    count = len(rows)
    found = {
        "matrices": count,
        "failures": sum(not r["finite"] for r in rows),
        "root": max(r["root"] for r in rows),
        "white": max(r["white"] for r in rows),
        "white_median": sorted(r["white"] for r in rows)[count // 2],
        "eigh32_fails": sum(r["eigh32_fails"] for r in rows),
        "eigh32_negative": sum(r["eigh32_negative"] for r in rows),
    }
    print(
        f"{name:<28} {count:>4} {found['failures']:>8} {found['root']:>10.1e} {found['white']:>10.1e} "
        f"{found['white_median']:>10.1e} {found['eigh32_fails']:>8} {found['eigh32_negative']:>9}",
        flush=True,
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--encoder", type=Path)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--matrices", type=int, default=200)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    rng = torch.Generator().manual_seed(0)
    found = {}
    head = ("n", "failures", "root", "white", "median", "eigh32!", "eigh32<0")
    print(f"{'':<28} " + "{:>4} {:>8} {:>10} {:>10} {:>10} {:>8} {:>9}".format(*head))
    for channels in SIZES:
        rows = [measure(random_psd(channels, rng)[0], 1e-13) for _ in range(args.matrices)]
        found[f"random {channels}"] = report(f"random, C = {channels}", rows)
    if args.pictures and args.encoder:
        encoder = load_encoder(args.encoder)
        files = sorted(
            p for p in args.pictures.rglob("*") if p.suffix.lower() in (".png", ".jpg") and "seg" not in p.name
        )
        by_level: dict[str, list] = {}
        with torch.inference_mode():
            for file in files:
                for n, tap in enumerate(encoder(load(file, args.side)), start=1):
                    m = moments(tap)
                    by_level.setdefault(f"Gram, relu{n}_1", []).append(measure(m.gram, 1e-6))
        for name, rows in by_level.items():
            found[name] = report(name, rows)
    print("time, float64, ms: sqrtm_psd, torch.linalg.eigh alone")
    for channels in (32, 64, 128, 144, 256, 512):
        a = random_psd(channels, rng)[0]
        calls = {"sqrtm_psd": lambda a=a: ops.sqrtm_psd(a, 1e-6), "eigh": lambda a=a: torch.linalg.eigh(a)}
        ours, eigh = alternating(calls, 5).values()
        found[f"time {channels}"] = {"sqrtm_psd": ours, "eigh": eigh}
        print(f"  C = {channels:<4} {ours:8.2f} {eigh:8.2f}")
    if args.out:
        args.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
