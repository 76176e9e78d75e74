"""What the strength dial promises: python benchmarks/strength.py CONTENT STYLE [--model slim]

1. The Gram distance of the mapped features to the style, relative to strength 0, at each level over strengths 0, 0.1 .. 1.
2. The same at shorter sides 256, 512 and 1024 of the same pictures, and the largest deviation from 512.
Without pictures, the drawn ones of `fastift demo` are used.
"""

from __future__ import annotations

import argparse
import itertools

import torch

from fastift import Stylizer, gram_distance, ift_scale_free
from fastift.art import draw_content, draw_styles
from fastift.image import as_batch, resize_shorter

STRENGTHS = [s / 10 for s in range(11)]
SIDES = (256, 512, 1024)


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("content", nargs="?")
    parser.add_argument("style", nargs="?")
    parser.add_argument("--model", default="slim")
    args = parser.parse_args()
    stylizer = Stylizer(args.model)
    content = as_batch(args.content or draw_content(1536, 1024))
    style = as_batch(args.style or draw_styles(1024)["strokes"])
    curves, pictures = {}, {}
    for side in SIDES:
        x = resize_shorter(content, side)
        target = stylizer.style(resize_shorter(style, side))
        seen = stylizer.style(x)
        for n in (4, 3, 2, 1):
            c, s = seen.levels[n], target.levels[n]
            values = [float(gram_distance(ift_scale_free(c, s, strength=k), c, s)) for k in STRENGTHS]
            curves[side, n] = [v / values[0] for v in values]
        for preset in ("art", "photo"):
            pictures[side, preset] = [
                of_picture(stylizer, stylizer(x, target, preset=preset, strength=k), x, target) for k in STRENGTHS
            ]
    print("Gram distance of the mapped features over strength 0, 0.1 .. 1, relative to strength 0")
    for (side, n), values in curves.items():
        falls = all(a > b for a, b in itertools.pairwise(values))
        print(
            f"  {side:5} relu{n}_1  "
            + " ".join(f"{v:.3f}" for v in values)
            + ("  falls" if falls else "  DOES NOT FALL")
        )
    worst = max(
        abs(curves[side, n][i] - curves[512, n][i]) / curves[512, n][i]
        for side in SIDES
        for n in (1, 2, 3, 4)
        for i in range(11)
    )
    print(f"  largest deviation between the sizes, relative to 512: {100 * worst:.1f} %")
    print("Gram distance of the restyled picture to the style, over that of the content, at relu4_1 .. relu1_1")
    for (side, preset), rows in pictures.items():
        for level in range(4):
            values = [row[level] for row in rows]
            falls = all(a >= b for a, b in itertools.pairwise(values))
            line = " ".join(f"{v:.3f}" for v in values)
            print(f"  {side:5} {preset:<5} relu{4 - level}_1  {line}" + ("" if falls else "  does not fall"))
    for preset in ("art", "photo"):
        means = {side: [sum(row) / 4 for row in pictures[side, preset]] for side in SIDES}
        worst = max(abs(means[side][i] - means[512][i]) / means[512][i] for side in SIDES for i in range(11))
        print(
            f"  {preset}: largest deviation of the four levels' mean between the sizes, relative to 512: {100 * worst:.1f} %"
        )


def of_picture(stylizer: Stylizer, out: torch.Tensor, content: torch.Tensor, target) -> list[float]:
    a, b = stylizer.style(out), stylizer.style(content)
    return [
        float((a.levels[n].gram - target.levels[n].gram).norm() / (b.levels[n].gram - target.levels[n].gram).norm())
        for n in (4, 3, 2, 1)
    ]


if __name__ == "__main__":
    main()
