"""Make Triton 3.6's interpreter compute what the hardware computes. Import after TRITON_INTERPRET=1 is set, before any kernel.

1. With NumPy 2.4 or newer every `for start in range(0, N, BLOCK)` fails (triton issue 9171, fixed after 3.6).
2. tl.dot multiplies the bit patterns of bfloat16 (triton issue 11584).
3. float32 to bfloat16 cuts the last bits off instead of rounding.
4. input_precision is ignored. Here tf32 loses 13 bits of float32 operands, which is what tensor cores that do not round do,
   and tf32x3 adds the products of what was lost, so that a kernel that asks for the wrong precision fails its tolerance.
"""

from __future__ import annotations

import numpy as np
import triton.language as tl
from triton._C.libtriton import ir
from triton.runtime import interpreter
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

_patch_lang_tensor = interpreter._patch_lang_tensor
_cast = InterpreterBuilder.cast_impl


def patch_lang_tensor(tensor, scope):
    _patch_lang_tensor(tensor, scope)
    scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.reshape(-1)[0]))


def widened(bits: np.ndarray) -> np.ndarray:
    """float32 of bfloat16 bit patterns."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def rounded(x: np.ndarray) -> np.ndarray:
    """Bit patterns of float32 rounded to bfloat16, to nearest even; NaN stays NaN."""
    bits = np.ascontiguousarray(x).view(np.uint32)
    nearest = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(x), 0x7FC0, nearest).astype(np.uint16)


def cast(self, src, dst_type):
    pair = (src.dtype.scalar, dst_type.scalar)
    if pair == (tl.float32, tl.bfloat16):
        return TensorHandle(rounded(src.data), dst_type.scalar)
    if pair == (tl.bfloat16, tl.float32):
        return TensorHandle(widened(src.data), dst_type.scalar)
    return _cast(self, src, dst_type)


def cut(x: np.ndarray) -> np.ndarray:
    """float32 with the ten mantissa bits that tf32 keeps."""
    return (np.ascontiguousarray(x).view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)


def dot(self, a, b, d, input_precision, max_num_imprecise_acc):
    assert a.dtype.scalar == b.dtype.scalar, f"tl.dot of {a.dtype} and {b.dtype}"
    x, y = (widened(t.data) if t.dtype.scalar == tl.bfloat16 else t.data.astype(np.float32) for t in (a, b))
    if a.dtype.scalar != tl.float32 or input_precision == ir.INPUT_PRECISION.IEEE:
        product = x @ y
    else:
        product = cut(x) @ cut(y)
        if input_precision == ir.INPUT_PRECISION.TF32x3:
            product += cut(x) @ cut(y - cut(y)) + cut(x - cut(x)) @ cut(y)
    return TensorHandle(product + d.data, d.dtype.scalar)


interpreter._patch_lang_tensor = patch_lang_tensor
InterpreterBuilder.cast_impl = cast
InterpreterBuilder.create_dot = dot
