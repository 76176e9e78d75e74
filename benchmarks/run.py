"""Runs the benchmarks and prints a table of seconds by size; writes all of pytest-benchmark's JSON, a summary without what it
knows of this machine, and a plot. Other arguments go to pytest.

python benchmarks/run.py OUT_FOLDER [--sizes 256,512] [-k transform]
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).parent


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "benchmarks.json"
    command = [sys.executable, "-m", "pytest", "-q", str(HERE), "--benchmark-json", str(file), "--benchmark-disable-gc"]
    code = subprocess.run([*command, "--benchmark-quiet", *sys.argv[2:]]).returncode
    if not file.is_file():
        sys.exit(code or 1)
    found = json.loads(file.read_text())["benchmarks"]
    (folder / "summary.json").write_text(summary(found))
    for group in dict.fromkeys(b["group"] for b in found):
        rows = [b for b in found if b["group"] == group]
        sizes = sorted({b["extra_info"]["size"] for b in rows})
        info = rows[0]["extra_info"]
        print(f"\n{group}: median seconds on {info['device']}, {info['threads']} threads, torch {info['torch']}")
        print(f"  {'':<30}" + "".join(f"{size:>10}" for size in sizes))
        figure, axes = plt.subplots(figsize=(10, 5))
        axes.set_prop_cycle(color=plt.get_cmap("tab20").colors)
        for system in dict.fromkeys(b["extra_info"]["system"] for b in rows):
            median = {
                b["extra_info"]["size"]: b["stats"]["median"] for b in rows if b["extra_info"]["system"] == system
            }
            cells = "".join(f"{median[s]:>10.4f}" if s in median else f"{'':>10}" for s in sizes)
            print(f"  {system:<30}{cells}")
            axes.plot(list(median), list(median.values()), "o-", label=system, markersize=4)
        axes.set(xscale="log", yscale="log", xlabel="pixels a side", ylabel="seconds", title=group)
        axes.set_xticks(sizes, [str(s) for s in sizes])
        axes.minorticks_off()
        axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))
        axes.grid(alpha=0.3, which="both")
        figure.tight_layout()
        figure.savefig(folder / f"{group.split(',')[0].replace(' ', '_')}.png", dpi=120)
    sys.exit(code)


def summary(found: list[dict]) -> str:
    """What was run on what, and a line for each benchmark: group, system, size, median seconds and the quartiles' distance."""
    info = {k: v for k, v in found[0]["extra_info"].items() if k not in ("system", "size")}
    rows = [
        json.dumps(
            [b["group"], b["extra_info"]["system"], b["extra_info"]["size"]]
            + [float(f"{b['stats'][k]:.4g}") for k in ("median", "iqr")]
        )
        for b in found
    ]
    return json.dumps({"info": info}, indent=1)[:-2] + ',\n "rows": [\n  ' + ",\n  ".join(rows) + "\n ]\n}\n"


if __name__ == "__main__":
    main()
