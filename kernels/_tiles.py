"""Device functions that several kernels share: which tile a program owns, and how a tile is read."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def lower_tile(index):
    """(row, column) of tile `index` when the tiles on and below the diagonal are counted row by row."""
    row = ((tl.sqrt(8.0 * index + 1.0) - 1.0) * 0.5).to(tl.int32)
    # the square root may be off by one unit in the last place, exactly where a row begins
    row = tl.where((row + 1) * (row + 2) // 2 <= index, row + 1, row)
    row = tl.where(row * (row + 1) // 2 > index, row - 1, row)
    return row, index - row * (row + 1) // 2


@triton.jit
def load_tile(ptr, rows, columns, stride_row, stride_column, n_rows, n_columns):
    """Tile [len(rows), len(columns)] at 64-bit addresses, zero outside the matrix."""
    o_tile = rows[:, None].to(tl.int64) * stride_row + columns[None, :].to(tl.int64) * stride_column
    m_tile = (rows[:, None] < n_rows) & (columns[None, :] < n_columns)
    return tl.load(ptr + o_tile, mask=m_tile, other=0.0)


@triton.jit
def store_tile(ptr, tile, rows, columns, stride_row, stride_column, n_rows, n_columns):
    o_tile = rows[:, None].to(tl.int64) * stride_row + columns[None, :].to(tl.int64) * stride_column
    m_tile = (rows[:, None] < n_rows) & (columns[None, :] < n_columns)
    tl.store(ptr + o_tile, tile.to(ptr.dtype.element_ty), mask=m_tile)


@triton.jit
def rows_times_pixels(
    a_ptr,
    x_ptr,
    rows,
    pixels,
    C,
    N,
    stride_xc,
    stride_xn,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """acc [BLOCK_M, BLOCK_N] = A[rows, :] X[:, pixels] for a row-major A [C, C] of X's dtype; float32."""
    acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for start in range(0, C, BLOCK_K):
        channels = start + tl.arange(0, BLOCK_K)
        # [BLOCK_M, BLOCK_K], [BLOCK_K, BLOCK_N]
        a = load_tile(a_ptr, rows, channels, C, 1, C, C)
        x = load_tile(x_ptr, channels, pixels, stride_xc, stride_xn, C, N)
        acc = tl.dot(a, x, acc, input_precision=PRECISION)
    return acc


@triton.jit
def row_scale(top):
    """Divisor that brings rows with largest magnitude `top` into [-1, 1]; 1 for rows of zeros."""
    return tl.where(top > 0.0, top, 1.0)


@triton.jit
def scaled_rows_kernel(
    a_ptr,
    b_ptr,
    c,
    out_ptr,
    scale_ptr,
    C,
    stride_a,
    stride_b,
    DIFFERENCE: tl.constexpr,
    C_TENSOR: tl.constexpr,
    SCALED: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """out = M / scale per row, in out's dtype, with M = c (A - B) if DIFFERENCE, else A; scale [.., C] = max |row| if SCALED.

    A half-precision factor would overflow, or lose its small rows, without the scale.
    """
    batch = tl.program_id(1).to(tl.int64)
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    a_ptr += batch * stride_a
    b_ptr += batch * stride_b
    out_ptr += batch * C * C
    factor = 1.0
    if DIFFERENCE:
        factor = tl.load(c + batch) if C_TENSOR else c
    scale = tl.zeros((BLOCK_M,), dtype=tl.float32) + 1.0
    if SCALED:
        top = tl.zeros((BLOCK_M,), dtype=tl.float32)
        for start in range(0, C, BLOCK_K):
            columns = start + tl.arange(0, BLOCK_K)
            m = load_tile(a_ptr, rows, columns, C, 1, C, C)
            if DIFFERENCE:
                m = factor * (m - load_tile(b_ptr, rows, columns, C, 1, C, C))
            top = tl.maximum(top, tl.max(tl.abs(m), 1))
        scale = row_scale(top)
        tl.store(scale_ptr + batch * C + rows, scale, mask=rows < C)
    for start in range(0, C, BLOCK_K):
        columns = start + tl.arange(0, BLOCK_K)
        m = load_tile(a_ptr, rows, columns, C, 1, C, C)
        if DIFFERENCE:
            m = factor * (m - load_tile(b_ptr, rows, columns, C, 1, C, C))
        store_tile(out_ptr, m / scale[:, None], rows, columns, C, 1, C, C)
