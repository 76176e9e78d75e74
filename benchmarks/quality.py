"""Style distance against content SSIM over strengths, for both presets: a table, a plot, a grid of the pictures.

    python benchmarks/quality.py PAIRS.csv --judge ENCODER.safetensors --out FOLDER

PAIRS.csv has columns content and style, relative to its folder. The judge is an encoder that is not the one under test.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from metrics import content_ssim, load, read_pairs, style_distance

from fastift import Stylizer
from fastift.art import grid
from fastift.image import to_pil
from fastift.weights import load_encoder

STRENGTHS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)

# the teacher's own autoencoders, from which "slim" was distilled, in a plain prototype of the same cascade
REFERENCE = {"teacher, IFT": [(0.73, 0.66), (0.62, 0.64), (0.53, 0.61), (0.45, 0.59)], "teacher, AdaIN": [(0.58, 0.55)]}


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--judge", type=Path, required=True)
    parser.add_argument("--model", default="slim")
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--show", type=float, nargs="*", default=[0.3, 0.5, 0.7, 1.0], help="strengths in the grid")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    stylizer, judge = Stylizer(args.model), load_encoder(args.judge)
    pairs = read_pairs(args.pairs)
    settings = {
        "art": {"preset": "art"},
        "photo": {"preset": "photo"},
        "cascade of all levels": {"flow": "cascade", "levels": (4, 3, 2, 1)},
        "encoder side, levels 3 2 1": {"flow": "encoder_side", "levels": (3, 2, 1)},
        "single pass with skips": {"flow": "single_pass", "levels": (3, 2, 1)},
        "art, two passes": {"preset": "art", "passes": 2},
    }
    curves = {name: {} for name in settings}
    pictures = {name: [] for name in curves}
    for c_file, s_file in pairs:
        content, style = load(c_file, args.side), load(s_file, args.side)
        prepared = stylizer.style(style)
        for name, chosen in settings.items():
            row = [to_pil(content), to_pil(style)]
            for strength in STRENGTHS:
                out = stylizer(content, prepared, strength=strength, **chosen)
                distance = style_distance(judge, content, style, out)
                curves[name].setdefault(strength, []).append((*distance, content_ssim(content, out)))
                if strength in args.show:
                    row.append(to_pil(out))
            pictures[name].append(row)
    summary = {}
    print(
        f"{len(pairs)} pairs, shorter side {args.side}: style distance (mean of 4 levels) at content SSIM, by strength"
    )
    for name, by_strength in curves.items():
        points = []
        for strength, values in by_strength.items():
            means = torch.tensor(values).mean(0).tolist()
            points.append({"strength": strength, "distance": sum(means[:4]) / 4, "ssim": means[4], "levels": means[:4]})
        summary[name] = points
        print(f"  {name:<22} " + "  ".join(f"{p['strength']:.1f}: {p['distance']:.2f}@{p['ssim']:.2f}" for p in points))
    (args.out / "quality.json").write_text(json.dumps(summary, indent=1))
    plot(summary, args.out / "quality.png")
    titles = ["content", "style", *[f"strength {s}" for s in STRENGTHS if s in args.show]]
    for name, rows in pictures.items():
        labels = [c.stem for c, _ in pairs]
        grid(rows, labels, titles).save(args.out / f"grid {name}.png".replace(" ", "_").replace(",", ""))


def plot(summary: dict, file: Path) -> None:
    figure, axes = plt.subplots(figsize=(9, 5))
    for name, points in summary.items():
        axes.plot(
            [p["ssim"] for p in points], [p["distance"] for p in points], "o-", label=f"slim, {name}", markersize=4
        )
    for name, points in REFERENCE.items():
        axes.plot([s for _, s in points], [d for d, _ in points], "s--", label=name, markersize=5)
    axes.set_xlabel("content SSIM")
    axes.set_ylabel("style distance (0: the style's Grams)")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8)  # beside the curves, not over them
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(file, dpi=120)


if __name__ == "__main__":
    main()
