"""The C++ operations on C x C matrices against float64: shapes, ranks, scales, layouts, bad input, determinism, registration."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest
import torch
from features import features, relative

from fastift import InvalidInputError, _build, backend, native, ops, reference

WHY = _build.why_not()
pytestmark = pytest.mark.skipif(WHY is not None, reason=f"the C++ library cannot be built here: {WHY}")

CHANNELS = [1, 3, 17, 60, 128, 257]
# relative error in the norm; the reference in float32 reaches 5e-7 on the same input
BOUNDS = {torch.float32: 2e-7, torch.float64: 1e-12}


def grams(channels: int, kind: str, batch: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Gram and style [batch, C, C] in float64, scaled like scale-free mode scales them."""
    few = max(1, channels // 3)
    gram, style = (reference.moments(features(channels, 700, seed=s, batch=batch))[2] for s in (0, 1))
    if kind == "dead":  # the same channels in both, some more in one
        for i, m in enumerate((gram, style)):
            m[:, ::3] = 0
            m[:, :, ::3] = 0
            m[:, : few * i] = 0
            m[:, :, : few * i] = 0
    elif kind == "rank":
        gram = reference.moments(features(channels, 700, rank=few, batch=batch))[2]
    elif kind == "rank 1":
        gram = gram[:, :1].mT * gram[:, :1]
    elif kind == "zero":
        gram = 0 * gram
    elif kind == "asymmetric":
        gram, style = gram + 0.1 * gram.triu(1), style - 0.1 * style.triu(1)
    top = max(float(torch.linalg.matrix_norm(m, 2).max()) for m in (gram, style))
    return gram / max(top, 1e-30), style / max(top, 1e-30)


@pytest.mark.parametrize("dtype", list(BOUNDS), ids=str)
@pytest.mark.parametrize("kind", ["full", "dead", "rank", "rank 1", "zero", "asymmetric"])
def test_ift_solve(cpp, kind: str, dtype: torch.dtype) -> None:
    c = torch.tensor([0.5, 0.3], dtype=dtype)
    for channels in CHANNELS:
        gram, style = (m.to(dtype) for m in grams(channels, kind))
        for lr, n_upd, n_iter in ((0.0, 12, 1), (0.01, 5, 3)):
            got = cpp.ift_solve(gram, style, lr, c, n_upd, n_iter)
            want = reference.ift_solve(gram.double(), style.double(), lr, c.double(), n_upd, n_iter)
            assert got.dtype == dtype
            assert relative(got, want) < BOUNDS[dtype], (channels, lr)


def test_ift_solve_is_closer_to_float64_than_the_reference_in_float32(cpp) -> None:
    """After many updates, where round-off would add up."""
    for channels in (17, 60, 128):
        gram, style = (m.float() for m in grams(channels, "full", batch=1))
        gram = gram + 1e-4 * torch.eye(channels)
        c = torch.tensor([0.5])
        want = reference.ift_solve(gram.double(), style.double(), 0.0, c.double(), 200, 1)
        ours, plain = (op(gram, style, 0.0, c, 200, 1) for op in (cpp.ift_solve, reference.ift_solve))
        assert relative(ours, want) < relative(plain, want)


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_ift_solve_at_extreme_scales(cpp, scale: float) -> None:
    gram, style = (scale * m.float() for m in grams(40, "full"))
    c = torch.full((2,), 0.5 / scale)
    for g, s in ((gram, style), (1e-6 * gram, style), (gram, 1e-6 * style)):
        want = reference.ift_solve(g.double(), s.double(), 0.01, c.double(), 15, 1)
        assert relative(cpp.ift_solve(g, s, 0.01, c, 15, 1), want) < 3e-7


def test_ift_solve_without_updates_and_with_views(cpp) -> None:
    gram, style = grams(20, "full")
    c = torch.full((2,), 0.5, dtype=torch.float64)
    assert torch.equal(cpp.ift_solve(gram, style, 0.0, c, 0, 1), torch.eye(20, dtype=torch.float64).expand(2, -1, -1))
    wide = torch.full((2, 40, 60), torch.nan, dtype=torch.float64)
    wide[:, ::2, ::3] = gram
    got = cpp.ift_solve(wide[:, ::2, ::3], style[:1].expand(2, -1, -1), 0.0, c[:1].expand(2), 4, 1)
    assert torch.equal(got, cpp.ift_solve(gram, style[:1].repeat(2, 1, 1), 0.0, c, 4, 1))


def test_ift_solve_hides_neither_nan_nor_divergence(cpp) -> None:
    gram, style = (m.float() for m in grams(20, "full", batch=1))
    gram[0, 3, 5] = gram[0, 5, 3] = torch.nan
    assert not torch.isfinite(cpp.ift_solve(gram, style, 0.0, torch.tensor([0.5]), 3, 1)).any()
    gram, style = (m.float() for m in grams(20, "full", batch=1))
    assert not torch.isfinite(cpp.ift_solve(gram, style, 0.0, torch.tensor([1e4]), 30, 1)).all()


def psd(channels: int, rank: int, condition: float = 1e3) -> torch.Tensor:
    basis = torch.linalg.qr(torch.randn(channels, rank, dtype=torch.float64))[0]
    values = torch.logspace(0, -torch.log10(torch.tensor(condition)).item(), rank, dtype=torch.float64)
    a = (basis * values) @ basis.mT
    return 0.5 * (a + a.mT)


@pytest.mark.parametrize("dtype", list(BOUNDS), ids=str)
@pytest.mark.parametrize("share", [0.0, 0.4, 0.9, 1.0])
def test_sqrtm_psd(cpp, share: float, dtype: torch.dtype) -> None:
    """Every way through it: full rank, reduced, with channels of their own; the floor in a gap of the eigenvalues."""
    for channels in CHANNELS:
        rank = max(1, round(share * channels))
        a = torch.stack([psd(channels, rank), psd(channels, rank)])
        a[1, ::4] = 0
        a[1, :, ::4] = 0
        a[1, 0, 0] = 0.3
        a = a.to(dtype)
        got, want = cpp.sqrtm_psd(a, 1e-6), reference.sqrtm_psd(a.double(), 1e-6)
        for g, w in zip(got[:2], want, strict=True):
            assert g.dtype == dtype
            assert torch.equal(g, g.mT)
            assert relative(g, w) < (2e-7 if dtype == torch.float32 else 1e-11), channels


@pytest.mark.parametrize("condition", [1e6, 1e12])
def test_sqrtm_psd_of_ill_conditioned_matrices(cpp, condition: float) -> None:
    for channels, rank in ((60, 20), (129, 129), (129, 50)):
        a = psd(channels, rank, condition)[None]
        root, inverse, _ = cpp.sqrtm_psd(a, 1e-13)
        assert relative(root @ root, a) < 1e-13
        white = inverse @ a @ inverse
        assert abs(float(white.diagonal(dim1=1, dim2=2).sum()) - rank) < 1e-14 * condition * rank
        assert float((white @ white - white).norm()) < 1e-14 * condition * rank


@pytest.mark.parametrize("dtype", list(BOUNDS), ids=str)
def test_sqrtm_psd_keeps_the_floor_scales_and_zeros(cpp, dtype: torch.dtype) -> None:
    a = torch.diag(torch.tensor([4.0, 1.0, 1e-3, 0.0], dtype=dtype))[None]
    root, inverse, _ = cpp.sqrtm_psd(a, 0.01)
    assert root.diagonal(dim1=1, dim2=2).tolist() == [[2.0, 1.0, 0.0, 0.0]]
    assert inverse.diagonal(dim1=1, dim2=2).tolist() == [[0.5, 1.0, 0.0, 0.0]]
    for out in cpp.sqrtm_psd(torch.zeros(2, 5, 5, dtype=dtype), 1e-5)[:2]:
        assert not out.any()
    for scale in (1e-12, 1e12):
        a = (scale * psd(50, 50)[None]).to(dtype)
        for g, w in zip(cpp.sqrtm_psd(a, 1e-6)[:2], reference.sqrtm_psd(a.double(), 1e-6), strict=True):
            assert relative(g, w) < 2e-7
    wide = torch.full((1, 80, 120), torch.nan, dtype=dtype)
    wide[:, ::2, ::3] = psd(40, 30).to(dtype)
    view = wide[:, ::2, ::3]
    assert torch.equal(cpp.sqrtm_psd(view, 1e-5)[0], cpp.sqrtm_psd(view.contiguous(), 1e-5)[0])


def test_sqrtm_psd_refuses_like_the_reference(cpp) -> None:
    run = native.OPERATIONS["sqrtm_psd"]
    good = psd(40, 40)[None]
    spoilt = good.clone()
    spoilt[0, 7, 3] = spoilt[0, 3, 7] = torch.nan
    for bad in (
        spoilt,
        torch.where(torch.eye(40) > 0, torch.inf, good),
        torch.cat([good, good + torch.triu(torch.ones(40, 40), 1)]),
        torch.cat([good, -good]),
        torch.diag(torch.tensor([1.0, -0.5]))[None],
        good[0],
        good[:, :3],
        good.half(),
        good[:, :0, :0],
    ):
        with pytest.raises(InvalidInputError) as theirs:
            reference.sqrtm_psd(bad, 1e-6)
        with pytest.raises(InvalidInputError) as ours:
            run(bad, 1e-6)
        assert str(ours.value) == str(theirs.value)
    with pytest.raises(InvalidInputError, match="eps"):
        run(good, -1.0)


def test_where_the_eigensolver_fails_the_reference_tries_again(cpp, monkeypatch: pytest.MonkeyPatch) -> None:
    a = psd(8, 8)[None]
    failed = SimpleNamespace(sqrtm_psd=lambda a, eps: (a, a, torch.tensor([[4.0, 0.0]])))
    monkeypatch.setattr(torch.ops, "fastift_cpp", failed)
    for got, want in zip(native.OPERATIONS["sqrtm_psd"](a, 1e-6), reference.sqrtm_psd(a, 1e-6), strict=True):
        assert torch.equal(got, want)


def test_ift_solve_gives_the_same_bits_on_any_number_of_threads(cpp) -> None:
    gram, style = (m.float() for m in grams(200, "full", batch=3))
    c = torch.full((3,), 0.5)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append([cpp.ift_solve(gram[:n], style[:n], 0.01, c[:n], 5, 2) for n in (1, 3)])
    finally:
        torch.set_num_threads(before)
    for alone, batched in results:
        assert torch.equal(alone, results[0][0])
        assert torch.equal(batched, results[0][1])
        assert torch.equal(alone, batched[:1])


def test_sqrtm_psd_gives_the_same_bits_again(cpp) -> None:
    """On one number of threads: LAPACK's eigenvectors depend on it."""
    a = torch.stack([psd(200, 200), psd(200, 90), psd(200, 1)])
    first = cpp.sqrtm_psd(a, 1e-6)
    assert all(torch.equal(x, y) for x, y in zip(first, cpp.sqrtm_psd(a.clone(), 1e-6), strict=True))


def test_the_public_operations_with_these(cpp, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = dataclasses.replace(backend.CPP, unusable=lambda: None)
    monkeypatch.setattr(backend, "PREFERENCE", [loaded, backend.REFERENCE])
    gram, style = grams(4, "full")
    c = torch.full((2,), 0.3, dtype=torch.float64)
    m = torch.randn(2, 4, 4, dtype=torch.float64, requires_grad=True)
    with backend.using("cpp"):
        inputs = [t.clone().requires_grad_() for t in (gram, style, c)]
        solve = (inputs[0], inputs[1], 0.01, inputs[2], 3, 2)
        torch.library.opcheck(ops.ift_solve.default, solve)
        assert torch.autograd.gradcheck(ops.ift_solve, solve)
        torch.library.opcheck(ops.sqrtm_psd.default, (gram.float().requires_grad_(), 1e-6))
        assert torch.autograd.gradcheck(lambda m: ops.sqrtm_psd(m @ m.mT, 1e-9), (m,))


def test_direct_calls_that_would_read_wild_memory_are_refused(cpp) -> None:
    a, c = torch.rand(2, 4, 4), torch.rand(2)
    for call in (
        lambda: cpp.ift_solve(a, a[:1], 0.0, c, 1, 1),
        lambda: cpp.ift_solve(a, a.double(), 0.0, c, 1, 1),
        lambda: cpp.ift_solve(a, a, 0.0, c[:1], 1, 1),
        lambda: cpp.ift_solve(a[:, :3], a[:, :3], 0.0, c, 1, 1),
        lambda: cpp.ift_solve(a.half(), a.half(), 0.0, c.half(), 1, 1),
        lambda: cpp.sqrtm_psd(a[0], 0.0),
        lambda: cpp.sqrtm_psd(a.half(), 0.0),
        lambda: cpp.sqrtm_psd(a[:0], 0.0),
    ):
        with pytest.raises(RuntimeError, match=r"fastift\.(ift_solve|sqrtm_psd)"):
            call()
