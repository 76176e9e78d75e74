"""The Triton kernels in Triton's interpreter, against float64 on the same rounded inputs. test_triton_interpreter.py runs this
file with TRITON_INTERPRET=1, which must be set before triton is imported and must not be set where kernels are compiled.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from triton_common import load_kernels

if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("needs TRITON_INTERPRET=1: run test_triton_interpreter.py", allow_module_level=True)

import triton_interpreter_fixes  # noqa: F401

load_kernels()

from fastift.kernels import _launch  # noqa: E402
from fastift.kernels import moments as moments_module  # noqa: E402
from fastift.kernels.apply_affine import apply_affine  # noqa: E402
from fastift.kernels.ift_solve import ift_solve  # noqa: E402
from fastift.kernels.ift_update import ift_update  # noqa: E402
from fastift.kernels.ift_update_gram import ift_update_gram  # noqa: E402
from fastift.kernels.moments import moments  # noqa: E402

from fastift import gpu, reference  # noqa: E402
from fastift.errors import InvalidInputError  # noqa: E402

DTYPES = [torch.float32, torch.float16, torch.bfloat16]
# (rms, max) of the error over the rms of the reference
TOLERANCE = {torch.float32: (1e-5, 1e-4), torch.float16: (2e-3, 2e-2), torch.bfloat16: (1e-2, 8e-2)}
SHAPES = [(1, 3, 1), (2, 3, 63), (2, 16, 200), (1, 60, 63), (2, 65, 63), (1, 130, 200)]
LR = 0.01

dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: str(d).removeprefix("torch."))
shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)


@pytest.fixture
def close(record_property: Callable) -> Callable:
    """Assert that a result is finite, of the right shape and within the table; the error goes into the report."""

    def check(op: str, got: Tensor, want: Tensor, dtype: torch.dtype) -> None:
        assert got.shape == want.shape
        assert torch.isfinite(got).all(), f"{op}: not finite"
        error = got.double() - want
        scale = want.square().mean().sqrt().clamp_min(1e-300)
        rms, top = float(error.square().mean().sqrt() / scale), float(error.abs().max() / scale)
        record_property("error", f"{op} {str(dtype).removeprefix('torch.')} {rms:.2e} {top:.2e}")
        assert rms <= TOLERANCE[dtype][0] and top <= TOLERANCE[dtype][1], f"{op}: rms {rms:.2e}, max {top:.2e}"

    return check


def features(b: int, c: int, n: int, dtype: torch.dtype, layout: str = "pixels") -> Tensor:
    """Random features behind a ReLU, a third of them zero, channel 1 dead."""
    x = (torch.randn(b, c, n) + 0.5).relu()
    x[:, 1] = 0
    x = x.to(dtype)
    if layout == "channels":
        return x.mT.contiguous().mT
    if layout == "view":
        return torch.nn.functional.pad(x, (3, 2, 1, 1), value=float("nan"))[:, 1:-1, 3:-2]
    if layout == "strided":
        return x.repeat_interleave(2, 2)[:, :, ::2]
    return x


def grams(b: int, c: int) -> tuple[Tensor, Tensor]:
    x = features(2 * b, c, 2 * c, torch.float32)
    gram = x @ x.mT / (2 * c)
    return gram[:b], gram[b:]


def steps(b: int, gram: Tensor, style: Tensor) -> Tensor:
    """A step for each sample that is stable on these moments."""
    top = torch.linalg.matrix_norm(gram, 2).maximum(torch.linalg.matrix_norm(style, 2))
    return torch.linspace(0.5, 0.8, b) / top


def want_update(f: Tensor, f_c: Tensor, gram: Tensor, style: Tensor, c: float | Tensor) -> Tensor:
    f, f_c = f.double(), f_c.double()
    c = torch.as_tensor(c, dtype=torch.float64).reshape(-1, 1, 1)
    return f - 2 * LR * (f - f_c) - c * ((gram.double() - style.double()) @ f)


def want_moments(x: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    x = x.double()
    b, _, n = x.shape
    w = torch.ones(b, 1, n, dtype=torch.float64) if weight is None else weight.double()
    total = w.sum(2)
    share = (w / total.clamp_min(1e-38)[..., None])[:, :, None]
    out = total, (x[:, None] * share).sum(3), (x[:, None] * share) @ x[:, None].mT
    return tuple(t[:, 0] for t in out) if weight is None else out


@shapes
@dtypes
def test_moments(shape: tuple[int, int, int], dtype: torch.dtype, close: Callable) -> None:
    x = features(*shape, dtype)
    n, mean, gram = moments(x)
    want = want_moments(x)
    assert torch.equal(n.double(), want[0])
    # sums are float32 whatever the features are, and products of half-precision numbers are exact
    close("moments.mean", mean, want[1], torch.float32)
    close("moments.gram", gram, want[2], torch.float32)
    assert torch.equal(gram, gram.mT)
    assert (gram[:, 1] == 0).all()


@pytest.mark.parametrize("shape", [(2, 3, 63), (1, 16, 700), (2, 65, 63)], ids=str)
@dtypes
def test_moments_of_regions(shape: tuple[int, int, int], dtype: torch.dtype, close: Callable) -> None:
    b, _, n = shape
    x = features(*shape, dtype)
    # weights far above 1 would overflow half precision if w x were rounded to it
    weight = torch.rand(b, 3, n) * torch.tensor([1.0, 1.0, 1e6])[:, None]
    weight[:, 1] = 0
    got, want = moments(x, weight), want_moments(x, weight)
    for name, g, w in zip(("n", "mean", "gram"), got, want, strict=True):
        for r in (0, 2):
            close(f"moments.{name} of regions", g[:, r], w[:, r], torch.float32)
        assert (g[:, 1] == 0).all(), f"the region without weight has {name} {g[:, 1]}"
    assert torch.equal(got[2], got[2].mT)


@pytest.mark.parametrize(("c", "n"), [(3, 1500), (20, 1025)])
def test_moments_in_several_parts(c: int, n: int, close: Callable) -> None:
    x = features(1, c, n, torch.float32)
    assert moments_module.split(n, 1, c * c * 4, x.device)[0] > 2
    close("moments.gram", moments(x)[2], want_moments(x)[2], torch.float32)
    weight = torch.rand(1, 2, n)
    close("moments.gram of regions", moments(x, weight)[2], want_moments(x, weight)[2], torch.float32)


@pytest.mark.parametrize("processors", [1, 3, 132])
@pytest.mark.parametrize("n", [1, 255, 256, 257, 5000, 10**6 + 1])
def test_parts_cover_every_pixel_once(n: int, processors: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_launch, "processors", lambda device: processors)
    for programs, workspace in ((1, 36), (30, 2**20), (10**4, 2**30)):
        parts, share = moments_module.split(n, programs, workspace, torch.device("cpu"))
        assert share % moments_module.SHARE == 0
        assert (parts - 1) * share < n <= parts * share
        assert parts == 1 or parts * workspace <= moments_module.MOST_WORKSPACE


@shapes
@dtypes
def test_ift_update(shape: tuple[int, int, int], dtype: torch.dtype, close: Callable) -> None:
    f, f_c = features(*shape, dtype), features(*shape, dtype)
    gram, style = grams(*shape[:2])
    c = steps(shape[0], gram, style)
    got = ift_update(f, f_c, gram, style, LR, c)
    assert got.dtype == dtype
    close("ift_update", got, want_update(f, f_c, gram, style, c), dtype)
    got = ift_update(f, f_c, gram, style, LR, float(c[0]))
    close("ift_update", got, want_update(f, f_c, gram, style, float(c[0])), dtype)


@shapes
@dtypes
def test_ift_update_gram(shape: tuple[int, int, int], dtype: torch.dtype, close: Callable) -> None:
    f, f_c = features(*shape, dtype), features(*shape, dtype)
    gram, style = grams(*shape[:2])
    c = steps(shape[0], gram, style)
    got, got_gram = ift_update_gram(f, f_c, gram, style, LR, c)
    close("ift_update_gram", got, want_update(f, f_c, gram, style, c), dtype)
    # of the features as they were rounded and stored
    close("ift_update_gram.gram", got_gram, want_moments(got)[2], torch.float32)
    assert torch.equal(got_gram, got_gram.mT)


@pytest.mark.parametrize("shape", [(2, 3, 63), (2, 60, 200), (1, 130, 63)], ids=str)
def test_tf32_keeps_the_factor_on_chip(shape: tuple[int, int, int], close: Callable) -> None:
    f, f_c = features(*shape, torch.float32), features(*shape, torch.float32)
    gram, style = grams(*shape[:2])
    c = steps(shape[0], gram, style)
    got, got_gram = ift_update_gram(f, f_c, gram, style, LR, c, precision="tf32")
    # ten mantissa bits, like float16
    close("ift_update_gram tf32", got.half().float(), want_update(f, f_c, gram, style, c), torch.float16)
    close("ift_update_gram.gram tf32", got_gram, want_moments(got)[2], torch.float16)


@shapes
@dtypes
def test_apply_affine(shape: tuple[int, int, int], dtype: torch.dtype, close: Callable) -> None:
    b, c, n = shape
    x = features(*shape, dtype)
    weight, bias = torch.randn(b, c, c), torch.randn(b, c)
    got = apply_affine(x, weight, bias)
    assert got.dtype == dtype
    close("apply_affine", got, weight.double() @ x.double() + bias.double()[..., None], dtype)
    if n == 63:
        weight, bias, mask = torch.randn(b, 2, c, c), torch.randn(b, 2, c), torch.rand(b, 2, n)
        mask[:, 1, n // 2 :] = 0
        want = (mask.double()[:, :, None] * (weight.double() @ x.double()[:, None] + bias.double()[..., None])).sum(1)
        close("apply_affine by region", apply_affine(x, weight, bias, mask), want, dtype)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
def test_maps_that_half_precision_cannot_hold(dtype: torch.dtype, close: Callable) -> None:
    """Rows of 1e7 overflow float16, rows of 1e-9 vanish in it: each must come out as exact as a row of ones."""
    scale = torch.tensor([1e7, 1e-9, 0.0, 1.0])
    x = torch.rand(1, 4, 30).to(dtype) * torch.tensor([1e-6, 1, 1, 1], dtype=dtype)[:, None]
    weight, bias = torch.rand(1, 4, 4) * scale[:, None], torch.zeros(1, 4)
    weight[0, 0, 1:] = 0
    out = apply_affine(x, weight, bias)
    want = weight.double() @ x.double()
    for row in (0, 3):
        close("apply_affine of large rows", out[:, row], want[:, row], dtype)
    gram = weight @ weight.mT
    c = 1e-6
    assert float((c * gram).max()) > 65504
    f = (torch.rand(1, 4, 30) * 1e-6).to(dtype)
    got, want = ift_update(f, f, gram, 0 * gram, LR, c), want_update(f, f, gram, 0 * gram, c)
    close("ift_update of large rows", got[:, 0], want[:, 0], dtype)


def want_solve(gram: Tensor, style: Tensor, c: Tensor, n_upd: int, n_iter: int) -> Tensor:
    gram, style, c = gram.double(), style.double(), c.double().reshape(-1, 1, 1)
    a = torch.eye(gram.shape[-1], dtype=torch.float64).expand_as(gram)
    for _ in range(n_iter):
        anchor = a
        for _ in range(n_upd):
            a = a - 2 * LR * (a - anchor) - c * ((a @ gram @ a.mT - style) @ a)
    return a


@pytest.mark.parametrize("precision", ["ieee", "tf32x3"])
@pytest.mark.parametrize("b_c", [(1, 3), (2, 16), (2, 60), (2, 65), (1, 130)], ids=str)
def test_ift_solve(b_c: tuple[int, int], precision: str, close: Callable) -> None:
    gram, style = grams(*b_c)
    c = steps(b_c[0], gram, style)
    n_upd, n_iter = (3, 2) if b_c[1] < 100 else (1, 2)
    got = ift_solve(gram, style, LR, c, n_upd, n_iter, precision=precision)
    close("ift_solve", got, want_solve(gram, style, c, n_upd, n_iter), torch.float32)


def test_ift_solve_keeps_its_anchor() -> None:
    """The buffers of a long run take turns; the anchor must not be among those written."""
    gram, style = grams(1, 66)
    c = steps(1, gram, style)
    for n_upd, n_iter in ((1, 1), (2, 1), (4, 2)):
        want = want_solve(gram, style, c, n_upd, n_iter)
        assert torch.allclose(ift_solve(gram, style, LR, c, n_upd, n_iter).double(), want, atol=1e-5), (n_upd, n_iter)


def test_loop_and_solver_agree() -> None:
    """The paper's loop by ift_update_gram is what ift_solve collapses: F_k = A_k F_c."""
    f_c = features(1, 20, 300, torch.float32)
    gram, (style, _) = moments(f_c)[2], grams(1, 20)
    c = steps(1, gram, style)
    f, g = f_c, gram
    for _ in range(4):
        f, g = ift_update_gram(f, f_c, g, style, LR, c)
    a = ift_solve(gram, style, LR, c, 4, 1)
    assert (f - gram.new_zeros(1)).sub(a @ f_c).norm() < 1e-5 * f.norm()
    assert (f - f_c).norm() > 1e-2 * f.norm()


