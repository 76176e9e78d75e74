"""Style swap and decorator against the definition, Avatar-Net end to end."""

from __future__ import annotations

import pytest
import torch
from features import relative

from fastift import InvalidInputError, Stylizer, moments, patches
from fastift.avatar_net import avatar_net
from fastift.patches import style_decorator, style_swap


def naive_swap(content: torch.Tensor, style: torch.Tensor, size: int, stride: int) -> torch.Tensor:
    """Window by window."""
    total, count = torch.zeros_like(content), torch.zeros_like(content)
    _, _, h, w = style.shape
    windows = [
        style[0, :, i : i + size, j : j + size]
        for i in range(0, h - size + 1, stride)
        for j in range(0, w - size + 1, stride)
    ]
    for i in range(content.shape[2] - size + 1):
        for j in range(content.shape[3] - size + 1):
            here = content[0, :, i : i + size, j : j + size]
            best = max(windows, key=lambda v: float((v * here).sum() / v.norm()))
            total[0, :, i : i + size, j : j + size] += best
            count[0, :, i : i + size, j : j + size] += 1
    return total / count


@pytest.mark.parametrize(("size", "stride"), [(3, 1), (3, 2), (1, 1), (2, 3)])
@pytest.mark.parametrize("few_at_a_time", [False, True])
def test_swap_is_the_definition(size: int, stride: int, few_at_a_time: bool, monkeypatch) -> None:
    if few_at_a_time:
        monkeypatch.setattr(patches, "CHUNK_BYTES", 3 * 8 * 35)
    rng = torch.Generator().manual_seed(0)
    content = torch.randn(1, 4, 7, 9, generator=rng, dtype=torch.float64)
    style = torch.randn(1, 4, 8, 6, generator=rng, dtype=torch.float64)
    assert (
        relative(style_swap(content, style, patch=size, stride=stride), naive_swap(content, style, size, stride))
        < 1e-12
    )


def test_a_picture_of_its_own_patches_is_itself() -> None:
    x = torch.rand(1, 5, 12, 10, dtype=torch.float64)
    assert relative(style_swap(x, x), x) < 1e-12
    assert relative(style_decorator(x, x, eps=1e-9), x) < 1e-5


def test_decorated_features_have_the_styles_statistics_nearly() -> None:
    rng = torch.Generator().manual_seed(2)
    content = torch.rand(1, 6, 24, 24, generator=rng)
    style = torch.rand(1, 6, 20, 26, generator=rng) ** 2 + 0.3
    out = style_decorator(content, style)
    want = moments(style).gram
    assert relative(moments(out).gram, want) < 0.3 * relative(moments(content).gram, want)
    assert torch.equal(style_decorator(content, style, alpha=0.0), content)


def test_avatar_net_end_to_end(stylizer: Stylizer) -> None:
    rng = torch.Generator().manual_seed(0)
    content, style = torch.rand(2, 3, 50, 70, generator=rng), torch.rand(1, 3, 60, 45, generator=rng) ** 3
    with torch.no_grad():
        out = avatar_net(content, style, model=stylizer)
        plain = avatar_net(content, style, model=stylizer, strength=0.0)
    assert out.shape == content.shape
    assert torch.isfinite(out).all()
    want = float(style.mean())
    assert abs(float(out.mean()) - want) < abs(float(plain.mean()) - want)


def test_refusals(stylizer: Stylizer) -> None:
    f = torch.rand(1, 3, 8, 8)
    for bad, why in [
        (lambda: style_swap(f, f[:, :, :2]), "one patch"),
        (lambda: style_swap(f, f[:, :2]), "same C"),
        (lambda: style_swap(f, f, stride=0), "stride"),
        (lambda: style_swap(f.repeat(2, 1, 1, 1), f), r"\[1, C, H, W\]"),
        (lambda: style_swap(f * torch.nan, f), "finite"),
        (lambda: style_decorator(f, f, alpha=2), "alpha"),
        (lambda: avatar_net(torch.rand(1, 3, 32, 32), torch.rand(1, 3, 16, 16), model=stylizer), "at least 24 x 24"),
        (
            lambda: avatar_net(torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32), model=stylizer, strength=2),
            "strength",
        ),
    ]:
        with pytest.raises(InvalidInputError, match=why):
            bad()
