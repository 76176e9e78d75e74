"""From pixels to pixels: the presets, plain reconstruction, an unfolded path, batches, and the teacher's own networks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from baselines import plain_decode, plain_encode, wct_by_svd
from pairs_of_networks import PairsOfNetworks

from fastift import Autoencoder, AutoencoderConfig, Stylizer, apply, ift_scale_free, moments
from fastift.encoder import VGG19
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
    levels = (4, 3, 2, 1)
    timed(lambda: stylizer(x, style, flow=flow, levels=levels), size=size, system=f"slim, {flow}, levels {levels}")


@pytest.mark.benchmark(group=GROUP)
def bench_unfolded(timed, stylizer: Stylizer, size: int) -> None:
    """The cascade of preset art as one would write it: planar layout, padded copies, maps over every pixel."""
    model = Stylizer(device=stylizer.device).model.to(memory_format=torch.contiguous_format)
    style = stylizer.style(picture(size, stylizer.device, seed=1))
    x = picture(size, stylizer.device).contiguous()

    def run() -> torch.Tensor:
        out = x
        for n in PRESETS["art"].levels:
            features = plain_encode(model.encoder, out, n)
            affine = ift_scale_free(moments(features), style.levels[n], strength=PRESETS["art"].strength)
            out = plain_decode(model.decoders[str(n)], apply(features, affine)).clamp(0, 1)
        return out

    out = timed(run, rounds=3, size=size, system="slim, art, plain and unfolded")
    assert (out - stylizer(x, style)).abs().max() < 1e-3


@pytest.mark.parametrize("preset", sorted(PRESETS))
@pytest.mark.benchmark(group=GROUP)
def bench_bfloat16(timed, stylizer: Stylizer, size: int, preset: str) -> None:
    half = Stylizer(device=stylizer.device, dtype=torch.bfloat16)
    x, style = picture(size, stylizer.device), stylizer.style(picture(size, stylizer.device, seed=1))
    out = timed(lambda: half(x, style, preset=preset), size=size, system=f"slim, {preset}, bfloat16")
    assert (out - stylizer(x, style, preset=preset)).abs().mean() < 0.02


@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.benchmark(group=GROUP)
def bench_batch(timed, stylizer: Stylizer, size: int, batch: int) -> None:
    if size > 512:
        pytest.skip("batches are for small pictures")
    x, style = picture(size, stylizer.device, batch=batch), stylizer.style(picture(size, stylizer.device, seed=1))
    timed(lambda: stylizer(x, style), size=size, system=f"slim, art, batch of {batch}")


MANY = 10


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("flow", ["cascade", "single_pass"])
@pytest.mark.benchmark(group=GROUP)
def bench_many_styles(timed, stylizer: Stylizer, size: int, flow: str, kept: bool) -> None:
    """One content, several styles: each call by itself, and with the content kept."""
    x = picture(size, stylizer.device)
    styles = [stylizer.style(picture(size, stylizer.device, seed=i)) for i in range(1, MANY + 1)]

    def run() -> list[torch.Tensor]:
        content = stylizer.content(x) if kept else x
        return [stylizer(content, style, flow=flow) for style in styles]

    how = "kept content" if kept else "separate calls"
    out = timed(run, rounds=3, size=size, system=f"slim, {flow}, {MANY} styles, {how}")
    assert torch.equal(out[-1], stylizer(x, styles[-1], flow=flow))


@pytest.mark.benchmark(group=GROUP)
def bench_vgg19_geometry(timed, size: int, device: torch.device) -> None:
    """VGG-19's widths and depths, all four levels; random weights, which time does not depend on."""
    if device.type == "cpu" and size > 512:
        pytest.skip("half a minute a picture on a CPU")
    torch.manual_seed(0)
    config = AutoencoderConfig(VGG19.widths, VGG19.depths, VGG19.depths, upsampling="nearest", single_pass=False)
    vgg = Stylizer(Autoencoder(config).eval().requires_grad_(False), device=device)
    x, style = picture(size, device), vgg.style(picture(size, device, seed=1))
    out = timed(lambda: vgg(x, style, levels=(4, 3, 2, 1)), rounds=3, size=size, system="VGG-19 geometry, cascade")
    assert torch.isfinite(out).all()


@pytest.mark.benchmark(group=GROUP)
def bench_teachers_networks_with_svd(timed, size: int, device: torch.device) -> None:
    folder = SHARED / "data" / "teacher"
    if not folder.is_dir():
        pytest.skip("the teacher's weights are not here")
    model = PairsOfNetworks(folder).to(device)
    x, s = (picture(size, device, seed=i).contiguous() for i in (0, 1))
    with torch.inference_mode():
        styles = {n: plain_encode(model.encoder[str(n)], s, n)[0].flatten(1) for n in (4, 3, 2, 1)}  # kept, as ours are

    def run() -> torch.Tensor:
        out = x
        for n, style in styles.items():
            f = plain_encode(model.encoder[str(n)], out, n)
            out = plain_decode(model.decoders[str(n)], wct_by_svd(f[0].flatten(1), style).reshape(f.shape)).clamp(0, 1)
        return out

    timed(run, rounds=3, size=size, system="teacher, wct by svd")
    with torch.inference_mode():
        f = plain_encode(model.encoder["4"], x, 4)
        assert (f - model.encoder["4"](x, 4)[-1]).abs().max() < 1e-3 * f.abs().max()
        want = model.decoders["4"](f)
        assert (plain_decode(model.decoders["4"], f) - want).abs().max() < 1e-3 * want.abs().max()