def outputs(x: Tensor) -> dict[str, tuple[Tensor, ...]]:
    """Every op on features x, with everything else seeded."""
    torch.manual_seed(1)
    b, c, n = x.shape
    gram, style = grams(b, c)
    step = steps(b, gram, style)
    weight, bias, mask = torch.randn(b, 2, c, c), torch.randn(b, 2, c), torch.rand(b, 2, n)
    return {
        "moments": moments(x),
        "moments of regions": moments(x, mask),
        "ift_update": (ift_update(x, x, gram, style, LR, step),),
        "ift_update_gram": ift_update_gram(x, x, gram, style, LR, step),
        "apply_affine": (apply_affine(x, weight[:, 0], bias[:, 0]),),
        "apply_affine by region": (apply_affine(x, weight, bias, mask),),
        "ift_solve": (ift_solve(gram, style, LR, step, 2, 1),),
    }


@pytest.mark.parametrize("layout", ["channels", "view", "strided"])
@dtypes
def test_layouts(layout: str, dtype: torch.dtype) -> None:
    """Memory order changes neither a bit of the result nor, for dense layouts, the order of the output."""
    torch.manual_seed(3)
    plain = features(2, 18, 70, dtype)
    torch.manual_seed(3)
    x = features(2, 18, 70, dtype, layout)
    assert torch.equal(x, plain) and x.stride() != plain.stride()
    got = outputs(x)
    for op, want in outputs(plain).items():
        for g, w in zip(got[op], want, strict=True):
            assert torch.equal(g, w), op
    if layout == "channels":
        assert apply_affine(x, torch.rand(2, 18, 18), torch.rand(2, 18)).stride() == x.stride()
        f_c = plain
        gram, style = grams(2, 18)
        out = ift_update(x, f_c, gram, style, LR, 0.01)
        assert out.stride() == x.stride()
        assert torch.equal(out, ift_update(plain, f_c, gram, style, LR, 0.01))


