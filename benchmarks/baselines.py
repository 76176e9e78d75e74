"""What people run instead, in plain PyTorch: the paper's loop on full features, WCT by SVD on the CPU in float64, and our own
networks as one would write them: every convolution pads a copy, upsampling is a step of its own, maps go over the pixels."""

from __future__ import annotations

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from fastift.decoder import Decoder
from fastift.encoder import Encoder

__all__ = ["loop", "plain_decode", "plain_encode", "wct_by_svd"]


def loop(content: Tensor, style: Tensor, *, lam: float, lr: float = 0.01, n_upd: int = 15) -> Tensor:
    """Paper, eq. 2, as its authors' published code runs it: two products over all pixels a step. content [C, n], style [C, m]."""
    n = content.shape[1]
    target = style @ style.T / style.shape[1]
    f = content.clone()
    for _ in range(n_upd):
        gram = f @ f.T / n
        f = f - lr * (2 * (f - content) + (4 * lam / n) * ((gram - target) @ f))
    return f


def wct_by_svd(content: Tensor, style: Tensor, *, alpha: float = 1.0) -> Tensor:
    """Whitening and colouring as PytorchWCT does it: singular values of both covariances, cut below 1e-5, in float64."""
    f, g = content.double().cpu(), style.double().cpu()
    mean_c, mean_s = f.mean(1, keepdim=True), g.mean(1, keepdim=True)
    f, g = f - mean_c, g - mean_s
    eye = torch.eye(len(f), dtype=f.dtype)
    _, e_c, v_c = torch.linalg.svd(f @ f.T / (f.shape[1] - 1) + eye)
    _, e_s, v_s = torch.linalg.svd(g @ g.T / (g.shape[1] - 1))
    k_c, k_s = int((e_c > 1e-5).sum()), int((e_s > 1e-5).sum())
    whiten = v_c[:k_c].T * e_c[:k_c].rsqrt() @ v_c[:k_c]
    colour = v_s[:k_s].T * e_s[:k_s].sqrt() @ v_s[:k_s]
    out = colour @ (whiten @ f) + mean_s
    return (alpha * out + (1 - alpha) * (f + mean_c)).to(content)


def plain_conv(x: Tensor, conv: nn.Conv2d) -> Tensor:
    return nnf.conv2d(nnf.pad(x, (1, 1, 1, 1), mode="reflect"), conv.weight, conv.bias)


def plain_encode(encoder: Encoder, x: Tensor, level: int) -> Tensor:
    """reluN_1."""
    x = encoder.conv0(x)
    for n in range(1, level + 1):
        x = plain_conv(x, encoder.get_submodule(f"conv{n}_1")).relu()
        if n == level:
            return x
        for k in range(2, encoder.plan.depths[n - 1] + 1):
            x = plain_conv(x, encoder.get_submodule(f"conv{n}_{k}")).relu()
        pooled = nnf.max_pool2d(x, 2)
        x = pooled + encoder.get_submodule(f"pool{n}")(x) if encoder.plan.learned_pooling else pooled
    return x


def plain_decode(decoder: Decoder, x: Tensor) -> Tensor:
    """The image, for a decoder with subpixel or nearest-neighbour upsampling."""
    for n in range(decoder.level, 1, -1):
        x = plain_conv(x, decoder.get_submodule(f"conv{n}_1")).relu()
        if decoder.upsampling == "subpixel":
            x = nnf.pixel_shuffle(decoder.get_submodule(f"up{n - 1}")(x), 2)
        else:
            x = nnf.interpolate(x, scale_factor=2, mode="nearest")
        for k in range(decoder.plan.depths[n - 2], 1, -1):
            x = plain_conv(x, decoder.get_submodule(f"conv{n - 1}_{k}")).relu()
    x = plain_conv(x, decoder.conv1_1)
    return x.relu() if decoder.final_relu else x
