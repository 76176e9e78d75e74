"""From pixels to pixels: the presets, plain reconstruction, an unfolded path, batches, and the teacher's own networks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from baselines import wct_by_svd
from pairs_of_networks import PairsOfNetworks

from fastift import Stylizer, apply, ift_scale_free, moments
from fastift.presets import PRESETS

GROUP = "end to end"
SHARED = Path(os.environ.get("FASTIFT_SHARED", Path(__file__).parents[2] / "shared"))


@pytest.fixture(scope="module")
def stylizer(device: torch.device) -> Stylizer:
    return Stylizer(device=device)


def picture(size: int, device: torch.device, batch: int = 1, seed: int = 0) -> torch.Tensor:
    """Smooth noise with values in [0, 1]: its content does not matter to the time."""
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, 3, size // 8, size // 8, generator=rng)
    return torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear").to(device)


@pytest.mark.parametrize("preset", sorted(PRESETS))
@pytest.mark.benchmark(group=GROUP)
def bench_preset(timed, stylizer: Stylizer, size: int, preset: str) -> None:
    x, style = picture(size, stylizer.device), stylizer.style(picture(size, stylizer.device, seed=1))
    out = timed(lambda: stylizer(x, style, preset=preset), size=size, system=f"slim, {preset}")
    assert out.shape == x.shape
    assert torch.isfinite(out).all()


@pytest.mark.parametrize("preset", sorted(PRESETS))
@pytest.mark.benchmark(group=GROUP)
def bench_plain_reconstruction(timed, stylizer: Stylizer, size: int, preset: str) -> None:
    x, style = picture(size, stylizer.device), stylizer.style(picture(size, stylizer.device, seed=1))
    timed(lambda: stylizer(x, style, preset=preset, strength=0.0), size=size, system=f"slim, {preset}, no transform")


@pytest.mark.parametrize("flow", ["cascade", "encoder_side", "single_pass"])
@pytest.mark.benchmark(group=GROUP)
def bench_flow(timed, stylizer: Stylizer, size: int, flow: str) -> None:
    x, style = picture(size, stylizer.device), stylizer.style(picture(size, stylizer.device, seed=1))
    levels = (4,) if flow == "single_pass" else (4, 3, 2, 1)
    timed(lambda: stylizer(x, style, flow=flow, levels=levels), size=size, system=f"slim, {flow}, levels {levels}")


@pytest.mark.benchmark(group=GROUP)
def bench_unfolded(timed, stylizer: Stylizer, size: int) -> None:
    """The same cascade as preset art as one would write it: planar layout, the map applied to every pixel, plain PyTorch."""
    model = Stylizer(device=stylizer.device).model.to(memory_format=torch.contiguous_format)
    style = stylizer.style(picture(size, stylizer.device, seed=1))
    x = picture(size, stylizer.device).contiguous()

    def run() -> torch.Tensor:
        out = x
        for n in PRESETS["art"].levels:
            features = model.encoder(out, n).taps[-1]
            affine = ift_scale_free(moments(features), style.levels[n], strength=PRESETS["art"].strength)
            out = model.decoders[str(n)](apply(features, affine)).clamp(0, 1)
        return out

    timed(run, rounds=3, size=size, system="slim, art, unfolded")


@pytest.mark.benchmark(group=GROUP)
def bench_batch_of_8(timed, stylizer: Stylizer) -> None:
    x, style = picture(256, stylizer.device, batch=8), stylizer.style(picture(256, stylizer.device, seed=1))
    timed(lambda: stylizer(x, style), rounds=3, size=256, system="slim, art, batch of 8")


@pytest.mark.benchmark(group=GROUP)
def bench_teachers_networks_with_svd(timed, size: int, device: torch.device) -> None:
    folder = SHARED / "data" / "teacher"
    if not folder.is_dir():
        pytest.skip("the teacher's weights are not here")
    model = PairsOfNetworks(folder).to(device)
    x, s = (picture(size, device, seed=i).contiguous() for i in (0, 1))

    def run() -> torch.Tensor:
        out = x
        for n in (4, 3, 2, 1):
            f, g = (model.encoder[str(n)](v, n).taps[-1] for v in (out, s))
            mapped = wct_by_svd(f[0].flatten(1), g[0].flatten(1)).reshape(f.shape)
            out = model.decoders[str(n)](mapped).clamp(0, 1)
        return out

    timed(run, rounds=3, size=size, system="teacher, wct by svd")
