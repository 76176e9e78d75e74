"""The CUDA operations. Their kernels, as they are, run on a CPU (tests/cuda/) and, where there is one, on a GPU, against the
reference in float64; nvcc compiles them without spills, and the library loads and registers without a GPU."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from features import features, relative

from fastift import InvalidInputError, Stylizer, _build, cuda, reference
from fastift.errors import FastiftError

FOLDER = Path(__file__).parent / "cuda"
# rms error over the exact result's rms, on inputs already rounded
BOUNDS = {torch.float32: 1e-6, torch.float64: 1e-13}
FLOORS = {torch.float32: 1e-6, torch.float64: 1e-13}
GUARD = 64


class OnCpu:
    """The kernels run by fibers, see tests/cuda/cuda_on_cpu.h. Outputs and workspaces start as NaN, with a guard behind them."""

    def __init__(self, library: Path) -> None:
        self.library = ctypes.CDLL(str(library))
        for name in ("sqrtm_psd_workspace", "ift_solve_workspace"):
            getattr(self.library, name).restype = ctypes.c_int64
        for name in ("sqrtm_psd", "ift_solve"):
            getattr(self.library, name).restype = ctypes.c_char_p

    def configure(self, blocks_at_a_time: int = 3, order: int = 0) -> None:
        self.library.configure(ctypes.c_int64(blocks_at_a_time), ctypes.c_int(order))

    def sqrtm_psd(self, a: torch.Tensor, eps: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        b, c, _ = a.shape
        size = self.library.sqrtm_psd_workspace(ctypes.c_int64(b), ctypes.c_int64(c))
        root, inverse = Guarded(b * c * c, a.dtype), Guarded(b * c * c, a.dtype)
        report, workspace = Guarded(b * 3, torch.float64), Guarded(size, torch.float64)
        a = a.contiguous()
        self.call("sqrtm_psd", a, root, inverse, report, workspace, b, c, eps, a.dtype == torch.float64)
        return root.read(b, c, c), inverse.read(b, c, c), report.read(b, 3)

    def ift_solve(self, gram: torch.Tensor, style: torch.Tensor, lr: float, c: torch.Tensor, n_upd: int, n_iter: int):
        b, n, _ = gram.shape
        is_double = gram.dtype == torch.float64
        size = self.library.ift_solve_workspace(ctypes.c_int64(b), ctypes.c_int64(n), ctypes.c_bool(is_double))
        out, workspace = Guarded(b * n * n, gram.dtype), Guarded(size, gram.dtype)
        given = gram.contiguous(), style.contiguous(), c.contiguous()
        self.call("ift_solve", *given, out, workspace, float(lr), b, n, n_upd, n_iter, is_double)
        return out.read(b, n, n)

    def call(self, name: str, *args) -> None:
        kinds = {bool: ctypes.c_bool, int: ctypes.c_int64, float: ctypes.c_double}
        given = [kinds[type(x)](x) if type(x) in kinds else ctypes.c_void_p(x.data_ptr()) for x in args]
        why = getattr(self.library, name)(*given)
        assert why is None, why.decode()
        for x in args:
            if isinstance(x, Guarded):
                assert torch.equal(x.memory[-GUARD:], torch.full_like(x.memory[-GUARD:], 7)), (
                    f"{name} wrote past its memory"
                )


class Guarded:
    def __init__(self, size: int, dtype: torch.dtype) -> None:
        self.memory = torch.full((size + GUARD,), torch.nan, dtype=dtype)
        self.memory[size:] = 7

    def data_ptr(self) -> int:
        return self.memory.data_ptr()

    def read(self, *shape: int) -> torch.Tensor:
        return self.memory[:-GUARD].reshape(shape)


class OnGpu:
    """The built library on a real GPU."""

    def configure(self, blocks_at_a_time: int = 3, order: int = 0) -> None:
        pass

    def sqrtm_psd(self, a: torch.Tensor, eps: float) -> tuple[torch.Tensor, ...]:
        return tuple(t.cpu() for t in torch.ops.fastift_cuda.sqrtm_psd(a.cuda(), eps))

    def ift_solve(self, gram: torch.Tensor, style: torch.Tensor, lr: float, c: torch.Tensor, n_upd: int, n_iter: int):
        return torch.ops.fastift_cuda.ift_solve(gram.cuda(), style.cuda(), lr, c.cuda(), n_upd, n_iter).cpu()


@pytest.fixture(scope="session")
def on_cpu(tmp_path_factory) -> OnCpu:
    compiler = _build.compiler()
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("the kernels are run on a CPU with g++ on Linux")
    library = tmp_path_factory.mktemp("cuda") / "on_cpu.so"
    flags = [
        "-O2",
        "-std=c++17",
        "-Wall",
        "-Wno-unknown-pragmas",
        "-Werror",
        "-fPIC",
        "-fno-gnu-unique",
        "-shared",
        f"-I{FOLDER}",
    ]
    done = subprocess.run(
        [compiler, *flags, str(FOLDER / "on_cpu.cpp"), "-o", str(library)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return OnCpu(library)


@pytest.fixture(params=["cpu", "gpu"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    if request.param == "gpu":
        monkeypatch.setenv("FASTIFT_CUDA", "1")
        if cuda.unusable():
            pytest.skip(cuda.unusable())
        return OnGpu()
    machine = request.getfixturevalue("on_cpu")
    machine.configure()
    return machine


def psd(channels: int, rank: int, *, condition: float = 1e3, seed: int = 0, batch: int = 1) -> torch.Tensor:
    """[batch, C, C] in float64, with eigenvalues 1 .. 1 / condition on a random subspace."""
    rng = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(batch, channels, rank, generator=rng, dtype=torch.float64))[0]
    values = torch.logspace(0, -torch.log10(torch.tensor(condition)).item(), rank, dtype=torch.float64)
    a = (basis * values) @ basis.mT
    return 0.5 * (a + a.mT)


def check(kernels, a: torch.Tensor, eps: float, rank: int | None = None) -> None:
    """Root squared against a, the projector against its definition, and both against the reference."""
    root, inverse, report = kernels.sqrtm_psd(a, eps)
    assert report[:, :2].tolist() == [[0.0, 0.0]] * len(a)
    assert torch.equal(root, root.mT)
    assert torch.equal(inverse, inverse.mT)
    bound = BOUNDS[a.dtype]
    want = reference.sqrtm_psd(a.double(), eps)
    for x, r, i, wr, wi in zip(a.double(), root.double(), inverse.double(), *want, strict=True):
        # by their norms, that no power of a scale leaves the range of double
        unit = x.norm().clamp_min(1e-290).sqrt()
        assert float((r / unit - wr / unit).norm()) < bound
        kept = wr @ wi
        assert float((r @ i - kept).norm()) <= 100 * bound * max(1, float(wr.norm() * wi.norm()))
        if rank is not None:
            assert abs(float((r @ i).trace()) - rank) < 1e-2


@pytest.mark.parametrize("dtype", list(BOUNDS), ids=str)
@pytest.mark.parametrize("channels", [1, 2, 3, 16, 33, 60, 64, 65])
def test_sqrtm_psd(kernels, channels: int, dtype: torch.dtype) -> None:
    for rank in {1, max(1, channels // 3), channels}:
        check(kernels, psd(channels, rank, condition=100, batch=2).to(dtype), 10 * FLOORS[dtype], rank)


@pytest.mark.parametrize("dtype", list(BOUNDS), ids=str)
@pytest.mark.parametrize("channels", [20, 70])
@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_sqrtm_psd_of_features_with_dead_channels_at_any_scale(
    kernels, scale: float, channels: int, dtype: torch.dtype
) -> None:
    f = features(channels, channels // 2, dead=channels // 4)
    check(kernels, (scale * reference.moments(f)[2]).to(dtype), FLOORS[dtype])


@pytest.mark.parametrize("channels", [24, 66])
def test_sqrtm_psd_of_ill_conditioned_matrices(kernels, channels: int) -> None:
    a = psd(channels, channels, condition=1e12)
    root, inverse, report = kernels.sqrtm_psd(a, 1e-14)
    assert report[0, 0] == 0
    assert relative(root @ root, a) < 1e-12
    assert abs(float((inverse @ a @ inverse)[0].trace()) - channels) < 1e-2


@pytest.mark.parametrize("channels", [7, 65])
def test_sqrtm_psd_of_special_matrices(kernels, channels: int) -> None:
    eye = torch.eye(channels, dtype=torch.float64)
    a = torch.stack(
        [0 * eye, eye, 4 * eye, torch.ones_like(eye), torch.diag(torch.arange(channels, dtype=torch.float64))]
    )
    check(kernels, a, 1e-13)
    root, inverse, _ = kernels.sqrtm_psd(a[:1], 1e-13)
    assert not root.any()
    assert not inverse.any()


def test_the_floor_drops_what_is_below_it(kernels) -> None:
    a = torch.diag(torch.tensor([4.0, 1.0, 1e-3, 0.0], dtype=torch.float64))[None]
    root, inverse, _ = kernels.sqrtm_psd(a, 0.01)
    assert torch.allclose(root.diagonal(dim1=1, dim2=2), torch.tensor([[2.0, 1.0, 0.0, 0.0]], dtype=torch.float64))
    assert torch.allclose(inverse.diagonal(dim1=1, dim2=2), torch.tensor([[0.5, 1.0, 0.0, 0.0]], dtype=torch.float64))


@pytest.mark.parametrize("channels", [5, 65])
def test_refused_matrices_are_reported_alone(kernels, channels: int) -> None:
    """Each spoils its own results, to the last entry, and nobody else's."""
    good = psd(channels, channels, condition=10)[0]
    nan, infinite = good.clone(), good.clone()
    nan[-1, 0] = torch.nan
    infinite[0, -1] = -torch.inf
    crooked = good + 0.1 * torch.ones_like(good).triu(1)
    a = torch.stack([good, nan, infinite, crooked, -3 * good, good])
    root, inverse, report = kernels.sqrtm_psd(a, 1e-12)
    assert report[:, 0].tolist() == [0, cuda.NOT_FINITE, cuda.NOT_FINITE, cuda.ASYMMETRIC, cuda.INDEFINITE, 0]
    assert float(report[4, 1]) == pytest.approx(-3, rel=1e-9)
    assert torch.isnan(root[1:5]).all()
    assert torch.isnan(inverse[1:5]).all()
    alone = kernels.sqrtm_psd(good[None], 1e-12)
    for i in (0, 5):
        assert torch.equal(root[i], alone[0][0])
        assert torch.equal(inverse[i], alone[1][0])


