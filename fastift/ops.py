"""The operations as PyTorch sees them: schema, shapes for tracing, gradients. The only caller of backends.

Each is one node of a graph, whatever backend runs it: torch.ops.fastift.moments and so on. Arguments are checked by the
public functions (`fastift.moments`, `fastift.apply`, `fastift.ift` ..), which are what to call.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .backend import select
from .reference import wide

__all__ = ["apply_affine", "ift_solve", "ift_update", "ift_update_gram", "moments", "sqrtm_psd"]

_library = torch.library.Library("fastift", "DEF")
_SCHEMAS = {
    "moments": "(Tensor x, Tensor? weight=None) -> (Tensor n, Tensor mean, Tensor gram)",
    "apply_affine": "(Tensor x, Tensor weight, Tensor bias, Tensor? mask=None) -> Tensor",
    "ift_update": "(Tensor f, Tensor f_c, Tensor gram, Tensor style, float lr, Tensor c) -> Tensor",
    "ift_update_gram": "(Tensor f, Tensor f_c, Tensor gram, Tensor style, float lr, Tensor c) -> (Tensor f_new, Tensor gram_new)",
    "ift_solve": "(Tensor gram, Tensor style, float lr, Tensor c, int n_upd, int n_iter) -> Tensor",
    "ift_solve_backward": (
        "(Tensor grad, Tensor gram, Tensor style, float lr, Tensor c, int n_upd, int n_iter) -> (Tensor, Tensor, Tensor)"
    ),
    "sqrtm_psd": "(Tensor a, float eps) -> (Tensor root, Tensor inverse)",
    "sqrtm_psd_backward": "(Tensor grad_root, Tensor grad_inverse, Tensor a, float eps) -> Tensor",
}


def _define(name: str, schema: str) -> None:
    _library.define(name + schema, tags=(torch.Tag.pt2_compliant_tag, torch.Tag.needs_fixed_stride_order))
    _library.impl(name, lambda *args: _run(name, args), "CompositeExplicitAutograd")


def _run(name: str, args: tuple) -> Tensor | tuple[Tensor, ...]:
    return select(name, args[0])(*args)


for _name, _schema in _SCHEMAS.items():
    _define(_name, _schema)

moments = torch.ops.fastift.moments
apply_affine = torch.ops.fastift.apply_affine
ift_update = torch.ops.fastift.ift_update
ift_update_gram = torch.ops.fastift.ift_update_gram
ift_solve = torch.ops.fastift.ift_solve
sqrtm_psd = torch.ops.fastift.sqrtm_psd


def _shapes(name: str):
    return torch.library.register_fake(f"fastift::{name}", lib=_library)


def _gradient(name: str, backward, setup_context) -> None:
    torch.library.register_autograd(f"fastift::{name}", backward, setup_context=setup_context, lib=_library)


@_shapes("moments")
def _(x: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    lead = x.shape[:1] if weight is None else weight.shape[:2]
    c, dtype = x.shape[1], wide(x.dtype)
    return x.new_empty(lead, dtype=dtype), x.new_empty((*lead, c), dtype=dtype), x.new_empty((*lead, c, c), dtype=dtype)


@_shapes("apply_affine")
def _(x: Tensor, weight: Tensor, bias: Tensor, mask: Tensor | None = None) -> Tensor:
    return x.new_empty(x.shape)


@_shapes("ift_update")
def _(f: Tensor, f_c: Tensor, gram: Tensor, style: Tensor, lr: float, c: Tensor) -> Tensor:
    return f.new_empty(f.shape)


@_shapes("ift_update_gram")
def _(f: Tensor, f_c: Tensor, gram: Tensor, style: Tensor, lr: float, c: Tensor) -> tuple[Tensor, Tensor]:
    return f.new_empty(f.shape), gram.new_empty(gram.shape)


@_shapes("ift_solve")
def _(gram: Tensor, style: Tensor, lr: float, c: Tensor, n_upd: int, n_iter: int) -> Tensor:
    return gram.new_empty(gram.shape)


@_shapes("ift_solve_backward")
def _(grad: Tensor, gram: Tensor, style: Tensor, lr: float, c: Tensor, n_upd: int, n_iter: int):
    return gram.new_empty(gram.shape), style.new_empty(style.shape), c.new_empty(c.shape)


@_shapes("sqrtm_psd")
def _(a: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    return a.new_empty(a.shape), a.new_empty(a.shape)


@_shapes("sqrtm_psd_backward")
def _(grad_root: Tensor, grad_inverse: Tensor, a: Tensor, eps: float) -> Tensor:
    return a.new_empty(a.shape)


def _moments_setup(ctx, inputs, output) -> None:
    x, weight = inputs
    ctx.save_for_backward(x, weight, *output)


def _moments_backward(ctx, d_n, d_mean, d_gram):
    """d mean / dx = w / n, d gram / dx = w (D + D^T) x / n; for weights the quotient rule with n = sum w."""
    x, weight, n, mean, gram = ctx.saved_tensors
    f = x.to(gram.dtype)
    both = d_gram + d_gram.mT
    if weight is None:
        return ((both @ f + d_mean.unsqueeze(-1)) / f.shape[2]).to(x.dtype), None
    safe = n.clamp_min(torch.finfo(n.dtype).tiny)
    share = weight.to(gram.dtype) / safe.unsqueeze(2)
    pulled = both @ f.unsqueeze(1) + d_mean.unsqueeze(-1)
    d_x = (share.unsqueeze(2) * pulled).sum(1).to(x.dtype) if ctx.needs_input_grad[0] else None
    d_weight = None
    if ctx.needs_input_grad[1]:
        at_pixel = 0.5 * (f.unsqueeze(1) * (both @ f.unsqueeze(1))).sum(2) + (
            d_mean.unsqueeze(-1) * f.unsqueeze(1)
        ).sum(2)
        at_mean = (d_gram * gram).sum((2, 3)) + (d_mean * mean).sum(2)
        d_weight = ((at_pixel - at_mean.unsqueeze(2)) / safe.unsqueeze(2) + d_n.unsqueeze(2)).to(weight.dtype)
    return d_x, d_weight


_gradient("moments", _moments_backward, _moments_setup)


def _apply_setup(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs)


def _apply_backward(ctx, d_out):
    x, weight, bias, mask = ctx.saved_tensors
    d_out, f = d_out.to(weight.dtype), x.to(weight.dtype)
    d_x = d_weight = d_bias = d_mask = None
    if mask is None:
        if ctx.needs_input_grad[0]:
            d_x = (weight.mT @ d_out).to(x.dtype)
        if ctx.needs_input_grad[1]:
            d_weight = _sum_to(d_out @ f.mT, weight)
        if ctx.needs_input_grad[2]:
            d_bias = _sum_to(d_out.sum(2), bias)
        return d_x, d_weight, d_bias, None
    region = mask.to(weight.dtype).unsqueeze(2) * d_out.unsqueeze(1)  # [B, R, C, N]
    if ctx.needs_input_grad[0]:
        d_x = (weight.mT @ region).sum(1).to(x.dtype)
    if ctx.needs_input_grad[1]:
        d_weight = _sum_to(region @ f.unsqueeze(1).mT, weight)
    if ctx.needs_input_grad[2]:
        d_bias = _sum_to(region.sum(3), bias)
    if ctx.needs_input_grad[3]:
        mapped = weight @ f.unsqueeze(1) + bias.unsqueeze(-1)
        d_mask = (d_out.unsqueeze(1) * mapped).sum(2).to(mask.dtype)
    return d_x, d_weight, d_bias, d_mask


def _sum_to(gradient: Tensor, like: Tensor) -> Tensor:
    """One map may serve a whole batch: its gradient is the sum."""
    return gradient if gradient.shape == like.shape else gradient.sum(0, keepdim=True)


_gradient("apply_affine", _apply_backward, _apply_setup)


def _update_setup(ctx, inputs, output) -> None:
    f, f_c, gram, style, lr, c = inputs
    new = output[0] if isinstance(output, tuple) else output
    ctx.save_for_backward(f, gram, style, c, new)
    ctx.lr, ctx.anchor_dtype = lr, f_c.dtype


def _update_backward(ctx, d_new):
    f, gram, style, c, _ = ctx.saved_tensors
    d, wider = d_new.to(gram.dtype), f.to(gram.dtype)
    step, residual = c[:, None, None], gram - style
    d_f = (1 - 2 * ctx.lr) * d - step * (residual.mT @ d)
    d_residual = -step * (d @ wider.mT)
    d_c = -(d * (residual @ wider)).sum((1, 2))
    return d_f.to(f.dtype), (2 * ctx.lr * d).to(ctx.anchor_dtype), d_residual, -d_residual, None, d_c


def _update_gram_backward(ctx, d_new, d_gram_new):
    new = ctx.saved_tensors[4].to(d_gram_new.dtype)
    return _update_backward(ctx, d_new.to(new.dtype) + (d_gram_new + d_gram_new.mT) @ new / new.shape[2])


_gradient("ift_update", _update_backward, _update_setup)
_gradient("ift_update_gram", _update_gram_backward, _update_setup)


def _solve_setup(ctx, inputs, output) -> None:
    gram, style, lr, c, n_upd, n_iter = inputs
    ctx.save_for_backward(gram, style, c)
    ctx.settings = lr, n_upd, n_iter


def _solve_backward(ctx, grad):
    gram, style, c = ctx.saved_tensors
    lr, n_upd, n_iter = ctx.settings
    d_gram, d_style, d_c = torch.ops.fastift.ift_solve_backward(grad, gram, style, lr, c, n_upd, n_iter)
    return d_gram, d_style, None, d_c, None, None


_gradient("ift_solve", _solve_backward, _solve_setup)


def _sqrtm_setup(ctx, inputs, output) -> None:
    ctx.save_for_backward(inputs[0])
    ctx.eps = inputs[1]


def _sqrtm_backward(ctx, d_root, d_inverse):
    (a,) = ctx.saved_tensors
    return torch.ops.fastift.sqrtm_psd_backward(d_root, d_inverse, a, ctx.eps), None


_gradient("sqrtm_psd", _sqrtm_backward, _sqrtm_setup)
