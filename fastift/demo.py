"""The demo: content and styles drawn by our own code, restyled, and compared side by side."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image

from .art import contact_strip, draw_content, draw_styles, grid
from .engine import Stylizer, stylize
from .errors import OutputError
from .image import check_target, read_picture, write_picture

__all__ = ["run_demo"]

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)


def run_demo(
    folder: str | os.PathLike,
    *,
    width: int = 768,
    device: str | torch.device | None = None,
    force: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Path]:
    """Write content.png, one style_NAME.png and art_NAME.png a style, strengths.png and presets.png; returns their paths.

    The content is width x 2/3 width. progress is called with the pictures made so far and in all.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise OutputError(f"fastift demo: cannot make the folder {folder} ({err})") from err
    stylizer = Stylizer(device=device)
    styles = {name: Image.fromarray(image) for name, image in draw_styles(max(64, round(width * 2 / 3))).items()}
    names = ["content", *(f"{kind}_{name}" for name in styles for kind in ("style", "art")), "strengths", "presets"]
    for name in names:
        check_target(folder / f"{name}.png", force)
    content = Image.fromarray(draw_content(width, round(width * 2 / 3)))
    total = 2 * len(styles) + len(STRENGTHS)
    done = 0

    def restyle(style: Image.Image, **settings) -> Image.Image:
        nonlocal done
        out = stylize(content, style, model=stylizer, **settings)
        done += 1
        progress(done, total)
        return out

    pictures = {"content": content}
    rows = []
    for name, style in styles.items():
        art, photo = restyle(style, preset="art"), restyle(style, preset="photo")
        pictures |= {f"style_{name}": style, f"art_{name}": art}
        rows.append([style, photo, art])
    first = next(iter(styles.values()))
    strip = [restyle(first, strength=s) for s in STRENGTHS]
    pictures["strengths"] = contact_strip(
        [content, *strip, first],
        ["content", *(f"strength {s:g}" for s in STRENGTHS), "style"],
        height=min(256, content.height),
    )
    pictures["presets"] = grid(rows, list(styles), ["style", "preset photo", "preset art"], cell=min(384, width))
    for name in names:
        write_picture(folder / f"{name}.png", read_picture(pictures[name]).pixels, force=force)
    return [folder / f"{name}.png" for name in names]
