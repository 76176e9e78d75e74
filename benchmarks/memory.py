"""Peak memory of restyling, in a process of its own for each size: what the call adds, in MiB and in bytes a pixel.

python benchmarks/memory.py [--sizes 512,1024,2048] [--out FILE.json]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

CALL = """
import resource, sys, torch
from fastift import Stylizer

size, settings = int(sys.argv[1]), eval(sys.argv[2])
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
stylizer = Stylizer(device="cpu")
with torch.inference_mode():
    small = torch.rand(1, 3, 64, 64)
    style = stylizer.style(small)
    stylizer(small, style, **settings)  # what does not depend on the size is there before
    picture = torch.rand(1, 3, size, size)
    before = peak()
    stylizer(picture, style, **settings)
print(before, peak() - before)
"""


def added_by(size: int, **settings) -> tuple[int, int]:
    """Peak resident bytes of the process before restyling a picture of size x size, and what the call adds to it."""
    done = subprocess.run(
        [sys.executable, "-c", CALL, str(size), repr(settings)], capture_output=True, text=True, check=True
    )
    before, added = done.stdout.split()
    return int(before), int(added)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="512,1024,2048")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    found = []
    for preset in ("art", "photo"):
        for size in map(int, args.sizes.split(",")):
            before, added = added_by(size, preset=preset)
            found.append({"preset": preset, "size": size, "before": before, "added": added})
            print(
                f"{preset:<6} {size:>5}: {before / 2**20:6.0f} MiB before, {added / 2**20:6.0f} MiB more, "
                f"{added / size**2:5.0f} bytes a pixel",
                flush=True,
            )
    if args.out:
        args.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
