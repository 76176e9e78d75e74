"""Every transform against what it promises, in float64: moments after WCT, transport and AdaIN, the objective under line search,
the style loss of IFT with many updates.

    python benchmarks/exactness.py [--pairs PAIRS.csv --encoder ENCODER.safetensors] [--out FILE.json]

Covariance errors are relative (Frobenius), to what the map can reach: the style's covariance S_s on the range of the content's,
with P its projector S_s^1/2 P S_s^1/2 for WCT and S_s P (P S_s P)^+ P S_s for transport, which both are S_s unless the content is
deficient.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path

import torch
from metrics import load, read_pairs
from torch import Tensor

from fastift import Moments, adain, ift_line_search, ift_scale_free, moments, ops, ot, wct
from fastift.weights import load_encoder

EXACT = 1e-10
"""A ridge that only keeps round-off away; the default, 1e-3, is for pictures."""


def random_features(channels: int, pixels: int, rng: torch.Generator, rank: int | None = None, dead: int = 0) -> Tensor:
    """Features [1, C, n] behind a ReLU of a random mixture."""
    rank = rank or channels
    mix = torch.randn(channels, rank, generator=rng, dtype=torch.float64) / rank**0.5
    f = mix @ torch.randn(rank, pixels, generator=rng, dtype=torch.float64) + 0.3
    f = f if rank < channels else f.relu()  # a ReLU would fill the rank again
    f[channels - dead :] = 0
    return f[None]


def random_pairs() -> dict[str, list[tuple[Tensor, Tensor]]]:
    rng = torch.Generator().manual_seed(0)

    def several(content: dict, style: dict) -> list[tuple[Tensor, Tensor]]:
        return [
            (
                random_features(c, **{"pixels": 4000, **content}, rng=rng),
                random_features(c, **{"pixels": 3000, **style}, rng=rng),
            )
            for c in (16, 60, 129)
        ]

    return {
        "random, full rank": several({}, {}),
        "random, style of rank 5": several({}, {"rank": 5}),
        "random, content of rank 5": several({"rank": 5}, {}),
        "random, fewer pixels than channels": several({"pixels": 12}, {}),
        "random, 4 dead channels": several({"dead": 4}, {"dead": 4}),
    }


def covariance_errors(content: Moments, style: Moments) -> dict[str, float]:
    values, vectors = torch.linalg.eigh(content.cov)
    kept = (values > 1e-9 * values[:, -1:]).to(values)
    projector = vectors * kept.unsqueeze(1) @ vectors.mT
    root, _ = ops.sqrtm_psd(style.cov, 0.0)
    side = style.cov @ projector
    inner = projector @ side
    reachable = {
        "wct": root @ projector @ root,
        "ot": side @ torch.linalg.pinv(inner, rtol=1e-9, hermitian=True) @ side.mT,
    }
    found = {}
    for name, solver in (("wct", wct), ("ot", ot)):
        for eps in (1e-3, EXACT):
            weight, bias = solver(content, style, eps=eps)
            cov = weight @ content.cov @ weight.mT
            mean = (weight @ content.mean.unsqueeze(-1)).squeeze(-1) + bias
            found[f"{name} covariance, eps {eps:g}"] = relative(cov, reachable[name])
            found[f"{name} mean"] = relative(mean, style.mean)
        if name == "ot":
            found["ot asymmetry"] = relative(weight, weight.mT)
            spectrum = torch.linalg.eigvalsh(weight)
            found["ot least over largest eigenvalue"] = float(spectrum[:, 0] / spectrum[:, -1])
    weight, bias = adain(content, style, eps=EXACT)
    variance = (weight @ content.cov @ weight.mT).diagonal(dim1=-2, dim2=-1)
    alive = content.cov.diagonal(dim1=-2, dim2=-1) > 1e-9 * content.cov.amax()
    found["adain variance"] = relative(variance[alive], style.cov.diagonal(dim1=-2, dim2=-1)[alive])
    found["adain mean"] = relative((weight @ content.mean.unsqueeze(-1)).squeeze(-1) + bias, style.mean)
    return found


def objective(a: Tensor, content: Moments, style: Moments, lam: float) -> float:
    """Eq. 1 of the paper for the features A F."""
    e = a - torch.eye(a.shape[-1], dtype=a.dtype)
    near = content.n * (e @ content.gram * e).sum((1, 2))
    return float(near + lam * (a @ content.gram @ a.mT - style.gram).square().sum((1, 2)))


def line_search_rise(content: Moments, style: Moments) -> float:
    """The largest rise of the objective in a step, over the objective at the start; not positive if it never rises."""
    worst = -1.0
    for lam in (1e-2, 1.0, 1e4):
        values = [objective(torch.eye(content.channels, dtype=torch.float64)[None], content, style, lam)]
        for steps in range(1, 11):
            a = ift_line_search(content, style, lam=lam, n_upd=steps).weight
            values.append(objective(a, content, style, lam))
        worst = max(worst, max(b - a for a, b in itertools.pairwise(values)) / values[0])
    return worst


def style_losses(content: Moments, style: Moments) -> dict[str, float]:
    """||A G A^T - S|| over ||G - S||, after ever more updates; and of WCT, whose mean and covariance give the same Gram."""

    def loss(weight: Tensor, bias: Tensor) -> float:
        mean = (weight @ content.mean.unsqueeze(-1)).squeeze(-1)
        cross = mean.unsqueeze(-1) * bias.unsqueeze(-2)
        gram = weight @ content.gram @ weight.mT + cross + cross.mT + bias.unsqueeze(-1) * bias.unsqueeze(-2)
        return float((gram - style.gram).norm() / (content.gram - style.gram).norm())

    found = {
        f"style loss, ift, {n} updates": loss(*ift_scale_free(content, style, n_upd=n, eps=EXACT))
        for n in (15, 200, 2000, 20000)
    }
    found["style loss, wct"] = loss(*wct(content, style, eps=EXACT))
    return found


def relative(got: Tensor, want: Tensor) -> float:
    return float((got - want).norm() / want.norm())


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path)
    parser.add_argument("--encoder", type=Path)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    inputs = random_pairs()
    if args.pairs and args.encoder:
        encoder = load_encoder(args.encoder)
        taps = [[[t.double() for t in encoder(load(p))] for p in pair] for pair in read_pairs(args.pairs)]
        for n in range(len(taps[0][0])):
            inputs[f"pictures, relu{n + 1}_1"] = [(content[n], style[n]) for content, style in taps]
    table = {}
    for name, pairs in inputs.items():
        rows = []
        for pair in pairs:
            content, style = (moments(f.double()) for f in pair)
            errors = covariance_errors(content, style)
            errors["line search, largest rise"] = line_search_rise(content, style)
            rows.append(errors | style_losses(content, style))
        low = "ot least over largest eigenvalue"  # of this the smallest is the worst
        table[name] = {k: (min if k == low else max)(r[k] for r in rows) for k in rows[0]}
        print(f"{name} ({len(pairs)} pairs, worst)")
        for key, value in table[name].items():
            print(f"    {key:<36} {value:9.1e}", flush=True)
    if args.out:
        args.out.write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
