"""WCT, optimal transport, AdaIN and line search: moments after the map, against float64, on features that break naive code."""

from __future__ import annotations

import itertools

import pytest
import torch
from features import features, relative

import fastift
from fastift import InvalidInputError, Moments, gram_distance, ift_line_search, moments
from fastift.transform.line_search import _cubic_roots

MAPS = {"wct": fastift.wct, "ot": fastift.ot, "adain": fastift.adain}


def pair(
    channels: int, pixels: int, *, dtype=torch.float64, batch: int = 1, **kinds
) -> tuple[torch.Tensor, Moments, Moments]:
    f, g = (features(channels, pixels, seed=s, dtype=dtype, batch=batch, **kinds) for s in (1, 2))
    return f, moments(f), moments(g)


def mapped(f: torch.Tensor, affine: fastift.Affine) -> Moments:
    return moments(fastift.apply(f, affine))


@pytest.mark.parametrize("name", ["wct", "ot"])
@pytest.mark.parametrize(("channels", "pixels"), [(3, 50), (17, 400), (64, 3000)])
def test_mean_and_covariance_become_the_styles(name: str, channels: int, pixels: int) -> None:
    f, content, style = pair(channels, pixels)
    out = mapped(f, MAPS[name](content, style, eps=1e-12))
    assert relative(out.mean, style.mean) < 1e-9
    assert relative(out.cov, style.cov) < 2e-3 * (channels == 64) + 1e-6


@pytest.mark.parametrize("name", ["wct", "ot"])
def test_rank_deficient_content_gets_the_styles_covariance_on_what_it_has(name: str) -> None:
    """Content of rank 5 in 12 channels, style in the same span: the span's covariance is the style's, nothing is added to it."""
    rng = torch.Generator().manual_seed(3)
    basis = torch.linalg.qr(torch.randn(12, 5, generator=rng, dtype=torch.float64))[0]

    def spanned() -> torch.Tensor:
        mix = torch.randn(5, 5, generator=rng, dtype=torch.float64)
        return basis @ mix @ torch.randn(5, 300, generator=rng, dtype=torch.float64)

    f, g = spanned(), spanned()
    content, style = moments(f[None]), moments(g[None])
    out = mapped(f[None], MAPS[name](content, style, eps=1e-10))
    assert relative(out.cov, style.cov) < 1e-5


def test_adain_gives_each_channel_the_styles_mean_and_variance() -> None:
    f, content, style = pair(20, 500)
    out = mapped(f, fastift.adain(content, style, eps=1e-12))
    assert relative(out.mean, style.mean) < 1e-9
    assert relative(out.cov.diagonal(dim1=1, dim2=2), style.cov.diagonal(dim1=1, dim2=2)) < 1e-9


def test_transport_is_symmetric_positive_definite_and_moves_less_than_whitening() -> None:
    f, content, style = pair(16, 800)
    t = fastift.ot(content, style, eps=1e-6)
    assert torch.equal(t.weight, t.weight.mT)
    assert float(torch.linalg.eigvalsh(t.weight).min()) > 0
    moved = {name: float((fastift.apply(f, MAPS[name](content, style, eps=1e-6)) - f).norm()) for name in ("ot", "wct")}
    assert moved["ot"] < moved["wct"]


def test_transport_composes_along_its_way() -> None:
    """alpha walks the geodesic: half way, then the rest, is the whole."""
    f, content, style = pair(6, 300)
    whole = fastift.apply(f, fastift.ot(content, style, eps=1e-12))
    half = fastift.apply(f, fastift.ot(content, style, alpha=0.5, eps=1e-12))
    rest = fastift.apply(half, fastift.ot(moments(half), style, eps=1e-12))
    assert relative(rest, whole) < 1e-6


@pytest.mark.parametrize("name", sorted(MAPS))
@pytest.mark.parametrize(
    "case", ["rank 1", "dead channels", "few pixels", "one pixel", "constant", "black", "1e-12", "1e12"]
)
def test_maps_stay_finite_and_tame(name: str, case: str) -> None:
    kinds = {"rank 1": {"rank": 1}, "dead channels": {"dead": 12}}.get(case, {})
    pixels = {"few pixels": 5, "one pixel": 1}.get(case, 200)
    f, content, style = pair(16, pixels, dtype=torch.float32, **kinds)
    if case in ("constant", "black"):
        f = torch.full_like(f, 0.0 if case == "black" else 0.7)
    f = f * {"1e-12": 1e-12, "1e12": 1e12}.get(case, 1.0)
    content = moments(f)
    affine = MAPS[name](content, style)
    out = fastift.apply(f, affine)
    assert torch.isfinite(affine.weight).all()
    assert torch.isfinite(out).all()
    # nothing grows far beyond what the style has
    assert float(out.norm()) < 10 * float((style.gram.diagonal(dim1=1, dim2=2).sum() * pixels).sqrt())


@pytest.mark.parametrize("name", sorted(MAPS))
def test_dead_channels_are_not_amplified(name: str) -> None:
    """Round-off in a channel that neither side uses must not come out larger than the strongest channels' gain allows."""
    f, _, style = pair(16, 400, dtype=torch.float32, dead=8)
    noisy = f + 1e-6 * torch.randn(f.shape, generator=torch.Generator().manual_seed(0))
    out = fastift.apply(noisy, MAPS[name](moments(noisy), style))
    both_dead = (f.abs().amax((0, 2)) == 0) & (style.gram.diagonal(dim1=1, dim2=2)[0] == 0)
    assert both_dead.any()
    assert float((out - out.mean(2, keepdim=True))[:, both_dead].abs().max()) < 1e-3


