"""Mean PSNR of plain reconstruction over a folder of pictures: python benchmarks/reconstruction.py FOLDER [--model slim]"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from metrics import load, psnr

from fastift import Stylizer


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="slim")
    parser.add_argument("--glob", default="*.png")
    args = parser.parse_args()
    stylizer = Stylizer(args.model)
    files = sorted(args.folder.glob(args.glob))
    rows: dict[str, list[float]] = {}
    for file in files:
        x = load(file, side=None)
        own = stylizer.style(x)
        for n in stylizer.model.decoders:
            out = stylizer(x, own, flow="cascade", levels=(int(n),), strength=0)
            rows.setdefault(f"cascade, relu{n}_1", []).append(psnr(x, out))
        if stylizer.model.single_pass is not None:
            for skips in (False, True):
                out = stylizer(x, own, flow="single_pass", skips=skips, levels=(4, 3, 2, 1), strength=0)
                rows.setdefault(f"single pass, {'with' if skips else 'no'} skips", []).append(psnr(x, out))
    print(f"{len(files)} pictures, PSNR in dB: mean (lowest)")
    for name, values in rows.items():
        print(f"  {name:<26} {sum(values) / len(values):6.2f} ({min(values):.2f})")


if __name__ == "__main__":
    main()
