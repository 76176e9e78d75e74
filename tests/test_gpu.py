"""On a GPU: the Triton kernels against float64 at real shapes, the engine against the CPU. Skipped where there is none."""

from __future__ import annotations

import pytest
import torch
from features import features

from fastift import Stylizer, gpu, reference

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")

# rms error over the exact result's rms, on inputs already rounded
BOUNDS = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}
SHAPES = [(2, 3, 63), (1, 32, 65536), (1, 64, 16384), (2, 144, 1024), (1, 256, 4096), (1, 512, 1000)]


@pytest.fixture(autouse=True)
def switched_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTIFT_TRITON", "1")
    if gpu.unusable():
        pytest.skip(gpu.unusable())


def arguments(op: str, shape: tuple[int, int, int], dtype: torch.dtype) -> tuple:
    b, c, n = shape
    f, other = (features(c, n, batch=b, seed=s, dtype=dtype) for s in (0, 1))
    gram, style = (reference.moments(x.double())[2].float() for x in (f, other))
    step = 0.5 / torch.linalg.matrix_norm(gram, 2).maximum(torch.linalg.matrix_norm(style, 2))
    return {
        "moments": (f,),
        "moments weighted": (f, torch.rand(b, 3, n)),
        "apply_affine": (f, torch.randn(1, c, c) / c**0.5, torch.randn(1, c)),
        "apply_affine masked": (f, torch.randn(b, 2, c, c) / c**0.5, torch.randn(b, 2, c), torch.rand(b, 2, n)),
        "ift_update": (f, other, gram, style, 0.01, step),
        "ift_update_gram": (f, other, gram, style, 0.01, step),
        "ift_solve": (gram, style, 0.01, step, 15, 2),
    }[op]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", list(BOUNDS), ids=str)
@pytest.mark.parametrize(
    "op",
    [
        "moments",
        "moments weighted",
        "apply_affine",
        "apply_affine masked",
        "ift_update",
        "ift_update_gram",
        "ift_solve",
    ],
)
def test_kernels(op: str, dtype: torch.dtype, shape: tuple[int, int, int]) -> None:
    given = arguments(op, shape, dtype)
    want = getattr(reference, op.split()[0])(*(a.double() if isinstance(a, torch.Tensor) else a for a in given))
    got = getattr(torch.ops.fastift, op.split()[0])(*(a.cuda() if isinstance(a, torch.Tensor) else a for a in given))
    for g, w in zip(got, want, strict=True) if isinstance(got, tuple) else [(got, want)]:
        assert g.device.type == "cuda"
        assert float((g.cpu().double() - w).norm() / w.norm()) < BOUNDS[dtype]


@pytest.mark.parametrize("layout", ["nchw", "channels_last"])
def test_the_same_bits_twice(layout: str) -> None:
    x = features(64, 40_000, dtype=torch.bfloat16).cuda()
    x = x.transpose(1, 2).contiguous().transpose(1, 2) if layout == "channels_last" else x
    first, second = (torch.ops.fastift.moments(x)[2] for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("flow", ["cascade", "single_pass", "encoder_side"])
@pytest.mark.parametrize("backend", ["triton", "reference"])
def test_engine_follows_the_cpu(flow: str, backend: str) -> None:
    rng = torch.Generator().manual_seed(0)
    content, style = (torch.rand(2, 3, 96, 72, generator=rng) ** k for k in (1, 2))
    want = Stylizer(device="cpu")(content, style, flow=flow)
    got = Stylizer(device="cuda", backend=backend)(content, style, flow=flow).cpu()
    assert float((got - want).abs().mean()) < 2e-3
