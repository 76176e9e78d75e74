"""IFT: the collapsed iteration against the paper's loop, the scale-free mode's promises, and input that breaks naive code."""

from __future__ import annotations

import itertools

import pytest
import torch
from features import features, relative
from hypothesis import given, settings
from hypothesis import strategies as st

from fastift import (
    DivergenceError,
    InvalidInputError,
    Moments,
    apply,
    gram_distance,
    ift,
    ift_loop,
    ift_scale_free,
    largest_stable_lam,
    moments,
)
from fastift.transform.pair import sigma_max


def objective(f: torch.Tensor, anchor: torch.Tensor, style: Moments, lam: float) -> torch.Tensor:
    """The paper's eq. 1."""
    gram = f @ f.mT / f.shape[-1]
    return (f - anchor).square().sum() + lam * (gram - style.gram).square().sum()


def test_loop_is_gradient_descent_on_the_paper_objective() -> None:
    f, style, lam, lr = features(5, 40), moments(features(5, 60, seed=1)), 30.0, 1e-3
    x = f.clone().requires_grad_()
    for _ in range(2):
        (gradient,) = torch.autograd.grad(objective(x, f, style, lam), x)
        x = (x - lr * gradient).detach().requires_grad_()
    assert relative(ift_loop(f, style, lam=lam, lr=lr, n_upd=2), x.detach()) < 1e-14


@pytest.mark.parametrize(("channels", "pixels"), [(3, 1), (60, 63), (64, 4096), (128, 100), (128, 2000)])
@pytest.mark.parametrize(("n_upd", "n_iter"), [(15, 1), (15, 3), (100, 1)])
@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 2e-6)], ids=["float64", "float32"]
)
def test_collapsed_equals_loop(
    channels: int, pixels: int, n_upd: int, n_iter: int, dtype: torch.dtype, bound: float
) -> None:
    f = features(channels, pixels, batch=2, dtype=dtype)
    style = moments(features(channels, 500, seed=1, dtype=dtype))
    content = moments(f)
    lam = 0.5 * largest_stable_lam(content, style)
    loop = ift_loop(f.double(), Moments(*(t.double() for t in style)), lam=lam, n_upd=n_upd, n_iter=n_iter)
    assert relative(apply(f, ift(content, style, lam=lam, n_upd=n_upd, n_iter=n_iter)), loop) < bound


def test_paper_mode_lowers_the_objective_each_update() -> None:
    f, style = features(16, 300), moments(features(16, 200, seed=1))
    lam = 0.4 * largest_stable_lam(moments(f), style)
    values = [float(objective(ift_loop(f, style, lam=lam, n_upd=k), f, style, lam)) for k in (1, 2, 5, 10, 20)]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("factor", [3.0, 30.0, 1e4, 1e30])
def test_divergence_is_an_error_that_names_a_stable_lam(factor: float) -> None:
    content, style = moments(features(32, 900)), moments(features(32, 900, seed=1) * 1.5)
    stable = largest_stable_lam(content, style)
    with pytest.raises(DivergenceError, match=r"lam = .* diverge .*32 channels, 900 pixels.*expected lam <= "):
        ift(content, style, lam=factor * stable, n_upd=100)
    ift(content, style, lam=0.99 * stable, n_upd=100)


def test_n_of_the_whole_image_can_be_given() -> None:
    content, style = moments(features(8, 100)), moments(features(8, 100, seed=1))
    a = ift(content, style, lam=1.0, n=400)
    assert torch.allclose(a.weight, ift(content, style, lam=0.25).weight, rtol=1e-14)


STRENGTHS = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_distance_falls_with_strength_at_any_scale(scale: float, dtype: torch.dtype) -> None:
    content = moments((features(32, 900) * scale**0.5).to(dtype))
    style = moments((features(32, 900, seed=1) * scale**0.5).to(dtype))
    distances = [float(gram_distance(ift_scale_free(content, style, strength=s), content, style)) for s in STRENGTHS]
    assert all(a > b for a, b in itertools.pairwise(distances)), distances
    assert distances[-1] < 0.2 * distances[0]


