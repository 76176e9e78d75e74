"""Affine maps of features, one a sample or one for each of its soft regions, when they cannot be folded into a convolution."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import _launch
from ._launch import Config
from ._tiles import rows_times_pixels, scaled_rows_kernel, store_tile
from .ift_update import tiled_configurations

__all__ = ["apply_affine"]

OP = "fastift.kernels.apply_affine"


def apply_affine(
    x: Tensor, weight: Tensor, bias: Tensor, mask: Tensor | None = None, *, precision: str = "ieee"
) -> Tensor:
    """out = W x + b,   or with a mask   out = sum_r mask_r (W_r x + b_r).

    x [B, C, N] float32, float16 or bfloat16, NCHW or channels_last; weight float32 [B, C, C] and bias float32 [B, C], or with
    mask float32 [B, R, N]: [B, R, C, C] and [B, R, C]. Returns [B, C, N] in the dtype and memory order of x. Half-precision
    products use W rounded, each row scaled into [-1, 1]; sums, bias and mask are float32.
    """
    _launch.check_precision(OP, precision)
    _launch.check_features(OP, "x", x)
    b, c, n = x.shape
    masked = mask is not None
    regions = 1
    if masked:
        if not isinstance(mask, Tensor) or mask.dim() != 3 or mask.shape[1] == 0:
            got = tuple(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
            raise _launch.InvalidInputError(f"{OP}: mask must be a tensor [B, R, N] with R > 0, got {got}")
        regions = mask.shape[1]
        _launch.check_like(OP, "mask", mask, (b, regions, n), torch.float32, x.device)
        mask = mask if mask.stride(2) == 1 else mask.contiguous()
    maps = (b, regions) if masked else (b,)
    _launch.check_like(OP, "weight", weight, (*maps, c, c), torch.float32, x.device)
    _launch.check_like(OP, "bias", bias, (*maps, c), torch.float32, x.device)
    x, weight, bias = _launch.unit_stride(x), weight.contiguous(), bias.contiguous()
    out = torch.empty_like(x)
    half = x.dtype in _launch.HALF
    precision = _launch.dot_precision(x, precision)
    aligned = _launch.aligned(x)
    block_m, configs = tiled_configurations(x.dtype, precision, c, aligned)
    if masked:
        configs = [halved(config) for config in configs]
    row_tiles = triton.cdiv(c, block_m)
    factor, scale = weight, bias
    with _launch.device_guard(x):
        if half:
            factor = torch.empty_like(weight, dtype=x.dtype)
            scale = torch.empty_like(bias)
            scaled_rows_kernel[(triton.cdiv(c, 16), b * regions)](
                weight,
                weight,
                1.0,
                factor,
                scale,
                c,
                c * c,
                0,
                DIFFERENCE=False,
                C_TENSOR=False,
                SCALED=True,
                BLOCK_M=16,
                BLOCK_K=128,
                num_warps=4,
            )

        def launch(config: Config) -> None:
            apply_affine_kernel[(row_tiles * triton.cdiv(n, config.blocks["BLOCK_N"]), b)](
                x,
                out,
                factor,
                scale,
                bias,
                mask if masked else bias,
                c,
                n,
                regions,
                row_tiles,
                *x.stride(),
                *out.stride(),
                mask.stride(0) if masked else 0,
                mask.stride(1) if masked else 0,
                MASKED=masked,
                SCALED=half,
                PRECISION=precision,
                BLOCK_M=block_m,
                **config.options,
            )

        key = ("apply_affine", x.dtype, precision, masked, aligned, block_m, row_tiles > 4)
        _launch.tuned(key, x.device, configs, launch)
    return out


def halved(config: Config) -> Config:
    """Half the pixels a tile: the sum over regions is a second accumulator."""
    return config._replace(blocks={**config.blocks, "BLOCK_N": max(16, config.blocks["BLOCK_N"] // 2)})


@triton.jit
def apply_affine_kernel(
    x_ptr,
    out_ptr,
    weight_ptr,
    scale_ptr,
    bias_ptr,
    mask_ptr,
    C,
    N,
    R,
    row_tiles,
    stride_xb,
    stride_xc,
    stride_xn,
    stride_ob,
    stride_oc,
    stride_on,
    stride_mb,
    stride_mr,
    MASKED: tl.constexpr,
    SCALED: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """sum_r mask_r (scale_r (W_r x) + b_r) for one tile of rows and pixels; without MASKED the one map of the sample."""
    # rows come first in the grid: programs that read the same pixels run together and find them in L2
    rows = (tl.program_id(0) % row_tiles) * BLOCK_M + tl.arange(0, BLOCK_M)
    pixels = (tl.program_id(0) // row_tiles) * BLOCK_N + tl.arange(0, BLOCK_N)
    batch = tl.program_id(1).to(tl.int64)
    x_ptr += batch * stride_xb
    acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for r in range(R):
        region = batch * R + r
        y = rows_times_pixels(
            weight_ptr + region * C * C, x_ptr, rows, pixels, C, N, stride_xc, stride_xn,
            PRECISION, BLOCK_M, BLOCK_N, BLOCK_K,
        )  # fmt: skip
        if SCALED:
            y *= tl.load(scale_ptr + region * C + rows, mask=rows < C, other=0.0)[:, None]
        y += tl.load(bias_ptr + region * C + rows, mask=rows < C, other=0.0)[:, None]
        if MASKED:
            m = tl.load(mask_ptr + batch * stride_mb + r * stride_mr + pixels, mask=pixels < N, other=0.0)
            acc += m[None, :] * y
        else:
            acc = y
    store_tile(out_ptr + batch * stride_ob, acc, rows, pixels, stride_oc, stride_on, C, N)
