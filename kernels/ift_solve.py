"""The paper's iteration collapsed to C x C matrices, all steps: one launch for small C, three products a step otherwise."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import _launch
from ._launch import Config
from ._tiles import load_tile, lower_tile, store_tile

__all__ = ["ift_solve"]

OP = "fastift.kernels.ift_solve"


def ift_solve(
    gram: Tensor,
    style: Tensor,
    lr: float,
    c: float | Tensor,
    n_upd: int,
    n_iter: int,
    *,
    precision: str = "ieee",
) -> Tensor:
    """A <- A - 2 lr (A - anchor) - c (A G A^T - S) A,   A_0 = anchor = I;   n_upd steps, then anchor = A, n_iter times.

    gram and style float32 [B, C, C], symmetric; c = 4 lr lam / n a float or [B]; returns A float32 [B, C, C]. Up to 64
    channels (32 for tf32x3, which keeps every operand twice) one program makes all steps of a sample on chip, in one launch;
    beyond that a step is three launches: T = A G, then the lower half of T A^T - S, mirrored, then the step itself.
    """
    _launch.check_precision(OP, precision)
    _launch.check_matrices(OP, "gram", gram)
    b, channels, _ = gram.shape
    _launch.check_like(OP, "style", style, tuple(gram.shape), torch.float32, gram.device)
    if n_upd < 1 or n_iter < 1:
        raise _launch.InvalidInputError(f"{OP}: n_upd and n_iter must be at least 1, got {n_upd} and {n_iter}")
    c = _launch.step_size(OP, c, b, gram.device)
    gram, style = _launch.rows_adjacent(gram), _launch.rows_adjacent(style)
    with _launch.device_guard(gram):
        if channels <= (32 if precision == "tf32x3" else 64):
            return solve_on_chip(gram, style, lr, c, n_upd, n_iter, precision)
        return solve_in_launches(gram, style, lr, c, n_upd, n_iter, precision)


def solve_on_chip(
    gram: Tensor, style: Tensor, lr: float, c: float | Tensor, n_upd: int, n_iter: int, precision: str
) -> Tensor:
    out = torch.empty(gram.shape, dtype=torch.float32, device=gram.device)
    block_c = _launch.power_of_two(gram.shape[1], 64)
    ift_solve_kernel[(gram.shape[0],)](
        gram,
        style,
        out,
        c,
        gram.shape[1],
        n_upd,
        n_iter,
        2.0 * lr,
        gram.stride(0),
        style.stride(0),
        C_TENSOR=isinstance(c, Tensor),
        PRECISION=precision,
        BLOCK_C=block_c,
        num_warps=16 if block_c == 64 else 4,
    )
    return out


def solve_in_launches(
    gram: Tensor, style: Tensor, lr: float, c: float | Tensor, n_upd: int, n_iter: int, precision: str
) -> Tensor:
    b, channels, _ = gram.shape
    a = torch.eye(channels, dtype=torch.float32, device=gram.device).repeat(b, 1, 1)
    t, u, spare = torch.empty_like(a), torch.empty_like(a), torch.empty_like(a)
    for _ in range(n_iter):
        anchor = a
        for _ in range(n_upd):
            product("gram", a, gram, a, t, 0.0, 0.0, precision)
            product("difference", t, a, style, u, 0.0, 0.0, precision)
            new = spare if spare is not anchor else torch.empty_like(a)
            product("step", u, a, anchor, new, 2.0 * lr, c, precision)
            # the anchor stays as it is; any other buffer may be written again
            a, spare = new, (a if a is not anchor else torch.empty_like(a))
    return a


CONFIGURATIONS = (
    # small tiles fill the card at C = 128..512, large ones read less at C = 1024
    Config({"BLOCK_C": 32, "BLOCK_K": 32}, 4, 3),
    Config({"BLOCK_C": 64, "BLOCK_K": 16}, 8, 3, 128),
)


def product(
    mode: str,
    left: Tensor,
    right: Tensor,
    third: Tensor,
    out: Tensor,
    pull: float,
    c: float | Tensor,
    precision: str,
) -> None:
    """Launch one product of a step, with its epilogue; see ift_solve_product_kernel."""
    b, channels, _ = out.shape

    def launch(config: Config) -> None:
        tiles = triton.cdiv(channels, config.blocks["BLOCK_C"])
        ift_solve_product_kernel[(tiles * (tiles + 1) // 2 if mode == "difference" else tiles * tiles, b)](
            left,
            right,
            third,
            out,
            c,
            channels,
            tiles,
            pull,
            left.stride(0),
            right.stride(0),
            third.stride(0),
            MODE=mode,
            C_TENSOR=isinstance(c, Tensor),
            PRECISION=precision,
            **config.options,
        )

    key = ("ift_solve", mode, precision, triton.next_power_of_2(channels), min(b, 8))
    _launch.tuned(key, out.device, CONFIGURATIONS, launch)


@triton.jit
def ift_solve_kernel(
    gram_ptr,
    style_ptr,
    out_ptr,
    c,
    C,
    n_upd,
    n_iter,
    pull,
    stride_gb,
    stride_sb,
    C_TENSOR: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """All steps of one sample; G, S, A and the anchor stay on chip."""
    batch = tl.program_id(0).to(tl.int64)
    factor = tl.load(c + batch) if C_TENSOR else c
    channels = tl.arange(0, BLOCK_C)
    # [BLOCK_C, BLOCK_C]
    gram = load_tile(gram_ptr + batch * stride_gb, channels, channels, C, 1, C, C)
    style = load_tile(style_ptr + batch * stride_sb, channels, channels, C, 1, C, C)
    a = (channels[:, None] == channels[None, :]).to(tl.float32)
    for _ in range(n_iter):
        anchor = a
        for _ in range(n_upd):
            t = tl.dot(a, gram, input_precision=PRECISION)
            u = tl.dot(t, tl.trans(a), input_precision=PRECISION) - style
            a = a - pull * (a - anchor) - factor * tl.dot(u, a, input_precision=PRECISION)
    store_tile(out_ptr + batch * C * C, a, channels, channels, C, 1, C, C)


@triton.jit
def ift_solve_product_kernel(
    left_ptr,
    right_ptr,
    third_ptr,
    out_ptr,
    c,
    C,
    tiles,
    pull,
    stride_lb,
    stride_rb,
    stride_tb,
    MODE: tl.constexpr,
    C_TENSOR: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """One tile of "gram": L R, or "difference": L R^T - third (symmetric), or "step": R - pull (R - third) - c L R."""
    batch = tl.program_id(1).to(tl.int64)
    left_ptr += batch * stride_lb
    right_ptr += batch * stride_rb
    third_ptr += batch * stride_tb
    out_ptr += batch * C * C
    if MODE == "difference":
        i, j = lower_tile(tl.program_id(0))
    else:
        i = tl.program_id(0) // tiles
        j = tl.program_id(0) % tiles
    rows = i * BLOCK_C + tl.arange(0, BLOCK_C)
    columns = j * BLOCK_C + tl.arange(0, BLOCK_C)
    acc = tl.zeros((BLOCK_C, BLOCK_C), dtype=tl.float32)
    for start in range(0, C, BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        # [BLOCK_C, BLOCK_K], [BLOCK_K, BLOCK_C]
        a = load_tile(left_ptr, rows, k, C, 1, C, C)
        if MODE == "difference":
            b = tl.trans(load_tile(right_ptr, columns, k, C, 1, C, C))
        else:
            b = load_tile(right_ptr, k, columns, C, 1, C, C)
        acc = tl.dot(a, b, acc, input_precision=PRECISION)
    if MODE == "difference":
        acc -= load_tile(third_ptr, rows, columns, C, 1, C, C)
        if i != j:
            store_tile(out_ptr, acc, rows, columns, 1, C, C, C)
    if MODE == "step":
        factor = tl.load(c + batch) if C_TENSOR else c
        a = load_tile(right_ptr, rows, columns, C, 1, C, C)
        anchor = load_tile(third_ptr, rows, columns, C, 1, C, C)
        acc = a - pull * (a - anchor) - factor * acc
    store_tile(out_ptr, acc, rows, columns, C, 1, C, C)
