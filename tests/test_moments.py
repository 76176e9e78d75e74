"""Moments: definition, exact addition, weights, blending, precision, refusals."""

from __future__ import annotations

import pytest
import torch
from features import features, relative

from fastift import InvalidInputError, Moments, blend, moments


@pytest.mark.parametrize("shape", [(1, 3, 1), (2, 60, 63), (1, 64, 1000), (1, 5, 7, 9)], ids=str)
@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float64, 1e-14), (torch.float32, 2e-6)], ids=["float64", "float32"]
)
def test_definition(shape: tuple[int, ...], dtype: torch.dtype, bound: float) -> None:
    x = torch.randn(shape, dtype=dtype)
    m, f = moments(x), x.double().flatten(2)
    n = f.shape[2]
    assert m.n.tolist() == [n] * shape[0]
    assert relative(m.mean, f.sum(2) / n) < bound
    assert relative(m.gram, torch.einsum("bin,bjn->bij", f, f) / n) < bound
    assert torch.equal(m.gram, m.gram.mT) or relative(m.gram, m.gram.mT) < bound
    assert m.gram.dtype == dtype


def test_covariance_is_that_of_torch() -> None:
    x = features(9, 200)
    assert relative(moments(x).cov[0], torch.cov(x[0], correction=0)) < 1e-12


def test_parts_add_up_exactly() -> None:
    x = features(17, 1001, batch=2)
    whole, parts = moments(x), sum(moments(p) for p in x.split([1, 300, 700], 2))
    assert isinstance(parts, Moments)
    for a, b in zip(parts, whole, strict=True):
        assert relative(a, b) < 1e-14


def test_weights_are_fractional_pixels() -> None:
    x, w = features(8, 50), torch.rand(1, 50, dtype=torch.float64)
    weighted = moments(x, w)
    assert relative(weighted.mean, (x * w[:, None]).sum(2) / w.sum()) < 1e-14
    split = moments(x, w) + moments(x, 1 - w)
    for a, b in zip(split, moments(x), strict=True):
        assert relative(a, b) < 1e-14
    hard = torch.zeros(1, 50, dtype=torch.float64)
    hard[:, 10:20] = 1
    for a, b in zip(moments(x, hard), moments(x[:, :, 10:20]), strict=True):
        assert relative(a, b) < 1e-14


def test_empty_region_is_zero_and_adds_nothing() -> None:
    x = features(8, 50)
    empty = moments(x, torch.zeros(1, 50, dtype=torch.float64))
    assert all(float(t.abs().max()) == 0 for t in empty)
    for a, b in zip(empty + moments(x), moments(x), strict=True):
        assert relative(a, b) < 1e-14
    assert all(torch.isfinite(t).all() for t in empty + empty)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_accumulates_in_float32(dtype: torch.dtype) -> None:
    x = (100 * features(16, 4000)).to(dtype)  # sums far beyond float16
    m = moments(x)
    assert m.gram.dtype == torch.float32
    assert relative(m.gram, moments(x.double()).gram) < 1e-6


def test_autocast_does_not_lower_precision() -> None:
    x = features(16, 500, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        inside = moments(x)
    assert torch.equal(inside.gram, moments(x).gram)


@pytest.mark.parametrize(
    "make",
    [lambda x: x.transpose(2, 3), lambda x: x[:, ::2], lambda x: x[..., ::3]],
    ids=["transposed", "channels", "columns"],
)
def test_views(make) -> None:
    x = make(torch.randn(2, 6, 8, 9, dtype=torch.float64))
    assert relative(moments(x).gram, moments(x.clone(memory_format=torch.contiguous_format)).gram) < 1e-14


def test_gradient() -> None:
    x = torch.randn(2, 3, 7, dtype=torch.float64, requires_grad=True)
    w = torch.rand(2, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: tuple(moments(x)[1:]), (x,))
    assert torch.autograd.gradcheck(lambda x, w: tuple(moments(x, w)), (x, w))


def test_blend_is_the_weighted_gram() -> None:
    a, b = moments(features(6, 40, seed=1)), moments(features(6, 90, seed=2))
    both = blend([a, b], [3, 1])
    assert relative(both.gram, 0.75 * a.gram + 0.25 * b.gram) < 1e-14
    assert relative(blend([a, b], [6, 2]).gram, both.gram) < 1e-14
    assert relative(blend([a, a], [1, 5]).gram, a.gram) < 1e-14


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (
            lambda: moments(torch.randn(64, 63)),
            r"x must be a floating-point tensor \[B, C, N\].*got torch.float32 \(64, 63\)",
        ),
        (lambda: moments(torch.ones(1, 2, 3, dtype=torch.int64)), "got torch.int64"),
        (lambda: moments([1.0]), "got list"),
        (lambda: moments(torch.ones(1, 2, 0)), "must not be empty"),
        (lambda: moments(torch.ones(1, 2, 3), torch.ones(1, 4)), r"weight must be \(1, 3\).*got \(1, 4\)"),
        (lambda: blend([], []), "got 0 styles"),
        (lambda: blend([moments(torch.ones(1, 2, 3))], [-1]), "weights must be finite, not negative"),
        (lambda: blend([moments(torch.ones(1, 2, 3))], [0]), "sum to more than 0"),
        (lambda: blend([moments(torch.ones(1, 2, 3))], [float("nan")]), "weights must be finite"),
    ],
)
def test_refusals(call, says: str) -> None:
    with pytest.raises(InvalidInputError, match=says):
        call()