def test_strength_zero_is_exactly_the_identity() -> None:
    content, style = moments(features(32, 900)), moments(features(32, 900, seed=1))
    a = ift_scale_free(content, style, strength=0)
    assert torch.equal(a.weight[0], torch.eye(32, dtype=torch.float64))
    assert not a.bias.any()


def test_same_style_is_the_identity() -> None:
    m = moments(features(32, 900))
    assert (
        relative(ift_scale_free(m, m).weight[0], torch.eye(32)) < 0.02
    )  # the floor under the eigenvalues is all that moves it
    assert relative(ift(m, m, lam=0.5 * largest_stable_lam(m, m)).weight[0], torch.eye(32)) < 1e-12


def test_number_of_pixels_does_not_matter() -> None:
    f, style = features(16, 400), moments(features(16, 200, seed=1))
    once = ift_scale_free(moments(f), style, strength=0.6)
    tiled = ift_scale_free(moments(f.repeat(1, 1, 16)), style, strength=0.6)
    assert relative(tiled.weight, once.weight) < 1e-12


HARD = {
    "dead channels": lambda dt: (features(32, 900, dead=20, dtype=dt), features(32, 900, seed=1, dtype=dt)),
    "dead in the style": lambda dt: (features(32, 900, dtype=dt), features(32, 900, seed=1, dead=20, dtype=dt)),
    "rank 1": lambda dt: (features(32, 900, rank=1, dtype=dt), features(32, 900, seed=1, dtype=dt)),
    "fewer pixels than channels": lambda dt: (features(32, 4, dtype=dt), features(32, 5, seed=1, dtype=dt)),
    "one pixel": lambda dt: (features(32, 1, dtype=dt), features(32, 1, seed=1, dtype=dt)),
    "constant": lambda dt: (torch.ones(1, 32, 900, dtype=dt), features(32, 900, seed=1, dtype=dt)),
    "black": lambda dt: (torch.zeros(1, 32, 900, dtype=dt), features(32, 900, seed=1, dtype=dt)),
    "black style": lambda dt: (features(32, 900, dtype=dt), torch.zeros(1, 32, 900, dtype=dt)),
    "both black": lambda dt: (torch.zeros(1, 32, 9, dtype=dt), torch.zeros(1, 32, 9, dtype=dt)),
    "very different scales": lambda dt: (1e-5 * features(32, 900, dtype=dt), 1e5 * features(32, 900, seed=1, dtype=dt)),
}


@pytest.mark.parametrize("case", HARD)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_hard_input_stays_finite_and_does_not_move_away(case: str, dtype: torch.dtype) -> None:
    f, g = HARD[case](dtype)
    content, style = moments(f), moments(g)
    for strength in (0.3, 1.0):
        a = ift_scale_free(content, style, strength=strength)
        assert torch.isfinite(a.weight).all()
        assert torch.isfinite(apply(f, a)).all()
        before = torch.linalg.matrix_norm(content.gram - style.gram)
        assert float(gram_distance(a, content, style)) <= float(before) * 1.001


@given(
    st.integers(1, 24),
    st.integers(1, 60),
    st.integers(0, 2**16),
    st.floats(0, 1),
    st.integers(-12, 12),
    st.integers(-12, 12),
)
@settings(max_examples=60, deadline=None)
def test_any_features_give_a_finite_map_that_does_not_move_away(c, n, seed, strength, scale_a, scale_b) -> None:
    content = moments(features(c, n, seed=seed) * 10.0 ** (scale_a / 2))
    style = moments(features(c, n + 3, seed=seed + 1) * 10.0 ** (scale_b / 2))
    a = ift_scale_free(content, style, strength=strength)
    assert torch.isfinite(a.weight).all()
    assert float(gram_distance(a, content, style)) <= 1.001 * float(torch.linalg.matrix_norm(content.gram - style.gram))


