"""The whitening op: square root and inverse square root of positive semi-definite matrices, of any rank, condition and scale."""

from __future__ import annotations

import pytest
import torch

from fastift import InvalidInputError

sqrtm_psd = torch.ops.fastift.sqrtm_psd


def psd(channels: int, rank: int, *, condition: float = 1e3, seed: int = 0) -> torch.Tensor:
    """[1, C, C] in float64, with eigenvalues 1 .. 1 / condition on a random subspace."""
    rng = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(channels, rank, generator=rng, dtype=torch.float64))[0]
    values = torch.logspace(0, -torch.log10(torch.tensor(condition)).item(), rank, dtype=torch.float64)
    return ((basis * values) @ basis.mT)[None]


@pytest.mark.parametrize("channels", [1, 3, 16, 60, 129])
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("condition", [1.0, 1e6, 1e12])
def test_root_and_projector(channels: int, share: float, condition: float) -> None:
    rank = max(1, round(share * channels))
    a = psd(channels, rank, condition=condition)
    root, inverse = sqrtm_psd(a, 1e-14)
    assert float((root @ root - a).norm() / a.norm()) < 1e-12
    white = inverse @ a @ inverse
    assert abs(float(white.diagonal(dim1=1, dim2=2).sum()) - rank) < 1e-2
    assert float((white @ white - white).norm()) < 1e-2 * rank**0.5
    assert torch.equal(root, root.mT)
    assert torch.equal(inverse, inverse.mT)


def test_the_floor_drops_what_is_below_it() -> None:
    a = torch.diag(torch.tensor([4.0, 1.0, 1e-3, 0.0], dtype=torch.float64))[None]
    root, inverse = sqrtm_psd(a, 0.01)
    assert torch.allclose(root.diagonal(dim1=1, dim2=2), torch.tensor([[2.0, 1.0, 0.0, 0.0]], dtype=torch.float64))
    assert torch.allclose(inverse.diagonal(dim1=1, dim2=2), torch.tensor([[0.5, 1.0, 0.0, 0.0]], dtype=torch.float64))


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scales(scale: float, dtype: torch.dtype) -> None:
    a = (scale * psd(20, 12)).to(dtype)
    root, inverse = sqrtm_psd(a, 1e-5)
    assert root.dtype == dtype
    assert float((root @ root - a).double().norm() / a.double().norm()) < (1e-5 if dtype == torch.float32 else 1e-12)
    assert abs(float((root @ inverse).diagonal(dim1=1, dim2=2).sum()) - 12) < 1e-3


def test_zero_is_zero_and_views_are_taken() -> None:
    root, inverse = sqrtm_psd(torch.zeros(2, 5, 5), 1e-5)
    assert not root.any()
    assert not inverse.any()
    wide = torch.full((1, 12, 12), torch.nan, dtype=torch.float64)
    wide[:, ::2, ::2] = psd(6, 6)
    root, _ = sqrtm_psd(wide[:, ::2, ::2], 1e-12)
    assert float((root @ root - wide[:, ::2, ::2]).norm()) < 1e-12


@pytest.mark.parametrize("eps", [1e-12, 0.05])
def test_gradients(eps: float) -> None:
    def symmetric(m: torch.Tensor) -> torch.Tensor:
        return m @ m.mT

    m = torch.randn(2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(5), requires_grad=True)
    assert torch.autograd.gradcheck(lambda m: sqrtm_psd(symmetric(m), eps), (m,))


def test_gradient_of_a_rank_deficient_matrix_is_finite_and_right_on_its_range() -> None:
    """f(Q B Q^T) = Q f(B) Q^T for a fixed orthonormal Q: the gradient for B must be that of B alone."""
    rng = torch.Generator().manual_seed(1)
    q = torch.linalg.qr(torch.randn(7, 3, generator=rng, dtype=torch.float64))[0]
    m = torch.randn(1, 3, 3, generator=rng, dtype=torch.float64)
    small = (m @ m.mT + 0.1 * torch.eye(3, dtype=torch.float64)).requires_grad_()
    probe = torch.randn(7, 7, generator=rng, dtype=torch.float64)
    for i in (0, 1):
        lifted = torch.autograd.grad((sqrtm_psd(q @ small @ q.mT, 1e-10)[i] * probe).sum(), small)[0]
        alone = torch.autograd.grad((q @ sqrtm_psd(small, 1e-10)[i] @ q.mT * probe).sum(), small)[0]
        assert float((lifted - alone).norm() / alone.norm()) < 1e-9


def test_registration_and_compilation() -> None:
    a = psd(5, 5).float()
    torch.library.opcheck(sqrtm_psd.default, (a.clone().requires_grad_(), 1e-6))
    compiled = torch.compile(lambda a: sqrtm_psd(a, 1e-6), fullgraph=True)
    for got, want in zip(compiled(a), sqrtm_psd(a, 1e-6), strict=True):
        assert torch.equal(got, want)


def test_refusals() -> None:
    good = psd(4, 4)
    for bad, why in [
        (torch.where(torch.eye(4) > 0, torch.nan, good), "finite"),
        (good + torch.triu(torch.ones(4, 4), 1), "symmetric"),
        (-good, "semi-definite"),
        (good[0], r"\[B, C, C\]"),
        (good[:, :3], r"\[B, C, C\]"),
        (good.half(), "float32 or float64"),
        (good[:, :0, :0], "empty"),
    ]:
        with pytest.raises(InvalidInputError, match=why):
            sqrtm_psd(bad, 1e-6)
    with pytest.raises(InvalidInputError, match="eps"):
        sqrtm_psd(good, -1.0)
