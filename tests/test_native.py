"""The C++ operations: built here, every instruction set against float64, layouts, precision, determinism, and the symbols."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from features import features

from fastift import InvalidInputError, _build, native, reference

WHY = _build.why_not()
pytestmark = pytest.mark.skipif(WHY is not None, reason=f"the C++ library cannot be built here: {WHY}")

# rms error over the exact result's rms, on inputs already rounded
BOUNDS = {torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}
SHAPES = [(1, 1), (3, 7), (5, 1000), (17, 4099), (33, 257), (64, 5000), (99, 130), (101, 515), (257, 333)]


def laid_out(x: torch.Tensor, layout: str) -> torch.Tensor:
    if layout == "channels_last":
        return x.transpose(1, 2).contiguous().transpose(1, 2)
    if layout == "strided":  # neither axis adjacent, NaN in between
        wide = torch.full((x.shape[0], 2 * x.shape[1], 3 * x.shape[2]), torch.nan, dtype=x.dtype)
        wide[:, ::2, ::3] = x
        return wide[:, ::2, ::3]
    return x.contiguous()


def error(got: torch.Tensor, want: torch.Tensor) -> float:
    return float((got.double() - want).norm() / want.norm().clamp_min(1e-30))


@pytest.mark.parametrize("layout", ["nchw", "channels_last", "strided"])
@pytest.mark.parametrize("dtype", list(BOUNDS), ids=str)
@pytest.mark.parametrize("regions", [None, 1, 3])
def test_moments(cpp, layout: str, dtype: torch.dtype, regions: int | None) -> None:
    for channels, pixels in SHAPES:
        x = laid_out(features(channels, pixels, batch=2, dtype=dtype), layout)
        weight = None if regions is None else torch.rand(2, regions, pixels)
        got = cpp.moments(x, weight)
        want = reference.moments(x.double(), None if weight is None else weight.double())
        for g, w in zip(got, want, strict=True):
            assert g.shape == w.shape
            assert g.dtype == torch.float32
            assert error(g, w) < 2e-6, (channels, pixels)
        assert torch.equal(got[2], got[2].mT)


@pytest.mark.parametrize("layout", ["nchw", "channels_last", "strided"])
@pytest.mark.parametrize("dtype", list(BOUNDS), ids=str)
@pytest.mark.parametrize("regions", [None, 1, 3])
@pytest.mark.parametrize("maps", [1, 2])
def test_apply_affine(cpp, layout: str, dtype: torch.dtype, regions: int | None, maps: int) -> None:
    for channels, pixels in SHAPES:
        x = laid_out(features(channels, pixels, batch=2, dtype=dtype), layout)
        lead = (maps,) if regions is None else (maps, regions)
        weight, bias = torch.randn(*lead, channels, channels) / channels**0.5, torch.randn(*lead, channels)
        mask = None if regions is None else torch.rand(2, regions, pixels)
        got = cpp.apply_affine(x, weight, bias, mask)
        want = reference.apply_affine(*(None if t is None else t.double() for t in (x, weight, bias, mask)))
        assert got.shape == x.shape
        assert got.dtype == dtype
        assert error(got, want) < BOUNDS[dtype], (channels, pixels)


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_extreme_scales_and_empty_regions(cpp, scale: float) -> None:
    x = scale * features(20, 700, dtype=torch.float32, dead=5, rank=4)
    weight = torch.stack([torch.zeros(700), torch.ones(700)])[None]
    n, mean, gram = cpp.moments(x, weight)
    assert n.tolist() == [[0.0, 700.0]]
    assert not mean[0, 0].any()
    assert not gram[0, 0].any()
    want = reference.moments(x.double())
    assert error(mean[0, 1:], want[1]) < 1e-6
    assert error(gram[0, 1:], want[2]) < 1e-6


def test_long_sums_keep_their_digits(cpp) -> None:
    """Features on a pedestal: what float32 sums would lose is there."""
    x = (100 + torch.randn(1, 24, 300_000, generator=torch.Generator().manual_seed(0))).float()
    _, mean, gram = cpp.moments(x)
    exact = reference.moments(x.double())
    assert error(gram, exact[2]) < 3e-7
    assert error(mean, exact[1]) < 1e-7


def test_the_same_bits_on_any_number_of_threads(cpp) -> None:
    x = torch.randn(2, 40, 50_000)
    weight, bias = torch.randn(1, 40, 40), torch.randn(1, 40)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append((*cpp.moments(x), cpp.apply_affine(x, weight, bias)))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_direct_calls_that_would_read_wild_memory_are_refused(cpp) -> None:
    x = torch.rand(2, 4, 9)
    for call in (
        lambda: cpp.moments(x.double()),
        lambda: cpp.moments(x[0]),
        lambda: cpp.moments(x, torch.rand(2, 1, 8)),
        lambda: cpp.apply_affine(x, torch.rand(1, 5, 5), torch.rand(1, 4)),
        lambda: cpp.apply_affine(x, torch.rand(3, 4, 4), torch.rand(3, 4)),
        lambda: cpp.apply_affine(x, torch.rand(1, 4, 4), torch.rand(1, 4).double()),
    ):
        with pytest.raises(RuntimeError, match=r"fastift\.(moments|apply_affine)"):
            call()


CHECK = """
import sys, torch
sys.path.insert(0, {tests!r})
from features import features
from fastift import reference
torch.ops.load_library({library!r})
for channels, pixels in [(3, 7), (33, 1057), (130, 600)]:
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        for turn in (False, True):
            x = features(channels, pixels, batch=2, dtype=dtype)
            x = x.transpose(1, 2).contiguous().transpose(1, 2) if turn else x
            got, want = torch.ops.fastift_cpp.moments(x)[2].double(), reference.moments(x.double())[2]
            assert float((got - want).norm() / want.norm()) < 2e-6
            w, b = torch.randn(1, channels, channels), torch.randn(1, channels)
            got, want = torch.ops.fastift_cpp.apply_affine(x, w, b), reference.apply_affine(x.double(), w.double(), b.double())
            assert float((got.double() - want).norm() / want.norm()) < 8e-3