def test_reports_become_the_references_errors() -> None:
    good = psd(4, 4)
    for bad, row in [
        (torch.where(torch.eye(4) > 0, torch.nan, good), [cuda.NOT_FINITE, 0, 0]),
        (good + torch.triu(torch.ones(4, 4), 1), [cuda.ASYMMETRIC, 0, 0]),
        (-good, [cuda.INDEFINITE, -1.0, 5]),
    ]:
        with pytest.raises(InvalidInputError) as wanted:
            reference.sqrtm_psd(bad, 1e-6)
        with pytest.raises(InvalidInputError, match=re.escape(str(wanted.value))):
            cuda.check_report(torch.tensor([[0.0, 0.0, 3.0], row], dtype=torch.float64))
    with pytest.raises(FastiftError, match=r"must converge, got 0.5 of the largest entry left .* after 60 sweeps"):
        cuda.check_report(torch.tensor([[cuda.NOT_CONVERGED, 0.5, 60.0]]))
    with pytest.raises(FastiftError, match="verdict"):  # of a kernel that never wrote it
        cuda.check_report(torch.full((1, 3), torch.nan))
    cuda.check_report(torch.zeros(2, 3))


def solve_arguments(
    channels: int, dtype: torch.dtype, batch: int = 2
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    gram, style = (psd(channels, r, condition=100, batch=batch, seed=r) for r in (channels, max(1, channels // 2)))
    # neither has to be symmetric
    gram = gram + 0.01 * torch.randn(gram.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return gram.to(dtype), style.to(dtype), torch.linspace(0.3, 0.5, batch, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("dtype", list(BOUNDS), ids=str)
@pytest.mark.parametrize("channels", [1, 2, 3, 16, 33, 48, 60, 64, 65, 100])
def test_ift_solve(kernels, channels: int, dtype: torch.dtype) -> None:
    gram, style, c = solve_arguments(channels, dtype)
    for lr, n_upd, n_iter in ((0.0, 3, 1), (0.05, 2, 3), (0.01, 0, 1)):
        got = kernels.ift_solve(gram, style, lr, c, n_upd, n_iter)
        want = reference.ift_solve(gram.double(), style.double(), lr, c.double(), n_upd, n_iter)
        assert relative(got, want) < BOUNDS[dtype], (lr, n_upd, n_iter)


@pytest.mark.parametrize("channels", [6, 70])
@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_ift_solve_at_any_scale(kernels, scale: float, channels: int) -> None:
    gram, style, c = solve_arguments(channels, torch.float32)
    gram, style, c = scale * gram, scale * style, c / scale
    want = reference.ift_solve(gram.double(), style.double(), 0.01, c.double(), 4, 1)
    assert relative(kernels.ift_solve(gram, style, 0.01, c, 4, 1), want) < 1e-6


@pytest.mark.parametrize("channels", [6, 70])
def test_a_diverging_iteration_is_seen_to_diverge(kernels, channels: int) -> None:
    gram, style, c = solve_arguments(channels, torch.float32)
    assert not torch.isfinite(kernels.ift_solve(gram, style, 0.0, 1e6 * c, 12, 1)).all()


@pytest.mark.parametrize("channels", [34, 65])
def test_no_result_depends_on_the_order_of_threads_or_the_number_of_blocks(on_cpu: OnCpu, channels: int) -> None:
    """Between two barriers, threads run in any order: what changes with it is a race."""
    a = psd(channels, channels, condition=10).float()
    gram, style, c = solve_arguments(channels, torch.float32, batch=1)
    results = []
    for blocks, order in ((3, 0), (3, 1), (1, 2), (7, 3)):
        on_cpu.configure(blocks, order)
        results.append((*on_cpu.sqrtm_psd(a, 1e-6), on_cpu.ift_solve(gram, style, 0.05, c, 2, 2)))
    for other in results[1:]:
        assert all(torch.equal(x, y) for x, y in zip(results[0], other, strict=True))


def test_a_missing_barrier_would_be_seen(tmp_path: Path, on_cpu: OnCpu) -> None:
    """The test above, tested: without one of the barriers of a sweep it fails."""
    copy = tmp_path / "csrc" / "cuda"
    shutil.copytree(FOLDER.parents[1] / "csrc" / "cuda", copy)
    shutil.copytree(FOLDER, tmp_path / "tests" / "cuda")
    source = (copy / "sqrtm_psd.h").read_text()
    begin, end = source.index("void sweep("), source.index("double largest_entry(")
    last = source.rindex("__syncthreads();", begin, end)  # between two rounds
    broken = source[:last] + source[last:].replace("__syncthreads();", "", 1)
    assert broken != source
    (copy / "sqrtm_psd.h").write_text(broken)
    library, folder = tmp_path / "broken.so", tmp_path / "tests" / "cuda"
    command = [
        _build.compiler(),
        "-O1",
        "-std=c++17",
        "-w",
        "-fPIC",
        "-shared",
        f"-I{folder}",
        str(folder / "on_cpu.cpp"),
    ]
    subprocess.run([*command, "-o", str(library)], check=True)
    machine, results = OnCpu(library), []
    for order in (0, 1):
        machine.configure(3, order)
        results.append(machine.sqrtm_psd(psd(34, 34), 1e-6)[0])
    assert not torch.equal(*results)


def test_refusals_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "FASTIFT_CUDA=1 tries them" in cuda.unusable()
    monkeypatch.setenv("FASTIFT_CUDA", "1")
    if not torch.cuda.is_available():
        assert "sees no GPU" in cuda.unusable()
    assert "runs on a GPU" in cuda.refuse("sqrtm_psd", torch.empty(1))


def test_what_is_built_and_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTIFT_BUILD_CUDA", "0")
    assert _build.why_skip_cuda() == "FASTIFT_BUILD_CUDA=0"
    monkeypatch.setenv("FASTIFT_BUILD_CUDA", "1")
    monkeypatch.setattr(_build, "why_not", lambda: None)
    monkeypatch.setattr(_build, "nvcc", lambda: None)
    assert "no CUDA compiler" in _build.why_skip_cuda()
    with pytest.raises(_build.CannotBuild, match="no CUDA compiler"):
        _build.build_cuda(Path("never"))
    monkeypatch.setattr(_build, "nvcc", lambda: "nvcc")
    assert _build.why_skip_cuda() is None
    monkeypatch.delenv("FASTIFT_BUILD_CUDA")
    monkeypatch.setattr(os.path, "exists", lambda path: False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "no NVIDIA driver" in _build.why_skip_cuda()


KERNELS = {
    "small_sqrtm_kernel", "prepare_kernel", "jacobi_kernel", "compose_kernel", "alone_solve_kernel", "spread_solve_kernel",
}  # fmt: skip


@pytest.fixture(
    scope="module",
    params=[("90a",), pytest.param(_build.CUDA_TARGETS, marks=pytest.mark.nvcc)],
    ids=["one target", "all targets"],
)
def built(request: pytest.FixtureRequest, tmp_path_factory) -> tuple[Path, tuple[str, ...], str]:
    """The library, its targets, and what the assembler said about each kernel."""
    why = _build.why_not_cuda()
    if why is not None:
        pytest.skip(f"the CUDA library cannot be built here: {why}")
    said = []

    def run(command: list[str]) -> None:
        verbose = ["-Xptxas=-v"] if command[0] == _build.nvcc() else []
        done = subprocess.run([*command, *verbose], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        said.append(done.stderr)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_build, "_run", run)
        library = _build.build_cuda(tmp_path_factory.mktemp("cuda") / _build.CUDA_LIBRARY, request.param)
    return library, request.param, "".join(said)


def test_no_kernel_spills(built: tuple[Path, tuple[str, ...], str]) -> None:
    _, cards, said = built
    entries = re.findall(
        r"Compiling entry function '(\w+)' for 'sm_(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, "
        r"(\d+) bytes spill loads.*?Used (\d+) registers",
        said,
        re.DOTALL,
    )
    names = {(card, next(k for k in KERNELS if k in entry)) for entry, card, *_ in entries}
    assert names == {(card, kernel) for card in cards for kernel in KERNELS}
    for entry, card, stack, stores, loads, registers in entries:
        print(f"sm_{card:4} {registers:>3} registers {stack:>3} B stack {entry}")
        assert [stack, stores, loads] == ["0", "0", "0"], (entry, card)


def test_symbols_exist_in_torch_2_11(built: tuple[Path, tuple[str, ...], str], shared: Path) -> None:
    known = set((shared / "native" / "torch_2.11_stable_symbols.txt").read_text().split())
    listed = subprocess.run(["nm", "-D", "--undefined-only", str(built[0])], capture_output=True, text=True, check=True)
    wanted = {tuple(line.split()[-2:]) for line in listed.stdout.splitlines()}
    from_torch = {name for _, name in wanted if name.startswith(("aoti_torch", "torch_"))}
    # of libtorch_cuda, and weak, so that the library loads without it
    stream = "aoti_torch_get_current_cuda_stream"
    assert ("w", stream) in wanted
    assert from_torch - {stream} <= known
    assert len(from_torch) > 10
    assert not [name for _, name in wanted if name.startswith(("Py", "_Py", "cuda", "__cuda"))]


def test_the_library_loads_and_registers_without_a_gpu(built: tuple[Path, tuple[str, ...], str]) -> None:
    code = (
        "import torch\n"
        f"torch.ops.load_library({str(built[0])!r})\n"
        "for name in ('sqrtm_psd', 'ift_solve'):\n"
        "    assert torch._C._dispatch_has_kernel_for_dispatch_key('fastift_cuda::' + name, 'CUDA'), name\n"
        "try:\n"
        "    torch.ops.fastift_cuda.sqrtm_psd(torch.eye(3)[None], 0.0)\n"
        "except NotImplementedError as err:\n"
        "    assert 'CPU' in str(err)\n"
        "else:\n"
        "    raise AssertionError('ran on a CPU')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")
class TestOnAGpu:
    @pytest.fixture(autouse=True)
    def switched_on(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FASTIFT_CUDA", "1")
        monkeypatch.setenv("FASTIFT_BACKEND", "cuda")
        if cuda.unusable():
            pytest.skip(cuda.unusable())

    @pytest.mark.parametrize("channels", [128, 257, 512, 1024])
    def test_large(self, channels: int) -> None:
        f = features(channels, 4 * channels, dead=3)
        for dtype in BOUNDS:
            a = reference.moments(f)[2].to(dtype)
            check(OnGpu(), a, FLOORS[dtype])
            gram, style, c = solve_arguments(channels, dtype, batch=1)
            got = OnGpu().ift_solve(gram, style, 0.01, c, 15, 1)
            assert relative(got, reference.ift_solve(gram.double(), style.double(), 0.01, c.double(), 15, 1)) < 1e-5

    def test_the_same_bits_twice(self) -> None:
        a = psd(200, 120).cuda()
        first, second = (torch.ops.fastift.sqrtm_psd(a, 1e-12) for _ in range(2))
        assert all(torch.equal(x, y) for x, y in zip(first, second, strict=True))

    def test_gradients_and_errors(self) -> None:
        a = psd(8, 8).cuda().requires_grad_()
        torch.ops.fastift.sqrtm_psd(a, 1e-9)[0].sum().backward()
        assert torch.isfinite(a.grad).all()
        for bad, why in ((a * torch.nan, "finite"), (-a, "semi-definite"), (a.half(), "float32 or float64")):
            with pytest.raises(InvalidInputError, match=why):
                torch.ops.fastift.sqrtm_psd(bad.detach(), 1e-9)

    @pytest.mark.parametrize("name", ["ift", "wct"])
    def test_engine_follows_the_cpu(self, name: str) -> None:
        rng = torch.Generator().manual_seed(0)
        content, style = (torch.rand(2, 3, 96, 72, generator=rng) ** k for k in (1, 2))
        want = Stylizer(device="cpu", backend="reference")(content, style, transform=name)
        got = Stylizer(device="cuda", backend="cuda")(content, style, transform=name).cpu()
        assert float((got - want).abs().mean()) < 2e-3

    @pytest.mark.parametrize("channels", [16, 96])
    def test_captured_in_a_graph(self, channels: int) -> None:
        a = psd(channels, channels, condition=10).cuda()
        gram, style, c = (t.cuda() for t in solve_arguments(channels, torch.float32, batch=1))
        want = torch.ops.fastift.sqrtm_psd(a, 1e-12), torch.ops.fastift.ift_solve(gram, style, 0.01, c, 5, 1)
        torch.cuda.synchronize()
        graph, a_in = torch.cuda.CUDAGraph(), a.clone()
        with torch.cuda.graph(graph):
            got = torch.ops.fastift.sqrtm_psd(a_in, 1e-12), torch.ops.fastift.ift_solve(gram, style, 0.01, c, 5, 1)
        graph.replay()
        assert torch.equal(got[0][0], want[0][0])
        assert torch.equal(got[1], want[1])
        a_in.neg_()
        graph.replay()
        assert torch.isnan(got[0][0]).all()
        assert torch.isnan(got[0][1]).all()
