"""The transform alone, all four levels in the widths of VGG-19 or slim: features in, restyled features out."""

from __future__ import annotations

import pytest
import torch
from baselines import loop, wct_by_svd

import fastift
from fastift import Moments, apply, moments

# small enough for the fixed step at 256 pixels, where it is least stable
LAM = {4: 1.0, 3: 5.0, 2: 50.0, 1: 500.0}

pytestmark = pytest.mark.parametrize("network", ["VGG-19", "slim"])


@pytest.fixture
def timed_alone(timed, benchmark, network: str):
    benchmark.group = f"transform, {network} widths"
    return timed


def style_moments(features) -> dict[int, Moments]:
    return {level: moments(s[None]) for level, _, s in features}


def mapped(features, styles: dict[int, Moments], solve) -> list[torch.Tensor]:
    """The whole way: moments, map, and the map over the pixels, which a decoder behind it would save."""
    return [apply(f[None], solve(level, moments(f[None]), styles[level])) for level, f, _ in features]


@pytest.mark.parametrize("n_upd", [15, 150])
def bench_ift_collapsed(timed_alone, level_features, network: str, size: int, n_upd: int) -> None:
    features = level_features(network, size)
    styles = style_moments(features)

    def solve(level: int, content: Moments, style: Moments) -> fastift.Affine:
        return fastift.ift(content, style, lam=LAM[level], n_upd=n_upd)

    out = timed_alone(lambda: mapped(features, styles, solve), size=size, system=f"ift, n_upd {n_upd}")
    level, f, s = features[0]
    want = loop(f, s, lam=LAM[level], n_upd=n_upd)
    assert float((out[0][0] - want).norm() / want.norm()) < 1e-4


@pytest.mark.parametrize("compiled", [False, True])
def bench_ift_loop(timed_alone, level_features, network: str, size: int, compiled: bool) -> None:
    features = level_features(network, size)
    run = torch.compile(loop, dynamic=False) if compiled else loop
    out = timed_alone(
        lambda: [run(f, s, lam=LAM[n]) for n, f, s in features],
        rounds=3,
        size=size,
        system="loop, n_upd 15" + (", torch.compile" if compiled else ""),
    )
    level, f, s = features[-1]
    want = loop(f, s, lam=LAM[level])
    assert float((out[-1] - want).norm() / want.norm()) < 1e-4
    torch._dynamo.reset()


@pytest.mark.parametrize("transform", ["ift_scale_free", "ift_line_search", "wct", "ot", "adain"])
def bench_other_maps(timed_alone, level_features, network: str, size: int, transform: str) -> None:
    features = level_features(network, size)
    styles = style_moments(features)
    solver = getattr(fastift, transform)

    def solve(level: int, content: Moments, style: Moments) -> fastift.Affine:
        return solver(content, style, lam=None, n_upd=20) if transform == "ift_line_search" else solver(content, style)

    out = timed_alone(lambda: mapped(features, styles, solve), rounds=3, size=size, system=transform)
    for (level, f, _), got in zip(features, out, strict=True):
        assert fastift.gram_distance(fastift.Affine.identity(got), moments(got), styles[level]) < fastift.gram_distance(
            fastift.Affine.identity(got), moments(f[None]), styles[level]
        )


def bench_wct_by_svd(timed_alone, level_features, network: str, size: int) -> None:
    features = level_features(network, size)
    out = timed_alone(
        lambda: [wct_by_svd(f, s) for _, f, s in features], rounds=3, size=size, system="wct by svd, float64"
    )
    assert all(torch.isfinite(o).all() for o in out)
