"""One step of the paper's loop on all pixels, fused: one read of the features and of the content, one write."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import _launch
from ._launch import Config
from ._tiles import load_tile, row_scale, rows_times_pixels, scaled_rows_kernel, store_tile

__all__ = ["ift_update"]

OP = "fastift.kernels.ift_update"
MOST_RESIDENT = 128


def ift_update(
    f: Tensor, f_c: Tensor, gram: Tensor, style: Tensor, lr: float, c: float | Tensor, *, precision: str = "ieee"
) -> Tensor:
    """F' = F - 2 lr (F - F_c) - c (G - S) F,   c = 4 lr lam / n.

    f and f_c [B, C, N] of one dtype (float32, float16, bfloat16), each NCHW or channels_last; gram and style float32
    [B, C, C]; c a float or [B]. Returns [B, C, N] in the dtype and memory order of f.

    Up to 128 channels, half precision and tf32 keep c (G - S) on chip while a program walks over its pixels. Other products
    (ieee, tf32x3, more channels) read it tile by tile from L2; up to 128 channels (64 for tf32x3) one program still makes all
    rows of its pixels. Half-precision products use c (G - S) rounded, each row scaled into [-1, 1]; the rest of the sum is
    float32.
    """
    f, f_c, gram, style, c = checked(OP, f, f_c, gram, style, c, precision)
    out = torch.empty_like(f)
    with _launch.device_guard(f):
        if resident(f, precision):
            update_resident(f, f_c, gram, style, lr, c, out, precision)
        else:
            update_tiled(f, f_c, gram, style, lr, c, out, precision)
    return out


def checked(
    op: str, f: Tensor, f_c: Tensor, gram: Tensor, style: Tensor, c: float | Tensor, precision: str
) -> tuple[Tensor, Tensor, Tensor, Tensor, float | Tensor]:
    """The arguments as the kernels take them; raises InvalidInputError for what they cannot take."""
    _launch.check_precision(op, precision)
    _launch.check_features(op, "f", f)
    b, channels, _ = f.shape
    _launch.check_like(op, "f_c", f_c, tuple(f.shape), f.dtype, f.device)
    _launch.check_like(op, "gram", gram, (b, channels, channels), torch.float32, f.device)
    _launch.check_like(op, "style", style, (b, channels, channels), torch.float32, f.device)
    c = _launch.step_size(op, c, b, f.device)
    gram, style = _launch.rows_adjacent(gram), _launch.rows_adjacent(style)
    return _launch.unit_stride(f), _launch.unit_stride(f_c), gram, style, c


def resident(f: Tensor, precision: str) -> bool:
    """Whether c (G - S) fits on chip as an operand of tensor cores; tf32x3 would keep it twice and spill."""
    return f.shape[1] <= MOST_RESIDENT and _launch.dot_precision(f, precision) == "tf32"


def resident_configurations(dtype: torch.dtype, block_c: int, with_gram: bool, aligned: bool) -> list[Config]:
    """Wide and narrow, narrow alone where rows are not aligned: number by number, the addresses of a wide tile spill.

    Few channels need many pixels a step to have enough bytes in flight; the Gram's accumulator leaves room for fewer.
    """
    wide = 64 if block_c == 128 else 128
    if dtype == torch.float32:
        wide //= 2
    if with_gram:
        wide //= 2
    warps = 8 if block_c == 128 else 4
    narrow = Config({"BLOCK_N": max(16, wide // 2)}, warps, 4)
    return [Config({"BLOCK_N": wide}, warps, 3), narrow] if aligned else [narrow]


def tiled_configurations(dtype: torch.dtype, precision: str, c: int, aligned: bool) -> tuple[int, list[Config]]:
    """BLOCK_M and the configurations of A X for any C: what ieee and tf32x3 keep in registers is small.

    Where rows are not aligned, a narrow tile alone: number by number, the addresses of a wide one spill.
    """
    block = _launch.power_of_two(c, 64 if precision == "tf32x3" else 128)
    if not aligned:
        deep = 32 if dtype in _launch.HALF or precision == "tf32" else 16
        return block, [Config({"BLOCK_N": 32, "BLOCK_K": deep}, 8 if block >= 64 else 4, 3, 255)]
    if dtype in _launch.HALF:
        if block == 128:
            return block, [Config({"BLOCK_N": 128, "BLOCK_K": 32}, 8, 4), Config({"BLOCK_N": 128, "BLOCK_K": 64}, 8, 3)]
        return block, [Config({"BLOCK_N": 128, "BLOCK_K": 32}, 4, 3), Config({"BLOCK_N": 256, "BLOCK_K": 16}, 8, 3)]
    if precision == "tf32":
        return block, [
            Config({"BLOCK_N": 64, "BLOCK_K": 32}, 8, 3, 255),
            Config({"BLOCK_N": 32, "BLOCK_K": 32}, 8, 4, 255),
        ]
    if block == 128:
        return block, [
            Config({"BLOCK_N": 32, "BLOCK_K": 16}, 8, 3, 128),
            Config({"BLOCK_N": 64, "BLOCK_K": 16}, 8, 3, 255),
        ]
    return block, [Config({"BLOCK_N": 64, "BLOCK_K": 16}, 8, 3, 128), Config({"BLOCK_N": 32, "BLOCK_K": 16}, 8, 4, 128)]


def update_resident(
    f: Tensor,
    f_c: Tensor,
    gram: Tensor,
    style: Tensor,
    lr: float,
    c: float | Tensor,
    out: Tensor,
    precision: str,
    partial: Tensor | None = None,
) -> None:
    """Launch the kernel that keeps c (G - S) on chip; with partial [B, parts, size] it also sums F' F'^T, a part a program."""
    b, channels, n = f.shape
    block_c = _launch.power_of_two(channels, MOST_RESIDENT)
    with_gram = partial is not None
    programs = partial.shape[1] if with_gram else walkers(n, b, f.device)

    def launch(config: Config) -> None:
        ift_update_resident_kernel[(programs, b)](
            f,
            f_c,
            out,
            gram,
            style,
            c,
            partial if with_gram else out,
            channels,
            n,
            partial.stride(1) if with_gram else 0,
            2.0 * lr,
            *f.stride(),
            *f_c.stride(),
            *out.stride(),
            gram.stride(0),
            style.stride(0),
            C_TENSOR=isinstance(c, Tensor),
            GRAM=with_gram,
            PRECISION=_launch.dot_precision(f, precision),
            BLOCK_C=block_c,
            **config.options,
        )

    aligned = _launch.aligned(f, f_c)
    configs = resident_configurations(f.dtype, block_c, with_gram, aligned)
    _launch.tuned(("ift_update_resident", f.dtype, with_gram, aligned, block_c), f.device, configs, launch)


def walkers(n: int, batch: int, device: torch.device) -> int:
    """Programs a sample that share its pixels: two a multiprocessor, none with less than 64 pixels."""
    return max(1, min(triton.cdiv(2 * _launch.processors(device), batch), triton.cdiv(n, 64)))


def update_tiled(
    f: Tensor, f_c: Tensor, gram: Tensor, style: Tensor, lr: float, c: float | Tensor, out: Tensor, precision: str
) -> None:
    """Write c (G - S) once, then launch one program for every tile of rows and pixels."""
    b, channels, n = f.shape
    half = f.dtype in _launch.HALF
    factor = torch.empty(b, channels, channels, dtype=f.dtype, device=f.device)
    scale = torch.empty(b, channels, dtype=torch.float32, device=f.device)
    scaled_rows_kernel[(triton.cdiv(channels, 16), b)](
        gram,
        style,
        c,
        factor,
        scale,
        channels,
        gram.stride(0),
        style.stride(0),
        DIFFERENCE=True,
        C_TENSOR=isinstance(c, Tensor),
        SCALED=half,
        BLOCK_M=16,
        BLOCK_K=128,
        num_warps=4,
    )
    precision = _launch.dot_precision(f, precision)
    aligned = _launch.aligned(f, f_c)
    block_m, configs = tiled_configurations(f.dtype, precision, channels, aligned)
    row_tiles = triton.cdiv(channels, block_m)

    def launch(config: Config) -> None:
        ift_update_tiled_kernel[(row_tiles * triton.cdiv(n, config.blocks["BLOCK_N"]), b)](
            f,
            f_c,
            out,
            factor,
            scale,
            channels,
            n,
            row_tiles,
            2.0 * lr,
            *f.stride(),
            *f_c.stride(),
            *out.stride(),
            SCALED=half,
            PRECISION=precision,
            BLOCK_M=block_m,
            **config.options,
        )

    key = ("ift_update_tiled", f.dtype, precision, aligned, block_m, row_tiles > 4)
    _launch.tuned(key, f.device, configs, launch)


@triton.jit
def ift_update_resident_kernel(
    f_ptr,
    f_c_ptr,
    out_ptr,
    gram_ptr,
    style_ptr,
    c,
    partial_ptr,
    C,
    N,
    size,
    pull,
    stride_fb,
    stride_fc,
    stride_fn,
    stride_cb,
    stride_cc,
    stride_cn,
    stride_ob,
    stride_oc,
    stride_on,
    stride_gb,
    stride_sb,
    C_TENSOR: tl.constexpr,
    GRAM: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """F' = F - pull (F - F_c) - D F with D = c (G - S) on chip; all rows of every pixel tile, and with GRAM sum F' F'^T."""
    batch = tl.program_id(1).to(tl.int64)
    f_ptr += batch * stride_fb
    f_c_ptr += batch * stride_cb
    out_ptr += batch * stride_ob
    factor = tl.load(c + batch) if C_TENSOR else c
    channels = tl.arange(0, BLOCK_C)
    # [BLOCK_C, BLOCK_C]
    d = load_tile(gram_ptr + batch * stride_gb, channels, channels, C, 1, C, C)
    d = factor * (d - load_tile(style_ptr + batch * stride_sb, channels, channels, C, 1, C, C))
    scale = row_scale(tl.max(tl.abs(d), 1))
    d = (d / scale[:, None]).to(f_ptr.dtype.element_ty)
    acc = tl.zeros((BLOCK_C, BLOCK_C), dtype=tl.float32)
    for start in range(tl.program_id(0) * BLOCK_N, N, tl.num_programs(0) * BLOCK_N):
        pixels = start + tl.arange(0, BLOCK_N)
        # [BLOCK_C, BLOCK_N]
        f = load_tile(f_ptr, channels, pixels, stride_fc, stride_fn, C, N)
        f_c = load_tile(f_c_ptr, channels, pixels, stride_cc, stride_cn, C, N).to(tl.float32)
        step = tl.dot(d, f, input_precision=PRECISION) * scale[:, None]
        f = f.to(tl.float32)
        new = (f - pull * (f - f_c) - step).to(out_ptr.dtype.element_ty)
        store_tile(out_ptr, new, channels, pixels, stride_oc, stride_on, C, N)
        if GRAM:
            # the Gram of what was stored, rounding included
            acc = tl.dot(new, tl.trans(new), acc, input_precision=PRECISION)
    if GRAM:
        partial_ptr += (batch * tl.num_programs(0) + tl.program_id(0)) * size
        store_tile(partial_ptr, acc, channels, channels, C, 1, C, C)


