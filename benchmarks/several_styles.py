"""Several styles at once: the joint objective (Grams averaged) against interpolated features, in distance to each style alone.

    python benchmarks/several_styles.py CONTENT STYLE STYLE [STYLE ..] --judge ENCODER.safetensors --out FOLDER

The paper's Fig. 5 in numbers: what interpolation mixes it also weakens.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from metrics import load, style_grams

from fastift import Stylizer
from fastift.art import grid
from fastift.image import to_pil
from fastift.weights import load_encoder


def distances(judge, content, styles, out) -> list[float]:
    """To each style, relative to the content's own distance; then to the mean of their Grams."""
    g_c, g_o = (style_grams(judge, x.clamp(0, 1)) for x in (content, out))
    targets = [style_grams(judge, s) for s in styles]
    targets.append([sum(parts) / len(parts) for parts in zip(*targets, strict=True)])
    return [
        sum(float((o - t).norm() / (c - t).norm()) for o, t, c in zip(g_o, target, g_c, strict=True)) / len(g_c)
        for target in targets
    ]


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("content", type=Path)
    parser.add_argument("styles", type=Path, nargs="+")
    parser.add_argument("--judge", type=Path, required=True)
    parser.add_argument("--model", default="slim")
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    stylizer, judge = Stylizer(args.model), load_encoder(args.judge)
    content, styles = load(args.content, args.side), [load(s, args.side) for s in args.styles]
    names = [s.stem for s in args.styles]
    print(f"{'':<32}" + "".join(f"{n[:14]:>16}" for n in [*names, "all together"]))
    rows = []
    for transform in ("ift", "wct", "adain"):
        made = {
            f"{transform}, {n} alone": stylizer(content, s, transform=transform, strength=1.0)
            for n, s in zip(names, styles, strict=True)
        }
        for blend in ("gram", "features"):
            made[f"{transform}, both, {blend}"] = stylizer(
                content, styles, transform=transform, strength=1.0, blend=blend
            )
        for name, out in made.items():
            print(f"{name:<32}" + "".join(f"{d:>16.3f}" for d in distances(judge, content, styles, out)))
        rows.append([to_pil(out) for out in made.values()])
    columns = [*(f"{n} alone" for n in names), "Grams averaged", "features averaged"]
    grid(rows, ["ift", "wct", "adain"], columns).save(args.out / "several_styles.png")


if __name__ == "__main__":
    main()