def test_layouts_without_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Tensor, *args: object, **kwargs: object) -> Tensor:
        raise AssertionError("copied")

    layouts = {name: features(1, 4, 30, torch.float32, name) for name in ("pixels", "channels", "view", "strided")}
    monkeypatch.setattr(Tensor, "contiguous", refuse)
    for name in ("pixels", "channels", "view"):
        moments(layouts[name])
    with pytest.raises(AssertionError, match="copied"):
        moments(layouts["strided"])


@dtypes
def test_same_input_same_bits(dtype: torch.dtype) -> None:
    x = features(2, 33, 300, dtype)
    first, second = outputs(x), outputs(x)
    for op in first:
        for a, b in zip(first[op], second[op], strict=True):
            assert torch.equal(a, b), op


@pytest.mark.parametrize("precision", ["ieee", "tf32x3", "tf32"])
@pytest.mark.parametrize("c", [20, 60, 70])
@dtypes
def test_every_configuration(
    c: int, precision: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch, close: Callable
) -> None:
    """What the clock may choose on some card is right too, at the precision that was asked for."""
    if dtype != torch.float32 and precision != "ieee":
        pytest.skip("half precision ignores it")
    chosen, counts = 0, set()

    def tuned(key: tuple, device: torch.device, configs: list, launch: Callable) -> None:
        counts.add(len(configs))
        launch(configs[chosen])

    monkeypatch.setattr(_launch, "tuned", tuned)
    tolerance = torch.float16 if precision == "tf32" and dtype == torch.float32 else dtype
    x = features(1, c, 80, dtype)
    gram, style = grams(1, c)
    step = steps(1, gram, style)
    weight, bias, mask = torch.randn(1, 2, c, c), torch.randn(1, 2, c), torch.rand(1, 2, 80)
    maps = weight.double() @ x.double()[:, None] + bias.double()[..., None]
    for chosen in range(2):
        name = f"{precision}, configuration {chosen}:"
        close(f"{name} moments", moments(x, precision=precision)[2], want_moments(x)[2], tolerance)
        got = moments(x, mask, precision=precision)[2]
        close(f"{name} moments of regions", got, want_moments(x, mask)[2], tolerance)
        got, got_gram = ift_update_gram(x, x, gram, style, LR, step, precision=precision)
        close(f"{name} ift_update_gram", got, want_update(x, x, gram, style, step), tolerance)
        close(f"{name} ift_update_gram.gram", got_gram, want_moments(got)[2], tolerance)
        got = apply_affine(x, weight[:, 0], bias[:, 0], precision=precision)
        close(f"{name} apply_affine", got, maps[:, 0], tolerance)
        got = apply_affine(x, weight, bias, mask, precision=precision)
        close(f"{name} apply_affine by region", got, (mask.double()[:, :, None] * maps).sum(1), tolerance)
        if dtype == torch.float32:
            got = ift_solve(gram, style, LR, step, 1, 1, precision=precision)
            close(f"{name} ift_solve", got, want_solve(gram, style, step, 1, 1), tolerance)
    assert counts == {2}


