"""Every transform over its dial on the same pairs: style distance against content SSIM, a table, a plot, times.

    python benchmarks/transforms.py PAIRS.csv --judge ENCODER.safetensors --out FOLDER [--model MODEL | FOLDER_OF_PAIRS]

PAIRS.csv has columns content and style, relative to its folder. The judge is an encoder that is not the one under test.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from metrics import content_ssim, load, read_pairs, style_distance
from pairs_of_networks import PairsOfNetworks

from fastift import Autoencoder, Stylizer
from fastift.avatar_net import avatar_net
from fastift.transform.named import TRANSFORMS
from fastift.weights import load_encoder

DIAL = (0.3, 0.6, 1.0)


def systems(stylizer: Stylizer, flow: str, levels: tuple[int, ...]) -> dict:
    """Name -> call(content, style image, style, strength)."""

    def by_moments(**settings):
        return lambda x, image, style, strength: stylizer(x, style, strength=strength, **settings)

    found = {name: by_moments(transform=name, flow=flow, levels=levels) for name in TRANSFORMS}
    if isinstance(stylizer.model, Autoencoder):
        others = {"cascade", "encoder_side", "single_pass"} - {flow}
        found |= {f"ift, {other}": by_moments(flow=other, levels=levels) for other in sorted(others)}
    if stylizer.model.single_pass is not None:
        found["avatar_net"] = lambda x, image, style, s: avatar_net(x, image, model=stylizer, strength=s)
    return found


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--judge", type=Path, required=True)
    parser.add_argument("--model", default="slim")
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--levels", type=lambda v: tuple(map(int, v.split(","))), default=(4, 3, 2, 1))
    parser.add_argument("--flow", default="cascade", choices=["cascade", "encoder_side", "single_pass"])
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    # a folder holds an encoder of its own for each level
    model = PairsOfNetworks(Path(args.model)) if Path(args.model).is_dir() else args.model
    stylizer, judge = Stylizer(model), load_encoder(args.judge)
    pairs = read_pairs(args.pairs)
    calls = systems(stylizer, args.flow, args.levels)
    found: dict[str, dict[float, list]] = {name: {s: [] for s in DIAL} for name in calls}
    for c_file, s_file in pairs:
        content, image = load(c_file, args.side), load(s_file, args.side)
        style = stylizer.style(image)
        for name, call in calls.items():
            for strength in DIAL:
                began = time.perf_counter()
                out = call(content, image, style, strength)
                seconds = time.perf_counter() - began
                distance = style_distance(judge, content, image, out)
                found[name][strength].append((sum(distance) / 4, content_ssim(content, out), seconds))
    summary = {}
    print(
        f"{len(pairs)} pairs, shorter side {args.side}, {args.flow}, levels {args.levels}: "
        "style distance at content SSIM; seconds"
    )
    for name, by_strength in found.items():
        summary[name] = []
        for strength, values in by_strength.items():
            distance, ssim, _ = torch.tensor(values).mean(0).tolist()
            median = torch.tensor([v[2] for v in values]).median().item()
            summary[name].append({"strength": strength, "distance": distance, "ssim": ssim, "seconds": median})
        points = "  ".join(f"{p['strength']:g}: {p['distance']:.2f}@{p['ssim']:.2f}" for p in summary[name])
        print(f"  {name:<28} {points}   {summary[name][-1]['seconds']:.2f} s")
    settings = {
        "model": str(Path(args.model).name),
        "flow": args.flow,
        "levels": args.levels,
        "side": args.side,
        "torch": torch.__version__,
    }
    (args.out / "transforms.json").write_text(json.dumps({"settings": settings, "systems": summary}, indent=1))
    figure, axes = plt.subplots(figsize=(7, 5))
    for name, points in summary.items():
        axes.plot([p["ssim"] for p in points], [p["distance"] for p in points], "o-", label=name, markersize=4)
    axes.set_xlabel("content SSIM")
    axes.set_ylabel("style distance (0: the style's Grams)")
    axes.set_ylim(0, 1.3)
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(args.out / "transforms.png", dpi=120)


if __name__ == "__main__":
    main()