@triton.jit
def ift_update_tiled_kernel(
    f_ptr,
    f_c_ptr,
    out_ptr,
    d_ptr,
    scale_ptr,
    C,
    N,
    row_tiles,
    pull,
    stride_fb,
    stride_fc,
    stride_fn,
    stride_cb,
    stride_cc,
    stride_cn,
    stride_ob,
    stride_oc,
    stride_on,
    SCALED: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """F' = F - pull (F - F_c) - scale (D F) for one tile of rows and pixels."""
    # rows come first in the grid: programs that read the same pixels run together and find them in L2
    rows = (tl.program_id(0) % row_tiles) * BLOCK_M + tl.arange(0, BLOCK_M)
    pixels = (tl.program_id(0) // row_tiles) * BLOCK_N + tl.arange(0, BLOCK_N)
    batch = tl.program_id(1).to(tl.int64)
    f_ptr += batch * stride_fb
    step = rows_times_pixels(
        d_ptr + batch * C * C, f_ptr, rows, pixels, C, N, stride_fc, stride_fn, PRECISION, BLOCK_M, BLOCK_N, BLOCK_K
    )
    if SCALED:
        step *= tl.load(scale_ptr + batch * C + rows, mask=rows < C, other=0.0)[:, None]
    # [BLOCK_M, BLOCK_N]
    f = load_tile(f_ptr, rows, pixels, stride_fc, stride_fn, C, N).to(tl.float32)
    f_c = load_tile(f_c_ptr + batch * stride_cb, rows, pixels, stride_cc, stride_cn, C, N).to(tl.float32)
    store_tile(out_ptr + batch * stride_ob, f - pull * (f - f_c) - step, rows, pixels, stride_oc, stride_on, C, N)