def test_precision_reaches_the_products() -> None:
    """tf32 must cost accuracy and tf32x3 must not: otherwise one of them is not what runs."""
    x = features(1, 40, 300, torch.float32)
    want = want_moments(x)[2]
    error = {p: float((moments(x, precision=p)[2] - want).norm() / want.norm()) for p in ("ieee", "tf32x3", "tf32")}
    assert error["ieee"] < 1e-6 and error["tf32x3"] < 2e-6, error
    assert 1e-5 < error["tf32"] < 2e-3, error


X = torch.ones(2, 4, 6)
G = torch.ones(2, 4, 4)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: moments(X[0]), "moments: x must be a non-empty tensor"),
        (lambda: moments(X[:, :, :0]), "moments: x must be a non-empty tensor"),
        (lambda: moments(X.double()), "moments: x must be float32, float16 or bfloat16, got torch.float64"),
        (lambda: moments([1.0]), "moments: x must be a tensor"),
        (lambda: moments(X.to("meta")), "moments: x must be on a CUDA device for the Triton kernels, got meta"),
        (lambda: moments(X, precision="fp32"), "moments: precision must be one of ieee, tf32x3, tf32, got 'fp32'"),
        (lambda: moments(X, torch.ones(2, 1, 5)), r"moments: weight must have shape \(2, 1, 6\), got \(2, 1, 5\)"),
        (lambda: moments(X, torch.ones(2, 6)), r"moments: weight must be a tensor \[B, R, N\]"),
        (lambda: moments(X, X.half()), "moments: weight must be torch.float32, got torch.float16"),
        (lambda: ift_update(X, X.half(), G, G, LR, 1.0), "ift_update: f_c must be torch.float32"),
        (lambda: ift_update(X, X[:1], G, G, LR, 1.0), r"ift_update: f_c must have shape \(2, 4, 6\)"),
        (lambda: ift_update(X, X, G[:1], G, LR, 1.0), r"ift_update: gram must have shape \(2, 4, 4\)"),
        (lambda: ift_update(X, X, G, G.double(), LR, 1.0), "ift_update: style must be torch.float32"),
        (lambda: ift_update(X, X, G, G, LR, torch.ones(3)), r"ift_update: c must have shape \(2,\), got \(3,\)"),
        (lambda: ift_update_gram(X, X, G[:, :3], G, LR, 1.0), r"ift_update_gram: gram must have shape \(2, 4, 4\)"),
        (lambda: apply_affine(X, G[:, :3], G[0]), r"apply_affine: weight must have shape \(2, 4, 4\)"),
        (lambda: apply_affine(X, G, G[0]), r"apply_affine: bias must have shape \(2, 4\), got \(4, 4\)"),
        (lambda: apply_affine(X, G, G[:, 0], X), r"apply_affine: weight must have shape \(2, 4, 4, 4\)"),
        (lambda: ift_solve(G[0], G[0], LR, 1.0, 1, 1), r"ift_solve: gram must be a non-empty tensor \[B, C, C\]"),
        (lambda: ift_solve(G.half(), G, LR, 1.0, 1, 1), "ift_solve: gram must be torch.float32, got torch.float16"),
        (lambda: ift_solve(G, G[:1], LR, 1.0, 1, 1), r"ift_solve: style must have shape \(2, 4, 4\)"),
        (lambda: ift_solve(G, G, LR, 1.0, 0, 1), "ift_solve: n_upd and n_iter must be at least 1, got 0 and 1"),
    ],
    ids=range(22),
)
def test_bad_input(call: Callable, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        call()


def test_backend_gives_one_map_to_every_sample(close: Callable) -> None:
    x = features(2, 20, 90, torch.float32)
    weight, bias = torch.randn(1, 20, 20), torch.randn(1, 20)
    want = reference.apply_affine(x.double(), weight.double(), bias.double())
    close("backend apply_affine", gpu.OPERATIONS["apply_affine"](x, weight, bias), want, torch.float32)


def test_backend_takes_the_operations_arguments(close: Callable) -> None:
    x, other = features(2, 20, 90, torch.float32), features(2, 20, 90, torch.float32)
    gram, style = grams(2, 20)
    c = steps(2, gram, style)
    for op, arguments in {
        "moments": (x, None),
        "ift_update": (x, other, gram, style, LR, c),
        "ift_update_gram": (x, other, gram, style, LR, c),
        "ift_solve": (gram, style, LR, c, 3, 2),
    }.items():
        exact = [a.double() if isinstance(a, Tensor) else a for a in arguments]
        got, want = gpu.OPERATIONS[op](*arguments), getattr(reference, op)(*exact)
        for g, w in zip(got, want, strict=True) if isinstance(got, tuple) else [(got, want)]:
            close(f"backend {op}", g, w, torch.float32)