@pytest.mark.parametrize("channels", [1, 3, 60, 128])
def test_sigma_max(channels: int) -> None:
    gram = moments(features(channels, 300, batch=3)).gram
    want = torch.linalg.eigvalsh(gram)[:, -1]
    assert relative(sigma_max(gram), want) < 1e-6
    signed = torch.randn(2, channels, 2 * channels, dtype=torch.float64)
    got, want = sigma_max(moments(signed).gram), torch.linalg.eigvalsh(moments(signed).gram)[:, -1]
    assert (got <= want * (1 + 1e-12)).all()
    assert (got > 0.7 * want).all()  # from below: what the step's margin kappa is for


def test_batch_equals_singles_and_one_style_serves_all() -> None:
    f, style = features(12, 80, batch=3), moments(features(12, 70, seed=1))
    together = ift_scale_free(moments(f), style, strength=0.7).weight
    for i in range(3):
        assert relative(together[i : i + 1], ift_scale_free(moments(f[i : i + 1]), style, strength=0.7).weight) < 1e-13


def test_gradients_flow_to_both_pictures() -> None:
    f = torch.rand(1, 3, 6, dtype=torch.float64, requires_grad=True)
    g = torch.rand(1, 3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda f, g: apply(f, ift(moments(f), moments(g), lam=1.0, n_upd=3)), (f, g))
    assert torch.autograd.gradcheck(lambda f, g: apply(f, ift_scale_free(moments(f), moments(g), strength=0.3)), (f, g))


def test_autocast_changes_nothing() -> None:
    content, style = (
        moments(features(32, 900, dtype=torch.float32)),
        moments(features(32, 900, seed=1, dtype=torch.float32)),
    )
    with torch.autocast("cpu", torch.bfloat16):
        inside = ift_scale_free(content, style)
    assert torch.equal(inside.weight, ift_scale_free(content, style).weight)


@pytest.mark.slow
def test_compiles_as_one_graph() -> None:
    def restyle(f: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        content, style = moments(f), moments(g)
        return apply(apply(f, ift(content, style, lam=10.0)), ift_scale_free(content, style, strength=0.5))

    f, g = features(16, 200, dtype=torch.float32), features(16, 100, seed=1, dtype=torch.float32)
    assert relative(torch.compile(restyle, fullgraph=True)(f, g), restyle(f, g)) < 1e-5


M3, M4 = moments(torch.rand(1, 3, 9)), moments(torch.rand(1, 4, 9))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: ift(M3, M4, lam=1.0), "must have the same C, got 3 and 4"),
        (lambda: ift(M3, torch.ones(3, 3), lam=1.0), "style must be fastift.Moments, got Tensor"),
        (lambda: ift(M3, M3, lam=-1.0), "lam must be finite and not negative, got -1"),
        (lambda: ift(M3, M3, lam=float("nan")), "lam must be finite"),
        (lambda: ift(M3, M3, lam=1.0, lr=0), "lr must be finite and positive"),
        (lambda: ift(M3, M3, lam=1.0, n_upd=0), "n_upd and n_iter must be at least 1"),
        (
            lambda: ift(moments(torch.rand(2, 3, 9)), moments(torch.rand(3, 3, 9)), lam=1.0),
            "style must hold 1 or 2 samples",
        ),
        (lambda: ift(moments(torch.full((1, 3, 9), float("nan"))), M3, lam=1.0), "Gram of content must be finite"),
        (lambda: ift_scale_free(M3, M3, strength=1.1), r"strength must lie in \[0, 1\], got 1.1"),
        (lambda: ift_scale_free(M3, M3, strength=float("nan")), "strength must lie"),
        (lambda: ift_scale_free(M3, M3, kappa=2), "kappa must lie"),
        (lambda: ift_scale_free(M3, M3, eps=0), "eps must lie"),
        (lambda: ift_scale_free(M3, M3, n_upd=0), "n_upd must be at least 1"),
        (lambda: ift_loop(torch.rand(3, 9), M3, lam=1.0), r"features must be \[B, C, N\]"),
    ],
)
def test_refusals(call, says: str) -> None:
    with pytest.raises(InvalidInputError, match=says):
        call()
