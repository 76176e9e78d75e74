"""Transforms and strengths side by side: pictures, time, distance to the style, similarity with the content."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import torch
from PIL import Image
from torch import Tensor

from .art import grid
from .engine import ImageLike, Stylizer
from .errors import FastiftError, InvalidInputError
from .image import as_batch, resize_shorter, to_pil
from .metrics import ssim, style_distances
from .transform.named import TRANSFORMS

__all__ = ["Result", "compare", "plot", "sheet", "table"]


@dataclass(frozen=True)
class Result:
    """One picture. distance: mean over the levels of `style_distances`, by the encoder of the model itself."""

    transform: str
    strength: float
    seconds: float
    distance: float
    ssim: float
    picture: Image.Image

    def to_dict(self) -> dict:
        return {k: v for k, v in asdict(self).items() if k != "picture"}


@torch.inference_mode()
def compare(
    content: ImageLike,
    style: ImageLike,
    *,
    model: Stylizer | str = "slim",
    size: int | None = 512,
    transforms: Sequence[str] = TRANSFORMS,
    strengths: Sequence[float] = (0.7,),
    progress: Callable[[int, int], None] = lambda done, total: None,
    **settings,
) -> list[Result]:
    """Restyle one picture by every transform at every strength; settings are those of `Stylizer.__call__`.

    size: shorter side that content and style are reduced to, None keeps them. seconds are those of the call with the style's
    moments known, after one call that is not counted.
    """
    if not transforms or not strengths:
        raise InvalidInputError("fastift.compare: expected at least one transform and one strength, got none")
    stylizer = model if isinstance(model, Stylizer) else Stylizer(model)
    x = as_batch(content, name="content", who="fastift.compare")
    x = resize_shorter(x, size) if size else x
    s = resize_shorter(as_batch(style, name="style", who="fastift.compare"), min(x.shape[2:]))
    if len(x) != 1 or len(s) != 1:
        raise InvalidInputError(
            f"fastift.compare: expected one content and one style, got batches of {len(x)} and {len(s)}"
        )
    target, start = stylizer.style(s), stylizer.style(x)
    stylizer(x, target, transform=transforms[0], strength=strengths[0], **settings)
    results = []
    for transform in transforms:
        for strength in strengths:
            out, seconds = _timed(stylizer, x, target, transform=transform, strength=strength, **settings)
            distances = style_distances(start, target, stylizer.style(out))
            distance = float(torch.stack(list(distances.values())).mean())
            similarity = float(ssim(x.cpu(), out.cpu())[0])
            results.append(Result(transform, strength, seconds, distance, similarity, to_pil(out)))
            progress(len(results), len(transforms) * len(strengths))
    return results


def _timed(stylizer: Stylizer, x: Tensor, target, **settings) -> tuple[Tensor, float]:
    def wait() -> None:
        if stylizer.device.type == "cuda":
            torch.cuda.synchronize(stylizer.device)

    wait()
    began = time.perf_counter()
    out = stylizer(x, target, **settings)
    wait()
    return out, time.perf_counter() - began


def table(results: Sequence[Result]) -> list[str]:
    """Lines to print."""
    lines = [f"{'transform':<16} {'strength':>8} {'seconds':>8} {'style distance':>15} {'content SSIM':>13}"]
    for r in results:
        lines.append(f"{r.transform:<16} {r.strength:>8g} {r.seconds:>8.2f} {r.distance:>15.3f} {r.ssim:>13.3f}")
    return lines


def sheet(
    results: Sequence[Result], content: Image.Image, style: Image.Image, *, cell: int = 256, columns: int = 4
) -> Image.Image:
    """All pictures: a row a transform and a column a strength, or for one strength `columns` in a row."""
    strengths = list(dict.fromkeys(r.strength for r in results))
    transforms = list(dict.fromkeys(r.transform for r in results))
    if len(strengths) > 1:
        rows = [[content, *(r.picture for r in results if r.transform == t), style] for t in transforms]
        return grid(rows, transforms, ["content", *(f"strength {s:g}" for s in strengths), "style"], cell=cell)
    cells = [("content", content), ("style", style)]
    cells += [(f"{r.transform}: {r.distance:.2f} at {r.ssim:.2f}", r.picture) for r in results]
    blank = ("", Image.new("RGB", content.size, "white"))
    cells += [blank] * (-len(cells) % columns)
    parts = [cells[i : i + columns] for i in range(0, len(cells), columns)]
    sheets = [grid([[p for _, p in part]], [""], [label for label, _ in part], cell=cell) for part in parts]
    out = Image.new("RGB", (sheets[0].width, sum(s.height for s in sheets)), "white")
    top = 0
    for s in sheets:
        out.paste(s, (0, top))
        top += s.height
    return out


def plot(results: Sequence[Result]) -> Image.Image:
    """Style distance over content SSIM, a curve a transform. Needs matplotlib (the extra "train")."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as err:
        raise FastiftError('fastift: the plot needs matplotlib; pip install "fastift[train]"') from err
    figure = Figure(figsize=(7, 5), dpi=120, layout="tight")
    axes = figure.add_subplot()
    for transform in dict.fromkeys(r.transform for r in results):
        points = [r for r in results if r.transform == transform]
        axes.plot([r.ssim for r in points], [r.distance for r in points], "o-", label=transform, markersize=4)
    axes.set_xlabel("content SSIM")
    axes.set_ylabel("style distance")
    axes.legend()
    axes.grid(alpha=0.3)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.frombuffer("RGBA", canvas.get_width_height(), canvas.buffer_rgba()).convert("RGB")
