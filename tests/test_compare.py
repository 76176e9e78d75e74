"""Comparisons: metrics against their formulas, tables and sheets that hold what was run, the two commands."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from fastift import InvalidInputError, Stylizer
from fastift.art import draw_content, draw_styles
from fastift.cli import main
from fastift.colour import luminance
from fastift.compare import compare, plot, sheet, table
from fastift.metrics import ssim, style_distances


def naive_ssim(a: np.ndarray, b: np.ndarray, window: int = 7) -> float:
    """Window by window, as Wang et al. write it."""
    values = []
    for i in range(a.shape[0] - window + 1):
        for j in range(a.shape[1] - window + 1):
            x, y = (v[i : i + window, j : j + window].ravel() for v in (a, b))
            (var_x, cov), (_, var_y) = np.cov(x, y)
            top = (2 * x.mean() * y.mean() + 1e-4) * (2 * cov + 9e-4)
            values.append(top / ((x.mean() ** 2 + y.mean() ** 2 + 1e-4) * (var_x + var_y + 9e-4)))
    return float(np.mean(values))


def test_ssim_is_the_formula() -> None:
    rng = torch.Generator().manual_seed(0)
    a = torch.rand(2, 3, 17, 20, generator=rng)
    b = (a + 0.2 * torch.rand(2, 3, 17, 20, generator=rng)).clamp(0, 1)
    got = ssim(a, b)
    for i in range(2):
        want = naive_ssim(*(luminance(v.double())[i, 0].numpy() for v in (a, b)))
        assert abs(float(got[i]) - want) < 1e-9
    assert torch.allclose(ssim(a, a), torch.ones(2, dtype=torch.float64))
    with pytest.raises(InvalidInputError, match="of one size"):
        ssim(a, b[..., 1:])


@pytest.fixture(scope="module")
def pictures() -> tuple[Image.Image, Image.Image]:
    return Image.fromarray(draw_content(96, 64)), Image.fromarray(draw_styles(64)["mosaic"])


def test_distances_are_one_at_the_content_and_zero_at_the_style(stylizer: Stylizer, pictures) -> None:
    content, style = (stylizer.style(p) for p in pictures)
    assert all(abs(float(d) - 1) < 1e-6 for d in style_distances(content, style, content).values())
    assert all(float(d) < 1e-6 for d in style_distances(content, style, style).values())


def test_compare_runs_what_was_asked_for(stylizer: Stylizer, pictures) -> None:
    seen = []
    results = compare(
        *pictures, model=stylizer, size=48, transforms=("ift", "adain"), strengths=(0.0, 1.0), levels=(2, 1),
        progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert [(r.transform, r.strength) for r in results] == [("ift", 0.0), ("ift", 1.0), ("adain", 0.0), ("adain", 1.0)]
    assert seen[-1] == (4, 4)
    by = {(r.transform, r.strength): r for r in results}
    for transform in ("ift", "adain"):
        assert by[transform, 1.0].distance < by[transform, 0.0].distance
        assert by[transform, 1.0].ssim < by[transform, 0.0].ssim
    assert all(r.picture.size == (72, 48) and r.seconds > 0 for r in results)
    assert len(table(results)) == 5
    wide = sheet(results, *pictures, cell=40)
    narrow = sheet(results[1::2], *pictures, cell=40)
    assert wide.width > 4 * 40
    assert wide.height > 2 * 40
    assert narrow.width > 4 * 40
    assert plot(results).width > 300


def test_commands(pictures, tmp_path) -> None:
    content, style = tmp_path / "content.png", tmp_path / "style.png"
    for path, picture in zip((content, style), pictures, strict=True):
        picture.save(path)
    common = [str(content), str(style), "--size", "32", "--transforms", "ift,wct"]
    run = CliRunner().invoke(main, ["compare", *common, "-o", str(tmp_path / "c.png")])
    assert run.exit_code == 0, run.output
    assert "wct" in run.output
    with Image.open(tmp_path / "c.png") as made:
        assert made.width > 500
    swept = ["sweep", *common, "--strengths", "0.3,1", "--plot", str(tmp_path / "p.png"), "--json"]
    run = CliRunner().invoke(main, [*swept, "-o", str(tmp_path / "s.png")])
    assert run.exit_code == 0, run.output
    rows = json.loads(run.stdout)
    assert [(r["transform"], r["strength"]) for r in rows] == [("ift", 0.3), ("ift", 1.0), ("wct", 0.3), ("wct", 1.0)]
    assert (tmp_path / "p.png").is_file()
    again = CliRunner().invoke(main, [*swept, "-o", str(tmp_path / "s.png")])
    assert again.exit_code == 2
    assert "--force" in again.stderr
    wrong = CliRunner().invoke(main, ["compare", *common[:2], "--transforms", "magic", "-o", str(tmp_path / "x.png")])
    assert wrong.exit_code == 2
    assert "transform must be one of" in wrong.stderr
    assert not (tmp_path / "x.png").exists()
