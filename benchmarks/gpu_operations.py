"""The Triton kernels and the CUDA operations on a GPU against torch, and against what the card can do: its copy bandwidth and its
matrix product rate.

FASTIFT_TRITON=1 FASTIFT_CUDA=1 python benchmarks/gpu_operations.py OUT.json [--seconds 240]
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

from fastift import Stylizer, cuda, gpu, reference
from fastift.autoencoder import SLIM
from fastift.encoder import VGG19


def milliseconds(call, repeats: int = 15) -> float:
    """Median by CUDA events, after three calls."""
    for _ in range(3):
        call()
    torch.cuda.synchronize()
    times = []
    for _ in range(repeats):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        call()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    return sorted(times)[repeats // 2]


def card() -> dict:
    x = torch.empty(2**28, dtype=torch.float32, device="cuda")
    y = torch.empty_like(x)
    copy = 2 * x.numel() * 4 / milliseconds(lambda: y.copy_(x)) / 1e6
    m = torch.randn(8192, 8192, dtype=torch.bfloat16, device="cuda")
    product = 2 * 8192**3 / milliseconds(lambda: m @ m) / 1e9
    return {"name": torch.cuda.get_device_name(), "copy_GB_s": round(copy), "bf16_TFLOP_s": round(product)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=240, help="stop before a further shape after this long")
    args = parser.parse_args()
    why = gpu.unusable()
    if why is not None:
        parser.error(why)
    started = time.monotonic()
    found = {
        "card": card(), "torch": torch.__version__, "matrices": [], "operations": [], "end_to_end": [], "failed": [],
    }  # fmt: skip
    print(found["card"], flush=True)
    shapes = [
        (size, name, level, c)
        for size in (512, 1024, 256, 768)
        for name, plan in (("VGG-19", VGG19), ("slim", SLIM))
        for level, c in enumerate(plan.widths, start=1)
    ]
    matrices(found)
    args.out.write_text(json.dumps(found, indent=1))
    end_to_end(found)
    for size, name, level, c in shapes:
        if time.monotonic() - started > args.seconds:
            print("out of time: the remaining shapes were left out")
            break
        n = (size >> (level - 1)) ** 2
        for dtype in (torch.bfloat16, torch.float32):
            f = torch.randn(1, c, n, device="cuda").relu().to(dtype)
            gram, style = (reference.moments(f * k)[2] for k in (1.0, 0.7))
            step = 0.5 / torch.linalg.matrix_norm(gram, 2)
            weight, bias = torch.randn(1, c, c, device="cuda") / c**0.5, torch.randn(1, c, device="cuda")
            bytes_read, flops = f.numel() * f.element_size(), 2 * c * c * n
            for op, given, passes, work in (
                ("moments", (f,), 1, flops),
                ("apply_affine", (f, weight, bias), 2, flops),
                ("ift_update", (f, f, gram, style, 0.01, step), 3, flops),
                ("ift_update_gram", (f, f, gram, style, 0.01, step), 3, 2 * flops),
                ("ift_solve", (gram, style, 0.01, step, 15, 1), 0, 90 * c**3),
            ):
                if op == "ift_solve" and dtype != torch.float32:
                    continue
                row = {"op": op, "size": size, "model": name, "level": level, "channels": c, "dtype": str(dtype)[6:]}
                try:
                    ms = milliseconds(lambda op=op, given=given: gpu.OPERATIONS[op](*given))
                    torch_ms = milliseconds(lambda op=op, given=given: getattr(reference, op)(*given))
                except Exception as err:  # one kernel that fails must not hide the others
                    found["failed"].append({**row, "error": str(err)[:300]})
                    print("FAILED", row, str(err)[:200], flush=True)
                    continue
                row |= {
                    "ms": ms,
                    "torch_ms": torch_ms,
                    "GB_s": passes * bytes_read / ms / 1e6,
                    "TFLOP_s": work / ms / 1e9,
                }
                found["operations"].append(row)
                print(
                    f"{size:>5} {name:<6} C {c:<3} {row['dtype']:<8} {op:<15} {ms:8.3f} ms  torch {torch_ms:8.3f} ms  "
                    f"{100 * row['GB_s'] / found['card']['copy_GB_s']:4.0f} % of copy  {row['TFLOP_s']:6.1f} TFLOP/s",
                    flush=True,
                )
        args.out.write_text(json.dumps(found, indent=1))
    args.out.write_text(json.dumps(found, indent=1))


def matrices(found: dict) -> None:
    """sqrtm_psd and 15 steps of ift_solve on C x C matrices: milliseconds of every way there is."""
    why = cuda.unusable()
    if why is not None:
        print(f"cuda: {why}", flush=True)
    for channels in (32, 64, 128, 184, 256, 512, 1024):
        f = torch.randn(1, channels, 4 * channels, device="cuda").relu()
        gram, style = (reference.moments(x)[2] for x in (f, f.flip(1).square()))
        step = 0.5 / torch.linalg.matrix_norm(gram, 2).maximum(torch.linalg.matrix_norm(style, 2))
        wide, solve = gram.double(), (gram, style, 0.01, step, 15, 1)
        ways = {
            "sqrtm_psd": {
                "eigh float32": lambda g=gram: torch.linalg.eigh(g),
                "eigh float64": lambda g=wide: torch.linalg.eigh(g),
                "reference": lambda g=gram: reference.sqrtm_psd(g, 1e-6),
            },
            "ift_solve": {
                "reference": lambda a=solve: reference.ift_solve(*a),
                "triton": lambda a=solve: gpu.OPERATIONS["ift_solve"](*a),
            },
        }
        if why is None:
            ways["sqrtm_psd"]["cuda"] = lambda g=gram: cuda.sqrtm_psd(g, 1e-6)
            ways["sqrtm_psd"]["cuda, unread"] = lambda g=gram: torch.ops.fastift_cuda.sqrtm_psd(g, 1e-6)
            ways["ift_solve"]["cuda"] = lambda a=solve: cuda.ift_solve(*a)
        for op, calls in ways.items():
            row = {"op": op, "channels": channels}
            for way, call in calls.items():
                try:
                    row[way] = milliseconds(call, repeats=7)
                except Exception as err:  # one that fails must not hide the others
                    found["failed"].append({**row, "way": way, "error": str(err)[:300]})
                    print("FAILED", op, channels, way, str(err)[:200], flush=True)
            if op == "sqrtm_psd" and "cuda" in row:
                row["sweeps"] = torch.ops.fastift_cuda.sqrtm_psd(gram, 1e-6)[2][0, 2].item()
            found["matrices"].append(row)
            print({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}, flush=True)


def end_to_end(found: dict) -> None:
    for backend in ("reference", "triton"):
        for dtype in (torch.float32, torch.bfloat16):
            stylizer = Stylizer(device="cuda", dtype=dtype, backend=backend)
            for size in (256, 512, 1024):
                x = torch.rand(1, 3, size, size, device="cuda")
                with torch.inference_mode():
                    style = stylizer.style(x.flip(3))
                    for flow, strength in (("cascade", 0.7), ("cascade", 0.0), ("encoder_side", 0.7)):
                        ms = milliseconds(
                            lambda s=stylizer, x=x, y=style, f=flow, k=strength: s(x, y, flow=f, strength=k), repeats=7
                        )
                        row = {
                            "backend": backend,
                            "dtype": str(dtype)[6:],
                            "size": size,
                            "flow": flow,
                            "strength": strength,
                            "ms": ms,
                        }
                        found["end_to_end"].append(row)
                        print(row, flush=True)


if __name__ == "__main__":
    main()
