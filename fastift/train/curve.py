"""The loss curve as a picture."""

from __future__ import annotations

import json
from pathlib import Path

__all__ = ["draw_curve"]


def draw_curve(log: Path, picture: Path) -> bool:
    """Draw the losses and PSNRs of a log, one column a phase. Needs matplotlib (the extra "train"); without it returns False."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return False
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    phases = list(dict.fromkeys(e["phase"] for e in entries))
    figure = Figure(figsize=(6 * len(phases), 7))
    axes = figure.subplots(2, len(phases), squeeze=False)
    for column, phase in enumerate(phases):
        for row, (names, quantity) in enumerate(((_losses, "loss"), (_psnr, "held-out PSNR (dB)"))):
            series: dict[str, list[tuple[int, float]]] = {}
            for entry in entries:
                if entry["phase"] == phase:
                    for name, value in names(entry).items():
                        series.setdefault(name, []).append((entry["step"], value))
            ax = axes[row][column]
            for name, points in series.items():
                ax.plot(*zip(*points, strict=True), label=name, marker="." if len(points) < 30 else "")
            ax.set(title=f"phase {phase}", xlabel="step", ylabel=quantity)
            if row == 0:
                ax.set_yscale(
                    "symlog", linthresh=1e-4
                )  # terms differ by orders of magnitude, logarithmic ones go below zero
            if series:
                ax.legend(fontsize=7)
            ax.grid(alpha=0.3)
    figure.tight_layout()
    FigureCanvasAgg(figure).print_png(str(picture))
    return True


def _losses(entry: dict) -> dict[str, float]:
    return {} if "psnr" in entry else {k: v for k, v in entry.items() if k not in ("phase", "step", "steps")}


def _psnr(entry: dict) -> dict[str, float]:
    return entry.get("psnr", {})
