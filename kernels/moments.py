"""Pixel count, mean and uncentred Gram of features, in one read: products of tiles, split over pixels, then a fixed-order sum."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import _launch
from ._launch import Config
from ._tiles import load_tile, lower_tile, store_tile

__all__ = ["moments"]

OP = "fastift.kernels.moments"
# a share of the pixels is a multiple of the longest BLOCK_N, so that only the last block of an image is masked
SHARE = 256
MOST_WORKSPACE = 64 * 2**20
REDUCE_C = 16
REDUCE_PARTS = 32
TINY = tl.constexpr(1.1754943508222875e-38)


def moments(x: Tensor, weight: Tensor | None = None, *, precision: str = "ieee") -> tuple[Tensor, Tensor, Tensor]:
    """n = sum_p w_p,   mean = (1/n) sum_p w_p x_p,   gram = (1/n) sum_p w_p x_p x_p^T;   w = 1 without weights.

    x [B, C, N] float32, float16 or bfloat16, read in place where pixels or channels are adjacent (NCHW, channels_last).
    weight None or float32 [B, R, N], soft weights of R regions in [0, inf). Returns float32 n [B], mean [B, C] and gram
    [B, C, C], or n [B, R], mean [B, R, C] and gram [B, R, C, C]; a region without weight has zero moments. gram is symmetric
    to the bit. precision ("ieee", "tf32x3", "tf32") is that of float32 products; float16 and bfloat16 products are exact, and
    with weights w x is kept to float32 (tf32x3), since rounding it to half precision could overflow.
    """
    _launch.check_precision(OP, precision)
    _launch.check_features(OP, "x", x)
    b, c, n_pixels = x.shape
    weighted = weight is not None
    regions = 1
    if weighted:
        if not isinstance(weight, Tensor) or weight.dim() != 3 or weight.shape[1] == 0:
            got = tuple(weight.shape) if isinstance(weight, Tensor) else type(weight).__name__
            raise _launch.InvalidInputError(f"{OP}: weight must be a tensor [B, R, N] with R > 0, got {got}")
        regions = weight.shape[1]
        _launch.check_like(OP, "weight", weight, (b, regions, n_pixels), torch.float32, x.device)
        weight = weight if weight.stride(2) == 1 else weight.contiguous()
    x = _launch.unit_stride(x)
    if x.dtype in _launch.HALF:
        precision = "tf32x3" if weighted else "tf32"
    aligned = _launch.aligned(x)
    block_c, configs = configurations(x.dtype, c, precision, aligned)
    tiles = triton.cdiv(c, block_c)
    pairs = tiles * (tiles + 1) // 2
    parts, share = split(n_pixels, pairs * regions * b, b * regions * c * c * 4, x.device)
    partial = torch.empty(b * regions, parts, partial_size(c), dtype=torch.float32, device=x.device)

    def launch(config: Config) -> None:
        partial_moments_kernel[(pairs * regions, parts, b)](
            x,
            weight if weighted else x,
            partial,
            c,
            n_pixels,
            regions,
            share,
            partial.stride(1),
            *x.stride(),
            weight.stride(0) if weighted else 0,
            weight.stride(1) if weighted else 0,
            WEIGHTED=weighted,
            SINGLE=tiles == 1,
            PRECISION=precision,
            BLOCK_C=block_c,
            **config.options,
        )

    with _launch.device_guard(x):
        key = ("moments", x.dtype, precision, weighted, aligned, block_c, tiles > 4)
        _launch.tuned(key, x.device, configs, launch)
        n, mean, gram = reduce_moments(partial, c, n_pixels, weighted=weighted)
    if weighted:
        return n.view(b, regions), mean.view(b, regions, c), gram.view(b, regions, c, c)
    return n, mean, gram


def configurations(dtype: torch.dtype, c: int, precision: str, aligned: bool) -> tuple[int, list[Config]]:
    """BLOCK_C and the configurations for it, wide then narrow; the narrow one alone where rows are not aligned.

    Up to 128 channels a tensor-core tile holds every channel, so that x is read once: what differs is how many bytes are in
    flight. tf32x3 keeps two parts of every operand and ieee keeps operands in registers: 64 x 64 is what they can hold.
    Without alignment a tile is loaded number by number, and the addresses of a wide one spill.
    """
    if precision in ("ieee", "tf32x3"):
        block = _launch.power_of_two(c, 64)
        if block == 64:
            wide, narrow = (32, 8, 3, 128 if precision == "ieee" else 255), (16, 8, 4, 255)
        else:
            wide, narrow = (32, 4, 3), (16, 4, 4)
    else:
        block = _launch.power_of_two(c, 128)
        if dtype == torch.float32:
            wide, narrow = ((32, 8, 4), (16, 8, 6)) if block == 128 else ((64, 4, 3), (32, 4, 5))
        else:
            wide, narrow = ((64, 8, 4), (32, 8, 6)) if block == 128 else ((128, 8, 4, 128), (64, 4, 4))
    # (BLOCK_N, warps, stages, registers)
    return block, [Config({"BLOCK_N": n}, *rest) for n, *rest in ([wide, narrow] if aligned else [narrow])]


def split(n_pixels: int, programs: int, workspace: int, device: torch.device) -> tuple[int, int]:
    """(parts, pixels a part): enough parts to fill the card twice, each at least one SHARE, in at most MOST_WORKSPACE bytes."""
    parts = max(1, 2 * _launch.processors(device) // programs)
    parts = max(1, min(parts, triton.cdiv(n_pixels, SHARE), MOST_WORKSPACE // workspace))
    share = triton.cdiv(triton.cdiv(n_pixels, parts), SHARE) * SHARE
    return triton.cdiv(n_pixels, share), share


def partial_size(c: int) -> int:
    """Numbers in one set of partial moments: Gram, sum, weight, and padding that keeps vector stores aligned."""
    return triton.cdiv(c * c + c + 1, 32) * 32


def reduce_moments(
    partial: Tensor, c: int, n_pixels: int, *, weighted: bool = False, only_gram: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Sum partial moments [S, parts, partial_size(C)] over the parts, always in the same order; returns n [S], mean, gram."""
    s, parts, size = partial.shape
    n = partial.new_empty(s)
    mean = partial.new_empty(s, c)
    gram = partial.new_empty(s, c, c)
    tiles = triton.cdiv(c, REDUCE_C)
    reduce_moments_kernel[(tiles * (tiles + 1) // 2, s)](
        partial,
        n,
        mean,
        gram,
        c,
        parts,
        size,
        float(n_pixels),
        WEIGHTED=weighted,
        ONLY_GRAM=only_gram,
        BLOCK_C=REDUCE_C,
        BLOCK_P=REDUCE_PARTS,
        num_warps=8,
    )
    return n, mean, gram


@triton.jit
def gram_of_tile(
    x_ptr,
    w_ptr,
    mean_ptr,
    n_ptr,
    rows,
    first,
    last,
    C,
    N,
    stride_xc,
    stride_xn,
    WEIGHTED: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """sum_p w_p a_p a_p^T for one tile of channels; on the way sum_p w_p a_p and sum_p w_p, which are stored."""
    acc = tl.zeros((BLOCK_C, BLOCK_C), dtype=tl.float32)
    # summed over pixels only at the end: a sum across threads in every step would stall the loads
    total = tl.zeros((BLOCK_C, BLOCK_N), dtype=tl.float32)
    count = tl.zeros((BLOCK_N,), dtype=tl.float32)
    for start in range(first, last, BLOCK_N):
        pixels = start + tl.arange(0, BLOCK_N)
        # [BLOCK_C, BLOCK_N]
        a = load_tile(x_ptr, rows, pixels, stride_xc, stride_xn, C, N)
        if WEIGHTED:
            w = tl.load(w_ptr + pixels, mask=pixels < N, other=0.0)
            a = a.to(tl.float32)
            wa = a * w[None, :]
            acc = tl.dot(wa, tl.trans(a), acc, input_precision=PRECISION)
            total += wa
            count += w
        else:
            acc = tl.dot(a, tl.trans(a), acc, input_precision=PRECISION)
            total += a.to(tl.float32)
    tl.store(mean_ptr + rows, tl.sum(total, 1), mask=rows < C)
    if WEIGHTED:
        # every tile on the diagonal finds the same number
        tl.store(n_ptr, tl.sum(count, 0))
    return acc


@triton.jit
def gram_of_pair(
    x_ptr,
    w_ptr,
    rows,
    columns,
    first,
    last,
    C,
    N,
    stride_xc,
    stride_xn,
    WEIGHTED: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """sum_p w_p a_p b_p^T for two different tiles of channels."""
    acc = tl.zeros((BLOCK_C, BLOCK_C), dtype=tl.float32)
    for start in range(first, last, BLOCK_N):
        pixels = start + tl.arange(0, BLOCK_N)
        # [BLOCK_C, BLOCK_N]
        a = load_tile(x_ptr, rows, pixels, stride_xc, stride_xn, C, N)
        b = load_tile(x_ptr, columns, pixels, stride_xc, stride_xn, C, N)
        if WEIGHTED:
            w = tl.load(w_ptr + pixels, mask=pixels < N, other=0.0)
            a = a.to(tl.float32) * w[None, :]
            b = b.to(tl.float32)
        acc = tl.dot(a, tl.trans(b), acc, input_precision=PRECISION)
    return acc


@triton.jit
def partial_moments_kernel(
    x_ptr,
    w_ptr,
    partial_ptr,
    C,
    N,
    R,
    share,
    size,
    stride_xb,
    stride_xc,
    stride_xn,
    stride_wb,
    stride_wr,
    WEIGHTED: tl.constexpr,
    SINGLE: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """Unnormalised moments of one share of the pixels: partial [B R, parts, size] = Gram (lower tiles), sum, weight."""
    # regions and pairs of tiles come first in the grid: what reads the same pixels runs together and finds them in L2
    region = tl.program_id(0) % R
    i, j = lower_tile(tl.program_id(0) // R)
    part = tl.program_id(1)
    batch = tl.program_id(2).to(tl.int64)
    x_ptr += batch * stride_xb
    w_ptr += batch * stride_wb + region.to(tl.int64) * stride_wr
    partial_ptr += ((batch * R + region) * tl.num_programs(1) + part) * size
    mean_ptr = partial_ptr + C * C
    n_ptr = mean_ptr + C
    first = part * share
    last = tl.minimum(first + share, N)
    rows = i * BLOCK_C + tl.arange(0, BLOCK_C)
    columns = j * BLOCK_C + tl.arange(0, BLOCK_C)
    # a test at compile time of its own, so that small C does not pay for the shared memory of pairs
    if SINGLE:  # noqa: SIM114
        acc = gram_of_tile(
            x_ptr, w_ptr, mean_ptr, n_ptr, rows, first, last, C, N, stride_xc, stride_xn,
            WEIGHTED, PRECISION, BLOCK_C, BLOCK_N,
        )  # fmt: skip
    elif i == j:
        acc = gram_of_tile(
            x_ptr, w_ptr, mean_ptr, n_ptr, rows, first, last, C, N, stride_xc, stride_xn,
            WEIGHTED, PRECISION, BLOCK_C, BLOCK_N,
        )  # fmt: skip
    else:
        acc = gram_of_pair(
            x_ptr, w_ptr, rows, columns, first, last, C, N, stride_xc, stride_xn,
            WEIGHTED, PRECISION, BLOCK_C, BLOCK_N,
        )  # fmt: skip
    store_tile(partial_ptr, acc, rows, columns, C, 1, C, C)


@triton.jit
def reduce_moments_kernel(
    partial_ptr,
    n_ptr,
    mean_ptr,
    gram_ptr,
    C,
    parts,
    size,
    n_pixels,
    WEIGHTED: tl.constexpr,
    ONLY_GRAM: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_P: tl.constexpr,
):
    """Sum the parts of one tile on or below the diagonal, divide by n, and write the tile and its mirror image."""
    i, j = lower_tile(tl.program_id(0))
    s = tl.program_id(1).to(tl.int64)
    partial_ptr += s * parts * size
    total = n_pixels
    if WEIGHTED:
        weights = tl.zeros((BLOCK_P,), dtype=tl.float32)
        for start in range(0, parts, BLOCK_P):
            p = start + tl.arange(0, BLOCK_P)
            weights += tl.load(partial_ptr + p.to(tl.int64) * size + C * C + C, mask=p < parts, other=0.0)
        total = tl.sum(weights, 0)
    # an empty region: 0 / TINY is the zero we promise
    divisor = tl.maximum(total, TINY)
    rows = i * BLOCK_C + tl.arange(0, BLOCK_C)
    columns = j * BLOCK_C + tl.arange(0, BLOCK_C)
    # above the diagonal nothing was written, so a tile on it reads its upper half from the lower one
    row = tl.maximum(rows[:, None], columns[None, :])
    column = tl.minimum(rows[:, None], columns[None, :])
    # [BLOCK_P, BLOCK_C, BLOCK_C]
    o_tile = (row * C + column)[None, :, :]
    acc = tl.zeros((BLOCK_P, BLOCK_C, BLOCK_C), dtype=tl.float32)
    for start in range(0, parts, BLOCK_P):
        p = (start + tl.arange(0, BLOCK_P))[:, None, None]
        acc += tl.load(
            partial_ptr + p.to(tl.int64) * size + o_tile, mask=(p < parts) & (row < C)[None, :, :], other=0.0
        )
    tile = tl.sum(acc, 0) / divisor
    gram_ptr += s * C * C
    store_tile(gram_ptr, tile, rows, columns, C, 1, C, C)
    if i != j:
        store_tile(gram_ptr, tile, rows, columns, 1, C, C, C)
    elif not ONLY_GRAM:
        sums = tl.zeros((BLOCK_P, BLOCK_C), dtype=tl.float32)
        for start in range(0, parts, BLOCK_P):
            p = start + tl.arange(0, BLOCK_P)
            sums += load_tile(partial_ptr + C * C, p, rows, size, 1, parts, C)
        tl.store(mean_ptr + s * C + rows, tl.sum(sums, 0) / divisor, mask=rows < C)
        if i == 0:
            tl.store(n_ptr + s, total)
