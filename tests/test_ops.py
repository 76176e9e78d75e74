"""The registered operations: values against float64, registration, gradients, compilation."""

from __future__ import annotations

import pytest
import torch
from features import features, relative

from fastift import ops, reference

OPS = torch.ops.fastift


def inputs(op: str, channels: int, pixels: int, *, batch: int = 2, dtype=torch.float64, grad: bool = False) -> tuple:
    """Arguments of an operation; differentiable ones ask for gradients if wanted."""
    f, other = (features(channels, pixels, batch=batch, seed=s, dtype=dtype) for s in (0, 1))
    wide = reference.wide(dtype)
    gram, style = reference.moments(f.to(wide))[2], reference.moments(other.to(wide))[2]
    gram, style = (m / gram.diagonal(dim1=-2, dim2=-1).sum(-1).max() for m in (gram, style))
    c = torch.full((batch,), 0.3, dtype=wide)
    mask = torch.rand(batch, 3, pixels, dtype=wide)
    arguments = {
        "moments": (f,),
        "moments weighted": (f, mask),
        "apply_affine": (f, torch.randn(batch, channels, channels, dtype=wide), torch.randn(batch, channels, dtype=wide)),
        "apply_affine one map": (f, torch.randn(1, channels, channels, dtype=wide), torch.randn(1, channels, dtype=wide)),
        "apply_affine masked": (
            f, torch.randn(batch, 3, channels, channels, dtype=wide), torch.randn(batch, 3, channels, dtype=wide), mask,
        ),
        "ift_update": (f, other, gram, style, 0.01, c),
        "ift_update_gram": (f, other, gram, style, 0.01, c),
        "ift_solve": (gram, style, 0.01, c, 4, 1),
        "ift_solve anchored": (gram, style, 0.05, c, 2, 3),
    }[op]  # fmt: skip
    if grad:
        return tuple(a.clone().requires_grad_() if isinstance(a, torch.Tensor) else a for a in arguments)
    return arguments


CASES = [
    "moments", "moments weighted", "apply_affine", "apply_affine one map", "apply_affine masked", "ift_update",
    "ift_update_gram", "ift_solve", "ift_solve anchored",
]  # fmt: skip


def operation(case: str):
    return getattr(OPS, case.split()[0])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("channels", "pixels"), [(1, 1), (3, 1), (60, 63)])
@pytest.mark.parametrize(
    ("dtype", "bound"),
    [(torch.float32, 1e-5), (torch.float16, 2e-3), (torch.bfloat16, 1e-2)],
    ids=["float32", "float16", "bfloat16"],
)
def test_values_against_float64_on_the_rounded_inputs(
    case: str, channels: int, pixels: int, dtype, bound: float
) -> None:
    rounded = inputs(case, channels, pixels, dtype=dtype)
    exact = tuple(a.double() if isinstance(a, torch.Tensor) else a for a in rounded)
    got, want = operation(case)(*rounded), getattr(reference, case.split()[0])(*exact)
    for g, w in zip(got, want, strict=True) if isinstance(got, tuple) else [(got, want)]:
        assert g.shape == w.shape
        assert float((g.double() - w).norm()) <= bound * max(float(w.norm()), 1e-9)


@pytest.mark.parametrize("case", CASES)
def test_registration(case: str) -> None:
    torch.library.opcheck(operation(case).default, inputs(case, 5, 7, dtype=torch.float32, grad=True))
    torch.library.opcheck(operation(case).default, inputs(case, 3, 1, dtype=torch.float32))


@pytest.mark.parametrize("case", CASES)
def test_gradients(case: str) -> None:
    assert torch.autograd.gradcheck(operation(case), inputs(case, 4, 6, grad=True))


@pytest.mark.parametrize("case", CASES)
def test_views(case: str) -> None:
    def strided(a):
        return a.mT.contiguous().mT if isinstance(a, torch.Tensor) and a.dim() > 2 else a

    plain = inputs(case, 6, 9)
    got, want = operation(case)(*(strided(a) for a in plain)), operation(case)(*plain)
    for g, w in zip(got, want, strict=True) if isinstance(got, tuple) else [(got, want)]:
        assert relative(g, w) < 1e-13


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_compiles_as_one_graph(case: str) -> None:
    def step(*arguments):
        out = operation(case)(*arguments)
        return sum(t.square().sum() for t in out) if isinstance(out, tuple) else out.square().sum()

    arguments = inputs(case, 5, 7, grad=True)
    tensors = [a for a in arguments if isinstance(a, torch.Tensor)]
    want = torch.autograd.grad(step(*arguments), tensors)
    torch._dynamo.reset()
    got = torch.autograd.grad(torch.compile(step, fullgraph=True, backend="aot_eager")(*arguments), tensors)
    for g, w in zip(got, want, strict=True):
        assert relative(g, w) < 1e-12


def test_repeated_updates_equal_the_collapsed_solution() -> None:
    f = features(8, 50)
    style = reference.moments(features(8, 40, seed=1))[2]
    _, _, gram = ops.moments(f)
    c = torch.full((1,), 0.2 / float(gram.diagonal(dim1=-2, dim2=-1).sum()), dtype=torch.float64)
    x, g = f, gram
    for _ in range(6):
        x, g = ops.ift_update_gram(x, f, g, style, 0.01, c)
    assert relative(ops.ift_solve(gram, style, 0.01, c, 6, 1) @ f, x) < 1e-13


def test_forced_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.rand(1, 3, 4)
    monkeypatch.setenv("FASTIFT_BACKEND", "reference")
    ops.moments(x)
    monkeypatch.setenv("FASTIFT_BACKEND", "abacus")
    with pytest.raises(ValueError, match=r"FASTIFT_BACKEND must be one of .*reference.*, got 'abacus'"):
        ops.moments(x)