for channels in (3, 33, 130):
    for dtype, bound in ((torch.float32, 3e-7), (torch.float64, 1e-12)):
        f = features(channels, 900, batch=2, dtype=dtype)
        gram = reference.moments(f / channels)[2]
        c = torch.full((1,), 0.1, dtype=dtype)
        for g in (gram[:1], gram[:1] + 0.01 * torch.ones(channels, channels, dtype=dtype).triu()):
            got = torch.ops.fastift_cpp.ift_solve(g, gram[1:], 0.01, c, 5, 2).double()
            want = reference.ift_solve(g.double(), gram[1:].double(), 0.01, c.double(), 5, 2)
            assert float((got - want).norm() / want.norm()) < bound
        for a in (gram, gram[:, :1] * gram[:, :1].mT):
            got, want = torch.ops.fastift_cpp.sqrtm_psd(a, 1e-5)[0].double(), reference.sqrtm_psd(a.double(), 1e-5)[0]
            assert float((got - want).norm() / want.norm()) < bound
"""


@pytest.mark.parametrize("instructions", ["baseline", "avx2", "avx512"])
def test_every_instruction_set(library: Path, instructions: str) -> None:
    """The fastest is taken in this process; the others each need one of their own. One that is missing here means the next."""
    code = CHECK.format(tests=str(Path(__file__).parent), library=str(library))
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "FASTIFT_CPU": instructions}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_symbols_exist_in_torch_2_11(library: Path, shared: Path) -> None:
    known = set((shared / "native" / "torch_2.11_stable_symbols.txt").read_text().split())
    listed = subprocess.run(
        ["nm", "-D", "--undefined-only", str(library)], capture_output=True, text=True, check=True
    ).stdout
    wanted = {line.split()[-1] for line in listed.splitlines()}
    from_torch = {name for name in wanted if name.startswith(("aoti_torch", "torch_"))}
    assert from_torch
    assert from_torch <= known
    assert not any(name.startswith(("Py", "_Py")) for name in wanted)


def test_built_found_and_taken(tmp_path: Path) -> None:
    """As a user does it: `fastift build`, then every call takes it, unless told otherwise."""
    env = {**os.environ, "FASTIFT_CACHE": str(tmp_path), "FASTIFT_BUILD_CUDA": "0", "PYTHONWARNINGS": "error"}

    def run(*command: str, **changes: str) -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, *command], env={**env, **changes}, capture_output=True, text=True)

    built = run("-m", "fastift", "build")
    assert built.returncode == 0, built.stderr
    assert Path(built.stdout.strip()).is_file()
    code = (
        "import torch, fastift, sys; from fastift import native\n"
        "m = fastift.moments(torch.rand(1, 8, 100)); print(native.unusable(), native.unusable.cache_info().currsize)"
    )
    assert run("-c", code).stdout.split() == ["None", "1"]
    assert "switches it off" in run("-c", code, FASTIFT_NATIVE="0").stdout
    forced = run(
        "-c", "import torch, fastift; fastift.moments(torch.rand(1, 8, 9))", FASTIFT_NATIVE="0", FASTIFT_BACKEND="cpp"
    )
    assert "FASTIFT_BACKEND 'cpp' cannot be used" in forced.stderr
    wide = run("-c", "import torch, fastift; fastift.moments(torch.rand(1, 8, 9).double())", FASTIFT_BACKEND="cpp")
    assert "float32, float16 and bfloat16" in wide.stderr


def test_a_failing_compiler_is_reported_in_its_own_words(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("CXX", "false")
    with pytest.raises(_build.CannotBuild, match="the compiler failed"):
        _build.build(tmp_path / "_C.so")
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(_build, "compiler", lambda: None)
    with pytest.raises(_build.CannotBuild, match=r"no C\+\+ compiler"):
        _build.build(tmp_path / "_C.so")


def test_refusals_in_words() -> None:
    assert "runs on the CPU" in native.refuse("moments", torch.empty(1, device="meta"))
    assert "float64" in native.refuse("moments", torch.empty(1, dtype=torch.float64))
    assert native.refuse("moments", torch.empty(1)) is None
    from fastift import Stylizer

    with pytest.raises(InvalidInputError, match="backend must be one of cuda, triton, cpp, reference, got 'abacus'"):
        Stylizer(backend="abacus")
