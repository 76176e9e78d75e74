"""Compares two JSON files of `benchmarks/run.py` and names what became slower beyond noise.

    python benchmarks/regressions.py BEFORE.json AFTER.json [--factor 1.1]

Noise is what the two runs show: a slowdown counts if the medians differ by the factor and the quartiles do not overlap.
Exit code 1 if there is one.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--factor", type=float, default=1.1)
    args = parser.parse_args()
    before, after = (
        {b["fullname"]: b for b in json.loads(p.read_text())["benchmarks"]} for p in (args.before, args.after)
    )
    slower = 0
    for name in sorted(before.keys() & after.keys()):
        old, new = before[name], after[name]
        if old["extra_info"].get("device") != new["extra_info"].get("device"):
            sys.exit(f"{name}: the files come from different devices")
        ratio = new["stats"]["median"] / old["stats"]["median"]
        verdict = ""
        if ratio > args.factor and new["stats"]["q1"] > old["stats"]["q3"]:
            verdict, slower = "SLOWER", slower + 1
        elif ratio < 1 / args.factor and new["stats"]["q3"] < old["stats"]["q1"]:
            verdict = "faster"
        print(f"{ratio:7.2f}x {verdict:<7} {name}")
    for name in sorted(before.keys() ^ after.keys()):
        print(f"   only {'before' if name in before else 'after'}: {name}")
    sys.exit(1 if slower else 0)


if __name__ == "__main__":
    main()
