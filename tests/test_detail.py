"""Skips: detail has no contrast of its own, and completes features that lack it."""

from __future__ import annotations

import torch
import torch.nn.functional as nnf
from features import relative

from fastift.detail import detail, enlarged, next_octave, with_detail


def test_constant_and_dead_channels_have_no_detail() -> None:
    tap, features = torch.rand(2, 2, 5, 32, 32, dtype=torch.float64)
    tap[:, 2], tap[:, 3] = 0, 0.3
    done = with_detail(features, detail(tap))
    assert torch.isfinite(done).all()
    assert relative(done[:, 2:4], enlarged(nnf.avg_pool2d(features, 2), features)[:, 2:4]) < 1e-12
    tap[:, 2] = 1e-6 * torch.rand(32, 32)  # almost dead: it must not become amplified round-off
    assert relative(with_detail(features, detail(tap))[:, 2], done[:, 2]) < 1e-5


def test_features_right_in_all_octaves_but_the_finest_become_the_tap() -> None:
    tap, noise = torch.rand(2, 1, 4, 24, 20, dtype=torch.float64)
    finest = noise - nnf.interpolate(nnf.avg_pool2d(noise, 2), scale_factor=2)  # pooling sees none of it
    assert relative(with_detail(tap + finest, detail(tap)), tap) < 1e-12


def test_contrast_comes_from_the_features() -> None:
    tap, features = torch.rand(2, 1, 5, 16, 20, dtype=torch.float64)
    once, half = (with_detail(f, detail(tap)) for f in (features, 0.5 * features))
    assert relative(half, 0.5 * once) < 1e-12
    assert relative(with_detail(features, detail(7 * tap + 1)), once) < 1e-12
    assert next_octave(torch.ones(1, 2, 8, 8)).max() < 1e-6
    flat = torch.ones(1, 2, 8, 8, requires_grad=True)
    next_octave(flat).sum().backward()
    assert torch.isfinite(flat.grad).all()