@pytest.mark.parametrize("name", sorted(MAPS))
def test_equal_moments_give_the_identity_and_alpha_zero_too(name: str) -> None:
    _, content, style = pair(10, 300)
    eye = torch.eye(10, dtype=torch.float64)
    for affine in (MAPS[name](content, content), MAPS[name](content, style, alpha=0.0)):
        assert float((affine.weight - eye).abs().max()) < 1e-7
        assert float(affine.bias.abs().max()) < 1e-6


@pytest.mark.parametrize("name", sorted(MAPS))
def test_float32_follows_float64(name: str) -> None:
    f, content, style = pair(24, 900)
    want = MAPS[name](content, style)
    got = MAPS[name](moments(f.float()), Moments(*(t.float() for t in style)))
    assert relative(fastift.apply(f.float(), got), fastift.apply(f, want)) < 2e-3


@pytest.mark.parametrize("name", sorted(MAPS))
def test_gradients(name: str) -> None:
    f, _, style = pair(3, 20)
    x = f.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: fastift.apply(x, MAPS[name](moments(x), style, eps=1e-2)), (x,))


@pytest.mark.parametrize("name", sorted(MAPS))
def test_batches_are_their_samples(name: str) -> None:
    _, content, style = pair(7, 60, batch=3)
    together = MAPS[name](content, style)
    for i in range(3):
        alone = MAPS[name](Moments(*(t[i : i + 1] for t in content)), Moments(*(t[i : i + 1] for t in style)))
        assert relative(together.weight[i : i + 1], alone.weight) < 1e-9


def objective(a: torch.Tensor, anchor: torch.Tensor, content: Moments, style: Moments, lam: float) -> float:
    """Paper, eq. 1, for F = A F_c."""
    e = a - anchor
    n = float(content.n[0])
    near = n * float((e @ content.gram * e).sum())
    return near + lam * float((a @ content.gram @ a.mT - style.gram).square().sum())


@pytest.mark.parametrize("lam", [1e-3, 1.0, 1e3, 1e6])
@pytest.mark.parametrize("kinds", [{}, {"rank": 2}, {"dead": 5}])
def test_line_search_never_increases_the_objective(lam: float, kinds: dict) -> None:
    _, content, style = pair(9, 120, **kinds)
    eye = torch.eye(9, dtype=torch.float64)[None]
    values = [objective(eye, eye, content, style, lam)]
    values += [
        objective(ift_line_search(content, style, lam=lam, n_upd=k).weight, eye, content, style, lam)
        for k in range(1, 8)
    ]
    assert all(b <= a * (1 + 1e-12) for a, b in itertools.pairwise(values))
    assert values[-1] < values[0]


def test_a_line_search_step_is_the_best_of_its_line() -> None:
    _, content, style = pair(6, 80)
    lam, eye = 50.0, torch.eye(6, dtype=torch.float64)[None]
    a = ift_line_search(content, style, lam=lam).weight
    found = objective(a, eye, content, style, lam)
    for factor in torch.linspace(-1, 3, 41).tolist():
        assert objective(eye + factor * (a - eye), eye, content, style, lam) >= found * (1 - 1e-12)


def test_line_search_toward_the_style_alone_reaches_it() -> None:
    """With the style term alone IFT approaches what whitening reaches at once, a Gram distance of zero (the paper's note 1)."""
    _, content, style = pair(8, 2000)
    start = torch.linalg.matrix_norm(content.gram - style.gram)
    far = [
        float(gram_distance(ift_line_search(content, style, lam=1e9, n_upd=k), content, style) / start)
        for k in (1, 10, 3000)
    ]
    assert far[0] > far[1] > far[2]
    assert far[2] < 5e-3


def test_line_search_reanchors_and_has_gradients() -> None:
    f, content, style = pair(4, 30)
    once, twice = (ift_line_search(content, style, lam=20.0, n_upd=2, n_iter=k) for k in (1, 2))
    assert gram_distance(twice, content, style) < gram_distance(once, content, style)
    x = f.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: ift_line_search(moments(x), style, lam=20.0, n_upd=2).weight, (x,))


@pytest.mark.parametrize("roots", [(1.0, 2.0, 3.0), (-4.0, 0.0, 0.5), (2.0, 2.0, 2.0), (1e-6, 1.0, 1e6)])
def test_cubics_give_their_roots(roots: tuple[float, float, float]) -> None:
    r, s, t = roots
    monic = (1.0, -(r + s + t), r * s + s * t + t * r, -r * s * t)
    coefficients = [torch.tensor([2 * c], dtype=torch.float64) for c in monic]
    found = _cubic_roots(*coefficients)[0]
    for root in roots:
        assert float((found - root).abs().min()) < 1e-4 * max(1, abs(root))


def test_a_cubic_with_one_real_root() -> None:
    found = _cubic_roots(*(torch.tensor([c], dtype=torch.float64) for c in (1.0, 0.0, 1.0, -2.0)))
    assert float((found - 1).abs().min()) < 1e-12


def test_refusals() -> None:
    _, content, style = pair(4, 20)
    other = Moments(style.n, style.mean[:, :3], style.gram[:, :3, :3])
    for transform in (fastift.wct, fastift.ot, fastift.adain):
        with pytest.raises(InvalidInputError, match=r"alpha must lie in \[0, 1\]"):
            transform(content, style, alpha=1.5)
        with pytest.raises(InvalidInputError, match="eps must lie in"):
            transform(content, style, eps=0.0)
        with pytest.raises(InvalidInputError, match="same C"):
            transform(content, other)
    with pytest.raises(InvalidInputError, match="lam must be finite and positive"):
        ift_line_search(content, style, lam=-1.0)
    with pytest.raises(InvalidInputError, match="n_upd and n_iter"):
        ift_line_search(content, style, lam=1.0, n_upd=0)
