"""The transform alone, all four levels of VGG-19's widths: features in, restyled features out."""

from __future__ import annotations

import pytest
import torch
from baselines import loop, wct_by_svd

import fastift
from fastift import Moments, apply, moments

# small enough for the fixed step at 256 pixels, where it is least stable
LAM = {4: 1.0, 3: 5.0, 2: 50.0, 1: 500.0}


def collapsed(features, styles: dict[int, Moments], n_upd: int) -> list[torch.Tensor]:
    out = []
    for level, f, _ in features:
        x = f[None]
        out.append(apply(x, fastift.ift(moments(x), styles[level], lam=LAM[level], n_upd=n_upd)))
    return out


def style_moments(features) -> dict[int, Moments]:
    return {level: moments(s[None]) for level, _, s in features}


@pytest.mark.parametrize("n_upd", [15, 150])
@pytest.mark.benchmark(group="transform, VGG-19 widths")
def bench_ift_collapsed(timed, vgg_features, size: int, n_upd: int) -> None:
    features = vgg_features(size)
    styles = style_moments(features)
    out = timed(lambda: collapsed(features, styles, n_upd), size=size, system=f"ift, n_upd {n_upd}")
    level, f, s = features[0]
    want = loop(f, s, lam=LAM[level], n_upd=n_upd)
    assert float((out[0][0] - want).norm() / want.norm()) < 1e-4


@pytest.mark.benchmark(group="transform, VGG-19 widths")
def bench_ift_loop(timed, vgg_features, size: int) -> None:
    features = vgg_features(size)
    out = timed(lambda: [loop(f, s, lam=LAM[n]) for n, f, s in features], rounds=3, size=size, system="loop, n_upd 15")
    assert all(torch.isfinite(o).all() for o in out)


@pytest.mark.parametrize("transform", ["wct", "ot", "adain", "ift_scale_free"])
@pytest.mark.benchmark(group="transform, VGG-19 widths")
def bench_other_maps(timed, vgg_features, size: int, transform: str) -> None:
    features = vgg_features(size)
    styles = style_moments(features)
    solve = getattr(fastift, transform)
    out = timed(
        lambda: [apply(f[None], solve(moments(f[None]), styles[n])) for n, f, _ in features],
        rounds=3,
        size=size,
        system=transform,
    )
    assert all(torch.isfinite(o).all() for o in out)


@pytest.mark.benchmark(group="transform, VGG-19 widths")
def bench_wct_by_svd(timed, vgg_features, size: int) -> None:
    features = vgg_features(size)
    out = timed(lambda: [wct_by_svd(f, s) for _, f, s in features], rounds=3, size=size, system="wct by svd, float64")
    assert all(torch.isfinite(o).all() for o in out)
